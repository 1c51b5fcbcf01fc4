r"""Integrated quarticity of one price, and the confidence interval of its variance.

Prices, sampling and ``per`` are those of :func:`~ibticks.analysis.realized_variance`. An interval
without a tick has a return of 0. Each quarticity is scaled by the number of returns n, so that it
estimates :math:`\int_0^1 \sigma_t^4 dt` with the time the ticks cover as 1.
"""

from __future__ import annotations

from math import pi
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final, Literal

from ibticks.analysis._engine.columns import Frame, collect_like
from ibticks.analysis._engine.neighbours import median_sum, minimum_sum, product_sum
from ibticks.analysis._engine.registry import NotIncremental, measure
from ibticks.analysis._engine.sampling import measure_returns
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Estimator = Callable[[Floats, int], float | None]

__all__ = [
    "QUARTICITIES",
    "VARIANCES",
    "med_rq",
    "min_rq",
    "quadpower_quarticity",
    "realized_quarticity",
    "tripower_quarticity",
    "variance_interval",
]

_SAMPLES: Final = NotIncremental("it samples prices and looks at all of them together")


def _variance(returns: Floats, n: int) -> float | None:
    return float(returns @ returns)


def _bipower(returns: Floats, n: int) -> float | None:
    return product_sum(returns, n, 2, 1.0)


def _median_variance(returns: Floats, n: int) -> float | None:
    return median_sum(returns, n, 2)


def _minimum_variance(returns: Floats, n: int) -> float | None:
    return minimum_sum(returns, n, 2)


def _quarticity(returns: Floats, n: int) -> float | None:
    square = returns**2
    return n * float(square @ square) / 3


def _tripower(returns: Floats, n: int) -> float | None:
    return product_sum(returns, n, 3, 4 / 3)


def _quadpower(returns: Floats, n: int) -> float | None:
    return product_sum(returns, n, 4, 1.0)


def _median_quarticity(returns: Floats, n: int) -> float | None:
    return median_sum(returns, n, 4)


def _minimum_quarticity(returns: Floats, n: int) -> float | None:
    return minimum_sum(returns, n, 4)


# Of each estimator, the asymptotic variance of its error times root n, in quarticities.
VARIANCES: Final[dict[str, tuple[Estimator, float]]] = {
    "realized_variance": (_variance, 2.0),
    "bipower_variation": (_bipower, pi**2 / 4 + pi - 3),
    "med_rv": (_median_variance, 2.96),
    "min_rv": (_minimum_variance, 3.81),
}

QUARTICITIES: Final[dict[str, Estimator]] = {
    "realized_quarticity": _quarticity,
    "tripower_quarticity": _tripower,
    "quadpower_quarticity": _quadpower,
    "med_rq": _median_quarticity,
    "min_rq": _minimum_quarticity,
}


