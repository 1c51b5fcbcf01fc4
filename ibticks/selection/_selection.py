"""Selection: ticks of a store, described by contracts, tick types and intervals."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args

from ibticks._html import Html, html_table
from ibticks._types import Interval, StreamKey
from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.errors import InputError
from ibticks.schema import check_columns, list_columns
from ibticks.selection._batches import (
    WINDOW_TICKS,
    HourlyBatches,
    PartitionLoader,
    group_by_hour,
    group_by_stream,
    narrow,
    overlaps,
    partition_by_file,
    partition_by_hour,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Sequence
    from os import PathLike
    from pathlib import Path

    import pandas as pd
    import polars as pl
    import pyarrow as pa
    import xarray as xr

    from ibticks._types import StreamKeyLike
    from ibticks.coverage import Coverage
    from ibticks.index import FileRecord, Index, MemoryIndex
    from ibticks.schema import TickColumns
    from ibticks.selection._replay import Replay
    from ibticks.storage import ColumnCache

__all__ = ["Backfill", "Selection", "backfill_label", "check_backfill", "default_columns"]

_log = logging.getLogger(__name__)

Backfill: TypeAlias = Literal["exclude", "include", "only"]
"""Choice of captured ticks, backfilled ticks, or both."""

_BACKFILL_LABELS: Final[dict[Backfill, str]] = {
    "exclude": "",
    "include": ", with backfilled ticks",
    "only": ", backfilled ticks only",
}
_MAX_LISTED: Final = 3


@dataclass(frozen=True, repr=False)
class Selection:
    """Ticks of a store, described by contracts, tick types and intervals.

    Made by :meth:`ibticks.Store.select`. It is cheap and lazy: the index is queried and files are
    read each time it is turned into a frame. All frames have the same columns, in the same order,
    with the same dtypes, sorted by timestamp; equal timestamps keep the order of arrival.

    Attributes
    ----------
    contract_ids : tuple of int
    tick_types : tuple of str
    intervals : tuple of Interval
        Half-open ranges of UTC nanoseconds, in order, without overlaps.
    columns : tuple of str
        In their standard order.
    strict : bool
        Whether damaged data raises, instead of being left out with a warning.
    label : str
        Description of the selection.
    backfill : {"exclude", "include", "only"}
        Whether backfilled ticks are included. Their times are whole seconds; the column
        ``metadata`` has ``source: backfill``, and ``sequence`` is null.
    decoded : ColumnCache or None
        LRU cache of decoded columns.
    counts_from_clock : bool
        Whether the time range is relative to the clock, as in ``"1h"``: a load without ticks then
        logs which days are stored.
    explains_empty_loads : bool
        Whether a load without ticks logs which tick types the store has of the contracts, if it has
        none of those selected.
    uses_companions : bool
        Whether :meth:`lazy` reads columnar companions where they are fresh.
    """

    root: Path
    index: Index = field(compare=False)
    contract_ids: tuple[int, ...]
    tick_types: tuple[str, ...]
    intervals: tuple[Interval, ...]
    columns: tuple[str, ...]
    strict: bool = False
    label: str = ""
    backfill: Backfill = "exclude"
    decoded: ColumnCache | None = field(default=None, compare=False)
    counts_from_clock: bool = field(default=False, compare=False)
    explains_empty_loads: bool = field(default=True, compare=False)
    uses_companions: bool = field(default=False, compare=False)

    def files(self) -> list[FileRecord]:
        """List the files that may hold its ticks, by contract, tick type and hour."""
        by_path: dict[str, FileRecord] = {}
        for start_ns, end_ns in self.intervals:
            for record in self.index.files(self.contract_ids, self.tick_types, start_ns, end_ns):
                if self.backfill == "include" or record.backfilled == (self.backfill == "only"):
                    by_path[record.path] = record
        return sorted(
            by_path.values(), key=lambda r: (r.contract_id, r.tick_type, r.hour_ns, r.path)
        )

    def with_columns(self, *columns: str) -> Selection:
        """Return the selection with these columns only, ``stream_id`` and ``metadata`` included.

        Raises
        ------
        UnknownColumnError
            Listing the columns.
        InputError
            If there is none.
        """
        return replace(self, columns=_some_columns(columns))

    def count(self) -> int:
        """Count the ticks, from the index; only blocks that an interval cuts are read.

        Damage in a file that is not read is not noticed; ``ibticks verify`` lists it.
        """
        from ibticks.selection._totals import count_selected

        return count_selected(self)

    def describe(self) -> pl.DataFrame:
        """Summarize the ticks of each stream: number, times, range of prices, volume and VWAP.

        Hour files that lie inside the selection are answered from the index, without reading them;
        the others are read. Damage in a file that is not read is not noticed.

        Returns
        -------
        polars.DataFrame
            One row for each contract and tick type that has ticks. ``min_price`` and ``max_price``
            are those of ``price`` or ``mid_price``, or the lowest bid and the highest ask.
            ``volume`` and ``vwap`` are null except for trades, and equal sums over the frame up to
            rounding. Prices and sizes that are none of a trade or a quote do not count.

        Examples
        --------
        >>> import tempfile
        >>> import ibticks as ibt
        >>> from datetime import UTC, datetime, timedelta
        >>> import polars as pl
        >>> start = datetime(2025, 1, 10, 15, tzinfo=UTC)
        >>> trades = pl.DataFrame(
        ...     {
        ...         "timestamp": [start, start + timedelta(hours=2)],
        ...         "price": [187.0, 190.0],
        ...         "size": [200, 100],
        ...     }
        ... )
        >>> with ibt.open(tempfile.mkdtemp()) as store:
        ...     _ = store.write(trades, contract_id=265598, tick_type="last")
        ...     store.select(265598, "last").describe().row(0, named=True)["vwap"]
        188.0
        """
        from ibticks.selection._totals import total_selected

        return total_selected(self, by_day=False)

    def daily(self) -> pl.DataFrame:
        """Summarize the ticks of each stream and UTC day, as :meth:`describe` does.

        Returns
        -------
        polars.DataFrame
            The columns of :meth:`describe` and ``date``; days without ticks have no row.
        """
        from ibticks.selection._totals import total_selected

        return total_selected(self, by_day=True)

    def read(self) -> list[TickColumns]:
        """Read the ticks as numpy columns, stream by stream, each in the order of its files.

        Every frame is made of them; warnings and errors are those of :meth:`to_arrow`.
        """
        return self.read_streams(self.files(), self.decoded)

    def read_streams(
        self, files: Sequence[FileRecord], decoded: ColumnCache | None = None
    ) -> list[TickColumns]:
        """Read the ticks of some of its files, stream by stream, each in the order of its files."""
        return [
            block
            for stream in group_by_stream(files)
            for interval in self.intervals
            for block in self.read_files(
                [record for record in stream if overlaps(record, *interval)],
                [*self.columns, "timestamp"],
                *interval,
                decoded,
            )
        ]

    def to_arrow(self) -> pa.Table:
        """Load an Arrow table; its schema metadata has the selection and its coverage.

        Returns
        -------
        pyarrow.Table
            With the columns of the selection; :func:`ibticks.frames.arrow_type` has their types.

        Raises
        ------
        CorruptFileError
            With ``strict``, at damaged data.

        Warns
        -----
        CorruptDataWarning
            If damaged data was left out; has the missing time range.
        """
        from ibticks.frames import to_table

        table = to_table(self.read(), self.columns, metadata=self.metadata())
        if not table.num_rows and (self.counts_from_clock or self._is_of_other_tick_types()):
            _log.warning("0 ticks; %s", self.describe_stored())
        return table

    def iter_batches(
        self, rows: int | None = None, *, progress: bool | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Iterate over the ticks as Arrow record batches, in the memory of about a million ticks.

        The rows, their order and types are those of :meth:`to_arrow`; the categories
        of a batch are those of its rows.

        Parameters
        ----------
        rows : int, optional
            Rows of each batch, of which the last may have fewer. By default batches are as they are
            read, which copies nothing.
        progress : bool, optional
            Whether to show progress; by default in a terminal and in a notebook.

        Yields
        ------
        pyarrow.RecordBatch
            With at least one row. ``pl.from_arrow(batch)``, ``batch.to_pandas()`` and DuckDB take
            it.

        Raises
        ------
        InputError
            If ``rows`` is not positive.
        CorruptFileError
            With ``strict``, at damaged data.

        Warns
        -----
        CorruptDataWarning
            As :meth:`to_arrow`, when the damage is met.

        Examples
        --------
        The traded volume of years, in bounded memory::

            volume = sum(
                pc.sum(batch["size"]).as_py()
                for batch in store.select("AAPL", "last").with_columns("size").iter_batches()
            )
        """
        if rows is not None and rows < 1:
            raise InputError(f"rows={rows}: give the number of rows of a batch, at least 1")
        return self._batches(rows, show_progress=progress)

    def _batches(
        self, rows: int | None, *, show_progress: bool | None
    ) -> Generator[pa.RecordBatch, None, None]:
        from ibticks._progress import progress_bar
        from ibticks.frames import slice_batches

        total = sum(record.ticks for record in self.files())
        with progress_bar(f"reading {self.label}", total, show=show_progress) as advance:
            for batch in slice_batches(self._tables(), rows):
                yield batch
                advance(batch.num_rows)

    def _tables(self) -> Iterator[pa.Table]:
        """Yield the ticks in tables of some hours each, without metadata."""
        return HourlyBatches(self).batches(self.columns)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the ticks through the Arrow PyCapsule interface.

        More ticks than :meth:`iter_batches` reads at once are read as the stream is consumed.
        """
        from ibticks.frames import batch_stream, to_table

        if sum(record.ticks for record in self.files()) <= WINDOW_TICKS:
            return self.to_arrow().__arrow_c_stream__(requested_schema)
        schema = to_table([], self.columns, metadata=self.metadata()).schema
        reader = batch_stream(self._tables(), schema)
        return reader.__arrow_c_stream__(requested_schema)

    def to_polars(self) -> pl.DataFrame:
        """Load a polars frame; warnings and errors are those of :meth:`to_arrow`."""
        from ibticks.frames import to_polars

        return to_polars(self.to_arrow())

    async def to_polars_async(self) -> pl.DataFrame:
        """Load a polars frame as :meth:`to_polars` does, without blocking the event loop.

        It runs in a thread. Cancellation takes effect at once; the thread reads to the end, and its
        frame is dropped.

        Examples
        --------
        >>> import asyncio, tempfile
        >>> import ibticks as ibt
        >>> import polars as pl
        >>> frame = pl.DataFrame(
        ...     {"timestamp": ["2025-01-10T14:30:00Z"], "price": [240.01], "size": [100.0]}
        ... )
        >>> with ibt.open(tempfile.mkdtemp()) as store:
        ...     _ = store.write(frame, contract_id=265598, tick_type="last")
        ...     asyncio.run(store.select(265598, "last").to_polars_async()).height
        1
        """
        return await asyncio.to_thread(self.to_polars)

    def replay(self, speed: float = 1.0) -> Replay:
        """Iterate over the ticks at the pace at which they came, for ``for`` and ``async for``.

        Code that reads live ticks runs on stored ones in this way. Ticks are as far apart as their
        times are, divided by the speed; the time before the first tick and between two intervals
        is left out. A reader that takes longer than the ticks gets more of them at once.

        Parameters
        ----------
        speed : float
            Seconds of the ticks in a second of the replay; ``math.inf`` for no waiting.

        Returns
        -------
        Replay
            An iterator over polars frames, each with the ticks that are due, at least one. Together
            they have the rows of :meth:`iter_batches`, in the memory of about a million ticks.

        Raises
        ------
        InputError
            If the speed is not above zero.

        Examples
        --------
        >>> import tempfile
        >>> import ibticks as ibt
        >>> import polars as pl
        >>> times = ["2025-01-10T14:30:00Z", "2025-01-10T14:30:05Z"]
        >>> frame = pl.DataFrame({"timestamp": times, "price": [240.0, 240.5], "size": [1.0, 1.0]})
        >>> with ibt.open(tempfile.mkdtemp()) as store:
        ...     _ = store.write(frame, contract_id=265598, tick_type="last")
        ...     replay = store.select(265598, "last").replay(speed=100)
        ...     [ticks["price"].to_list() for ticks in replay]
        [[240.0], [240.5]]
        """
        from ibticks.selection._replay import Replay

        return Replay(self, speed)

    def tail(self, n: int = 5) -> pl.DataFrame:
        """Load the last ``n`` ticks, without reading what is before them.

        Of sealed hours only the blocks with these ticks are read. An hour that is being written has
        no table of blocks yet and is read whole.

        Parameters
        ----------
        n : int
            Number of ticks; all if there are fewer.

        Returns
        -------
        polars.DataFrame
            The rows that :meth:`to_polars` ends with.

        Raises
        ------
        InputError
            If ``n`` is negative.
        CorruptFileError
            With ``strict``, at damaged data in what is read.

        Examples
        --------
        >>> import tempfile
        >>> from datetime import UTC, datetime, timedelta
        >>> import ibticks as ibt
        >>> import polars as pl
        >>> start = datetime(2025, 1, 10, 15, tzinfo=UTC)
        >>> mids = pl.DataFrame(
        ...     {
        ...         "timestamp": [start + timedelta(hours=hour) for hour in range(3)],
        ...         "mid_price": [187.0, 190.0, 189.5],
        ...     }
        ... )
        >>> with ibt.open(tempfile.mkdtemp()) as store:
        ...     _ = store.write(mids, contract_id=265598, tick_type="mid_point")
        ...     store.select(265598).tail(2)["mid_price"].to_list()
        [190.0, 189.5]
        """
        from ibticks.frames import to_polars
        from ibticks.selection._tail import read_tail

        if n < 0:
            raise InputError(f"n={n} ticks cannot be loaded: give 0 or more")
        return to_polars(read_tail(self, n))

    def to_pandas(self) -> pd.DataFrame:
        """Load a pandas frame, rows numbered from 0; ``df.attrs["ibticks"]`` has the metadata.

        Warnings and errors are those of :meth:`to_arrow`.
        """
        from ibticks.frames import to_pandas

        return to_pandas(self.to_arrow())

    def to_xarray(self) -> xr.Dataset:
        """Load an xarray dataset along one dimension; warnings and errors as :meth:`to_arrow`."""
        from ibticks.frames import to_xarray

        return to_xarray(self.to_arrow())

    def lazy(self) -> pl.LazyFrame:
        """Return a polars lazy frame that pushes filters, columns and ``head`` down to the files.

        Of one stream, sealed hours come from columnar companions where these are fresh
        (:meth:`ibticks.Store.build_companions`): polars scans them itself, so that slices from
        either end, ``max``, ``len`` and ``top_k`` are pushed down, too, and ``explain`` shows it.
        The companions are chosen now; one that is deleted before the query is collected makes it
        raise :class:`FileNotFoundError`.

        Examples
        --------
        A query over years reads only the hours, the blocks and the columns it needs::

            (
                store.select("AAPL", "last")
                .lazy()
                .filter(pl.col("timestamp") >= datetime(2025, 1, 10, 15, tzinfo=UTC))
                .group_by_dynamic("timestamp", every="1m")
                .agg(pl.col("size").sum())
                .collect()
            )
        """
        from ibticks.frames import concat_scans, scan
        from ibticks.selection._companion_scans import lazy_scans

        self._symbols()
        scans = lazy_scans(self)
        return concat_scans(scans) if scans else scan(self.columns, HourlyBatches(self))

    def write_parquet(self, path: str | PathLike[str]) -> int:
        """Write the ticks to a Parquet file, some hours at a time, with all types and metadata.

        Parameters
        ----------
        path : path-like
            Replaced once the new file is complete.

        Returns
        -------
        int
            Number of ticks written.

        Raises
        ------
        StorageFullError, StoreAccessError, StorageError
            If the file cannot be written.
        CorruptFileError
            With ``strict``, at damaged data.

        Warns
        -----
        CorruptDataWarning
            As :meth:`to_arrow`.
        """
        return self._write(path, "parquet")

    def write_csv(self, path: str | PathLike[str]) -> int:
        """Write the ticks to a CSV file, some hours at a time; as :meth:`write_parquet`.

        Times are ISO 8601 in UTC to the nanosecond, conditions are joined by ``;`` and the column
        ``metadata`` is JSON. ``ibticks import`` reads the file again.
        """
        return self._write(path, "csv")

    def write_ipc(self, path: str | PathLike[str]) -> int:
        """Write the ticks to an Arrow (Feather) file; as :meth:`write_parquet`.

        The rows pass through an intermediate file in the same folder.
        """
        return self._write(path, "ipc")

    def _write(self, path: str | PathLike[str], kind: Literal["csv", "ipc", "parquet"]) -> int:
        from ibticks.filesystem import expand_home, written_beside
        from ibticks.frames import write_tables

        target = expand_home(path)
        with written_beside(target) as descriptor, open(descriptor, "w+b", closefd=False) as file:
            return write_tables(
                self._tables(),
                self.columns,
                file,
                kind,
                metadata=self.metadata(),
                scratch=target.parent,
            )

    def to_dask(
        self, *, where: pl.Expr | None = None, index: Literal["timestamp"] | None = None
    ) -> Any:
        """Return a Dask frame; its workers need the store's folder, and no index.

        Parameters
        ----------
        where : polars.Expr, optional
            Filter of the rows. Bounds of ``timestamp``, ``contract_id`` and ``tick_type`` leave out
            files and blocks, as in :meth:`lazy`.
        index : {"timestamp"}, optional
            Index of the frame, in order of time: one partition for each hour of all streams, with
            known divisions, so that ``.loc``, joins and ``map_overlap`` of a duration work. By
            default one partition for each file, each with its ``RangeIndex``.

        Returns
        -------
        dask.dataframe.DataFrame
            See :func:`ibticks.frames.to_dask`.

        Raises
        ------
        MissingExtraError
            If Dask is not installed.
        UnknownColumnError
            If ``where`` names a column that ticks do not have.
        InputError
            For another ``index``.

        Examples
        --------
        The spread of each hour, by several processes::

            with dask.distributed.Client():
                quotes = store.select("AAPL", "bid_ask").to_dask(index="timestamp")
                spread = quotes["ask_price"] - quotes["bid_price"]
                spread.groupby(spread.index.floor("1h")).mean().compute()
        """
        from ibticks.archive import find_copies
        from ibticks.frames import parse_bounds, to_dask

        if index not in (None, "timestamp"):
            raise InputError(f"index={index!r}: a Dask frame has the index 'timestamp', or None")
        narrowed: Selection | None = self
        if where is not None:
            check_columns(tuple(where.meta.root_names()))
            narrowed = narrow(self, **asdict(parse_bounds(where)))
        partitions = []
        copies = {}
        if narrowed is not None:
            files = narrowed.files()
            divide = partition_by_file if index is None else partition_by_hour
            partitions = divide(files, narrowed.intervals)
            copies = find_copies(self.root, self.index, files)
        return to_dask(
            partitions,
            PartitionLoader(self.root, self.strict, where, copies),
            self.columns,
            times=None
            if index is None
            else [Interval(value.first_ns, value.after_ns) for value in partitions],
        )

    def messages(self, *, ticks: bool = False) -> Iterator[dict[str, Any]]:
        """Iterate over the error, info and complete messages, as v2 JSON dictionaries.

        Parameters
        ----------
        ticks : bool
            Whether to include ticks.

        Yields
        ------
        dict
            ``type``, ``stream_id``, ``timestamp``, ``data`` and maybe ``metadata``; by time.
        """
        from ibticks.archive import find_copies, local_files
        from ibticks.storage import read_messages

        files = self.files()
        for start_ns, end_ns in self.intervals:
            for hour in group_by_hour(files, start_ns, end_ns):
                copies = find_copies(self.root, self.index, hour)
                with local_files(self.root, hour, copies, start_ns, end_ns) as local:
                    messages = list(
                        read_messages(
                            self.root,
                            local,
                            start_ns=start_ns,
                            end_ns=end_ns,
                            ticks=ticks,
                            strict=self.strict,
                            index=self.index,
                        )
                    )
                messages.sort(key=lambda pair: pair[0])
                for _, message in messages:
                    yield message

    def describe_stored(self, remedy: str = "now='last_tick'") -> str:
        """Describe the days the store has of the streams selected, for an empty load.

        Parameters
        ----------
        remedy : str
            Argument or option that makes times relative to the last tick.

        Examples
        --------
        ``IBM bid_ask has 2013-10-08 to 2013-10-09; now='last_tick' counts back from there``
        """
        days: dict[StreamKey, list[str]] = {}
        for day in self.index.daily_stats(self.contract_ids, self.tick_types):
            if day.ticks:
                days.setdefault(StreamKey(day.contract_id, day.tick_type), []).append(day.date)
        symbols = self._symbols()
        if not days:
            stored = {
                f"{symbols.get(day.contract_id, day.contract_id)} {day.tick_type}": None
                for day in self.index.daily_stats(self.contract_ids)
                if day.ticks
            }
            others = f"; the store has {', '.join(list(stored)[:_MAX_LISTED])}" if stored else ""
            return f"nothing is stored of {self.label}{others}"
        extents = [
            f"{symbols.get(contract_id, contract_id)} {tick_type} has {min(dates)}"
            + (f" to {max(dates)}" if len(dates) > 1 else "")
            for (contract_id, tick_type), dates in list(days.items())[:_MAX_LISTED]
        ]
        if len(days) > _MAX_LISTED:
            extents.append(f"{len(days) - _MAX_LISTED} more streams have others")
        return f"{', '.join(extents)}; {remedy} counts back from there"

    def _is_of_other_tick_types(self) -> bool:
        """Return whether the store has ticks of the contracts, and none of the tick types."""
        return (
            type(self) is Selection  # a buffer may be read before its first tick
            and self.explains_empty_loads
            and not self.index.files(self.contract_ids, self.tick_types)
            and bool(self.index.files(self.contract_ids))
        )

    def coverage(self, streams: Collection[StreamKeyLike] | None = None) -> Coverage:
        """Return what was captured of the selection and what was not, with reasons.

        Parameters
        ----------
        streams : collection of StreamKey, optional
            Only these; tuples of contract id and tick type stand for keys.

        Returns
        -------
        Coverage
            In a notebook a picture; printed, a report. Time later than now is left out.
        """
        from ibticks.coverage import query_coverage

        return query_coverage(
            self.root,
            self.index,
            [stream for stream in self.streams() if streams is None or stream in streams],
            self.intervals,
            label=self.label,
        )

    def streams(self) -> list[StreamKey]:
        """Return the pairs of its contracts and tick types, whether anything is stored or not."""
        return [
            StreamKey(contract_id, tick_type)
            for contract_id in self.contract_ids
            for tick_type in self.tick_types
        ]

    def read_files(
        self,
        records: Sequence[FileRecord],
        columns: Sequence[str],
        start_ns: int,
        end_ns: int,
        decoded: ColumnCache | None = None,
    ) -> list[TickColumns]:
        """Read the ticks of some of its files in an interval, as numpy columns."""
        from ibticks.archive import find_copies, local_files
        from ibticks.storage import read_cached_ticks, read_ticks

        read = read_ticks if decoded is None else partial(read_cached_ticks, cache=decoded)
        copies = find_copies(self.root, self.index, records)
        with local_files(self.root, records, copies, start_ns, end_ns) as files:
            return read(
                self.root,
                files,
                columns,
                start_ns=start_ns,
                end_ns=end_ns,
                strict=self.strict,
                index=self.index,
            )

    def metadata(self) -> dict[str, Any]:
        """Return the selection and its coverage, as the schema metadata of its frames have them."""
        from ibticks._version import __version__
        from ibticks.coverage import coverage_metadata

        return {
            "selection": self.label,
            "contract_ids": list(self.contract_ids),
            "symbols": self._symbols(),
            "tick_types": list(self.tick_types),
            "intervals": [[_text(start), _text(end)] for start, end in self.intervals],
            "backfill": self.backfill,
            "coverage": coverage_metadata(self.root, self.index, self.streams(), self.intervals),
            "writer": f"ibticks {__version__}",
        }

    def _symbols(self) -> dict[int, str]:
        """Return the symbols of its contracts, which titles of frames made from it then use."""
        from ibticks.frames import remember_symbols

        wanted = set(self.contract_ids)
        known = (contract for contract in self.index.contracts() if contract.contract_id in wanted)
        symbols = {value.contract_id: value.symbol for value in known if value.symbol}
        remember_symbols(symbols)
        return symbols

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the selection with what its index has of it, which needs no database."""
        values = {value.name: getattr(self, value.name) for value in fields(self)}
        # What the index does not have here, it might have there.
        values |= {"decoded": None, "counts_from_clock": False, "explains_empty_loads": False}
        return _restored, (values | {"index": self._index_snapshot()},)

    def _index_snapshot(self) -> MemoryIndex:
        from ibticks.archive import find_copies
        from ibticks.index import MemoryIndex

        if not self.intervals:
            return MemoryIndex()
        wanted = frozenset(self.contract_ids)
        scope = (self.contract_ids, self.tick_types)
        ends = (self.intervals[0].start_ns, self.intervals[-1].end_ns)
        files = self.index.files(*scope, *ends)
        return MemoryIndex(
            files,
            (value for value in self.index.contracts() if value.contract_id in wanted),
            self.index.coverage(*scope),
            self.index.companions(*scope, *ends),
            find_copies(self.root, self.index, files).values(),
        )

    def __copy__(self) -> Selection:
        """Return the selection itself, which does not change."""
        return self

    def __deepcopy__(self, memo: object) -> Selection:
        """Return the selection itself."""
        return self

    def __str__(self) -> str:
        return self.label

    def __repr__(self) -> str:
        intervals = [
            f"{_text(start)} to {_text(end)}" for start, end in self.intervals[:_MAX_LISTED]
        ]
        more = ["…"] if len(self.intervals) > _MAX_LISTED else []
        return f"<Selection {self.label}: {', '.join([*intervals, *more]) or 'no time'}>"

    def _repr_html_(self) -> str:
        files = self.files()
        size = sum(record.size for record in files)
        shown = [f"{_text(start)} to {_text(end)}" for start, end in self.intervals[:_MAX_LISTED]]
        if len(self.intervals) > _MAX_LISTED:
            shown.append(f"and {len(self.intervals) - _MAX_LISTED} more")
        rows: dict[str, str] = {
            "what": self.label,
            "contracts": ", ".join(map(str, self.contract_ids)),
            "tick types": ", ".join(self.tick_types),
            "time": Html("<br>".join(map(escape, shown))),
            "will read": f"{len(files):,} files, up to {size / 1e6:,.1f} MB and "
            f"{sum(record.messages for record in files):,} messages",
            "columns": ", ".join(self.columns),
        }
        return html_table(rows.items(), caption="ibticks Selection", row_headers=True)


