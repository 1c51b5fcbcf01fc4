"""Torn files after a crash: whole frames are read, the torn tail is moved aside."""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.errors import CorruptDataWarning, CorruptFileError
from ibticks.format import encode_frame
from ibticks.index import MemoryIndex
from ibticks.storage import FileKey, StreamWriter, read_messages, verify_files
from ibticks.storage._hour_file import HourFile
from ibticks.testing.strategies import malformed_messages
from ibticks.tick_stream_pb2 import StreamMessage

from .samples import (
    CONTRACT,
    H13,
    HALF,
    KEY,
    MINUTE,
    SECOND,
    every,
    hour_of_quotes,
    load,
    message,
    new_root,
    numbers,
    quote_message,
    quotes,
    read_plainly,
)

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER = 256


def crash(root: Path, index: MemoryIndex, write: Callable[..., None] | Callable[..., Any]) -> bytes:
    """An open file as a killed process leaves it; the index has its row from its first tick."""
    writer = StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None)
    write(writer)
    data = (root / KEY.path).read_bytes()
    rows = index.files()
    writer.close()
    index.replace_files(rows)
    (root / KEY.path).write_bytes(data)
    return data


def ends(data: bytes) -> list[int]:
    """Return the end of each frame, the header's first."""
    actual, at = [], 0
    while at < len(data):
        at += 4 + int.from_bytes(data[at : at + 4], "big")
        actual.append(at)
    return actual


def write_some(writer: StreamWriter) -> None:
    writer.write(quotes(every(SECOND, 150)))
    for number in range(150, 170):
        writer.append(quote_message(H13 + number * SECOND, number))


def whole(borders: list[int], cut: int) -> int:
    """Count the messages that are whole before ``cut``."""
    return sum(end <= cut for end in borders) - 1


def test_every_prefix_of_an_open_file_is_read_to_its_last_whole_frame(
    root: Path, index: MemoryIndex
) -> None:
    data = crash(root, index, write_some)
    borders, path = ends(data), root / KEY.path
    chosen = random.Random(1).choices(range(HEADER, len(data)), k=200)
    for cut in sorted({*range(len(data) - 4096, len(data) + 1), *chosen}, reverse=True):
        os.truncate(path, cut)
        assert numbers(root, index) == list(range(whole(borders, cut)))


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 5, 100, HEADER - 1])
def test_a_file_with_half_a_header_is_reported_and_recreated(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    caplog: pytest.LogCaptureFixture,
    cut: int,
) -> None:
    data = crash(root, index, write_some)
    os.truncate(root / KEY.path, cut)
    with pytest.warns(CorruptDataWarning, match="header"):
        assert numbers(root, index) == []
    opened = writer()
    assert index.files() == []
    assert not (root / KEY.path).exists()
    opened.append(quote_message(H13, 5))
    assert numbers(root, index) == [5]
    if cut:
        assert "the header is torn" in caplog.text
        assert (root / f"{KEY.path}.torn").read_bytes() == data[:cut]


def test_a_large_open_file_is_read_up_to_its_last_whole_frame(
    root: Path, index: MemoryIndex
) -> None:
    """The file is larger than one read, so that frames cross the boundaries of reads."""
    data = crash(root, index, lambda writer: writer.write(hour_of_quotes(120_000)))
    borders, path = ends(data), root / KEY.path
    assert len(data) > 2 * (4 << 20)
    edges = [HEADER + place * (4 << 20) + step for place in (1, 2) for step in (-1, 0, 1, 3, 4, 5)]
    for cut in sorted([*edges, *random.Random(2).choices(range(len(data)), k=6)], reverse=True):
        os.truncate(path, cut)
        assert numbers(root, index) == list(range(whole(borders, cut)))


@pytest.mark.parametrize("cut", [0, 1, 1 << 20])
def test_a_message_larger_than_one_read(root: Path, index: MemoryIndex, cut: int) -> None:
    def write(writer: Any) -> None:
        writer.append(quote_message(H13, 0))
        writer.append(quote_message(H13, 1) | {"metadata": {"note": "n" * (9 << 20)}})
        writer.append(quote_message(H13, 2))

    data = crash(root, index, write)
    assert numbers(root, index) == [0, 1, 2]
    os.truncate(root / KEY.path, ends(data)[2] - cut)
    assert numbers(root, index) == ([0, 1] if cut == 0 else [0])


