"""Tables of the index: their columns, the SQL statements, and the functions that write rows.

Records go to the server as JSON, many in one statement, so that a thousand files take one round
trip and the daily statistics of a day are computed once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ibticks.index._memory import (
    correct_contract,
    fill_in_contract,
    latest_by_path,
    latest_coverage,
)
from ibticks.index._records import (
    ARCHIVED_FIELDS,
    BLOCK_FIELDS,
    COMPANION_FIELDS,
    COMPANION_HOUR_FIELDS,
    FILE_FIELDS,
    ArchivedCopy,
    Block,
    CompanionHour,
    CompanionRecord,
    FileRecord,
    dump_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from psycopg import Cursor
    from psycopg.rows import TupleRow

    from ibticks.index._protocol import IndexChange
    from ibticks.index._records import ContractRecord, CoverageRecord

__all__ = [
    "ARCHIVED_COLUMNS",
    "BATCH_ROWS",
    "COMPANION_COLUMNS",
    "DAILY_STATS",
    "FILE_COLUMNS",
    "FILE_COLUMNS_WITHOUT_BLOCKS",
    "LAST_TICKS",
    "STREAMS",
    "row_to_archived",
    "row_to_companion",
    "row_to_file",
    "write_change",
    "write_coverage",
    "write_files",
    "write_sessions",
]

BATCH_ROWS: Final = 2_000
"""Files in one statement: a few MB of JSON."""

_COLUMN_NAMES: Final = {
    "path": "file_path",
    "size": "file_size_bytes",
    "messages": "message_count",
    "ticks": "tick_count",
    "volume": "total_volume",
    **{f"block_{name}": f"block_{name}s" for name in ("offset", "size", "raw_size")},
}
"""Columns of tick_files with another name than the attribute of the record."""

_SQL_TYPES: Final = {
    **dict.fromkeys(("path", "tick_type", "compression", "location", "e_tag"), "TEXT"),
    **dict.fromkeys(("min_price", "max_price", "sum_price", "volume", "notional"), "FLOAT8"),
    **dict.fromkeys(("first_sequence", "last_sequence"), "NUMERIC"),
    "sealed": "BOOLEAN",
}
"""SQL types of the attributes that are not BIGINT."""

_BLOCK_ATTRIBUTES: Final = tuple(f"block_{name}" for name in BLOCK_FIELDS)
_ATTRIBUTES: Final = FILE_FIELDS + _BLOCK_ATTRIBUTES
FILE_COLUMNS: Final = tuple(_COLUMN_NAMES.get(name, name) for name in _ATTRIBUTES)
FILE_COLUMNS_WITHOUT_BLOCKS: Final = FILE_COLUMNS[: len(FILE_FIELDS)]

_PUT_FILES: Final = f"""
    INSERT INTO tick_files ({", ".join(FILE_COLUMNS)})
    SELECT {", ".join(_ATTRIBUTES)} FROM json_to_recordset(%s) AS record (
        {", ".join(f"{name} {_SQL_TYPES.get(name, 'BIGINT')}" for name in FILE_FIELDS)},
        {", ".join(f"{name} BIGINT[]" for name in _BLOCK_ATTRIBUTES)}
    )
    ON CONFLICT (file_path) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in FILE_COLUMNS)},
        revision = excluded.revision,
        updated_at = now()
"""

_REFRESH_FILES: Final = f"{_PUT_FILES}    WHERE tick_files.revision < %s\n"
"""As _PUT_FILES, except rows of that revision and later ones."""

_CONTRACT_COLUMNS: Final = ("symbol", "exchange", "currency", "contract_type")


def _merge_statement(primary: str, fallback: str) -> str:
    merged = (
        f"{name} = COALESCE(NULLIF({primary}.{name}, ''), {fallback}.{name})"
        for name in _CONTRACT_COLUMNS
    )
    return f"""
    INSERT INTO contracts AS known (contract_id, {", ".join(_CONTRACT_COLUMNS)})
    SELECT contract_id, {", ".join(_CONTRACT_COLUMNS)}
    FROM json_to_recordset(%s) AS record (
        contract_id BIGINT, {", ".join(f"{name} TEXT" for name in _CONTRACT_COLUMNS)}
    )
    ON CONFLICT (contract_id) DO UPDATE SET
        {", ".join(merged)},
        last_seen = now(),
        updated_at = now()
