"""Order flow: signed volume, delta, and imbalances of quotes.

Measures of signed trades take the column ``sign`` where the frame has one (of ``trade_sign``, or a
known side), and sign them themselves where it has none. Trades whose size is null, not finite or
negative count as of size 0; those that cannot be signed are neither bought nor sold. None of them
has a horizon or a time weight, but without ``sessions=`` the first trades of a session are signed
by the last price or quote of the session before. ``trade_sign(..., market="US")`` signs by sessions
of a market.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ibticks.analysis._engine.bars import Anchor, BarClock
from ibticks.analysis._engine.columns import (
    Frame,
    collect_like,
    grouping_keys,
    is_set,
    key_columns,
    over_keys,
    require,
)
from ibticks.analysis._engine.grouping import group_rows, is_all_set, number_or_null, quote_rows
from ibticks.analysis._engine.registry import (
    Additive,
    ClockBars,
    Rowwise,
    RunningTotal,
    SignedFirst,
    WithArgument,
    measure,
)
from ibticks.analysis._signing import SigningMethod, sign_trades
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.analysis._engine.sessions import SessionIntervals
    from ibticks.calendar import Market

__all__ = [
    "cumulative_delta",
    "delta",
    "order_flow_imbalance",
    "price_level",
    "quote_imbalance",
    "signed_volume",
    "trade_size",
]


@measure("Order flow", Rowwise("signing", "trades"))
def signed_volume(
    ticks: Frame,
    *,
    method: SigningMethod | None = None,
    quotes: Frame | None = None,
    quote_delay: str | timedelta = "0s",
    sessions: SessionIntervals | None = None,
) -> Frame:
    """Signed size of each trade: positive if it was bought, negative if it was sold.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, ``price`` and ``size``, in order of arrival.
    method, quotes, quote_delay, sessions
        As in :func:`~ibticks.analysis.trade_sign`. Without a method, the column ``sign`` if there
        is one, else Lee and Ready's.

    Returns
    -------
    same as ticks
        The trades, with ``sign`` and ``signed_volume`` (float64).

    Examples
    --------
    >>> ticks = pl.DataFrame({"price": [1.0, 2.0], "size": [100, 200], "sign": [-1, 1]})
    >>> signed_volume(ticks)["signed_volume"].to_list()
    [-100.0, 200.0]
    """
    require(ticks, "price", "size", caller="signed_volume")
    trades = sign_trades(ticks, method, quotes, quote_delay, sessions)
    result = trades.with_columns(signed_volume=trade_size(ticks) * pl.col("sign"))
    return collect_like(ticks, result, engine="streaming")


@measure(
    "Order flow",
    SignedFirst(
        WithArgument(
            "every",
            ClockBars("trades"),
            Additive(("buy_volume", "sell_volume", "unsigned_volume", "delta", "trades")),
        )
    ),
)
def delta(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    by_price: bool = False,
    step: float | None = None,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
    method: SigningMethod | None = None,
    quotes: Frame | None = None,
    quote_delay: str | timedelta = "0s",
    sessions: SessionIntervals | None = None,
) -> Frame:
    """Volume bought less volume sold: in total, by time, by price, or by both (a footprint).

    Parameters
    ----------
    ticks
        As in :func:`signed_volume`.
    every : str or timedelta, optional
        The length of bars.
    by_price : bool
        Whether to keep prices apart.
    step : float, optional
        With ``by_price``, the distance of price levels; each trade counts at the nearest. By
        default each price is one.
    anchor, market, session_type
        Start and end of bars, as in :func:`~ibticks.analysis.time_bars`.
    method, quotes, quote_delay, sessions
        As in :func:`signed_volume`.

    Returns
    -------
    same as ticks
        A row for each bar, contract and price level, in this order: ``timestamp`` (start of the
        bar), ``contract_id``, ``price``, as far as they are kept apart, then ``buy_volume``,
        ``sell_volume``, ``unsigned_volume``, ``delta`` (float64) and ``trades`` (uint32).

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> delta(ibm, method="tick").row(0)
    (2513995.0, 3050376.0, 300.0, -536381.0, 33381)
    """
    require(ticks, "price", "size", caller="delta")
    clock = BarClock.optional(every, anchor, market, session_type, caller="delta")
    groups = _groups(ticks, clock)
    if by_price:
        groups.append(price_level(step))
    elif step is not None:
        raise InputError("delta: a step is one of prices; say by_price=True too")
    trades = sign_trades(ticks, method, quotes, quote_delay, sessions)
    if clock is not None:
        trades = clock.rows(trades)
    size, sign = pl.col("_size"), pl.col("sign")
    result = group_rows(
        trades.with_columns(_size=trade_size(ticks)),
        groups,
        ticks,
        clock,
        buy_volume=size.filter(sign > 0).sum(),
        sell_volume=size.filter(sign < 0).sum(),
        unsigned_volume=size.filter(sign == 0).sum(),
        trades=pl.len().cast(pl.UInt32),
    )
    bought_more = pl.col("buy_volume") - pl.col("sell_volume")
    return collect_like(
        ticks, result.select(pl.exclude("trades"), bought_more.alias("delta"), "trades")
    )


@measure("Order flow", WithArgument("every", RunningTotal("delta"), RunningTotal("signed_volume")))
def cumulative_delta(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
    method: SigningMethod | None = None,
    quotes: Frame | None = None,
    quote_delay: str | timedelta = "0s",
    sessions: SessionIntervals | None = None,
) -> Frame:
    """Running sum of volume bought less volume sold: at each trade, or bar by bar.

    Parameters
    ----------
    ticks
        As in :func:`signed_volume`.
    every : str or timedelta, optional
        The length of bars. By default each trade.
    anchor, market, session_type
        Start and end of bars, as in :func:`~ibticks.analysis.time_bars`.
    method, quotes, quote_delay, sessions
        As in :func:`signed_volume`.

    Returns
    -------
    same as ticks
        The trades as from :func:`signed_volume`, or the bars as from :func:`delta`, with
        ``cumulative_delta`` (float64) added: of its contract, from the first row of the frame on.

    Examples
    --------
    >>> ticks = pl.DataFrame({"price": [1.0, 2.0], "size": [100, 250], "sign": [-1, 1]})
    >>> cumulative_delta(ticks)["cumulative_delta"].to_list()
    [-100.0, 150.0]
    """
    clock = BarClock.optional(every, anchor, market, session_type, caller="cumulative_delta")
    if clock is None:
        require(ticks, "price", "size", caller="cumulative_delta")
        rows = sign_trades(ticks, method, quotes, quote_delay, sessions)
        rows = rows.with_columns(signed_volume=trade_size(ticks) * pl.col("sign"))
        total = pl.col("signed_volume").cum_sum()
    else:
        bars = delta(
            ticks,
            every,
            anchor=anchor,
            market=market,
            session_type=session_type,
            method=method,
            quotes=quotes,
            quote_delay=quote_delay,
            sessions=sessions,
        )
        rows, total = bars.lazy(), pl.col("delta").cum_sum()
    result = rows.with_columns(cumulative_delta=over_keys(total, grouping_keys(ticks)))
    return collect_like(ticks, result, engine="streaming")


@measure(
    "Order flow",
    WithArgument("every", ClockBars("quotes", previous=True, outside=True), Rowwise("last_quote")),
)
def order_flow_imbalance(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
) -> Frame:
    r"""Order-flow imbalance: signed changes of the best bid and ask.

    .. math:: e_n = q^B_n 1_{P^B_n \ge P^B_{n-1}} - q^B_{n-1} 1_{P^B_n \le P^B_{n-1}}
        - q^A_n 1_{P^A_n \le P^A_{n-1}} + q^A_{n-1} 1_{P^A_n \ge P^A_{n-1}}

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp bid_price bid_size ask_price ask_size``, in order of arrival.
    every : str or timedelta, optional
        The length of bars. By default each quote.
    anchor, market, session_type
        Start and end of bars, as in :func:`~ibticks.analysis.time_bars`.

    Returns
    -------
    same as ticks
        The quotes with ``order_flow_imbalance`` (float64; null at the first quote of a contract,
        and where it or the one before it lacks a side or a size), or bars: ``timestamp`` (start),
        ``contract_id``, ``order_flow_imbalance`` (the sum) and ``quotes`` (uint32).

    Notes
    -----
    The change from the last quote of one bar to the first of the next belongs to the next, be it
    over a night: it is a change of the book, without a length of time. IB sends
    changes at most some ten times a second for many contracts: the sum then tells of what changed
    in between, not of each order.

    References
    ----------
    R. Cont, A. Kukanov and S. Stoikov, The price impact of order book events, *Journal of Financial
    Econometrics* 12 (2014), 47-88.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> quotes = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2025, 1, 10, 15, 0, s, tzinfo=UTC) for s in (1, 2, 3)],
    ...         "bid_price": [10.0, 10.1, 10.1],
    ...         "bid_size": [5, 7, 4],
    ...         "ask_price": [10.2, 10.2, 10.3],
    ...         "ask_size": [6, 6, 9],
    ...     }
    ... )
    >>> order_flow_imbalance(quotes)["order_flow_imbalance"].to_list()
    [None, 7.0, 3.0]
    """
    needed = ("timestamp", "bid_price", "bid_size", "ask_price", "ask_size")
    require(ticks, *needed, caller="order_flow_imbalance")
    keys = grouping_keys(ticks)
    now = {f"_{name}": number_or_null(ticks, name).cast(pl.Float64) for name in _BOOK}
    rows = quote_rows(ticks).with_columns(**now)
    last = {f"_last{name}": over_keys(pl.col(name).shift(), keys) for name in now}
    bid, ask, size_b, size_a = (pl.col(name) for name in now)
    bid_0, ask_0, size_b0, size_a0 = (pl.col(name) for name in last)
    event = (
        size_b * (bid >= bid_0)
        - size_b0 * (bid <= bid_0)
        - size_a * (ask <= ask_0)
        + size_a0 * (ask >= ask_0)
    )
    clock = BarClock.optional(every, anchor, market, session_type, caller="order_flow_imbalance")
    if clock is None:
        names = [name for name in ticks.collect_schema() if name != "order_flow_imbalance"]
        result = rows.with_columns(**last).select(*names, order_flow_imbalance=event)
        return collect_like(ticks, result, engine="streaming")
    events = rows.with_columns(**last).with_columns(_event=event)
    bars = group_rows(
        clock.rows(events),
        _groups(ticks, clock),
        ticks,
        clock,
        order_flow_imbalance=pl.col("_event").sum(),
        quotes=pl.len().cast(pl.UInt32),
    )
    return collect_like(ticks, bars, engine="streaming")


@measure("Order flow", Rowwise())
def quote_imbalance(ticks: Frame) -> Frame:
    r"""Imbalance of bid and ask sizes: :math:`(q^B - q^A) / (q^B + q^A)`.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``bid_price``, ``bid_size``, ``ask_price`` and ``ask_size``.

    Returns
    -------
    same as ticks
        The quotes, with ``quote_imbalance`` (float64 within -1 to 1; null where a size is missing,
        both are 0, or a side is absent).

    References
    ----------
    M. D. Gould and J. Bonart, Queue imbalance as a one-tick-ahead price predictor in a limit order
    book, *Market Microstructure and Liquidity* 2 (2016), 1650006.

    Examples
    --------
    >>> quotes = pl.DataFrame(
    ...     {"bid_price": [1.0], "bid_size": [300], "ask_price": [2.0], "ask_size": [100]}
    ... )
    >>> quote_imbalance(quotes)["quote_imbalance"].to_list()
    [0.5]
    """
    require(ticks, "bid_price", "bid_size", "ask_price", "ask_size", caller="quote_imbalance")
    bid, ask = (number_or_null(ticks, name).cast(pl.Float64) for name in ("bid_size", "ask_size"))
    # The size of a side without a price does not count.
    sides = (
        number_or_null(ticks, "bid_price").is_not_null()
        & number_or_null(ticks, "ask_price").is_not_null()
    )
    fraction = pl.when(sides & (bid + ask > 0)).then((bid - ask) / (bid + ask))
    result = quote_rows(ticks).with_columns(quote_imbalance=fraction)
    return collect_like(ticks, result, engine="streaming")


def price_level(step: float | None) -> pl.Expr:
    """Return the price level: the price itself, or the nearest multiple of the step.

    Examples
    --------
    >>> pl.DataFrame({"price": [10.07, 10.13]}).select(price_level(0.25)).to_series().to_list()
    [10.0, 10.25]
    """
    if step is None:
        return pl.col("price")
    if not 0 < step < np.inf:
        raise InputError(f"price levels {step} apart: the step must be above 0")
    return ((pl.col("price") / step).round() * step).round(12).alias("price")


def trade_size(ticks: pl.DataFrame | pl.LazyFrame) -> pl.Expr:
    """Return the size of a trade, 0 where it is absent.

    Examples
    --------
    >>> ticks = pl.DataFrame({"size": [100.0, -1.0, None]})
    >>> ticks.select(trade_size(ticks))["size"].to_list()
    [100.0, 0.0, 0.0]
    """
    size = pl.col("size").cast(pl.Float64)
    if is_all_set(ticks, "size", least=0):
        return size
    return pl.when(is_set(size) & (size > 0)).then(size).otherwise(0.0).alias("size")


_BOOK = ("bid_price", "ask_price", "bid_size", "ask_size")


def _groups(ticks: pl.DataFrame | pl.LazyFrame, clock: BarClock | None) -> list[pl.Expr]:
    keys = [pl.col(name) for name in key_columns(ticks)]
    if clock is None:
        return keys
    require(ticks, "timestamp", caller="bars")
    return [clock.timestamp(ticks), *keys]
