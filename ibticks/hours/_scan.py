"""Scan hour files as a polars ``LazyFrame``: read only what the query needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from ibticks._types import Interval
from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.hours._files import (
    ROOT,
    HourFileInfo,
    choose_columns,
    find_hour_files,
    parse_interval,
    read_columns,
)
from ibticks.storage import read_ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import tzinfo

    import polars as pl
    import pyarrow as pa

    from ibticks.calendar import TimeLike
    from ibticks.hours._files import Backfill, HourPaths

__all__ = ["scan_hours"]


def scan_hours(
    paths: HourPaths,
    *,
    columns: str | Sequence[str] | None = None,
    start: TimeLike | None = None,
    end: TimeLike | None = None,
    tz: str | tzinfo | None = None,
    strict: bool = False,
    backfill: Backfill = "exclude",
) -> pl.LazyFrame:
    """Scan hour files as a polars lazy frame, without a store, an index or a database.

    The headers are read at once, the ticks when the frame is collected: only the columns that the
    query uses, and only the files whose contract, tick type and hour its filters leave.

    Parameters
    ----------
    paths, columns, start, end, tz, strict, backfill
        As for :func:`ibticks.read_hours`.

    Returns
    -------
    polars.LazyFrame
        Sorted by time. ``collect(engine="streaming")`` holds some hours at a time.

    Raises
    ------
    NoStoreError, CorruptFileError, UnknownColumnError, NaiveDatetimeError, TimeRangeError
        As :func:`ibticks.read_hours`.

    Examples
    --------
    >>> import tempfile
    >>> import polars as pl
    >>> import ibticks as ibt
    >>> folder = tempfile.mkdtemp()
    >>> times = [1381239000 * 10**9, 1381242600 * 10**9]
    >>> with ibt.HourWriter(folder, 8314, "last") as writer:
    ...     writer.write(pl.DataFrame({"timestamp": times, "price": [179.8, 180.1]}))
    2
    >>> query = ibt.scan_hours(folder).filter(pl.col("price") > 180)
    >>> query.select("contract_id", "price").collect().rows()
    [(8314, 180.1)]
    """
    from ibticks.frames import scan

    interval = parse_interval(start, end, tz)
    hour_files = find_hour_files(paths, strict=strict, backfill=backfill)
    return scan(
        choose_columns(hour_files, columns), _HourBatches(hour_files.files, interval, strict)
    )


@dataclass(frozen=True, slots=True)
class _HourBatches:
    """Hour files as batches in the order of time; files that overlap make one batch."""

    files: tuple[HourFileInfo, ...]
    interval: Interval
    strict: bool

    def batches(
        self,
        columns: Sequence[str],
        *,
        start_ns: int | None,
        end_ns: int | None,
        contract_ids: frozenset[int] | None,
        tick_types: frozenset[str] | None,
    ) -> Iterator[pa.Table]:
        """Read the ticks that a query needs; see :class:`ibticks.frames._scan.TickSource`."""
        from ibticks.frames import to_table

        bounds = Interval(
            TIME_MIN if start_ns is None else start_ns, TIME_MAX if end_ns is None else end_ns
        )
        interval = self.interval.intersection(bounds)
        if interval is None:
            return
        files = [
            _measure(file, strict=self.strict)
            for file in self.files
            if (contract_ids is None or file.record.contract_id in (0, *contract_ids))
            and (tick_types is None or file.record.tick_type in ("", *tick_types))
        ]
        for group in _overlapping(files, interval):
            chunks = [
                chunk
                for _, stream_files in groupby(group, key=lambda file: file.stream)
                for chunk in read_columns(list(stream_files), columns, interval, strict=self.strict)
            ]
            yield to_table(chunks, columns)


def _measure(file: HourFileInfo, *, strict: bool) -> HourFileInfo:
    """Return a file with the interval of its times, which are read where the header lacks them."""
    if file.interval is not None:
        return file
    blocks = read_ticks(ROOT, [file.record], ["timestamp"], strict=strict)
    times = [block.timestamp for block in blocks if block.rows]
    if not times:
        return replace(file, interval=Interval(0, 0))
    first, last = (
        min(int(block_times.min()) for block_times in times),
        max(int(block_times.max()) for block_times in times),
    )
    return replace(file, interval=Interval(first, last + 1))


def _overlapping(files: Iterable[HourFileInfo], interval: Interval) -> Iterator[list[HourFileInfo]]:
    """Group the files that have ticks in an interval; the groups follow each other in time."""
    group: list[HourFileInfo] = []
    reach_ns = TIME_MIN
    placed = [(file.interval or interval, number, file) for number, file in enumerate(files)]
    for bounds, _, file in sorted(placed, key=lambda entry: entry[:2]):
        if bounds.intersection(interval) is None:
            continue
        if group and bounds.start_ns >= reach_ns:
            yield sorted(group, key=lambda entry: entry.stream)
            group = []
        group.append(file)
        reach_ns = max(reach_ns, bounds.end_ns)
    if group:
        yield sorted(group, key=lambda entry: entry.stream)
