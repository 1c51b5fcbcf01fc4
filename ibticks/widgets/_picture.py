"""What a live view shows of one contract, and what of it is new since it was last told."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.widgets._moments import COLUMNS, Moments, floats
from ibticks.widgets._tape import Tape

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]

__all__ = ["Picture", "Told"]

_MOMENTS: Final = 2000
_TRADES: Final = 200
_RATE_SECONDS: Final = 5.0
_DECIMALS: Final = range(9)
_FACTS: Final = {
    "bid": "bid_price",
    "ask": "ask_price",
    "bid_size": "bid_size",
    "ask_size": "ask_size",
    "mid": "mid_price",
    "last": "price",
}

Told = tuple[dict[str, Any], list[bytes]]
"""A message for the page, and the numbers that go with it."""


class Picture:
    """The prices, the tape and the figures of one contract over a window of time.

    Parameters
    ----------
    window : float
        Seconds of ticks that are shown.
    """

    def __init__(self, window: float) -> None:
        # One moment is narrower than a pixel, and no window needs one below a millisecond.
        self._moments: Final = Moments(max(int(window * 1e9 / _MOMENTS), 1_000_000), _MOMENTS)
        self._tape: Final = Tape(_TRADES)
        self._ticks = 0
        self._facts: dict[str, float] = {}
        self._decimals = 0
        self._changed = 0
        self._new: list[Floats] = []
        self._arrivals: deque[tuple[float, int]] = deque()

    def add(self, ticks: pl.DataFrame, now: float | None = None) -> None:
        """Take in ticks of the contract, in their order.

        `now` is the monotonic time in seconds of those that have just come, which alone count in
        the rate.
        """
        if not len(ticks):
            return
        self._changed = min(self._changed, self._moments.add(ticks))
        self._new.append(self._tape.add(ticks))
        self._ticks += len(ticks)
        if now is not None:
            self._arrivals.append((now, len(ticks)))
        self._facts["time"] = ticks["timestamp"][-1].timestamp()
        for name, column in _FACTS.items():
            values = floats(ticks, column)
            known = np.flatnonzero(np.isfinite(values))
            if len(known):
                self._facts[name] = float(values[known[-1]])
                if not name.endswith("size"):
                    self._see(float(values[known[-1]]))

    def whole(self, now: float) -> Told:
        """All of it."""
        return self._tell(self._moments.first, [self._tape.rows], now)

    def news(self, now: float) -> Told:
        """What is new since it was last told."""
        return self._tell(self._changed, self._new, now)

    def _tell(self, first: int, trades: list[Floats], now: float) -> Told:
        first = max(first, self._moments.first)
        columns = _with_mid(self._moments.since(first))
        facts = dict(self._facts)
        if {"bid", "ask"} <= facts.keys():
            facts.setdefault("mid", (facts["bid"] + facts["ask"]) / 2)
        tape = np.vstack([np.empty((0, 4)), *trades])[-_TRADES:]
        self._changed, self._new = self._moments.end, []
        message = {
            "first": first,
            "moments": len(columns["time"]),
            "most": _MOMENTS,
            "facts": {
                **facts,
                "ticks": self._ticks,
                "rate": self._rate(now),
                "decimals": self._decimals,
            },
        }
        return message, [_bytes(columns), tape.tobytes()]

    def _rate(self, now: float) -> float:
        while self._arrivals and self._arrivals[0][0] < now - _RATE_SECONDS:
            self._arrivals.popleft()
        return sum(count for _, count in self._arrivals) / _RATE_SECONDS

    def _see(self, price: float) -> None:
        """As many decimals are shown as the prices have had."""
        while self._decimals < _DECIMALS[-1] and not math.isclose(
            price, round(price, self._decimals), rel_tol=1e-12
        ):
            self._decimals += 1


def _with_mid(columns: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """The mid of the quotes, where there are no mid points of IB's own."""
    mid = np.where(np.isnan(columns["mid"]), (columns["bid"] + columns["ask"]) / 2, columns["mid"])
    return {**columns, "mid": mid}


def _bytes(columns: Mapping[str, Floats]) -> bytes:
    return b"".join(columns[name].tobytes() for name in COLUMNS)
