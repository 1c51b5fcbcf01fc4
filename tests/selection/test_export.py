"""Selections into files: the same rows, types and metadata, an hour at a time, in place at once."""

from __future__ import annotations

import gc
import io
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ibticks.errors import CorruptDataWarning, CorruptFileError, StorageError
from ibticks.frames import _export as export
from ibticks.frames import metadata_of, to_table
from ibticks.schema import StringColumn, TickColumns, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Selection, Store

HOUR = 3_600 * 10**9
START = 1_736_517_600 * 10**9  # 2025-01-10 14:00 UTC
READERS = {
    "parquet": pq.read_table,
    "ipc": lambda path: pa.ipc.open_file(path).read_all(),
}


def decoded(table: pa.Table) -> pa.Table:
    """The table with plain strings: the order of a dictionary is no part of the ticks."""
    fields = [
        pa.field(value.name, pa.string()) if pa.types.is_dictionary(value.type) else value
        for value in table.schema
    ]
    return table.cast(pa.schema(fields))


def stream(hours: int, rows: int, exchange: str) -> TickColumns:
    """A number of trades an hour, each hour on another exchange."""
    hour = np.repeat(np.arange(hours), rows)
    times = START + hour * HOUR + np.tile(np.arange(rows), hours) * 10**9
    names = tuple(f"{exchange}{number}" for number in range(hours))
    return TickColumns(
        len(times),
        {
            "timestamp": Values(times),
            "price": Values(times / 1e9),
            "size": Values(np.ones(len(times))),
            "exchange": StringColumn(hour.astype(np.int32), names),
        },
    )


@pytest.fixture
def trades(store: Store) -> Selection:
    for contract, exchange in ((1, "A"), (2, "B")):
        with store.writer(contract, "last") as writer:
            writer.write(stream(5, 40, exchange))
    return store.select([1, 2], "last")


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("group_rows", [1, 100, 1 << 19])
def test_a_file_has_the_table(
    kind: str, group_rows: int, trades: Selection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_GROUP_ROWS", group_rows)
    path = tmp_path / "export"
    assert getattr(trades, f"write_{kind}")(path) == 400
    table = READERS[kind](path)
    assert table.schema.equals(trades.to_arrow().schema)
    assert decoded(table).equals(decoded(trades.to_arrow()))
    assert metadata_of(table) == metadata_of(trades.to_arrow())
    assert pl.read_ipc(path).height == 400 if kind == "ipc" else True
    assert [
        value.name for value in tmp_path.iterdir() if value.name.endswith(("export", ".new"))
    ] == ["export"]


@pytest.mark.parametrize("kind", [*READERS, "csv"])
@pytest.mark.parametrize("what", ["samples", "one column", "nothing"])
def test_any_selection(kind: str, what: str, sample_store: Store, tmp_path: Path) -> None:
    selection = {
        "samples": lambda: sample_store.select(
            ["ibm", "btcusdt"], start="2013-10-08T13:30Z", end="2013-10-08T13:32Z"
        ),
        "one column": lambda: sample_store.select("ibm", "bid_ask").with_columns("bid_price"),
        "nothing": lambda: sample_store.select(
            "ibm", start="2001-01-01T00:00Z", end="2001-01-02T00:00Z"
        ),
    }[what]()
    table = selection.to_arrow()
    path = tmp_path / "export"
    assert getattr(selection, f"write_{kind}")(path) == table.num_rows
    if kind == "csv":
        csv = pl.read_csv(path, infer_schema=False)
        assert (csv.columns, csv.height) == (table.column_names, table.num_rows)
        if "conditions" in csv.columns:
            combined = pl.from_arrow(table)["conditions"].list.join(";")
            assert csv["conditions"].fill_null("").to_list() == combined.to_list()
    else:
        assert decoded(READERS[kind](path)).equals(decoded(table))


@pytest.mark.parametrize("kind", [*READERS, "csv"])
def test_no_more_than_a_group_is_in_memory(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_GROUP_ROWS", 40)
    alive: list[weakref.ref[Any]] = []

    def tables() -> Iterator[Any]:
        for hour in range(8):
            gc.collect()
            assert sum(value() is not None for value in alive) <= 1
            table = to_table([stream(1, 40, f"E{hour}")], ["timestamp", "price", "exchange"])
            alive.append(weakref.ref(table))
            yield table

    rows = export.write_tables(tables(), ["timestamp", "price", "exchange"], io.BytesIO(), kind)
    assert (rows, len(alive)) == (320, 8)


@pytest.mark.parametrize("kind", [*READERS, "csv"])
def test_an_export_that_fails_leaves_the_file_before(
    kind: str, trades: Selection, store: Store, tmp_path: Path, damage: Callable[..., None]
) -> None:
    path = tmp_path / "export"
    path.write_text("before")
    damage(store.root / trades.files()[3].path)
    strict = store.select([1, 2], "last", strict=True)
    with pytest.raises(CorruptFileError):
        getattr(strict, f"write_{kind}")(path)
    assert path.read_text() == "before"
    assert [value.name for value in tmp_path.iterdir() if ".new" in value.name] == []


@pytest.mark.parametrize("kind", READERS)
def test_metadata_of_a_file_lists_missing_ranges(
    kind: str, trades: Selection, store: Store, tmp_path: Path, damage: Callable[..., None]
) -> None:
    damage(store.root / trades.files()[3].path)
    path = tmp_path / "export"
    with pytest.warns(CorruptDataWarning):
        rows = getattr(trades, f"write_{kind}")(path)
    with pytest.warns(CorruptDataWarning):
        table = trades.to_arrow()
    assert rows == table.num_rows < 400
    assert metadata_of(READERS[kind](path)) == metadata_of(table)
    assert metadata_of(table)["missing"]


@pytest.mark.parametrize("kind", [*READERS, "csv"])
def test_a_folder_that_does_not_exist_is_named(
    kind: str, trades: Selection, tmp_path: Path
) -> None:
    path = tmp_path / "none" / "export"
    with pytest.raises(
        StorageError, match=r"No such file or directory while writing .*none/export"
    ):
        getattr(trades, f"write_{kind}")(path)