def _restored(values: dict[str, Any]) -> Selection:
    return Selection(**values)


def check_backfill(backfill: str) -> Backfill:
    """Return a checked choice of backfilled ticks.

    Raises
    ------
    InputError
        Listing the choices.
    """
    if backfill not in get_args(Backfill):
        raise InputError(
            f"backfill={backfill!r}: use 'exclude' for captured ticks only, 'include' for those "
            "requested from IB's history too, or 'only' for those alone"
        )
    return cast("Backfill", backfill)


def backfill_label(backfill: Backfill) -> str:
    """Return the suffix of a description for a choice of backfilled ticks."""
    return _BACKFILL_LABELS[backfill]


def default_columns(
    tick_types: Sequence[str], columns: str | Sequence[str] | None
) -> tuple[str, ...]:
    """Return the checked columns, by default those of the tick types.

    Raises
    ------
    UnknownColumnError
        Listing the columns.
    InputError
        If the list is empty.
    """
    if columns is None:
        return list_columns(tuple(tick_types))
    return _some_columns((columns,) if isinstance(columns, str) else tuple(columns))


def _some_columns(columns: tuple[str, ...]) -> tuple[str, ...]:
    if not columns:
        raise InputError(
            "no column is given: name some, or leave columns out for those the ticks have"
        )
    return check_columns(columns)


def _text(ns: int) -> str:
    from ibticks.calendar import format_ns

    if ns in (TIME_MIN, TIME_MAX):
        return "the beginning" if ns == TIME_MIN else "the end"
    return format_ns(ns)
