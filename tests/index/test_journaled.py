"""The journaled index before, during and after outages of its server."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.errors import (
    IndexAwayWarning,
    IndexMismatchError,
    IndexUnavailableError,
    ReadOnlyError,
    TickIndexError,
)
from ibticks.index import (
    ContractRecord,
    CoverageRecord,
    FileRecord,
    IndexChange,
    JournaledIndex,
    MemoryIndex,
    PostgresIndex,
    write_catalogue,
)
from ibticks.index._journal import Journal
from ibticks.testing import IndexContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg import Connection

DAY = 1_736_467_200_000_000_000


@pytest.fixture
def metadata(store: Path) -> Path:
    return store / "metadata"


@pytest.fixture
def attempts() -> list[Any]:
    """Timeouts of the connection attempts."""
    return []


@pytest.fixture
def open_(
    dsn: str, store_id: str, metadata: Path, attempts: list[Any]
) -> Iterator[Callable[..., JournaledIndex]]:
    opened = []

    def connect_primary(timeout_seconds: float) -> PostgresIndex:
        attempts.append(timeout_seconds)
        return PostgresIndex(dsn, store_id)

    def start(retry_seconds: float = 0.0, connect: bool = True) -> JournaledIndex:
        index = JournaledIndex(
            connect_primary,
            metadata / "index.json",
            metadata / "index.journal",
            retry_seconds=retry_seconds,
        )
        opened.append(index)
        if connect:
            index.connect()
        return index

    yield start
    for index in opened:
        index.close()


class TestJournaledIndex(IndexContract):
    """With a server that answers."""

    @pytest.fixture
    def index(self, open_: Callable[..., JournaledIndex]) -> JournaledIndex:
        return open_()


@pytest.mark.filterwarnings("ignore::ibticks.errors.IndexAwayWarning")
class TestJournaledIndexAway(IndexContract):
    """Without a server: the journal takes the writes and answers the reads."""

    @pytest.fixture
    def index(self, tmp_path: Path) -> Iterator[JournaledIndex]:
        def fail(timeout_seconds: float) -> PostgresIndex:
            raise IndexUnavailableError("no server")

        index = JournaledIndex(fail, tmp_path / "index.json", tmp_path / "index.journal")
        yield index
        index.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def contents(index: MemoryIndex) -> tuple[Any, ...]:
    return index.files(), index.contracts(), index.coverage(), index.daily_stats()


def test_writes_go_to_an_available_server(
    open_: Callable[..., JournaledIndex],
    index: Any,
    make_file: Callable[..., FileRecord],
    aapl: ContractRecord,
    make_interval: Callable[..., CoverageRecord],
) -> None:
    journaled: Any = open_()
    journaled.put_files(iter([make_file(0), make_file(1)]))
    journaled.drop_files([make_file(1).path])
    journaled.put_contracts([aapl])
    journaled.put_coverage([make_interval(DAY)])
    journaled.put_sessions([("US", "regular", date(2025, 1, 10), DAY, DAY + 5, False)])
    assert contents(journaled) == contents(index)
    assert journaled.files(end_ns=DAY) == []
    assert journaled.sessions_span("US") == (date(2025, 1, 10), date(2025, 1, 10))
    assert journaled.query("SELECT count(*) AS n FROM tick_files") == [{"n": 1}]
    assert journaled.writable
    assert not journaled.away
    assert not journaled.pending
    assert journaled.describe() == index.describe()


def test_an_outage_loses_no_change(
    open_: Callable[..., JournaledIndex],
    outage: Callable[..., None],
    index: Any,
    make_file: Callable[..., FileRecord],
    aapl: ContractRecord,
    make_interval: Callable[..., CoverageRecord],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After an outage, the applied journal gives the same index as a rebuild."""
    journaled: Any = open_(retry_seconds=1000)
    memory = MemoryIndex()
    steps = [
        lambda i: i.put_files([make_file(hour) for hour in range(20, 28)]),
        lambda i: i.put_contracts([aapl]),
        lambda i: i.put_files([make_file(28, sealed=False)]),
        lambda i: i.correct_contracts([ContractRecord(aapl.contract_id, "APPLE")]),
        lambda i: i.put_contracts([aapl]),
        lambda i: i.put_coverage([make_interval(DAY)]),
        lambda i: i.drop_files([make_file(21).path]),
        lambda i: i.put_files([make_file(28), make_file(22, volume=1.0)]),
        lambda i: i.put_coverage([make_interval(DAY, DAY + 5), make_interval(DAY + 5)]),
    ]
    for number, step in enumerate(steps):
        if number == 2:
            outage(True)
        step(journaled)
        step(memory)
        assert journaled.away == (number >= 2)
    assert caplog.text.count("Changes go to the journal") == 1, "once an outage"
    outage(False)
    journaled.connect()
    assert not journaled.pending
    assert contents(index) == contents(memory)
    assert contents(journaled) == contents(memory)
    index.replace_files(memory.files())
    assert contents(index) == contents(memory)


