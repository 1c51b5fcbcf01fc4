"""The connection pool of an index's database, shared by threads.

Each new connection is checked once: server version, schema migrations, and the identity of the
store. After a lost connection a transaction is retried once: all operations of the index are
idempotent.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg
from psycopg import pq

from ibticks.errors import (
    IndexMismatchError,
    IndexUnavailableError,
    IndexVersionError,
    TickIndexError,
)
from ibticks.index._connection import STATEMENT_TIMEOUT_SECONDS, connect, dsn_parameters
from ibticks.index._migrations import MIGRATION_TIMEOUT_SECONDS, migrate, migrations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg import Connection, Cursor
    from psycopg.rows import TupleRow

    from ibticks.index._connection import TimeoutConnection

__all__ = ["MINIMUM_VERSION", "Database"]

MINIMUM_VERSION: Final = 14
"""Oldest supported major version of PostgreSQL."""

_VALUE_ERRORS: Final = ("21", "22", "23")
"""SQLSTATE classes of invalid values: cardinality, data, constraints."""

_DAMAGED_STATES: Final = ("XX001", "XX002", "58P01", "58030")
"""SQLSTATEs of a damaged database: corrupted data or index, a missing file, an I/O error."""

_MISSING_FOLDER_TEXT: Final = "subdirectory"
"""Part of the message (without SQLSTATE) about a missing folder of the database."""

_POOL_SIZE: Final = 8
_T = TypeVar("_T")

# A forked child must neither use nor close its parent's connections; this list prevents their
# garbage collection.
_parent_connections: list[Connection[TupleRow]] = []


class Database:
    """The database of one store, with a pool of connections.

    Parameters
    ----------
    dsn : str
        ``postgresql://user@host:port/database`` or libpq's ``key=value`` pairs.
    store_id : str
        The id in the store's ``metadata/store.json``.
    root : Path, optional
        The store's folder, to tell a moved store from a copied one.
    minimum_version : int
        Oldest accepted major version of the server.
    replacement : str, optional
        Instruction for the user to replace a damaged database, for error messages.
    on_damage : callable, optional
        Called with the reason when the server reports that the database is damaged.

    Raises
    ------
    IndexUnavailableError
        No server answers, it refuses the connection, or the database is damaged. The message never
        contains the password.
    IndexVersionError
        The server is older than ``minimum_version``, or the schema newer than this ibticks.
    IndexMismatchError
        The database is the index of another store, or this store is a copy of another.
    """

    def __init__(
        self,
        dsn: str,
        store_id: str,
        *,
        root: Path | None = None,
        minimum_version: int = MINIMUM_VERSION,
        replacement: str | None = None,
        on_damage: Callable[[str], None] | None = None,
    ) -> None:
        self._replacement = replacement or "replace the database (dropdb, createdb)"
        self._on_damage = on_damage
        self._parameters = _parse(dsn)
        self._store_id = store_id
        self._root = root
        self._minimum_version = minimum_version
        self._slots = threading.BoundedSemaphore(_POOL_SIZE)  # one for each connection in use
        self._idle: list[Connection[TupleRow]] = []
        self._closed = False
        self._pid = os.getpid()
        self._finalizer = weakref.finalize(self, _close_all, self._idle, self._pid)
        with self._lease() as connection:
            self.server_version = connection.info.server_version

    def describe(self) -> str:
        """Return server version, location and user in words, without the password.

        For example ``PostgreSQL 18.4, database ticks on db.example.com:5432 as me``.
        """
        major, minor = divmod(self.server_version, 10_000)
        return f"PostgreSQL {major}.{minor}, {self._location}"

    def run(self, work: Callable[[Cursor[TupleRow]], _T], *, single: bool = False) -> _T:
        """Call ``work`` in one transaction and return its result; it is retried once.

        Parameters
        ----------
        work : callable
        single : bool
            Whether it runs a single statement, which is a transaction by itself: one round trip
            instead of three.

        Raises
        ------
        IndexUnavailableError
            The server stays away, or its database cannot be used.
        TickIndexError
            The server refused the values.
        """
        for is_retry in (False, True):
            with self._lease() as connection:
                try:
                    transaction = nullcontext() if single else connection.transaction()
                    with transaction, connection.cursor(binary=True) as cursor:
                        return work(cursor)
                except psycopg.Error as error:
                    if is_retry or not _is_transient(connection, error):
                        raise self._failure(error) from error
                    if connection.broken:  # then the idle ones are too
                        self._close_idle()
        raise AssertionError("unreachable")

    def connect(self) -> TimeoutConnection:
        """Open a checked connection in autocommit mode, outside the pool."""
        if self._closed:
            raise IndexUnavailableError(f"the index is closed ({self._location})")
        try:
            connection = connect(self._parameters)
        except psycopg.Error as error:
            raise self._unavailable(error) from error
        try:
            self._check(connection)
        except psycopg.Error as error:
            connection.close()
            raise self._failure(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the idle connections; those in use close after their transaction."""
        self._closed = True
        self._close_idle()
        self._finalizer.detach()

    @property
    def _location(self) -> str:
        return _describe_location(self._parameters)

    # -- connections ------------------------------------------------------------------------------

    @contextmanager
    def _lease(self) -> Iterator[Connection[TupleRow]]:
        if os.getpid() != self._pid:
            self._reset_in_child()
        with self._slots:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self.connect()
            try:
                yield connection
            finally:
                if self._closed or connection.broken:
                    connection.close()
                else:
                    self._idle.append(connection)

    def _close_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread took the last
                return

    def _reset_in_child(self) -> None:
        _parent_connections.extend(self._idle)
        self._idle = []
        self._slots = threading.BoundedSemaphore(_POOL_SIZE)
        self._pid = os.getpid()
        self._finalizer.detach()
        self._finalizer = weakref.finalize(self, _close_all, self._idle, self._pid)

    # -- checks -----------------------------------------------------------------------------------

    def _check(self, connection: TimeoutConnection) -> None:
        if connection.info.server_version < self._minimum_version * 10_000:
            major, minor = divmod(connection.info.server_version, 10_000)
            raise IndexVersionError(
                f"PostgreSQL {major}.{minor} ({self._location}) is too old: ibticks "
                f"needs {self._minimum_version} or newer",
                server_version=connection.info.server_version,
            )
        # Before any change to a database that may belong to another store.
        is_claimed = self._check_identity(connection, claim=False)
        with connection.allow_seconds(MIGRATION_TIMEOUT_SECONDS):
            migrate(connection, migrations())
        if not is_claimed:
            self._check_identity(connection, claim=True)

    def _check_identity(self, connection: Connection[TupleRow], *, claim: bool) -> bool:
        """Compare the store id in the database; False if it has none and is not claimed.

        Raises
        ------
        IndexMismatchError
            The database is the index of another store.
        """
        root = None if self._root is None else str(self._root.resolve())
        select = "SELECT store_id, root FROM store_identity"
        try:
            row = connection.execute(select).fetchone()
        except psycopg.errors.UndefinedTable:
            if claim:
                raise
            return False
        if row is None and not claim:
            return False
        if row is None:
            connection.execute(
                "INSERT INTO store_identity (store_id, root) VALUES (%s, %s) "
                "ON CONFLICT DO NOTHING",
                (self._store_id, root),
            )
            row = connection.execute(select).fetchone()
        if row is None or row[0] != self._store_id:
            other = "no store" if row is None else f"the store {row[0]} at {row[1]}"
            raise IndexMismatchError(
                f"the database ({self._location}) is the index of {other}, not of "
                f"{self._store_id}: give each store its own database (createdb)",
                store_id=self._store_id,
            )
        if root is None or row[1] == root:
            return True
        if row[1] is not None and _is_copy(Path(root), Path(row[1]), self._store_id):
            raise IndexMismatchError(
                f"{root} is a copy of the store at {row[1]}: both have the id {self._store_id} "
                f"and would share an index. Remove {root}/metadata/store.json to make the copy a "
                "separate store",
                store_id=self._store_id,
                path=root,
            )
        connection.execute("UPDATE store_identity SET root = %s", (root,))
        return True

    def _failure(self, error: psycopg.Error) -> TickIndexError:
        """Return the exception for a database error; only invalid values are a TickIndexError."""
        state = error.sqlstate or ""
        if state[:2] in _VALUE_ERRORS or (not state and isinstance(error, psycopg.DataError)):
            return TickIndexError(f"the index refused: {str(error).strip()}", sqlstate=state)
        if not state:
            return self._unavailable(error)
        reason = ": ".join(filter(None, (error.diag.message_primary, error.diag.message_detail)))
        if state in _DAMAGED_STATES and self._on_damage is not None:
            self._on_damage(reason)
        return IndexUnavailableError(
            f"the index cannot be used, {self._location}: {reason}. {self._remedy(state)}",
            place=self._location,
            sqlstate=state,
        )

    def _remedy(self, state: str) -> str:
        """Return what the user can do about an SQLSTATE."""
        if state == "55P03":
            return (
                "Another session holds the lock: SELECT pid, query, pg_blocking_pids(pid) FROM "
                "pg_stat_activity shows it; end it with pg_terminate_backend(pid)"
            )
        if state == "57014":
            return (
                "A statement exceeded its timeout of "
                f"{STATEMENT_TIMEOUT_SECONDS} s: check the load of "
                "the server and its disk"
            )
        if state == "42501":
            return "Let the owner of the tables GRANT this user the rights to them"
        if state == "25006":
            return "The server takes no changes: connect to the primary, not to a standby"
        if state in _DAMAGED_STATES and self._on_damage is not None:
            return (
                "The database is damaged, the files are not: close all programs that use the "
                "store; the next opening renames the database and rebuilds it from the files"
            )
        if state in _DAMAGED_STATES or state[:2] in ("XX", "58"):
            return (
                "The database is damaged, the files are not: close all programs that use the "
                f"store and {self._replacement}; the next opening rebuilds it from the files"
            )
        if state[:2] == "42":
            return (
                "The database lacks a part of the schema (half migrated, or changed by hand): "
                f"{self._replacement}; the next opening rebuilds it from the files"
            )
        return "Check the log of the server"

    def _unavailable(self, error: psycopg.Error) -> IndexUnavailableError:
        reason = str(error).strip() or type(error).__name__
        if _MISSING_FOLDER_TEXT in reason and self._on_damage is not None:
            self._on_damage(reason)
        password = self._parameters.get("password")
        if password:
            reason = reason.replace(str(password), "***")
        return IndexUnavailableError(
            f"cannot connect to the index, {self._location}: {reason}. Check that the "
            "server runs and the DSN is right",
            place=self._location,
        )