"""


_PUT_CONTRACTS: Final = _merge_statement("known", "excluded")
_CORRECT_CONTRACTS: Final = _merge_statement("excluded", "known")

_PUT_COVERAGE: Final = """
    INSERT INTO coverage (contract_id, tick_type, start_ns, end_ns, state, reason)
    SELECT contract_id, tick_type, start_ns, end_ns, state, reason
    FROM json_to_recordset(%s) AS record (
        contract_id BIGINT, tick_type TEXT, start_ns BIGINT, end_ns BIGINT, state TEXT, reason TEXT
    )
    ON CONFLICT (contract_id, tick_type, start_ns) DO UPDATE SET
        end_ns = excluded.end_ns,
        state = excluded.state,
        reason = excluded.reason,
        revision = excluded.revision,
        updated_at = now()
"""

_REFRESH_COVERAGE: Final = f"{_PUT_COVERAGE}    WHERE coverage.revision < %s\n"
"""As _PUT_COVERAGE, except rows of that revision and later ones."""

_COMPANION_HOURS: Final = {
    "hour_path": ("hour_paths", "TEXT[]"),
    "hour_size": ("hour_sizes", "BIGINT[]"),
    "hour_crc32c": ("hour_crc32c", "BIGINT[]"),
    "hour_rows": ("hour_rows", "BIGINT[]"),
}
"""Columns and SQL types of the arrays of hours."""

_COMPANION_ATTRIBUTES: Final = (
    *COMPANION_FIELDS,
    *(f"hour_{name}" for name in COMPANION_HOUR_FIELDS),
)
COMPANION_COLUMNS: Final = (
    *(
        {"path": "file_path", "rows": "row_count", "size": "file_size_bytes"}.get(name, name)
        for name in COMPANION_FIELDS
    ),
    *(_COMPANION_HOURS[f"hour_{name}"][0] for name in COMPANION_HOUR_FIELDS),
)

_PUT_COMPANIONS: Final = f"""
    INSERT INTO companion_files ({", ".join(COMPANION_COLUMNS)})
    SELECT {", ".join(_COMPANION_ATTRIBUTES)} FROM json_to_recordset(%s) AS record (
        {", ".join(f"{name} {_SQL_TYPES.get(name, 'BIGINT')}" for name in COMPANION_FIELDS)},
        {", ".join(f"{name} {sql_type}" for name, (_, sql_type) in _COMPANION_HOURS.items())}
    )
    ON CONFLICT (file_path) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in COMPANION_COLUMNS)},
        updated_at = now()
"""

ARCHIVED_COLUMNS: Final = tuple(
    {"path": "file_path", "size": "file_size_bytes"}.get(name, name) for name in ARCHIVED_FIELDS
)

_PUT_ARCHIVED: Final = f"""
    INSERT INTO archived_files ({", ".join(ARCHIVED_COLUMNS)})
    SELECT {", ".join(ARCHIVED_FIELDS)} FROM json_to_recordset(%s) AS record (
        {", ".join(f"{name} {_SQL_TYPES.get(name, 'BIGINT')}" for name in ARCHIVED_FIELDS)}
    )
    ON CONFLICT (file_path) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in ARCHIVED_COLUMNS)},
        updated_at = now()
"""

# New rows replace all sessions of their market and type between the first and the last day.
_DROP_SESSIONS: Final = """
    DELETE FROM market_sessions AS s
    USING (
        SELECT market, session_type, min(session_date) AS first, max(session_date) AS last
        FROM unnest(%s::TEXT[], %s::TEXT[], %s::DATE[])
            AS new_session (market, session_type, session_date)
        GROUP BY market, session_type
    ) AS replaced
    WHERE s.market = replaced.market
      AND s.session_type = replaced.session_type
      AND s.session_date BETWEEN replaced.first AND replaced.last
"""

_PUT_SESSIONS: Final = """
    INSERT INTO market_sessions (market, session_type, session_date, start_ns, end_ns, early_close)
    SELECT * FROM unnest(
        %s::TEXT[], %s::TEXT[], %s::DATE[], %s::BIGINT[], %s::BIGINT[], %s::BOOLEAN[]
    )
    ON CONFLICT (market, session_type, session_date) DO UPDATE SET
        start_ns = excluded.start_ns,
        end_ns = excluded.end_ns,
        early_close = excluded.early_close
