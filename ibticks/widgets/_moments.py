"""Ticks condensed to what a chart can show: a row per moment of the window's width.

A chart of a thousand pixels shows no more than a few thousand moments of time, however many
ticks there are. Where there is one tick in a moment the row is that tick; where there are more, it
is the last quote, the last, lowest and highest price and the volume of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]

__all__ = ["COLUMNS", "Moments", "floats"]

COLUMNS: Final = ("time", "bid", "ask", "mid", "last", "low", "high", "volume")
"""Of a moment: seconds since 1970 of its last tick, prices (NaN where none), traded size."""

_LASTING: Final = {"bid": "bid_price", "ask": "ask_price", "mid": "mid_price", "last": "price"}


class Moments:
    """The moments of one contract, oldest first, of which old ones are forgotten.

    Parameters
    ----------
    width_ns : int
        Nanoseconds of a moment.
    most : int
        How many moments are kept, at least; at most twice as many.

    Examples
    --------
    >>> import polars as pl
    >>> moments = Moments(1_000_000_000, 100)
    >>> moments.add(
    ...     pl.DataFrame(
    ...         {
    ...             "timestamp": pl.Series([1, 2, 1_500_000_000]).cast(pl.Datetime("ns", "UTC")),
    ...             "price": [10.0, 12.0, 11.0],
    ...             "size": [1.0, 2.0, 3.0],
    ...         }
    ...     )
    ... )
    0
    >>> moments.since(0)["high"].tolist(), moments.since(0)["volume"].tolist()
    ([12.0, 11.0], [3.0, 3.0])
    """

    def __init__(self, width_ns: int, most: int) -> None:
        self.width_ns: Final = width_ns
        self._most: Final = most
        self._rows: Floats = np.empty((len(COLUMNS), 2 * most))
        self._first = 0  # the number of the first row that is kept
        self._count = 0
        self._newest = -1
        self._lasting: dict[str, float] = dict.fromkeys(_LASTING, np.nan)

    @property
    def first(self) -> int:
        """The number of the oldest moment that is kept; the first of all had 0."""
        return self._first

    @property
    def end(self) -> int:
        """The number the next moment will have."""
        return self._first + self._count

    def add(self, ticks: pl.DataFrame) -> int:
        """Take in ticks of one contract, in their order.

        A tick of a time before the newest is put to the newest moment: a chart only goes on.

        Returns
        -------
        int
            The number of the first moment that is new or changed.
        """
        if not len(ticks):
            return self.end
        times = ticks["timestamp"].to_physical().to_numpy()
        times = np.maximum.accumulate(np.maximum(times, self._newest))
        marks = times // self.width_ns
        last = np.flatnonzero(np.append(marks[1:] != marks[:-1], True))
        start = np.append(0, last[:-1] + 1)
        rows = np.full((len(COLUMNS), len(last)), np.nan)
        rows[0] = times[last] / 1e9
        for number, name in enumerate(COLUMNS[1:5], 1):
            rows[number] = self._carried(name, floats(ticks, _LASTING[name]), last)
        prices = floats(ticks, "price")
        traded = np.isfinite(prices)
        # Only the prices of this moment: what was carried into it has not been traded in it.
        rows[4][np.add.reduceat(traded, start, dtype=np.int64) == 0] = np.nan
        rows[5] = np.fmin.reduceat(prices, start)
        rows[6] = np.fmax.reduceat(prices, start)
        rows[7] = np.add.reduceat(np.where(traded, np.nan_to_num(floats(ticks, "size")), 0), start)
        changed = self.end
        if marks[0] == self._newest // self.width_ns:
            changed -= 1
            self._join(rows[:, 0])
            rows = rows[:, 1:]
        self._newest = int(times[-1])
        self._append(rows)
        return max(changed, self._first)

    def since(self, number: int) -> Mapping[str, Floats]:
        """The columns from the moment of this number on; copies."""
        place = max(number - self._first, 0)
        return dict(zip(COLUMNS, self._rows[:, place : self._count].copy(), strict=True))

    def _carried(self, name: str, values: Floats, last: npt.NDArray[np.int64]) -> Floats:
        """The last known value at the end of each moment."""
        known = np.where(np.isfinite(values), np.arange(len(values)), -1)
        at = np.maximum.accumulate(known)[last]
        carried = np.where(at >= 0, values[at], self._lasting[name])
        self._lasting[name] = float(carried[-1])
        return carried

    def _join(self, row: Floats) -> None:
        """The newest moment goes on."""
        newest = self._rows[:, self._count - 1]
        newest[:4] = row[:4]
        newest[4] = newest[4] if np.isnan(row[4]) else row[4]
        newest[5] = np.fmin(newest[5], row[5])
        newest[6] = np.fmax(newest[6], row[6])
        newest[7] += row[7]

    def _append(self, rows: Floats) -> None:
        total = self._count + rows.shape[1]
        if total > self._rows.shape[1]:
            # Half of the room is given up at once, so that moving costs little in the long run.
            rows = np.hstack((self._rows[:, : self._count], rows))[:, -self._most :]
            self._first += total - rows.shape[1]
            self._count, total = 0, rows.shape[1]
        self._rows[:, self._count : total] = rows
        self._count = total


def floats(ticks: pl.DataFrame, name: str) -> Floats:
    """A column, NaN where it has nothing or is not there."""
    if name not in ticks.columns:
        return np.full(len(ticks), np.nan)
    return ticks[name].to_numpy()
