from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks._types import Interval
from ibticks.errors import InputError, UnknownColumnError
from ibticks.frames import from_arrow, metadata_of, to_table
from ibticks.frames._schema import arrow_schema
from ibticks.frames._to_arrow import group_by_time
from ibticks.schema import COLUMNS, StringColumn, TickColumns, Values

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ALL = list(COLUMNS)


def test_every_column_has_its_type() -> None:
    assert [str(field.type) for field in arrow_schema(ALL)] == [
        "timestamp[ns, tz=UTC]",
        "uint32",
        "dictionary<values=string, indices=int32, ordered=0>",
        *["double"] * 7,
        "dictionary<values=string, indices=int32, ordered=0>",
        "large_list<item: large_string>",
        "uint64",
        *["bool"] * 4,
        "timestamp[ns, tz=UTC]",
        "dictionary<values=string, indices=int32, ordered=0>",
        "map<string, string>",
    ]


def test_columns_come_in_their_order_and_once() -> None:
    table = to_table([], ["price", "timestamp", "price"])
    assert table.column_names == ["timestamp", "price"]
    with pytest.raises(UnknownColumnError, match="vwap"):
        to_table([], ["vwap"])


def test_the_schema_does_not_depend_on_the_data(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    quotes = [row for row in quotes_and_trades if row["tick_type"] == "bid_ask"]
    full, half = ticks(quotes_and_trades), ticks(quotes)
    bare = TickColumns(2, {n: half.columns[n] for n in ("timestamp", "contract_id", "tick_type")})
    for parts in ([], [full], [half], [bare], [bare, full], [TickColumns(0, {})]):
        table = to_table(parts, ALL)
        assert table.schema.equals(arrow_schema(ALL))
        table.validate(full=True)


def test_absent_values_are_null_and_nan_is_not(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    table = to_table([ticks(quotes_and_trades)], ALL)
    assert table["bid_price"].to_pylist() == [None, 180.01, None, None]
    assert table["price"].null_count == 2
    assert np.isnan(table["price"][3].as_py())
    assert table["conditions"].to_pylist() == [[], [], ["2000", "20"], ["40"]]
    assert table["metadata"].to_pylist()[3] == [("source", "backfill"), ("note", "")]
    assert table["past_limit"].to_pylist() == [None, None, True, True]
    assert table["sequence"].to_pylist() == [None, 2**63 + 1, None, 7]
    assert table["exchange_time"][2].value == 1_381_152_600 * 10**9


def test_numbers_are_not_copied() -> None:
    rows = 1000
    given_arrays: dict[str, NDArray[Any]] = {
        "timestamp": np.arange(rows, dtype=np.int64),
        "contract_id": np.full(rows, 5, dtype=np.uint32),
        "price": np.random.default_rng(1).random(rows),
        "sequence": np.arange(rows, dtype=np.uint64),
    }
    codes = np.zeros(rows, dtype=np.int32)
    columns: dict[str, Any] = {name: Values(array) for name, array in given_arrays.items()}
    part = TickColumns(rows, columns | {"tick_type": StringColumn(codes, ("last",))})
    table = to_table([part, TickColumns(0, {})], ["tick_type", *given_arrays])
    for name, array in given_arrays.items():
        assert table[name].chunk(0).buffers()[1].address == array.ctypes.data
    assert table["tick_type"].chunk(0).indices.buffers()[1].address == codes.ctypes.data


def test_following_hours_become_chunks_of_one_dictionary(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    hour = ticks(quotes_and_trades)
    names = ("Q", "X", "P")
    later = {
        **hour.columns,
        "timestamp": Values(hour.timestamp + 3_600_000_000_000),
        "exchange": StringColumn(np.array([1, -1, 2, 0], dtype=np.int32), names),
    }
    table = to_table([hour, TickColumns(4, later)], ["timestamp", "exchange"])
    assert table["exchange"].num_chunks == 2
    first, second = table["exchange"].chunks
    assert first.dictionary.equals(second.dictionary)
    assert table["exchange"].to_pylist() == [None, None, "P", "Q", "X", None, "P", "Q"]


def test_two_streams_of_an_hour_are_merged_and_the_next_hour_left_alone() -> None:
    def part(times: list[Any], price: int) -> TickColumns:
        return TickColumns(
            len(times),
            {
                "timestamp": Values(np.array(times, dtype=np.int64)),
                "price": Values(np.array([price + i for i in range(len(times))], dtype=float)),
            },
        )

    table = to_table([part([10, 20, 20], 0), part([100], 3), part([5, 20, 30], 10)], ["price"])
    assert table["price"].to_pylist() == [10, 0, 1, 2, 11, 12, 3]
    assert [len(chunk) for chunk in table["price"].chunks] == [6, 1]


def test_without_times_chunks_keep_their_order() -> None:
    parts = [TickColumns(1, {"price": Values(np.array([price]))}) for price in (3.0, 1.0)]
    assert to_table(parts, ["price"])["price"].to_pylist() == [3.0, 1.0]


@pytest.mark.parametrize("name", ["timestamp", "contract_id", "tick_type"])
def test_required_columns_must_be_present(name: str) -> None:
    part = TickColumns(1, {"price": Values(np.array([1.0]))})
    with pytest.raises(InputError, match=name):
        to_table([part], [name, "price"])


def test_a_second_beyond_nanoseconds_is_null() -> None:
    seconds = np.array([9_223_372_036, 9_223_372_037, -9_223_372_037, 0, 2**60])
    valid = np.array([True, True, True, True, False])
    part = TickColumns(5, {"exchange_time": Values(seconds, valid)})
    assert to_table([part], ["exchange_time"])["exchange_time"].cast(pa.int64()).to_pylist() == [
        9_223_372_036_000_000_000,
        None,
        None,
        0,
        None,
    ]


def test_metadata_lists_missing_ranges(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    hour = ticks(quotes_and_trades)
    damaged = TickColumns(hour.rows, hour.columns, (Interval(30, 40), Interval(10, 20)))
    metadata = {"selection": "IBM bid_ask", "missing": [["1970-01-01T00:00:00.000000040Z"] * 2]}
    table = to_table([damaged, TickColumns(0, {}, (Interval(20, 25),))], ALL, metadata=metadata)
    stamp = "1970-01-01T00:00:00.0000000{}Z".format
    assert metadata_of(table) == {
        "selection": "IBM bid_ask",
        "missing": [[stamp(10), stamp(25)], [stamp(30), stamp(40)]],
    }
    assert json.loads(table.schema.metadata[b"ibticks"]) == metadata_of(table.schema)
    assert from_arrow(table).missing == ((10, 25), (30, 40))
    assert metadata_of(to_table([], ALL)) == {"missing": []}
    assert metadata_of(pa.table({"a": [1]})) == {}
    with pytest.raises(InputError, match="no metadata"):
        metadata_of([1])


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=6), min_size=1, max_size=5))
def test_rows_are_sorted_by_time_and_stable_as_given(times: list[Any]) -> None:
    arrays = [np.array(part, dtype=np.int64) for part in times]
    arranged: list[Any] = []
    for run in group_by_time(arrays):
        there = [(t, p, i) for p in run.chunks for i, t in enumerate(times[p])]
        arranged += there if run.rows is None else [there[i] for i in run.rows]
    assert arranged == sorted((t, p, i) for p, part in enumerate(times) for i, t in enumerate(part))


def test_hours_in_order_are_not_rearranged() -> None:
    hours = [np.arange(start, start + 5) for start in range(0, 40, 10)]
    assert [run.rows for run in group_by_time(hours)] == [None] * 4
    touching = [np.array([1, 2]), np.array([2, 3])]
    assert all(run.rows is None for run in group_by_time(touching))
    assert list(itertools.chain(*(run.chunks for run in group_by_time(hours[::-1])))) == [
        3,
        2,
        1,
        0,
    ]
