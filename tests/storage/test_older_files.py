"""Files of older writers are read, appended to and sealed; new files need only the schema."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ibticks.config import HOUR_NS, resource
from ibticks.format import encode_frame
from ibticks.storage import FileKey, StreamWriter, compress_file, read_messages, verify_files
from ibticks.storage._audit import read_all_records
from ibticks.storage._hour_file import HourFile

from .samples import (
    H13,
    KEY,
    MINUTE,
    SECOND,
    every,
    message,
    numbers,
    old_frame,
    old_header,
    quote_message,
    quotes,
    read_plainly,
    split_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.index import MemoryIndex


@pytest.fixture
def old(root: Path) -> Path:
    """An hour as older writers leave it: its header short and never made final."""
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    frames = [old_frame(time_ns, number) for number, time_ns in enumerate(every(SECOND, 100))]
    path.write_bytes(old_header() + b"".join(frames))
    return path


def test_an_old_file_is_read(old: Path, root: Path, index: MemoryIndex) -> None:
    before = old.read_bytes()
    index.replace_files(read_all_records(root))
    (row,) = index.files()
    assert (row.messages, row.ticks, row.sealed) == (100, 100, False)
    assert (row.start_ns, row.end_ns) == (H13, H13 + 99 * SECOND)
    assert numbers(root, index) == list(range(100))
    assert numbers(root, index, start_ns=H13 + 7 * SECOND, end_ns=H13 + 9 * SECOND) == [7, 8]
    assert len(list(read_messages(root, index.files(), ticks=True))) == 100
    assert old.read_bytes() == before


@pytest.mark.parametrize("minutes", [20, 40])
def test_an_old_file_is_appended_to_and_sealed(
    old: Path, root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter], minutes: int
) -> None:
    body = old.read_bytes()[len(old_header()) :]
    with writer() as opened:
        opened.append(quote_message(H13 + minutes * MINUTE, 100))
        opened.write(quotes(every(SECOND, 50, H13 + minutes * MINUTE), 101))
    header, actual = read_plainly(old)
    assert [value.tick_data.sequence for value in actual] == list(range(151))
    assert old.read_bytes()[256:].startswith(body)
    assert header.sealed
    assert (header.message_count, header.contract_id, header.tick_type) == (151, 8314, "bid_ask")
    assert header.writer.startswith("ibticks")
    assert numbers(root, index) == list(range(151))
    assert [finding.problem for finding in verify_files(root, index)] == [None]


def test_an_old_file_is_sealed_by_the_next_writer(
    old: Path, root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    body = old.read_bytes()[len(old_header()) :]
    writer()
    assert old.read_bytes()[256:] == body
    assert read_plainly(old)[0].sealed
    assert index.files() == list(read_all_records(root))
    assert numbers(root, index) == list(range(100))


def test_an_old_file_torn_by_a_crash_loses_only_the_torn_message(
    old: Path, root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    data = old.read_bytes()
    old.write_bytes(data[:-5])
    index.replace_files(read_all_records(root))
    assert numbers(root, index) == list(range(99))
    writer()
    assert numbers(root, index) == list(range(99))
    torn = old.with_name(old.name + ".torn").read_bytes()
    assert data.endswith(torn + data[-5:])


def test_an_old_file_is_split_by_its_size(
    old: Path, root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    size = old.stat().st_size
    with writer(split_bytes=size // 2) as opened:
        opened.append(quote_message(H13 + 40 * MINUTE, 100))
    half = FileKey(KEY.contract_id, KEY.tick_type, H13, "30")
    assert len(read_plainly(root / half.path)[1]) == 1
    assert numbers(root, index) == list(range(101))


def test_an_old_file_without_messages_stays_empty(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    path.write_bytes(old_header())
    writer()
    assert read_plainly(path)[0].sealed
    assert numbers(root, index) == []
    assert [finding.problem for finding in verify_files(root, index)] == [None]


def test_an_old_file_compressed_by_hand_is_read_and_opened(
    old: Path, root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    """A file compressed as by older writers: the body as one block, not sealed."""
    data = old.read_bytes()
    header, body = split_header(data)
    header.compression = "gzip"
    packed = encode_frame(header.SerializeToString()) + gzip.compress(body)
    old.write_bytes(packed)
    index.replace_files(read_all_records(root))
    assert numbers(root, index, strict=True) == list(range(100))
    HourFile(root, KEY, H13, lambda: None).close()
    assert old.read_bytes()[256:] == body
    old.write_bytes(packed)
    with writer() as opened:
        assert index.files()[0].sealed
        opened.append(quote_message(H13 + 40 * MINUTE, 100))
    assert numbers(root, index, strict=True) == list(range(101))


def test_an_empty_file_is_recreated(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    path.touch()
    with writer() as opened:
        opened.append(quote_message(H13, 0))
    assert numbers(root, index) == [0]
    assert not path.with_name(path.name + ".torn").exists()


PLAIN_READER = """
import gzip, json, struct, sys
import tick_stream_pb2
data = open(sys.argv[1], "rb").read()
(size,) = struct.unpack_from(">I", data)
header = tick_stream_pb2.FileHeader.FromString(data[4:4 + size])
body = data[4 + size:]
if header.compression == "gzip":
    body = gzip.decompress(body)
at, found = 0, []
while at < len(body):
    (size,) = struct.unpack_from(">I", body, at)
    message = tick_stream_pb2.StreamMessage.FromString(body[at + 4:at + 4 + size])
    seconds = message.timestamp.seconds * 10**9 + message.timestamp.nanos
    found.append([message.type, seconds, message.tick_data.sequence, message.tick_data.bid_price])
    at += 4 + size
assert not any(name.startswith("ibticks") for name in sys.modules)
print(json.dumps([header.message_count, header.tick_type, found]))
"""


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_files_are_readable_with_protobuf_and_the_schema_alone(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    tmp_path: Path,
    compression: str,
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 100)))
        opened.append(message("info", H13 + HOUR_NS - 1, {"status": "active"}))
    compress_file(root, KEY, compression)
    schema = resource("proto") / "tick_stream.proto"
    compiler = [sys.executable, "-m", "grpc_tools.protoc", f"--python_out={tmp_path}"]
    known = files("grpc_tools") / "_proto"
    subprocess.run([*compiler, f"-I{schema.parent}", f"-I{known}", schema.name], check=True)
    script = tmp_path / "plain_reader.py"
    script.write_text(PLAIN_READER)
    done = subprocess.run(
        [sys.executable, script, root / KEY.path], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [
        101,
        "bid_ask",
        [
            *(["tick", H13 + n * SECOND, n, 180 + n * 0.01] for n in range(100)),
            ["info", H13 + HOUR_NS - 1, 0, 0.0],
        ],
    ]
