"""Pages of past ticks, as ``reqHistoricalTicks`` gives them.

A page counts in whole seconds: it starts at the first tick of a second, or ends with the last one
of a second, and since a second is never cut, it may hold more ticks than were asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from ibticks.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from ibticks.gateway._ticks import TickStream

__all__ = ["MOST_TICKS", "WHAT", "ib_seconds", "in_hours", "page", "past"]

MOST_TICKS: Final = 1000
"""Ticks a page holds at most, but for those that share a second."""

WHAT: Final = {"TRADES": ("all_last", "last"), "BID_ASK": ("bid_ask",), "MIDPOINT": ("mid_point",)}
"""Tick types a request for these data is served from, in this order."""


def ib_seconds(text: str, zone: tzinfo) -> int:
    """A time in IB's notation, as UTC seconds.

    Parameters
    ----------
    text : str
        ``20131008 09:30:00 US/Eastern``, ``20131008-13:30:00`` (UTC), or ``20131008 09:30:00``,
        which is meant in ``zone``.
    zone : tzinfo

    Raises
    ------
    InputError
        If it is not such a time.

    Examples
    --------
    >>> ib_seconds("20131008 09:30:00 US/Eastern", UTC) == ib_seconds("20131008-13:30:00", UTC)
    True
    """
    day, _, rest = text.strip().partition("-" if "-" in text[:9] else " ")
    clock, _, name = rest.strip().partition(" ")
    try:
        names = zone if not name else ZoneInfo(name.strip())
        moment = datetime.strptime(f"{day} {clock}", "%Y%m%d %H:%M:%S")
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise InputError(
            f"{text!r} is not a time as IB writes it: yyyymmdd hh:mm:ss zone, or "
            "yyyymmdd-hh:mm:ss in UTC",
            text=text,
        ) from error
    return int(moment.replace(tzinfo=UTC if "-" in text[:9] else names).timestamp())


def page(
    stream: TickStream, *, start: int | None, end: int | None, count: int
) -> npt.NDArray[np.intp]:
    """Rows of a page, in the order of their seconds.

    Parameters
    ----------
    stream : TickStream
    start : int or None
        UTC seconds; the page begins with the first tick of this second, or of a later one.
    end : int or None
        UTC seconds; without a start, the page ends with the last tick before this second.
    count : int
        Ticks asked for; the second in which they are reached is given whole.
    """
    order = np.argsort(stream.seconds, kind="stable")
    seconds = stream.seconds[order]
    if start is not None:
        first = int(np.searchsorted(seconds, start))
        stop = len(seconds) if end is None else int(np.searchsorted(seconds, end))
        last = min(first + count, stop)
        if first < last:
            last = int(np.searchsorted(seconds, seconds[last - 1], "right"))
        return order[first : max(first, last)]
    last = len(seconds) if end is None else int(np.searchsorted(seconds, end))
    first = max(last - count, 0)
    if first < last:
        first = int(np.searchsorted(seconds, seconds[first]))
    return order[first:last]


def in_hours(stream: TickStream, hours: str, zone: str) -> TickStream:
    """The ticks in the hours of a contract, all of them if it does not say its hours.

    Parameters
    ----------
    stream : TickStream
    hours : str
        As IB writes them: ``20131008:0930-20131008:1600;20131009:CLOSED``.
    zone : str
        Their time zone.
    """
    if not hours:
        return stream
    place = ZoneInfo(zone)
    inside = np.zeros(stream.rows, dtype=np.bool_)
    for span in hours.split(";"):
        opens, _, closes = span.partition("-")
        if closes:
            start, end = (
                datetime.strptime(text, "%Y%m%d:%H%M").replace(tzinfo=place).timestamp()
                for text in (opens, closes)
            )
            inside |= (stream.seconds >= start) & (stream.seconds < end)
    return stream.take(np.flatnonzero(inside))


def past(progress_next: int, count: int) -> npt.NDArray[np.intp]:
    """Rows of the so many ticks before a row."""
    return np.arange(max(progress_next - count, 0), progress_next, dtype=np.intp)
