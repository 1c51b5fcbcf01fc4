"""Read hour files into memory, or scan them as a polars ``LazyFrame`` that reads what it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ibticks._html import html_table
from ibticks._types import Interval
from ibticks.calendar import format_ns
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

    import pandas as pd
    import polars as pl
    import pyarrow as pa
    import xarray as xr

    from ibticks.calendar import TimeLike
    from ibticks.hours._files import Backfill, HourPaths
    from ibticks.schema import TickColumns

__all__ = ["HourTicks", "read_hours", "scan_hours"]


def read_hours(
    paths: HourPaths,
    *,
    columns: str | Sequence[str] | None = None,
    start: TimeLike | None = None,
    end: TimeLike | None = None,
    tz: str | tzinfo | None = None,
    strict: bool = False,
    backfill: Backfill = "exclude",
) -> HourTicks:
    """Read the ticks of hour files, without a store, an index or a database.

    Files may be open or sealed, plain or compressed, and of several contracts and tick types. An
    open file is read up to its last whole frame.

    Parameters
    ----------
    paths : path-like, str or iterable of them
        A file, a folder (with its subfolders), or a glob pattern such as
        ``"~/ticks/265598/last/2025/01/**/*_ticks.pb"``; or several of them.
    columns : str or sequence of str, optional
        By default those that the tick types of the files have.
    start, end : str, datetime, date, pandas.Timestamp, numpy.datetime64 or int, optional
        Half-open range of times, as for ``Store.select``. An int is UTC nanoseconds.
    tz : str or tzinfo, optional
        Zone of ``start`` and ``end``, if they have none.
    strict : bool
        Whether damaged data raises, instead of being left out with a warning.
    backfill : {"exclude", "include", "only"}
        Whether folders and globs stand for captured ticks, for backfilled ones, or for both. A file
        that is named by itself is read in any case.

    Returns
    -------
    HourTicks
        With ``to_arrow``, ``to_polars``, ``to_pandas`` and ``to_xarray``.

    Raises
    ------
    NoStoreError
        If a path does not exist, a folder has no hour file, or no file matches a pattern; a
        :class:`FileNotFoundError`.
    CorruptFileError
        If a file that is named by itself is no hour file; with ``strict``, at damaged data.
    UnknownColumnError
        Naming the columns that exist.
    NaiveDatetimeError, TimeRangeError
        If ``start`` or ``end`` cannot be used.
    StorageError
        If a file cannot be read.

    Warns
    -----
    CorruptDataWarning
        Naming the file and the range of times that are left out.

    Notes
    -----
    In a path of a store's layout (``265598/last/2025/01/10/14_ticks.pb``), the folders state the
    contract, the tick type and the hour, and a file whose header states others is left out as
    misplaced. Of any other path the header states the stream.

    A sealed file is read if it has the checksum of its header, else it is left out whole; of an
    open file the ticks before the damage are read.

    Examples
    --------
    >>> import tempfile
    >>> import polars as pl
    >>> import ibticks as ibt
    >>> folder = tempfile.mkdtemp()
    >>> frame = pl.DataFrame({"timestamp": [1381239000 * 10**9], "price": [179.8], "size": [100.0]})
    >>> with ibt.HourWriter(folder, 8314, "last") as writer:
    ...     writer.write(frame)
    1
    >>> ticks = ibt.read_hours(folder)
    >>> ticks
    HourTicks(1 tick, 1 file, 8314 last, 2013-10-08T13:30:00Z to 2013-10-08T13:30:00Z)
    >>> ticks.to_polars()["price"].to_list()
    [179.8]
    >>> len(ibt.read_hours(f"{folder}/8314/*/2013/**/*.pb", end="2013-10-08T13:30Z"))
    0
    """
    interval = parse_interval(start, end, tz)
    hour_files = find_hour_files(paths, strict=strict, backfill=backfill)
    names = choose_columns(hour_files, columns)
    return HourTicks(
        files=tuple(file.record.path for file in hour_files.files),
        contract_ids=hour_files.contract_ids,
        tick_types=hour_files.tick_types,
        columns=names,
        column_chunks=tuple(
            chunk
            for _, stream_files in groupby(hour_files.files, key=lambda file: file.stream)
            for chunk in read_columns(list(stream_files), names, interval, strict=strict)
        ),
        unreadable=hour_files.left_out,
    )


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class HourTicks:
    """Ticks of hour files, in memory.

    Made by :func:`ibticks.read_hours`.

    Attributes
    ----------
    files : tuple of str
        Paths of the files, by contract, tick type and time.
    contract_ids : tuple of int
    tick_types : tuple of str
    columns : tuple of str
        Columns of the frames, in their standard order.
    column_chunks : tuple of TickColumns
        Decoded columns, stream by stream, each in the order of its files.
    unreadable : tuple of str
        Files of a folder or glob whose headers cannot be read.
    """

    files: tuple[str, ...]
    contract_ids: tuple[int, ...]
    tick_types: tuple[str, ...]
    columns: tuple[str, ...]
    column_chunks: tuple[TickColumns, ...]
    unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(chunk.rows for chunk in self.column_chunks)

    @property
    def missing(self) -> tuple[Interval, ...]:
        """Intervals of UTC nanoseconds that could not be read."""
        return tuple(interval for chunk in self.column_chunks for interval in chunk.missing)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Files of which something, or everything, could not be read."""
        paths = [path for chunk in self.column_chunks for path in chunk.left_out]
        return tuple(dict.fromkeys([*self.unreadable, *paths]))

    def to_arrow(self) -> pa.Table:
        """Return an Arrow table, sorted by time.

        Its schema metadata names the files, and the intervals that are missing: see
        :func:`ibticks.frames.metadata_of`.
        """
        from ibticks.frames import to_table

        return to_table(self.column_chunks, self.columns, metadata=self._metadata())

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the ticks through the Arrow PyCapsule interface."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def to_polars(self) -> pl.DataFrame:
        """Return a polars frame, sorted by time."""
        from ibticks.frames import to_polars

        return to_polars(self.to_arrow())

    def to_pandas(self) -> pd.DataFrame:
        """Return a pandas frame, sorted by time, its rows numbered from 0."""
        from ibticks.frames import to_pandas

        return to_pandas(self.to_arrow())

    def to_xarray(self) -> xr.Dataset:
        """Return an xarray dataset along the dimension ``timestamp``."""
        from ibticks.frames import to_xarray

        return to_xarray(self.to_arrow())

    def _metadata(self) -> dict[str, Any]:
        from ibticks._version import __version__

        return {
            "files": list(self.files),
            "contract_ids": list(self.contract_ids),
            "tick_types": list(self.tick_types),
            "left_out": list(self.left_out),
            "writer": f"ibticks {__version__}",
        }

    def _times(self) -> str:
        times = [chunk.timestamp for chunk in self.column_chunks if chunk.rows]
        if not times:
            return "no time"
        first, last = (
            min(int(chunk_times.min()) for chunk_times in times),
            max(int(chunk_times.max()) for chunk_times in times),
        )
        return f"{format_ns(first)} to {format_ns(last)}"

    def _streams(self) -> str:
        contracts = ", ".join(map(str, self.contract_ids))
        return f"{contracts} {', '.join(self.tick_types)}".strip()

    def __repr__(self) -> str:
        words = [_count(len(self), "tick"), _count(len(self.files), "file")]
        words += [self._streams(), self._times()]
        if self.left_out:
            words.append(f"{_count(len(self.left_out), 'file')} damaged")
        return f"HourTicks({', '.join(words)})"

    def _repr_html_(self) -> str:
        rows = [
            ("ticks", f"{len(self):,}"),
            ("streams", self._streams()),
            ("time", self._times()),
            ("columns", ", ".join(self.columns)),
            ("files", f"{len(self.files):,}"),
        ]
        if self.left_out:
            rows.append(("damaged", ", ".join(self.left_out)))
        return html_table(rows, caption="ibticks HourTicks", row_headers=True)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


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
