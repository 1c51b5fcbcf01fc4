"""Appending to a stream: each message into the file of its own hour, whatever order they come in.

What capture writes through. It loads no compiler: sealing, which needs one, is done by the
:data:`~ibticks.storage.Sealer` it is given.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, Final

from ibticks.config import NANOSECONDS, SPLIT_BYTES
from ibticks.errors import CorruptFileError, InputError, StorageError, TickError
from ibticks.filesystem import explained, remove_file, write_anew
from ibticks.format import encode_frame, to_protobuf
from ibticks.schema import check_contract_id, check_tick_type, clear_absent_fields
from ibticks.storage._hour_file import HourFile
from ibticks.storage._layout import (
    HALF_HOUR,
    HOUR,
    FileKey,
    hour_of,
    list_files,
    list_unfinished,
)
from ibticks.storage._sealing import Compressor, Sealer, seal_files
from ibticks.storage._stream_lock import StreamLock
from ibticks.storage._unread import unread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from ibticks.index import FileRecord, Index

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
    backfill : bool
        Write the files of what is asked of IB afterwards, beside those of a capture, which may run
        meanwhile. They are not split.

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
        backfill: bool = False,
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
        self._backfill = backfill
        self._open: dict[FileKey, HourFile] = {}
        self._halved: set[int] = set()  # hours whose second half has a file of its own
        self._damaged: set[int] = set()  # hours whose first file is not to be touched
        self._to_seal: set[FileKey] = set()
        # Files of which it is not known that what was accepted is in them: their hours go on in
        # other files until they are mended.
        self._unsettled: dict[FileKey, HourFile] = {}
        self._reported: set[FileKey] = set()  # files whose failed sync has been raised
        self._untrusted: set[FileKey] = set()  # files to be sealed, of which a sync may have failed
        self._sealing = RLock()
        self._compressing = Lock()  # or deleting the file that is not to be opened just now
        self._compressed: FileKey | None = None
        # The file the last message went to, and the times that go there without asking again.
        self._current: HourFile | None = None
        self._from, self._until = _NOWHERE
        self._lock = StreamLock(root, self.contract_id, self.tick_type, backfill=backfill)
        try:
            self._recover()
        except BaseException:
            self._lock.release()
            raise

    def _recover(self) -> None:
        """Seal what an earlier writer left open, and throw away what it left unfinished."""
        for unfinished in list_unfinished(
            self._root, self.contract_id, self.tick_type, backfill=self._backfill
        ):
            with explained(unfinished, "deleting"):
                unfinished.unlink()
        sealed = {
            record.path
            for record in self._index.files([self.contract_id], [self.tick_type])
            if record.sealed
        }
        found = list_files(self._root, self.contract_id, self.tick_type)
        ours = (key for key in found if (key.part == "backfill") == self._backfill)
        left = [key for key in ours if key.path not in sealed]
        _, damaged = self._settle(left)
        for key in damaged:
            # A load has to meet it, to say that something is missing.
            self._announce(key)

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
        """The payload a v2 message of this stream has, and its time; see :meth:`append`."""
        stream_message = to_protobuf(message)
        if stream_message.HasField("tick_data"):
            tick = stream_message.tick_data
            if (tick.contract_id, tick.tick_type) != (self.contract_id, self.tick_type):
                raise self._stranger(tick.contract_id, tick.tick_type)
            clear_absent_fields(tick)
        stamp = stream_message.timestamp
        # The same message has the same bytes in every process: an import knows it by them.
        payload = stream_message.SerializeToString(deterministic=True)
        return payload, stamp.seconds * NANOSECONDS + stamp.nanos

    def append_payload(self, payload: bytes, time_ns: int) -> None:
        """Append one encoded message, whose timestamp is ``time_ns``, as it is."""
        self.append_frames(encode_frame(payload), time_ns)

    def append_frames(self, frames: bytes | memoryview, time_ns: int) -> None:
        """Append whole frames of one half hour, the first of which has that timestamp.

        When it returns they are with the operating system: readers see them, and a kill of the
        process does not lose them.

        Raises
        ------
        StorageFullError, StorageError
            They are then not in the file.
        """
        file = self._current
        if file is None or not self._from <= time_ns < self._until or file.problem is not None:
            file = self._turn_to(time_ns)
        file.append(frames)
        if self._fsync is not None and time.monotonic() - file.synced_at >= self._fsync:
            self._sync_with(file, len(frames))

    def _sync_with(self, file: HourFile, appended: int) -> None:
        """Sync what is due; where that fails, the bytes appended last to a file are refused."""
        before = file.size - appended
        try:
            self._sync_due()
        except StorageError:
            # Not accepted: whoever appends it again must not find it twice. Written anew, the file
            # may have lost it, or more, already.
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
        """Do what is due: sync, and seal the files whose hour is over by more than a minute.

        Raises
        ------
        StorageError
            Naming what a power cut may take, after everything else was done.
        CorruptFileError
            As :meth:`seal` does.
        """
        now_ns = time.time_ns() if now_ns is None else now_ns
        try:
            self._sync_due()
        finally:
            self.seal(before_ns=now_ns - _GRACE)

    def seal(self, before_ns: int | None = None) -> None:
        """Seal the open files, or those whose hour ended before ``before_ns``.

        Raises
        ------
        CorruptFileError
            Naming those that are damaged, after the others were sealed; they stay as they are.
        StorageError
            Naming one that could not be brought to where what was accepted is in it, and on the
            disk, after the others were sealed.
        """
        with self._sealing:
            problems = self._let_go(self._passed(before_ns))
            damaged = self._seal_rest()
        self._report(damaged, problems)

    def seal_passed(self, now_ns: int | None, lock: AbstractContextManager[Any]) -> None:
        """Seal the files whose hour is over, holding ``lock`` only to let go of them.

        A message that comes for one of them waits until it is sealed, and no other does.
        """
        now_ns = time.time_ns() if now_ns is None else now_ns
        with ExitStack() as sealing:
            with lock:
                sealing.enter_context(self._sealing)
                problems = self._let_go(self._passed(now_ns - _GRACE))
            damaged = self._seal_rest()
        self._report(damaged, problems)

    def compress(
        self,
        key: FileKey,
        compression: str,
        compressor: Compressor,
        lock: AbstractContextManager[Any],
    ) -> None:
        """Have a sealed file compressed, holding ``lock`` only to see that it is not open.

        A message that comes for it waits until it is compressed, and no other does.

        Raises
        ------
        StorageError
            It stays as it is.
        """
        with ExitStack() as compressing:
            with lock:
                if self.has_open(key) or not (self._root / key.path).exists():
                    return  # in use, or deleted since
                compressing.enter_context(self._compressing)
                self._compressed = key
            record = self._compress_indexed(key, compression, compressor)
        if self._on_sealed is not None:
            self._on_sealed(record)

    def _compress_indexed(
        self, key: FileKey, compression: str, compressor: Compressor
    ) -> FileRecord:
        """Compress a file and put its row; a kill in between leaves a row that is settled later."""
        rows = self._index.files(
            [self.contract_id], [self.tick_type], key.hour_ns, key.hour_ns + HOUR
        )
        before = [row for row in rows if row.path == key.path]
        self._announce(key)  # this row holds of the old file and of the new one
        try:
            record = compressor(self._root, key, compression)
        except (StorageError, CorruptFileError):
            # Either file may be in place; of a damaged one the sealer returns no row.
            with suppress(TickError):
                self._index.put_files(self._sealer(self._root, [key]) or before)
            raise
        self._index.put_files([record])
        return record

    def delete(self, key: FileKey, lock: AbstractContextManager[Any]) -> None:
        """Delete a file, unless it is open, holding ``lock`` only to see that it is not.

        The index is to be told before. A message that comes for the file waits, and then begins
        another one.

        Raises
        ------
        StorageError
            It stays where it is.
        """
        with ExitStack() as deleting:
            with lock:
                if self.has_open(key):
                    return
                deleting.enter_context(self._compressing)
                self._compressed = key
            remove_file(self._root / key.path)

    def has_open(self, key: FileKey) -> bool:
        """Whether a file is written, or about to be sealed."""
        return key in self._open or key in self._to_seal or key in self._unsettled

    def unsynced(self) -> list[HourFile]:
        """Files to be synced, by :meth:`HourFile.force`; :meth:`mend` is for those that fail."""
        return [file for file in self._open.values() if file.unsynced]

    def mend(self) -> None:
        """Write files anew that could not be synced; the hours of others go on in other files.

        Raises
        ------
        StorageError
            Naming what a power cut may take.
        """
        self._sync_files([file for file in self._open.values() if file.problem is not None])

    def close(self) -> None:
        """Seal every open file and let the next writer in."""
        try:
            self.seal()
        finally:
            try:
                with ExitStack() as closing:
                    for file in (*self._open.values(), *self._unsettled.values()):
                        closing.callback(file.close)
            finally:
                self._open.clear()
                self._unsettled.clear()
                self._turn_away()
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
        if half % HOUR and not file.key.part:
            # The second half of an hour: the file is looked for anew, in case it grows too large.
            self._from, self._until = _NOWHERE
        return file

    def _turn_away(self) -> None:
        self._current = None
        self._from, self._until = _NOWHERE

    def _file(self, time_ns: int) -> HourFile:
        """The open file for a time, opened or begun as needed."""
        hour = hour_of(time_ns)
        key = FileKey(self.contract_id, self.tick_type, hour)
        if self._backfill:
            key = replace(key, part="backfill")
        elif hour in self._damaged or (time_ns - hour >= HALF_HOUR and self._is_split(key)):
            key = replace(key, part="30")
        file = self._open.get(key)
        if file is None:
            return self._begin(key, time_ns)
        if file.problem is None or self._is_mended(file):
            return file
        return self._file(time_ns)

    def _is_mended(self, file: HourFile) -> bool:
        """Try to mend a file; False if its hour goes on in another one instead.

        Raises
        ------
        StorageError
            The problem remains, and the hour has no other file.
        """
        try:
            file.mend()
        except StorageError:
            if not self._set_aside(file):
                raise
            return False
        return True

    def _set_aside(self, file: HourFile) -> bool:
        """Have the hour of a file go on in another one, if there may be one, until it is mended."""
        if file.key.part:
            return False
        _log.error("%s cannot be mended: ticks of its hour go to another file", file.key.path)
        self._damaged.add(file.key.hour_ns)
        self._unsettled[file.key] = self._open.pop(file.key)
        if self._current is file:
            self._turn_away()
        return True

    def _is_split(self, key: FileKey) -> bool:
        """Whether the second half of an hour has a file of its own, or shall have."""
        if key.hour_ns in self._halved:
            return True
        first = self._open.get(key)
        if first is not None:
            return first.size > self._split_bytes
        path = self._root / key.path
        return self._has_half(key) or (path.exists() and path.stat().st_size > self._split_bytes)

    def _has_half(self, key: FileKey) -> bool:
        return (self._root / replace(key, part="30").path).exists()

    def _begin(self, key: FileKey, time_ns: int) -> HourFile:
        if not self._lock.held:
            raise StorageError(
                f"the writer of {self.tick_type} of contract {self.contract_id} is closed: open "
                "another one",
                path=str(self._root),
            )
        if key == self._compressed:
            with self._compressing:
                self._compressed = None
        waits = key in self._to_seal or len(self._sound()) >= self._most_open
        with self._sealing if waits else nullcontext():
            while len(sound := self._sound()) >= self._most_open:
                # Never the newest: late messages, however many, leave the current hour open.
                self._let_go([min(sound)])
                try:
                    self._seal_rest()
                except StorageError:
                    _log.exception("not sealed yet; it is tried again with the next one")
            if not self._backfill and (key.part or self._has_half(key)):
                self._halved.add(key.hour_ns)
            try:
                file = HourFile(self._root, key, time_ns, lambda: self._announce(key))
            except CorruptFileError:
                if key.part:
                    raise
                _log.exception("%s is damaged: ticks of its hour go to another file", key.path)
                self._damaged.add(key.hour_ns)
                return self._file(time_ns)
            except StorageError:
                if (self._root / key.path).exists():
                    self._to_seal.add(key)  # it may have been begun, or unsealed
                raise
            self._to_seal.discard(key)
            self._open[key] = file
            return file

    def _sound(self) -> list[FileKey]:
        """Open files that can be appended to."""
        return [key for key, file in self._open.items() if file.problem is None]

    def _announce(self, key: FileKey) -> None:
        """Have the index take a file for open, and of any size."""
        self._index.put_files([unread(self._root, key)])

    def _passed(self, before_ns: int | None) -> list[FileKey]:
        return [
            key
            for key in sorted(self._open)
            if before_ns is None or key.hour_ns + HOUR <= before_ns
        ]

    def _let_go(self, keys: Sequence[FileKey]) -> list[StorageError]:
        """Take no more for these files: they are to be sealed.

        Files that are not what was accepted, and cannot be mended, stay: their problems are
        returned.
        """
        problems = []
        for key in (*keys, *self._unsettled):
            files = self._open if key in self._open else self._unsettled
            file = files[key]
            try:
                if key in self._unsettled:
                    file.mend()
                file.sync()
            except StorageError as error:
                problems.append(error)
                continue
            file.close()
            del files[key]
            self._to_seal.add(key)
            if self._current is file:
                self._turn_away()
        return problems

    def _seal_rest(self) -> list[FileKey]:
        """Seal what was let go of, and is not sealed yet; returns the damaged."""
        keys = sorted(self._to_seal)
        for key in sorted(self._untrusted & self._to_seal):
            if (self._root / key.path).exists():
                # The next sync would succeed, whatever became of the bytes.
                write_anew(self._root / key.path)
        self._untrusted.clear()
        try:
            records, damaged = self._settle(keys)
        except StorageError:
            self._untrusted.update(keys)
            raise
        self._to_seal.clear()
        if self._on_sealed is not None:
            for record in records:
                self._on_sealed(record)
        return damaged

    def _settle(self, keys: Sequence[FileKey]) -> tuple[list[FileRecord], list[FileKey]]:
        """Have files sealed, and the index told; returns their records, and the damaged."""
        if not keys:
            return [], []
        records = self._sealer(self._root, keys)
        self._index.put_files(records)
        sealed = {record.path for record in records}
        left = [key for key in keys if key.path not in sealed]
        damaged = [key for key in left if (self._root / key.path).exists()]
        if len(damaged) < len(left):
            self._index.drop_files([key.path for key in left if key not in damaged])
        return records, damaged

    @staticmethod
    def _report(damaged: Sequence[FileKey], problems: Sequence[StorageError]) -> None:
        if problems:
            raise problems[0]
        if damaged:
            raise CorruptFileError(
                f"{', '.join(key.path for key in damaged)} cannot be sealed: see the log, and "
                "`ibticks verify`",
                path=damaged[0].path,
            )

    def _sync_due(self) -> None:
        if self._fsync is None:
            return
        now = time.monotonic()
        self._sync_files(
            [file for file in self._open.values() if now - file.synced_at >= self._fsync]
        )

    def _sync_files(self, files: Sequence[HourFile]) -> None:
        """Sync files; those that cannot be are set aside, and what first went wrong is raised."""
        problem = None
        for file in files:
            try:
                file.sync()
            except StorageError as error:
                self._set_aside(file)
                if file.key not in self._reported:
                    # Once: it refuses what is appended to it, and holds up nothing else.
                    self._reported.add(file.key)
                    problem = problem or file.problem or error
            else:
                self._reported.discard(file.key)
        if problem is not None:
            raise problem
