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

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ibticks.index._catalogue import CatalogueIndex, write_catalogue
    from ibticks.index.embedded._server import EmbeddedServer
    from ibticks.index._journal import Journal
    from ibticks.index._journaled import JournaledIndex
    from ibticks.index._memory import MemoryIndex
    from ibticks.index._open import open_index
    from ibticks.index._postgres import PostgresIndex

__all__ = [
    "CatalogueIndex",
    "EmbeddedServer",
    "Journal",
    "JournaledIndex",
    "MemoryIndex",
    "PostgresIndex",
    "open_index",
    "write_catalogue",
]

_HOMES: Final = {
    "CatalogueIndex": "catalogue",
    "EmbeddedServer": "embedded",
    "Journal": "journal",
    "JournaledIndex": "journaled",
    "MemoryIndex": "memory",
    "PostgresIndex": "postgres",
    "open_index": "opening",
    "write_catalogue": "catalogue",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
