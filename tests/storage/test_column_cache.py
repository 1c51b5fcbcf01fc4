"""Cached columns equal the columns that a load would decode, after any change of the files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.config import HOUR_NS
from ibticks.errors import CorruptDataWarning, CorruptFileError
from ibticks.frames import to_table
from ibticks.index import FileRecord, MemoryIndex
from ibticks.schema import StringColumn, TickColumns, Values
from ibticks.storage import (
    ColumnCache,
    FileKey,
    FileReader,
    StreamWriter,
    compress_file,
    read_cached_ticks,
    read_ticks,
)
from ibticks.storage._column_cache import Rows, join_rows

from .samples import (
    COLUMNS,
    CONTRACT,
    H13,
    KEY,
    MINUTE,
    every,
    hour_of_quotes,
    message,
    new_root,
    quote_message,
    quotes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRADE = ("timestamp", "tick_type", "price", "size", "exchange", "conditions", "past_limit")
PLENTY = 1 << 30


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The byte ranges that are read of files, without their headers."""
    done: list[int] = []
    read = FileReader.read

    def counting(source: Any, offset: Any, size: Any) -> NDArray[Any]:
        data = read(source, offset, size)
        done.append(len(data))
        return data

    monkeypatch.setattr(FileReader, "read", counting)
    return done


@pytest.fixture
def three_hours(root: Path, index: MemoryIndex) -> list[FileRecord]:
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        for place in range(3):
            writer.write(hour_of_quotes(20_000, place * 20_000, H13 + place * HOUR_NS))
    return index.files()


def same(
    root: Path, records: list[FileRecord], columns: tuple[str, ...], cache: ColumnCache, **how: Any
) -> list[TickColumns]:
    """Load with and without the cache, compare all details, and return the columns."""
    again = read_cached_ticks(root, records, columns, cache, **how)
    plain = read_ticks(root, records, columns, **how)
    tables = [to_table(parts, columns) for parts in (again, plain)]
    assert tables[0].equals(tables[1], check_metadata=True)
    for name in tables[0].column_names:  # the strings of a category, too, and their order
        if hasattr(tables[0][name].type, "value_type") and tables[0].num_rows:
            first, second = (t[name].unify_dictionaries().chunk(0) for t in tables)
            if hasattr(first, "dictionary"):
                assert first.dictionary.equals(second.dictionary)
    return again


# --- the same ticks -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_loads_in_any_order_between_any_changes(data: st.DataObject) -> None:
    choose = random.Random(data.draw(st.integers(0, 10**6)))
    cache = ColumnCache(data.draw(st.sampled_from([PLENTY, 300_000, 1000])))
    with new_root() as folder:
        root, index, number = folder / "ticks", MemoryIndex(), 0
        for _ in range(data.draw(st.integers(2, 9))):
            what = data.draw(st.sampled_from(["write", "late", "compress", "load", "load", "load"]))
            if what in ("write", "late"):
                hour = H13 + choose.randrange(3) * HOUR_NS
                count = choose.choice([1, 700, 3000])
                times = sorted(hour + choose.randrange(HOUR_NS) for _ in range(count))
                if what == "late":
                    choose.shuffle(times)
                with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
                    writer.write(quotes(times, number))
                number += count
            elif what == "compress" and index.files():
                key: Any = FileKey.parse(choose.choice(index.files()).path)
                index.put_files([compress_file(root, key, choose.choice(["zstd", "none"]))])
            start = H13 + choose.choice([-HOUR_NS, 0, 17 * MINUTE, HOUR_NS, 80 * MINUTE])
            end = start + choose.choice([MINUTE, HOUR_NS, 2 * HOUR_NS, 9 * HOUR_NS])
            columns = choose.choice([COLUMNS, COLUMNS[:3], ("timestamp", "tick_type")])
            same(root, index.files(), columns, cache, start_ns=start, end_ns=end)
            assert cache.bytes <= cache.max_bytes


