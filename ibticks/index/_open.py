"""Open the index of a store: PostgreSQL by DSN or embedded, behind a journal and a catalogue."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ibticks.errors import IndexAwayWarning, IndexUnavailableError, StoreAccessError
from ibticks.index._journaled import JournaledIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ibticks.index._postgres import PostgresIndex
    from ibticks.index._records import FileRecord

__all__ = ["find_store_id", "open_index"]


def open_index(
    root: Path | str,
    store_id: str,
    dsn: str | None = None,
    *,
    retry_seconds: float = 5.0,
    complete: Callable[[PostgresIndex], object] | None = None,
    find_missing: Callable[[set[str]], Iterable[FileRecord]] | None = None,
) -> JournaledIndex:
    """Open the index of a store.

    With a DSN the index is in that server's database, which must answer now. Without, it is in an
    embedded PostgreSQL of this user (see :mod:`ibticks.index.embedded`). Where that cannot run, or
    the database is damaged, locked or slow, the store is read from its catalogue, changes go to its
    journal, and a warning gives the reason.

    A new database is empty: ``complete`` inserts the files of the store.

    Parameters
    ----------
    root : path
        The store's folder.
    store_id : str
        The id in its ``metadata/store.json``.
    dsn : str, optional
        ``postgresql://user@host:port/database`` or libpq's ``key=value`` pairs.
    retry_seconds : float
        Least time between two attempts to connect to a server that went away.
    complete : callable, optional
        Inserts the files that a database lacks, after every connect; see ``complete_index``.
    find_missing : callable, optional
        Finds the files that catalogue and journal lack, while the server is away; see
        ``find_missing``.

    Raises
    ------
    IndexUnavailableError
        No server answers at ``dsn``, or it refuses the connection.
    IndexVersionError
        The server is older than PostgreSQL 14, or the schema newer than this ibticks.
    IndexMismatchError
        The database is the index of another store, or this store is a copy of another.

    Warns
    -----
    IndexAwayWarning
        The embedded PostgreSQL does not run, or the database cannot be used.
    """
    root = Path(root)
    metadata = root / "metadata"

    def connect(timeout_seconds: float) -> PostgresIndex:
        from ibticks.index._postgres import PostgresIndex

        if dsn is not None:
            return PostgresIndex(dsn, store_id, root=root)
        if os.name != "posix":
            raise IndexUnavailableError(
                "the embedded PostgreSQL runs on Linux and macOS: give the DSN of a server (dsn=, "
                "IBTICKS_DSN)"
            )
        from ibticks.index.embedded import EmbeddedServer

        server = EmbeddedServer.for_store(root, store_id, timeout_seconds=timeout_seconds)
        try:
            return PostgresIndex(server.dsn, store_id, root=root, server=server)
        except BaseException:
            server.close()
            raise

    index = JournaledIndex(
        connect,
        metadata / "index.json",
        metadata / "index.journal",
        retry_seconds=retry_seconds,
        complete=complete,
        find_missing=find_missing,
    )
    try:
        index.connect()
    except (IndexUnavailableError, StoreAccessError) as error:
        # A DSN without an answer may be mistyped; with an SQL error (a damaged database) it is not.
        if dsn is not None and not error.context.get("sqlstate"):
            raise
        warnings.warn(
            IndexAwayWarning(
                f"{error}\nUntil then the store is read from its catalogue {metadata}/index.json, "
                f"and changes go to the journal {metadata}/index.journal"
            ),
            stacklevel=2,
        )
    return index


def find_store_id(root: Path, dsn: str | None) -> str | None:
    """Return the store id that the index of the store at ``root`` has, or None.

    For a store that lost its ``metadata/store.json``.

    Parameters
    ----------
    root : Path
        The store's folder.
    dsn : str, optional
        DSN of the index's database; by default the owner file of the embedded index is read.

    Raises
    ------
    TickIndexError
        The DSN cannot be parsed.
    """
    if dsn is None:
        from ibticks.index.embedded import recorded_store_id

        return recorded_store_id(root)
    import psycopg

    from ibticks.index._connection import connect, dsn_parameters

    try:
        with connect(dsn_parameters(dsn)) as connection:
            row = connection.execute("SELECT store_id, root FROM store_identity").fetchone()
    except psycopg.Error:
        return None
    return str(row[0]) if row is not None and row[1] in (None, str(root.resolve())) else None
