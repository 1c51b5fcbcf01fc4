"""One session of a market, and the sorted table a market's sessions are looked up in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from ibticks._types import Interval
from ibticks.calendar._times import TimeLike, find_timezone, format_ns, from_ns, to_ns

if TYPE_CHECKING:
    from datetime import tzinfo

    import numpy.typing as npt

__all__ = ["Hours", "Session", "SessionTable", "sorted_table"]


def _no_breaks() -> npt.NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Session:
    """An interval in which a market trades: ``[start_ns, end_ns)``.

    Attributes
    ----------
    market : str
        ``US``, ``UK``, ``JP``, ``CME``, or the calendar's name.
    session_type : str
        ``regular``, ``pre_market``, ...: see :attr:`ibticks.calendar.Market.session_types`.
    date : datetime.date
        The trading day it belongs to, which for a session that starts in the evening is the
        next day.
    start_ns, end_ns : int
        UTC nanoseconds, half-open.
    early_close : bool
        Whether this session ends before its usual time.
    breaks : tuple of Interval
        Time inside it without trading: the lunch break of Tokyo.
    timezone : str
        Name of the market's zone.

    Examples
    --------
    >>> from ibticks.calendar import market
    >>> session = market("US").session("2024-11-29")
    >>> session
    <Session US regular 2024-11-29 09:30–13:00 EST, early close>
    >>> session.duration
    datetime.timedelta(seconds=12600)
    >>> "2024-11-29T18:00:00Z" in session
    False
    """

    market: str
    session_type: str
    date: date
    start_ns: int
    end_ns: int
    early_close: bool = False
    breaks: tuple[Interval, ...] = ()
    timezone: str = "UTC"

    @property
    def tz(self) -> tzinfo:
        """The market's zone."""
        return find_timezone(self.timezone)

    @property
    def start(self) -> datetime:
        """Start, aware, in the market's zone."""
        return from_ns(self.start_ns, self.tz)

    @property
    def end(self) -> datetime:
        """End, aware, in the market's zone; it is not in the session."""
        return from_ns(self.end_ns, self.tz)

    @property
    def duration(self) -> timedelta:
        """From start to end, breaks included."""
        return timedelta(microseconds=(self.end_ns - self.start_ns) // 1000)

    def __contains__(self, instant: TimeLike) -> bool:
        """Return whether the instant lies in ``[start, end)``, also in a break."""
        return self.start_ns <= to_ns(instant, name="instant") < self.end_ns

    def is_open(self, instant: TimeLike) -> bool:
        """Return whether the market trades at that instant: in the session and not in a break."""
        ns = to_ns(instant, name="instant")
        return self.start_ns <= ns < self.end_ns and not any(a <= ns < b for a, b in self.breaks)

    def __repr__(self) -> str:
        early = ", early close" if self.early_close else ""
        return f"<Session {self.market} {self.session_type} {self.date} {self.hours}{early}>"

    @property
    def hours(self) -> str:
        """Local times of day, with the start's date where it is not the session's."""
        start, end = self.start, self.end
        evening = f"{start:%a} " if start.date() != self.date else ""
        return f"{evening}{start:%H:%M}–{end:%H:%M} {end.tzname()}"

    def _repr_html_(self) -> str:
        rows = {
            "date": f"{self.date:%A} {self.date}" + (", early close" if self.early_close else ""),
            self.timezone: f"{self.start:%Y-%m-%d %H:%M %Z} – {self.end:%Y-%m-%d %H:%M %Z}",
            "UTC": f"{format_ns(self.start_ns)} – {format_ns(self.end_ns)}",
            "duration": str(self.duration),
        }
        if self.breaks:
            times = [(from_ns(a, self.tz), from_ns(b, self.tz)) for a, b in self.breaks]
            rows["break"] = ", ".join(f"{start:%H:%M} – {end:%H:%M}" for start, end in times)
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(head)}</th>"
            f"<td style='text-align:left'>{escape(text)}</td></tr>"
            for head, text in rows.items()
        )
        title = escape(f"{self.market} {self.session_type}")
        return f"<table><caption>{title}</caption>{cells}</table>"