def test_trades_with_every_kind_of_column(root: Path, index: MemoryIndex) -> None:
    cache = ColumnCache(PLENTY)
    with StreamWriter(root, CONTRACT, "last", index, fsync=None) as writer:
        for number, time_ns in enumerate(every(MINUTE, 170)):
            data = {
                "contract_id": CONTRACT,
                "tick_type": "last",
                "price": 100 + number / 4,
                "size": 1.0 + number,
                "exchange": "ABCDEFG"[number // 30],
                "conditions": ["T", "I"][: number % 3],
                **({"past_limit": True} if number % 5 == 0 else {}),
            }
            writer.append(message("tick", time_ns, data))
    for start in (0, 31 * MINUTE, HOUR_NS, 100 * MINUTE):
        span = {"start_ns": H13 + start, "end_ns": H13 + start + 45 * MINUTE}
        same(root, index.files(), TRADE, cache, **span)
        same(root, index.files(), TRADE, cache)
        same(root, index.files(), TRADE, cache, **span)
    assert cache.bytes > 0


# --- decoded once ---------------------------------------------------------------------------------


def test_cached_columns_are_not_read_again(
    root: Path, three_hours: list[FileRecord], reads: list[int]
) -> None:
    cache = ColumnCache(PLENTY)
    read_cached_ticks(root, three_hours, COLUMNS, cache)
    assert sum(reads) > 4_000_000
    reads.clear()
    five: dict[str, Any] = {
        "start_ns": H13 + HOUR_NS + 5 * MINUTE,
        "end_ns": H13 + HOUR_NS + 10 * MINUTE,
    }
    (part,) = read_cached_ticks(root, three_hours, COLUMNS, cache)
    assert (part.rows, reads) == (60_000, [])
    (part,) = read_cached_ticks(root, three_hours, COLUMNS[:2], cache, **five)
    assert part.numbers("sequence").tolist() == list(range(21_667, 23_334))
    assert reads == []


def test_only_the_growing_hour_is_read(root: Path, index: MemoryIndex, reads: list[int]) -> None:
    cache = ColumnCache(PLENTY)
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        writer.write(hour_of_quotes(20_000))
        writer.seal()
        for number in range(3):
            writer.append(quote_message(H13 + HOUR_NS + number, 20_000 + number))
            reads.clear()
            parts = read_cached_ticks(root, index.files(), COLUMNS, cache)
            assert sum(part.rows for part in parts) == 20_001 + number
            if number:
                assert sum(reads) < 1_000_000


def test_an_additional_column_is_decoded(
    root: Path, three_hours: list[FileRecord], reads: list[int]
) -> None:
    cache = ColumnCache(PLENTY)
    read_cached_ticks(root, three_hours, COLUMNS[:2], cache)
    same(root, three_hours, COLUMNS, cache)
    reads.clear()
    read_cached_ticks(root, three_hours, COLUMNS, cache)
    assert reads == []


# --- bounds ---------------------------------------------------------------------------------------


def test_the_least_recently_used_entry_is_evicted(
    root: Path, three_hours: list[FileRecord], reads: list[int]
) -> None:
    one_hour = ColumnCache(PLENTY)
    read_cached_ticks(root, three_hours[:1], COLUMNS, one_hour)
    cache = ColumnCache(int(one_hour.bytes * 2.5))
    for record in three_hours[:2]:
        read_cached_ticks(root, [record], COLUMNS, cache)
    read_cached_ticks(root, three_hours[:1], COLUMNS, cache)  # used again: the second goes first
    read_cached_ticks(root, three_hours[2:], COLUMNS, cache)
    assert [record.path in cache for record in three_hours] == [True, False, True]
    before = cache.bytes
    assert 0 < before <= cache.max_bytes
    read_cached_ticks(root, three_hours, COLUMNS, ColumnCache(one_hour.bytes))
    same(root, three_hours, COLUMNS, cache)
    cache.clear()
    reads.clear()
    assert cache.bytes == 0
    read_cached_ticks(root, three_hours, COLUMNS, cache)
    assert sum(reads) > 4_000_000


def test_a_load_larger_than_the_cache_is_not_cached(
    root: Path, three_hours: list[FileRecord]
) -> None:
    cache = ColumnCache(100_000)
    read_cached_ticks(root, three_hours, COLUMNS, cache)
    assert cache.bytes == 0
    none = ColumnCache(0)
    same(root, three_hours, COLUMNS, none)
    assert none.bytes == 0


def test_cached_arrays_are_read_only(root: Path, three_hours: list[FileRecord]) -> None:
    cache = ColumnCache(PLENTY)
    for _ in range(2):
        (part, *_) = read_cached_ticks(root, three_hours, COLUMNS, cache)
        with pytest.raises(ValueError, match="read-only"):
            part.numbers("bid_price")[0] = 0


# --- damage ---------------------------------------------------------------------------------------


def test_damage_is_reported_by_every_load(root: Path, three_hours: list[FileRecord]) -> None:
    path = root / three_hours[1].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    cache = ColumnCache(PLENTY)
    for _ in range(2):
        with pytest.warns(CorruptDataWarning, match="left out"):
            parts = read_cached_ticks(root, three_hours, COLUMNS, cache)
        assert sum(len(part.missing) for part in parts) == 1
        with pytest.raises(CorruptFileError):
            read_cached_ticks(root, three_hours, COLUMNS, cache, strict=True)
    assert three_hours[1].path not in cache


def test_damage_after_a_load_is_reported(root: Path, three_hours: list[FileRecord]) -> None:
    cache = ColumnCache(PLENTY)
    read_cached_ticks(root, three_hours, COLUMNS, cache)
    path = root / three_hours[0].path
    data = bytearray(path.read_bytes())
    data[-10] ^= 0xFF
    path.write_bytes(data)
    with pytest.warns(CorruptDataWarning):
        read_cached_ticks(root, three_hours, COLUMNS, cache)


def test_a_deleted_file(root: Path, three_hours: list[FileRecord]) -> None:
    cache = ColumnCache(PLENTY)
    read_cached_ticks(root, three_hours, COLUMNS, cache)
    (root / KEY.path).unlink()
    with pytest.warns(CorruptDataWarning):
        parts = read_cached_ticks(root, three_hours, COLUMNS, cache)
    assert sum(part.rows for part in parts) == 40_000


# --- strings --------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([-1, 0, 1, 2, 3]), max_size=30), st.data())
def test_categories_are_those_of_the_rows(codes: list[Any], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(codes)))
    stop = data.draw(st.integers(start, len(codes)))
    column = StringColumn(np.array(codes, dtype=np.int32), ("a", "b", "c", "d"))
    times = Values(np.arange(len(codes)))
    part = TickColumns(len(codes), {"timestamp": times, "exchange": column})
    actual = join_rows([Rows(part, start, stop)], ["exchange"])
    words = [None if code < 0 else "abcd"[code] for code in codes[start:stop]]
    if not words:
        assert actual == []
        return
    taken = actual[0].columns["exchange"]
    assert [None if c < 0 else taken.values[c] for c in taken.codes.tolist()] == words
    if (start, stop) != (0, len(codes)):
        assert taken.values == tuple(dict.fromkeys(word for word in words if word is not None))
