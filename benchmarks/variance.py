"""Realised variance and its kin of ten million trades."""

from __future__ import annotations

from functools import partial
from math import log, pi
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from benchmarks.cases import Case, measured, trades
from ibticks import analysis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Row
    from benchmarks.scene import Scene

__all__ = ["variance"]

_AT, _PRICE = pl.col("timestamp"), pl.col("price")
_LOG, _MOVE = _PRICE.log(), pl.col("move")
_STEP: Final = pl.col("last") - pl.col("last").shift().fill_null(pl.col("first"))
_UTC: Final = pl.Datetime("ns", "UTC")
_GRIDS: Final = 60
_LAGS: Final = 100
_SLOW: Final = 300
_SIGNATURE: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)  # seconds
_TWO_MINUTES: Final = 120_000_000_000
_ROBUST: Final = {
    "med_rv": "median realised variance",
    "min_rv": "minimum realised variance",
    "threshold_rv": "threshold realised variance",
    "preaveraged_rv": "pre-averaged realised variance",
    "realized_kurtosis": "realised kurtosis",
    "tripower_quarticity": "tripower quarticity",
    "variance_interval": "interval of realised variance",
}
_DYNAMIC: Final = "polars, group_by_dynamic"


def variance(scene: Scene) -> Iterator[Row]:
    """Variance of all trades, of samples of them, and of bars."""
    frame = trades(scene)
    bars = analysis.time_bars(frame, "1s")
    high, low, opened, close = (pl.col(name) for name in ("high", "low", "open", "close"))
    up, down, through = (high / opened).log(), (low / opened).log(), (close / opened).log()
    overnight, number = (opened / close.shift()).log(), pl.len() - 1
    moves = [value.slice(1) for value in (up, down, through)]
    weight = 0.34 / (1.34 + (number + 1) / (number - 1))
    satchell = moves[0] * (moves[0] - moves[2]) + moves[1] * (moves[1] - moves[2])
    yang_zhang = overnight.slice(1).var() + weight * moves[2].var() + (1 - weight) * satchell.mean()
    of_bars = {
        "parkinson": ((high / low).log() ** 2).mean() / (4 * log(2)),
        "garman_klass": ((high / low).log() ** 2 / 2 - (2 * log(2) - 1) * through**2).mean(),
        "rogers_satchell": (up * (up - through) + down * (down - through)).mean(),
        "yang_zhang": yang_zhang,
    }
    yield from measured(
        [
            Case(
                "realised variance, every trade",
                lambda: analysis.realized_variance(frame),
                "polars",
                lambda: frame.select(
                    realized_variance=_LOG.diff().pow(2).sum(), returns=pl.len() - 1
                ),
                "realized_variance returns",
            ),
            Case(
                "realised variance, 5 minutes",
                lambda: analysis.realized_variance(frame, "5m"),
                _DYNAMIC,
                lambda: _variance(_returns(frame.lazy(), 300), 300).collect(),
                "realized_variance returns",
            ),
            Case(
                "realised variance, 5 minutes, 60 grids",
                lambda: analysis.realized_variance(frame, "5m", subsamples=_GRIDS),
                "polars, group_by_dynamic and join_asof",
                lambda: _on_grids(frame),
                "realized_variance",
            ),
            Case(
                "signature, 12 intervals",
                lambda: analysis.signature(frame),
                _DYNAMIC,
                lambda: _signature(frame),
                "realized_variance returns",
            ),
            Case(
                "bipower variation, 1 minute",
                lambda: analysis.bipower_variation(frame, "1m"),
                _DYNAMIC,
                lambda: _bipower(frame),
                "bipower_variation realized_variance jump_share returns",
            ),
            Case(
                "two scales, 1 and 300 trades",
                lambda: analysis.two_scale_rv(frame, _SLOW),
                "polars",
                lambda: _two_scales(frame),
                "two_scale_rv returns",
            ),
            Case(
                "realised kernel, 100 lags",
                lambda: analysis.realized_kernel(frame, bandwidth=_LAGS),
                "numpy, a Fourier transform of all",
                lambda: _kernel(frame),
                "realized_kernel noise_variance returns",
            ),
            Case("realised kernel, best bandwidth", lambda: analysis.realized_kernel(frame)),
            Case(
                "realised semivariance, every trade",
                lambda: analysis.realized_semivariance(frame),
                "polars",
                lambda: frame.select(move=_LOG.diff()).select(
                    downside_semivariance=_MOVE.clip(upper_bound=0).pow(2).sum(),
                    upside_semivariance=_MOVE.clip(lower_bound=0).pow(2).sum(),
                    returns=pl.len() - 1,
                ),
                "downside_semivariance upside_semivariance returns",
            ),
            *(
                Case(f"{title}, every trade", partial(getattr(analysis, name), frame))
                for name, title in _ROBUST.items()
            ),
            *(_of_bars(bars, name, query) for name, query in of_bars.items()),
        ],
        scene,
    )


