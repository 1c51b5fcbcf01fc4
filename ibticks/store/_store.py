"""Store: a root folder of tick files, and the index of these files."""

from __future__ import annotations

import logging
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ibticks._async import in_thread
from ibticks._types import Interval, StreamKey
from ibticks.config import CACHE_BYTES, QUERY_TIMEOUT_SECONDS
from ibticks.errors import (
    ArchiveError,
    IndexAwayWarning,
    IndexUnavailableError,
    InputError,
    MissingExtraError,
    StoreAccessError,
)
from ibticks.index import ContractRecord
from ibticks.schema import check_contract_id
from ibticks.selection import (
    DEFAULT_MARKET,
    Contents,
    contents_table,
    default_columns,
    format_label,
)
from ibticks.storage import list_paths, metadata_folder
from ibticks.store._maintenance import (
    archived_paths,
    keep_sessions,
    older_files,
    rebuild_index,
)
from ibticks.store._reader import StoreReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta, tzinfo
    from types import TracebackType
    from typing import Self, SupportsIndex

    import polars as pl

    from ibticks._types import CompressionLike, TickTypeLike, TickTypes
    from ibticks.archive import ArchiveReport
    from ibticks.calendar import TimeLike
    from ibticks.config import ColumnsSetting
    from ibticks.coverage import FeedState
    from ibticks.index import CompanionRecord, FileRecord, JournaledIndex
    from ibticks.live import Buffer, BufferCache, Live, Policy
    from ibticks.storage import FileKey, Finding, Findings, StreamWriter
    from ibticks.store._deletion import Deletion
    from ibticks.store._frame_writer import Duplicates

__all__ = ["Contents", "Store"]

_CATALOGUE_INTERVAL_SECONDS: Final = 30.0

_log = logging.getLogger(__name__)


