"""Liquidity and toxicity: price impact by volume, Roll's spread and VPIN."""

from __future__ import annotations

from math import erf
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np
import polars as pl

from ibticks.analysis._engine.bars import Anchor, BarClock
from ibticks.analysis._engine.columns import Frame, collect_like, key_columns, require
from ibticks.analysis._engine.grouping import group_rows, trade_rows
from ibticks.analysis._engine.registry import NotIncremental, measure
from ibticks.analysis._flow import trade_size
from ibticks.analysis._signing import SigningMethod, sign_trades
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    from numpy.typing import NDArray

    from ibticks.analysis._engine.sessions import SessionIntervals
    from ibticks.calendar import Market

    Floats = NDArray[np.float64]

__all__ = ["amihud", "kyle_lambda", "roll_spread", "vpin"]


@measure("Costs and liquidity", NotIncremental("it is a fit over all there is"))
def kyle_lambda(
    ticks: Frame,
    every: str | timedelta | None = "1m",
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
    method: SigningMethod | None = None,
    quotes: Frame | None = None,
    quote_delay: str | timedelta = "0s",
    sessions: SessionIntervals | None = None,
) -> Frame:
    r"""Kyle's lambda: change of the price by unit of net volume.

    The slope of :math:`\Delta p_t = \alpha + \lambda \, x_t + \varepsilon_t` by least squares,
    where :math:`x_t` is the signed volume of the bar and :math:`\Delta p_t` the change from the
    last price of the bar before to the last price of it.

    Parameters
    ----------
    ticks
        As in :func:`~ibticks.analysis.signed_volume`.
    every : str or timedelta, optional
        The length of bars; ``None``: trade by trade.
    anchor, market, session_type
        Start and end of bars, as in :func:`~ibticks.analysis.time_bars`.
    method, quotes, quote_delay, sessions
        As in :func:`~ibticks.analysis.signed_volume`.

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
    require(ticks, "timestamp", "price", "size", caller="kyle_lambda")
    contract: list[pl.Expr] = [pl.col(key) for key in key_columns(ticks)]
    rows = sign_trades(ticks, method, quotes, quote_delay, sessions)
    volume = trade_size(ticks) * pl.col("sign")
    clock = BarClock.optional(every, anchor, market, session_type, caller="kyle_lambda")
    if clock is None:
        bars = rows.select(*contract, "price", _flow=volume)
    else:
        bars = group_rows(
            clock.rows(rows.select(*contract, "timestamp", "price", _flow=volume)),
            [*contract, clock.timestamp(ticks)],
            ticks,
            clock,
            price=pl.col("price").last(),
            _flow=pl.col("_flow").sum(),
        )
    x, y = pl.col("_flow"), pl.col("price").diff()
    known = y.is_not_null()
    sums = group_rows(
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
    result = sums.select(
        *contract,
        kyle_lambda=slope,
        t_statistic=rest * pl.col("_xy").sign(),
        r_squared=fit,
        observations="observations",
    )
    return collect_like(ticks, result, engine="streaming")


@measure("Costs and liquidity", NotIncremental("it is a mean over bars"))
def amihud(
    ticks: Frame,
    every: str | timedelta = "1d",
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
) -> Frame:
    r"""Amihud's illiquidity: the mean of :math:`|r_t| / (\text{price} \times \text{volume})_t`.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, ``price`` and ``size``, in order of arrival.
    every : str or timedelta
        The length of bars; Amihud has days.
    anchor, market, session_type
        Start and end of bars, as in :func:`~ibticks.analysis.time_bars`.

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
    require(ticks, "timestamp", "price", "size", caller="amihud")
    contract: list[pl.Expr] = [pl.col(key) for key in key_columns(ticks)]
    clock = BarClock.of(every, anchor, market, session_type, caller="amihud")
    bars = group_rows(
        clock.rows(trade_rows(ticks)),
        [*contract, clock.timestamp(ticks)],
        ticks,
        clock,
        price=pl.col("price").last(),
        _value=(pl.col("price") * trade_size(ticks)).abs().sum(),
    )
    # A bar whose price has no return parts its neighbours: it is not bridged.
    price = pl.when(pl.col("price") > 0).then("price")
    move = (price / price.shift() - 1).abs()
    ratio = pl.when(pl.col("_value") > 0).then(move / pl.col("_value"))
    result = group_rows(
        bars, contract, ticks, amihud=ratio.mean(), observations=ratio.count().cast(pl.UInt32)
    )
    return collect_like(ticks, result)


