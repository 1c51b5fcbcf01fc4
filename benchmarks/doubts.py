"""Arrival, quality and cleaning of ten million ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from benchmarks.cases import Case, measured, quotes, trades
from ibticks import analysis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Row
    from benchmarks.scene import Scene

__all__ = ["cleaning", "durations"]

_AT, _PRICE, _SIZE = pl.col("timestamp"), pl.col("price"), pl.col("size")
_BID, _ASK = pl.col("bid_price"), pl.col("ask_price")
_GAP: Final = pl.duration(seconds=10, time_unit="ns")
_SECOND: Final = pl.duration(seconds=1, time_unit="ns")


def durations(scene: Scene) -> Iterator[Row]:
    """Measure the arrival of trades."""
    frame = trades(scene)
    # As IB's: the second in which it was, and here in which it came.
    stamped = frame.with_columns(exchange_time=_AT.dt.truncate("1s"))
    late = _AT - pl.col("exchange_time")
    minute = _AT.dt.truncate("1m")
    first = pl.int_range(pl.len()) == 0
    yield from measured(
        [
            Case(
                "time since the trade before",
                lambda: analysis.interarrival(frame),
                "polars",
                lambda: frame.with_columns(interarrival=_AT.diff()),
                "interarrival",
            ),
            Case(
                "trades a second, by minutes",
                lambda: analysis.intensity(frame),
                "polars, group_by_dynamic",
                lambda: (
                    frame.lazy()
                    .group_by_dynamic("timestamp", every="1m")
                    .agg(ticks=pl.len())
                    .with_columns(intensity=pl.col("ticks") / 60)
                    .collect()
                ),
                "timestamp ticks intensity",
            ),
            Case(
                "gaps of 10 seconds",
                lambda: analysis.gaps(frame, "10s"),
                "polars, filter",
                lambda: (
                    frame.lazy()
                    .select(start=_AT.shift(), end="timestamp", duration=_AT.diff())
                    .filter(pl.col("duration") > _GAP)
                    .collect()
                ),
                "start end duration",
            ),
            Case(
                "how long prices have stood",
                lambda: analysis.staleness(frame),
                "polars",
                lambda: frame.with_columns(
                    staleness=_AT
                    - pl.when((_PRICE.shift() != _PRICE) | first).then(_AT).forward_fill()
                ),
                "staleness",
            ),
            Case(
                "how late trades came",
                lambda: analysis.latency(stamped),
                "polars",
                lambda: stamped.with_columns(
                    latency_more_than=late - _SECOND, latency_at_most=late
                ),
                "latency_more_than latency_at_most",
            ),
            Case(
                "coverage of minutes",
                lambda: analysis.coverage(frame),
                "polars",
                lambda: (
                    frame.lazy()
                    .select(
                        first=_AT.min(),
                        last=_AT.max(),
                        ticks=pl.len(),
                        bars=(minute.max() - minute.min()).dt.total_minutes() + 1,
                        filled=minute.n_unique(),
                    )
                    .with_columns(coverage=pl.col("filled") / pl.col("bars"))
                    .collect()
                ),
                "first last ticks bars filled coverage",
            ),
        ],
        scene,
    )


def cleaning(scene: Scene) -> Iterator[Row]:
    """Measure flags and cleaning rules."""
    frame, made = trades(scene), quotes(scene)
    names = trades(scene, "exchange", "conditions")
    # As a store has them: a list of words.
    details = names.with_columns(pl.concat_list("conditions"))
    day, spread = _AT.dt.date(), _ASK - _BID
    same = pl.all_horizontal(pl.exclude("contract_id") == pl.exclude("contract_id").shift())
    normal = ["1", "20"]
    yield from measured(
        [
            Case(
                "repeated trades",
                lambda: analysis.duplicates(frame),
                "polars",
                lambda: frame.with_columns(duplicate=same.fill_null(value=False)),
                "duplicate",
            ),
            Case(
                "crossed and locked quotes",
                lambda: analysis.crossed_quotes(made),
                "polars",
                lambda: made.with_columns(crossed=_BID > _ASK, locked=_BID == _ASK),
                "crossed locked",
            ),
            Case("outliers of trades", lambda: analysis.outliers(frame)),
            Case("outliers of quotes", lambda: analysis.outliers(made)),
            Case("report on trades", lambda: analysis.quality_report(frame)),
            Case("report on quotes", lambda: analysis.quality_report(made)),
            Case(
                "trades without price 0",
                lambda: analysis.no_zero_prices(frame),
                "polars, filter",
                lambda: frame.filter(_PRICE > 0),
                "price",
            ),
            Case(
                "quotes without price 0",
                lambda: analysis.no_zero_quotes(made),
                "polars, filter",
                lambda: made.filter((_BID > 0) & (_ASK > 0)),
                "bid_price",
            ),
            Case(
                "trades of New York",
                lambda: analysis.select_exchange(names, "N"),
                "polars, filter",
                lambda: names.filter(pl.col("exchange") == "N"),
                "exchange price",
            ),
            Case(
                "trades of some conditions",
                lambda: analysis.sales_condition(details, normal),
                "polars, list.join",
                lambda: details.filter(pl.col("conditions").list.join("").is_in(normal)),
                "conditions price",
            ),
            Case(
                "quotes not crossed",
                lambda: analysis.rm_negative_spread(made),
                "polars, filter",
                lambda: made.filter(_BID <= _ASK),
                "bid_price",
            ),
            Case(
                "quotes without wide spreads",
                lambda: analysis.rm_large_spread(made),
                "polars, filter over days",
                lambda: made.lazy().filter(spread <= 50 * spread.median().over(day)).collect(),
                "bid_price",
            ),
            Case(
                "quotes in line with those around",
                lambda: analysis.rm_quote_outliers(made),
                "polars, rolling_median",
                lambda: _in_line(made),
            ),
            Case(
                "trades in line with the quotes",
                lambda: analysis.rm_trade_outliers(frame, made),
                "polars, join_asof",
                lambda: _within_quotes(frame, made),
                "timestamp price",
            ),
            Case(
                "quotes of one time made one",
                lambda: analysis.merge_same_timestamp(made, of="quotes"),
                "polars, group_by times",
                lambda: made.group_by("timestamp", maintain_order=True).agg(
                    pl.col("bid_price", "ask_price").median(),
                    pl.col("bid_size", "ask_size").sum(),
                    pl.len().alias("count"),
                ),
                "timestamp bid_price bid_size ask_price ask_size count",
            ),
            Case(
                "all the rules for trades",
                lambda: analysis.trades_cleanup(frame, quotes=made).ticks,
                "polars, all the queries",
                lambda: _within_quotes(_merged(frame.filter(_PRICE > 0)), made),
                "timestamp price size count",
            ),
            Case("all the rules for quotes", lambda: analysis.quotes_cleanup(made)),
        ],
        scene,
    )


def _in_line(made: pl.DataFrame) -> pl.DataFrame:
    """With the quote itself among those around it, which polars cannot leave out."""
    mid, day = pl.col("mid"), _AT.dt.date()
    off, around = (mid - mid.median().over(day)).abs(), mid.rolling_median(51, center=True)
    near = (mid - around).abs() <= 14.826 * off.median().over(day)
    return made.lazy().with_columns(mid=(_BID + _ASK) / 2).filter(near).drop("mid").collect()


def _within_quotes(frame: pl.DataFrame, made: pl.DataFrame) -> pl.DataFrame:
    """At most a spread outside; up to rounding. Trades before the first quote stay."""
    book = made.lazy().select("timestamp", "bid_price", "ask_price")
    near = _PRICE.is_between(2 * _BID - _ASK - 1e-9, 2 * _ASK - _BID + 1e-9)
    combined = frame.lazy().join_asof(book, on="timestamp").filter(near.fill_null(value=True))
    return combined.drop("bid_price", "ask_price").collect()


def _merged(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("timestamp", maintain_order=True).agg(
        _PRICE.median(), _SIZE.sum(), pl.len().alias("count")
    )
