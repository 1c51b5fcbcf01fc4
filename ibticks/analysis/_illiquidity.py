"""Price impact and costs estimated from trades alone: Kyle, Amihud, Roll.

A change of price over a night counts as one more change: it has neither a horizon nor a time
weight. Where it should not, take each day by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ibticks.analysis._bar_clock import Anchor, BarClock
from ibticks.analysis._columns import F, by, like, require
from ibticks.analysis._flow import sized
from ibticks.analysis._grouping import grouped, trade_rows
from ibticks.analysis._signing import Method, signed

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.analysis._session_split import SessionIntervals
    from ibticks.calendar import Market

__all__ = ["amihud", "kyle_lambda", "roll"]


def kyle_lambda(
    ticks: F,
    every: str | timedelta | None = "1m",
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
    method: Method | None = None,
    quotes: F | None = None,
    quote_delay: str | timedelta = "0s",
    sessions: SessionIntervals | None = None,
) -> F:
    r"""Kyle's lambda: by how much a unit of net volume moves the price.

    The slope of :math:`\Delta p_t = \alpha + \lambda \, x_t + \varepsilon_t` by least squares,
    where :math:`x_t` is the signed volume of the bar and :math:`\Delta p_t` the change from the
    last price of the bar before to the last price of it.

    Parameters
    ----------
    ticks, method, quotes, quote_delay, sessions
        As in :func:`~ibticks.analysis.signed_volume`.
    every : str or timedelta, optional
        The length of bars; ``None``: trade by trade.
    anchor, market, session_type
        When bars begin and end, as in :func:`~ibticks.analysis.time_bars`.

    Returns
    -------
    same as ticks
        A row for each contract: ``contract_id``, ``kyle_lambda`` (float64, price per unit of
        volume; null if the volume never differs), ``t_statistic``, ``r_squared`` and
        ``observations`` (uint32).

    References
    ----------
    A. S. Kyle, Continuous auctions and insider trading, *Econometrica* 53 (1985), 1315-1335.
    M. López de Prado, *Advances in Financial Machine Learning* (2018), pages 286-288, who has no
    intercept.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> found = kyle_lambda(ibm, "5m", method="tick")
    >>> found.select((pl.col("kyle_lambda") * 1e6).round(2), "observations").row(0)
    (1.68, 98)
    """
    require(ticks, "timestamp", "price", "size", what="kyle_lambda")
    contract: list[pl.Expr] = [pl.col(key) for key in by(ticks)]
    rows = signed(ticks, method, quotes, quote_delay, sessions)
    volume = sized(ticks) * pl.col("sign")
    clock = BarClock.if_any(every, anchor, market, session_type, what="kyle_lambda")
    if clock is None:
        bars = rows.select(*contract, "price", _flow=volume)
    else:
        bars = grouped(
            clock.rows(rows.select(*contract, "timestamp", "price", _flow=volume)),
            [*contract, clock.timestamp(ticks)],
            ticks,
            clock,
            price=pl.col("price").last(),
            _flow=pl.col("_flow").sum(),
        )
    x, y = pl.col("_flow"), pl.col("price").diff()
    known = y.is_not_null()
    sums = grouped(
        bars,
        contract,
        ticks,
        _xy=pl.cov(x.filter(known), y.filter(known)),
        _xx=x.filter(known).var(),
        _yy=y.filter(known).var(),
        observations=known.sum().cast(pl.UInt32),
    )
    slope = pl.when(pl.col("_xx") > 0).then(pl.col("_xy") / pl.col("_xx"))
    fit = pl.when((pl.col("_xx") > 0) & (pl.col("_yy") > 0)).then(
        pl.col("_xy") ** 2 / (pl.col("_xx") * pl.col("_yy"))
    )
    freedom = pl.col("observations").cast(pl.Int64) - 2
    rest = pl.when((freedom > 0) & (fit < 1)).then((freedom * fit / (1 - fit)).sqrt())
    found = sums.select(
        *contract,
        kyle_lambda=slope,
        t_statistic=rest * pl.col("_xy").sign(),
        r_squared=fit,
        observations="observations",
    )
    return like(ticks, found, engine="streaming")


def amihud(
    ticks: F,
    every: str | timedelta = "1d",
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
) -> F:
    r"""Amihud's illiquidity: the mean of :math:`|r_t| / (\text{price} \times \text{volume})_t`.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, ``price`` and ``size``, in order of arrival.
    every : str or timedelta
        The length of bars; Amihud has days.
    anchor, market, session_type
        When bars begin and end, as in :func:`~ibticks.analysis.time_bars`.

    Returns
    -------
    same as ticks
        A row for each contract: ``contract_id``, ``amihud`` (float64, return per unit of currency;
        many scale it by 10^6) and ``observations`` (uint32: bars with one before them, and with
        volume; both with a last price above 0, since no other has a return).

    Notes
    -----
    A return is that from the last price of a bar to that of the next which has a trade.

    References
    ----------
    Y. Amihud, Illiquidity and stock returns, *Journal of Financial Markets* 5 (2002), 31-56.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> amihud(ibm, "1h").with_columns((pl.col("amihud") * 1e12).round(2)).row(0)
    (6194.95, 11)
    """
    require(ticks, "timestamp", "price", "size", what="amihud")
    contract: list[pl.Expr] = [pl.col(key) for key in by(ticks)]
    clock = BarClock.of(every, anchor, market, session_type, what="amihud")
    bars = grouped(
        clock.rows(trade_rows(ticks)),
        [*contract, clock.timestamp(ticks)],
        ticks,
        clock,
        price=pl.col("price").last(),
        _value=(pl.col("price") * sized(ticks)).abs().sum(),
    )
    # A bar whose price has no return parts its neighbours: it is not bridged.
    price = pl.when(pl.col("price") > 0).then("price")
    move = (price / price.shift() - 1).abs()
    ratio = pl.when(pl.col("_value") > 0).then(move / pl.col("_value"))
    found = grouped(
        bars, contract, ticks, amihud=ratio.mean(), observations=ratio.count().cast(pl.UInt32)
    )
    return like(ticks, found)


def roll(
    ticks: F,
    every: str | timedelta | None = None,
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
) -> F:
    r"""Roll's spread, of trades alone: :math:`2 \sqrt{-\mathrm{cov}(\Delta p_t, \Delta p_{t-1})}`.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``price``, in order of arrival, and ``timestamp`` if there are bars.
    every : str or timedelta, optional
        The length of bars, whose last prices are taken. By default every trade is.
    anchor, market, session_type
        When bars begin and end, as in :func:`~ibticks.analysis.time_bars`.

    Returns
    -------
    same as ticks
        A row for each contract: ``contract_id``, ``roll`` (float64, in units of price; null where
        the covariance is positive), ``covariance`` and ``observations`` (uint32, pairs).

    References
    ----------
    R. Roll, A simple implicit measure of the effective bid-ask spread in an efficient market,
    *Journal of Finance* 39 (1984), 1127-1139.

    Examples
    --------
    >>> bounce = pl.DataFrame({"price": [10.0, 10.5, 10.0, 10.5, 10.5, 10.0, 10.5]})
    >>> roll(bounce).select(pl.col("roll").round(3), "observations").row(0)
    (0.866, 5)
    """
    require(ticks, "price", what="roll")
    contract: list[pl.Expr] = [pl.col(key) for key in by(ticks)]
    rows = trade_rows(ticks)
    clock = BarClock.if_any(every, anchor, market, session_type, what="roll")
    if clock is not None:
        require(ticks, "timestamp", what="roll")
        groups = [*contract, clock.timestamp(ticks)]
        rows = grouped(clock.rows(rows), groups, ticks, clock, price=pl.col("price").last())
    move = pl.col("price").diff()
    pairs = (pl.len().cast(pl.Int64) - 2).clip(lower_bound=0)
    sums = grouped(
        rows,
        contract,
        ticks,
        covariance=pl.when(pairs > 1).then(pl.cov(move.shift(), move)),
        observations=pairs.cast(pl.UInt32),
    )
    covariance = pl.col("covariance")
    found = sums.select(
        *contract,
        pl.when(covariance <= 0).then(2 * (-covariance).sqrt()).alias("roll"),
        covariance,
        "observations",
    )
    return like(ticks, found, engine="streaming" if every is None else "in-memory")
