"""A damaged, locked, slow or half migrated database counts as away."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from ibticks.errors import IndexAwayWarning, IndexVersionError
from ibticks.index import FileRecord, JournaledIndex, open_index, write_catalogue
from ibticks.index import _connection as connections
from ibticks.index._connection import TimeoutConnection
from ibticks.index._journal import Journal
from ibticks.index.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import Popen

    from psycopg import Connection

UNDO_7 = (
    "DELETE FROM schema_migrations WHERE version >= 7; DROP TABLE index_state; "
    "DROP SEQUENCE index_revision CASCADE; "
)
STORE_ID = "5f3f2f3e-0a37-4d5a-8f0a-2b7b8a6f8d10"


@pytest.fixture
def opened(
    store: Path, dsn: str, store_id: str, make_file: Callable[..., FileRecord]
) -> Iterator[JournaledIndex]:
    """A store's index with one file that is also in the catalogue."""
    index = open_index(store, store_id, dsn, retry_seconds=1000)
    index.put_files([make_file(0)])
    write_catalogue(store / "metadata" / "index.json", [make_file(0)], [])
    yield index
    index.close()


@pytest.fixture
def journal(store: Path) -> Journal:
    return Journal(store / "metadata" / "index.journal")


def fail(sql: Any, state: str) -> None:
    """Make every read and write of tick_files raise an error."""
    sql.execute(
        "CREATE FUNCTION fail() RETURNS BOOLEAN LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE EXCEPTION 'as the test wants it' USING ERRCODE = '{state}'; END $$"
    )
    hide(sql, "fail()")


def hide(sql: Any, condition: str) -> None:
    sql.execute(
        "ALTER TABLE tick_files RENAME TO hidden; CREATE VIEW tick_files AS "
        f"SELECT hidden.* FROM (SELECT {condition} AS ok) AS c, hidden WHERE c.ok IS NOT NULL"
    )


def is_served_from_the_catalogue(
    index: JournaledIndex, journal: Journal, make_file: Callable[..., FileRecord]
) -> str:
    index.put_files([make_file(1)])
    assert index.away
    assert len(journal.read_changes()) == 1
    with pytest.warns(IndexAwayWarning) as caught:
        paths = [record.path for record in index.files()]
    assert paths == [make_file(0).path, make_file(1).path]
    return str(caught[0].message)


def backend(index: JournaledIndex) -> Any:
    """Return the backend process id of the connection that is used next."""
    database = index._primary._database
    return database.run(lambda c: c.execute("SELECT pg_backend_pid()").fetchone()[0])


# -- errors of the database ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        ("XX000", "dropdb"),  # internal_error
        ("XX001", "rebuilds it from the files"),  # data_corrupted
        ("XX002", "rebuilds it from the files"),  # index_corrupted
        ("58030", "rebuilds it from the files"),  # io_error
        ("58P01", "rebuilds it from the files"),  # undefined_file
        ("53100", "log of the server"),  # disk_full
        ("53200", "log of the server"),  # out_of_memory
        ("42501", "GRANT"),  # insufficient_privilege
        ("25006", "primary"),  # read_only_sql_transaction
        ("42P01", "half migrated"),  # undefined_table
        ("42703", "half migrated"),  # undefined_column
        ("0A000", "log of the server"),  # feature_not_supported
    ],
)
def test_an_sql_error_falls_back_to_catalogue_and_journal(
    opened: JournaledIndex,
    sql: Connection[tuple[Any, ...]],
    journal: Journal,
    make_file: Callable[..., FileRecord],
    state: str,
    remedy: str,
) -> None:
    fail(sql, state)
    with pytest.warns(IndexAwayWarning) as caught:
        assert [record.path for record in opened.files()] == [make_file(0).path]
    assert "as the test wants it" in str(caught[0].message)
    assert remedy in str(caught[0].message)
    is_served_from_the_catalogue(opened, journal, make_file)


@pytest.mark.parametrize("state", ["XX001", "58030", "42P01"])
def test_a_store_opens_with_a_damaged_database_by_dsn(
    opened: JournaledIndex,
    store: Path,
    dsn: str,
    store_id: str,
    sql: Connection[tuple[Any, ...]],
    make_file: Callable[..., FileRecord],
    state: str,
) -> None:
    opened.close()
    fail(sql, state)
    with pytest.warns(IndexAwayWarning, match="as the test wants it"):
        index = open_index(store, store_id, dsn, complete=lambda primary: primary.paths())
    with pytest.warns(IndexAwayWarning):
        assert [record.path for record in index.files()] == [make_file(0).path]
    index.close()


# -- locks, slowness, silence ----------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the timeouts to half a second."""
    monkeypatch.setitem(connections._SESSION_SETTINGS, "lock_timeout", "300ms")
    monkeypatch.setitem(connections._SESSION_SETTINGS, "statement_timeout", "500ms")
    monkeypatch.setattr(TimeoutConnection, "reply_timeout", 1.5)


def test_a_locked_table_times_out(
    short: None,
    opened: JournaledIndex,
    sql: Connection[tuple[Any, ...]],
    journal: Journal,
    make_file: Callable[..., FileRecord],
) -> None:
    with sql.transaction():
        sql.execute("LOCK TABLE tick_files IN ACCESS EXCLUSIVE MODE")
        with pytest.warns(IndexAwayWarning, match="lock timeout.*pg_blocking_pids"):
            assert [record.path for record in opened.files()] == [make_file(0).path]
        is_served_from_the_catalogue(opened, journal, make_file)
    opened.connect()
    assert [record.path for record in opened.files()] == [make_file(0).path, make_file(1).path]
    assert not opened.pending


