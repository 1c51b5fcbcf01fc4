"""The hour files of a stream as a tail reads them, and the positions it has read up to."""

from __future__ import annotations

import base64
import binascii
import json
import os
import zlib
from bisect import bisect_right
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import numpy as np

from ibticks._types import StreamKey
from ibticks.config import HOUR_NS, NANOSECONDS
from ibticks.errors import CorruptFileError, InputError, StorageError
from ibticks.filesystem import explained
from ibticks.format import checksum
from ibticks.schema import check_contract_id, check_tick_type
from ibticks.storage import FileKey, check_place, decompress_block, read_file_header, split_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from ibticks.format import Header
    from ibticks.storage import FileSuffix

__all__ = [
    "CURSOR_CHECK_BYTES",
    "Cursor",
    "FileBody",
    "FileVersion",
    "Position",
    "changed_files",
    "cursor_check",
    "file_version",
    "format_cursor",
    "format_position",
    "list_day_files",
    "list_day_folders",
    "parse_position",
    "shorten_position",
]

_CHECKSUM_CHUNK_BYTES: Final = 4 << 20
_MIN_UTC_SECONDS: Final = int(datetime(1677, 1, 1, tzinfo=UTC).timestamp())
_EMPTY: Final = np.empty(0, dtype=np.uint8)

CURSOR_CHECK_BYTES: Final = 64
_TOKEN_VERSION: Final = 1
_MAX_TOKEN_BYTES: Final = 1 << 22


class Cursor(NamedTuple):
    """The place in one file up to which it has been read.

    Attributes
    ----------
    offset : int
        Bytes of the uncompressed body: a frame begins there, or will.
    frames : int
        Number of frames before it; -1 where they were not counted.
    check : int
        CRC-32C of the last :data:`CURSOR_CHECK_BYTES` bytes before it: a file with other bytes
        there is not the file that was read.
    """

    offset: int = 0
    frames: int = 0
    check: int = 0


class Position(NamedTuple):
    """The place in some streams up to which they have been read.

    Attributes
    ----------
    start_ns : int
        Earlier ticks are left out, UTC nanoseconds.
    cursors : dict
        Cursors by file. A file without a cursor has not been read.
    streams : tuple of StreamKey
    """

    start_ns: int
    cursors: dict[FileKey, Cursor]
    streams: tuple[StreamKey, ...]


def cursor_check(read: bytes | npt.NDArray[np.uint8]) -> int:
    """Return the checksum of a cursor that stands after these bytes."""
    return checksum(read[-CURSOR_CHECK_BYTES:])


def format_position(position: Position) -> str:
    """Return a position as a resume token of letters, digits, ``-`` and ``_``.

    Examples
    --------
    >>> streams = (StreamKey(8314, "last"),)
    >>> position = Position(7, {FileKey(8314, "last", HOUR_NS): Cursor(90, 1, 5)}, streams)
    >>> parse_position(format_position(position)) == position
    True
    """
    streams = [
        [
            *stream,
            [
                [key.hour_ns // HOUR_NS, key.suffix, *cursor]
                for key, cursor in sorted(position.cursors.items())
                if (key.contract_id, key.tick_type) == stream
            ],
        ]
        for stream in position.streams
    ]
    text = json.dumps([_TOKEN_VERSION, position.start_ns, streams], separators=(",", ":"))
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).rstrip(b"=").decode()


def format_cursor(key: FileKey, cursor: Cursor) -> str:
    """Return a cursor as an addition to a resume token, in place of the one that the token has.

    Examples
    --------
    >>> streams = (StreamKey(8314, "last"),)
    >>> key = FileKey(8314, "last", HOUR_NS)
    >>> position = Position(7, {key: Cursor(90, 1, 5)}, streams)
    >>> token = format_position(position) + format_cursor(key, Cursor(180, 2, 6))
    >>> parse_position(token).cursors[key]
    Cursor(offset=180, frames=2, check=6)
    """
    hour = key.hour_ns // HOUR_NS
    return (
        f".{key.contract_id}~{key.tick_type}~{hour}~{key.suffix}~{cursor.offset}~{cursor.frames}"
        f"~{cursor.check}"
    )


def shorten_position(position: Position, span_ns: int) -> Position:
    """Return a position without the files that are long behind its latest one.

    What is written into those files later is not read by a reader that resumes there.

    Parameters
    ----------
    position : Position
        Every file before its latest one has been read.
    span_ns : int
        Files of hours that begin earlier than this before the latest hour are left out,
        nanoseconds.

    Examples
    --------
    >>> files = [FileKey(8314, "last", hour * HOUR_NS) for hour in (1, 8, 9)]
    >>> position = Position(0, dict.fromkeys(files, Cursor(90, 1, 5)), (StreamKey(8314, "last"),))
    >>> short = shorten_position(position, 2 * HOUR_NS)
    >>> len(short.cursors), short.start_ns // HOUR_NS
    (2, 7)
    """
    if not position.cursors:
        return position
    start_ns = max(key.hour_ns for key in position.cursors) - span_ns
    cursors = {key: cursor for key, cursor in position.cursors.items() if key.hour_ns >= start_ns}
    return position._replace(start_ns=max(position.start_ns, start_ns), cursors=cursors)


