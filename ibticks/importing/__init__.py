"""Import files into a store: tables, v2 messages as JSON lines, and tick files.

A store and a path come in; an :class:`ImportResult` comes out. An import can be interrupted at any
moment and repeated: ticks that the store has already are not written a second time (see
:class:`ibticks.storage.Ingest`). ``ibt.import_table``, ``ibt.import_messages``,
``ibt.import_tick_file`` and the command ``ibticks import`` are these functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.importing._messages import (
        ImportResult,
        import_messages,
        import_tick_file,
        is_tick_file,
    )
    from ibticks.importing._tables import import_table

__all__ = ["ImportResult", "import_messages", "import_table", "import_tick_file", "is_tick_file"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
