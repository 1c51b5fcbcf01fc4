"""Read the stored frames of files: open, plan by blocks, read, check, decompress.

Where the index knows the blocks of a sealed file, each block is read and checked against its
CRC-32C alone, so that one damaged block costs one block. An open file is read up to its
last whole frame.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from ibticks._types import Interval
from ibticks._warnings import user_stacklevel
from ibticks.config import HOUR_NS, NANOSECONDS
from ibticks.errors import (
    CorruptDataWarning,
    CorruptFileError,
    FormatError,
    MisplacedFileError,
    StorageError,
)
from ibticks.filesystem import explained
from ibticks.format import MAX_FRAME_BYTES, TORN, checksum, count_frames
from ibticks.index import FileRecord
from ibticks.storage._blocks import decompress_block, iter_blocks
from ibticks.storage._file_header import check_place, read_file_header
from ibticks.storage._layout import FileKey, file_suffix, floor_hour

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ibticks.errors import TickError
    from ibticks.format import Header
    from ibticks.index import Block, Index

__all__ = [
    "DamageReport",
    "FileReader",
    "FileReplacedError",
    "PlannedRead",
    "locate_error",
    "plan_reads",
    "read_planned",
    "sort_records",
]

_READ_BYTES: Final = 4 << 20
_TYPICAL_MESSAGE_BYTES: Final = 128  # to estimate the messages of an open file


class FileReader:
    """Reads byte ranges of one file after another into a buffer that is reused.

    Attributes
    ----------
    size : int
        Bytes of the open file, at least, when its header was read.
    header : Header or None
        Header of the open file; None where it cannot be read.
    problem : CorruptFileError or None
        The reason why the header cannot be read.
    misplaced : MisplacedFileError or None
        The reason why the open file is not the one that its path names: none of it may be used.
    identity : tuple
        Inode, time, size and header of the open file; as long as they are the same, so are the
        bytes of a sealed file.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = ""
        self._descriptor = -1
        self._memory = np.empty(0, dtype=np.uint8)

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor, self._path = -1, ""

    def open(self, path: str) -> None:
        """Open a file, unless it is the open one."""
        if path == self._path:
            return
        self._close()
        with explained(self._root / path, "reading"):
            self._descriptor = os.open(self._root / path, os.O_RDONLY)
            self._path = path
            # In this order: ibticks never makes a sealed file longer than its header says.
            about = os.fstat(self._descriptor)
            self.size = about.st_size
            self.header: Header | None = None
            self.problem: CorruptFileError | None = None
            self.misplaced: MisplacedFileError | None = None
            try:
                self.header = read_file_header(self._descriptor)
            except CorruptFileError as error:
                self.problem = error
            else:
                self._check_place(self.header)
            self.identity = about.st_ino, about.st_mtime_ns, about.st_size, self.header

    def _check_place(self, header: Header) -> None:
        path = self._root / self._path
        try:
            check_place(header, FileKey.of_path(path), path)
        except MisplacedFileError as error:
            self.misplaced = error

    def describe(self, header: Header) -> FileRecord:
        """Describe the open file by its header, without an index.

        A file in the layout of a store is described by its path: if its header states another
        contract or hour, reading the file reports that.
        """
        key = FileKey.of_path(self._root / self._path)
        return FileRecord(
            path=self._path,
            contract_id=header.contract_id if key is None else key.contract_id,
            tick_type=header.tick_type if key is None else key.tick_type,
            hour_ns=floor_hour(header.start_ns) if key is None else key.hour_ns,
            start_ns=header.start_ns,
            end_ns=header.end_ns,
            size=self.size,
            messages=header.message_count,
            ticks=header.message_count,
            compression=header.compression,
        )

    def read(self, offset: int, size: int) -> npt.NDArray[np.uint8]:
        """Return up to ``size`` bytes of the open file; valid until the next call."""
        if size > len(self._memory):
            self._memory = np.empty(size, dtype=np.uint8)
        got = 0
        with explained(self._root / self._path, "reading"):
            while got < size:
                taken = os.preadv(self._descriptor, [self._memory[got:size].data], offset + got)
                if taken == 0:
                    break
                got += taken
        return self._memory[:got]


