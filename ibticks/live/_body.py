"""The frames of a file as one run of bytes that only ever grows, however it is stored.

Sealing rewrites a header, compression and a late tick replace the whole file; the frames, one after
another, stay what they were. A place in a file is therefore counted in bytes of its body, plain.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

import numpy as np

from ibticks.errors import CorruptFileError
from ibticks.filesystem import explained
from ibticks.format import checksum
from ibticks.storage import FileKey, check_place, decompress, header_of, split

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from ibticks.format import Header

__all__ = ["Body"]

_PIECE: Final = 4 << 20
_NOTHING: Final = np.empty(0, dtype=np.uint8)


class Body:
    """One version of a file, open for reading.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    header : Header
    inode : int
        Of the version that is open: what replaces it has another, while this one is open.

    Raises
    ------
    CorruptFileError
        If it has no readable header.
    MisplacedFileError
        If it is not the file that its path names.
    StorageError
        As the operating system says.
    """

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        with explained(path, "reading"):
            self._descriptor = os.open(path, os.O_RDONLY)
        try:
            self.header: Final[Header] = header_of(self._descriptor, str(path))
            check_place(self.header, FileKey.of_path(path), path)
            self.inode: Final = os.fstat(self._descriptor).st_ino
        except BaseException:
            self.close()
            raise
        self._stored: bytes | None = None
        self._blocks: list[tuple[int, int]] = []  # where each is stored
        self._starts = [0]  # where each begins in the body, as far as is known, and the next one

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def check(self) -> None:
        """Hold a sealed file against its checksum.

        Raises
        ------
        CorruptFileError
            It does not have it.
        """
        crc, at = 0, self.header.frame_bytes
        stop = at + self.header.body_bytes
        while at < stop and len(piece := self._pread(at, min(_PIECE, stop - at))):
            crc, at = checksum(piece, crc), at + len(piece)
        if at < stop or crc != self.header.crc32c:
            raise CorruptFileError(
                f"{self._path} is sealed, but does not have its checksum",
                path=str(self._path),
                offset=self.header.frame_bytes,
            )

    def read(self, offset: int, size: int) -> npt.NDArray[np.uint8]:
        """Bytes of the body: as many as wanted, or as there are.

        Where it is compressed they go on to the end of a block.

        Raises
        ------
        CorruptFileError
            At a damaged block.
        StorageError
            As the operating system says.
        """
        if self.header.compression == "none":
            return self._pread(self.header.frame_bytes + offset, size)
        if self._stored is None:
            self._stored = self._pread(self.header.frame_bytes, self.header.body_bytes).tobytes()
            self._blocks = list(split(self._stored, self.header.compression))
        pieces: list[npt.NDArray[np.uint8]] = []
        got = 0
        for number in range(max(0, bisect_right(self._starts, offset) - 1), len(self._blocks)):
            begin, end = self._blocks[number]
            raw = decompress(memoryview(self._stored)[begin:end], self.header.compression)
            start = self._starts[number]
            if number + 1 == len(self._starts):
                self._starts.append(start + len(raw))
            piece = np.frombuffer(raw, dtype=np.uint8)[max(0, offset - start) :]
            pieces.append(piece)
            got += len(piece)
            if got >= size:
                break
        return pieces[0] if len(pieces) == 1 else np.concatenate([_NOTHING, *pieces])

    def _pread(self, offset: int, size: int) -> npt.NDArray[np.uint8]:
        with explained(self._path, "reading"):
            # No more memory than there are bytes: most reads are of a tick or two.
            left = os.fstat(self._descriptor).st_size - offset
            data = os.pread(self._descriptor, max(0, min(size, left)), offset)
        return np.frombuffer(data, dtype=np.uint8)
