"""The coverage ledger: written by a capture, rebuilt from files, closed after a kill."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks._types import Interval
from ibticks.config import HOUR_NS
from ibticks.coverage import (
    STATE_OF_STATUS,
    CoverageState,
    Ledger,
    StreamStatus,
    backfilled_rows,
    end_abandoned_intervals,
    mark_files_deleted,
    missing_intervals,
    rebuild_coverage,
    resume_ledger,
)
from ibticks.coverage._ledger import StatusChange, ledger_rows
from ibticks.coverage._row_changes import deleted_rows_before, fill_rows, rows_lost_by_rebuild
from ibticks.coverage._states import COMPLETE_STATES
from ibticks.errors import InputError
from ibticks.index import CoverageRecord, MemoryIndex
from ibticks.storage import StreamLock, StreamWriter, list_files
from ibticks.store._deletion import compress_files

if TYPE_CHECKING:
    from random import Random

    from ibticks.testing import FakeCapture

AAPL = 265598
T0 = 1_736_519_400_000_000_000  # 2025-01-10 14:30 UTC
SECOND = 1_000_000_000
MINUTE = 60 * SECOND

saying = st.sampled_from(list(STATE_OF_STATUS))


def row(
    start: int,
    end: int | None,
    state: str = "captured",
    reason: str = "",
    contract_id: int = AAPL,
    tick_type: str = "last",
) -> CoverageRecord:
    return CoverageRecord(contract_id, tick_type, start, end, state, reason)


def brief(rows: list[CoverageRecord]) -> list[Any]:
    return [
        (value.start_ns - T0, value.end_ns and value.end_ns - T0, value.state) for value in rows
    ]


def rebuilt(root: Path, index: MemoryIndex) -> list[CoverageRecord]:
    return rebuild_coverage(root, index.files())


def state_at(rows: list[CoverageRecord], instant: int) -> CoverageState | None:
    """Return the state of an instant by looking at each row."""
    details = [
        value.state
        for value in rows
        if value.start_ns <= instant and (value.end_ns is None or instant < value.end_ns)
    ]
    assert len(details) <= 1
    return CoverageState(details[0]) if details else None


# -- any events of a capture -----------------------------------------------------------------------


@dataclass
class Truth:
    """The true states of a stream over time, as a plain list."""

    state_intervals: list[list[Any]]
    fills: list[tuple[int, int]]

    def turn(self, time_ns: int, state: CoverageState | None) -> None:
        if self.state_intervals and self.state_intervals[-1][1] is None:
            self.state_intervals[-1][1] = time_ns
        if state is not None:
            self.state_intervals.append([time_ns, None, state])

    def at(self, instant: Any) -> CoverageState | None:
        lived = next(
            (s for a, b, s in self.state_intervals if a <= instant and (b is None or instant < b)),
            None,
        )
        if lived in COMPLETE_STATES:
            return lived
        if any(start <= instant < end for start, end in self.fills):
            return CoverageState.BACKFILLED
        return lived

    def instants(self) -> list[Any]:
        edges = {e for a, b, _ in self.state_intervals for e in (a, b) if e is not None}
        edges |= {edge for fill in self.fills for edge in fill}
        return sorted({edge + step for edge in edges for step in (-1, 0, 1)})


steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 100 * 60)),
        st.tuples(st.just("step back"), st.integers(1, 70 * 60)),
        st.tuples(st.just("say"), saying),
        st.tuples(st.just("tick"), st.none()),
        st.tuples(st.just("backfill"), st.tuples(st.integers(1, 9000), st.integers(1, 9000))),
        st.tuples(st.just("stop"), st.none()),
        st.tuples(st.just("kill"), st.none()),
        st.tuples(st.just("killed while saying"), st.lists(saying, min_size=1, max_size=3)),
    ),
    max_size=40,
)


@settings(max_examples=120, deadline=None)
@given(steps)
def test_live_and_rebuilt_ledgers_equal_the_true_states(
    fake_capture: type[FakeCapture], happening: list[Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, index, truth = Path(folder), MemoryIndex(), Truth([], [])
        now = last = T0
        capture, silent = None, True
        for what, how in happening:
            if what == "wait":
                now += how * SECOND
                continue
            if what == "step back":
                now -= how * SECOND
                continue
            if capture is None:
                capture, silent = fake_capture(root, index, AAPL), True
            silent &= what != "say"
            if what == "say":
                last = capture.report_status(how, now)
                truth.turn(last, STATE_OF_STATUS[how])
            elif what == "tick":
                last = max(now, last) if capture.ledger.state is not None else last
                capture.tick(last if capture.ledger.state is not None else now)
            elif what == "backfill":
                ago, length = how
                end = capture.ledger.next_time_ns(now)
                start, end = end - ago * SECOND, min(end - (ago - length) * SECOND, end)
                truth.fills += capture.backfill(now, start, end)
            elif what == "stop":
                last = capture.stop(now)
                truth.turn(last, None)
                capture = None
            else:
                for status in how or ():
                    last = capture.report_unindexed(status, now)
                    truth.turn(last, STATE_OF_STATUS[status])
                capture.kill()
                capture = None
                truth.turn(last + 1, None)
        if capture is not None:
            assert silent or index.coverage() == rebuilt(root, index)
            capture.kill()
            truth.turn(last + 1, None)
        end_abandoned_intervals(root, index)
        fake_capture(root, index, AAPL).kill()  # closes intervals that the index does not have
        live = index.coverage()
        for instant in truth.instants():
            assert state_at(live, instant) == truth.at(instant)
        again = MemoryIndex(files=index.files(), coverage=rebuilt(root, index))
        end_abandoned_intervals(root, again)
        assert again.coverage() == live


changes = st.lists(
    st.builds(
        StatusChange,
        time_ns=st.integers(T0, T0 + 50),
        status=saying,
        run=st.sampled_from(["a", "b"]),
    ),
    max_size=12,
    unique_by=lambda change: change.time_ns,
)


@given(changes, st.randoms(use_true_random=False))
def test_the_order_and_copies_of_messages_do_not_matter(
    events: list[StatusChange], random: Random
) -> None:
    def last(change: StatusChange) -> int:
        return change.time_ns + 3

    reported = ledger_rows(AAPL, "last", events, last)
    shuffled = events + [random.choice(events) for _ in events]
    random.shuffle(shuffled)
    assert ledger_rows(AAPL, "last", shuffled, last) == reported


@given(changes)
def test_intervals_are_in_order_and_apart(events: list[StatusChange]) -> None:
    reported = ledger_rows(AAPL, "last", events, lambda change: change.time_ns)
    assert all(
        one.end_ns is not None and one.end_ns <= two.start_ns for one, two in pairwise(reported)
    )
    assert all(value.end_ns is None or value.end_ns > value.start_ns for value in reported)
    assert (
        all(one.end_ns < two.start_ns or one.state != two.state for one, two in pairwise(reported))
        or len({change.run for change in events}) > 1
    )


# -- one thing at a time ---------------------------------------------------------------------------


def test_a_day(fake_capture: type[FakeCapture], root: Path, index: MemoryIndex) -> None:
    capture = fake_capture(root, index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    capture.tick(T0 + 5)
    capture.report_status(StreamStatus.SUBSCRIBED, T0 + 7, "repeated")
    capture.report_status(
        StreamStatus.DISCONNECTED, T0 + 10, "connection between TWS and IB lost", 1100
    )
    capture.report_status(StreamStatus.RESTORED, T0 + 30, "connection restored, data kept", 1102)
    capture.report_status(StreamStatus.QUIET, T0 + 40, "no tick for 60 s")
    capture.report_status(StreamStatus.SESSION_CLOSED, T0 + 50)
    capture.stop(T0 + 60)
    assert index.coverage() == [
        row(T0, T0 + 10),
        row(T0 + 10, T0 + 30, "disconnected", "1100: connection between TWS and IB lost"),
        row(T0 + 30, T0 + 40, "captured", "1102: connection restored, data kept"),
        row(T0 + 40, T0 + 50, "quiet", "no tick for 60 s"),
        row(T0 + 50, T0 + 60, "session_closed"),
    ]
    assert rebuilt(root, index) == index.coverage()


def test_changes_dated_before_the_last_message() -> None:
    ledger = Ledger(AAPL, "last", "a")
    ledger.change(StreamStatus.SUBSCRIBED, T0)
    ledger.touch(T0 + 100)
    assert ledger.next_time_ns(T0 + 50) == T0 + 101
    assert brief(ledger.change(StreamStatus.DISCONNECTED, T0 + 50)) == [
        (0, 101, "captured"),
        (101, None, "disconnected"),
    ]
    assert ledger.state is CoverageState.DISCONNECTED
    assert brief(ledger.change(StreamStatus.STOPPED, T0 + 60)) == [(101, 102, "disconnected")]
    assert ledger.state is None
    assert ledger.change(StreamStatus.STOPPED, T0 + 70) == []


def test_a_backfill_is_no_change_of_state_and_needs_a_range() -> None:
    ledger = Ledger(AAPL, "last", "a")
    with pytest.raises(InputError, match="not the state of a stream"):
        ledger.change(StreamStatus.BACKFILLED, T0)
    with pytest.raises(InputError, match="is empty"):
        backfilled_rows(AAPL, "last", T0, T0, 3, [])


@pytest.mark.parametrize(
    "message",
    [
        {"type": "tick", "data": {"status": "stopped"}, "metadata": {"run": "a"}},
        {"type": "info", "data": {"status": "stopped"}},
        {"type": "info", "data": {"status": "stopped"}, "metadata": {"run": 5}},
        {"type": "info", "data": {"status": "live_start"}, "metadata": {"run": "a"}},
        {"type": "info", "data": {"status": "backfilled"}, "metadata": {"run": "a"}},
        {
            "type": "info",
            "data": {"status": "backfilled"},
            "metadata": {"run": "a", "start_ns": 5, "end_ns": 5, "ticks": 1},
        },
        {"type": "info", "stream_id": "x"},
    ],
)
def test_messages_without_coverage(message: dict[str, Any]) -> None:
    assert StatusChange.parse(T0, message) is None


def test_a_message_with_coverage() -> None:
    message = {
        "type": "info",
        "stream_id": "s",
        "data": {"status": "backfilled"},
        "metadata": {"run": "a", "start_ns": 5, "end_ns": 9, "ticks": 2, "code": True},
    }
    assert StatusChange.parse(T0, message) == StatusChange(
        T0, StreamStatus.BACKFILLED, "a", stream_id="s", interval=Interval(5, 9), ticks=2
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 8), st.sampled_from(CoverageState)), max_size=5
    ),
    st.integers(0, 30),
    st.integers(1, 30),
    st.booleans(),
)
def test_a_backfill_replaces_only_missing_time(
    made: list[Any], start: int, length: int, last_is_open: bool
) -> None:
    rows, at = [], 0
    for gap, size, state in made:
        rows.append(row(at + gap, at + gap + size, state.value))
        at += gap + size
    if rows and last_is_open:
        rows[-1] = replace(rows[-1], end_ns=None)
    index = MemoryIndex(coverage=rows)
    known = index.coverage(None, None, start, start + length)
    parts = missing_intervals(known, start, start + length)
    index.put_coverage(fill_rows(known, row(start, start + length, "backfilled", "new")))
    for instant in range(-1, 120):
        before, after = state_at(rows, instant), state_at(index.coverage(), instant)
        inside = start <= instant < start + length
        lasts = last_is_open and rows and instant >= rows[-1].start_ns
        fills = inside and before not in COMPLETE_STATES and not lasts
        expected = CoverageState.BACKFILLED if fills else before
        assert after == expected
        assert sum(a <= instant < b for a, b in parts) == bool(fills)
    assert all(one[1] < two[0] for one, two in pairwise(parts))


def test_gaps_are_filled_after_their_end(
    fake_capture: type[FakeCapture], root: Path, index: MemoryIndex
) -> None:
    capture = fake_capture(root, index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    capture.report_status(StreamStatus.DISCONNECTED, T0 + 10)
    capture.backfill(T0 + 60, T0 - 5, T0 + 40, ticks=1234)
    assert brief(index.coverage()) == [
        (-5, 0, "backfilled"),
        (0, 10, "captured"),
        (10, None, "disconnected"),
    ]
    assert rebuilt(root, index) == index.coverage()
    capture.report_status(StreamStatus.SUBSCRIBED, T0 + 80)
    capture.backfill(T0 + 90, T0 + 5, T0 + 70, ticks=2)
    capture.backfill(T0 + 95, T0 + 60, T0 + 85, ticks=3)
    assert [
        (*b, r.reason) for b, r in zip(brief(index.coverage()), index.coverage(), strict=True)
    ] == [
        (-5, 0, "backfilled", "backfill of 1,234 ticks"),
        (0, 10, "captured", ""),
        (10, 70, "backfilled", "backfill of 2 ticks"),
        (70, 80, "backfilled", "backfill of 3 ticks"),
        (80, None, "captured", ""),
    ]
    assert rebuilt(root, index) == index.coverage()
    capture.stop(T0 + 100)


def test_time_missed_by_a_killed_capture_is_filled_before_the_next_one(
    root: Path, index: MemoryIndex, killed: FakeCapture
) -> None:
    end_abandoned_intervals(root, index)
    writer = StreamWriter(root, AAPL, "last", index)
    killed.writer = writer
    killed.backfill(T0 + 90, T0 + 5, T0 + 70)
    writer.close()
    assert brief(index.coverage()) == [(0, 10, "captured"), (10, 70, "backfilled")]
    assert rebuilt(root, index) == index.coverage()


# -- captures that are killed ----------------------------------------------------------------------


@pytest.fixture
def killed(fake_capture: type[FakeCapture], root: Path, index: MemoryIndex) -> FakeCapture:
    capture = fake_capture(root, index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    for tick in (5, 9):
        capture.tick(T0 + tick)
    capture.kill()
    return capture


def test_an_interval_of_a_killed_capture_ends_with_its_last_message(
    killed: FakeCapture, root: Path, index: MemoryIndex
) -> None:
    assert brief(rebuilt(root, index)) == [(0, 10, "captured")]
    assert brief(end_abandoned_intervals(root, index)) == [(0, 10, "captured")]
    assert end_abandoned_intervals(root, index) == []
    assert brief(index.coverage()) == [(0, 10, "captured")]


@pytest.mark.parametrize("last", [HOUR_NS // 2, 3 * HOUR_NS, 26 * HOUR_NS])
def test_the_last_message_may_be_an_error_and_hours_later(
    fake_capture: type[FakeCapture], root: Path, index: MemoryIndex, last: int
) -> None:
    capture = fake_capture(root, index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    capture.tick(T0 + last - 1)
    capture.error(T0 + last)
    capture.kill()
    assert brief(end_abandoned_intervals(root, index)) == [(0, last + 1, "captured")]


def test_ticks_imported_later_do_not_extend_a_capture(
    fake_capture: type[FakeCapture], killed: FakeCapture, root: Path, index: MemoryIndex
) -> None:
    with StreamWriter(root, AAPL, "last", index) as writer:
        killed.writer, killed.stream_id = writer, "import"
        for tick in (7, 50, 2 * HOUR_NS):
            killed.tick(T0 + tick)
    assert brief(end_abandoned_intervals(root, index)) == [(0, 10, "captured")]
    fake_capture(root, index, AAPL).stop(T0 + 3 * HOUR_NS)
    again = fake_capture(root, index, AAPL)
    again.report_status(StreamStatus.SUBSCRIBED, T0 + 4 * HOUR_NS)
    again.kill()
    end_abandoned_intervals(root, index)
    assert brief(rebuilt(root, index))[0] == (0, 10, "captured")


def test_a_torn_tail_does_not_count(killed: FakeCapture, root: Path, index: MemoryIndex) -> None:
    (key,) = list_files(root)
    data = (root / key.path).read_bytes()
    (root / key.path).write_bytes(data[:-3])
    assert brief(end_abandoned_intervals(root, index)) == [(0, 6, "captured")]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "snappy"])
def test_files_of_a_killed_capture_may_be_compressed(
    killed: FakeCapture, root: Path, index: MemoryIndex, compression: str
) -> None:
    StreamWriter(root, AAPL, "last", index).close()
    list(compress_files(root, index, list(list_files(root)), compression))
    assert brief(rebuilt(root, index)) == [(0, 10, "captured")]
    without_blocks = [replace(file, blocks=()) for file in index.files()]
    assert brief(
        end_abandoned_intervals(root, MemoryIndex(without_blocks, coverage=index.coverage()))
    ) == [(0, 10, "captured")]
    assert brief(end_abandoned_intervals(root, index)) == [(0, 10, "captured")]


def test_files_of_a_killed_capture_may_be_deleted(
    killed: FakeCapture, root: Path, index: MemoryIndex, caplog: pytest.LogCaptureFixture
) -> None:
    for file in index.files():
        (root / file.path).unlink()
    assert brief(end_abandoned_intervals(root, index)) == [(0, 1, "captured")]
    assert "cannot be read" in caplog.text


def test_a_status_missing_in_the_index(
    fake_capture: type[FakeCapture], root: Path, index: MemoryIndex
) -> None:
    capture = fake_capture(root, index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    capture.tick(T0 + 5)
    capture.write_status(StreamStatus.DISCONNECTED, T0 + 20, code=1100, reason="lost")
    capture.kill()
    assert brief(end_abandoned_intervals(root, index)) == [
        (0, 20, "captured"),
        (20, 21, "disconnected"),
    ]
    assert index.coverage()[1].reason == "1100: lost"
    assert rebuilt(root, index) == index.coverage()


def test_several_statuses_missing_in_the_index(
    fake_capture: type[FakeCapture], root: Path, index: MemoryIndex
) -> None:
    capture = fake_capture(root, index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    capture.report_unindexed(StreamStatus.DISCONNECTED, T0 + 20)
    capture.report_unindexed(StreamStatus.RESTORED, T0 + 30)
    capture.kill()
    unheard = fake_capture(root, MemoryIndex(files=index.files()), AAPL)
    unheard.report_status(StreamStatus.QUIET, T0 + 50)
    unheard.kill()
    end_abandoned_intervals(root, index)
    assert brief(index.coverage()) == [
        (0, 20, "captured"),
        (20, 30, "disconnected"),
        (30, 31, "captured"),
        (50, 51, "quiet"),
    ]
    assert rebuilt(root, index) == index.coverage()


def test_a_running_capture_is_left_alone(
    fake_capture: type[FakeCapture], root: Path, index: MemoryIndex
) -> None:
    capture = fake_capture(root, index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    assert end_abandoned_intervals(root, index) == []
    assert brief(index.coverage()) == [(0, None, "captured")]
    capture.stop(T0 + 9)


def test_the_next_run_closes_the_intervals_of_the_last_one(
    fake_capture: type[FakeCapture], killed: FakeCapture, root: Path, index: MemoryIndex
) -> None:
    again = fake_capture(root, index, AAPL)
    assert brief(index.coverage()) == [(0, 10, "captured")]
    assert (
        again.report_status(StreamStatus.SUBSCRIBED, T0 - HOUR_NS) == T0 + 10
    )  # the clock is wrong
    assert again.ledger.run == again.run
    again.stop(T0 + 20)
    assert brief(index.coverage()) == [(0, 10, "captured"), (10, 20, "captured")]
    assert rebuilt(root, index) == index.coverage()


def test_streams_do_not_mix(
    fake_capture: type[FakeCapture], root: Path, index: MemoryIndex
) -> None:
    one, other = fake_capture(root, index, AAPL), fake_capture(root, index, 8314, "bid_ask")
    one.report_status(StreamStatus.SUBSCRIBED, T0)
    other.report_status(StreamStatus.NOT_PERMITTED, T0 + 3, "no permission", 354)
    one.stop(T0 + 9)
    assert rebuilt(root, index) == index.coverage()
    assert [
        (value.contract_id, *each_brief)
        for value, each_brief in zip(index.coverage(), brief(index.coverage()), strict=True)
    ] == [(8314, 3, None, "not_permitted"), (AAPL, 0, 9, "captured")]
    other.stop(T0 + 12)


def test_settling_imports_no_numba(killed: FakeCapture, root: Path, index: MemoryIndex) -> None:
    """A capture that is restarted after a kill stays small."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ibticks.index import CoverageRecord, FileRecord, MemoryIndex\n"
        "from ibticks.coverage._rebuild import resume_ledger\n"
        f"index = MemoryIndex({index.files()!r}, coverage={index.coverage()!r})\n"
        f"resume_ledger(Path({str(root)!r}), index, {AAPL}, 'last', 'again')\n"
        "print(index.coverage()[0].end_ns, 'numba' in sys.modules, 'pandas' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(T0 + 10), "False", "False"]


