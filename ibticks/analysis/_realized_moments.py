"""Realised semivariance, skewness and kurtosis of one price.

Prices, sampling and ``per`` are those of :func:`~ibticks.analysis.realized_variance`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ibticks.analysis._engine.columns import Frame, collect_like
from ibticks.analysis._engine.registry import (
    USE_BUFFER,
    Additive,
    NotIncremental,
    WithArgument,
    measure,
)
from ibticks.analysis._engine.sampling import measure_returns

if TYPE_CHECKING:
    from datetime import timedelta

    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["realized_kurtosis", "realized_semivariance", "realized_skewness"]


@measure(
    "Volatility",
    WithArgument(
        "every",
        NotIncremental(
            "it samples prices",
            f"leave out every=, so that each tick is one, or {USE_BUFFER}",
        ),
        Additive(
            ("downside_semivariance", "upside_semivariance", "signed_variation", "returns"),
            lookback="last_priced",
        ),
    ),
)
def realized_semivariance(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Realised variance of the negative returns, and that of the positive ones.

    .. math:: RS^- = \sum_i r_i^2 \, 1\{r_i < 0\}, \qquad RS^+ = \sum_i r_i^2 \, 1\{r_i > 0\}

    Parameters
    ----------
    ticks, every, column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``downside_semivariance``,
        ``upside_semivariance`` and ``signed_variation``, the upside less the downside (float64),
        and ``returns`` (uint32).

    Raises
    ------
    UnknownColumnError
        A column is missing.

    References
    ----------
    O. E. Barndorff-Nielsen, S. Kinnebrock and N. Shephard, Measuring downside risk: realised
    semivariance, in *Volatility and Time Series Econometrics* (2010), 117-136. A. J. Patton and
    K. Sheppard, Good volatility, bad volatility, *Review of Economics and Statistics* 97 (2015),
    683-697.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> halves = realized_semivariance(ibm, "5m")
    >>> halves.select(pl.col("downside_semivariance", "upside_semivariance").sqrt().round(5)).row(0)
    (0.01116, 0.0093)
    """

    def estimate(returns: Floats, n: int) -> tuple[Any, ...]:
        down, up = np.minimum(returns, 0.0), np.maximum(returns, 0.0)
        below, above = float(down @ down), float(up @ up)
        return below, above, above - below

    names = ["downside_semivariance", "upside_semivariance", "signed_variation"]
    result = measure_returns(ticks, every, column, per, "realized_semivariance", names, estimate)
    return collect_like(ticks, result)


@measure("Volatility", NotIncremental("it samples prices and looks at all of them together"))
def realized_skewness(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Realised skewness, :math:`\sqrt n \sum_i r_i^3 / RV^{3/2}`.

    Parameters
    ----------
    ticks, every, column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``realized_skewness``
        (float64; null if nothing moved) and ``returns`` (uint32).

    Raises
    ------
    UnknownColumnError
        A column is missing.

    References
    ----------
    D. Amaya, P. Christoffersen, K. Jacobs and A. Vasquez, Does realized skewness predict the
    cross-section of equity returns?, *Journal of Financial Economics* 118 (2015), 135-167.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> round(realized_skewness(ibm, "5m")["realized_skewness"].item(), 3)
    -1.364
    """

    def estimate(returns: Floats, n: int) -> tuple[Any, ...]:
        variance = float(returns @ returns)
        if not variance:
            return (None,)
        return (n**0.5 * float(returns**2 @ returns) / variance**1.5,)

    names = ["realized_skewness"]
    result = measure_returns(ticks, every, column, per, names[0], names, estimate)
    return collect_like(ticks, result)


@measure("Volatility", NotIncremental("it samples prices and looks at all of them together"))
def realized_kurtosis(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Realised kurtosis, :math:`n \sum_i r_i^4 / RV^2`; 3 where volatility is constant.

    Parameters
    ----------
    ticks, every, column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        As :func:`realized_skewness`, with ``realized_kurtosis``.

    Raises
    ------
    UnknownColumnError
        A column is missing.

    References
    ----------
    As for :func:`realized_skewness`.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> round(realized_kurtosis(ibm, "5m")["realized_kurtosis"].item(), 2)
    22.47
    """

    def estimate(returns: Floats, n: int) -> tuple[Any, ...]:
        square = returns**2
        variance = float(square.sum())
        return (n * float(square @ square) / variance**2 if variance else None,)

    names = ["realized_kurtosis"]
    result = measure_returns(ticks, every, column, per, names[0], names, estimate)
    return collect_like(ticks, result)
