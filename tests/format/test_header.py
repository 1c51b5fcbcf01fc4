"""The header frame of a file."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.config import COMPRESSIONS
from ibticks.errors import CorruptFileError, InputError
from ibticks.format import HEADER_BYTES, HEADER_VERSION, Header, read_header
from ibticks.testing import wire
from ibticks.tick_stream_pb2 import FileHeader

from .oracle import framed, time_of
from .strategies import PATIENT

FIVE = Header(8314, "bid_ask", 1_381_238_999_000_000_001, 1_381_239_002_000_000_002, 5)

HEADERS = st.builds(
    Header,
    contract_id=st.integers(0, 2**32 - 1),
    tick_type=st.text(max_size=40),
    start_ns=st.integers(-(2**63), 2**63 - 1),
    end_ns=st.integers(-(2**63), 2**63 - 1),
    message_count=st.integers(0, 2**64 - 1),
    compression=st.sampled_from(COMPRESSIONS),
    sealed=st.booleans(),
    crc32c=st.one_of(st.none(), st.integers(0, 2**32 - 1)),
    body_bytes=st.integers(0, 2**64 - 1),
    writer=st.one_of(st.text(max_size=20), st.integers(0, 60).map("x".__mul__)),
    version=st.integers(0, HEADER_VERSION),
)


def message_of(header: Header) -> FileHeader:
    """The header as the runtime would build it, without padding."""
    message = FileHeader(
        version=header.version,
        start_time=Timestamp(seconds=header.start_ns // 10**9, nanos=header.start_ns % 10**9),
        end_time=Timestamp(seconds=header.end_ns // 10**9, nanos=header.end_ns % 10**9),
        contract_id=header.contract_id,
        tick_type=header.tick_type,
        message_count=header.message_count,
        compression=header.compression,
        sealed=header.sealed,
        body_bytes=header.body_bytes,
        writer=header.writer,
    )
    if header.crc32c is not None:
        message.crc32c = header.crc32c
    return message


def assert_padded(header: Header) -> None:
    """Assert that 256 bytes decode to the header, by ibticks and by the protobuf runtime."""
    encoded = header.to_bytes()
    assert len(encoded) == HEADER_BYTES == 256
    assert int.from_bytes(encoded[:4], "big") == HEADER_BYTES - 4
    parsed = FileHeader.FromString(encoded[4:])
    assert set(parsed.padding) <= {0}
    parsed.ClearField("padding")
    assert parsed == message_of(header)
    assert read_header(encoded + b"the body") == header


# --- writing --------------------------------------------------------------------------------------


@given(HEADERS)
@settings(PATIENT, max_examples=300)
def test_every_header_fills_its_bytes(header: Header) -> None:
    assert_padded(header)


@pytest.mark.parametrize("tick_type", ["bid_ask", "x" * 60, "x" * 120])
@pytest.mark.parametrize("crc32c", [None, 0])
def test_every_possible_length(tick_type: str, crc32c: int | None) -> None:
    # Writers of all lengths: every total is met, and that at which nothing is left over.
    fitting = []
    for size in range(300):
        header = Header(8314, tick_type, 1, 2, crc32c=crc32c, writer="w" * size)
        content = message_of(header).ByteSize()
        if content + 3 <= HEADER_BYTES - 4:
            assert_padded(header)
            fitting.append(content)
        else:
            with pytest.raises(InputError, match=r"does not fit into 252: shorten the writer 'w"):
                header.to_bytes()
    assert fitting[-1] == HEADER_BYTES - 4 - 3


def test_an_overlong_tick_type() -> None:
    with pytest.raises(InputError, match="or the tick type 'xxx"):
        Header(1, "x" * 300, 0, 0).to_bytes()


def test_sealing_changes_only_the_final_fields() -> None:
    sealed = FIVE.seal(start_ns=3, end_ns=4, message_count=7, crc32c=0xE3069283, body_bytes=900)
    assert sealed == Header(8314, "bid_ask", 3, 4, 7, "none", True, 0xE3069283, 900)
    assert_padded(sealed)
    opened = sealed.unseal()
    assert opened == Header(8314, "bid_ask", 3, 4)
    assert_padded(opened)


def test_sealing_pads_headers_of_other_writers() -> None:
    unpadded = read_header(framed(message_of(FIVE).SerializeToString()))
    assert unpadded.frame_bytes < HEADER_BYTES
    sealed = unpadded.seal(start_ns=1, end_ns=2, message_count=3, crc32c=4, body_bytes=5)
    assert sealed.frame_bytes == HEADER_BYTES
    assert_padded(sealed)


# --- reading --------------------------------------------------------------------------------------


@given(HEADERS, st.binary(max_size=10))
@settings(PATIENT, max_examples=100)
def test_headers_without_padding_are_read(header: Header, body: bytes) -> None:
    payload = message_of(header).SerializeToString()
    read = read_header(framed(payload) + body)
    assert read.frame_bytes == 4 + len(payload)
    fields: dict[str, Any] = {name: getattr(header, name) for name in Header.__slots__[:-1]}
    assert read == Header(**fields, frame_bytes=4 + len(payload))


def test_a_header_of_an_older_writer() -> None:
    # Never finalised, nothing counted, no compression named, no end.
    message = FileHeader(version=1, contract_id=8314, tick_type="bid_ask")
    message.start_time.FromJsonString("2013-10-08T13:30:00Z")
    read = read_header(memoryview(framed(message.SerializeToString())))
    assert (read.start_ns, read.end_ns) == (1_381_239_000 * 10**9, 0)
    assert (read.compression, read.message_count, read.sealed) == ("none", 0, False)
    assert (read.crc32c, read.body_bytes, read.writer) == (None, 0, "")


def test_unknown_fields_are_skipped() -> None:
    payload = message_of(FIVE).SerializeToString() + wire.text(12, "new") + wire.integer(99, 1)
    read = read_header(framed(payload))
    assert (read.contract_id, read.message_count) == (8314, 5)
    assert read.frame_bytes == 4 + len(payload)


def test_a_long_header_is_read() -> None:
    payload = message_of(FIVE).SerializeToString() + wire.delimited(15, bytes(100_000))
    assert read_header(framed(payload)).frame_bytes == 4 + len(payload)


def test_a_torn_header_is_not_read() -> None:
    encoded = FIVE.to_bytes()
    for size in range(len(encoded)):
        with pytest.raises(CorruptFileError, match=r"^14_ticks\.pb: ") as caught:
            read_header(encoded[:size], path="14_ticks.pb")
        assert caught.value.context == {"path": "14_ticks.pb", "offset": 0}


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"", "the file has 0 bytes"),
        (bytes(4096), "the header frame is empty"),
        (b"\xff" * 4096, "claims 4294967295 bytes"),
        (((1 << 20) + 1).to_bytes(4, "big") + bytes((1 << 20) + 1), "claims 1048577 bytes"),
        (framed(b"\x07"), "not a FileHeader"),
        (framed(wire.delimited(5, b"\xff")), "not a FileHeader"),
        (Header(1, "last", 0, 0, version=HEADER_VERSION + 1).to_bytes(), "a newer one may read it"),
        (framed(FileHeader(compression="lzma").SerializeToString()), "'lzma'.* gzip, zstd"),
    ],
)
def test_invalid_headers(start: bytes, reason: str) -> None:
    with pytest.raises(CorruptFileError, match=reason):
        read_header(start)


def test_times_are_those_of_the_messages() -> None:
    message = FileHeader.FromString(FIVE.to_bytes()[4:])
    assert (time_of(message.start_time), time_of(message.end_time)) == (FIVE.start_ns, FIVE.end_ns)