@dataclass(frozen=True, slots=True)
class PlannedRead:
    """One block of a file to read, or (``block`` None) the whole file.

    ``header`` is None where it cannot be read, but the index knows the blocks.
    """

    record: FileRecord
    block: Block | None
    header: Header | None
    messages: int


class FileReplacedError(Exception):
    """A file was replaced after its reads were planned."""


class DamageReport:
    """Collects what damage leaves out of ``[start_ns, end_ns)``, with the reasons."""

    def __init__(
        self, root: Path, start_ns: int, end_ns: int, *, strict: bool, index: Index | None = None
    ) -> None:
        self._root = root
        self._start_ns = start_ns
        self._end_ns = end_ns
        self._strict = strict
        self._index = index
        self.missing: list[Interval] = []
        self.reasons: list[str] = []
        self.left_out: list[str] = []

    def report(self, record: FileRecord, block: Block | None, error: TickError) -> None:
        """Record the interval that a damaged block or file leaves out; with ``strict``, raise."""
        if isinstance(error.__cause__, FileNotFoundError) and self._is_deleted(record):
            return
        first, last = _file_interval(record) if block is None else (block.min_ns, block.max_ns + 1)
        first, last = max(first, self._start_ns), min(last, self._end_ns)
        path = str(self._root / record.path)
        reason = str(error) if error.context.get("path") else f"{path}: {error}"
        if self._strict:
            raise type(error)(reason, **{**error.context, "path": path}) from error
        self.missing.append(Interval(first, last))
        self.left_out.append(record.path)
        self.reasons.append(
            f"{reason}; left out: {_format_utc(first)} to {_format_utc(last)}. "
            "`ibticks verify` lists all damage; strict=True raises instead"
        )

    def _is_deleted(self, record: FileRecord) -> bool:
        """Return whether a file has left the index, as files deleted on purpose do."""
        if self._index is None or record.path.startswith("/"):  # of an archived hour
            return False
        hour = record.hour_ns
        files = self._index.files([record.contract_id], [record.tick_type], hour, hour + HOUR_NS)
        return all(file.path != record.path for file in files)

    def overlaps(self, first_ns: int, after_ns: int) -> bool:
        """Return whether times in ``[first_ns, after_ns)`` can lie in the interval."""
        return after_ns > self._start_ns and first_ns < self._end_ns

    def warn(self) -> None:
        """Issue a warning for each reason."""
        for reason in self.reasons:
            warnings.warn(reason, CorruptDataWarning, stacklevel=user_stacklevel())


def sort_records(records: Sequence[FileRecord]) -> list[FileRecord]:
    """Sort records by hour: the first half, the second half, then the backfill."""
    return sorted(records, key=lambda record: (record.hour_ns, file_suffix(record.path)))


def _file_interval(record: FileRecord) -> Interval:
    """Return the half-open interval of a file: its hour, and the times of its blocks."""
    hour = record.hour_ns
    if not record.blocks:
        return Interval(hour, hour + HOUR_NS)
    return Interval(min(record.start_ns, hour), max(record.end_ns + 1, hour + HOUR_NS))


