"""A flipped bit in a sealed file costs its block, is reported, and gives no wrong tick."""

from __future__ import annotations

import random
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from ibticks.errors import CorruptDataWarning, CorruptFileError
from ibticks.format import read_header
from ibticks.index import MemoryIndex
from ibticks.storage import StreamWriter, compress_file, read_messages, read_ticks, verify_files
from ibticks.storage._audit import read_all_records
from ibticks.tick_stream_pb2 import FileHeader

from .samples import (
    COLUMNS,
    CONTRACT,
    H13,
    KEY,
    MINUTE,
    hour_of_quotes,
    load,
    new_root,
    numbers,
    quotes,
    split_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks.index import FileRecord

COUNT = 60_000  # five blocks


@dataclass
class Sealed:
    """An hour, and its bytes as they were."""

    root: Path
    record: FileRecord
    data: bytes

    @property
    def path(self) -> Path:
        return self.root / KEY.path

    @contextmanager
    def flipped(self, *places: int, bit: int = 0) -> Iterator[None]:
        """The file with a bit flipped in some bytes."""
        with self.path.open("r+b", buffering=0) as file:
            for place in places:
                file.seek(place)
                file.write(bytes([self.data[place] ^ 1 << bit]))
            try:
                yield
            finally:
                for place in places:
                    file.seek(place)
                    file.write(self.data[place : place + 1])

    def numbers_without(self, *blocks: int) -> list[int]:
        """The ticks of all blocks but some."""
        actual: list[Any] = []
        first = 0
        for place, block in enumerate(self.record.blocks):
            if place not in blocks:
                actual += range(first, first + block.messages)
            first += block.messages
        return actual

    def block_of(self, place: int) -> int:
        return sum(block.offset <= place for block in self.record.blocks) - 1


@pytest.fixture(scope="module", params=["none", "zstd", "gzip", "snappy"])
def sealed(request: pytest.FixtureRequest) -> Iterator[Sealed]:
    index = MemoryIndex()
    with new_root() as root:
        with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
            writer.write(hour_of_quotes(COUNT))
        record = compress_file(root, KEY, request.param)
        assert len(record.blocks) == 5
        yield Sealed(root, record, (root / KEY.path).read_bytes())


def places(sealed: Sealed, count: int, seed: int) -> list[tuple[int, int]]:
    """Places in the body and bits to flip there, the edges of blocks among them."""
    choose = random.Random(seed)
    edges = [b.offset + step for b in sealed.record.blocks for step in (0, 1, 4, b.size - 1)]
    anywhere = [choose.randrange(256, len(sealed.data)) for _ in range(count - len(edges))]
    return [(place, choose.randrange(8)) for place in (*edges, *anywhere)]


def test_a_flipped_bit_costs_its_block_and_is_reported(sealed: Sealed) -> None:
    count = 200 if sealed.record.compression == "none" else 60
    whole = load(sealed.root, [sealed.record])
    for place, bit in places(sealed, count, seed=11):
        number = sealed.block_of(place)
        block = sealed.record.blocks[number]
        with sealed.flipped(place, bit=bit), warnings.catch_warnings(record=True) as reported:
            warnings.simplefilter("always")
            parts = read_ticks(sealed.root, [sealed.record], COLUMNS)
        remaining = sealed.numbers_without(number)
        for name in COLUMNS:
            actual = np.concatenate([part.numbers(name) for part in parts])
            np.testing.assert_array_equal(actual, whole[name][remaining], err_msg=f"byte {place}")
        assert parts[0].missing == ((block.min_ns, block.max_ns + 1),)
        (warning,) = reported
        assert warning.category is CorruptDataWarning
        for part in (str(sealed.path), f"the block at byte {block.offset}", utc(block.min_ns)):
            assert part in str(warning.message)
        assert "ibticks verify" in str(warning.message)


def utc(time_ns: int) -> str:
    day, time_ = str(np.datetime64(time_ns, "ns")).split("T")
    return f"{day} {time_} UTC"


def test_strict_raises_where_the_damage_is(sealed: Sealed) -> None:
    for place, bit in places(sealed, 30, seed=12):
        block = sealed.record.blocks[sealed.block_of(place)]
        with sealed.flipped(place, bit=bit), pytest.raises(CorruptFileError) as caught:
            read_ticks(sealed.root, [sealed.record], COLUMNS, strict=True)
        assert caught.value.context == {"path": str(sealed.path), "offset": block.offset}
        assert str(sealed.path) in str(caught.value)
        assert f"byte {block.offset} fails its checksum" in str(caught.value)


def test_a_lost_end_costs_the_blocks_in_it(sealed: Sealed) -> None:
    choose = random.Random(16)
    for number in range(5):
        block = sealed.record.blocks[number]
        cut = block.offset + choose.randrange(block.size)
        sealed.path.write_bytes(sealed.data[:cut])
        with pytest.warns(CorruptDataWarning) as reported:
            actual = numbers(sealed.root, [sealed.record])
        assert actual == sealed.numbers_without(*range(number, 5))
        assert len(reported) == 5 - number
        with pytest.raises(CorruptFileError, match=f"byte {block.offset} fails its checksum"):
            numbers(sealed.root, [sealed.record], strict=True)
    sealed.path.write_bytes(sealed.data)


def test_damage_outside_the_range_is_not_met(sealed: Sealed) -> None:
    """Five minutes read five minutes, and are whole if these are."""
    end = H13 + 5 * MINUTE
    with sealed.flipped(sealed.record.blocks[3].offset + 100):
        actual = numbers(sealed.root, [sealed.record], end_ns=end, strict=True)
    assert actual == list(range(5000))


def test_every_damaged_block_is_reported(sealed: Sealed) -> None:
    first, third = (sealed.record.blocks[number] for number in (0, 2))
    with (
        sealed.flipped(first.offset + 9, third.offset + 9, third.offset + 90),
        pytest.warns(CorruptDataWarning) as reported,
    ):
        parts = read_ticks(sealed.root, [sealed.record], ["sequence"])
    assert len(reported) == 2
    assert parts[0].missing == tuple((b.min_ns, b.max_ns + 1) for b in (first, third))
    actual = np.concatenate([part.numbers("sequence") for part in parts])
    assert actual.tolist() == sealed.numbers_without(0, 2)


def test_missing_ranges_are_clipped_to_the_range(sealed: Sealed) -> None:
    block = sealed.record.blocks[2]
    start, end = block.min_ns + MINUTE, block.min_ns + 2 * MINUTE
    with sealed.flipped(block.offset + 9), pytest.warns(CorruptDataWarning):
        (part,) = read_ticks(sealed.root, [sealed.record], ["sequence"], start_ns=start, end_ns=end)
    assert (part.rows, part.missing) == (0, ((start, end),))


def test_messages_of_a_damaged_block_are_left_out_too(sealed: Sealed) -> None:
    block = sealed.record.blocks[4]
    some: dict[str, Any] = {"ticks": True, "start_ns": sealed.record.blocks[3].max_ns - MINUTE}
    with sealed.flipped(block.offset + 9), pytest.warns(CorruptDataWarning, match="left out"):
        actual = list(read_messages(sealed.root, [sealed.record], **some))
    assert actual
    remaining = sealed.numbers_without(4)
    assert [value["data"]["sequence"] for _, value in actual] == remaining[-len(actual) :]
    with sealed.flipped(block.offset + 9):
        messages = read_messages(sealed.root, [sealed.record], strict=True, **some)
        with pytest.raises(CorruptFileError, match=f"byte {block.offset} fails"):
            list(messages)


def test_without_its_blocks_a_damaged_file_is_left_out_as_a_whole(sealed: Sealed) -> None:
    """The place of the damage is unknown, and a wrong tick would be worse than none."""
    for place, bit in places(sealed, 40, seed=13):
        with sealed.flipped(place, bit=bit):
            rebuilt = list(read_all_records(sealed.root))
            assert [
                finding.problem for finding in verify_files(sealed.root, MemoryIndex(rebuilt))
            ] != [None]
            for record in (*rebuilt, replace(sealed.record, sealed=False)):
                with pytest.warns(CorruptDataWarning, match="13:00:00.*to 2013-10-08 14:00:00"):
                    assert numbers(sealed.root, [record]) == []
                with pytest.warns(CorruptDataWarning):
                    assert list(read_messages(sealed.root, [record], ticks=True)) == []


def names_another_stream(path: Path) -> bool:
    """Return whether the header of a file, if it can be read, is that of another stream."""
    header = FileHeader()
    with suppress(DecodeError):
        header.ParseFromString(path.read_bytes()[4:256])
        return (header.contract_id, header.tick_type) != (CONTRACT, "bid_ask")
    return False


def test_a_flipped_bit_in_the_header_costs_at_most_the_hour(sealed: Sealed) -> None:
    header, _ = split_header(sealed.data)
    checksum = sealed.data[:256].index(header.crc32c.to_bytes(4, "little"))
    for place in range(256):
        with sealed.flipped(place, bit=place % 8), warnings.catch_warnings(record=True) as reported:
            warnings.simplefilter("always")
            actual = numbers(sealed.root, [sealed.record], end_ns=H13 + MINUTE)
            stranger = names_another_stream(sealed.path)
        if actual != list(range(1000)):
            # The header promises another checksum, or names another contract or tick type: it
            # may be another file.
            assert checksum - 1 <= place < checksum + 4 or stranger
            assert actual == []
            assert "13:00:00" in str(reported[0].message)
        else:
            assert reported == []


def test_verify_finds_every_flipped_bit(sealed: Sealed) -> None:
    index, header = MemoryIndex([sealed.record]), read_header(sealed.data[:256])
    choose = random.Random(14)
    anywhere = [choose.randrange(256, len(sealed.data)) for _ in range(20)]
    for place in (*range(0, 256, 1 if header.compression == "none" else 8), *anywhere):
        with sealed.flipped(place, bit=choose.randrange(8)):
            (finding,) = verify_files(sealed.root, index)
            if finding.problem is None:
                # Not a word of the header is another, but for who wrote it.
                details = read_header(sealed.path.read_bytes()[:256])
                assert replace(details, writer="") == replace(header, writer=""), f"byte {place}"
                assert place < 256
    assert [finding.problem for finding in verify_files(sealed.root, index)] == [None]


def test_an_open_file_is_read_to_its_flipped_bit(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    """It has no checksum yet: a bit that leaves a message a message goes unnoticed until then."""
    opened = writer()
    opened.write(quotes(range(H13, H13 + 300), 0))
    path = root / KEY.path
    data = path.read_bytes()
    size = (len(data) - 256) // 300
    for place in range(256, len(data), 97):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x80]) + data[place + 1 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CorruptDataWarning)
            actual = load(root, index, ["sequence"])["sequence"].tolist()
        before = (place - 256) // (size + 1)
        assert actual[:before] == list(range(before))
    path.write_bytes(data)