@measure("Volatility", _SAMPLES)
def realized_quarticity(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Realised quarticity; not robust to jumps.

    .. math:: \frac n3 \sum_{i=1}^{n} r_i^4

    Parameters
    ----------
    ticks, every, column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``realized_quarticity``
        (float64) and ``returns`` (uint32).

    Raises
    ------
    UnknownColumnError
        A column is missing.

    References
    ----------
    O. E. Barndorff-Nielsen and N. Shephard, Econometric analysis of realized volatility, *Journal
    of the Royal Statistical Society B* 64 (2002), 253-280.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> round(realized_quarticity(ibm, "5m")["realized_quarticity"].item() * 1e8, 3)
    33.388
    """
    return _of_returns(ticks, every, column, per, "realized_quarticity")


@measure("Volatility", _SAMPLES)
def tripower_quarticity(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Tripower quarticity, robust to jumps.

    .. math:: n \frac{n}{n-2} \mu_{4/3}^{-3} \sum_{i=3}^{n} |r_{i-2} r_{i-1} r_i|^{4/3},
        \qquad \mu_p = E|N(0,1)|^p

    Parameters
    ----------
    ticks, every, column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``tripower_quarticity``
        (float64; null with fewer than three returns) and ``returns`` (uint32).

    Raises
    ------
    UnknownColumnError
        A column is missing.

    Notes
    -----
    ``rTPQuar`` of R's *highfrequency* is the same, and counts a first return of 0.

    References
    ----------
    O. E. Barndorff-Nielsen and N. Shephard, Power and bipower variation with stochastic volatility
    and jumps, *Journal of Financial Econometrics* 2 (2004), 1-37.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> round(tripower_quarticity(ibm, "5m")["tripower_quarticity"].item() * 1e8, 3)
    16.43
    """
    return _of_returns(ticks, every, column, per, "tripower_quarticity")


@measure("Volatility", _SAMPLES)
def quadpower_quarticity(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Quadpower quarticity, robust to jumps.

    .. math:: n \frac{n}{n-3} \frac{\pi^2}{4} \sum_{i=4}^{n} |r_{i-3} r_{i-2} r_{i-1} r_i|

    Parameters
    ----------
    ticks, every, column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``quadpower_quarticity``
        (float64; null with fewer than four returns) and ``returns`` (uint32).

    Raises
    ------
    UnknownColumnError
        A column is missing.

    References
    ----------
    O. E. Barndorff-Nielsen and N. Shephard, Power and bipower variation with stochastic volatility
    and jumps, *Journal of Financial Econometrics* 2 (2004), 1-37.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> round(quadpower_quarticity(ibm, "5m")["quadpower_quarticity"].item() * 1e8, 3)
    0.473
    """
    return _of_returns(ticks, every, column, per, "quadpower_quarticity")


@measure("Volatility", _SAMPLES)
def med_rq(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Median realised quarticity, robust to jumps.

    .. math:: \frac{3 \pi n}{9\pi + 72 - 52\sqrt3} \frac{n}{n-2}
        \sum_{i=2}^{n-1} \operatorname{med}(|r_{i-1}|, |r_i|, |r_{i+1}|)^4

    Parameters
    ----------
    ticks, every, column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``med_rq``
        (float64; null with fewer than three returns) and ``returns`` (uint32).

    Raises
    ------
    UnknownColumnError
        A column is missing.

    References
    ----------
    T. G. Andersen, D. Dobrev and E. Schaumburg, Jump-robust volatility estimation using nearest
    neighbor truncation, *Journal of Econometrics* 169 (2012), 75-93.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> round(med_rq(ibm, "5m")["med_rq"].item() * 1e8, 3)
    35.348
    """
    return _of_returns(ticks, every, column, per, "med_rq")


@measure("Volatility", _SAMPLES)
def min_rq(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Minimum realised quarticity, robust to jumps.

    .. math:: \frac{\pi n}{3\pi - 8} \frac{n}{n-1} \sum_{i=2}^{n} \min(|r_{i-1}|, |r_i|)^4

    Parameters
    ----------
    ticks, every, column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``min_rq``
        (float64; null with fewer than two returns) and ``returns`` (uint32).

    Raises
    ------
    UnknownColumnError
        A column is missing.

    References
    ----------
    T. G. Andersen, D. Dobrev and E. Schaumburg, Jump-robust volatility estimation using nearest
    neighbor truncation, *Journal of Econometrics* 169 (2012), 75-93.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> round(min_rq(ibm, "5m")["min_rq"].item() * 1e8, 3)
    42.316
    """
    return _of_returns(ticks, every, column, per, "min_rq")


@measure("Volatility", _SAMPLES)
def variance_interval(
    ticks: Frame,
    every: str | timedelta | None = None,
    estimator: Literal[
        "realized_variance", "bipower_variation", "med_rv", "min_rv"
    ] = "realized_variance",
    *,
    quarticity: Literal[
        "realized_quarticity", "tripower_quarticity", "quadpower_quarticity", "med_rq", "min_rq"
    ] = "med_rq",
    confidence: float = 0.95,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Asymptotic confidence interval of integrated variance.

    .. math:: \widehat{IV} \pm z \sqrt{\vartheta \, \widehat{IQ} / n}

    with :math:`\vartheta` 2 for realised variance, 2.61 for bipower variation, 2.96 for ``med_rv``
    and 3.81 for ``min_rv``, all corrected for small samples.

    Parameters
    ----------
    ticks, every
        As in :func:`~ibticks.analysis.realized_variance`.
    estimator : str
        The variance.
    quarticity : str
        The quarticity; one that is robust to jumps, unless there are none.
    confidence : float
        Probability that the interval contains the variance.
    column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``variance``,
        ``standard_error``, ``lower`` and ``upper`` (float64; null with too few returns), and
        ``returns`` (uint32).

    Raises
    ------
    InputError
        An unknown estimator, or a confidence that is not between 0 and 1.

    References
    ----------
    O. E. Barndorff-Nielsen and N. Shephard, Econometric analysis of realized volatility, *Journal
    of the Royal Statistical Society B* 64 (2002), 253-280. T. G. Andersen, D. Dobrev and
    E. Schaumburg, Jump-robust volatility estimation using nearest neighbor truncation, *Journal of
    Econometrics* 169 (2012), 75-93. As ``IVinference`` of R's *highfrequency*.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> bounds = variance_interval(ibm, "5m", "med_rv").select(pl.col("lower", "upper").sqrt())
    >>> [round(bound, 4) for bound in bounds.row(0)]
    [0.0004, 0.0188]
    """
    for chosen, known in ((estimator, VARIANCES), (quarticity, QUARTICITIES)):
        if chosen not in known:
            raise InputError(
                f"variance_interval: no estimator {chosen!r}: there are {', '.join(known)}"
            )
    if not 0 < confidence < 1:
        raise InputError(f"variance_interval: confidence must be between 0 and 1, not {confidence}")
    of_variance, factor = VARIANCES[estimator]
    of_quarticity = QUARTICITIES[quarticity]
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def estimate(returns: Floats, n: int) -> tuple[Any, ...]:
        variance, spread = of_variance(returns, n), of_quarticity(returns, n)
        if variance is None or spread is None or not n:
            return variance, None, None, None
        error = (factor * spread / n) ** 0.5
        return variance, error, variance - z * error, variance + z * error

    names = ["variance", "standard_error", "lower", "upper"]
    result = measure_returns(ticks, every, column, per, "variance_interval", names, estimate)
    return collect_like(ticks, result)


def _of_returns(
    ticks: Frame, every: str | timedelta | None, column: str, per: str | pl.Expr | None, name: str
) -> Frame:
    """Return one quarticity of each group."""
    estimator = QUARTICITIES[name]

    def estimate(returns: Floats, n: int) -> tuple[Any, ...]:
        return (estimator(returns, n),)

    result = measure_returns(ticks, every, column, per, name, [name], estimate)
    return collect_like(ticks, result)
