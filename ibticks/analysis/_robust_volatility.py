"""Realised variance that is robust to jumps, or to noise, of one price.

Prices, sampling and ``per`` are those of :func:`~ibticks.analysis.realized_variance`. An interval
without a tick has a return of 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ibticks.analysis._engine.columns import Frame, collect_like
from ibticks.analysis._engine.neighbours import median_sum, minimum_sum, product_sum
from ibticks.analysis._engine.registry import NotIncremental, measure
from ibticks.analysis._engine.sampling import (
    LOG_PRICE,
    measure_groups,
    measure_returns,
    positive_prices,
)
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["med_rv", "min_rv", "preaveraged_rv", "threshold_rv"]

_SAMPLES = NotIncremental("it samples prices and looks at all of them together")


@measure("Volatility", _SAMPLES)
def med_rv(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
    adjusted: bool = True,
) -> Frame:
    r"""Median realised variance, robust to jumps and less sensitive to zero returns than bipower.

    .. math:: \frac{\pi}{6 - 4\sqrt3 + \pi} \frac{n}{n-2}
        \sum_{i=2}^{n-1} \operatorname{med}(|r_{i-1}|, |r_i|, |r_{i+1}|)^2

    Parameters
    ----------
    ticks, every, column, per
        As in :func:`~ibticks.analysis.realized_variance`.
    adjusted : bool
        Whether to correct for small samples, by :math:`n / (n - 2)`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``med_rv`` (float64; null
        with fewer than three returns) and ``returns`` (uint32).

    Raises
    ------
    UnknownColumnError
        A column is missing.

    Notes
    -----
    As ``rMedRVar`` of R's *highfrequency*, which counts a first return of 0.

    References
    ----------
    T. G. Andersen, D. Dobrev and E. Schaumburg, Jump-robust volatility estimation using nearest
    neighbor truncation, *Journal of Econometrics* 169 (2012), 75-93.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> round(med_rv(ibm, "5m")["med_rv"].item() ** 0.5, 5)
    0.01332
    """

    def estimate(returns: Floats, n: int) -> tuple[Any, ...]:
        return (median_sum(returns, n, 2, adjusted=adjusted),)

    return collect_like(
        ticks, measure_returns(ticks, every, column, per, "med_rv", ["med_rv"], estimate)
    )


@measure("Volatility", _SAMPLES)
def min_rv(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
    adjusted: bool = True,
) -> Frame:
    r"""Minimum realised variance, robust to jumps.

    .. math:: \frac{\pi}{\pi - 2} \frac{n}{n-1} \sum_{i=2}^{n} \min(|r_{i-1}|, |r_i|)^2

    Parameters
    ----------
    ticks, every, column, per
        As in :func:`~ibticks.analysis.realized_variance`.
    adjusted : bool
        Whether to correct for small samples, by :math:`n / (n - 1)`.

    Returns
    -------
    same as ticks
        As :func:`med_rv`, with ``min_rv``; null with fewer than two returns.

    Raises
    ------
    UnknownColumnError
        A column is missing.

    References
    ----------
    As for :func:`med_rv`.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> round(min_rv(ibm, "5m")["min_rv"].item() ** 0.5, 5)
    0.01331
    """

    def estimate(returns: Floats, n: int) -> tuple[Any, ...]:
        return (minimum_sum(returns, n, 2, adjusted=adjusted),)

    return collect_like(
        ticks, measure_returns(ticks, every, column, per, "min_rv", ["min_rv"], estimate)
    )


@measure("Volatility", _SAMPLES)
def threshold_rv(
    ticks: Frame,
    every: str | timedelta | None = None,
    threshold: float = 3.0,
    *,
    power: float = 0.49,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Threshold (truncated) realised variance: without the returns that are jumps.

    .. math:: \sum_{i=1}^{n} r_i^2 \, 1\{|r_i| \le c \sqrt{BV} \, n^{-\varpi}\}

    with the bipower variation :math:`BV` of the same returns.

    Parameters
    ----------
    ticks, every
        As in :func:`~ibticks.analysis.realized_variance`.
    threshold : float
        c, near the number of standard deviations of a return.
    power : float
        :math:`\varpi`, between 0 and 0.5.
    column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``threshold_rv`` (float64;
        null with fewer than two returns), ``truncated`` (float64, what the returns above the
        threshold add to realised variance) and ``returns`` (uint32).

    Raises
    ------
    InputError
        A threshold that is not above 0, or a power not between 0 and 0.5.

    References
    ----------
    C. Mancini, Non-parametric threshold estimation for models with stochastic diffusion coefficient
    and jumps, *Scandinavian Journal of Statistics* 36 (2009), 270-296. The threshold is that of
    ``rThresholdCov`` of R's *highfrequency*.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> threshold_rv(ibm, "5m").select(pl.col("threshold_rv", "truncated").sqrt().round(5)).row(0)
    (0.00879, 0.01157)
    """
    if not 0 < threshold < np.inf:
        raise InputError(f"threshold_rv: the threshold must be a number above 0, not {threshold}")
    if not 0 < power < 0.5:
        raise InputError(f"threshold_rv: the power must be between 0 and 0.5, not {power}")

    def estimate(returns: Floats, n: int) -> tuple[Any, ...]:
        bipower = product_sum(returns, n, 2, 1.0, adjusted=False)
        if bipower is None:
            return None, None
        small = np.abs(returns) <= threshold * bipower**0.5 * n**-power
        below, above = returns[small], returns[~small]
        return float(below @ below), float(above @ above)

    names = ["threshold_rv", "truncated"]
    result = measure_returns(ticks, every, column, per, "threshold_rv", names, estimate)
    return collect_like(ticks, result)


