"""Write whole hours that have no file yet: encoded by several threads, each sealed at once.

A file is written beside its place with its final header, synced, and renamed; its record is made
from the columns, and nothing is read again. Renames, the sync of their folders and the records of
the index go in groups. A kill leaves unfinished files, which the next writer removes, or sealed
files without a record, which the next opening of the store enters in the index.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Final

from ibticks.errors import StorageError, TickError
from ibticks.filesystem import (
    explained,
    make_folder,
    sync_folder,
    synced_beside,
    unfinished_path,
    write_all,
)
from ibticks.format import HEADER_BYTES, Encoder, Header, checksum
from ibticks.index import Block, FileRecord
from ibticks.schema import TickColumns, Values, mask_absent_values
from ibticks.storage._hour_file import WRITER
from ibticks.storage._whole_file import tick_statistics
from ibticks.storage._worker_processes import count_processors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Self

    from ibticks.schema import Column
    from ibticks.storage._layout import FileKey, HourRange
    from ibticks.storage._stream_appender import StreamAppender

__all__ = ["WholeHourWriter"]

_log = logging.getLogger(__name__)

_SYNCING_THREADS: Final = 6  # besides one a processor: a sync waits for the disk
_MAX_THREADS: Final = 16
_HOURS_AHEAD: Final = 2  # a thread, that are encoded or wait for it
_GROUP_HOURS: Final = 32
_GROUP_ROWS: Final = 1 << 22
_GROUPS_AHEAD: Final = 2  # that wait for the index
_LOT_ROWS: Final = 1 << 19
"""Rows that are prepared for encoding together, in whole hours."""


class _SplitError(TickError):
    """An hour is so large that its second half may need a separate file."""


class _StoppedError(TickError):
    """The ticks of an earlier hour could not be written."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One hour on its way to its file."""

    key: FileKey
    path: Path
    rows: int
    future: Future[FileRecord]


