"""Time: instants, periods, and the sessions of markets, all as UTC nanoseconds.

Pure functions of time. ``times`` and ``periods`` need nothing but the standard library and numpy;
pandas and pandas_market_calendars load when the sessions of a market are first asked for.

Examples
--------
>>> from ibticks.calendar import format_ns, market
>>> session = market("US").session("2024-11-29")
>>> session.early_close, format_ns(session.end_ns)
(True, '2024-11-29T18:00:00Z')
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    from ibticks.calendar._sessions import Session
    from ibticks.calendar._times import TimeLike, find_timezone, format_ns, now_ns, to_ns

__all__ = [
    "MARKETS",
    "PERIODS",
    "Market",
    "Session",
    "TimeLike",
    "current_session",
    "find_timezone",
    "format_duration",
    "format_ns",
    "is_market_open",
    "market",
    "next_session",
    "now_ns",
    "parse_duration",
    "previous_session",
    "resolve_period",
    "session_rows",
    "to_ns",
]

_HOMES = {
    "markets": (
        "MARKETS Market current_session is_market_open market next_session previous_session "
        "session_rows"
    ),
    "periods": "PERIODS format_duration parse_duration resolve_period",
    "sessions": "Session",
    "times": "TimeLike find_timezone format_ns now_ns to_ns",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
