from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ibticks.frames import to_polars, to_table
from ibticks.frames._to_polars import polars_schema
from ibticks.schema import COLUMNS, StringColumn, TickColumns, Values

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = list(COLUMNS)
TIME = pl.Datetime("ns", "UTC")


def test_the_schema_of_polars_does_not_depend_on_the_data(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    schema = polars_schema(ALL)
    metadata = schema.pop("metadata")
    assert list(schema.items()) == [
        ("timestamp", TIME),
        ("contract_id", pl.UInt32),
        ("tick_type", pl.Categorical),
        *[(name, pl.Float64) for name in ALL[3:10]],
        ("exchange", pl.Categorical),
        ("conditions", pl.List(pl.String)),
        ("sequence", pl.UInt64),
        *[(name, pl.Boolean) for name in ALL[13:17]],
        ("exchange_time", TIME),
        ("stream_id", pl.Categorical),
    ]
    full = ticks(quotes_and_trades)
    for parts in ([], [full], [full.take(slice(0, 1))], [full.take(slice(3, 4))]):
        assert to_polars(to_table(parts, ALL)).schema == schema | {"metadata": metadata}


def test_null_is_null_and_nan_is_nan(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    frame = to_polars(to_table([ticks(quotes_and_trades)], ALL))
    assert frame["price"].null_count() == 2
    assert frame["price"].is_nan().sum() == 1
    assert frame["exchange"].to_list() == [None, None, "P", "Q"]
    assert frame["conditions"].to_list() == [[], [], ["2000", "20"], ["40"]]


def test_numbers_are_not_copied() -> None:
    prices = np.random.default_rng(1).random(1000)
    part = TickColumns(1000, {"timestamp": Values(np.arange(1000)), "price": Values(prices)})
    frame = to_polars(to_table([part], ["timestamp", "price"]))
    for name, array in (("price", prices), ("timestamp", part.timestamp)):
        there = frame[name].to_physical().to_numpy(allow_copy=False)
        assert there.ctypes.data == array.ctypes.data


def test_sorted_times_are_flagged_as_sorted(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    part = ticks(quotes_and_trades)
    frame = to_polars(to_table([part, part], ["timestamp"]))
    assert frame["timestamp"].flags["SORTED_ASC"]
    # A table that is not from to_table may be in any order.
    backwards = to_polars(to_table([part], ["timestamp"])[::-1])
    assert not backwards["timestamp"].flags["SORTED_ASC"]


def test_categories_of_different_frames_are_comparable() -> None:
    def frame(*values: str) -> pl.DataFrame:
        codes = np.arange(len(values), dtype=np.int32)
        columns: dict[str, Any] = {"exchange": StringColumn(codes, values)}
        return to_polars(to_table([TickColumns(len(values), columns)], ["exchange"]))

    both = pl.concat([frame("P", "Q"), frame("Q", "Z")])
    assert both.filter(pl.col("exchange") == "Q").height == 2
    assert frame("P", "Q").join(frame("Q", "Z"), on="exchange").height == 1