"""

DAILY_STATS: Final = """
    SELECT contract_id, tick_type, to_char(date, 'YYYY-MM-DD'), total_files, total_messages,
        total_ticks, total_size_bytes, first_tick_ns, last_tick_ns, min_price, max_price,
        avg_price, total_volume, vwap
    FROM daily_tick_stats
"""

# One index probe a stream, from its last day backwards.
LAST_TICKS: Final = """
    SELECT stream.contract_id, stream.tick_type, day.last_tick_ns
    FROM unnest(%(contract_ids)s::BIGINT[], %(tick_types)s::TEXT[])
        AS stream (contract_id, tick_type)
    CROSS JOIN LATERAL (
        SELECT d.last_tick_ns FROM daily_tick_stats AS d
        WHERE d.contract_id = stream.contract_id
            AND d.tick_type = stream.tick_type COLLATE "C"
            AND d.last_tick_ns IS NOT NULL
        ORDER BY d.date DESC LIMIT 1
    ) AS day
"""

# One index probe a stream, however many days it has: PostgreSQL has no skip scan before 18.
STREAMS: Final = """
    WITH RECURSIVE stream AS (
        (SELECT contract_id, tick_type FROM daily_tick_stats
         ORDER BY contract_id, tick_type LIMIT 1)
        UNION ALL
        SELECT following.contract_id, following.tick_type
        FROM stream CROSS JOIN LATERAL (
            SELECT d.contract_id, d.tick_type FROM daily_tick_stats AS d
            WHERE (d.contract_id, d.tick_type) > (stream.contract_id, stream.tick_type)
            ORDER BY d.contract_id, d.tick_type LIMIT 1
        ) AS following
    )
    SELECT contract_id, tick_type FROM stream
"""


# -- writing ---------------------------------------------------------------------------------------


def write_change(cursor: Cursor[TupleRow], change: IndexChange) -> None:
    """Apply one change inside the cursor's transaction."""
    _WRITERS[change.operation](cursor, change.records)


def write_files(
    cursor: Cursor[TupleRow], records: Iterable[FileRecord], *, before_revision: int | None = None
) -> None:
    """Upsert files; with ``before_revision``, only rows of a smaller revision."""
    files = latest_by_path(records)
    paths = sorted(files)
    statement, guard = _PUT_FILES, []
    if before_revision is not None:
        statement, guard = _REFRESH_FILES, [before_revision]
    for first in range(0, len(paths), BATCH_ROWS):
        rows = [files[path].to_dict() for path in paths[first : first + BATCH_ROWS]]
        cursor.execute(statement.encode("utf-8"), (dump_json(rows), *guard))


def write_coverage(
    cursor: Cursor[TupleRow],
    records: Iterable[CoverageRecord],
    *,
    before_revision: int | None = None,
) -> None:
    """Upsert intervals; with ``before_revision``, only rows of a smaller revision."""
    intervals = latest_coverage(records)
    rows = [intervals[key].to_dict() for key in sorted(intervals)]
    statement, guard = _PUT_COVERAGE, []
    if before_revision is not None:
        statement, guard = _REFRESH_COVERAGE, [before_revision]
    cursor.execute(statement.encode("utf-8"), (dump_json(rows), *guard))


def write_sessions(cursor: Cursor[TupleRow], columns: Sequence[Sequence[Any]]) -> None:
    """Replace the market sessions of each market and type between the first and the last row."""
    cursor.execute(_DROP_SESSIONS, columns[:3])
    cursor.execute(_PUT_SESSIONS, columns)
    # Without an estimate, get_session_boundaries would scan all sessions of a market.
    cursor.execute("ANALYZE market_sessions")


def _replace_files(cursor: Cursor[TupleRow], records: Sequence[FileRecord]) -> None:
    cursor.execute("SELECT lock_tick_files()")
    cursor.execute(
        "DELETE FROM tick_files AS f WHERE NOT EXISTS "
        "(SELECT FROM unnest(%s::TEXT[]) AS path WHERE path = f.file_path)",
        (sorted({record.path for record in records}),),
    )
    write_files(cursor, records)
    cursor.execute("ANALYZE tick_files")  # the planner has no estimates of the new rows


