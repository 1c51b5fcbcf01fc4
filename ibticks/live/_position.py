"""Places in files: how far a stream has been read, in memory and as a token."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from ibticks.errors import InputError
from ibticks.format import checksum
from ibticks.schema import check_contract_id, check_tick_type
from ibticks.storage import HOUR, FileKey

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ibticks.storage import Part

__all__ = ["MARK_BYTES", "Cursor", "Position", "mark_of", "read_token", "write_token"]

MARK_BYTES: Final = 64
_VERSION: Final = 1
_LARGEST_TOKEN: Final = 1 << 22


class Cursor(NamedTuple):
    """How far a file has been read.

    Attributes
    ----------
    offset : int
        Bytes of its body, plain: a frame begins there, or will.
    frames : int
        How many frames that are; -1 where they were not counted.
    mark : int
        CRC-32C of the last :data:`MARK_BYTES` bytes before it: whether it is still the file that
        was read.
    """

    offset: int = 0
    frames: int = 0
    mark: int = 0


class Position(NamedTuple):
    """How far some streams have been read.

    Attributes
    ----------
    start_ns : int
        Earlier ticks are left out.
    cursors : dict
        By file. A file that is not among them has not been read.
    streams : tuple of (int, str)
        Contract ids and tick types.
    """

    start_ns: int
    cursors: dict[FileKey, Cursor]
    streams: tuple[tuple[int, str], ...]


def mark_of(before: bytes | npt.NDArray[np.uint8]) -> int:
    """The mark of a cursor after these bytes."""
    return checksum(before[-MARK_BYTES:])


def write_token(position: Position) -> str:
    """A position as one word of letters, digits, ``-`` and ``_``.

    Examples
    --------
    >>> streams = ((8314, "last"),)
    >>> place = Position(7, {FileKey(8314, "last", HOUR): Cursor(90, 1, 5)}, streams)
    >>> read_token(write_token(place)) == place
    True
    """
    streams = [
        [
            *stream,
            [
                [key.hour_ns // HOUR, key.part, *cursor]
                for key, cursor in sorted(position.cursors.items())
                if (key.contract_id, key.tick_type) == stream
            ],
        ]
        for stream in position.streams
    ]
    text = json.dumps([_VERSION, position.start_ns, streams], separators=(",", ":"))
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).rstrip(b"=").decode()


def read_token(token: str) -> Position:
    """The position a token says.

    Raises
    ------
    InputError
        If it is not one of ours.
    """
    try:
        packed = base64.urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4))
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(packed, _LARGEST_TOKEN)
        if not unpacker.eof or unpacker.unused_data:
            text = b""  # cut short, or followed by something else
        version, start_ns, said = json.loads(text)
        streams = tuple(
            (check_contract_id(contract_id), check_tick_type(tick_type))
            for contract_id, tick_type, _ in said
        )
        cursors = {
            _key(*stream, hour, part): Cursor(int(offset), int(frames), int(mark))
            for stream, (_, _, files) in zip(streams, said, strict=True)
            for hour, part, offset, frames, mark in files
        }
        found = Position(int(start_ns), cursors, streams)
    except (
        AttributeError,
        TypeError,
        ValueError,
        RecursionError,
        binascii.Error,
        zlib.error,
    ) as error:
        raise InputError(
            f"resume={token!r:.60} is not a position: give what Live.position said ({error})"
        ) from error
    if version != _VERSION:
        raise InputError(
            f"resume= is a position of version {version}, which this ibticks knows not"
        )
    return found


def _key(contract_id: int, tick_type: str, hour: int, part: str) -> FileKey:
    path = FileKey(contract_id, tick_type, hour * HOUR, cast("Part", part)).path
    key = FileKey.parse(path)
    if key is None:
        raise ValueError(f"no file is {path}")
    return key
