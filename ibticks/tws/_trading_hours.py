"""The trading hours IB itself gives for a contract.

A capture knows from them whether silence is to be expected. They come with the contract's details,
so that no calendar (and no pandas) has to be loaded for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TradingHours", "parse_trading_hours"]

_NANOSECONDS: Final = 1_000_000_000
_SPAN: Final = re.compile(r"(\d{8}):(\d{4})-(?:(\d{8}):)?(\d{4})")
_DAY: Final = re.compile(r"(\d{8}):CLOSED")
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
    """When a contract trades, as far as IB has said.

    Attributes
    ----------
    spans : tuple of (int, int)
        Half-open ranges of UTC nanoseconds, in order.
    known : tuple of (int, int)
        Outside of this range nothing is known.
    """

    spans: tuple[tuple[int, int], ...]
    known: tuple[int, int]

    def is_open(self, now_ns: int) -> bool | None:
        """Whether it trades at that time; None where IB has not said."""
        if not self.known[0] <= now_ns < self.known[1]:
            return None
        return any(start <= now_ns < end for start, end in self.spans)

    def next_open(self, now_ns: int) -> int | None:
        """Return the next opening in UTC nanoseconds; None where IB's hours do not reach so far."""
        return min((start for start, _ in self.spans if start > now_ns), default=None)


def parse_trading_hours(text: str, zone: str) -> TradingHours | None:
    """Read ``tradingHours`` of a contract's details.

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
        None where it says nothing, or in a way that cannot be read.

    Examples
    --------
    >>> hours = parse_trading_hours("20131008:0400-20131008:2000", "US/Eastern")
    >>> hours.is_open(1_381_239_000_000_000_000), hours.is_open(0)
    (True, None)
    """
    try:
        return _read(text, ZoneInfo(_ZONES.get(zone.split(" ")[0], zone.split(" ")[0])))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None  # no zone, no day, or (older Pythons, for the name of a folder) no file


def _read(text: str, place: ZoneInfo) -> TradingHours | None:
    spans: list[tuple[int, int]] = []
    days: list[int] = []
    for part in filter(None, re.split(r"[;,]", text)):
        closed = _DAY.fullmatch(part.strip())
        if closed:
            days += [_instant(closed[1], "0000", place), _instant(closed[1], "2359", place)]
            continue
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            return None
        start = _instant(match[1], match[2], place)
        end = _instant(match[3] or match[1], match[4], place)
        if end <= start:
            return None
        spans.append((start, end))
        days += [_instant(match[1], "0000", place), _instant(match[3] or match[1], "2359", place)]
        days += [start, end]
    if not days:
        return None
    return TradingHours(_joined(spans), (min(days), max(days)))


def _instant(day: str, minute: str, zone: ZoneInfo) -> int:
    local = datetime.strptime(f"{day}{minute}", "%Y%m%d%H%M").replace(tzinfo=zone)
    return int(local.timestamp()) * _NANOSECONDS


def _joined(spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)
