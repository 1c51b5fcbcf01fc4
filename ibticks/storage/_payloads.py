"""The messages of files without a compiler: one by one, the last first, or those of some time.

For a process that captures, which is to stay small, and needs few messages. Whole hours are read by
:mod:`ibticks.storage`.
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
from ibticks.storage._blocks import decompress, split
from ibticks.storage._headers import check_place
from ibticks.storage._layout import FileKey
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ibticks.format import Header
    from ibticks.index import FileRecord

__all__ = ["messages_between", "payloads_backwards", "time_of"]

_log = logging.getLogger(__name__)
_LENGTH: Final = struct.Struct(">I")
_LONGEST_HEADER: Final = 1 << 20


def time_of(message: StreamMessage) -> int:
    """The timestamp of a message, UTC nanoseconds."""
    return message.timestamp.seconds * NANOSECONDS + message.timestamp.nanos


def payloads_backwards(root: Path, file: FileRecord) -> Iterator[bytes]:
    """The messages of a file as they are stored, the last first, as far as it is whole."""
    for data, begin, end in _stretches(root, file, backwards=True):
        ends = _ends(data, begin, end)
        for index in range(len(ends) - 1, 0, -1):
            yield data[ends[index - 1] + _LENGTH.size : ends[index]]


def messages_between(
    root: Path, file: FileRecord, start_ns: int, end_ns: int
) -> Iterator[StreamMessage]:
    """The messages of a file in ``[start_ns, end_ns)``, in file order, as far as it is whole."""
    for data, begin, end in _stretches(root, file, start_ns=start_ns, end_ns=end_ns):
        for at, stop in pairwise(_ends(data, begin, end)):
            try:
                message = StreamMessage.FromString(data[at + _LENGTH.size : stop])
            except DecodeError:
                continue  # no message of ours; reading the file tells
            if start_ns <= time_of(message) < end_ns:
                yield message


def _stretches(
    root: Path,
    file: FileRecord,
    *,
    backwards: bool = False,
    start_ns: int | None = None,
    end_ns: int | None = None,
) -> Iterator[tuple[bytes | mmap.mmap, int, int]]:
    """Data, and where stretches of whole frames begin and end in it."""
    path = root / file.path
    try:
        with explained(path, "reading"), path.open("rb") as stream:
            header = read_header(stream.read(_LONGEST_HEADER), path=str(path))
            check_place(header, FileKey.of_path(path), path)
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                blocks = _blocks(file, header, data, start_ns, end_ns)
                for begin, end in reversed(blocks) if backwards else blocks:
                    if header.compression == "none":
                        yield data, begin, end
                    else:
                        raw = decompress(data[begin:end], header.compression)
                        yield raw, 0, len(raw)
    except (StorageError, CorruptFileError) as error:
        _log.warning("what is in %s is looked for elsewhere: %s", file.path, error)


def _blocks(
    file: FileRecord, header: Header, data: mmap.mmap, start_ns: int | None, end_ns: int | None
) -> list[tuple[int, int]]:
    """Where stretches of whole frames begin and end that may hold messages of some time."""
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
    spans = split(data[start:], header.compression)
    return [(start + begin, start + end) for begin, end in spans]


def _ends(data: bytes | mmap.mmap, at: int, until: int) -> array[int]:
    """Where the whole frames in ``data[at:until]`` end, after where the first one begins."""
    ends = array("q", [at])
    while at + _LENGTH.size <= until:
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + size
        if not 0 < size <= MAX_FRAME_BYTES or at > until:
            break
        ends.append(at)
    return ends