def changed_files(root: Path, position: Position) -> list[FileKey]:
    """Return the files of a position that are gone, or are not those that were read.

    Parameters
    ----------
    root : Path
        The store.
    position : Position

    Raises
    ------
    StorageError
        If the operating system refuses.
    """
    return [
        key for key, cursor in sorted(position.cursors.items()) if not _is_same(root, key, cursor)
    ]


def _is_same(root: Path, key: FileKey, cursor: Cursor) -> bool:
    try:
        body = FileBody(root / key.path)
    except CorruptFileError:
        return False
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return not cursor.offset
        raise
    try:
        return body.matches(cursor)
    except CorruptFileError:
        return False
    finally:
        body.close()


def parse_position(token: str) -> Position:
    """Parse a resume token.

    Raises
    ------
    InputError
        If the text is not a resume token, or one of another version.
    """
    try:
        token, *additions = token.split(".")
        packed = base64.urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4))
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(packed, _MAX_TOKEN_BYTES)
        if not unpacker.eof or unpacker.unused_data:
            text = b""  # cut short, or followed by something else
        version, start_ns, entries = json.loads(text)
        streams = tuple(
            StreamKey(check_contract_id(contract_id), check_tick_type(tick_type))
            for contract_id, tick_type, _ in entries
        )
        cursors = {
            _file_key(stream, hour, part): Cursor(int(offset), int(frames), int(check))
            for stream, (_, _, files) in zip(streams, entries, strict=True)
            for hour, part, offset, frames, check in files
        }
        for addition in additions:
            contract_id, tick_type, hour, part, *numbers = addition.split("~")
            # The stream has to be one of the position.
            stream = streams[streams.index(StreamKey(int(contract_id), tick_type))]
            key = _file_key(stream, int(hour), part)
            offset, frames, check = map(int, numbers)
            cursors[key] = Cursor(offset, frames, check)
        position = Position(int(start_ns), cursors, streams)
    except (
        AttributeError,
        TypeError,
        ValueError,
        RecursionError,
        binascii.Error,
        zlib.error,
    ) as error:
        raise InputError(
            f"resume={token!r:.60} is not a position: pass a value of Live.position ({error})"
        ) from error
    if version != _TOKEN_VERSION:
        raise InputError(
            f"resume= is a position of version {version}, which this ibticks does not support"
        )
    return position


def _file_key(stream: StreamKey, hour: int, part: str) -> FileKey:
    path = FileKey(*stream, hour * HOUR_NS, cast("FileSuffix", part)).path
    key = FileKey.parse(path)
    if key is None:
        raise ValueError(f"{path} is not the path of an hour file")
    return key


class FileVersion(NamedTuple):
    """Inode, size and time of a file: two versions differ in one of them."""

    inode: int
    size: int
    modified_ns: int


