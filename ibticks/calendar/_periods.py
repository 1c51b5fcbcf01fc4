"""Relative periods: ``last_hour``, ``2h30m``, ``today``, ``since_open``, as ranges of instants.

A period always reaches to now, and now is in it: the range is half-open and ends one nanosecond
after, so that a tick stamped with this very instant counts.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from ibticks._types import Interval
from ibticks.calendar._times import close_matches, from_ns, start_of_day_ns
from ibticks.errors import InputError, UnknownPeriodError

if TYPE_CHECKING:
    from datetime import tzinfo

    from ibticks._types import SessionTypeLike
    from ibticks.calendar._markets import Market

__all__ = ["PERIODS", "format_duration", "parse_duration", "resolve_period"]

PERIODS: Final = (
    "last_minute",
    "last_5_minutes",
    "last_15_minutes",
    "last_30_minutes",
    "last_hour",
    "last_2_hours",
    "last_4_hours",
    "last_day",
    "last_week",
    "last_month",
    "today",
    "since_open",
)
"""The periods that have names; ``last_<n>_<units>`` and durations such as ``2h30m`` join them."""

_UNITS: Final = {
    "w": 604_800_000_000_000,
    "d": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
_WORDS: Final = {
    "second": _UNITS["s"],
    "minute": _UNITS["m"],
    "hour": _UNITS["h"],
    "day": _UNITS["d"],
    "week": _UNITS["w"],
    "month": 30 * _UNITS["d"],
}
_LAST: Final = re.compile(rf"last_(?:(\d{{1,9}})_)?({'|'.join(_WORDS)})s?")
_PART: Final = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)(ms|us|ns|min|[wdhms])")
_SUCH_AS: Final = "90s, 5m or 5min, 1h, 2h30m, 1d, 1w"
_LONGEST: Final = 36_525 * _UNITS["d"]


def parse_duration(text: str | timedelta) -> int:
    """A length of time, such as ``2h30m``, in nanoseconds.

    Parameters
    ----------
    text : str or timedelta
        Numbers with units, the longer unit first and each unit once: ``w`` weeks, ``d`` days (of
        24 hours), ``h`` hours, ``m`` or ``min`` minutes, ``s`` seconds, ``ms``, ``us``, ``ns``.
        Decimals are exact: ``1.5h``, ``0.25s``. Spaces between the parts do not matter.

    Returns
    -------
    int
        At least 1; at most a century.

    Raises
    ------
    UnknownPeriodError
        Not a duration, none at all, or one that is too long.

    Examples
    --------
    >>> parse_duration("2h30m") == parse_duration("2.5h") == 9_000_000_000_000
    True
    """
    if isinstance(text, timedelta):
        ns = (text.days * 86_400 + text.seconds) * _UNITS["s"] + text.microseconds * 1000
    else:
        parts = _sum_of_parts(text)
        if parts is None:
            raise UnknownPeriodError(
                f"{text!r} is no length of time, such as {_SUCH_AS}, or a timedelta",
                period=str(text),
            )
        ns = parts
    if not 0 < ns <= _LONGEST:
        raise UnknownPeriodError(
            f"duration {str(text)!r} is not between a nanosecond and a century", period=str(text)
        )
    return ns


def format_duration(ns: int) -> str:
    """The duration as :func:`parse_duration` reads it, in days and shorter units.

    Examples
    --------
    >>> format_duration(23_400_000_000_000)
    '6h30m'
    """
    if ns < 1:
        raise InputError(f"a duration of {ns} ns cannot be written; it must be positive")
    parts = []
    for unit, size in _UNITS.items():
        if unit != "w" and ns >= size:
            parts.append(f"{ns // size}{unit}")
            ns %= size
    return "".join(parts)


def resolve_period(
    period: str | timedelta,
    now_ns: int,
    *,
    market: Market | str | None = None,
    session_type: SessionTypeLike = "regular",
    tz: str | tzinfo | None = None,
) -> Interval:
    """The range of instants a period means.

    Parameters
    ----------
    period : str or timedelta
        One of :data:`PERIODS`; ``last_<n>_seconds``, ``minutes``, ``hours``, ``days``, ``weeks``
        or ``months``; or a duration as in :func:`parse_duration`. A day has 24 hours and a month
        30 days. ``today`` starts with the calendar day of ``tz``. ``since_open`` starts when the
        market's running session opened or, while it is closed, its latest one.
    now_ns : int
        UTC nanoseconds; see :func:`ibticks.calendar.now_ns`.
    market : Market or str, optional
        Needed for ``since_open``.
    session_type : str
        Which of the market's sessions ``since_open`` is about.
    tz : str or tzinfo, optional
        Zone of ``today``; UTC by default.

    Returns
    -------
    Interval
        Its ``end_ns`` is ``now_ns + 1``, so that a tick at exactly now is in the range.

    Raises
    ------
    UnknownPeriodError
        A period that cannot be read; the message lists the good ones.
    InputError
        ``since_open`` without a market.

    Examples
    --------
    >>> from ibticks.calendar import format_ns, to_ns
    >>> now = to_ns("2025-01-11T12:00:00Z")  # a Saturday
    >>> format_ns(resolve_period("last_15_minutes", now)[0])
    '2025-01-11T11:45:00Z'
    >>> format_ns(resolve_period("since_open", now, market="US")[0])
    '2025-01-10T14:30:00Z'
    """
    if period == "today":
        zone = "UTC" if tz is None else tz
        start = start_of_day_ns(from_ns(now_ns, zone).date(), zone)
    elif period == "since_open":
        start = _opening(now_ns, market, session_type)
    else:
        start = now_ns - _length(period)
    return Interval(start, now_ns + 1)


def _length(period: str | timedelta) -> int:
    if isinstance(period, str) and (match := _LAST.fullmatch(period)):
        ns = int(match[1] or 1) * _WORDS[match[2]]
        if 0 < ns <= _LONGEST:
            return ns
        raise UnknownPeriodError(
            f"period {period!r} is not between a second and a century", period=period
        )
    if not isinstance(period, timedelta) and _sum_of_parts(period) is None:
        raise UnknownPeriodError(
            f"period {period!r} is not known{close_matches(str(period), PERIODS) or '.'} Periods "
            f"are {', '.join(PERIODS)}, last_<n>_<seconds, minutes, hours, days, weeks or months>, "
            f"and durations such as {_SUCH_AS}",
            period=str(period),
        )
    return parse_duration(period)


def _opening(now_ns: int, market: Market | str | None, session_type: str) -> int:
    from ibticks.calendar._markets import market as find_market

    if market is None:
        raise InputError("period 'since_open' needs a market, as in market='US'")
    known = find_market(market) if isinstance(market, str) else market
    return known.latest_session(now_ns, session_type).start_ns


def _sum_of_parts(text: str) -> int | None:
    """Nanoseconds; None if the text is no sum of lengths of time."""
    total, place, shortest = Decimal(0), 0, -1
    order = list(_UNITS)
    plain = text.strip() if isinstance(text, str) else ""
    while place < len(plain):
        match = _PART.match(plain, place)
        unit = "" if match is None else match[2].removesuffix("in")
        if match is None or order.index(unit) <= shortest:
            break
        shortest = order.index(unit)
        total += Decimal(match[1]) * _UNITS[unit]
        place = match.end()
        while plain[place : place + 1] == " ":
            place += 1
    if not plain or place < len(plain) or total != int(total):
        return None
    return int(total)