# --- the writer that comes after ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(25))
def test_the_next_writer_moves_a_torn_tail_aside(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    caplog: pytest.LogCaptureFixture,
    seed: int,
) -> None:
    data = crash(root, index, write_some)
    borders = ends(data)
    cut = random.Random(seed).randrange(HEADER + 1, len(data))
    os.truncate(root / KEY.path, cut)
    remaining = whole(borders, cut)
    opened = writer()
    opened.append(quote_message(H13, remaining))
    assert numbers(root, index) == list(range(remaining + 1))
    torn = root / f"{KEY.path}.torn"
    tail = data[borders[remaining] : cut]
    if tail:
        assert torn.read_bytes() == tail
        assert (
            f"{len(tail)} bytes after byte {borders[remaining]} are not whole messages"
            in caplog.text
        )
        assert "moved to 13_ticks.pb.torn" in caplog.text
    else:
        assert not torn.exists()
    opened.close()
    assert numbers(root, index) == list(range(remaining + 1))
    assert [finding.problem for finding in verify_files(root, index)] == [None]


def test_a_second_torn_tail_is_appended_to_the_first(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    crash(root, index, write_some)
    path, torn = root / KEY.path, root / f"{KEY.path}.torn"
    tails = [b"\x00\x00\x00\x99first", b"\x00\x00", b"\x00\x00\x01\x00second"]
    for place, tail in enumerate(tails, 1):
        with path.open("ab") as file:
            file.write(tail)
        before = path.read_bytes()
        # Opened for a late tick by the same writer, or by the next one.
        HourFile(root, KEY, H13, lambda: None).close()
        assert path.read_bytes() == before[: -len(tail)]
        assert torn.read_bytes() == b"".join(tails[:place])
    writer()
    assert torn.read_bytes() == b"".join(tails)


TAILS = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.integers(1, 5000).map(bytes),
    malformed_messages().filter(bool).map(encode_frame),
    st.tuples(malformed_messages().filter(bool).map(encode_frame), st.binary(max_size=100)).map(
        b"".join
    ),
)


def is_message(payload: bytes) -> bool:
    try:
        StreamMessage.FromString(payload)
    except DecodeError:
        return False
    return True


def good_part(tail: bytes) -> list[bytes]:
    """The whole messages at the start of a tail."""
    actual, at = [], 0
    while at + 4 <= len(tail):
        size = int.from_bytes(tail[at : at + 4], "big")
        payload = tail[at + 4 : at + 4 + size]
        if not 0 < size <= 16 << 20 or len(payload) < size or not is_message(payload):
            break
        actual.append(payload)
        at += 4 + size
    return actual


