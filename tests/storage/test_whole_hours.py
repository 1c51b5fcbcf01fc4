"""Whole hours written at once: the same files and records as those appended tick by tick."""

from __future__ import annotations

import errno
import os
import random
import time
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.config import HOUR_NS
from ibticks.errors import InputError, StorageError
from ibticks.format import Encoder, scan_frames
from ibticks.index import MemoryIndex
from ibticks.schema import (
    MapColumn,
    StringColumn,
    StringListColumn,
    TickColumns,
    Values,
    mask_absent_values,
)
from ibticks.storage import FileKey, Ingest, StreamWriter, list_files, verify_files
from ibticks.storage._audit import read_all_records
from ibticks.storage._ingest import StoredTicks, tick_keys
from ibticks.storage._layout import half_hours, hour_ranges, list_unfinished

from .children import KeptIndex
from .samples import (
    CONTRACT,
    H13,
    KEY,
    MINUTE,
    SECOND,
    every,
    hour_of_quotes,
    new_root,
    numbers,
    open_descriptors,
    quote_message,
    quotes,
)
from .test_failing_disk import Faults

if TYPE_CHECKING:
    from tests.forking import Children

HOURS = 6
TYPES = ("last", "all_last", "bid_ask", "mid_point")
PRICES = ("price", "bid_price", "ask_price", "mid_price")
SIZES = ("size", "bid_size", "ask_size")
NUMBERS = st.sampled_from(
    [0.0, -0.0, -1.0, 1.25, 99.99, 1e300, 2147483647.0, float("nan"), float("inf")]
)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


# --- the same bytes, and the same records ---------------------------------------------------------


@st.composite
def tick_columns(draw: Any) -> TickColumns:
    """Columns of any kind, over some hours, in order or nearly so."""
    rows = draw(st.integers(0, 60))
    choose = np.random.default_rng(draw(st.integers(0, 2**32)))
    times = choose.integers(0, HOURS * 60, rows) * MINUTE + choose.integers(0, 3, rows)
    if draw(st.integers(0, 3)):
        times.sort()
        for late in draw(st.lists(st.integers(0, max(rows - 1, 0)), max_size=2 if rows else 0)):
            times[late] -= 50 * MINUTE
    columns: dict[str, Any] = {"timestamp": Values(H13 + HOUR_NS + times)}
    for name in (*PRICES, *SIZES):
        if draw(st.booleans()):
            values = np.array(draw(st.lists(NUMBERS, min_size=3, max_size=3)))
            valid = choose.integers(0, 4, rows) > 0 if draw(st.booleans()) else None
            columns[name] = Values(values[choose.integers(0, 3, rows)], valid)
    if draw(st.booleans()):
        sequence = choose.integers(0, 2**64, rows, dtype=np.uint64)
        columns["sequence"] = Values(sequence, choose.integers(0, 2, rows) > 0)
    if draw(st.booleans()):
        codes = choose.integers(-1, 2, rows).astype(np.int32)
        columns["exchange"] = StringColumn(codes, ("ARCA", ""))
    offsets = np.arange(rows + 1, dtype=np.int64)
    if draw(st.booleans()):
        codes = choose.integers(0, 2, rows).astype(np.int32)
        columns["conditions"] = StringListColumn(offsets, codes, ("T", "I"))
    if draw(st.booleans()):
        codes = np.zeros(rows, dtype=np.int32)
        columns["metadata"] = MapColumn(offsets, codes, codes, ("note",))
    return TickColumns(rows, columns)


def append_all(writer: StreamWriter, columns: TickColumns) -> None:
    """Append ticks to the files of their hours, one half hour after the other."""
    encoder = Encoder(
        mask_absent_values(columns),
        contract_id=writer.contract_id,
        tick_type=writer.tick_type,
        stream_id="s",
    )
    for start, stop in half_hours(columns.timestamp):
        for _, frames in encoder.chunks(start, stop):
            writer.append_frames(frames.data, int(columns.timestamp[start]))


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*_ticks.pb*"))
    }