class Store(StoreReader):
    """A root folder of tick files and its index.

    Made by :func:`ibticks.open`; a context manager. Files are the truth: a lost index is rebuilt
    from them (:meth:`rebuild_index`).

    Attributes
    ----------
    root : Path
    index : JournaledIndex
    columns : {"auto", "off"}
        Whether columnar companions are read, and are built by :meth:`compress` and by captures.
    """

    def __init__(
        self,
        root: Path,
        index: JournaledIndex,
        cache: int = CACHE_BYTES,
        columns: ColumnsSetting = "auto",
    ) -> None:
        super().__init__(root, index, cache, uses_companions=columns != "off")
        self.root: Final = root
        self.index: Final = index
        self.columns: Final = columns
        self._kept_buffers: BufferCache | None = None
        self._catalogue_written = time.monotonic()
        self._changed = False

    def live(
        self,
        contracts: int | str | Sequence[int | str],
        tick_types: TickTypes | None = None,
        buffer: TimeLike | timedelta | None = None,
        *,
        market: str = DEFAULT_MARKET,
        tz: str | tzinfo | None = None,
        now: TimeLike | None = None,
        columns: str | Sequence[str] | None = None,
        window: str | timedelta | None = None,
        window_rows: int = 500_000,
        delay: float = 0.005,
        policy: Policy = "all",
        most_waiting: int = 10_000,
        markers: bool = True,
        resume: str | None = None,
    ) -> Live:
        """Stream ticks: stored ones from a buffer, then live ones, without gap or duplicate.

        Ticks are read from the files, whichever process writes them.

        Parameters
        ----------
        contracts : int, str or a sequence of them
            Contract ids or symbols. An id need not be in the store yet.
        tick_types : str or sequence of str, optional
            All that are stored by default.
        buffer : str, timedelta or time, optional
            Stored ticks that come first: a period (``"1h"``, ``"2h30m"``, ``"last_hour"``,
            ``"today"``, ``"since_open"``), a session type of ``market`` (``"regular"``: since it
            opened), or a time. By default none.
        market : str
            ``US``, ``UK``, ``JP``, ``CME`` or the name of any calendar.
        tz : str or tzinfo, optional
            Zone of naive times, and of ``today``.
        now : optional
            Time that replaces the clock; ``"last_tick"`` as in :meth:`select`.
        columns : str or sequence of str, optional
            Columns of the frames; by default those of the tick types.
        window : str or timedelta, optional
            Length of the window of :meth:`~ibticks.live.Live.frame`, back from its last tick.
        window_rows : int
            Maximum number of ticks in that window.
        delay : float
            Seconds that a tick may wait, so that several streams are merged by time.
        policy : {"all", "latest"}
            Whether a slow reader gets every tick, or ticks are dropped and counted.
        most_waiting : int
            With ``latest``, maximum number of live ticks in the queue.
        markers : bool
            Whether to yield ``info`` messages ``buffer_start``, ``buffer_complete`` and
            ``live_start`` among the ticks.
        resume : str, optional
            Resume token, the :attr:`~ibticks.live.Live.position` of another stream of the same
            contracts and tick types. Instead of ``buffer``.

        Returns
        -------
        Live

        Raises
        ------
        UnknownContractError, AmbiguousContractError
            With the candidates.
        UnknownTickTypeError, UnknownColumnError, UnknownPeriodError, UnknownMarketError
            Listing the valid values.
        NaiveDatetimeError
            For a time without a zone, where ``tz`` is not given.
        InputError
            If an option is invalid, or ``resume`` is no position in these streams.

        Examples
        --------
        >>> import tempfile
        >>> import ibticks as ibt
        >>> import polars as pl
        >>> frame = pl.DataFrame(
        ...     {"timestamp": ["2025-01-10T14:30:00Z"], "price": [240.01], "size": [100.0]}
        ... )
        >>> with ibt.open(tempfile.mkdtemp()) as store:
        ...     _ = store.write(frame, contract_id=265598, tick_type="last")
        ...     with store.live(265598, "last", "1h", now="last_tick") as live:
        ...         [message["type"] for _, message in zip(range(4), live)]
        ['info', 'tick', 'info', 'info']
        """
        from ibticks.calendar import parse_duration
        from ibticks.live import Live, LiveOptions, resolve_buffer

        ids = self._resolver.contract_ids_or_new(contracts)
        types = self._resolver.tick_types(ids, tick_types)
        start_ns, suffix = None, ""
        if buffer is not None and resume is not None:
            raise InputError("buffer and resume both say where to begin: keep one of them")
        if buffer is not None:
            now_ns = self._resolver.now_ns(now, tz, ids, types)
            start_ns, description = resolve_buffer(buffer, now_ns, market=market, tz=tz)
            suffix = f", {description}"
        chosen = frozenset(ids)
        return Live(
            self.root,
            [StreamKey(contract_id, tick_type) for contract_id in ids for tick_type in types],
            default_columns(types, columns),
            start_ns,
            label=format_label(contracts, types, suffix),
            symbols={
                record.contract_id: record.symbol
                for record in self.contracts()
                if record.contract_id in chosen
            },
            resume=resume,
            options=LiveOptions(
                delay=delay,
                policy=policy,
                most_waiting=most_waiting,
                window_rows=window_rows,
                window_ns=None if window is None else parse_duration(window),
                markers=markers,
            ),
            index=self.index,
        )

    def buffer(
        self,
        contracts: int | str | Sequence[int | str],
        tick_types: TickTypes | None = None,
        buffer: TimeLike | timedelta = "1h",
        *,
        market: str = DEFAULT_MARKET,
        tz: str | tzinfo | None = None,
        now: TimeLike | None = None,
        columns: str | Sequence[str] | None = None,
        strict: bool = False,
    ) -> Buffer:
        """Select the latest ticks for repeated loads: each tick is decoded once.

        Errors are those of :meth:`live` and :meth:`select`.

        Parameters
        ----------
        contracts, tick_types
            As in :meth:`select`.
        buffer : str, timedelta or time
            Time before now: a period (``"30m"``, ``"2h30m"``, ``"last_hour"``, ``"today"``,
            ``"since_open"``), a session type of ``market`` (``"regular"``: since it opened), or a
            time.
        market, tz, now, columns, strict
            As in :meth:`select`.

        Returns
        -------
        Buffer
            A selection; :meth:`~ibticks.live.Buffer.stats` describes its content.

        Examples
        --------
        >>> import tempfile
        >>> import ibticks as ibt
        >>> import polars as pl
        >>> frame = pl.DataFrame(
        ...     {"timestamp": ["2025-01-10T14:30:00Z"], "price": [240.01], "size": [100.0]}
        ... )
        >>> with ibt.open(tempfile.mkdtemp()) as store:
        ...     _ = store.write(frame, contract_id=265598, tick_type="last")
        ...     store.buffer(265598, "last", "30m", now="last_tick").stats().by_tick_type
        {'last': 1}
        """
        from ibticks.live import Buffer, resolve_buffer

        ids = self._resolver.contract_ids_or_new(contracts)
        types = self._resolver.tick_types(ids, tick_types)
        now_ns = self._resolver.now_ns(now, tz, ids, types)
        start_ns, description = resolve_buffer(buffer, now_ns, market=market, tz=tz)
        return Buffer(
            self.root,
            self.index,
            ids,
            types,
            (Interval(start_ns, now_ns + 1),),
            default_columns(types, columns),
            strict,
            format_label(contracts, types, f", {description}"),
            buffers=self._buffers,
        )

    live_async = in_thread(
        live,
        """Open a live stream as :meth:`live` does, without blocking the event loop.

        Examples
        --------
        ::

            async with await store.live_async(265598, "last", "1h") as live:
                async for message in live:
                    ...
        """,
    )

    buffer_async = in_thread(
        buffer,
        """Select the latest ticks as :meth:`buffer` does, without blocking the event loop.

        Examples
        --------
        ::

            buffer = await store.buffer_async(265598, "last", "1h")
            ticks = await buffer.to_polars_async()
        """,
    )

    def feed_states(
        self,
        contracts: int | str | Sequence[int | str] | None = None,
        tick_types: TickTypes | None = None,
    ) -> list[FeedState]:
        """Return the condition of captured streams: live, quiet, disconnected, without a capture.

        The coverage ledger has the last state that a capture of any process wrote, and the lock of
        the stream shows whether that capture still runs.

        Parameters
        ----------
        contracts : int, str or a sequence of them, optional
            Contract ids or symbols; all by default.
        tick_types : str or sequence of str, optional
            All that are stored by default.

        Returns
        -------
        list of FeedState
            By contract and tick type.

        Raises
        ------
        UnknownContractError, AmbiguousContractError
            With the candidates.
        UnknownTickTypeError
            Listing the tick types.

        Examples
        --------
        >>> import tempfile
        >>> import ibticks as ibt
        >>> import polars as pl
        >>> frame = pl.DataFrame(
        ...     {"timestamp": ["2025-01-10T14:30:00Z"], "price": [240.01], "size": [100.0]}
        ... )
        >>> with ibt.open(tempfile.mkdtemp()) as store:
        ...     _ = store.write(frame, contract_id=265598, tick_type="last")
        ...     [str(state) for state in store.feed_states(265598)]
        ['NO CAPTURE: no capture has recorded this stream']
        """
        from ibticks.coverage import feed_states

        streams = sorted(self._resolver.streams())
        if contracts is not None:
            ids = self._resolver.contract_ids_or_new(contracts)
            types = self._resolver.tick_types(ids, tick_types)
            streams = [
                StreamKey(contract_id, tick_type) for contract_id in ids for tick_type in types
            ]
        elif tick_types is not None:
            wanted = {tick_types} if isinstance(tick_types, str) else set(tick_types)
            streams = [stream for stream in streams if stream.tick_type in wanted]
        return feed_states(self.root, self.index, streams)

    def add_contract(
        self,
        contract_id: SupportsIndex,
        symbol: str,
        *,
        exchange: str = "",
        currency: str = "",
        contract_type: str = "",
    ) -> None:
        """Add or correct a contract, so that it can be selected by symbol.

        Empty values leave those in the index unchanged.

        Raises
        ------
        InputError
            If the id is out of range.

        Examples
        --------
        >>> import tempfile
        >>> import ibticks as ibt
        >>> with ibt.open(tempfile.mkdtemp()) as store:
        ...     store.add_contract(265598, "APPL", exchange="SMART")
        ...     store.add_contract(265598, "AAPL")
        ...     [(one.symbol, one.exchange) for one in store.contracts()]
        [('AAPL', 'SMART')]
        """
        contract_id = check_contract_id(contract_id)
        self.index.correct_contracts(
            [ContractRecord(contract_id, symbol, exchange, currency, contract_type)]
        )
        self._changed = True

    def sql(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float = QUERY_TIMEOUT_SECONDS,
    ) -> pl.DataFrame:
        """Run an SQL query on the index; it can read the tables of the index and nothing else.

        A second column of the name ``a`` becomes ``a_1``. A result without rows has columns and
        types.

        Parameters
        ----------
        query : str
            One statement that begins with ``SELECT``, ``WITH``, ``VALUES``, ``TABLE``, ``EXPLAIN``
            or ``SHOW``; ``%s`` or ``%(name)s`` are placeholders of ``parameters``.
        parameters : sequence or mapping, optional
        timeout_seconds : float
            Time limit.

        Raises
        ------
        ReadOnlyError
            If it would change something, or read more than the index.
        TickIndexError
            If PostgreSQL refuses the query, or it takes too long.
        IndexUnavailableError
            If the server is away.

        Examples
        --------
        >>> import tempfile
        >>> import ibticks as ibt
        >>> with ibt.open(tempfile.mkdtemp()) as store:
        ...     store.sql("SELECT count(*) AS files FROM tick_files").item()
        0
        """
        from ibticks.frames import from_query

        if "session" in query.lower():  # filling the table takes a second or two, once
            keep_sessions(self.index)
        result = self.index.read_query(query, parameters, timeout_seconds=timeout_seconds)
        return from_query(result.columns, result.types, result.rows)

    def writer(
        self, contract_id: SupportsIndex, tick_type: TickTypeLike, *, fsync: float | None = 1.0
    ) -> StreamWriter:
        """Open the writer of one stream; see :class:`ibticks.storage.StreamWriter`.

        Raises
        ------
        WriterLockedError
            If the stream is being written already; names the writer.
        """
        from ibticks.storage import StreamWriter

        return StreamWriter(
            self.root,
            contract_id,
            tick_type,
            self.index,
            fsync=fsync,
            on_sealed=lambda _: self.note_change(),
        )

    def write(
        self,
        frame: Any,
        *,
        contract_id: int | None = None,
        tick_type: TickTypeLike | None = None,
        tz: str | tzinfo | None = None,
        stream_id: str = "",
        duplicates: Duplicates = "keep",
    ) -> int:
        """Write the ticks of a frame, with the column names of :mod:`ibticks.format`.

        Parameters
        ----------
        frame : polars, pandas, Arrow or xarray
        contract_id, tick_type : optional
            Values for all rows, where the frame has no such column.
        tz : str or tzinfo, optional
            Zone of naive timestamps.
        stream_id : str
            Stream id of rows that have none.
        duplicates : {"keep", "skip"}
            ``keep`` writes every row, also one that is stored already. ``skip`` writes the rows
            that are not stored yet, compared by all columns that both have; equal rows of the frame
            are all written.

        Returns
        -------
        int
            Number of ticks written.

        Raises
        ------
        InputError
            If the frame has no valid ticks; see :func:`ibticks.frames.from_arrow`.
        StorageError
            If the disk is full or a stream is being written by another process. The message has
            the number of ticks written before; the same frame can be written again with
            ``duplicates="skip"``.
        """
        from ibticks.frames import from_arrow
        from ibticks.store._frame_writer import check_duplicates, write_columns

        check_duplicates(duplicates)
        columns = from_arrow(frame, contract_id=contract_id, tick_type=tick_type, tz=tz)
        return write_columns(
            self.root,
            columns,
            partial(self.writer, fsync=None),
            stream_id=stream_id,
            duplicates=duplicates,
        )

    def verify(self, *, progress: bool | None = None) -> Findings:
        """Read every file and compare it with its checksum and its row in the index.

        Archived hours are looked up in the object store, and read where it has no entity tag.
        Columnar companions are compared with the hour files, tick by tick. While the server of
        the index is away, only the files are checked, with a warning.

        Parameters
        ----------
        progress : bool, optional
            Whether to show progress; by default in a terminal and in a notebook.

        Returns
        -------
        Findings
            A list with one ``Finding`` for each file; printed, a report of the problems.
        """
        from itertools import chain

        from ibticks._progress import track
        from ibticks.storage import Findings, verify_files
        from ibticks.store._companions import verify_companions

        index: JournaledIndex | None = self.index
        if not self.index.is_reachable():
            warnings.warn(
                IndexAwayWarning(
                    f"only the files are checked, not the index: it is {self.index.describe()}"
                ),
                stacklevel=2,
            )
            index = None
        listing = list_paths(self.root)
        total = len(listing.paths) + len(listing.archived)
        work = verify_files(self.root, index, self._verify_archived)
        if index is not None:
            total += len(index.companions())
            work = chain(work, verify_companions(self.root, index))
        return Findings(track(work, "verifying", total, show=progress))

    def _verify_archived(self, record: FileRecord) -> Finding | None:
        """Verify the archived copy of a file that is not on disk; None if it has none."""
        copies = self.index.archived([record.path])
        if not copies:
            return None
        from ibticks.archive import verify_copy
        from ibticks.storage import Finding

        try:
            detail = verify_copy(record, copies[0])
        except (ArchiveError, MissingExtraError) as error:
            detail = str(error)
        problem = "archive" if detail else None
        return Finding(record.path, problem, detail or "", record.messages, record.size)

    def rebuild_index(self, *, progress: bool | None = None) -> int:
        """Rebuild the index from the files; returns the number of files."""
        count = rebuild_index(self.root, self.index, progress=progress)
        self._changed = True
        if not self.index.away:
            keep_sessions(self.index)
        return count

    def compress(
        self,
        compression: CompressionLike = "zstd",
        *,
        older_than: str | timedelta = "24h",
        now: TimeLike | None = None,
        progress: bool | None = None,
    ) -> list[FileRecord]:
        """Compress the sealed files whose hour ended some time ago.

        Of their days that are over, the columnar companions are built, unless the store was opened
        with ``columns="off"``.

        Parameters
        ----------
        compression : {"zstd", "gzip", "snappy", "none"}
        older_than : str or timedelta
        now : optional
            Time that replaces the clock.
        progress : bool, optional

        Returns
        -------
        list of FileRecord
            New rows of the files that changed.

        Warns
        -----
        StreamInUseWarning
            Names the streams that are being written, whose files were left as they are.
        """
        from ibticks._progress import track
        from ibticks.storage import check_compression
        from ibticks.store._deletion import compress_files

        check_compression(compression)
        older = self._older_sealed_files(older_than, now)
        keys = [key for record, key in older if record.compression != compression]
        self._changed = True
        work = compress_files(self.root, self.index, keys, compression)
        compressed = list(track(work, "compressing", len(keys), show=progress))
        if self.columns != "off" and not self.index.away:
            self._build_whole_days([key for _, key in older], now, progress)
        return compressed

    def _older_sealed_files(
        self, age: str | timedelta, now: TimeLike | None
    ) -> list[tuple[FileRecord, FileKey]]:
        """Return the sealed files that are here and whose hour ended longer ago than an age."""
        older = [pair for pair in older_files(self.index, age, now) if pair[0].sealed]
        archived = archived_paths(self.root, (record.path for record, _ in older))
        return [pair for pair in older if pair[0].path not in archived]

    def _build_whole_days(
        self, keys: Sequence[FileKey], now: TimeLike | None, progress: bool | None
    ) -> None:
        """Build the companions of the days of some files that are over."""
        from ibticks._progress import track
        from ibticks.calendar import now_ns, to_ns
        from ibticks.columns import companion_keys
        from ibticks.store._companions import build_companions

        instant = now_ns() if now is None else to_ns(now, name="now")
        over = [day for day in companion_keys(keys) if day.end_ns <= instant]
        work = build_companions(self.root, self.index, over)
        for _ in track(work, "building columns", len(over), show=progress):
            pass

    def build_companions(
        self,
        contracts: int | str | Sequence[int | str] | None = None,
        tick_types: TickTypes | None = None,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tz: str | tzinfo | None = None,
        rebuild: bool = False,
        progress: bool | None = None,
    ) -> list[CompanionRecord]:
        """Build the columnar companions of sealed hours: one Parquet file a stream and UTC day.

        A companion that is there, with the hours as they are now, stays as it is. The files are
        ``columns/{contract_id}/{tick_type}/{YYYY}/{MM}/{DD}.parquet`` in the folder of the store,
        for every tool that reads Parquet; they may be deleted at any time. The view ``companions``
        of the index lists them (:meth:`sql`).

        Parameters
        ----------
        contracts : int, str or a sequence of them, optional
            Contract ids or symbols; all by default.
        tick_types : str or sequence of str, optional
            All that are stored by default.
        start, end : optional
            The days that meet ``[start, end)``; by default all, the running day with its sealed
            hours included.
        tz : str or tzinfo, optional
            Zone of naive times.
        rebuild : bool
            Whether to write those, too, that are there.
        progress : bool, optional
            Whether to show progress; by default in a terminal and in a notebook.

        Returns
        -------
        list of CompanionRecord
            Those that were written, or entered into the index.

        Raises
        ------
        UnknownContractError, AmbiguousContractError, UnknownTickTypeError, NaiveDatetimeError
            See :meth:`select`.
        TimeRangeError
            If start is not before end.
        StorageError
            If a companion cannot be written; an earlier one is as it was.

        Examples
        --------
        >>> import tempfile
        >>> import ibticks as ibt
        >>> import polars as pl
        >>> frame = pl.DataFrame(
        ...     {"timestamp": ["2025-01-10T14:30:00Z"], "price": [240.01], "size": [100.0]}
        ... )
        >>> with ibt.open(tempfile.mkdtemp()) as store:
        ...     _ = store.write(frame, contract_id=265598, tick_type="last")
        ...     [(companion.path, companion.rows) for companion in store.build_companions()]
        [('columns/265598/last/2025/01/10.parquet', 1)]
        """
        from ibticks._progress import track
        from ibticks.store._companions import (
            build_companions,
            companion_days,
            list_stored_companions,
            remove_orphans,
        )
        from ibticks.store._deletion import deletion_interval

        streams = self._stored_streams(contracts, tick_types)
        interval = deletion_interval(start, end, tz)
        days = companion_days(self.index, streams, interval)
        others = list_stored_companions(
            self.root, self.index, None if contracts is None else streams, interval
        )
        if tick_types is None:
            remove_orphans(self.root, self.index, sorted({*others} - {*days}))
        work = build_companions(self.root, self.index, days, rebuild=rebuild)
        built = track(work, "building columns", len(days), show=progress)
        return [companion for companion in built if companion is not None]

    def delete_companions(
        self,
        contracts: int | str | Sequence[int | str] | None = None,
        tick_types: TickTypes | None = None,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tz: str | tzinfo | None = None,
    ) -> list[str]:
        """Delete columnar companions; the ticks stay in the hour files.

        Parameters and errors are those of :meth:`build_companions`.

        Returns
        -------
        list of str
            Their paths.
        """
        from ibticks.store._companions import list_stored_companions, remove_companions
        from ibticks.store._deletion import deletion_interval

        everything = contracts is None and tick_types is None
        streams = None if everything else self._stored_streams(contracts, tick_types)
        keys = list_stored_companions(
            self.root, self.index, streams, deletion_interval(start, end, tz)
        )
        return [key.path for key in remove_companions(self.root, self.index, keys)]

    def archive(
        self,
        to: str,
        *,
        older_than: str | timedelta = "30d",
        grace: str | timedelta | None = None,
        now: TimeLike | None = None,
        progress: bool | None = None,
    ) -> ArchiveReport:
        """Copy sealed files to an object store, and delete them here after a grace time.

        A copy is created only if absent, read back and compared byte for byte; the index then has
        its URL (the view ``file_locations``). It can be interrupted and repeated at any point.

        Parameters
        ----------
        to : str
            ``s3://bucket/prefix``, ``gs://``, ``az://``, ``file:///folder``, or any URL of fsspec.
            Credentials and endpoint are those of the environment (``AWS_ACCESS_KEY_ID``,
            ``AWS_ENDPOINT_URL`` and the like).
        older_than : str or timedelta
            Only hours that ended this long ago.
        grace : str or timedelta, optional
            Time from the comparison of a copy to the deletion of the file here, by a later call;
            by default the files stay.
        now : optional
            Time that replaces the clock.
        progress : bool, optional

        Returns
        -------
        ArchiveReport
            Files copied, and files deleted here.

        Raises
        ------
        ArchiveError
            If the object store fails, replaces objects that exist, or does not return what was
            written. No file is deleted whose copy was not compared.
        CorruptFileError
            At the end: names the damaged files, which are not archived.
        InputError
            If ``to`` is no URL of an object store.
        MissingExtraError
            Without ``pip install 'ibticks[archive]'``.

        Warns
        -----
        StreamInUseWarning
            Names the streams that are being written, whose files are copied but not deleted.

        Examples
        --------
        >>> import tempfile
        >>> import ibticks as ibt
        >>> import polars as pl
        >>> frame = pl.DataFrame({"timestamp": ["2025-01-10T14:30:00Z"], "price": [240.01]})
        >>> with ibt.open(tempfile.mkdtemp()) as store:
        ...     _ = store.write(frame, contract_id=265598, tick_type="last")
        ...     store.archive("memory://docs", older_than="30d").copied
        ['265598/last/2025/01/10/14_ticks.pb']
        """
        from ibticks._progress import track
        from ibticks.archive import ArchiveReport, archive_files, open_object_store
        from ibticks.calendar import now_ns, parse_duration, to_ns

        instant = None if now is None else to_ns(now, name="now")
        report = ArchiveReport()
        sealed = [record for record, _ in self._older_sealed_files(older_than, now)]
        work = archive_files(
            self.root,
            self.index,
            sealed,
            open_object_store(to),
            grace_ns=None if grace is None else parse_duration(grace),
            clock=now_ns if instant is None else lambda: instant,
            report=report,
        )
        self._changed = True
        for _ in track(work, "archiving", len(sealed), show=progress):
            pass
        return report

    def restore_archived(
        self,
        contract: int | str,
        tick_type: TickTypeLike,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tz: str | tzinfo | None = None,
        progress: bool | None = None,
    ) -> list[str]:
        """Bring files of one stream back that :meth:`archive` deleted here.

        The copies in the object store stay.

        Parameters
        ----------
        contract : int or str
            Contract id or symbol.
        tick_type : str
        start, end : optional
            Half-open interval; by default from the first tick to the last.
        tz : str or tzinfo, optional
            Zone of naive times.
        progress : bool, optional

        Returns
        -------
        list of str
            Paths of the files that are here again.

        Raises
        ------
        ArchiveError
            If a copy cannot be read, or is not what was archived.
        WriterLockedError
            If the stream is being written.
        """
        from ibticks._progress import track
        from ibticks.archive import restore_files
        from ibticks.store._deletion import deletion_interval

        stream = self._stream(contract, tick_type)
        paths = self._archived_within(stream, *deletion_interval(start, end, tz))
        work = restore_files(self.root, self.index.archived(paths))
        return [copy.path for copy in track(work, "restoring", len(paths), show=progress)]

    def _archived_within(self, stream: StreamKey, start_ns: int, end_ns: int) -> list[str]:
        """Return the paths of the hours of a stream that are in an object store only."""
        files = self.index.files([stream.contract_id], [stream.tick_type], start_ns, end_ns)
        return sorted(archived_paths(self.root, (file.path for file in files)))

    def _refuse_archived(self, stream: StreamKey, start_ns: int, end_ns: int) -> None:
        if paths := self._archived_within(stream, start_ns, end_ns):
            raise ArchiveError(
                f"{len(paths)} hours of {stream.tick_type} of contract {stream.contract_id} are in "
                f"an object store only, the first is {paths[0]}: nothing was deleted. Bring them "
                "back with Store.restore_archived",
                path=str(self.root / paths[0]),
            )

    def prune(
        self,
        keep: str | timedelta,
        *,
        now: TimeLike | None = None,
        dry_run: bool = False,
        progress: bool | None = None,
    ) -> list[str]:
        """Delete the files whose hour ended longer ago than ``keep``.

        Hours that are in an object store only stay there.

        Returns
        -------
        list of str
            Deleted paths or, with ``dry_run``, paths to be deleted.

        Warns
        -----
        StreamInUseWarning
            Names the streams that are being written, whose files were left as they are.
        """
        from ibticks._progress import track
        from ibticks.archive import has_archive
        from ibticks.store._deletion import delete_files

        keys = [key for _, key in older_files(self.index, keep, now)]
        if archived := archived_paths(self.root, (key.path for key in keys)):
            _log.warning("%d archived hours stay in the object store", len(archived))
            keys = [key for key in keys if key.path not in archived]
        if not dry_run:
            self._changed = True
            work = delete_files(self.root, self.index, keys)
            keys = list(track(work, "deleting", len(keys), show=progress))
            if has_archive(self.root):
                self.index.drop_archived(key.path for key in keys)
        return [key.path for key in keys]

    def delete(
        self,
        contract: int | str,
        tick_type: TickTypeLike,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tz: str | tzinfo | None = None,
        dry_run: bool = False,
    ) -> Deletion:
        """Delete ticks of one stream, backfilled ones included, and keep them in files beside.

        The deleted ticks are in files ``{HH}_ticks.pb.deleted-{time}`` beside their hour files,
        which ``ibticks import`` reads and :meth:`purge` removes. The coverage of the time becomes
        ``deleted``. Error and info messages of the stream stay.

        Parameters
        ----------
        contract : int or str
            Contract id or symbol.
        tick_type : str
        start, end : optional
            Half-open interval; by default from the first tick to the last.
        tz : str or tzinfo, optional
            Zone of naive times.
        dry_run : bool
            Whether to count only.

        Returns
        -------
        Deletion
            Number of ticks, their hour files, and the files that have them now.

        Raises
        ------
        WriterLockedError
            If the stream is being written; names the writer. Nothing is deleted then.
        CorruptFileError
            If a file of the interval is damaged; nothing is deleted then.
        UnknownContractError, AmbiguousContractError, UnknownTickTypeError, NaiveDatetimeError
            See :meth:`select`.
        TimeRangeError
            If start is not before end.
        ArchiveError
            If hours of the interval are in an object store only; nothing is deleted then.

        Examples
        --------
        >>> import tempfile
        >>> import ibticks as ibt
        >>> import polars as pl
        >>> frame = pl.DataFrame(
        ...     {"timestamp": ["2025-01-10T14:30:00Z", "2025-01-10T14:31:00Z"], "price": [5, 999]}
        ... )
        >>> with ibt.open(tempfile.mkdtemp()) as store:
        ...     _ = store.write(frame, contract_id=265598, tick_type="last")
        ...     store.delete(265598, "last", start="2025-01-10T14:31:00Z").ticks
        ...     store.select(265598, "last").count()
        1
        1
        """
        from ibticks.coverage import end_abandoned_intervals
        from ibticks.store._deletion import count_ticks, delete_ticks, deletion_interval

        stream = self._stream(contract, tick_type)
        interval = deletion_interval(start, end, tz)
        self._refuse_archived(stream, *interval)
        if dry_run:
            return count_ticks(self.root, *stream, *interval)
        self._changed = True
        end_abandoned_intervals(self.root, self.index)
        return delete_ticks(self.root, self.index, *stream, *interval)

    def purge(
        self,
        contract: int | str,
        tick_type: TickTypeLike,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tz: str | tzinfo | None = None,
        dry_run: bool = False,
    ) -> list[str]:
        """Remove for good the ticks that :meth:`delete` deleted from one stream.

        Parameters are those of :meth:`delete`; files of every hour that meets the interval go.

        Returns
        -------
        list of str
            Removed paths or, with ``dry_run``, paths to be removed.
        """
        from ibticks.columns import remove_companions_of
        from ibticks.store._deletion import (
            deleted_files,
            deleted_hours,
            deletion_interval,
            purge_files,
        )

        stream = self._stream(contract, tick_type)
        interval = deletion_interval(start, end, tz)
        paths = deleted_files(self.root, *stream, *interval)
        if not dry_run:
            # A companion that was built before the deletion has these ticks, too.
            remove_companions_of(self.root, self.index, deleted_hours(self.root, paths))
            paths = list(purge_files(paths))
        return [path.relative_to(self.root).as_posix() for path in paths]

    def forget(self) -> None:
        """Deprecated name of :meth:`clear_cache`."""
        warnings.warn(
            "Store.forget is called Store.clear_cache now", DeprecationWarning, stacklevel=2
        )
        self.clear_cache()

    def close(self) -> None:
        """Close the index and free the memory; the embedded server stops with its last user.

        A catalogue that this user may not write is logged as a warning.
        """
        self.clear_cache()
        if self._kept_buffers is not None:
            self._kept_buffers.close()
        try:
            if self._changed:
                self.write_catalogue()
        except StoreAccessError as error:
            # An error of the caller, refused to a user who may only read, is more important.
            _log.warning("the catalogue is not written: %s", error)
        finally:
            self.index.close()

    def write_catalogue(self) -> None:
        """Write the catalogue ``metadata/index.json``, an index for readers without a database.

        It is written when the store is closed, and regularly while the store is written to.
        """
        from ibticks.index import write_catalogue

        path = metadata_folder(self.root) / "index.json"
        contracts, coverage = self.contracts(), self.index.coverage()
        archived = self.index.archived()
        try:
            write_catalogue(path, self.index.iter_files(), contracts, coverage, archived)
        except IndexUnavailableError:  # lost meanwhile: take the journal and the old catalogue
            write_catalogue(path, self.index.files(), contracts, coverage, archived)
        self._catalogue_written = time.monotonic()
        self._changed = False

    def note_change(self) -> None:
        """Mark the catalogue as out of date, and write it unless it was written recently."""
        self._changed = True
        if time.monotonic() - self._catalogue_written >= _CATALOGUE_INTERVAL_SECONDS:
            self.write_catalogue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {str(self.root)!r}, index {self.index.describe()}>"

    def _repr_html_(self) -> str:
        caption = f"ibticks Store {self.root} · index: {self.index.describe()}"
        return contents_table(self.contents(), caption)

    @property
    def _buffers(self) -> BufferCache:
        if self._kept_buffers is None:
            from ibticks.live import BufferCache

            self._kept_buffers = BufferCache(self.root)
        return self._kept_buffers
