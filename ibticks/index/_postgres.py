"""The index in PostgreSQL: the tables and functions of ``sql/``, spoken to in plain SQL."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ibticks.index._database import MINIMUM_VERSION, Database
from ibticks.index._encoding import (
    FILE_FIELDS,
    contract_to_json,
    coverage_to_json,
    dump_json,
    file_to_json,
)
from ibticks.index._memory import corrected, fill_in, latest_coverage, latest_files
from ibticks.index._queries import make_reader, run_query
from ibticks.index._records import (
    QUERY_SECONDS,
    Block,
    ContractRecord,
    CoverageRecord,
    DailyStats,
    FileRecord,
    QueryResult,
)
from ibticks.index._statements import (
    COLUMNS,
    CORRECT_CONTRACTS,
    DAILY_STATS,
    DROP_SESSIONS,
    PUT_CONTRACTS,
    PUT_COVERAGE,
    PUT_FILES,
    PUT_SESSIONS,
    REFRESH_COVERAGE,
    REFRESH_FILES,
    STREAMS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from psycopg import Cursor
    from psycopg.rows import TupleRow

    from ibticks.index.embedded import EmbeddedServer

__all__ = ["PostgresIndex", "SessionRow"]

SessionRow: TypeAlias = tuple[str, str, date, int, int, bool]
"""Market, session type, trading day, start and end (UTC nanoseconds), early close."""

_BATCH: Final = 2_000  # files in one statement: a few MB of JSON


class PostgresIndex:
    """The index of a store in a PostgreSQL database; an :class:`~ibticks.index.Index`.

    Threads may share it, and processes may each have one.

    Parameters
    ----------
    dsn : str
        ``postgresql://user@host:port/database`` or libpq's ``key=value`` pairs.
    store_id : str
        The id in the store's ``metadata/store.json``.
    root : Path, optional
        Where the store lies, to tell a moved store from a copied one.
    server : EmbeddedServer, optional
        The embedded server ``dsn`` leads to; closed with the index.
    minimum_version : int
        Oldest major version of the server that is accepted.

    Raises
    ------
    IndexUnavailableError
        Nothing answers there, or it does not let us in.
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
        """True: changes are kept at once."""
        return True

    def describe(self) -> str:
        """Server and place, in words; without the password."""
        kind = "embedded " if self._server is not None else ""
        return kind + self._database.describe()

    # -- files ------------------------------------------------------------------------------------

    def files(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[FileRecord]:
        """Files that may hold messages in ``[start_ns, end_ns)``, by contract, type and hour."""
        if start_ns is not None and end_ns is not None and start_ns >= end_ns:
            return []
        where, values = _of_streams(contract_ids, tick_types)
        if start_ns is not None or end_ns is not None:
            # The range finds them by its GiST index, to the microsecond; the rest is exact.
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
            f"SELECT {', '.join(COLUMNS)} FROM tick_files {_all_of(where)} "
            "ORDER BY contract_id, tick_type, hour_ns, file_path"
        )
        return [_file(row) for row in self._select(query, values)]

    def iter_files(self) -> Iterator[FileRecord]:
        """Iterate over all files, by path and without their blocks, a page at a time."""
        query = (
            f"SELECT {', '.join(COLUMNS[: len(FILE_FIELDS)])} FROM tick_files "
            "WHERE file_path > %(after)s ORDER BY file_path LIMIT %(page)s"
        )
        after = ""
        while page := self._select(query, {"after": after, "page": _BATCH}):
            records = [_file(row) for row in page]
            yield from records
            after = records[-1].path

    def put_files(self, records: Iterable[FileRecord]) -> None:
        """Insert or replace rows by path; the daily statistics of their days follow."""
        latest = latest_files(records)
        self._database.run(lambda cursor: _put_files(cursor, latest))

    def drop_files(self, paths: Iterable[str]) -> None:
        """Remove rows by path; the daily statistics of their days follow."""
        gone = sorted(set(paths))
        self._database.run(
            lambda cursor: cursor.execute(
                "DELETE FROM tick_files WHERE file_path = ANY(%s)", (gone,)
            )
        )

    def replace_files(self, records: Iterable[FileRecord]) -> None:
        """Make these rows, and no others, the index, all at once."""
        latest = latest_files(records)

        def replace(cursor: Cursor[TupleRow]) -> None:
            cursor.execute("SELECT lock_tick_files()")
            cursor.execute(
                "DELETE FROM tick_files AS f WHERE NOT EXISTS "
                "(SELECT FROM unnest(%s::TEXT[]) AS path WHERE path = f.file_path)",
                (sorted(latest),),
            )
            _put_files(cursor, latest)
            cursor.execute("ANALYZE tick_files")  # else the next plans know nothing of them

        self._database.run(replace)

    def paths(self) -> set[str]:
        """Return the paths of all files."""
        return {path for (path,) in self._select("SELECT file_path FROM tick_files")}

    def streams(self) -> set[tuple[int, str]]:
        """Return the contract ids and tick types that have captured files."""
        return {(contract_id, kind) for contract_id, kind in self._select(STREAMS)}

    def tick_ranges(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> dict[tuple[int, str], tuple[int, int]]:
        """Return the first and last tick in the sealed files of each stream that has any."""
        where, values = _of_streams(contract_ids, tick_types)
        where += ["sealed", "first_tick_ns IS NOT NULL"]
        query = (
            "SELECT contract_id, tick_type, min(first_tick_ns), max(last_tick_ns) FROM tick_files "
            f"{_all_of(where)} GROUP BY contract_id, tick_type"
        )
        return {(row[0], row[1]): (row[2], row[3]) for row in self._select(query, values)}

    def open_files(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[FileRecord]:
        """Return the files that are not sealed, by contract, type and hour."""
        where, values = _of_streams(contract_ids, tick_types)
        query = (
            f"SELECT {', '.join(COLUMNS)} FROM tick_files {_all_of([*where, 'NOT sealed'])} "
            "ORDER BY contract_id, tick_type, hour_ns, file_path"
        )
        return [_file(row) for row in self._select(query, values)]

    # -- a rebuild beside writers ------------------------------------------------------------------

    def is_complete(self) -> bool:
        """Whether every file of the store has been entered since the database was made."""
        return self._select("SELECT complete FROM index_state") == [(True,)]

    def set_complete(self, complete: bool) -> None:
        """Store whether every file has been entered."""
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
        latest = latest_files(records)
        self._database.run(lambda cursor: _put_files(cursor, latest, revision))

    def drop_stale_files(self, paths: Iterable[str], revision: int) -> None:
        """Remove rows by path, except those changed since ``revision``."""
        gone = sorted(set(paths))
        self._database.run(
            lambda cursor: cursor.execute(
                "DELETE FROM tick_files WHERE file_path = ANY(%s) AND revision < %s",
                (gone, revision),
            )
        )

    def refresh_coverage(
        self,
        streams: Iterable[tuple[int, str]],
        records: Iterable[CoverageRecord],
        revision: int,
    ) -> None:
        """Make these the intervals of some streams, except those changed since ``revision``."""
        latest = latest_coverage(records)
        pairs = sorted(set(streams))
        ids, kinds = [pair[0] for pair in pairs], [pair[1] for pair in pairs]

        def refresh(cursor: Cursor[TupleRow]) -> None:
            cursor.execute(
                "DELETE FROM coverage AS c USING unnest(%s::BIGINT[], %s::TEXT[]) "
                "AS stream (contract_id, tick_type) WHERE c.contract_id = stream.contract_id "
                "AND c.tick_type = stream.tick_type AND c.revision < %s",
                (ids, kinds, revision),
            )
            _put_coverage(cursor, latest, revision)

        self._database.run(refresh)

    def analyze(self) -> None:
        """Have PostgreSQL count the rows again, after many have been entered."""
        self._database.run(lambda cursor: cursor.execute("ANALYZE tick_files, coverage"))

    # -- statistics --------------------------------------------------------------------------------

    def daily_stats(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[DailyStats]:
        """Daily statistics, by contract, tick type and date."""
        where, values = _of_streams(contract_ids, tick_types)
        query = f"{DAILY_STATS} {_all_of(where)} ORDER BY contract_id, tick_type, date"
        return [DailyStats(*row) for row in self._select(query, values)]

    # -- contracts --------------------------------------------------------------------------------

    def contracts(self) -> list[ContractRecord]:
        """Every contract known, by id."""
        query = (
            "SELECT contract_id, symbol, exchange, currency, contract_type FROM contracts "
            "ORDER BY contract_id"
        )
        return [ContractRecord(*row) for row in self._select(query)]

    def put_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or fill in what a known one lacks."""
        self._merge_contracts(PUT_CONTRACTS, fill_in, records)

    def correct_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or replace what is known of them by what is not empty."""
        self._merge_contracts(CORRECT_CONTRACTS, corrected, records)

    def _merge_contracts(
        self,
        statement: str,
        merge: Callable[[ContractRecord | None, ContractRecord], ContractRecord],
        records: Iterable[ContractRecord],
    ) -> None:
        merged: dict[int, ContractRecord] = {}
        for record in records:
            merged[record.contract_id] = merge(merged.get(record.contract_id), record)
        rows = [contract_to_json(merged[key]) for key in sorted(merged)]
        self._database.run(
            lambda cursor: cursor.execute(statement.encode("utf-8"), (dump_json(rows),))
        )

    # -- coverage ---------------------------------------------------------------------------------

    def coverage(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CoverageRecord]:
        """Intervals that meet ``[start_ns, end_ns)``, by contract, type and start.

        One without an end lasts; one of no length is where it starts.
        """
        if start_ns is not None and end_ns is not None and start_ns >= end_ns:
            return []
        where, values = _of_streams(contract_ids, tick_types)
        if start_ns is not None:
            where.append("(end_ns IS NULL OR end_ns > %(start)s OR start_ns >= %(start)s)")
            values["start"] = start_ns
        if end_ns is not None:
            where.append("start_ns < %(end)s")
            values["end"] = end_ns
        query = (
            "SELECT contract_id, tick_type, start_ns, end_ns, state, reason FROM coverage "
            f"{_all_of(where)} ORDER BY contract_id, tick_type, start_ns"
        )
        return [CoverageRecord(*row) for row in self._select(query, values)]

    def put_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Insert intervals, or replace those of the same stream and start (to close one)."""
        latest = latest_coverage(records)
        self._database.run(lambda cursor: _put_coverage(cursor, latest))

    def drop_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Remove the intervals of these streams and starts."""
        keys = sorted(latest_coverage(records))
        self._database.run(
            lambda cursor: cursor.execute(
                "DELETE FROM coverage AS c USING unnest(%s::BIGINT[], %s::TEXT[], %s::BIGINT[]) "
                "AS gone (contract_id, tick_type, start_ns) WHERE c.contract_id = gone.contract_id "
                "AND c.tick_type = gone.tick_type AND c.start_ns = gone.start_ns",
                ([key[0] for key in keys], [key[1] for key in keys], [key[2] for key in keys]),
            )
        )

    def replace_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Make these intervals, and no others, the ledger, all at once (a rebuild)."""
        latest = latest_coverage(records)

        def replace(cursor: Cursor[TupleRow]) -> None:
            cursor.execute("DELETE FROM coverage")
            _put_coverage(cursor, latest)

        self._database.run(replace)

    # -- sessions ---------------------------------------------------------------------------------

    def put_sessions(self, rows: Iterable[SessionRow]) -> None:
        """Make these the sessions of their market and type between the first and the last.

        Parameters
        ----------
        rows : iterable of SessionRow
            Market, session type, trading day (``datetime.date``), start and end (UTC nanoseconds,
            the end exclusive), and whether the exchange closes early.
        """
        unique = {row[:3]: row for row in rows}
        if not unique:
            return
        columns = [
            list(column) for column in zip(*(unique[key] for key in sorted(unique)), strict=True)
        ]

        def put(cursor: Cursor[TupleRow]) -> None:
            cursor.execute(DROP_SESSIONS, columns[:3])
            cursor.execute(PUT_SESSIONS, columns)
            # Else get_session_boundaries reads a market through, for want of an estimate.
            cursor.execute("ANALYZE market_sessions")

        self._database.run(put)

    def sessions_span(self, market: str) -> tuple[date, date] | None:
        """First and last trading day known of a market; None if there is none."""
        query = (
            "SELECT min(session_date), max(session_date) FROM market_sessions "
            "WHERE market = %(market)s"
        )
        ((first, last),) = self._select(query, {"market": market})
        return None if first is None else (first, last)

    # -- anything ---------------------------------------------------------------------------------

    def query(
        self, sql: str, params: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run one SQL statement that reads, and return a dictionary per row.

        The same as :meth:`read_query`, which also has the columns of an empty answer.
        """
        return self.read_query(sql, params).to_dicts()

    def read_query(
        self,
        sql: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float = QUERY_SECONDS,
    ) -> QueryResult:
        """Run one SQL statement that reads; see ``run_query``.

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
            PostgreSQL refused the statement, for the reason it gives, or it took too long.
        """
        with self._database.connect() as connection, connection.allow_seconds(timeout_seconds):
            if self._has_reader is None:
                self._has_reader = make_reader(connection, timeout_seconds=timeout_seconds)
            return run_query(
                connection,
                sql,
                params,
                as_reader=self._has_reader,
                timeout_seconds=timeout_seconds,
            )

    def close(self) -> None:
        """Close the connections; the embedded server stops with its last user."""
        self._database.close()
        if self._server is not None:
            self._server.close()

    def _select(self, query: str, values: dict[str, Any] | None = None) -> list[TupleRow]:
        return self._database.run(
            lambda cursor: cursor.execute(query.encode("utf-8"), values).fetchall()
        )


def _put_files(
    cursor: Cursor[TupleRow], records: Mapping[str, FileRecord], before: int | None = None
) -> None:
    """Upsert rows; with ``before``, only those whose revision is smaller."""
    paths = sorted(records)
    statement, guard = (PUT_FILES, []) if before is None else (REFRESH_FILES, [before])
    for first in range(0, len(paths), _BATCH):
        rows = [file_to_json(records[path]) for path in paths[first : first + _BATCH]]
        cursor.execute(statement.encode("utf-8"), (dump_json(rows), *guard))


def _put_coverage(
    cursor: Cursor[TupleRow],
    records: Mapping[tuple[int, str, int], CoverageRecord],
    before: int | None = None,
) -> None:
    """Upsert intervals; with ``before``, only those whose revision is smaller."""
    rows = [coverage_to_json(records[key]) for key in sorted(records)]
    statement, guard = (PUT_COVERAGE, []) if before is None else (REFRESH_COVERAGE, [before])
    cursor.execute(statement.encode("utf-8"), (dump_json(rows), *guard))


def _of_streams(
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


def _all_of(where: list[str]) -> str:
    return f"WHERE {' AND '.join(where)}" if where else ""


def _file(row: TupleRow) -> FileRecord:
    values = dict(zip(FILE_FIELDS, row[: len(FILE_FIELDS)], strict=True))
    for name in ("first_sequence", "last_sequence"):
        if values[name] is not None:
            values[name] = int(values[name])  # NUMERIC: unsigned 64 bit does not fit a BIGINT
    blocks = row[len(FILE_FIELDS) :]
    return FileRecord(**values, blocks=tuple(map(Block, *blocks)) if blocks else ())
