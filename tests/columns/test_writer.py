"""A companion has the rows of a load, or is not written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from ibticks.columns import CompanionKey, _writer, write_companion
from ibticks.columns._reader import is_unchanged, read_companion_record
from ibticks.config import HOUR_NS
from ibticks.errors import CorruptFileError, StorageError
from ibticks.frames import to_polars, to_table
from ibticks.schema import COLUMNS, TickColumns, Values, check_columns
from ibticks.storage import FileKey, StreamWriter, compress_file, read_ticks

from .conftest import CONTRACT, DAY, trades

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ibticks.index import FileRecord, MemoryIndex

KEY = CompanionKey(CONTRACT, "last", DAY)


def frames(root: Path, records: list[FileRecord], columns: list[str]) -> pl.DataFrame:
    """Return the ticks of hour files."""
    names = check_columns(columns)
    return to_polars(to_table(read_ticks(root, records, names), names))


def test_a_companion_has_the_rows_of_a_load(
    root: Path, index: MemoryIndex, write: Callable[..., None]
) -> None:
    write(trades(13, 700), trades(14, 5), trades(16, 300))
    companion = write_companion(root, KEY, index.files())
    assert companion is not None
    assert (companion.rows, len(companion.hours)) == (1005, 3)
    stored = pl.read_parquet(root / companion.path)
    assert_frame_equal(stored, frames(root, index.files(), stored.columns))
    assert {"stream_id", "metadata", "conditions", "contract_id"} <= {*stored.columns}


def test_the_record_is_that_of_the_file(
    root: Path, index: MemoryIndex, write: Callable[..., None]
) -> None:
    write(trades(13, 50))
    companion = write_companion(root, KEY, index.files())
    assert companion is not None
    assert read_companion_record(root, KEY) == companion
    (hour,), (file,) = companion.hours, index.files()
    assert (hour.path, hour.size, hour.crc32c, hour.rows) == (file.path, file.size, file.crc32c, 50)


def test_other_tools_read_which_hours_it_has(
    root: Path, index: MemoryIndex, write: Callable[..., None]
) -> None:
    write(trades(13, 50))
    write_companion(root, KEY, index.files())
    footer = pq.read_metadata(root / KEY.path)
    about = json.loads(footer.metadata[b"ibticks.companion"])
    assert (about["version"], about["contract_id"], about["tick_type"]) == (1, CONTRACT, "last")
    assert about["hours"][0][0] == index.files()[0].path
    assert footer.row_group(0).sorting_columns[0].column_index == 0
    times = footer.row_group(0).column(0).statistics
    assert times.min.value == DAY + 13 * HOUR_NS


def test_row_groups_follow_each_other(
    root: Path, index: MemoryIndex, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _writer.GROUP_ROWS == 262_144
    monkeypatch.setattr(_writer, "GROUP_ROWS", 64)
    write(trades(13, 100), trades(14, 100), trades(15, 1))
    write_companion(root, KEY, index.files())
    footer = pq.read_metadata(root / KEY.path)
    assert [footer.row_group(n).num_rows for n in range(footer.num_row_groups)] == [64, 64, 64, 9]
    stored = pl.read_parquet(root / KEY.path)
    assert_frame_equal(stored, frames(root, index.files(), stored.columns))


def test_late_ticks_are_in_order_of_time(
    root: Path, index: MemoryIndex, write: Callable[..., None]
) -> None:
    write(trades(13, 100, first=100), trades(13, 10))
    write_companion(root, KEY, index.files())
    stored = pl.read_parquet(root / KEY.path)
    assert stored["timestamp"].is_sorted()
    assert stored["sequence"][:10].to_list() == list(range(10))


def test_both_halves_of_an_hour_are_read(root: Path, index: MemoryIndex) -> None:
    ticks, half = trades(13, 20), HOUR_NS // 2
    later = TickColumns(20, {**ticks.columns, "timestamp": Values(ticks.timestamp + half)})
    with StreamWriter(root, CONTRACT, "last", index, fsync=None, split_bytes=1) as writer:
        for chunk in (ticks, later):
            writer.write(chunk)
    companion = write_companion(root, KEY, index.files())
    assert companion is not None
    assert [hour.rows for hour in companion.hours] == [20, 20]
    stored = pl.read_parquet(root / KEY.path)
    assert_frame_equal(stored, frames(root, index.files(), stored.columns))


def test_compressed_hours_are_read(
    root: Path, index: MemoryIndex, write: Callable[..., None]
) -> None:
    write(trades(13, 100))
    key = FileKey.parse(index.files()[0].path)
    assert key is not None
    plain = frames(root, index.files(), [*COLUMNS])
    index.put_files([compress_file(root, key, "zstd")])
    write_companion(root, KEY, index.files())
    stored = pl.read_parquet(root / KEY.path)
    assert_frame_equal(stored, plain.select(stored.columns))


def test_open_hours_are_left_out(
    root: Path, index: MemoryIndex, write: Callable[..., None]
) -> None:
    write(trades(13, 10), trades(14, 10))
    first, second = index.files()
    companion = write_companion(root, KEY, [first, replace(second, sealed=False, crc32c=None)])
    assert companion is not None
    assert [hour.path for hour in companion.hours] == [first.path]


def test_damaged_hours_are_left_out(
    root: Path,
    index: MemoryIndex,
    write: Callable[..., None],
    damage: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(trades(13, 10), trades(14, 10))
    first, second = index.files()
    damage(root / first.path, 0.9)
    companion = write_companion(root, KEY, [first, second])
    assert companion is not None
    assert [hour.rows for hour in companion.hours] == [None, 10]
    assert "has no ticks of an hour" in caplog.text


def test_hours_that_changed_since_are_left_out(
    root: Path, index: MemoryIndex, write: Callable[..., None]
) -> None:
    write(trades(13, 10))
    before = index.files()
    write(trades(13, 1, first=5))
    assert write_companion(root, KEY, before) is None
    assert not (root / KEY.path).exists()


def test_missing_hours_are_left_out(
    root: Path, index: MemoryIndex, write: Callable[..., None]
) -> None:
    write(trades(13, 10), trades(14, 10))
    (root / index.files()[0].path).unlink()
    companion = write_companion(root, KEY, index.files())
    assert companion is not None
    assert [hour.rows for hour in companion.hours] == [None, 10]


def test_columns_of_another_tick_type_are_stored(
    root: Path, index: MemoryIndex, write: Callable[..., None]
) -> None:
    ticks = trades(13, 10)
    bids = Values(np.ones(10), np.arange(10) > 3)
    write(TickColumns(10, {**ticks.columns, "bid_price": bids}), trades(14, 3))
    companion = write_companion(root, KEY, index.files())
    assert companion is not None
    assert companion.rows == 13
    stored = pl.read_parquet(root / KEY.path)
    assert stored["bid_price"].null_count() == 4 + 3
    assert_frame_equal(stored, frames(root, index.files(), stored.columns))


def test_hours_with_more_columns_than_the_first_are_left_out(
    root: Path, index: MemoryIndex, write: Callable[..., None]
) -> None:
    ticks = trades(14, 10)
    write(trades(13, 3), TickColumns(10, {**ticks.columns, "bid_price": Values(np.ones(10))}))
    companion = write_companion(root, KEY, index.files())
    assert companion is not None
    assert companion.rows == 3


def test_a_failed_write_leaves_the_earlier_companion(
    root: Path,
    index: MemoryIndex,
    write: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(trades(13, 10))
    companion = write_companion(root, KEY, index.files())
    assert companion is not None
    write(trades(14, 10))

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_writer, "file_checksum", fail)
    with pytest.raises(StorageError, match="no space left"):
        write_companion(root, KEY, index.files())
    assert is_unchanged(root, companion)
    assert [path.name for path in (root / KEY.path).parent.iterdir()] == ["08.parquet"]


# -- files on disk ---------------------------------------------------------------------------------


@pytest.fixture
def companion(root: Path, index: MemoryIndex, write: Callable[..., None]) -> Path:
    write(trades(13, 200))
    assert write_companion(root, KEY, index.files()) is not None
    return root / KEY.path


def test_a_changed_companion_is_noticed(companion: Path, root: Path) -> None:
    record = read_companion_record(root, KEY)
    data = bytearray(companion.read_bytes())
    for place in (10, len(data) // 2, len(data) - 10):
        changed = data.copy()
        changed[place] ^= 1
        companion.write_bytes(changed)
        assert not is_unchanged(root, record)
    companion.write_bytes(data[:-1])
    assert not is_unchanged(root, record)
    companion.unlink()
    assert not is_unchanged(root, record)


def test_a_copy_of_a_companion_counts(companion: Path, root: Path) -> None:
    record = read_companion_record(root, KEY)
    data = companion.read_bytes()
    companion.unlink()
    companion.write_bytes(data)
    assert is_unchanged(root, replace(record, inode=0))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 5000])
def test_other_files_are_no_companions(companion: Path, root: Path, content: bytes) -> None:
    companion.write_bytes(content)
    with pytest.raises(CorruptFileError, match="ibticks columns build"):
        read_companion_record(root, KEY)


def test_a_companion_in_another_place_is_none(companion: Path, root: Path) -> None:
    other = CompanionKey(CONTRACT, "all_last", DAY)
    (root / other.path).parent.mkdir(parents=True)
    companion.rename(root / other.path)
    with pytest.raises(CorruptFileError, match="no columnar companion of its place"):
        read_companion_record(root, other)
    with pytest.raises(StorageError):
        read_companion_record(root, KEY)
