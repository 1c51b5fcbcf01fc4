"""Requests of IB's history: pages that cover each second once, at the pace that IB allows.

Pages (Interactive Brokers, *TWS API: Historical Time and Sales Data*): a page begins with the first
tick of a second, never reaches into another trading session, and "to complete a full second, more
ticks may be returned than requested". So

- a page with more ticks than requested is complete to its last second, and so is one with fewer;
- a page with exactly as many may end within a second, which is requested again from its beginning.
  If the page has that second only, IB returns no more of it: that is logged, and the next second
  follows;
- an empty page says nothing of later sessions. The next request begins at the next quarter of an
  hour, since sessions begin at one.

Pace: Interactive Brokers, *TWS API: Historical Data Limitations* (identical requests, bursts, 60
requests in ten minutes, ``BID_ASK`` counted twice) and its limit of 50 messages a second.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from ibticks.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

__all__ = ["QUARTER_SECONDS", "Pace", "Pacing", "Timed", "iter_seconds"]

_log = logging.getLogger(__name__)

QUARTER_SECONDS: Final = 900
"""Sessions begin at multiples of so many seconds."""


class Timed(Protocol):
    """Protocol of ticks with a time in whole seconds."""

    @property
    def time(self) -> int:
        """UTC seconds."""


T = TypeVar("T", bound=Timed)


def iter_seconds(
    ask: Callable[[int, int], Sequence[T]],
    start: int,
    end: int,
    most: int,
    *,
    step: int = QUARTER_SECONDS,
) -> Iterator[tuple[int, list[T]]]:
    """Iterate over all ticks of the seconds in ``[start, end)``, in order.

    Parameters
    ----------
    ask : callable
        Takes a second and a number of ticks; returns the page that begins with the second.
    start, end : int
        UTC seconds.
    most : int
        Ticks to request at a time, a thousand at most.
    step : int
        After an empty page, the next request begins at a multiple of so many seconds.

    Yields
    ------
    until : int
        Every tick before this second has been yielded.
    ticks : list
        Ticks of complete seconds before it.

    Examples
    --------
    >>> from ibticks.history._ticks import HistoricalTick
    >>> history = [HistoricalTick(second, (180.5,)) for second in (1, 1, 2, 2, 2, 4)]
    >>> def ask(second, most):
    ...     return [tick for tick in history if tick.time >= second][:most]
    >>> [(until, len(ticks)) for until, ticks in iter_seconds(ask, 1, 5, 4)]
    [(2, 2), (4, 3), (5, 1)]
    """
    at = start
    while at < end:
        page = sorted(
            (tick for tick in ask(at, most) if tick.time >= at), key=lambda tick: tick.time
        )
        until = _complete_until(page, most) if page else at - at % step + step
        if len(page) == most and page[0].time == page[-1].time < end:
            _log.warning(
                "all %d ticks of a page are of %s UTC: IB returns no more ticks of that second",
                most,
                f"{datetime.fromtimestamp(page[0].time, UTC):%Y-%m-%d %H:%M:%S}",
            )
        until = min(until, end)
        yield until, [tick for tick in page if tick.time < until]
        at = until


def _complete_until(page: Sequence[Timed], most: int) -> int:
    """Return the second before which a page is complete."""
    last = page[-1].time
    may_be_cut = len(page) == most and page[0].time < last
    return last if may_be_cut else last + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """Limits of IB for requests of history.

    Attributes
    ----------
    requests, seconds : int, float
        Maximum number of requests within some seconds; requests of quotes count twice.
    burst, burst_seconds : int, float
        Maximum number for one contract and tick type within some seconds.
    identical_seconds : float
        Seconds between two requests of the same page.
    messages_per_second : int
        Maximum number of messages of any kind.

    Raises
    ------
    ConfigError
        If a limit allows no request.
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
    """Rate limiter of one client: the seconds to wait before each request.

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
        self._sent: deque[tuple[float, int]] = deque()
        self._by_page: dict[Hashable, float] = {}
        self._by_group: dict[Hashable, deque[float]] = {}
        self._last = -inf

    def message(self, now: float) -> float:
        """Return the seconds to wait before another message, which then counts as sent."""
        at = max(now, self._last + 1 / self._pacing.messages_per_second)
        self._last = at
        return at - now

    def wait(self, page: Hashable, group: Hashable, weight: int, now: float) -> float:
        """Return the seconds to wait before a request, which then counts as sent.

        Parameters
        ----------
        page : hashable
            Equal for identical requests.
        group : hashable
            Equal for a contract and tick type.
        weight : int
            Number of requests that it counts as.
        now : float
            Seconds of a monotonic clock.
        """
        pacing = self._pacing
        at = max(
            now,
            self._last + 1 / pacing.messages_per_second,
            self._by_page.get(page, -inf) + pacing.identical_seconds,
        )
        recent = self._by_group.setdefault(group, deque(maxlen=pacing.burst))
        if len(recent) == pacing.burst:
            at = max(at, recent[0] + pacing.burst_seconds)
        at = max(at, self._earliest(weight, at))
        self._sent.append((at, weight))
        recent.append(at)
        self._by_page = {
            key: when for key, when in self._by_page.items() if when + pacing.identical_seconds > at
        }
        self._by_page[page] = at
        self._last = at
        return at - now

    def _earliest(self, weight: int, at: float) -> float:
        """Return the time from which the limit of the last minutes allows another request."""
        pacing = self._pacing
        while self._sent and self._sent[0][0] + pacing.seconds <= at:
            self._sent.popleft()
        used = sum(value for _, value in self._sent)
        for when, value in self._sent:
            if used + weight <= pacing.requests:
                break
            at = max(at, when + pacing.seconds)
            used -= value
        return at
