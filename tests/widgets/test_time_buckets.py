"""Time buckets of a chart, against a reduction tick by tick."""

from __future__ import annotations

import itertools
import math
from typing import Any

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


def frame(ticks: list[Any]) -> pl.DataFrame:
    """Ticks at times that mostly increase: a step of 40 goes back."""
    time, times = 1_000_000, []
    for step, *_ in ticks:
        time += -200 if step == 40 else step
        times.append(time)
    columns: list[Any] = list(zip(*ticks, strict=True))[1:] if ticks else [[]] * 5
    names = ("bid_price", "ask_price", "mid_price", "price", "size")
    return pl.DataFrame(
        {"timestamp": times, **dict(zip(names, columns, strict=True))},
        schema={"timestamp": pl.Int64} | dict.fromkeys(names, pl.Float64),
    ).with_columns(pl.col("timestamp").cast(pl.Datetime("ns", "UTC")))


def reduce_plainly(ticks: pl.DataFrame) -> list[dict[str, float]]:
    """Reduce ticks to buckets one by one."""
    rows: list[dict[str, float]] = []
    bucket = -1
    carried = dict.fromkeys(("bid", "ask", "mid"), math.nan)
    for tick in ticks.with_columns(pl.col("timestamp").to_physical()).iter_rows(named=True):
        if tick["timestamp"] // WIDTH > bucket:
            bucket = tick["timestamp"] // WIDTH
            rows.append(dict.fromkeys(COLUMNS, math.nan) | {"time": 0.0, "volume": 0.0})
        row = rows[-1]
        row["time"] = max(row["time"], tick["timestamp"] / 1e9)
        for name in carried:
            if tick[f"{name}_price"] is not None:
                carried[name] = tick[f"{name}_price"]
        row |= carried
        if tick["price"] is not None:
            row["last"] = tick["price"]
            row["low"] = min(tick["price"], row["low"] if row["low"] == row["low"] else math.inf)
            row["high"] = max(tick["price"], row["high"] if row["high"] == row["high"] else 0.0)
            row["volume"] += tick["size"]
    return rows


@given(TICKS, st.lists(st.integers(0, 60), max_size=4))
def test_buckets_equal_a_plain_reduction(ticks: list[tuple[Any, ...]], cuts: list[Any]) -> None:
    whole = frame(ticks)
    buckets = TimeBuckets(WIDTH, 1000)
    sent: dict[int, list[float]] = {}
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    for start, end in itertools.pairwise(edges):
        changed = buckets.add(whole[start:end])
        columns = buckets.since(changed)
        for place, row in enumerate(zip(*columns.values(), strict=True)):
            sent[changed + place] = list(row)
    expected = [list(row.values()) for row in reduce_plainly(whole)]
    assert buckets.end == len(expected)
    # The rows of a page that gets every change.
    assert np.array_equal(
        np.array([sent[number] for number in sorted(sent)]).reshape(-1, len(COLUMNS)),
        np.array(expected).reshape(-1, len(COLUMNS)),
        equal_nan=True,
    )


def test_old_buckets_are_dropped() -> None:
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


def test_buckets_of_a_real_day_equal_bars() -> None:
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
