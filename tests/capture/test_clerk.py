"""The index is told in order, as soon as it listens; nobody waits for it."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from ibticks.capture import _queued_index as clerk_module
from ibticks.capture._queued_index import Clerk
from ibticks.errors import IndexUnavailableError, StorageFullError, TickIndexError
from ibticks.index import ContractRecord, CoverageRecord, FileRecord, MemoryIndex
from tests.capture_checks import until


class Slow(MemoryIndex):
    """An index that can hang, be away, or refuse."""

    def __init__(self):
        self.listens = threading.Event()
        self.listens.set()
        self.problem = None
        self.asked = 0
        super().__init__()
        self.order = []

    def _heard(self, what, records):
        assert self.listens.wait(60)
        self.asked += 1
        if self.problem is not None:
            raise self.problem
        if hasattr(self, "order"):
            self.order.append(what)

    def put_files(self, records):
        self._heard("files", records)
        super().put_files(records)

    def drop_files(self, paths):
        self._heard("drop", paths)
        super().drop_files(paths)

    def put_coverage(self, records):
        self._heard("coverage", records)
        super().put_coverage(records)

    def put_contracts(self, records):
        self._heard("contracts", records)
        super().put_contracts(records)


def file(number):
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


def row(number):
    return CoverageRecord(1, "last", number, None, "captured")


@pytest.fixture
def index():
    return Slow()


@pytest.fixture
def failures():
    return []


@pytest.fixture
def clerk(index, failures, monkeypatch):
    monkeypatch.setattr(clerk_module, "_AGAIN", 0.02)
    made = Clerk(index, lambda where, error: failures.append((where, error)))
    yield made
    index.listens.set()
    index.problem = None
    made.close()
    assert not made._thread.is_alive()


def test_a_healthy_index_knows_a_file_at_once(clerk, index):
    clerk.put_files(file(n) for n in range(2))
    assert index.files() == [file(0), file(1)]
    assert clerk.files([1], ["last"]) == [file(0), file(1)]
    assert clerk.writable
    assert clerk.describe() == index.describe()


def test_it_is_told_in_order_and_read_after_what_was_told(clerk, index):
    clerk.put_coverage([row(1)])
    clerk.put_files([file(1)])
    clerk.drop_files(["1/last/1"])
    clerk.put_contracts([ContractRecord(1, "B")])
    clerk.correct_contracts([ContractRecord(1, "A")])
    clerk.replace_files([file(2)])
    clerk.do(partial(index.order.append, "and then"))
    assert clerk.contracts() == [ContractRecord(1, "A")]
    assert clerk.coverage() == [row(1)]
    assert clerk.files() == [file(2)]
    assert clerk.daily_stats() == index.daily_stats()
    assert index.order == [
        "coverage",
        "files",
        "drop",
        "contracts",
        "and then",
    ]


def test_an_index_that_hangs_holds_nobody_up(clerk, index, monkeypatch):
    monkeypatch.setattr(clerk_module, "_COURTESY", 1.0)
    index.listens.clear()

    def put():
        for number in range(200):
            clerk.put_files([file(number)])
            clerk.put_coverage([row(number)])

    # Only the first one waits for it: 200 times would be minutes.
    putting = threading.Thread(target=put)
    putting.start()
    putting.join(30)
    assert not putting.is_alive()
    assert index.order == []
    index.listens.set()
    assert clerk.settled(30)
    assert index.order == ["files", "coverage"] * 200
    # And then it is as it was.
    clerk.put_files([file(500)])
    assert index.files()[-1] == file(500)


@pytest.mark.parametrize(
    "problem", [StorageFullError("no room for the journal"), IndexUnavailableError("away")]
)
def test_what_cannot_be_kept_now_is_told_later(problem, clerk, index, failures, caplog):
    index.problem = problem
    clerk.put_coverage([row(1)])
    clerk.put_files([file(1)])
    clerk.put_coverage([row(2)])
    tried = index.asked
    until(lambda: index.asked > tried + 3)
    assert caplog.text.count(str(problem)) == 1
    index.problem = None
    assert clerk.settled(30)
    assert index.order == ["coverage", "files", "coverage"]
    assert failures == []


@pytest.mark.parametrize("problem", [TickIndexError("refused"), ValueError("a mistake of ours")])
def test_what_is_refused_for_good_is_seen_and_stands_in_nobodys_way(
    problem, clerk, index, failures, caplog
):
    index.problem = problem
    clerk.put_coverage([row(1)])
    until(lambda: failures)
    index.problem = None
    clerk.put_files([file(1)])
    assert index.files() == [file(1)]
    assert failures == [("index", problem)]
    assert "rebuild it" in caplog.text


def test_at_the_end_it_has_one_more_chance(index, failures, monkeypatch, caplog):
    monkeypatch.setattr(clerk_module, "_LAST_CHANCE", 0.2)
    monkeypatch.setattr(clerk_module, "_COURTESY", 0.01)
    clerk = Clerk(index, lambda *said: failures.append(said))
    index.listens.clear()
    clerk.put_files([file(1)])
    clerk.put_coverage([row(1)])
    clerk.close()
    assert "the index was not told of 2 changes: rebuild it" in caplog.text
    index.listens.set()
    until(lambda: not clerk._thread.is_alive())


def test_the_end_of_one_that_cannot_be_told(index, monkeypatch, caplog):
    clerk = Clerk(index, lambda *said: None)
    index.problem = StorageFullError("no room")
    clerk.put_coverage([row(1)])
    clerk.close()
    assert "was not told of 1 changes" in caplog.text
    assert not clerk._thread.is_alive()


def test_what_its_own_work_asks_it_to_do_does_not_block_it(clerk, index):
    clerk.do(partial(clerk.put_files, [file(1)]))
    assert clerk.settled(30)
    assert index.files() == [file(1)]
