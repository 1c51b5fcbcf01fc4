"""Bars of time, by the clock or from the opening of each session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ibticks.analysis._bar_clock import Anchor, BarClock
from ibticks.analysis._bar_columns import Of, aggregates, empty_values, rows_of
from ibticks.analysis._columns import F, as_times, by, like
from ibticks.analysis._grouping import in_a_row, in_time, kept

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.calendar import Market

__all__ = ["time_bars"]


def time_bars(
    ticks: F,
    every: str | timedelta,
    *,
    of: Of = "trades",
    anchor: Anchor = "clock",
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
        Whose sessions, where bars are anchored to them: ``market="US"``.
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
        ``anchor``, ``of``, the market or its sessions are not known, or a market is given to bars
        of the clock.

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
    clock = BarClock.of(every, anchor, market, session_type, what="time_bars")
    rows = clock.rows(rows_of(ticks, of, what="time_bars"))
    start = clock.start
    keys: list[str] = by(ticks)
    at_hand = in_time(ticks)
    if at_hand:
        bars = in_a_row(rows, start.alias("_start"), *kept(ticks, []), *aggregates(of))
    else:
        bars = rows.group_by(start.alias("_start"), *keys).agg(aggregates(of))
    if empty:
        bars = clock.grid(bars, keys).join(bars, on=["_start", *keys], how="left")
        bars = bars.with_columns(**empty_values(of))
    if empty or not at_hand:
        bars = bars.sort("_start", *keys)
    ordered = bars.select(
        as_times("_start", ticks).alias("timestamp"), *keys, pl.exclude("_start", *keys)
    )
    return like(ticks, ordered, engine="streaming")