@dataclass(frozen=True, slots=True, eq=False)
class SessionTable:
    """Every session of one type of one market, in order; no two of them overlap.

    Attributes
    ----------
    days : numpy.ndarray
        Shape ``(sessions,)``, ``datetime64[D]``: the trading days.
    start_ns, end_ns : numpy.ndarray
        Shape ``(sessions,)``, int64, UTC nanoseconds.
    early : numpy.ndarray
        Shape ``(sessions,)``, bool: whether a session ends before its usual time.
    break_start_ns, break_end_ns : numpy.ndarray
        Shape ``(sessions,)``, int64, UTC nanoseconds: the break inside each, equal where there is
        none; or shape ``(0,)`` if no session has one.
    """

    days: npt.NDArray[np.datetime64]
    start_ns: npt.NDArray[np.int64]
    end_ns: npt.NDArray[np.int64]
    early: npt.NDArray[np.bool_]
    break_start_ns: npt.NDArray[np.int64] = field(default_factory=_no_breaks)
    break_end_ns: npt.NDArray[np.int64] = field(default_factory=_no_breaks)

    def __len__(self) -> int:
        return len(self.days)

    def place(self, day: date) -> int:
        """Index of the first session on or after that day."""
        return int(np.searchsorted(self.days, np.datetime64(day, "D")))

    def started(self, ns: int) -> int:
        """Count the sessions that have started at that instant."""
        return int(np.searchsorted(self.start_ns, ns, side="right"))

    def ended(self, ns: int) -> int:
        """Count the sessions that have ended at that instant."""
        return int(np.searchsorted(self.end_ns, ns, side="right"))

    def breaks(self, index: int) -> tuple[Interval, ...]:
        """The breaks of that session."""
        if not len(self.break_start_ns):
            return ()
        start, end = int(self.break_start_ns[index]), int(self.break_end_ns[index])
        return (Interval(start, end),) if start < end else ()

    def is_open(self, ns: int) -> bool:
        """Return whether one of the sessions runs at that instant and is not in a break."""
        index = self.started(ns) - 1
        if index < 0 or ns >= self.end_ns[index]:
            return False
        return not any(start <= ns < end for start, end in self.breaks(index))


@dataclass(frozen=True, slots=True, eq=False)
class Hours:
    """A market's sessions, all of them.

    Attributes
    ----------
    timezone : str
    first, last : datetime.date
        The days it is known for, both included.
    start_ns, end_ns : int
        The same as instants, ``[start_ns, end_ns)`` in UTC nanoseconds.
    tables : dict of str to SessionTable
        By session type.
    """

    timezone: str
    first: date
    last: date
    start_ns: int
    end_ns: int
    tables: dict[str, SessionTable]


def sorted_table(
    days: npt.NDArray[np.datetime64],
    start_ns: npt.NDArray[np.int64],
    end_ns: npt.NDArray[np.int64],
    early: npt.NDArray[np.bool_] | None = None,
    pause: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None,
) -> SessionTable:
    """A table of the sessions that have a length, checked for order.

    Raises
    ------
    ValueError
        Days or sessions out of order, or sessions that overlap.
    """
    real = start_ns < end_ns
    columns: list[npt.NDArray[Any]] = [
        days,
        start_ns,
        end_ns,
        np.zeros(len(days), dtype=np.bool_) if early is None else early,
        *(pause or ()),
    ]
    remaining = SessionTable(*(_read_only(column[real]) for column in columns))
    wrong = (remaining.start_ns[1:] < remaining.end_ns[:-1]) | (
        remaining.days[1:] <= remaining.days[:-1]
    )
    if wrong.any():
        raise ValueError(
            f"the sessions of {remaining.days[1:][wrong][0]} and the day before overlap"
        )
    return remaining


def _read_only(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # Tables are shared by everyone who asks for the market.
    values.flags.writeable = False
    return values
