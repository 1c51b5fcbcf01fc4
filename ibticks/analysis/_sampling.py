"""Prices sampled at intervals, and what they say of coarser intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Sampled"]


class Sampled(NamedTuple):
    """Prices of one group at intervals (start, end]: those that have any, by rising number.

    Attributes
    ----------
    bucket : numpy.ndarray of int64
        The number of the end of each interval.
    first, last : numpy.ndarray of float64
        The first and the last log price in it.

    Examples
    --------
    >>> sampled = Sampled(np.array([1, 2, 4]), np.array([0.0, 2, 3]), np.array([1.0, 2, 5]))
    >>> sampled.returns.tolist(), sampled.intervals
    ([1.0, 1.0, 3.0], 4)
    >>> sampled.coarser(2).last.tolist(), sampled.variance_on_grids(2)
    ([2.0, 5.0], 12.0)
    """

    bucket: NDArray[np.int64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]

    @property
    def returns(self) -> NDArray[np.float64]:
        """From last price to last price; the first one from the first price."""
        return np.diff(self.last, prepend=self.first[0])

    @property
    def intervals(self) -> int:
        """How many there are, also without prices."""
        return int(self.bucket[-1] - self.bucket[0]) + 1

    def coarser(self, times: int) -> Sampled:
        """The same at intervals so many times as long."""
        if times == 1:
            return self
        bucket = -(-self.bucket // times)
        ends = np.flatnonzero(np.append(bucket[1:] != bucket[:-1], True))
        starts = np.append(0, ends[:-1] + 1)
        return Sampled(bucket[ends], self.first[starts], self.last[ends])

    def variance_on_grids(self, grids: int) -> float:
        """Realised variance at intervals ``grids`` times as long, a mean over as many grids.

        One of them ends at each interval here, wherever that is.
        """
        if grids == 1:
            return float(self.returns @ self.returns)
        ends = int(self.bucket[0]), int(self.bucket[-1]) + grids
        return self.squares(grids, *ends) / grids

    def squares(self, lag: int, begin: int, end: int) -> float:
        """The squared change over ``lag`` intervals, summed over their ends ``[begin, end)``.

        It is the same from one price, or the end of its time, to the next.
        """
        edges = np.concatenate([self.bucket, self.bucket + lag])
        order = np.argsort(edges, kind="stable")
        enters = order < len(self.bucket)
        now, left = np.cumsum(enters) - 1, np.cumsum(~enters) - 1
        change = self.last[now] - np.where(left < 0, self.first[0], self.last[left])
        spans = np.diff(np.clip(edges[order], begin, end), append=end)
        return float(spans @ change**2)
