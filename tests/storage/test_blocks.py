"""Compressed blocks: valid frames of their format, independent, and bounded in size."""

from __future__ import annotations

import gzip
import io
import random
import sys
import tracemalloc
import zlib
from typing import Any

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.config import COMPRESSIONS
from ibticks.errors import CorruptFileError, InputError
from ibticks.format import MAX_FRAME_BYTES, Header
from ibticks.storage import check_compression, decompress_block, split_blocks
from ibticks.storage._blocks import MAX_BLOCK_BYTES, compress_block, iter_blocks

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKED = [name for name in COMPRESSIONS if name != "none"]
RAW = st.one_of(
    st.binary(min_size=1, max_size=3000),
    st.builds(bytes.__mul__, st.binary(min_size=1, max_size=40), st.integers(1, 5000)),
)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@settings(deadline=None)
@given(raw=RAW)
def test_a_block_survives_a_round_trip(compression: str, raw: bytes) -> None:
    for buffer in (raw, memoryview(raw)):
        assert decompress_block(compress_block(buffer, compression), compression) == raw
    assert decompress_block(memoryview(compress_block(raw, compression)), compression) == raw


@pytest.mark.parametrize("compression", PACKED)
@settings(deadline=None, max_examples=40)
@given(raws=st.lists(RAW, max_size=6))
def test_blocks_are_found_one_after_another(compression: str, raws: list[Any]) -> None:
    stored = [compress_block(raw, compression) for raw in raws]
    actual = list(split_blocks(b"".join(stored), compression))
    ends = [sum(map(len, stored[: place + 1])) for place in range(len(stored))]
    assert actual == list(zip([0, *ends], ends, strict=False))
    header = Header(1, "last", 0, 0, compression=compression, frame_bytes=7)
    blocks = list(iter_blocks(memoryview(b"h" * 7 + b"".join(stored)), header))
    assert [(begin - 7, end - 7) for begin, end, _ in blocks] == actual
    assert [raw for _, _, raw in blocks] == raws


def test_ordinary_tools_read_a_body() -> None:
    raws = [b"first block " * 1000, b"second block " * 5000, b"third"]
    whole = b"".join(raws)

    def body(compression: str) -> bytes:
        return b"".join(compress_block(raw, compression) for raw in raws)

    assert gzip.decompress(body("gzip")) == whole
    with gzip.open(io.BytesIO(body("gzip"))) as file:
        assert file.read() == whole
    assert zstd.decompress(body("zstd")) == whole
    with zstd.open(io.BytesIO(body("zstd"))) as packed:
        assert packed.read() == whole
    assert bytes(cramjam.snappy.decompress(body("snappy"))) == whole


def test_other_tools_blocks_are_read() -> None:
    """Blocks written at once or streamed, with or without their content size."""
    raw = random.Random(1).randbytes(1000) * 100 + random.Random(2).randbytes(100_000)
    streamed = zstd.ZstdCompressor()
    others = {
        "zstd": [zstd.compress(raw, 19), streamed.compress(raw) + streamed.flush()],
        "gzip": [gzip.compress(raw), gzip.compress(raw, 1), _gzip_named(raw)],
        "snappy": [bytes(cramjam.snappy.compress(raw))],
    }
    for compression, blocks in others.items():
        for block in blocks:
            assert decompress_block(block, compression) == raw
            assert list(split_blocks(block * 2, compression)) == [
                (0, len(block)),
                (len(block), 2 * len(block)),
            ]


def _gzip_named(raw: bytes) -> bytes:
    file = io.BytesIO()
    with gzip.GzipFile("13_ticks", "wb", fileobj=file) as member:
        member.write(raw)
    return file.getvalue()


@pytest.mark.parametrize("compression", PACKED)
def test_a_damaged_block_is_never_taken_for_a_whole_one(compression: str) -> None:
    raw = random.Random(2).randbytes(1000) * 20 + random.Random(3).randbytes(70_000)
    stored = compress_block(raw, compression)
    choose, reported = random.Random(3), []
    for _ in range(200):
        place = choose.randrange(len(stored))
        damaged = bytearray(stored)
        damaged[place] ^= 1 << choose.randrange(8)
        try:
            actual = decompress_block(bytes(damaged), compression)
        except CorruptFileError as error:
            reported.append(str(error))
        else:
            assert actual == raw  # the bit has no meaning: a time, or the operating system
    assert len(reported) > 180
    assert all(compression in value for value in reported)