@settings(deadline=None, max_examples=60)
@given(
    tick_columns(),
    st.sampled_from(TYPES),
    st.lists(st.integers(0, 60), max_size=2),
    st.sampled_from([1 << 20, 2_000]),
    st.booleans(),
    st.booleans(),
)
def test_files_and_records_are_those_of_appended_ticks(
    columns: TickColumns, tick_type: str, cuts: list[int], split_bytes: int, seal: bool, skip: bool
) -> None:
    parts = [
        columns.take(slice(start, stop))
        for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), columns.rows], strict=True)
    ]
    with new_root() as root:
        index, appended = MemoryIndex(), MemoryIndex()
        sealed: list[Any] = []
        with StreamWriter(
            root / "whole",
            CONTRACT,
            tick_type,
            index,
            fsync=None,
            split_bytes=split_bytes,
            on_sealed=sealed.append,
        ) as writer:
            for part in parts:
                if skip:
                    ingest = Ingest(root / "whole", writer)
                    ingest._stored_ticks = nothing_stored  # type: ignore[method-assign]
                    ingest.add(part, stream_id="s", seal=seal)
                    assert (ingest.added, ingest.known) == (part.rows, 0)
                else:
                    assert writer.write(part, stream_id="s", seal=seal) == part.rows
        with StreamWriter(
            root / "appended", CONTRACT, tick_type, appended, fsync=None, split_bytes=split_bytes
        ) as writer:
            for part in parts:
                append_all(writer, part if not skip else by_half_hours(part))
        assert contents(root / "whole") == contents(root / "appended")
        assert index.files() == appended.files() == list(read_all_records(root / "whole"))
        assert {record.path: record for record in sealed} == {r.path: r for r in index.files()}


def nothing_stored(hour_ns: int) -> StoredTicks:
    """Take every tick for new, also one that the writer has just written."""
    del hour_ns
    empty = TickColumns(0, {"timestamp": Values(np.zeros(0, dtype=np.int64))})
    return StoredTicks(tick_keys(empty))


def by_half_hours(columns: TickColumns) -> TickColumns:
    halves = columns.timestamp // (30 * MINUTE)
    return columns.take(np.argsort(halves, kind="stable"))


def test_blocks_of_a_large_hour(root: Path, index: MemoryIndex) -> None:
    """Blocks end where a scan of the file ends them; a tick of several MB is one more."""
    many = hour_of_quotes(40_000)
    codes = np.zeros(many.rows, dtype=np.int32)
    codes[[17, 20_000]] = 1
    exchange = StringColumn(codes, ("ARCA", "B" * (3 << 20)))
    columns = TickColumns(many.rows, many.columns | {"exchange": exchange})
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        writer.write(columns, seal=True)
    (record,) = index.files()
    assert len(record.blocks) > 4
    assert [record] == list(read_all_records(root))


@pytest.mark.parametrize("size", [1, 100, 250, 4096])
def test_blocks_of_the_encoder_are_those_of_a_scan(size: int) -> None:
    encoder = Encoder(quotes(every(SECOND, 300)), contract_id=1, tick_type="bid_ask", stream_id="")
    blocks = [(row, frames.tobytes()) for row, frames in encoder.blocks(0, 300, size)]
    scanned = scan_frames(b"".join(frames for _, frames in blocks), block_bytes=size).blocks
    assert [len(frames) for _, frames in blocks] == [block.stop - block.start for block in scanned]
    assert [row for row, _ in blocks] == np.cumsum([b.messages for b in scanned]).tolist()


def test_ranges_of_hours_are_joined_across_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibticks.storage._layout._HOUR_ROWS", 3)
    times = np.array([0, 0, 0, 0, HOUR_NS, HOUR_NS, HOUR_NS, -1])
    assert hour_ranges(times) == [(0, 0, 4), (HOUR_NS, 4, 7), (-HOUR_NS, 7, 8)]
    assert hour_ranges(times, max_steps_back=1) == hour_ranges(times)
    assert hour_ranges(times, max_steps_back=0) is None
    assert hour_ranges(times[3:5][::-1], max_steps_back=0) is None
    assert hour_ranges(times[:0]) == []


def test_ticks_of_hours_in_no_order_are_appended(root: Path, index: MemoryIndex) -> None:
    times = [H13 + hour * HOUR_NS for hour in (1, 0) * 150]
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        assert writer.write(quotes(times), seal=True) == 300
    assert numbers(root, index) == [*range(1, 300, 2), *range(0, 300, 2)]


def test_few_ticks_an_hour_are_written_as_whole_hours(root: Path, index: MemoryIndex) -> None:
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        writer.write(quotes(every(3 * HOUR_NS, 120)))
        assert [record.sealed for record in index.files()] == [True] * 119 + [False]
    assert index.files() == list(read_all_records(root))


