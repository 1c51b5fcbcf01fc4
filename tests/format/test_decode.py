"""The compiled decoder against its plain protobuf twin."""

from __future__ import annotations

import random
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.errors import CorruptFileError, InputError, UnknownColumnError
from ibticks.format import Decoder, count_frames, find_payloads, fingerprint_payloads, scan_frames
from ibticks.format._decode import decode
from ibticks.format._kernel_state import DICTIONARIES, STATE_SIZE, State
from ibticks.schema import COLUMNS
from ibticks.testing import wire
from ibticks.testing.strategies import malformed_messages, wire_messages
from ibticks.tick_stream_pb2 import StreamMessage

from .guarded import GuardedMemory
from .oracle import (
    ALL,
    LARGEST_FRAME,
    Row,
    framed,
    in_range,
    lenient_row,
    payload_of,
    payloads_of,
    row_of,
    rows_of,
    rows_of_payloads,
)
from .strategies import PATIENT, rows, streams

if TYPE_CHECKING:
    from numpy.typing import NDArray

TICK: dict[str, Any] = {
    "timestamp": 1_381_239_001_123_456_789,
    "contract_id": 8314,
    "tick_type": "all_last",
    **dict.fromkeys(COLUMNS.keys() - {"timestamp", "contract_id", "tick_type"}),
    "price": 0x4066B80000000000,  # 181.75
    "size": 0x4059000000000000,  # 100.0
    "exchange": "ARCA",
    "conditions": ["T", "37"],
    "sequence": 300,
    "past_limit": False,
    "unreported": True,
    "stream_id": "8314_all_last_20131008",
    "metadata": {},
}
SECONDS = {"exchange_time"}


def tick(**values: object) -> bytes:
    return payload_of(TICK | values)


def raw_tick(content: bytes, *, seconds: int = 1, before: bytes = b"", after: bytes = b"") -> bytes:
    """A tick of hand-written content between two hand-written parts."""
    stamp = wire.delimited(3, wire.integer(1, seconds))
    return before + stamp + wire.delimited(4, content) + after


def decoded(*payloads: bytes, columns: tuple[str, ...] = ALL) -> list[Row]:
    return rows_of(decode(framed(*payloads), columns))


def only(row: Row, columns: tuple[str, ...]) -> Row:
    return {name: row[name] for name in COLUMNS if name in columns}


# --- what protobuf takes --------------------------------------------------------------------------


@given(st.lists(wire_messages().filter(bool), max_size=4))
@settings(PATIENT, max_examples=150)
def test_messages_of_any_encoding(payloads: list[Any]) -> None:
    assert decoded(*payloads) == rows_of_payloads(payloads)


@given(streams())
@settings(PATIENT, max_examples=100)
def test_streams_of_similar_messages(payloads: list[bytes]) -> None:
    expected = rows_of_payloads(payloads)
    assert decoded(*payloads) == expected
    # Without metadata, messages are read by the shapes that were learned.
    some = tuple(name for name in ALL if name != "metadata")
    assert decoded(*payloads, columns=some) == [only(row, some) for row in expected]


@given(streams(frames=25), st.sets(st.sampled_from(ALL)))
@settings(PATIENT, max_examples=80)
def test_any_subset_of_columns_equals_the_full_result(
    payloads: list[bytes], columns: set[Any]
) -> None:
    asked = tuple(columns)
    assert decoded(*payloads, columns=asked) == [
        only(row, asked) for row in rows_of_payloads(payloads)
    ]


@pytest.mark.parametrize("columns", [(name,) for name in ALL] + [()])
def test_each_column_alone(columns: Any) -> None:
    absent = dict.fromkeys(name for name in ALL if COLUMNS[name].nullable)
    payloads = [tick(sequence=i) for i in range(20)] + [
        payload_of(TICK | absent | {"conditions": []}),
        tick(conditions=["a"] * 9, metadata={"key": "value"}),
    ]
    ticks = decode(framed(*payloads), columns)
    assert ticks.rows == 22
    assert rows_of(ticks) == [only(row, columns) for row in rows_of_payloads(payloads)]


def test_columns_are_unique_and_in_their_order() -> None:
    ticks = decode(framed(tick()), ["size", "timestamp", "size"])
    assert list(ticks.columns) == ["timestamp", "size"]
    with pytest.raises(UnknownColumnError, match="'colour'"):
        decode(b"", ["colour"])


