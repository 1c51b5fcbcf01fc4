"""Markets: their sessions, holidays and early closes, and the questions that sessions answer."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ibticks.calendar._sessions import Hours, Session, SessionTable
from ibticks.calendar._times import (
    TimeLike,
    close_matches,
    find_timezone,
    format_ns,
    from_ns,
    now_ns,
    to_ns,
)
from ibticks.errors import InputError, NoSessionError, TimeRangeError, UnknownMarketError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import tzinfo

    from ibticks._types import SessionTypeLike

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

_TITLES: Final = {
    "US": "US shares (NYSE, Nasdaq)",
    "UK": "London Stock Exchange",
    "JP": "Tokyo Stock Exchange",
    "CME": "CME Globex, equity index futures",
}


class Market:
    """A market and its sessions; from :func:`ibticks.calendar.market`.

    ``now`` is everywhere an aware datetime, an ISO 8601 string with an offset, or UTC
    nanoseconds, and the present by default. A session runs from its start up to, not including,
    its end.
    """

    __slots__ = ("name",)

    name: str
    """``US``, ``UK``, ``JP``, ``CME``, or the calendar's name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:

        return market, (self.name,)

    @property
    def title(self) -> str:
        """Description of the market."""
        return _TITLES.get(self.name, f"{self.name} (pandas_market_calendars)")

    @property
    def timezone(self) -> str:
        """Name of its time zone."""
        return self._hours.timezone

    @property
    def tz(self) -> tzinfo:
        """Its time zone."""
        return find_timezone(self._hours.timezone)

    @property
    def session_types(self) -> tuple[str, ...]:
        """The names of its sessions.

        What each means, since when and by whose word: ``us_hours``,
        ``uk_hours``, ``jp_hours``,
        ``cme_hours`` and, for the calendars of
        pandas_market_calendars, ``listed_hours``.
        """
        return tuple(self.tables)

    @property
    def first_date(self) -> date:
        """The earliest day it is known for."""
        return self._hours.first

    @property
    def last_date(self) -> date:
        """The latest day it is known for; holidays not announced yet follow today's rules."""
        return self._hours.last

    @property
    def tables(self) -> Mapping[str, SessionTable]:
        """All its sessions as arrays, by session type."""
        return self._hours.tables

    def session(self, date: TimeLike, session_type: SessionTypeLike = "regular") -> Session:
        """The session of a trading day.

        Parameters
        ----------
        date : datetime.date or str
            The day. An aware datetime, or nanoseconds, count as the day it is in the market's
            zone; of a naive datetime the time of day does not matter.
        session_type : str

        Returns
        -------
        Session

        Raises
        ------
        NoSessionError
            A weekend or holiday; the message names the previous and the next session, which
            ``context`` holds as ``previous`` and ``next``.
        TimeRangeError
            A day the market is not known for.
        UnknownMarketError
            Not one of its session types.

        Examples
        --------
        >>> from ibticks.calendar import market
        >>> market("JP").session("2024-11-05", "afternoon")
        <Session JP afternoon 2024-11-05 12:30–15:30 JST>
        """
        table, day = self._table(session_type), self._day(date, "date")
        index = table.place(day)
        if index < len(table) and table.days[index].item() == day:
            return self._session(session_type, index)
        before = self._session(session_type, index - 1) if index else None
        after = self._session(session_type, index) if index < len(table) else None
        near = {"previous": before, "next": after}
        hint = ", ".join(
            f"the {which} one is {_on(value)}" for which, value in near.items() if value
        )
        raise NoSessionError(
            f"{self.name} has no {session_type} session on {day:%A} {day}; {hint}",
            market=self.name,
            session_type=session_type,
            previous=before,
            next=after,
        )

    def sessions(
        self, start_date: TimeLike, end_date: TimeLike, session_type: SessionTypeLike = "regular"
    ) -> list[Session]:
        """The sessions of the days from one to another, both included; in order.

        Raises
        ------
        TimeRangeError
            The first day is after the last, or one of them is not known.
        UnknownMarketError
            Not one of its session types.

        Examples
        --------
        >>> from ibticks.calendar import market
        >>> len(market("US").sessions("2025-01-01", "2025-01-31"))  # two holidays and mourning
        20
        """
        table = self._table(session_type)
        first, last = self._day(start_date, "start_date"), self._day(end_date, "end_date")
        if first > last:
            raise TimeRangeError(f"start_date {first} is after end_date {last}")
        stop = table.place(last + timedelta(days=1))
        return [self._session(session_type, index) for index in range(table.place(first), stop)]

    def is_open(
        self, now: TimeLike | None = None, session_type: SessionTypeLike = "regular"
    ) -> bool:
        """Return whether a session of that type runs; a lunch break in it counts as closed.

        Examples
        --------
        >>> from ibticks.calendar import market
        >>> market("JP").is_open("2025-01-10T12:00:00+09:00")
        False
        """
        return self._table(session_type).is_open(self._now(now))

    def current_session(self, now: TimeLike | None = None) -> Session | None:
        """The session that runs, or None while the market is closed.

        Where several run, it is the shortest: ``regular`` rather than ``extended``, ``morning``
        rather than ``regular``.

        Examples
        --------
        >>> from ibticks.calendar import market
        >>> market("US").current_session("2024-11-29T18:30:00Z")
        <Session US after_hours 2024-11-29 13:00–17:00 EST, early close>
        """
        ns = self._now(now)
        running = [
            self._session(session_type, table.started(ns) - 1)
            for session_type, table in self.tables.items()
            if table.is_open(ns)
        ]
        return min(running, key=lambda session: session.duration, default=None)

    def latest_session(
        self, now: TimeLike | None = None, session_type: SessionTypeLike = "regular"
    ) -> Session:
        """The session that opened last: the one that runs, or else the previous one.

        Raises
        ------
        NoSessionError
            None has opened yet in the time the market is known for.
        """
        ns = self._now(now)
        return self._nth(session_type, self._table(session_type).started(ns) - 1, ns)

    def previous_session(
        self, now: TimeLike | None = None, session_type: SessionTypeLike = "regular"
    ) -> Session:
        """The last session that has ended; one that still runs is not previous.

        Raises
        ------
        NoSessionError
            None has ended yet in the time the market is known for.

        Examples
        --------
        >>> from ibticks.calendar import market
        >>> market("UK").previous_session("2025-04-22T06:00:00Z")  # after Easter
        <Session UK regular 2025-04-17 08:00–16:30 BST>
        """
        ns = self._now(now)
        return self._nth(session_type, self._table(session_type).ended(ns) - 1, ns)

    def next_session(
        self, now: TimeLike | None = None, session_type: SessionTypeLike = "regular"
    ) -> Session:
        """The first session that has not started.

        Raises
        ------
        NoSessionError
            None starts any more in the time the market is known for.

        Examples
        --------
        >>> from ibticks.calendar import market
        >>> market("CME").next_session("2025-04-17T21:00:00Z", "globex")  # Easter
        <Session CME globex 2025-04-21 Sun 17:00–16:00 CDT>
        """
        ns = self._now(now)
        return self._nth(session_type, self._table(session_type).started(ns), ns)

    def previous_sessions(
        self, n: int, session_type: SessionTypeLike = "regular", now: TimeLike | None = None
    ) -> list[Session]:
        """The last ``n`` sessions that have ended, the oldest first.

        Weekends and holidays have no session and are not counted; neither is a session that
        still runs.

        Raises
        ------
        InputError
            ``n`` below 1, or no int.
        NoSessionError
            Fewer are known.
        """
        if not isinstance(n, int) or n < 1:
            raise InputError(f"{n!r} sessions cannot be had: ask for one or more, as an int")
        ns = self._now(now)
        ended = self._table(session_type).ended(ns)
        self._nth(session_type, ended - n, ns)
        return [self._session(session_type, index) for index in range(ended - n, ended)]

    def __repr__(self) -> str:
        return f"<Market {self.name}: {self.title}, {self.timezone}>"

    def _repr_html_(self) -> str:
        ns = now_ns()
        rows = []
        for session_type, table in self.tables.items():
            index = table.started(ns) - 1
            if index >= 0 and ns < table.end_ns[index]:
                state = "open" if table.is_open(ns) else "break"
            else:
                state, index = "next", index + 1
            cells = [session_type, state, "not known", ""]
            if index < len(table):
                shown = self._session(session_type, index)
                cells[2:] = _on(shown), format_ns(shown.start_ns)
            rows.append("".join(f"<td style='text-align:left'>{escape(c)}</td>" for c in cells))
        head = "".join(
            f"<th>{value}</th>" for value in ("session", "", self.timezone, "start, UTC")
        )
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        title = escape(f"{self.name}: {self.title}")
        return f"<table><caption>{title}</caption><tr>{head}</tr>{body}</table>"

    @property
    def _hours(self) -> Hours:
        from ibticks.calendar._cached_hours import find_hours

        return find_hours(self.name)

    def _table(self, session_type: str) -> SessionTable:
        tables = self.tables
        if session_type not in tables:
            raise UnknownMarketError(
                f"{self.name} has no session type {session_type!r}"
                f"{close_matches(str(session_type), tables) or '.'} It has {', '.join(tables)}",
                market=self.name,
                session_type=session_type,
            )
        return tables[session_type]

    def _session(self, session_type: str, index: int) -> Session:
        table = self._table(session_type)
        return Session(
            market=self.name,
            session_type=session_type,
            date=table.days[index].item(),
            start_ns=int(table.start_ns[index]),
            end_ns=int(table.end_ns[index]),
            early_close=bool(table.early[index]),
            breaks=table.breaks(index),
            timezone=self.timezone,
        )

    def _nth(self, session_type: str, index: int, ns: int) -> Session:
        if not 0 <= index < len(self._table(session_type)):
            raise NoSessionError(
                f"no such {session_type} session of {self.name} at {format_ns(ns)}: its sessions "
                f"are known from {self.first_date} to {self.last_date}",
                market=self.name,
                session_type=session_type,
            )
        return self._session(session_type, index)

    def _now(self, now: TimeLike | None) -> int:
        ns = now_ns() if now is None else to_ns(now, name="now")
        if not self._hours.start_ns <= ns < self._hours.end_ns:
            raise self._unknown(f"now={format_ns(ns)}")
        return ns

    def _day(self, value: TimeLike, name: str) -> date:
        if isinstance(value, str) and len(value.strip()) > len("2025-01-10"):
            day = from_ns(to_ns(value, tz=self.tz, name=name), self.tz).date()
        elif isinstance(value, str):
            try:
                day = date.fromisoformat(value.strip())
            except ValueError:
                raise InputError(
                    f"{name}={value!r} is not a day; write it as in '2025-01-10'"
                ) from None
        elif isinstance(value, datetime):
            day = (value if value.tzinfo is None else value.astimezone(self.tz)).date()
        elif isinstance(value, date):
            day = value
        else:
            day = from_ns(to_ns(value, tz=self.tz, name=name), self.tz).date()
        if not self.first_date <= day <= self.last_date:
            raise self._unknown(f"{name}={day}")
        return day

    def _unknown(self, what: str) -> TimeRangeError:
        return TimeRangeError(
            f"{what}: the sessions of {self.name} are known from {self.first_date} to "
            f"{self.last_date}",
            market=self.name,
        )


def _on(session: Session) -> str:
    return f"{session.date:%A} {session.date} ({session.hours})"


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
    market: Market | str = "US",
    now: TimeLike | None = None,
    session_type: SessionTypeLike = "regular",
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
    market: Market | str = "US",
    now: TimeLike | None = None,
    session_type: SessionTypeLike = "regular",
) -> Session:
    """The last session that has ended: :meth:`Market.previous_session`."""
    return _known(market).previous_session(now, session_type)


def next_session(
    market: Market | str = "US",
    now: TimeLike | None = None,
    session_type: SessionTypeLike = "regular",
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
