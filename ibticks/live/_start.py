"""Where a buffer begins: a period, a session, or a time."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ibticks.calendar import market as find_market
from ibticks.calendar import resolve_period, to_ns
from ibticks.errors import TimeRangeError

if TYPE_CHECKING:
    from datetime import tzinfo

    from ibticks.calendar import TimeLike

__all__ = ["find_start"]

_DATE: Final = re.compile(r"\d{4}-?\d\d-?\d\d.*")


def find_start(
    buffer: TimeLike | timedelta, now_ns: int, *, market: str = "US", tz: str | tzinfo | None = None
) -> tuple[int, str]:
    """The first instant of a buffer, and how to say it.

    Parameters
    ----------
    buffer : str, timedelta or time
        Back from now, such as ``"1h"``, ``"2h30m"``, ``"last_15_minutes"``, ``"today"`` or
        ``"since_open"``; a session type of the market, such as ``"regular"`` (the one that runs, or
        ran last); or a time.
    now_ns : int
        UTC nanoseconds.
    market : str
    tz : str or tzinfo, optional
        Zone of times that do not say theirs, and of ``today``.

    Raises
    ------
    UnknownPeriodError
        Naming the periods there are.
    UnknownMarketError
        Naming the markets.
    NaiveDatetimeError
        For a time without a zone, where ``tz`` is not given.
    TimeRangeError
        For one that is still to come.

    Examples
    --------
    >>> find_start("1h", 10**18)
    (999996400000000000, 'the last 1h')
    >>> find_start("regular", 10**18)[1]
    'the regular session of US on 2001-09-07'
    >>> find_start("2001-09-09T01:00Z", 10**18)
    (999997200000000000, 'since 2001-09-09T01:00Z')
    """
    if isinstance(buffer, str) and not _DATE.fullmatch(buffer):
        known = find_market(market)
        if buffer in known.session_types:
            session = known.latest_session(now_ns, buffer)
            return session.start_ns, f"the {buffer} session of {market} on {session.date}"
    if isinstance(buffer, timedelta) or (isinstance(buffer, str) and not _DATE.fullmatch(buffer)):
        start_ns, _ = resolve_period(buffer, now_ns, market=market, tz=tz)
        named = isinstance(buffer, str) and "_" in buffer
        return start_ns, str(buffer) if named or buffer == "today" else f"the last {buffer}"
    start_ns = to_ns(buffer, tz=tz, name="buffer")
    if start_ns > now_ns:
        raise TimeRangeError(
            f"buffer={buffer} is still to come: give a time that is past, or a period such as '1h'",
            start_ns=start_ns,
        )
    return start_ns, f"since {buffer}"