def test_reads_during_an_outage_use_catalogue_and_journal(
    open_: Callable[..., JournaledIndex],
    outage: Callable[..., None],
    metadata: Path,
    make_file: Callable[..., FileRecord],
    aapl: ContractRecord,
    make_interval: Callable[..., CoverageRecord],
) -> None:
    journaled = open_(retry_seconds=1000)
    known = [make_file(hour) for hour in range(3)]
    journaled.put_files(known)
    write_catalogue(metadata / "index.json", known, [aapl])
    outage(True)
    journaled.drop_files([known[0].path])
    journaled.put_files([make_file(9, blocks=2)])
    journaled.put_coverage([make_interval(DAY)])

    with pytest.warns(IndexAwayWarning, match="not currently accepting connections") as caught:
        files = journaled.files()
    assert caught[0].filename == __file__
    assert files == [make_file(1, blocks=0), make_file(2, blocks=0), make_file(9, blocks=2)]
    with pytest.warns(IndexAwayWarning):
        assert journaled.contracts() == [aapl]
    with pytest.warns(IndexAwayWarning):
        assert journaled.coverage() == [make_interval(DAY)]
    with pytest.warns(IndexAwayWarning):
        assert [day.files for day in journaled.daily_stats()] == [3]
    for ask in (lambda: journaled.query("SELECT 1"), lambda: journaled.sessions_span("US")):
        with pytest.raises(IndexUnavailableError, match="PostgreSQL is away"):
            ask()
    with pytest.raises(IndexUnavailableError):
        journaled.put_sessions([])
    assert "the journal" in journaled.describe()
    assert journaled.writable


