"""Identity of ticks: matched one to one, whatever their place and their further fields."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.format import encode_frame
from ibticks.schema import MapColumn, StringColumn, StringListColumn, TickColumns, Values
from ibticks.storage._ingest import StoredMessages, StoredTicks, tick_keys

FEW = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=30)


def trades(rows: list[tuple[int, int]], **more: Any) -> TickColumns:
    """Trades by time and price, with further columns."""
    times = np.array([time for time, _ in rows], dtype=np.int64)
    prices = np.array([price for _, price in rows], dtype=np.float64)
    columns = {"timestamp": Values(times), "price": Values(prices), **more}
    return TickColumns(len(rows), columns)


def sequences(*numbers: int | None) -> Values:
    valid = np.array([number is not None for number in numbers])
    return Values(np.array([number or 0 for number in numbers], dtype=np.uint64), valid)


def texts(*entries: str | None) -> StringColumn:
    values = tuple(dict.fromkeys(text for text in entries if text is not None))
    codes = [-1 if text is None else values.index(text) for text in entries]
    return StringColumn(np.array(codes, dtype=np.int32), values)


def lists(*entries: list[str]) -> StringListColumn:
    flat = texts(*(text for row in entries for text in row))
    return StringListColumn(np.cumsum([0, *map(len, entries)]), flat.codes, flat.values)


def pairs(*entries: dict[str, str]) -> MapColumn:
    flat = texts(*(text for row in entries for pair in row.items() for text in pair))
    offsets = np.cumsum([0, *map(len, entries)])
    return MapColumn(offsets, flat.codes[::2], flat.codes[1::2], flat.values)


def matched(stored: TickColumns, *incoming: TickColumns) -> list[list[bool]]:
    actual = StoredTicks(tick_keys(stored))
    return [actual.match(tick_keys(ticks)).tolist() for ticks in incoming]


@given(FEW, FEW, st.integers(1, 30))
def test_equal_ticks_are_matched_one_to_one(
    stored: list[tuple[int, int]], incoming: list[tuple[int, int]], size: int
) -> None:
    """The multiset difference, however many ticks are asked about at once."""
    actual = StoredTicks(tick_keys(trades(stored)))
    new: Counter[tuple[Any, ...]] = Counter()
    for start in range(0, len(incoming), size):
        some = incoming[start : start + size]
        known = actual.match(tick_keys(trades(some)))
        new += Counter(row for row, is_known in zip(some, known, strict=True) if not is_known)
    assert new == Counter(incoming) - Counter(stored)
    assert len(actual) == (Counter(stored) - Counter(incoming)).total()


DETAILS = {
    "sequence": (sequences(7), sequences(8), sequences(None)),
    "exchange": (texts("ARCA"), texts("ISLAND"), texts(None)),
    "no exchange": (texts("ARCA"), texts("ISLAND"), texts("")),
    "conditions": (lists(["T"]), lists(["T", "I"]), lists([])),
    "past_limit": tuple(
        Values(np.array([flag]), np.array([valid]))
        for flag, valid in ((True, True), (False, True), (False, False))
    ),
    "exchange_time": tuple(
        Values(np.array([time]), np.array([valid]))
        for time, valid in ((1, True), (2, True), (2, False))
    ),
    "metadata": (pairs({"correction": "01"}), pairs({"correction": "02"}), pairs({})),
}


@pytest.mark.parametrize(("name", "columns"), DETAILS.items(), ids=DETAILS)
def test_a_field_tells_ticks_apart_where_both_carry_it(name: str, columns: tuple[Any, ...]) -> None:
    name = name.removeprefix("no ")
    one, other, without = (trades([(1, 5)], **{name: column}) for column in columns)
    plain = trades([(1, 5)])
    assert matched(one, one) == [[True]]
    assert matched(one, other) == [[False]]
    for absent in (without, plain):
        assert matched(one, absent) == [[True]]
        assert matched(absent, one) == [[True]]
    assert matched(without, plain) == [[True]]


@pytest.mark.parametrize("name", ["timestamp", "price", "size"])
def test_time_price_and_size_always_tell_ticks_apart(name: str) -> None:
    one = trades([(1, 5)], size=Values(np.array([100.0])))
    kind = one.numbers(name).dtype
    assert matched(one, TickColumns(1, one.columns | {name: Values(np.array([2], kind))})) == [
        [False]
    ]


def test_zero_has_no_sign() -> None:
    prices = Values(np.array([0.0, -0.0]))
    one, other = (
        TickColumns(2, {"timestamp": Values(np.array([1, 2])), "price": column})
        for column in (prices, Values(-prices.values))
    )
    assert matched(one, other) == [[True, True]]


def test_absent_values_may_be_any_bytes() -> None:
    signalling = np.array([0x7FF0000000000001, 0], dtype=np.uint64).view(np.float64)
    price = Values(signalling, np.array([False, True]))
    ticks = TickColumns(2, {"timestamp": Values(np.array([1, 2])), "price": price})
    assert matched(ticks, ticks) == [[True, True]]


def test_equal_ticks_are_matched_before_those_with_fewer_fields() -> None:
    stored = trades([(1, 5)] * 3, sequence=sequences(None, 1, 2))
    incoming = trades([(1, 5)] * 4, sequence=sequences(3, None, 2, 4))
    # 2 with 2, none with none; one of 3 and 4 finds nothing: 1 is another tick.
    assert matched(stored, incoming) == [[False, True, True, False]]
    assert matched(stored, trades([(1, 5)] * 4)) == [[True, True, True, False]]


def test_a_field_at_another_place_is_another_tick() -> None:
    one = trades([(1, 5)], sequence=sequences(7), exchange_time=Values(np.array([9])))
    other = trades([(1, 5)], sequence=sequences(9), exchange_time=Values(np.array([7])))
    assert matched(one, other) == [[False]]


def test_many_equal_ticks_and_many_different_ones() -> None:
    count = 50_000
    rows = [(number % 100, 5) for number in range(count)]
    stored = trades(rows, sequence=sequences(*range(1, count + 1)))
    first, again, more = matched(
        stored, trades(rows[: count // 2]), trades(rows[count // 2 :]), trades(rows[:10])
    )
    assert all(first)
    assert all(again)
    assert not any(more)


def test_messages_are_matched_one_to_one() -> None:
    stored = StoredMessages()
    stored.add(encode_frame(b"one") + encode_frame(b"two") + encode_frame(b"one"))
    assert [stored.match(encode_frame(value)) for value in (b"one", b"one", b"one", b"three")] == [
        True,
        True,
        False,
        False,
    ]
    assert len(stored) == 1