# --- what is written as a whole, and what is appended ---------------------------------------------


def test_the_last_hour_stays_open_unless_it_is_complete(root: Path, index: MemoryIndex) -> None:
    ticks = quotes(every(20 * MINUTE, 12))
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        writer.write(ticks)
        assert [record.sealed for record in index.files()] == [True, True, True, False]
        writer.write(quotes(every(20 * MINUTE, 12, H13 + 4 * HOUR_NS), 12), seal=True)
        assert [record.sealed for record in index.files()] == [True] * 3 + [False] + [True] * 4
        before = open_descriptors(root)
        writer.append(quote_message(H13, 24))  # opens the sealed file again
        assert open_descriptors(root) == before + 1
    assert sorted(numbers(root, index)) == list(range(25))


def test_an_hour_that_has_a_file_is_appended_to(root: Path, index: MemoryIndex) -> None:
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        writer.append(quote_message(H13 + HOUR_NS, 0))
        writer.write(quotes(every(20 * MINUTE, 12), 1), seal=True)
        assert [record.sealed for record in index.files()] == [True, False, True, True]
    assert sorted(numbers(root, index)) == list(range(13))
    assert not any(finding.problem for finding in verify_files(root, index))


def test_a_folder_is_synced_once_for_its_files(
    root: Path, index: MemoryIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        writer.write(quotes(every(20 * MINUTE, 30)), seal=True)
    files = [name for name in synced if name.endswith("_ticks.pb.new")]
    assert sorted(files) == [f".{Path(record.path).name}.new" for record in index.files()]
    assert synced.count("08") == 1  # the folder of the day


# --- what goes wrong ------------------------------------------------------------------------------

THIRD = "15_ticks.pb.new"
CALLS = ("fsync", "write", "pwrite")


def tenths(first_hour: int, hours: int, first: int) -> TickColumns:
    """A tick every ten minutes, numbered."""
    return quotes(every(10 * MINUTE, 6 * hours, H13 + first_hour * HOUR_NS), first)


@pytest.mark.parametrize("call", CALLS)
def test_an_hour_that_cannot_be_written_as_a_whole_is_appended(
    root: Path, index: MemoryIndex, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(os, call)
    failed: list[int] = []

    def fail_once(descriptor: int, *arguments: Any) -> Any:
        if not failed and THIRD in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            failed.append(descriptor)
            raise OSError(errno.EIO, "refused")
        return real(descriptor, *arguments)

    progress: list[int] = []
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail_once)
            assert writer.write(tenths(0, 6, 0), seal=True, on_written=progress.append) == 36
        assert len(failed) == 1
        assert sum(progress) == 36
    assert numbers(root, index) == list(range(36))
    assert not any(finding.problem for finding in verify_files(root, index))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_hours_before_one_that_cannot_be_written_are_kept(
    root: Path, index: MemoryIndex, faults: Faults, call: str, code: int
) -> None:
    name = "15_ticks.pb" if call != "fsync" else THIRD
    failing = faults.failing(call if call != "pwrite" else "write", code=code, only=name)
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        with failing, pytest.raises(StorageError) as caught:
            writer.write(tenths(0, 6, 0), seal=True)
        assert caught.value.context["written"] == 12
        assert numbers(root, index) == list(range(12))
        assert list(list_unfinished(root, CONTRACT, "bid_ask")) == []
        assert writer.write(tenths(2, 4, 12), seal=True) == 24
    assert numbers(root, index) == list(range(36))
    assert not any(finding.problem for finding in verify_files(root, index))


def test_files_whose_folder_cannot_be_synced_are_written_anew(
    root: Path, index: MemoryIndex, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        writer.write(tenths(0, 1, 0), seal=True)
        with faults.failing("fsync", only="/10/08", after=3):  # the files of these hours
            assert writer.write(tenths(1, 3, 6), seal=True) == 18
        assert "written anew when they are sealed" in caplog.text
        path = root / FileKey(CONTRACT, "bid_ask", H13 + HOUR_NS).path
        inode = path.stat().st_ino
    assert path.stat().st_ino != inode
    assert numbers(root, index) == list(range(24))
    assert all(record.sealed for record in index.files())


def test_records_that_the_index_refuses_are_put_when_the_writer_closes(
    root: Path, index: MemoryIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(records: Any) -> None:
        raise StorageError("no space for the journal")

    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(index, "put_files", refuse)
            assert writer.write(tenths(0, 4, 0), seal=True) == 24
        assert index.files() == []
    assert index.files() == list(read_all_records(root))
    assert len(index.files()) == 4


def test_a_write_that_the_user_stops_keeps_whole_hours(
    root: Path, index: MemoryIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress: list[int] = []

    def advance(rows: int) -> None:
        progress.append(rows)
        if len(progress) == 3:
            raise KeyboardInterrupt

    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        with pytest.raises(KeyboardInterrupt):
            writer.write(tenths(0, 9, 0), seal=True, on_written=advance)
        assert numbers(root, index) == list(range(18))
        assert list(list_unfinished(root, CONTRACT, "bid_ask")) == []
        writer.append(quote_message(H13 + 3 * HOUR_NS, 18))
    assert index.files() == list(read_all_records(root))


def test_a_tick_too_large_for_a_frame_keeps_the_hours_before_it(
    root: Path, index: MemoryIndex
) -> None:
    ticks = tenths(0, 4, 0)
    codes = np.zeros(24, dtype=np.int32)
    codes[15] = 1
    exchange = StringColumn(codes, ("A", "B" * (16 << 20)))
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        with pytest.raises(InputError, match="is larger than a frame"):
            writer.write(TickColumns(24, ticks.columns | {"exchange": exchange}), seal=True)
        assert numbers(root, index) == list(range(15))
    assert list(list_unfinished(root, CONTRACT, "bid_ask")) == []


def test_text_that_is_no_utf8_is_refused_before_any_tick_is_written(
    root: Path, index: MemoryIndex
) -> None:
    ticks = tenths(0, 4, 0)
    exchange = StringColumn(np.zeros(24, dtype=np.int32), ("A", "\ud800"))
    with (
        StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer,
        pytest.raises(InputError, match="lone surrogate"),
    ):
        writer.write(TickColumns(24, ticks.columns | {"exchange": exchange}), seal=True)
    assert list(list_files(root)) == []


def test_appends_of_another_thread_wait_for_their_hour_only(root: Path, index: MemoryIndex) -> None:
    """Ticks of an hour that is written as a whole come after it; of any other hour, at once."""
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        key = writer.appender.reserve_hour(H13)
        assert key == KEY
        assert writer.appender.reserve_hour(H13) is None
        late = Thread(target=writer.append, args=(quote_message(H13, 1),))
        late.start()
        writer.append(quote_message(H13 + HOUR_NS, 0))
        late.join(0.05)
        assert late.is_alive()
        assert writer.appender.has_open(KEY)
        writer.appender.release_hours([KEY])
        late.join(60)
        assert not late.is_alive()
    assert sorted(numbers(root, index)) == [0, 1]


# --- kills ----------------------------------------------------------------------------------------

ROUNDS = 12


def test_a_kill_leaves_whole_hours_and_the_next_writer_enters_them(
    root: Path, tmp_path: Path, children: Children
) -> None:
    choose = random.Random(11)
    hours, per_hour = 60, 400
    for round_ in range(ROUNDS):
        folder, remaining = root / str(round_), tmp_path / f"index{round_}"
        report = tmp_path / f"report{round_}"
        report.touch()
        pid = children.start(
            "write_hours",
            root=folder,
            report=report,
            index=remaining,
            hours=hours,
            per_hour=per_hour,
        )
        while not report.read_text():
            time.sleep(0.001)
        time.sleep(choose.uniform(0, 0.08))
        children.kill(pid)

        sure = sum(int(line) for line in report.read_text().split()[1:])
        index = KeptIndex(remaining)
        entered = index.files()
        records = {record.path: record for record in read_all_records(folder)}
        assert all(records[record.path] == record for record in entered)
        stored = numbers(folder, list(records.values())) if records else []
        assert stored == list(range(len(stored)))
        assert len(stored) % per_hour == 0
        assert len(stored) >= sure
        assert not any(finding.problem for finding in verify_files(folder, None))

        ticks = quotes(every(HOUR_NS // per_hour, hours * per_hour))
        with StreamWriter(folder, CONTRACT, "bid_ask", index, fsync=None) as writer:
            assert index.files() == list(records.values())
            assert list(list_unfinished(folder, CONTRACT, "bid_ask")) == []
            ingest = Ingest(folder, writer)
            ingest.add(ticks, seal=True)
            assert ingest.known == len(stored)
        assert numbers(folder, index) == list(range(ticks.rows))
        assert not any(finding.problem for finding in verify_files(folder, index))
