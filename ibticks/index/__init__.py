"""The index of a store: which files there are and what is in them.

It lives in PostgreSQL, embedded or anywhere; a catalogue file and a journal stand in while that is
away. The files are the truth: all of it can be rebuilt.

=================== ================================================================
:func:`open_index`  the index of a store, whichever it is
``records``         the values an index keeps, and the protocol ``Index``
``PostgresIndex``   the index in a PostgreSQL database
``EmbeddedServer``  a PostgreSQL of the store's own
``JournaledIndex``  PostgreSQL, and what stands in for it
``CatalogueIndex``  the read-only catalogue file (``write_catalogue``)
``MemoryIndex``     an index in memory
``Journal``         the changes the server has not yet got
=================== ================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.index._catalogue import CatalogueIndex, write_catalogue
    from ibticks.index._encoding import dump_json, file_from_json, file_to_json
    from ibticks.index._journal import Journal
    from ibticks.index._journaled import JournaledIndex
    from ibticks.index._memory import MemoryIndex
    from ibticks.index._open import open_index
    from ibticks.index._postgres import PostgresIndex
    from ibticks.index._records import (
        QUERY_SECONDS,
        Block,
        ContractRecord,
        CoverageRecord,
        DailyStats,
        FileRecord,
        Index,
    )
    from ibticks.index._store_id import find_store_id
    from ibticks.index.embedded import EmbeddedServer

__all__ = [
    "QUERY_SECONDS",
    "Block",
    "CatalogueIndex",
    "ContractRecord",
    "CoverageRecord",
    "DailyStats",
    "EmbeddedServer",
    "FileRecord",
    "Index",
    "Journal",
    "JournaledIndex",
    "MemoryIndex",
    "PostgresIndex",
    "dump_json",
    "file_from_json",
    "file_to_json",
    "find_store_id",
    "open_index",
    "write_catalogue",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
