"""v2 JSON messages to protobuf and back, losing nothing.

A v2 message is a dictionary with the keys ``type`` (``tick``, ``error``, ``complete`` or
``info``), ``stream_id``, ``timestamp``, ``data`` and, if it has any, ``metadata``. The keys of
``data`` are the field names of the payload in ``proto/tick_stream.proto``, which is the only list
of them: what the schema calls ``optional``, lists and maps may be left out, everything else must
be there.

What is the same after a round trip
    Everything, up to four spellings of one meaning: an empty list or map is an absent one, an
    integer price is the float of that value, the map's keys come back sorted, and a timestamp comes
    back in UTC with six digits (nine when it needs them).

Numbers
    Prices and sizes are doubles, so NaN and the infinities pass, as in Python's :mod:`json`.
    An integer no double can hold exactly is refused, as is any number outside its field's range.

Metadata and details
    The schema has strings there, v2 JSON any value: see :mod:`ibticks.format`.

Messages of other writers
    :func:`from_protobuf` tells what is there even where :func:`to_protobuf` would not write it:
    an unset payload or timestamp is a missing key, and a payload that is not the one ``type`` names
    is in ``data`` under its own keys (``contract_id`` only ticks have, ``code`` only errors,
    ``reason`` only completions, ``status`` only infos). Protobuf fields this schema does not know
    have no name in v2 JSON and are left out; so is a map entry that carries one.
"""

from __future__ import annotations

import functools
import re
import reprlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from ibticks.config import NANOSECONDS
from ibticks.errors import FormatError, NaiveDatetimeError, ProtocolError
from ibticks.format._json_text import from_text, is_utf8, to_text
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

__all__ = [
    "decode_message",
    "encode_message",
    "format_timestamp",
    "from_protobuf",
    "to_protobuf",
]

_PAYLOADS: Final = {
    "tick": "tick_data",
    "error": "error_data",
    "complete": "complete_data",
    "info": "info_data",
}
_KEYS: Final = ("type", "stream_id", "timestamp", "data", "metadata")
_OPTIONAL_KEYS: Final = frozenset({"metadata"})

