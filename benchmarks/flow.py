"""Order flow, price impact and costs of ten million trades and as many quotes."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from benchmarks.cases import Case, measured, quotes, trades
from ibticks import analysis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Row
    from benchmarks.scene import Scene

__all__ = ["costs", "flow"]

_AT, _PRICE, _SIZE, _SIGN = (pl.col(name) for name in ("timestamp", "price", "size", "sign"))
_BID, _ASK, _MID = pl.col("bid_price"), pl.col("ask_price"), pl.col("mid")
_BIDS, _ASKS = pl.col("bid_size"), pl.col("ask_size")
_MOVE: Final = _PRICE.diff()
_TICK: Final = pl.when(_MOVE != 0).then(_MOVE.sign()).forward_fill().fill_null(0).cast(pl.Int8)
_DYNAMIC: Final = "polars, group_by_dynamic"
_JOIN: Final = "polars, join_asof"


def flow(scene: Scene) -> Iterator[Row]:
    """Signs, what they add up to, and what the quotes push."""
    frame, made = trades(scene), quotes(scene)
    signed = analysis.trade_sign(frame, "tick")
    yield from measured(
        [
            Case(
                "signs by the tick rule",
                lambda: analysis.trade_sign(frame, "tick"),
                "polars",
                lambda: frame.with_columns(sign=_TICK),
                "sign",
            ),
            Case(
                "signs by Lee and Ready's rule",
                lambda: analysis.trade_sign(frame, quotes=made),
                _JOIN,
                lambda: _lee_ready(frame, made).collect(),
                "sign",
            ),
            Case(
                "signed volume",
                lambda: analysis.signed_volume(signed),
                "polars",
                lambda: signed.with_columns(signed_volume=_SIZE * _SIGN),
                "signed_volume",
            ),
            Case(
                "delta, 1 minute",
                lambda: analysis.delta(signed, "1m"),
                _DYNAMIC,
                lambda: _delta(signed),
                "timestamp buy_volume sell_volume unsigned_volume delta trades",
            ),
            Case(
                "cumulative delta",
                lambda: analysis.cumulative_delta(signed),
                "polars",
                lambda: signed.with_columns(signed_volume=_SIZE * _SIGN).with_columns(
                    cumulative_delta=pl.col("signed_volume").cum_sum()
                ),
                "signed_volume cumulative_delta",
            ),
            Case(
                "order-flow imbalance",
                lambda: analysis.order_flow_imbalance(made),
                "polars",
                lambda: made.with_columns(order_flow_imbalance=_imbalance()),
                "order_flow_imbalance",
            ),
            Case(
                "order-flow imbalance, 1 minute",
                lambda: analysis.order_flow_imbalance(made, "1m"),
                _DYNAMIC,
                lambda: (
                    made.lazy()
                    .select("timestamp", each=_imbalance())
                    .group_by_dynamic("timestamp", every="1m")
                    .agg(order_flow_imbalance=pl.col("each").sum(), quotes=pl.len())
                    .collect()
                ),
                "timestamp order_flow_imbalance quotes",
            ),
            Case(
                "imbalance of each quote",
                lambda: analysis.quote_imbalance(made),
                "polars",
                lambda: made.with_columns(quote_imbalance=(_BIDS - _ASKS) / (_BIDS + _ASKS)),
                "quote_imbalance",
            ),
            Case(
                "volume by price",
                lambda: analysis.volume_profile(frame),
                "polars, group_by",
                lambda: (
                    frame.lazy()
                    .group_by("price")
                    .agg(volume=_SIZE.sum(), trades=pl.len())
                    .sort("price")
                    .with_columns(point_of_control=pl.col("volume") == pl.col("volume").max())
                    .collect()
                ),
                "price volume trades point_of_control",
            ),
            Case(
                "VPIN",
                lambda: analysis.vpin(frame, 100_000),
                "polars, group_by_dynamic, then numpy",
                lambda: _vpin(frame, 100_000),
                "timestamp buy_volume sell_volume vpin",
                rounding=1e-6,
            ),
            Case(
                "Kyle's lambda, 1 minute",
                lambda: analysis.kyle_lambda(signed),
                _DYNAMIC,
                lambda: _kyle(signed),
                "kyle_lambda t_statistic r_squared observations",
            ),
            Case(
                "Amihud's illiquidity, 1 minute",
                lambda: analysis.amihud(frame, "1m"),
                _DYNAMIC,
                lambda: (
                    frame.lazy()
                    .group_by_dynamic("timestamp", every="1m")
                    .agg(_PRICE.last(), value=(_PRICE * _SIZE).sum())
                    .select(each=_PRICE.pct_change().abs() / pl.col("value"))
                    .select(amihud=pl.col("each").mean(), observations=pl.col("each").count())
                    .collect()
                ),
                "amihud observations",
            ),
            Case(
                "Roll's spread",
                lambda: analysis.roll_spread(frame),
                "polars",
                lambda: (
                    frame.lazy()
                    .select(covariance=pl.cov(_MOVE, _MOVE.shift()), observations=pl.len() - 2)
                    .with_columns(roll=2 * (-pl.col("covariance")).sqrt())
                    .collect()
                ),
                "roll covariance observations",
            ),
        ],
        scene,
    )


def costs(scene: Scene) -> Iterator[Row]:
    """Spreads quoted, paid and kept."""
    frame, made = trades(scene), quotes(scene)
    signed = analysis.trade_sign(frame, "tick")
    middle, side = pl.col("later_mid"), pl.when(_SIGN != 0).then(_SIGN)
    paid, remaining, went = (
        2 * side * value for value in (_PRICE - _MID, _PRICE - middle, middle - _MID)
    )
    yield from measured(
        [
            Case(
                "quoted spread",
                lambda: analysis.quoted_spread(made),
                "polars",
                lambda: _weighted(_quotes_in_force(made).select(*_means())).collect(),
                _SPREADS,
            ),
            Case(
                "quoted spread, 1 minute",
                lambda: analysis.quoted_spread(made, "1m"),
                _DYNAMIC,
                lambda: _weighted(_by_minutes(made)).collect(),
                f"timestamp {_SPREADS}",
            ),
            Case(
                "effective spread",
                lambda: analysis.effective_spread(frame, quotes=made),
                _JOIN,
                lambda: (
                    _lee_ready(frame, made)
                    .with_columns(effective_spread=paid)
                    .with_columns(relative_effective_spread=pl.col("effective_spread") / _MID)
                    .collect()
                ),
                "sign mid effective_spread relative_effective_spread",
            ),
            Case(
                "realised spread, 5 minutes",
                lambda: analysis.realized_spread(signed, quotes=made),
                _JOIN,
                lambda: (
                    _later(signed, made)
                    .with_columns(realized_spread=remaining)
                    .with_columns(relative_realized_spread=pl.col("realized_spread") / _MID)
                    .collect()
                ),
                "mid later_mid realized_spread relative_realized_spread",
                rounding=1e-12,
            ),
            Case(
                "price impact, 5 minutes",
                lambda: analysis.price_impact(signed, quotes=made),
                _JOIN,
                lambda: (
                    _later(signed, made)
                    .with_columns(price_impact=went)
                    .with_columns(relative_price_impact=pl.col("price_impact") / _MID)
                    .collect()
                ),
                "mid later_mid price_impact relative_price_impact",
                rounding=1e-12,
            ),
        ],
        scene,
    )


def _mids(made: pl.DataFrame) -> pl.LazyFrame:
    return made.lazy().select("timestamp", "bid_price", "ask_price", mid=(_BID + _ASK) / 2)


def _lee_ready(frame: pl.DataFrame, made: pl.DataFrame) -> pl.LazyFrame:
    """By the quote unless bid is above ask, or the price is the mid, up to rounding."""
    above = _PRICE - _MID
    by_quote = pl.when((_BID <= _ASK) & (above.abs() > 1e-9)).then(above.sign())
    combined = frame.lazy().join_asof(_mids(made), on="timestamp")
    sign = pl.coalesce(by_quote, _TICK).cast(pl.Int8)
    return combined.with_columns(sign=sign).drop("bid_price", "ask_price")


def _delta(signed: pl.DataFrame) -> pl.DataFrame:
    groups = signed.lazy().group_by_dynamic("timestamp", every="1m")
    return groups.agg(
        buy_volume=_SIZE.filter(_SIGN > 0).sum(),
        sell_volume=_SIZE.filter(_SIGN < 0).sum(),
        unsigned_volume=_SIZE.filter(_SIGN == 0).sum(),
        delta=(_SIZE * _SIGN).sum(),
        trades=pl.len(),
    ).collect()


def _imbalance() -> pl.Expr:
    bid_0, ask_0 = _BID.shift(), _ASK.shift()
    return (
        _BIDS * (bid_0 <= _BID)
        - _BIDS.shift() * (bid_0 >= _BID)
        - _ASKS * (ask_0 >= _ASK)
        + _ASKS.shift() * (ask_0 <= _ASK)
    )


def _vpin(frame: pl.DataFrame, bucket: float) -> pl.DataFrame:
    groups = frame.lazy().group_by_dynamic("timestamp", every="1m")
    bars = groups.agg(_SIZE.sum(), _PRICE.last()).collect()
    volume, move = bars["size"].to_numpy(), bars["price"].diff().fill_null(0).to_numpy()
    normal = NormalDist(0, float(move[1:].std(ddof=1)))
    bought = volume * np.array([normal.cdf(value) for value in move])
    total = np.cumsum(volume)
    edges = bucket * np.arange(1, int(total[-1] / bucket) + 1)
    buys = np.interp(edges, [0, *total], [0, *np.cumsum(bought)])
    buy_volume = pl.col("buy_volume")
    return (
        bars[np.searchsorted(total, edges)]
        .select("timestamp", buy_volume=pl.Series(np.diff(buys, prepend=0)))
        .with_columns(sell_volume=bucket - buy_volume)
        .with_columns(vpin=(2 * buy_volume - bucket).abs().rolling_mean(50) / bucket)
    )


def _kyle(signed: pl.DataFrame) -> pl.DataFrame:
    bars = signed.lazy().group_by_dynamic("timestamp", every="1m")
    x, y, n, fit = pl.col("flow"), pl.col("move"), pl.col("observations"), pl.col("r_squared")
    return (
        bars.agg(_PRICE.last(), flow=(_SIZE * _SIGN).sum())
        .select("flow", move=_MOVE)
        .slice(1)
        .select(
            kyle_lambda=pl.cov(x, y) / x.var(),
            r_squared=pl.corr(x, y) ** 2,
            observations=pl.len().cast(pl.Int64),
        )
        .with_columns(t_statistic=((n - 2) * fit / (1 - fit)).sqrt() * pl.col("kyle_lambda").sign())
        .collect()
    )


_SPREADS: Final = (
    "quoted_spread relative_quoted_spread time_weighted_spread relative_time_weighted_spread quotes"
)


def _quotes_in_force(made: pl.DataFrame) -> pl.LazyFrame:
    """The spread of each quote, the same of the mid, and how long the quote was in force."""
    return made.lazy().select(
        "timestamp",
        spread=_ASK - _BID,
        relative=(_ASK - _BID) / ((_ASK + _BID) / 2),
        held=_AT.diff().shift(-1).dt.total_nanoseconds(),
    )


def _means() -> list[pl.Expr]:
    spread, relative, current = pl.col("spread"), pl.col("relative"), pl.col("held")
    return [
        spread.mean().alias("quoted_spread"),
        relative.mean().alias("relative_quoted_spread"),
        (spread * current).sum().alias("area"),
        (relative * current).sum().alias("relative_area"),
        current.sum(),
        pl.len().alias("quotes"),
    ]


def _by_minutes(made: pl.DataFrame) -> pl.LazyFrame:
    """Each quote to the end of its minute; the last one of a minute in the next, too."""
    minute, current = pl.duration(minutes=1), pl.col("held")
    inside = _AT.dt.truncate("1m") + minute - _AT
    # The last quote of all is followed by none, and held for no time.
    within = pl.when(current.is_not_null()).then(
        pl.min_horizontal(current, inside.dt.total_nanoseconds())
    )
    rows = _quotes_in_force(made).with_columns(held=within)
    bars = rows.group_by_dynamic("timestamp", every="1m").agg(
        *_means(), pl.col("spread", "relative").last(), first=_AT.first().alias("first")
    )
    wait = (pl.col("first") - _AT).dt.total_nanoseconds()
    before = pl.col("spread").shift(), pl.col("relative").shift()
    return bars.with_columns(
        pl.col("area") + (before[0] * wait).fill_null(0),
        pl.col("relative_area") + (before[1] * wait).fill_null(0),
        current + pl.when(before[0].is_not_null()).then(wait).otherwise(0),
    )


def _weighted(sums: pl.LazyFrame) -> pl.LazyFrame:
    return sums.with_columns(
        time_weighted_spread=pl.col("area") / pl.col("held"),
        relative_time_weighted_spread=pl.col("relative_area") / pl.col("held"),
    )


def _later(signed: pl.DataFrame, made: pl.DataFrame) -> pl.LazyFrame:
    """The mid at each trade, and five minutes after, as long as there are quotes."""
    after = _mids(made).select(at="timestamp", later_mid="mid")
    horizon = pl.duration(minutes=5, time_unit="ns")
    combined = (
        signed.lazy()
        .join_asof(_mids(made).select("timestamp", "mid"), on="timestamp")
        .with_columns(at=_AT + horizon)
        .join_asof(after, on="at")
    )
    known = pl.col("at") <= made["timestamp"][-1]
    return combined.with_columns(later_mid=pl.when(known).then("later_mid")).drop("at")