@pytest.mark.parametrize("tick_type", ["last", "all_last", "bid_ask", "mid_point"])
def test_every_tick_type_in_a_long_stream(tick_type: str) -> None:
    # Growing numbers and texts of many lengths: shapes are learned, replaced and learned again.
    names = [name for name, field in COLUMNS.items() if tick_type in field.tick_types]
    source = random.Random(tick_type)
    made = []
    for i in range(3000):
        row = (
            TICK
            | dict.fromkeys(names)
            | {"tick_type": tick_type, "timestamp": i * 10 ** source.randrange(12)}
        )
        row |= {"stream_id": source.choice(["", "a", f"8314_{tick_type}"]), "metadata": {}}
        row |= {
            "conditions": [str(source.randrange(50)) for _ in range(source.choice((0, 0, 1, 3, 9)))]
        }
        for name in names:
            kind = COLUMNS[name].type.value
            if kind == "float" and source.random() < 0.95:
                row[name] = source.getrandbits(64)
            elif kind == "bool" and source.random() < 0.9:
                row[name] = source.random() < 0.5
        row["contract_id"] = source.choice((0, 7, 8314, 2**32 - 1))
        row["sequence"] = source.choice((None, i, source.getrandbits(64)))
        row["exchange_time"] = source.choice((None, i, -i, source.getrandbits(40)))
        row["exchange"] = source.choice((None, "", "ARCA", "ISLAND", "é" * source.randrange(9)))
        made.append(row)
    columns = tuple(name for name in ALL if name != "metadata")
    expected = [only(row, columns) for row in made]
    assert decoded(*map(payload_of, made), columns=columns) == expected


@pytest.mark.parametrize("last", [b"", b"\0", framed(tick())[:-1]], ids=["whole", "one", "torn"])
def test_the_last_frames_of_a_buffer(last: bytes) -> None:
    # A frame is read by its shape only where eight more bytes follow it.
    payloads = [tick(sequence=i, metadata={}) for i in range(10)]
    decoder = Decoder(["sequence"])
    buffer = framed(*payloads)
    assert decoder.feed(buffer + last) == len(buffer)
    assert decoder.finish().numbers("sequence").tolist() == list(range(10))
    assert decoder.messages == 10


@pytest.mark.parametrize("size", range(1, 60))
def test_unknown_fields_of_any_size_in_frames_of_any_size(size: int) -> None:
    payloads = [tick(sequence=i) + wire.delimited(99, bytes([i]) * size) for i in range(9)]
    assert decoded(*payloads, columns=("sequence",)) == [{"sequence": i} for i in range(9)]


@pytest.mark.parametrize("field", [1, 12, 17, 99])
def test_varints_of_other_sizes_have_another_shape(field: int) -> None:
    # The same tags at the same places, but one long number where there are two short ones.
    long = wire.integer(field, 2**15, value_size=3 + (field > 15))
    short = wire.integer(field, 1) + wire.integer(field, 2)
    assert len(long) == len(short)
    names = {1: "contract_id", 12: "sequence", 17: "exchange_time", 99: "price"}
    for some in ([long, short], [short, long]):
        payloads = [raw_tick(content) for content in some] * 3
        assert decoded(*payloads, columns=(names[field],)) == [
            only(row, (names[field],)) for row in rows_of_payloads(payloads)
        ]
    # A number that does not end reaches into what follows.
    endless = raw_tick(wire.tag(field, 0) + b"\xff" * (len(long) - len(wire.tag(field, 0))))
    decoder = Decoder([names[field]])
    with pytest.raises(CorruptFileError):
        decoder.feed(framed(raw_tick(long), raw_tick(long), endless, raw_tick(long)))
    assert decoder.rows == 2


def test_large_messages_are_decoded_without_a_shape() -> None:
    payloads = [tick(exchange="x" * size, sequence=size) for size in range(150, 450)]
    columns = ("exchange", "sequence")
    expected = [{"exchange": "x" * size, "sequence": size} for size in range(150, 450)]
    assert decoded(*payloads, columns=columns) == expected
    assert decoded(*payloads[::-1], *payloads, columns=columns) == expected[::-1] + expected


