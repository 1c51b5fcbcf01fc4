"""Deletion of old hours by a running capture: coverage and index are updated first."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.capture import CaptureSettings, Recorder, _queued_index
from ibticks.capture import _maintenance as maintenance
from ibticks.capture import _recorder as recorder_module
from ibticks.capture._maintenance import HourPruner
from ibticks.capture._queued_index import QueuedIndex
from ibticks.config import HOUR_NS, NANOSECONDS
from ibticks.coverage import StreamStatus, rebuild_coverage, resume_ledger
from ibticks.coverage._rebuild import closing_rows
from ibticks.errors import ConfigError, IndexUnavailableError, UnknownPeriodError
from ibticks.index import FileRecord, MemoryIndex
from ibticks.storage import FileKey, StreamAppender, StreamLock, floor_hour, list_files
from ibticks.storage._audit import read_all_records
from tests.capture_checks import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Capture, Store
    from ibticks.gateway import Gateway, Replay

TRACKED = "1:ONE:bid_ask"


def test_old_hours_are_deleted_and_ticks_go_on(
    steady: Replay,
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(maintenance, "_INTERVAL_SECONDS", 0.1)
    real_ns, now = time.time_ns, time.time_ns()
    # Ten minutes past the hour: late in an hour, the clock would cross one hour more.
    ahead = [floor_hour(now) + 600 * NANOSECONDS - now]
    for module in (time, recorder_module):
        monkeypatch.setattr(module, "time_ns", lambda: real_ns() + ahead[0])
    gateway = serve(steady, speed=1.0)
    capture = capturing(gateway, TRACKED, keep="2h", compress_after="1h")

    def ticks() -> int:
        return capture.status()["status"]["ticks"]

    until(lambda: ticks() > 50)
    first = store.index.files()[0]
    ahead[0] += HOUR_NS + 120 * NANOSECONDS
    before = ticks()
    until(lambda: ticks() > before + 50)
    until(lambda: [file.sealed for file in store.index.files()] == [True, False])
    remaining = store.index.files()[1].path
    ahead[0] += 2 * HOUR_NS
    until(lambda: first.path not in [file.path for file in store.index.files()])
    until(lambda: not (store.root / first.path).exists())
    before = ticks()
    until(lambda: ticks() > before + 50)
    gateway.pause()
    until(lambda: ticks() == sum(gateway.sent.values()))
    capture.stop()
    assert list(capture.failures) == []
    assert remaining in [file.path for file in store.index.files()]
    assert {key.path for key in list_files(store.root)} == {
        file.path for file in store.index.files()
    }
    gone, *rest = store.index.coverage()
    assert (gone.state, gone.reason) == ("deleted", "captured, deleted since")
    assert (gone.end_ns, rest[0].start_ns) == (first.hour_ns + HOUR_NS, first.hour_ns + HOUR_NS)
    assert {row.state for row in rest} == {"captured"}
    frame = store.select(1, "bid_ask").to_polars()
    assert 0 < frame.height < ticks()


def test_no_deletion_by_default(
    steady: Replay, serve: Callable[..., Gateway], capturing: Callable[..., Capture]
) -> None:
    capture = capturing(serve(steady, speed=1.0), TRACKED)
    assert not any(thread.name == "ibticks-prune" for thread in threading.enumerate())
    assert capture.settings.keep is None


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("90d", 90 * 86400.0), (timedelta(hours=1), 3600.0), (7, 7), (None, None)],
)
def test_durations_in_several_forms(
    duration: str | timedelta | int | None, seconds: float | None
) -> None:
    assert CaptureSettings.from_environment({}, tracked=TRACKED, keep=duration).keep == seconds


def test_invalid_durations() -> None:
    with pytest.raises(UnknownPeriodError):
        CaptureSettings.from_environment({}, tracked=TRACKED, keep="some day")
    for nothing in (0, -1):
        with pytest.raises(ConfigError, match=f"keep={nothing}: give seconds, more than 0"):
            CaptureSettings.from_environment({}, tracked=TRACKED, keep=nothing)


# --- one stream -----------------------------------------------------------------------------------

NOW = floor_hour(1_736_510_400_000_000_000)
MINUTE = 60 * NANOSECONDS


class CompleteIndex(MemoryIndex):
    partial_answers = 0


class Stage:
    """A stream that is captured without a break, in three hours; the last one is open."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW + MINUTE
        monkeypatch.setattr(recorder_module, "time_ns", self.clock)
        monkeypatch.setattr(time, "time_ns", self.clock)
        self.root = root
        self.index = CompleteIndex()
        self.failures: list[Any] = []
        self.queued_index = QueuedIndex(self.index, self.failed)
        appender = StreamAppender(root, 1, "bid_ask", self.queued_index, fsync=None)
        ledger = resume_ledger(root, self.queued_index, 1, "bid_ask", "run")
        self.recorder = Recorder(appender, "run", 0, ledger, self.queued_index)
        self.recorder.note(StreamStatus.SUBSCRIBED)
        for _ in range(2):
            self.quote()
            self.now += HOUR_NS
        self.quote()
        self.recorder.maintain(self.now + 2 * MINUTE)
        self.keys = [FileKey(1, "bid_ask", NOW + n * HOUR_NS) for n in range(3)]

    def clock(self) -> int:
        self.now += 1000
        return self.now

    def failed(self, where: Any, error: Any) -> None:
        self.failures.append((where, error))

    def quote(self) -> None:
        self.recorder.quote(7, 1.5, Decimal(1), 2.5, Decimal(1), False, False)

    def pruner(self, keep: float) -> HourPruner:
        store: Any = SimpleNamespace(root=self.root, index=self.index, note_change=lambda: None)
        return HourPruner(store, [self.recorder], self.queued_index, keep, self.failed)

    def prune(self, keep: float = 1.0) -> None:
        self.pruner(keep)._prune(self.recorder)

    def rows(self) -> list[Any]:
        assert self.queued_index.wait_until_empty(30)
        return [
            (row.start_ns - NOW, None if row.end_ns is None else row.end_ns - NOW, row.state)
            for row in self.index.coverage()
        ]

    def paths(self) -> list[Any]:
        return [key.path for key in list_files(self.root)]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage(tmp_path, monkeypatch)
    yield made
    made.recorder.close()
    made.queued_index.close()
    assert made.index.files() == list(read_all_records(made.root))
    assert made.failures == []