# -- whether a stream is written -------------------------------------------------------------------


def test_detecting_a_writer(root: Path, index: MemoryIndex) -> None:
    assert not StreamLock.is_locked(root, AAPL, "last")
    with StreamWriter(root, AAPL, "last", index):
        assert StreamLock.is_locked(root, AAPL, "last")
        assert not StreamLock.is_locked(root, AAPL, "bid_ask")
    assert not StreamLock.is_locked(root, AAPL, "last")


def test_detecting_a_writer_does_not_block_writers(root: Path, index: MemoryIndex) -> None:
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            StreamLock.is_locked(root, AAPL, "last")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(50):
            StreamWriter(root, AAPL, "last", index).close()
    finally:
        done.set()
        asking.join()


# -- what is deleted -------------------------------------------------------------------------------


def test_deleted_time_is_marked_deleted() -> None:
    rows = [
        row(0, 10),
        row(10, 20, "disconnected"),
        row(20, 40, "backfilled"),
        row(40, 90),
        row(90, None),
    ]
    assert deleted_rows_before(rows, 60) == [
        row(0, 10, "deleted", "captured, deleted since"),
        row(20, 40, "deleted", "backfilled, deleted since"),
        row(40, 60, "deleted", "captured, deleted since"),
        row(60, 90),
    ]
    assert deleted_rows_before(rows, 0) == []


