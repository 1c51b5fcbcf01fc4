"""Compressing and deleting: the old file or the new one, whole, whatever happens on the way."""

from __future__ import annotations

import itertools
import os
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.config import COMPRESSIONS, HOUR_NS
from ibticks.errors import CorruptFileError, InputError, StorageError, StreamInUseWarning
from ibticks.format import read_header
from ibticks.index import CoverageRecord, MemoryIndex
from ibticks.storage import (
    FileKey,
    StreamLock,
    StreamWriter,
    compress_file,
    list_files,
    read_messages,
    summarise_file,
    verify_files,
)
from ibticks.storage import _sealing as sealing
from ibticks.storage._layout import list_unfinished
from ibticks.store._deletion import compress_files, delete_files

from .samples import (
    CONTRACT,
    H13,
    KEY,
    MINUTE,
    SECOND,
    crc32c,
    every,
    hour_of_quotes,
    message,
    numbers,
    old_frame,
    old_header,
    quote_message,
    quotes,
    split_header,
    unpacked,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.forking import Children

KEYS = [FileKey(CONTRACT, "bid_ask", H13 + hour * HOUR_NS) for hour in range(3)]


@pytest.fixture
def sealed(writer: Callable[..., StreamWriter], root: Path) -> Path:
    """A sealed hour of two blocks, with an info in it; returns its path."""
    with writer() as opened:
        opened.write(hour_of_quotes(20_000))
        opened.append(message("info", H13 + HOUR_NS - 1, {"status": "active"}))
    return root / KEY.path


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(COMPRESSIONS, 2)))
def test_a_file_has_the_same_messages_in_any_compression(
    sealed: Path, root: Path, index: MemoryIndex, before: Any, after: Any
) -> None:
    plain, (row,) = sealed.read_bytes(), index.files()
    compress_file(root, KEY, before)
    record = compress_file(root, KEY, after)
    index.put_files([record])
    data = sealed.read_bytes()
    header, body = split_header(data)
    assert len(data) == 256 + len(body)
    assert (header.sealed, header.compression) == (True, after)
    assert (header.body_bytes, header.message_count) == (len(body), 20_001)
    assert header.crc32c == record.crc32c
    assert unpacked(body, after) == plain[256:]
    assert record == summarise_file(root, KEY).record
    # The statistics of its ticks and the number of blocks are unchanged.
    stored: dict[str, Any] = {
        "size": row.size,
        "crc32c": row.crc32c,
        "compression": "none",
        "blocks": row.blocks,
    }
    assert replace(record, **stored) == row
    for new, old in zip(record.blocks, row.blocks, strict=True):
        assert replace(old, offset=new.offset, size=new.size, crc32c=new.crc32c) == new
    assert numbers(root, index, strict=True) == list(range(20_000))
    assert [m["data"] for _, m in read_messages(root, index.files())] == [{"status": "active"}]
    assert [finding.problem for finding in verify_files(root, index)] == [None]
    if after == "none":
        assert data == plain
    else:
        assert len(data) < len(plain) / 2


def test_the_checksum_of_a_compressed_body_is_that_of_its_bytes(
    writer: Callable[..., StreamWriter], root: Path
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 1000)))
    for compression in COMPRESSIONS:
        compress_file(root, KEY, compression)
        header, body = split_header((root / KEY.path).read_bytes())
        assert header.crc32c == crc32c(body)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "snappy"])
def test_a_late_tick_opens_a_compressed_file(
    sealed: Path,
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    compression: str,
) -> None:
    index.put_files([compress_file(root, KEY, compression)])
    opened = writer()
    opened.append(quote_message(H13 + 40 * MINUTE, 20_000))
    header = read_header(sealed.read_bytes()[:256])
    assert (header.sealed, header.compression, header.crc32c) == (False, "none", None)
    assert numbers(root, index, strict=True) == list(range(20_001))
    opened.close()
    assert read_header(sealed.read_bytes()[:256]).sealed
    assert numbers(root, index, strict=True) == list(range(20_001))
    index.put_files([compress_file(root, KEY, compression)])
    assert numbers(root, index, strict=True) == list(range(20_001))
    assert [finding.problem for finding in verify_files(root, index)] == [None]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_file_with_a_message_larger_than_a_block(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex, compression: str
) -> None:
    with writer() as opened:
        opened.append(quote_message(H13, 0))
        opened.append(quote_message(H13 + 1, 1) | {"metadata": {"note": "n" * (15 << 20)}})
        opened.append(quote_message(H13 + 2, 2))
    index.put_files([compress_file(root, KEY, compression)])
    assert numbers(root, index, strict=True) == [0, 1, 2]
    opened = writer()
    opened.append(quote_message(H13 + 3, 3))
    opened.close()
    assert numbers(root, index, strict=True) == [0, 1, 2, 3]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_file_without_messages_is_compressed_too(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex, compression: str
) -> None:
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    path.write_bytes(old_header())
    writer().close()
    index.put_files([compress_file(root, KEY, compression)])
    assert numbers(root, index, strict=True) == []
    with writer() as opened:
        opened.append(quote_message(H13, 0))
    assert numbers(root, index, strict=True) == [0]


