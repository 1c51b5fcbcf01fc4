"""Measures of ten million ticks, each beside the query one would write by hand in polars.

The ticks are the real IBM day of ``ibticks.sample``, again and again, each time a day later. Run as
a module, this takes the peak memory of one measure in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from polars.testing import assert_series_equal

from benchmarks.memory import peak
from benchmarks.report import Figure, Row, at_least, at_most
from benchmarks.timing import compare, simple
from ibticks import analysis
from ibticks.sample import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.scene import Scene

__all__ = ["Case", "bars", "clocks", "measured", "memory", "prices", "quotes", "trades"]

_TIMES: Final = 10  # as many ticks as the hour has
_PRICE, _SIZE, _AT = pl.col("price"), pl.col("size"), pl.col("timestamp")
_VALUE: Final = _PRICE * _SIZE
_OPENS, _CLOSES = time(13, 30), time(20)  # New York in summer, UTC
_OHLC: Final = [
    _PRICE.first().alias("open"),
    _PRICE.max().alias("high"),
    _PRICE.min().alias("low"),
    _PRICE.last().alias("close"),
    _SIZE.sum().alias("volume"),
    (_VALUE.sum() / _SIZE.sum()).alias("vwap"),
    pl.len().alias("count"),
]


@dataclass(frozen=True, slots=True)
class Case:
    """A measure, and the query it is held against; what they must agree on is one column."""

    what: str
    ours: Callable[[], Any]
    peer: str = ""
    theirs: Callable[[], Any] | None = None
    column: str = ""


@cache
def trades(ticks: int) -> pl.DataFrame:
    """So many trades of one contract."""
    return _days("ibm_trades", ticks, ["price", "size"])


@cache
def quotes(ticks: int) -> pl.DataFrame:
    """So many quotes of one contract."""
    return _days("ibm_quotes", ticks, ["bid_price", "bid_size", "ask_price", "ask_size"])


def _days(name: str, ticks: int, columns: list[str]) -> pl.DataFrame:
    found = sample(name)
    day = pl.read_parquet(found.path).select(
        "timestamp",
        pl.lit(found.contract_id, pl.UInt32).alias("contract_id"),
        pl.col(columns).cast(pl.Float64),
    )
    days = -(-ticks // len(day))
    moved = (day.with_columns(_AT.dt.offset_by(f"{number}d")) for number in range(days))
    return pl.concat(moved).head(ticks).rechunk().with_columns(_AT.set_sorted())


def measured(cases: list[Case], repeat: int) -> Iterator[Row]:
    """A row for each, and one for the slowest of them."""
    slowest = None
    for case in cases:
        if case.theirs is not None and case.column:
            _agree(case, case.ours(), case.theirs())
        contenders = [simple("ours", case.ours)]
        if case.theirs is not None:
            contenders.append(simple("theirs", case.theirs))
        took = {name: Figure.seconds(runs) for name, runs in compare(contenders, repeat).items()}
        goal = at_most(1, absolute=True) if case.theirs is None else at_least(1 / 2)
        yield Row(case.what, took["ours"], case.peer, took.get("theirs"), goal=goal)
        if slowest is None or took["ours"].value > slowest.value:
            slowest = took["ours"]
    if slowest is not None:
        yield Row("· the slowest of these", slowest, goal=at_most(1, absolute=True))


def _agree(case: Case, ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    assert_series_equal(ours[case.column], theirs[case.column], rel_tol=1e-9)


def bars(scene: Scene) -> Iterator[Row]:
    """Bars of ten million trades."""
    frame = trades(scene.ticks * _TIMES)
    made = quotes(scene.ticks * _TIMES)
    quoted = [
        each
        for side in ("bid_price", "ask_price", "mid")
        for each in (
            pl.col(side).first().alias(f"{side}_open"),
            pl.col(side).max().alias(f"{side}_high"),
            pl.col(side).min().alias(f"{side}_low"),
            pl.col(side).last().alias(f"{side}_close"),
        )
    ]

    def by_time(every: str) -> pl.DataFrame:
        groups = frame.lazy().group_by_dynamic("timestamp", every=every, group_by="contract_id")
        return groups.agg(_OHLC).collect()

    def by_number(number: pl.Expr) -> pl.DataFrame:
        numbered = frame.lazy().group_by("contract_id", number.alias("bar"), maintain_order=True)
        return numbered.agg(_OHLC).collect()

    def of_quotes() -> pl.DataFrame:
        mid = (pl.col("bid_price") + pl.col("ask_price")) / 2
        spread = (pl.col("ask_price") - pl.col("bid_price")).mean().alias("spread")
        groups = made.lazy().with_columns(mid=mid)
        groups = groups.group_by_dynamic("timestamp", every="1m", group_by="contract_id")
        return groups.agg(*quoted, spread, pl.len().alias("count")).collect()

    where = {"anchor": "session", "market": "US"}
    dynamic = "polars, group_by_dynamic"
    place = pl.int_range(pl.len()).over("contract_id")
    yield from measured(
        [
            Case(
                "time bars, 1 minute",
                lambda: analysis.time_bars(frame, "1m"),
                dynamic,
                lambda: by_time("1m"),
                "volume",
            ),
            Case(
                "time bars, 1 second",
                lambda: analysis.time_bars(frame, "1s"),
                dynamic,
                lambda: by_time("1s"),
                "volume",
            ),
            Case(
                "time bars by sessions, 1 minute", lambda: analysis.time_bars(frame, "1m", **where)
            ),
            Case(
                "time bars of quotes, 1 minute",
                lambda: analysis.time_bars(made, "1m", of="quotes"),
                dynamic,
                of_quotes,
                "spread",
            ),
            Case(
                "tick bars, 1,000 each",
                lambda: analysis.tick_bars(frame, 1000, partial=True),
                "polars, group_by of row numbers",
                lambda: by_number(place // 1000),
                "volume",
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
        scene.repeat,
    )


def prices(scene: Scene) -> Iterator[Row]:
    """Prices and averages of ten million ticks."""
    frame, made = trades(scene.ticks * _TIMES), quotes(scene.ticks * _TIMES)
    bid, ask = pl.col("bid_price"), pl.col("ask_price")
    bids, asks = pl.col("bid_size"), pl.col("ask_size")
    width = pl.col("timestamp").diff().dt.total_nanoseconds()
    mean, away = _PRICE.rolling_mean(20), _PRICE.rolling_std(20, ddof=0) * 2
    rolled = _VALUE.rolling_sum_by("timestamp", "5m") / _SIZE.rolling_sum_by("timestamp", "5m")
    day = _AT.dt.date()
    yield from measured(
        [
            Case(
                "mid",
                lambda: analysis.mid(made),
                "polars",
                lambda: made.with_columns(mid=(bid + ask) / 2),
                "mid",
            ),
            Case(
                "microprice",
                lambda: analysis.microprice(made),
                "polars",
                lambda: made.with_columns(microprice=(asks * bid + bids * ask) / (bids + asks)),
                "microprice",
            ),
            Case(
                "spread, also relative and in ticks",
                lambda: analysis.spread(made, tick_size=0.01),
                "polars",
                lambda: made.with_columns(
                    spread=ask - bid,
                    relative_spread=(ask - bid) / (bid + ask) * 20_000,
                    spread_ticks=(ask - bid) / 0.01,
                ),
                "relative_spread",
            ),
            Case(
                "VWAP",
                lambda: analysis.vwap(frame),
                "polars, group_by",
                lambda: frame.group_by("contract_id").agg(vwap=_VALUE.sum() / _SIZE.sum()),
                "vwap",
            ),
            Case(
                "TWAP",
                lambda: analysis.twap(frame),
                "polars",
                lambda: (
                    frame.lazy().select(twap=(_PRICE.shift() * width).sum() / width.sum()).collect()
                ),
                "twap",
            ),
            Case(
                "rolling VWAP, 5 minutes",
                lambda: analysis.rolling_vwap(frame, "5m"),
                "polars, rolling_sum_by",
                lambda: frame.with_columns(vwap=rolled),
            ),
            Case("rolling TWAP, 5 minutes", lambda: analysis.rolling_twap(frame, "5m")),
            Case(
                "Bollinger bands, 20 trades",
                lambda: analysis.bollinger_bands(frame),
                "polars, rolling_mean and _std",
                lambda: frame.with_columns(
                    bollinger_middle=mean, lower=mean - away, upper=mean + away
                ),
            ),
            Case(
                "VWAP since the opening, with bands",
                lambda: analysis.anchored_vwap(frame, market="US"),
                "polars, cum_sum over days",
                lambda: frame.with_columns(
                    vwap=_VALUE.cum_sum().over(day) / _SIZE.cum_sum().over(day),
                    square=(_VALUE * _PRICE).cum_sum().over(day),
                ),
            ),
            Case("TWAP since the opening", lambda: analysis.anchored_twap(frame, market="US")),
        ],
        scene.repeat,
    )


def clocks(scene: Scene) -> Iterator[Row]:
    """Joins, clocks and windows of ten million trades and as many quotes."""
    frame, made = trades(scene.ticks * _TIMES), quotes(scene.ticks * _TIMES)
    pair = frame.with_columns(contract_id=(pl.int_range(pl.len()) % 2).cast(pl.UInt32))

    def on_minutes() -> pl.DataFrame:
        minute = pl.duration(minutes=1, time_unit="ns")
        first, last = (pl.lit(end) for end in frame.select(a=_AT.min(), b=_AT.max()).row(0))
        ends = (each.cast(frame["timestamp"].dtype).dt.truncate("1m") for each in (first, last))
        clock = pl.select(timestamp=pl.datetime_range(*(end + minute for end in ends), "1m"))
        held = frame.select("timestamp", "price", last_time="timestamp")
        return clock.join_asof(held, on="timestamp")

    def joined() -> pl.DataFrame:
        return frame.join_asof(
            made, on="timestamp", by="contract_id", check_sortedness=False
        ).with_columns(mid=(pl.col("bid_price") + pl.col("ask_price")) / 2)

    def merged() -> pl.DataFrame:
        return frame.group_by("timestamp", "contract_id", maintain_order=True).agg(
            _PRICE.median(), _SIZE.sum(), pl.len().alias("count")
        )

    hour = pl.duration(hours=1, time_unit="ns")
    yield from measured(
        [
            Case(
                "quote in force at each trade",
                lambda: analysis.quotes_at(frame, made),
                "polars, join_asof",
                joined,
                "mid",
            ),
            Case("quote five seconds before", lambda: analysis.quotes_at(frame, made, lag="5s")),
            Case(
                "a grid of minutes",
                lambda: analysis.align(frame, "1m"),
                "polars, join_asof",
                on_minutes,
                "price",
            ),
            Case("refresh time of two contracts", lambda: analysis.refresh_time(pair)),
            Case(
                "trades of one time made one",
                lambda: analysis.merge_same_timestamp(frame),
                "polars, group_by times",
                merged,
                "price",
            ),
            Case(
                "regular sessions",
                lambda: analysis.session(frame, market="US"),
                "polars, filter by time of day",
                lambda: frame.filter(_AT.dt.time().is_between(_OPENS, _CLOSES, closed="left")),
            ),
            Case(
                "the last hour",
                lambda: analysis.last(frame, "1h"),
                "polars, filter",
                lambda: frame.filter(_AT.max() - hour <= _AT),
                "price",
            ),
        ],
        scene.repeat,
    )


def memory(scene: Scene) -> Iterator[Row]:
    """Peak memory of bars: straight from files, and of a frame that is in memory already."""
    path = scene.folder / "trades.parquet"
    frame = trades(scene.ticks * _TIMES)
    frame.write_parquet(path)
    held = Figure.size(frame.estimated_size())

    def taken(kind: str) -> Figure:
        run = [sys.executable, "-m", "benchmarks.analysis", kind, str(path)]
        return Figure.size(float(subprocess.run(run, check=True, capture_output=True).stdout))

    streamed, more, loaded = (taken(kind) for kind in ("streamed", "more", "loaded"))
    what = "peak memory of hourly bars"
    yield Row(f"{what}, streamed from Parquet", streamed, "the ticks", held, share=True)
    yield Row(
        f"{what}, of six times the ticks",
        more,
        "of the ticks once",
        streamed,
        share=True,
        goal=at_most(2),
    )
    yield Row(f"{what} of a loaded frame", loaded, "the frame", held, share=True)


def _prepared(kind: str, path: Path) -> Callable[[], Any]:
    if kind == "loaded":
        frame = pl.read_parquet(path)
        return lambda: analysis.time_bars(frame, "1h")
    years = 6 if kind == "more" else 1
    scan = pl.concat(
        pl.scan_parquet(path).with_columns(_AT.dt.offset_by(f"{year}y")) for year in range(years)
    )
    return lambda: analysis.time_bars(scan, "1h").collect(engine="streaming")


if __name__ == "__main__":
    measure = _prepared(sys.argv[1], Path(sys.argv[2]))
    before = peak()
    made = measure()
    print(peak() - before)
