"""Helpers of the tests of storage: numbered ticks, and a plain reader of files.

Every tick carries its own number as ``sequence``, and its prices follow from it, so that a tick
that is lost, doubled, moved or changed shows.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import cramjam
import numpy as np
import numpy.typing as npt

from ibticks.config import HOUR_NS
from ibticks.schema import TickColumns, Values
from ibticks.storage import FileKey, read_ticks
from ibticks.tick_stream_pb2 import FileHeader, StreamMessage

if TYPE_CHECKING:
    from ibticks.index import FileRecord, Index

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# In memory, where that can be: the tests sync files thousands of times.
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

CONTRACT = 8314
H13 = 1_381_237_200_000_000_000  # 2013-10-08 13:00 UTC, nanoseconds
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
KEY = FileKey(CONTRACT, "bid_ask", H13)
HALF = FileKey(CONTRACT, "bid_ask", H13, "30")
COLUMNS = ("timestamp", "sequence", "bid_price", "bid_size", "ask_price", "ask_size")


@contextlib.contextmanager
def new_root() -> Iterator[Path]:
    """A folder for a store, gone afterwards."""
    with TemporaryDirectory(dir=FAST) as folder:
        yield Path(folder)


def quotes(times: Iterable[int], first: int = 0) -> TickColumns:
    """bid_ask ticks at ``times``, numbered from ``first``."""
    stamps = np.fromiter(times, dtype=np.int64)
    number = np.arange(first, first + len(stamps))
    return TickColumns(
        len(stamps),
        {
            "timestamp": Values(stamps),
            **{name: Values(values) for name, values in fields_of(number).items()},
            "sequence": Values(number.astype(np.uint64)),
        },
    )


def every(step: int, count: int, start: int = H13) -> range:
    """``count`` times, ``step`` apart."""
    return range(start, start + step * count, step)


def hour_of_quotes(count: int, first: int = 0, hour: int = H13) -> TickColumns:
    """So many quotes, evenly over an hour; 13,600 make about one block."""
    return quotes(every(HOUR_NS // count, count, hour), first)


def quote_message(time_ns: int, number: int, **more: Any) -> dict[str, Any]:
    """The v2 message of the tick :func:`quotes` makes of that time and number."""
    data = {
        "contract_id": CONTRACT,
        "tick_type": "bid_ask",
        **fields_of(number),
        "sequence": number,
    }
    return message("tick", time_ns, data) | more


def message(kind: str, time_ns: int, data: dict[str, Any]) -> dict[str, Any]:
    """A v2 message."""
    moment = np.datetime64(time_ns, "ns")
    return {"type": kind, "stream_id": "s", "timestamp": f"{moment}Z", "data": data}


def load(
    root: Path, records: Sequence[FileRecord] | Index, columns: Sequence[str] = COLUMNS, **how: Any
) -> dict[str, npt.NDArray[Any]]:
    """The ticks of some files, or of all that are indexed, as plain arrays in file order."""
    chosen = records if isinstance(records, Sequence) else records.files()
    parts = read_ticks(root, chosen, columns, **how)
    return {name: np.concatenate([part.numbers(name) for part in parts]) for name in columns}


def numbers(root: Path, records: Sequence[FileRecord] | Index, **how: Any) -> list[int]:
    """The numbers of the ticks :func:`load` finds; their values must be those of their number."""
    actual = load(root, records, **how)
    number = actual["sequence"].astype(np.int64)
    for name, values in fields_of(number).items():
        np.testing.assert_array_equal(actual[name], values)
    return number.tolist()


def fields_of(number: Any) -> dict[str, Any]:
    """Prices and sizes of the tick with some number, or of many."""
    return {
        "bid_price": 180 + number * 0.01,
        "bid_size": number % 90 + 1.0,
        "ask_price": 180.01 + number * 0.01,
        "ask_size": number % 70 + 1.0,
    }


def open_descriptors(folder: Path) -> int:
    """Return the number of descriptors of this process that are files in a folder, or watch one.

    Others are not counted: threads of other tests may open and close theirs meanwhile.
    """
    watched = {f"{path.stat().st_ino:x}" for path in (folder, *folder.rglob("*")) if path.is_dir()}
    number = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            target = str(descriptor.readlink())
            if target == "anon_inode:inotify":
                details = Path(f"/proc/self/fdinfo/{descriptor.name}").read_text()
                number += not watched.isdisjoint(re.findall(r"\bino:([0-9a-f]+)", details))
            else:
                number += target.startswith(f"{folder}/")
    return number


# --- files, read with nothing of ibticks but the generated schema ---------------------------------


def read_plainly(path: Path) -> tuple[FileHeader, list[StreamMessage]]:
    """The header and the messages of a whole file."""
    header, body = split_header(path.read_bytes())
    return header, list(messages_in(unpacked(body, header.compression)))


def split_header(data: bytes) -> tuple[FileHeader, bytes]:
    (size,) = struct.unpack_from(">I", data)
    return FileHeader.FromString(data[4 : 4 + size]), data[4 + size :]


def unpacked(body: bytes, compression: str) -> bytes:
    """A body as ordinary tools decompress it, all blocks at once."""
    match compression:
        case "gzip":
            return gzip.decompress(body)
        case "zstd":
            return zstd.decompress(body)
        case "snappy":
            return bytes(cramjam.snappy.decompress(body))
        case _:
            return body


def messages_in(frames: bytes) -> Iterable[StreamMessage]:
    at = 0
    while at < len(frames):
        (size,) = struct.unpack_from(">I", frames, at)
        assert size > 0
        assert at + 4 + size <= len(frames)
        yield StreamMessage.FromString(frames[at + 4 : at + 4 + size])
        at += 4 + size


def time_of(message: StreamMessage) -> int:
    return message.timestamp.seconds * SECOND + message.timestamp.nanos


def crc32c(data: bytes) -> int:
    """CRC-32C as RFC 3720 has it, a byte at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def old_header(contract_id: int = CONTRACT, tick_type: str = "bid_ask", hour: int = H13) -> bytes:
    """A header frame as older writers left it: not padded, never finalised."""
    header = FileHeader(version=1, contract_id=contract_id, tick_type=tick_type, compression="none")
    header.start_time.seconds = header.end_time.seconds = hour // SECOND
    payload = header.SerializeToString()
    return struct.pack(">I", len(payload)) + payload


def old_frame(time_ns: int, number: int) -> bytes:
    """The frame older writers made of the tick with that number."""
    actual = StreamMessage(type="tick", stream_id="s")
    actual.timestamp.seconds, actual.timestamp.nanos = divmod(time_ns, SECOND)
    tick = actual.tick_data
    tick.contract_id, tick.tick_type, tick.sequence = CONTRACT, "bid_ask", number
    for name, value in fields_of(number).items():
        setattr(tick, name, value)
    payload = actual.SerializeToString()
    return struct.pack(">I", len(payload)) + payload
