"""Realised variance, and its forms that are robust to noise and jumps.

A variance here is that of log prices over the whole time the ticks cover, nights included; the
square root is the volatility of that time. ``per`` keeps days apart, so that no return reaches over
a night. Prices that are null, not finite or 0 (rule P2 of ``no_zero_prices``) are left out. Where a
price is negative, as those of spreads and of oil in April 2020 were, there is no log return: the
measure of that contract (and ``per``) is null, and so is the number of returns. Take the variance
of price changes there, or leave out such days.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ibticks.analysis._engine.columns import (
    Frame,
    collect_like,
    duration_ns,
)
from ibticks.analysis._engine.grouping import constant_keys
from ibticks.analysis._engine.registry import (
    USE_BUFFER,
    Additive,
    NotIncremental,
    WithArgument,
    measure,
)
from ibticks.analysis._engine.sampling import (
    LOG_PRICE,
    LOG_PRICES,
    Sampled,
    measure_groups,
    noise_variance,
    pilot_variance,
    positive_prices,
    sample_groups,
)
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["bipower_variation", "realized_variance", "signature", "two_scale_rv"]

_INTERVALS: Final = ["1s", "2s", "5s", "10s", "15s", "30s", "1m", "2m", "5m", "10m", "15m", "30m"]


@measure(
    "Volatility",
    WithArgument(
        "every",
        NotIncremental(
            "it samples prices",
            f"leave out every=, so that each tick is one, or {USE_BUFFER}",
        ),
        Additive(("realized_variance", "returns"), lookback="last_priced"),
    ),
)
def realized_variance(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    subsamples: int = 1,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Sum of squared log returns, :math:`\sum_i (\ln p_i - \ln p_{i-1})^2`.

    Sampled by the previous tick: the first price, then the last price at or before each multiple
    of ``every`` (counted from 1970 in UTC) up to the one after the last tick. With ``subsamples``
    the mean of that over as many grids, each ``every / subsamples`` later than the one before: the
    "second best" estimator of Zhang, Mykland and Aït-Sahalia, less noisy at the same bias.
    (``rAVGCov`` of R's *highfrequency* leaves out what is no whole interval at either end, and
    scales the rest up.)

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp`` and ``column``, in order of arrival.
    every : str or timedelta, optional
        The time between prices: ``"5m"``. By default each tick is one.
    subsamples : int
        Number of grids; must divide ``every``.
    column : str
        The price: ``price``, ``mid_price``, or any other column.
    per : str or polars.Expr, optional
        Column or expression that keeps rows apart, such as
        ``pl.col("timestamp").dt.convert_time_zone("America/New_York").dt.date()``.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price, in their order: these,
        ``realized_variance`` (float64, of log prices, not annualised) and ``returns`` (uint32, how
        many it sums; of one grid); both null where a price is negative.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``subsamples`` without ``every``, or one that does not divide it.

    References
    ----------
    O. E. Barndorff-Nielsen and N. Shephard, Econometric analysis of realized volatility, *Journal
    of the Royal Statistical Society B* 64 (2002), 253-280. L. Zhang, P. A. Mykland and
    Y. Aït-Sahalia, A tale of two time scales, *Journal of the American Statistical Association*
    100 (2005), 1394-1411.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> found = realized_variance(ibm, "5m")
    >>> found.select(pl.col("realized_variance").sqrt().round(5), "returns").row(0)
    (0.01453, 128)
    """
    logs, groups = positive_prices(ticks, column, per, "realized_variance")
    if every is None:
        if subsamples != 1:
            raise InputError("realized_variance: subsamples need the time between prices, every=")
        result = _sums(ticks, logs, groups, realized_variance=LOG_PRICE.diff().pow(2).sum())
        return collect_like(ticks, result)
    step = duration_ns(every)
    if subsamples < 1 or step % subsamples:
        raise InputError(
            f"{subsamples} subsamples do not divide {step} ns evenly; choose a number that does"
        )

    def measure(sampled: Sampled) -> tuple[Any, ...]:
        returns = sampled.coarser(subsamples).intervals
        return sampled.variance_on_grids(subsamples), returns

    schema = {"realized_variance": pl.Float64(), "returns": pl.UInt32()}
    result = sample_groups(ticks, logs, groups, column, step // subsamples, measure, schema)
    return collect_like(ticks, result)


@measure("Volatility", NotIncremental("it samples prices and looks at all of them together"))
def signature(
    ticks: Frame,
    every: str | timedelta | Sequence[str | timedelta] = tuple(_INTERVALS),
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    """Realised variance by sampling interval: the data of a signature plot.

    Where it rises to the left, noise (the bid-ask bounce above all) is what is measured; the
    interval from which on it is flat is the one to sample at.

    Parameters
    ----------
    ticks
        As in :func:`realized_variance`.
    every : str or timedelta, or a sequence of them
        The intervals.
    column, per
        As in :func:`realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) and interval: these, ``every`` (duration[ns]),
        ``realized_variance`` and ``returns``.

    References
    ----------
    T. G. Andersen, T. Bollerslev, F. X. Diebold and P. Labys, Great realizations, *Risk* 13 (2000),
    105-108.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> [round(rv**0.5, 4) for rv in signature(ibm, ["1s", "1m", "5m"])["realized_variance"]]
    [0.0217, 0.0182, 0.0145]
    """
    if not every:
        raise InputError("signature needs at least one interval, as in every=['1s', '1m']")
    logs, groups = positive_prices(ticks, column, per, "signature")
    each_of = (every,) if isinstance(every, str | timedelta) else every
    steps = sorted(duration_ns(value) for value in each_of)
    # One pass over the ticks on the finest common grid; the rest is small.
    finest = int(np.gcd.reduce(np.array(steps)))

    def measure(sampled: Sampled) -> tuple[Any, ...]:
        coarse = [sampled.coarser(step // finest) for step in steps]
        variances = [value.returns @ value.returns for value in coarse]
        return steps, variances, [value.intervals for value in coarse]

    types = {
        "every": pl.Duration("ns"),
        "realized_variance": pl.Float64(),
        "returns": pl.UInt32(),
    }
    schema = {name: pl.List(value) for name, value in types.items()}
    nothing = [None] * len(steps)
    undefined = steps, nothing, nothing
    result = sample_groups(ticks, logs, groups, column, finest, measure, schema, undefined)
    return collect_like(ticks, result.explode(*types, empty_as_null=False, keep_nulls=False))


@measure("Volatility", NotIncremental("it samples prices and looks at all of them together"))
def two_scale_rv(
    ticks: Frame,
    slow: int | None = None,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
    adjusted: bool = True,
) -> Frame:
    r"""Two-scale realised variance: free of independent noise, from every tick.

    .. math:: \frac1K \sum_{i=K}^{n} (X_i - X_{i-K})^2
        - \frac{\bar n}{n} \sum_{i=1}^{n} (X_i - X_{i-1})^2, \qquad \bar n = \frac{n - K + 1}{K}

    of the log prices :math:`X_0 \dots X_n`; divided by :math:`1 - \bar n / n` if ``adjusted``, for
    small samples.

    Parameters
    ----------
    ticks
        As in :func:`realized_variance`. Collected as soon as a lazy result is.
    slow : int, optional
        K, the ticks between the prices of the slow scale. R's *highfrequency* has 300. By default
        the optimal :math:`(12 \omega^4 / IV^2)^{1/3} n^{2/3}`, rounded up, with the noise as in
        ``noise_variance`` and the variance as in
        ``pilot_variance``.
    column, per
        As in :func:`realized_variance`. Collected as soon as a lazy result is.
    adjusted : bool
        Whether to correct for small samples.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``two_scale_rv`` (float64;
        null with no more than K returns; can be negative), ``slow`` (uint32) and ``returns``.

    Notes
    -----
    n counts returns, as in the paper; R's *highfrequency* (``rTSCov``) counts prices.

    References
    ----------
    L. Zhang, P. A. Mykland and Y. Aït-Sahalia, A tale of two time scales, *Journal of the American
    Statistical Association* 100 (2005), 1394-1411.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> round(two_scale_rv(ibm, 300)["two_scale_rv"].item() ** 0.5, 5)
    0.00752
    """
    if slow is not None and slow < 2:
        raise InputError(f"two_scale_rv: the slow scale must be two ticks or more, not {slow}")

    def measure(at: NDArray[np.int64], log: NDArray[np.float64]) -> tuple[Any, ...]:
        n = len(log) - 1
        k = slow or _optimal_scale(at, log)
        if n <= k:
            return None, k, n
        slower, fast = log[k:] - log[:-k], np.diff(log)
        fraction = (n - k + 1) / k / n
        value = slower @ slower / k - fraction * (fast @ fast)
        return value / (1 - fraction) if adjusted else value, k, n

    logs, groups = positive_prices(ticks, column, per, "two_scale_rv")
    schema = {"two_scale_rv": pl.Float64(), "slow": pl.UInt32(), "returns": pl.UInt32()}
    return collect_like(ticks, measure_groups(ticks, logs, groups, LOG_PRICES, measure, schema))


@measure("Volatility", NotIncremental("it samples prices and looks at all of them together"))
def bipower_variation(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
    adjusted: bool = False,
) -> Frame:
    r"""Bipower variation, robust to jumps, and the fraction of jumps in realised variance.

    .. math:: BV = \frac\pi2 \sum_{i=2}^{n} |r_i| |r_{i-1}|,
        \qquad \text{jump share} = \max(0, 1 - BV / RV)

    Parameters
    ----------
    ticks, every, column, per
        As in :func:`realized_variance`. Of every tick, half the returns or more are zero and the
        measure says little: sample at some seconds or minutes.
    adjusted : bool
        Whether to correct for small samples, by :math:`n / (n - 1)`. Null with fewer than two
        returns then.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``bipower_variation``
        (float64), ``realized_variance``, ``jump_share`` (null if nothing moved), ``returns``.

    References
    ----------
    O. E. Barndorff-Nielsen and N. Shephard, Power and bipower variation with stochastic volatility
    and jumps, *Journal of Financial Econometrics* 2 (2004), 1-37.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> round(bipower_variation(ibm, "5m")["jump_share"].item(), 3)
    0.237
    """
    logs, groups = positive_prices(ticks, column, per, "bipower_variation")
    if every is None:
        move = LOG_PRICE.diff()
        pairs = (move.abs() * move.abs().shift()).sum()
        sums = {"bipower_variation": pairs * np.pi / 2, "realized_variance": move.pow(2).sum()}
        result = _sums(ticks, logs, groups, **sums)
    else:

        def measure(sampled: Sampled) -> tuple[Any, ...]:
            sizes = np.abs(sampled.returns)
            # An interval without a tick has no return, and no product.
            adjacent = np.diff(sampled.bucket) == 1
            products = (sizes[1:] * sizes[:-1])[adjacent].sum()
            return products * np.pi / 2, sizes @ sizes, sampled.intervals

        schema = {
            "bipower_variation": pl.Float64(),
            "realized_variance": pl.Float64(),
            "returns": pl.UInt32(),
        }
        result = sample_groups(ticks, logs, groups, column, duration_ns(every), measure, schema)
    if adjusted:
        # A product less than there are returns.
        n = pl.col("returns").cast(pl.Float64)
        corrected = pl.col("bipower_variation") * n / (n - 1)
        result = result.with_columns(bipower_variation=pl.when(n > 1).then(corrected))
    fraction = 1 - pl.col("bipower_variation") / pl.col("realized_variance")
    fraction = pl.when(pl.col("realized_variance") > 0).then(fraction.clip(lower_bound=0))
    measures = ["bipower_variation", "realized_variance", "jump_share", "returns"]
    result = result.with_columns(jump_share=fraction)
    return collect_like(ticks, result.select(pl.exclude(measures), *measures))


def _sums(
    ticks: pl.DataFrame | pl.LazyFrame, logs: pl.LazyFrame, groups: list[str], **values: pl.Expr
) -> pl.LazyFrame:
    """Return a row for each group that has rows, with its number of returns."""
    values["returns"] = (pl.len() - 1).cast(pl.UInt32)
    has_logs = pl.col("_price").min() > 0
    values = {name: pl.when(has_logs).then(value) for name, value in values.items()}
    if groups == ["_all"]:
        result = logs.select(pl.first("_all"), **values).drop_nulls("_all")
    else:
        result = logs.group_by(groups).agg(**values).sort(groups)
    return result.select(*constant_keys(ticks, groups), pl.exclude("_all"))


def _optimal_scale(at: NDArray[np.int64], log: NDArray[np.float64]) -> int:
    noise, variance = noise_variance(at, log), pilot_variance(at, log)
    if variance <= 0:
        return 2
    scale = (12 * (noise / variance) ** 2) ** (1 / 3) * len(log) ** (2 / 3)
    return max(2, int(np.ceil(scale)))
