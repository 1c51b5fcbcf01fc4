"""IB's numbers for "none": the same rule for columns and for single values."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from ibticks.schema import (
    TickColumns,
    Values,
    clean_number,
    clean_side,
    clear_absent_fields,
    is_unset,
    mask_absent_values,
    no_quote_mask,
    unset_mask,
)
from ibticks.schema._absent import is_no_quote
from ibticks.tick_stream_pb2 import TickData

UNSET = {
    "UNSET_INTEGER": 2147483647,
    "UNSET_LONG": 2**63 - 1,
    "UNSET_DECIMAL": Decimal(2**127 - 1),
    "UNSET_DOUBLE": sys.float_info.max,
    "Infinity": float("inf"),
    "NaN": float("nan"),
}
REAL = {"a price": 181.5, "zero": 0.0, "a spread": -1.0, "oil": -37.63, "large": 2147483646.0}


@pytest.mark.parametrize("value", UNSET.values(), ids=UNSET)
def test_unset_numbers_are_absent(value: Any) -> None:
    assert is_unset(float(value))
    assert unset_mask(np.array([float(value)])).tolist() == [True]
    assert clean_number(value) is None
    assert clean_side(10.0, value) == (10.0, None)
    assert clean_side(float(value), 5) == (None, 5.0)


@pytest.mark.parametrize("value", REAL.values(), ids=REAL)
def test_real_numbers_are_present(value: float) -> None:
    assert not is_unset(value)
    assert unset_mask(np.array([value])).tolist() == [False]
    assert clean_number(value) == value


@pytest.mark.parametrize("value", [*UNSET.values(), *REAL.values(), -sys.float_info.max])
def test_masks_of_many_rows(value: Any) -> None:
    """Most rows have a price: one that has none is seen all the same."""
    values = np.full(5_000, 10.0)
    values[4_321] = float(value)
    assert np.flatnonzero(unset_mask(values)).tolist() == [4_321] * is_unset(float(value))
    sizes = np.zeros(5_000)
    absent = is_no_quote(float(value), 0.0)
    assert np.flatnonzero(no_quote_mask(values, sizes)).tolist() == [4_321] * absent


SIDES = [
    (-1.0, 0.0, True),
    (0.0, 0.0, True),
    (-0.0, 0.0, True),
    (-1.0, float(2**127 - 1), True),
    (0.0, 2147483647.0, True),
    (-1.0, 5.0, False),  # a futures spread
    (0.0, 3.0, False),
    (-37.63, 0.0, False),
    (-2.0, 0.0, False),
    (10.0, 0.0, False),
    (-1.0, float("nan"), False),  # the size is not known: the price stands
]


@pytest.mark.parametrize(("price", "size", "absent"), SIDES)
def test_price_and_size_decide_together(price: float, size: float, absent: bool) -> None:
    assert is_no_quote(price, size) is absent
    assert no_quote_mask(np.array([price]), np.array([size])).tolist() == [absent]
    tick = TickData(bid_price=price, bid_size=size)
    clear_absent_fields(tick)
    assert tick.HasField("bid_price") is not absent
    if absent:
        assert clean_side(price, size) == (None, None)
    else:
        assert clean_side(price, size)[0] == price


def columns(**values: Any) -> TickColumns:
    rows = len(next(iter(values.values())))
    table: dict[str, Any] = {"timestamp": Values(np.arange(rows))}
    for name, numbers in values.items():
        valid = np.array([number is not None for number in numbers])
        filled = np.array([0.0 if number is None else float(number) for number in numbers])
        table[name] = Values(filled, None if valid.all() else valid)
    return TickColumns(rows, table)


def values_of(ticks: TickColumns, name: str) -> list[Any]:
    column = ticks.columns[name]
    valid = np.ones(ticks.rows, bool) if column.valid is None else column.valid
    pairs = zip(column.values.tolist(), valid, strict=True)
    return [value if there else None for value, there in pairs]


def test_each_side_of_a_quote_is_absent_by_itself() -> None:
    ticks = mask_absent_values(
        columns(
            bid_price=[10.0, -1.0, 10.0, -1.0, None],
            bid_size=[5.0, 0.0, 2147483647, 3.0, 0.0],
            ask_price=[10.5, 10.5, 0.0, -0.5, -1.0],
            ask_size=[5.0, 5.0, 0.0, 2.0, None],
        )
    )
    assert values_of(ticks, "bid_price") == [10.0, None, 10.0, -1.0, None]
    assert values_of(ticks, "bid_size") == [5.0, None, None, 3.0, 0.0]
    assert values_of(ticks, "ask_price") == [10.5, 10.5, None, -0.5, -1.0]
    assert values_of(ticks, "ask_size") == [5.0, 5.0, None, 2.0, None]


def test_a_halt_is_unchanged() -> None:
    ticks = columns(price=[10.0, 0.0, 0.0, -1.0], size=[1.0, 0.0, 0.0, 0.0])
    assert mask_absent_values(ticks) is ticks


def test_unset_trades_and_mid_points_are_absent() -> None:
    ticks = mask_absent_values(
        columns(price=[10.0, sys.float_info.max], size=[2147483647, 5], mid_price=[np.nan, 0.0])
    )
    assert values_of(ticks, "price") == [10.0, None]
    assert values_of(ticks, "size") == [None, 5.0]
    assert values_of(ticks, "mid_price") == [None, 0.0]


def test_prices_without_a_size_column_are_present() -> None:
    ticks = columns(bid_price=[-1.0, 0.0], ask_price=[-1.0, 10.0])
    assert mask_absent_values(ticks) is ticks
