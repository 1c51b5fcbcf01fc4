"""One stream being recorded: each tick once and in order, and a ledger that agrees with files."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from ibticks.capture import Recorder
from ibticks.capture import _recorder as recorder_module
from ibticks.capture._recorder import last_sequence
from ibticks.config import HOUR_NS
from ibticks.coverage import (
    STATE_OF_STATUS,
    CoverageState,
    StreamStatus,
    rebuild_coverage,
    resume_ledger,
)
from ibticks.errors import StorageError, StorageFullError
from ibticks.format import TickEncoder
from ibticks.index import ContractRecord, FileRecord, MemoryIndex
from ibticks.storage import StreamAppender, read_messages, read_ticks
from ibticks.storage._audit import read_all_records

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTRACT = 8314
NOON = 1_736_510_400_000_000_000  # 2025-01-10 12:00 UTC
SECOND = 1_000_000_000


class Clock:
    """A clock that is set by the test, and ticks a little by itself."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        self.now += 1000
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(recorder_module, "time_ns", made)
    return made


class Disk(StreamAppender):
    """An appender with a disk that a test can fill."""

    problem: StorageError | None = None

    def append_frames(self, frames: bytes | memoryview[int], time_ns: int) -> None:
        if self.problem is not None:
            raise self.problem
        super().append_frames(frames, time_ns)


class Stage:
    """A stream in a folder, its index, and one recorder of it after the other."""

    def __init__(self, root: Path, tick_type: str = "bid_ask") -> None:
        self.root, self.kind, self.index = root, tick_type, MemoryIndex()
        self.runs = 0
        self.begin()

    def begin(self, **how: Any) -> Recorder:
        self.runs += 1
        run = f"run{self.runs}"
        self.disk = Disk(self.root, CONTRACT, self.kind, self.index, **{"fsync": None} | how)
        last = last_sequence(self.index.files([CONTRACT], [self.kind]))
        ledger = resume_ledger(self.root, self.index, CONTRACT, self.kind, run)
        self.recorder = Recorder(self.disk, run, last, ledger, self.index)
        return self.recorder

    def quote(self, price: float = 1.0) -> None:
        self.recorder.quote(1_381_239_000, price, Decimal(2), price + 1, Decimal(4), False, True)

    def kill(self) -> None:
        """Release the lock as a kill of the process does, and leave the files as they are."""
        self.disk._stream_lock.release()

    def sequences(self) -> list[Any]:
        """In the order in which they lie in the files."""
        sequences = []
        for record in self.index.files():
            for chunk in read_ticks(self.root, [record], ["timestamp", "sequence"]):
                sequences += chunk.numbers("sequence").tolist()
        return sequences

    def check_ledger(self) -> None:
        assert self.index.coverage() == rebuild_coverage(self.root, read_all_records(self.root))

    def messages(self, *kinds: str) -> list[Any]:
        messages = read_messages(self.root, self.index.files(), ticks=True)
        return [message for _, message in messages if message["type"] in kinds]


@pytest.fixture
def stage(tmp_path: Path, clock: Clock) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.disk.problem = None
    made.recorder.close()


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["last", "all_last", "bid_ask", "mid_point"])
def test_every_field_is_stored_when_the_call_returns(
    kind: str, tmp_path: Path, clock: Clock
) -> None:
    stage = Stage(tmp_path, kind)
    data = {"contract_id": CONTRACT, "tick_type": kind, "sequence": 1, "exchange_time": 7}
    if kind == "bid_ask":
        stage.recorder.quote(7, 1.5, Decimal("0.25"), 2.5, Decimal(300), True, False)
        data |= {"bid_price": 1.5, "bid_size": 0.25, "ask_price": 2.5, "ask_size": 300.0}
        data |= {"bid_past_low": True, "ask_past_high": False}
    elif kind == "mid_point":
        stage.recorder.mid_point(7, 1.75)
        data |= {"mid_price": 1.75}
    else:
        stage.recorder.trade(7, 10.25, Decimal(100), "NYSE", "T  I", True, False)
        data |= {"price": 10.25, "size": 100.0, "exchange": "NYSE", "conditions": ["T", "", "I"]}
        data |= {"past_limit": True, "unreported": False}
    (message,) = stage.messages("tick")
    stored = message["data"]
    assert {name: stored[name] for name in data if name != "exchange_time"} == {
        name: value for name, value in data.items() if name != "exchange_time"
    }
    assert message["stream_id"] == f"{CONTRACT}_{kind}_run1"
    (ticks,) = read_ticks(stage.root, stage.index.files(), ["timestamp", "exchange_time"])
    assert ticks.numbers("exchange_time").tolist() == [7]
    assert ticks.timestamp.tolist() == [stage.recorder.last_ns]
    assert (stage.recorder.last_event, stage.recorder.ticks) == (7, 1)
    stage.recorder.close()


