"""VPIN: how one-sided the flow of volume is, in time that volume keeps."""

from __future__ import annotations

from math import erf
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np
import polars as pl

from ibticks.analysis._bar_clock import BarClock
from ibticks.analysis._columns import F, by, like, require
from ibticks.analysis._flow import sized
from ibticks.analysis._grouping import grouped, trade_rows
from ibticks.analysis._signing import signed
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["vpin"]

_ROUNDING: Final = 1e-12  # of a volume: far above that of its sum, far below a decimal of it
_Classes = Literal["bulk", "signs"]


def vpin(
    ticks: F,
    bucket: float | None = None,
    *,
    window: int = 50,
    bars: str | timedelta = "1m",
    classify: _Classes = "bulk",
) -> F:
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
    all bars there are. What is known of later days thus enters, as in the paper; take the frame no
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
    require(ticks, "timestamp", "price", "size", what="vpin")
    if classify not in get_args(_Classes):
        raise InputError(f"vpin: classify={classify!r}; there are {', '.join(get_args(_Classes))}")
    if window < 1 or not (bucket is None or 0 < bucket < np.inf):
        raise InputError("vpin: a bucket has a volume above 0, and a window one bucket or more")
    keys: list[str] = by(ticks)
    size = sized(ticks)
    lazy = ticks.lazy()
    sums = {"_price": pl.col("price").last(), "_volume": size.sum()}
    if classify == "signs":
        rows = signed(ticks, None, None, "0s")
        sums["_bought"] = (size * (1 + pl.col("sign")) / 2).sum()
    else:
        rows = trade_rows(ticks)
    start = BarClock.of(bars, what="vpin").timestamp(ticks)
    barred = grouped(rows, [*(pl.col(key) for key in keys), start], ticks, **sums)
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
        parts = frame.partition_by(keys, maintain_order=True) if keys and len(frame) else [frame]
        return pl.concat(
            _buckets(part, keys, bucket, window).select(list(schema)) for part in parts
        )

    return like(ticks, barred.map_batches(bucketed, schema=schema))


def _buckets(
    bars: pl.DataFrame, keys: list[str], bucket: float | None, window: int
) -> pl.DataFrame:
    volume = bars["_volume"].to_numpy()
    if "_bought" in bars.columns:
        bought = bars["_bought"].to_numpy()
    else:
        bought = volume * _bulk(bars["_price"].to_numpy())
    from ibticks.analysis._recurrences import compensated_cumulative_sum

    total = np.concatenate([[0.0], compensated_cumulative_sum(volume)])
    size = bucket or total[-1] / max(1, bars["timestamp"].dt.date().n_unique()) / 50 or 1.0
    count = int(total[-1] / size * (1 + _ROUNDING))
    edges = size * np.arange(1, count + 1)
    # Bought volume as a function of volume is straight within a bar.
    buys = np.diff(np.interp(edges, total, np.concatenate([[0.0], np.cumsum(bought)])), prepend=0.0)
    filled = np.searchsorted(total[1:], edges * (1 - _ROUNDING))
    found = bars[filled].select(
        *keys,
        "timestamp",
        bucket=pl.int_range(pl.len(), dtype=pl.UInt32),
        buy_volume=pl.Series(buys, dtype=pl.Float64),
        sell_volume=pl.Series(size - buys, dtype=pl.Float64),
    )
    uneven = (pl.col("buy_volume") - pl.col("sell_volume")).abs()
    return found.with_columns(vpin=uneven.rolling_mean(window) / size)


def _bulk(prices: Floats) -> Floats:
    """The share of each bar that is taken to be bought."""
    change = np.diff(prices, prepend=prices[:1])
    spread = float(np.std(change[1:], ddof=1)) if len(change) > 2 else 0.0
    if not spread:
        return np.full(len(prices), 0.5)
    return np.array([(1 + erf(each / spread / 2**0.5)) / 2 for each in change])
