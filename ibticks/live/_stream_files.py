"""The hour files of a stream as a tail reads them: their folders, versions and bodies.

Sealing rewrites a header, compression and a late tick replace the whole file; the frames, one after
another, stay what they were. A place in a file is therefore an offset in its uncompressed body.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from ibticks.config import NANOSECONDS
from ibticks.errors import CorruptFileError, StorageError
from ibticks.filesystem import explained
from ibticks.format import checksum
from ibticks.storage import FileKey, check_place, decompress_block, read_file_header, split_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from ibticks._types import StreamKey
    from ibticks.format import Header

__all__ = ["FileBody", "FileVersion", "file_version", "list_day_files", "list_day_folders"]

_CHECKSUM_CHUNK_BYTES: Final = 4 << 20
_MIN_UTC_SECONDS: Final = int(datetime(1677, 1, 1, tzinfo=UTC).timestamp())
_EMPTY: Final = np.empty(0, dtype=np.uint8)


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
