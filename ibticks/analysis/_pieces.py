"""Rows cut into pieces, for the work that releases the interpreter: one to each processor."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_pieces"]

_PIECE: Final = 1 << 19  # rows; the same on every machine, so that rounding is, too


def in_pieces(rows: int, work: Callable[[int, int], None], piece: int = _PIECE) -> None:
    """Do the work for the rows ``[begin, end)`` of each piece, at once as far as there are threads.

    Examples
    --------
    >>> done = []
    >>> in_pieces(5, lambda begin, end: done.append((begin, end)), piece=2)
    >>> sorted(done)
    [(0, 2), (2, 4), (4, 5)]
    """
    begins = range(0, rows, piece)
    ends = (min(begin + piece, rows) for begin in begins)
    if len(begins) < 2:
        for begin, end in zip(begins, ends, strict=True):
            work(begin, end)
        return
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(work, begins, ends):
            pass
