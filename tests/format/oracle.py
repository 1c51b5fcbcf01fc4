"""Reference implementation of the codec by google.protobuf: frames to rows and back.

A row is a dictionary of every column: numbers as they are, doubles as their 64 bits, None where the
message does not carry the field, conditions as a list, metadata as a dictionary.
"""

from __future__ import annotations

import functools
import struct
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2, message_factory
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from ibticks.schema import (
    COLUMNS,
    Field,
    FieldType,
    MapColumn,
    StringColumn,
    StringListColumn,
    TickColumns,
    Values,
)
from ibticks.testing import wire
from ibticks.testing.wire import WireType
from ibticks.tick_stream_pb2 import StreamMessage, TickData

Row: TypeAlias = dict[str, Any]

ALL = tuple(COLUMNS)
LARGEST_FRAME = 16 * 1024 * 1024
TIME_MIN, TIME_MAX = -(2**63), 2**63 - 1
_TICK_FIELDS = [
    field for field in COLUMNS.values() if field.name not in ("timestamp", "stream_id", "metadata")
]
_DTYPES = {
    FieldType.TIME: np.int64,
    FieldType.SECONDS: np.int64,
    FieldType.UINT32: np.uint32,
    FieldType.UINT64: np.uint64,
    FieldType.FLOAT: np.float64,
    FieldType.BOOL: np.bool_,
}


# --- frames ---------------------------------------------------------------------------------------


def framed(*payloads: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(payload)) + payload for payload in payloads)


def payloads_of(buffer: bytes) -> list[bytes]:
    """The payloads of the whole frames at the start of a buffer; stops at a bad length."""
    payloads, at = [], 0
    while len(buffer) - at >= 4:
        (size,) = struct.unpack_from(">I", buffer, at)
        if not 0 < size <= min(LARGEST_FRAME, len(buffer) - at - 4):
            break
        payloads.append(buffer[at + 4 : at + 4 + size])
        at += 4 + size
    return payloads


# --- protobuf to rows -----------------------------------------------------------------------------


def time_of(stamp: Timestamp) -> int:
    """UTC nanoseconds, clipped to int64."""
    return min(max(stamp.seconds * 1_000_000_000 + stamp.nanos, TIME_MIN), TIME_MAX)


def in_range(time_ns: int, start_ns: int = TIME_MIN + 1, end_ns: int = TIME_MAX) -> bool:
    """Return whether a time is in a range; the default has all times but int64's limits."""
    return start_ns <= time_ns < end_ns


def row_of(message: StreamMessage) -> Row | None:
    """The row of a tick; None of any other message."""
    if message.WhichOneof("message_data") != "tick_data":
        return None
    return _row(message) | {"metadata": dict(message.metadata)}


def _row(message: StreamMessage) -> Row:
    return {
        "timestamp": time_of(message.timestamp),
        **{field.name: _value(message.tick_data, field) for field in _TICK_FIELDS},
        "stream_id": message.stream_id,
    }


def _value(tick: TickData, field: Field) -> Any:
    value = getattr(tick, field.name)
    if field.type is FieldType.STRINGS:
        return list(value)
    if field.nullable and not tick.HasField(field.name):
        return None
    return _bits(value) if field.type is FieldType.FLOAT else value