def test_statuses_and_errors_of_a_stream(stage: Stage) -> None:
    recorder = stage.recorder
    recorder.contract = ContractRecord(CONTRACT, "IBM", "SMART", "USD", "STK")
    recorder.note(StreamStatus.SUBSCRIBED, "subscribed")
    recorder.error(10189, "no permission", recoverable=False)
    recorder.note(StreamStatus.NOT_PERMITTED, "no permission", 10189)
    first, second = stage.messages("info")
    (error,) = stage.messages("error")
    assert first["data"] == {
        "status": "subscribed",
        "stream_config": {"tick_type": "bid_ask"},
        "contract_info": {
            "symbol": "IBM",
            "exchange": "SMART",
            "currency": "USD",
            "contract_type": "STK",
        },
    }
    assert first["metadata"] == {"run": "run1", "reason": "subscribed"}
    assert error["data"] == {"code": "10189", "message": "no permission", "recoverable": False}
    assert second["metadata"] == {"run": "run1", "reason": "no permission", "code": 10189}
    assert recorder.state is CoverageState.NOT_PERMITTED
    assert (recorder.errors, recorder.last_error) == (1, "10189: no permission")


def test_ticks_restore_a_stream(stage: Stage) -> None:
    for status in (
        StreamStatus.QUIET,
        StreamStatus.DISCONNECTED,
        StreamStatus.NOT_PERMITTED,
        StreamStatus.SESSION_CLOSED,
    ):
        stage.recorder.note(status, "so it seemed")
        stage.quote()
        assert stage.recorder.state is CoverageState.CAPTURED
    *_, before, restored, tick = stage.messages("info", "tick")
    assert [message["data"].get("status") for message in (before, restored, tick)] == [
        "session_closed",
        "restored",
        None,
    ]
    # The tick lies in what is captured.
    assert restored["timestamp"] <= tick["timestamp"]
    stage.check_ledger()


def test_sequence_numbers_continue_from_run_to_run(stage: Stage) -> None:
    for _ in range(3):
        stage.quote()
    stage.recorder.close()
    stage.begin()
    stage.quote()
    stage.kill()
    stage.begin()
    stage.quote()
    assert stage.sequences() == [1, 2, 3, 4, 5]


