"""Bars: of equal time, of equal activity, and bars that close at unexpected imbalances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

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
    require,
    times_from_ns,
)
from ibticks.analysis._engine.grouping import (
    apply_kernel,
    constant_keys,
    group_adjacent,
    is_time_ordered,
)
from ibticks.analysis._engine.registry import ClockBars, FullBars, InformationBars, measure
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.calendar import Market

__all__ = [
    "AMOUNTS",
    "Amount",
    "InformationBarsName",
    "closed_rows",
    "dollar_bars",
    "imbalance_bars",
    "kernel_arguments",
    "numbered_bars",
    "numbered_information_bars",
    "run_bars",
    "tick_bars",
    "time_bars",
    "volume_bars",
]

InformationBarsName: TypeAlias = Literal["imbalance_bars", "run_bars"]


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


_THETA: Final[dict[InformationBarsName, pl.Expr]] = {
    "imbalance_bars": pl.col("_signed").sum().alias("imbalance"),
    "run_bars": pl.max_horizontal(
        pl.col("_signed").clip(0).sum(), -pl.col("_signed").clip(None, 0).sum()
    ).alias("run"),
}


@measure("Bars", InformationBars())
def imbalance_bars(
    ticks: Frame,
    amount: Amount = "tick",
    *,
    expected_ticks: int,
    span: float = 20,
    limits: tuple[float, float] | None = None,
    sign: str | None = None,
    partial: bool = False,
) -> Frame:
    r"""Bars that close when buyers, or sellers, outweigh the others more than expected.

    With :math:`b_t` the side of a trade (1 bought, -1 sold) and :math:`v_t` its amount, the
    imbalance is :math:`\theta_T = \sum_{t=1}^T b_t v_t`, and a bar is the shortest for which

    .. math:: |\theta_T| \ge E_0[T] \, |E_0[b_t v_t]|,

    where :math:`E_0[b_t v_t] = 2v^+ - E_0[v_t]`, for ticks :math:`2P[b_t = 1] - 1`.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, of any contracts and tick types.
    amount : {"tick", "volume", "dollar"}
        Amount of a trade: 1, its size, or price times size.
    expected_ticks : int
        Length of the first bar of each contract, of which nothing is expected yet.
    span : float
        Span of the exponential averages, in bars: the weight of a bar falls by
        ``1 - 2 / (span + 1)`` with the next.
    limits : (float, float), optional
        Least and most that :math:`E_0[T]` may become. Without limits a threshold that has grown may
        feed on itself, as the author warns of: larger bars are expected to be larger still.
    sign : str, optional
        A column with the side of each trade, 1 or -1, for instance from ``trade_sign``; 0 or null
        where it is not known. By default the tick rule: 1 if the price is above the one before, -1
        if below, else as before; 0 until the price first changes.
    partial : bool
        Whether the last bar of each contract comes, too, if it is not closed.

    Returns
    -------
    same as ticks
        One row a bar, with the columns of :func:`ibticks.analysis.time_bars` and ``imbalance``, its
        :math:`\theta_T`. A lazy frame stays lazy, but does not stream: the rows of a contract are
        taken at once.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``amount`` is none of the three, or a number is out of its range.

    Notes
    -----
    The book leaves open how its averages are taken. Here, at the close of each bar:
    :math:`E_0[T]` is the exponential average of the lengths of all bars so far;
    :math:`E_0[b_t v_t]` that of :math:`b_t v_t` over all trades so far, with a span of
    ``span * expected_ticks`` trades. Both weigh as ``ewm_mean(adjust=True)`` does. Where the
    expected imbalance is nearly nothing, bars become as short as one trade.

    References
    ----------
    López de Prado (2018), section 2.3.2.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> bars = imbalance_bars(trades, "volume", expected_ticks=500, limits=(100, 2000))
    >>> bars.select("count", "imbalance").head(2).rows()
    [(500, 69281.0), (2210, -66609.0)]
    """
    kernel_inputs = kernel_arguments("imbalance_bars", amount, expected_ticks, span, limits, sign)
    return _information_bars(ticks, "imbalance_bars", kernel_inputs, sign, partial)


@measure("Bars", InformationBars())
def run_bars(
    ticks: Frame,
    amount: Amount = "tick",
    *,
    expected_ticks: int,
    span: float = 20,
    limits: tuple[float, float] | None = None,
    sign: str | None = None,
    partial: bool = False,
) -> Frame:
    r"""Bars that close when one side has traded more than expected, whatever the other did.

    With :math:`b_t` the side of a trade and :math:`v_t` its amount, the run is

    .. math:: \theta_T = \max\Big\{\sum_{b_t = 1} v_t, \sum_{b_t = -1} v_t\Big\},

    and a bar is the shortest for which

    .. math:: \theta_T \ge E_0[T] \max\{P[b_t = 1] E_0[v_t | b_t = 1],
              (1 - P[b_t = 1]) E_0[v_t | b_t = -1]\}.

    Parameters
    ----------
    ticks, amount, expected_ticks, span, limits, sign, partial
        As of :func:`imbalance_bars`.

    Returns
    -------
    same as ticks
        One row a bar, with the columns of :func:`ibticks.analysis.time_bars` and ``run``, its
        :math:`\theta_T`. A lazy frame stays lazy, but does not stream.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``amount`` is none of the three, or a number is out of its range.

    Notes
    -----
    At the close of each bar, :math:`E_0[T]` is the exponential average of the lengths of all bars
    so far, :math:`P[b_t = 1]` that of their shares of buys (among trades whose side is known), and
    :math:`E_0[v_t | b_t]` those of their mean amounts of a buy and of a sell; bars without such a
    trade are left out of the average. All weigh as ``ewm_mean(adjust=True)`` does.

    References
    ----------
    López de Prado (2018), section 2.3.2.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> bars = run_bars(trades, expected_ticks=500, limits=(100, 2000))
    >>> bars.select("count", "run").head(2).rows()
    [(500, 282.0), (474, 283.0)]
    """
    kernel_inputs = kernel_arguments("run_bars", amount, expected_ticks, span, limits, sign)
    return _information_bars(ticks, "run_bars", kernel_inputs, sign, partial)


def kernel_arguments(
    caller: InformationBarsName,
    amount: Amount,
    expected_ticks: int,
    span: float,
    limits: tuple[float, float] | None,
    sign: str | None,
) -> tuple[list[pl.Expr], tuple[float, ...]]:
    """Return the inputs and constants of the kernel of a measure.

    Returns
    -------
    inputs : list of polars.Expr
        Prices, amounts and sides, of the rows that bars are made of.
    constants : tuple of float

    Raises
    ------
    InputError
        ``amount`` is none of the three, or a number is out of its range.

    Examples
    --------
    >>> kernel_arguments("run_bars", "tick", 500, 20, None, None)[1]
    (500.0, 20.0, 0.0, inf)
    """
    fewest, most = (0.0, float("inf")) if limits is None else limits
    if amount not in AMOUNTS:
        raise InputError(f"{caller} of {amount!r}: there are {', '.join(get_args(Amount))}")
    if expected_ticks < 1 or span < 1 or not 0 <= fewest <= most:
        raise InputError(
            f"{caller}: expected_ticks={expected_ticks!r} and span={span!r} must be at least 1, "
            f"and limits={limits!r} the lower first"
        )
    side = pl.lit(None, pl.Float64) if sign is None else pl.col(sign).cast(pl.Float64)
    inputs = [pl.col("price").cast(pl.Float64), AMOUNTS[amount], pl.when(side != 0).then(side)]
    return inputs, (float(expected_ticks), float(span), float(fewest), float(most))


def numbered_information_bars(
    ticks: Frame, rows: pl.LazyFrame, caller: InformationBarsName, partial: bool
) -> Frame:
    """Return the bars of rows with ``_bar _signed``.

    The kernel computes both; see :func:`ibticks.analysis.imbalance_bars`.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame(
    ...     {"timestamp": [datetime(2025, 1, 10, tzinfo=UTC)] * 2, "price": [1.0, 2.0], "size": 5.0}
    ... )
    >>> rows = ticks.lazy().with_columns(_bar=0, _signed=pl.lit(1.0))
    >>> numbered_information_bars(ticks, rows, "imbalance_bars", False)["imbalance"].to_list()
    [2.0]
    """
    return numbered_bars(
        ticks, closed_rows(rows, partial), [*bar_aggregates("trades"), _THETA[caller]]
    )


def _information_bars(
    ticks: Frame,
    caller: InformationBarsName,
    kernel_inputs: tuple[list[pl.Expr], tuple[float, ...]],
    sign: str | None,
    partial: bool,
) -> Frame:
    rows = bar_rows(ticks, "trades", caller=caller)
    if sign is not None:
        require(ticks, sign, caller=caller)
    inputs, constants = kernel_inputs
    results = {"bar": pl.Int64(), "signed": pl.Float64()}
    result = apply_kernel(caller, inputs, *constants, keys=grouping_keys(ticks), results=results)
    rows = rows.with_columns(_found=result).with_columns(
        _bar=pl.col("_found").struct.field("bar"), _signed=pl.col("_found").struct.field("signed")
    )
    return numbered_information_bars(ticks, rows, caller, partial)
