"""Maintenance of a running capture: companions, compression and deletion of what it wrote.

Another process can neither compress nor delete, since the capture holds the lock of each stream.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from ibticks.columns import (
    CompanionKey,
    build_companion,
    captured_files,
    floor_day,
    relink_companion,
    remove_companions_of,
    write_companion_in_process,
)
from ibticks.config import DAY_NS, HOUR_NS, NANOSECONDS
from ibticks.coverage import mark_files_deleted
from ibticks.errors import StorageError, TickError, WriterLockedError
from ibticks.storage import FileKey, SealProcess, StreamLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ibticks.capture._queued_index import QueuedIndex
    from ibticks.capture._recorder import Recorder
    from ibticks.index import CompanionRecord, FileRecord, Index
    from ibticks.store import Store

__all__ = ["CompanionBuilder", "HourCompressor", "HourPruner"]

_log = logging.getLogger(__name__)
_INTERVAL_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_INDEX_WAIT_SECONDS: Final = 10.0
_COMPRESSION: Final = "zstd"
_SETTLED_NS: Final = 10 * 60 * NANOSECONDS
"""Time after the end of a day until its companion is built: late ticks have arrived by then."""

_COMPANION_DAYS: Final = 3
"""Days before today whose companions a capture builds; `ibticks columns build` does the others."""


class _PeriodicTask:
    """A thread that works on one recorder after another, every minute.

    Parameters
    ----------
    verb : str
        What is done to the files, such as ``"prune"``; names the thread and its log messages.
    recorders : sequence of Recorder
    work : callable
        Takes a recorder.
    on_failure : callable
        Called with the verb and each unexpected exception; the task continues.
    after_round : callable, optional
        Called after the last recorder.

    Attributes
    ----------
    failed_paths : set of str
        Paths of the files on which the work failed; they are not tried again.
    """

    def __init__(
        self,
        verb: str,
        recorders: Sequence[Recorder],
        work: Callable[[Recorder], None],
        on_failure: Callable[[str, Exception], None],
        *,
        after_round: Callable[[], None] | None = None,
    ) -> None:
        self._verb = verb
        self._recorders = recorders
        self._work = work
        self._on_failure = on_failure
        self._after_round = after_round
        self.failed_paths: Final[set[str]] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ibticks-{verb}", daemon=True)

    @property
    def is_stopping(self) -> bool:
        """Return whether no further file is to be begun."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current file."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def attempt(self, key: FileKey, work: Callable[[], object]) -> None:
        """Work on one file; report it if storage fails."""
        try:
            work()
        except StorageError as error:
            self.failed_paths.add(key.path)
            _log.exception("%s: could not %s it", key.path, self._verb)
            self._on_failure(self._verb, error)

    def _run(self) -> None:
        while not self._stopping.wait(_INTERVAL_SECONDS):
            for recorder in self._recorders:
                try:
                    if not self.is_stopping:
                        self._work(recorder)
                except Exception as error:
                    _log.exception("%s: could not %s old hours", recorder.stream_id, self._verb)
                    self._on_failure(self._verb, error)
            if self._after_round is not None:
                self._after_round()


class _Maintenance:
    """The thread of one kind of maintenance."""

    _task: _PeriodicTask

    def start(self) -> None:
        """Start the thread."""
        self._task.start()

    def stop(self) -> None:
        """Stop after the file that is being worked on."""
        self._task.stop()