def test_sequence_numbers_of_a_damaged_file_are_not_used_again(
    stage: Stage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        stage.quote()
    stage.recorder.close()
    clock.now += HOUR_NS
    stage.begin()
    for _ in range(50):
        stage.quote()
    stage.recorder.close()
    # The index is lost, and the later file is unreadable.
    (_, last) = stage.index.files()
    stage.index.replace_files([])
    path = stage.root / last.path
    path.write_bytes(path.read_bytes()[:300] + bytes(44) + path.read_bytes()[344:])
    clock.now += HOUR_NS
    stage.begin()
    stage.quote()
    assert stage.recorder.sequence > 150
    assert "is damaged and stays as it is" in caplog.text


def test_bound_of_sequence_numbers_in_a_damaged_file() -> None:
    whole = FileRecord(
        path="1/last/1",
        contract_id=1,
        tick_type="last",
        hour_ns=0,
        start_ns=0,
        end_ns=0,
        size=10**9,
        messages=10,
        ticks=10,
        sealed=True,
        last_sequence=10,
    )
    damaged = replace(whole, sealed=False, last_sequence=None, size=3200)
    without = replace(whole, ticks=0, last_sequence=None)
    assert last_sequence([]) == 0
    assert last_sequence([whole, without, replace(whole, last_sequence=7)]) == 10
    assert last_sequence([damaged, whole]) == 10 + 200
    # No frame with a number is shorter than is reckoned there.
    frame = TickEncoder(1, "last", "").trade(NOON, 1.0, 1.0, "", (), 1, 0)
    assert len(frame) > 16


# --- the clock ------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-SECOND, -90 * 60 * SECOND, -50 * HOUR_NS, 90 * 60 * SECOND])
def test_clock_steps(step: int, stage: Stage, clock: Clock) -> None:
    recorder = stage.recorder
    recorder.note(StreamStatus.SUBSCRIBED, "subscribed")
    for _ in range(5):
        stage.quote()
    clock.now += step
    for _ in range(5):
        stage.quote()
    recorder.note(StreamStatus.DISCONNECTED, "gone", 1100)
    clock.now += SECOND
    stage.quote()
    recorder.maintain(clock.now)
    recorder.close()
    assert sorted(stage.sequences()) == list(range(1, 12))
    assert stage.sequences() == [n for file in stage.index.files() for n in numbers_in(stage, file)]
    stage.check_ledger()


def numbers_in(stage: Stage, record: FileRecord) -> Any:
    (part,) = read_ticks(stage.root, [record], ["timestamp", "sequence"])
    return part.numbers("sequence").tolist()


# --- a disk that is full --------------------------------------------------------------------------


def test_ticks_wait_for_disk_space_in_order(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    recorder = stage.recorder
    recorder.note(StreamStatus.SUBSCRIBED, "subscribed")
    stage.quote(1)
    stage.disk.problem = StorageFullError("no space left while appending to x")
    for price in (2, 3):
        stage.quote(price)
    recorder.note(StreamStatus.DISCONNECTED, "gone", 1100)
    recorder.error(1100, "gone", recoverable=True)
    stage.quote(4)
    assert (recorder.waiting, recorder.lost, recorder.ticks) == (5, 0, 4)
    assert caplog.text.count("ticks wait in memory until there is room") == 1
    recorder.maintain()
    assert recorder.waiting == 5
    stage.disk.problem = None
    recorder.maintain()
    assert recorder.waiting == 0
    assert stage.sequences() == [1, 2, 3, 4]
    infos = [m["data"].get("status", m["type"]) for m in stage.messages("info", "error", "tick")]
    assert infos == ["subscribed", "tick", "tick", "tick", "disconnected", "error", "tick"]
    # A tick restores a stream that was noted as disconnected.
    stage.quote(5)
    assert recorder.state is CoverageState.CAPTURED
    stage.check_ledger()


def test_ticks_beyond_the_memory_limit_are_counted_as_lost(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_MAX_PENDING", 3)
    recorder = stage.recorder
    recorder.note(StreamStatus.SUBSCRIBED, "subscribed")
    stage.quote()
    stage.disk.problem = StorageError("the disk is broken")
    for _ in range(5):
        stage.quote()
    assert (recorder.lost, recorder.ticks, recorder.state) == (2, 6, CoverageState.DISCONNECTED)
    stage.disk.problem = None
    recorder.maintain()
    stage.quote()
    # The sequence numbers show how many ticks are missing, the ledger when.
    assert stage.sequences() == [1, 2, 3, 4, 7]
    rows = stage.index.coverage()
    assert [row.state for row in rows] == ["captured", "disconnected", "captured"]
    assert "no room on the disk: ticks are lost" in rows[1].reason
    stage.check_ledger()


def test_pending_ticks_are_written_at_the_end(stage: Stage) -> None:
    stage.disk.problem = StorageFullError("no space left")
    stage.quote()
    stage.disk.problem = None
    stage.recorder.close()
    assert stage.sequences() == [1]


def test_pending_ticks_lost_at_the_end_are_logged(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.recorder.note(StreamStatus.SUBSCRIBED, "subscribed")
    stage.disk.problem = StorageFullError("no space left")
    stage.quote()
    stage.recorder.close()
    assert "2 messages could not be written: no space left" in caplog.text


def test_ticks_after_the_end_change_nothing(stage: Stage) -> None:
    recorder = stage.recorder
    recorder.note(StreamStatus.SUBSCRIBED, "subscribed")
    stage.quote()
    recorder.close()
    recorder.close()
    before = stage.index.coverage()
    stage.quote()
    assert (recorder.lost, recorder.ticks, recorder.sequence, recorder.state) == (1, 1, 1, None)
    assert stage.index.coverage() == before
    assert stage.sequences() == [1]
    # And the next one gets in.
    stage.begin()
    stage.quote()
    assert stage.sequences() == [1, 2]


def broken(descriptor: Any) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("calls", [["fdatasync"], ["fdatasync", "fsync"]], ids=" ".join)
def test_a_tick_that_could_not_be_synced_is_not_there_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, calls: list[str]
) -> None:
    """The file is rewritten; if that fails, too, the tick waits."""
    stage.recorder.close()
    recorder = stage.begin(fsync=0)
    stage.quote()
    with monkeypatch.context() as patch:
        for call in calls:
            patch.setattr(os, call, broken)
        stage.quote()
    assert recorder.waiting == len(calls) - 1
    recorder.maintain()
    stage.quote()
    assert sorted(stage.sequences()) == [1, 2, 3]
    assert recorder.lost == 0


@pytest.mark.parametrize("calls", [["fdatasync"], ["fdatasync", "fsync"]], ids=" ".join)
def test_a_sync_that_fails_leaves_no_file_open_and_no_tick_behind(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    clock: Clock,
    calls: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A second sync is not trusted: the files are rewritten, or the hour continues elsewhere."""
    stage.quote()
    clock.now += HOUR_NS
    stage.quote()
    stage.recorder.sync()
    stage.quote()
    before = len([*Path("/dev/fd").iterdir()])
    with monkeypatch.context() as patch:
        for call in calls:
            patch.setattr(os, call, broken)
        if len(calls) == 1:
            stage.recorder.sync()
            assert "written to a new file and synced" in caplog.text
        else:
            with pytest.raises(StorageError, match="may not survive a power cut"):
                stage.recorder.sync()
            stage.recorder.sync()  # logged once
    assert len([*Path("/dev/fd").iterdir()]) == before
    stage.quote()
    assert sorted(stage.sequences()) == [1, 2, 3, 4]
    stage.recorder.close()
    assert all(record.sealed for record in stage.index.files())
    assert sorted(stage.sequences()) == [1, 2, 3, 4]


def test_a_capture_survives_a_torn_tick_that_cannot_be_taken_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    refused: list[Any] = []

    def half(descriptor: Any, data: Any) -> Any:
        if refused:
            return broken(descriptor)
        refused.append(data)
        return write(descriptor, bytes(data)[: len(data) // 2])

    for _ in range(3):
        stage.quote()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        patch.setattr(os, "ftruncate", lambda descriptor, _: broken(descriptor))
        for _ in range(3):
            stage.quote()
        assert stage.recorder.waiting == 3
    stage.quote()
    stage.recorder.maintain()
    stage.quote()
    assert stage.recorder.lost == 0
    assert sorted(stage.sequences()) == list(range(1, 9))


# --- everything at once ---------------------------------------------------------------------------


def test_ticks_statuses_and_upkeep_from_several_threads(stage: Stage, clock: Clock) -> None:
    """Through an hour that ends again and again: files are sealed while ticks come for them."""
    recorder, count = stage.recorder, 4000
    done = threading.Event()
    recorder.note(StreamStatus.SUBSCRIBED, "subscribed")

    def ticks() -> None:
        for number in range(count):
            if number % 500 == 499:
                clock.now += HOUR_NS if number % 1000 == 999 else -HOUR_NS // 2
            stage.quote(number)
        done.set()

    def notes() -> None:
        while not done.is_set():
            recorder.note(StreamStatus.QUIET, "silent")
            recorder.error(10197, "another session", recoverable=True)

    def upkeep() -> None:
        while not done.is_set():
            recorder.sync()
            recorder.maintain(clock.now + 3 * HOUR_NS)

    threads = [threading.Thread(target=work) for work in (ticks, notes, upkeep)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    recorder.close()
    assert sorted(stage.sequences()) == list(range(1, count + 1))
    for record in stage.index.files():
        numbers = numbers_in(stage, record)
        assert numbers == sorted(numbers)
    stage.check_ledger()
    assert stage.index.files() == list(read_all_records(stage.root))


class Runs(RuleBasedStateMachine):
    """After any events of a stream its ledger equals that of its files, and no tick is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock()
        self.patch.setattr(recorder_module, "time_ns", self.clock)
        self.folder = tempfile.TemporaryDirectory()
        self.stage = Stage(Path(self.folder.name))
        self.ticks = 0

    @rule(count=st.integers(1, 3))
    def tick(self, count: Any) -> None:
        for _ in range(count):
            self.stage.quote()
        self.ticks += count

    @rule(
        status=st.sampled_from([s for s in STATE_OF_STATUS if s is not StreamStatus.STOPPED]),
        code=st.sampled_from([None, 1100]),
    )
    def note(self, status: Any, code: Any) -> None:
        self.stage.recorder.note(status, "so it is", code)

    @rule(step=st.sampled_from([SECOND, 40 * 60 * SECOND, HOUR_NS, -SECOND, -40 * 60 * SECOND]))
    def set_the_clock(self, step: Any) -> None:
        self.clock.now += step

    @rule()
    def maintain(self) -> None:
        self.stage.recorder.maintain(self.clock.now)

    @rule()
    def restart(self) -> None:
        self.stage.recorder.close()
        self.stage.begin()

    @rule()
    def kill(self) -> None:
        self.stage.kill()
        self.stage.begin()

    def teardown(self) -> None:
        self.stage.recorder.close()
        assert sorted(self.stage.sequences()) == list(range(1, self.ticks + 1))
        self.stage.check_ledger()
        assert self.stage.index.files() == list(read_all_records(self.stage.root))
        self.patch.undo()
        self.folder.cleanup()


Runs.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
TestRuns = Runs.TestCase
