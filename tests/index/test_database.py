"""The connection pool: refused, checked, lost and retried connections."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ibticks.errors import (
    IndexMismatchError,
    IndexUnavailableError,
    IndexVersionError,
    TickIndexError,
)
from ibticks.index._database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import Popen

    from tests.servers import PostgresServer


@pytest.fixture
def database(dsn: str, store_id: str) -> Iterator[Database]:
    database = Database(dsn, store_id)
    yield database
    database.close()


def pid(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Any:
    return cursor.execute("SELECT pg_backend_pid()").fetchone()[0]


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:s3cret-w0rd@127.0.0.1:1/ticks",
        "postgresql://me:s3cret-w0rd@nowhere.invalid/ticks",
        "postgresql://me:s3cret@w0rd@127.0.0.1:1/ticks",
        "postgresql://me:s3cret/w0rd@127.0.0.1:1/ticks",
        "postgresql://me:s3cret:w0rd@127.0.0.1:1/ticks",
        "postgresql//me:s3cret-w0rd@127.0.0.1:1/ticks",
        "host=127.0.0.1 port=1 dbname=ticks user=me password=s3cret-w0rd",
        "host=127.0.0.1 port=1 password='s3cret-w0rd",
        "s3cret-w0rd",
        "nosuchkey=s3cret-w0rd",
    ],
)
def test_dsn_errors_never_contain_the_password(dsn: str, store_id: str) -> None:
    with pytest.raises(IndexUnavailableError) as caught:
        Database(dsn, store_id)
    error = caught.value
    shown = f"{error} {error!r} {error.context} {error.__cause__}"
    assert "s3cret" not in shown
    assert "w0rd" not in shown
    assert "DSN" in str(error)
    assert pickle.loads(pickle.dumps(error)).message == error.message


def test_connection_errors_name_the_server(store_id: str) -> None:
    with pytest.raises(IndexUnavailableError, match=r"database ticks on 127\.0\.0\.1:1 as me"):
        Database("postgresql://me:pw@127.0.0.1:1/ticks", store_id)


def test_a_missing_database_raises(server: PostgresServer, store_id: str) -> None:
    with pytest.raises(IndexUnavailableError, match='"never_made" does not exist'):
        Database(make_conninfo(server.dsn, dbname="never_made"), store_id)


def test_an_old_server_version_raises(dsn: str, store_id: str) -> None:
    with pytest.raises(IndexVersionError, match="is too old: ibticks needs 1000 or newer"):
        Database(dsn, store_id, minimum_version=1000)


def test_the_database_of_another_store_raises(dsn: str, store_id: str) -> None:
    with pytest.raises(IndexMismatchError, match=f"the index of the store {store_id}"):
        Database(dsn, "another-id")


def test_a_user_without_create_permission_raises(
    empty_dsn: str, admin: psycopg.Connection[tuple[Any, ...]], store_id: str
) -> None:
    admin.execute("DROP ROLE IF EXISTS reader")
    admin.execute("CREATE ROLE reader")
    try:
        with pytest.raises(TickIndexError, match="GRANT CREATE ON SCHEMA public"):
            Database(make_conninfo(empty_dsn, options="-c role=reader"), store_id)
    finally:
        admin.execute("DROP ROLE reader")


def test_describe(database: Database) -> None:
    assert database.describe().startswith("PostgreSQL ")
    assert "database test_" in database.describe()


# -- moved and copied stores -----------------------------------------------------------------------


def identify(root: Path, store_id: str) -> None:
    (root / "metadata" / "store.json").write_text(f'{{"store_id": "{store_id}"}}')


def test_a_moved_store_keeps_its_index(
    dsn: str, store: Path, store_id: str, sql: psycopg.Connection[tuple[Any, ...]]
) -> None:
    identify(store, store_id)
    Database(dsn, store_id, root=store).close()
    moved = store.rename(store.with_name("moved"))
    Database(dsn, store_id, root=moved).close()
    assert sql.execute("SELECT root FROM store_identity").fetchone() == (str(moved.resolve()),)


def test_a_copied_store_raises(dsn: str, store: Path, store_id: str, tmp_path: Path) -> None:
    identify(store, store_id)
    Database(dsn, store_id, root=store).close()
    copy = tmp_path / "copy"
    (copy / "metadata").mkdir(parents=True)
    identify(copy, store_id)
    with pytest.raises(IndexMismatchError, match="is a copy of the store at"):
        Database(dsn, store_id, root=copy)
    Database(dsn, store_id, root=store).close()


def test_a_symlink_to_the_same_store_is_not_a_copy(
    dsn: str, store: Path, store_id: str, tmp_path: Path
) -> None:
    identify(store, store_id)
    Database(dsn, store_id, root=store).close()
    (tmp_path / "link").symlink_to(store)
    Database(dsn, store_id, root=tmp_path / "link").close()


# -- lost connections ------------------------------------------------------------------------------


def test_a_lost_connection_is_replaced(
    database: Database, admin: psycopg.Connection[tuple[Any, ...]]
) -> None:
    first = database.run(pid)
    assert admin.execute("SELECT pg_terminate_backend(%s, 5000)", (first,)).fetchone() == (True,)
    assert database.run(pid) != first


def test_an_interrupted_transaction_is_retried(
    database: Database, admin: psycopg.Connection[tuple[Any, ...]]
) -> None:
    pids = []

    def cut_the_first_time(cursor: psycopg.Cursor[tuple[Any, ...]]) -> int:
        pids.append(pid(cursor))
        if len(pids) == 1:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pids[0],))
        cursor.execute("CREATE TABLE done AS SELECT 1")
        return len(pids)

    assert database.run(cut_the_first_time) == 2


def test_a_database_that_stays_unavailable_raises(
    database: Database, outage: Callable[..., None]
) -> None:
    database.run(pid)
    outage(True)
    with pytest.raises(IndexUnavailableError, match="not currently accepting connections"):
        database.run(pid)
    outage(False)
    database.run(pid)


def test_an_invalid_value_is_not_an_outage(database: Database) -> None:
    with pytest.raises(TickIndexError, match="division by zero") as caught:
        database.run(lambda cursor: cursor.execute("SELECT 1 / 0"))
    assert not isinstance(caught.value, IndexUnavailableError)
    assert caught.value.context["sqlstate"] == "22012"


def test_a_failed_transaction_is_rolled_back(
    database: Database, sql: psycopg.Connection[tuple[Any, ...]]
) -> None:
    def work(cursor: psycopg.Cursor[tuple[Any, ...]]) -> None:
        cursor.execute("INSERT INTO contracts (contract_id) VALUES (1)")
        raise KeyError

    with pytest.raises(KeyError):
        database.run(work)
    assert sql.execute("SELECT count(*) FROM contracts").fetchone() == (0,)


def test_threads_wait_for_a_free_connection(database: Database) -> None:
    together = threading.Barrier(8, timeout=30)
    seen = []

    def work(cursor: Any) -> None:
        seen.append(pid(cursor))
        together.wait()

    threads = [threading.Thread(target=database.run, args=(work,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 16
    assert len(set(seen)) == 8


def test_a_closed_database_raises(dsn: str, store_id: str) -> None:
    database = Database(dsn, store_id)
    database.close()
    with pytest.raises(IndexUnavailableError, match="is closed"):
        database.run(pid)


def test_close_closes_the_connections(
    dsn: str, store_id: str, admin: psycopg.Connection[tuple[Any, ...]]
) -> None:
    database = Database(dsn, store_id)
    backend = database.run(pid)
    database.close()
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state IS NOT NULL"
    for _ in range(1000):  # the server notices a moment later
        if admin.execute(query, (backend,)).fetchone() == (0,):
            return
    pytest.fail("the connection is still open")


def test_a_forked_child_opens_new_connections(
    dsn: str, store_id: str, python: Callable[..., Popen[str]]
) -> None:
    code = (
        "import os, sys\n"
        "from ibticks.index._database import Database\n"
        "pid = lambda c: c.execute('SELECT pg_backend_pid()').fetchone()[0]\n"
        "database = Database(*sys.argv[1:])\n"
        "before = database.run(pid)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(database.run(pid) == before)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "assert database.run(pid) == before\n"
        "database.close()\n"
    )
    process = python(code, dsn, store_id, options=("-W", "ignore"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_an_open_index_is_closed_quietly_at_exit(
    dsn: str, store_id: str, python: Callable[..., Popen[str]]
) -> None:
    code = (
        "import sys\n"
        "from ibticks.index._database import Database\n"
        "database = Database(*sys.argv[1:])\n"
    )
    process = python(code, dsn, store_id, options=("-X", "dev", "-W", "error"))
    assert (process.communicate(timeout=60), process.returncode) == (("", ""), 0)


def test_connections_have_the_application_name_of_the_process(database: Database) -> None:
    name = database.run(lambda c: c.execute("SHOW application_name").fetchone()[0])
    assert name == f"ibticks {os.getpid()}"


def test_connections_outside_the_pool_are_checked_too(database: Database) -> None:
    with database.connect() as connection:
        assert isinstance(connection, psycopg.Connection)
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
