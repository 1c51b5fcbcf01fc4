"""The peers of ibticks, each used as its own users would write it."""

from __future__ import annotations

import os
import struct
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import polars as pl
import ptars
import pyarrow as pa

from ibticks.tick_stream_pb2 import StreamMessage, TickData

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "PlainWriter",
    "load_ipc",
    "load_plain",
    "load_ptars",
    "parse_ptars",
    "payloads",
    "synced",
]

_LENGTH: Final = struct.Struct(">I")
_HANDLER: Final = ptars.HandlerPool([StreamMessage.DESCRIPTOR.file]).get_for_message(
    StreamMessage.DESCRIPTOR
)
_FIELDS: Final = tuple(field.name for field in TickData.DESCRIPTOR.fields if not field.is_repeated)


# --- a plain loop over frames, as a first implementation of the format has it ---------------------


def load_plain(path: Path, columns: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
    """Frame by frame into dictionaries, these by time, and then into polars."""
    messages = read_plain(path, start, end)
    ticks = [{"timestamp": message["timestamp"], **message["data"]} for message in messages]
    return (
        pl.DataFrame(ticks)
        .select(columns)
        .with_columns(pl.col("timestamp").str.to_datetime("%+", time_unit="ns", time_zone="UTC"))
    )


def read_plain(path: Path, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """The messages of a file as v2 JSON."""
    messages = []
    with path.open("rb") as file:
        file.read(_LENGTH.unpack(file.read(4))[0])
        while len(length := file.read(4)) == 4:
            message = StreamMessage()
            message.ParseFromString(file.read(_LENGTH.unpack(length)[0]))
            result: dict[str, Any] = {
                "type": message.type,
                "stream_id": message.stream_id,
                "timestamp": message.timestamp.ToDatetime().isoformat() + "Z",
            }
            if message.HasField("tick_data"):
                result["data"] = _data(message.tick_data)
            if message.metadata:
                result["metadata"] = dict(message.metadata)
            at = datetime.fromisoformat(result["timestamp"])
            if start <= at < end:
                messages.append((at, result))
    messages.sort(key=lambda message: message[0])
    return [result for _, result in messages]


def _data(tick: TickData) -> dict[str, Any]:
    data: dict[str, Any] = {"contract_id": tick.contract_id, "tick_type": tick.tick_type}
    for name in _FIELDS[2:]:
        if tick.HasField(name):
            data[name] = getattr(tick, name)
    if tick.conditions:
        data["conditions"] = list(tick.conditions)
    return data


class PlainWriter:
    """Appends v2 JSON messages to a file, one by one, each handed to the operating system."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("ab")

    def append(self, message: dict[str, Any]) -> None:
        """Append one tick."""
        tick = StreamMessage(type=message["type"], stream_id=message["stream_id"])
        tick.timestamp.FromDatetime(datetime.fromisoformat(message["timestamp"]))
        data = message["data"]
        tick.tick_data.contract_id = data["contract_id"]
        tick.tick_data.tick_type = data["tick_type"]
        for name in _FIELDS[2:]:
            if name in data:
                setattr(tick.tick_data, name, data[name])
        self.append_payload(tick.SerializeToString())

    def append_payload(self, payload: bytes) -> None:
        """Append one encoded message."""
        self._file.write(_LENGTH.pack(len(payload)))
        self._file.write(payload)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


# --- ptars: a list of serialized messages to Arrow, in Rust ---------------------------------------


def payloads(path: Path) -> list[bytes]:
    """The messages of a file, still serialized: what ptars wants to be given."""
    data = path.read_bytes()
    length = _LENGTH.unpack_from
    at = 4 + length(data, 0)[0]
    result = []
    while at < len(data):
        end = at + 4 + length(data, at)[0]
        result.append(data[at + 4 : end])
        at = end
    return result


def load_ptars(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """A file of frames by way of ptars."""
    return parse_ptars(payloads(path), columns)


def parse_ptars(messages: list[bytes], columns: Sequence[str]) -> pl.DataFrame:
    """Serialized messages by way of ptars; only the columns asked for go on to polars."""
    batch = _HANDLER.list_to_record_batch(messages)
    ticks = batch.column("tick_data")
    kind = batch.schema.field("tick_data").type
    result = {"timestamp": batch.column("timestamp")}
    result |= {
        name: ticks.field(kind.get_field_index(name)) for name in columns if name != "timestamp"
    }
    return pl.DataFrame(pl.from_arrow(pa.table(result), rechunk=False))


# --- files of columns -----------------------------------------------------------------------------


def load_ipc(path: Path) -> pl.DataFrame:
    """An uncompressed Arrow file, mapped into memory: nothing is read before it is touched."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return pl.DataFrame(pl.from_arrow(table, rechunk=False))


def synced(path: Path) -> None:
    """Have a file on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
