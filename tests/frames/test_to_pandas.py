from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ibticks._types import Interval
from ibticks.errors import InputError
from ibticks.frames import from_arrow, metadata_of, to_pandas, to_table
from ibticks.frames._to_pandas import from_pandas
from ibticks.schema import COLUMNS, TickColumns

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

ALL = list(COLUMNS)
UTC = "datetime64[ns, UTC]"


def dtypes(frame: pd.DataFrame) -> tuple[dict[Hashable, str], dict[Hashable, str]]:
    dtype_names = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    categories = {
        name: str(frame[name].cat.categories.dtype)
        for name, dtype in dtype_names.items()
        if dtype == "category"
    }
    return dtype_names, categories


def test_the_dtypes_of_pandas_do_not_depend_on_the_data(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    text = str(pd.Index([], dtype="str").dtype)
    expected = (
        {"timestamp": UTC, "contract_id": "uint32", "tick_type": "category"}
        | dict.fromkeys(ALL[3:10], "float64")
        | {"exchange": "category", "conditions": "object", "sequence": "UInt64"}
        | dict.fromkeys(ALL[13:17], "boolean")
        | {"exchange_time": UTC, "stream_id": "category", "metadata": "object"},
        {"tick_type": text, "exchange": text, "stream_id": text},
    )
    full = ticks(quotes_and_trades)
    for parts in ([], [full], [full.take(slice(0, 1))], [full.take(slice(3, 4))]):
        frame = to_pandas(to_table(parts, ALL))
        assert dtypes(frame) == expected
        assert list(frame.columns) == ALL
        assert isinstance(frame.index, pd.RangeIndex)


def test_absent_values_in_pandas(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    frame = to_pandas(to_table([ticks(quotes_and_trades)], ALL))
    assert frame["price"].isna().tolist() == [True, True, False, True]
    assert frame["sequence"].tolist() == [pd.NA, 2**63 + 1, pd.NA, 7]
    assert frame["past_limit"].tolist() == [pd.NA, pd.NA, True, True]
    assert frame["exchange_time"].isna().tolist() == [True, True, False, True]
    assert frame["exchange_time"][2] == pd.Timestamp("2013-10-07 13:30", tz="UTC")
    assert frame["metadata"].tolist() == [{}, {}, {}, {"source": "backfill", "note": ""}]


def test_conditions_can_be_grouped_by_and_counted(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    frame = to_pandas(to_table([ticks(quotes_and_trades)], ALL))
    assert frame["conditions"].tolist() == [(), (), ("2000", "20"), ("40",)]
    assert frame.groupby("conditions")["size"].sum()[("2000", "20")] == 283
    assert frame["conditions"].map(lambda codes: "40" in codes).sum() == 1
    assert frame.explode("conditions")["conditions"].value_counts()["20"] == 1


def test_the_frame_is_writable(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    made = ticks([dict(row, price=1.0) for row in quotes_and_trades])
    frame: Any = to_pandas(to_table([made], ALL))
    frame.loc[0, "price"] = 5.0
    frame.loc[0, "timestamp"] = frame.loc[1, "timestamp"]
    frame.loc[0, "contract_id"] = 9
    frame.loc[0, "sequence"] = 3
    assert frame["price"].tolist() == [5, 1, 1, 1]
    assert made.numbers("price").tolist() == [1, 1, 1, 1]
    assert made.numbers("contract_id")[0] == 8314


def test_metadata_is_in_the_attributes(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]
) -> None:
    made = ticks(quotes_and_trades)
    damaged = TickColumns(made.rows, made.columns, (Interval(0, 10**9),))
    frame = to_pandas(to_table([damaged], ALL, metadata={"selection": "IBM"}))
    assert frame.attrs["ibticks"]["selection"] == "IBM"
    assert metadata_of(frame[frame["price"] > 0])["missing"] == [
        ["1970-01-01T00:00:00.000000000Z", "1970-01-01T00:00:01.000000000Z"]
    ]
    assert metadata_of(pd.DataFrame()) == {}


def test_a_time_index_is_the_timestamp() -> None:
    times = pd.date_range("2025-01-10 09:30", periods=2, freq="1s", tz="America/New_York")
    frame = pd.DataFrame({"price": [1, np.nan]}, index=times)
    ticks = from_arrow(frame, contract_id=8314, tick_type="last")
    assert ticks.timestamp.tolist() == [t.value for t in times]
    assert ticks.columns["price"].valid.tolist() == [True, False]
    with_named_index = from_arrow(
        frame.rename_axis("timestamp"), contract_id=8314, tick_type="last"
    )
    assert with_named_index.timestamp.tolist() == ticks.timestamp.tolist()


def test_other_indexes() -> None:
    frame = pd.DataFrame({"price": [1.0, 2.0, 3.0], "exchange": ["P", "Q", "P"]})
    assert from_pandas(frame[frame["price"] > 1]).column_names == ["price", "exchange"]
    assert from_pandas(frame.set_index("exchange")).column_names == ["exchange", "price"]
    levels: Any = ["exchange", frame.index]
    assert from_pandas(frame.set_index(levels)).num_columns == 2


def test_frames_of_pandas_that_cannot_be_read() -> None:
    with pytest.raises(InputError, match="twice"):
        from_pandas(pd.DataFrame([[1, 2]], columns=["price", "price"]))
    with pytest.raises(InputError, match="'conditions' is not of one kind"):
        from_pandas(pd.DataFrame({"conditions": ["a", ("b",)]}))


@pytest.mark.parametrize(
    ("values", "present"),
    [
        ([2**127 - 1, 5], [None, 5.0]),
        ([5.5, 2**127 - 1], [5.5, None]),
        ([None, 2**127 - 1, np.int64(3)], [None, None, 3.0]),
        ([2**70, 1], [float(2**70), 1.0]),
    ],
)
def test_integers_above_64_bits(values: list[Any], present: list[Any]) -> None:
    times = pd.date_range("2025-01-10 09:30", periods=len(values), freq="1s", tz="UTC")
    frame = pd.DataFrame({"timestamp": times, "size": pd.Series(values, dtype=object)})
    column = from_arrow(frame, contract_id=8314, tick_type="last").columns["size"]
    valid = np.ones(len(values), bool) if column.valid is None else column.valid
    numbers = [float(v) if ok else None for v, ok in zip(column.values, valid, strict=True)]
    assert numbers == present


@pytest.mark.parametrize("name", ["price", "size", "sequence"])
@pytest.mark.parametrize(
    "make",
    [
        lambda name, times: pd.DataFrame({"timestamp": times, name: [True, False]}),
        lambda name, times: pd.DataFrame({"timestamp": times, name: [True, False]}, dtype=object),
        lambda name, times: pl.DataFrame({"timestamp": times, name: [True, False]}),
        lambda name, times: pa.table({"timestamp": times, name: [True, False]}),
    ],
)
def test_booleans_are_no_numbers(
    name: str, make: Callable[..., pd.DataFrame] | Callable[..., pl.DataFrame] | Callable[..., Any]
) -> None:
    times = pd.date_range("2025-01-10 14:30", periods=2, tz="UTC").to_pydatetime().tolist()
    with pytest.raises(InputError, match=f"'{name}' holds .*no number"):
        from_arrow(make(name, times), contract_id=8314, tick_type="last")
