"""Measures of ten million trades, each beside the query somebody would write by hand in polars.

The queries are for one contract and for ticks without nulls, as whoever writes one for the moment
would have it; ibticks keeps contracts apart and looks for both. Where polars has no expression for
what the measure is (a trimmed mean of neighbours, a report of all that is doubtful), there is none.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from benchmarks.report import Figure, Row, at_most
from benchmarks.timing import compare, simple
from ibticks import analysis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.scene import Scene

__all__ = ["flow"]

_TICKS: Final = 10_000_000
_OPEN: Final = 1_736_519_400_000_000_000  # 2025-01-10 09:30 in New York
_DAY: Final = 23_400_000_000_000
_MINUTE: Final = 60_000_000_000

_p, _t = pl.col("price"), pl.col("timestamp")
_bid, _ask = pl.col("bid_price"), pl.col("ask_price")
_ns: Final = _t.cast(pl.Int64)


@cache
def trades() -> pl.DataFrame:
    """A day of trades that walk by cents, signed by the tick rule."""
    random = np.random.default_rng(1)
    steps = random.choice([-1, 0, 0, 0, 1], _TICKS)
    frame = _frame(random, {"price": np.round(180 + 0.01 * np.cumsum(steps), 2)})
    frame = frame.with_columns(size=pl.Series(random.integers(1, 10, _TICKS) * 100.0))
    return analysis.trade_sign(frame, "tick")


@cache
def quotes() -> pl.DataFrame:
    """A day of quotes around the same walk."""
    random = np.random.default_rng(2)
    steps = random.choice([-1, 0, 0, 0, 1], _TICKS)
    bid = np.round(180 + 0.01 * np.cumsum(steps), 2)
    sizes = {f"{side}_size": random.integers(1, 20, _TICKS) * 100.0 for side in ("bid", "ask")}
    ask = np.round(bid + 0.01 * random.integers(1, 4, _TICKS), 2)
    return _frame(random, {"bid_price": bid, "ask_price": ask, **sizes})


def flow(scene: Scene) -> Iterator[Row]:
    """Each measure against its query."""
    for name, (ours, theirs) in _MEASURES.items():
        contenders = [simple("ours", ours)]
        if theirs is not None:
            contenders.append(simple("theirs", theirs))
        runs = compare(contenders, min(scene.repeat, 3))
        seconds = Figure.seconds(runs["ours"])
        if theirs is not None:
            others = Figure.seconds(runs["theirs"])
            yield Row(f"{name}, 10 M", seconds, "polars", others, share=True, goal=at_most(2.0))
        yield Row(f"{name}, 10 M", seconds, goal=at_most(1.0, absolute=True))


def _frame(random: np.random.Generator, columns: dict[str, Any]) -> pl.DataFrame:
    times = _OPEN + np.sort(random.integers(0, _DAY, _TICKS))
    return pl.DataFrame({"timestamp": times, **columns}).select(
        _t.cast(pl.Datetime("ns", "UTC")),
        pl.lit(8314, pl.UInt32).alias("contract_id"),
        *columns,
    )


def _of_trades(query: Callable[[pl.LazyFrame], pl.LazyFrame]) -> Callable[[], pl.DataFrame]:
    return lambda: query(trades().lazy()).collect()


def _of_quotes(query: Callable[[pl.LazyFrame], pl.LazyFrame]) -> Callable[[], pl.DataFrame]:
    return lambda: query(quotes().lazy()).collect()


def _unsigned() -> pl.DataFrame:
    return trades().drop("sign")


def _lee_ready(lazy: pl.LazyFrame) -> pl.LazyFrame:
    book = quotes().lazy().select("timestamp", mid=(_bid + _ask) / 2)
    change = _p.diff()
    tick = pl.when(change != 0).then(change.sign()).forward_fill()
    quote = (_p - pl.col("mid")).sign()
    return lazy.join_asof(book, on="timestamp").with_columns(
        sign=pl.when(quote != 0).then(quote).otherwise(tick).cast(pl.Int8)
    )


def _later(lazy: pl.LazyFrame) -> pl.LazyFrame:
    book = quotes().lazy().select("timestamp", mid=(_bid + _ask) / 2)
    after = book.rename({"mid": "later", "timestamp": "at"})
    joined = lazy.join_asof(book, on="timestamp").with_columns(
        at=_t + pl.duration(minutes=5, time_unit="ns")
    )
    return (
        joined.join_asof(after, on="at")
        .with_columns(spread=2 * pl.col("sign") * (_p - pl.col("later")))
        .with_columns(relative=pl.col("spread") / pl.col("mid"))
    )


def _sampled(lazy: pl.LazyFrame, nanoseconds: int) -> pl.LazyFrame:
    bars = lazy.group_by((_ns + nanoseconds - 1) // nanoseconds).agg(_p.last().log())
    return bars.sort("timestamp")


def _imbalance() -> pl.Expr:
    b, a, qb, qa = _bid, _ask, pl.col("bid_size"), pl.col("ask_size")
    return (
        qb * (b >= b.shift())
        - qb.shift() * (b <= b.shift())
        - qa * (a <= a.shift())
        + qa.shift() * (a >= a.shift())
    )


def _kernel(lags: int) -> float:
    returns = np.diff(np.log(trades()["price"].to_numpy()))
    spectrum = np.fft.rfft(returns, 1 << 24)
    gamma = np.fft.irfft(np.abs(spectrum) ** 2)[: lags + 1]
    x = np.arange(1, lags + 1) / (lags + 1)
    parzen = np.where(x <= 0.5, 1 - 6 * x**2 + 6 * x**3, 2 * (1 - x) ** 3)
    return float(gamma[0] + 2 * (parzen @ gamma[1:]))


def _square(of: pl.Expr) -> pl.Expr:
    return of.diff().pow(2).sum()


def _spreads(lazy: pl.LazyFrame) -> pl.LazyFrame:
    """The spread of each quote, the same of the mid, and how long the quote was in force."""
    return lazy.select(
        "timestamp",
        spread=_ask - _bid,
        relative=(_ask - _bid) / ((_ask + _bid) / 2),
        held=_ns.diff().shift(-1),
    )


def _mean_spreads() -> list[pl.Expr]:
    each = pl.col("spread", "relative")
    return [each.mean(), (each * _held).sum().name.prefix("weighted_")]


_minute: Final = _ns // _MINUTE
_size, _sign, _held = pl.col("size"), pl.col("sign"), pl.col("held")

_MEASURES: Final[dict[str, tuple[Callable[[], Any], Callable[[], Any] | None]]] = {
    "realized_variance, all": (
        lambda: analysis.realized_variance(trades()),
        _of_trades(lambda f: f.select(_square(_p.log()))),
    ),
    "realized_variance, 5m": (
        lambda: analysis.realized_variance(trades(), "5m"),
        _of_trades(lambda f: _sampled(f, 5 * _MINUTE).select(_square(_p))),
    ),
    "realized_variance, 5m in 60": (
        lambda: analysis.realized_variance(trades(), "5m", subsamples=60),
        _of_trades(lambda f: _sampled(f, _MINUTE // 12).select(_square(_p))),
    ),
    "signature": (
        lambda: analysis.signature(trades()),
        _of_trades(lambda f: _sampled(f, _MINUTE // 60).select(_square(_p))),
    ),
    "bipower_variation, 1m": (
        lambda: analysis.bipower_variation(trades(), "1m"),
        _of_trades(
            lambda f: _sampled(f, _MINUTE).select((_p.diff().abs() * _p.diff().abs().shift()).sum())
        ),
    ),
    "two_scale_rv": (
        lambda: analysis.two_scale_rv(trades(), 300),
        _of_trades(
            lambda f: f.select(_p.log().diff(300).pow(2).sum() / 300 - _square(_p.log()) / 300)
        ),
    ),
    "realized_kernel": (lambda: analysis.realized_kernel(trades()), lambda: _kernel(100)),
    "trade_sign, tick": (
        lambda: analysis.trade_sign(_unsigned(), "tick"),
        _of_trades(
            lambda f: f.with_columns(
                sign=pl.when(_p.diff() != 0).then(_p.diff().sign()).forward_fill().cast(pl.Int8)
            )
        ),
    ),
    "trade_sign, lee_ready": (
        lambda: analysis.trade_sign(_unsigned(), quotes=quotes()),
        _of_trades(_lee_ready),
    ),
    "delta, 1m": (
        lambda: analysis.delta(trades(), "1m"),
        _of_trades(
            lambda f: f.group_by(_minute).agg(
                _size.filter(_sign > 0).sum(),
                _size.filter(_sign < 0).sum().alias("sold"),
                (_size * _sign).sum().alias("delta"),
            )
        ),
    ),
    "cumulative_delta": (
        lambda: analysis.cumulative_delta(trades()),
        _of_trades(
            lambda f: f.with_columns(signed=_size * _sign).with_columns(
                delta=pl.col("signed").cum_sum()
            )
        ),
    ),
    "order_flow_imbalance": (
        lambda: analysis.order_flow_imbalance(quotes()),
        _of_quotes(lambda f: f.with_columns(ofi=_imbalance())),
    ),
    "order_flow_imbalance, 1m": (
        lambda: analysis.order_flow_imbalance(quotes(), "1m"),
        _of_quotes(lambda f: f.with_columns(ofi=_imbalance()).group_by(_minute).agg(pl.sum("ofi"))),
    ),
    "quote_imbalance": (
        lambda: analysis.quote_imbalance(quotes()),
        _of_quotes(
            lambda f: f.with_columns(
                x=(pl.col("bid_size") - pl.col("ask_size"))
                / (pl.col("bid_size") + pl.col("ask_size"))
            )
        ),
    ),
    "volume_profile": (
        lambda: analysis.volume_profile(_unsigned()),
        _of_trades(lambda f: f.group_by("price").agg(_size.sum(), pl.len()).sort("price")),
    ),
    "vpin": (
        lambda: analysis.vpin(trades()),
        _of_trades(lambda f: f.group_by(_minute).agg(_size.sum(), _p.last())),
    ),
    "quoted_spread": (
        lambda: analysis.quoted_spread(quotes()),
        _of_quotes(
            lambda f: _spreads(f).select(*_mean_spreads(), held=_held.sum(), quotes=pl.len())
        ),
    ),
    "quoted_spread, 1m": (
        lambda: analysis.quoted_spread(quotes(), "1m"),
        _of_quotes(
            lambda f: (
                _spreads(f)
                .group_by(_minute)
                .agg(*_mean_spreads(), held=_held.sum(), quotes=pl.len())
                .sort("timestamp")
            )
        ),
    ),
    "effective_spread": (
        lambda: analysis.effective_spread(_unsigned(), quotes=quotes()),
        _of_trades(
            lambda f: (
                _lee_ready(f)
                .with_columns(x=2 * pl.col("sign") * (_p - pl.col("mid")))
                .with_columns(relative=pl.col("x") / pl.col("mid"))
            )
        ),
    ),
    "realized_spread": (
        lambda: analysis.realized_spread(trades(), quotes=quotes()),
        _of_trades(_later),
    ),
    "kyle_lambda, 1m": (
        lambda: analysis.kyle_lambda(trades()),
        _of_trades(
            lambda f: (
                f.group_by(_minute)
                .agg(_p.last(), x=(_size * _sign).sum())
                .sort("timestamp")
                .select(pl.cov(_p.diff(), "x") / pl.col("x").var())
            )
        ),
    ),
    "roll": (
        lambda: analysis.roll(trades()),
        _of_trades(lambda f: f.select(pl.cov(_p.diff(), _p.diff().shift()))),
    ),
    "amihud, 1m": (
        lambda: analysis.amihud(trades(), "1m"),
        _of_trades(
            lambda f: (
                f.group_by(_minute)
                .agg(_p.last(), x=(_p * _size).sum())
                .sort("timestamp")
                .select((_p.pct_change().abs() / pl.col("x")).mean())
            )
        ),
    ),
    "interarrival": (
        lambda: analysis.interarrival(trades()),
        _of_trades(lambda f: f.with_columns(x=_t.diff())),
    ),
    "intensity, 1m": (
        lambda: analysis.intensity(trades()),
        _of_trades(lambda f: f.group_by(_minute).len()),
    ),
    "gaps": (
        lambda: analysis.gaps(trades(), "10ms"),
        _of_trades(
            lambda f: f.select("timestamp", x=_t.diff()).filter(
                pl.col("x") > pl.duration(milliseconds=10, time_unit="ns")
            )
        ),
    ),
    "staleness": (
        lambda: analysis.staleness(trades()),
        _of_trades(
            lambda f: f.with_columns(
                x=_t - pl.when((_p != _p.shift()).fill_null(value=True)).then(_t).forward_fill()
            )
        ),
    ),
    "coverage": (
        lambda: analysis.coverage(trades(), "1s"),
        _of_trades(lambda f: f.group_by(_ns // 1_000_000_000).len()),
    ),
    "duplicates": (
        lambda: analysis.duplicates(trades()),
        _of_trades(
            lambda f: f.with_columns(
                x=(_t == _t.shift()) & (_p == _p.shift()) & (_size == _size.shift())
            )
        ),
    ),
    "crossed_quotes": (
        lambda: analysis.crossed_quotes(quotes()),
        _of_quotes(
            lambda f: f.with_columns(
                x=(_bid > _ask).fill_null(value=False), y=(_bid == _ask).fill_null(value=False)
            )
        ),
    ),
    "outliers": (
        lambda: analysis.outliers(trades(), granularity=0.02),
        None,
    ),
    "rm_large_spread": (
        lambda: analysis.rm_large_spread(quotes()),
        _of_quotes(lambda f: f.filter((_ask - _bid) <= 50 * (_ask - _bid).median())),
    ),
    "rm_quote_outliers": (
        lambda: analysis.rm_quote_outliers(quotes()),
        _of_quotes(
            lambda f: f.with_columns(m=(_bid + _ask) / 2).filter(
                (pl.col("m") - pl.col("m").rolling_median(51, center=True)).abs()
                <= 14.826 * (pl.col("m") - pl.col("m").median()).abs().median()
            )
        ),
    ),
    "rm_trade_outliers": (
        lambda: analysis.rm_trade_outliers(trades(), quotes()),
        _of_trades(
            lambda f: f.join_asof(quotes().lazy().drop("contract_id"), on="timestamp").filter(
                _p.is_between(2 * _bid - _ask, 2 * _ask - _bid)
            )
        ),
    ),
    "quality_report": (
        lambda: analysis.quality_report(trades()),
        None,
    ),
}
