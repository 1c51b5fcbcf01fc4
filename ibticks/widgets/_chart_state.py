"""The state of a live view for one contract: chart buckets, trade tape and latest figures.

A chart of a thousand pixels shows no more than a few thousand points in time, however many ticks
there are: ``TimeBuckets`` reduces the ticks to a row for each bucket. ``ChartState`` makes messages
for the page, of all of it or of what is new since the last message.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.config import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]

__all__ = ["COLUMNS", "ChartState", "PageMessage", "Tape", "TimeBuckets"]

COLUMNS: Final = ("time", "bid", "ask", "mid", "last", "low", "high", "volume")
"""Of a bucket: seconds since 1970 of its last tick, prices (NaN where none), traded size."""

_CARRIED_COLUMNS: Final = {
    "bid": "bid_price",
    "ask": "ask_price",
    "mid": "mid_price",
    "last": "price",
}
_MAX_BUCKETS: Final = 2000
_MIN_BUCKET_NS: Final = 1_000_000
_MAX_TRADES: Final = 200
_RATE_SECONDS: Final = 5.0
_MAX_DECIMALS: Final = 8
_FIGURES: Final = {
    "bid": "bid_price",
    "ask": "ask_price",
    "bid_size": "bid_size",
    "ask_size": "ask_size",
    "mid": "mid_price",
    "last": "price",
}

PageMessage = tuple[dict[str, Any], list[bytes]]
"""A message for the page, and the numbers that go with it."""


class TimeBuckets:
    """Ticks of one contract reduced to time buckets, oldest first; old buckets are dropped.

    A bucket of one tick is that tick; a bucket of more has the last quote, and the last, lowest and
    highest price and the volume of the trades.

    Parameters
    ----------
    width_ns : int
        Width of a bucket, nanoseconds.
    capacity : int
        Least number of buckets that are stored; at most twice as many.

    Examples
    --------
    >>> import polars as pl
    >>> buckets = TimeBuckets(1_000_000_000, 100)
    >>> buckets.add(
    ...     pl.DataFrame(
    ...         {
    ...             "timestamp": pl.Series([1, 2, 1_500_000_000]).cast(pl.Datetime("ns", "UTC")),
    ...             "price": [10.0, 12.0, 11.0],
    ...             "size": [1.0, 2.0, 3.0],
    ...         }
    ...     )
    ... )
    0
    >>> buckets.since(0)["high"].tolist(), buckets.since(0)["volume"].tolist()
    ([12.0, 11.0], [3.0, 3.0])
    """

    def __init__(self, width_ns: int, capacity: int) -> None:
        self.width_ns: Final = width_ns
        self._capacity: Final = capacity
        self._rows: Floats = np.empty((len(COLUMNS), 2 * capacity))
        self._first = 0  # the number of the first stored row
        self._count = 0
        self._newest_ns = -1
        self._carried_values: dict[str, float] = dict.fromkeys(_CARRIED_COLUMNS, np.nan)

    @property
    def first(self) -> int:
        """Number of the oldest stored bucket; the first of all had 0."""
        return self._first

    @property
    def end(self) -> int:
        """Number that the next bucket will have."""
        return self._first + self._count

    def add(self, ticks: pl.DataFrame) -> int:
        """Add ticks of the contract, in their order.

        A tick that is earlier than the newest one is put into the newest bucket: a chart is only
        appended to.

        Returns
        -------
        int
            Number of the first bucket that is new or changed.
        """
        if not len(ticks):
            return self.end
        times = ticks["timestamp"].to_physical().to_numpy()
        times = np.maximum.accumulate(np.maximum(times, self._newest_ns))
        numbers = times // self.width_ns
        last = np.flatnonzero(np.append(numbers[1:] != numbers[:-1], True))
        start = np.append(0, last[:-1] + 1)
        rows = np.full((len(COLUMNS), len(last)), np.nan)
        rows[0] = times[last] / NANOSECONDS
        for number, name in enumerate(COLUMNS[1:5], 1):
            rows[number] = self._carry(name, _floats(ticks, _CARRIED_COLUMNS[name]), last)
        prices = _floats(ticks, "price")
        traded = np.isfinite(prices)
        # Only prices of this bucket: a price that was carried into it has not been traded in it.
        rows[4, np.add.reduceat(traded, start, dtype=np.int64) == 0] = np.nan
        rows[5] = np.fmin.reduceat(prices, start)
        rows[6] = np.fmax.reduceat(prices, start)
        sizes = np.where(traded, np.nan_to_num(_floats(ticks, "size")), 0)
        rows[7] = np.add.reduceat(sizes, start)
        changed = self.end
        if numbers[0] == self._newest_ns // self.width_ns:
            changed -= 1
            self._extend_newest(rows[:, 0])
            rows = rows[:, 1:]
        self._newest_ns = int(times[-1])
        self._append(rows)
        return max(changed, self._first)

    def since(self, number: int) -> Mapping[str, Floats]:
        """Return copies of the columns from the bucket of this number on."""
        place = max(number - self._first, 0)
        return dict(zip(COLUMNS, self._rows[:, place : self._count].copy(), strict=True))

    def _carry(self, name: str, values: Floats, last: npt.NDArray[np.int64]) -> Floats:
        """Return the last finite value at the end of each bucket."""
        finite = np.where(np.isfinite(values), np.arange(len(values)), -1)
        at = np.maximum.accumulate(finite)[last]
        carried = np.where(at >= 0, values[at], self._carried_values[name])
        self._carried_values[name] = float(carried[-1])
        return carried

    def _extend_newest(self, row: Floats) -> None:
        newest = self._rows[:, self._count - 1]
        newest[:4] = row[:4]
        newest[4] = newest[4] if np.isnan(row[4]) else row[4]
        newest[5] = np.fmin(newest[5], row[5])
        newest[6] = np.fmax(newest[6], row[6])
        newest[7] += row[7]

    def _append(self, rows: Floats) -> None:
        total = self._count + rows.shape[1]
        if total > self._rows.shape[1]:
            # Half of the room is freed at once, so that moving rows costs little in the long run.
            rows = np.hstack((self._rows[:, : self._count], rows))[:, -self._capacity :]
            self._first += total - rows.shape[1]
            self._count, total = 0, rows.shape[1]
        self._rows[:, self._count : total] = rows
        self._count = total


class Tape:
    """The last trades of one contract, each with the sign of its aggressor.

    A trade's sign is 1 where it was at the ask or above, -1 at the bid or below, else that of the
    last change of price (Lee and Ready, 1991, with quotes in their order of arrival).

    Parameters
    ----------
    capacity : int
        Number of trades that are stored.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity: Final = capacity
        self._rows: Floats = np.empty((0, 4))
        self._bid = self._ask = self._price = np.nan
        self._sign = 0.0

    @property
    def rows(self) -> Floats:
        """The trades, shape (trades, 4): seconds since 1970, price, size, sign."""
        return self._rows

    def add(self, ticks: pl.DataFrame) -> Floats:
        """Add ticks; return the new trades among them, at most as many as are stored."""
        prices = _floats(ticks, "price")
        bids = self._fill_forward(_floats(ticks, "bid_price"), self._bid)
        asks = self._fill_forward(_floats(ticks, "ask_price"), self._ask)
        if len(ticks):
            self._bid, self._ask = float(bids[-1]), float(asks[-1])
        at = np.flatnonzero(np.isfinite(prices))
        if not len(at):
            return self._rows[:0]
        paid = prices[at]
        steps = np.sign(np.diff(paid, prepend=self._price))
        steps[~(np.abs(steps) > 0)] = np.nan
        tick_test = self._fill_forward(steps, self._sign)
        signs = np.select([paid >= asks[at], paid <= bids[at]], [1.0, -1.0], tick_test)
        self._price, self._sign = float(paid[-1]), float(tick_test[-1])
        times = ticks["timestamp"].to_physical().to_numpy()[at] / NANOSECONDS
        trades = np.column_stack((times, paid, _floats(ticks, "size")[at], signs))
        trades = trades[-self._capacity :]
        self._rows = np.vstack((self._rows, trades))[-self._capacity :]
        return trades

    @staticmethod
    def _fill_forward(values: Floats, before: float) -> Floats:
        """Replace each NaN by the last value before it."""
        at = np.maximum.accumulate(np.where(np.isnan(values), -1, np.arange(len(values))))
        return np.where(at >= 0, values[at], before)


