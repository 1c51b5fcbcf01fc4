from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ibticks.errors import (
    InputError,
    NaiveDatetimeError,
    UnknownColumnError,
    UnknownTickTypeError,
)
from ibticks.frames import from_arrow

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2025, 1, 10, 14, 30, tzinfo=UTC)
WHO: dict[str, Any] = {"contract_id": 8314, "tick_type": "last"}


def test_any_numbers_that_fit(rows: Callable[..., list[dict[Any, Any]]]) -> None:
    frame = pl.DataFrame(
        {
            "size": pl.Series([100, None], dtype=pl.Int16),
            "timestamp": pl.Series([NOW, NOW]).dt.cast_time_unit("ms"),
            "price": pl.Series(["187.5", None]),
            "sequence": pl.Series([5.0, None]),
            "past_limit": pl.Series([1, 0], dtype=pl.Int8),
            "exchange": pl.Series(["P", None], dtype=pl.Enum(["Q", "P"])),
            "exchange_time": pl.Series([NOW, None]).dt.offset_by("900ms"),
        }
    )
    first, second = rows(from_arrow(frame, **WHO))
    assert list(first.items()) == [
        ("timestamp", 1_736_519_400_000_000_000),
        ("contract_id", 8314),
        ("tick_type", "last"),
        ("price", 187.5),
        ("size", 100.0),
        ("exchange", "P"),
        ("sequence", 5),
        ("past_limit", True),
        ("exchange_time", 1_736_519_400),
    ]
    assert [name for name, value in second.items() if value is None] == [
        *("price", "size", "exchange", "sequence", "exchange_time")
    ]


def test_conditions_and_metadata_of_other_arrow_types(
    rows: Callable[..., list[dict[Any, Any]]],
) -> None:
    frame = pa.table(
        {
            "timestamp": [NOW] * 4,
            "conditions": ["2000", "", None, "2000"],
            "metadata": [{"source": "a", "x": None}, {"source": None, "x": "1"}, None, {}],
        }
    )
    read_rows = rows(from_arrow(frame, **WHO))
    assert [row["conditions"] for row in read_rows] == [["2000"], [], [], ["2000"]]
    assert [row["metadata"] for row in read_rows] == [{"source": "a"}, {"x": "1"}, {}, {}]
    lists = pa.array([["a", None, "b"], None, [], ["b"]], pa.list_(pa.dictionary(pa.int8(), "str")))
    pairs = pa.array([[("k", "v")], None, [], []], pa.list_(pa.struct({"a": "str", "b": "str"})))
    again = frame.set_column(1, "conditions", lists).set_column(2, "metadata", pairs)
    read_rows = rows(from_arrow(again[:2], **WHO)) + rows(from_arrow(again[2:], **WHO))
    assert [row["conditions"] for row in read_rows] == [["a", "b"], [], [], ["b"]]
    assert [row["metadata"] for row in read_rows] == [{"k": "v"}, {}, {}, {}]
    nothing = pa.table({"timestamp": [NOW], "conditions": [None], "metadata": [None]})
    assert rows(from_arrow(nothing, **WHO))[0]["metadata"] == {}


def test_invalid_values_are_refused() -> None:
    for name, value, quoted in (
        ("price", "12,5", "12,5"),
        ("sequence", -1, "-1"),
        ("sequence", 1.5, "1.5"),
        ("contract_id", 2**40, "1099511627776"),
        ("past_limit", "maybe", "maybe"),
        ("exchange", {"a": 1}, "struct"),
        ("metadata", 5, "int64"),
        ("metadata", ["a"], "list"),
    ):
        frame = pa.table({"timestamp": [NOW], name: [value]})
        arguments = {"tick_type": "last"} if name == "contract_id" else WHO
        with pytest.raises(InputError, match=rf"'{name}'.*{quoted}") as caught:
            from_arrow(frame, **arguments)
        assert caught.value.context["column"] == name


