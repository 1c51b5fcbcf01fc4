"""Time as a user gives it to ``select``, as stretches of UTC nanoseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks.calendar import market as find_market
from ibticks.calendar import resolve_period, to_ns
from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.errors import InputError, TimeRangeError

if TYPE_CHECKING:
    from datetime import timedelta, tzinfo

    from ibticks.calendar import TimeLike
    from ibticks.selection._selection import Interval

__all__ = ["find_spans"]


def find_spans(
    now_ns: int,
    *,
    period: str | timedelta | None = None,
    start: TimeLike | None = None,
    end: TimeLike | None = None,
    tz: str | tzinfo | None = None,
    session: str | None = None,
    date: TimeLike | None = None,
    sessions: int | None = None,
    market: str = "US",
) -> tuple[tuple[Interval, ...], str]:
    """The stretches of time that are meant, and how to say them.

    Parameters
    ----------
    now_ns : int
        UTC nanoseconds, for what is relative to now.

    Other parameters and the errors are those of :meth:`ibticks.Store.select`.

    Returns
    -------
    intervals : tuple of (int, int)
        Half-open, UTC nanoseconds; in order, none overlapping another.
    words : str
        To be added to what is selected; empty for all of time.

    Examples
    --------
    >>> find_spans(10**18, period="1h")
    (((999996400000000000, 1000000000000000001),), ', 1h')
    """
    ways = {
        "period": period is not None,
        "start and end": start is not None or end is not None,
        "session and date": date is not None or (session is not None and sessions is None),
        "sessions": sessions is not None,
    }
    given = [way for way, used in ways.items() if used]
    if len(given) > 1:
        raise InputError(f"time is given twice, by {' and by '.join(given)}: keep one of them")
    if period is not None:
        return (resolve_period(period, now_ns, market=market, tz=tz),), f", {period}"
    if start is not None or end is not None:
        first = TIME_MIN if start is None else to_ns(start, tz=tz, name="start")
        # A tick stamped with this very instant counts.
        last = now_ns + 1 if end is None else to_ns(end, tz=tz, name="end")
        if first >= last:
            raise TimeRangeError(
                f"start={start} is not before end={'now' if end is None else end}: a range is "
                "half-open, [start, end)",
                start_ns=first,
                end_ns=last,
            )
        from_words = "the first tick" if start is None else start
        return ((first, last),), f", from {from_words} to {'now' if end is None else end}"
    if sessions is not None:
        kind = session or "regular"
        found = find_market(market).previous_sessions(sessions, kind, now_ns)
        intervals = tuple((each.start_ns, each.end_ns) for each in found)
        return intervals, f", last {sessions} {kind} sessions of {market}"
    if session is not None or date is not None:
        known, kind = find_market(market), session or "regular"
        one = known.latest_session(now_ns, kind) if date is None else known.session(date, kind)
        return ((one.start_ns, one.end_ns),), f", {kind} session of {market} on {one.date}"
    return ((TIME_MIN, TIME_MAX),), ""
