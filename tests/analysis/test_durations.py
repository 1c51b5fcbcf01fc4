"""Durations between ticks, against plain loops."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks import analysis
from ibticks.errors import InputError, UnknownColumnError

from .equality import same
from .frames import both, is_number, made, real, rows_of, ticks

MINUTE = 60_000_000_000


def ns(column: pl.Series) -> list[int | None]:
    return column.cast(pl.Int64).to_list()


def typed(frame: pl.DataFrame) -> pl.DataFrame:
    """With the tick type that each row is of."""
    kind = pl.when(pl.col("price").is_not_null()).then(pl.lit("last")).otherwise(pl.lit("bid_ask"))
    return frame.with_columns(tick_type=kind)


@settings(max_examples=40, deadline=None)
@given(ticks(), st.booleans())
def test_streams_are_timed_by_themselves(frame: pl.DataFrame, with_types: bool) -> None:
    frame = typed(frame) if with_types else frame
    rows = rows_of(frame)
    last: dict[Any, Any] = {}
    since = []
    wide = []
    bars: dict[Any, Any] = {}
    for row in rows:
        key = (row["contract_id"], *([row["tick_type"]] if with_types else []))
        before = last.get(key)
        since.append(None if before is None else row["ns"] - before)
        if before is not None and row["ns"] - before > 10_000_000_000:
            wide.append((*key, before, row["ns"], row["ns"] - before))
        last[key] = row["ns"]
        bar = (row["ns"] // MINUTE * MINUTE, *key)
        bars[bar] = bars.get(bar, 0) + 1
    assert ns(both(analysis.interarrival, frame)["interarrival"]) == since

    actual = both(lambda f: analysis.gaps(f, "10s"), frame)
    times = pl.col("start", "end", "duration").cast(pl.Int64)
    assert actual.with_columns(times).rows() == sorted(wide)

    busy = both(analysis.intensity, frame).with_columns(pl.col("timestamp").cast(pl.Int64))
    same(busy, [(*bar, bars[bar], bars[bar] / 60) for bar in sorted(bars)])

    covered = both(analysis.coverage, frame)
    expected = []
    for key in sorted(last):
        filled = sorted(at for at, *k in bars if tuple(k) == key)
        span = (filled[-1] - filled[0]) // MINUTE + 1
        expected.append((*key, span, len(filled), len(filled) / span))
    same(covered.drop("first", "last", "ticks"), expected)
    assert covered["ticks"].sum() == len(rows)


@settings(max_examples=40, deadline=None)
@given(ticks())
def test_staleness(frame: pl.DataFrame) -> None:
    names = ("price", "bid_price", "ask_price", "mid_price")
    standing: dict[Any, Any] = {}
    since = {}
    expected = []
    for row in rows_of(frame):
        contract = row["contract_id"]
        prices = [row[n] if is_number(row[n]) or row[n] is None else "nan" for n in names]
        if standing.get(contract) != prices:
            standing[contract], since[contract] = prices, row["ns"]
        expected.append(row["ns"] - since[contract])
    assert ns(both(analysis.staleness, frame)["staleness"]) == expected


def test_latency_is_between_two_bounds() -> None:
    frame = made([{"ns": 400_000_000}, {"ns": 3_000_000_000}, {"ns": 9}])
    whole = pl.col("timestamp").dt.truncate("1s").cast(pl.Datetime("ns", "UTC"))
    frame = frame.with_columns(exchange_time=pl.when(pl.int_range(pl.len()) < 2).then(whole))
    actual = both(analysis.latency, frame)
    assert ns(actual["latency_at_most"]) == [400_000_000, 0, None]
    assert ns(actual["latency_more_than"]) == [-600_000_000, -1_000_000_000, None]


def test_a_real_day() -> None:
    quotes = real("ibm_quotes")
    assert (
        analysis.gaps(quotes, "10m")["duration"].min()
        > pl.Series([600_000_000_000]).cast(pl.Duration("ns"))[0]
    )
    assert analysis.intensity(quotes, "1h")["ticks"].sum() == quotes.height
    assert 0.5 < analysis.coverage(quotes)["coverage"].item() < 1
    for measure in (analysis.gaps, analysis.coverage, analysis.interarrival):
        both(measure, quotes.drop("contract_id"))
        assert both(measure, quotes.clear()).height == 0


def test_invalid_arguments_are_refused() -> None:
    quotes = real("ibm_quotes")[:5]
    with pytest.raises(UnknownColumnError, match="exchange_time"):
        analysis.latency(quotes)
    with pytest.raises(UnknownColumnError, match="price"):
        analysis.staleness(quotes.select("timestamp"))
    with pytest.raises(InputError):
        analysis.coverage(quotes, "0s")
