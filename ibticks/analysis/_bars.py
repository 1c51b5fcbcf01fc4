"""Bars of equal time, and bars that close when enough ticks, volume or value has come.

References
----------
M. López de Prado (2018), *Advances in Financial Machine Learning*, Wiley, section 2.3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import polars as pl

from ibticks.analysis._engine.bars import (
    Anchor,
    BarClock,
    BarSource,
    bar_aggregates,
    bar_rows,
    empty_bar_values,
)
from ibticks.analysis._engine.columns import (
    Frame,
    collect_like,
    grouping_keys,
    key_columns,
    over_keys,
    times_from_ns,
)
from ibticks.analysis._engine.grouping import (
    apply_kernel,
    constant_keys,
    group_adjacent,
    is_time_ordered,
)
from ibticks.analysis._engine.registry import ClockBars, FullBars, measure
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.calendar import Market

__all__ = [
    "AMOUNTS",
    "Amount",
    "closed_rows",
    "dollar_bars",
    "numbered_bars",
    "tick_bars",
    "time_bars",
    "volume_bars",
]


@measure("Bars", ClockBars("by_of", previous="empty"))
def time_bars(
    ticks: Frame,
    every: str | timedelta,
    *,
    of: BarSource = "trades",
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
    empty: bool = False,
) -> Frame:
    """Bars of equal length.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, of any contracts and tick types.
    every : str or timedelta
        ``"90s"``, ``"5m"`` (minutes), ``"1h"``, ``"1d"``, as
        :func:`ibticks.calendar.parse_duration` reads it.
    of : {"trades", "quotes", "mids"}
        Rows that bars are made of.
    anchor : {"clock", "session"}
        ``"clock"``: bars start at multiples of ``every`` since midnight UTC, those of weeks on
        Mondays. ``"session"``: they start with each session of the market and every ``every``
        after; the last one ends with the session, however short it is. Ticks outside the sessions,
        and in their breaks, are in no bar, so that ``"1d"`` is a bar for each session.
    market, session_type : optional
        Market of the sessions that bars are anchored to: ``market="US"``.
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
    clock = BarClock.of(every, anchor, market, session_type, caller="time_bars")
    rows = clock.rows(bar_rows(ticks, of, caller="time_bars"))
    start = clock.start
    keys: list[str] = key_columns(ticks)
    at_hand = is_time_ordered(ticks)
    if at_hand:
        bars = group_adjacent(
            rows, start.alias("_start"), *constant_keys(ticks, []), *bar_aggregates(of)
        )
    else:
        bars = rows.group_by(start.alias("_start"), *keys).agg(bar_aggregates(of))
    if empty:
        bars = clock.grid(bars, keys).join(bars, on=["_start", *keys], how="left")
        bars = bars.with_columns(**empty_bar_values(of))
    if empty or not at_hand:
        bars = bars.sort("_start", *keys)
    ordered = bars.select(
        times_from_ns("_start", ticks).alias("timestamp"), *keys, pl.exclude("_start", *keys)
    )
    return collect_like(ticks, ordered, engine="streaming")


Amount: TypeAlias = Literal["tick", "volume", "dollar"]
"""Amount of a trade: one, its size, or the absolute value of price times size."""

AMOUNTS: Final[dict[str, pl.Expr]] = {
    "tick": pl.lit(1.0),
    "volume": pl.col("size"),
    # A negative price has a positive value, too.
    "dollar": (pl.col("price") * pl.col("size")).abs(),
}


