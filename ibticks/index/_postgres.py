"""The index in PostgreSQL: queries and writes in plain SQL on the tables of ``sql/``."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, TypeAlias

from ibticks._types import StreamKey
from ibticks.config import DAY_NS, QUERY_TIMEOUT_SECONDS
from ibticks.index._database import MINIMUM_VERSION, Database
from ibticks.index._protocol import IndexWrites, QueryMethods
from ibticks.index._queries import create_reader_role, run_query
from ibticks.index._records import ContractRecord, CoverageRecord, DailyStats
from ibticks.index._tables import (
    ARCHIVED_COLUMNS,
    BATCH_ROWS,
    COMPANION_COLUMNS,
    DAILY_STATS,
    FILE_COLUMNS,
    FILE_COLUMNS_WITHOUT_BLOCKS,
    LAST_TICKS,
    STREAMS,
    row_to_archived,
    row_to_companion,
    row_to_file,
    write_change,
    write_coverage,
    write_files,
    write_sessions,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from psycopg import Cursor
    from psycopg.rows import TupleRow

    from ibticks.index._protocol import IndexChange
    from ibticks.index._records import ArchivedCopy, CompanionRecord, FileRecord, QueryResult
    from ibticks.index.embedded import EmbeddedServer

__all__ = ["MarketSessionRow", "PostgresIndex"]

MarketSessionRow: TypeAlias = tuple[str, str, date, int, int, bool]
"""Market, session type, trading day, start and end (UTC nanoseconds), early close."""


class PostgresIndex(QueryMethods, IndexWrites):
    """The index of a store in a PostgreSQL database; an :class:`~ibticks.index.Index`.

    Threads may share one; each process opens its own.

    Parameters
    ----------
    dsn : str
        ``postgresql://user@host:port/database`` or libpq's ``key=value`` pairs.
    store_id : str
        The id in the store's ``metadata/store.json``.
    root : Path, optional
        The store's folder, to tell a moved store from a copied one.
    server : EmbeddedServer, optional
        The embedded server behind ``dsn``; closed with the index.
    minimum_version : int
        Oldest accepted major version of the server.

    Raises
    ------
    IndexUnavailableError
        No server answers, or it refuses the connection.
    IndexVersionError
        The server is older than ``minimum_version``, or the schema newer than this ibticks.
    IndexMismatchError
        The database is the index of another store, or this store is a copy of another.
    """

    def __init__(
        self,
        dsn: str,
        store_id: str,
        *,
        root: Path | None = None,
        server: EmbeddedServer | None = None,
        minimum_version: int = MINIMUM_VERSION,
    ) -> None:
        self.dsn = dsn
        self._server = server
        self._has_reader: bool | None = None
        self._database = Database(
            dsn,
            store_id,
            root=root,
            minimum_version=minimum_version,
            replacement=None if server is None else f"remove the folder {server.home}",
            on_damage=None if server is None else server.mark_damaged,
        )

    @property
    def writable(self) -> bool:
        """True: changes are stored at once."""
        return True

    def describe(self) -> str:
        """Return server and location in words, without the password."""
        prefix = "embedded " if self._server is not None else ""
        return prefix + self._database.describe()

    def close(self) -> None:
        """Close the connections; the embedded server stops with its last user."""
        self._database.close()
        if self._server is not None:
            self._server.close()

    def write(self, change: IndexChange) -> None:
        """Apply one change in one transaction; the daily statistics follow by triggers."""
        self._database.run(lambda cursor: write_change(cursor, change))

    # -- files ------------------------------------------------------------------------------------

    def files(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[FileRecord]:
        """Return the files that may hold messages in ``[start_ns, end_ns)``; see IndexReads."""
        if start_ns is not None and end_ns is not None and start_ns >= end_ns:
            return []
        where, values = _stream_conditions(contract_ids, tick_types)
        if start_ns is not None or end_ns is not None:
            # The GiST index narrows to the microsecond; the conditions below are exact.
            where.append(
                "time_range && tstzrange(ns_floor(%(start)s::BIGINT), ns_ceil(%(end)s::BIGINT))"
            )
            values |= {"start": start_ns, "end": end_ns}
        if start_ns is not None:
            where.append("(NOT sealed OR end_ns >= %(start)s)")
        if end_ns is not None:
            where.append(
                "CASE WHEN sealed THEN start_ns ELSE LEAST(start_ns, hour_ns) END < %(end)s"
            )
        query = (
            f"SELECT {', '.join(FILE_COLUMNS)} FROM tick_files {_where(where)} "
            "ORDER BY contract_id, tick_type, hour_ns, file_path"
        )
        return [row_to_file(row) for row in self._select(query, values)]

    def iter_files(self) -> Iterator[FileRecord]:
        """Iterate over all files, by path and without their blocks, a page at a time."""
        query = (
            f"SELECT {', '.join(FILE_COLUMNS_WITHOUT_BLOCKS)} FROM tick_files "
            "WHERE file_path > %(after)s ORDER BY file_path LIMIT %(page)s"
        )
        after = ""
        while page := self._select(query, {"after": after, "page": BATCH_ROWS}):
            records = [row_to_file(row) for row in page]
            yield from records
            after = records[-1].path

    def paths(self) -> set[str]:
        """Return the paths of all files."""
        return {path for (path,) in self._select("SELECT file_path FROM tick_files")}

    def streams(self) -> set[StreamKey]:
        """Return the streams that have captured files."""
        return {StreamKey(*row) for row in self._select(STREAMS)}

    def tick_ranges(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> dict[StreamKey, tuple[int, int]]:
        """Return the times of the first and the last tick in the sealed files of each stream."""
        where, values = _stream_conditions(contract_ids, tick_types)
        where += ["sealed", "first_tick_ns IS NOT NULL", "last_tick_ns IS NOT NULL"]
        query = (
            "SELECT contract_id, tick_type, min(first_tick_ns), max(last_tick_ns) FROM tick_files "
            f"{_where(where)} GROUP BY contract_id, tick_type"
        )
        return {StreamKey(*row[:2]): (row[2], row[3]) for row in self._select(query, values)}

    def last_ticks(self, streams: Collection[StreamKey]) -> dict[StreamKey, int]:
        """Return the time of the last tick of the last day with statistics; see IndexReads."""
        keys = list(streams)
        values = {
            "contract_ids": [contract_id for contract_id, _ in keys],
            "tick_types": [tick_type for _, tick_type in keys],
        }
        return {StreamKey(*row[:2]): row[2] for row in self._select(LAST_TICKS, values)}

    def open_files(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[FileRecord]:
        """Return the files that are not sealed, by contract, tick type and hour."""
        where, values = _stream_conditions(contract_ids, tick_types)
        query = (
            f"SELECT {', '.join(FILE_COLUMNS)} FROM tick_files {_where([*where, 'NOT sealed'])} "
            "ORDER BY contract_id, tick_type, hour_ns, file_path"
        )
        return [row_to_file(row) for row in self._select(query, values)]

    # -- rebuild while others write ----------------------------------------------------------------

    def is_complete(self) -> bool:
        """Return whether every file of the store was inserted since the database was created."""
        return self._select("SELECT complete FROM index_state") == [(True,)]

    def set_complete(self, complete: bool) -> None:
        """Store whether every file of the store was inserted."""
        self._database.run(
            lambda cursor: cursor.execute(
                "UPDATE index_state SET complete = %s, updated_at = now()", (complete,)
            )
        )

    def next_revision(self) -> int:
        """Return a number that all later changes exceed; take it before reading a file."""
        ((revision,),) = self._select("SELECT nextval('index_revision')")
        return int(revision)

    def refresh_files(self, records: Iterable[FileRecord], revision: int) -> None:
        """Insert or replace rows by path, except those changed since ``revision``."""
        files = list(records)
        self._database.run(lambda cursor: write_files(cursor, files, before_revision=revision))

    def drop_stale_files(self, paths: Iterable[str], revision: int) -> None:
        """Remove rows by path, except those changed since ``revision``."""
        stale = sorted(set(paths))
        self._database.run(
            lambda cursor: cursor.execute(
                "DELETE FROM tick_files WHERE file_path = ANY(%s) AND revision < %s",
                (stale, revision),
            )
        )

    def refresh_coverage(
        self,
        streams: Iterable[StreamKey],
        records: Iterable[CoverageRecord],
        revision: int,
    ) -> None:
        """Replace the intervals of some streams, except those changed since ``revision``."""
        intervals = list(records)
        keys = sorted(set(streams))

        def refresh(cursor: Cursor[TupleRow]) -> None:
            cursor.execute(
                "DELETE FROM coverage AS c USING unnest(%s::BIGINT[], %s::TEXT[]) "
                "AS stream (contract_id, tick_type) WHERE c.contract_id = stream.contract_id "
                "AND c.tick_type = stream.tick_type AND c.revision < %s",
                ([key[0] for key in keys], [key[1] for key in keys], revision),
            )
            write_coverage(cursor, intervals, before_revision=revision)

        self._database.run(refresh)

    def analyze(self) -> None:
        """Refresh the planner statistics (ANALYZE) after many inserts."""
        self._database.run(
            lambda cursor: cursor.execute(
                "ANALYZE tick_files, coverage, companion_files, archived_files"
            )
        )

    # -- statistics --------------------------------------------------------------------------------

    def daily_stats(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[DailyStats]:
        """Return daily statistics, by contract, tick type and date."""
        where, values = _stream_conditions(contract_ids, tick_types)
        query = f"{DAILY_STATS} {_where(where)} ORDER BY contract_id, tick_type, date"
        return [DailyStats(*row) for row in self._select(query, values)]

    # -- contracts --------------------------------------------------------------------------------

    def contracts(self) -> list[ContractRecord]:
        """Return all contracts, by id."""
        query = (
            "SELECT contract_id, symbol, exchange, currency, contract_type FROM contracts "
            "ORDER BY contract_id"
        )
        return [ContractRecord(*row) for row in self._select(query)]

    # -- coverage ---------------------------------------------------------------------------------

    def coverage(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CoverageRecord]:
        """Return the intervals that meet ``[start_ns, end_ns)``; see IndexReads."""
        if start_ns is not None and end_ns is not None and start_ns >= end_ns:
            return []
        where, values = _stream_conditions(contract_ids, tick_types)
        if start_ns is not None:
            where.append("(end_ns IS NULL OR end_ns > %(start)s OR start_ns >= %(start)s)")
            values["start"] = start_ns
        if end_ns is not None:
            where.append("start_ns < %(end)s")
            values["end"] = end_ns
        query = (
            "SELECT contract_id, tick_type, start_ns, end_ns, state, reason FROM coverage "
            f"{_where(where)} ORDER BY contract_id, tick_type, start_ns"
        )
        return [CoverageRecord(*row) for row in self._select(query, values)]

    # -- companions --------------------------------------------------------------------------------

    def companions(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CompanionRecord]:
        """Return the companions of the days that meet ``[start_ns, end_ns)``; see IndexReads."""
        if start_ns is not None and end_ns is not None and start_ns >= end_ns:
            return []
        where, values = _stream_conditions(contract_ids, tick_types)
        if start_ns is not None:
            where.append("day_ns >= %(first)s")
            values["first"] = start_ns - start_ns % DAY_NS
        if end_ns is not None:
            where.append("day_ns < %(end)s")
            values["end"] = end_ns
        query = (
            f"SELECT {', '.join(COMPANION_COLUMNS)} FROM companion_files {_where(where)} "
            "ORDER BY contract_id, tick_type, day_ns"
        )
        return [row_to_companion(row) for row in self._select(query, values)]

    # -- archived copies ---------------------------------------------------------------------------

    def archived(self, paths: Sequence[str] | None = None) -> list[ArchivedCopy]:
        """Return the archived copies of some hour files, or of all, by path; see IndexReads."""
        where = [] if paths is None else ["file_path = ANY(%(paths)s)"]
        query = (
            f"SELECT {', '.join(ARCHIVED_COLUMNS)} FROM archived_files {_where(where)} "
            "ORDER BY file_path"
        )
        return [row_to_archived(row) for row in self._select(query, {"paths": list(paths or ())})]

    # -- market sessions ---------------------------------------------------------------------------

    def put_sessions(self, rows: Iterable[MarketSessionRow]) -> None:
        """Replace the market sessions of each market and type between the first and the last row.

        Parameters
        ----------
        rows : iterable of MarketSessionRow
            Market, session type, trading day (``datetime.date``), start and end (UTC nanoseconds,
            the end exclusive), and whether the exchange closes early.
        """
        unique = {row[:3]: row for row in rows}
        if not unique:
            return
        columns = [
            list(column) for column in zip(*(unique[key] for key in sorted(unique)), strict=True)
        ]
        self._database.run(lambda cursor: write_sessions(cursor, columns))

    def sessions_span(self, market: str) -> tuple[date, date] | None:
        """Return the first and last stored trading day of a market, or None."""
        query = (
            "SELECT min(session_date), max(session_date) FROM market_sessions "
            "WHERE market = %(market)s"
        )
        ((first, last),) = self._select(query, {"market": market})
        return None if first is None else (first, last)

    # -- SQL queries -------------------------------------------------------------------------------

    def read_query(
        self,
        sql: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float = QUERY_TIMEOUT_SECONDS,
    ) -> QueryResult:
        """Run one SQL statement that reads, with the rights of a role that can only read.

        Parameters
        ----------
        sql : str
            One statement; ``%s`` or ``%(name)s`` stand for ``params``.
        params : sequence or mapping, optional
        timeout_seconds : float
            Time limit.

        Raises
        ------
        ReadOnlyError
            The statement would change something, or reads more than the index.
        TickIndexError
            PostgreSQL refused the statement, or it exceeded the timeout.
        """
        with self._database.connect() as connection, connection.allow_seconds(timeout_seconds):
            if self._has_reader is None:
                self._has_reader = create_reader_role(connection, timeout_seconds=timeout_seconds)
            return run_query(
                connection,
                sql,
                params,
                as_reader=self._has_reader,
                timeout_seconds=timeout_seconds,
            )

    def _select(self, query: str, values: dict[str, Any] | None = None) -> list[TupleRow]:
        return self._database.run(
            lambda cursor: cursor.execute(query.encode("utf-8"), values).fetchall(), single=True
        )


def _stream_conditions(
    contract_ids: Sequence[int] | None, tick_types: Sequence[str] | None
) -> tuple[list[str], dict[str, Any]]:
    where: list[str] = []
    values: dict[str, Any] = {}
    if contract_ids is not None:
        where.append("contract_id = ANY(%(contract_ids)s::BIGINT[])")
        values["contract_ids"] = list(contract_ids)
    if tick_types is not None:
        where.append("tick_type = ANY(%(tick_types)s::TEXT[])")
        values["tick_types"] = list(tick_types)
    return where, values


def _where(conditions: list[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""
