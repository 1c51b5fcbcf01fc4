"""Plan of a backfill: the gaps to fill, the pages to request, at the pace that IB allows."""

from __future__ import annotations

import logging
import time
import warnings
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from ibticks._html import html_table
from ibticks._types import Interval, StreamKey
from ibticks.config import NANOSECONDS, TIME_MAX, TIME_MIN
from ibticks.coverage import CoverageState, missing_intervals
from ibticks.errors import ConfigError, TimeRangeError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from datetime import timedelta, tzinfo

    from ibticks._types import SessionTypeLike
    from ibticks.calendar import Market, TimeLike
    from ibticks.coverage import CoverageInterval
    from ibticks.store import Store

__all__ = [
    "QUARTER_SECONDS",
    "BackfillResult",
    "BackfilledInterval",
    "Pace",
    "Pacing",
    "RemainingGap",
    "Timed",
    "iter_seconds",
    "plan_backfill",
    "whole_seconds",
]

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


def plan_backfill(
    store: Store,
    streams: Sequence[StreamKey],
    within: Interval,
    market: Market | str | None,
    session: SessionTypeLike,
    min_duration: str | timedelta | None,
) -> list[CoverageInterval]:
    """Return the gaps to fill, by stream and time.

    Parameters
    ----------
    store : Store
    streams : sequence of StreamKey
    within : Interval
    market, session, min_duration
        See :func:`ibticks.backfill`.

    Returns
    -------
    list of Stretch
        Without gaps that have not ended, and without deleted time.
    """
    from ibticks.coverage import query_coverage

    coverage = query_coverage(store.root, store.index, streams, [within])
    if market is not None:
        coverage = coverage.during(market, session)
    gaps: list[CoverageInterval] = []
    # Deleted ticks were deleted on purpose.
    for gap in coverage.merged_gaps(min_duration, exclude={CoverageState.DELETED}):
        known = store.index.coverage([gap.contract_id], [gap.tick_type], gap.start_ns, gap.end_ns)
        # A state that has not ended is left to the capture.
        for start_ns, end_ns in missing_intervals(known, gap.start_ns, gap.end_ns):
            gaps.append(replace(gap, start_ns=start_ns, end_ns=end_ns))
    return gaps


def whole_seconds(
    start: TimeLike | None, end: TimeLike | None, tz: str | tzinfo | None, *, to_now: bool = True
) -> Interval:
    """Return a time range in the whole seconds it touches; all of time by default.

    Parameters
    ----------
    start, end : optional
        From ``start`` without ``end``, to now.
    tz : str or tzinfo, optional
        Zone of naive times.
    to_now : bool
        Whether a range without an end ends now; otherwise it has no end.

    Returns
    -------
    Interval
        UTC nanoseconds.

    Raises
    ------
    TimeRangeError
        If start is not before end.

    Examples
    --------
    >>> tuple(whole_seconds("2025-01-10T14:30:00.5Z", "2025-01-10T14:30:01.5Z", None))
    (1736519400000000000, 1736519402000000000)
    """
    from ibticks.calendar import to_ns

    first, last = TIME_MIN, TIME_MAX
    if start is not None:
        first = to_ns(start, tz=tz, name="start") // NANOSECONDS * NANOSECONDS
    if end is not None or (start is not None and to_now):
        until = time.time_ns() if end is None else to_ns(end, tz=tz, name="end")
        last = -(-until // NANOSECONDS) * NANOSECONDS
    if first >= last:
        upto = "now" if end is None else f"end={end}"
        raise TimeRangeError(f"start={start} is not before {upto}", start_ns=first, end_ns=last)
    return Interval(first, last)


@dataclass(frozen=True, slots=True)
class BackfilledInterval:
    """An interval of a stream that was backfilled, and the number of its ticks.

    Attributes
    ----------
    contract_id : int
    tick_type : str
    start_ns, end_ns : int
        Half-open, UTC nanoseconds.
    ticks : int
        Number of ticks stored now; ticks that were stored before do not count.
    """

    contract_id: int
    tick_type: str
    start_ns: int
    end_ns: int
    ticks: int

    def is_followed_by(self, other: BackfilledInterval) -> bool:
        """Return whether another interval of the stream begins where this one ends."""
        stream = StreamKey(self.contract_id, self.tick_type)
        return (*stream, self.end_ns) == (other.contract_id, other.tick_type, other.start_ns)


@dataclass(frozen=True, slots=True)
class RemainingGap:
    """A gap, or the rest of one, that was not filled.

    Attributes
    ----------
    gap : CoverageInterval
    reason : str
    """

    gap: CoverageInterval
    reason: str

    @property
    def why(self) -> str:
        """Deprecated name of :attr:`reason`."""
        warnings.warn("why is called reason now", DeprecationWarning, stacklevel=2)
        return self.reason


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """Result of a backfill; printed, a report, and a table in a notebook.

    Attributes
    ----------
    gaps : tuple of Stretch
        The gaps to fill, by stream and time.
    filled : tuple of Filled
        Filled intervals with the numbers of ticks stored.
    remaining : tuple of Remaining
        Gaps that were not filled, with reasons.
    requests : int
        Number of requested pages.
    dry_run : bool
        Whether the gaps were only planned.
    """

    gaps: tuple[CoverageInterval, ...] = ()
    filled: tuple[BackfilledInterval, ...] = ()
    remaining: tuple[RemainingGap, ...] = ()
    requests: int = 0
    dry_run: bool = False

    @property
    def ticks(self) -> int:
        """Number of ticks stored."""
        return sum(value.ticks for value in self.filled)

    def as_json(self) -> dict[str, Any]:
        """Return the values as JSON types, times in ISO 8601."""
        from ibticks.calendar import format_ns

        return {
            "dry_run": self.dry_run,
            "ticks": self.ticks,
            "requests": self.requests,
            "gaps": [gap.as_json() for gap in self.gaps],
            "filled": [
                {
                    "contract_id": value.contract_id,
                    "tick_type": value.tick_type,
                    "start": format_ns(value.start_ns),
                    "end": format_ns(value.end_ns),
                    "ticks": value.ticks,
                }
                for value in self.filled
            ],
            "remaining": [{**value.gap.as_json(), "why": value.reason} for value in self.remaining],
        }

    def __str__(self) -> str:
        lines = (
            f"  {contract_id} {tick_type} {start} to {end} {state}{reason and f': {reason}'}"
            for contract_id, tick_type, start, end, state, reason in self._rows()
        )
        return "\n".join([self._summary(), *lines])

    def _repr_html_(self) -> str:
        columns = ("contract", "tick type", "start", "end", "state", "reason")
        return html_table(self._rows(), columns, caption=self._summary())

    def _summary(self) -> str:
        gaps = f"{len(self.gaps)} gap{'s' * (len(self.gaps) != 1)}"
        if self.dry_run:
            return f"{gaps} to fill"
        left = f", {len(self.remaining)} left" if self.remaining else ""
        return f"{gaps}, filled with {self.ticks:,} ticks in {self.requests:,} requests{left}"

    def _rows(self) -> list[tuple[str, ...]]:
        """Return the cells of the gaps: those to fill of a dry run, else those that remain."""
        from ibticks.calendar import format_ns

        gaps = (
            [(gap, gap.reason) for gap in self.gaps]
            if self.dry_run
            else [(remaining.gap, remaining.reason) for remaining in self.remaining]
        )
        return [
            (
                str(gap.contract_id),
                gap.tick_type,
                format_ns(gap.start_ns),
                format_ns(gap.end_ns),
                str(gap.state),
                reason,
            )
            for gap, reason in gaps
        ]
