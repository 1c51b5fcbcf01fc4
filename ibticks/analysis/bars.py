"""Bars of time, by the clock or from the opening of each session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import polars as pl

from ibticks.analysis.bar_columns import Of, aggregates, empty_values, rows_of
from ibticks.analysis.columns import F, as_times, by, instant, like
from ibticks.analysis.grouping import in_time, kept
from ibticks.analysis.sessions import session_start, session_table
from ibticks.calendar.periods import parse_duration
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.calendar import Market
    from ibticks.calendar.sessions import SessionTable

__all__ = ["start_of_bar", "time_bars"]

_DAY: Final = 86_400_000_000_000
_WEEK: Final = 7 * _DAY
_MONDAY: Final = 4 * _DAY  # 1970-01-05


def time_bars(
    ticks: F,
    every: str | timedelta,
    *,
    of: Of = "trades",
    anchor: Literal["clock", "session"] = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
    empty: bool = False,
) -> F:
    """Bars of equal length.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, of any contracts and tick types.
    every : str or timedelta
        ``"90s"``, ``"5m"`` (minutes), ``"1h"``, ``"1d"``, as
        :func:`ibticks.calendar.parse_duration` reads it.
    of : {"trades", "quotes", "mids"}
        Of which rows.
    anchor : {"clock", "session"}
        ``"clock"``: bars start at multiples of ``every`` since midnight UTC, those of weeks on
        Mondays. ``"session"``: they start with each session of the market and every ``every``
        after; the last one ends with the session, however short it is. Ticks outside the sessions,
        and in their breaks, are in no bar, so that ``"1d"`` is a bar for each session.
    market, session_type : optional
        Whose sessions: ``market="US"``.
    empty : bool
        Whether bars without a row, between the first and the last bar of a contract, are there too:
        their ``count`` and ``volume`` are 0, all else is null. By sessions, there are none while
        the market is closed.

    Returns
    -------
    same as ticks
        One row a bar, sorted by ``timestamp``, then ``contract_id``: ``timestamp`` (start of the
        bar ``[start, start + every)``), ``contract_id`` (if the ticks have it), and

        - of trades: ``open high low close`` (float64), ``volume`` (float64, the sum of sizes),
          ``vwap`` (float64, null without volume);
        - of quotes: ``bid_open bid_high bid_low bid_close``, the same of ``ask_`` and ``mid_``
          (the mean of bid and ask), and ``spread``, the mean of ask - bid over the quotes;
        - of mid points: ``open high low close``;

        each with ``count`` (uint32, how many rows), ``first_time`` and ``last_time``. A lazy frame
        stays lazy, and streams: memory grows with the number of bars, not of ticks.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    UnknownPeriodError
        ``every`` is no length of time.
    InputError, UnknownMarketError
        ``anchor``, ``of``, the market or its sessions are not known.

    Notes
    -----
    Times are those of arrival. IB's own (``exchange_time``) are whole seconds.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> day = time_bars(trades, "1d", anchor="session", market="US")
    >>> day.select("open", "high", "low", "close", "volume", "count").rows()
    [(181.89, 181.99, 178.71, 178.81, 5203752.0, 33323)]
    """
    step = parse_duration(every)
    rows = rows_of(ticks, of, what="time_bars")
    if anchor == "clock":
        start, table = start_of_bar(step), None
    elif anchor == "session":
        table = session_table(market, session_type, what="time_bars")
        rows = rows.with_columns(_session=session_start(table)).drop_nulls("_session")
        start = start_of_bar(step, pl.col("_session"))
    else:
        raise InputError(f"anchor={anchor!r}: bars are anchored to 'clock' or 'session'")
    keys: list[str] = by(ticks)
    in_a_row = in_time(ticks)
    if in_a_row:
        rows = rows.with_columns(_start=start.set_sorted())
        bars = rows.group_by("_start").agg(*kept(ticks, []), *aggregates(of))
    else:
        bars = rows.group_by(start.alias("_start"), *keys).agg(aggregates(of))
    if empty:
        grid = _clock_grid(bars, keys, step) if table is None else _grid(bars, keys, step, table)
        bars = grid.join(bars, on=["_start", *keys], how="left")
        bars = bars.with_columns(**empty_values(of))
    ordered = bars.sort("_start", *keys).select(
        as_times("_start", ticks).alias("timestamp"), *keys, pl.exclude("_start", *keys)
    )
    # Groups in a row are at hand; those that must be looked for, the other engine finds sooner.
    return like(ticks, ordered, engine="in-memory" if in_a_row else "streaming")


def start_of_bar(step: int, session: pl.Expr | None = None) -> pl.Expr:
    """The start of the bar a row lies in, in nanoseconds as all of this.

    Parameters
    ----------
    step : int
        Length of bars.
    session : polars.Expr, optional
        Start of the session each row lies in; bars of the clock have none.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> frame = pl.DataFrame({"timestamp": [datetime(2025, 1, 10, 15, 7, tzinfo=UTC)]})
    >>> start = start_of_bar(300_000_000_000).cast(pl.Datetime("ns", "UTC"))
    >>> frame.select(start.dt.strftime("%H:%M")).item()
    '15:05'
    """
    if session is None:
        session = pl.lit(_MONDAY if step % _WEEK == 0 else 0)
    return instant() - (instant() - session) % step


def _ends(bars: pl.LazyFrame, keys: list[str]) -> pl.LazyFrame:
    """First and last bar of each contract."""
    ends = [pl.col("_start").min().alias("_first"), pl.col("_start").max().alias("_last")]
    return bars.group_by(keys).agg(ends) if keys else bars.select(ends)


def _clock_grid(bars: pl.LazyFrame, keys: list[str], step: int) -> pl.LazyFrame:
    ends = _ends(bars, keys).drop_nulls("_first")
    starts = pl.int_ranges("_first", pl.col("_last") + 1, step).alias("_start")
    return ends.select(*keys, starts).explode("_start", empty_as_null=False, keep_nulls=False)


def _grid(bars: pl.LazyFrame, keys: list[str], step: int, table: SessionTable) -> pl.LazyFrame:
    """Every bar of every session, but those that lie wholly in a break."""
    sessions = pl.LazyFrame({"_open": table.start_ns, "_close": table.end_ns})
    if len(table.break_start_ns):
        sessions = sessions.with_columns(
            pl.Series("_pause", table.break_start_ns), pl.Series("_resume", table.break_end_ns)
        )
    else:
        sessions = sessions.with_columns(_pause=pl.col("_close"), _resume=pl.col("_close"))
    start, end = pl.col("_start"), pl.min_horizontal(pl.col("_start") + step, "_close")
    return (
        _ends(bars, keys)
        .join(sessions, how="cross")
        .filter(pl.col("_open") <= pl.col("_last"), pl.col("_close") > pl.col("_first"))
        .with_columns(_start=pl.int_ranges("_open", "_close", step))
        .explode("_start")
        .filter(start >= pl.col("_first"), start <= pl.col("_last"))
        .filter((start < pl.col("_pause")) | (end > pl.col("_resume")))
        .select("_start", *keys)
    )
