"""Completeness of the index: stored, compared with the files, and correct beside writers."""

from __future__ import annotations

import os
import shutil
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import psycopg
import pytest

import ibticks as ibt
from ibticks.calendar import to_ns
from ibticks.coverage import CoverageState, StreamStatus
from ibticks.errors import CorruptDataWarning, IndexAwayWarning
from ibticks.index import ContractRecord, CoverageRecord, IndexChange, write_catalogue
from ibticks.index._journal import Journal
from ibticks.storage import _audit as audit
from ibticks.storage import summarise_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks.storage._whole_file import Summary
    from ibticks.testing import FakeCapture
    from tests.servers import PostgresServer

AAPL = 265598
T0 = to_ns("2025-01-10T14:30Z")
HOUR = 3600 * 10**9
HOURS = 6


def hours(day: int = 10, count: int = HOURS) -> pl.DataFrame:
    stamps = [f"2025-01-{day:02d}T{hour:02d}:00:00Z" for hour in range(count)]
    return pl.DataFrame({"timestamp": stamps, "price": [1.0] * count, "size": [1.0] * count})


def tick(hour: int, minute: int = 0) -> dict[Any, Any]:
    return {
        "type": "tick",
        "stream_id": "s",
        "timestamp": f"2025-01-10T{hour:02d}:{minute:02d}:00Z",
        "data": {"contract_id": AAPL, "tick_type": "last", "price": 1.0, "size": 1.0},
    }


def count(store: ibt.Store, contract: int = AAPL) -> int:
    return store.select(contract, "last").count()


def is_complete(store: ibt.Store) -> bool:
    return store.index.query("SELECT complete FROM index_state") == [{"complete": True}]


def problems(store: ibt.Store) -> list[Any]:
    return [(value.path, value.problem) for value in store.verify(progress=False) if value.problem]


@pytest.fixture
def new_database(postgres: PostgresServer, ready_database: str) -> Iterator[Callable[[], str]]:
    """Make databases that are the index of no store yet: ``new_database()``."""
    with ExitStack() as made:
        yield lambda: made.enter_context(postgres.database(ready_database))


@pytest.fixture
def root(tmp_path: Path, new_database: Callable[[], str]) -> Path:
    """A closed store of one contract and six hours, whose database is lost."""
    with ibt.open(tmp_path / "ticks", dsn=new_database()) as store:
        store.add_contract(AAPL, "AAPL")
        store.write(hours(), contract_id=AAPL, tick_type="last")
    return tmp_path / "ticks"


@pytest.fixture
def journal(root: Path) -> Journal:
    return Journal(root / "metadata" / "index.journal")


# -- a new database --------------------------------------------------------------------------------


def test_a_journal_does_not_make_a_new_database_complete(
    root: Path, journal: Journal, new_database: Callable[[], str]
) -> None:
    with ibt.open(root, dsn=new_database()) as store:
        known = store.index.files()
    journal.append(IndexChange("put_files", tuple(known[:2])))
    journal.append(IndexChange("put_files", (replace(known[2], sealed=False),)))
    with ibt.open(root, dsn=new_database()) as store:
        assert count(store) == HOURS
        assert store.index.files()[:2] == known[:2]
        assert is_complete(store)


def test_a_journal_overrides_the_catalogue_of_a_lost_database(
    root: Path, journal: Journal, new_database: Callable[[], str]
) -> None:
    lasting = CoverageRecord(AAPL, "last", T0, None, "captured")
    write_catalogue(root / "metadata" / "index.json", [], [ContractRecord(AAPL, "APPL")], [lasting])
    deleted = replace(lasting, end_ns=T0 + HOUR, state=CoverageState.DELETED.value)
    journal.append(IndexChange("put_coverage", (deleted,)))
    journal.append(IndexChange("correct_contracts", (ContractRecord(AAPL, "AAPL"),)))
    with ibt.open(root, dsn=new_database()) as store:
        assert store.index.coverage() == [deleted]
        assert store.contracts() == [ContractRecord(AAPL, "AAPL")]
        assert count(store) == HOURS


def test_a_database_lost_while_a_store_is_open(root: Path, new_database: Callable[[], str]) -> None:
    """The server comes back with an empty database while the store is open."""
    dsn = new_database()
    with ibt.open(root, dsn=dsn) as store:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("TRUNCATE tick_files; UPDATE index_state SET complete = false")
        error = ibt.errors.IndexUnavailableError("it was lost")
        index: Any = store.index
        index._drop_primary(index._primary, error)
        store.write(hours(day=11), contract_id=AAPL, tick_type="last")
        assert count(store) == 2 * HOURS
        assert is_complete(store)


def test_without_catalogue_and_server_the_files_are_still_found(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "metadata" / "index.json").unlink()
    monkeypatch.setenv("IBTICKS_PGDATA", str(root / ("x" * 100)))
    for _ in range(2):
        with pytest.warns(IndexAwayWarning), ibt.open(root) as store:
            assert count(store) == HOURS