@pytest.mark.parametrize("compression", PACKED)
def test_a_block_cut_short_or_followed_by_more_is_refused(compression: str) -> None:
    raw = b"frames " * 3000
    stored = compress_block(raw, compression)
    choose = random.Random(4)
    for cut in {0, 1, 5, len(stored) - 1, *(choose.randrange(len(stored)) for _ in range(50))}:
        with pytest.raises(CorruptFileError, match=compression):
            decompress_block(stored[:cut], compression)
        if cut:
            with pytest.raises(CorruptFileError, match=f"no whole {compression} block") as caught:
                list(split_blocks(stored + stored[:cut], compression))
            if compression != "snappy" or cut > 10:  # less is not seen as the start of another
                assert caught.value.context["offset"] == len(stored)
    for more in (b"\x00", b"garbage", stored):
        with pytest.raises(CorruptFileError, match=compression):
            decompress_block(stored + more, compression)


@pytest.mark.parametrize("compression", PACKED)
@given(garbage=st.binary(min_size=1, max_size=200))
def test_garbage_is_no_block(compression: str, garbage: bytes) -> None:
    with pytest.raises(CorruptFileError):
        decompress_block(garbage, compression)
    with pytest.raises(CorruptFileError):
        list(split_blocks(garbage, compression))


@pytest.mark.parametrize("compression", PACKED)
def test_the_offset_of_a_damaged_block_is_reported(compression: str) -> None:
    stored = [compress_block(raw * 2000, compression) for raw in (b"one", b"two", b"three")]
    damaged = bytearray(stored[1])
    damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
    body = stored[0] + bytes(damaged) + stored[2]
    header = Header(1, "last", 0, 0, compression=compression)
    blocks = iter_blocks(memoryview(bytes(256) + body), header)
    assert next(blocks)[2] == b"one" * 2000
    with pytest.raises(CorruptFileError, match=f"byte {256 + len(stored[0])}") as caught:
        next(blocks)
    assert caught.value.context["offset"] == 256 + len(stored[0])


def test_the_largest_block_is_accepted() -> None:
    assert MAX_BLOCK_BYTES > MAX_FRAME_BYTES
    raw = bytes(MAX_BLOCK_BYTES)
    for compression in PACKED:
        assert decompress_block(compress_block(raw, compression), compression) == raw
        with pytest.raises(CorruptFileError, match=f"more than {MAX_BLOCK_BYTES >> 20} MiB"):
            decompress_block(compress_block(raw + b"x", compression), compression)


def bomb(compression: str) -> bytes:
    """A quarter of a gigabyte of zeros, in little space."""
    piece, times = bytes(1 << 20), 256
    match compression:
        case "gzip":
            packer = zlib.compressobj(9, zlib.DEFLATED, 31)
            return b"".join(packer.compress(piece) for _ in range(times)) + packer.flush()
        case "zstd":
            streamed = zstd.ZstdCompressor()
            return b"".join(streamed.compress(piece) for _ in range(times)) + streamed.flush()
        case _:
            stream = bytes(cramjam.snappy.compress(piece))
            return stream[:10] + stream[10:] * times


@pytest.mark.parametrize("compression", PACKED)
def test_a_decompression_bomb_is_refused_in_bounded_memory(compression: str) -> None:
    packed = bomb(compression)
    for work in (
        lambda: decompress_block(packed, compression),
        lambda: decompress_block(compress_block(b"x", compression) + packed, compression),
        lambda: [
            decompress_block(packed[a:b], compression) for a, b in split_blocks(packed, compression)
        ],
    ):
        tracemalloc.start()
        try:
            with pytest.raises(CorruptFileError):
                work()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 3 * MAX_BLOCK_BYTES


def test_a_frame_that_wants_a_huge_window_is_refused() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    streamed = zstd.ZstdCompressor(options=options)
    packed = streamed.compress(b"x") + streamed.flush()
    with pytest.raises(CorruptFileError, match="zstd block is damaged"):
        decompress_block(packed, "zstd")


@pytest.mark.parametrize("compression", ["", "lz4", "ZSTD"])
def test_an_unknown_compression_lists_the_known_ones(compression: str) -> None:
    with pytest.raises(InputError, match="none, gzip, zstd, snappy"):
        check_compression(compression)
    assert [check_compression(name) for name in COMPRESSIONS] == list(COMPRESSIONS)
