"""Partitions of a selection: one file for a Dask worker, some hours for lazy frames and streams."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from ibticks._types import Interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from ibticks.index import FileRecord
    from ibticks.selection._selection import Selection

__all__ = [
    "WINDOW_TICKS",
    "FileLoader",
    "HourlyBatches",
    "group_by_hour",
    "group_by_stream",
    "overlaps",
    "slice_batches",
]

WINDOW_TICKS: Final = 1 << 20
"""Ticks that are read at once: enough for every thread, and some tens of megabytes."""


@dataclass(frozen=True, slots=True)
class FileLoader:
    """Load one file of a selection; sent to Dask workers."""

    root: Path
    strict: bool

    def __call__(
        self, partition: tuple[FileRecord, int, int], columns: tuple[str, ...]
    ) -> pa.Table:
        from ibticks.frames import to_table
        from ibticks.storage import read_ticks

        record, start_ns, end_ns = partition
        blocks = read_ticks(
            self.root,
            [record],
            [*columns, "timestamp"],
            start_ns=start_ns,
            end_ns=end_ns,
            strict=self.strict,
            threads=1,
        )
        return to_table(blocks, columns)


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
        start_ns: int | None,
        end_ns: int | None,
        contract_ids: frozenset[int] | None,
        tick_types: frozenset[str] | None,
    ) -> Iterator[pa.Table]:
        """Yield tables of whole hours; None stands for the bounds of the selection."""
        from ibticks.frames import to_table

        whole = self.selection
        narrowed = replace(
            whole,
            contract_ids=tuple(
                c for c in whole.contract_ids if contract_ids is None or c in contract_ids
            ),
            tick_types=tuple(t for t in whole.tick_types if tick_types is None or t in tick_types),
            intervals=tuple(_clipped(whole.intervals, start_ns, end_ns)),
        )
        if not (narrowed.contract_ids and narrowed.tick_types and narrowed.intervals):
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


def slice_batches(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.RecordBatch]:
    """Cut tables that follow each other into batches of so many rows; the last may have fewer."""
    import pyarrow as pa

    left: pa.Table | None = None
    for table in tables:
        left = table if left is None else pa.concat_tables([left, table])
        end = left.num_rows - left.num_rows % rows
        for start in range(0, end, rows):
            yield from left.slice(start, rows).combine_chunks().to_batches()
        left = left.slice(end)
    if left is not None and left.num_rows:
        yield from left.combine_chunks().to_batches()


def overlaps(record: FileRecord, start_ns: int, end_ns: int) -> bool:
    """Return whether a file may have ticks in an interval."""
    # The end of an open file is not known.
    return record.start_ns < end_ns and (not record.sealed or record.end_ns >= start_ns)


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
