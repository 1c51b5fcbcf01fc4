"""Markets: when they are open, today and on any day, holidays and early closes known.

>>> us = market("US")
>>> us.session("2024-11-28")
Traceback (most recent call last):
    ...
ibticks.errors.NoSessionError: US has no regular session on Thursday 2024-11-28; the previous one
is Wednesday 2024-11-27 (09:30–16:00 EST), the next one is Friday 2024-11-29 (09:30–13:00 EST)
>>> [str(session.date) for session in us.previous_sessions(3, now="2024-12-02T12:00:00Z")]
['2024-11-26', '2024-11-27', '2024-11-29']
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from ibticks.calendar._market import Market
from ibticks.calendar._times import close_matches
from ibticks.errors import InputError, TimeRangeError, UnknownMarketError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ibticks.calendar._sessions import Session
    from ibticks.calendar._times import TimeLike

__all__ = [
    "MARKETS",
    "Market",
    "SessionRow",
    "current_session",
    "is_market_open",
    "market",
    "next_session",
    "previous_session",
    "session_rows",
]

MARKETS: Final = ("US", "UK", "JP", "CME")
"""The markets with names of their own."""

SessionRow: TypeAlias = tuple[str, str, date, int, int, bool]
"""Market, session type, date, start and end in UTC nanoseconds, early close."""

# Calendars better had by another name: a market has more sessions and fewer mistakes, and HKEX
# lacks half days and typhoons that XHKG has, as EUREX opens on 24 and 31 December.
_SAME: Final = {
    **dict.fromkeys(("NYSE", "XNYS", "NASDAQ", "BATS", "STOCK", "DJIA", "DOW"), "US"),
    **dict.fromkeys(("LSE", "XLON"), "UK"),
    **dict.fromkeys(("JPX", "XJPX", "XTKS"), "JP"),
    **dict.fromkeys(("CME GLOBEX EQUITY", "CME_EQUITY", "CBOT_EQUITY"), "CME"),
    "HKEX": "XHKG",
    "EUREX": "XEUR",
}


def market(name: str) -> Market:
    """The market of that name; the same object every time.

    Parameters
    ----------
    name : str
        ``US`` (or ``NYSE``, ``NASDAQ``), ``UK`` (``LSE``), ``JP`` (``JPX``), ``CME``, or any
        calendar of pandas_market_calendars by its own name: ``XETR``, ``XHKG``, ``TSX``,
        ``24/7``, ... Case does not matter.

    Returns
    -------
    Market

    Raises
    ------
    UnknownMarketError
        No such market; the message has the nearest names.

    Examples
    --------
    >>> market("nyse") is market("US")
    True
    >>> market("XETRA")
    Traceback (most recent call last):
        ...
    ibticks.errors.UnknownMarketError: there is no market 'XETRA'; did you mean 'XETR'? ...
    """
    if not isinstance(name, str):
        raise InputError(f"a market is named by a string such as 'US', not {name!r}")
    upper = name.strip().upper()
    if upper in MARKETS:
        return _market(upper)
    return _market(_SAME.get(upper) or _calendar_name(name.strip()))


def is_market_open(
    market: Market | str = "US", now: TimeLike | None = None, session_type: str = "regular"
) -> bool:
    """Return whether a session of that type runs: :meth:`Market.is_open`.

    Examples
    --------
    >>> is_market_open("US", "2025-01-09T15:00:00Z")  # a national day of mourning
    False
    """
    return _known(market).is_open(now, session_type)


def current_session(market: Market | str = "US", now: TimeLike | None = None) -> Session | None:
    """The session that runs, or None: :meth:`Market.current_session`."""
    return _known(market).current_session(now)


def previous_session(
    market: Market | str = "US", now: TimeLike | None = None, session_type: str = "regular"
) -> Session:
    """The last session that has ended: :meth:`Market.previous_session`."""
    return _known(market).previous_session(now, session_type)


def next_session(
    market: Market | str = "US", now: TimeLike | None = None, session_type: str = "regular"
) -> Session:
    """The first session that has not started: :meth:`Market.next_session`."""
    return _known(market).next_session(now, session_type)


def session_rows(
    markets: Iterable[Market | str], start_date: date, end_date: date
) -> Iterator[SessionRow]:
    """Every session of the markets, as rows for a database.

    Parameters
    ----------
    markets : iterable of Market or str
        Such as :data:`MARKETS`.
    start_date, end_date : datetime.date
        Trading days, both included. Days a market is not known for give no rows; see
        :attr:`Market.first_date`.

    Yields
    ------
    tuple
        ``(market, session_type, date, start_ns, end_ns, early_close)``, by market, session type
        and date.

    Raises
    ------
    TimeRangeError
        ``start_date`` is after ``end_date``.

    Examples
    --------
    >>> next(session_rows(["UK"], date(2025, 1, 10), date(2025, 1, 10)))
    ('UK', 'regular', datetime.date(2025, 1, 10), 1736496000000000000, 1736526600000000000, False)
    """
    if start_date > end_date:
        raise TimeRangeError(f"start_date {start_date} is after end_date {end_date}")
    return _rows([_known(value) for value in markets], start_date, end_date)


def _rows(markets: list[Market], start_date: date, end_date: date) -> Iterator[SessionRow]:
    for value in markets:
        for session_type, table in value.tables.items():
            part = slice(table.place(start_date), table.place(end_date + timedelta(days=1)))
            for day, start_ns, end_ns, early in zip(
                table.days[part].tolist(),
                table.start_ns[part].tolist(),
                table.end_ns[part].tolist(),
                table.early[part].tolist(),
                strict=True,
            ):
                yield value.name, session_type, day, start_ns, end_ns, early


def _known(name: Market | str) -> Market:
    return name if isinstance(name, Market) else market(name)


@lru_cache(maxsize=256)
def _market(name: str) -> Market:
    return Market(name)


def _calendar_name(name: str) -> str:
    from ibticks.calendar._schedules import calendar_names

    known = calendar_names()
    for value in known:
        if value.upper() == name.upper():
            return value
    raise UnknownMarketError(
        f"there is no market {name!r}{close_matches(name, (*MARKETS, *known)) or '.'} Markets are "
        f"{', '.join(MARKETS)}, and any calendar of pandas_market_calendars by its name, such as "
        "XETR, XHKG or TSX",
        market=name,
    )
