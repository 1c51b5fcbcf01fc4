"""The index of a store: which files it has, their statistics, contracts and coverage.

Records of files, contracts and coverage intervals come in and go out; every write is one
``IndexChange``. The index is a PostgreSQL database, embedded or on a server; a journal file takes
the writes, and a catalogue file answers the reads, while the server is away. The files of the store
are the truth: all of it can be rebuilt from them. Storage, coverage, selection, capture and the
Store use it; :func:`open_index` is the entry point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.index._catalogue import CatalogueIndex, write_catalogue
    from ibticks.index._journaled import JournaledIndex
    from ibticks.index._memory import MemoryIndex
    from ibticks.index._open import find_store_id, open_index
    from ibticks.index._postgres import PostgresIndex
    from ibticks.index._protocol import (
        ForwardingIndex,
        Index,
        IndexChange,
        IndexReads,
        ReadScope,
    )
    from ibticks.index._records import (
        ArchivedCopy,
        Block,
        CompanionHour,
        CompanionRecord,
        ContractRecord,
        CoverageRecord,
        DailyStats,
        FileRecord,
    )

__all__ = [
    "ArchivedCopy",
    "Block",
    "CatalogueIndex",
    "CompanionHour",
    "CompanionRecord",
    "ContractRecord",
    "CoverageRecord",
    "DailyStats",
    "FileRecord",
    "ForwardingIndex",
    "Index",
    "IndexChange",
    "IndexReads",
    "JournaledIndex",
    "MemoryIndex",
    "PostgresIndex",
    "ReadScope",
    "find_store_id",
    "open_index",
    "write_catalogue",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