def test_a_writer_with_an_open_transaction_times_out(
    short: None,
    opened: JournaledIndex,
    sql: Connection[tuple[Any, ...]],
    journal: Journal,
    make_file: Callable[..., FileRecord],
) -> None:
    with sql.transaction():
        sql.execute("SELECT lock_tick_files()")
        message = is_served_from_the_catalogue(opened, journal, make_file)
    assert "lock timeout" in message


def test_a_slow_statement_times_out(
    short: None,
    opened: JournaledIndex,
    sql: Connection[tuple[Any, ...]],
    journal: Journal,
    make_file: Callable[..., FileRecord],
) -> None:
    hide(sql, "pg_sleep(600)")
    with pytest.warns(IndexAwayWarning, match="statement timeout.*load of the server"):
        assert [record.path for record in opened.files()] == [make_file(0).path]
    is_served_from_the_catalogue(opened, journal, make_file)


def test_a_write_to_a_stopped_server_times_out(
    short: None,
    opened: JournaledIndex,
    journal: Journal,
    dsn: str,
    admin: Connection[tuple[Any, ...]],
    make_file: Callable[..., FileRecord],
) -> None:
    """SIGSTOP: the socket stays open without a reply, and TCP timeouts do not apply."""
    pid = backend(opened)
    name = conninfo_to_dict(dsn)["dbname"]
    admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    os.kill(pid, signal.SIGSTOP)
    try:
        opened.put_files([make_file(1)])
        assert opened.away
        assert len(journal.read_changes()) == 1
        with pytest.warns(IndexAwayWarning):
            assert [record.path for record in opened.files()] == [
                make_file(0).path,
                make_file(1).path,
            ]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_read_from_a_stopped_server_times_out(
    short: None, opened: JournaledIndex, make_file: Callable[..., FileRecord]
) -> None:
    pid = backend(opened)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert opened.files() == [make_file(0)]  # over another connection
    finally:
        os.kill(pid, signal.SIGCONT)


# -- half migrated ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "part"),
    [
        ("DELETE FROM schema_migrations", "does not have 0001_tables"),
        ("DELETE FROM schema_migrations WHERE version = 3", "does not have 0003_queries"),
        ("DELETE FROM schema_migrations WHERE version >= 7", "0007_completeness fails"),
        (UNDO_7 + "DROP TABLE tick_files CASCADE", "0007_completeness fails"),
    ],
)
def test_a_half_migrated_database_is_reported(
    opened: JournaledIndex,
    store: Path,
    dsn: str,
    store_id: str,
    sql: Connection[tuple[Any, ...]],
    broken: str,
    part: str,
) -> None:
    opened.close()
    sql.execute(broken)
    with pytest.warns(IndexAwayWarning, match=f"half migrated: .*{part}.*rebuilds the index"):
        index = open_index(store, store_id, dsn)
    assert index.away
    index.close()


def test_a_newer_schema_is_not_reported_as_half_migrated(
    opened: JournaledIndex, store: Path, dsn: str, store_id: str, sql: Connection[tuple[Any, ...]]
) -> None:
    opened.close()
    sql.execute("INSERT INTO schema_migrations VALUES (9999, '9999_newer', '00')")
    with pytest.raises(IndexVersionError, match="newer ibticks"):
        open_index(store, store_id, dsn)


# -- the embedded server ---------------------------------------------------------------------------


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ibt-"))
    folder.chmod(0o755)
    monkeypatch.setenv("IBTICKS_PGDATA", str(folder))
    # A read creates a new cluster, and initdb is slow on a busy machine.
    monkeypatch.setattr("ibticks.index._journaled._READ_CONNECT_SECONDS", 120.0)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.own_server
@pytest.mark.parametrize("detected", ["by a writer", "by a reader", "at the next opening"])
def test_a_damaged_cluster_is_replaced_at_the_next_opening(
    store: Path, base: Path, make_file: Callable[..., FileRecord], detected: str
) -> None:
    index = open_index(store, STORE_ID, retry_seconds=1000)
    index.put_files([make_file(0)])
    (data,) = base.glob("*/data")
    if detected == "at the next opening":
        index.close()
    else:
        index._primary._database._close_idle()  # they have the files open
    shutil.rmtree(data / "base")
    if detected == "by a writer":
        index.put_files([make_file(1)])
        assert index.pending
    elif detected == "by a reader":
        assert index.files() == []  # of the new database: no other process used the damaged one
    index.close()
    if detected == "at the next opening":
        with pytest.warns(IndexAwayWarning, match="renames the database"):
            open_index(store, STORE_ID).close()
    index = open_index(store, STORE_ID)
    assert not index.away
    assert not index.is_complete()
    assert (data.parent / "data.damaged").is_dir()
    index.close()


@pytest.mark.own_server
def test_a_damaged_cluster_in_use_is_not_replaced(
    store: Path, base: Path, python: Callable[..., Popen[str]]
) -> None:
    """The server keeps running until the other process that uses it has ended."""
    code = (
        "import sys\n"
        "from ibticks.index import open_index\n"
        "index = open_index(*sys.argv[1:])\n"
        "print('open', flush=True)\n"
        "sys.stdin.readline()\n"
        "index.close()\n"
    )
    other = python(code, store, STORE_ID)
    assert other.stdout.readline() == "open\n"
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        server.mark_damaged("as the test wants it")
    open_index(store, STORE_ID).close()
    assert not any(base.glob("*/data.damaged"))
    other.communicate("\n", timeout=60)
    open_index(store, STORE_ID).close()
    assert len(list(base.glob("*/data.damaged"))) == 1