_INTEGERS: Final = {
    FieldDescriptor.TYPE_UINT32: ("uint32", 0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: ("uint64", 0, 2**64 - 1),
    FieldDescriptor.TYPE_INT64: ("int64", -(2**63), 2**63 - 1),
}

_RFC3339: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[Tt ](?P<time>(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)"
    r"(?:\.(?P<fraction>\d{1,9}))?(?P<offset>[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)?",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND: Final = -62_135_596_800  # 0001-01-01T00:00:00Z
_LAST_SECOND: Final = 253_402_300_799  # 9999-12-31T23:59:59Z


def to_protobuf(message: Mapping[str, Any]) -> StreamMessage:
    """A v2 JSON message as protobuf.

    Parameters
    ----------
    message : Mapping
        ``type``, ``stream_id``, ``timestamp`` (RFC 3339 with an offset, up to nine fraction
        digits), ``data`` and optionally ``metadata``.

    Returns
    -------
    StreamMessage

    Raises
    ------
    ProtocolError
        A key is missing, unknown, of the wrong type or out of range; ``context["key"]`` is its
        path, such as ``data.price``.
    NaiveDatetimeError
        The timestamp has no offset.

    Examples
    --------
    >>> tick = to_protobuf(
    ...     {
    ...         "type": "tick",
    ...         "stream_id": "265598_last",
    ...         "timestamp": "2025-01-10T14:30:00.123456Z",
    ...         "data": {"contract_id": 265598, "tick_type": "last", "price": 236.5, "size": 100},
    ...         "metadata": {"historical": True},
    ...     }
    ... )
    >>> tick.tick_data.price, tick.timestamp.nanos, tick.metadata["historical"]
    (236.5, 123456000, 'true')
    """
    _check_mapping(message, "the message")
    _check_keys(message, _KEYS, _OPTIONAL_KEYS, "")
    kind = message["type"]
    if not isinstance(kind, str) or kind not in _PAYLOADS:
        raise _wrong("type", f"one of {', '.join(_PAYLOADS)}", kind)
    result = StreamMessage(type=kind, stream_id=_string(message["stream_id"], "stream_id"))
    _parse_timestamp(message["timestamp"], result.timestamp)
    payload = getattr(result, _PAYLOADS[kind])
    payload.SetInParent()
    _fill(payload, message["data"], "data")
    if "metadata" in message:
        _fill_map(result.metadata, message["metadata"], "metadata")
    return result


def from_protobuf(message: StreamMessage) -> dict[str, Any]:
    """A protobuf message as v2 JSON.

    Parameters
    ----------
    message : StreamMessage

    Returns
    -------
    dict
        ``type``, ``stream_id``, ``timestamp``, ``data`` and ``metadata`` in this order; the last
        three only where present. ``timestamp`` is UTC, ending in ``Z``.

    Raises
    ------
    FormatError
        The timestamp is no time between the years 1 and 9999, or its nanoseconds are not in
        ``[0, 10**9)``: RFC 3339 cannot write it.

    Examples
    --------
    >>> from_protobuf(StreamMessage(type="info", info_data={"status": "subscribed"}))
    {'type': 'info', 'stream_id': '', 'data': {'status': 'subscribed'}}
    """
    result: dict[str, Any] = {"type": message.type, "stream_id": message.stream_id}
    if message.HasField("timestamp"):
        result["timestamp"] = _format_timestamp(message.timestamp)
    payload = message.WhichOneof("message_data")
    if payload is not None:
        result["data"] = _read(getattr(message, payload))
    if message.metadata:
        result["metadata"] = _read_map(message.metadata)
    return result


def encode_message(message: Mapping[str, Any]) -> bytes:
    """A v2 JSON message as the bytes of a frame, without the length before them.

    The same message always gives the same bytes. Raises as :func:`to_protobuf` does.

    Examples
    --------
    >>> info = {"type": "info", "stream_id": "s", "timestamp": "1970-01-01T00:00:01Z"}
    >>> encode_message({**info, "data": {"status": "ok"}}).hex(" ")
    '0a 04 69 6e 66 6f 12 01 73 1a 02 08 01 3a 04 0a 02 6f 6b'
    """
    return to_protobuf(message).SerializeToString(deterministic=True)


def decode_message(payload: bytes | bytearray | memoryview) -> dict[str, Any]:
    """The bytes of a frame, without the length before them, as a v2 JSON message.

    Raises
    ------
    FormatError
        The bytes are not a StreamMessage, or as :func:`from_protobuf` says.

    Examples
    --------
    >>> decode_message(bytes.fromhex("0a04696e666f 120173 1a020801 3a040a026f6b"))["data"]
    {'status': 'ok'}
    """
    try:
        message = StreamMessage.FromString(bytes(payload))
    except DecodeError as error:
        raise FormatError(f"{len(payload)} bytes that are not a StreamMessage: {error}") from error
    return from_protobuf(message)


# --- payloads -------------------------------------------------------------------------------------


class _Spec(NamedTuple):
    """One key of a payload, as the schema has it."""

    name: str
    type: int
    repeated: bool
    is_map: bool
    presence: bool


def format_timestamp(time_ns: int) -> str:
    """Format a time in UTC nanoseconds as v2 messages have it.

    Examples
    --------
    >>> format_timestamp(1_381_239_000_065_000_001)
    '2013-10-08T13:30:00.065000001Z'
    """
    stamp = datetime.fromtimestamp(time_ns // NANOSECONDS, UTC)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{time_ns % NANOSECONDS:09d}Z"


@functools.cache
def _specs(descriptor: Descriptor) -> dict[str, _Spec]:
    return {
        field.name: _Spec(
            name=field.name,
            type=field.type,
            repeated=field.is_repeated,
            is_map=field.message_type is not None and field.message_type.GetOptions().map_entry,
            presence=field.has_presence,
        )
        for field in descriptor.fields
    }


@functools.cache
def _optional(descriptor: Descriptor) -> frozenset[str]:
    return frozenset(
        spec.name for spec in _specs(descriptor).values() if spec.presence or spec.repeated
    )


def _fill(payload: Message, data: Any, where: str) -> None:
    """Set the fields of ``payload`` from the dictionary at ``where``."""
    specs = _specs(payload.DESCRIPTOR)
    _check_mapping(data, where)
    _check_keys(data, specs, _optional(payload.DESCRIPTOR), f"{where}.")
    for name, value in data.items():
        spec, key = specs[name], f"{where}.{name}"
        if spec.is_map:
            _fill_map(getattr(payload, name), value, key)
        elif spec.repeated:
            if not isinstance(value, list):
                raise _wrong(key, "a list of strings", value)
            strings = [_string(item, f"{key}[{i}]") for i, item in enumerate(value)]
            getattr(payload, name).extend(strings)
        elif spec.type == FieldDescriptor.TYPE_MESSAGE:
            part = getattr(payload, name)
            part.SetInParent()
            _fill(part, value, key)
        else:
            setattr(payload, name, _scalar(value, spec.type, key))


def _read(payload: Message) -> dict[str, Any]:
    """The fields of ``payload`` that are there, in the order of the schema."""
    data: dict[str, Any] = {}
    for name, spec in _specs(payload.DESCRIPTOR).items():
        if spec.presence and not payload.HasField(name):
            continue
        value = getattr(payload, name)
        if spec.is_map:
            if value:
                data[name] = _read_map(value)
        elif spec.repeated:
            if value:
                data[name] = list(value)
        elif spec.type == FieldDescriptor.TYPE_MESSAGE:
            data[name] = _read(value)
        else:
            data[name] = value
    return data


def _scalar(value: Any, kind: int, key: str) -> Any:
    if kind == FieldDescriptor.TYPE_STRING:
        return _string(value, key)
    if kind == FieldDescriptor.TYPE_BOOL:
        if not isinstance(value, bool):
            raise _wrong(key, "true or false", value)
        return value
    if kind == FieldDescriptor.TYPE_DOUBLE:
        return _double(value, key)
    name, low, high = _INTEGERS[kind]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _wrong(key, f"an integer from {low} to {high} ({name})", value)
    return value


def _double(value: Any, key: str) -> float:
    if isinstance(value, float):
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(key, "a number", value)
    try:
        exact = float(value)
    except OverflowError:
        exact = float("inf")
    if exact != value:
        raise _wrong(key, "a number that a double holds exactly", value)
    return exact


def _string(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise _wrong(key, "a string", value)
    if not is_utf8(value):
        raise _wrong(key, "a string without lone surrogates (UTF-8 has none)", value)
    return value


# --- maps of any JSON value, held as strings ------------------------------------------------------


def _fill_map(target: Any, values: Any, where: str) -> None:
    _check_mapping(values, where)
    for key, value in values.items():
        target[_string(key, f"{where} key")] = to_text(value, f"{where}.{key}")


def _read_map(texts: Mapping[str, str]) -> dict[str, Any]:
    return {key: from_text(texts[key]) for key in sorted(texts)}


# --- timestamps -----------------------------------------------------------------------------------


def _parse_timestamp(value: Any, target: Timestamp) -> None:
    expected = "an RFC 3339 time with an offset, like 2025-01-10T14:30:00.123456Z"
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _wrong("timestamp", expected, value)
    if match["offset"] is None:
        raise NaiveDatetimeError(
            f"timestamp: {value!r} has no time zone: add Z for UTC, or an offset like -05:00",
            key="timestamp",
        )
    try:
        moment = datetime.fromisoformat(f"{match['date']}T{match['time']}{match['offset'].upper()}")
    except ValueError as error:
        raise ProtocolError(
            f"timestamp: expected {expected}, got {value!r}: {error}", key="timestamp"
        ) from error
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise _wrong("timestamp", "a time between the years 1 and 9999 in UTC", value)
    target.SetInParent()
    target.seconds = seconds
    target.nanos = int((match["fraction"] or "").ljust(9, "0"))


def _format_timestamp(stamp: Timestamp) -> str:
    seconds, nanos = stamp.seconds, stamp.nanos
    if not (_FIRST_SECOND <= seconds <= _LAST_SECOND and 0 <= nanos < 1_000_000_000):
        raise FormatError(
            f"timestamp of {seconds} seconds and {nanos} nanoseconds: no time between the years 1 "
            "and 9999 (nanoseconds from 0 to 999999999)",
            key="timestamp",
        )
    moment = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None)
    fraction = f"{nanos:09d}" if nanos % 1_000 else f"{nanos // 1_000:06d}"
    return f"{moment.isoformat(timespec='seconds')}.{fraction}Z"


# --- refusals -------------------------------------------------------------------------------------


def _check_mapping(value: Any, where: str) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(where, "an object (a dictionary)", value)


def _check_keys(
    value: Mapping[str, Any],
    known: Mapping[str, Any] | tuple[str, ...],
    optional: frozenset[str],
    prefix: str,
) -> None:
    for name in value:
        if name not in known:
            raise ProtocolError(
                f"{prefix}{name}: unknown key; the keys here are {', '.join(known)} "
                "(metadata takes what has no key of its own)",
                key=f"{prefix}{name}",
            )
    for name in known:
        if name not in value and name not in optional:
            raise ProtocolError(f"{prefix}{name}: missing", key=f"{prefix}{name}")


def _wrong(key: str, expected: str, value: Any) -> ProtocolError:
    kind = type(value).__name__
    return ProtocolError(f"{key}: expected {expected}, got {reprlib.repr(value)} ({kind})", key=key)
