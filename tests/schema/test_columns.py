"""Columns in memory, and their names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks._types import Interval
from ibticks.errors import InputError, UnknownColumnError, UnknownTickTypeError
from ibticks.schema import (
    COLUMNS,
    TickColumns,
    Values,
    check_columns,
    check_contract_id,
    check_tick_type,
    list_columns,
)
from ibticks.schema._fields import ON_REQUEST
from tests.format import oracle
from tests.format.strategies import PATIENT, rows


@given(st.lists(rows(), max_size=6), st.data())
@settings(PATIENT, max_examples=100)
def test_rows_are_taken_as_from_a_list(some: list[Any], data: st.DataObject) -> None:
    ticks = oracle.columns_of(some)
    assert oracle.rows_of(ticks) == some
    piece = data.draw(st.slices(len(some)))
    assert oracle.rows_of(ticks.take(piece)) == some[piece]
    places = data.draw(st.lists(st.sampled_from(range(len(some))))) if some else []
    taken = ticks.take(np.array(places, dtype=np.intp))
    assert len(taken) == taken.rows == len(places)
    assert oracle.rows_of(taken) == [some[place] for place in places]


def test_missing_values_stay_missing() -> None:
    ticks = TickColumns(1, {"timestamp": Values(np.array([1]))}, missing=(Interval(5, 9),))
    assert ticks.take(slice(0)).missing == ((5, 9),)


def test_numbers_are_numbers() -> None:
    ticks = oracle.columns_of([])
    assert ticks.timestamp.dtype == np.int64
    with pytest.raises(TypeError, match="exchange"):
        ticks.numbers("exchange")


def test_the_columns_of_tick_types() -> None:
    assert list_columns(["last"]) == list_columns(("all_last",))
    every = list_columns(["last", "all_last", "bid_ask", "mid_point"])
    assert every == tuple(name for name in COLUMNS if name not in ON_REQUEST)
    both = list_columns(["bid_ask", "mid_point"])
    assert both == tuple(
        name for name in every if name in {*list_columns(["bid_ask"]), *list_columns(["mid_point"])}
    )
    assert not ON_REQUEST & set(both)
    assert list_columns([]) == ()


def test_columns_are_put_in_order() -> None:
    assert check_columns(["size", "timestamp", "size"]) == ("timestamp", "size")
    with pytest.raises(UnknownColumnError, match=r"'colour'.*timestamp") as caught:
        check_columns(["size", "colour"])
    assert caught.value.context["column"] == "colour"


def test_tick_types_and_contracts() -> None:
    with pytest.raises(UnknownTickTypeError, match=r"'first'.*mid_point"):
        check_tick_type("first")
    assert check_contract_id(np.uint32(2**32 - 1)) == 2**32 - 1
    for wrong in (0, -1, 2**32, 1.0, "8314", None):
        with pytest.raises(InputError, match="contract_id"):
            check_contract_id(wrong)
