"""Loads read only the requested data, also while files change."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.config import HOUR_NS
from ibticks.errors import CorruptDataWarning, CorruptFileError, StorageError
from ibticks.index import MemoryIndex
from ibticks.storage import FileReader, StreamWriter, compress_file, read_messages, read_ticks
from ibticks.storage import _tick_reader as reader

from .children import KeptIndex
from .samples import (
    COLUMNS,
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
    old_frame,
    old_header,
    open_descriptors,
    quote_message,
    quotes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from ibticks.storage._file_reader import PlannedRead
    from tests.forking import Children


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Record the offset and size of each read of a file beside its header."""
    done: list[tuple[int, int]] = []
    read = FileReader.read

    def counting(source: Any, offset: Any, size: Any) -> NDArray[Any]:
        done.append((offset, size))
        return read(source, offset, size)

    monkeypatch.setattr(FileReader, "read", counting)
    return done


@pytest.fixture(scope="module")
def hour() -> Iterator[dict[tuple[str, str], Any]]:
    """A sealed hour of six blocks, plain and compressed; only to be read."""
    count = 76_000
    files: dict[tuple[str, str], Any] = {}
    with new_root() as folder:
        for compression in ("none", "zstd"):
            root, index = folder / compression, MemoryIndex()
            with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
                writer.write(hour_of_quotes(count))
            index.put_files([compress_file(root, KEY, compression)])
            (files[compression, "record"],) = index.files()
            files[compression, "root"] = root
        assert len(files["none", "record"].blocks) == 6
        yield files


