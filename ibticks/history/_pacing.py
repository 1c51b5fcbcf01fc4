"""How often IB may be asked for history, and waiting for it.

Sources: Interactive Brokers, *TWS API: Historical Data Limitations* (identical requests, bursts, 60
requests in ten minutes, ``BID_ASK`` counted twice) and its limit of 50 messages a second.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from ibticks.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Pace", "Pacing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """IB's limits, as they are asked to be kept.

    Attributes
    ----------
    requests, seconds : int, float
        At most so many requests within so many seconds; those for quotes count twice.
    burst, burst_seconds : int, float
        At most so many for one contract and tick type within so many seconds.
    identical_seconds : float
        Between two requests for the same page.
    messages_per_second : int
        Of any kind.

    Raises
    ------
    ConfigError
        If one of them lets nothing through.
    """

    requests: int = 60
    seconds: float = 600.0
    burst: int = 5
    burst_seconds: float = 2.0
    identical_seconds: float = 15.0
    messages_per_second: int = 45

    def __post_init__(self) -> None:
        for name, least in (("requests", 2), ("burst", 1), ("messages_per_second", 1)):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"{name}={value!r}: give {least} or more")
        for name in ("seconds", "burst_seconds", "identical_seconds"):
            value = getattr(self, name)
            if not 0 <= value < inf:
                raise ConfigError(f"{name}={value!r}: give seconds, 0 or more")


class Pace:
    """Says how long to wait before each request; one client's, on one clock.

    Parameters
    ----------
    pacing : Pacing

    Examples
    --------
    >>> pace = Pace(Pacing(requests=2, seconds=600.0))
    >>> [pace.wait(page, "IBM TRADES", 1, now) for page, now in (("a", 0.0), ("b", 1.0))]
    [0.0, 0.0]
    >>> pace.wait("c", "IBM TRADES", 1, 2.0)
    598.0
    """

    def __init__(self, pacing: Pacing) -> None:
        self._pacing = pacing
        self._asked: deque[tuple[float, int]] = deque()
        self._same: dict[Hashable, float] = {}
        self._of_group: dict[Hashable, deque[float]] = {}
        self._last = -inf

    def message(self, now: float) -> float:
        """Seconds to wait before a message that is no request for history; it counts as sent."""
        at = max(now, self._last + 1 / self._pacing.messages_per_second)
        self._last = at
        return at - now

    def wait(self, page: Hashable, group: Hashable, weight: int, now: float) -> float:
        """Seconds to wait before a request, which then counts as sent.

        Parameters
        ----------
        page : hashable
            The same for identical requests.
        group : hashable
            The same for a contract and tick type.
        weight : int
            How often it counts.
        now : float
            Seconds of a steady clock.
        """
        pacing = self._pacing
        at = max(
            now,
            self._last + 1 / pacing.messages_per_second,
            self._same.get(page, -inf) + pacing.identical_seconds,
        )
        recent = self._of_group.setdefault(group, deque(maxlen=pacing.burst))
        if len(recent) == pacing.burst:
            at = max(at, recent[0] + pacing.burst_seconds)
        at = max(at, self._room(weight, at))
        self._asked.append((at, weight))
        recent.append(at)
        self._same = {
            key: when for key, when in self._same.items() if when + pacing.identical_seconds > at
        }
        self._same[page] = at
        self._last = at
        return at - now

    def _room(self, weight: int, at: float) -> float:
        """When there is room for one more among the requests of the last minutes."""
        pacing = self._pacing
        while self._asked and self._asked[0][0] + pacing.seconds <= at:
            self._asked.popleft()
        taken = sum(each for _, each in self._asked)
        for when, each in self._asked:
            if taken + weight <= pacing.requests:
                break
            at = max(at, when + pacing.seconds)
            taken -= each
        return at
