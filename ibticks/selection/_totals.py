"""Totals of a selection, from the index where its files lie inside, else from their ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ibticks.config import DAY_NS
from ibticks.selection._batches import overlaps

if TYPE_CHECKING:
    import polars as pl

    from ibticks.selection._selection import Selection
    from ibticks.storage import TickTotals

__all__ = ["count_selected", "total_selected"]


def count_selected(selection: Selection) -> int:
    """Count the ticks of a selection."""
    from ibticks.storage import count_ticks

    return sum(
        count_ticks(
            selection.root, record, interval, strict=selection.strict, index=selection.index
        )
        for record in selection.files()
        for interval in selection.intervals
        if overlaps(record, *interval)
    )


def total_selected(selection: Selection, *, by_day: bool) -> pl.DataFrame:
    """Return the totals of a selection, one row a stream, or one a stream and UTC day."""
    from ibticks.frames import totals_frame
    from ibticks.storage import iter_totals, merge_totals

    streams: dict[tuple[int, str, int], list[TickTotals]] = {}
    for record in selection.files():
        for interval in selection.intervals:
            if not overlaps(record, *interval):
                continue
            for day_ns, totals in iter_totals(
                selection.root, record, interval, strict=selection.strict, index=selection.index
            ):
                key = record.contract_id, record.tick_type, day_ns // DAY_NS if by_day else 0
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
