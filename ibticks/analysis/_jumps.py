"""Tests for jumps in one price.

Prices, sampling and ``per`` are those of :func:`~ibticks.analysis.realized_variance`. An interval
without a tick has a return of 0.
"""

from __future__ import annotations

from math import log
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final, Literal

from ibticks.analysis._engine.columns import Frame, collect_like
from ibticks.analysis._engine.registry import NotIncremental, measure
from ibticks.analysis._engine.sampling import measure_returns
from ibticks.analysis._quarticity import QUARTICITIES, VARIANCES
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["bns_jump_test"]

_FORMS: Final = ("linear", "ratio", "log")


@measure("Volatility", NotIncremental("it samples prices and looks at all of them together"))
def bns_jump_test(
    ticks: Frame,
    every: str | timedelta | None = None,
    form: Literal["linear", "ratio", "log"] = "ratio",
    *,
    estimator: Literal["bipower_variation", "med_rv", "min_rv"] = "bipower_variation",
    quarticity: Literal[
        "tripower_quarticity", "quadpower_quarticity", "med_rq", "min_rq"
    ] = "tripower_quarticity",
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Test of Barndorff-Nielsen and Shephard for jumps: realised against robust variance.

    .. math:: \frac{RV - IV}{\sqrt{(\vartheta - 2) IQ / n}}, \qquad
        \frac{1 - IV / RV}{\sqrt{(\vartheta - 2) \max(1, IQ / IV^2) / n}}, \qquad
        \frac{\ln RV - \ln IV}{\sqrt{(\vartheta - 2) \max(1, IQ / IV^2) / n}}

    in the linear, the ratio and the log form: standard normal where there are no jumps, and large
    where there are. :math:`\vartheta` is that of :func:`~ibticks.analysis.variance_interval`.

    Parameters
    ----------
    ticks, every
        As in :func:`~ibticks.analysis.realized_variance`. Noise hides jumps: sample at minutes.
    form : {"linear", "ratio", "log"}
        The form; the ratio has the best size in small samples.
    estimator : str
        The variance IV that is robust to jumps, corrected for small samples.
    quarticity : str
        The quarticity IQ that is robust to jumps.
    column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price: these, ``statistic``, ``p_value``
        (one-sided), ``jump_variation``, which is RV - IV or 0 (all float64; null with too few
        returns, or where IV is 0), and ``returns`` (uint32).

    Raises
    ------
    InputError
        An unknown form, estimator or quarticity.

    References
    ----------
    O. E. Barndorff-Nielsen and N. Shephard, Econometrics of testing for jumps in financial
    economics using bipower variation, *Journal of Financial Econometrics* 4 (2006), 1-30. X. Huang
    and G. Tauchen, The relative contribution of jumps to total price variance, *Journal of
    Financial Econometrics* 3 (2005), 456-499.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> bns_jump_test(ibm, "5m").select(pl.col("statistic", "p_value").round(3)).row(0)
    (1.341, 0.09)
    """
    estimators = [name for name in VARIANCES if name != "realized_variance"]
    quarticities = [name for name in QUARTICITIES if name != "realized_quarticity"]
    for word, chosen, known in (
        ("form", form, _FORMS),
        ("estimator", estimator, estimators),
        ("quarticity", quarticity, quarticities),
    ):
        if chosen not in known:
            raise InputError(f"bns_jump_test: no {word} {chosen!r}: there are {', '.join(known)}")
    of_variance, factor = VARIANCES[estimator]
    of_quarticity = QUARTICITIES[quarticity]

    def estimate(returns: Floats, n: int) -> tuple[Any, ...]:
        robust, spread = of_variance(returns, n), of_quarticity(returns, n)
        if not robust or not spread:
            return None, None, None
        whole = float(returns @ returns)
        relative = ((factor - 2) * max(1.0, spread / robust**2) / n) ** 0.5
        match form:
            case "linear":
                statistic = (whole - robust) / ((factor - 2) * spread / n) ** 0.5
            case "ratio":
                statistic = (1 - robust / whole) / relative
            case "log":
                statistic = log(whole / robust) / relative
        return statistic, NormalDist().cdf(-statistic), max(0.0, whole - robust)

    names = ["statistic", "p_value", "jump_variation"]
    result = measure_returns(ticks, every, column, per, "bns_jump_test", names, estimate)
    return collect_like(ticks, result)