def _bits(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")


def _double(bits: int) -> float:
    return struct.unpack("<d", bits.to_bytes(8, "little"))[0]


def rows_of_payloads(
    payloads: list[bytes], start_ns: int = TIME_MIN + 1, end_ns: int = TIME_MAX
) -> list[Any]:
    """The ticks among some messages, all of which the runtime must accept."""
    rows = (row_of(StreamMessage.FromString(payload)) for payload in payloads)
    return [row for row in rows if row and in_range(row["timestamp"], start_ns, end_ns)]


# --- what the decoder refuses ---------------------------------------------------------------------


def lenient_row(payload: bytes, columns: tuple[str, ...] = ALL) -> Row | None:
    """Decode a payload as leniently as the decoder does, with the protobuf runtime.

    The decoder looks into what it needs: the top level, the time, the tick that counts and the
    columns asked for. The rest (another member of the oneof, ``type``, a replaced string) must
    only end where its length says.

    Raises
    ------
    DecodeError
        Where the decoder must refuse too.
    """
    loose, entry_class = _loose_classes()
    # To an empty message every field is unknown, and keeps its place.
    top: Any = UnknownFieldSet(empty_pb2.Empty.FromString(payload))
    message = loose()
    case = 0
    tick: list[Any] = []
    entries = []
    for field in top:
        if field.field_number == 0:  # which a message without any fields lets pass
            raise DecodeError("field number 0")
        if field.wire_type != WireType.DELIMITED:
            continue
        part = wire.delimited(field.field_number, field.data)
        if field.field_number in (2, 3):
            message.MergeFromString(part)
        elif 4 <= field.field_number <= 7:
            if field.field_number != 4 or case != 4:
                tick = []
            case = field.field_number
            tick.append(part)
        elif field.field_number == 8:
            entries.append(part)
    time_ns = time_of(message.timestamp)
    if case != 4 or not in_range(time_ns):
        return None
    if "metadata" in columns:
        tick += entries
    for part in tick:
        message.MergeFromString(part)
    metadata = {}
    for entry in message.metadata:
        assert isinstance(entry, entry_class)
        if not len(UnknownFieldSet(entry)):
            metadata[entry.key] = entry.value
    row = _row(message) | {"metadata": metadata}
    return {name: _text(row[name]) for name in columns}


def _text(value: Any) -> Any:
    try:
        match value:
            case bytes():
                return value.decode()
            case list():
                return [part.decode() for part in value]
            case dict():
                return {key.decode(): item.decode() for key, item in value.items()}
    except UnicodeDecodeError as error:
        raise DecodeError("not UTF-8") from error
    return value


@functools.cache
def _loose_classes() -> tuple[Any, Any]:
    """StreamMessage with bytes for strings and for the members of the oneof other than ticks.

    Its map is a list of entries, which shows the entries that the runtime would set aside.
    """
    file = descriptor_pb2.FileDescriptorProto()
    StreamMessage.DESCRIPTOR.file.CopyToProto(file)
    file.name = "loose.proto"
    for message in file.message_type:
        for entry in message.nested_type:
            entry.options.ClearField("map_entry")
        for field in [*message.field, *(f for entry in message.nested_type for f in entry.field)]:
            other_member = field.HasField("oneof_index") and field.type_name
            if field.type == field.TYPE_STRING or (other_member and field.name != "tick_data"):
                field.type = field.TYPE_BYTES
                field.ClearField("type_name")
            elif field.type_name:
                field.type_name = field.type_name.replace(".ib_stream.", ".loose.")
    file.package = "loose"
    pool = descriptor_pool.DescriptorPool()
    stamp = descriptor_pb2.FileDescriptorProto()
    Timestamp.DESCRIPTOR.file.CopyToProto(stamp)
    pool.Add(stamp)
    pool.Add(file)
    message_class = pool.FindMessageTypeByName("loose.StreamMessage")
    entry_class = pool.FindMessageTypeByName("loose.StreamMessage.MetadataEntry")
    return (
        message_factory.GetMessageClass(message_class),
        message_factory.GetMessageClass(entry_class),
    )


# --- columns to rows and back ---------------------------------------------------------------------


def rows_of(ticks: TickColumns) -> list[Row]:
    """The rows of columns; only those columns that are there."""
    columns = {name: _cells(column) for name, column in ticks.columns.items()}
    for name, cells in columns.items():
        assert len(cells) == ticks.rows, name
    return [{name: cells[i] for name, cells in columns.items()} for i in range(ticks.rows)]


def _cells(column: Any) -> list[Any]:
    match column:
        case Values(values, valid):
            values = values.view(np.uint64) if values.dtype == np.float64 else values
            cells = values.tolist()
            return (
                cells
                if valid is None
                else [c if v else None for c, v in zip(cells, valid, strict=True)]
            )
        case StringColumn(codes, values):
            return [None if code < 0 else values[code] for code in codes]
        case StringListColumn(offsets, codes, values):
            return [[values[code] for code in codes[a:b]] for a, b in _spans(offsets)]
        case MapColumn(offsets, keys, items, values):
            maps = []
            for a, b in _spans(offsets):
                pairs = {values[k]: values[v] for k, v in zip(keys[a:b], items[a:b], strict=True)}
                assert len(pairs) == b - a  # a key stands once
                maps.append(pairs)
            return maps
    raise TypeError(column)


def _spans(offsets: Any) -> list[tuple[int, int]]:
    return list(pairwise(offsets.tolist()))


def columns_of(rows: list[Row], columns: tuple[str, ...] = ALL) -> TickColumns:
    """Convert rows to input of the encoder, with garbage at absent values on purpose."""
    made = {name: _column(COLUMNS[name], [row[name] for row in rows]) for name in columns}
    return TickColumns(len(rows), made)


def _column(field: Field, cells: list[Any]) -> Any:
    match field.type:
        case FieldType.STRING:
            return StringColumn(*_encoded(cells))
        case FieldType.STRINGS:
            return StringListColumn(
                _offsets(cells), *_encoded([part for cell in cells for part in cell])
            )
        case FieldType.MAP:
            pairs = [pair for cell in cells for pair in cell.items()]
            codes, values = _encoded([key for key, _ in pairs] + [item for _, item in pairs])
            return MapColumn(_offsets(cells), codes[: len(pairs)], codes[len(pairs) :], values)
    valid = np.array([cell is not None for cell in cells], dtype=np.bool_)
    bits: Any = np.uint64 if field.type is FieldType.FLOAT else _DTYPES[field.type]
    numbers = np.array([1 if cell is None else cell for cell in cells], dtype=bits)
    return Values(numbers.view(_DTYPES[field.type]), None if valid.all() else valid)


def _encoded(cells: list[str | None]) -> tuple[Any, tuple[str, ...]]:
    values = tuple(dict.fromkeys(cell for cell in cells if cell is not None))
    places = {value: code for code, value in enumerate(values)} | {None: -1}
    return np.array([places[cell] for cell in cells], dtype=np.int32), values


def _offsets(cells: list[Any]) -> Any:
    return np.cumsum([0, *(len(cell) for cell in cells)], dtype=np.int64)


# --- rows to protobuf -----------------------------------------------------------------------------


def payload_of(row: Row) -> bytes:
    """The row as the runtime writes it; map keys sorted."""
    seconds, nanos = divmod(row["timestamp"], 1_000_000_000)
    message = StreamMessage(
        type="tick",
        stream_id=row["stream_id"],
        timestamp=Timestamp(seconds=seconds, nanos=nanos),
        metadata=row["metadata"],
    )
    tick = message.tick_data
    tick.SetInParent()
    for field in _TICK_FIELDS:
        value = row[field.name]
        if field.type is FieldType.STRINGS:
            tick.conditions.extend(value)
        elif value is not None:
            setattr(tick, field.name, _double(value) if field.type is FieldType.FLOAT else value)
    return message.SerializeToString(deterministic=True)
