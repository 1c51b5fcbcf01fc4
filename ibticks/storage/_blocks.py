"""Compressed blocks: about 1 MiB of whole frames each, one after another, each on its own.

``gzip`` members (RFC 1952), ``zstd`` frames (RFC 8878) and streams of the ``snappy`` framing
format. Each is a valid file of its kind, so that ordinary tools can read a body, and each block
can be found and decompressed without the ones before it.
"""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, Final

import cramjam

from ibticks.config import COMPRESSIONS
from ibticks.errors import CorruptFileError, InputError
from ibticks.format import BLOCK_BYTES, MAX_FRAME_BYTES, Header

if TYPE_CHECKING:
    from collections.abc import Iterator

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = [
    "MAX_BLOCK_BYTES",
    "check_compression",
    "compress_block",
    "decompress_block",
    "iter_blocks",
    "split_blocks",
]

MAX_BLOCK_BYTES: Final = BLOCK_BYTES + MAX_FRAME_BYTES
"""Largest size of a decompressed block; a larger one is refused."""

_GZIP: Final = 31  # zlib's number for "gzip wrapper, largest window"
_ZSTD_OPTIONS: Final[dict[int, int]] = {
    zstd.CompressionParameter.compression_level: 9,
    zstd.CompressionParameter.checksum_flag: 1,
}
_ZSTD_LIMITS: Final[dict[int, int]] = {
    zstd.DecompressionParameter.window_log_max: 25,  # 32 MiB of memory
}
_GZIP_LEVEL: Final = 6
_GZIP_CHUNK_BYTES: Final = 1 << 16
_TOO_LARGE: Final = f"decompresses to more than {MAX_BLOCK_BYTES >> 20} MiB"
_SNAPPY_START: Final = b"\xff\x06\x00\x00sNaPpY"
_SNAPPY_CHUNK_BYTES: Final = 65536  # a chunk never decompresses to more, says the framing format


def check_compression(compression: str) -> str:
    """Return ``compression`` if a file can have it.

    Raises
    ------
    InputError
        Naming the known ones.
    """
    if compression not in COMPRESSIONS:
        raise InputError(
            f"unknown compression {compression!r}: use one of {', '.join(COMPRESSIONS)}",
            compression=compression,
        )
    return compression


def compress_block(raw: bytes | memoryview, compression: str) -> bytes:
    """Compress one block of frames."""
    match compression:
        case "zstd":
            return zstd.compress(raw, options=_ZSTD_OPTIONS)
        case "gzip":
            packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP)
            return packer.compress(raw) + packer.flush()
        case "snappy":
            return bytes(cramjam.snappy.compress(raw))
        case _:
            return bytes(raw)


def decompress_block(stored: bytes | memoryview, compression: str) -> bytes:
    """Decompress one block to its frames.

    Raises
    ------
    CorruptFileError
        If it is damaged, cut short, followed by something else, or would grow beyond
        :data:`LARGEST_BLOCK`.
    """
    try:
        match compression:
            case "zstd":
                unpacker = zstd.ZstdDecompressor(options=_ZSTD_LIMITS)
                raw = unpacker.decompress(stored, MAX_BLOCK_BYTES + 1)
                whole = unpacker.eof and not unpacker.unused_data
            case "gzip":
                member = zlib.decompressobj(_GZIP)
                raw = member.decompress(stored, MAX_BLOCK_BYTES + 1)
                whole = member.eof and not member.unused_data
            case "snappy":
                whole = _snappy_size(memoryview(stored)) == len(stored)
                raw = bytes(cramjam.snappy.decompress(stored)) if whole else b""
            case _:
                raw, whole = bytes(stored), True
    except (zstd.ZstdError, zlib.error, cramjam.DecompressionError, CorruptFileError) as error:
        raise CorruptFileError(f"a {compression} block is damaged: {error}") from error
    if len(raw) > MAX_BLOCK_BYTES:
        raise CorruptFileError(f"a {compression} block {_TOO_LARGE}")
    if not whole:
        raise CorruptFileError(f"a {compression} block is cut short, or is more than one")
    return raw


def split_blocks(body: bytes | memoryview, compression: str) -> Iterator[tuple[int, int]]:
    """Iterate over the byte ranges of the blocks of a compressed body.

    Raises
    ------
    CorruptFileError
        Where the next block does not begin as one, or the last is cut short;
        ``context["offset"]`` is its place in ``body``.
    """
    view = memoryview(body)
    at = 0
    while at < len(view):
        try:
            match compression:
                case "zstd":
                    size = zstd.get_frame_size(view[at:])
                case "gzip":
                    size = _gzip_size(view[at:])
                case _:
                    size = _snappy_size(view[at:])
        except (zstd.ZstdError, zlib.error, CorruptFileError) as error:
            raise CorruptFileError(f"no whole {compression} block: {error}", offset=at) from error
        yield at, at + size
        at += size


def iter_blocks(data: memoryview, header: Header) -> Iterator[tuple[int, int, bytes | memoryview]]:
    """Iterate over the blocks of a compressed body: byte range in the file, and frames.

    Raises
    ------
    CorruptFileError
        At a damaged block; ``context["offset"]`` is its place in the file.
    """
    start = at = header.frame_bytes
    try:
        for begin, end in split_blocks(data[start:], header.compression):
            stored = data[start + begin : start + end]
            yield start + begin, start + end, decompress_block(stored, header.compression)
            at = start + end
    except CorruptFileError as error:
        raise CorruptFileError(f"at byte {at}: {error}", offset=at) from error


def _gzip_size(view: memoryview) -> int:
    """Return the stored size of the member at the start, which takes decompressing it."""
    unpacker = zlib.decompressobj(_GZIP)
    produced = taken = 0
    data: bytes | memoryview = b""
    while not unpacker.eof:
        if not data:
            data = view[taken : taken + _GZIP_CHUNK_BYTES]
            taken += len(data)
        raw = unpacker.decompress(data, BLOCK_BYTES)
        produced += len(raw)
        if produced > MAX_BLOCK_BYTES:
            raise CorruptFileError(f"it {_TOO_LARGE}")
        if not (data or raw or unpacker.eof):
            raise CorruptFileError("it is cut short")
        data = unpacker.unconsumed_tail
    return taken - len(unpacker.unused_data)


def _snappy_size(view: memoryview) -> int:
    """Return the stored size of the stream at the start, from its chunk headers."""
    if not _begins(view, 0):
        raise CorruptFileError("it does not begin with a snappy stream identifier")
    at = len(_SNAPPY_START)
    chunks = 0
    while at < len(view) and not _begins(view, at):
        size = int.from_bytes(view[at + 1 : at + 4], "little")
        chunks += 1
        at += 4 + size
        if at > len(view):
            raise CorruptFileError("it is cut short")
        if chunks * _SNAPPY_CHUNK_BYTES > MAX_BLOCK_BYTES + _SNAPPY_CHUNK_BYTES:
            raise CorruptFileError(f"it {_TOO_LARGE}")
    if not chunks:
        raise CorruptFileError("it is empty")
    return at


def _begins(view: memoryview, at: int) -> bool:
    return view[at : at + len(_SNAPPY_START)].tobytes() == _SNAPPY_START
