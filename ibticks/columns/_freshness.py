"""Freshness: which hours of a companion are still those of the hour files.

A companion is compared with the rows of the hour files in the index; no file is opened.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ibticks.columns._layout import CompanionKey, floor_day
from ibticks.config import DAY_NS
from ibticks.storage import FileKey

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ibticks.index import CompanionRecord, FileRecord, Index

__all__ = ["captured_files", "fresh_hours", "is_complete", "relink_companion"]


def captured_files(index: Index, key: CompanionKey) -> list[FileRecord]:
    """Return the captured files of the stream and day of a companion, by time."""
    start_ns, end_ns = key.day_ns, key.day_ns + DAY_NS
    return [
        record
        for record in index.files([key.contract_id], [key.tick_type], start_ns, end_ns)
        if not record.backfilled and floor_day(record.hour_ns) == key.day_ns
    ]


def fresh_hours(companion: CompanionRecord, files: Iterable[FileRecord]) -> frozenset[int]:
    """Return the hours of which a companion has the ticks as they are now.

    Parameters
    ----------
    companion : CompanionRecord
    files : iterable of FileRecord
        All captured files of its stream and day in the index.

    Returns
    -------
    frozenset of int
        Starts of the hours, UTC nanoseconds. Of an hour with two files, both are as they were.

    Examples
    --------
    >>> from ibticks.testing import make_companion_record, make_file_record
    >>> files = [
    ...     make_file_record(hour, path=f"1/last/2025/01/10/0{hour}_ticks.pb") for hour in (0, 1)
    ... ]
    >>> companion = make_companion_record(0, files)
    >>> len(fresh_hours(companion, files)), len(fresh_hours(companion, files[:1]))
    (2, 1)
    """
    recorded: dict[int, set[tuple[str, int, int]]] = {}
    for hour in companion.hours:
        key = FileKey.parse(hour.path)
        if key is not None and hour.rows is not None:
            recorded.setdefault(key.hour_ns, set()).add((hour.path, hour.size, hour.crc32c))
    current = _sealed_hours(files)
    return frozenset(hour for hour, state in recorded.items() if current.get(hour) == state)


def is_complete(companion: CompanionRecord, files: Iterable[FileRecord]) -> bool:
    """Return whether building a companion again would change nothing.

    It names every captured file of the hours that are sealed, as it is now, and no other.
    """
    recorded = {(hour.path, hour.size, hour.crc32c) for hour in companion.hours}
    return recorded == set().union(*_sealed_hours(files).values())


def _sealed_hours(files: Iterable[FileRecord]) -> dict[int, set[tuple[str, int, int]]]:
    """Return path, size and checksum of the captured files of each hour that is sealed."""
    hours: dict[int, set[tuple[str, int, int]]] = {}
    is_open = set()
    for file in files:
        if file.backfilled:
            continue
        if file.sealed and file.crc32c is not None:
            hours.setdefault(file.hour_ns, set()).add((file.path, file.size, file.crc32c))
        else:
            is_open.add(file.hour_ns)
    return {hour: state for hour, state in hours.items() if hour not in is_open}


def relink_companion(index: Index, before: FileRecord, after: FileRecord) -> None:
    """Record that a file was compressed: its companion has the same ticks as before.

    Parameters
    ----------
    index : Index
    before, after : FileRecord
        The file before and after; its compression was compared with it.
    """
    if after.crc32c is None:
        return
    day_ns = floor_day(before.hour_ns)
    companions = index.companions([before.contract_id], [before.tick_type], day_ns, day_ns + 1)
    for companion in companions:
        hours = tuple(
            replace(hour, size=after.size, crc32c=after.crc32c)
            if (hour.path, hour.size, hour.crc32c) == (before.path, before.size, before.crc32c)
            else hour
            for hour in companion.hours
        )
        if hours != companion.hours:
            index.put_companions([replace(companion, hours=hours)])
