"""The id of a store as its index has it, for a store whose own note of it is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from ibticks.index._connection import connect, dsn_parameters
from ibticks.index.embedded import recorded_store_id

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["find_store_id"]


def find_store_id(root: Path, dsn: str | None) -> str | None:
    """Return the id that the index of the store at ``root`` has; None if it does not say.

    Parameters
    ----------
    root : Path
        The store's folder.
    dsn : str, optional
        Of the database of the index; by default the embedded one, whose owner note is read.

    Raises
    ------
    TickIndexError
        If the DSN cannot be read.
    """
    if dsn is None:
        return recorded_store_id(root)
    try:
        with connect(dsn_parameters(dsn)) as connection:
            row = connection.execute("SELECT store_id, root FROM store_identity").fetchone()
    except psycopg.Error:
        return None
    return str(row[0]) if row is not None and row[1] in (None, str(root.resolve())) else None
