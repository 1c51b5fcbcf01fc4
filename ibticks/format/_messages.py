"""v2 messages: JSON text, dictionaries and protobuf, converted into each other without loss."""

from __future__ import annotations

import functools
import json
import re
import reprlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from ibticks.config import NANOSECONDS
from ibticks.errors import FormatError, NaiveDatetimeError, ProtocolError
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

__all__ = [
    "MAX_DEPTH",
    "decode_message",
    "encode_message",
    "format_timestamp",
    "from_protobuf",
    "from_text",
    "is_utf8",
    "to_protobuf",
    "to_text",
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

MAX_DEPTH: Final = 64
"""Deepest nesting of a value; a fixed bound, so that the meaning of a text does not depend on how
deep the interpreter can recurse."""


def to_text(value: Any, key: str) -> str:
    """The text that :func:`from_text` reads as ``value``.

    Parameters
    ----------
    value : None, bool, int, float, str, list or dict
        NaN and the infinities are taken, as :func:`json.dumps` takes them.
    key : str
        Where the value stands, for the error.

    Raises
    ------
    ProtocolError
        JSON has no such value (a tuple, a key that is not a string, an object of another class), it
        is nested deeper than 64 levels, or an integer in it has more digits than Python prints.

    Examples
    --------
    >>> [to_text(value, "metadata.k") for value in (True, 1.5, "last", "5", [None])]
    ['true', '1.5', 'last', '"5"', '[null]']
    """
    if isinstance(value, str):
        return json.dumps(value) if _needs_quotes(value) else value
    _check(value, key, MAX_DEPTH)
    try:
        return json.dumps(value)
    except ValueError as error:
        raise ProtocolError(f"{key}: {error}", key=key) from error


def from_text(text: str) -> Any:
    """The value of a text: what it says as canonical JSON, or else the text itself.

    Examples
    --------
    >>> [from_text(text) for text in ("true", "1.5", "last", '"5"', "1e5", " 5")]
    [True, 1.5, 'last', '5', '1e5', ' 5']
    """
    is_json, value = _canonical(text)
    if not is_json or (isinstance(value, str) and not _needs_quotes(value)):
        return text
    return value


def is_utf8(value: str) -> bool:
    """Return whether a string can be written as UTF-8: lone surrogates cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _needs_quotes(value: str) -> bool:
    """Return whether a string cannot be its own text: no UTF-8, or JSON of another value."""
    if not is_utf8(value):
        return True
    is_json, meaning = _canonical(value)
    return is_json and (not isinstance(meaning, str) or _needs_quotes(meaning))


def _canonical(text: str) -> tuple[bool, Any]:
    """Return whether ``text`` is just what :func:`json.dumps` writes, and of what."""
    try:
        value = json.loads(text)
        same = json.dumps(value) == text
    except (ValueError, RecursionError):
        return False, None
    return same and _within(value, MAX_DEPTH), value


def _within(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    items = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_within(item, depth - 1) for item in items)


def _check(value: Any, key: str, depth: int) -> None:
    """Refuse what JSON would change: tuples, keys that are not strings, objects of other classes.

    Nested too deep is found here, before ``json.dumps`` recurses (and so is a list in itself).
    """
    if isinstance(value, dict | list):
        if depth == 0:
            raise ProtocolError(f"{key}: nested deeper than {MAX_DEPTH} levels", key=key)
        for name in value if isinstance(value, dict) else ():
            if not isinstance(name, str):
                raise ProtocolError(
                    f"{key}: expected keys that are strings, got {reprlib.repr(name)}", key=key
                )
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, key, depth - 1)
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ProtocolError(
            f"{key}: expected a JSON value (null, true, false, number, string, list or object), "
            f"got {reprlib.repr(value)} ({type(value).__name__})",
            key=key,
        )


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