def _put_contracts(cursor: Cursor[TupleRow], records: Iterable[ContractRecord]) -> None:
    _merge_contracts(cursor, _PUT_CONTRACTS, fill_in_contract, records)


def _correct_contracts(cursor: Cursor[TupleRow], records: Iterable[ContractRecord]) -> None:
    _merge_contracts(cursor, _CORRECT_CONTRACTS, correct_contract, records)


def _merge_contracts(
    cursor: Cursor[TupleRow],
    statement: str,
    merge: Callable[[ContractRecord | None, ContractRecord], ContractRecord],
    records: Iterable[ContractRecord],
) -> None:
    merged: dict[int, ContractRecord] = {}
    for record in records:
        merged[record.contract_id] = merge(merged.get(record.contract_id), record)
    rows = [merged[contract_id].to_dict() for contract_id in sorted(merged)]
    cursor.execute(statement.encode("utf-8"), (dump_json(rows),))


def _drop_coverage(cursor: Cursor[TupleRow], records: Iterable[CoverageRecord]) -> None:
    keys = sorted(latest_coverage(records))
    cursor.execute(
        "DELETE FROM coverage AS c USING unnest(%s::BIGINT[], %s::TEXT[], %s::BIGINT[]) "
        "AS dropped (contract_id, tick_type, start_ns) "
        "WHERE c.contract_id = dropped.contract_id AND c.tick_type = dropped.tick_type "
        "AND c.start_ns = dropped.start_ns",
        ([key[0] for key in keys], [key[1] for key in keys], [key[2] for key in keys]),
    )


def _replace_coverage(cursor: Cursor[TupleRow], records: Iterable[CoverageRecord]) -> None:
    cursor.execute("DELETE FROM coverage")
    write_coverage(cursor, records)


def _put_by_path(
    statement: str,
    cursor: Cursor[TupleRow],
    records: Iterable[Any],
) -> None:
    by_path = latest_by_path(records)
    rows = [by_path[path].to_dict() for path in sorted(by_path)]
    cursor.execute(statement.encode("utf-8"), (dump_json(rows),))


def _drop_by_path(table: str, cursor: Cursor[TupleRow], paths: Iterable[str]) -> None:
    cursor.execute(f"DELETE FROM {table} WHERE file_path = ANY(%s)".encode(), (sorted(set(paths)),))


_WRITERS: Final[dict[str, Callable[[Cursor[TupleRow], Any], None]]] = {
    "put_files": write_files,
    "drop_files": partial(_drop_by_path, "tick_files"),
    "replace_files": _replace_files,
    "put_contracts": _put_contracts,
    "correct_contracts": _correct_contracts,
    "put_coverage": write_coverage,
    "drop_coverage": _drop_coverage,
    "replace_coverage": _replace_coverage,
    "put_companions": partial(_put_by_path, _PUT_COMPANIONS),
    "drop_companions": partial(_drop_by_path, "companion_files"),
    "put_archived": partial(_put_by_path, _PUT_ARCHIVED),
    "drop_archived": partial(_drop_by_path, "archived_files"),
}
"""Function that applies each operation of a change."""


# -- reading ---------------------------------------------------------------------------------------


def row_to_file(row: TupleRow) -> FileRecord:
    """Return the record of a row of ``FILE_COLUMNS``, or of those without the blocks."""
    values = dict(zip(FILE_FIELDS, row[: len(FILE_FIELDS)], strict=True))
    for name in ("first_sequence", "last_sequence"):
        if values[name] is not None:
            values[name] = int(values[name])  # NUMERIC: unsigned 64 bit exceeds a BIGINT
    blocks = row[len(FILE_FIELDS) :]
    return FileRecord(**values, blocks=tuple(map(Block, *blocks)) if blocks else ())


def row_to_companion(row: TupleRow) -> CompanionRecord:
    """Return the record of a row of ``COMPANION_COLUMNS``."""
    values = dict(zip(COMPANION_FIELDS, row[: len(COMPANION_FIELDS)], strict=True))
    return CompanionRecord(**values, hours=tuple(map(CompanionHour, *row[len(COMPANION_FIELDS) :])))


def row_to_archived(row: TupleRow) -> ArchivedCopy:
    """Return the record of a row of ``ARCHIVED_COLUMNS``."""
    return ArchivedCopy(*row)