# --- what is not compressed -----------------------------------------------------------------------


def test_only_sealed_whole_files_are_compressed(
    sealed: Path, root: Path, writer: Callable[..., StreamWriter]
) -> None:
    plain = sealed.read_bytes()
    opened = writer()
    opened.append(quote_message(H13, 1))
    with pytest.raises(CorruptFileError, match="not sealed"):
        compress_file(root, KEY, "zstd")
    opened.close()
    for damaged in (
        plain[:5000] + bytes([plain[5000] ^ 1]) + plain[5001:],
        plain[:-1],
        plain + b"\x00",
        b"\x00" * 256 + plain[256:],
        old_header() + old_frame(H13, 0),
    ):
        sealed.write_bytes(damaged)
        for compression in COMPRESSIONS:
            with pytest.raises(CorruptFileError, match=r"13_ticks\.pb"):
                compress_file(root, KEY, compression)
            assert sealed.read_bytes() == damaged
    assert list(list_unfinished(root, CONTRACT, "bid_ask")) == []


def test_an_unknown_compression_touches_nothing(sealed: Path, root: Path) -> None:
    before = sealed.stat()
    with pytest.raises(InputError, match="none, gzip, zstd, snappy"):
        compress_file(root, KEY, "lz4")
    assert sealed.stat() == before


def test_compressing_again_changes_nothing(sealed: Path, root: Path) -> None:
    record = compress_file(root, KEY, "zstd")
    before = sealed.stat()
    assert compress_file(root, KEY, "zstd") == record
    assert sealed.stat() == before


