"""Selection: which ticks of a store, by contracts, tick types and a time range.

In come contracts by id or symbol, tick types and a :class:`TimeRange`; out goes a
:class:`Selection`, which loads frames of every library, messages and coverage. ``store`` makes
selections, ``live`` extends them to buffers, ``gateway`` and ``widgets`` read them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.selection._batches import (
        HourlyBatches,
        filter_rows,
        narrow,
        partition_by_hour,
    )
    from ibticks.selection._contents import Contents, contents_table, summarise_contents
    from ibticks.selection._replay import Replay, ReplayClock
    from ibticks.selection._resolver import (
        SelectionResolver,
        check_tick_types,
        find_contracts,
        format_label,
    )
    from ibticks.selection._selection import (
        Backfill,
        Selection,
        check_backfill,
        default_columns,
    )
    from ibticks.selection._tail import read_tail
    from ibticks.selection._time_range import DEFAULT_MARKET, TimeRange

__all__ = [
    "DEFAULT_MARKET",
    "Backfill",
    "Contents",
    "HourlyBatches",
    "Replay",
    "ReplayClock",
    "Selection",
    "SelectionResolver",
    "TimeRange",
    "check_backfill",
    "check_tick_types",
    "contents_table",
    "default_columns",
    "filter_rows",
    "find_contracts",
    "format_label",
    "narrow",
    "partition_by_hour",
    "read_tail",
    "summarise_contents",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