def test_deleted_hours_split_a_coverage_interval(stage: Stage) -> None:
    (begin, end, state) = stage.rows()[0]
    assert (end, state) == (None, "captured")
    stage.prune(keep=3600.0)
    assert stage.paths() == [key.path for key in stage.keys[1:]]
    assert stage.rows() == [(begin, HOUR_NS, "deleted"), (HOUR_NS, None, "captured")]
    stage.prune()
    assert stage.paths() == [stage.keys[2].path], "which is open"
    assert stage.rows() == [
        (begin, HOUR_NS, "deleted"),
        (HOUR_NS, 2 * HOUR_NS, "deleted"),
        (2 * HOUR_NS, None, "captured"),
    ]
    stage.recorder.note(StreamStatus.DISCONNECTED)
    assert [state for *_, state in stage.rows()][2:] == ["captured", "disconnected"]


def test_remaining_files_contain_the_last_status(stage: Stage) -> None:
    """The first status is deleted: after a kill, a rebuild needs another one."""
    stage.prune()
    stage.quote()
    assert stage.queued_index.wait_until_empty(30)
    *_, last = stage.index.coverage()
    (row,) = closing_rows(stage.root, stage.index, last)
    assert (row.start_ns, row.state) == (NOW + 2 * HOUR_NS, "captured")
    assert row.end_ns == stage.now + 1, "with its last tick"
    (again,) = rebuild_coverage(stage.root, list(read_all_records(stage.root)))
    assert (again.state, again.end_ns) == ("captured", None)
    stage.prune()
    states = [state for *_, state in stage.rows()]
    assert states == ["deleted", "captured"]


def test_a_late_tick_for_a_deleted_hour_begins_it_again(stage: Stage) -> None:
    stage.prune()
    stage.now -= 2 * HOUR_NS
    stage.quote()
    assert stage.paths() == [stage.keys[0].path, stage.keys[2].path]
    stage.now += 2 * HOUR_NS
    stage.prune()
    assert stage.keys[0].path in stage.paths(), "it is open"
    stage.recorder.maintain(stage.now)
    stage.prune()
    assert stage.paths() == [stage.keys[2].path]


def test_no_file_is_deleted_before_its_index_row(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_INDEX_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(_queued_index, "_WRITE_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(_queued_index, "_RETRY_SECONDS", 0.05)
    pruner, write = stage.pruner(1.0), MemoryIndex.write
    is_back = threading.Event()

    def write_when_back(self: Any, change: Any) -> None:
        if change.operation == "drop_files" and not is_back.is_set():
            raise IndexUnavailableError("away")
        write(self, change)

    monkeypatch.setattr(MemoryIndex, "write", write_when_back)
    pruner._prune(stage.recorder)
    assert stage.paths() == [key.path for key in stage.keys]
    is_back.set()
    assert stage.queued_index.wait_until_empty(30)
    pruner._prune(stage.recorder)
    assert stage.paths() == [stage.keys[2].path]


def test_no_deletion_by_answers_of_the_catalogue(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files(self: Any, *asked: Any) -> list[FileRecord]:
        self.partial_answers += 1
        return records(self, *asked)

    records = MemoryIndex.files
    monkeypatch.setattr(MemoryIndex, "files", files)
    stage.prune()
    assert stage.paths() == [key.path for key in stage.keys]


def test_backfilled_hours_are_deleted_unless_a_backfill_runs(stage: Stage) -> None:
    backfill = FileKey(1, "bid_ask", NOW, "backfill")
    with StreamAppender(stage.root, 1, "bid_ask", stage.index, backfill=True) as appender:
        tick = {"contract_id": 1, "tick_type": "bid_ask", "bid_price": 1.5}
        appender.append(
            {"type": "tick", "stream_id": "b", "timestamp": "2025-01-10T12:00:00Z", "data": tick}
        )
    assert backfill.path in stage.paths()
    lock = StreamLock(stage.root, 1, "bid_ask", backfill=True)
    stage.prune()
    assert len(stage.paths()) == 4
    lock.release()
    stage.prune()
    assert stage.paths() == [stage.keys[2].path]


def test_failed_deletion_is_reported_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_INTERVAL_SECONDS", 0.01)
    path = stage.root / stage.keys[0].path
    path.unlink()
    path.mkdir()
    pruner = stage.pruner(1.0)
    pruner.start()
    until(lambda: stage.failures)
    until(lambda: not (stage.root / stage.keys[1].path).exists())
    time.sleep(0.2)
    pruner.stop()
    ((where, error),) = stage.failures
    assert where == "prune"
    assert stage.keys[0].path in str(error)
    stage.failures.clear()
    path.rmdir()


def test_stop_without_start() -> None:
    HourPruner(None, [], None, 1.0, print).stop()  # type: ignore[arg-type]
