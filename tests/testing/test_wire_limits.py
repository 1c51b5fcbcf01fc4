"""Input that the protobuf runtime accepts: each line of the list in ``ibticks.testing.wire``.

The decoder is written to this list, so a runtime that changes its mind has to be noticed here.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.message import DecodeError

from ibticks.testing.wire import (
    MAX_DEPTH,
    MAX_FIELD_NUMBER,
    UINT64_MASK,
    WireType,
    delimited,
    double,
    fixed32,
    fixed64,
    group,
    integer,
    tag,
    text,
    varint,
)
from ibticks.tick_stream_pb2 import StreamMessage, TickData

if TYPE_CHECKING:
    from collections.abc import Callable

TICK, ERROR, COMPLETE, INFO = 4, 5, 6, 7
UNKNOWN = 100
KEY, VALUE = text(1, "k"), text(2, "v")
END = tag(UNKNOWN, WireType.END_GROUP)
START = tag(UNKNOWN, WireType.START_GROUP)
# The runtime reads the last bytes of a buffer another way than the rest.
AROUND = [(b"", b""), (delimited(901, b"y" * 64), delimited(900, b"x" * 64))]


def accepted(payload: bytes) -> bool:
    verdicts = set()
    for before, after in AROUND:
        try:
            StreamMessage.FromString(before + payload + after)
        except DecodeError:
            verdicts.add(False)
        else:
            verdicts.add(True)
    (verdict,) = verdicts
    return verdict


def parse(payload: bytes) -> StreamMessage:
    plain, padded = (StreamMessage.FromString(before + payload + after) for before, after in AROUND)
    padded.DiscardUnknownFields()
    known = StreamMessage.FromString(payload)
    known.DiscardUnknownFields()
    assert known.SerializeToString(deterministic=True) == padded.SerializeToString(
        deterministic=True
    )
    return plain


def in_tick(content: bytes) -> TickData:
    return parse(delimited(TICK, content)).tick_data


def nest(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = group(UNKNOWN, content)
    return content


PLACES = {
    "top": lambda content: content,
    "timestamp": lambda content: delimited(3, content),
    "tick": lambda content: delimited(TICK, content),
    "error": lambda content: delimited(ERROR, content),
    "complete": lambda content: delimited(COMPLETE, content),
    "info": lambda content: delimited(INFO, content),
    "contract": lambda content: delimited(INFO, delimited(2, content)),
    "metadata": lambda content: delimited(8, content),
    "details": lambda content: delimited(ERROR, delimited(4, content)),
    "group": lambda content: group(UNKNOWN, content),
}
LEVELS = {"top": 0, "contract": 2, "details": 2}
everywhere = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


# --- tags -----------------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("number", [9, UNKNOWN, 19_500])
def test_tags_have_one_to_five_bytes(place: Callable[..., Any], number: int) -> None:
    sizes = range(1, 12)
    taken = [size for size in sizes if accepted(place(integer(number, 5, tag_size=size)))]
    assert taken == [1, 2, 3, 4, 5]


@everywhere
def test_tags_have_at_most_32_bits(place: Callable[..., Any]) -> None:
    assert accepted(place(integer(MAX_FIELD_NUMBER, 5)))
    assert not accepted(place(integer(MAX_FIELD_NUMBER + 1, 5)))
    for fifth in (0x10, 0x20, 0x40, 0x7F):  # bits 32 to 34; the low ones spell field 1
        assert not accepted(place(bytes([0x88, 0x80, 0x80, 0x80, fifth, 5])))


def test_padded_tags_have_their_field_number() -> None:
    for size in range(1, 6):
        assert parse(text(1, "tick", tag_size=size)).type == "tick"
        assert in_tick(double(3, 1.5, tag_size=size)).price == 1.5
        assert in_tick(text(11, "c", tag_size=size)).conditions == ["c"]
        assert parse(delimited(8, KEY + VALUE, tag_size=size)).metadata == {"k": "v"}


@everywhere
def test_field_number_zero_is_refused_but_in_a_group(place: Callable[..., Any]) -> None:
    fields = [integer(0, 5), fixed64(0, 5), delimited(0, b"x"), fixed32(0, 5), group(0, b"")]
    for field in [*fields, integer(0, 5, tag_size=3)]:
        assert accepted(place(field)) == (place is PLACES["group"])


@everywhere
@pytest.mark.parametrize("number", [1, TICK, 8, UNKNOWN])
@pytest.mark.parametrize("kind", [6, 7])
def test_wire_types_six_and_seven_are_refused(
    place: Callable[..., Any], number: int, kind: int
) -> None:
    assert not accepted(place(tag(number, kind)))
    assert not accepted(place(tag(number, kind) + bytes(8)))


# --- lengths --------------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("number", [9, UNKNOWN])
def test_lengths_have_one_to_five_bytes(place: Callable[..., Any], number: int) -> None:
    sizes = range(1, 12)
    field = [delimited(number, b"abc", length_size=size) for size in sizes]
    assert [accepted(place(payload)) for payload in field] == [size <= 5 for size in sizes]


def test_padded_lengths_have_their_value() -> None:
    for size in range(1, 6):
        assert parse(text(1, "tick", length_size=size)).type == "tick"
        assert parse(delimited(3, integer(1, 7), length_size=size)).timestamp.seconds == 7
        entry = text(1, "k", length_size=size) + VALUE
        assert parse(delimited(8, entry, length_size=size)).metadata == {"k": "v"}


@everywhere
def test_large_lengths_are_not_cut_to_32_bits(place: Callable[..., Any]) -> None:
    for length in (5, 2**31 - 1, 2**31, 2**32, 2**32 + 4, 2**63, 2**64 + 4):
        payload = tag(UNKNOWN, WireType.DELIMITED) + varint(length) + b"abcd"
        with pytest.raises(DecodeError):
            StreamMessage.FromString(place(payload))
    for fifth in (0x10, 0x70):
        payload = tag(UNKNOWN, WireType.DELIMITED) + bytes([0x84, 0x80, 0x80, 0x80, fifth])
        assert not accepted(place(payload + b"abcd"))


@pytest.mark.parametrize(
    "field",
    [
        b"\x08" + b"\x05",
        b"\x08\x85" + b"\x01",
        b"\x19abcd" + b"efgh",
        b"\xa5\x06ab" + b"cd",
        b"\x12\x04ab" + b"cd",
        b"\x88" + b"\x01\x05",
        b"\xa2\x06\x04ab" + b"cd",
        START + END,
        START + b"\x08\x05" + END,
    ],
)
def test_nothing_may_cross_the_end_of_its_message(field: bytes) -> None:
    for number in (3, TICK, ERROR, INFO, 8):
        for cut in range(1, len(field)):
            payload = tag(number, WireType.DELIMITED) + varint(cut) + field
            assert not accepted(payload)


# --- values ---------------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("number", [9, UNKNOWN])
def test_varints_have_one_to_ten_bytes(place: Callable[..., Any], number: int) -> None:
    sizes = range(1, 13)
    fields = [integer(number, 5, value_size=size) for size in sizes]
    assert [accepted(place(payload)) for payload in fields] == [size <= 10 for size in sizes]


@pytest.mark.parametrize("size", range(1, 11))
def test_padded_varints_have_their_value(size: int) -> None:
    tick = in_tick(
        integer(1, 5, value_size=size)
        + integer(12, 5, value_size=size)
        + integer(13, 1, value_size=size)
        + integer(17, 5, value_size=size)
    )
    assert (tick.contract_id, tick.sequence, tick.past_limit, tick.exchange_time) == (5, 5, True, 5)
    stamp = parse(delimited(3, integer(1, 5, value_size=size) + integer(2, 6, value_size=size)))
    assert (stamp.timestamp.seconds, stamp.timestamp.nanos) == (5, 6)


@pytest.mark.parametrize("tenth", range(0x80))
def test_only_the_lowest_bit_of_a_tenth_byte_counts(tenth: int) -> None:
    value = bytes([0x85, *[0x80] * 8, tenth])
    top = (tenth & 1) << 63
    tick = in_tick(b"\x08" + value + tag(12, 0) + value + tag(17, 0) + value)
    assert (tick.contract_id, tick.sequence) == (5, top | 5)
    assert tick.exchange_time & UINT64_MASK == top | 5
    assert in_tick(tag(13, 0) + bytes([*[0x80] * 9, tenth])).past_limit is bool(tenth & 1)


@pytest.mark.parametrize("tenth", [0x80, 0x81, 0xFF])
def test_an_eleventh_byte_is_refused(tenth: int) -> None:
    for number in (1, 12, 13, 17, UNKNOWN):
        value = bytes([0x85, *[0x80] * 8, tenth, 0x00])
        assert not accepted(delimited(TICK, tag(number, 0) + value))


@pytest.mark.parametrize(
    "value", [0, 7, 2**31, 2**32 - 1, 2**32, 2**32 + 7, 2**33, 2**63, 2**64 - 1]
)
def test_integers_are_cut_to_their_field(value: int) -> None:
    tick = in_tick(integer(1, value) + integer(12, value) + integer(13, value) + integer(17, value))
    assert tick.contract_id == value % 2**32
    assert tick.sequence == value
    assert tick.past_limit is (value != 0)
    assert tick.exchange_time == (value ^ 2**63) - 2**63
    stamp = parse(delimited(3, integer(1, value) + integer(2, value))).timestamp
    assert stamp.seconds == (value ^ 2**63) - 2**63
    assert stamp.nanos == (value % 2**32 ^ 2**31) - 2**31


@pytest.mark.parametrize(
    "bits", [0, 1, 0x8000000000000000, 0x7FF0000000000001, 0x7FF8000000000123, UINT64_MASK]
)
def test_doubles_are_kept_bit_for_bit(bits: int) -> None:
    tick = in_tick(fixed64(3, bits))
    assert struct.pack("<d", tick.price) == struct.pack("<Q", bits)
    assert tick.HasField("price")


@everywhere
@pytest.mark.parametrize("kind", [WireType.FIXED32, WireType.FIXED64])
def test_fixed_values_need_all_their_bytes(place: Callable[..., Any], kind: WireType) -> None:
    whole = 4 if kind is WireType.FIXED32 else 8
    for size in range(whole):
        with pytest.raises(DecodeError):
            StreamMessage.FromString(place(tag(UNKNOWN, kind) + bytes(size)))
    assert accepted(place(tag(UNKNOWN, kind) + bytes(whole)))


# --- unknown fields -------------------------------------------------------------------------------

ANY_VALUE = {
    WireType.VARINT: lambda number: integer(number, 5),
    WireType.FIXED64: lambda number: fixed64(number, 5),
    WireType.DELIMITED: lambda number: delimited(number, b"\x08\x01"),
    WireType.START_GROUP: lambda number: group(number, integer(1, 1)),
    WireType.FIXED32: lambda number: fixed32(number, 5),
}


@pytest.mark.parametrize("kind", ANY_VALUE)
def test_another_wire_type_makes_a_field_unknown(kind: WireType) -> None:
    message = StreamMessage(type="t", stream_id="s", timestamp={"seconds": 1})
    message.tick_data.contract_id = 5
    message.tick_data.price = 1.0
    message.metadata["k"] = "v"
    known = message.SerializeToString(deterministic=True)
    for number in range(1, 9) if kind is not WireType.DELIMITED else ():
        again = parse(known + ANY_VALUE[kind](number))
        again.DiscardUnknownFields()
        assert again.SerializeToString(deterministic=True) == known
    for field in message.tick_data.DESCRIPTOR.fields:
        own = {9: WireType.DELIMITED, 1: WireType.FIXED64}.get(field.type, WireType.VARINT)
        if kind is not own:
            tick = in_tick(ANY_VALUE[kind](field.number))
            assert tick.ListFields() == []


def test_unknown_counted_bytes_are_not_looked_into() -> None:
    for number in (UNKNOWN, 9):
        assert accepted(delimited(number, b"\xff\x00\x07"))
    assert accepted(delimited(TICK, delimited(3, b"\xff")))


@everywhere
def test_groups_must_be_closed_by_their_own_number_in_their_own_message(
    place: Callable[..., Any],
) -> None:
    assert accepted(place(START + END))
    assert accepted(
        place(tag(UNKNOWN, WireType.START_GROUP, 5) + tag(UNKNOWN, WireType.END_GROUP, 4))
    )
    assert accepted(place(group(3, group(3, b"") + text(1, "x"))))
    other = tag(UNKNOWN + 1, WireType.END_GROUP)
    broken = [START + other, START + tag(101, 3) + END + other, START + b"\x0a\x7fab" + END]
    for content in [*broken, START, tag(2, WireType.END_GROUP), START + b"\x08" + END]:
        assert not accepted(place(content))


@pytest.mark.parametrize("name", [name for name in PLACES if name != "group"])
def test_a_hundred_messages_and_groups_may_be_open(name: Any) -> None:
    depth = MAX_DEPTH - LEVELS.get(name, 1)
    assert accepted(PLACES[name](nest(depth)))
    assert not accepted(PLACES[name](nest(depth + 1)))


def test_an_end_of_group_without_its_group_is_refused() -> None:
    for number in (1, TICK, 8, UNKNOWN):
        end = tag(number, WireType.END_GROUP)
        assert not accepted(end)
        assert not accepted(delimited(TICK, end))
        assert not accepted(delimited(8, end))
    assert not accepted(delimited(TICK, START) + END)


# --- strings --------------------------------------------------------------------------------------

STRINGS = {
    "type": lambda raw: delimited(1, raw),
    "stream_id": lambda raw: delimited(2, raw),
    "tick_type": lambda raw: delimited(TICK, delimited(2, raw)),
    "exchange": lambda raw: delimited(TICK, delimited(10, raw)),
    "conditions": lambda raw: delimited(TICK, delimited(11, raw)),
    "metadata key": lambda raw: delimited(8, delimited(1, raw) + VALUE),
    "metadata value": lambda raw: delimited(8, KEY + delimited(2, raw)),
    "details key": lambda raw: delimited(ERROR, delimited(4, delimited(1, raw))),
    "code": lambda raw: delimited(ERROR, delimited(1, raw)),
    "reason": lambda raw: delimited(COMPLETE, delimited(1, raw)),
    "status": lambda raw: delimited(INFO, delimited(1, raw)),
    "symbol": lambda raw: delimited(INFO, delimited(2, delimited(1, raw))),
    "replaced later": lambda raw: delimited(1, raw) + text(1, "tick"),
    "of a payload replaced later": lambda raw: (
        delimited(TICK, delimited(2, raw)) + delimited(ERROR, b"")
    ),
    "of an entry with unknown fields": lambda raw: delimited(8, delimited(1, raw) + integer(3, 1)),
}
TEXTS = [
    *(b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80"),
    *(b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xff"),
    *(b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xfe"),
    *(b"\xe2\x28\xa1", b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xed\x9f\xbf", b"\xee\x80\x80"),
    *(b"\xef\xbf\xbf", b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf"),
]


@pytest.mark.parametrize("place", STRINGS.values(), ids=STRINGS)
@pytest.mark.parametrize("raw", TEXTS, ids=bytes.hex)
def test_strings_are_utf8_as_in_python(place: Callable[..., bytes], raw: bytes) -> None:
    try:
        raw.decode()
    except UnicodeDecodeError:
        valid = False
    else:
        valid = True
    for before in (b"", b"a" * 7, b"a" * 8, b"a" * 33):
        for after in (b"", b"a" * 20):
            assert accepted(place(before + raw + after)) is valid
    assert accepted(delimited(UNKNOWN, raw))
    assert accepted(group(UNKNOWN, delimited(1, raw)))


# --- repeated fields ------------------------------------------------------------------------------


def test_the_last_value_counts_also_if_it_is_the_default() -> None:
    assert parse(text(1, "a") + text(1, "b")).type == "b"
    assert parse(text(1, "a") + text(1, "")).type == ""
    assert in_tick(integer(1, 5) + integer(1, 0)).contract_id == 0
    assert in_tick(integer(13, 1) + integer(13, 0)).past_limit is False
    assert in_tick(double(3, 1.0) + double(3, 0.0)).price == 0.0


def test_optional_fields_are_present_once_seen() -> None:
    fields = {"price": double(3, 0.0), "exchange": text(10, ""), "sequence": integer(12, 0)}
    fields |= {"past_limit": integer(13, 0), "exchange_time": integer(17, 0)}
    for name, field in fields.items():
        assert in_tick(field).HasField(name)
        assert not in_tick(b"").HasField(name)


def test_timestamps_are_merged() -> None:
    stamp = parse(delimited(3, integer(1, 5) + integer(2, 7)) + delimited(3, integer(2, 9)))
    assert (stamp.timestamp.seconds, stamp.timestamp.nanos) == (5, 9)
    assert parse(delimited(3, b"")).HasField("timestamp")
    assert not parse(integer(3, 5)).HasField("timestamp")


def test_a_tick_in_parts_is_merged() -> None:
    first = delimited(TICK, integer(1, 5) + double(3, 1.0) + text(11, "a"))
    second = delimited(TICK, text(2, "last") + double(3, 2.0) + text(11, "b"))
    tick = parse(first + delimited(3, b"") + second + delimited(TICK, b"")).tick_data
    assert (tick.contract_id, tick.tick_type, tick.price) == (5, "last", 2.0)
    assert tick.conditions == ["a", "b"]


def test_another_member_of_the_oneof_drops_the_one_before() -> None:
    tick = delimited(TICK, integer(1, 5) + text(11, "a"))
    error = delimited(ERROR, text(1, "1") + delimited(4, KEY + VALUE))
    for empty in (ERROR, COMPLETE, INFO):
        message = parse(tick + delimited(empty, b""))
        assert message.WhichOneof("message_data") != "tick_data"
        back = parse(tick + delimited(empty, b"") + delimited(TICK, text(2, "last"))).tick_data
        assert (back.contract_id, back.tick_type, list(back.conditions)) == (0, "last", [])
    assert parse(error + delimited(ERROR, text(2, "m"))).error_data.details == {"k": "v"}
    assert parse(tick + integer(ERROR, 1) + group(ERROR, b"")).tick_data.contract_id == 5
    assert not accepted(delimited(TICK, b"\x0f") + error)


def test_parts_of_an_info_are_merged() -> None:
    first = delimited(INFO, delimited(2, text(1, "IBM")))
    second = delimited(INFO, delimited(2, text(3, "USD")))
    contract = parse(first + second).info_data.contract_info
    assert (contract.symbol, contract.currency) == ("IBM", "USD")


# --- maps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "metadata"),
    [
        (KEY + VALUE, {"k": "v"}),
        (VALUE + KEY, {"k": "v"}),
        (KEY, {"k": ""}),
        (VALUE, {"": "v"}),
        (b"", {"": ""}),
        (text(1, "a") + KEY + VALUE, {"k": "v"}),
        (KEY + text(2, "a") + VALUE, {"k": "v"}),
        (KEY + VALUE + integer(3, 1), {}),
        (integer(3, 1) + KEY + VALUE, {}),
        (KEY + VALUE + group(3, b""), {}),
        (KEY + VALUE + text(9, "z"), {}),
        (KEY + integer(1, 5) + VALUE, {}),
        (KEY + integer(2, 5), {}),
        (integer(1, 5) + VALUE, {}),
    ],
)
def test_map_entries(entry: bytes, metadata: dict[str, str]) -> None:
    assert parse(delimited(8, entry)).metadata == metadata
    assert parse(delimited(ERROR, delimited(4, entry))).error_data.details == metadata


def test_the_last_entry_of_a_key_counts_unless_it_has_unknown_fields() -> None:
    first, second = delimited(8, KEY + VALUE), delimited(8, KEY + text(2, "w"))
    assert parse(first + second).metadata == {"k": "w"}
    assert parse(first + delimited(8, KEY + text(2, "w") + integer(3, 1))).metadata == {"k": "v"}
    assert parse(integer(8, 1) + group(8, KEY + VALUE)).metadata == {}


# --- the whole ------------------------------------------------------------------------------------


def test_an_empty_payload_is_a_message() -> None:
    message = parse(b"")
    assert not message.HasField("timestamp")
    assert message.WhichOneof("message_data") is None


def test_a_message_may_only_end_between_two_top_level_fields() -> None:
    fields = [text(1, "tick"), delimited(3, integer(1, 2**33)), delimited(8, KEY + VALUE)]
    fields.append(delimited(TICK, integer(1, 300) + double(3, 1.5) + text(11, "x")))
    whole = b"".join(fields)
    ends = {sum(map(len, fields[:count])) for count in range(len(fields) + 1)}
    for size in range(len(whole) + 1):
        if size in ends:
            StreamMessage.FromString(whole[:size])
        else:
            with pytest.raises(DecodeError):
                StreamMessage.FromString(whole[:size])


def test_type_and_payload_need_not_agree() -> None:
    message = parse(text(1, "info") + delimited(TICK, integer(1, 5)))
    assert (message.type, message.tick_data.contract_id) == ("info", 5)