class ChartState:
    """The prices, the tape and the figures of one contract over a window of time.

    Parameters
    ----------
    window_seconds : float
        Seconds of ticks that the chart shows.
    """

    def __init__(self, window_seconds: float) -> None:
        # A bucket is narrower than a pixel, and no window needs one below a millisecond.
        width_ns = max(int(window_seconds * NANOSECONDS / _MAX_BUCKETS), _MIN_BUCKET_NS)
        self._buckets: Final = TimeBuckets(width_ns, _MAX_BUCKETS)
        self._tape: Final = Tape(_MAX_TRADES)
        self._ticks = 0
        self._figures: dict[str, float] = {}
        self._decimals = 0
        self._first_changed = 0
        self._new_trades: list[Floats] = []
        self._arrivals: deque[tuple[float, int]] = deque()

    def add(self, ticks: pl.DataFrame, now: float | None = None) -> None:
        """Add ticks of the contract, in their order.

        Parameters
        ----------
        ticks : polars.DataFrame
        now : float, optional
            Monotonic seconds at which the ticks came; only ticks with such a time count in the
            rate.
        """
        if not len(ticks):
            return
        self._first_changed = min(self._first_changed, self._buckets.add(ticks))
        self._new_trades.append(self._tape.add(ticks))
        self._ticks += len(ticks)
        if now is not None:
            self._arrivals.append((now, len(ticks)))
        self._figures["time"] = ticks["timestamp"][-1].timestamp()
        for name, column in _FIGURES.items():
            values = _floats(ticks, column)
            finite = np.flatnonzero(np.isfinite(values))
            if len(finite):
                self._figures[name] = float(values[finite[-1]])
                if not name.endswith("size"):
                    self._add_decimals(float(values[finite[-1]]))

    def snapshot(self, now: float) -> PageMessage:
        """Return the whole state as a message."""
        return self._message(self._buckets.first, [self._tape.rows], now)

    def changes(self, now: float) -> PageMessage:
        """Return what is new since the last message."""
        return self._message(self._first_changed, self._new_trades, now)

    def _message(self, first: int, trades: list[Floats], now: float) -> PageMessage:
        first = max(first, self._buckets.first)
        columns = _with_mid(self._buckets.since(first))
        figures = dict(self._figures)
        if {"bid", "ask"} <= figures.keys():
            figures.setdefault("mid", (figures["bid"] + figures["ask"]) / 2)
        tape = np.vstack([np.empty((0, 4)), *trades])[-_MAX_TRADES:]
        self._first_changed, self._new_trades = self._buckets.end, []
        message = {
            "first": first,
            "buckets": len(columns["time"]),
            "capacity": _MAX_BUCKETS,
            "facts": {
                **figures,
                "ticks": self._ticks,
                "rate": self._rate(now),
                "decimals": self._decimals,
            },
        }
        return message, [b"".join(columns[name].tobytes() for name in COLUMNS), tape.tobytes()]

    def _rate(self, now: float) -> float:
        while self._arrivals and self._arrivals[0][0] < now - _RATE_SECONDS:
            self._arrivals.popleft()
        return sum(count for _, count in self._arrivals) / _RATE_SECONDS

    def _add_decimals(self, price: float) -> None:
        """Show as many decimals as the prices have had."""
        while self._decimals < _MAX_DECIMALS and not math.isclose(
            price, round(price, self._decimals), rel_tol=1e-12
        ):
            self._decimals += 1


def _with_mid(columns: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """Fill in the mid of the quotes where IB sent no mid point."""
    mid = np.where(np.isnan(columns["mid"]), (columns["bid"] + columns["ask"]) / 2, columns["mid"])
    return {**columns, "mid": mid}


def _floats(ticks: pl.DataFrame, name: str) -> Floats:
    """Return a column as floats, NaN where a value or the column is missing."""
    if name not in ticks.columns:
        return np.full(len(ticks), np.nan)
    return ticks[name].to_numpy()
