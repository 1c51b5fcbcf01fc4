"""The documented facts of the sample, recomputed from the files in plain Python."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ibticks.errors import InputError
from ibticks.sample import SAMPLES, Sample, sample

DATA = Path(__file__).parent.parent / "data"
FACTS = json.loads((DATA / "sample_facts.json").read_text())
SECOND = 10**9
OPEN = int(datetime(2013, 10, 8, 13, 30, tzinfo=UTC).timestamp()) * SECOND
CLOSE = OPEN + int(6.5 * 3600) * SECOND

each_sample = pytest.mark.parametrize("item", SAMPLES, ids=lambda item: item.name)
quotes = pytest.mark.parametrize("name", ["ibm_quotes", "btcusdt_quotes"])
trades = pytest.mark.parametrize("name", ["ibm_trades", "btcusdt_trades"])


@cache
def columns(name: str) -> dict[str, list[Any]]:
    table = pq.read_table(sample(name).path)
    return {
        field.name: (
            table[field.name].cast(pa.int64())
            if pa.types.is_timestamp(field.type)
            else table[field.name]
        ).to_pylist()
        for field in table.schema
    }


def facts(name: str) -> dict[Any, Any]:
    return FACTS[sample(name).path.stem]


def exact(value: float) -> Decimal:
    return Decimal(repr(value))


def utc(nanoseconds: int) -> str:
    whole = datetime(1970, 1, 1) + timedelta(seconds=nanoseconds // SECOND)
    return f"{whole.isoformat()}.{nanoseconds % SECOND:09d}Z"


def quote_facts(bids: list[float], asks: list[float]) -> dict[Any, Any]:
    pairs = list(zip(bids, asks, strict=True))
    return {
        "min_bid": min(bids),
        "max_bid": max(bids),
        "min_ask": min(asks),
        "max_ask": max(asks),
        "crossed": sum(bid > ask for bid, ask in pairs),
        "locked": sum(bid == ask for bid, ask in pairs),
        "sum_mid": float(sum((exact(bid) + exact(ask)) / 2 for bid, ask in pairs)),
    }


def trade_facts(prices: list[float], sizes: list[float]) -> dict[Any, Any]:
    volume: Any = sum(map(exact, sizes))
    notional = sum(exact(price) * exact(size) for price, size in zip(prices, sizes, strict=True))
    return {
        "min_price": min(prices),
        "max_price": max(prices),
        "first_price": prices[0],
        "last_price": prices[-1],
        "volume": float(volume),
        "notional": float(notional),
        "vwap": float(round(notional / volume, 8)),
    }


@each_sample
def test_rows_and_times(item: Sample) -> None:
    table, known = columns(item.name), facts(item.name)
    times = table["timestamp"]
    rows = list(zip(*table.values(), strict=True))
    assert len(rows) == known["rows"]
    assert f"{len(rows):,}" in item.description
    assert times == sorted(times)
    assert (times[0], times[-1]) == (known["first_ns"], known["last_ns"])
    assert (utc(times[0]), utc(times[-1])) == (known["first"], known["last"])
    assert len(set(times)) == known["distinct_timestamps"]
    assert len(rows) - len(set(rows)) == known["duplicate_rows"]
    assert len({time // (60 * SECOND) for time in times}) == known["minutes_with_ticks"]
    hours = Counter(utc(time // (3600 * SECOND) * 3600 * SECOND)[:13] for time in times)
    assert hours == known["rows_per_utc_hour"]


@quotes
def test_quotes(name: str) -> None:
    table, known = columns(name), facts(name)
    actual = quote_facts(table["bid_price"], table["ask_price"])
    assert actual == {key: known[key] for key in actual}
    for side in ("bid", "ask"):
        assert float(sum(map(exact, table[f"{side}_size"]))) == known[f"sum_{side}_size"]


@trades
def test_trades(name: str) -> None:
    table, known = columns(name), facts(name)
    actual = trade_facts(table["price"], table["size"])
    assert actual == {key: known[key] for key in actual}
    assert float(sum(map(exact, table["price"]))) == known["sum_price"]


def test_the_regular_session_of_ibm() -> None:
    for name, inside in (("ibm_quotes", quote_facts), ("ibm_trades", trade_facts)):
        table = columns(name)
        rows = [row for row, time in enumerate(table["timestamp"]) if OPEN <= time < CLOSE]
        known = facts(name)["regular_session"]
        assert len(rows) == known["rows"]
        pair = ("bid_price", "ask_price") if name == "ibm_quotes" else ("price", "size")
        actual = inside(*([table[column][row] for row in rows] for column in pair))
        assert actual == {key: known[key] for key in actual}


def test_the_rest_of_the_facts() -> None:
    known = facts("ibm_trades")
    table = columns("ibm_trades")
    assert len(set(table["exchange"])) == known["distinct_exchanges"]
    assert len(set(table["conditions"])) == known["distinct_conditions"]
    assert sum(table["suspicious"]) == known["suspicious"]
    assert sum(columns("ibm_quotes")["suspicious"]) == facts("ibm_quotes")["suspicious"]
    known = facts("btcusdt_trades")
    table = columns("btcusdt_trades")
    first, last = known["first_trade_id"], known["last_trade_id"]
    assert table["trade_id"] == list(range(first, last + 1))
    assert Counter(table["aggressor"]) == {"sell": known["sells"], "buy": known["buys"]}
    ahead = [
        exchange - receive
        for exchange, receive in zip(table["exchange_timestamp"], table["timestamp"], strict=True)
    ]
    assert [min(ahead), max(ahead)] == known["exchange_minus_receive_ns"]


def test_ibm_prices_are_the_nearest_doubles_of_ten_thousandths() -> None:
    prices = {*columns("ibm_trades")["price"]}
    prices |= {*columns("ibm_quotes")["bid_price"], *columns("ibm_quotes")["ask_price"]}
    assert all(price == round(price * 10_000) / 10_000 for price in prices)


def test_the_minute_bars_agree_with_the_trades() -> None:
    table = columns("ibm_trades")
    minutes: dict[str, list[tuple[float, int]]] = {}
    for time, price, size in zip(table["timestamp"], table["price"], table["size"], strict=True):
        minutes.setdefault(utc(time)[:16] + ":00Z", []).append((price, size))
    with (DATA / "ibm_20131008.bars_1m.csv").open(newline="") as file:
        bars = list(csv.DictReader(file))
    assert [bar["minute_utc"] for bar in bars] == list(minutes)
    for bar, ticks in zip(bars, minutes.values(), strict=True):
        prices, sizes = zip(*ticks, strict=True)
        assert float(bar["open"]) == prices[0]
        assert float(bar["high"]) == max(prices)
        assert float(bar["low"]) == min(prices)
        assert float(bar["close"]) == prices[-1]
        assert int(bar["volume"]) == sum(sizes)
        assert int(bar["trades"]) == len(ticks)
        vwap = sum(exact(price) * size for price, size in ticks) / sum(sizes)
        assert abs(vwap - Decimal(bar["vwap"])) < Decimal("1e-8")


@each_sample
def test_any_library_reads_the_files(item: Sample) -> None:
    table = pq.read_table(item.path)
    assert table.schema.field("timestamp").type == pa.timestamp("ns", "UTC")
    assert all(column.null_count == 0 for column in table.columns)
    assert pl.read_parquet(item.path).equals(pl.DataFrame(table))


def test_the_sample_is_small_and_keeps_its_provenance_beside_it() -> None:
    folder = SAMPLES[0].path.parent
    assert sum(item.path.stat().st_size for item in SAMPLES) < 2_000_000
    readme = (folder / "README.md").read_text()
    assert all(item.path.name in readme for item in SAMPLES)
    assert "Apache-2.0" in readme
    assert "MIT" in readme
    assert {path.name for path in folder.glob("*.parquet")} == {i.path.name for i in SAMPLES}


def test_an_unknown_sample_is_refused_by_naming_the_others() -> None:
    with pytest.raises(InputError, match="ibm_quotes, ibm_trades, btcusdt_quotes"):
        sample("aapl_quotes")


def test_listing_the_samples_loads_no_library() -> None:
    heavy = "pandas polars pyarrow numpy hypothesis"
    code = (
        "import sys, ibticks.sample; ibticks.sample.sample('ibm_trades'); "
        f"print([name for name in {heavy.split()} if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
