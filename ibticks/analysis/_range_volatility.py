"""Variance from the open, high, low and close of bars.

Each measure is the variance of log prices of **one bar**, so that the volatility of a year of daily
bars is ``(252 * variance).sqrt()``. Bars without a price (empty ones) are left out, and those with
a price of 0 or below, which has no log: ``bars`` counts the rest.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import polars as pl

from ibticks.analysis._engine.columns import Frame, collect_like, key_columns, require
from ibticks.analysis._engine.registry import (
    Additive,
    NotIncremental,
    Rowwise,
    WithArgument,
    measure,
)
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["garman_klass", "parkinson", "rogers_satchell", "yang_zhang"]


@measure(
    "Volatility",
    WithArgument("window", Rowwise("last_bars"), Additive(("bars",), {"parkinson": "bars"})),
)
def parkinson(bars: Frame, window: int | None = None) -> Frame:
    r"""Parkinson's variance, from the range: :math:`\overline{(\ln H/L)^2} / (4 \ln 2)`.

    Five times as efficient as squared returns where prices have no drift; biased down by prices
    seen only now and then, and blind to what happens between bars.

    Parameters
    ----------
    bars : polars.DataFrame or polars.LazyFrame
        Bars with ``open high low close``, in order.
    window : int, optional
        Number of bars the mean is over. By default all.

    Returns
    -------
    same as bars
        Without a window a row for each contract: ``contract_id`` (if the bars have it),
        ``parkinson`` (float64) and ``bars`` (uint32). With one, the bars that have prices with
        ``parkinson`` of the last ``window`` bars added, null before there are as many.

    Raises
    ------
    UnknownColumnError
        The frame lacks a price.
    InputError
        A window of no bars.

    References
    ----------
    M. Parkinson, The extreme value method for estimating the variance of the rate of return,
    *Journal of Business* 53 (1980), 61-65.

    Examples
    --------
    >>> bars = pl.DataFrame({"open": [10.0], "high": [11.0], "low": [9.5], "close": [10.5]})
    >>> parkinson(bars).row(0)
    (0.007751..., 1)
    """
    _check(bars, window, 1, "parkinson")
    square = (pl.col("high") / pl.col("low")).log().pow(2) / (4 * log(2))
    return _mean(bars, window, "parkinson", square)


@measure(
    "Volatility",
    WithArgument("window", Rowwise("last_bars"), Additive(("bars",), {"garman_klass": "bars"})),
)
def garman_klass(bars: Frame, window: int | None = None) -> Frame:
    r"""Garman and Klass's variance.

    .. math:: \overline{\tfrac12 (\ln H/L)^2 - (2 \ln 2 - 1) (\ln C/O)^2}

    The practical one of their estimators; seven times as efficient as squared returns where prices
    have no drift.

    Parameters
    ----------
    bars, window
        As in :func:`parkinson`.

    Returns
    -------
    same as bars
        As :func:`parkinson`, with ``garman_klass``.

    References
    ----------
    M. B. Garman and M. J. Klass, On the estimation of security price volatilities from historical
    data, *Journal of Business* 53 (1980), 67-78.

    Examples
    --------
    >>> bars = pl.DataFrame({"open": [10.0], "high": [11.0], "low": [9.5], "close": [10.5]})
    >>> garman_klass(bars).row(0)
    (0.009826..., 1)
    """
    _check(bars, window, 1, "garman_klass")
    high_low, close_open = _log("high", "low"), _log("close", "open")
    return _mean(bars, window, "garman_klass", high_low**2 / 2 - (2 * log(2) - 1) * close_open**2)


@measure(
    "Volatility",
    WithArgument("window", Rowwise("last_bars"), Additive(("bars",), {"rogers_satchell": "bars"})),
)
def rogers_satchell(bars: Frame, window: int | None = None) -> Frame:
    r"""Rogers and Satchell's variance, which is independent of drift.

    .. math:: \overline{\ln (H/C) \ln (H/O) + \ln (L/C) \ln (L/O)}

    Parameters
    ----------
    bars, window
        As in :func:`parkinson`.

    Returns
    -------
    same as bars
        As :func:`parkinson`, with ``rogers_satchell``.

    References
    ----------
    L. C. G. Rogers and S. E. Satchell, Estimating variance from high, low and closing prices,
    *Annals of Applied Probability* 1 (1991), 504-512.

    Examples
    --------
    >>> bars = pl.DataFrame({"open": [10.0], "high": [11.0], "low": [9.5], "close": [10.5]})
    >>> rogers_satchell(bars).row(0)
    (0.009567..., 1)
    """
    _check(bars, window, 1, "rogers_satchell")
    return _mean(bars, window, "rogers_satchell", _drift_free())


@measure(
    "Volatility",
    WithArgument(
        "window",
        Rowwise("last_bars"),
        NotIncremental(
            "it is one variance over all bars", "give how many are looked at, as in window=20"
        ),
    ),
)
def yang_zhang(bars: Frame, window: int | None = None) -> Frame:
    r"""Yang and Zhang's variance: independent of drift, and with the jumps between bars.

    .. math:: s^2_o + k s^2_c + (1 - k) \sigma^2_{rs}, \qquad k = \frac{0.34}{1.34 + (n+1)/(n-1)}

    where :math:`s^2_o` and :math:`s^2_c` are the sample variances of :math:`\ln O_i/C_{i-1}` and
    :math:`\ln C_i/O_i`, and :math:`\sigma^2_{rs}` is the mean of :func:`rogers_satchell`, all over
    the n bars that have one before them.

    Parameters
    ----------
    bars, window
        As in :func:`parkinson`; a window of 2 or more. For the night to count, bars must be whole
        sessions.

    Returns
    -------
    same as bars
        As :func:`parkinson`, with ``yang_zhang``, null with fewer than two bars after the first.

    References
    ----------
    D. Yang and Q. Zhang, Drift-independent volatility estimation based on high, low, open, and
    close prices, *Journal of Business* 73 (2000), 477-491.

    Examples
    --------
    >>> bars = pl.DataFrame(
    ...     {
    ...         "open": [10.0, 10.6, 10.4],
    ...         "high": [11.0, 10.9, 10.8],
    ...         "low": [9.5, 10.2, 10.1],
    ...         "close": [10.5, 10.3, 10.7],
    ...     }
    ... )
    >>> yang_zhang(bars).row(0)
    (0.001..., 3)
    """
    _check(bars, window, 2, "yang_zhang")
    keys = key_columns(bars)
    before = pl.when(_has_logs()).then("close").shift()
    night = (pl.col("open") / before).log()
    known = night.is_not_null()
    # The first bar has no overnight return, and is left out of the other terms, too.
    terms = {
        "_night": night,
        "_day": pl.when(known).then(_log("close", "open")),
        "_rs": pl.when(known).then(_drift_free()),
    }
    if keys:
        terms = {name: term.over(keys) for name, term in terms.items()}
    # The overnight return after a bar without logs is left out: no bar is bridged.
    frame = _with_prices(bars).with_columns(**terms).filter(_has_logs())
    if window is None:
        n = pl.col("_night").count()
        whole = _weighed(lambda name: pl.col(name).var(), pl.col("_rs").mean(), n)
        return collect_like(bars, _whole(frame, keys, "yang_zhang", pl.when(n > 1).then(whole)))
    rolling = _weighed(
        lambda name: pl.col(name).rolling_var(window),
        pl.col("_rs").rolling_mean(window),
        pl.lit(window),
    )
    rolling = rolling.over(keys) if keys else rolling
    return collect_like(bars, frame.with_columns(yang_zhang=rolling).drop(terms))


def _weighed(variance: Callable[[str], pl.Expr], drift_free: pl.Expr, n: pl.Expr) -> pl.Expr:
    weight = 0.34 / (1.34 + (n + 1) / (n - 1))
    return variance("_night") + weight * variance("_day") + (1 - weight) * drift_free


def _log(over: str, under: str) -> pl.Expr:
    return (pl.col(over) / pl.col(under)).log()


def _drift_free() -> pl.Expr:
    return _log("high", "close") * _log("high", "open") + _log("low", "close") * _log("low", "open")


def _check(bars: pl.DataFrame | pl.LazyFrame, window: int | None, least: int, caller: str) -> None:
    require(bars, "open", "high", "low", "close", caller=caller)
    if window is not None and window < least:
        raise InputError(f"{caller}: a window has {least} bars or more, not {window}")


def _priced(bars: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    return _with_prices(bars).filter(_has_logs())


def _with_prices(bars: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    return bars.lazy().filter(pl.all_horizontal(pl.col("open", "high", "low", "close").is_finite()))


def _has_logs() -> pl.Expr:
    return pl.all_horizontal(pl.col("open", "high", "low", "close") > 0)


def _mean(bars: Frame, window: int | None, name: str, variance: pl.Expr) -> Frame:
    keys, frame = key_columns(bars), _priced(bars)
    if window is None:
        return collect_like(bars, _whole(frame, keys, name, variance.mean()))
    rolling = variance.rolling_mean(window)
    return collect_like(
        bars, frame.with_columns((rolling.over(keys) if keys else rolling).alias(name))
    )


def _whole(frame: pl.LazyFrame, keys: list[str], name: str, value: pl.Expr) -> pl.LazyFrame:
    groups = [pl.col(key) for key in keys] or [pl.lit(0).alias("_all")]
    result = frame.group_by(groups).agg(value.alias(name), bars=pl.len().cast(pl.UInt32))
    return result.sort(keys or "_all").drop("_all", strict=False)