KEY, VALUE = wire.text(1, "k"), wire.text(2, "v")
ENTRIES = {
    "key twice in the map": ([KEY + VALUE, KEY + wire.text(2, "w")], {"k": "w"}),
    "key again after others": (
        [KEY + VALUE, wire.text(1, "j") + VALUE, KEY + wire.text(2, "w")],
        {"k": "w", "j": "v"},
    ),
    "no key": ([VALUE], {"": "v"}),
    "no value": ([KEY], {"k": ""}),
    "nothing": ([b"", b""], {"": ""}),
    "key and value twice": ([wire.text(1, "x") + VALUE + KEY + wire.text(2, "w")], {"k": "w"}),
    "value before key": ([VALUE + KEY], {"k": "v"}),
    "unknown field": ([KEY + VALUE, KEY + wire.text(2, "w") + wire.integer(3, 1)], {"k": "v"}),
    "key of another wire type": ([wire.integer(1, 1) + VALUE], {}),
    "group": ([KEY + VALUE + wire.group(9, b"")], {}),
}


@pytest.mark.parametrize(("entries", "metadata"), ENTRIES.values(), ids=ENTRIES)
def test_maps_are_merged(entries: list[bytes], metadata: dict[str, str]) -> None:
    parts = [wire.delimited(8, entry) for entry in entries]
    payload = wire.delimited(4, b"").join(parts) + wire.delimited(4, b"")
    assert decoded(payload, payload, columns=("metadata",)) == [{"metadata": metadata}] * 2
    assert rows_of_payloads([payload])[0]["metadata"] == metadata


def part(*contents: bytes, member: int = 4) -> bytes:
    return b"".join(wire.delimited(member, content) for content in contents)


ONE = wire.double(3, 1.5) + wire.text(11, "T") + wire.integer(13, 1) + wire.integer(1, 7)
TWO = wire.double(4, 2.5) + wire.text(11, "37") + wire.integer(13, 0) + wire.text(10, "ARCA")
PARTS = {
    "in two parts": part(ONE, TWO),
    "with a time between": part(ONE) + wire.delimited(3, wire.integer(1, 1)) + part(TWO),
    "dropped by an error": part(ONE) + part(b"", member=5) + part(TWO),
    "dropped and empty": part(ONE) + part(b"", member=7) + part(b""),
    "not dropped by another wire type": part(ONE) + wire.integer(5, 1) + part(TWO),
    "after others": part(b"", member=6) + part(b"", member=5) + part(ONE, TWO),
    "replaced at last": part(ONE, TWO) + part(b"", member=5),
    "time in parts": wire.delimited(3, wire.integer(1, 5) + wire.integer(2, 6))
    + part(ONE)
    + wire.delimited(3, wire.integer(2, 7)),
    "scalars twice": part(ONE + TWO + ONE),
    "text twice": part(TWO + wire.text(10, "")),
    "contract of another wire type": part(ONE + wire.text(1, "x")),
}


@pytest.mark.parametrize("payload", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("columns", [ALL, ALL[:-1]])
def test_parts_are_merged(payload: bytes, columns: tuple[str, ...]) -> None:
    expected = [only(row, columns) for row in rows_of_payloads([payload])]
    assert decoded(*[payload] * 3, columns=columns) == expected * 3


# --- values ---------------------------------------------------------------------------------------


@given(st.lists(rows(), max_size=4))
@settings(PATIENT, max_examples=100)
def test_rows_of_any_values(some: list[Any]) -> None:
    assert decoded(*map(payload_of, some)) == some


@pytest.mark.parametrize("repeated", [1, 5])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sequence", 0),
        ("sequence", 2**56 - 1),
        ("sequence", 2**56),
        ("sequence", 2**64 - 1),
        ("exchange_time", 0),
        ("exchange_time", -1),
        ("exchange_time", -(2**63)),
        ("exchange_time", 2**63 - 1),
        ("contract_id", 0),
        ("contract_id", 2**32 - 1),
        ("price", 0x8000_0000_0000_0000),
        ("price", 0x7FF0_0000_0000_0000),
        ("price", 0xFFF0_0000_0000_0000),
        ("price", 0x7FF8_0000_0000_0000),
        ("price", 0x7FF0_0000_0000_0001),
        ("price", 0),
        ("past_limit", False),
        ("exchange", ""),
        ("exchange", "\0"),
        ("exchange", "\U0001f600" * 20),
        ("conditions", [""] * 8),
        ("conditions", [str(i) for i in range(9)]),
        ("conditions", ["x"] * 5000),
        ("metadata", {"": ""}),
        ("metadata", {"a": "b", "b": "a"}),
        ("tick_type", ""),
        ("stream_id", ""),
        *((name, None) for name in ALL if COLUMNS[name].nullable),
    ],
)
def test_values_at_their_edges(name: str, value: Any, repeated: int) -> None:
    payloads = [tick(**{name: value})] * repeated
    columns = tuple(column for column in ALL if column != "metadata" or name == "metadata")
    for row in decoded(*payloads, columns=columns):
        assert row == only(TICK | {name: value}, columns)


