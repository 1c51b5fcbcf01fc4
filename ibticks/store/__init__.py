"""Store: a root folder of tick files, its index, and everything users do with both.

In come a folder and the commands of users (select, write, verify, compress, delete); out go
selections, live streams and reports. It is the composition root of the rooms below; ``importing``,
``capture``, ``history`` and ``cli`` use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks._progress import progress_bar
    from ibticks.selection import Contents
    from ibticks.store._archive_store import ArchiveStore
    from ibticks.store._deletion import Deletion, delete_files, delete_ticks, undo_deletion
    from ibticks.store._open import open_store
    from ibticks.store._store import Store

__all__ = [
    "ArchiveStore",
    "Contents",
    "Deletion",
    "Store",
    "delete_files",
    "delete_ticks",
    "open_store",
    "progress_bar",
    "undo_deletion",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
