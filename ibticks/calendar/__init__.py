"""Time: instants, periods, and the sessions of markets, all as UTC nanoseconds.

Pure functions of time. ``times`` and ``periods`` need nothing but the standard library and numpy;
pandas and pandas_market_calendars load when the sessions of a market are first asked for, and for
``US``, ``UK``, ``JP`` and ``CME`` only in the first process of an installation that asks.

Examples
--------
>>> from ibticks.calendar import format_ns, market
>>> session = market("US").session("2024-11-29")
>>> session.early_close, format_ns(session.end_ns)
(True, '2024-11-29T18:00:00Z')
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.calendar._markets import (
        MARKETS,
        Market,
        current_session,
        is_market_open,
        market,
        next_session,
        previous_session,
        session_rows,
    )
    from ibticks.calendar._periods import PERIODS, format_duration, parse_duration, resolve_period
    from ibticks.calendar._sessions import Session, SessionTable
    from ibticks.calendar._times import (
        TimeLike,
        find_timezone,
        fixed_offset,
        format_ns,
        from_ns,
        now_ns,
        refuse_local_mean_time,
        to_ns,
    )

__all__ = [
    "MARKETS",
    "PERIODS",
    "Market",
    "Session",
    "SessionTable",
    "TimeLike",
    "current_session",
    "find_timezone",
    "fixed_offset",
    "format_duration",
    "format_ns",
    "from_ns",
    "is_market_open",
    "market",
    "next_session",
    "now_ns",
    "parse_duration",
    "previous_session",
    "refuse_local_mean_time",
    "resolve_period",
    "session_rows",
    "to_ns",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