INT32 = st.integers(-(2**31), 2**31 - 1)


@given(
    st.one_of(
        st.sampled_from([9_223_372_036, -9_223_372_037]).flatmap(
            lambda edge: st.integers(edge - 4, edge + 4)
        ),
        st.integers(-(2**63), 2**63 - 1),
    ),
    st.one_of(INT32, st.sampled_from([854_775_806, 854_775_807, 854_775_808, 145_224_192])),
)
@settings(PATIENT, max_examples=300)
@example(9_223_372_035, 2**31 - 1)
@example(-9_223_372_036, -(2**31))
@example(9_223_372_036, 854_775_806)
@example(-9_223_372_037, 145_224_193)
def test_times_at_the_edges_of_int64(seconds: Any, nanos: Any) -> None:
    stamp = wire.integer(1, seconds) + wire.integer(2, nanos)
    payload = wire.delimited(3, stamp) + wire.delimited(4, b"")
    (row,) = [row_of(StreamMessage.FromString(payload))]
    expected = [row["timestamp"]] if in_range(row["timestamp"]) else []
    for repeated in (1, 3):
        ticks = decode(framed(*[payload] * repeated), ["timestamp"])
        assert ticks.timestamp.tolist() == expected * repeated
    assert find_payloads(framed(payload), ticks=True, others=True)[2].tolist() == expected
    (block,) = scan_frames(framed(payload)).blocks
    assert block.first_ns == block.min_ns == block.max_ns == row["timestamp"]


def test_sorted_ticks_are_detected() -> None:
    times = [3, 3, 5, 5, 8]
    for order in (times, times[::-1]):
        decoder = Decoder(["price"])
        decoder.feed(framed(*(tick(timestamp=time) for time in order)))
        assert decoder.sorted == (order == times)


# --- time ranges ----------------------------------------------------------------------------------


@given(streams(frames=25), st.data())
@settings(PATIENT, max_examples=60)
def test_a_time_range_is_a_filter(payloads: list[bytes], data: st.DataObject) -> None:
    times = [row["timestamp"] for row in rows_of_payloads(payloads)]
    bounds = st.sampled_from([*times, *(time + 1 for time in times), 0, TIME_MIN, TIME_MAX])
    start, end = data.draw(bounds), data.draw(bounds)
    expected = rows_of_payloads(payloads, start, end)
    ticks = decode(framed(*payloads), ALL, start_ns=start, end_ns=end)
    assert rows_of(ticks) == expected
    some = ("timestamp", "price", "exchange", "conditions")
    ticks = decode(framed(*payloads), some, start_ns=start, end_ns=end)
    assert rows_of(ticks) == [only(row, some) for row in expected]


def test_ticks_outside_the_range_take_no_memory() -> None:
    decoder = Decoder(["exchange", "conditions"], start_ns=50, end_ns=53, rows=1)
    decoder.feed(framed(*(tick(timestamp=i, exchange=str(i)) for i in range(100))))
    ticks = decoder.finish()
    assert ticks.columns["exchange"].values == ("50", "51", "52")
    assert decoder.messages == 100


# --- several buffers ------------------------------------------------------------------------------


WITH_AND_WITHOUT_SHAPES = st.sampled_from([ALL, ALL[:-1]])


@given(
    streams(),
    st.lists(st.integers(0, 40), max_size=4),
    st.sampled_from([1, 7, 1000]),
    WITH_AND_WITHOUT_SHAPES,
)
@settings(PATIENT, max_examples=40)
def test_several_buffers_are_decoded_as_one(
    payloads: list[bytes], cuts: list[Any], room: Any, columns: tuple[str, ...]
) -> None:
    decoder = Decoder(columns, rows=room)
    for begin, end in pairwise([0, *sorted(cuts), len(payloads)]):
        buffer = framed(*payloads[begin:end])
        assert decoder.feed(buffer) == len(buffer)
    assert rows_of(decoder.finish()) == [only(row, columns) for row in rows_of_payloads(payloads)]
    assert decoder.messages == len(payloads)


