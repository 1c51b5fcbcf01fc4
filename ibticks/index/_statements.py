"""The SQL statements of :mod:`ibticks.index` that are longer than a line or two.

Records go to the server as JSON (:mod:`ibticks.index`), many in one statement, so that a
thousand files take one round trip and the daily statistics of a day are computed once.
"""

from __future__ import annotations

from typing import Final

from ibticks.index._encoding import BLOCK_FIELDS, FILE_FIELDS

__all__ = [
    "COLUMNS",
    "CORRECT_CONTRACTS",
    "DAILY_STATS",
    "DROP_SESSIONS",
    "PUT_CONTRACTS",
    "PUT_COVERAGE",
    "PUT_FILES",
    "PUT_SESSIONS",
    "REFRESH_COVERAGE",
    "REFRESH_FILES",
    "STREAMS",
]

_COLUMN_NAMES: Final = {
    "path": "file_path",
    "size": "file_size_bytes",
    "messages": "message_count",
    "ticks": "tick_count",
    "volume": "total_volume",
    **{f"block_{name}": f"block_{name}s" for name in ("offset", "size", "raw_size")},
}
"""Columns of tick_files that are not called as the attribute of the record."""

_TYPES: Final = {
    **dict.fromkeys(("path", "tick_type", "compression"), "TEXT"),
    **dict.fromkeys(("min_price", "max_price", "sum_price", "volume", "notional"), "FLOAT8"),
    **dict.fromkeys(("first_sequence", "last_sequence"), "NUMERIC"),
    "sealed": "BOOLEAN",
}
"""SQL types of the attributes that are no BIGINT."""

_BLOCKS: Final = tuple(f"block_{name}" for name in BLOCK_FIELDS)
_ATTRIBUTES: Final = FILE_FIELDS + _BLOCKS
COLUMNS: Final = tuple(_COLUMN_NAMES.get(name, name) for name in _ATTRIBUTES)

PUT_FILES: Final = f"""
    INSERT INTO tick_files ({", ".join(COLUMNS)})
    SELECT {", ".join(_ATTRIBUTES)} FROM json_to_recordset(%s) AS record (
        {", ".join(f"{name} {_TYPES.get(name, 'BIGINT')}" for name in FILE_FIELDS)},
        {", ".join(f"{name} BIGINT[]" for name in _BLOCKS)}
    )
    ON CONFLICT (file_path) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in COLUMNS)},
        revision = excluded.revision,
        updated_at = now()
"""

REFRESH_FILES: Final = f"{PUT_FILES}    WHERE tick_files.revision < %s\n"
"""As PUT_FILES, but rows of that revision and later ones stay as they are."""

_CONTRACT_FIELDS: Final = ("symbol", "exchange", "currency", "contract_type")


def _merge_contracts(counts: str, fills_in: str) -> str:
    merged = (
        f"{name} = COALESCE(NULLIF({counts}.{name}, ''), {fills_in}.{name})"
        for name in _CONTRACT_FIELDS
    )
    return f"""
    INSERT INTO contracts AS known (contract_id, {", ".join(_CONTRACT_FIELDS)})
    SELECT contract_id, {", ".join(_CONTRACT_FIELDS)}
    FROM json_to_recordset(%s) AS record (
        contract_id BIGINT, {", ".join(f"{name} TEXT" for name in _CONTRACT_FIELDS)}
    )
    ON CONFLICT (contract_id) DO UPDATE SET
        {", ".join(merged)},
        last_seen = now(),
        updated_at = now()
"""


PUT_CONTRACTS: Final = _merge_contracts("known", "excluded")
CORRECT_CONTRACTS: Final = _merge_contracts("excluded", "known")

PUT_COVERAGE: Final = """
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

REFRESH_COVERAGE: Final = f"{PUT_COVERAGE}    WHERE coverage.revision < %s\n"
"""As PUT_COVERAGE, but rows of that revision and later ones stay as they are."""

# The sessions given are all there are of their market and type between the first and the last.
DROP_SESSIONS: Final = """
    DELETE FROM market_sessions AS s
    USING (
        SELECT market, session_type, min(session_date) AS first, max(session_date) AS last
        FROM unnest(%s::TEXT[], %s::TEXT[], %s::DATE[])
            AS given (market, session_type, session_date)
        GROUP BY market, session_type
    ) AS span
    WHERE s.market = span.market
      AND s.session_type = span.session_type
      AND s.session_date BETWEEN span.first AND span.last
"""

PUT_SESSIONS: Final = """
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
