"""Ticks to a frame and back: all values that the frame's library can represent are equal."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks._types import Interval
from ibticks.frames import from_arrow, to_pandas, to_polars, to_table, to_xarray
from ibticks.frames._to_xarray import from_xarray
from ibticks.schema import COLUMNS, TickColumns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALL = list(COLUMNS)
FLOATS = ("price", "size", "bid_price", "bid_size", "ask_price", "ask_size", "mid_price")


class OnlyStream:
    """Nothing but the Arrow PyCapsule interface."""

    def __init__(self, data: pl.DataFrame) -> None:
        self._data = data

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._data.__arrow_c_stream__(requested_schema)


WAYS = {
    "arrow": lambda table: table,
    "arrow stream": OnlyStream,
    "batches": lambda table: pa.RecordBatchReader.from_batches(table.schema, table.to_batches(3)),
    "polars": to_polars,
    "polars stream": lambda table: OnlyStream(to_polars(table)),
    "polars by value": lambda table: to_polars(table).with_columns(pl.col("exchange").cast(str)),
    "sliced": lambda table: pa.concat_tables([table, table])[table.num_rows :],
    "pandas": to_pandas,
    "xarray": to_xarray,
    "xarray table": lambda table: from_xarray(to_xarray(table)),
}


def plain(rows: list[Any], way: str) -> Iterator[dict[Any, Any]]:
    """Expected rows after a round trip; NaN as text, since it does not equal itself."""
    numpy_like = way.startswith(("pandas", "xarray"))
    for row in rows:
        values = dict(row)
        for name in FLOATS:
            if values[name] is not None and np.isnan(values[name]):
                values[name] = None if numpy_like else "nan"
        if way.startswith("xarray"):
            values["sequence"] = values["sequence"] or None
            values["exchange"] = values["exchange"] or None
            values["stream_id"] = values["stream_id"] or None
            values["conditions"] = ";".join(values["conditions"])
        yield values


@pytest.mark.parametrize("way", WAYS)
def test_a_frame_has_the_values_of_the_ticks(
    way: str,
    ticks: Callable[..., TickColumns],
    rows: Callable[..., list[dict[Any, Any]]],
    any_rows: st.SearchStrategy[list[Any]],
) -> None:
    @settings(max_examples=40, deadline=None)
    @given(any_rows)
    def check(given_rows: Any) -> None:
        ordered = sorted(given_rows, key=lambda row: row["timestamp"])
        table = to_table([ticks(given_rows)] if given_rows else [], ALL)
        back = from_arrow(WAYS[way](table))
        assert list(back.columns) == ALL
        assert list(plain(rows(back), way)) == list(plain(ordered, way))

    check()


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 4), max_size=3))
def test_results_do_not_depend_on_chunks(
    ticks: Callable[..., TickColumns],
    rows: Callable[..., list[dict[Any, Any]]],
    quotes_and_trades: list[Any],
    cuts: list[Any],
) -> None:
    whole = ticks(quotes_and_trades)
    edges = [0, *sorted(cuts), 4]
    parts = [whole.take(slice(a, b)) for a, b in itertools.pairwise(edges)]
    for way in ("arrow", "polars", "pandas", "xarray"):
        back = from_arrow(WAYS[way](to_table(parts, ALL)))
        assert list(plain(rows(back), way)) == list(plain(quotes_and_trades, way))


def test_back_in_the_format_of_the_decoder(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    made = ticks(quotes_and_trades)
    back = from_arrow(to_table([made], ALL))
    for name, column in made.columns.items():
        other = back.columns[name]
        assert type(other) is type(column)
        for slot in column.__slots__:
            ours, theirs = getattr(column, slot), getattr(other, slot)
            if isinstance(ours, np.ndarray):
                assert theirs.dtype == ours.dtype, (name, slot)
    # Numbers share the same memory.
    assert np.shares_memory(back.timestamp, made.timestamp)
    assert np.shares_memory(back.numbers("contract_id"), made.numbers("contract_id"))


def test_missing_ranges_survive_a_round_trip(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    made = ticks(quotes_and_trades)
    table = to_table([TickColumns(made.rows, made.columns, (Interval(5, 9),))], ALL)
    for way in ("arrow", "arrow stream", "pandas", "xarray", "xarray table"):
        assert from_arrow(WAYS[way](table)).missing == ((5, 9),)
