"""Trading hours of a contract as IB gives them.

A capture tells a closed market from a silent stream by them. They come with the contract details,
so that a capture loads no calendar, and no pandas.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ibticks._types import Interval, merge_intervals
from ibticks.config import NANOSECONDS

__all__ = ["TradingHours", "parse_trading_hours"]

_OPEN: Final = re.compile(r"(\d{8}):(\d{4})-(?:(\d{8}):)?(\d{4})")
_CLOSED: Final = re.compile(r"(\d{8}):CLOSED")
# IB still uses some names that are not in the time zone database.
_ZONES: Final = {
    "EST": "America/New_York",
    "EST5EDT": "America/New_York",
    "CST": "America/Chicago",
    "GMT": "Europe/London",
    "JST": "Asia/Tokyo",
    "MET": "Europe/Berlin",
}


@dataclass(frozen=True, slots=True)
class TradingHours:
    """Trading hours of a contract, as far as IB has given them.

    Attributes
    ----------
    intervals : tuple of Interval
        Open times, in order.
    known : Interval
        Days that the hours cover; nothing is known outside of it.
    """

    intervals: tuple[Interval, ...]
    known: Interval

    def is_open(self, now_ns: int) -> bool | None:
        """Return whether the contract trades at that time; None where it is not known."""
        if not self.known.contains(now_ns):
            return None
        return any(interval.contains(now_ns) for interval in self.intervals)

    def next_open(self, now_ns: int) -> int | None:
        """Return the next opening in UTC nanoseconds; None where IB's hours do not reach so far."""
        return min((start for start, _ in self.intervals if start > now_ns), default=None)


def parse_trading_hours(text: str, zone: str) -> TradingHours | None:
    """Parse ``tradingHours`` of contract details.

    Parameters
    ----------
    text : str
        ``20131008:0400-20131008:2000;20131009:CLOSED;...``; older servers leave the second date
        out.
    zone : str
        ``timeZoneId`` of the same details.

    Returns
    -------
    TradingHours or None
        None where the text is empty or cannot be parsed.

    Examples
    --------
    >>> hours = parse_trading_hours("20131008:0400-20131008:2000", "US/Eastern")
    >>> hours.is_open(1_381_239_000_000_000_000), hours.is_open(0)
    (True, None)
    """
    try:
        return _parse(text, ZoneInfo(_ZONES.get(zone.split(" ")[0], zone.split(" ")[0])))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None  # no zone, no day, or (older Pythons, for the name of a folder) no file


def _parse(text: str, zone: ZoneInfo) -> TradingHours | None:
    intervals: list[Interval] = []
    days: list[int] = []
    for entry in filter(None, re.split(r"[;,]", text)):
        closed = _CLOSED.fullmatch(entry.strip())
        if closed:
            days += [_to_ns(closed[1], "0000", zone), _to_ns(closed[1], "2359", zone)]
            continue
        match = _OPEN.fullmatch(entry.strip())
        if match is None:
            return None
        start = _to_ns(match[1], match[2], zone)
        end = _to_ns(match[3] or match[1], match[4], zone)
        if end <= start:
            return None
        intervals.append(Interval(start, end))
        days += [_to_ns(match[1], "0000", zone), _to_ns(match[3] or match[1], "2359", zone)]
        days += [start, end]
    if not days:
        return None
    return TradingHours(tuple(merge_intervals(intervals)), Interval(min(days), max(days)))


def _to_ns(day: str, minute: str, zone: ZoneInfo) -> int:
    local = datetime.strptime(f"{day}{minute}", "%Y%m%d%H%M").replace(tzinfo=zone)
    return int(local.timestamp()) * NANOSECONDS
