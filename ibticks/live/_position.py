"""Read positions: a cursor for each file, and the resume token that holds them all."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from ibticks._types import StreamKey
from ibticks.config import HOUR_NS
from ibticks.errors import InputError
from ibticks.format import checksum
from ibticks.schema import check_contract_id, check_tick_type
from ibticks.storage import FileKey

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ibticks.storage import FileSuffix

__all__ = [
    "CURSOR_CHECK_BYTES",
    "Cursor",
    "Position",
    "cursor_check",
    "format_position",
    "parse_position",
]

CURSOR_CHECK_BYTES: Final = 64
_TOKEN_VERSION: Final = 1
_MAX_TOKEN_BYTES: Final = 1 << 22


class Cursor(NamedTuple):
    """The place in one file up to which it has been read.

    Attributes
    ----------
    offset : int
        Bytes of the uncompressed body: a frame begins there, or will.
    frames : int
        Number of frames before it; -1 where they were not counted.
    check : int
        CRC-32C of the last :data:`CURSOR_CHECK_BYTES` bytes before it: a file with other bytes
        there is not the file that was read.
    """

    offset: int = 0
    frames: int = 0
    check: int = 0


class Position(NamedTuple):
    """The place in some streams up to which they have been read.

    Attributes
    ----------
    start_ns : int
        Earlier ticks are left out, UTC nanoseconds.
    cursors : dict
        Cursors by file. A file without a cursor has not been read.
    streams : tuple of StreamKey
    """

    start_ns: int
    cursors: dict[FileKey, Cursor]
    streams: tuple[StreamKey, ...]


def cursor_check(read: bytes | npt.NDArray[np.uint8]) -> int:
    """Return the checksum of a cursor that stands after these bytes."""
    return checksum(read[-CURSOR_CHECK_BYTES:])


def format_position(position: Position) -> str:
    """Return a position as a resume token of letters, digits, ``-`` and ``_``.

    Examples
    --------
    >>> streams = (StreamKey(8314, "last"),)
    >>> position = Position(7, {FileKey(8314, "last", HOUR_NS): Cursor(90, 1, 5)}, streams)
    >>> parse_position(format_position(position)) == position
    True
    """
    streams = [
        [
            *stream,
            [
                [key.hour_ns // HOUR_NS, key.suffix, *cursor]
                for key, cursor in sorted(position.cursors.items())
                if (key.contract_id, key.tick_type) == stream
            ],
        ]
        for stream in position.streams
    ]
    text = json.dumps([_TOKEN_VERSION, position.start_ns, streams], separators=(",", ":"))
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).rstrip(b"=").decode()


def parse_position(token: str) -> Position:
    """Parse a resume token.

    Raises
    ------
    InputError
        If the text is not a resume token, or one of another version.
    """
    try:
        packed = base64.urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4))
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(packed, _MAX_TOKEN_BYTES)
        if not unpacker.eof or unpacker.unused_data:
            text = b""  # cut short, or followed by something else
        version, start_ns, entries = json.loads(text)
        streams = tuple(
            StreamKey(check_contract_id(contract_id), check_tick_type(tick_type))
            for contract_id, tick_type, _ in entries
        )
        cursors = {
            _file_key(stream, hour, part): Cursor(int(offset), int(frames), int(check))
            for stream, (_, _, files) in zip(streams, entries, strict=True)
            for hour, part, offset, frames, check in files
        }
        position = Position(int(start_ns), cursors, streams)
    except (
        AttributeError,
        TypeError,
        ValueError,
        RecursionError,
        binascii.Error,
        zlib.error,
    ) as error:
        raise InputError(
            f"resume={token!r:.60} is not a position: pass a value of Live.position ({error})"
        ) from error
    if version != _TOKEN_VERSION:
        raise InputError(
            f"resume= is a position of version {version}, which this ibticks does not support"
        )
    return position


def _file_key(stream: StreamKey, hour: int, part: str) -> FileKey:
    path = FileKey(*stream, hour * HOUR_NS, cast("FileSuffix", part)).path
    key = FileKey.parse(path)
    if key is None:
        raise ValueError(f"{path} is not the path of an hour file")
    return key