def test_an_outage_hides_no_file_that_the_catalogue_lacks(
    root: Path, new_database: Callable[[], str]
) -> None:
    """A file of which the server knew before it went away is in no journal, but on the disk."""
    dsn = new_database()
    with ibt.open(root, dsn=dsn) as store:
        store.index._retry_seconds = 1000
        store.write(hours(day=11), contract_id=AAPL, tick_type="bid_ask")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("DROP VIEW storage_per_day; ALTER TABLE contracts RENAME TO gone")
        with pytest.warns(IndexAwayWarning):
            store.contracts()
        with pytest.warns(IndexAwayWarning):
            assert store.select(AAPL, "bid_ask").count() == HOURS
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("ALTER TABLE gone RENAME TO contracts")
        store.index.connect()


# -- two faults at once: the notes that stand in for the server are damaged ------------------------


def damage_lines(journal: Journal, chosen: slice[Any, Any, Any] = slice(None)) -> None:
    """Overwrite lines of a journal with zeros, as a power cut may."""
    lines = journal.path.read_bytes().splitlines(keepends=True)
    lines[chosen] = [bytes(len(line) - 1) + b"\n" for line in lines[chosen]]
    journal.path.write_bytes(b"".join(lines))


@contextmanager
def outage(root: Path) -> Iterator[ibt.Store]:
    """The store while its server is away."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", IndexAwayWarning)
        patch.setenv("IBTICKS_PGDATA", str(root / ("x" * 100)))
        with ibt.open(root) as store:
            assert store.index.away
            yield store


def write(store: ibt.Store, *ticks: Any) -> None:
    with store.writer(AAPL, "last") as out:
        for value in ticks:
            out.append(value)


def late_ticks(store: ibt.Store) -> int:
    chosen = store.select(AAPL, "last", start="2025-01-10T04:15Z", end="2025-01-10T04:45Z")
    return len(chosen.to_polars())


@pytest.mark.parametrize("damaged", ["journal", "catalogue", "both"])
def test_an_outage_and_damaged_notes_hide_no_tick_and_refuse_none(
    root: Path, journal: Journal, damaged: str, new_database: Callable[[], str]
) -> None:
    with outage(root) as store:
        write(store, tick(14), tick(4, 30))
    if damaged != "journal":
        (root / "metadata" / "index.json").write_bytes(b"{\0\0")
    if damaged != "catalogue":
        damage_lines(journal)
    with outage(root) as store:
        assert count(store) == HOURS + 2
        assert late_ticks(store) == 1
        write(store, tick(15))
        assert count(store) == HOURS + 3
    with ibt.open(root, dsn=new_database()) as store:
        assert count(store) == HOURS + 3
        assert not problems(store)


@pytest.mark.parametrize("chosen", [slice(None), slice(1), slice(1, None)])
def test_a_damaged_journal_leaves_no_row_out_of_date(
    root: Path, journal: Journal, new_database: Callable[[], str], chosen: slice[Any, Any, Any]
) -> None:
    """A late tick came for a sealed hour while the server was away, and the note of it is lost."""
    dsn = new_database()
    ibt.open(root, dsn=dsn).close()
    with outage(root) as store:
        write(store, tick(4, 30))
    damage_lines(journal, chosen)
    with ibt.open(root, dsn=dsn) as store:
        assert late_ticks(store) == 1
        assert count(store) == HOURS + 1
        assert not problems(store)
        assert is_complete(store)


def test_a_journal_damaged_while_a_store_is_open(
    root: Path, journal: Journal, new_database: Callable[[], str]
) -> None:
    """Another process wrote it; this one meets it at its next question."""
    dsn = new_database()
    with ibt.open(root, dsn=dsn) as store:
        write(store, tick(4, 30))
        (row,) = store.index.files(start_ns=T0 - 11 * HOUR, end_ns=T0 - 10 * HOUR)
        store.index.put_files([replace(row, size=row.size - 1, ticks=1)])
        journal.append(IndexChange("put_files", (row,)))
        damage_lines(journal)
        assert count(store) == HOURS + 1
        assert not problems(store)


# -- an index that lacks something -----------------------------------------------------------------


def test_files_copied_by_hand_are_found(root: Path, new_database: Callable[[], str]) -> None:
    dsn = new_database()
    ibt.open(root, dsn=dsn).close()
    with ibt.open(root.with_name("other"), dsn=new_database()) as other:
        other.write(hours(day=12), contract_id=AAPL, tick_type="last")
    day = f"{AAPL}/last/2025/01/12"
    shutil.copytree(root.with_name("other") / day, root / day)
    with ibt.open(root, dsn=dsn) as store:
        assert count(store) == 2 * HOURS


def test_rows_that_were_lost_come_back_with_their_coverage(
    fake_capture: type[FakeCapture], tmp_path: Path, database: str
) -> None:
    """A killed rebuild leaves some rows, no coverage, and the mark of an incomplete index."""
    with ibt.open(tmp_path, dsn=database) as store:
        capture = fake_capture(store.root, store.index, AAPL)
        capture.report_status(StreamStatus.SUBSCRIBED, T0)
        capture.tick(T0 + 5)
        capture.stop(T0 + HOUR)
        before = store.index.files(), store.index.coverage(), store.daily_stats()
    for lost in ("SELECT", "DELETE FROM tick_files WHERE file_path LIKE '%/14_ticks.pb'"):
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(lost)
            connection.execute("DELETE FROM coverage")
            connection.execute("UPDATE index_state SET complete = false")
        (tmp_path / "metadata" / "index.json").unlink(missing_ok=True)
        with ibt.open(tmp_path, dsn=database) as store:
            assert (store.index.files(), store.index.coverage(), store.daily_stats()) == before
            assert is_complete(store)


def test_a_complete_index_is_opened_without_reading_a_file(
    root: Path, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = new_database()
    ibt.open(root, dsn=dsn).close()

    def read(*_: Any) -> None:
        pytest.fail("a file was read")

    monkeypatch.setattr(audit, "summarise_file", read)
    with ibt.open(root, dsn=dsn) as store:
        assert len(store.index.files()) == HOURS


def test_a_lost_file_stays_in_the_index_and_is_reported(
    root: Path, new_database: Callable[[], str]
) -> None:
    dsn = new_database()
    ibt.open(root, dsn=dsn).close()
    lost = f"{AAPL}/last/2025/01/10/03_ticks.pb"
    (root / lost).unlink()
    with ibt.open(root, dsn=dsn) as store:
        assert problems(store) == [(lost, "gone")]
        with pytest.warns(CorruptDataWarning, match="03_ticks"):
            assert store.select(AAPL, "last").to_polars().height == HOURS - 1
        store.rebuild_index(progress=False)
        assert problems(store) == []


def test_a_name_without_a_file_does_not_keep_a_store_closed(
    root: Path, new_database: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    (root / f"{AAPL}/last/2025/01/10/07_ticks.pb").symlink_to(root / "unmounted")
    with ibt.open(root, dsn=new_database()) as store:
        assert count(store) == HOURS
        assert not is_complete(store)
    assert "07_ticks.pb; the index lacks it" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_rows_of_an_unreadable_folder_are_kept(
    root: Path, new_database: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    day = root / f"{AAPL}/last/2025/01/10"
    day.chmod(0)
    try:
        with ibt.open(root, dsn=new_database()) as store:
            assert not is_complete(store)
    finally:
        day.chmod(0o755)
    assert "not permitted while listing" in caplog.text


# -- a rebuild beside writers ----------------------------------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Do something once, after a rebuild has read a file and before its row is entered."""

    def do(action: Any) -> None:
        plain, actions = summarise_file, [action]

        def summarise(*arguments: Any) -> Summary:
            summary = plain(*arguments)
            if actions:
                actions.pop()()
            return summary

        monkeypatch.setattr(audit, "summarise_file", summarise)

    return do