def test_required_columns() -> None:
    frame = pl.DataFrame({"timestamp": [NOW, None], "price": [1.0, 2.0]})
    with pytest.raises(InputError, match="1 rows have no timestamp, the first is row 1"):
        from_arrow(frame, **WHO)
    with pytest.raises(InputError, match="no column timestamp: there are price"):
        from_arrow(frame.select("price"), **WHO)
    whole = frame.head(1)
    with pytest.raises(InputError, match="contract_id="):
        from_arrow(whole, tick_type="last")
    with pytest.raises(InputError, match="tick_type="):
        from_arrow(whole, contract_id=1)
    with pytest.raises(InputError, match="0 is not within"):
        from_arrow(whole, contract_id=0, tick_type="last")
    with pytest.raises(UnknownTickTypeError, match="'trades'"):
        from_arrow(whole, contract_id=1, tick_type="trades")
    with pytest.raises(UnknownTickTypeError, match="'quote'"):
        from_arrow(whole.with_columns(tick_type=pl.lit("quote")), contract_id=1)
    with pytest.raises(InputError, match="no tick_type"):
        from_arrow(whole.with_columns(tick_type=pl.lit(None, pl.String)), contract_id=1)
    with pytest.raises(UnknownColumnError, match="'vwap': drop or rename it"):
        from_arrow(whole.with_columns(vwap=1), **WHO)
    with pytest.raises(NaiveDatetimeError):
        from_arrow(whole.with_columns(pl.col("timestamp").dt.replace_time_zone(None)), **WHO)


def test_a_frame_that_contradicts_the_arguments_is_refused(
    rows: Callable[..., list[dict[Any, Any]]],
) -> None:
    frame = pl.DataFrame({"timestamp": [NOW], "contract_id": [5], "tick_type": ["last"]})
    assert rows(from_arrow(frame))[0]["contract_id"] == 5
    assert rows(from_arrow(frame, contract_id=5, tick_type="last"))[0]["contract_id"] == 5
    with pytest.raises(InputError, match=r"contract_id=6 was given, .* has 5"):
        from_arrow(frame, contract_id=6)
    with pytest.raises(InputError, match=r"'bid_ask' was given, .* has 'last'"):
        from_arrow(frame, tick_type="bid_ask")


def test_other_objects_are_refused() -> None:
    lazy = pl.LazyFrame({"timestamp": [NOW]})
    for data in ([1, 2], "ticks.parquet", np.zeros(3), lazy):
        with pytest.raises(InputError, match="cannot read ticks from a"):
            from_arrow(data, **WHO)


def test_numbers_for_times_and_zones_for_naive_ones() -> None:
    frame = pd.DataFrame({"timestamp": [1_736_519_400_123], "price": [1.0]})
    assert from_arrow(frame, **WHO).timestamp[0] == 1_736_519_400_123_000_000
    frame = pd.DataFrame({"timestamp": [54_000_000]})
    assert from_arrow(frame, **WHO, timestamp_unit="ms").timestamp[0] == 54_000 * 10**9
    frame = pd.DataFrame({"timestamp": pd.to_datetime(["2025-01-10 09:30"])})
    assert from_arrow(frame, **WHO, tz="America/New_York").timestamp[0] == 1_736_519_400 * 10**9


def test_unused_categories_are_ignored() -> None:
    everywhere = pl.Series(["A", "B", "C", "D"], dtype=pl.Categorical)
    frame = pl.DataFrame({"timestamp": [NOW] * 4, "exchange": everywhere})[[3, 1, 3]]
    column = from_arrow(frame, **WHO).columns["exchange"]
    assert column.values == ("D", "B")
    assert column.codes.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "kind", [pa.decimal128(18, 4), pa.decimal256(50, 9), pa.decimal128(38, 18)]
)
def test_decimals_are_the_nearest_floats(kind: Any) -> None:
    texts: list[Any] = [
        *(f"{n}.{n % 10}7" for n in range(100, 1100)),
        "-37.63",
        "0.0001",
        "100.10",
        None,
    ]
    exact = [None if one is None else Decimal(one) for one in texts]
    table = pa.table({"timestamp": [NOW] * len(texts), "price": pa.array(exact, kind)})
    ticks = from_arrow(table, **WHO)
    assert ticks.numbers("price")[:-1].tolist() == [float(one) for one in texts[:-1]]
    assert ticks.columns["price"].valid.tolist() == [True] * (len(texts) - 1) + [False]
