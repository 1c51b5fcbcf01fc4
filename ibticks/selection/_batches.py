"""Partitions of a selection: one file for a Dask worker, some hours for lazy frames and streams."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from ibticks._types import Interval
from ibticks.config import HOUR_NS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import polars as pl
    import pyarrow as pa

    from ibticks.index import ArchivedCopy, FileRecord
    from ibticks.selection._selection import Selection

__all__ = [
    "WINDOW_TICKS",
    "HourlyBatches",
    "Partition",
    "PartitionLoader",
    "filter_rows",
    "group_by_hour",
    "group_by_stream",
    "narrow",
    "overlapping",
    "overlaps",
    "partition_by_file",
    "partition_by_hour",
]

WINDOW_TICKS: Final = 1 << 20
"""Ticks that are read at once: enough for every thread, and some tens of megabytes."""


@dataclass(frozen=True, slots=True)
class Partition:
    """Files whose ticks of an interval are read together, by one Dask worker.

    Attributes
    ----------
    files : tuple of FileRecord
    interval : Interval
        Half-open, in UTC nanoseconds.
    first_ns, after_ns : int
        Bounds of their ticks within the interval, half-open.
    """

    files: tuple[FileRecord, ...]
    interval: Interval
    first_ns: int
    after_ns: int


@dataclass(frozen=True, slots=True)
class PartitionLoader:
    """Loads one partition of a selection; sent to Dask workers.

    Attributes
    ----------
    root : Path
        The store's folder.
    strict : bool
        Whether damaged data raises.
    where : polars.Expr or None
        Filter of the rows.
    copies : mapping of str to ArchivedCopy
        Copies of the files that are in an object store only, by path.
    """

    root: Path
    strict: bool
    where: pl.Expr | None
    copies: Mapping[str, ArchivedCopy]

    def __call__(self, partition: Partition, columns: tuple[str, ...]) -> pa.Table:
        from ibticks.archive import local_files
        from ibticks.frames import to_table
        from ibticks.storage import read_ticks

        used = [*columns, *(() if self.where is None else self.where.meta.root_names())]
        start_ns, end_ns = partition.interval
        with local_files(self.root, partition.files, self.copies, start_ns, end_ns) as files:
            blocks = [
                block
                for stream in group_by_stream(files)
                for block in read_ticks(
                    self.root,
                    stream,
                    [*used, "timestamp"],
                    start_ns=start_ns,
                    end_ns=end_ns,
                    strict=self.strict,
                    threads=1,
                )
            ]
        table = to_table(blocks, used)
        return (table if self.where is None else filter_rows(table, self.where)).select(columns)


def filter_rows(table: pa.Table, where: pl.Expr) -> pa.Table:
    """Return the rows of a table for which a filter holds, with the types of the table."""
    from ibticks.frames import to_polars

    # By polars, but without the way back, which would not keep every type.
    return table.filter(to_polars(table).select(where).to_series().to_arrow())


def partition_by_file(
    files: Sequence[FileRecord], intervals: Sequence[Interval]
) -> list[Partition]:
    """Return a partition for each file and interval that meet, in the order of the files."""
    return [
        Partition((record,), interval, *_meeting([record], interval))
        for record, interval in overlapping(files, intervals)
    ]


def partition_by_hour(
    files: Sequence[FileRecord], intervals: Sequence[Interval]
) -> list[Partition]:
    """Return a partition for each hour and interval that meet: they follow each other in time."""
    partitions: list[Partition] = []
    for interval in intervals:
        for hour in group_by_hour(files, *interval):
            first_ns, after_ns = _meeting(hour, interval)
            if partitions and first_ns < partitions[-1].after_ns:
                # Ticks that are outside of the hour of their file.
                before = partitions.pop()
                hour = [*before.files, *hour]
                first_ns = min(first_ns, before.first_ns)
                after_ns = max(after_ns, before.after_ns)
            partitions.append(Partition(tuple(hour), interval, first_ns, after_ns))
    return partitions


def _meeting(files: Sequence[FileRecord], interval: Interval) -> tuple[int, int]:
    """Return the half-open bounds of the ticks of some files in an interval."""
    first_ns = min(min(record.start_ns, record.hour_ns) for record in files)
    after_ns = max(
        max(record.end_ns + 1, 0 if record.sealed else record.hour_ns + HOUR_NS) for record in files
    )
    return max(first_ns, interval.start_ns), min(after_ns, interval.end_ns)


@dataclass(frozen=True, slots=True)
class HourlyBatches:
    """Source of the batches of a selection: some hours of all its streams at a time.

    The first batch is one hour, so that ``head`` reads no more; each that follows has about twice
    the ticks of the one before, up to :data:`WINDOW_TICKS`.
    """

    selection: Selection

    def batches(
        self,
        columns: Sequence[str],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        contract_ids: frozenset[int] | None = None,
        tick_types: frozenset[str] | None = None,
    ) -> Iterator[pa.Table]:
        """Yield tables of whole hours; None stands for the bounds of the selection."""
        from ibticks.frames import to_table

        narrowed = narrow(
            self.selection,
            start_ns=start_ns,
            end_ns=end_ns,
            contract_ids=contract_ids,
            tick_types=tick_types,
        )
        if narrowed is None:
            return
        files = narrowed.files()
        ticks = 1
        for first, last in narrowed.intervals:
            hours = group_by_hour(files, first, last)
            while window := _window(hours, ticks):
                blocks = [
                    block
                    for stream in group_by_stream(window)
                    for block in narrowed.read_files(stream, [*columns, "timestamp"], first, last)
                ]
                rows = sum(block.rows for block in blocks)
                ticks = min(max(2 * rows, ticks), WINDOW_TICKS)
                table = to_table(blocks, columns)  # a polars frame carries no metadata
                del blocks
                yield table
                del table


def narrow(
    selection: Selection,
    *,
    start_ns: int | None = None,
    end_ns: int | None = None,
    contract_ids: frozenset[int] | None = None,
    tick_types: frozenset[str] | None = None,
) -> Selection | None:
    """Return the ticks of a selection within some bounds; None if there can be none."""
    narrowed = replace(
        selection,
        contract_ids=tuple(
            c for c in selection.contract_ids if contract_ids is None or c in contract_ids
        ),
        tick_types=tuple(t for t in selection.tick_types if tick_types is None or t in tick_types),
        intervals=tuple(_clipped(selection.intervals, start_ns, end_ns)),
    )
    if not (narrowed.contract_ids and narrowed.tick_types and narrowed.intervals):
        return None
    return narrowed


def overlaps(record: FileRecord, start_ns: int, end_ns: int) -> bool:
    """Return whether a file may have ticks in an interval."""
    # The end of an open file is not known.
    return record.start_ns < end_ns and (not record.sealed or record.end_ns >= start_ns)


def overlapping(
    files: Iterable[FileRecord], intervals: Sequence[Interval]
) -> Iterator[tuple[FileRecord, Interval]]:
    """Iterate over the files and the intervals that they may have ticks in, file by file."""
    for record in files:
        for interval in intervals:
            if overlaps(record, *interval):
                yield record, interval


def _clipped(
    intervals: Sequence[Interval], start_ns: int | None, end_ns: int | None
) -> Iterator[Interval]:
    for first, last in intervals:
        start = first if start_ns is None else max(first, start_ns)
        end = last if end_ns is None else min(last, end_ns)
        if start < end:
            yield Interval(start, end)


def _window(hours: Iterator[list[FileRecord]], ticks: int) -> list[FileRecord]:
    """Take hours until they have about so many ticks by the index; at least one, if one is left."""
    window: list[FileRecord] = []
    count = 0
    for hour in hours:
        window += hour
        count += sum(record.ticks for record in hour)
        if count >= ticks:
            break
    return window


def group_by_stream(files: Sequence[FileRecord]) -> Iterator[list[FileRecord]]:
    """Yield the files of each stream, by hour."""
    ordered = sorted(files, key=lambda r: (r.contract_id, r.tick_type, r.hour_ns, r.path))
    for _, stream in groupby(ordered, key=lambda r: (r.contract_id, r.tick_type)):
        yield list(stream)


def group_by_hour(
    files: Sequence[FileRecord], start_ns: int, end_ns: int
) -> Iterator[list[FileRecord]]:
    """Yield the files of each hour that meet an interval."""
    inside = [record for record in files if overlaps(record, start_ns, end_ns)]
    inside.sort(key=lambda r: (r.hour_ns, r.contract_id, r.tick_type, r.path))
    for _, hour in groupby(inside, key=lambda r: r.hour_ns):
        yield list(hour)
