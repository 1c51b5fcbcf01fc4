"""store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.store._deletion import undo_deletion
    from ibticks.store._progress import bar
    from ibticks.store._retention import delete_files
    from ibticks.store._store import Store, open_store

__all__ = ["Store", "bar", "delete_files", "open_store", "undo_deletion"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
