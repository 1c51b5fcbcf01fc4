"""The compiled encoder against the protobuf runtime, byte for byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.config import TICK_TYPES
from ibticks.errors import InputError, UnknownTickTypeError
from ibticks.format import Encoder
from ibticks.format._decode import decode
from ibticks.format._encode import encode, encode_chunks
from ibticks.format._tick_encoder import varint
from ibticks.schema import COLUMNS, MapColumn, StringColumn, StringListColumn, TickColumns, Values
from ibticks.testing import wire

from .oracle import ALL, LARGEST_FRAME, columns_of, framed, payload_of, rows_of
from .strategies import PATIENT, rows

TICK = dict.fromkeys(COLUMNS) | {
    "timestamp": 1_381_239_001_123_456_789,
    "contract_id": 8314,
    "tick_type": "last",
    "stream_id": "",
    "conditions": [],
    "metadata": {},
}


def written(some: list[dict[Any, Any]]) -> bytes:
    return framed(*map(payload_of, some))


def chunks(encoder: Encoder, *args: int) -> list[tuple[int, bytes]]:
    return [(row, frames.tobytes()) for row, frames in encoder.chunks(*args)]


# --- byte for byte --------------------------------------------------------------------------------


@given(st.lists(rows(), max_size=6))
@settings(PATIENT, max_examples=300)
def test_bytes_equal_those_of_the_protobuf_runtime(some: list[Any]) -> None:
    ticks = columns_of(some)
    assert encode(ticks) == written(some)
    assert rows_of(decode(encode(ticks), ALL)) == some


@given(st.lists(rows(), min_size=1, max_size=4), st.sets(st.sampled_from(ALL)))
@settings(PATIENT, max_examples=150)
def test_omitted_columns_are_absent_or_constant(some: list[Any], columns: set[Any]) -> None:
    remaining = [name for name in ALL if name in columns | {"timestamp"}]
    same = TICK | {"contract_id": 7, "tick_type": "mid_point", "stream_id": "7_mid_point"}
    expected = [same | {name: row[name] for name in remaining} for row in some]
    encoded = encode(
        columns_of(some, tuple(remaining)),
        contract_id=7,
        tick_type="mid_point",
        stream_id="7_mid_point",
    )
    assert encoded == written(expected)


@given(st.lists(rows(), max_size=6))
@settings(PATIENT, max_examples=50)
def test_decoded_ticks_encode_to_the_same_bytes(some: list[Any]) -> None:
    once = written(some)
    assert encode(decode(once, ALL)) == once


@pytest.mark.parametrize("tick_type", TICK_TYPES)
def test_every_tick_type(tick_type: str) -> None:
    names = [name for name, field in COLUMNS.items() if tick_type in field.tick_types]
    values = dict(zip(ALL, range(1, 50), strict=False))
    texts = {"exchange": "ARCA", "conditions": ["T", "37"], "metadata": {"a": "1", "b": "2"}}
    flags = dict.fromkeys(("past_limit", "unreported", "bid_past_low", "ask_past_high"), True)
    row = TICK | values | texts | flags | {"tick_type": tick_type, "stream_id": "x"}
    row = TICK | {name: row[name] for name in names}
    assert encode(columns_of([row])) == written([row])


@pytest.mark.parametrize("contract_id", [0, 1, 127, 128, 2**14 - 1, 2**14, 2**21, 2**28, 2**32 - 1])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 2**14, 2**21])
def test_lengths_of_every_size(contract_id: int, size: int) -> None:
    row = TICK | {"contract_id": contract_id, "exchange": "x" * size, "metadata": {"k": "v" * size}}
    assert encode(columns_of([row])) == written([row])


def test_metadata_keeps_its_order() -> None:
    pairs = {"b": "1", "a": "2"}
    (row,) = rows_of(decode(encode(columns_of([TICK | {"metadata": pairs}])), ALL))
    assert list(row["metadata"].items()) == list(pairs.items())


def test_a_slice_of_columns() -> None:
    some = [
        TICK | {"sequence": i, "conditions": ["a"] * (i % 3), "metadata": {str(i): ""}, "price": i}
        for i in range(20)
    ]
    ticks = columns_of(some)
    assert encode(ticks.take(slice(3, 9))) == written(some[3:9])
    assert encode(ticks.take(slice(None, None, -2))) == written(some[::-2])
    assert encode(ticks.take(np.array([5, 5, 0]))) == written([some[5], some[5], some[0]])


def test_arrays_that_are_read_only_or_strided_or_of_another_type() -> None:
    times = np.repeat(np.arange(5), 2)[::2]
    prices = np.arange(5, dtype=np.float32)
    prices.setflags(write=False)
    ticks = TickColumns(5, {"timestamp": Values(times.astype(np.int32)), "price": Values(prices)})
    expected = [
        TICK | {"timestamp": i, "price": int(np.float64(i).view(np.uint64))} for i in range(5)
    ]
    assert encode(ticks, contract_id=8314, tick_type="last") == written(expected)


@pytest.mark.parametrize("conditions", [("T", "T"), ("T", "37")])
def test_an_absent_text_is_an_empty_one(conditions: tuple[str, str]) -> None:
    # However many texts a dictionary has, a code of -1 does not count from its end.
    absent = np.array([-1, 0], dtype=np.int32)
    ticks = TickColumns(
        2,
        {
            "timestamp": Values(np.array([1, 2])),
            "tick_type": StringColumn(absent, ("last",)),
            "exchange": StringColumn(absent, ("ARCA",)),
            "conditions": StringListColumn(
                np.array([0, 1, 2]),
                np.array([0, len(set(conditions)) - 1], dtype=np.int32),
                tuple(dict.fromkeys(conditions)),
            ),
            "stream_id": StringColumn(absent, ("8314_last",)),
        },
    )
    empty = TICK | {"timestamp": 1, "tick_type": "", "conditions": [conditions[0]]}
    full = TICK | {"timestamp": 2, "conditions": [conditions[1]]}
    full |= {"exchange": "ARCA", "stream_id": "8314_last"}
    assert encode(ticks, contract_id=8314) == written([empty, full])


def test_no_ticks_are_no_bytes() -> None:
    assert encode(columns_of([])) == b""
    assert list(encode_chunks(columns_of([]))) == []


# --- chunks ---------------------------------------------------------------------------------------


@given(st.lists(rows(), max_size=8), st.integers(1, 600), st.data())
@settings(PATIENT, max_examples=100)
def test_chunks_have_whole_frames_and_are_complete(
    some: list[Any], size: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(some)))
    stop = data.draw(st.integers(start, len(some)))
    parts = chunks(Encoder(columns_of(some)), start, stop, size)
    assert b"".join(frames for _, frames in parts) == written(some[start:stop])
    done = start
    for row, frames in parts:
        assert frames == written(some[done:row])
        assert (
            len(frames) <= size
            or row == done + 1
            or len(frames) <= 2 * len(max(map(payload_of, some), key=len))
        )
        done = row
    assert done == stop


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_a_chunk_is_filled_to_its_last_byte(spare: int) -> None:
    some = [TICK | {"sequence": i} for i in range(1, 7)]
    size = len(written(some[:3])) + spare
    first = chunks(Encoder(columns_of(some)), 0, 6, size)[0]
    assert first == ((3, written(some[:3])) if spare >= 0 else (2, written(some[:2])))


def test_a_tick_larger_than_a_chunk() -> None:
    some = [TICK, TICK | {"exchange": "x" * 5000}, TICK]
    parts = chunks(Encoder(columns_of(some)), 0, 3, 100)
    assert [row for row, _ in parts] == [1, 3]
    assert b"".join(frames for _, frames in parts) == written(some)


def test_the_largest_possible_tick() -> None:
    spare = LARGEST_FRAME - len(payload_of(TICK | {"exchange": "x" * 2**23}))
    largest = TICK | {"exchange": "x" * (2**23 + spare)}
    assert len(payload_of(largest)) == LARGEST_FRAME
    assert encode(columns_of([TICK, largest, TICK])) == written([TICK, largest, TICK])
    too_large = TICK | {"exchange": "x" * (2**23 + spare + 1)}
    assert encode(columns_of([TICK])) == written([TICK])
    for size in (100, 2**20, 2**26):
        encoder = Encoder(columns_of([TICK, too_large]))
        with pytest.raises(InputError, match=r"tick 1 .*\(16 MiB\)") as caught:
            chunks(encoder, 0, 2, size)
        assert caught.value.context["row"] == 1


# --- what cannot be written -----------------------------------------------------------------------


TIME_ONLY = TickColumns(1, {"timestamp": Values(np.array([1]))})


def test_missing_values_must_be_passed() -> None:
    with pytest.raises(InputError, match="contract_id") as caught:
        encode(TIME_ONLY, tick_type="last")
    assert caught.value.context["column"] == "contract_id"
    with pytest.raises(InputError, match="tick_type") as caught:
        encode(TIME_ONLY, contract_id=1)
    assert caught.value.context["column"] == "tick_type"
    with pytest.raises(InputError, match="timestamp"):
        encode(TickColumns(0, {}), contract_id=1, tick_type="last")


def test_a_tick_type_must_be_known() -> None:
    with pytest.raises(UnknownTickTypeError, match="use one of last"):
        encode(TIME_ONLY, contract_id=1, tick_type="first")


@pytest.mark.parametrize("contract_id", [-1, 2**32])
def test_a_contract_id_must_fit_its_type(contract_id: int) -> None:
    with pytest.raises(InputError, match="contract_id"):
        encode(TIME_ONLY, contract_id=contract_id, tick_type="last")


def test_text_must_be_text() -> None:
    half = "\ud800"
    codes = np.zeros(1, np.int32)
    for column in (
        {"exchange": StringColumn(codes, (half,))},
        {"metadata": MapColumn(np.array([0, 1]), codes, codes, (half,))},
    ):
        ticks = TickColumns(1, TIME_ONLY.columns | column)
        with pytest.raises(InputError, match="surrogate"):
            encode(ticks, contract_id=1, tick_type="last")


# --- numbers -------------------------------------------------------------------------------------


@given(st.integers(-(2**63), 2**64 - 1))
def test_varints(value: int) -> None:
    assert varint(value) == wire.varint(value & wire.UINT64_MASK)