def test_hours_created_during_a_rebuild_stay(
    store: ibt.Store, meanwhile: Callable[..., None]
) -> None:
    with store.writer(AAPL, "last") as writer:
        writer.append(tick(0))
        meanwhile(lambda: [writer.append(tick(hour)) for hour in range(1, 9)])
        store.rebuild_index(progress=False)
        assert count(store) == 9
    assert count(store) == 9
    assert problems(store) == []


def test_an_hour_sealed_during_a_rebuild_stays_sealed(
    store: ibt.Store, meanwhile: Callable[..., None]
) -> None:
    with store.writer(AAPL, "last") as writer:
        writer.append(tick(0))

        def seal() -> None:
            writer.append(tick(0, 30))
            writer.seal()

        meanwhile(seal)
        store.rebuild_index(progress=False)
        (record,) = store.index.files()
        assert (record.sealed, record.ticks) == (True, 2)
    assert problems(store) == []


def test_an_hour_opened_again_during_a_rebuild_stays_open(
    store: ibt.Store, meanwhile: Callable[..., None]
) -> None:
    with store.writer(AAPL, "last") as writer:
        writer.append(tick(0))
        writer.seal()
        meanwhile(lambda: writer.append(tick(0, 59)))
        store.rebuild_index(progress=False)
        assert [record.sealed for record in store.index.files()] == [False]
        assert count(store) == 2


def test_files_pruned_during_a_rebuild_are_gone(
    store: ibt.Store, meanwhile: Callable[..., None]
) -> None:
    store.write(hours(), contract_id=AAPL, tick_type="last")
    meanwhile(lambda: store.prune("1h", now="2025-01-10T04:00Z", progress=False))
    store.rebuild_index(progress=False)
    assert problems(store) == []
    assert count(store) == 3


def test_coverage_that_ends_during_a_rebuild_has_ended(
    store: ibt.Store, fake_capture: type[FakeCapture], meanwhile: Callable[..., None]
) -> None:
    capture = fake_capture(store.root, store.index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    meanwhile(
        lambda: capture.report_status(StreamStatus.DISCONNECTED, T0 + HOUR, "connection lost")
    )
    store.rebuild_index(progress=False)
    rows = [(row.start_ns, row.end_ns, row.state) for row in store.index.coverage()]
    assert rows == [(T0, T0 + HOUR, "captured"), (T0 + HOUR, None, "disconnected")]
    capture.stop(T0 + 2 * HOUR)
