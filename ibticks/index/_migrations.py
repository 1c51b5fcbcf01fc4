"""Schema migrations: the numbered files of ``sql/``, applied once each.

Several processes may open a new database at once: an advisory lock lets one apply, and the others
find the migration done. Each file runs in one transaction with the row that records it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import psycopg

from ibticks.config import resource
from ibticks.errors import IndexUnavailableError, IndexVersionError, TickIndexError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from psycopg import Connection
    from psycopg.rows import TupleRow

__all__ = ["MIGRATION_TIMEOUT_SECONDS", "Migration", "migrate", "migrations", "read_migrations"]

MIGRATION_TIMEOUT_SECONDS: Final = 600
"""Timeout of one migration, which may rewrite large tables, and of the wait for its lock."""

_HALF_MIGRATED_ERRORS: Final = (
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateFunction,
    psycopg.errors.DuplicateColumn,
    psycopg.errors.DuplicateObject,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
)
"""Errors of a migration whose objects exist already, or whose prerequisites do not."""

_ADVISORY_LOCK_KEY: Final = 7_305_451_000  # lock_tick_files() in sql/ uses the next number


@dataclass(frozen=True, slots=True)
class Migration:
    """A file of ``sql/``: number, name, text and SHA-256 of the text."""

    version: int
    name: str
    sql: str
    checksum: str


def read_migrations(folder: Path) -> tuple[Migration, ...]:
    """Read the files ``NNNN_*.sql`` of a folder, numbered 1, 2, 3, ... without a gap.

    Raises
    ------
    TickIndexError
        There are none, or a number is missing or duplicate: the installation is damaged.
    """
    files = []
    for path in sorted(folder.glob("*.sql")):
        sql = path.read_text(encoding="utf-8")  # universal newlines: the checksum is portable
        match = re.match(r"(\d{4})_\w+$", path.stem)
        version = int(match[1]) if match else 0
        files.append(
            Migration(version, path.stem, sql, hashlib.sha256(sql.encode("utf-8")).hexdigest())
        )
    if not files or [file.version for file in files] != list(range(1, len(files) + 1)):
        raise TickIndexError(
            f"{folder} should have the files 0001_*.sql, 0002_*.sql and so on, and has "
            f"{', '.join(file.name for file in files) or 'none'}: install ibticks again",
            path=str(folder),
        )
    return tuple(files)


@cache
def migrations() -> tuple[Migration, ...]:
    """Return the migrations of this ibticks."""
    return read_migrations(resource("sql"))


def migrate(connection: Connection[TupleRow], target: Sequence[Migration]) -> bool:
    """Apply the migrations of ``target`` that a database lacks; True if there were any.

    Raises
    ------
    IndexVersionError
        The database has a migration unknown to this ibticks, or one with another text.
    TickIndexError
        A migration failed: no permission to create tables, or tables of those names exist.
    """
    applied = False
    for migration in _missing(connection, target):
        with connection.transaction():
            connection.execute(
                "SELECT set_config('statement_timeout', %s, true), "
                "set_config('lock_timeout', %s, true)",
                (f"{MIGRATION_TIMEOUT_SECONDS}s",) * 2,
            )
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_LOCK_KEY,))
            if migration in _missing(connection, target):
                _apply(connection, migration)
                applied = True
    return applied


def _apply(connection: Connection[TupleRow], migration: Migration) -> None:
    try:
        connection.execute(migration.sql.encode("utf-8"))
    except psycopg.errors.InsufficientPrivilege as error:
        raise TickIndexError(
            f"{connection.info.user} may not create tables in the database "
            f"{connection.info.dbname}: {error.diag.message_primary}. Let its owner run: GRANT "
            f"CREATE ON SCHEMA public TO {connection.info.user}",
        ) from error
    except psycopg.ProgrammingError as error:
        if migration.version > 1 and isinstance(error, _HALF_MIGRATED_ERRORS):
            raise _half_migrated(
                connection, f"{migration.name} fails: {error.diag.message_primary}"
            ) from error
        if isinstance(error, psycopg.errors.DuplicateTable | psycopg.errors.DuplicateFunction):
            raise TickIndexError(
                f"the database {connection.info.dbname} has other tables: "
                f"{error.diag.message_primary}. Give the store its own database (createdb)",
            ) from error
        raise TickIndexError(
            f"migration {migration.name} failed on PostgreSQL {connection.info.server_version}: "
            f"{error}",
            migration=migration.name,
        ) from error
    connection.execute(
        "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
        (migration.version, migration.name, migration.checksum),
    )


def _half_migrated(connection: Connection[TupleRow], reason: str) -> IndexUnavailableError:
    return IndexUnavailableError(
        f"the database {connection.info.dbname} is half migrated: {reason}. Replace it (dropdb, "
        "createdb; of the embedded server, remove its folder), and the next opening rebuilds the "
        "index from the files",
        sqlstate="42P07",
    )


def _missing(connection: Connection[TupleRow], target: Sequence[Migration]) -> list[Migration]:
    """Return the migrations that the database lacks."""
    # Not to_regclass(): its cache may lack a table that was created during the wait for the lock.
    table = connection.execute(
        "SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE c.relname = 'schema_migrations' AND n.nspname = ANY(current_schemas(false))"
    ).fetchone()
    if table is None:
        return list(target)
    applied = connection.execute(
        "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
    ).fetchall()
    known = {migration.version: migration for migration in target}
    for version, name, checksum in applied:
        if version not in known:
            raise IndexVersionError(
                f"the database {connection.info.dbname} has the schema of a newer ibticks "
                f"({name}): upgrade ibticks, or use another database",
                migration=name,
            )
        if checksum != known[version].checksum:
            raise IndexVersionError(
                f"the database {connection.info.dbname} was created with another {name} than this "
                "ibticks has: use the ibticks that created it, or a new database (the index is "
                "rebuilt from the files)",
                migration=name,
            )
    versions = {version for version, _, _ in applied}
    latest = max(versions, default=1)
    skipped = [m.name for m in target if m.version not in versions and m.version <= latest]
    if skipped:
        names = ", ".join(skipped)
        raise _half_migrated(connection, f"schema_migrations does not have {names}")
    return [migration for migration in target if migration.version not in versions]