def test_a_read_reconnects_to_a_server_that_is_back(
    open_: Callable[..., JournaledIndex],
    outage: Callable[..., None],
    make_file: Callable[..., FileRecord],
) -> None:
    journaled = open_()
    journaled.put_files([make_file(0)])
    outage(True)
    journaled.put_files([make_file(1)])
    outage(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert journaled.files() == [make_file(0), make_file(1)]
    assert not journaled.pending


def test_a_read_survives_a_server_restart(
    open_: Callable[..., JournaledIndex],
    outage: Callable[..., None],
    make_file: Callable[..., FileRecord],
) -> None:
    journaled = open_(retry_seconds=1000)
    journaled.put_files([make_file(0)])
    outage(True)
    outage(False)
    assert journaled.files() == [make_file(0)]
    assert journaled.query("SELECT 1 AS one") == [{"one": 1}]


def test_a_write_reconnects_in_the_background(
    open_: Callable[..., JournaledIndex],
    outage: Callable[..., None],
    index: PostgresIndex,
    make_file: Callable[..., FileRecord],
) -> None:
    journaled = open_(retry_seconds=0.01)
    outage(True)
    journaled.put_files([make_file(0)])
    outage(False)
    number = 0

    def write_on() -> bool:
        nonlocal number
        number += 1
        journaled.put_files([make_file(number)])
        return not journaled.away

    until(write_on)
    journaled.put_files([make_file(number + 1)])
    assert not journaled.pending
    assert index.files() == [make_file(hour) for hour in range(number + 2)]


def test_connection_attempts_are_rate_limited(
    open_: Callable[..., JournaledIndex],
    outage: Callable[..., None],
    attempts: list[Any],
    make_file: Callable[..., FileRecord],
) -> None:
    journaled = open_(retry_seconds=1000)
    outage(True)
    for hour in range(100):
        journaled.put_files([make_file(hour)])
    until(lambda: len(attempts) >= 2)
    for hour in range(100):
        journaled.put_files([make_file(hour)])
    assert len(attempts) == 2  # opening, and once when it was lost


def test_a_write_does_not_wait_for_a_hanging_server(
    dsn: str,
    store_id: str,
    metadata: Path,
    outage: Callable[..., None],
    make_file: Callable[..., FileRecord],
) -> None:
    hangs, go_on = threading.Event(), threading.Event()
    first = PostgresIndex(dsn, store_id)
    servers = [first]

    def connect_primary(timeout_seconds: float) -> PostgresIndex:
        if servers:
            return servers.pop()
        hangs.set()
        assert go_on.wait(60)
        return PostgresIndex(dsn, store_id)

    journaled = JournaledIndex(
        connect_primary, metadata / "index.json", metadata / "index.journal", retry_seconds=0
    )
    journaled.connect()
    outage(True)
    journaled.put_files([make_file(0)])
    assert hangs.wait(30)
    for hour in range(1, 50):
        journaled.put_files([make_file(hour)])  # hangs here, if it waits
    assert len(Journal(metadata / "index.journal").read_changes()) == 50
    outage(False)
    go_on.set()
    until(lambda: not journaled.away)
    assert len(journaled.files()) == 50
    journaled.close()


def test_changes_of_another_process_are_applied_first(
    open_: Callable[..., JournaledIndex],
    metadata: Path,
    index: PostgresIndex,
    make_file: Callable[..., FileRecord],
) -> None:
    journaled = open_()
    journal = Journal(metadata / "index.journal")
    journal.append(IndexChange("put_files", (make_file(0, messages=1), make_file(1))))
    journaled.put_files([make_file(0, messages=2)])
    assert index.files() == [make_file(0, messages=2), make_file(1)]
    journal.append(IndexChange("put_files", (make_file(2),)))
    assert len(journaled.files()) == 3
    journal.append(IndexChange("put_files", (make_file(3),)))
    assert journaled.query("SELECT count(*) AS n FROM tick_files") == [{"n": 4}]


def test_a_read_only_journal_is_merged_into_reads(
    open_: Callable[..., JournaledIndex],
    metadata: Path,
    make_file: Callable[..., FileRecord],
    aapl: ContractRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journaled = open_()
    journaled.put_files([make_file(0), make_file(1)])
    journal = Journal(metadata / "index.journal")
    journal.append(IndexChange("drop_files", (make_file(0).path,)))
    journal.append(IndexChange("put_contracts", (aapl,)))

    def refuse(self: Any, target: Any, **options: Any) -> None:
        raise ReadOnlyError("not ours to write")

    monkeypatch.setattr(Journal, "apply", refuse)
    assert journaled.files() == [make_file(1)]
    assert [day.files for day in journaled.daily_stats()] == [1]
    assert journaled.contracts() == [aapl]
    assert journaled.coverage() == []
    assert journaled.pending


def test_a_write_without_server_and_journal_raises(
    open_: Callable[..., JournaledIndex],
    outage: Callable[..., None],
    metadata: Path,
    make_file: Callable[..., FileRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journaled = open_(retry_seconds=1000)
    outage(True)
    with pytest.warns(IndexAwayWarning):
        journaled.files()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not journaled.writable
    with pytest.warns(IndexAwayWarning):
        assert journaled.files() == []


def test_an_invalid_value_raises_in_the_caller(
    open_: Callable[..., JournaledIndex], make_file: Callable[..., FileRecord]
) -> None:
    journaled = open_()
    with pytest.raises(TickIndexError, match="start_before_end"):
        journaled.put_files([make_file(start_ns=2, end_ns=1)])
    assert not journaled.away
    assert not journaled.pending


def test_a_server_that_returns_with_another_stores_index(
    open_: Callable[..., JournaledIndex],
    outage: Callable[..., None],
    sql: Connection[tuple[Any, ...]],
    store_id: str,
    caplog: pytest.LogCaptureFixture,
    make_file: Callable[..., FileRecord],
) -> None:
    caplog.set_level(logging.INFO)
    journaled = open_()
    sql.execute("UPDATE store_identity SET store_id = 'another'")
    outage(True)
    outage(False)
    with pytest.raises(IndexMismatchError):
        journaled.files()
    journaled.put_files([make_file()])
    assert journaled.pending
    with pytest.raises(IndexMismatchError):
        journaled.connect()
    assert "another" in journaled.describe()


def test_connect_during_an_outage_raises(
    open_: Callable[..., JournaledIndex], outage: Callable[..., None]
) -> None:
    outage(True)
    journaled = open_(connect=False)
    with pytest.raises(IndexUnavailableError):
        journaled.connect()
    outage(False)
    journaled.connect()
    journaled.connect()  # there is nothing more to do
    assert not journaled.away


def test_a_closed_index_does_not_reconnect(
    open_: Callable[..., JournaledIndex], make_file: Callable[..., FileRecord]
) -> None:
    journaled = open_()
    journaled.close()
    journaled.close()
    with pytest.raises(IndexUnavailableError, match="closed"):
        journaled.connect()


def test_close_during_a_connection_attempt(dsn: str, store_id: str, metadata: Path) -> None:
    connecting, go_on = threading.Event(), threading.Event()
    connected = []

    def connect_primary(timeout_seconds: float) -> PostgresIndex:
        connecting.set()
        assert go_on.wait(60)
        connected.append(PostgresIndex(dsn, store_id))
        return connected[0]

    journaled = JournaledIndex(connect_primary, metadata / "index.json", metadata / "index.journal")
    outcome = []

    def connect() -> None:
        try:
            journaled.connect()
        except IndexUnavailableError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=connect)
    thread.start()
    assert connecting.wait(30)
    journaled.close()
    go_on.set()
    thread.join()
    assert "closed meanwhile" in outcome[0]
    with pytest.raises(IndexUnavailableError, match="is closed"):
        connected[0].files()


def test_threads_write_during_an_outage(
    open_: Callable[..., JournaledIndex],
    outage: Callable[..., None],
    index: PostgresIndex,
    make_file: Callable[..., FileRecord],
) -> None:
    journaled = open_(retry_seconds=0.01)
    start = threading.Barrier(5)

    def write(worker: Any) -> None:
        start.wait()
        for hour in range(worker, 80, 4):
            journaled.put_files([make_file(hour)])

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    start.wait()
    outage(True)
    outage(False)
    for thread in threads:
        thread.join()
    until(lambda: journaled.files() != [] and not journaled.pending)
    assert index.files() == [make_file(hour) for hour in range(80)]
    assert index.daily_stats() == MemoryIndex(index.files()).daily_stats()
