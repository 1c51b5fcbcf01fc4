"""Frames without decoding them: walks, blocks, places, fingerprints, checksums."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.errors import CorruptFileError, InputError
from ibticks.format import (
    MAX_FRAME_BYTES,
    TORN,
    checksum,
    count_frames,
    encode_frame,
    find_payloads,
    fingerprint_payloads,
    scan_frames,
)
from ibticks.testing import wire
from ibticks.testing.strategies import wire_messages
from ibticks.tick_stream_pb2 import StreamMessage

from .oracle import framed, in_range, time_of
from .strategies import PATIENT, streams

MESSAGES = st.one_of(streams(frames=30), st.lists(wire_messages().filter(bool), max_size=6))


def at(seconds: int, member: int = 4) -> bytes:
    return wire.delimited(3, wire.integer(1, seconds)) + wire.delimited(member, b"")


def described(payloads: list[bytes]) -> list[tuple[int, bool]]:
    """Time of each message, and whether it is a tick."""
    parsed = map(StreamMessage.FromString, payloads)
    return [(time_of(m.timestamp), m.WhichOneof("message_data") == "tick_data") for m in parsed]


def starts_of(payloads: list[bytes]) -> list[int]:
    """Return the offset of each frame, and the end of the last one."""
    return np.cumsum([0, *(4 + len(payload) for payload in payloads)]).tolist()


# --- blocks ---------------------------------------------------------------------------------------


@given(MESSAGES, st.sampled_from([0, 1, 50, 300, 10**6]), st.sampled_from([b"", b"\0", b"before"]))
@settings(PATIENT, max_examples=80)
def test_blocks_partition_the_frames(payloads: list[bytes], block_bytes: Any, before: Any) -> None:
    buffer = before + framed(*payloads)
    frames = scan_frames(buffer, len(before), block_bytes=block_bytes)
    assert (frames.end, frames.problem) == (len(buffer), None)
    assert (frames.messages, frames.ticks) == (
        len(payloads),
        sum(tick for _, tick in described(payloads)),
    )
    starts = [len(before) + start for start in starts_of(payloads)]
    edges = [block.start for block in frames.blocks] + [len(buffer)]
    assert edges[0] == len(before)
    done = 0
    for block, (begin, end) in zip(frames.blocks, pairwise(edges), strict=True):
        assert (block.start, block.stop) == (begin, end)
        inside = described(payloads[done : done + block.messages])
        assert starts[done] == begin
        assert starts[done + block.messages] == end
        times = [time for time, _ in inside]
        assert (block.first_ns, block.min_ns, block.max_ns) == (times[0], min(times), max(times))
        assert block.ticks == sum(tick for _, tick in inside)
        # It ends with the frame that fills it.
        assert starts[done + block.messages - 1] - begin < max(1, block_bytes)
        assert end == len(buffer) or end - begin >= block_bytes
        done += block.messages
    assert done == len(payloads)


def test_many_blocks() -> None:
    buffer = framed(*[at(i) for i in range(5000)])
    assert len(scan_frames(buffer, block_bytes=1).blocks) == 5000
    assert len(scan_frames(buffer, block_bytes=1000).blocks) > 50
    assert len(scan_frames(buffer).blocks) == 1


def test_a_block_ends_when_it_is_full() -> None:
    buffer = framed(*[at(i) for i in range(1, 101)])
    for spare, messages in [(-1, 10), (0, 10), (1, 11)]:
        first, *_ = scan_frames(buffer, block_bytes=len(buffer) // 10 + spare).blocks
        assert first.messages == messages


def test_a_scan_reports_its_end_and_the_reason() -> None:
    good = framed(at(1), at(2, member=5))
    for bad, problem in [
        (b"\0\0\0", TORN),
        (framed(at(3))[:-1], TORN),
        (bytes(4), "empty or longer than 16 MiB"),
        ((MAX_FRAME_BYTES + 1).to_bytes(4, "big"), "empty or longer than 16 MiB"),
        (framed(b"\x07"), "not a StreamMessage"),
        (framed(at(3) + b"\x1a\x01\x08"), "not a StreamMessage"),
    ]:
        frames = scan_frames(good + bad)
        assert (frames.end, frames.messages, frames.ticks) == (len(good), 2, 1)
        assert frames.blocks[0].stop == len(good)
        assert problem in frames.problem
        assert problem == TORN or f"at byte {len(good)}" in frames.problem
    # A scan looks as far as it must, to the times; not into ticks.
    frames = scan_frames(good + framed(wire.delimited(4, b"\x07")))
    assert (frames.problem, frames.ticks) == (None, 2)


def test_an_empty_scan() -> None:
    frames = scan_frames(b"")
    assert (frames.blocks, frames.end, frames.problem) == ((), 0, None)
    assert (frames.messages, frames.ticks) == (0, 0)


# --- walking and finding --------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.binary(max_size=3))
@settings(PATIENT, max_examples=100)
def test_a_walk_counts_frames_of_anything(payloads: list[Any], rest: bytes) -> None:
    buffer = framed(*payloads)
    assert count_frames(buffer + rest) == (len(payloads), len(buffer), TORN if rest else None)
    starts = starts_of(payloads)
    for done, start in enumerate(starts):
        assert count_frames(buffer, start)[0] == len(payloads) - done
        assert count_frames(buffer, 0, start) == (done, start, None)


@given(MESSAGES, st.booleans(), st.booleans(), st.data())
@settings(PATIENT, max_examples=80)
def test_payloads_are_found_by_type_and_time(
    payloads: list[bytes], ticks: bool, others: bool, data: st.DataObject
) -> None:
    reported = described(payloads)
    bounds = st.sampled_from([*(time for time, _ in reported), 0, -(2**63) + 1, 2**63 - 1])
    start, end = data.draw(bounds), data.draw(bounds)
    buffer = framed(*payloads)
    expected = [
        (payload, time)
        for payload, (time, tick) in zip(payloads, reported, strict=True)
        if (ticks if tick else others) and in_range(time, start, end)
    ]
    offsets, sizes, times = find_payloads(
        buffer, ticks=ticks, others=others, start_ns=start, end_ns=end
    )
    actual = [buffer[a : a + n] for a, n in zip(offsets.tolist(), sizes.tolist(), strict=True)]
    assert list(zip(actual, times.tolist(), strict=True)) == expected


def test_many_payloads_are_found() -> None:
    buffer = framed(*[at(i) for i in range(1000)], b"torn")[:-1]
    offsets, _, times = find_payloads(buffer, ticks=True, others=False)
    assert (times // 10**9).tolist() == list(range(1000))
    assert (np.diff(offsets) > 0).all()


def test_damage_ends_a_search() -> None:
    good = framed(at(1))
    with pytest.raises(CorruptFileError, match="not a StreamMessage") as caught:
        find_payloads(good + framed(b"\x07"), ticks=True, others=True)
    assert caught.value.context["offset"] == len(good)


# --- telling apart --------------------------------------------------------------------------------


@given(st.one_of(MESSAGES, st.lists(st.binary(min_size=1, max_size=20), max_size=100)))
@settings(PATIENT, max_examples=80)
def test_fingerprints_are_equal_where_payloads_are(payloads: Any) -> None:
    prints, ends = fingerprint_payloads(framed(*payloads))
    assert ends.tolist() == starts_of(payloads)[1:]
    assert prints.shape == (len(payloads), 2)
    for column in range(2):  # each half alone is unique
        by_print = dict(zip(prints[:, column].tolist(), payloads, strict=True))
        assert [by_print[one] for one in prints[:, column].tolist()] == payloads
        assert len(by_print) == len(set(payloads))


def test_fingerprints_depend_on_length_order_and_each_bit() -> None:
    base = bytes(range(1, 20))
    flipped = [
        bytes(b ^ 1 << bit if i == at else b for i, b in enumerate(base))
        for at in range(len(base))
        for bit in range(8)
    ]
    zeros = [bytes(size) for size in range(1, 40)]
    swapped = [base[8:16] + base[:8] + base[16:]]
    payloads = [base, *flipped, *zeros, *swapped]
    prints, _ = fingerprint_payloads(framed(*payloads))
    assert len(set(prints[:, 0].tolist())) == len(set(prints[:, 1].tolist())) == len(payloads)


def test_fingerprints_leave_out_a_torn_tail() -> None:
    prints, ends = fingerprint_payloads(framed(b"abc", b"def")[:-1])
    assert (len(prints), ends.tolist()) == (1, [7])


# --- frames and checksums -------------------------------------------------------------------------


def test_a_frame_is_a_length_and_a_payload() -> None:
    assert encode_frame(b"abc" * 100) == b"\0\0\x01\x2c" + b"abc" * 100
    largest = bytes(MAX_FRAME_BYTES)
    assert count_frames(encode_frame(largest)) == (1, 4 + MAX_FRAME_BYTES, None)
    for payload in (b"", largest + b"\0"):
        with pytest.raises(InputError, match="a frame holds 1 to 16,777,216"):
            encode_frame(payload)


def plain_crc32c(data: bytes) -> int:
    """Bit by bit, as RFC 3720 defines it: polynomial 0x1EDC6F41, reflected."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


ISCSI_READ = (
    "01c00000 00000000 00000000 00000000 14000000 00000400"
    "00000014 00000018 28000000 00000000 02000000 00000000"
)


@pytest.mark.parametrize(
    ("data", "crc"),
    [  # RFC 3720, appendix B.4, and the check value of the catalogue of CRCs
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (bytes.fromhex(ISCSI_READ), 0xD9963A56),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_checksums_as_published(data: bytes, crc: int) -> None:
    assert checksum(data) == plain_crc32c(data) == crc


@given(st.binary(max_size=300), st.integers(0, 300))
def test_checksums_can_be_continued(data: bytes, cut: int) -> None:
    assert checksum(data[cut:], checksum(data[:cut])) == plain_crc32c(data)
    assert checksum(memoryview(data)) == checksum(np.frombuffer(data, np.uint8)) == checksum(data)