def plan_reads(
    reader: FileReader, record: FileRecord, damage: DamageReport
) -> Iterator[PlannedRead]:
    if not damage.overlaps(*_file_interval(record)):
        # In the index an open file has no end; it ends with its hour.
        return
    try:
        reader.open(record.path)
    except StorageError as error:
        damage.report(record, None, error)
        return
    if reader.misplaced is not None:
        damage.report(record, None, reader.misplaced)
        return
    header = reader.header
    # The blocks are those of the file as it was sealed; since then it may have been opened again
    # for a late tick, compressed, or sealed anew. A damaged header costs nothing but itself, and a
    # lost end the blocks in it.
    current = record.sealed and record.blocks and reader.size <= record.size
    if current and (header is None or header.crc32c == record.crc32c):
        for block in record.blocks:
            if damage.overlaps(block.min_ns, block.max_ns + 1):
                yield PlannedRead(record, block, header, block.messages)
    elif header is not None:
        yield PlannedRead(
            record, None, header, max(record.messages, reader.size // _TYPICAL_MESSAGE_BYTES)
        )
    elif reader.problem is not None:
        damage.report(record, None, reader.problem)


def read_planned(
    reader: FileReader, planned: PlannedRead
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Read the frames of a planned read, checked and decompressed; whole frames at a time.

    Yields
    ------
    offset : int
        Byte of the file where they are stored.
    frames : numpy.ndarray
        Valid until the next is read.

    Raises
    ------
    CorruptFileError
        Before anything is yielded, where a checksum fails.
    FileReplacedError
        If the file was replaced since the read was planned.
    """
    record, block, header = planned.record, planned.block, planned.header
    try:
        reader.open(record.path)
    except StorageError as error:
        raise FileReplacedError from error
    if reader.header != header or reader.misplaced is not None:
        raise FileReplacedError
    if block is not None:
        stored = reader.read(block.offset, block.size)
        if checksum(stored.data) != block.crc32c:
            raise CorruptFileError(
                f"the block at byte {block.offset} fails its checksum", offset=block.offset
            )
        yield block.offset, _decompress_if_needed(stored, record.compression)
    elif header is not None:
        stop = reader.size
        if header.sealed:
            stop = header.frame_bytes + header.body_bytes
            _check_body(reader, header, stop)
        if header.compression == "none":
            yield from _whole_frames(reader, header.frame_bytes, stop if header.sealed else None)
        else:
            everything = reader.read(0, stop)
            for begin, _, raw in iter_blocks(everything.data, header):
                yield begin, np.frombuffer(raw, np.uint8)


def _decompress_if_needed(stored: npt.NDArray[np.uint8], compression: str) -> npt.NDArray[np.uint8]:
    if compression == "none":
        return stored
    return np.frombuffer(decompress_block(stored.data, compression), np.uint8)


def _check_body(reader: FileReader, header: Header, stop: int) -> None:
    if reader.size > stop:
        raise CorruptFileError(f"{reader.size - stop} bytes follow the sealed body", offset=stop)
    crc = 0
    for offset in range(header.frame_bytes, stop, _READ_BYTES):
        crc = checksum(reader.read(offset, min(_READ_BYTES, stop - offset)).data, crc)
    if crc != header.crc32c:
        raise CorruptFileError("the file fails its checksum", offset=header.frame_bytes)


def _whole_frames(
    reader: FileReader, offset: int, stop: int | None
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield a plain body, some MiB at a time, up to its last whole frame."""
    size = _READ_BYTES
    while stop is None or offset < stop:
        data = reader.read(offset, size if stop is None else min(size, stop - offset))
        _, end, problem = count_frames(data)
        if end > 0:
            yield offset, data[:end]
        if problem not in (None, TORN):
            raise CorruptFileError(f"after byte {offset}: {problem}", offset=offset + end)
        if end > 0:
            offset += end
            size = _READ_BYTES
        elif len(data) < size:
            break
        else:
            size = _READ_BYTES + MAX_FRAME_BYTES


def locate_error(
    error: FormatError, planned: PlannedRead, base: int, offset: int
) -> CorruptFileError:
    """Return an error with its byte in the file, from an offset in the data at byte ``base``."""
    is_compressed = planned.header is not None and planned.header.compression != "none"
    place = base if is_compressed else base + offset
    return CorruptFileError(f"in the data at byte {base}: {error}", offset=place)


def _format_utc(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, NANOSECONDS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d} UTC"
