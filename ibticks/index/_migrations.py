"""The database's schema: the numbered files of ``sql/``, applied once each.

Several processes may open a new database at once: whoever gets the lock applies, the others find
it done. Each file runs in one transaction with the row that records it.
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
"""Longest time of one migration, which may rewrite large tables, and of the wait for another's."""

_HALF_MIGRATED: Final = (
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateFunction,
    psycopg.errors.DuplicateColumn,
    psycopg.errors.DuplicateObject,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
)
"""Errors of a migration whose objects are there already, or whose foundations are not."""

_LOCK: Final = 7_305_451_000  # any number, the same for all; lock_tick_files() has the next


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of ``sql/``: its number, its name, its text and the text's SHA-256."""

    version: int
    name: str
    sql: str
    checksum: str


def read_migrations(folder: Path) -> tuple[Migration, ...]:
    """The files ``NNNN_*.sql`` of a folder, by number: 1, 2, 3, ... without a gap.

    Raises
    ------
    TickIndexError
        There are none, or a number is missing or doubled: the installation is damaged.
    """
    found = []
    for path in sorted(folder.glob("*.sql")):
        sql = path.read_text(encoding="utf-8")  # newlines come as \n wherever it was checked out
        match = re.match(r"(\d{4})_\w+$", path.stem)
        version = int(match[1]) if match else 0
        found.append(
            Migration(version, path.stem, sql, hashlib.sha256(sql.encode("utf-8")).hexdigest())
        )
    if not found or [one.version for one in found] != list(range(1, len(found) + 1)):
        raise TickIndexError(
            f"{folder} should have the files 0001_*.sql, 0002_*.sql and so on, and has "
            f"{', '.join(one.name for one in found) or 'none'}: install ibticks again",
            path=str(folder),
        )
    return tuple(found)


@cache
def migrations() -> tuple[Migration, ...]:
    """The migrations of this ibticks."""
    return read_migrations(resource("sql"))


def migrate(connection: Connection[TupleRow], wanted: Sequence[Migration]) -> bool:
    """Bring a database to the schema ``wanted`` makes; True if anything was applied.

    Raises
    ------
    IndexVersionError
        The database has a migration we do not know, or one of another text.
    TickIndexError
        A migration failed: no right to make tables, or tables of those names exist.
    """
    applied = False
    for migration in _missing(connection, wanted):
        with connection.transaction():
            connection.execute(
                "SELECT set_config('statement_timeout', %s, true), "
                "set_config('lock_timeout', %s, true)",
                (f"{MIGRATION_TIMEOUT_SECONDS}s",) * 2,
            )
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if migration in _missing(connection, wanted):
                _apply(connection, migration)
                applied = True
    return applied


def _apply(connection: Connection[TupleRow], migration: Migration) -> None:
    try:
        connection.execute(migration.sql.encode("utf-8"))
    except psycopg.errors.InsufficientPrivilege as error:
        raise TickIndexError(
            f"{connection.info.user} may not make tables in the database "
            f"{connection.info.dbname}: {error.diag.message_primary}. Let its owner run: GRANT "
            f"CREATE ON SCHEMA public TO {connection.info.user}",
        ) from error
    except psycopg.ProgrammingError as error:
        if migration.version > 1 and isinstance(error, _HALF_MIGRATED):
            raise _half_migrated(
                connection, f"{migration.name} fails: {error.diag.message_primary}"
            ) from error
        if isinstance(error, psycopg.errors.DuplicateTable | psycopg.errors.DuplicateFunction):
            raise TickIndexError(
                f"the database {connection.info.dbname} has tables that are not ours: "
                f"{error.diag.message_primary}. Give the store a database of its own (createdb)",
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


def _missing(connection: Connection[TupleRow], wanted: Sequence[Migration]) -> list[Migration]:
    """What the database still lacks."""
    # Not to_regclass(): while we waited for the lock its cache may have learnt of no new table.
    found = connection.execute(
        "SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE c.relname = 'schema_migrations' AND n.nspname = ANY(current_schemas(false))"
    ).fetchone()
    if found is None:
        return list(wanted)
    applied = connection.execute(
        "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
    ).fetchall()
    ours = {migration.version: migration for migration in wanted}
    for version, name, checksum in applied:
        if version not in ours:
            raise IndexVersionError(
                f"the database {connection.info.dbname} has the schema of a newer ibticks "
                f"({name}): upgrade ibticks, or give this one a database of its own",
                migration=name,
            )
        if checksum != ours[version].checksum:
            raise IndexVersionError(
                f"the database {connection.info.dbname} was made with another {name} than this "
                "ibticks has: use the ibticks that made it, or a new database (the index is "
                "rebuilt from the files)",
                migration=name,
            )
    done = {version for version, _, _ in applied}
    latest = max(done, default=1)
    lacking = [one.name for one in wanted if one.version not in done and one.version <= latest]
    if lacking:
        names = ", ".join(lacking)
        raise _half_migrated(connection, f"schema_migrations does not have {names}")
    return [migration for migration in wanted if migration.version not in done]
