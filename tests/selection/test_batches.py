"""Selections as streams of batches: the rows of the table, in the memory of some hours."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from ibticks.errors import CorruptDataWarning, CorruptFileError, InputError
from ibticks.frames import metadata_of
from ibticks.schema import StringColumn, TickColumns, Values
from ibticks.selection import _batches as batches
from ibticks.selection import _selection as selections

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks import Selection, Store

HOUR = 3_600 * 10**9
START = 1_736_517_600 * 10**9  # 2025-01-10 14:00 UTC
HOURS, TICKS = 12, 40


def decoded(table: pa.Table) -> pa.Table:
    """The table with plain strings: each batch has the categories of its rows."""
    fields = [
        pa.field(value.name, pa.string()) if pa.types.is_dictionary(value.type) else value
        for value in table.schema
    ]
    return table.cast(pa.schema(fields)).replace_schema_metadata(None)


@pytest.fixture
def trades(store: Store) -> Selection:
    """Trades of two contracts over twelve hours, each hour on another exchange."""
    hour = np.repeat(np.arange(HOURS), TICKS)
    times = START + hour * HOUR + np.tile(np.arange(TICKS), HOURS) * 10**9
    for contract in (1, 2):
        columns: dict[str, Any] = {
            "timestamp": Values(times),
            "price": Values(times / 1e9),
            "size": Values(np.ones(len(times))),
            "exchange": StringColumn(
                hour.astype(np.int32), tuple(f"{contract}E{number}" for number in range(HOURS))
            ),
        }
        with store.writer(contract, "last") as writer:
            writer.write(TickColumns(len(times), columns))
    return store.select([1, 2], "last")


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of a few hours."""
    for module in (batches, selections):
        monkeypatch.setattr(module, "WINDOW_TICKS", 3 * 2 * TICKS)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("rows", [None, 1, 7, 2 * TICKS, 100_000])
def test_batches_are_the_table(trades: Selection, rows: int | None) -> None:
    parts = list(trades.iter_batches(rows))
    expected = trades.to_arrow()
    assert decoded(pa.Table.from_batches(parts)).equals(decoded(expected))
    assert all(part.schema.equals(expected.schema) for part in parts)
    if rows is not None:
        sizes = [part.num_rows for part in parts]
        assert set(sizes[:-1]) <= {rows}
        assert 0 < sizes[-1] <= rows


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("tick_types", ["all_last", "bid_ask", ["all_last", "bid_ask"]])
def test_batches_of_samples(sample_store: Store, tick_types: Any) -> None:
    selection = sample_store.select("ibm", tick_types)
    expected = selection.to_arrow()
    assert expected.num_rows > 10_000
    parts = list(selection.iter_batches(1000))
    assert decoded(pa.Table.from_batches(parts)).equals(decoded(expected))


def test_nothing_has_no_batch_and_a_schema(sample_store: Store) -> None:
    nothing = sample_store.select("ibm", start="2001-01-01T00:00Z", end="2001-01-02T00:00Z")
    assert list(nothing.iter_batches()) == list(nothing.iter_batches(5)) == []
    assert pa.table(nothing).schema.equals(nothing.to_arrow().schema)


@pytest.mark.parametrize("rows", [0, -1])
def test_a_batch_without_rows_is_refused(trades: Selection, rows: int) -> None:
    with pytest.raises(InputError, match=f"rows={rows}: give the number of rows of a batch"):
        trades.iter_batches(rows)


@pytest.mark.usefixtures("small_windows")
def test_a_large_selection_is_streamed(trades: Selection) -> None:
    read: list[str] = []
    inner = type(trades).read_files

    def read_files(self: Selection, records: Any, *args: Any) -> list[TickColumns]:
        read.extend(record.path for record in records)
        return inner(self, records, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(trades), "read_files", read_files)
        reader = pa.RecordBatchReader.from_stream(trades)
        assert read == []
        first = reader.read_next_batch()
        # One hour of each contract, and no more than is asked for.
        assert (first.num_rows, len(read)) == (2 * TICKS, 2)
        rest = reader.read_all()
    assert len(read) == len(set(read)) == 2 * HOURS
    whole = pa.concat_tables([pa.Table.from_batches([first]), rest])
    assert decoded(whole).equals(decoded(trades.to_arrow()))
    assert metadata_of(reader.schema) == metadata_of(trades.to_arrow())


@pytest.mark.usefixtures("small_windows")
def test_libraries_take_a_stream(trades: Selection) -> None:
    frame = trades.to_polars()
    strings = pl.col(pl.Categorical).cast(pl.String)
    for taken in (pl.DataFrame(trades), trades.lazy().collect(), pl.from_arrow(pa.table(trades))):
        assert isinstance(taken, pl.DataFrame)
        assert taken.with_columns(strings).equals(frame.with_columns(strings))


@pytest.mark.usefixtures("small_windows")
def test_no_more_than_two_windows_are_in_memory(
    trades: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Any]] = []
    inner = type(trades).read_files

    def read_files(self: Selection, *args: Any) -> list[TickColumns]:
        gc.collect()
        # Those of the window before, and of this one.
        assert sum(value() is not None for value in alive) <= 3
        chunks = inner(self, *args)
        alive.extend(weakref.ref(chunk.timestamp) for chunk in chunks)
        return chunks

    monkeypatch.setattr(type(trades), "read_files", read_files)
    rows = sum(batch.num_rows for batch in trades.iter_batches())
    assert rows == 2 * HOURS * TICKS
    assert len(alive) > 6


@pytest.mark.usefixtures("small_windows")
def test_damage_is_reported_when_it_is_met(
    trades: Selection, store: Store, damage: Callable[..., None]
) -> None:
    damaged = trades.files()[3].path
    damage(store.root / damaged)
    parts = trades.iter_batches()
    next(parts)
    with pytest.warns(CorruptDataWarning):
        left = sum(part.num_rows for part in parts)
    assert 2 * TICKS * (HOURS - 1) - TICKS <= left < 2 * TICKS * (HOURS - 1)
    strict = store.select([1, 2], "last", strict=True)
    with pytest.raises(CorruptFileError, match=damaged):
        list(strict.iter_batches())
    # The interface of Arrow carries the message alone.
    with pytest.raises((OSError, pa.ArrowException), match=damaged):
        pa.table(strict)


def test_progress_of_a_stream(
    trades: Selection, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    list(trades.iter_batches(progress=False))
    assert capsys.readouterr().err == ""
    list(trades.iter_batches(progress=True))
    assert "reading 1, 2 last" in capsys.readouterr().err
