"""Streams on demand that clients share: each subscribed once, and ended with its last client."""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from ibticks.capture._capture import Capture
from ibticks.capture._queued_index import QueuedIndex
from ibticks.capture._recorder import open_recorder
from ibticks.capture._settings import ON_DEMAND_CLIENT_ID, CaptureOptions, TrackedContract
from ibticks.index import MemoryIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

    from ibticks._types import StreamKey
    from ibticks.capture._recorder import Recorder
    from ibticks.store import Store

__all__ = ["SharedStreams", "SharingOptions", "StreamLease"]

_log = logging.getLogger(__name__)
_GRACE_SECONDS: Final = 30.0
_STORAGE_CODE: Final = "0"
_MAX_CONTRACTS: Final = 1_000  # IB refuses what is beyond its own limits


class SharingOptions(CaptureOptions, total=False):
    """Keyword arguments of streams on demand: those of a capture, and the grace.

    ``grace_seconds`` is for how long a stream without a client goes on, so that a client that was
    cut off finds it; 30 by default.
    """

    grace_seconds: float


class _TemporaryStore:
    """The parts of a store that a capture uses, in a temporary folder, with its index in memory."""

    columns = "off"

    def __init__(self) -> None:
        self.root: Final = Path(tempfile.mkdtemp(prefix="ibticks-streams-"))
        self.index: Final = MemoryIndex()
        (self.root / "metadata").mkdir()

    def note_change(self) -> None:
        """Do nothing: it has no catalogue."""

    def remove(self, stream: StreamKey) -> None:
        """Delete the files of a stream, and what the index has of them."""
        key = [stream.contract_id], [stream.tick_type]
        self.index.drop_files([record.path for record in self.index.files(*key)])
        self.index.drop_coverage(self.index.coverage(*key))
        shutil.rmtree(self.root / str(stream.contract_id) / stream.tick_type, ignore_errors=True)


@dataclass(slots=True)
class _Use:
    """Clients of a stream, those of them that want it recorded, and when the last of each left."""

    clients: int = 0
    recordings: int = 0
    unused_at: float = math.inf
    unrecorded_at: float = math.inf


class StreamLease:
    """The right of one client to some streams, until it is closed.

    Attributes
    ----------
    root : Path
        Folder of the hour files of the streams.
    streams : tuple of StreamKey
    is_recorded : bool
        Whether the streams are recorded into the store, too.
    """

    def __init__(
        self, owner: SharedStreams, root: Path, streams: Sequence[StreamKey], *, is_recorded: bool
    ) -> None:
        self.root: Final = root
        self.streams: Final = tuple(streams)
        self.is_recorded: Final = is_recorded
        self._owner: SharedStreams | None = owner

    def close(self) -> None:
        """Give the streams back; it does not wait."""
        owner, self._owner = self._owner, None
        if owner is not None:
            owner._release(self)


