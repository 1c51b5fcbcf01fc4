"""Measures of lazy frames of a store: partial reads and bounded memory."""

from __future__ import annotations

import weakref
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from ibticks.analysis import (
    imbalance_bars,
    mid,
    quotes_at,
    session,
    spread,
    time_bars,
    volume_bars,
    vwap,
)
from ibticks.frames import scan
from ibticks.storage import FileReader

from .frames import real

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from ibticks import Store

BARS = {
    "by the clock": partial(time_bars, every="1m"),
    "by sessions": partial(time_bars, every="5m", anchor="session", market="US"),
    "with empty ones": partial(time_bars, every="1s", empty=True),
    "of quotes": partial(time_bars, every="1m", of="quotes"),
    "of volume": partial(volume_bars, volume=10_000),
    "of imbalances": partial(imbalance_bars, expected_ticks=100),
    "whole": vwap,
}


@pytest.mark.parametrize("name", BARS)
def test_measures_of_a_store_equal_those_in_memory(sample_store: Store, name: str) -> None:
    selection = sample_store.select([8314, 990101], ["all_last", "bid_ask"])
    lazy = BARS[name](selection.lazy())
    assert isinstance(lazy, pl.LazyFrame)
    assert_frame_equal(lazy.collect(engine="streaming"), BARS[name](selection.to_polars()))


def test_the_quote_in_force_from_a_store(sample_store: Store) -> None:
    trades, quotes = (sample_store.select("IBM", kind) for kind in ("all_last", "bid_ask"))
    combined = quotes_at(trades.lazy(), quotes.lazy()).collect(engine="streaming")
    assert_frame_equal(combined, quotes_at(trades.to_polars(), quotes.to_polars()))


def test_an_hour_of_bars_reads_an_hour(
    sample_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    plain = FileReader.read

    def counted(source: Any, *arguments: Any) -> NDArray[Any]:
        data = plain(source, *arguments)
        read.append(len(data))
        return data

    monkeypatch.setattr(FileReader, "read", counted)
    lazy = sample_store.select("IBM", "all_last").lazy()
    time_bars(lazy, "1m").collect(engine="streaming")
    day, read[:] = sum(read), []
    start, end = (datetime(2013, 10, 8, hour, tzinfo=UTC) for hour in (15, 16))
    hour = lazy.filter(pl.col("timestamp") >= start, pl.col("timestamp") < end)
    bars = time_bars(hour, "1m").collect(engine="streaming")
    assert len(bars) == 60
    assert 0 < sum(read) < day / 5


class Days:
    """Days of real trades, one after the other; it knows how many are still in memory."""

    def __init__(self, days: int) -> None:
        self.days = days
        self.most = 0
        self.columns: set[Any] = set()
        self.day = real("ibm_trades")[:5_000]

    def batches(self, columns: Any, **bounds: Any) -> Iterator[Any]:
        self.columns.update(columns)
        alive = []
        for day in range(self.days):
            # Arrow and polars hold on to this very array, for as long as they need the numbers.
            prices = self.day["price"].to_numpy().copy()
            alive.append(weakref.ref(prices))
            frame = self.day.with_columns(pl.col("timestamp").dt.offset_by(f"{day}d"))
            table = frame.drop("price").to_arrow().append_column("price", pa.array(prices))
            del prices
            yield table.select(columns)
            del table
            self.most = max(self.most, sum(value() is not None for value in alive))


@pytest.mark.parametrize(
    "measure",
    [
        partial(time_bars, every="1h"),
        partial(time_bars, every="1d", anchor="session", market="US"),
        partial(session, market="US"),
        vwap,
    ],
    ids=["clock", "session", "window", "whole"],
)
def test_a_range_longer_than_memory(
    measure: partial[Any] | Callable[..., Any], tmp_path: Path
) -> None:
    """Batches are released during the query."""
    source = Days(60)
    lazy = measure(scan(["timestamp", "contract_id", "price", "size"], source))
    lazy.sink_parquet(tmp_path / "result.parquet")
    assert 0 < source.most < 20
    once = measure(scan(["timestamp", "contract_id", "price", "size"], Days(60)).collect())
    assert_frame_equal(pl.read_parquet(tmp_path / "result.parquet").select(once.columns), once)


def test_only_the_columns_of_a_measure_are_read() -> None:
    source = Days(2)
    columns = ["timestamp", "contract_id", "price", "size", "bid_price", "sequence"]
    time_bars(scan(columns, source), "1h").collect(engine="streaming")
    assert source.columns == {"timestamp", "contract_id", "price", "size"}


def test_row_by_row_measures_stream() -> None:
    quotes = real("ibm_quotes")
    lazy = spread(mid(quotes.lazy()), tick_size=0.01)
    assert_frame_equal(lazy.collect(engine="streaming"), spread(mid(quotes), tick_size=0.01))