@measure("Costs and liquidity", NotIncremental("it is a fit over all there is"))
def roll_spread(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
) -> Frame:
    r"""Roll's spread of trades: :math:`2 \sqrt{-\mathrm{cov}(\Delta p_t, \Delta p_{t-1})}`.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``price``, in order of arrival, and ``timestamp`` if there are bars.
    every : str or timedelta, optional
        The length of bars, whose last prices are taken. By default every trade is.
    anchor, market, session_type
        Start and end of bars, as in :func:`~ibticks.analysis.time_bars`.

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
    >>> roll_spread(bounce).select(pl.col("roll").round(3), "observations").row(0)
    (0.866, 5)
    """
    require(ticks, "price", caller="roll_spread")
    contract: list[pl.Expr] = [pl.col(key) for key in key_columns(ticks)]
    rows = trade_rows(ticks)
    clock = BarClock.optional(every, anchor, market, session_type, caller="roll_spread")
    if clock is not None:
        require(ticks, "timestamp", caller="roll_spread")
        groups = [*contract, clock.timestamp(ticks)]
        rows = group_rows(clock.rows(rows), groups, ticks, clock, price=pl.col("price").last())
    move = pl.col("price").diff()
    pairs = (pl.len().cast(pl.Int64) - 2).clip(lower_bound=0)
    sums = group_rows(
        rows,
        contract,
        ticks,
        covariance=pl.when(pairs > 1).then(pl.cov(move.shift(), move)),
        observations=pairs.cast(pl.UInt32),
    )
    covariance = pl.col("covariance")
    result = sums.select(
        *contract,
        pl.when(covariance <= 0).then(2 * (-covariance).sqrt()).alias("roll"),
        covariance,
        "observations",
    )
    return collect_like(ticks, result, engine="streaming" if every is None else "in-memory")


_VOLUME_TOLERANCE: Final = 1e-12
"""Relative tolerance: far above the rounding of a sum, far below a decimal of a volume."""

_Classes = Literal["bulk", "signs"]


