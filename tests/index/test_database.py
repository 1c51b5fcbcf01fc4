"""Connections: refused, checked, lost and found again."""

from __future__ import annotations

import os
import pickle
import threading

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


@pytest.fixture
def database(dsn, store_id):
    database = Database(dsn, store_id)
    yield database
    database.close()


def pid(cursor):
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
def test_a_wrong_dsn_never_shows_the_password(dsn, store_id):
    with pytest.raises(IndexUnavailableError) as caught:
        Database(dsn, store_id)
    error = caught.value
    shown = f"{error} {error!r} {error.context} {error.__cause__}"
    assert "s3cret" not in shown
    assert "w0rd" not in shown
    assert "DSN" in str(error)
    assert pickle.loads(pickle.dumps(error)).message == error.message


def test_a_dsn_in_an_error_says_where(store_id):
    with pytest.raises(IndexUnavailableError, match=r"database ticks on 127\.0\.0\.1:1 as me"):
        Database("postgresql://me:pw@127.0.0.1:1/ticks", store_id)


def test_a_missing_database(server, store_id):
    with pytest.raises(IndexUnavailableError, match='"never_made" does not exist'):
        Database(make_conninfo(server.dsn, dbname="never_made"), store_id)


def test_a_server_that_is_too_old(dsn, store_id):
    with pytest.raises(IndexVersionError, match="is too old: ibticks needs 1000 or newer"):
        Database(dsn, store_id, minimum_version=1000)


def test_the_index_of_another_store(dsn, store_id):
    with pytest.raises(IndexMismatchError, match=f"the index of the store {store_id}"):
        Database(dsn, "another-id")


def test_a_user_that_may_not_make_tables(empty_dsn, admin, store_id):
    admin.execute("DROP ROLE IF EXISTS reader")
    admin.execute("CREATE ROLE reader")
    try:
        with pytest.raises(TickIndexError, match="GRANT CREATE ON SCHEMA public"):
            Database(make_conninfo(empty_dsn, options="-c role=reader"), store_id)
    finally:
        admin.execute("DROP ROLE reader")


def test_describes_itself(database):
    assert database.describe().startswith("PostgreSQL ")
    assert "database test_" in database.describe()


# -- moved and copied stores -----------------------------------------------------------------------


def identify(root, store_id):
    (root / "metadata" / "store.json").write_text(f'{{"store_id": "{store_id}"}}')


def test_a_moved_store_keeps_its_index(dsn, store, store_id, sql):
    identify(store, store_id)
    Database(dsn, store_id, root=store).close()
    moved = store.rename(store.with_name("moved"))
    Database(dsn, store_id, root=moved).close()
    assert sql.execute("SELECT root FROM store_identity").fetchone() == (str(moved.resolve()),)


def test_a_copied_store_is_another_store(dsn, store, store_id, tmp_path):
    identify(store, store_id)
    Database(dsn, store_id, root=store).close()
    copy = tmp_path / "copy"
    (copy / "metadata").mkdir(parents=True)
    identify(copy, store_id)
    with pytest.raises(IndexMismatchError, match="is a copy of the store at"):
        Database(dsn, store_id, root=copy)
    Database(dsn, store_id, root=store).close()


def test_another_way_to_the_same_store_is_no_copy(dsn, store, store_id, tmp_path):
    identify(store, store_id)
    Database(dsn, store_id, root=store).close()
    (tmp_path / "link").symlink_to(store)
    Database(dsn, store_id, root=tmp_path / "link").close()


# -- lost and found --------------------------------------------------------------------------------


def test_a_cut_connection_is_replaced(database, admin):
    first = database.run(pid)
    assert admin.execute("SELECT pg_terminate_backend(%s, 5000)", (first,)).fetchone() == (True,)
    assert database.run(pid) != first


def test_work_that_was_cut_is_done_again(database, admin):
    pids = []

    def cut_the_first_time(cursor):
        pids.append(pid(cursor))
        if len(pids) == 1:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pids[0],))
        cursor.execute("CREATE TABLE done AS SELECT 1")
        return len(pids)

    assert database.run(cut_the_first_time) == 2


def test_a_database_that_stays_away(database, outage):
    database.run(pid)
    outage(True)
    with pytest.raises(IndexUnavailableError, match="not currently accepting connections"):
        database.run(pid)
    outage(False)
    database.run(pid)


def test_what_the_server_refuses_is_no_outage(database):
    with pytest.raises(TickIndexError, match="division by zero") as caught:
        database.run(lambda cursor: cursor.execute("SELECT 1 / 0"))
    assert not isinstance(caught.value, IndexUnavailableError)
    assert caught.value.context["sqlstate"] == "22012"


def test_failed_work_leaves_nothing_behind(database, sql):
    def work(cursor):
        cursor.execute("INSERT INTO contracts (contract_id) VALUES (1)")
        raise KeyError

    with pytest.raises(KeyError):
        database.run(work)
    assert sql.execute("SELECT count(*) FROM contracts").fetchone() == (0,)


def test_more_threads_than_connections(database):
    together = threading.Barrier(8, timeout=30)
    seen = []

    def work(cursor):
        seen.append(pid(cursor))
        together.wait()

    threads = [threading.Thread(target=database.run, args=(work,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 16
    assert len(set(seen)) == 8


def test_a_closed_database(dsn, store_id):
    database = Database(dsn, store_id)
    database.close()
    with pytest.raises(IndexUnavailableError, match="is closed"):
        database.run(pid)


def test_closing_closes_the_connections(dsn, store_id, admin):
    database = Database(dsn, store_id)
    backend = database.run(pid)
    database.close()
    found = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state IS NOT NULL"
    for _ in range(1000):  # the server notices a moment later
        if admin.execute(found, (backend,)).fetchone() == (0,):
            return
    pytest.fail("the connection is still open")


def test_a_forked_child_has_connections_of_its_own(dsn, store_id, python):
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


def test_an_index_left_open_is_closed_quietly_at_exit(dsn, store_id, python):
    code = (
        "import sys\n"
        "from ibticks.index._database import Database\n"
        "database = Database(*sys.argv[1:])\n"
    )
    process = python(code, dsn, store_id, options=("-X", "dev", "-W", "error"))
    assert (process.communicate(timeout=60), process.returncode) == (("", ""), 0)


def test_every_connection_is_of_this_process(database):
    name = database.run(lambda c: c.execute("SHOW application_name").fetchone()[0])
    assert name == f"ibticks {os.getpid()}"


def test_own_connections_are_checked_too(database):
    with database.connect() as connection:
        assert isinstance(connection, psycopg.Connection)
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
