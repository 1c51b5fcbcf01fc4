"""Opening the index of a store: the one place that knows all its kinds."""

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

__all__ = ["open_index"]


def open_index(
    root: Path | str,
    store_id: str,
    dsn: str | None = None,
    *,
    retry_seconds: float = 5.0,
    complete: Callable[[PostgresIndex], None] | None = None,
    find_missing: Callable[[set[str]], Iterable[FileRecord]] | None = None,
) -> JournaledIndex:
    """Open the index of a store.

    With a DSN it is in that server's database, which must answer now. Without, it is in an embedded
    PostgreSQL of this user's (see :mod:`ibticks.index.embedded`). Where that cannot run, or the
    database is damaged, locked or slow, the store is served from its catalogue, changes go to its
    journal, and a warning says why.

    A database made just now is empty: ``complete`` enters the files of the store.

    Parameters
    ----------
    root : path
        The store's folder.
    store_id : str
        The id in its ``metadata/store.json``.
    dsn : str, optional
        ``postgresql://user@host:port/database`` or libpq's ``key=value`` pairs.
    retry_seconds : float
        Least time between two attempts to reach a server that went away.
    complete : callable, optional
        Enters what a database lacks, whenever it is reached; see
        ``complete_index``.
    find_missing : callable, optional
        Finds what catalogue and journal lack, while the server is away; see
        ``find_missing``.

    Raises
    ------
    IndexUnavailableError
        Nothing answers at ``dsn``, or it does not let us in.
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

    def reach(patience: float) -> PostgresIndex:
        from ibticks.index._postgres import PostgresIndex

        if dsn is not None:
            return PostgresIndex(dsn, store_id, root=root)
        if os.name != "posix":
            raise IndexUnavailableError(
                "the embedded PostgreSQL runs on Linux and macOS: give the DSN of a server (dsn=, "
                "IBTICKS_DSN)"
            )
        from ibticks.index.embedded import EmbeddedServer

        server = EmbeddedServer.for_store(root, store_id, patience=patience)
        try:
            return PostgresIndex(server.dsn, store_id, root=root, server=server)
        except BaseException:
            server.close()
            raise

    index = JournaledIndex(
        reach,
        metadata / "index.json",
        metadata / "index.journal",
        retry_seconds=retry_seconds,
        complete=complete,
        find_missing=find_missing,
    )
    try:
        index.connect()
    except (IndexUnavailableError, StoreAccessError) as error:
        # A server by DSN that does not answer may be a mistyped one; one whose database is damaged
        # is not.
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