@settings(deadline=None, max_examples=80)
@given(tail=TAILS)
def test_bytes_behind_the_last_message_are_moved_aside(tail: bytes) -> None:
    index = MemoryIndex()
    with new_root() as root:
        data = crash(root, index, lambda writer: writer.write(quotes(every(SECOND, 3))))
        path = root / KEY.path
        path.write_bytes(data + tail)
        good = sum(map(len, map(encode_frame, good_part(tail))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CorruptDataWarning)
            actual: Any = load(root, index, ["sequence"])["sequence"]
            messages = list(read_messages(root, index.files(), ticks=True))
        assert actual[:3].tolist() == [0, 1, 2]
        assert [value["data"]["sequence"] for _, value in messages[:3]] == [0, 1, 2]
        with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
            assert path.read_bytes()[HEADER:] == (data + tail[:good])[HEADER:]
            writer.append(quote_message(H13 + 3 * SECOND, 3))
            writer.write(quotes([H13 + 4 * SECOND], 4))
        torn = root / f"{KEY.path}.torn"
        assert (torn.read_bytes() if torn.exists() else b"") == tail[good:]
        actual = read_plainly(path)[1]
        assert [value.tick_data.sequence for value in actual[:3] + actual[-2:]] == [0, 1, 2, 3, 4]


def test_zeros_at_the_end_cost_no_other_message(root: Path, index: MemoryIndex) -> None:
    """A power cut leaves zeros in place of bytes that were not on the disk yet."""
    data = crash(root, index, lambda writer: writer.write(quotes(every(SECOND, 12))))
    rows, borders, path = index.files(), ends(data), root / KEY.path
    for place in range(borders[9], len(data)):
        for length in (len(data), len(data) + 100):
            path.write_bytes(data[:place].ljust(length, b"\x00"))
            index.replace_files(rows)
            remaining = whole(borders, place)
            with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
                writer.append(quote_message(H13 + MINUTE, 100))
                writer.write(quotes([H13 + 2 * MINUTE], 101))
            actual = [value.tick_data.sequence for value in read_plainly(path)[1]]
            # The message the zeros begin in may be one still, where they fill a value.
            assert actual[:remaining] == list(range(remaining))
            assert actual[-2:] == [100, 101]
            assert len(actual) - remaining in (2, 3)
            assert [finding.problem for finding in verify_files(root, index)] == [None]
            (root / f"{KEY.path}.torn").unlink(missing_ok=True)


@pytest.mark.parametrize("first", [b"\x00" * 8, b"\xff" * 8, b"\x00\x00\x10\x00"], ids=bytes.hex)
def test_a_file_without_a_header_is_unchanged(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    caplog: pytest.LogCaptureFixture,
    first: bytes,
) -> None:
    data = crash(root, index, lambda writer: writer.write(quotes(every(SECOND, 100))))
    damaged = first + data[len(first) :]
    (root / KEY.path).write_bytes(damaged)
    with writer() as opened:
        opened.append(quote_message(H13, 500))
        opened.append(quote_message(H13 + 40 * MINUTE, 501))
    assert "is damaged and stays as it is" in caplog.text
    assert (root / KEY.path).read_bytes() == damaged
    assert [m.tick_data.sequence for m in read_plainly(root / HALF.path)[1]] == [500, 501]
    with pytest.warns(CorruptDataWarning, match=r"13_ticks\.pb.*2013-10-08 13:00:00"):
        assert numbers(root, index) == [500, 501]


# --- a sealed file is not an open one -------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: ends(data)[-2]],
        lambda data: data + b"\x00",
        lambda data: data + encode_frame(b"\x0a\x04tick"),
        lambda data: data[:300],
    ],
    ids=["torn", "a message less", "a byte more", "a message more", "nearly all gone"],
)
def test_a_sealed_file_of_another_length_is_unchanged(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    caplog: pytest.LogCaptureFixture,
    damage: Callable[..., Any],
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 100)))
    path = root / KEY.path
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.warns(CorruptDataWarning, match=r"13_ticks\.pb"):
        assert numbers(root, index) == []
    with pytest.raises(CorruptFileError):
        numbers(root, index, strict=True)
    for lost in (False, True):
        if lost:
            index.drop_files([KEY.path])
        with writer() as opened:
            opened.append(quote_message(H13, 500))
        assert path.read_bytes() == damaged
    assert not (root / f"{KEY.path}.torn").exists()
    assert "damaged" in caplog.text
    half = FileKey(CONTRACT, "bid_ask", H13, "30")
    assert [m.tick_data.sequence for m in read_plainly(root / half.path)[1]] == [500, 500]
    with pytest.warns(CorruptDataWarning, match="left out: 2013-10-08 13:00:00"):
        assert numbers(root, index) == [500, 500]


def test_infos_and_errors_before_a_torn_tail_are_read(root: Path, index: MemoryIndex) -> None:
    def write(writer: Any) -> None:
        writer.append(message("info", H13, {"status": "subscribed"}))
        writer.append(quote_message(H13, 0))
        writer.append(message("error", H13, {"code": "1", "message": "", "recoverable": False}))

    crash(root, index, write)
    with (root / KEY.path).open("ab") as file:
        file.write(b"\x00\x00\x00\x40\x0a\x04tick")
    actual = [m["type"] for _, m in read_messages(root, index.files(), ticks=True)]
    assert actual == ["info", "tick", "error"]
