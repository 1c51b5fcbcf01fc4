"""Iterate over the raw messages of an hour file, and convert messages to v2 JSON and back."""

from __future__ import annotations

import json
import os
import struct
import warnings
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from google.protobuf.message import DecodeError

from ibticks._warnings import user_stacklevel
from ibticks.errors import CorruptDataWarning, CorruptFileError, NoStoreError, ProtocolError
from ibticks.filesystem import expand_home, explained
from ibticks.format import MAX_FRAME_BYTES, checksum, from_protobuf, to_protobuf
from ibticks.storage import decompress_block, read_file_header, split_blocks
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike
    from pathlib import Path

    from ibticks.format import Header

__all__ = ["RawMessage", "iter_messages", "message_from_json", "message_to_json"]

_LENGTH: Final = struct.Struct(">I")
_READ_BYTES: Final = 1 << 20


class RawMessage(NamedTuple):
    """A message of an hour file, and its place.

    Attributes
    ----------
    offset : int
        Byte of the file at which the frame of the message begins, its length prefix included; in a
        compressed file, at which its block begins.
    message : StreamMessage
    """

    offset: int
    message: StreamMessage


def iter_messages(path: str | PathLike[str], *, strict: bool = False) -> Iterator[RawMessage]:
    """Iterate over the messages of an hour file, as protobuf: ticks, errors, infos, completions.

    The file may be open or sealed, plain or compressed; an open one ends at its last whole frame.
    Neither the decoder of columns nor a DataFrame library is loaded.

    Parameters
    ----------
    path : path-like
    strict : bool
        Whether damage raises. Otherwise a warning names the damage, and the messages that can
        be read are yielded, also those of a sealed file without its checksum.

    Yields
    ------
    RawMessage
        Offset and ``StreamMessage``, in the order of the file.

    Raises
    ------
    NoStoreError
        If there is no such file; at once, before the first message.
    CorruptFileError
        If the file has no header; with ``strict``, at damage. ``context["offset"]`` is its byte.

    Warns
    -----
    CorruptDataWarning
        Naming the byte that is damaged.

    Examples
    --------
    >>> import tempfile
    >>> import polars as pl
    >>> import ibticks as ibt
    >>> folder = tempfile.mkdtemp()
    >>> with ibt.HourWriter(folder, 8314, "last", stream_id="8314_last") as writer:
    ...     writer.write(pl.DataFrame({"timestamp": [1381239000 * 10**9], "price": [179.8]}))
    1
    >>> ((offset, message),) = ibt.iter_messages(writer.files[0])
    >>> offset, message.stream_id, message.tick_data.price
    (256, '8314_last', 179.8)
    """
    source = expand_home(path)
    if not source.is_file():
        raise NoStoreError(f"{source}: there is no such file", path=str(source))
    with explained(source, "reading"):
        file = source.open("rb", buffering=_READ_BYTES)
    try:
        header = read_file_header(file.fileno(), str(source))
    except BaseException:
        file.close()
        raise
    return _iter_file(file, header, source, strict=strict)


def message_to_json(message: StreamMessage) -> str:
    """Return a message as one line of v2 JSON.

    Raises
    ------
    FormatError
        If its timestamp is none that RFC 3339 can write.

    Examples
    --------
    >>> message_to_json(StreamMessage(type="info", info_data={"status": "subscribed"}))
    '{"type": "info", "stream_id": "", "data": {"status": "subscribed"}}'
    """
    return json.dumps(from_protobuf(message), ensure_ascii=False)