class WholeHourWriter:
    """Writes whole hours of one stream, as sealed files, in the order of their rows.

    Parameters
    ----------
    root : Path
        The store.
    appender : StreamAppender
        Appender of the stream; it reserves the hours, and enters their records.
    stream_id : str
        Stream id of ticks without one.
    on_written : callable
        Called with the number of ticks of each file that is in its place.
    """

    def __init__(
        self,
        root: Path,
        appender: StreamAppender,
        stream_id: str,
        on_written: Callable[[int], None],
    ) -> None:
        self._root = root
        self._appender = appender
        self._stream_id = stream_id
        self._on_written = on_written
        self._threads = min(count_processors() + _SYNCING_THREADS, _MAX_THREADS)
        self._pool: ThreadPoolExecutor | None = None
        # One thread, so that records are put in order, while the others go on.
        self._entering: ThreadPoolExecutor | None = None
        self._entries: deque[Future[None]] = deque()
        self._reserved: list[FileKey] = []
        self._jobs: deque[_Job] = deque()  # in the order of their rows
        self._ready: deque[tuple[_Job, FileRecord]] = deque()  # synced beside their places
        self._folders: set[Path] = set()  # that exist
        self._files_written = 0
        self._stop = Event()
        self._is_usable = True

    def write(
        self, columns: TickColumns, ranges: Sequence[HourRange], first: int, last: int
    ) -> int:
        """Write ``ranges[first:last]``, an hour each, until one has to be appended instead.

        That is one that has a file, is too large for one file, or could not be written. No tick
        of a later hour is written then.

        Returns
        -------
        int
            Number of ranges written.
        """
        self._files_written = 0
        try:
            while first < last and self._is_usable and not self._stop.is_set():
                lot = self._reserve(ranges, first, last)
                if not lot:
                    break
                first += len(lot)
                self._submit(columns, lot)
            while self._jobs and not self._stop.is_set():
                self._collect()
            self._put_in_place()
        finally:
            try:
                self._discard()
            finally:
                self._await_entries(0)
        return self._files_written

    def close(self) -> None:
        """End the threads."""
        for pool in (self._pool, self._entering):
            if pool is not None:
                pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reserve(
        self, ranges: Sequence[HourRange], first: int, last: int
    ) -> list[tuple[FileKey, HourRange]]:
        """Reserve hours until one has a file, or there are rows enough."""
        lot: list[tuple[FileKey, HourRange]] = []
        for hour in itertools.islice(ranges, first, last):
            if lot and hour.stop - lot[0][1].start > _LOT_ROWS:
                break
            key = self._appender.reserve_hour(hour.hour_ns)
            if key is None:
                break
            self._reserved.append(key)
            lot.append((key, hour))
        return lot

    def _submit(self, columns: TickColumns, lot: Sequence[tuple[FileKey, HourRange]]) -> None:
        """Have hours written by the threads."""
        base = lot[0][1].start
        ticks = mask_absent_values(columns.take(slice(base, lot[-1][1].stop)))
        encoder = Encoder(
            ticks,
            contract_id=self._appender.contract_id,
            tick_type=self._appender.tick_type,
            stream_id=self._stream_id,
        )
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="ibticks-write")
        for key, (_, start, stop) in lot:
            while len(self._jobs) >= self._threads * _HOURS_AHEAD:
                self._collect()
                if self._stop.is_set():
                    return
            rows = slice(start - base, stop - base)
            path = self._root / key.path
            try:
                self._make_folder(path.parent)
            except StorageError as error:
                self._fail(error)
                return
            future = self._pool.submit(self._write_file, key, path, ticks, encoder, rows)
            self._jobs.append(_Job(key, path, stop - start, future))

    def _make_folder(self, folder: Path) -> None:
        if folder not in self._folders:
            with explained(folder, "making"):
                make_folder(folder)
            self._folders.add(folder)

    def _fail(self, error: TickError) -> None:
        """Stop; unless the hour is only too large, append from now on."""
        self._stop.set()
        self._is_usable = isinstance(error, _SplitError)
        _log.info("the next ticks are appended, not written as whole hours: %s", error)

    def _collect(self) -> None:
        """Wait for the next hour."""
        job = self._jobs[0]
        try:
            record = job.future.result()
        except TickError as error:
            # Appended, its ticks are refused with the same error, or are stored after all.
            self._fail(error)
            return
        self._jobs.popleft()
        self._ready.append((job, record))
        rows = sum(job.rows for job, _ in self._ready)
        if len(self._ready) >= _GROUP_HOURS or rows >= _GROUP_ROWS:
            self._put_in_place()

    def _put_in_place(self) -> None:
        """Rename the synced files, sync their folders, and enter their records in the index."""
        placed: list[tuple[FileKey, FileRecord]] = []
        folders: set[Path] = set()
        try:
            while self._ready:
                job, record = self._ready[0]
                with explained(job.path, "writing"):
                    unfinished_path(job.path).replace(job.path)
                folders.add(job.path.parent)
                placed.append((job.key, record))
                self._ready.popleft()
                self._files_written += 1
                self._on_written(job.rows)
        except StorageError as error:
            self._fail(error)
        finally:
            if placed:
                keys = {key for key, _ in placed}
                self._reserved = [key for key in self._reserved if key not in keys]
                if self._entering is None:
                    self._entering = ThreadPoolExecutor(1, thread_name_prefix="ibticks-enter")
                self._entries.append(self._entering.submit(self._enter, placed, folders))
        self._await_entries(_GROUPS_AHEAD)

    def _enter(
        self, placed: Sequence[tuple[FileKey, FileRecord]], folders: Collection[Path]
    ) -> None:
        """Sync the folders of files that are in their places, and enter their records."""
        durable = False
        try:
            for folder in sorted(folders):
                with explained(folder, "syncing"):
                    sync_folder(folder)
            durable = True
        except StorageError as error:
            _log.error("%s: its files are written anew when they are sealed", error)
        finally:
            self._appender.enter_hours(placed, durable=durable)

    def _await_entries(self, most: int) -> None:
        """Wait until at most so many groups of records are still to be entered."""
        while len(self._entries) > most:
            self._entries[0].result()
            self._entries.popleft()

    def _discard(self) -> None:
        """Throw away what is not in its place, and give its hours back."""
        self._stop.set()
        try:
            for job in self._jobs:
                job.future.cancel()
            wait([job.future for job in self._jobs])
        finally:
            for key in self._reserved:
                with suppress(OSError):  # the next writer removes it
                    unfinished_path(self._root / key.path).unlink(missing_ok=True)
            self._appender.release_hours(self._reserved)
            self._reserved = []
            self._jobs.clear()
            self._ready.clear()
        self._stop.clear()

    def _write_file(
        self, key: FileKey, path: Path, ticks: TickColumns, encoder: Encoder, rows: slice
    ) -> FileRecord:
        """Write and sync the file of an hour beside its place, and return its record."""
        row, offset, crc = rows.start, HEADER_BYTES, 0
        times = ticks.timestamp
        blocks: list[Block] = []
        with synced_beside(path) as descriptor:
            write_all(descriptor, bytes(HEADER_BYTES))
            for end, frames in encoder.blocks(rows.start, rows.stop):
                if self._stop.is_set():
                    raise _StoppedError(f"{path}: an earlier hour was not written")
                # The size of the whole, at that of the rows so far.
                row_count, encoded = rows.stop - rows.start, end - rows.start
                size = offset + len(frames)
                if size * row_count > self._appender.split_bytes * encoded:
                    raise _SplitError(f"{path} may be too large for one file")
                write_all(descriptor, frames.data)
                crc = checksum(frames, crc)
                block_times = times[row:end]
                blocks.append(
                    Block(
                        offset=offset,
                        size=len(frames),
                        raw_size=len(frames),
                        messages=end - row,
                        first_ns=int(block_times[0]),
                        min_ns=int(block_times.min()),
                        max_ns=int(block_times.max()),
                        crc32c=checksum(frames),
                    )
                )
                row, offset = end, size
            header = Header(key.contract_id, key.tick_type, 0, 0, writer=WRITER).seal(
                start_ns=min(block.min_ns for block in blocks),
                end_ns=max(block.max_ns for block in blocks),
                message_count=rows.stop - rows.start,
                crc32c=crc,
                body_bytes=offset - HEADER_BYTES,
            )
            os.pwrite(descriptor, header.to_bytes(), 0)
        return FileRecord(
            path=key.path,
            contract_id=key.contract_id,
            tick_type=key.tick_type,
            hour_ns=key.hour_ns,
            start_ns=header.start_ns,
            end_ns=header.end_ns,
            size=offset,
            messages=header.message_count,
            ticks=header.message_count,
            sealed=True,
            crc32c=crc,
            blocks=tuple(blocks),
            **tick_statistics(key.tick_type, _numbers(ticks, rows)),
        )


def _numbers(ticks: TickColumns, rows: slice) -> TickColumns:
    """Return some rows of the columns of numbers."""
    columns: dict[str, Column] = {
        name: column for name, column in ticks.columns.items() if isinstance(column, Values)
    }
    return TickColumns(ticks.rows, columns).take(rows)
