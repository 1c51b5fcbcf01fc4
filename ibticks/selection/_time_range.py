"""Time ranges as users give them, and the intervals of UTC nanoseconds they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

from ibticks._types import Interval
from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.errors import InputError, TimeRangeError

if TYPE_CHECKING:
    from datetime import timedelta, tzinfo
    from typing import Unpack

    from ibticks._types import SessionTypeLike
    from ibticks.calendar import TimeLike

__all__ = ["DEFAULT_MARKET", "TimeRange", "TimeRangeOptions"]

DEFAULT_MARKET: Final = "US"


class TimeRangeOptions(TypedDict, total=False):
    """Values of a time range besides its period, described in :class:`TimeRange`."""

    start: TimeLike | None
    end: TimeLike | None
    tz: str | tzinfo | None
    session: SessionTypeLike | None
    date: TimeLike | None
    sessions: int | None
    market: str
    now: TimeLike | None


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A time range, given in one of four ways; all of time by default.

    Attributes
    ----------
    period : str or timedelta, optional
        Back from now, such as ``"last_hour"``, ``"2h30m"``, ``"today"`` or ``"since_open"``.
    start, end : optional
        Half-open range; anything :func:`ibticks.calendar.to_ns` reads. Without ``end``, to now.
    tz : str or tzinfo, optional
        Zone of naive times, and of ``today``.
    session : str, optional
        Session type; for ``sessions``, regular by default.
    date : optional
        Trading day of the session; by default the session that runs or ran last.
    sessions : int, optional
        Number of sessions that have ended, back from now.
    market : str
        ``US``, ``UK``, ``JP``, ``CME`` or the name of any calendar.
    now : optional
        Time that replaces the clock; ``"last_tick"`` is the last stored tick of the selection.

    Examples
    --------
    >>> intervals, label = TimeRange("1h").resolve(10**18)
    >>> [tuple(interval) for interval in intervals], label
    ([(999996400000000000, 1000000000000000001)], ', 1h')
    """

    period: str | timedelta | None = None
    start: TimeLike | None = None
    end: TimeLike | None = None
    tz: str | tzinfo | None = None
    session: SessionTypeLike | None = None
    date: TimeLike | None = None
    sessions: int | None = None
    market: str = DEFAULT_MARKET
    now: TimeLike | None = None

    @classmethod
    def of(
        cls, period: str | timedelta | TimeRange | None, **others: Unpack[TimeRangeOptions]
    ) -> TimeRange:
        """Return ``period`` if it is a time range, or else one of the values.

        Raises
        ------
        InputError
            If there are other values beside a time range.
        """
        if not isinstance(period, TimeRange):
            return cls(period, **others)
        defaults = cls()
        if any(value != getattr(defaults, name) for name, value in others.items()):
            raise InputError("a TimeRange is given, and other arguments of time: keep one of them")
        return period

    @property
    def counts_from_clock(self) -> bool:
        """Return whether the range is relative to the clock."""
        is_absolute = self.now is not None or self.start is not None or self.date is not None
        return not is_absolute and bool(self.period or self.session or self.sessions)

    def resolve(self, now_ns: int) -> tuple[tuple[Interval, ...], str]:
        """Return the intervals of the range, and its description.

        Parameters
        ----------
        now_ns : int
            UTC nanoseconds, for ranges relative to now.

        Returns
        -------
        intervals : tuple of Interval
            In order, without overlaps.
        label : str
            Suffix for the description of a selection; empty for all of time.

        Raises
        ------
        UnknownPeriodError, UnknownMarketError
            Listing the valid values.
        NoSessionError
            If the market had no such session that day; names the previous and the next one.
        NaiveDatetimeError
            For a time without a zone, where ``tz`` is not given.
        TimeRangeError
            If start is not before end.
        InputError
            If time is given in more than one way.
        """
        from ibticks.calendar import market as find_market
        from ibticks.calendar import resolve_period

        self._check()
        market, session = self.market, self.session or "regular"
        if self.period is not None:
            interval = resolve_period(self.period, now_ns, market=market, tz=self.tz)
            return (interval,), f", {self.period}"
        if self.start is not None or self.end is not None:
            first = "the first tick" if self.start is None else self.start
            last = "now" if self.end is None else self.end
            return (self._interval(now_ns),), f", from {first} to {last}"
        if self.sessions is not None:
            previous = find_market(market).previous_sessions(self.sessions, session, now_ns)
            intervals = tuple(Interval(value.start_ns, value.end_ns) for value in previous)
            return intervals, f", last {self.sessions} {session} sessions of {market}"
        if self.session is not None or self.date is not None:
            calendar = find_market(market)
            one = (
                calendar.latest_session(now_ns, session)
                if self.date is None
                else calendar.session(self.date, session)
            )
            interval = Interval(one.start_ns, one.end_ns)
            return (interval,), f", {session} session of {market} on {one.date}"
        return (Interval(TIME_MIN, TIME_MAX),), ""

    def _check(self) -> None:
        """Raise an InputError if time is given in more than one way."""
        ways = {
            "period": self.period is not None,
            "start and end": self.start is not None or self.end is not None,
            "session and date": self.date is not None
            or (self.session is not None and self.sessions is None),
            "sessions": self.sessions is not None,
        }
        used = [way for way, is_used in ways.items() if is_used]
        if len(used) > 1:
            raise InputError(f"time is given twice, by {' and by '.join(used)}: keep one of them")

    def _interval(self, now_ns: int) -> Interval:
        """Return the interval from start to end."""
        from ibticks.calendar import to_ns

        first = TIME_MIN if self.start is None else to_ns(self.start, tz=self.tz, name="start")
        # A tick stamped with this very instant counts.
        last = now_ns + 1 if self.end is None else to_ns(self.end, tz=self.tz, name="end")
        if first >= last:
            end = "now" if self.end is None else self.end
            raise TimeRangeError(
                f"start={self.start} is not before end={end}: a range is half-open, [start, end)",
                start_ns=first,
                end_ns=last,
            )
        return Interval(first, last)