class HourCompressor(_Maintenance):
    """Compresses files some time after the end of their hour, one at a time.

    It works in a separate process, so that syncing and sealing do not wait for it.

    Parameters
    ----------
    recorders : sequence of Recorder
    index : Index
        Index of their files.
    after_seconds : float
        Seconds since the end of an hour.
    on_failure : callable
        Called with a place and each unexpected exception.
    """

    def __init__(
        self,
        recorders: Sequence[Recorder],
        index: Index,
        after_seconds: float,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._index = index
        self._sealer = SealProcess()
        self._after_ns = round(after_seconds * NANOSECONDS)
        self._task = _PeriodicTask(
            "compress", recorders, self._compress, on_failure, after_round=self._sealer.close
        )

    def _compress(self, recorder: Recorder) -> None:
        for file, key in self._due_files(recorder):
            if not self._task.is_stopping:
                self._task.attempt(key, partial(self._compress_file, recorder, file, key))

    def _compress_file(self, recorder: Recorder, file: FileRecord, key: FileKey) -> None:
        recorder.compress(key, _COMPRESSION, self._sealer.compress)
        for current in self._index.files(
            [key.contract_id], [key.tick_type], key.hour_ns, key.hour_ns + HOUR_NS
        ):
            if current.path == file.path and current.compression == _COMPRESSION:
                relink_companion(self._index, file, current)

    def _due_files(self, recorder: Recorder) -> Iterator[tuple[FileRecord, FileKey]]:
        before_ns = time.time_ns() - self._after_ns
        for file in self._index.files(
            [recorder.contract_id], [recorder.tick_type], None, before_ns
        ):
            key = FileKey.parse(file.path)
            if (
                key is not None
                and file.sealed
                and not file.backfilled
                and file.compression != _COMPRESSION
                and file.hour_ns + HOUR_NS <= before_ns
                and file.path not in self._task.failed_paths
            ):
                yield file, key


class CompanionBuilder(_Maintenance):
    """Builds the columnar companions of days that are over, one at a time.

    Each is written by a separate process of the lowest priority, which ends with it. A day that
    gets late ticks later on is built anew.

    Parameters
    ----------
    root : Path
    recorders : sequence of Recorder
    index : Index
        Index of their files.
    keep_seconds : float or None
        Seconds after which hours are deleted: days of which some are deleted are not built.
    on_failure : callable
        Called with a place and each unexpected exception.
    """

    def __init__(
        self,
        root: Path,
        recorders: Sequence[Recorder],
        index: Index,
        keep_seconds: float | None,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._root = root
        self._index = index
        self._keep_ns = None if keep_seconds is None else round(keep_seconds * NANOSECONDS)
        # By companion: the checksums of its hours when it was last looked at.
        self._attempts: dict[CompanionKey, frozenset[tuple[str, int | None]]] = {}
        self._task = _PeriodicTask("columns", recorders, self._build, on_failure)

    def _build(self, recorder: Recorder) -> None:
        now_ns = time.time_ns()
        last_day = floor_day(now_ns - _SETTLED_NS) - DAY_NS
        for number in range(_COMPANION_DAYS - 1, -1, -1):
            key = CompanionKey(recorder.contract_id, recorder.tick_type, last_day - number * DAY_NS)
            is_kept = self._keep_ns is None or key.day_ns >= now_ns - self._keep_ns
            if is_kept and not self._task.is_stopping:
                self._build_day(key)

    def _build_day(self, key: CompanionKey) -> None:
        files = captured_files(self._index, key)
        state = frozenset((file.path, file.crc32c) for file in files if file.sealed)
        if not state or self._attempts.get(key) == state:
            return
        self._attempts[key] = state
        try:
            build_companion(self._root, self._index, key, write=self._write)
        except TickError as error:
            # Loads read the hour files instead; the next attempt is made when these change.
            _log.warning("no columnar companion: %s", error)

    def _write(
        self, root: Path, key: CompanionKey, files: list[FileRecord]
    ) -> CompanionRecord | None:
        return write_companion_in_process(
            root, key, files, is_stopping=lambda: self._task.is_stopping
        )


class HourPruner(_Maintenance):
    """Deletes files once their retention time is over.

    As in :meth:`ibticks.Store.prune`, coverage and index are updated first, so that neither names a
    file that is gone. While the index cannot be written, every file stays.

    Parameters
    ----------
    store : Store
    recorders : sequence of Recorder
    index : QueuedIndex
        Queue of index writes that the recorders use, too: it keeps their order.
    keep_seconds : float
        Seconds since the end of an hour.
    on_failure : callable
        Called with a place and each unexpected exception.
    """

    def __init__(
        self,
        store: Store,
        recorders: Sequence[Recorder],
        index: QueuedIndex,
        keep_seconds: float,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._store = store
        self._index = index
        self._keep_ns = round(keep_seconds * NANOSECONDS)
        # By stream: files that are out of the index and not deleted yet.
        self._unindexed: dict[str, set[FileKey]] = {}
        self._task = _PeriodicTask("prune", recorders, self._prune, on_failure)

    def _prune(self, recorder: Recorder) -> None:
        partial_answers = self._store.index.partial_answers
        keys = self._due_files(recorder)
        if not keys or self._store.index.partial_answers != partial_answers:
            return  # without PostgreSQL the catalogue answers, which may be out of date
        with ExitStack() as locks:
            if any(key.suffix == "backfill" for key in keys):
                try:
                    stream = recorder.contract_id, recorder.tick_type
                    lock = StreamLock(self._store.root, *stream, backfill=True)
                except WriterLockedError as error:
                    _log.info("old hours are deleted later: %s", error)
                    return
                locks.callback(lock.release)
            recorder.forget_before(max(key.hour_ns for key in keys) + HOUR_NS)
            mark_files_deleted(self._index, keys)
            remove_companions_of(self._store.root, self._index, keys)
            self._index.drop_files([key.path for key in keys])
            unindexed = self._unindexed.setdefault(recorder.stream_id, set())
            unindexed.update(keys)
            if self._index.wait_until_empty(_INDEX_WAIT_SECONDS):
                for key in keys:
                    self._task.attempt(key, partial(recorder.delete, key))
                    unindexed.discard(key)
                self._index.submit(self._store.note_change)

    def _due_files(self, recorder: Recorder) -> list[FileKey]:
        before_ns = time.time_ns() - self._keep_ns
        files = self._index.files([recorder.contract_id], [recorder.tick_type], None, before_ns)
        indexed = {FileKey.parse(file.path) for file in files}
        ended = {key for key in indexed if key is not None and key.hour_ns + HOUR_NS <= before_ns}
        ended |= self._unindexed.get(recorder.stream_id, set())
        return sorted(
            key
            for key in ended
            if key.path not in self._task.failed_paths and not recorder.has_open(key)
        )
