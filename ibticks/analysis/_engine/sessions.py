"""Market sessions as expressions: where they start, and measures divided by them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import polars as pl

from ibticks.analysis._engine.columns import time_ns
from ibticks.calendar import market as find_market
from ibticks.calendar import to_ns
from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.errors import InputError, UnknownMarketError

if TYPE_CHECKING:
    import numpy.typing as npt

    from ibticks.calendar import Market, SessionTable


__all__ = [
    "SessionIntervals",
    "SessionSplit",
    "session_start",
    "session_table",
    "within_session",
    "within_session_only",
]

_NO_SESSION: Final = np.iinfo(np.int64).min


def session_table(market: Market | str | None, session_type: str, *, caller: str) -> SessionTable:
    """Return the sessions of a market, by its name.

    Raises
    ------
    InputError
        No market is given.
    UnknownMarketError
        No such market, or it has no such sessions.

    Examples
    --------
    >>> session_table("US", "lunch", caller="time_bars")
    Traceback (most recent call last):
        ...
    ibticks.errors.UnknownMarketError: US has no session type 'lunch': it has pre_market, ...
    """
    if market is None:
        raise InputError(f"{caller} by sessions needs a market, as in market='US'")
    known = find_market(market) if isinstance(market, str) else market
    if session_type not in known.tables:
        raise UnknownMarketError(
            f"{known.name} has no session type {session_type!r}: it has "
            f"{', '.join(known.session_types)}",
            market=known.name,
            session_type=session_type,
        )
    return known.tables[session_type]


def session_start(table: SessionTable) -> pl.Expr:
    """Return the start of the session of each tick; null outside of sessions.

    Parameters
    ----------
    table : SessionTable
        From :func:`session_table`.

    Returns
    -------
    polars.Expr
        Int64, UTC nanoseconds; null outside the sessions, and in their breaks. Row by row, so that
        it streams.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame({"timestamp": [datetime(2025, 1, 10, 14, 30, tzinfo=UTC)]})
    >>> start = session_start(session_table("US", "regular", caller="an example"))
    >>> ticks.select(start.cast(pl.Datetime("ns", "UTC"))).item()
    datetime.datetime(2025, 1, 10, 14, 30, tzinfo=zoneinfo.ZoneInfo(key='UTC'))
    """

    def place(times: pl.Series) -> pl.Series:
        # A tick without a time is in no session.
        started = pl.Series(times.name, _starts(times.fill_null(_NO_SESSION).to_numpy(), table))
        return pl.select(pl.when(started != _NO_SESSION).then(started)).to_series()

    return time_ns().map_batches(place, pl.Int64, is_elementwise=True)


def _starts(ns: npt.NDArray[np.int64], table: SessionTable) -> npt.NDArray[np.int64]:
    """Return the starts as an array; ``_NO_SESSION`` where there is no session."""
    if not bool(np.all(ns[1:] >= ns[:-1])):
        order = np.argsort(ns, kind="stable")
        starts = np.empty_like(ns)
        starts[order] = _starts(ns[order], table)
        return starts
    starts = np.full(len(ns), _NO_SESSION, dtype=np.int64)
    if not len(ns):
        return starts
    first, last = table.ended(int(ns[0])), table.started(int(ns[-1]))
    rows = np.searchsorted(ns, [table.start_ns[first:last], table.end_ns[first:last]])
    for session, (begin, end) in enumerate(rows.T.tolist(), start=first):
        starts[begin:end] = table.start_ns[session]
        for pause in table.breaks(session):
            begin, end = np.searchsorted(ns, pause)
            starts[begin:end] = _NO_SESSION
    return starts


SessionIntervals: TypeAlias = Iterable[tuple[Any, Any]]
"""Sessions as half-open ``(start, end)``: times with a zone, their text, or UTC nanoseconds."""

_NO_SESSION_NUMBER: Final = -1

_OPEN_ENDS: Final = {"the beginning": TIME_MIN, "the end": TIME_MAX}


@dataclass(frozen=True, slots=True, eq=False)
class SessionSplit:
    """Sessions by number, of a market or of a selection.

    Attributes
    ----------
    start_ns, end_ns : numpy.ndarray of int64
        Half-open intervals in order, none overlapping another; what a break divides is two.
    """

    start_ns: npt.NDArray[np.int64]
    end_ns: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        market: Market | str | None,
        session_type: str,
        sessions: SessionIntervals | None,
        *,
        caller: str,
    ) -> SessionSplit | None:
        """Return the sessions that the arguments of a measure ask for, None for no split.

        Raises
        ------
        InputError
            Both a market and sessions are given, or the sessions are no intervals in order.
        UnknownMarketError
            No such market, or it has no such sessions.

        Examples
        --------
        >>> SessionSplit.of(
        ...     None, "regular", [("2025-01-10T14:30Z", "2025-01-10T21:00Z")], caller=""
        ... )
        SessionSplit(start_ns=array([1736519400000000000]), end_ns=array([1736542800000000000]))
        >>> SessionSplit.of("US", "regular", [(0, 1)], caller="twap")
        Traceback (most recent call last):
            ...
        ibticks.errors.InputError: twap: sessions= and market= are both given; keep one of them
        """
        if sessions is None:
            return None if market is None else cls._of_market(market, session_type, caller)
        if market is not None:
            raise InputError(f"{caller}: sessions= and market= are both given; keep one of them")
        return cls._of_intervals(sessions, caller)

    @classmethod
    def _of_market(cls, market: Market | str, session_type: str, caller: str) -> SessionSplit:
        table = session_table(market, session_type, caller=caller)
        starts, ends = table.start_ns, table.end_ns
        if len(table.break_start_ns):
            # Where there is no break, its start and end are equal.
            has_break = table.break_start_ns < table.break_end_ns
            starts = np.sort(np.concatenate([starts, table.break_end_ns[has_break]]))
            ends = np.sort(np.concatenate([ends, table.break_start_ns[has_break]]))
        return cls(starts, ends)

    @classmethod
    def _of_intervals(cls, sessions: SessionIntervals, caller: str) -> SessionSplit:
        try:
            times = [(start, end) for start, end in sessions]
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{caller}: sessions= takes pairs of times, (start, end), not {sessions!r}"
            ) from error
        pairs = [(_to_ns(start, caller), _to_ns(end, caller)) for start, end in times]
        starts, ends = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        if (starts >= ends).any() or (ends[:-1] > starts[1:]).any():
            raise InputError(
                f"{caller}: sessions= takes intervals in order of time, none empty, none "
                "overlapping another"
            )
        return cls(starts, ends)

    @property
    def number(self) -> pl.Expr:
        """Number of the session in which each ``timestamp`` lies; Int64, null outside of all."""

        def place(times: pl.Series) -> pl.Series:
            missing = np.iinfo(np.int64).min
            result = pl.Series(times.name, self._numbers(times.fill_null(missing).to_numpy()))
            return pl.select(pl.when(result != _NO_SESSION_NUMBER).then(result)).to_series()

        return time_ns().map_batches(place, pl.Int64, is_elementwise=True)

    def mark(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return the rows with :attr:`number` as column ``_session``."""
        return rows.with_columns(_session=self.number)

    def inside(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return the rows that lie in a session, with ``_session``."""
        return self.mark(rows).drop_nulls("_session")

    def _numbers(self, ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if not len(ns) or not len(self.start_ns):
            return np.full(len(ns), _NO_SESSION_NUMBER, dtype=np.int64)
        if not bool(np.all(ns[1:] >= ns[:-1])):
            latest = np.searchsorted(self.start_ns, ns, side="right") - 1
            return np.where((latest >= 0) & (ns < self.end_ns[latest]), latest, _NO_SESSION_NUMBER)
        # Ticks in order of time: search the few sessions among the many ticks.
        numbers = np.full(len(ns), _NO_SESSION_NUMBER, dtype=np.int64)
        first = int(np.searchsorted(self.end_ns, ns[0], side="right"))
        last = int(np.searchsorted(self.start_ns, ns[-1], side="right"))
        begins = np.searchsorted(ns, self.start_ns[first:last]).tolist()
        ends = np.searchsorted(ns, self.end_ns[first:last]).tolist()
        for number, (begin, end) in enumerate(zip(begins, ends, strict=True), start=first):
            numbers[begin:end] = number
        return numbers


def within_session(value: pl.Expr, rows: int = 1) -> pl.Expr:
    """Return a value of a row and the one so many rows before it, null across sessions.

    The rows have ``_session``, from :meth:`SessionSplit.mark`; a negative number looks ahead.

    Examples
    --------
    >>> rows = pl.DataFrame({"_session": [0, 0, 1], "price": [1.0, 3.0, 9.0]})
    >>> rows.select(within_session(pl.col("price").diff()))["price"].to_list()
    [None, 2.0, None]
    """
    session = pl.col("_session")
    return pl.when(session == session.shift(rows)).then(value)


def within_session_only(value: pl.Expr, rows: int = 1) -> pl.Expr:
    """Return a value of a row and the one so many rows before it, null from session to session.

    As :func:`within_session`, but a row outside of sessions is joined with those around it.

    Examples
    --------
    >>> rows = pl.DataFrame({"_session": [0, None, 1, 2], "price": [1.0, 3.0, 9.0, 10.0]})
    >>> rows.select(within_session_only(pl.col("price").diff()))["price"].to_list()
    [None, 2.0, 6.0, None]
    """
    session = pl.col("_session")
    other = (session != session.shift(rows)).fill_null(value=False)
    return pl.when(~other).then(value)


def _to_ns(time: Any, caller: str) -> int:
    if isinstance(time, str) and time in _OPEN_ENDS:
        return _OPEN_ENDS[time]
    if isinstance(time, int) and time in _OPEN_ENDS.values():
        return time
    return to_ns(time, name=f"{caller}: sessions")