class SharedStreams:
    """Streams on demand for many clients, through one connection to TWS.

    The first client of a stream subscribes it, the others share the subscription, and some seconds
    after the last has left it is cancelled. The ticks go to hour files in a temporary folder, which
    clients follow like those of a store, and into the store as long as a client wants them
    recorded. The connection is made for the first stream and closed after the last.

    Parameters
    ----------
    store : Store
        Store of the streams that are recorded.
    on_event : callable, optional
        Called with the stream and each of its info and error messages, and with an error of code 0
        when storage fails; it must not block.
    **options
        Address and client id (2 by default); see :class:`SharingOptions`.

    Raises
    ------
    ConfigError
        If an option is wrong.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_event: Callable[[StreamKey, Mapping[str, Any]], None] | None = None,
        **options: Unpack[SharingOptions],
    ) -> None:
        self._store: Final = store
        self._on_event: Final = on_event
        self._grace_seconds: Final = options.pop("grace_seconds", _GRACE_SECONDS)
        self._temporary: Final = _TemporaryStore()
        options.setdefault("client_id", ON_DEMAND_CLIENT_ID)
        options.setdefault("max_tracked", _MAX_CONTRACTS)
        options.setdefault("fsync", None)
        settings = cast("CaptureOptions", options)
        self._capture: Final = Capture(
            cast("Store", self._temporary), (), on_event=on_event, **settings
        )
        self._uses: dict[StreamKey, _Use] = {}
        self._index: QueuedIndex | None = None
        self._thread: threading.Thread | None = None
        self._closing = False
        # The capture is changed under the first, which is taken before the second; that guards the
        # uses and is never held for long.
        self._changing = threading.RLock()
        self._released = threading.Condition()

    @property
    def root(self) -> Path:
        """Temporary folder of the hour files."""
        return self._temporary.root

    def active(self) -> dict[StreamKey, int]:
        """Return the number of clients of each stream that is subscribed."""
        with self._released:
            return {stream: use.clients for stream, use in self._uses.items()}

    def acquire(self, streams: Sequence[StreamKey], *, record: bool = False) -> StreamLease:
        """Subscribe streams, unless other clients have them already.

        It does not wait for the connection: problems come as events.

        Parameters
        ----------
        streams : sequence of StreamKey
        record : bool
            Whether to record them into the store as well.

        Returns
        -------
        StreamLease
            To be closed when the client leaves.

        Raises
        ------
        WriterLockedError
            If the streams are to be recorded, and a capture records one of them already.
        MissingExtraError
            If ibapi is not installed.
        """
        lease = StreamLease(self, self.root, streams, is_recorded=record)
        with self._changing:
            with self._released:
                for stream in streams:
                    use = self._uses.setdefault(stream, _Use())
                    use.clients += 1
                    use.recordings += record
                    use.unused_at = math.inf
                    use.unrecorded_at = math.inf if record else use.unrecorded_at
            try:
                self._begin()
                for stream in streams:
                    self._subscribe(stream)
                    if record:
                        self._record(stream)
            except BaseException:
                lease.close()
                raise
        return lease

    def close(self) -> None:
        """Cancel every stream, end the connection and delete the temporary files."""
        with self._released:
            self._closing = True
            self._released.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._changing:
            self._end()
        shutil.rmtree(self.root, ignore_errors=True)

    def _begin(self) -> None:
        """Start the capture and the thread that ends what is unused."""
        if self._capture.running:
            return
        self._capture.start()
        self._index = QueuedIndex(self._store.index, self._failed)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="ibticks-shared-streams", daemon=True
            )
            self._thread.start()

    def _end(self) -> None:
        self._capture.stop()
        if self._index is not None:
            self._index.close()
            self._index = None

    def _failed(self, where: str, error: Exception) -> None:
        self._capture.failures.append(f"{where}: {error!r}")

    def _subscribe(self, stream: StreamKey) -> None:
        if self._capture.find_recorder(*stream) is None:
            self._capture.add(TrackedContract(stream.contract_id, "", (stream.tick_type,)))

    def _record(self, stream: StreamKey) -> None:
        """Record a stream into the store from now on."""
        recorder = self._capture.find_recorder(*stream)
        assert recorder is not None
        assert self._index is not None
        if recorder.copies:
            return
        index = self._index
        copy = open_recorder(
            self._store.root,
            *stream,
            index,
            f"stream-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}",
            on_sealed=lambda _: index.submit(self._store.note_change),
        )
        copy.on_message = partial(self._on_copy_message, stream)
        recorder.begin_copy(copy)

    def _on_copy_message(self, stream: StreamKey, message: Mapping[str, Any]) -> None:
        """Pass on that the store cannot be written to: all else comes from the stream itself."""
        is_storage = message["type"] == "error" and message["data"]["code"] == _STORAGE_CODE
        if is_storage and self._on_event is not None:
            self._on_event(stream, message)

    def _release(self, lease: StreamLease) -> None:
        now = time.monotonic()
        with self._released:
            for stream in lease.streams:
                use = self._uses[stream]
                use.clients -= 1
                use.recordings -= lease.is_recorded
                if not use.clients:
                    use.unused_at = now
                if lease.is_recorded and not use.recordings:
                    use.unrecorded_at = now
            self._released.notify_all()

    def _run(self) -> None:
        """End recordings and streams some seconds after their last client has left."""
        while True:
            with self._released:
                if self._closing:
                    return
                self._released.wait(self._seconds_to_end())
            with self._changing:
                self._end_unused()

    def _seconds_to_end(self) -> float | None:
        times = [min(use.unused_at, use.unrecorded_at) for use in self._uses.values()]
        first = min(times, default=math.inf)
        if math.isinf(first):
            return None
        return max(0.0, first + self._grace_seconds - time.monotonic())

    def _end_unused(self) -> None:
        before = time.monotonic() - self._grace_seconds
        with self._released:
            unused = [stream for stream, use in self._uses.items() if use.unused_at <= before]
            unrecorded = [
                stream for stream, use in self._uses.items() if use.unrecorded_at <= before
            ]
            for stream in unrecorded:
                self._uses[stream].unrecorded_at = math.inf
            for stream in unused:
                del self._uses[stream]
        for stream in {*unrecorded, *unused}:
            recorder = self._capture.find_recorder(*stream)
            if recorder is not None:
                self._end_copies(recorder)
        for stream in unused:
            if self._capture.find_recorder(*stream) is not None:
                self._capture.remove(stream.contract_id, [stream.tick_type])
            self._temporary.remove(stream)
        if unused and not self._uses:
            self._end()

    def _end_copies(self, recorder: Recorder) -> None:
        for copy in recorder.end_copies():
            try:
                copy.close()
            except Exception as error:
                _log.exception("%s: the recording could not be ended", copy.stream_id)
                self._failed("close", error)
