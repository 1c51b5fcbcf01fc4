"""The bytes of one file after another, for whoever decodes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from ibticks.errors import CorruptFileError, MisplacedFileError
from ibticks.filesystem import explained
from ibticks.storage._headers import check_place, header_of
from ibticks.storage._layout import FileKey

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from ibticks.format import Header

__all__ = ["Source"]


class Source:
    """Reads stretches of one file after another into memory that is used again.

    Attributes
    ----------
    size : int
        Bytes of the open file, at least, when its header was read.
    header : Header or None
        Of the open file; None where it cannot be read, for the reason that ``problem`` is.
    misplaced : MisplacedFileError or None
        The reason why the open file is not the one that its path names: none of it may be used.
    identity : tuple
        Of the open file: as long as it is the same, so are the bytes of a sealed file.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = ""
        self._descriptor = -1
        self._memory = np.empty(0, dtype=np.uint8)

    def __enter__(self) -> Source:
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
            # In this order: no writer of ours makes a sealed file longer than its header says.
            about = os.fstat(self._descriptor)
            self.size = about.st_size
            self.header: Header | None = None
            self.problem: CorruptFileError | None = None
            self.misplaced: MisplacedFileError | None = None
            try:
                self.header = header_of(self._descriptor)
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

    def read(self, offset: int, size: int) -> npt.NDArray[np.uint8]:
        """Bytes of the open file, as many of ``size`` as there are; valid until the next call."""
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
