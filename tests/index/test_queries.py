"""SQL queries of users can read the index and do nothing else."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ibticks.errors import ReadOnlyError, TickIndexError
from ibticks.index import ContractRecord, PostgresIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATEMENTS = [
    "DO $$ BEGIN COMMIT; SET TRANSACTION READ WRITE; DELETE FROM contracts; COMMIT; END $$",
    "/* a /* nested */ comment */ DO $$ BEGIN DELETE FROM contracts; END $$",
    "-- a comment\nDELETE FROM contracts",
    "COPY (SELECT 'x') TO PROGRAM 'cat > /dev/null'",
    "COPY contracts FROM '/etc/passwd'",
    "COPY contracts TO STDOUT",
    "CALL nothing()",
    "SET ROLE postgres",
    "RESET ALL",
    "BEGIN",
    "LISTEN news",
    "VACUUM",
    "PREPARE p AS SELECT 1",
    "DECLARE c CURSOR FOR SELECT 1",
    "LOCK TABLE contracts",
    "CREATE TEMP TABLE mine (n INT)",
    "ALTER SYSTEM SET fsync = off",
    "",
    ";",
    "SELECT 1 INTO mine",
    "SELECT * FROM contracts FOR UPDATE",
    "WITH gone AS (DELETE FROM contracts RETURNING *) SELECT * FROM gone",
    "EXPLAIN ANALYZE DELETE FROM contracts",
    "SELECT 1; DELETE FROM contracts",
    "SELECT set_config('transaction_read_only', 'off', false)",
]
"""Statements that change something, refused for every user."""

READ_FILE = "$$SELECT pg_read_file('PG_VERSION')$$"
OF_SUPERUSERS = [
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/hostname')",
    "SELECT pg_reload_conf()",
    "SELECT rolpassword FROM pg_authid",
    "SELECT pg_terminate_backend(pg_backend_pid() + 1), pg_read_file('PG_VERSION')",
    f"SELECT set_config('role', 'none', true), query_to_xml({READ_FILE}, true, false, '')",
    "SELECT set_config('session_authorization', session_user, true)",
    "SELECT * FROM ts_stat($$SELECT to_tsvector(pg_read_file('PG_VERSION'))$$)",
    "SELECT current_setting('unix_socket_directories')",
]
"""Queries that a superuser could use to reach the host or the server."""


@pytest.mark.parametrize("statement", [*STATEMENTS, *OF_SUPERUSERS])
def test_a_superuser_can_only_read(
    index: PostgresIndex, aapl: ContractRecord, statement: str
) -> None:
    index.put_contracts([aapl])
    with pytest.raises((ReadOnlyError, TickIndexError)) as caught:
        index.query(statement)
    assert "sql" in str(caught.value) or "PostgreSQL refused" in str(caught.value)
    assert index.contracts() == [aapl]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS n",
        " \n(SELECT 1 AS n)",
        "/* a /* nested */ one */ -- and another\nSELECT 1 AS n",
        "WITH a AS (SELECT 1 AS n) SELECT * FROM a",
        "select 1 as n;",
        "SELECT n FROM (VALUES (1)) AS v(n) -- the end",
    ],
)
def test_read_only_statements_run(index: PostgresIndex, query: str) -> None:
    assert index.query(query) == [{"n": 1}]


def test_show_statements_run(index: PostgresIndex) -> None:
    assert index.read_query("VALUES (1, 'a')").rows == [(1, "a")]
    assert index.read_query("TABLE contracts").columns[:2] == ("contract_id", "symbol")
    assert "Result" in index.read_query("EXPLAIN SELECT 1").rows[0][0]
    assert "actual" in index.read_query("EXPLAIN ANALYZE SELECT 1").rows[0][0]
    assert index.query("SHOW search_path")[0]["search_path"].startswith("public")


def test_pseudo_types_are_read_as_text(index: PostgresIndex) -> None:
    result = index.read_query("SELECT pg_sleep(0) AS a, ROW(1, 'x') AS b, 3 AS c;")
    assert (result.columns, result.types) == (("a", "b", "c"), ("text", "text", "integer"))
    assert result.rows == [("", "(1,x)", 3)]


def test_parameters_keep_their_types(index: PostgresIndex) -> None:
    moment = datetime(2025, 1, 10, 14, 30, tzinfo=UTC)
    values = [7, "it's 100%", moment, [1, 2], None, 1.5, b"\x00\xff", True, -1]
    types = ["INT8", "TEXT", "TIMESTAMPTZ", "INT8[]", "TEXT", "FLOAT8", "BYTEA", "BOOL", "INT4"]
    marks = ", ".join(f"%s::{name} AS c{n}" for n, name in enumerate(types))
    assert index.read_query(f"SELECT {marks}", values).rows == [tuple(values)]


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("SELECT 1 AS a, 2 AS a", ("a", "a_1")),
        ("SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a", ("a", "a_2", "a_1", "a_3")),
        ("SELECT 1, 2", ("?column?", "?column?_1")),
        ('SELECT 1 AS "%s;--", 2 AS "%s;--"', ("%s;--", "%s;--_1")),
    ],
)
def test_columns_of_the_same_name_are_numbered(
    index: PostgresIndex, query: str, columns: tuple[str, ...]
) -> None:
    result = index.read_query(query)
    assert result.columns == columns
    assert len(result.rows[0]) == len(columns)


def test_a_result_without_rows_has_its_columns(index: PostgresIndex) -> None:
    result = index.read_query("SELECT * FROM daily_tick_stats WHERE false")
    assert len(result.columns) == len(result.types) == 19
    assert dict(zip(result.columns, result.types, strict=True))["first_tick"] == (
        "timestamp with time zone"
    )


def test_a_result_without_columns(index: PostgresIndex) -> None:
    assert index.read_query("SELECT").columns == ()


@pytest.mark.parametrize(
    "query",
    ["SELECT pg_sleep(600)", "SELECT count(*) FROM generate_series(1, 10000000000)"],
)
def test_a_slow_query_times_out(index: PostgresIndex, query: str) -> None:
    with pytest.raises(TickIndexError, match=r"exceeded its timeout of 0\.05 s"):
        index.read_query(query, timeout_seconds=0.05)


def test_a_query_that_waits_for_a_lock_times_out(
    index: PostgresIndex, sql: psycopg.Connection[tuple[Any, ...]]
) -> None:
    with sql.transaction():
        sql.execute("LOCK TABLE contracts")
        with pytest.raises(TickIndexError, match=r"exceeded its timeout of 0\.2 s"):
            index.read_query("SELECT * FROM contracts", timeout_seconds=0.2)


# -- on a server where the user has fewer rights ---------------------------------------------------


@pytest.fixture
def as_user(
    empty_dsn: str, admin: psycopg.Connection[tuple[Any, ...]]
) -> Iterator[Callable[..., str]]:
    """Transfer the database to a user with these attributes, and return the user's DSN."""
    names = []

    def make(attributes: str = "") -> str:
        name = f"user_{conninfo_to_dict(empty_dsn)['dbname']}"
        database = conninfo_to_dict(empty_dsn)["dbname"]
        admin.execute(f"CREATE ROLE {name} {attributes}".encode())
        admin.execute(f"ALTER DATABASE {database} OWNER TO {name}".encode())
        names.append((name, database))
        # Who connects is the user the kernel confirms; what may be done is that of the role.
        return make_conninfo(empty_dsn, options=f"-c role={name}")

    yield make
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        for name, database in names:
            admin.execute(f"ALTER DATABASE {database} OWNER TO CURRENT_USER".encode())
            connection.execute(f"DROP OWNED BY {name} CASCADE".encode())
    for name, _ in names:
        admin.execute(f"DROP OWNED BY {name} CASCADE".encode())
        admin.execute(f"DROP ROLE {name}".encode())


