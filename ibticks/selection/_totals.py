"""Totals of a selection, from the index where its files lie inside, else from their ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ibticks.config import DAY_NS
from ibticks.selection._batches import overlapping

if TYPE_CHECKING:
    import polars as pl

    from ibticks.selection._selection import Selection
    from ibticks.storage import TickTotals

__all__ = ["count_selected", "total_selected"]


def count_selected(selection: Selection) -> int:
    """Count the ticks of a selection."""
    from ibticks.archive import find_copies, local_files
    from ibticks.storage import count_ticks

    root, index, files = selection.root, selection.index, selection.files()
    copies = find_copies(root, index, files)
    total = 0
    for record, interval in overlapping(files, selection.intervals):
        if record.path in copies and record.is_inside(interval):
            total += record.ticks  # an object does not change
            continue
        with local_files(root, [record], copies, *interval) as local:
            for file in local:
                total += count_ticks(root, file, interval, strict=selection.strict, index=index)
    return total


def total_selected(selection: Selection, *, by_day: bool) -> pl.DataFrame:
    """Return the totals of a selection, one row a stream, or one a stream and UTC day."""
    from ibticks.archive import find_copies, local_files
    from ibticks.frames import totals_frame
    from ibticks.storage import iter_totals, merge_totals

    root, index, files = selection.root, selection.index, selection.files()
    copies = find_copies(root, index, files)
    streams: dict[tuple[int, str, int], list[TickTotals]] = {}
    for record, interval in overlapping(files, selection.intervals):
        with local_files(root, [record], copies, *interval) as local:
            for file in local:
                for day_ns, totals in iter_totals(
                    root, file, interval, strict=selection.strict, index=index
                ):
                    day = day_ns // DAY_NS if by_day else 0
                    key = record.contract_id, record.tick_type, day
                    streams.setdefault(key, []).append(totals)
    rows = [_row(*key, merge_totals(streams[key])) for key in sorted(streams)]
    return totals_frame(rows, by_day=by_day)


def _row(contract_id: int, tick_type: str, day: int, totals: TickTotals) -> dict[str, Any]:
    volume, notional = totals.volume, totals.notional
    return {
        "contract_id": contract_id,
        "tick_type": tick_type,
        "date": day,
        "ticks": totals.ticks,
        "first_tick": totals.first_ns,
        "last_tick": totals.last_ns,
        "min_price": totals.min_price,
        "max_price": totals.max_price,
        "volume": volume,
        "vwap": notional / volume if volume and notional is not None else None,
    }
