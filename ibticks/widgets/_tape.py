"""The last trades, each with the side that began it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ibticks.widgets._moments import floats

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]

__all__ = ["Tape"]


class Tape:
    """The last trades of one contract.

    A trade's sign is 1 where it was at the ask or above, -1 at the bid or below, else that of the
    last change of price (Lee and Ready, 1991, with quotes in their order of arrival).

    Parameters
    ----------
    most : int
        How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._rows: Floats = np.empty((0, 4))
        self._bid = self._ask = self._price = np.nan
        self._sign = 0.0

    @property
    def rows(self) -> Floats:
        """The trades, shape (trades, 4): seconds since 1970, price, size, sign."""
        return self._rows

    def add(self, ticks: pl.DataFrame) -> Floats:
        """Take in ticks; the new trades among them, at most as many as are kept."""
        prices = floats(ticks, "price")
        bids = self._lasting(floats(ticks, "bid_price"), self._bid)
        asks = self._lasting(floats(ticks, "ask_price"), self._ask)
        if len(ticks):
            self._bid, self._ask = float(bids[-1]), float(asks[-1])
        at = np.flatnonzero(np.isfinite(prices))
        if not len(at):
            return self._rows[:0]
        paid = prices[at]
        steps = np.sign(np.diff(paid, prepend=self._price))
        steps[~(np.abs(steps) > 0)] = np.nan
        tests = self._lasting(steps, self._sign)
        signs = np.select([paid >= asks[at], paid <= bids[at]], [1.0, -1.0], tests)
        self._price, self._sign = float(paid[-1]), float(tests[-1])
        times = ticks["timestamp"].to_physical().to_numpy()[at] / 1e9
        new = np.column_stack((times, paid, floats(ticks, "size")[at], signs))[-self._most :]
        self._rows = np.vstack((self._rows, new))[-self._most :]
        return new

    @staticmethod
    def _lasting(values: Floats, before: float) -> Floats:
        """Each value, or the last one before it that is known."""
        known = np.maximum.accumulate(np.where(np.isnan(values), -1, np.arange(len(values))))
        return np.where(known >= 0, values[known], before)