@measure("Order flow", NotIncremental("the scale of its classes is that of all bars there are"))
def vpin(
    ticks: Frame,
    bucket: float | None = None,
    *,
    window: int = 50,
    bars: str | timedelta = "1m",
    classify: _Classes = "bulk",
) -> Frame:
    r"""Volume-synchronised probability of informed trading.

    Volume is cut into buckets of the same size V. In bulk, the volume of each time bar is bought to
    the share :math:`Z(\Delta P / \sigma_{\Delta P})`, Z the normal distribution, and the rest sold;
    a bar that fills a bucket goes on in the next at the same share. Over n buckets

    .. math:: VPIN = \frac{\sum_{\tau=1}^{n} |V^S_\tau - V^B_\tau|}{nV}

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, ``price`` and ``size``, in order of arrival. Collected as soon as
        a lazy result is, when they are bars.
    bucket : float, optional
        V. By default a fiftieth of the volume of a day, on the average over the days (in UTC) that
        have trades.
    window : int
        n, over which VPIN is taken.
    bars : str or timedelta
        The length of the time bars.
    classify : str
        ``"bulk"``, or ``"signs"``: the column ``sign`` if there is one, else Lee and Ready's with
        the quotes of the same frame.

    Returns
    -------
    same as ticks
        A row for each full bucket, contract by contract: ``contract_id``, ``timestamp`` (start of
        the bar that filled it), ``bucket`` (uint32, from 0), ``buy_volume``, ``sell_volume``,
        ``vpin`` (float64, null before there are ``window`` buckets). Volume that cannot be signed
        is shared equally.

    Notes
    -----
    :math:`\Delta P` is from the last price of a bar to that of the next, 0 at the first (R's
    *PINstimation* takes it from the first price of a bar to its last); :math:`\sigma` is that of
    all bars there are. Later days thus enter, as in the paper; take the frame no
    longer than that may be.

    References
    ----------
    D. Easley, M. M. López de Prado and M. O'Hara, Flow toxicity and liquidity in a high-frequency
    world, *Review of Financial Studies* 25 (2012), 1457-1493.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> round(vpin(ibm, 50_000)["vpin"].mean(), 3)
    0.167
    """
    require(ticks, "timestamp", "price", "size", caller="vpin")
    if classify not in get_args(_Classes):
        raise InputError(f"vpin: classify={classify!r}; there are {', '.join(get_args(_Classes))}")
    if window < 1 or not (bucket is None or 0 < bucket < np.inf):
        raise InputError("vpin: a bucket has a volume above 0, and a window one bucket or more")
    keys: list[str] = key_columns(ticks)
    size = trade_size(ticks)
    lazy = ticks.lazy()
    sums = {"_price": pl.col("price").last(), "_volume": size.sum()}
    if classify == "signs":
        rows = sign_trades(ticks, None, None, "0s")
        sums["_bought"] = (size * (1 + pl.col("sign")) / 2).sum()
    else:
        rows = trade_rows(ticks)
    start = BarClock.of(bars, caller="vpin").timestamp(ticks)
    barred = group_rows(rows, [*(pl.col(key) for key in keys), start], ticks, **sums)
    known = lazy.collect_schema()
    schema = {
        **{key: known[key] for key in keys},
        "timestamp": barred.collect_schema()["timestamp"],
        "bucket": pl.UInt32(),
        "buy_volume": pl.Float64(),
        "sell_volume": pl.Float64(),
        "vpin": pl.Float64(),
    }

    def bucketed(frame: pl.DataFrame) -> pl.DataFrame:
        blocks = frame.partition_by(keys, maintain_order=True) if keys and len(frame) else [frame]
        return pl.concat(
            _buckets(block, keys, bucket, window).select(list(schema)) for block in blocks
        )

    return collect_like(ticks, barred.map_batches(bucketed, schema=schema))


def _buckets(
    bars: pl.DataFrame, keys: list[str], bucket: float | None, window: int
) -> pl.DataFrame:
    volume = bars["_volume"].to_numpy()
    if "_bought" in bars.columns:
        bought = bars["_bought"].to_numpy()
    else:
        bought = volume * _bulk(bars["_price"].to_numpy())
    from ibticks.analysis._engine.kernels import compensated_cumulative_sum

    total = np.concatenate([[0.0], compensated_cumulative_sum(volume)])
    size = bucket or total[-1] / max(1, bars["timestamp"].dt.date().n_unique()) / 50 or 1.0
    count = int(total[-1] / size * (1 + _VOLUME_TOLERANCE))
    edges = size * np.arange(1, count + 1)
    # Bought volume as a function of volume is straight within a bar.
    buys = np.diff(np.interp(edges, total, np.concatenate([[0.0], np.cumsum(bought)])), prepend=0.0)
    filled = np.searchsorted(total[1:], edges * (1 - _VOLUME_TOLERANCE))
    result = bars[filled].select(
        *keys,
        "timestamp",
        bucket=pl.int_range(pl.len(), dtype=pl.UInt32),
        buy_volume=pl.Series(buys, dtype=pl.Float64),
        sell_volume=pl.Series(size - buys, dtype=pl.Float64),
    )
    uneven = (pl.col("buy_volume") - pl.col("sell_volume")).abs()
    return result.with_columns(vpin=uneven.rolling_mean(window) / size)


def _bulk(prices: Floats) -> Floats:
    """Return the fraction of each bar that is classified as bought."""
    change = np.diff(prices, prepend=prices[:1])
    spread = float(np.std(change[1:], ddof=1)) if len(change) > 2 else 0.0
    if not spread:
        return np.full(len(prices), 0.5)
    return np.array([(1 + erf(value / spread / 2**0.5)) / 2 for value in change])
