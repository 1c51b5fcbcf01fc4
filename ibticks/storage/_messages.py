"""Read single messages of files without a compiler: backwards, in an interval, or the last tick.

For a process that captures, which stays small and needs few messages. Whole hours are read by
:func:`ibticks.storage.read_ticks`.
"""

from __future__ import annotations

import logging
import mmap
import struct
from array import array
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from ibticks.config import NANOSECONDS
from ibticks.errors import CorruptFileError, StorageError
from ibticks.filesystem import explained
from ibticks.format import MAX_FRAME_BYTES, read_header
from ibticks.storage._blocks import decompress_block, split_blocks
from ibticks.storage._file_header import check_place
from ibticks.storage._layout import FileKey, file_suffix
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ibticks.format import Header
    from ibticks.index import FileRecord


__all__ = ["iter_messages", "iter_payloads_backwards", "message_time_ns", "read_last_tick_ns"]

_log = logging.getLogger(__name__)
_LENGTH: Final = struct.Struct(">I")
_MAX_HEADER_BYTES: Final = 1 << 20


def message_time_ns(message: StreamMessage) -> int:
    """Return the timestamp of a message, UTC nanoseconds."""
    return message.timestamp.seconds * NANOSECONDS + message.timestamp.nanos


def iter_payloads_backwards(root: Path, file: FileRecord) -> Iterator[bytes]:
    """Iterate over the encoded messages of a file, the last first, as far as it is undamaged."""
    for data, begin, end in _frame_ranges(root, file, backwards=True):
        ends = _ends(data, begin, end)
        for index in range(len(ends) - 1, 0, -1):
            yield data[ends[index - 1] + _LENGTH.size : ends[index]]


def iter_messages(
    root: Path, file: FileRecord, start_ns: int, end_ns: int
) -> Iterator[StreamMessage]:
    """Iterate over the messages of a file in an interval, in file order, as far as undamaged."""
    for data, begin, end in _frame_ranges(root, file, start_ns=start_ns, end_ns=end_ns):
        for at, stop in pairwise(_ends(data, begin, end)):
            try:
                message = StreamMessage.FromString(data[at + _LENGTH.size : stop])
            except DecodeError:
                continue  # not a message; reading the whole file reports it
            if start_ns <= message_time_ns(message) < end_ns:
                yield message


def _frame_ranges(
    root: Path,
    file: FileRecord,
    *,
    backwards: bool = False,
    start_ns: int | None = None,
    end_ns: int | None = None,
) -> Iterator[tuple[bytes | mmap.mmap, int, int]]:
    """Iterate over data with the byte range of whole frames in it."""
    path = root / file.path
    try:
        with explained(path, "reading"), path.open("rb") as stream:
            header = read_header(stream.read(_MAX_HEADER_BYTES), path=str(path))
            check_place(header, FileKey.of_path(path), path)
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                blocks = _blocks(file, header, data, start_ns, end_ns)
                for begin, end in reversed(blocks) if backwards else blocks:
                    if header.compression == "none":
                        yield data, begin, end
                    else:
                        raw = decompress_block(data[begin:end], header.compression)
                        yield raw, 0, len(raw)
    except (StorageError, CorruptFileError) as error:
        _log.warning("the messages of %s cannot be read: %s", file.path, error)


def _blocks(
    file: FileRecord, header: Header, data: mmap.mmap, start_ns: int | None, end_ns: int | None
) -> list[tuple[int, int]]:
    """Return the byte ranges of whole frames that may hold messages of the interval."""
    start = header.frame_bytes
    if file.blocks and file.sealed and header.sealed and header.crc32c == file.crc32c:
        return [
            (block.offset, block.offset + block.size)
            for block in file.blocks
            if (start_ns is None or block.max_ns >= start_ns)
            and (end_ns is None or block.min_ns < end_ns)
        ]
    if header.compression == "none":
        return [(start, len(data))]
    ranges = split_blocks(data[start:], header.compression)
    return [(start + begin, start + end) for begin, end in ranges]


def _ends(data: bytes | mmap.mmap, at: int, until: int) -> array[int]:
    """Return the start of the first frame in ``data[at:until]``, and the end of each whole one."""
    ends = array("q", [at])
    while at + _LENGTH.size <= until:
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + size
        if not 0 < size <= MAX_FRAME_BYTES or at > until:
            break
        ends.append(at)
    return ends


_TICK: Final = StreamMessage(type="tick").SerializeToString()


def read_last_tick_ns(root: Path, files: Sequence[FileRecord]) -> int | None:
    """Return the time of the last tick in the files of a stream; backfills do not count.

    Parameters
    ----------
    root : Path
        The store.
    files : sequence of FileRecord
    """
    live = [file for file in files if not file.backfilled]
    for file in sorted(live, key=lambda file: (file.hour_ns, file_suffix(file.path)), reverse=True):
        if file.sealed:
            if file.last_tick_ns is not None:
                return file.last_tick_ns
            continue
        for payload in iter_payloads_backwards(root, file):
            if payload.startswith(_TICK):
                try:
                    return message_time_ns(StreamMessage.FromString(payload))
                except DecodeError:
                    continue  # not a message of this format
    return None
