"""Time windows of a frame: a session, the last hour, since the opening."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ibticks.analysis._engine.columns import Frame, require, time_ns
from ibticks.analysis._engine.registry import NotIncremental, Rowwise, Snapshot, measure
from ibticks.analysis._engine.sessions import session_start, session_table
from ibticks.calendar import parse_duration
from ibticks.errors import NoSessionError

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.calendar import Market

__all__ = ["session", "since_open", "trailing_window"]


@measure("Time windows", Rowwise())
def session(ticks: Frame, session_type: str = "regular", *, market: Market | str = "US") -> Frame:
    """Select the ticks within the sessions of a market, on all days; not those in a break.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks, or anything with a ``timestamp``.
    session_type : str
        One of the market's: ``"regular"``, ``"pre_market"``, ...
    market : Market or str
        By default ``"US"``, as of :meth:`ibticks.Store.select`: a frame does not say of which
        market it is.

    Returns
    -------
    same as ticks
        Some of the rows. A lazy frame streams.

    Raises
    ------
    UnknownColumnError
        There is no ``timestamp``.
    UnknownMarketError
        No such market, or it has no such sessions.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> trades.height, session(trades, "regular").height
    (33381, 33323)
    """
    require(ticks, "timestamp", caller="session")
    table = session_table(market, session_type, caller="session")
    return ticks.filter(session_start(table).is_not_null())


@measure("Time windows", Snapshot("result"))
def trailing_window(ticks: Frame, duration: str | timedelta) -> Frame:
    """Select the ticks of the last period: ``trailing_window(ticks, "1h")``.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks, or anything with a ``timestamp``.
    duration : str or timedelta
        See :func:`ibticks.calendar.parse_duration`.

    Returns
    -------
    same as ticks
        The rows not older than ``duration`` when the last of all, of whatever contract, arrived;
        one of exactly that age is among them.

    Raises
    ------
    UnknownColumnError
        There is no ``timestamp``.
    UnknownPeriodError
        ``duration`` is no length of time.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> trailing_window(trades, "1h").height
    3
    """
    require(ticks, "timestamp", caller="trailing_window")
    length = parse_duration(duration)
    return ticks.filter(time_ns() >= time_ns().max() - length)


@measure(
    "Time windows",
    NotIncremental(
        "it is the whole session", "a buffer has it, store.buffer(..., buffer='since_open')"
    ),
)
def since_open(
    ticks: Frame, *, market: Market | str = "US", session_type: str = "regular"
) -> Frame:
    """Select the ticks since the opening of the session in which the last tick arrived.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks, or anything with a ``timestamp``.
    market : Market or str
        By default ``"US"``, as of :meth:`ibticks.Store.select`: a frame does not say of which
        market it is.
    session_type : str
        Session type of the market.

    Returns
    -------
    same as ticks
        The rows from the opening on, those after the close, too.

    Raises
    ------
    UnknownColumnError
        There is no ``timestamp``.
    UnknownMarketError
        No such market, or it has no such sessions.
    NoSessionError
        The ticks are older than the first session known; of a lazy frame, when it is collected.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> since_open(trades, market="US")["timestamp"].min()
    datetime.datetime(2013, 10, 8, 13, 30, 3, 268000, tzinfo=zoneinfo.ZoneInfo(key='UTC'))
    """
    require(ticks, "timestamp", caller="since_open")
    table = session_table(market, session_type, caller="since_open")

    def opening(newest: pl.Series) -> pl.Series:
        ns = newest.item()
        if ns is None:
            return newest
        if not table.started(ns):
            raise NoSessionError(f"since_open: no {session_type} session is known before the ticks")
        return pl.Series([int(table.start_ns[table.started(ns) - 1])])

    opened = time_ns().max().map_batches(opening, pl.Int64, returns_scalar=True)
    return ticks.filter(time_ns() >= opened)
