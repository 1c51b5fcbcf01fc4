"""Plan a load of one stream: which times come from companions, and which from the hour files.

Every time of a load belongs to exactly one scan, so that no tick is read twice. The plan compares
rows of the index and looks at the companions on disk (``stat``); it opens no file.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ibticks._types import Interval, merge_intervals
from ibticks.columns._freshness import fresh_hours
from ibticks.columns._layout import floor_day
from ibticks.columns._reader import is_unchanged
from ibticks.config import DAY_NS, HOUR_NS
from ibticks.storage import FileKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ibticks.index import CompanionRecord, FileRecord

__all__ = ["CompanionScan", "FileScan", "Scan", "plan_scans"]


@dataclass(frozen=True, slots=True)
class CompanionScan:
    """Rows of a companion.

    Attributes
    ----------
    path : str
        Relative to the root.
    interval : Interval or None
        Times of the rows; None: all rows.
    """

    path: str
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class FileScan:
    """Ticks of hour files in an interval."""

    interval: Interval


Scan: TypeAlias = CompanionScan | FileScan


def plan_scans(
    root: Path,
    files: Sequence[FileRecord],
    companions: Sequence[CompanionRecord],
    interval: Interval,
) -> list[Scan]:
    """Plan the load of an interval of one stream.

    Parameters
    ----------
    root : Path
    files : sequence of FileRecord
        The files that the load may read, with all captured files of the UTC days that meet the
        interval.
    companions : sequence of CompanionRecord
        Companions of these days.
    interval : Interval

    Returns
    -------
    list of CompanionScan or FileScan
        In order of time; their times do not overlap.
    """
    by_day: dict[int, list[FileRecord]] = defaultdict(list)
    for file in files:
        by_day[floor_day(file.hour_ns)].append(file)
    usable = {
        companion.day_ns: (companion, fresh_hours(companion, by_day[companion.day_ns]))
        for companion in companions
        if is_unchanged(root, companion)
    }
    # Times of ticks that no companion has: those of the files of other hours.
    unserved = merge_intervals(
        _file_interval(file)
        for day_ns, day in by_day.items()
        for file in day
        if file.backfilled or day_ns not in usable or file.hour_ns not in usable[day_ns][1]
    )
    scans: list[Scan] = []
    covered_to = interval.start_ns
    for day_ns, (companion, fresh) in sorted(usable.items()):
        day = interval.intersection(Interval(day_ns, day_ns + DAY_NS))
        if day is None or not fresh:
            continue
        scans += _file_scans(unserved, covered_to, day.start_ns)
        scans += _day_scans(companion, fresh, by_day[day_ns], unserved, day)
        covered_to = day.end_ns
    scans += _file_scans(unserved, covered_to, interval.end_ns)
    return scans


def _day_scans(
    companion: CompanionRecord,
    fresh: frozenset[int],
    files: Sequence[FileRecord],
    unserved: Sequence[Interval],
    day: Interval,
) -> Iterator[Scan]:
    """Yield the scans of the day of a companion, within an interval."""
    keys = (FileKey.parse(hour.path) for hour in companion.hours)
    outdated = {key.hour_ns for key in keys if key is not None and key.hour_ns not in fresh}
    excluded = merge_intervals(
        clipped
        for times in (*unserved, *(Interval(hour, hour + HOUR_NS) for hour in outdated))
        if (clipped := day.intersection(times)) is not None
    )
    is_inside = all(day.start_ns <= file.start_ns and file.end_ns < day.end_ns for file in files)
    if not excluded and is_inside:
        yield CompanionScan(companion.path, None)
        return
    covered_to = day.start_ns
    for times in excluded:
        if covered_to < times.start_ns:
            yield CompanionScan(companion.path, Interval(covered_to, times.start_ns))
        yield from _file_scans(unserved, *times)
        covered_to = times.end_ns
    if covered_to < day.end_ns:
        yield CompanionScan(companion.path, Interval(covered_to, day.end_ns))


def _file_scans(unserved: Sequence[Interval], start_ns: int, end_ns: int) -> Iterator[FileScan]:
    """Yield the scan of hour files in an interval, if any of them may have ticks there."""
    interval = Interval(start_ns, end_ns)
    if any(interval.intersection(times) is not None for times in unserved):
        yield FileScan(interval)


def _file_interval(file: FileRecord) -> Interval:
    """Return the half-open interval of the ticks of a file: its hour, and its earliest and latest.

    An open file ends with its hour.
    """
    end_ns = file.hour_ns + HOUR_NS
    return Interval(
        min(file.start_ns, file.hour_ns), max(file.end_ns + 1, end_ns) if file.sealed else end_ns
    )