@given(streams(), streams(frames=10), streams(frames=10), WITH_AND_WITHOUT_SHAPES)
@settings(PATIENT, max_examples=25)
def test_a_rewind_removes_all_traces(
    before: list[bytes], taken_back: list[bytes], after: list[bytes], columns: tuple[str, ...]
) -> None:
    decoder = Decoder(columns, rows=1)
    decoder.feed(framed(*before))
    mark, was_sorted = decoder.mark(), decoder.sorted
    decoder.feed(framed(*taken_back))
    decoder.rewind(mark)
    assert (decoder.messages, decoder.sorted) == (len(before), was_sorted)
    decoder.feed(framed(*after))
    assert rows_of(decoder.finish()) == [
        only(row, columns) for row in rows_of_payloads(before + after)
    ]


@pytest.mark.parametrize("absent", [True, False])
def test_fields_outside_a_shape_are_absent_after_a_rewind(absent: bool) -> None:
    # The shape was learned from messages that count no more.
    columns = ("price", "size", "exchange")
    one, other = tick(price=None), tick(size=None, exchange=None)
    decoder = Decoder(columns)
    if absent:
        decoder.feed(framed(other))
    mark = decoder.mark()
    decoder.feed(framed(one, one))
    decoder.rewind(mark)
    decoder.feed(framed(one, one, b"\x0a\x04info"))  # the last frame is not read by a shape
    expected = rows_of_payloads([other, one, one] if absent else [one, one])
    assert rows_of(decoder.finish()) == [only(row, columns) for row in expected]


def test_a_decoder_continues_after_damage() -> None:
    decoder = Decoder(["sequence", "exchange"])
    good = framed(tick(sequence=1), tick(sequence=2))
    bad = framed(tick(exchange="new") + b"\x07")
    with pytest.raises(CorruptFileError, match=f"at byte {len(good)}") as caught:
        decoder.feed(good + bad)
    assert caught.value.context["offset"] == len(good)
    assert decoder.rows == 2
    decoder.feed(framed(tick(sequence=3, exchange="other")))
    assert rows_of(decoder.finish()) == [
        {"exchange": "ARCA", "sequence": 1},
        {"exchange": "ARCA", "sequence": 2},
        {"exchange": "other", "sequence": 3},
    ]


# --- growing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 1, 5])
@pytest.mark.parametrize("spare", [(), ("metadata",)])
def test_hundreds_of_distinct_strings(room: int, spare: tuple[str, ...]) -> None:
    # Twice each, and of many lengths: the dictionaries and their bytes grow several times.
    source = random.Random(0)
    made = [
        TICK
        | {
            "exchange": f"E{i % 400}" * (1 + i % 400 % 7),
            "conditions": [f"c{(i * 7 + j) % 900}" for j in range(i % 12)],
            "metadata": {f"k{(i + j) % 500}": f"v{source.randrange(500)}" for j in range(i % 4)},
            "tick_type": f"type {i % 130}",
            "stream_id": f"stream {i % 77}",
        }
        for i in range(800)
    ]
    columns = ("tick_type", "exchange", "conditions", "stream_id", *spare)
    decoder = Decoder(columns, rows=room)
    decoder.feed(framed(*map(payload_of, made)))
    ticks = decoder.finish()
    assert rows_of(ticks) == [only(row, columns) for row in made]
    assert len(ticks.columns["exchange"].values) == 400