def file_version(path: str | os.PathLike[str]) -> FileVersion | None:
    """Return the version of a file; None where there is no such file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called for every change of a file
    except (FileNotFoundError, NotADirectoryError):
        return None
    return FileVersion(status.st_ino, status.st_size, status.st_mtime_ns)


def list_day_folders(
    root: Path,
    stream: StreamKey,
    since_ns: int,
    visit: Callable[[Path], object] = lambda _: None,
) -> list[Path]:
    """List the folders of a stream's days in order, from the UTC day of a time on.

    Parameters
    ----------
    root : Path
        The store.
    stream : StreamKey
    since_ns : int
        UTC nanoseconds.
    visit : callable
        Called with each folder in which files or folders may appear, before it is listed.

    Raises
    ------
    StoreAccessError
        If a folder cannot be read.
    """
    day = datetime.fromtimestamp(max(since_ns // NANOSECONDS, _MIN_UTC_SECONDS), UTC)
    since = (f"{day.year:04}", f"{day.month:02}", f"{day.day:02}")
    top = root / str(stream.contract_id) / stream.tick_type
    for folder in (root, top.parent, top):
        if not folder.is_dir():
            return []
        visit(folder)
    level: list[tuple[Path, tuple[str, ...]]] = [(top, ())]
    for depth in (1, 2, 3):
        level = [
            (folder / name, (*date, name))
            for folder, date in level
            for name in sorted(_numbered_folders(folder))
            if (*date, name) >= since[:depth]
        ]
        for folder, _ in level:
            visit(folder)
    return [folder for folder, _ in level]


def list_day_files(root: Path, folder: Path) -> Iterator[tuple[FileKey, FileVersion]]:
    """Yield the hour files in the folder of a day with their versions, in no order.

    A folder that does not exist has no files.

    Raises
    ------
    StoreAccessError
        If the folder cannot be read.
    """
    place = folder.relative_to(root).as_posix()
    for entry in _entries(folder):
        key = FileKey.parse(f"{place}/{entry.name}")
        version = None if key is None else file_version(entry.path)
        if key is not None and version is not None:
            yield key, version


def _numbered_folders(folder: Path) -> Iterator[str]:
    for entry in _entries(folder):
        if entry.name.isdecimal() and entry.is_dir():
            yield entry.name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with explained(folder, "listing"), os.scandir(folder) as entries:
            return list(entries)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return []
        raise


class FileBody:
    """The uncompressed body of one version of an hour file, open for reading.

    Unlike :class:`ibticks.storage.TickFile`, which reads a finished file into memory, it reads a
    file that grows, from any offset, as few bytes as there are.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    header : Header
    inode : int
        Inode of the open version: a file that replaces it has another one, while it is open.

    Raises
    ------
    CorruptFileError
        If the file has no readable header.
    MisplacedFileError
        If the file is not the one that its path names.
    StorageError
        If the operating system refuses.
    """

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        with explained(path, "reading"):
            self._descriptor = os.open(path, os.O_RDONLY)
        try:
            self.header: Final[Header] = read_file_header(self._descriptor, str(path))
            check_place(self.header, FileKey.of_path(path), path)
            self.inode: Final = os.fstat(self._descriptor).st_ino
        except BaseException:
            self.close()
            raise
        self._compressed: bytes | None = None
        self._blocks: list[tuple[int, int]] = []  # their intervals in the compressed body
        self._block_starts = [0]  # offsets in the body: of the known blocks, and of the next one

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def matches(self, cursor: Cursor) -> bool:
        """Return whether the bytes before a cursor are those that were read.

        Raises
        ------
        CorruptFileError
            At a damaged block.
        StorageError
            If the operating system refuses.
        """
        size = min(CURSOR_CHECK_BYTES, cursor.offset)
        if not size:
            return True
        before = self.read(cursor.offset - size, size)[:size]
        return len(before) == size and cursor_check(before) == cursor.check

    def check(self) -> None:
        """Compare a sealed file with its checksum.

        Raises
        ------
        CorruptFileError
            If they differ.
        """
        crc, at = 0, self.header.frame_bytes
        stop = at + self.header.body_bytes
        while at < stop and len(chunk := self._pread(at, min(_CHECKSUM_CHUNK_BYTES, stop - at))):
            crc, at = checksum(chunk, crc), at + len(chunk)
        if at < stop or crc != self.header.crc32c:
            raise CorruptFileError(
                f"{self._path} is sealed, but does not have its checksum",
                path=str(self._path),
                offset=self.header.frame_bytes,
            )

    def read(self, offset: int, size: int) -> npt.NDArray[np.uint8]:
        """Read ``size`` bytes of the body, or as many as there are.

        Of a compressed file they continue to the end of a block.

        Raises
        ------
        CorruptFileError
            At a damaged block.
        StorageError
            If the operating system refuses.
        """
        if self.header.compression == "none":
            return self._pread(self.header.frame_bytes + offset, size)
        if self._compressed is None:
            body = self._pread(self.header.frame_bytes, self.header.body_bytes)
            self._compressed = body.tobytes()
            self._blocks = list(split_blocks(self._compressed, self.header.compression))
        chunks: list[npt.NDArray[np.uint8]] = []
        total = 0
        first = max(0, bisect_right(self._block_starts, offset) - 1)
        for number in range(first, len(self._blocks)):
            begin, end = self._blocks[number]
            block = decompress_block(
                memoryview(self._compressed)[begin:end], self.header.compression
            )
            start = self._block_starts[number]
            if number + 1 == len(self._block_starts):
                self._block_starts.append(start + len(block))
            chunk = np.frombuffer(block, dtype=np.uint8)[max(0, offset - start) :]
            chunks.append(chunk)
            total += len(chunk)
            if total >= size:
                break
        return chunks[0] if len(chunks) == 1 else np.concatenate([_EMPTY, *chunks])

    def _pread(self, offset: int, size: int) -> npt.NDArray[np.uint8]:
        with explained(self._path, "reading"):
            # No more memory than there are bytes: most reads are of a tick or two.
            left = os.fstat(self._descriptor).st_size - offset
            data = os.pread(self._descriptor, max(0, min(size, left)), offset)
        return np.frombuffer(data, dtype=np.uint8)
