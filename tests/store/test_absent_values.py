"""IB's numbers for "none" in written and imported ticks, old files and statistics."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from ibticks.format._encode import encode
from ibticks.frames import from_arrow, to_pandas
from ibticks.importing import import_messages, import_table

if TYPE_CHECKING:
    from ibticks import Store

DOUBLE, DECIMAL = sys.float_info.max, float(2**127 - 1)
START = datetime(2025, 3, 3, 14, 30, tzinfo=UTC)
QUOTES = {
    "bid_price": [10.0, -1.0, 10.0, -1.25, 0.0],
    "bid_size": [5.0, 0.0, DECIMAL, 3.0, 0.0],
    "ask_price": [10.5, -1.0, 0.0, -1.0, 10.25],
    "ask_size": [5.0, 0.0, 0.0, 2.0, 2147483647.0],
}
STORED_QUOTES = {
    "bid_price": [10.0, None, 10.0, -1.25, None],
    "bid_size": [5.0, None, None, 3.0, None],
    "ask_price": [10.5, None, None, -1.0, 10.25],
    "ask_size": [5.0, None, None, 2.0, None],
}
TRADES = {"price": [10.0, 12.0, 0.0, DOUBLE, -37.5], "size": [100.0, DECIMAL, 0.0, 1.0, 50.0]}
STORED_TRADES = {"price": [10.0, 12.0, 0.0, None, -37.5], "size": [100.0, None, 0.0, 1.0, 50.0]}
KINDS = [("bid_ask", QUOTES, STORED_QUOTES), ("last", TRADES, STORED_TRADES)]


def frame(columns: dict[str, list[float]]) -> pl.DataFrame:
    rows = len(next(iter(columns.values())))
    times = [START + timedelta(seconds=second) for second in range(rows)]
    stamps = pl.Series("timestamp", times, pl.Datetime("ns", "UTC"))
    return pl.DataFrame([stamps, *(pl.Series(name, values) for name, values in columns.items())])


def loaded(store: Store, kind: str, columns: dict[str, list[float]]) -> dict[str, list[Any]]:
    return store.select(77, kind).to_polars().select(*columns).to_dict(as_series=False)


@pytest.mark.parametrize(("kind", "came", "stored"), KINDS, ids=["bid_ask", "last"])
def test_frames_are_written_with_absent_values(
    kind: str, came: dict[str, list[float]], stored: dict[str, list[float | None]], store: Store
) -> None:
    for tick_frame in (frame(came), frame(came).to_arrow(), to_pandas(frame(came).to_arrow())):
        with store.writer(77, kind) as writer:
            writer.write(from_arrow(tick_frame, contract_id=77, tick_type=kind))
    rows = {name: [value for value in values for _ in range(3)] for name, values in stored.items()}
    assert loaded(store, kind, came) == rows


@pytest.mark.parametrize(("kind", "came", "stored"), KINDS, ids=["bid_ask", "last"])
def test_files_are_imported_with_absent_values_and_once(
    kind: str,
    came: dict[str, list[float]],
    stored: dict[str, list[float | None]],
    store: Store,
    tmp_path: Path,
) -> None:
    csv, parquet, lines = (tmp_path / f"ticks.{end}" for end in ("csv", "parquet", "jsonl"))
    frame(came).write_csv(csv)
    frame(came).write_parquet(parquet)
    import_table(store, csv, contract_id=77, tick_type=kind)
    assert loaded(store, kind, came) == stored
    import_table(store, parquet, contract_id=77, tick_type=kind)
    assert loaded(store, kind, came) == stored
    messages = [
        {
            "type": "tick",
            "stream_id": "78",
            "timestamp": f"2025-03-03T14:30:0{second}.000000Z",
            "data": {"contract_id": 78, "tick_type": kind, **dict(zip(came, row, strict=True))},
        }
        for second, row in enumerate(zip(*came.values(), strict=True))
    ]
    lines.write_text("\n".join(map(json.dumps, messages)))
    import_messages(store, lines)
    ticks = store.select(78, kind).to_polars().select(*came)
    assert ticks.to_dict(as_series=False) == stored


@pytest.mark.parametrize("prices", [{"bid_price": [-1.0, 0.0], "ask_price": [-0.5, 0.25]}])
def test_prices_without_sizes_are_prices(prices: dict[str, list[float]], store: Store) -> None:
    store.write(frame(prices), contract_id=77, tick_type="bid_ask")
    assert loaded(store, "bid_ask", prices) == prices


@pytest.mark.parametrize("raw", [False, True], ids=["written today", "written before"])
@pytest.mark.parametrize(("kind", "came", "stored"), KINDS, ids=["bid_ask", "last"])
def test_daily_statistics_count_prices_and_sizes_alone(
    kind: str,
    came: dict[str, list[float]],
    stored: dict[str, list[float | None]],
    store: Store,
    raw: bool,
) -> None:
    columns = from_arrow(frame(came), contract_id=77, tick_type=kind)
    with store.writer(77, kind) as writer:
        if raw:
            writer.append_frames(encode(columns), int(columns.timestamp[0]))
        else:
            writer.write(columns)
    # What is stored stays, and is loaded, as it is.
    assert loaded(store, kind, came) == (came if raw else stored)
    names = ("min_price", "max_price", "avg_price", "total_volume", "vwap")
    (day,) = store.sql(f"SELECT {', '.join(names)} FROM daily_tick_stats").rows()
    if kind == "bid_ask":
        assert day == (-1.25, 10.5, (10.25 - 1.125) / 2, None, None)
    else:
        mean = (10.0 + 12.0 - 37.5) / 3
        assert day == (-37.5, 12.0, pytest.approx(mean), 150.0, (1000.0 - 37.5 * 50) / 150)
    assert [finding.problem for finding in store.verify(progress=False)] == [None]


@pytest.mark.parametrize(("kind", "came", "stored"), KINDS, ids=["bid_ask", "last"])
def test_files_imported_before_are_not_imported_twice(
    kind: str,
    came: dict[str, list[float]],
    stored: dict[str, list[float | None]],
    store: Store,
    tmp_path: Path,
) -> None:
    columns = from_arrow(frame(came), contract_id=77, tick_type=kind)
    with store.writer(77, kind) as writer:
        writer.append_frames(encode(columns), int(columns.timestamp[0]))
    frame(came).write_csv(tmp_path / "ticks.csv")
    result = import_table(store, tmp_path / "ticks.csv", contract_id=77, tick_type=kind)
    assert (result.added, result.known) == (0, columns.rows)
    assert loaded(store, kind, came) == came
