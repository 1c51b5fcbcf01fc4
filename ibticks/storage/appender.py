"""Appending to a stream: each message into the file of its own hour, whatever order they come in.

What capture writes through. It loads no compiler: sealing, which needs one, is done by the
:data:`~ibticks.storage.sealing.Sealer` it is given.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from ibticks.config import NANOSECONDS, SPLIT_BYTES
from ibticks.errors import CorruptFileError, InputError
from ibticks.format.fields import check_contract_id, check_tick_type
from ibticks.format.framing import frame
from ibticks.format.messages import to_protobuf
from ibticks.index.records import FileRecord
from ibticks.storage.hourfile import HourFile
from ibticks.storage.layout import HALF_HOUR, HOUR, FileKey, hour_of, list_files
from ibticks.storage.lock import StreamLock
from ibticks.storage.sealing import Sealer, seal_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from threading import Lock
    from types import TracebackType
    from typing import Self

    from ibticks.index.records import Index

__all__ = ["StreamAppender"]

_log = logging.getLogger(__name__)
_GRACE: Final = 60 * NANOSECONDS
_NOWHERE: Final = (1, 0)


class StreamAppender:
    """The one writer of a stream (a contract and a tick type) of a store, message by message.

    Files are sealed when a newer hour pushes them out, by :meth:`maintain` once their hour has
    passed, and by :meth:`close`. A message for a sealed hour opens it again.

    Parameters
    ----------
    root : Path
        The store.
    contract_id : int
    tick_type : str
    index : Index
        Told of each file when it begins and when it is sealed.
    fsync : float or None
        Seconds that appended messages may wait before they are forced to the disk; 0: every
        append, None: only when a file is sealed. A killed process loses nothing either way; this
        is about power cuts.
    split_bytes : int
        Size past which the second half of an hour gets a file of its own.
    open_files : int
        Most files kept open at once.
    on_sealed : callable, optional
        Called with the record of each file after it is sealed.
    sealer : callable
        Recovers and seals files; in this process by default.

    Raises
    ------
    WriterLockedError
        If another writer has the stream.
    UnknownTickTypeError
    InputError
        If a tick cannot carry that contract id.
    """

    def __init__(
        self,
        root: Path,
        contract_id: int,
        tick_type: str,
        index: Index,
        *,
        fsync: float | None = 1.0,
        split_bytes: int = SPLIT_BYTES,
        open_files: int = 3,
        on_sealed: Callable[[FileRecord], None] | None = None,
        sealer: Sealer = seal_files,
    ) -> None:
        self.contract_id: Final = check_contract_id(contract_id)
        self.tick_type: Final = check_tick_type(tick_type)
        self._root = root
        self._index = index
        self._fsync = fsync
        self._split_bytes = split_bytes
        self._most_open = open_files
        self._on_sealed = on_sealed
        self._sealer = sealer
        self._open: dict[FileKey, HourFile] = {}
        self._halved: set[int] = set()
        # The file the last message went to, and the times that go there without asking again.
        self._current: HourFile | None = None
        self._from, self._until = _NOWHERE
        self._lock = StreamLock(root, self.contract_id, self.tick_type)
        try:
            self._recover()
        except BaseException:
            self._lock.release()
            raise

    def _recover(self) -> None:
        """Seal what an earlier writer left open."""
        sealed = {
            record.path
            for record in self._index.files([self.contract_id], [self.tick_type])
            if record.sealed
        }
        found = list_files(self._root, self.contract_id, self.tick_type)
        left = [key for key in found if key.path not in sealed]
        if left:
            self._index.put_files(self._sealer(self._root, left))

    def append(self, message: Mapping[str, Any]) -> None:
        """Append one v2 message (a tick, or an error, info or complete message).

        Raises
        ------
        ProtocolError
            If it is not a v2 message.
        InputError
            If it is a tick of another contract or tick type.
        StorageFullError, StorageError
            It is then not in the file.
        """
        stream_message = to_protobuf(message)
        if stream_message.HasField("tick_data"):
            tick = stream_message.tick_data
            if (tick.contract_id, tick.tick_type) != (self.contract_id, self.tick_type):
                raise self._stranger(tick.contract_id, tick.tick_type)
        stamp = stream_message.timestamp
        time_ns = stamp.seconds * NANOSECONDS + stamp.nanos
        self.append_payload(stream_message.SerializeToString(), time_ns)

    def append_payload(self, payload: bytes, time_ns: int) -> None:
        """Append one encoded message, whose timestamp is ``time_ns``, as it is."""
        self.append_frames(frame(payload), time_ns)

    def append_frames(self, frames: bytes | memoryview, time_ns: int) -> None:
        """Append whole frames of one half hour, the first of which has that timestamp.

        When it returns they are with the operating system: readers see them, and a kill of the
        process does not lose them.
        """
        if self._from <= time_ns < self._until and self._current is not None:
            file = self._current
        else:
            file = self._turn_to(time_ns)
        file.append(frames)
        if self._fsync is not None and time.monotonic() - file.synced_at >= self._fsync:
            self._sync_due()

    def maintain(self, now_ns: int | None = None) -> None:
        """Do what is due: sync, and seal the files whose hour is over by more than a minute."""
        now_ns = time.time_ns() if now_ns is None else now_ns
        self._sync_due()
        self.seal(before_ns=now_ns - _GRACE)

    def seal(self, before_ns: int | None = None) -> None:
        """Seal the open files, or those whose hour ended before ``before_ns``.

        Raises
        ------
        CorruptFileError
            Naming those that are damaged, after the others were sealed; they stay as they are.
        """
        self._finish(
            [
                key
                for key in sorted(self._open)
                if before_ns is None or key.hour_ns + HOUR <= before_ns
            ]
        )

    def seal_passed(self, now_ns: int | None, lock: Lock) -> None:
        """Seal the files whose hour is over, holding ``lock`` only to let go of them."""
        now_ns = time.time_ns() if now_ns is None else now_ns
        with lock:
            passed = self._passed(now_ns - _GRACE)
            for key in passed:
                self._let_go(key)
        self._sealed(passed)

    def unsynced(self) -> list[int]:
        """Descriptors of the files to be synced; the caller syncs and closes them."""
        return [file.duplicate() for file in self._open.values() if file.unsynced]

    def close(self) -> None:
        """Seal every open file and let the next writer in."""
        try:
            self.seal()
        finally:
            for file in self._open.values():
                file.close()
            self._open.clear()
            self._current = None
            self._from, self._until = _NOWHERE
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _stranger(self, contract_id: int, tick_type: str) -> InputError:
        return InputError(
            f"a {tick_type} tick of contract {contract_id} does not belong to the stream "
            f"{self.tick_type} of contract {self.contract_id}",
            contract_id=contract_id,
            tick_type=tick_type,
        )

    def _turn_to(self, time_ns: int) -> HourFile:
        """The file for a time, remembered for as long as the same answer holds."""
        file = self._file(time_ns)
        half = time_ns - time_ns % HALF_HOUR
        self._current = file
        self._from, self._until = half, half + HALF_HOUR
        if half % HOUR and not file.key.half:
            # The second half of an hour: the file is looked for anew, in case it grows too large.
            self._from, self._until = _NOWHERE
        return file

    def _file(self, time_ns: int) -> HourFile:
        """The open file for a time, opened or begun as needed."""
        hour = hour_of(time_ns)
        key = FileKey(self.contract_id, self.tick_type, hour)
        if time_ns - hour >= HALF_HOUR:
            half = FileKey(self.contract_id, self.tick_type, hour, half=True)
            if half in self._open:
                return self._open[half]
            first = self._open.get(key)
            if hour in self._halved or (first is not None and first.size > self._split_bytes):
                return self._begin(half, time_ns)
        file = self._open.get(key)
        return file if file is not None else self._begin(key, time_ns)

    def _begin(self, key: FileKey, time_ns: int) -> HourFile:
        while len(self._open) >= self._most_open:
            self._finish([next(iter(self._open))])
        half = FileKey(key.contract_id, key.tick_type, key.hour_ns, half=True)
        if (self._root / half.path).exists():
            self._halved.add(key.hour_ns)
        try:
            file = HourFile(self._root, key, time_ns)
        except CorruptFileError:
            if key.half:
                raise
            # A late tick for an hour that is sealed and damaged: keep both, apart.
            _log.exception("%s is damaged: ticks of its hour go to %s", key.path, half.path)
            return self._begin(half, time_ns)
        self._open[key] = file
        if key.half:
            self._halved.add(key.hour_ns)
        self._index.put_files(
            [
                FileRecord(
                    path=key.path,
                    contract_id=key.contract_id,
                    tick_type=key.tick_type,
                    hour_ns=key.hour_ns,
                    # A later arrival may be earlier in the hour.
                    start_ns=key.hour_ns,
                    end_ns=key.hour_ns + HOUR - 1,
                    size=file.size,
                    messages=file.header.message_count,
                    ticks=0,
                )
            ]
        )
        return file

    def _passed(self, before_ns: int | None) -> list[FileKey]:
        return [
            key
            for key in sorted(self._open)
            if before_ns is None or key.hour_ns + HOUR <= before_ns
        ]

    def _finish(self, keys: list[FileKey]) -> None:
        for key in keys:
            self._let_go(key)
        self._sealed(keys)

    def _let_go(self, key: FileKey) -> None:
        """Take no more for this file."""
        file = self._open[key]
        file.sync()
        file.close()
        del self._open[key]
        if self._current is file:
            self._current = None
            self._from, self._until = _NOWHERE

    def _sealed(self, keys: list[FileKey]) -> None:
        if not keys:
            return
        records = self._sealer(self._root, keys)
        self._index.put_files(records)
        if self._on_sealed is not None:
            for record in records:
                self._on_sealed(record)
        damaged = {key.path for key in keys} - {record.path for record in records}
        if damaged:
            raise CorruptFileError(
                f"{', '.join(sorted(damaged))} cannot be sealed: see the log, and `ibticks verify`",
                path=min(damaged),
            )

    def _sync_due(self) -> None:
        if self._fsync is None:
            return
        now = time.monotonic()
        for file in self._open.values():
            if now - file.synced_at >= self._fsync:
                file.sync()
