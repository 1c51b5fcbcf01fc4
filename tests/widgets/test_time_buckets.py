"""Ticks condensed for a chart, against the plain words of what a moment is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.sample import sample
from ibticks.widgets._chart_state import COLUMNS, TimeBuckets

WIDTH = 100
PRICES = st.sampled_from([None, 1.0, 2.0, 2.5, 7.0])
TICKS = st.lists(
    st.tuples(st.integers(0, 40), PRICES, PRICES, PRICES, PRICES, st.integers(0, 3)), max_size=60
)


def frame(ticks) -> pl.DataFrame:
    """Ticks at times that mostly grow: a step of 40 goes back."""
    time, times = 1_000_000, []
    for step, *_ in ticks:
        time += -200 if step == 40 else step
        times.append(time)
    columns = list(zip(*ticks, strict=True))[1:] if ticks else [[]] * 5
    names = ("bid_price", "ask_price", "mid_price", "price", "size")
    return pl.DataFrame(
        {"timestamp": times, **dict(zip(names, columns, strict=True))},
        schema={"timestamp": pl.Int64} | dict.fromkeys(names, pl.Float64),
    ).with_columns(pl.col("timestamp").cast(pl.Datetime("ns", "UTC")))


def plain(ticks: pl.DataFrame) -> list[dict[str, float]]:
    """The same, tick by tick."""
    rows: list[dict[str, float]] = []
    mark = -1
    lasting = dict.fromkeys(("bid", "ask", "mid"), math.nan)
    for tick in ticks.with_columns(pl.col("timestamp").to_physical()).iter_rows(named=True):
        if tick["timestamp"] // WIDTH > mark:
            mark = tick["timestamp"] // WIDTH
            rows.append(dict.fromkeys(COLUMNS, math.nan) | {"time": 0.0, "volume": 0.0})
        row = rows[-1]
        row["time"] = max(row["time"], tick["timestamp"] / 1e9)
        for name in lasting:
            if tick[f"{name}_price"] is not None:
                lasting[name] = tick[f"{name}_price"]
        row |= lasting
        if tick["price"] is not None:
            row["last"] = tick["price"]
            row["low"] = min(tick["price"], row["low"] if row["low"] == row["low"] else math.inf)
            row["high"] = max(tick["price"], row["high"] if row["high"] == row["high"] else 0.0)
            row["volume"] += tick["size"]
    return rows


@given(TICKS, st.lists(st.integers(0, 60), max_size=4))
def test_each_moment_is_what_happened_in_it(ticks, cuts):
    whole = frame(ticks)
    buckets = TimeBuckets(WIDTH, 1000)
    told: dict[int, list[float]] = {}
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    for start, end in itertools.pairwise(edges):
        changed = buckets.add(whole[start:end])
        columns = buckets.since(changed)
        for place, row in enumerate(zip(*columns.values(), strict=True)):
            told[changed + place] = list(row)
    expected = [list(row.values()) for row in plain(whole)]
    assert buckets.end == len(expected)
    # What a page has that was told the changes, each time.
    assert np.array_equal(
        np.array([told[number] for number in sorted(told)]).reshape(-1, len(COLUMNS)),
        np.array(expected).reshape(-1, len(COLUMNS)),
        equal_nan=True,
    )


def test_old_buckets_are_forgotten():
    buckets = TimeBuckets(1, 10)
    for number in range(0, 100, 5):
        buckets.add(
            frame([(1, None, None, None, float(number), 1)] * 5).with_columns(
                pl.Series("timestamp", range(number, number + 5)).cast(pl.Datetime("ns", "UTC"))
            )
        )
        assert buckets.end - buckets.first <= 20
        assert buckets.since(0)["time"][-1] == pytest.approx((number + 4) / 1e9)
    assert buckets.end == 100
    assert len(buckets.since(buckets.end - 3)["time"]) == 3


def test_a_real_day():
    ticks = pl.read_parquet(sample("ibm_trades").path)
    buckets = TimeBuckets(60_000_000_000, 2000)
    for start in range(0, len(ticks), 777):
        buckets.add(ticks[start : start + 777])
    columns = buckets.since(0)
    bars = (
        ticks.group_by_dynamic("timestamp", every="1m")
        .agg(
            last=pl.last("price"), low=pl.min("price"), high=pl.max("price"), volume=pl.sum("size")
        )
        .cast({"last": float, "low": float, "high": float, "volume": float})
    )
    assert len(bars) == buckets.end
    for name in ("last", "low", "high", "volume"):
        assert columns[name].tolist() == bars[name].to_list()
