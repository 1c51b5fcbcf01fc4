"""Raw messages of hour files with their places, and v2 JSON both ways."""

from __future__ import annotations

import json
import struct
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

import ibticks as ibt
from ibticks import errors
from ibticks.format import encode_message, read_header, to_protobuf
from ibticks.hours import message_from_json, message_to_json
from ibticks.testing.strategies import messages
from ibticks.tick_stream_pb2 import StreamMessage

from .conftest import QUOTES_HOUR, in_hour, recorded


def frame_offsets(data: bytes) -> list[int]:
    """Offsets of the frames after the header, by their length prefixes alone."""
    offsets, position = [], 256
    while position < len(data):
        offsets.append(position)
        position += 4 + struct.unpack_from(">I", data, position)[0]
    return offsets


def test_every_message_has_its_offset(written_folder: Path) -> None:
    path = written_folder / QUOTES_HOUR
    data = path.read_bytes()
    messages_read = list(ibt.iter_messages(path))
    assert [offset for offset, _ in messages_read] == frame_offsets(data)
    for offset, message in messages_read[::1000]:
        (size,) = struct.unpack_from(">I", data, offset)
        assert StreamMessage.FromString(data[offset + 4 : offset + 4 + size]) == message
    quotes = in_hour(recorded("ibm_quotes"), 14)
    assert [message.tick_data.bid_price for _, message in messages_read] == quotes[
        "bid_price"
    ].to_list()


@pytest.mark.parametrize("compression", ["gzip", "zstd", "snappy"])
def test_compressed_files_have_the_same_messages(
    written_folder: Path, tmp_path: Path, compression: Any
) -> None:
    plain = [message for _, message in ibt.iter_messages(written_folder / QUOTES_HOUR)]
    with ibt.HourWriter(tmp_path, 8314, "bid_ask", compression=compression) as writer:
        writer.write(in_hour(recorded("ibm_quotes"), 14))
    packed = list(ibt.iter_messages(writer.files[0]))
    assert [message.tick_data for _, message in packed] == [one.tick_data for one in plain]
    assert packed[0].offset == 256
    assert len({offset for offset, _ in packed}) < 10


def test_an_open_file_ends_at_its_last_whole_frame(tmp_path: Path) -> None:
    with ibt.HourWriter(tmp_path, 8314, "all_last") as writer:
        writer.write(in_hour(recorded("ibm_trades"), 14))
        (path,) = tmp_path.rglob("*.pb")
        data = path.read_bytes()
        assert len(list(ibt.iter_messages(path))) == 5_715
        torn = tmp_path / "torn.pb"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for cut in (1, 3, len(data) - frame_offsets(data)[-1] - 2):
                torn.write_bytes(data[:-cut])
                assert len(list(ibt.iter_messages(torn, strict=True))) == 5_714


def test_damage_is_reported_with_its_byte(quotes_file: Path) -> None:
    data = bytearray(quotes_file.read_bytes())
    offsets = frame_offsets(bytes(data))
    data[offsets[5_000]] = 0xFF
    quotes_file.write_bytes(data)
    with pytest.warns(errors.CorruptDataWarning) as caught:
        assert len(list(ibt.iter_messages(quotes_file))) == 5_000
    reports = [str(warning.message) for warning in caught]
    assert "the checksum of the header" in reports[0]
    assert f"at byte {offsets[5_000]}: a frame of" in reports[1]
    with pytest.raises(errors.CorruptFileError) as raised:
        list(ibt.iter_messages(quotes_file, strict=True))
    assert raised.value.context["offset"] == 256


def test_a_torn_sealed_file_is_read_as_far_as_it_goes(quotes_file: Path) -> None:
    quotes_file.write_bytes(quotes_file.read_bytes()[:-3])
    with pytest.warns(errors.CorruptDataWarning, match="sealed with|ends within a frame"):
        assert len(list(ibt.iter_messages(quotes_file))) == 9_457


def test_an_undecodable_frame_is_skipped(tmp_path: Path) -> None:
    header = read_header((path := made_open(tmp_path)).read_bytes())
    with path.open("ab") as file:
        file.write(b"\x00\x00\x00\x02\xff\xff")
        payload = encode_message(
            {
                "type": "info",
                "stream_id": "s",
                "timestamp": "2013-10-08T14:00:00Z",
                "data": {"status": "ok"},
            }
        )
        file.write(len(payload).to_bytes(4, "big") + payload)
    assert not header.sealed
    with pytest.warns(errors.CorruptDataWarning, match="no StreamMessage"):
        messages_read = [message.type for _, message in ibt.iter_messages(path)]
    assert messages_read == ["tick", "info"]


def made_open(tmp_path: Path) -> Path:
    """An open file of one trade."""
    with ibt.HourWriter(tmp_path / "made", 8314, "all_last") as writer:
        writer.write(recorded("ibm_trades")[:1])
        (path,) = (tmp_path / "made").rglob("*.pb")
        copy = tmp_path / "made.pb"
        copy.write_bytes(path.read_bytes())
    return copy


@pytest.mark.parametrize("compression", ["gzip", "zstd", "snappy"])
def test_a_damaged_block_is_skipped_or_ends_the_file(tmp_path: Path, compression: Any) -> None:
    with ibt.HourWriter(tmp_path, 8314, "bid_ask", compression=compression) as writer:
        writer.write(in_hour(recorded("ibm_quotes"), 14))
    (path,) = writer.files
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.warns(errors.CorruptDataWarning):
        list(ibt.iter_messages(path))
    with pytest.raises(errors.CorruptFileError):
        list(ibt.iter_messages(path, strict=True))


def test_other_files_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(errors.NoStoreError, match="no such file"):
        ibt.iter_messages(tmp_path / "none.pb")
    with pytest.raises(errors.NoStoreError):
        ibt.iter_messages(tmp_path)
    (tmp_path / "text.pb").write_text("time,price\n")
    with pytest.raises(errors.CorruptFileError):
        ibt.iter_messages(tmp_path / "text.pb")


@settings(max_examples=50, deadline=None)
@given(messages())
def test_any_message_survives_json(message: dict[str, Any]) -> None:
    protobuf = to_protobuf(message)
    assert message_from_json(message_to_json(protobuf)).SerializeToString(
        deterministic=True
    ) == protobuf.SerializeToString(deterministic=True)


def test_json_has_one_line_and_the_keys_of_v2(written_folder: Path) -> None:
    first = next(ibt.iter_messages(written_folder / QUOTES_HOUR)).message
    text = message_to_json(first)
    assert "\n" not in text
    parsed = json.loads(text)
    assert (parsed["type"], parsed["data"]["contract_id"]) == ("tick", 8314)
    assert message_from_json(text.encode()) == first


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"type": "tick"}', "[" * 100_000])
def test_invalid_text_is_refused(text: str) -> None:
    with pytest.raises(errors.ProtocolError):
        message_from_json(text)