def _of_bars(bars: pl.DataFrame, name: str, query: pl.Expr) -> Case:
    return Case(
        f"{name.replace('_', '-')} of bars of 1 second",
        lambda: getattr(analysis, name)(bars),
        "polars",
        lambda: bars.select(query.alias(name), bars=pl.len()),
        f"{name} bars",
    )


def _returns(rows: pl.LazyFrame, seconds: int) -> pl.LazyFrame:
    """Log returns of the last prices of (start, end]; the first one from the first price."""
    groups = rows.group_by_dynamic("timestamp", every=f"{seconds}s", closed="right")
    return groups.agg(first=_PRICE.first().log(), last=_PRICE.last().log()).with_columns(move=_STEP)


def _variance(returns: pl.LazyFrame, seconds: int) -> pl.LazyFrame:
    return returns.select(realized_variance=_MOVE.pow(2).sum(), returns=_intervals(seconds))


def _intervals(seconds: int) -> pl.Expr:
    return (_AT.max() - _AT.min()).dt.total_seconds() // seconds + 1


def _on_grids(frame: pl.DataFrame) -> pl.DataFrame:
    """The mean over 60 grids of 5 minutes: of returns of 5 minutes, every 5 seconds."""
    lasts = _returns(frame.lazy(), 5).collect()
    begin, end = (pl.lit(lasts["timestamp"][row], _UTC) for row in (0, -1))
    grid = pl.select(timestamp=pl.datetime_range(begin, end + pl.duration(seconds=295), "5s"))
    current = grid.cast(lasts.schema["timestamp"]).join_asof(lasts, on="timestamp")
    first = lasts["first"][0]
    move = pl.col("last") - pl.col("last").shift(_GRIDS).fill_null(first)
    return current.select(realized_variance=move.pow(2).sum() / _GRIDS)


def _signature(frame: pl.DataFrame) -> pl.DataFrame:
    """Every interval from seconds, each of which is the last price of one."""
    seconds = _returns(frame.lazy(), 1).collect().lazy()
    result = []
    for value in _SIGNATURE:
        # A second is known by its start, and so lies where that does.
        groups = seconds.group_by_dynamic("timestamp", every=f"{value}s")
        lasts = groups.agg(pl.col("first").first(), pl.col("last").last())
        result.append(_variance(lasts.with_columns(move=_STEP), value))
    return pl.concat(result).collect()


def _bipower(frame: pl.DataFrame) -> pl.DataFrame:
    adjacent = _AT.diff().dt.total_seconds() == 60
    size = _MOVE.abs()
    bipower = pl.when(adjacent).then(size * size.shift()).sum() * pi / 2
    result = _returns(frame.lazy(), 60).select(
        bipower_variation=bipower,
        realized_variance=_MOVE.pow(2).sum(),
        returns=_intervals(60),
    )
    share = 1 - pl.col("bipower_variation") / pl.col("realized_variance")
    return result.with_columns(jump_share=share.clip(lower_bound=0)).collect()


def _two_scales(frame: pl.DataFrame) -> pl.DataFrame:
    n = pl.len() - 1
    share = (n - _SLOW + 1) / _SLOW / n
    price = pl.col("log")
    slower, fast = price.diff(_SLOW).pow(2).sum() / _SLOW, price.diff().pow(2).sum()
    adjusted = (slower - share * fast) / (1 - share)
    return frame.select(log=_LOG).select(two_scale_rv=adjusted, returns=n)


def _kernel(frame: pl.DataFrame) -> pl.DataFrame:
    """Two prices at either end made one; noise from prices some two minutes apart."""
    prices, at = np.log(frame["price"].to_numpy()), frame["timestamp"].to_physical()
    ends = [prices[:2].mean(keepdims=True), prices[2:-2], prices[-2:].mean(keepdims=True)]
    returns = np.diff(np.concatenate(ends))
    spectrum = np.fft.rfft(returns, 1 << (len(returns) + _LAGS).bit_length())
    gamma = np.fft.irfft(np.abs(spectrum) ** 2)[: _LAGS + 1]
    x = np.arange(1, _LAGS + 1) / (_LAGS + 1)
    parzen = np.where(x <= 0.5, 1 - 6 * x**2 + 6 * x**3, 2 * (1 - x) ** 3)
    q = (len(prices) - 1) // (int(at[-1] - at[0]) // _TWO_MINUTES)
    moves = prices[q:] - prices[:-q]
    noise = moves @ moves / (2 * np.count_nonzero(moves))
    value = gamma[0] + 2 * (parzen @ gamma[1:])
    return pl.DataFrame(
        {"realized_kernel": value, "noise_variance": noise, "returns": len(returns)}
    )
