"""Lazy frames of a selection of one stream: companions where they are fresh, and hour files."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ibticks._types import Interval
from ibticks.config import DAY_NS, TIME_MAX, TIME_MIN
from ibticks.selection._batches import HourlyBatches

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars as pl

    from ibticks.columns import CompanionScan, FileScan
    from ibticks.selection._selection import Selection

__all__ = ["lazy_scans"]


def lazy_scans(selection: Selection) -> list[pl.LazyFrame]:
    """Return lazy frames that follow each other in time; none if no companion is used.

    Of several streams the rows are merged by time, hour by hour, so that none is used.
    """
    is_one_stream = len(selection.contract_ids) == len(selection.tick_types) == 1
    if not selection.uses_companions or not is_one_stream or selection.backfill == "only":
        return []
    from ibticks.columns import CompanionScan

    scans = [scan for interval in selection.intervals for scan in _plan(selection, interval)]
    if not any(isinstance(scan, CompanionScan) for scan in scans):
        return []
    return list(_lazy_frames(selection, scans))


def _plan(selection: Selection, interval: Interval) -> list[CompanionScan | FileScan]:
    """Plan the load of one interval."""
    from ibticks.columns import FileScan, plan_scans

    index, scope = selection.index, (selection.contract_ids, selection.tick_types)
    days = _whole_days(interval)
    companions = index.companions(*scope, *days)
    if not companions:
        return [FileScan(interval)]
    files = [
        file
        for file in index.files(*scope, *days)
        if not file.backfilled or selection.backfill == "include"
    ]
    return plan_scans(selection.root, files, companions, interval)


def _lazy_frames(
    selection: Selection, scans: list[CompanionScan | FileScan]
) -> Iterator[pl.LazyFrame]:
    from ibticks.columns import CompanionScan
    from ibticks.frames import scan, scan_companions

    (tick_type,) = selection.tick_types
    read = partial(scan_companions, tick_type=tick_type, columns=selection.columns)

    pending: list[Path] = []  # one scan of all of them, from whose end polars takes a slice
    for step in scans:
        if isinstance(step, CompanionScan) and step.interval is None:
            pending.append(selection.root / step.path)
            continue
        if pending:
            yield read(pending)
            pending = []
        if isinstance(step, CompanionScan):
            start_ns, end_ns = step.interval or (None, None)
            yield read([selection.root / step.path], start_ns=start_ns, end_ns=end_ns)
        else:
            ticks = replace(selection, intervals=(step.interval,))
            yield scan(selection.columns, HourlyBatches(ticks))
    if pending:
        yield read(pending)


def _whole_days(interval: Interval) -> Interval:
    """Return the UTC days that meet an interval, as far as an int64 of nanoseconds holds them."""
    start_ns = max(interval.start_ns - interval.start_ns % DAY_NS, TIME_MIN)
    return Interval(start_ns, min(interval.end_ns + -interval.end_ns % DAY_NS, TIME_MAX))
