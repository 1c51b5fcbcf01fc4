"""A market: the questions its sessions answer."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any, Final

from ibticks.calendar._sessions import Session, SessionTable
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
    from collections.abc import Mapping
    from datetime import tzinfo

    from ibticks.calendar._hours import Hours

__all__ = ["Market"]

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
        from ibticks.calendar._markets import market

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

    def session(self, date: TimeLike, session_type: str = "regular") -> Session:
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
        self, start_date: TimeLike, end_date: TimeLike, session_type: str = "regular"
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

    def is_open(self, now: TimeLike | None = None, session_type: str = "regular") -> bool:
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

    def latest_session(self, now: TimeLike | None = None, session_type: str = "regular") -> Session:
        """The session that opened last: the one that runs, or else the previous one.

        Raises
        ------
        NoSessionError
            None has opened yet in the time the market is known for.
        """
        ns = self._now(now)
        return self._nth(session_type, self._table(session_type).started(ns) - 1, ns)

    def previous_session(
        self, now: TimeLike | None = None, session_type: str = "regular"
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

    def next_session(self, now: TimeLike | None = None, session_type: str = "regular") -> Session:
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
        self, n: int, session_type: str = "regular", now: TimeLike | None = None
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
        from ibticks.calendar._hours import hours_of

        return hours_of(self.name)

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