def test_files_about_to_be_deleted(
    fake_capture: type[FakeCapture], root: Path, index: MemoryIndex
) -> None:
    capture = fake_capture(root, index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    for hour in range(4):
        capture.tick(T0 + hour * HOUR_NS)
    capture.stop(T0 + 4 * HOUR_NS)
    keys = list(list_files(root))
    mark_files_deleted(index, keys[:2])
    until = keys[1].hour_ns + HOUR_NS - T0
    assert brief(index.coverage()) == [(0, until, "deleted"), (until, 4 * HOUR_NS, "captured")]


def test_ledger_rows_without_a_file_survive_a_rebuild() -> None:
    known = [
        row(0, 40, "deleted", "captured, deleted since"),
        row(40, 50),  # the rest of it
        row(50, 60, "disconnected"),
        row(60, 80, "deleted", "captured, deleted since"),
        row(80, None),
    ]
    assert rows_lost_by_rebuild(known, []) == known
    assert rows_lost_by_rebuild(known, known[2:3]) == [*known[:2], *known[3:]]
    reported = [row(45, 50), row(50, 60, "disconnected"), row(90, None)]
    assert rows_lost_by_rebuild(known, reported) == [known[0], row(40, 45), known[3], row(80, 90)]
    assert rows_lost_by_rebuild(known[3:], [row(90, None)]) == [known[3], row(80, 90)]
    assert rows_lost_by_rebuild(known[3:], [row(80, 95), row(95, None)]) == [known[3]]
    other = CoverageRecord(AAPL, "bid_ask", T0, T0 + 99, "captured")
    assert rows_lost_by_rebuild(known, [other]) == known
    assert rows_lost_by_rebuild(known[1:3], []) == []
    assert rows_lost_by_rebuild([*known[:2], row(55, 70)], []) == known[:2]


def test_a_ledger_that_begins_without_an_index(root: Path) -> None:
    ledger = resume_ledger(root, MemoryIndex(), AAPL, "last", "a")
    assert (ledger.state, ledger.next_time_ns(-5)) == (None, -5)
