"""Queued index writes are applied in order, and no caller waits long for them."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.capture import _queued_index
from ibticks.capture._queued_index import QueuedIndex
from ibticks.errors import IndexUnavailableError, StorageFullError, TickIndexError
from ibticks.index import ContractRecord, CoverageRecord, FileRecord, IndexChange, MemoryIndex
from ibticks.testing import IndexContract
from tests.capture_checks import until

if TYPE_CHECKING:
    from collections.abc import Iterator


class ControlledIndex(MemoryIndex):
    """An index that can hang, be away, or refuse."""

    def __init__(self) -> None:
        self.is_answering = threading.Event()
        self.is_answering.set()
        self.problem: Exception | None = None
        self.attempts = 0
        super().__init__()
        self.order: list[Any] = []

    def write(self, change: IndexChange) -> None:
        assert self.is_answering.wait(60)
        self.attempts += 1
        if self.problem is not None:
            raise self.problem
        self.order.append(change.operation)
        super().write(change)


def file(number: int) -> FileRecord:
    return FileRecord(
        path=f"1/last/{number}",
        contract_id=1,
        tick_type="last",
        hour_ns=number,
        start_ns=number,
        end_ns=number,
        size=1,
        messages=0,
        ticks=0,
    )


def interval(number: int) -> CoverageRecord:
    return CoverageRecord(1, "last", number, None, "captured")


@pytest.fixture
def index() -> ControlledIndex:
    return ControlledIndex()


@pytest.fixture
def failures() -> list[Any]:
    return []


@pytest.fixture
def queued(
    index: ControlledIndex, failures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[QueuedIndex]:
    monkeypatch.setattr(_queued_index, "_RETRY_SECONDS", 0.02)
    made = QueuedIndex(index, lambda where, error: failures.append((where, error)))
    yield made
    index.is_answering.set()
    index.problem = None
    made.close()
    assert not made._thread.is_alive()


class TestQueuedIndex(IndexContract):
    @pytest.fixture
    def index(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueuedIndex]:
        # A read waits for the writes before it, however busy the machine is.
        monkeypatch.setattr(_queued_index, "_WRITE_WAIT_SECONDS", 60.0)
        made = QueuedIndex(MemoryIndex(), lambda where, error: pytest.fail(f"{where}: {error}"))
        yield made
        made.close()


def test_put_files_returns_after_a_healthy_index_has_them(
    queued: QueuedIndex, index: ControlledIndex
) -> None:
    queued.put_files(file(n) for n in range(2))
    assert index.files() == [file(0), file(1)]
    assert queued.files([1], ["last"]) == [file(0), file(1)]
    assert queued.writable
    assert queued.describe() == index.describe()


def test_writes_are_applied_in_order_and_before_reads(
    queued: QueuedIndex, index: ControlledIndex
) -> None:
    queued.put_coverage([interval(1)])
    queued.put_files([file(1)])
    queued.drop_files(["1/last/1"])
    queued.put_contracts([ContractRecord(1, "B")])
    queued.correct_contracts([ContractRecord(1, "A")])
    queued.replace_files([file(2)])
    queued.submit(partial(index.order.append, "and then"))
    assert queued.contracts() == [ContractRecord(1, "A")]
    assert queued.coverage() == [interval(1)]
    assert queued.files() == [file(2)]
    assert queued.daily_stats() == index.daily_stats()
    assert index.order == [
        "put_coverage",
        "put_files",
        "drop_files",
        "put_contracts",
        "correct_contracts",
        "replace_files",
        "and then",
    ]


def test_a_hanging_index_does_not_block_callers(
    queued: QueuedIndex, index: ControlledIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_queued_index, "_WRITE_WAIT_SECONDS", 1.0)
    index.is_answering.clear()

    def put() -> None:
        for number in range(200):
            queued.put_files([file(number)])
            queued.put_coverage([interval(number)])

    # Only the first call waits: 200 waits would be minutes.
    putting = threading.Thread(target=put)
    putting.start()
    putting.join(30)
    assert not putting.is_alive()
    assert index.order == []
    index.is_answering.set()
    assert queued.wait_until_empty(30)
    assert index.order == ["put_files", "put_coverage"] * 200
    # It waits for an index that keeps up again.
    queued.put_files([file(500)])
    assert index.files()[-1] == file(500)


@pytest.mark.parametrize(
    "problem", [StorageFullError("no room for the journal"), IndexUnavailableError("away")]
)
def test_a_failed_write_is_retried(
    problem: StorageFullError | IndexUnavailableError,
    queued: QueuedIndex,
    index: ControlledIndex,
    failures: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    index.problem = problem
    queued.put_coverage([interval(1)])
    queued.put_files([file(1)])
    queued.put_coverage([interval(2)])
    tried = index.attempts
    until(lambda: index.attempts > tried + 3)
    assert caplog.text.count(str(problem)) == 1
    index.problem = None
    assert queued.wait_until_empty(30)
    assert index.order == ["put_coverage", "put_files", "put_coverage"]
    assert failures == []


@pytest.mark.parametrize("problem", [TickIndexError("refused"), ValueError("a bug")])
def test_a_refused_write_is_reported_and_skipped(
    problem: TickIndexError | ValueError,
    queued: QueuedIndex,
    index: ControlledIndex,
    failures: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    index.problem = problem
    queued.put_coverage([interval(1)])
    until(lambda: failures)
    index.problem = None
    queued.put_files([file(1)])
    assert index.files() == [file(1)]
    assert failures == [("index", problem)]
    assert "rebuild it" in caplog.text


def test_close_waits_for_the_queue_and_logs_lost_changes(
    index: ControlledIndex,
    failures: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(_queued_index, "_CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(_queued_index, "_WRITE_WAIT_SECONDS", 0.01)
    queued = QueuedIndex(index, lambda *failure: failures.append(failure))
    index.is_answering.clear()
    queued.put_files([file(1)])
    queued.put_coverage([interval(1)])
    queued.close()
    assert "2 changes did not reach the index: rebuild it" in caplog.text
    index.is_answering.set()
    until(lambda: not queued._thread.is_alive())


def test_close_stops_the_retries(
    index: ControlledIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queued = QueuedIndex(index, lambda *_: None)
    index.problem = StorageFullError("no room")
    queued.put_coverage([interval(1)])
    queued.close()
    assert "1 changes did not reach the index" in caplog.text
    assert not queued._thread.is_alive()


def test_a_write_from_the_background_thread_does_not_deadlock(
    queued: QueuedIndex, index: ControlledIndex
) -> None:
    queued.submit(partial(queued.put_files, [file(1)]))
    assert queued.wait_until_empty(30)
    assert index.files() == [file(1)]