def test_a_block_that_fails_verification_leaves_the_old_file(
    sealed: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sealed.read_bytes()
    monkeypatch.setattr(sealing, "compress_block", lambda _raw, _name: b"\xff\x06\x00\x00sNaPpY")
    with pytest.raises(CorruptFileError, match="snappy"):
        compress_file(root, KEY, "snappy")
    monkeypatch.setattr(sealing, "decompress_block", lambda _stored, _name: b"something else")
    with pytest.raises(CorruptFileError, match="did not come back as it was"):
        compress_file(root, KEY, "zstd")
    assert sealed.read_bytes() == plain
    assert list(list_unfinished(root, CONTRACT, "bid_ask")) == []


def test_a_file_replaced_meanwhile_is_left_alone(sealed: Path, root: Path) -> None:
    before = sealed.read_bytes()
    asked = []
    with pytest.raises(StorageError, match="the lock of its stream is lost"):
        compress_file(root, KEY, "zstd", has_lock=lambda: bool(asked.append("")))
    assert asked == [""]
    assert sealed.read_bytes() == before
    assert list(list_unfinished(root, CONTRACT, "bid_ask")) == []
    assert compress_file(root, KEY, "zstd", has_lock=lambda: True).compression == "zstd"


def test_a_killed_compression_leaves_the_old_file_or_the_new(
    sealed: Path,
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    children: Children,
    tmp_path: Path,
) -> None:
    choose, seen = random.Random(15), set()
    for round_ in range(15):
        report = tmp_path / f"report{round_}"
        pid = children.start("compress", root=root, report=report)
        # It has compressed the file several times, also on a slow machine, and continues.
        while not report.exists() or len(report.read_text().split()) < round_ % 4:
            time.sleep(0.001)
        time.sleep(choose.uniform(0, 0.1))
        children.kill(pid)
        summary = summarise_file(root, KEY)
        assert summary.problem is None
        assert summary.record.sealed
        for rows in ([summary.record], index.files()):
            assert numbers(root, rows, strict=True) == list(range(20_000))
        seen.add(summary.record.compression)
        writer().close()
        assert list(list_unfinished(root, CONTRACT, "bid_ask")) == []
    assert len(seen) > 1


# --- several files, and the index -----------------------------------------------------------------


@pytest.fixture
def hours(writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex) -> list[Any]:
    """Three sealed hours; returns their paths."""
    with writer() as opened:
        for number, key in enumerate(KEYS):
            opened.write(quotes(every(SECOND, 100, key.hour_ns), 100 * number))
    return [root / key.path for key in KEYS]


def test_files_are_compressed_and_indexed_one_by_one(
    hours: list[Any], root: Path, index: MemoryIndex
) -> None:
    work = compress_files(root, index, KEYS, "zstd")
    assert [record.compression for record in index.files()] == ["none"] * 3
    first = next(work)
    assert (first.path, first.compression) == (KEYS[0].path, "zstd")
    assert [record.compression for record in index.files()] == ["zstd", "none", "none"]
    assert [record.path for record in work] == [key.path for key in KEYS[1:]]
    assert not any(finding.problem for finding in verify_files(root, index))
    assert numbers(root, index, strict=True) == list(range(300))


def test_a_damaged_file_does_not_stop_the_compression_of_others(
    hours: list[Any], root: Path, index: MemoryIndex
) -> None:
    data = hours[1].read_bytes()
    hours[1].write_bytes(data[:-3])
    done: list[Any] = []
    with pytest.raises(CorruptFileError, match=r"14_ticks\.pb cannot be compressed") as caught:
        done.extend(compress_files(root, index, KEYS, "gzip"))
    assert caught.value.context["path"] == str(hours[1])
    assert [record.compression for record in index.files()] == ["gzip", "none", "gzip"]
    assert hours[1].read_bytes() == data[:-3]


def test_a_file_compressed_by_a_killed_process_is_indexed_later(
    hours: list[Any], root: Path, index: MemoryIndex
) -> None:
    record = compress_file(root, KEYS[0], "zstd")
    assert index.files()[0] != record
    assert list(compress_files(root, index, KEYS[:1], "zstd")) == [record]
    assert index.files()[0] == record


def test_files_of_a_stream_that_is_written_are_left_alone(
    hours: list[Any], root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    """Files of other streams are skipped, and a warning names the writer."""
    with writer(tick_type="last") as other:
        other.append(message("info", H13, {"status": "subscribed"}))
    theirs = FileKey(CONTRACT, "last", H13)
    index.put_coverage([CoverageRecord(CONTRACT, "bid_ask", H13, H13 + HOUR_NS, "captured")])
    ledger = index.coverage()
    before = [path.read_bytes() for path in hours]
    opened = writer()
    details = (
        rf"3 files are left as they are: bid_ask of contract {CONTRACT} in .* process {os.getpid()}"
    )
    with pytest.warns(StreamInUseWarning, match=details) as caught:
        (done,) = compress_files(root, index, [*KEYS, theirs], "zstd")
    assert caught[0].filename == __file__
    assert done.path == theirs.path
    with pytest.warns(StreamInUseWarning, match=details):
        assert list(delete_files(root, index, [*KEYS, theirs])) == [theirs]
    assert [path.read_bytes() for path in hours] == before
    assert len(index.files()) == 3
    assert index.coverage() == ledger
    opened.close()
    assert len(list(compress_files(root, index, KEYS, "zstd"))) == 3
    writer()


def test_the_ledger_records_a_deletion_before_the_files_are_deleted(
    hours: list[Any], root: Path, index: MemoryIndex
) -> None:
    index.put_coverage([CoverageRecord(CONTRACT, "bid_ask", H13, H13 + 3 * HOUR_NS, "captured")])
    deleting = delete_files(root, index, KEYS[:2])
    next(deleting)
    assert not hours[0].exists()
    assert hours[1].exists()
    assert [(row.end_ns - H13, row.state) for row in index.coverage()] == [
        (2 * HOUR_NS, "deleted"),
        (3 * HOUR_NS, "captured"),
    ]
    deleting.close()
    assert list(delete_files(root, index, KEYS[:2])) == KEYS[:2]
    assert list(list_files(root)) == KEYS[2:]


def test_a_running_backfill_prevents_deletion(
    hours: list[Any], root: Path, index: MemoryIndex
) -> None:
    backfill = replace(KEYS[0], suffix="backfill")
    lock = StreamLock(root, CONTRACT, "bid_ask", backfill=True)
    with pytest.warns(StreamInUseWarning, match="2 files .* the backfill of bid_ask"):
        assert list(delete_files(root, index, [KEYS[0], backfill])) == []
    assert hours[0].exists()
    lock.release()
    assert not StreamLock.is_locked(root, CONTRACT, "bid_ask")
    assert list(delete_files(root, index, [KEYS[0], backfill])) == [KEYS[0], backfill]


def test_deleted_files_are_removed_from_disk_and_index(
    hours: list[Any], root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    assert list(delete_files(root, index, KEYS[:2])) == KEYS[:2]
    assert list(list_files(root)) == KEYS[2:]
    assert [record.path for record in index.files()] == [KEYS[2].path]
    assert numbers(root, index, strict=True) == list(range(200, 300))
    # A file that another process deleted counts as deleted, and so does a whole day.
    assert list(delete_files(root, index, KEYS[:1])) == KEYS[:1]
    hours[2].unlink()
    hours[2].parent.rmdir()
    assert list(delete_files(root, index, KEYS[2:])) == KEYS[2:]
    assert index.files() == []
    with writer() as opened:
        opened.append(quote_message(H13, 0))
    assert numbers(root, index) == [0]


def test_failed_deletions_are_reported(hours: list[Any], root: Path, index: MemoryIndex) -> None:
    hours[0].unlink()
    hours[0].mkdir()
    with pytest.raises(StorageError, match=r"deleting .*13_ticks\.pb"):
        list(delete_files(root, index, KEYS))
