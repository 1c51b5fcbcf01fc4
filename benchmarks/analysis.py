"""Bars, prices, clocks and windows of ten million ticks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import polars as pl

from benchmarks.cases import Case, measured, quotes, trades
from ibticks import analysis
from ibticks.calendar import market

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Row
    from benchmarks.scene import Scene

__all__ = ["bars", "clocks", "prices"]

_PRICE, _SIZE, _AT = pl.col("price"), pl.col("size"), pl.col("timestamp")
_BID, _ASK, _OPENED = pl.col("bid_price"), pl.col("ask_price"), pl.col("opened")
_VALUE: Final = _PRICE * _SIZE
_MID: Final = (_BID + _ASK) / 2
_TIMES: Final = [_AT.first().alias("first_time"), _AT.last().alias("last_time")]
_OHLC: Final = [
    _PRICE.first().alias("open"),
    _PRICE.max().alias("high"),
    _PRICE.min().alias("low"),
    _PRICE.last().alias("close"),
    _SIZE.sum().alias("volume"),
    (_VALUE.sum() / _SIZE.sum()).alias("vwap"),
    pl.len().alias("count"),
    *_TIMES,
]
_QUOTED: Final = [
    item
    for side in ("bid", "ask", "mid")
    for value in (pl.col("mid" if side == "mid" else f"{side}_price"),)
    for item in (
        value.first().alias(f"{side}_open"),
        value.max().alias(f"{side}_high"),
        value.min().alias(f"{side}_low"),
        value.last().alias(f"{side}_close"),
    )
]
_BAR: Final = "open high low close volume vwap count first_time last_time"
_DYNAMIC: Final = "polars, group_by_dynamic"
_JOIN: Final = "polars, join_asof"
_SCHEDULE: Final = "polars, join_asof with the sessions"


def bars(scene: Scene) -> Iterator[Row]:
    """Bars of ten million trades."""
    frame, made = trades(scene), quotes(scene)
    yield from measured(
        [
            _of_time(frame, "1 minute", "1m"),
            _of_time(frame, "1 second", "1s"),
            Case(
                "time bars by sessions, 1 minute",
                lambda: analysis.time_bars(frame, "1m", anchor="session", market="US"),
                f"{_SCHEDULE}, group_by_dynamic",
                lambda: _by_time(_opened(frame).drop_nulls("opened"), "1m"),
                f"timestamp {_BAR}",
            ),
            Case(
                "time bars of quotes, 1 minute",
                lambda: analysis.time_bars(made, "1m", of="quotes"),
                _DYNAMIC,
                lambda: (
                    made.lazy()
                    .with_columns(mid=_MID)
                    .group_by_dynamic("timestamp", every="1m")
                    .agg(
                        *_QUOTED,
                        (_ASK - _BID).mean().alias("spread"),
                        pl.len().alias("count"),
                        *_TIMES,
                    )
                    .collect()
                ),
                "bid_open bid_high ask_low ask_close mid_open mid_high spread count last_time",
            ),
            Case(
                "tick bars, 1,000 each",
                lambda: analysis.tick_bars(frame, 1000, partial=True),
                f"{_DYNAMIC} of row numbers",
                lambda: (
                    frame.lazy()
                    .with_row_index()
                    .group_by_dynamic(pl.col("index").cast(pl.Int64).set_sorted(), every="1000i")
                    .agg(_OHLC)
                    .collect()
                ),
                _BAR,
            ),
            Case("volume bars, 100,000 shares", lambda: analysis.volume_bars(frame, 100_000)),
            Case("dollar bars, 10 million", lambda: analysis.dollar_bars(frame, 1e7)),
            Case(
                "imbalance bars of volume",
                lambda: analysis.imbalance_bars(
                    frame, "volume", expected_ticks=500, limits=(500, 5000)
                ),
            ),
            Case(
                "run bars of volume",
                lambda: analysis.run_bars(frame, "volume", expected_ticks=500, limits=(500, 5000)),
            ),
        ],
        scene,
    )


def prices(scene: Scene) -> Iterator[Row]:
    """Prices and averages of ten million ticks."""
    frame, made = trades(scene), quotes(scene)
    bids, asks = pl.col("bid_size"), pl.col("ask_size")
    width = _AT.diff().dt.total_nanoseconds()
    average = (_PRICE.shift() * width).sum() / width.sum()
    mean = _PRICE.rolling_mean(20, min_samples=1)
    away = _PRICE.rolling_std(20, min_samples=1, ddof=0).fill_null(0) * 2
    rolled = _VALUE.rolling_sum_by("timestamp", "5m") / _SIZE.rolling_sum_by("timestamp", "5m")
    yield from measured(
        [
            Case(
                "mid",
                lambda: analysis.mid(made),
                "polars",
                lambda: made.with_columns(mid=_MID),
                "mid",
            ),
            Case(
                "microprice",
                lambda: analysis.microprice(made),
                "polars",
                lambda: made.with_columns(microprice=(asks * _BID + bids * _ASK) / (bids + asks)),
                "microprice",
            ),
            Case(
                "spread, also relative and in ticks",
                lambda: analysis.spread(made, tick_size=0.01),
                "polars",
                lambda: made.with_columns(
                    spread=_ASK - _BID,
                    relative_spread=(_ASK - _BID) / _MID,
                    spread_ticks=(_ASK - _BID) / 0.01,
                ),
                "spread relative_spread spread_ticks",
            ),
            Case(
                "VWAP",
                lambda: analysis.vwap(frame),
                "polars",
                lambda: (
                    frame.lazy()
                    .select(vwap=_VALUE.sum() / _SIZE.sum(), volume=_SIZE.sum(), count=pl.len())
                    .collect()
                ),
                "vwap volume count",
            ),
            Case(
                "TWAP",
                lambda: analysis.twap(frame),
                "polars",
                lambda: frame.lazy().select(twap=average, seconds=width.sum() / 1e9).collect(),
                "twap seconds",
            ),
            Case(
                "rolling VWAP, 5 minutes",
                lambda: analysis.rolling_vwap(frame, "5m"),
                "polars, rolling_sum_by",
                lambda: frame.with_columns(vwap=rolled),
                "timestamp vwap",
                rounding=1e-6,
                rows=lambda frame: frame.unique("timestamp", keep="last", maintain_order=True),
            ),
            Case(
                "rolling TWAP, 5 minutes",
                lambda: analysis.rolling_twap(frame, "5m"),
                "polars, cum_sum and join_asof",
                lambda: _rolling_twap(frame),
                "twap",
                rounding=1e-5,
            ),
            Case(
                "Bollinger bands, 20 trades",
                lambda: analysis.bollinger_bands(frame),
                "polars, rolling_mean and _std",
                lambda: frame.with_columns(bollinger_middle=mean, away=away).select(
                    pl.exclude("away"),
                    bollinger_lower=pl.col("bollinger_middle") - pl.col("away"),
                    bollinger_upper=pl.col("bollinger_middle") + pl.col("away"),
                ),
                "bollinger_middle bollinger_lower bollinger_upper",
                rounding=1e-4,
            ),
            Case(
                "VWAP since the opening, with bands",
                lambda: analysis.anchored_vwap(frame, market="US"),
                f"{_SCHEDULE}, cum_sum",
                lambda: _since_opening_vwap(frame),
                "vwap vwap_lower vwap_upper",
                rounding=1e-4,
            ),
            Case(
                "TWAP since the opening",
                lambda: analysis.anchored_twap(frame, market="US"),
                f"{_SCHEDULE}, cum_sum",
                lambda: _since_opening_twap(frame),
                "twap",
            ),
        ],
        scene,
    )


def clocks(scene: Scene) -> Iterator[Row]:
    """Joins, clocks and windows of ten million trades and as many quotes."""
    frame, made = trades(scene), quotes(scene)
    pair = frame.with_columns(contract_id=(pl.int_range(pl.len()) % 2).cast(pl.UInt32))
    first, last = (frame["timestamp"][row] for row in (0, -1))
    minute, hour = timedelta(minutes=1), pl.duration(hours=1, time_unit="ns")
    minutes = pl.datetime_range(first, last + minute, "1m", time_unit="ns", eager=True)
    minutes = (minutes.dt.truncate("1m") + minute).cast(frame["timestamp"].dtype)
    book = made.drop("contract_id").with_columns(quote_timestamp="timestamp")
    latest = pl.lit(_sessions().filter(last >= _OPENED)["opened"].max())

    def on_minutes() -> pl.DataFrame:
        current = frame.select("timestamp", "price", last_time="timestamp")
        return pl.DataFrame({"timestamp": minutes}).join_asof(current, on="timestamp")

    def seconds_before() -> pl.DataFrame:
        asked = frame.with_columns(at=_AT - pl.duration(seconds=5, time_unit="ns"))
        combined = asked.join_asof(book, left_on="at", right_on="timestamp", coalesce=True)
        return combined.with_columns(mid=_MID).drop("at")

    yield from measured(
        [
            Case(
                "quote in force at each trade",
                lambda: analysis.quotes_at(frame, made),
                _JOIN,
                lambda: frame.join_asof(book, on="timestamp").with_columns(mid=_MID),
                "bid_size ask_price mid quote_timestamp",
            ),
            Case(
                "quote five seconds before",
                lambda: analysis.quotes_at(frame, made, lag="5s"),
                _JOIN,
                seconds_before,
                "bid_size ask_price mid quote_timestamp",
            ),
            Case(
                "a grid of minutes",
                lambda: analysis.align(frame, "1m"),
                _JOIN,
                on_minutes,
                "timestamp price last_time",
            ),
            Case(
                "last values at some instants",
                lambda: analysis.last_value(frame, minutes),
                _JOIN,
                on_minutes,
                "timestamp price last_time",
            ),
            Case("refresh time of two contracts", lambda: analysis.refresh_time(pair)),
            Case(
                "trades of one time made one",
                lambda: analysis.merge_same_timestamp(frame),
                "polars, group_by times",
                lambda: frame.group_by("timestamp", maintain_order=True).agg(
                    _PRICE.median(), _SIZE.sum(), pl.len().alias("count")
                ),
                "timestamp price size count",
            ),
            Case(
                "regular sessions",
                lambda: analysis.session(frame, market="US"),
                _SCHEDULE,
                lambda: _opened(frame).drop_nulls("opened").collect(),
                "timestamp price",
            ),
            Case(
                "the last hour",
                lambda: analysis.trailing_window(frame, "1h"),
                "polars, filter",
                lambda: frame.filter(_AT.max() - hour <= _AT),
                "timestamp price",
            ),
            Case(
                "since the last opening",
                lambda: analysis.since_open(frame, market="US"),
                "polars, filter",
                lambda: frame.filter(latest <= _AT),
                "timestamp price",
            ),
        ],
        scene,
    )


def _of_time(frame: pl.DataFrame, name: str, every: str) -> Case:
    return Case(
        f"time bars, {name}",
        lambda: analysis.time_bars(frame, every),
        _DYNAMIC,
        lambda: _by_time(frame.lazy(), every),
        f"timestamp {_BAR}",
    )


def _by_time(rows: pl.LazyFrame, every: str) -> pl.DataFrame:
    return rows.group_by_dynamic("timestamp", every=every).agg(_OHLC).collect()


def _sessions() -> pl.DataFrame:
    table = market("US").tables["regular"]
    return pl.DataFrame({"opened": table.start_ns, "closed": table.end_ns}).cast(
        pl.Datetime("ns", "UTC")
    )


def _opened(frame: pl.DataFrame) -> pl.LazyFrame:
    """Return the opening time of the session of each row."""
    combined = frame.lazy().join_asof(
        _sessions().lazy().with_columns(_OPENED.set_sorted()),
        left_on="timestamp",
        right_on="opened",
        coalesce=False,
    )
    return combined.with_columns(opened=pl.when(pl.col("closed") > _AT).then("opened")).drop(
        "closed"
    )


def _rolling_twap(frame: pl.DataFrame) -> pl.DataFrame:
    """From the area under the prices up to each row, less that up to five minutes before."""
    window = 300_000_000_000
    at = _AT.to_physical()
    area = (_PRICE.shift() * at.diff()).fill_null(0).cum_sum()
    current = frame.lazy().select(before=at, held="price", area=area)
    rows = frame.lazy().with_columns(start=pl.max_horizontal(at - window, at.first()), until=area)
    combined = rows.join_asof(current, left_on="start", right_on="before", coalesce=False)
    start, held_for = pl.col("start"), pl.col("start") - pl.col("before")
    inside = pl.col("until") - pl.col("area") - pl.col("held") * held_for
    average = pl.when(at > start).then(inside / (at - start)).otherwise("price")
    names = ["start", "until", "before", "held", "area"]
    return combined.with_columns(twap=average).drop(names).collect()


def _since_opening_vwap(frame: pl.DataFrame) -> pl.DataFrame:
    """Sum squares about a price, so that no digit is lost."""
    away = _PRICE - frame["price"][0]
    total = [(item * _SIZE).cum_sum().over("opened") for item in (pl.lit(1.0), away, away * away)]
    inside = _OPENED.is_not_null()
    volume, mean, square = pl.col("volume"), pl.col("mean"), pl.col("square")
    off = (square / volume - (mean / volume) ** 2).clip(lower_bound=0).sqrt() * 2
    average = pl.when(inside).then(mean / volume + frame["price"][0])
    return (
        _opened(frame)
        .with_columns(volume=total[0], mean=total[1], square=total[2])
        .with_columns(vwap=average, off=off)
        .with_columns(vwap_lower=pl.col("vwap") - pl.col("off"))
        .with_columns(vwap_upper=pl.col("vwap") + pl.col("off"))
        .drop("volume", "mean", "square", "off", "opened")
        .collect()
    )


def _since_opening_twap(frame: pl.DataFrame) -> pl.DataFrame:
    at = _AT.to_physical()
    area = (_PRICE.shift() * at.diff()).fill_null(0).cum_sum().over("opened")
    span = at - at.first().over("opened")
    average = pl.when(span > 0).then(area / span).otherwise("price")
    result = _opened(frame).with_columns(twap=pl.when(_OPENED.is_not_null()).then(average))
    return result.drop("opened").collect()