@pytest.mark.parametrize("attributes", ["CREATEROLE", ""])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_an_ordinary_user_can_only_read(
    as_user: Callable[..., str],
    store_id: str,
    aapl: ContractRecord,
    attributes: str,
    statement: str,
) -> None:
    index = PostgresIndex(as_user(attributes), store_id)
    index.put_contracts([aapl])
    with pytest.raises((ReadOnlyError, TickIndexError)):
        index.query(statement)
    assert index.contracts() == [aapl]
    index.close()


def test_without_createrole_a_query_runs_and_logs_the_remedy(
    as_user: Callable[..., str],
    store_id: str,
    aapl: ContractRecord,
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = PostgresIndex(as_user(), store_id)
    index.put_contracts([aapl])
    with caplog.at_level(logging.WARNING, logger="ibticks"):
        for _ in range(2):
            assert index.query("SELECT symbol FROM contracts") == [{"symbol": "AAPL"}]
    (message,) = [record.getMessage() for record in caplog.records]
    assert (
        "the role ibticks_reader, which may only SELECT from the index, cannot be created"
        in message
    )
    assert "the rights CREATEROLE and CREATE" in message
    index.close()


def test_with_createrole_the_role_is_created(
    as_user: Callable[..., str],
    store_id: str,
    aapl: ContractRecord,
    admin: psycopg.Connection[tuple[Any, ...]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    admin.execute("DROP ROLE IF EXISTS ibticks_reader")
    dsn = as_user("CREATEROLE")
    index = PostgresIndex(dsn, store_id)
    index.put_contracts([aapl])
    assert index.query("SELECT current_user::TEXT AS who") == [{"who": "ibticks_reader"}]
    assert index.query("SELECT symbol FROM contracts") == [{"symbol": "AAPL"}]
    assert not caplog.records
    index.close()
    with psycopg.connect(dsn) as connection:
        rights = connection.execute(
            "SELECT has_schema_privilege('ibticks_reader', 'public', 'CREATE'), "
            "has_table_privilege('ibticks_reader', 'contracts', 'INSERT'), "
            "has_function_privilege('pg_monitor', 'ibticks_read(text)', 'EXECUTE')"
        ).fetchone()
    assert rights == (False, False, False)


def test_tables_of_other_owners_are_not_granted(
    as_user: Callable[..., str],
    empty_dsn: str,
    store_id: str,
    admin: psycopg.Connection[tuple[Any, ...]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    admin.execute("DROP ROLE IF EXISTS ibticks_reader")
    dsn = as_user("CREATEROLE")
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE salaries (amount INT)")
    index = PostgresIndex(dsn, store_id)
    assert index.query("SELECT current_user::TEXT AS who") == [{"who": "ibticks_reader"}]
    with pytest.raises(ReadOnlyError, match="permission denied for table salaries"):
        index.query("SELECT * FROM salaries")
    assert not caplog.records
    index.close()


def test_a_role_created_by_an_administrator_runs_the_owners_queries(
    as_user: Callable[..., str], empty_dsn: str, store_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = as_user()
    owner = PostgresIndex(dsn, store_id)
    administrator = PostgresIndex(empty_dsn, store_id)
    who = "SELECT current_user::TEXT AS who"
    assert administrator.query(who) == owner.query(who) == [{"who": "ibticks_reader"}]
    assert not caplog.records
    administrator.close()
    owner.close()


def test_tables_created_later_can_be_read(
    index: PostgresIndex, dsn: str, store_id: str, sql: psycopg.Connection[tuple[Any, ...]]
) -> None:
    assert index.query("SELECT 1 AS n") == [{"n": 1}]
    sql.execute("CREATE TABLE later AS SELECT 2 AS n")
    again = PostgresIndex(dsn, store_id)
    assert again.query("SELECT n FROM later") == [{"n": 2}]
    again.close()


def test_a_schema_whose_name_needs_quotes(
    empty_dsn: str, store_id: str, aapl: ContractRecord
) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "my ticks"')
    index = PostgresIndex(make_conninfo(empty_dsn, options='-c search_path="my\\ ticks"'), store_id)
    index.put_contracts([aapl])
    assert index.query("SELECT symbol FROM contracts") == [{"symbol": "AAPL"}]
    index.close()


def test_processes_create_the_role_concurrently(
    empty_dsn: str,
    store_id: str,
    run_concurrently: Callable[..., list[str]],
    admin: psycopg.Connection[tuple[Any, ...]],
) -> None:
    PostgresIndex(empty_dsn, store_id).close()
    code = (
        "import sys\n"
        "from ibticks.index._postgres import PostgresIndex\n"
        "index = PostgresIndex(*sys.argv[1:])\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(index.query('SELECT current_user::TEXT AS who')[0]['who'])\n"
        "index.close()\n"
    )
    outputs = run_concurrently(code, empty_dsn, store_id, processes=3)
    assert outputs == ["ibticks_reader\n"] * 3
