"""selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.selection._contracts import find_contracts
    from ibticks.selection._resolve import Lookup, check_tick_types, in_words
    from ibticks.selection._selection import Backfill, Selection, check_backfill, default_columns
    from ibticks.selection._time_range import find_spans

__all__ = [
    "Backfill",
    "Lookup",
    "Selection",
    "check_backfill",
    "check_tick_types",
    "default_columns",
    "find_contracts",
    "find_spans",
    "in_words",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
