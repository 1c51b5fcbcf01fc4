"""Append to a stream: each message into the file of its hour, in whatever order they arrive.

Capture writes through :class:`StreamAppender`. It loads no compiler: sealing, which needs one, is
done by the :data:`~ibticks.storage.Sealer` that is passed in.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack
from dataclasses import replace
from threading import Condition, RLock
from typing import TYPE_CHECKING, Any, Final, TypedDict

from ibticks.config import HALF_HOUR_NS, HOUR_NS, NANOSECONDS, SPLIT_BYTES
from ibticks.errors import CorruptFileError, InputError, StorageError, TimeRangeError
from ibticks.format import encode_frame, to_protobuf
from ibticks.schema import check_contract_id, check_tick_type, clear_absent_fields
from ibticks.storage._hour_file import HourFile
from ibticks.storage._layout import (
    FileKey,
    floor_hour,
    marker_path,
)
from ibticks.storage._sealing import Compressor, Sealer, seal_files
from ibticks.storage._stream_lock import StreamLock
from ibticks.storage._stream_sealer import StreamSealer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self, SupportsIndex

    from ibticks._types import TickTypeLike
    from ibticks.index import FileRecord, Index

__all__ = ["AppenderOptions", "StreamAppender"]

_log = logging.getLogger(__name__)
_SEAL_DELAY_NS: Final = 60 * NANOSECONDS
_EMPTY_RANGE: Final = (1, 0)


class AppenderOptions(TypedDict, total=False):
    """Keyword arguments of :class:`StreamAppender`, which describes them."""

    fsync: float | None
    split_bytes: int
    open_files: int
    on_sealed: Callable[[FileRecord], None] | None
    sealer: Sealer
    backfill: bool


class StreamAppender:
    """The one writer of a stream (a contract and a tick type) of a store, message by message.

    Files are sealed when a newer hour pushes them out, by :meth:`maintain` once their hour has
    passed, and by :meth:`close`. A message for a sealed hour opens it again.

    Any thread may call any method. The appender's lock guards which files are open and what is
    appended to them; it is released while files are sealed, compressed, deleted or synced by
    :meth:`sync`, so that only messages for a file that is sealed, compressed or deleted wait.

    Parameters
    ----------
    root : Path
        The store.
    contract_id : int
    tick_type : str
    index : Index
        Takes the record of each file when it begins and when it is sealed.
    fsync : float or None
        Seconds that appended messages may wait before they are forced to the disk; 0: every
        append, None: only when a file is sealed. A killed process loses nothing either way; this
        is about power cuts.
    split_bytes : int
        Size past which the second half of an hour gets a separate file.
    open_files : int
        Largest number of files kept open at once.
    on_sealed : callable, optional
        Called with the record of each file after it is sealed or compressed.
    sealer : callable
        Recovers and seals files; in this process by default.
    backfill : bool
        Write the files of what is requested from IB afterwards, beside those of a capture, which
        may run meanwhile. They are not split.

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
        contract_id: SupportsIndex,
        tick_type: TickTypeLike,
        index: Index,
        *,
        fsync: float | None = 1.0,
        split_bytes: int = SPLIT_BYTES,
        open_files: int = 3,
        on_sealed: Callable[[FileRecord], None] | None = None,
        sealer: Sealer = seal_files,
        backfill: bool = False,
    ) -> None:
        self.contract_id: Final = check_contract_id(contract_id)
        self.tick_type: Final = check_tick_type(tick_type)
        self._root = root
        self._fsync_seconds = fsync
        self._split_bytes = split_bytes
        self._max_open_files = open_files
        self._backfill = backfill
        self._lock = RLock()
        self._whole_hours: set[int] = set()  # that are written as a whole at this moment
        self._whole_hour_done = Condition(self._lock)
        self._open: dict[FileKey, HourFile] = {}
        self._split_hours: set[int] = set()  # whose second half has a separate file
        self._damaged_hours: set[int] = set()  # whose first file is left as it is
        # Files that may not hold all that was accepted: their hours go on in other files until they
        # are mended.
        self._set_aside: dict[FileKey, HourFile] = {}
        self._reported: set[FileKey] = set()  # files whose failed sync has been raised
        # The file of the last message, and the times that belong to it without another look-up.
        self._current: HourFile | None = None
        self._is_encoded = False  # what is appended at this moment
        self._current_start_ns, self._current_end_ns = _EMPTY_RANGE
        self._sealer = StreamSealer(root, self.contract_id, tick_type, index, sealer, on_sealed)
        self._stream_lock = StreamLock(root, self.contract_id, self.tick_type, backfill=backfill)
        try:
            self._sealer.recover(backfill=backfill)
        except BaseException:
            self._stream_lock.release()
            raise

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
        self.append_payload(*self.encode(message))

    def encode(self, message: Mapping[str, Any]) -> tuple[bytes, int]:
        """Return the payload of a v2 message of this stream, and its time; see :meth:`append`."""
        stream_message = to_protobuf(message)
        if stream_message.HasField("tick_data"):
            tick = stream_message.tick_data
            self.check_stream(tick.contract_id, tick.tick_type)
            clear_absent_fields(tick)
        stamp = stream_message.timestamp
        # The same message has the same bytes in every process: an import compares them.
        payload = stream_message.SerializeToString(deterministic=True)
        return payload, stamp.seconds * NANOSECONDS + stamp.nanos

    def check_stream(self, contract_id: int, tick_type: str) -> None:
        """Raise :class:`~ibticks.errors.InputError` unless these are of this stream."""
        if (contract_id, tick_type) != (self.contract_id, self.tick_type):
            raise InputError(
                f"a {tick_type} tick of contract {contract_id} does not belong to the stream "
                f"{self.tick_type} of contract {self.contract_id}",
                contract_id=contract_id,
                tick_type=tick_type,
            )

    def append_payload(self, payload: bytes, time_ns: int) -> None:
        """Append one encoded message, whose timestamp is ``time_ns``, as it is."""
        self.append_frames(encode_frame(payload), time_ns)

    def append_encoded(self, frames: bytes | memoryview, time_ns: int) -> None:
        """Append frames as :meth:`append_frames` does, that this process has just encoded.

        A file of which all frames are so is not checked for whole messages when it is sealed.
        """
        with self._lock:
            self._is_encoded = True
            try:
                self.append_frames(frames, time_ns)
            finally:
                self._is_encoded = False

    def append_frames(self, frames: bytes | memoryview, time_ns: int) -> None:
        """Append whole frames of one half hour, the first of which has that timestamp.

        When it returns they are with the operating system: readers see them, and a kill of the
        process does not lose them.

        Raises
        ------
        StorageFullError, StorageError
            They are then not in the file.
        """
        with self._lock:
            file = self._current
            if (
                file is None
                or not self._current_start_ns <= time_ns < self._current_end_ns
                or file.problem is not None
            ):
                file = self._switch_file(time_ns)
            file.append(frames)
            if not self._is_encoded:
                file.is_encoded = False
            interval = self._fsync_seconds
            if interval is not None and time.monotonic() - file.synced_at >= interval:
                self._sync_with(file, len(frames))

    def _sync_with(self, file: HourFile, appended: int) -> None:
        """Sync what is due; where that fails, refuse the bytes appended last to a file."""
        before = file.size - appended
        try:
            self._sync_due()
        except StorageError:
            # Not accepted: a caller that appends it again must not store it twice. Written anew,
            # the file may have lost it, or more, already.
            if file.size > before:
                file.take_back(file.size - before)
            raise
        if file.size < before + appended:
            if file.size > before:
                file.take_back(file.size - before)
            raise StorageError(
                f"a message could not be synced to {file.path}, and cannot be read any more: "
                "append it again",
                path=str(file.path),
                offset=file.size,
            )

    def maintain(self, now_ns: int | None = None) -> None:
        """Do what is due: sync, and seal the files whose hour ended more than a minute ago.

        Raises
        ------
        StorageError
            Naming what a power cut may take, after everything else was done.
        CorruptFileError
            As :meth:`seal` does.
        """
        try:
            with self._lock:
                self._sync_due()
        finally:
            self.seal_ended_hours(now_ns)

    def seal_ended_hours(self, now_ns: int | None = None) -> None:
        """Seal the files whose hour ended more than a minute ago; errors are those of `seal`."""
        now_ns = time.time_ns() if now_ns is None else now_ns
        self.seal(before_ns=now_ns - _SEAL_DELAY_NS)

    def seal(self, before_ns: int | None = None) -> None:
        """Seal the open files, or those whose hour ended before ``before_ns``.

        A message for one of them waits until it is sealed, and no other message does.

        Raises
        ------
        CorruptFileError
            Naming those that are damaged, after the others were sealed; they stay as they are.
        StorageError
            Naming one that could not be brought to where what was accepted is in it, and on the
            disk, after the others were sealed.
        """
        with self._lock:
            ended = [
                key
                for key in sorted(self._open)
                if before_ns is None or key.hour_ns + HOUR_NS <= before_ns
            ]
            problems = self._close_files(ended)
        damaged = self._sealer.seal_pending()
        if problems:
            raise problems[0]
        if damaged:
            raise CorruptFileError(
                f"{', '.join(key.path for key in damaged)} cannot be sealed: see the log, and "
                "`ibticks verify`",
                path=damaged[0].path,
            )

    def compress(self, key: FileKey, compression: str, compressor: Compressor) -> None:
        """Compress a sealed file of the stream; see :meth:`StreamSealer.compress`."""
        self._sealer.compress(key, compression, compressor)

    def delete(self, key: FileKey) -> None:
        """Delete a file of the stream, unless it is open; see :meth:`StreamSealer.delete`."""
        self._sealer.delete(key)

    def has_open(self, key: FileKey) -> bool:
        """Return whether a file is written, or about to be sealed."""
        return self._sealer.is_open(key)

    def sync(self) -> None:
        """Force what was appended to the disk; appends do not wait meanwhile.

        A file that cannot be synced is written anew; where that fails, its hour goes on in another
        file.

        Raises
        ------
        StorageError
            Naming what a power cut may take.
        """
        with self._lock:
            files = [file for file in self._open.values() if file.unsynced]
        for file in files:
            file.force()
        if any(file.problem is not None for file in files):
            with self._lock:
                self._sync_files([file for file in self._open.values() if file.problem is not None])

    # -- hours that are written as a whole ---------------------------------------------------------

    @property
    def split_bytes(self) -> int:
        """Size past which the second half of an hour gets a separate file."""
        return self._split_bytes

    def reserve_hour(self, hour_ns: int) -> FileKey | None:
        """Reserve an hour that has no file yet, for a caller that writes the whole file.

        Messages for that hour wait until :meth:`enter_hours` or :meth:`release_hours`.

        Returns
        -------
        FileKey or None
            Key of the file; None if the ticks of the hour are to be appended instead.
        """
        key = FileKey(self.contract_id, self.tick_type, hour_ns)
        with self._lock:
            is_known = (
                hour_ns in self._whole_hours | self._damaged_hours | self._split_hours
                or key in self._open
                or key in self._set_aside
            )
            if self._backfill or is_known or not self._stream_lock.is_held:
                return None
            try:
                _ = key.path
            except TimeRangeError:
                return None
            was_pending = self._sealer.reserve(key)
            if was_pending or self._is_taken(key) or self._has_half(key):
                self._sealer.release(key, seal=was_pending)
                return None
            self._whole_hours.add(hour_ns)
            return key

    def _is_taken(self, key: FileKey) -> bool:
        """Return whether an hour has a file, here or in an object store."""
        return os.path.lexists(self._root / key.path) or os.path.lexists(
            marker_path(self._root, key.path)
        )

    def enter_hours(
        self, files: Sequence[tuple[FileKey, FileRecord]], *, durable: bool = True
    ) -> None:
        """Take reserved hours whose sealed files are in their places; enter them in the index.

        With ``durable`` false (a folder could not be synced), the files are written anew, and
        entered, by the next :meth:`seal`.
        """
        try:
            self._sealer.enter(files, durable=durable)
        finally:
            self._end_hours([key for key, _ in files])

    def release_hours(self, keys: Sequence[FileKey]) -> None:
        """Give back reserved hours; one that has a file is entered by the next seal."""
        for key in keys:
            self._sealer.release(key, seal=os.path.lexists(self._root / key.path))
        self._end_hours(keys)

    def _end_hours(self, keys: Sequence[FileKey]) -> None:
        with self._lock:
            self._whole_hours.difference_update(key.hour_ns for key in keys)
            self._whole_hour_done.notify_all()

    def close(self) -> None:
        """Seal every open file and release the stream for the next writer."""
        with self._lock:
            self._whole_hour_done.wait_for(lambda: not self._whole_hours)
            try:
                self.seal()
            finally:
                try:
                    with ExitStack() as closing:
                        for file in (*self._open.values(), *self._set_aside.values()):
                            self._sealer.release(file.key, seal=False)
                            closing.callback(file.close)
                finally:
                    self._open.clear()
                    self._set_aside.clear()
                    self._leave_current()
                    self._stream_lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- which file a message goes to; the lock is held --------------------------------------------

    def _switch_file(self, time_ns: int) -> HourFile:
        """Return the file for a time, and remember it for as long as the answer holds."""
        file = self._file(time_ns)
        half = time_ns - time_ns % HALF_HOUR_NS
        self._current = file
        self._current_start_ns, self._current_end_ns = half, half + HALF_HOUR_NS
        if half % HOUR_NS and not file.key.suffix:
            # The second half of an hour: the file is looked for anew, in case it grows too large.
            self._current_start_ns, self._current_end_ns = _EMPTY_RANGE
        return file

    def _leave_current(self) -> None:
        self._current = None
        self._current_start_ns, self._current_end_ns = _EMPTY_RANGE

    def _file(self, time_ns: int) -> HourFile:
        """Return the open file for a time, opened or begun as needed."""
        hour = floor_hour(time_ns)
        self._whole_hour_done.wait_for(lambda: hour not in self._whole_hours)
        key = FileKey(self.contract_id, self.tick_type, hour)
        if self._backfill:
            key = replace(key, suffix="backfill")
        elif hour in self._damaged_hours or (
            time_ns - hour >= HALF_HOUR_NS and self._is_split(key)
        ):
            key = replace(key, suffix="30")
        file = self._open.get(key)
        if file is None:
            return self._begin(key, time_ns)
        if file.problem is None or self._is_mended(file):
            return file
        return self._file(time_ns)

    def _is_mended(self, file: HourFile) -> bool:
        """Try to mend a file; return False if its hour goes on in another one instead.

        Raises
        ------
        StorageError
            The problem remains, and the hour has no other file.
        """
        try:
            file.mend()
        except StorageError:
            if not self._give_up(file):
                raise
            return False
        return True

    def _give_up(self, file: HourFile) -> bool:
        """Let the hour of a file go on in another one, if there may be one, until it is mended."""
        if file.key.suffix:
            return False
        _log.error("%s cannot be mended: ticks of its hour go to another file", file.key.path)
        self._damaged_hours.add(file.key.hour_ns)
        self._set_aside[file.key] = self._open.pop(file.key)
        if self._current is file:
            self._leave_current()
        return True

    def _is_split(self, key: FileKey) -> bool:
        """Return whether the second half of an hour has, or is to have, a separate file."""
        if key.hour_ns in self._split_hours:
            return True
        first = self._open.get(key)
        if first is not None:
            return first.size > self._split_bytes
        path = self._root / key.path
        return self._has_half(key) or (path.exists() and path.stat().st_size > self._split_bytes)

    def _has_half(self, key: FileKey) -> bool:
        return (self._root / replace(key, suffix="30").path).exists()

    def _begin(self, key: FileKey, time_ns: int) -> HourFile:
        if not self._stream_lock.is_held:
            raise StorageError(
                f"the writer of {self.tick_type} of contract {self.contract_id} is closed: open "
                "another one",
                path=str(self._root),
            )
        while len(intact := self._intact_files()) >= self._max_open_files:
            # Never the newest: late messages, however many, leave the current hour open.
            self._close_files([min(intact)])
            try:
                self._sealer.seal_pending()
            except StorageError:
                _log.exception("not sealed yet; it is tried again with the next one")
        if not self._backfill and (key.suffix or self._has_half(key)):
            self._split_hours.add(key.hour_ns)
        was_pending = self._sealer.reserve(key)
        try:
            file = HourFile(self._root, key, time_ns, lambda: self._sealer.announce(key))
        except CorruptFileError:
            self._sealer.release(key, seal=was_pending)
            if key.suffix:
                raise
            _log.exception("%s is damaged: ticks of its hour go to another file", key.path)
            self._damaged_hours.add(key.hour_ns)
            return self._file(time_ns)
        except StorageError:
            # It may have been begun, or unsealed.
            self._sealer.release(key, seal=was_pending or (self._root / key.path).exists())
            raise
        except BaseException:
            self._sealer.release(key, seal=was_pending)
            raise
        self._open[key] = file
        return file

    def _intact_files(self) -> list[FileKey]:
        """Return the keys of open files that can be appended to."""
        return [key for key, file in self._open.items() if file.problem is None]

    def _close_files(self, keys: Sequence[FileKey]) -> list[StorageError]:
        """Close these files, and those set aside that can be mended: they are to be sealed.

        Files that do not hold what was accepted, and cannot be mended, stay: their problems are
        returned.
        """
        problems = []
        for key in (*keys, *self._set_aside):
            files = self._open if key in self._open else self._set_aside
            file = files[key]
            try:
                if key in self._set_aside:
                    file.mend()
                file.sync()
            except StorageError as error:
                problems.append(error)
                continue
            file.close()
            del files[key]
            self._sealer.release(key, seal=True, encoded=file.is_encoded)
            if self._current is file:
                self._leave_current()
        return problems

    # -- syncing; the lock is held -----------------------------------------------------------------

    def _sync_due(self) -> None:
        if self._fsync_seconds is None:
            return
        now = time.monotonic()
        self._sync_files(
            [file for file in self._open.values() if now - file.synced_at >= self._fsync_seconds]
        )

    def _sync_files(self, files: Sequence[HourFile]) -> None:
        """Sync files; set aside those that cannot be, and raise the first error."""
        problem = None
        for file in files:
            try:
                file.sync()
            except StorageError as error:
                self._give_up(file)
                if file.key not in self._reported:
                    # Once: it refuses what is appended to it, and holds up nothing else.
                    self._reported.add(file.key)
                    problem = problem or file.problem or error
            else:
                self._reported.discard(file.key)
        if problem is not None:
            raise problem
