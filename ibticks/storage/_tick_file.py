"""The ticks of one tick file, wherever it lies: an hour file, or one of deleted ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ibticks.errors import CorruptFileError
from ibticks.filesystem import explained
from ibticks.format import Decoder, Header, checksum, read_header
from ibticks.schema import COLUMNS
from ibticks.storage._summary import frame_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ibticks.schema import TickColumns

__all__ = ["TickFile"]


class TickFile:
    """A tick file, read into memory.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    header : Header

    Raises
    ------
    CorruptFileError
        If it has no header, or is sealed and does not have its checksum.
    StorageError
        As the operating system says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with explained(path, "reading"):
            self._data = np.fromfile(path, dtype=np.uint8)
        self.header: Header = read_header(self._data.data, path=str(path))
        start = self.header.frame_bytes
        if self.header.sealed and checksum(self._data[start:]) != self.header.crc32c:
            raise CorruptFileError(
                f"{path} does not have the checksum that its header states: nothing was imported",
                path=str(path),
                offset=start,
            )

    def batches(self) -> Iterator[TickColumns]:
        """Yield its ticks in their order, with all columns, about 1 MiB of frames at a time.

        Raises
        ------
        CorruptFileError
            At the end of what is whole, if the file goes on.
        """
        end = self.header.frame_bytes
        for raw in frame_blocks(self._data, self.header):
            decoder = Decoder(tuple(COLUMNS))
            decoder.feed(np.frombuffer(raw, dtype=np.uint8))
            yield decoder.finish()
            end += len(raw)
        if self.header.compression == "none" and end < len(self._data):
            raise CorruptFileError(
                f"{self._path} is damaged or torn at byte {end}: the ticks before it were imported",
                path=str(self._path),
                offset=end,
            )