@pytest.mark.parametrize("size", [1000, 1024, 1025, 100_000, 3_000_000])
def test_long_strings(size: int) -> None:
    made = [
        TICK | {"exchange": "é" * (size // 2), "metadata": {"k" * size: "v" * size}},
        TICK | {"conditions": ["x" * size, "y" * size, "x" * size], "stream_id": "s" * size},
    ]
    assert decoded(*map(payload_of, made)) == made


# --- what protobuf refuses ------------------------------------------------------------------------


def outcome(decoder: Decoder, buffer: bytes, start: int, stop: int) -> Row | str | None:
    """The row a frame came to, None if to none, "refused" if it was, and only it."""
    before = decoder.rows
    try:
        assert decoder.feed(buffer, start, stop) == stop
    except CorruptFileError as error:
        rest = (error.context["offset"], decoder.rows)
        return "refused" if rest == (start, before) else f"refused at {rest}"
    return rows_of(decoder.finish())[-1] if decoder.rows > before else None


def expected_outcome(payload: bytes, columns: tuple[str, ...]) -> Row | str | None:
    try:
        return lenient_row(payload, columns)
    except DecodeError:
        return "refused"


@given(malformed_messages().filter(bool))
@settings(PATIENT, max_examples=250)
def test_malformed_messages(payload: bytes) -> None:
    buffer = framed(payload)
    assert outcome(Decoder(ALL), buffer, 0, len(buffer)) == expected_outcome(payload, ALL)


@given(streams(valid=False), st.sampled_from([ALL, tuple(n for n in ALL if n != "metadata")]))
@settings(PATIENT, max_examples=80)
def test_malformed_messages_among_others(payloads: list[bytes], columns: Any) -> None:
    # One decoder for all: what it learned from one message must not let another one pass.
    decoder = Decoder(columns)
    buffer, at = framed(*payloads), 0
    for payload in payloads:
        stop = at + 4 + len(payload)
        assert outcome(decoder, buffer, at, stop) == expected_outcome(payload, columns)
        at = stop


@given(streams(valid=False, frames=10))
@settings(PATIENT, max_examples=30)
def test_the_oracle_agrees_with_the_runtime(payloads: list[bytes]) -> None:
    for payload in payloads:
        try:
            row = row_of(StreamMessage.FromString(payload))
        except DecodeError:
            continue
        assert lenient_row(payload) == (row if row and in_range(row["timestamp"]) else None)


PLACES = {
    "top": lambda content: content + wire.delimited(4, b""),
    "time": lambda content: wire.delimited(3, content) + wire.delimited(4, b""),
    "tick": lambda content: wire.delimited(4, content),
    "entry": lambda content: wire.delimited(4, b"") + wire.delimited(8, content),
}
LARGEST = wire.MAX_FIELD_NUMBER


def nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = wire.group(100, content)
    return content


AT_THE_LIMITS = [
    *(nested(depth) for depth in range(97, 103)),
    *(wire.integer(number, 1, tag_size=size) for number in (1, 99) for size in range(1, 8)),
    *(wire.integer(number, 1, value_size=size) for number in (1, 12, 99) for size in range(1, 13)),
    *(
        wire.integer(number, 1 << bit)
        for number in (1, 2, 12, 13, 17, 99)
        for bit in (32, 63, 64, 69)
    ),
    *(
        wire.text(number, "a", length_size=size)
        for number in (1, 2, 10, 99)
        for size in range(1, 8)
    ),
    *(wire.tag(number, 0) + b"\1" for number in (LARGEST, LARGEST + 1, 2 * LARGEST, 2**32)),
    *(wire.tag(number, kind) + bytes(8) for number in (0, 1, 99) for kind in range(8)),
    *(wire.tag(99, 1) + bytes(size) for size in range(9)),
    *(wire.tag(3, 1) + bytes(size) for size in range(9)),
    *(wire.tag(99, 5) + bytes(size) for size in range(5)),
    *(wire.tag(99, 2) + wire.varint(size) + bytes(5) for size in (4, 5, 6, 2**31, 2**32, 2**35)),
    *(wire.tag(10, 2) + wire.varint(size) + bytes(5) for size in (4, 5, 6, 2**31 - 1, 2**32 + 5)),
    wire.group(99, wire.group(98, b"") + wire.text(1, "a") + wire.fixed64(1, 1)),
    wire.group(99, wire.integer(0, 1)),
    wire.tag(99, 3) + wire.tag(98, 4),
    wire.tag(99, 3),
    wire.tag(99, 3) + wire.tag(98, 3) + wire.tag(99, 4) + wire.tag(98, 4),
    wire.tag(99, 3) + wire.tag(99, 1) + bytes(7),
    wire.tag(99, 4),
    wire.tag(4, 4),
    b"\x80",
    b"",
]


@pytest.mark.parametrize("place", PLACES)
def test_the_limits_of_the_format(place: str) -> None:
    for content in AT_THE_LIMITS:
        payload = PLACES[place](content)
        expected = expected_outcome(payload, ALL)
        for columns in (ALL, ALL[:-1]):
            if place == "entry" and columns != ALL:
                expected = expected_outcome(payload, columns)
            # Three times, so that it may have been learned from.
            decoder, buffer = Decoder(columns), framed(*[payload] * 4)
            for at in range(0, 3 * (4 + len(payload)), 4 + len(payload)):
                got = outcome(decoder, buffer, at, at + 4 + len(payload))
                assert got == (only(expected, columns) if isinstance(expected, dict) else expected)


BAD_TEXTS = [
    b"\x80",
    b"\xbf",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xc3",
    b"\xc3\x28",
    b"\xe0\x9f\xbf",
    b"\xe2\x82",
    b"\xe2\x28\xa1",
    b"\xe2\x82\x28",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xf0\x90\x28\xbc",
    b"\xf0\x90\x8c",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xff",
]
GOOD_TEXTS = [
    "\x7f",
    "\x80",
    "\u07ff",
    "\u0800",
    "\u0fff",
    "\u1000",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "\U0003ffff",
    "\U00040000",
    "\U0010ffff",
]
HOLDERS = {
    "tick_type": lambda text: raw_tick(wire.delimited(2, text)),
    "exchange": lambda text: raw_tick(wire.delimited(10, text)),
    "conditions": lambda text: raw_tick(wire.delimited(11, text)),
    "stream_id": lambda text: raw_tick(b"", before=wire.delimited(2, text)),
    "metadata": lambda text: raw_tick(b"", after=wire.delimited(8, wire.delimited(2, text))),
}


@pytest.mark.parametrize("column", HOLDERS)
@pytest.mark.parametrize("around", [b"", b"abcdefghi"], ids=["alone", "inside"])
def test_texts_must_be_utf8(column: str, around: bytes) -> None:
    for text in GOOD_TEXTS:
        payload = HOLDERS[column](around + text.encode() + around)
        row: Any = lenient_row(payload)
        assert decoded(payload, columns=(column,)) == [only(row, (column,))]
    plain = HOLDERS[column](b"~" * 20)
    for wrong in BAD_TEXTS:
        # After one like it, so that it may be read by its shape.
        shaped = HOLDERS[column]((around + wrong + around).ljust(20, b"~"))
        decoder = Decoder([column])
        buffer = framed(plain, plain, shaped, plain)
        with pytest.raises(CorruptFileError) as caught:
            decoder.feed(buffer)
        assert caught.value.context["offset"] == 2 * (len(plain) + 4)
        assert len(decoder.finish()) == 2
        # A column that is not asked for is not checked.
        assert len(decode(buffer, ["price"])) == 4


DROPPED = [
    b"\x80",
    b"\x08",
    b"\x09\x01",
    b"\x12\x50",
    b"\x0b",
    b"\x0f",
    b"\x00",
    b"\x08" + b"\xff" * 10,
    b"\x1a\x7f" + b"x" * 20,
    b"\x08\x01" * 30 + b"\x09",
    wire.delimited(10, b"\xff"),
]


@pytest.mark.parametrize("content", DROPPED)
@pytest.mark.parametrize("other", [5, 6, 7])
def test_a_replaced_oneof_member_is_not_checked(content: bytes, other: int) -> None:
    # It is passed over by its length, like the other member itself; so is it when a shape is
    # learned from the message.
    replaced = wire.delimited(4, content) + wire.delimited(other, content)
    payload = raw_tick(wire.double(3, 1.5), before=replaced)
    memory = GuardedMemory(1)
    buffer = framed(*[payload] * 3)
    for data in (memory.at_the_end(buffer), memory.at_the_start(buffer)):
        assert decode(data, ["price"]).numbers("price").tolist() == [1.5] * 3


# --- never outside the buffer ---------------------------------------------------------------------


def go_through(data: NDArray[Any]) -> None:
    """Everything that reads frames, to the end or to an error."""
    for columns in (ALL, ALL[:-1], ("timestamp",)):
        try:
            Decoder(columns, rows=1).feed(data)
        except CorruptFileError:
            continue
    scan_frames(data, block_bytes=64)
    count_frames(data)
    for look in (fingerprint_payloads, lambda data: find_payloads(data, ticks=True, others=True)):
        try:
            look(data)
        except CorruptFileError:
            continue


@given(streams(valid=False, frames=12), st.integers(0, 30))
@settings(PATIENT, max_examples=60)
def test_nothing_is_read_outside_the_buffer(payloads: list[bytes], cut: int) -> None:
    memory = GuardedMemory(4096)
    # Each message last, so that its own end is the end of what may be read; whole and torn.
    for i in range(1, len(payloads) + 1):
        buffer = framed(*payloads[:i])[-memory.size :] if i % 2 else framed(payloads[i - 1])
        go_through(memory.at_the_end(buffer[: memory.size]))
        go_through(memory.at_the_start(buffer[: memory.size]))
        go_through(memory.at_the_end(buffer[: max(0, len(buffer) - cut)][: memory.size]))


def test_nothing_is_read_past_any_prefix() -> None:
    memory = GuardedMemory(4096)
    buffer = framed(*(tick(sequence=10**i, metadata={"a": "b"}) for i in range(8)), b"\x0a\x04tick")
    for size in range(len(buffer) + 1):
        go_through(memory.at_the_end(buffer[:size]))


@pytest.mark.parametrize(
    "look",
    [
        scan_frames,
        count_frames,
        fingerprint_payloads,
        lambda *a: decode(a[0], ALL, start=a[1], stop=a[2]),
    ],
)
@pytest.mark.parametrize(("start", "stop"), [(0, 9), (-1, 3), (5, 4), (9, None), (0, -1)])
def test_no_bytes_outside_the_buffer_are_requested(look: Any, start: int, stop: int | None) -> None:
    with pytest.raises(InputError, match="in a buffer of 8"):
        look(framed(b"\x0a\x02ab"), start, stop)


# --- frames ---------------------------------------------------------------------------------------


def test_an_empty_buffer() -> None:
    ticks = decode(b"", ALL)
    assert ticks.rows == 0
    assert list(ticks.columns) == list(ALL)
    assert rows_of(ticks) == []


@pytest.mark.parametrize("size", [0, LARGEST_FRAME + 1, 2**31, 2**32 - 1])
def test_invalid_frame_lengths(size: int) -> None:
    good = framed(tick(), tick())
    buffer = good + struct.pack(">I", size) + bytes(100)
    decoder = Decoder(["price"])
    with pytest.raises(CorruptFileError, match="empty or longer than 16 MiB") as caught:
        decoder.feed(buffer)
    assert caught.value.context["offset"] == len(good)
    assert decoder.rows == 2
    for look in (fingerprint_payloads, lambda data: find_payloads(data, ticks=True, others=True)):
        with pytest.raises(CorruptFileError) as caught:
            look(buffer)
        assert caught.value.context["offset"] == len(good)
    walked = scan_frames(buffer)
    assert (walked.end, walked.ticks) == (len(good), 2)
    assert "16 MiB" in walked.problem
    assert count_frames(buffer) == (2, len(good), walked.problem)


def test_the_largest_frame_is_read() -> None:
    payload = tick()
    filler = LARGEST_FRAME - len(payload) - len(wire.delimited(99, bytes(2**24))) + 2**24
    payload += wire.delimited(99, bytes(filler))
    assert len(payload) == LARGEST_FRAME
    assert decoded(tick(), payload, columns=("sequence",)) == [{"sequence": 300}] * 2


def test_every_prefix_has_its_whole_frames() -> None:
    source = random.Random(1)
    payloads = [
        tick(
            sequence=i,
            price=source.getrandbits(64),
            exchange=source.choice(("ARCA", "ISLAND", "BATS")),
            conditions=source.choice(([], ["T"], ["T", "37"])),
            timestamp=i * 1_234_567,
        )
        for i in range(400)
    ]
    buffer = framed(*payloads)
    assert payloads_of(buffer) == payloads
    ends = np.cumsum([4 + len(payload) for payload in payloads])
    sizes = [*range(len(buffer) - 4096, len(buffer) + 1)]
    sizes += source.sample(range(len(buffer)), 200)
    for size in sizes:
        whole = int(np.searchsorted(ends, size, side="right"))
        end = int(ends[whole - 1]) if whole else 0
        decoder = Decoder(["sequence"], rows=400)
        assert decoder.feed(buffer, 0, size) == end
        assert decoder.finish().numbers("sequence").tolist() == list(range(whole))
        assert count_frames(buffer, 0, size) == (whole, end, None if end == size else "torn")


def test_other_messages_are_skipped() -> None:
    others = [
        b"\x0a\x04info",
        wire.delimited(5, wire.text(1, "10197")),
        wire.delimited(6, b""),
        wire.delimited(7, wire.text(1, "subscribed")),
        wire.delimited(99, b"from the future"),
    ]
    payloads = [payload for other in others for payload in (tick(), other, tick())]
    decoder = Decoder(["sequence"])
    decoder.feed(framed(*payloads))
    assert (decoder.rows, decoder.messages) == (10, 15)


def test_buffers_of_any_kind() -> None:
    buffer = framed(tick(), tick())
    writable = np.frombuffer(bytearray(buffer), dtype=np.uint8)
    for data in (buffer, memoryview(buffer), np.frombuffer(buffer, np.uint8), writable):
        assert len(decode(data, ["price"])) == 2


def test_the_state_has_every_field() -> None:
    places = [value for name, value in vars(State).items() if name.isupper()]
    assert sorted(set(places)) == sorted(places)
    assert State.RECENT - State.STRINGS == State.SHAPE - State.RECENT == DICTIONARIES
    assert max(places) == STATE_SIZE - 1
