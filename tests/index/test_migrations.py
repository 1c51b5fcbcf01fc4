"""Migrations are applied once, by one process, and never to a newer database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ibticks.errors import IndexVersionError, TickIndexError
from ibticks.index import FileRecord, PostgresIndex
from ibticks.index._migrations import Migration, migrate, migrations, read_migrations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def connection(empty_dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        yield connection


def test_migrations_are_numbered_from_one() -> None:
    assert [migration.version for migration in migrations()] == list(
        range(1, len(migrations()) + 1)
    )
    assert all(len(migration.checksum) == 64 for migration in migrations())


@pytest.mark.parametrize(
    "names", [[], ["0002_second.sql"], ["0001_a.sql", "0001_b.sql"], ["0001_a.sql", "first.sql"]]
)
def test_missing_or_duplicate_numbers_raise(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(TickIndexError, match="install ibticks again"):
        read_migrations(tmp_path)


def test_checksums_ignore_newline_style(tmp_path: Path) -> None:
    for folder, newline in (("unix", b"\n"), ("windows", b"\r\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0001_a.sql").write_bytes(b"SELECT 1" + newline)
    assert read_migrations(tmp_path / "unix") == read_migrations(tmp_path / "windows")


def test_each_migration_is_applied_once(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    assert migrate(connection, migrations())
    assert not migrate(connection, migrations())
    rows = connection.execute(
        "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
    ).fetchall()
    assert rows == [
        (migration.version, migration.name, migration.checksum) for migration in migrations()
    ]


def test_only_missing_migrations_are_applied(
    connection: psycopg.Connection[tuple[Any, ...]],
) -> None:
    migrate(connection, migrations()[:2])
    assert migrate(connection, migrations())
    assert connection.execute("SELECT count(*) FROM storage_per_day").fetchone() == (0,)


def test_a_failed_migration_is_rolled_back(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    broken = Migration(1, "0001_broken", "CREATE TABLE half (n INT); SELECT no_such_thing", "00")
    with pytest.raises(TickIndexError, match="0001_broken failed"):
        migrate(connection, [broken])
    assert connection.execute("SELECT to_regclass('half')").fetchone() == (None,)


def test_a_database_with_other_tables_raises(
    connection: psycopg.Connection[tuple[Any, ...]],
) -> None:
    connection.execute("CREATE TABLE tick_files (id INT)")
    with pytest.raises(TickIndexError, match="its own database"):
        migrate(connection, migrations())


def test_a_newer_schema_raises(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    newer = Migration(len(migrations()) + 1, "9999_newer", "SELECT 1", "00")
    migrate(connection, [*migrations(), newer])
    with pytest.raises(IndexVersionError, match="newer ibticks \\(9999_newer\\)"):
        migrate(connection, migrations())


def test_another_text_of_a_migration_raises(
    connection: psycopg.Connection[tuple[Any, ...]],
) -> None:
    migrate(connection, migrations())
    other = [replace(migrations()[0], checksum="00"), *migrations()[1:]]
    with pytest.raises(IndexVersionError, match="created with another 0001_tables"):
        migrate(connection, other)


def test_processes_migrate_a_new_database_concurrently(
    empty_dsn: str, store_id: str, run_concurrently: Callable[..., list[str]]
) -> None:
    code = (
        "import sys\n"
        "from ibticks.index._postgres import PostgresIndex\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "index = PostgresIndex(*sys.argv[1:])\n"
        "print(len(index.files()))\n"
        "index.close()\n"
    )
    assert run_concurrently(code, empty_dsn, store_id, processes=4) == ["0\n"] * 4


def test_tables_functions_and_columns_have_comments(
    sql: psycopg.Connection[tuple[Any, ...]], index: PostgresIndex
) -> None:
    bare = index.query(
        """
        SELECT c.relname AS name FROM pg_class AS c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
          AND obj_description(c.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT p.proname FROM pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace AND p.prorettype <> 'trigger'::regtype
          AND obj_description(p.oid, 'pg_proc') IS NULL
        UNION ALL
        SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute AS a
        WHERE a.attrelid IN ('tick_files'::regclass, 'coverage'::regclass,
                             'market_sessions'::regclass)
          AND a.attnum > 0 AND a.attname NOT IN ('id', 'created_at', 'updated_at')
          AND col_description(a.attrelid, a.attnum) IS NULL
        """
    )
    assert bare == []


def test_no_contrib_extension_is_needed(index: PostgresIndex) -> None:
    assert index.query("SELECT extname FROM pg_extension") == [{"extname": "plpgsql"}]


def test_tables_are_created_in_the_schema_of_the_search_path(
    empty_dsn: str, store_id: str, make_file: Callable[..., FileRecord]
) -> None:
    """With a search_path in the DSN, triggers find the tables and functions."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA ticks")
    dsn = psycopg.conninfo.make_conninfo(empty_dsn, options="-c search_path=ticks")
    index = PostgresIndex(dsn, store_id)
    index.put_files([make_file()])
    index.close()
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute("UPDATE ticks.tick_files SET message_count = 99")
        count = connection.execute("SELECT total_messages FROM ticks.daily_tick_stats").fetchone()
    assert count == (99,)