def message_from_json(text: str | bytes) -> StreamMessage:
    """Read a message from v2 JSON.

    Raises
    ------
    ProtocolError
        If the text is no JSON object, or no v2 message; ``context["key"]`` names the key.
    NaiveDatetimeError
        If its timestamp has no offset.

    Examples
    --------
    >>> text = '{"type": "info", "stream_id": "s", "timestamp": "1970-01-01T00:00:01Z", '
    >>> message_from_json(text + '"data": {"status": "subscribed"}}').info_data.status
    'subscribed'
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"no JSON, or nested too deep: {error}") from error
    return to_protobuf(message)


class _Damage:
    """Damage of one file: raised, or reported as a warning."""

    def __init__(self, path: Path, *, strict: bool) -> None:
        self._path = path
        self._strict = strict

    def report(self, offset: int, problem: str) -> None:
        message = f"{self._path} is damaged at byte {offset}: {problem}"
        if self._strict:
            raise CorruptFileError(message, path=str(self._path), offset=offset)
        warnings.warn(message, CorruptDataWarning, stacklevel=user_stacklevel())


def _iter_file(file: BinaryIO, header: Header, path: Path, *, strict: bool) -> Iterator[RawMessage]:
    damage = _Damage(path, strict=strict)
    with file, explained(path, "reading"):
        stop = None
        if header.sealed:
            stop = header.frame_bytes + header.body_bytes
            _check_body(file, header, stop, damage)
        file.seek(header.frame_bytes)
        if header.compression == "none":
            frames = _iter_frames(file, header.frame_bytes, stop, damage)
        else:
            body = file.read(-1 if stop is None else header.body_bytes)
            frames = _iter_block_frames(body, header, damage)
        for offset, payload in frames:
            try:
                message = StreamMessage.FromString(payload)
            except DecodeError as error:
                damage.report(offset, f"{len(payload)} bytes are no StreamMessage: {error}")
                continue
            yield RawMessage(offset, message)


def _check_body(file: BinaryIO, header: Header, stop: int, damage: _Damage) -> None:
    """Compare the body of a sealed file with the checksum of its header."""
    size = os.fstat(file.fileno()).st_size
    if size != stop:
        damage.report(min(size, stop), f"it has {size:,} bytes, and was sealed with {stop:,}")
        return
    file.seek(header.frame_bytes)
    crc = 0
    while data := file.read(_READ_BYTES):
        crc = checksum(data, crc)
    if crc != header.crc32c:
        damage.report(header.frame_bytes, "the body does not have the checksum of the header")


def _iter_frames(
    file: BinaryIO, offset: int, stop: int | None, damage: _Damage
) -> Iterator[tuple[int, bytes]]:
    """Yield the payloads of a plain body, each with the byte at which its frame begins."""
    while stop is None or offset < stop:
        prefix = file.read(_LENGTH.size)
        size = _LENGTH.unpack(prefix)[0] if len(prefix) == _LENGTH.size else 1
        if not 0 < size <= MAX_FRAME_BYTES:
            damage.report(offset, f"a frame of {size:,} bytes; the rest of the file is not read")
            return
        payload = file.read(size) if len(prefix) == _LENGTH.size else b""
        if len(payload) < size:
            # The last frame of an open file may be on its way.
            if prefix and stop is not None:
                damage.report(offset, "the file ends within a frame")
            return
        yield offset, payload
        offset += _LENGTH.size + size


def _iter_block_frames(body: bytes, header: Header, damage: _Damage) -> Iterator[tuple[int, bytes]]:
    """Yield the payloads of a compressed body, each with the byte at which its block begins."""
    blocks = split_blocks(body, header.compression)
    while True:
        try:
            begin, end = next(blocks)
        except StopIteration:
            return
        except CorruptFileError as error:
            damage.report(header.frame_bytes + error.context.get("offset", 0), str(error))
            return
        offset = header.frame_bytes + begin
        try:
            frames = decompress_block(body[begin:end], header.compression)
        except CorruptFileError as error:
            damage.report(offset, str(error))
            continue
        position = 0
        while position < len(frames):
            if position + _LENGTH.size > len(frames):
                damage.report(offset, "the block ends within a frame")
                break
            (size,) = _LENGTH.unpack_from(frames, position)
            start = position + _LENGTH.size
            if not 0 < size <= MAX_FRAME_BYTES or start + size > len(frames):
                damage.report(offset, f"the block has a frame of {size:,} bytes that is not whole")
                break
            yield offset, frames[start : start + size]
            position = start + size
