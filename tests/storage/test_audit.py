"""Verifying finds each kind of problem, and the files alone give the index back."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.config import HOUR_NS
from ibticks.errors import CorruptDataWarning, CorruptFileError, StorageError
from ibticks.format import read_header
from ibticks.index import MemoryIndex
from ibticks.storage import (
    FileKey,
    StreamWriter,
    compress_file,
    read_messages,
    read_ticks,
    verify_files,
)
from ibticks.storage._audit import Finding, read_all_records
from ibticks.store._deletion import compress_files, delete_files

from .samples import (
    CONTRACT,
    H13,
    KEY,
    SECOND,
    every,
    hour_of_quotes,
    message,
    numbers,
    old_frame,
    old_header,
    open_descriptors,
    quote_message,
    quotes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER = FileKey(CONTRACT, "bid_ask", H13 + HOUR_NS)


@pytest.fixture
def two(writer: Callable[..., StreamWriter], root: Path) -> Path:
    """Two sealed hours; the path of the first."""
    with writer() as opened:
        opened.write(quotes(every(SECOND, 100)))
        opened.write(quotes(every(SECOND, 50, OTHER.hour_ns), 100))
    return root / KEY.path


def problems(root: Path, index: MemoryIndex) -> dict[str, str | None]:
    return {finding.path: finding.problem for finding in verify_files(root, index)}


def first(root: Path, index: MemoryIndex) -> Finding:
    return next(finding for finding in verify_files(root, index) if finding.path == KEY.path)


def test_a_store_in_order_has_no_problem(two: Path, root: Path, index: MemoryIndex) -> None:
    actual = list(verify_files(root, index))
    assert [finding.path for finding in actual] == [KEY.path, OTHER.path]
    assert [finding.problem for finding in actual] == [None, None]
    assert [finding.detail for finding in actual] == ["", ""]
    assert [finding.messages for finding in actual] == [100, 50]
    assert actual[0].size == two.stat().st_size
    index.put_files([compress_file(root, OTHER, "gzip")])
    assert set(problems(root, index).values()) == {None}


def test_a_store_being_written_has_no_problem(
    two: Path, root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    opened = writer()
    opened.append(quote_message(H13, 1))
    assert set(problems(root, index).values()) == {None}


def damaged(data: bytes) -> dict[str, bytes]:
    """A sealed file, in each way it can be damaged."""
    header = read_header(data)
    return {
        "no header": b"\x00" * 300,
        "not a header": b"\x00\x00\x00\x04\xff\xff\xff\xff" + data[8:],
        "no file": b"",
        "a frame too long": data[:256] + b"\xff" + data[257:],
        "torn": data[:-1],
        "no message": data[:260] + b"\xff" * 4 + data[264:],
        "unknown version": replace(header, version=7).to_bytes() + data[256:],
    }


@pytest.mark.parametrize(
    "how",
    [
        "no header",
        "not a header",
        "no file",
        "a frame too long",
        "torn",
        "no message",
        "unknown version",
    ],
)
def test_damage_is_found(two: Path, root: Path, index: MemoryIndex, how: str) -> None:
    two.write_bytes(damaged(two.read_bytes())[how])
    finding = first(root, index)
    assert finding.problem == "damaged"
    assert finding.detail
    assert problems(root, index)[OTHER.path] is None


def test_a_wrong_checksum_is_found(two: Path, root: Path, index: MemoryIndex) -> None:
    data = bytearray(two.read_bytes())
    price = data.index(b"\x29")  # the tag of a bid price
    data[price + 3] ^= 1
    two.write_bytes(data)
    finding = first(root, index)
    assert finding.problem == "checksum"
    assert f"{read_header(data[:256]).crc32c:#010x} in the header" in finding.detail


@pytest.mark.parametrize(
    "claims",
    [
        {"message_count": 99},
        {"start_ns": H13 - 1},
        {"end_ns": H13},
        {"body_bytes": 5},
        {"version": 0},
    ],
    ids=str,
)
def test_a_header_that_contradicts_its_file_is_found(
    two: Path, root: Path, index: MemoryIndex, claims: dict[str, Any]
) -> None:
    data = two.read_bytes()
    two.write_bytes(replace(read_header(data), **claims).to_bytes() + data[256:])
    finding = first(root, index)
    assert finding.problem == "header"
    assert next(iter(claims)) in finding.detail


@pytest.mark.parametrize(
    "header",
    [
        {"contract_id": 7},
        {"tick_type": "last"},
        {"start_ns": H13 - 2, "end_ns": H13 - 1},
        {"start_ns": H13 + HOUR_NS, "end_ns": H13 + HOUR_NS},
    ],
    ids=str,
)
def test_a_header_of_another_file_is_misplaced(
    two: Path, root: Path, index: MemoryIndex, header: dict[str, Any]
) -> None:
    data = two.read_bytes()
    two.write_bytes(replace(read_header(data), **header).to_bytes() + data[256:])
    finding = first(root, index)
    assert finding.problem == "misplaced"
    assert next(iter(header)) in finding.detail


def test_a_file_moved_to_another_stream_is_found(two: Path, root: Path, index: MemoryIndex) -> None:
    moved = root / FileKey(1, "bid_ask", H13).path
    moved.parent.mkdir(parents=True)
    two.rename(moved)
    assert problems(root, index) == {
        FileKey(1, "bid_ask", H13).path: "misplaced",
        OTHER.path: None,
        KEY.path: "gone",
    }


def test_a_torn_open_file_is_found_with_its_remedy(
    two: Path, root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    opened = writer()
    opened.append(quote_message(H13, 1))
    size = two.stat().st_size
    with two.open("ab") as file:
        file.write(b"\x00\x00\x00\x09\x0a")
    finding = first(root, index)
    assert (finding.problem, finding.messages) == ("torn", 101)
    assert f"after byte {size}" in finding.detail
    assert "the next writer cuts that off" in finding.detail
    opened.close()
    assert problems(root, index)[KEY.path] is None


def test_damage_in_an_open_file_is_found(
    two: Path, root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    opened = writer()
    opened.append(quote_message(H13, 1))
    with two.open("ab") as file:
        file.write(bytes(8))
    assert first(root, index).problem == "damaged"
    assert opened


def test_a_file_missing_in_the_index_is_found(two: Path, root: Path, index: MemoryIndex) -> None:
    index.drop_files([KEY.path])
    finding = first(root, index)
    assert finding.problem == "not indexed"
    assert "ibticks index rebuild" in finding.detail


@pytest.mark.parametrize(
    "row",
    [
        {"messages": 99},
        {"min_price": 1.0},
        {"blocks": ()},
        {"compression": "zstd"},
        {"sealed": False},
        {"size": 1},
    ],
    ids=str,
)
def test_a_row_that_differs_from_its_file_is_found(
    two: Path, root: Path, index: MemoryIndex, row: dict[str, Any]
) -> None:
    index.put_files([replace(index.files()[0], **row)])
    finding = first(root, index)
    assert finding.problem == "index differs"
    assert finding.detail == f"in {next(iter(row))}; `ibticks index rebuild` corrects it"


def test_a_row_that_calls_an_open_file_sealed_is_found(
    two: Path, root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    rows = index.files()
    opened = writer()
    opened.append(quote_message(H13, 1))
    index.replace_files(rows)
    finding = first(root, index)
    assert finding.problem == "index differs"
    assert "sealed" in finding.detail


def test_a_row_without_a_file_is_found_last(two: Path, root: Path, index: MemoryIndex) -> None:
    two.unlink()
    assert list(problems(root, index).items()) == [(OTHER.path, None), (KEY.path, "gone")]


def test_a_folder_in_place_of_a_file_is_skipped(two: Path, root: Path, index: MemoryIndex) -> None:
    two.unlink()
    two.mkdir()
    assert problems(root, index) == {OTHER.path: None, KEY.path: "gone"}


def test_no_file_is_left_open(
    two: Path, root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    before = open_descriptors(root)
    list(verify_files(root, index))
    list(read_all_records(root))
    for compression in ("zstd", "gzip", "snappy", "none"):
        list(compress_files(root, index, [KEY, OTHER], compression))
    with writer() as opened:
        opened.append(quote_message(H13, 100))
    assert open_descriptors(root) == before
    two.write_bytes(two.read_bytes()[:-1])
    list(verify_files(root, index))
    with pytest.raises(CorruptFileError):
        list(compress_files(root, index, [KEY, OTHER], "zstd"))
    with writer() as opened:
        opened.append(quote_message(H13, 100))
    list(delete_files(root, index, [KEY, OTHER]))
    assert open_descriptors(root) == before


# --- the index out of the files -------------------------------------------------------------------


def test_the_index_is_rebuilt_from_the_files(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer() as opened:
        opened.write(hour_of_quotes(30_000))
        opened.append(message("info", H13 + HOUR_NS, {"status": "active"}))
    with writer("last") as opened:
        opened.append(
            message("tick", H13, {"contract_id": CONTRACT, "tick_type": "last", "price": 1.5})
        )
    index.put_files([compress_file(root, OTHER, "zstd"), compress_file(root, KEY, "gzip")])
    rebuilt = MemoryIndex()
    rebuilt.replace_files(read_all_records(root))
    assert rebuilt.files() == index.files()
    assert rebuilt.daily_stats() == index.daily_stats()
    assert [record.messages for record in rebuilt.files()] == [30_000, 1, 1]


@pytest.mark.parametrize("how", ["no header", "no file", "unknown version", "one byte less"])
def test_an_unreadable_hour_is_known_to_be_missing(
    two: Path, root: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither is it read as if it were empty, nor are the others left out."""
    whole = two.read_bytes()
    damage = {**damaged(whole), "one byte less": bytes(256) + whole[256:-1]}
    two.write_bytes(damage[how])
    with caplog.at_level(logging.WARNING):
        records = list(read_all_records(root))
    assert [record.path for record in records] == [KEY.path, OTHER.path]
    assert "loads will report its hour as missing" in caplog.text
    assert str(two) in caplog.text
    assert problems(root, MemoryIndex(records)) == {KEY.path: "damaged", OTHER.path: None}
    with pytest.warns(CorruptDataWarning, match="13:00:00.*to 2013-10-08 14:00:00"):
        assert numbers(root, records) == list(range(100, 150))
    with pytest.raises(CorruptFileError, match=r"13_ticks\.pb"):
        numbers(root, records, strict=True)
    assert numbers(root, records, start_ns=OTHER.hour_ns) == list(range(100, 150))