# --- only what is asked for -----------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("minute", range(0, 60, 5))
def test_five_minutes_read_only_their_blocks(
    hour: dict[tuple[str, str], Any],
    reads: list[tuple[int, int]],
    compression: str,
    minute: int,
) -> None:
    record = hour[compression, "record"]
    start, end = H13 + minute * MINUTE, H13 + (minute + 5) * MINUTE
    actual = load(hour[compression, "root"], [record], start_ns=start, end_ns=end)
    step = HOUR_NS // 76_000
    first, last = -(-minute * MINUTE // step), -(-(minute + 5) * MINUTE // step)
    assert actual["sequence"].tolist() == list(range(first, min(last, 76_000)))
    blocks = [b for b in record.blocks if b.min_ns < end and b.max_ns >= start]
    assert reads == [(block.offset, block.size) for block in blocks]
    assert len(blocks) <= 2


@settings(deadline=None, max_examples=60)
@given(bounds=st.tuples(st.integers(-5, 76_005), st.integers(-5, 76_005)), shift=st.integers(-1, 1))
def test_any_range_has_its_ticks_and_is_half_open(
    hour: dict[tuple[str, str], Any], bounds: tuple[Any, Any], shift: int
) -> None:
    step = HOUR_NS // 76_000
    start, end = (H13 + number * step + shift for number in sorted(bounds))
    actual = load(hour["none", "root"], [hour["none", "record"]], start_ns=start, end_ns=end)
    times = np.arange(76_000) * step + H13
    expected = np.flatnonzero((times >= start) & (times < end))
    assert actual["sequence"].tolist() == expected.tolist()


def test_nothing_is_read_outside_the_hour(
    hour: dict[tuple[str, str], Any], reads: list[tuple[int, int]]
) -> None:
    for start, end in ((H13 - HOUR_NS, H13), (H13 + HOUR_NS, H13 + 2 * HOUR_NS)):
        actual = load(hour["none", "root"], [hour["none", "record"]], start_ns=start, end_ns=end)
        assert len(actual["timestamp"]) == 0
    assert reads == []


@pytest.mark.parametrize("columns", [["ask_price"], ["timestamp", "sequence"], list(COLUMNS)])
def test_only_requested_columns_are_returned(
    hour: dict[tuple[str, str], Any], columns: list[str]
) -> None:
    (part,) = read_ticks(
        hour["none", "root"], [hour["none", "record"]], columns, end_ns=H13 + MINUTE
    )
    assert sorted(part.columns) == sorted(columns)
    assert part.missing == ()


def test_no_files_are_no_ticks(root: Path) -> None:
    (part,) = read_ticks(root, [], COLUMNS)
    assert (part.rows, part.missing) == (0, ())
    assert list(read_messages(root, [])) == []


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("threads", [2, 3, 6, 50])
def test_threads_return_the_same_ticks(
    hour: dict[tuple[str, str], Any],
    monkeypatch: pytest.MonkeyPatch,
    compression: str,
    threads: int,
) -> None:
    monkeypatch.setattr(reader, "_MESSAGES_PER_THREAD", 1000)
    root, record = hour[compression, "root"], hour[compression, "record"]
    one = load(root, [record], threads=1)
    assert one["sequence"].tolist() == list(range(76_000))
    parts = read_ticks(root, [record], COLUMNS, threads=threads)
    assert len(parts) == min(threads, 6)
    for name in COLUMNS:
        combined = np.concatenate([part.numbers(name) for part in parts])
        np.testing.assert_array_equal(combined, one[name])


def test_the_halves_of_an_hour_are_ordered(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer(split_bytes=1000) as opened:
        for number in range(40):
            opened.append(quote_message(H13 + number * MINUTE * 3 // 2, number))
    assert (root / HALF.path).exists()
    for records in itertools.permutations(index.files()):
        assert numbers(root, records) == list(range(40))
        messages = read_messages(root, records, ticks=True)
        assert [value["data"]["sequence"] for _, value in messages] == list(range(40))


def test_an_open_file_is_not_read_for_other_hours(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    reads: list[tuple[int, int]],
) -> None:
    """Its row in the index has no end."""
    opened = writer()
    opened.write(quotes(every(SECOND, 100)))
    for start in (H13 - HOUR_NS, H13 + HOUR_NS, H13 + 1000 * HOUR_NS):
        rows = index.files()
        assert numbers(root, rows, start_ns=start, end_ns=start + HOUR_NS) == []
        assert list(read_messages(root, rows, start_ns=start, end_ns=start + HOUR_NS)) == []
    assert reads == []
    assert numbers(root, index, start_ns=H13 + HOUR_NS - 1, end_ns=H13 + HOUR_NS) == []
    assert len(reads) > 0


def test_messages_of_a_range(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer() as opened:
        for minute in range(60):
            opened.append(quote_message(H13 + minute * MINUTE, minute))
            opened.append(message("info", H13 + minute * MINUTE, {"status": str(minute)}))
        for state in ("open", "sealed"):
            some: dict[str, Any] = {"start_ns": H13 + 5 * MINUTE, "end_ns": H13 + 7 * MINUTE}
            actual = list(read_messages(root, index.files(), ticks=True, **some))
            assert [time_ns for time_ns, _ in actual] == [
                H13 + minute * MINUTE for minute in (5, 5, 6, 6)
            ], state
            infos = [value["data"] for _, value in read_messages(root, index.files(), **some)]
            assert infos == [{"status": "5"}, {"status": "6"}], state
            opened.seal()


# --- rows that are older than their file ----------------------------------------------------------


def test_rows_older_or_newer_than_the_file_never_give_wrong_ticks(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    """Every state a file goes through, loaded by the rows it had in every other state."""
    path, states = root / KEY.path, []

    def remember(count: int) -> None:
        states.append((count, path.read_bytes(), index.files()[0]))

    def seal_as(compression: str) -> None:
        index.put_files([compress_file(root, KEY, compression)])

    opened = writer()
    opened.write(hour_of_quotes(30_000))
    remember(30_000)
    for round_, compression in enumerate(("none", "zstd", "gzip", "snappy")):
        count = 30_000 + round_
        opened.seal()
        remember(count)
        seal_as(compression)
        remember(count)
        seal_as("none")
        remember(count)
        seal_as(compression)
        opened.append(quote_message(H13 + HOUR_NS - 1, count))
        remember(count + 1)
    opened.close()
    remember(30_004)

    for count, data, _ in states:
        path.write_bytes(data)
        for _, _, row in states:
            actual = load(root, [row], ["timestamp", "sequence"], strict=True)
            assert actual["sequence"].tolist() == list(range(count))


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Run a function between the plan of a load and its first read."""

    def arrange(change: Any) -> list[int]:
        calls: list[int] = []
        shares = reader._split_work

        def changing(pieces: Any, threads: Any) -> list[list[PlannedRead]]:
            calls.append(len(pieces))
            if len(calls) == 1:
                change()
            return shares(pieces, threads)

        monkeypatch.setattr(reader, "_split_work", changing)
        return calls

    return arrange


@pytest.mark.parametrize("compression", ["zstd", "gzip", "snappy"])
def test_a_file_compressed_while_a_load_begins_is_read(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    meanwhile: Callable[..., list[int]],
    compression: str,
) -> None:
    with writer() as opened:
        opened.write(hour_of_quotes(30_000))
    planned = meanwhile(lambda: compress_file(root, KEY, compression))
    assert numbers(root, index, strict=True) == list(range(30_000))
    assert len(planned) == 2


def test_a_file_opened_for_a_late_tick_while_a_load_begins(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    meanwhile: Callable[..., list[int]],
) -> None:
    with writer() as opened:
        opened.write(hour_of_quotes(30_000))
    rows = index.files()
    opened = writer()
    planned = meanwhile(lambda: opened.append(quote_message(H13 + HOUR_NS - 1, 30_000)))
    assert numbers(root, rows, strict=True) == list(range(30_001))
    assert len(planned) == 2


def test_a_file_sealed_again_while_a_load_begins(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    meanwhile: Callable[..., list[int]],
) -> None:
    with writer() as opened:
        opened.write(hour_of_quotes(30_000))
    rows = index.files()

    def late() -> None:
        with writer() as opened:
            opened.append(quote_message(H13 + HOUR_NS - 1, 30_000))

    meanwhile(late)
    assert numbers(root, rows, strict=True) == list(range(30_001))


def test_an_old_file_sealed_while_a_load_begins(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    meanwhile: Callable[..., list[int]],
) -> None:
    """Its header grows, so that everything in it moves."""
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    frames = [old_frame(H13 + number, number) for number in range(500)]
    path.write_bytes(old_header() + b"".join(frames))
    writer().close()
    sealed, rows = path.read_bytes(), index.files()
    path.write_bytes(old_header() + b"".join(frames))
    replaced = path.with_name("sealed")
    replaced.write_bytes(sealed)
    meanwhile(lambda: replaced.replace(path))
    assert numbers(root, [replace(rows[0], sealed=False)], strict=True) == list(range(500))


def test_a_file_deleted_while_a_load_begins_is_reported(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    meanwhile: Callable[..., list[int]],
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 100)))
        opened.append(quote_message(H13 + HOUR_NS, 100))
    meanwhile((root / KEY.path).unlink)
    with pytest.warns(CorruptDataWarning, match=r"No such file.*13_ticks\.pb"):
        assert numbers(root, index) == [100]


@pytest.mark.parametrize("blocks", ["known", "unknown"])
@pytest.mark.parametrize("change", ["compress", "append", "reseal"])
def test_a_file_that_changes_while_it_is_read(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    blocks: str,
) -> None:
    with writer() as opened:
        opened.write(hour_of_quotes(40_000))
    (row,), read, calls = index.files(), FileReader.read, []

    def changing(source: Any, offset: Any, size: Any) -> NDArray[Any]:
        calls.append(offset)
        if len(calls) == 2:
            if change == "compress":
                compress_file(root, KEY, "zstd")
            else:
                opened = writer()
                opened.append(quote_message(H13 + HOUR_NS - 1, 40_000))
                if change == "reseal":
                    opened.close()
        return read(source, offset, size)

    monkeypatch.setattr(FileReader, "read", changing)
    actual = numbers(root, [row if blocks == "known" else replace(row, blocks=())], strict=True)
    assert actual == list(range(40_000))


# --- a writer and readers at once -----------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_every_load_beside_a_writer_is_a_prefix(
    root: Path, tmp_path: Path, children: Children, seed: int
) -> None:
    """Another process appends, seals, compresses and opens the file again, all the while."""
    remaining, report = tmp_path / "index", tmp_path / "report"
    report.touch()
    pid = children.start("in_order", root=root, report=report, index=remaining, seed=seed)
    while not report.read_text():
        time.sleep(0.001)
    before, until, loads = 0, time.monotonic() + 3, 0
    while time.monotonic() < until or loads < 20:
        sure = int(report.read_text().rstrip("\n").rpartition("\n")[2])
        actual = numbers(root, KeptIndex(remaining), strict=True, threads=1 + loads % 2)
        assert actual == list(range(len(actual)))
        assert len(actual) >= max(sure, before)
        before, loads = len(actual), loads + 1
    children.kill(pid)
    assert before > 100


# --- missing files and missing headers ------------------------------------------------------------


def test_a_missing_file_is_reported_and_the_others_are_read(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer() as opened:
        for hour in range(3):
            opened.write(quotes(every(SECOND, 10, H13 + hour * HOUR_NS), hour * 10))
    gone = index.files()[1]
    (root / gone.path).unlink()
    with pytest.warns(CorruptDataWarning, match="2013-10-08 14:00:00.*15:00:00") as reported:
        (part,) = read_ticks(root, index.files(), ["sequence"])
    assert len(reported) == 1
    assert part.numbers("sequence").tolist() == [*range(10), *range(20, 30)]
    assert part.missing == ((H13 + HOUR_NS, H13 + 2 * HOUR_NS),)
    with pytest.raises(StorageError, match=r"14_ticks\.pb") as caught:
        read_ticks(root, index.files(), ["sequence"], strict=True)
    assert caught.value.context["path"] == str(root / gone.path)
    # It is of no concern to other hours.
    assert numbers(root, index, start_ns=H13 + 2 * HOUR_NS) == list(range(20, 30))
    with pytest.warns(CorruptDataWarning, match=r"14_ticks\.pb"):
        assert len(list(read_messages(root, index.files(), ticks=True))) == 20


def test_a_missing_open_file_is_reported_for_its_hour_only(
    root: Path, writer: Callable[..., StreamWriter], index: MemoryIndex
) -> None:
    opened = writer()
    opened.append(quote_message(H13, 0))
    rows = index.files()
    opened.close()
    (root / KEY.path).unlink()
    assert numbers(root, rows, start_ns=H13 + HOUR_NS, strict=True) == []
    with pytest.warns(CorruptDataWarning, match="left out: 2013-10-08 13:30:00"):
        (part,) = read_ticks(root, rows, ["sequence"], start_ns=H13 + 30 * MINUTE)
    assert part.missing == ((H13 + 30 * MINUTE, H13 + HOUR_NS),)


@pytest.mark.parametrize("lost", [4, 256, 4096])
def test_a_lost_header_costs_no_indexed_tick(hour: dict[tuple[str, str], Any], lost: int) -> None:
    root, record = hour["none", "root"], hour["none", "record"]
    path = root / KEY.path
    data = path.read_bytes()
    try:
        path.write_bytes(bytes(lost) + data[lost:])
        first = record.blocks[0].messages if lost > 256 else 0
        if first:
            with pytest.warns(CorruptDataWarning, match="the block at byte 256"):
                assert numbers(root, [record]) == list(range(first, 76_000))
        else:
            assert numbers(root, [record]) == list(range(76_000))
        # Without the blocks, nothing is sure.
        with pytest.raises(CorruptFileError, match="header"):
            numbers(root, [replace(record, blocks=())], strict=True)
    finally:
        path.write_bytes(data)


def test_an_open_file_is_read_to_its_first_invalid_message(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened = writer()
    opened.write(hour_of_quotes(20_000))
    opened.append_payload(b"\x0a\x04tick\x22\x02\x0a\xff", H13 + HOUR_NS - 1)
    place = (root / KEY.path).stat().st_size - 14
    opened.append(quote_message(H13 + HOUR_NS - 1, 20_000))
    with pytest.warns(CorruptDataWarning, match="not a StreamMessage"):
        assert numbers(root, index) == list(range(20_000))
    with pytest.raises(CorruptFileError, match="not a StreamMessage") as caught:
        numbers(root, index, strict=True)
    assert caught.value.context == {"path": str(root / KEY.path), "offset": place}
    # The bytes behind it are moved aside when the file is sealed.
    opened.close()
    assert f"after byte {place} are not whole messages" in caplog.text
    assert numbers(root, index, strict=True) == list(range(20_000))


# --- nothing is left open -------------------------------------------------------------------------


def test_no_load_leaves_a_file_open(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "_MESSAGES_PER_THREAD", 1000)
    with writer() as opened:
        for hour in range(4):
            opened.write(quotes(every(SECOND, 1500, H13 + hour * HOUR_NS), hour * 1500))
    rows = index.files()
    (root / rows[3].path).unlink()
    (root / rows[2].path).write_bytes(bytes(1000))
    before = open_descriptors(root)
    for threads in (1, 4):
        read_ticks(root, [], COLUMNS, threads=threads)
        read_ticks(root, rows[:2], COLUMNS, threads=threads)
        with pytest.warns(CorruptDataWarning):
            read_ticks(root, rows, COLUMNS, threads=threads)
        for row in rows[2:]:
            with pytest.raises((CorruptFileError, StorageError)):
                read_ticks(root, [*rows[:2], row], COLUMNS, threads=threads, strict=True)
        assert open_descriptors(root) == before
    messages = read_messages(root, rows, ticks=True)
    next(messages)
    assert open_descriptors(root) == before + 1
    messages.close()
    assert open_descriptors(root) == before
