"""Some frames of one file, found but not decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ibticks.live._position import Cursor, mark_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ibticks.storage import FileKey

__all__ = ["Part", "Stretch"]


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Whole frames that follow each other in one file, and where the ticks are in them.

    Attributes
    ----------
    key : FileKey
    raw : numpy.ndarray
        uint8: some bytes before the frames, then the frames.
    base : int
        Where ``raw`` begins in the file's body.
    offsets, sizes, times : numpy.ndarray
        int64, shape ``(ticks,)``: the payloads in ``raw``, and their UTC nanoseconds.
    end : Cursor
        After the last frame.
    """

    key: FileKey
    raw: npt.NDArray[np.uint8]
    base: int
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    end: Cursor

    @property
    def ticks(self) -> int:
        """How many."""
        return len(self.times)

    def cursor(self, ticks: int) -> Cursor:
        """The place after that many of its ticks."""
        if ticks == self.ticks:
            return self.end
        # Before the next tick: what lies between, no tick, is read again then.
        at = int(self.offsets[ticks]) - 4
        return Cursor(self.base + at, -1, mark_of(self.raw[:at]))


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Ticks ``start`` to ``stop`` of a stretch.

    Attributes
    ----------
    stream : int
        Which one, of those that are read together.
    keys : numpy.ndarray
        int64: by what they are merged with those of other streams; none is less than the last.
    """

    stream: int
    stretch: Stretch
    start: int
    stop: int
    keys: npt.NDArray[np.int64]

    @property
    def ticks(self) -> int:
        """How many."""
        return self.stop - self.start

    def frames(self) -> npt.NDArray[np.uint8]:
        """The bytes of their frames, and of what lies between."""
        first, last = self.stretch.offsets[self.start], self.stop - 1
        return self.stretch.raw[first - 4 : self.stretch.offsets[last] + self.stretch.sizes[last]]

    def payload(self, tick: int) -> bytes:
        """The message of one of them, counted from ``start``."""
        at = self.stretch.offsets[self.start + tick]
        return self.stretch.raw[at : at + self.stretch.sizes[self.start + tick]].tobytes()