@pytest.mark.parametrize("compression", ["none", "zstd", "gzip", "snappy"])
@pytest.mark.parametrize(
    "header", [bytes(256), b"\x00\x00\x00\xfc" + b"\xff" * 252], ids=["0", "1"]
)
def test_messages_behind_a_damaged_header_are_kept(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    compression: str,
    header: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with writer() as opened:
        opened.write(hour_of_quotes(30_000))
    before = compress_file(root, KEY, compression)
    path = root / KEY.path
    path.write_bytes(header + path.read_bytes()[256:])
    (record,) = read_all_records(root)
    assert record == replace(before, crc32c=None)
    assert "all after the header is undamaged" in caplog.text
    assert problems(root, MemoryIndex([record])) == {KEY.path: "damaged"}
    assert numbers(root, [record]) == list(range(30_000))
    half = H13 + HOUR_NS // 2
    assert numbers(root, [record], start_ns=half, strict=True) == list(range(15_000, 30_000))


def test_messages_behind_a_damaged_header_of_another_length_are_kept(root: Path) -> None:
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    header = old_header()
    path.write_bytes(
        header[:4] + b"\xff" * (len(header) - 4) + old_frame(H13 + 5, 0) + old_frame(H13 + 3, 1)
    )
    (record,) = read_all_records(root)
    assert (record.messages, record.start_ns, record.end_ns) == (2, H13 + 3, H13 + 5)
    assert numbers(root, [record]) == [0, 1]


def test_open_and_old_files_are_indexed_as_open(root: Path) -> None:
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    path.write_bytes(old_header() + old_frame(H13 + 5, 0) + old_frame(H13 + 3, 1) + b"\x00")
    (record,) = read_all_records(root)
    assert (record.sealed, record.messages, record.crc32c) == (False, 2, None)
    assert (record.start_ns, record.end_ns) == (H13 + 3, H13 + 5)
    assert numbers(root, [record]) == [0, 1]


def test_a_file_that_cannot_be_opened_is_an_error_and_not_left_out(two: Path, root: Path) -> None:
    two.unlink()
    two.symlink_to(root / "unmounted")
    with pytest.raises(StorageError, match=r"13_ticks\.pb"):
        list(read_all_records(root))


# --- what cannot be seen, and what is deleted meanwhile -------------------------------------------


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_verifying_goes_on_past_a_folder_that_cannot_be_read(
    two: Path,
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    monkeypatch: pytest.MonkeyPatch,
    depth: int,
) -> None:
    with writer("last") as opened:
        opened.append(
            message("tick", H13, {"contract_id": CONTRACT, "tick_type": "last", "price": 1.5})
        )
    folder = two.parents[5 - depth]
    scandir = os.scandir

    def scan(path: Any) -> os._ScandirIterator[Any]:
        if Path(path) == folder:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    actual = problems(root, index)
    name = folder.relative_to(root).as_posix()
    assert actual.pop(name) == "unreadable"
    assert actual == ({} if depth == 1 else {f"{CONTRACT}/last/2013/10/08/13_ticks.pb": None})
    with pytest.raises(StorageError, match="listing"):
        list(read_all_records(root))


def test_files_deleted_while_they_are_verified_are_not_missed(
    two: Path, root: Path, index: MemoryIndex
) -> None:
    findings = verify_files(root, index)
    assert next(findings).path == KEY.path
    assert list(delete_files(root, index, [KEY, OTHER])) == [KEY, OTHER]
    assert list(findings) == []


@pytest.mark.parametrize("strict", [False, True])
def test_a_load_during_a_prune_reports_no_damage(
    two: Path, root: Path, index: MemoryIndex, recwarn: pytest.WarningsRecorder, strict: bool
) -> None:
    files = index.files()
    assert list(delete_files(root, index, [KEY])) == [KEY]
    (part,) = read_ticks(root, files, ["sequence"], strict=strict, index=index)
    assert part.numbers("sequence").tolist() == list(range(100, 150))
    assert (part.missing, part.left_out) == ((), ())
    assert len(list(read_messages(root, files, ticks=True, strict=strict, index=index))) == 50
    assert not recwarn


def test_a_deleted_file_that_is_still_indexed_is_reported(
    two: Path, root: Path, index: MemoryIndex
) -> None:
    two.unlink()
    with pytest.warns(CorruptDataWarning, match="No such file"):
        parts = read_ticks(root, index.files(), ["sequence"], index=index)
    assert parts[0].left_out == (KEY.path,)