def _parse(dsn: str) -> dict[str, str]:
    """Return the connection parameters of a DSN; errors never quote it or its password."""
    try:
        parameters = dsn_parameters(dsn)
    except psycopg.ProgrammingError:
        raise _invalid_dsn() from None
    if any("@" in str(parameters.get(name, "")) for name in ("host", "dbname", "port")):
        raise _invalid_dsn()  # the rest of a password with an @ would be shown as the host
    return parameters


def _invalid_dsn() -> IndexUnavailableError:
    return IndexUnavailableError(
        "the DSN of the index cannot be parsed: write postgresql://user@host:5432/database or "
        "host=... dbname=... user=..., and in a password @ as %40, : as %3A, / as %2F"
    )


def _describe_location(parameters: dict[str, str]) -> str:
    # libpq fills in what the DSN leaves out from variables such as PGPORT, or by default.
    defaults = {option.keyword.decode(): option.val for option in pq.Conninfo.get_defaults()}
    full = {name: value.decode() for name, value in defaults.items() if value} | parameters
    host = full.get("host") or full.get("hostaddr") or "this host"
    user = parameters.get("user")
    name = full.get("dbname") or full.get("user") or "by default"
    location = f"database {name} on {host}:{full.get('port') or 5432}"
    return f"{location} as {user}" if user else location


def _is_transient(connection: Connection[TupleRow], error: psycopg.Error) -> bool:
    """Return whether a transaction may succeed when it is retried.

    After a lost connection, and for SQLSTATE classes 40 (rolled back because of another
    transaction), 53 (out of disk, memory or connections) and 57 (shutting down), except 57014
    (the statement timeout).
    """
    if connection.closed or connection.broken:
        return True
    state = error.sqlstate or ""
    return state[:2] in ("40", "53", "57") and state != "57014"


def _is_copy(root: Path, other: Path, store_id: str) -> bool:
    """Return whether ``other`` is another folder than ``root`` with a store of that id."""
    try:
        return not root.samefile(other) and store_id in (
            other / "metadata" / "store.json"
        ).read_text(encoding="utf-8")
    except OSError:
        return False


def _close_all(connections: list[Connection[TupleRow]], pid: int) -> None:
    if os.getpid() == pid:
        for connection in connections:
            connection.close()
