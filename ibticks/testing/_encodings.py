"""Hypothesis strategies for protobuf messages, and for valid and damaged encodings."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from ibticks.testing import wire
from ibticks.testing._v2 import INT64, UINT32, UINT64, WORDS, json_values
from ibticks.testing.wire import WireType
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["malformed_messages", "stream_messages", "wire_messages"]

_WIRE_TYPES: Final = {
    FieldDescriptor.TYPE_STRING: WireType.DELIMITED,
    FieldDescriptor.TYPE_MESSAGE: WireType.DELIMITED,
    FieldDescriptor.TYPE_DOUBLE: WireType.FIXED64,
    FieldDescriptor.TYPE_BOOL: WireType.VARINT,
    FieldDescriptor.TYPE_INT32: WireType.VARINT,
    FieldDescriptor.TYPE_INT64: WireType.VARINT,
    FieldDescriptor.TYPE_UINT32: WireType.VARINT,
    FieldDescriptor.TYPE_UINT64: WireType.VARINT,
}
# Mostly the shortest form; shrinking goes there too.
_TAG_SIZES: Final = st.sampled_from([0, 0, 0, 0, *range(1, wire.MAX_TAG_BYTES + 1)])
_LENGTH_SIZES: Final = st.sampled_from([0, 0, 0, 0, *range(1, wire.MAX_LENGTH_BYTES + 1)])
_VALUE_SIZES: Final = st.sampled_from([0, 0, 0, 0, *range(1, wire.MAX_VARINT_BYTES + 1)])
# Seventy bits fill ten bytes; of the tenth a reader keeps one bit.
_VALUES: Final = st.one_of(
    st.integers(0, 300),
    st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33, 2**63, 2**64 - 1, 2**65]),
    st.integers(0, 2**70 - 1),
)
_NUMBERS: Final = [*range(1, 41), 2047, 2048, 19_500, 2**28, wire.MAX_FIELD_NUMBER]
_STRINGS: Final = st.one_of(
    st.sampled_from(["", "tick", "bid_ask", "last", "error", "é", "\U0001f600", "\x00"]),
    st.text(max_size=20),
).map(str.encode)
_POSITIONS: Final = st.integers(0, 2**16)
_FIXED32: Final = st.binary(min_size=4, max_size=4)

_SCALARS: Final[dict[int, SearchStrategy[Any]]] = {
    FieldDescriptor.TYPE_STRING: WORDS,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_UINT32: UINT32,
    FieldDescriptor.TYPE_UINT64: UINT64,
    FieldDescriptor.TYPE_INT64: INT64,
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
}


def stream_messages(*, regular: bool = False) -> SearchStrategy[StreamMessage]:
    """Protobuf messages with any combination of fields, each at any value it can hold.

    Parameters
    ----------
    regular : bool, default False
        Only messages v2 JSON has: with a timestamp between the years 1 and 9999, and with the
        payload their type names. Otherwise any type stands with any payload or none, the timestamp
        may be absent, and its seconds and nanoseconds are any int64 and int32.

    Returns
    -------
    SearchStrategy of StreamMessage
        Most are ticks. Doubles may be NaN.
    """
    payloads = ["tick_data", "tick_data", "tick_data", "error_data", "complete_data", "info_data"]
    fields = StreamMessage.DESCRIPTOR.fields_by_name
    seconds = st.integers(-62_135_596_800, 253_402_300_799)
    stamps = st.fixed_dictionaries({"seconds": seconds, "nanos": st.integers(0, 999_999_999)})

    def with_payload(name: str | None) -> SearchStrategy[StreamMessage]:
        kind = name.removesuffix("_data") if name else ""
        always: dict[str, SearchStrategy[Any]] = {"stream_id": WORDS}
        optional = {"metadata": _value(fields["metadata"])}
        if name:
            always[name] = _value(fields[name])
        if regular:
            always |= {"type": st.just(kind), "timestamp": stamps}
        else:
            always["type"] = st.one_of(st.just(kind), st.just("tick"), WORDS)
            optional["timestamp"] = st.one_of(stamps, _value(fields["timestamp"]))
        drawn = st.fixed_dictionaries(always, optional=optional)
        return drawn.map(lambda values: _build(StreamMessage(), values))

    return st.sampled_from(payloads if regular else [*payloads, None]).flatmap(with_payload)


_Built = TypeVar("_Built", bound=Message)


def _build(message: _Built, values: dict[str, Any]) -> _Built:
    """Set fields from plain values; an empty dictionary makes a message present and empty."""
    for name, value in values.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if isinstance(value, list):
            getattr(message, name).extend(value)
        elif field.is_repeated:
            getattr(message, name).update(value)
        elif isinstance(value, dict):
            part = getattr(message, name)
            part.SetInParent()
            _build(part, value)
        else:
            setattr(message, name, value)
    return message


@functools.cache
def _value(field: FieldDescriptor) -> SearchStrategy[Any]:
    """Values of a field as :func:`_build` takes them: dictionaries for messages and maps."""
    if field.message_type is None:
        scalar = _SCALARS[field.type]
        return st.lists(scalar, max_size=4) if field.is_repeated else scalar
    if field.is_repeated:
        texts = st.one_of(WORDS, json_values().map(json.dumps))
        return st.dictionaries(WORDS, texts, max_size=3)
    parts = {part.name: _value(part) for part in field.message_type.fields}
    return st.fixed_dictionaries({}, optional=parts)


_VARINTS: Final = st.builds(wire.varint, _VALUES, _VALUE_SIZES)
_FIXED64: Final = st.one_of(
    st.binary(min_size=8, max_size=8), st.floats().map(lambda value: wire.double(1, value)[1:])
)


# --- valid encodings ------------------------------------------------------------------------------


def wire_messages() -> SearchStrategy[bytes]:
    """Encodings of a ``StreamMessage`` that the protobuf runtime accepts.

    Fields in any order and any number of times (a scalar counts once, a message in parts is
    merged, a member of the oneof drops the one before), unknown fields of every wire type and at
    every level, groups in groups, known fields with another wire type, padded tags, lengths and
    values, integers that overflow their field, map entries without key or value, with both twice,
    or with unknown fields.

    Returns
    -------
    SearchStrategy of bytes

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(wire_messages())
    ... def accepted(payload):
    ...     StreamMessage.FromString(payload)
    >>> accepted()
    """
    plain = stream_messages().map(lambda message: message.SerializeToString(deterministic=True))
    strange = _strange_fields(StreamMessage.DESCRIPTOR)
    marked = st.tuples(strange, plain, strange).map(b"".join)
    return _weighted((1, plain), (1, marked), (4, _body(StreamMessage.DESCRIPTOR)))


@functools.cache
def _body(message: Descriptor) -> SearchStrategy[bytes]:
    """The content of a message: fields of its own, mostly, and others."""
    # Ticks are what most readers are for; and an entry with a stranger in it never enters its map.
    often = message.GetOptions().map_entry
    fields = _weighted(
        *(
            (5 if often or field.name == "tick_data" else 1, _own_field(field))
            for field in message.fields
        ),
        (1, st.sampled_from(list(message.fields)).flatmap(_disguised_field)),
        (1, _strange_fields(message)),
    )
    return st.lists(fields, max_size=10).map(b"".join)


@functools.cache
def _own_field(field: FieldDescriptor) -> SearchStrategy[bytes]:
    """A field with its own wire type."""
    number = st.just(field.number)
    if field.message_type is not None:
        return _delimited(number, _body(field.message_type))
    if field.type == FieldDescriptor.TYPE_STRING:
        return _delimited(number, _STRINGS)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _after_tag(number, WireType.FIXED64, _FIXED64)
    return _after_tag(number, WireType.VARINT, _VARINTS)


@functools.cache
def _disguised_field(field: FieldDescriptor) -> SearchStrategy[bytes]:
    """The number of a field, and another wire type: to a reader, an unknown field."""
    return _fields(st.just(field.number), but=_WIRE_TYPES[field.type])


@functools.cache
def _strange_fields(message: Descriptor) -> SearchStrategy[bytes]:
    """Fields whose number the message does not have."""
    return _fields(_strange_numbers(message))


def _strange_numbers(message: Descriptor) -> SearchStrategy[int]:
    return st.sampled_from([n for n in _NUMBERS if n not in message.fields_by_number])


def _fields(numbers: SearchStrategy[int], but: WireType | None = None) -> SearchStrategy[bytes]:
    """Fields of any wire type but one, whose content is well formed and means nothing."""
    kinds = {
        WireType.VARINT: _after_tag(numbers, WireType.VARINT, _VARINTS),
        WireType.FIXED64: _after_tag(numbers, WireType.FIXED64, _FIXED64),
        WireType.FIXED32: _after_tag(numbers, WireType.FIXED32, _FIXED32),
        WireType.DELIMITED: _delimited(numbers, st.binary(max_size=20)),
        WireType.START_GROUP: _groups(numbers, _group_content()),
    }
    return st.one_of(*(fields for kind, fields in kinds.items() if kind != but))


@functools.cache
def _group_content() -> SearchStrategy[bytes]:
    """Draw the contents of an unknown group: any fields, also those of number 0."""
    numbers = st.sampled_from([*_NUMBERS, 0])
    plain = st.one_of(
        st.just(b""),
        _after_tag(numbers, WireType.VARINT, _VARINTS),
        _after_tag(numbers, WireType.FIXED64, _FIXED64),
        _after_tag(numbers, WireType.FIXED32, _FIXED32),
        _delimited(numbers, st.binary(max_size=20)),
    )
    nested = st.recursive(
        plain,
        lambda inner: _groups(numbers, st.lists(inner, max_size=3).map(b"".join)),
        max_leaves=6,
    )
    return st.one_of(nested, st.integers(0, 80).map(_nest))


def _nest(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = wire.group(1, content)
    return content


def _weighted(*choices: tuple[int, SearchStrategy[bytes]]) -> SearchStrategy[bytes]:
    """One of the strategies, each as often as it weighs (``one_of`` would count each once)."""
    strategies = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.sampled_from(range(len(strategies))).flatmap(lambda chosen: strategies[chosen])


def _after_tag(
    numbers: SearchStrategy[int], kind: WireType, values: SearchStrategy[bytes]
) -> SearchStrategy[bytes]:
    return st.builds(
        lambda number, size, value: wire.tag(number, kind, size) + value,
        numbers,
        _TAG_SIZES,
        values,
    )


def _delimited(
    numbers: SearchStrategy[int], payloads: SearchStrategy[bytes]
) -> SearchStrategy[bytes]:
    return st.builds(
        wire.delimited, numbers, payloads, tag_size=_TAG_SIZES, length_size=_LENGTH_SIZES
    )


def _groups(numbers: SearchStrategy[int], contents: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    return st.builds(wire.group, numbers, contents, tag_size=_TAG_SIZES, end_size=_TAG_SIZES)


# --- damaged encodings ----------------------------------------------------------------------------


def malformed_messages() -> SearchStrategy[bytes]:
    """Encodings of a ``StreamMessage`` damaged on purpose; the runtime refuses most of them.

    Encodings cut off anywhere, with bits flipped, bytes lost, added and replaced; and, at any
    level, what the format forbids: tags, lengths and varints of too many bytes or too large, a
    length past the end, field number 0, wire types 6 and 7, groups that are not opened, not closed
    or nested too deep, strings that are not UTF-8.

    Returns
    -------
    SearchStrategy of bytes
        Some are still valid (a flipped bit of a price): compare with the runtime, do not expect
        an error.
    """
    return st.one_of(_cut(), _scratched(), _forbidden())


def _cut() -> SearchStrategy[bytes]:
    """An encoding without its end."""
    return st.builds(
        lambda payload, lost: payload[: -1 - lost % len(payload)], _whole(), _POSITIONS
    )


def _scratched() -> SearchStrategy[bytes]:
    """An encoding with a few bytes changed, lost or added."""
    edits = st.tuples(
        _POSITIONS,
        st.sampled_from(["flip", "replace", "insert", "delete"]),
        st.one_of(st.sampled_from([0x00, 0x01, 0x7F, 0x80, 0xFF]), st.integers(0, 255)),
    )
    return st.builds(_edit, _whole(), st.lists(edits, min_size=1, max_size=4))


def _whole() -> SearchStrategy[bytes]:
    return wire_messages().filter(bool)


def _edit(payload: bytes, edits: list[tuple[int, str, int]]) -> bytes:
    edited = bytearray(payload)
    for position, action, byte in edits:
        place = position % (len(edited) + 1)
        if action == "insert":
            edited.insert(place, byte)
        elif place < len(edited):
            if action == "delete":
                del edited[place]
            else:
                edited[place] = byte if action == "replace" else edited[place] ^ 1 << byte % 8
    return bytes(edited)


def _forbidden() -> SearchStrategy[bytes]:
    """An encoding with something in it that the format forbids, at any level."""
    message = StreamMessage.DESCRIPTOR
    parts = [message] + [field.message_type for field in message.fields if field.message_type]
    return st.sampled_from(range(len(parts))).flatmap(lambda chosen: _forbidden_in(parts[chosen]))


@functools.cache
def _forbidden_in(part: Descriptor) -> SearchStrategy[bytes]:
    # What follows matters: an offence may reach into it.
    after = st.sampled_from([b"", wire.integer(19, 5), wire.delimited(20, bytes(40))])
    content = st.tuples(_body(part), _offences(part), after).map(b"".join)
    for field in StreamMessage.DESCRIPTOR.fields:
        if field.message_type is part:
            content = _delimited(st.just(field.number), content)
    return st.tuples(wire_messages(), content, after).map(b"".join)


@functools.cache
def _offences(part: Descriptor) -> SearchStrategy[bytes]:
    own = st.sampled_from([field.number for field in part.fields])
    numbers = st.one_of(own, st.sampled_from(_NUMBERS))
    kinds = st.sampled_from([*WireType])
    strings = [field.number for field in part.fields if field.type == FieldDescriptor.TYPE_STRING]
    offences = [
        # A tag of more than five bytes, or of more than 32 bits.
        st.builds(wire.integer, numbers, _VALUES, tag_size=st.integers(6, 11)),
        st.builds(wire.tag, st.integers(2**29, 2**35), kinds),
        # A length of more than five bytes, of more than 31 bits, or past the end.
        st.builds(wire.delimited, numbers, _STRINGS, length_size=st.integers(6, 11)),
        st.builds(
            lambda number, length, payload: (
                wire.tag(number, WireType.DELIMITED) + wire.varint(length) + payload
            ),
            numbers,
            st.one_of(st.integers(1, 300), st.sampled_from([2**31 - 1, 2**31, 2**32, 2**64])),
            _STRINGS,
        ),
        # A varint of more than ten bytes.
        st.builds(wire.integer, numbers, _VALUES, value_size=st.integers(11, 14)),
        # Field number 0, wire types 6 and 7, a group closed but not opened.
        st.builds(wire.tag, st.just(0), st.integers(0, 7), _TAG_SIZES),
        st.builds(wire.tag, numbers, st.sampled_from([6, 7, WireType.END_GROUP]), _TAG_SIZES),
        # A group opened and not closed, closed by another number, or nested too deep.
        st.builds(wire.tag, numbers, st.just(WireType.START_GROUP)),
        st.builds(
            lambda number: wire.tag(number, WireType.START_GROUP) + wire.tag(number + 1, 4), numbers
        ),
        st.integers(wire.MAX_DEPTH - 3, wire.MAX_DEPTH + 20).map(_nest),
        # A fixed value cut off by the end of its message.
        st.builds(
            lambda number, kind, value: wire.tag(number, kind) + value,
            numbers,
            st.sampled_from([WireType.FIXED32, WireType.FIXED64]),
            st.binary(max_size=7),
        ),
    ]
    if strings:
        bad = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"ab\x80"]
        offences.append(st.builds(wire.delimited, st.sampled_from(strings), st.sampled_from(bad)))
    return st.one_of(*offences)
