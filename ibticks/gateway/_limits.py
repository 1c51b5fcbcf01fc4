"""Limits of IB on its clients, switched on by tests."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

__all__ = ["Limits", "Pace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a gateway; None is no limit.

    Attributes
    ----------
    streams : int or None
        Tick-by-tick subscriptions at once, over all clients; one more is refused with code 10190.
        IB grants 5 with the standard market data lines.
    requests_per_second : int or None
        Requests a client may send within a second; each above is dropped with code 100. IB has 50.
    seconds_between : float or None
        Seconds between tick-by-tick requests for one contract; a sooner one is refused with code
        420. IB's documentation says 15.
    """

    streams: int | None = None
    requests_per_second: int | None = None
    seconds_between: float | None = None


class Pace:
    """Counts the requests of one client within the last second."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._times: deque[float] = deque()

    def allows(self) -> bool:
        """Return whether a request that comes now is within the limit."""
        if self._most is None:
            return True
        now = time.monotonic()
        while self._times and now - self._times[0] >= 1.0:
            self._times.popleft()
        self._times.append(now)
        return len(self._times) <= self._most