@measure("Bars", FullBars("by_of"))
def tick_bars(ticks: Frame, n: int, *, of: BarSource = "trades", partial: bool = False) -> Frame:
    """Bars of ``n`` rows each.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, of any contracts and tick types.
    n : int
        Number of rows of a bar.
    of : {"trades", "quotes", "mids"}
        Rows that bars are made of.
    partial : bool
        Whether the last bar of each contract comes, too, if it is not full.

    Returns
    -------
    same as ticks
        One row a bar, with the columns of :func:`ibticks.analysis.time_bars`; ``timestamp`` is the
        time of its first row.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``n`` is below 1.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> bars = tick_bars(trades, 1000)
    >>> bars.height, set(bars["count"])
    (33, {1000})
    """
    if not isinstance(n, int) or n < 1:
        raise InputError(f"tick_bars: n={n!r} must be an int of at least 1")
    keys = grouping_keys(ticks)
    place = over_keys(pl.int_range(pl.len()), keys)
    bar = place // n
    if not partial:
        bar = pl.when(bar < over_keys(pl.len(), keys) // n).then(bar)
    return numbered_bars(
        ticks, bar_rows(ticks, of, caller="tick_bars").with_columns(_bar=bar), bar_aggregates(of)
    )


@measure("Bars", FullBars("trades"))
def volume_bars(ticks: Frame, volume: float, *, partial: bool = False) -> Frame:
    """Bars in which ``volume`` or more was traded.

    A bar closes with the trade that brings its volume to the threshold; the next begins at nothing.
    Decimals count as they are written: ten trades of 0.1 fill a bar of 1.0.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, of any contracts and tick types.
    volume : float
        Sum of sizes that closes a bar.
    partial : bool
        Whether the last bar of each contract comes, too, if it is not full.

    Returns
    -------
    same as ticks
        One row a bar, with the columns of :func:`ibticks.analysis.time_bars`; ``timestamp`` is the
        time of its first trade.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``volume`` is not above 0.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> bars = volume_bars(trades, 100_000)
    >>> bars.height, bars["volume"].min()
    (52, 100004.0)
    """
    return _filled(ticks, "volume", volume, partial, "volume_bars")


@measure("Bars", FullBars("trades"))
def dollar_bars(ticks: Frame, value: float, *, partial: bool = False) -> Frame:
    """Bars in which ``value`` or more changed hands, price times size.

    A bar closes with the trade that brings its value to the threshold; the next begins at nothing.
    Decimals count as they are written, a negative price by its absolute value. A contract's
    multiplier is not in its ticks: of a future, ``value`` is in points.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, of any contracts and tick types.
    value : float
        Sum of price times size that closes a bar, in the currency of the contract.
    partial : bool
        Whether the last bar of each contract comes, too, if it is not full.

    Returns
    -------
    same as ticks
        One row a bar, with the columns of :func:`ibticks.analysis.time_bars`; ``timestamp`` is the
        time of its first trade.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``value`` is not above 0.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> dollar_bars(trades, 100_000_000).select("open", "close", "count").rows()[0]
    (182.1, 180.86, 2647)
    """
    return _filled(ticks, "dollar", value, partial, "dollar_bars")


def _filled(ticks: Frame, amount: Amount, threshold: float, partial: bool, caller: str) -> Frame:
    if not threshold > 0:
        raise InputError(f"{caller}: a threshold of {threshold!r} closes no bar; give one above 0")

    bar = apply_kernel(
        "filled_bars",
        [AMOUNTS[amount]],
        float(threshold),
        keys=grouping_keys(ticks),
        results={"bar": pl.Int64()},
    )
    rows = bar_rows(ticks, "trades", caller=caller).with_columns(_bar=bar)
    return numbered_bars(ticks, closed_rows(rows, partial), bar_aggregates("trades"))


def closed_rows(rows: pl.LazyFrame, partial: bool) -> pl.LazyFrame:
    """Return the rows of closed bars; kernels number those of the last one ``-1 - number``."""
    bar = pl.col("_bar")
    number = pl.when(bar < 0).then(-1 - bar if partial else None).otherwise(bar)
    return rows.with_columns(_bar=number)


def numbered_bars(ticks: Frame, rows: pl.LazyFrame, columns: list[pl.Expr]) -> Frame:
    """Return the bars of numbered rows; rows without a number are in no bar."""
    keys: list[str] = key_columns(ticks)
    rows, start = rows.drop_nulls("_bar"), pl.col("timestamp").first()
    if is_time_ordered(ticks):
        ordered = group_adjacent(rows, pl.col("_bar"), *constant_keys(ticks, []), start, *columns)
    else:
        bars = rows.group_by("_bar", *keys).agg(start, *columns)
        ordered = bars.sort("timestamp", *keys, "_bar")
    return collect_like(
        ticks,
        ordered.select("timestamp", *keys, pl.exclude("timestamp", *keys, "_bar")),
        engine="streaming",
    )