@measure("Volatility", _SAMPLES)
def preaveraged_rv(
    ticks: Frame,
    theta: float = 0.8,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Pre-averaged realised variance: free of noise, from every tick.

    .. math:: \frac{n}{n - k + 2} \frac{1}{k \psi_2} \sum_{i=0}^{n-k+1} \bar Y_i^2
        - \frac{\psi_1}{\theta_n^2 \psi_2} \frac{1}{2n} \sum_{i=1}^{n} r_i^2,
        \qquad \bar Y_i = \sum_{j=1}^{k-1} g(j / k) r_{i+j}

    with :math:`g(x) = \min(x, 1 - x)`, k the even number at or above :math:`\theta \sqrt n`,
    :math:`\theta_n = k / \sqrt n`, and :math:`\psi_1 = 1`, :math:`\psi_2 = (k^2 + 2) / (12 k^2)` as
    sums over k terms, not their limits.

    Parameters
    ----------
    ticks
        As in :func:`~ibticks.analysis.realized_variance`. Collected as soon as a lazy result is.
    theta : float
        :math:`\theta`, the width of the averages; 0.8 as in ``rMRCov`` of R's *highfrequency*.
    column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``preaveraged_rv`` (float64;
        null with fewer than k returns; can be negative), ``width`` (uint32, k) and ``returns``.

    Raises
    ------
    InputError
        A theta that is not above 0.

    References
    ----------
    J. Jacod, Y. Li, P. A. Mykland, M. Podolskij and M. Vetter, Microstructure noise in the
    continuous case: the pre-averaging approach, *Stochastic Processes and their Applications* 119
    (2009), 2249-2276. K. Christensen, S. Kinnebrock and M. Podolskij, Pre-averaging estimators of
    the ex-post covariance matrix, *Journal of Econometrics* 159 (2010), 116-133.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> preaveraged_rv(ibm).select(pl.col("preaveraged_rv").sqrt().round(4), "width").row(0)
    (0.0072, 148)
    """
    if not 0 < theta < np.inf:
        raise InputError(f"preaveraged_rv: theta must be a number above 0, not {theta}")

    def estimate(log: Floats) -> tuple[Any, ...]:
        n = len(log) - 1
        half = max(1, int(np.ceil(theta * n**0.5 / 2)))
        k = 2 * half
        if n < k:
            return None, k, n
        # Of g, the averages are the mean of the later k/2 prices less that of the earlier, halved.
        sums = np.concatenate([[0.0], np.cumsum(log - log[0])])
        halves = sums[half:] - sums[:-half]
        averages = (halves[half:] - halves[:-half]) / k
        slope, returns = (k * k + 2) / (12 * k * k), np.diff(log)
        variance = n / (n - k + 2) / (k * slope) * (averages @ averages)
        return variance - (returns @ returns) / (2 * k * k * slope), k, n

    logs, groups = positive_prices(ticks, column, per, "preaveraged_rv")
    schema = {"preaveraged_rv": pl.Float64(), "width": pl.UInt32(), "returns": pl.UInt32()}
    result = measure_groups(ticks, logs, groups, {"log": LOG_PRICE}, estimate, schema)
    return collect_like(ticks, result)
