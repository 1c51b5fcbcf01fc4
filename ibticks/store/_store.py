"""A store: a root folder of tick files and the index that finds them."""

from __future__ import annotations

import logging
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ibticks.config import (
    CACHE_BYTES,
    QUERY_TIMEOUT_SECONDS,
    TIME_MAX,
    TIME_MIN,
    dsn_from_environment,
)
from ibticks.errors import (
    IndexAwayWarning,
    IndexUnavailableError,
    InputError,
    StoreAccessError,
    TimeRangeError,
)
from ibticks.filesystem import expand_home
from ibticks.index import ContractRecord
from ibticks.schema import check_contract_id
from ibticks.selection import (
    Lookup,
    Selection,
    check_backfill,
    check_tick_types,
    default_columns,
    in_words,
)
from ibticks.storage import list_paths, metadata_folder
from ibticks.store._contents import Contents, contents, contents_table
from ibticks.store._identity import identify
from ibticks.store._maintenance import (
    complete_index,
    complete_journal,
    find_missing,
    keep_sessions,
    older_files,
    rebuild_index,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from datetime import timedelta, tzinfo
    from types import TracebackType
    from typing import Self

    import polars as pl

    from ibticks.calendar import TimeLike
    from ibticks.coverage import Coverage, FeedState
    from ibticks.index import DailyStats, FileRecord, JournaledIndex, PostgresIndex
    from ibticks.live import Buffer, BufferCache, Live, Policy
    from ibticks.selection import Backfill
    from ibticks.storage import ColumnCache, Findings, StreamWriter
    from ibticks.store._deletion import Deletion
    from ibticks.store._frame_writer import Duplicates

__all__ = ["Contents", "Store", "open_store"]

_MARKET: Final = "US"
_CATALOGUE_SECONDS: Final = 30.0

_log = logging.getLogger(__name__)


def open_store(
    root: str | os.PathLike[str],
    *,
    dsn: str | None = None,
    create: bool = True,
    cache: int = CACHE_BYTES,
) -> Store:
    """Open a store, beginning one where there is none.

    Parameters
    ----------
    root : path
        The folder of the ticks; ``~`` is understood.
    dsn : str, optional
        PostgreSQL server for the index, as ``postgresql://user@host/database``. By default that
        of ``IBTICKS_DSN``, or else the embedded server.
    create : bool
        Whether a store may be begun.
    cache : int
        Bytes of memory for what loads have decoded, so that the next load of it need not; 0 for
        none. See :meth:`Store.forget`.

    Returns
    -------
    Store

    Raises
    ------
    NoStoreError
        If there is none and ``create`` is false, or ``root`` is a file.
    StoreAccessError, StorageError
        If this user may not read the folder, or it cannot be made.
    CorruptFileError
        If the store's note of its id is damaged.
    IndexUnavailableError
        If no server answers at ``dsn``.
    IndexVersionError
        If it is older than PostgreSQL 14, or its schema is newer than this ibticks.
    IndexMismatchError
        If the database is the index of another store.

    Examples
    --------
    >>> import tempfile
    >>> with open_store(tempfile.mkdtemp()) as store:
    ...     store.contracts()
    []
    """
    path = expand_home(root).resolve()
    dsn = dsn or dsn_from_environment()
    store_id = identify(path, create=create, dsn=dsn)
    from ibticks.coverage import end_abandoned_intervals
    from ibticks.index import open_index

    entered: list[bool] = []

    def complete(index: PostgresIndex) -> None:
        entered.append(complete_index(path, index))

    index = open_index(
        path,
        store_id,
        dsn,
        complete=complete,
        find_missing=partial(find_missing, path),
    )
    store = Store(path, index, cache)
    try:
        if index.away and index.writable:
            entered.append(complete_journal(path, index))
        if any(entered):
            store._changed = True
            if not index.away:
                keep_sessions(index)
        # What captures that were killed left open in the ledger of coverage ends here.
        if end_abandoned_intervals(path, store.index):
            store._changed = True
    except BaseException:
        store.index.close()
        raise
    return store


def _interval(
    start: TimeLike | None, end: TimeLike | None, tz: str | tzinfo | None
) -> tuple[int, int]:
    """An interval in UTC nanoseconds; open where an end is not given."""
    from ibticks.calendar import to_ns

    start_ns = TIME_MIN if start is None else to_ns(start, tz=tz, name="start")
    end_ns = TIME_MAX if end is None else to_ns(end, tz=tz, name="end")
    if start_ns >= end_ns:
        raise TimeRangeError(f"start={start} is not before end={end}", start=start, end=end)
    return start_ns, end_ns


class Store:
    """A root folder of tick files and its index.

    Made by :func:`ibticks.open`; a context manager. Files are the truth: the index can be lost
    and rebuilt (:meth:`rebuild_index`).

    Attributes
    ----------
    root : Path
    index : JournaledIndex
    """

    def __init__(self, root: Path, index: JournaledIndex, cache: int = CACHE_BYTES) -> None:
        self.root: Final = root
        self.index: Final = index
        self._lookup = Lookup(root, index)
        self._cache = cache
        self._kept_decoded: ColumnCache | None = None
        self._kept_buffers: BufferCache | None = None
        self._catalogue_at = time.monotonic()
        self._changed = False

    def select(
        self,
        contracts: int | str | Sequence[int | str],
        tick_types: str | Sequence[str] | None = None,
        period: str | timedelta | None = None,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tz: str | tzinfo | None = None,
        session: str | None = None,
        date: TimeLike | None = None,
        sessions: int | None = None,
        market: str = _MARKET,
        now: TimeLike | None = None,
        columns: str | Sequence[str] | None = None,
        strict: bool = False,
        backfill: Backfill = "exclude",
    ) -> Selection:
        """Say which ticks; nothing is read yet.

        Time is given in one of four ways, or not at all (everything):

        - ``period``: back from now, such as ``"last_hour"``, ``"2h30m"``, ``"today"`` or
          ``"since_open"`` (see :func:`ibticks.calendar.resolve_period`);
        - ``start`` and ``end``: half-open; without ``end``, to now;
        - ``session`` and ``date``: one session of a market; without ``date``, the one that runs
          or ran last;
        - ``sessions``: the last so many sessions that have ended.

        Parameters
        ----------
        contracts : int, str or a sequence of them
            Contract ids or symbols.
        tick_types : str or sequence of str, optional
            Of ``last``, ``all_last``, ``bid_ask``, ``mid_point``; all that are stored by default.
        period : str or timedelta, optional
        start, end : optional
            Anything :func:`ibticks.calendar.to_ns` reads.
        tz : str or tzinfo, optional
            Zone of times that do not say theirs, and of ``today``.
        session : str, optional
            Session type, such as ``"regular"``; for ``sessions``, regular by default.
        date : optional
            Trading day of the session.
        sessions : int, optional
        market : str
            ``US``, ``UK``, ``JP``, ``CME`` or any calendar's name.
        now : optional
            Instead of the clock, for what is relative to now; ``"last_tick"`` is the last tick
            stored of what is selected, files being written included.
        columns : str or sequence of str, optional
            By default those that the tick types carry.
        strict : bool
            Raise at damaged data, instead of warning and leaving it out.
        backfill : {"exclude", "include", "only"}
            Whether ticks that were not captured, but asked of IB afterwards, come too, or alone.
            Their times are whole seconds.

        Returns
        -------
        Selection

        Raises
        ------
        UnknownContractError, AmbiguousContractError
            With the candidates.
        UnknownTickTypeError, UnknownColumnError, UnknownPeriodError, UnknownMarketError
            Naming what there is.
        NoSessionError
            If the market had no such session that day; names the previous and the next one.
        NaiveDatetimeError
            For a time without a zone, where ``tz`` is not given.
        TimeRangeError
            If start is not before end.
        InputError
            If time is given in more than one way, or what is wanted is an empty list.
        """
        chosen, whose = check_backfill(backfill)
        ids = self.contract_ids(contracts)
        kinds = self._lookup.tick_types(ids, tick_types)
        from ibticks.selection import find_spans

        intervals, when = find_spans(
            self._lookup.now(now, tz, ids, kinds),
            period=period,
            start=start,
            end=end,
            tz=tz,
            session=session,
            date=date,
            sessions=sessions,
            market=market,
        )
        return Selection(
            self.root,
            self.index,
            ids,
            kinds,
            intervals,
            default_columns(kinds, columns),
            strict,
            in_words(contracts, kinds, when + whose),
            chosen,
            self._decoded,
            now is None and start is None and date is None and bool(period or session or sessions),
        )

    def live(
        self,
        contracts: int | str | Sequence[int | str],
        tick_types: str | Sequence[str] | None = None,
        buffer: TimeLike | timedelta | None = None,
        *,
        market: str = _MARKET,
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
        """Ticks from a buffer on, and then as they come, without gap or duplicate.

        Whoever writes them, in this process or another one, they are read from the files.

        Parameters
        ----------
        contracts : int, str or a sequence of them
            Contract ids or symbols. An id may be one of which nothing is stored yet.
        tick_types : str or sequence of str, optional
            All that are stored by default.
        buffer : str, timedelta or time, optional
            What comes first of what is stored: a period (``"1h"``, ``"2h30m"``, ``"last_hour"``,
            ``"today"``, ``"since_open"``), a session type of ``market`` (``"regular"``: since it
            opened), or a time. By default nothing.
        market : str
            ``US``, ``UK``, ``JP``, ``CME`` or any calendar's name.
        tz : str or tzinfo, optional
            Zone of times that do not say theirs, and of ``today``.
        now : optional
            Instead of the clock, for what is relative to now; ``"last_tick"`` as in
            :meth:`select`.
        columns : str or sequence of str, optional
            Of the frames; by default those that the tick types carry.
        window : str or timedelta, optional
            How far back the window of :meth:`~ibticks.live.Live.frame` reaches from its last tick.
        window_rows : int
            Most ticks in that window.
        delay : float
            Seconds a tick may be held, so that those of several streams come by time.
        policy : {"all", "latest"}
            Whether a reader that is slow gets every tick, or those that are dropped are counted.
        most_waiting : int
            With ``latest``, most live ticks that wait to be read.
        markers : bool
            Whether ``info`` messages ``buffer_start``, ``buffer_complete`` and ``live_start`` stand
            among the ticks.
        resume : str, optional
            Go on from where another one was, of the same contracts and tick types: its
            :attr:`~ibticks.live.Live.position`. Instead of ``buffer``.

        Returns
        -------
        Live

        Raises
        ------
        UnknownContractError, AmbiguousContractError
            With the candidates.
        UnknownTickTypeError, UnknownColumnError, UnknownPeriodError, UnknownMarketError
            Naming what there is.
        NaiveDatetimeError
            For a time without a zone, where ``tz`` is not given.
        InputError
            If an option has no such value, or ``resume`` is no position in these streams.

        Examples
        --------
        >>> import tempfile
        >>> import polars as pl
        >>> frame = pl.DataFrame(
        ...     {"timestamp": ["2025-01-10T14:30:00Z"], "price": [240.01], "size": [100.0]}
        ... )
        >>> with open_store(tempfile.mkdtemp()) as store:
        ...     _ = store.write(frame, contract_id=265598, tick_type="last")
        ...     with store.live(265598, "last", "1h", now="last_tick") as live:
        ...         [message["type"] for _, message in zip(range(4), live)]
        ['info', 'tick', 'info', 'info']
        """
        from ibticks.calendar import parse_duration
        from ibticks.live import Live, LiveOptions, resolve_buffer

        ids = self._lookup.ids_to_come(contracts)
        kinds = self._lookup.tick_types(ids, tick_types)
        start_ns, when = None, ""
        if buffer is not None and resume is not None:
            raise InputError("buffer and resume both say where to begin: keep one of them")
        if buffer is not None:
            now_ns = self._lookup.now(now, tz, ids, kinds)
            start_ns, words = resolve_buffer(buffer, now_ns, market=market, tz=tz)
            when = f", {words}"
        chosen = frozenset(ids)
        return Live(
            self.root,
            [(contract_id, kind) for contract_id in ids for kind in kinds],
            default_columns(kinds, columns),
            start_ns,
            label=in_words(contracts, kinds, when),
            symbols={
                one.contract_id: one.symbol for one in self.contracts() if one.contract_id in chosen
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
        tick_types: str | Sequence[str] | None = None,
        buffer: TimeLike | timedelta = "1h",
        *,
        market: str = _MARKET,
        tz: str | tzinfo | None = None,
        now: TimeLike | None = None,
        columns: str | Sequence[str] | None = None,
        strict: bool = False,
    ) -> Buffer:
        """The latest ticks, for whoever asks for them often: each is decoded once.

        Parameters and errors are those of :meth:`live` and :meth:`select`.

        Parameters
        ----------
        buffer : str, timedelta or time
            How far back from now: a period (``"30m"``, ``"2h30m"``, ``"last_hour"``, ``"today"``,
            ``"since_open"``), a session type of ``market`` (``"regular"``: since it opened), or a
            time.

        Returns
        -------
        Buffer
            A selection; :meth:`~ibticks.live.Buffer.stats` tells what is in it.

        Examples
        --------
        >>> import tempfile
        >>> import polars as pl
        >>> frame = pl.DataFrame(
        ...     {"timestamp": ["2025-01-10T14:30:00Z"], "price": [240.01], "size": [100.0]}
        ... )
        >>> with open_store(tempfile.mkdtemp()) as store:
        ...     _ = store.write(frame, contract_id=265598, tick_type="last")
        ...     store.buffer(265598, "last", "30m", now="last_tick").stats().by_tick_type
        {'last': 1}
        """
        from ibticks.live import Buffer, resolve_buffer

        ids = self._lookup.ids_to_come(contracts)
        kinds = self._lookup.tick_types(ids, tick_types)
        now_ns = self._lookup.now(now, tz, ids, kinds)
        start_ns, words = resolve_buffer(buffer, now_ns, market=market, tz=tz)
        return Buffer(
            self.root,
            self.index,
            ids,
            kinds,
            ((start_ns, now_ns + 1),),
            default_columns(kinds, columns),
            strict,
            in_words(contracts, kinds, f", {words}"),
            buffers=self._buffers,
        )

    def coverage(
        self,
        contracts: int | str | Sequence[int | str] | None = None,
        tick_types: str | Sequence[str] | None = None,
        period: str | timedelta | None = None,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tz: str | tzinfo | None = None,
        session: str | None = None,
        date: TimeLike | None = None,
        sessions: int | None = None,
        market: str = _MARKET,
        now: TimeLike | None = None,
    ) -> Coverage:
        """What was captured, and what was not: by default of all that is stored.

        Parameters and errors are those of :meth:`select`; of several contracts, or of all, only
        the streams that are stored are told about.

        Returns
        -------
        Coverage
        """
        from ibticks.coverage import Coverage

        stored = self._lookup.streams()
        if contracts is None and not stored:
            return Coverage((), (), ())
        selection = self.select(
            sorted({contract for contract, _ in stored}) if contracts is None else contracts,
            tick_types,
            period,
            start=start,
            end=end,
            tz=tz,
            session=session,
            date=date,
            sessions=sessions,
            market=market,
            now=now,
        )
        if len(selection.contract_ids) == 1:
            return selection.coverage()
        return selection.coverage(stored)

    def feed_states(
        self,
        contracts: int | str | Sequence[int | str] | None = None,
        tick_types: str | Sequence[str] | None = None,
    ) -> list[FeedState]:
        """Return the condition of captured streams: live, quiet, disconnected, without a capture.

        Whichever process captures: the ledger of coverage says what a capture said last, and the
        lock of a stream whether that capture still exists.

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
            Naming the tick types.

        Examples
        --------
        >>> import tempfile
        >>> import polars as pl
        >>> frame = pl.DataFrame(
        ...     {"timestamp": ["2025-01-10T14:30:00Z"], "price": [240.01], "size": [100.0]}
        ... )
        >>> with open_store(tempfile.mkdtemp()) as store:
        ...     _ = store.write(frame, contract_id=265598, tick_type="last")
        ...     [str(state) for state in store.feed_states(265598)]
        ['NO CAPTURE: no capture has recorded this stream']
        """
        from ibticks.coverage import feed_states

        streams: list[tuple[int, str]] = sorted(self.index.streams())
        if contracts is not None:
            ids = self._lookup.ids_to_come(contracts)
            kinds = self._lookup.tick_types(ids, tick_types)
            streams = [(contract_id, kind) for contract_id in ids for kind in kinds]
        elif tick_types is not None:
            wanted = {tick_types} if isinstance(tick_types, str) else set(tick_types)
            streams = [stream for stream in streams if stream[1] in wanted]
        return feed_states(self.root, self.index, streams)

    def contract_ids(self, contracts: int | str | Sequence[int | str]) -> tuple[int, ...]:
        """The ids of contracts given by id or symbol.

        Raises
        ------
        UnknownContractError, AmbiguousContractError
            With the candidates.
        """
        return self._lookup.contract_ids(contracts)

    def contracts(self) -> list[ContractRecord]:
        """The contracts the store knows by name, by id."""
        return self.index.contracts()

    def add_contract(
        self,
        contract_id: int,
        symbol: str,
        *,
        exchange: str = "",
        currency: str = "",
        contract_type: str = "",
    ) -> None:
        """Give a contract its name, so that it can be selected by symbol, or correct it.

        What is given counts, whatever was known; what is empty leaves what is known.

        Raises
        ------
        InputError
            If no tick can carry that id.

        Examples
        --------
        >>> import tempfile
        >>> with open_store(tempfile.mkdtemp()) as store:
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

    def contents(self) -> list[Contents]:
        """What is stored, by contract and tick type."""
        return contents(self.index.daily_stats(), self.contracts())

    def daily_stats(
        self,
        contracts: int | str | Sequence[int | str] | None = None,
        tick_types: str | Sequence[str] | None = None,
    ) -> list[DailyStats]:
        """Figures of each UTC day, contract and tick type, as the index keeps them.

        Raises
        ------
        UnknownContractError, AmbiguousContractError, UnknownTickTypeError
            Naming what there is.
        """
        ids = None if contracts is None else self.contract_ids(contracts)
        return self.index.daily_stats(
            ids, None if tick_types is None else check_tick_types(tick_types)
        )

    def sql(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float = QUERY_TIMEOUT_SECONDS,
    ) -> pl.DataFrame:
        """Run an SQL query on the index; it can read the tables of the index and nothing else.

        A second column of the name ``a`` becomes ``a_1``. An answer without rows has its columns
        and types.

        Parameters
        ----------
        query : str
            One statement that begins with ``SELECT``, ``WITH``, ``VALUES``, ``TABLE``, ``EXPLAIN``
            or ``SHOW``; ``%s`` or ``%(name)s`` stand for ``parameters``, if there are any.
        parameters : sequence or mapping, optional
        timeout_seconds : float
            Time limit.

        Raises
        ------
        ReadOnlyError
            If it would change something, or read more than the index.
        TickIndexError
            If PostgreSQL refuses it, for the reason it gives, or it takes too long.
        IndexUnavailableError
            If the server is away.

        Examples
        --------
        >>> import tempfile
        >>> with open_store(tempfile.mkdtemp()) as store:
        ...     store.sql("SELECT count(*) AS files FROM tick_files").item()
        0
        """
        from ibticks.frames import from_query

        if "session" in query.lower():  # filling them in takes a second or two, once
            keep_sessions(self.index)
        result = self.index.read_query(query, parameters, timeout_seconds=timeout_seconds)
        return from_query(result.columns, result.types, result.rows)

    def writer(
        self, contract_id: int, tick_type: str, *, fsync: float | None = 1.0
    ) -> StreamWriter:
        """The writer of one stream; see :class:`ibticks.storage.StreamWriter`.

        Raises
        ------
        WriterLockedError
            If the stream is being written already; names by whom.
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
        tick_type: str | None = None,
        tz: str | tzinfo | None = None,
        stream_id: str = "",
        duplicates: Duplicates = "keep",
    ) -> int:
        """Write the ticks of a frame, with the column names of :mod:`ibticks.format`.

        Parameters
        ----------
        frame : polars, pandas, Arrow or xarray
        contract_id, tick_type : optional
            Of all rows, where the frame has no such column.
        tz : str or tzinfo, optional
            Zone of timestamps that do not say theirs.
        stream_id : str
            For rows that have none.
        duplicates : {"keep", "skip"}
            ``keep`` writes every row, also one that is stored already. ``skip`` writes the rows
            that are not stored yet, by time, prices, sizes and what else both carry; equal rows of
            the frame are written as often as they stand in it.

        Returns
        -------
        int
            How many ticks were written.

        Raises
        ------
        InputError
            If the frame has no such ticks, as :func:`ibticks.frames.from_arrow` says.
        StorageError
            If the disk is full or a stream is being written by another process. The message says
            how many ticks were written before; the same frame can be written again with
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
        """Read every file through and hold it against its checksum and its row in the index.

        While the server of the index is away, only the files are checked, with a warning.

        Parameters
        ----------
        progress : bool, optional
            Whether progress is shown; by default in a terminal and in a notebook.

        Returns
        -------
        Findings
            A list of ``Finding``, one a file; printed, a report of what
            is wrong.
        """
        from ibticks.storage import Findings, verify_files
        from ibticks.store._progress import track

        index: JournaledIndex | None = self.index
        if not self.index.is_reachable():
            warnings.warn(
                IndexAwayWarning(
                    f"only the files are checked, not the index: it is {self.index.describe()}"
                ),
                stacklevel=2,
            )
            index = None
        total = len(list_paths(self.root).paths)
        return Findings(track(verify_files(self.root, index), "verifying", total, show=progress))

    def rebuild_index(self, *, progress: bool | None = None) -> int:
        """Make the index anew from the files; returns how many there are."""
        made = rebuild_index(self.root, self.index, progress=progress)
        self._changed = True
        if not self.index.away:
            keep_sessions(self.index)
        return made

    def compress(
        self,
        compression: str = "zstd",
        *,
        older_than: str | timedelta = "24h",
        now: TimeLike | None = None,
        progress: bool | None = None,
    ) -> list[FileRecord]:
        """Compress the sealed files whose hour ended that long ago.

        Parameters
        ----------
        compression : {"zstd", "gzip", "snappy", "none"}
        older_than : str or timedelta
        now : optional
            Instead of the clock.
        progress : bool, optional

        Returns
        -------
        list of FileRecord
            The files that changed, as they are now.

        Warns
        -----
        StreamInUseWarning
            Naming the streams whose files were left alone, since somebody writes to them.
        """
        from ibticks.storage import check_compression
        from ibticks.store._progress import track
        from ibticks.store._retention import compress_files

        check_compression(compression)
        keys = [
            key
            for record, key in older_files(self.index, older_than, now)
            if record.sealed and record.compression != compression
        ]
        self._changed = True
        work = compress_files(self.root, self.index, keys, compression)
        return list(track(work, "compressing", len(keys), show=progress))

    def prune(
        self,
        keep: str | timedelta,
        *,
        now: TimeLike | None = None,
        dry_run: bool = False,
        progress: bool | None = None,
    ) -> list[str]:
        """Delete the files whose hour ended longer ago than ``keep``.

        Returns
        -------
        list of str
            The paths that were deleted or, with ``dry_run``, would be.

        Warns
        -----
        StreamInUseWarning
            Naming the streams whose files were left alone, since somebody writes to them.
        """
        from ibticks.store._progress import track
        from ibticks.store._retention import delete_files

        keys = [key for _, key in older_files(self.index, keep, now)]
        if not dry_run:
            self._changed = True
            work = delete_files(self.root, self.index, keys)
            keys = list(track(work, "deleting", len(keys), show=progress))
        return [key.path for key in keys]

    def delete(
        self,
        contract: int | str,
        tick_type: str,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tz: str | tzinfo | None = None,
        dry_run: bool = False,
    ) -> Deletion:
        """Delete ticks of one stream, backfilled ones included; what is deleted is kept beside.

        The deleted ticks are in files ``{HH}_ticks.pb.deleted-{time}`` beside their hour files,
        which ``ibticks import`` reads and :meth:`purge` removes. The ledger of coverage says
        ``deleted`` of the time. Errors and infos of the stream stay.

        Parameters
        ----------
        contract : int or str
            Contract id or symbol.
        tick_type : str
        start, end : optional
            Half-open interval; by default from the first tick, and to the last.
        tz : str or tzinfo, optional
            Zone of times that do not say theirs.
        dry_run : bool
            Only count.

        Returns
        -------
        Deletion
            How many ticks, and in which files they were and are.

        Raises
        ------
        WriterLockedError
            If the stream is being written; names by whom. Nothing is deleted then.
        CorruptFileError
            If a file concerned is damaged; nothing is deleted then.
        UnknownContractError, AmbiguousContractError, UnknownTickTypeError, NaiveDatetimeError
            As :meth:`select`.
        TimeRangeError
            If start is not before end.

        Examples
        --------
        >>> import tempfile
        >>> import polars as pl
        >>> frame = pl.DataFrame(
        ...     {"timestamp": ["2025-01-10T14:30:00Z", "2025-01-10T14:31:00Z"], "price": [5, 999]}
        ... )
        >>> with open_store(tempfile.mkdtemp()) as store:
        ...     _ = store.write(frame, contract_id=265598, tick_type="last")
        ...     store.delete(265598, "last", start="2025-01-10T14:31:00Z").ticks
        ...     store.select(265598, "last").count()
        1
        1
        """
        from ibticks.coverage import end_abandoned_intervals
        from ibticks.store._deletion import count_ticks, delete_ticks

        stream, interval = self._stream(contract, tick_type), _interval(start, end, tz)
        if dry_run:
            return count_ticks(self.root, *stream, *interval)
        self._changed = True
        end_abandoned_intervals(self.root, self.index)
        return delete_ticks(self.root, self.index, *stream, *interval)

    def purge(
        self,
        contract: int | str,
        tick_type: str,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tz: str | tzinfo | None = None,
        dry_run: bool = False,
    ) -> list[str]:
        """Remove for good the files of ticks that :meth:`delete` took out of one stream.

        Parameters are those of :meth:`delete`; the interval is that of the hours concerned.

        Returns
        -------
        list of str
            The paths that were removed or, with ``dry_run``, would be.
        """
        from ibticks.store._deletion import deleted_files, purge_files

        stream, interval = self._stream(contract, tick_type), _interval(start, end, tz)
        paths = deleted_files(self.root, *stream, *interval)
        if not dry_run:
            paths = list(purge_files(paths))
        return [path.relative_to(self.root).as_posix() for path in paths]

    def _stream(self, contract: int | str, tick_type: str) -> tuple[int, str]:
        (contract_id,) = self.contract_ids(contract)
        (kind,) = check_tick_types(tick_type)
        return contract_id, kind

    def forget(self) -> None:
        """Let go of the memory in which loads of sealed files are kept, to be used again.

        A frame that was made of it stays what it is.

        Examples
        --------
        >>> import tempfile
        >>> with open_store(tempfile.mkdtemp(), cache=100_000_000) as store:
        ...     store.forget()
        """
        if self._kept_decoded is not None:
            self._kept_decoded.clear()

    def close(self) -> None:
        """Let go of the index and of memory; the embedded server stops with its last user.

        A catalogue that this user may not write is a log line.
        """
        self.forget()
        if self._kept_buffers is not None:
            self._kept_buffers.close()
        try:
            if self._changed:
                self.write_catalogue()
        except StoreAccessError as error:
            # A user who may only read, whose work was refused: that error is the one to be raised.
            _log.warning("the catalogue is not written: %s", error)
        finally:
            self.index.close()

    def write_catalogue(self) -> None:
        """Write ``metadata/index.json``, the index that can be read without a database.

        It is written when the store is closed, and every now and then while it is written to.
        """
        from ibticks.index import write_catalogue

        path = metadata_folder(self.root) / "index.json"
        contracts, coverage = self.contracts(), self.index.coverage()
        try:
            write_catalogue(path, self.index.iter_files(), contracts, coverage)
        except IndexUnavailableError:  # lost meanwhile: the journal and the old catalogue know
            write_catalogue(path, self.index.files(), contracts, coverage)
        self._catalogue_at = time.monotonic()
        self._changed = False

    def note_change(self) -> None:
        """Remember that the catalogue is out of date, and write it if that is long ago."""
        self._changed = True
        if time.monotonic() - self._catalogue_at >= _CATALOGUE_SECONDS:
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
    def _decoded(self) -> ColumnCache:
        if self._kept_decoded is None:
            from ibticks.storage import ColumnCache

            self._kept_decoded = ColumnCache(self._cache)
        return self._kept_decoded

    @property
    def _buffers(self) -> BufferCache:
        if self._kept_buffers is None:
            from ibticks.live import BufferCache

            self._kept_buffers = BufferCache(self.root)
        return self._kept_buffers
