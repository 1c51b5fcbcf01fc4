"""The index asked in SQL."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from ibticks import Store, errors
from ibticks.calendar import MARKETS, market


def test_a_query_returns_a_frame(sample_store: Store) -> None:
    frame = sample_store.sql(
        "SELECT c.symbol, f.tick_type, sum(f.tick_count)::BIGINT AS ticks FROM tick_files AS f "
        "JOIN contracts AS c USING (contract_id) GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert frame.rows() == [
        ("BTCUSDT", "all_last", 19904),
        ("BTCUSDT", "bid_ask", 73174),
        ("IBM", "all_last", 33381),
        ("IBM", "bid_ask", 62875),
    ]


def test_parameters(sample_store: Store) -> None:
    by_place = sample_store.sql(
        "SELECT symbol FROM contracts WHERE contract_id = %s AND symbol LIKE 'I%%'", [8314]
    )
    by_name = sample_store.sql("SELECT symbol FROM contracts WHERE symbol = %(s)s", {"s": "IBM"})
    assert by_place.rows() == by_name.rows() == [("IBM",)]


def test_a_percent_sign_without_parameters(sample_store: Store) -> None:
    query = "SELECT count(*) AS n FROM tick_files WHERE file_path LIKE '8314/%'"
    assert sample_store.sql(query).item() == 29


def test_whole_tables(sample_store: Store) -> None:
    files = sample_store.sql("SELECT * FROM tick_files ORDER BY file_path")
    assert files.height == 33
    assert pl.Object not in files.dtypes
    assert files["time_range"][0].startswith("[")
    assert files.to_arrow().num_rows == 33
    assert sample_store.sql("SELECT * FROM contracts WHERE false").shape == (0, 10)


VALUES = """
    SELECT 1::SMALLINT AS i, 1.5::REAL AS f, true AS b, 'a' AS s, DATE '2025-01-10' AS d,
        TIMESTAMPTZ '2025-01-10 14:30:00+00' AS t, TIMESTAMP '2025-01-10 14:30:00' AS p,
        TIME '14:30:00' AS c, INTERVAL '1 hour' AS v, 1.25::NUMERIC AS n, 2::NUMERIC(9, 2) AS m,
        '\\x00ff'::BYTEA AS y, ARRAY[1, 2] AS l, ARRAY['a', NULL] AS k, '{"a": [1]}'::JSONB AS j,
        '8c1f4e5a-2f60-4c07-9d2a-7c7d1f9e4b55'::UUID AS u, int8range(1, 3) AS r,
        'tick_files'::REGCLASS AS g, '10.0.0.1'::INET AS h, ARRAY[[1, 2], [3, 4]] AS a
"""


def test_a_result_has_the_same_columns_with_and_without_rows(sample_store: Store) -> None:
    full = sample_store.sql(VALUES)
    empty = sample_store.sql(f"SELECT * FROM ({VALUES}) AS q WHERE false")
    nulls = sample_store.sql(
        f"SELECT q.* FROM (SELECT 1) AS one LEFT JOIN ({VALUES}) AS q ON false"
    )
    assert (full.height, empty.height, nulls.height) == (1, 0, 1)
    assert full.columns == empty.columns == nulls.columns
    assert empty.schema == nulls.schema
    # The places of a decimal and the dimensions of an array are those of the values.
    varying = ("n", "m", "a")
    assert full.drop(varying).schema == empty.drop(varying).schema
    assert pl.Object not in full.dtypes
    assert pl.Null not in empty.dtypes
    row = full.row(0, named=True)
    assert (row["i"], row["f"], row["g"], row["h"]) == (1, 1.5, "tick_files", "10.0.0.1")
    assert (row["j"], row["r"], row["l"]) == ('{"a": [1]}', "[1, 3)", [1, 2])
    assert (str(row["n"]), str(row["m"]), row["y"]) == ("1.25", "2.00", b"\x00\xff")


def test_numbers_beyond_decimal_precision(sample_store: Store) -> None:
    frame = sample_store.sql("SELECT * FROM (VALUES (1.5), ('NaN'::NUMERIC), (NULL)) AS v(n)")
    assert frame["n"].dtype == pl.Float64
    assert frame["n"].is_nan().to_list() == [False, True, None]


def test_columns_of_one_name_are_numbered(sample_store: Store) -> None:
    frame = sample_store.sql("SELECT * FROM contracts AS a JOIN contracts AS b USING (contract_id)")
    assert frame.columns[1] == "symbol"
    assert "symbol_1" in frame.columns
    assert frame["symbol"].equals(frame["symbol_1"].rename("symbol"))


@pytest.mark.parametrize(
    "statement",
    [
        "DO $$ BEGIN COMMIT; SET TRANSACTION READ WRITE; DELETE FROM tick_files; COMMIT; END $$",
        "COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'",
        "SELECT pg_read_file('PG_VERSION')",
        "SELECT set_config('role', 'none', true)",
    ],
)
def test_a_query_cannot_change_the_index_or_read_files(sample_store: Store, statement: str) -> None:
    with pytest.raises((errors.ReadOnlyError, errors.TickIndexError)):
        sample_store.sql(statement)
    assert sample_store.sql("SELECT count(*) FROM tick_files").item() == 33


def test_a_query_has_a_time_limit(sample_store: Store) -> None:
    with pytest.raises(errors.TickIndexError, match=r"exceeded its timeout of 0\.1 s"):
        sample_store.sql("SELECT pg_sleep(600)", timeout_seconds=0.1)


def test_times_are_utc(sample_store: Store) -> None:
    frame = sample_store.sql("SELECT min(first_tick) AS first FROM daily_tick_stats")
    assert frame.item() == datetime(2013, 10, 8, 8, 0, 0, 640000, tzinfo=UTC)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO contracts (contract_id, symbol) VALUES (1, 'X')",
        "UPDATE tick_files SET sealed = false",
        "DELETE FROM coverage",
        "TRUNCATE tick_files",
        "DROP TABLE tick_files",
        "CREATE TABLE mine (n INT)",
        "SELECT 1; DELETE FROM contracts",
    ],
)
def test_a_query_is_read_only(sample_store: Store, statement: str) -> None:
    with pytest.raises(errors.ReadOnlyError, match="only reads"):
        sample_store.sql(statement)
    assert len(sample_store.contracts()) == 2


def test_a_wrong_statement(sample_store: Store) -> None:
    with pytest.raises(errors.TickIndexError, match='relation "ticks" does not exist'):
        sample_store.sql("SELECT * FROM ticks")
    with pytest.raises(errors.TickIndexError, match=r"tables tick_files.*store\.select"):
        sample_store.sql("SELECT * FROM trades")
    with pytest.raises(errors.TickIndexError, match="PostgreSQL refused the query"):
        sample_store.sql("SELECT %s", [1, 2])


FIRST, LAST = date(2024, 1, 1), date(2025, 12, 31)


@pytest.mark.parametrize("name", MARKETS)
def test_sessions_in_sql_are_those_of_the_calendars(sample_store: Store, name: str) -> None:
    """Start and end of each session type over two years, and no row on days without a session."""
    for session_type in market(name).session_types:
        rows = sample_store.sql(
            "SELECT day::DATE AS day, session_start, session_end FROM "
            "generate_series(%s::DATE, %s::DATE, '1 day') AS day, "
            "LATERAL get_session_boundaries(day::DATE, %s, %s) ORDER BY day",
            [FIRST, LAST, name, session_type],
        )
        sessions = market(name).sessions(FIRST, LAST, session_type)
        assert len(sessions) > 480
        assert rows.rows() == [
            (session.date, session.start.astimezone(UTC), session.end.astimezone(UTC))
            for session in sessions
        ]


def test_unknown_sessions_in_sql(sample_store: Store) -> None:
    def boundaries(day: date, name: str = "US", kind: str = "regular") -> pl.DataFrame:
        return sample_store.sql(
            "SELECT * FROM get_session_boundaries(%s, %s, %s)", [day, name, kind]
        )

    assert boundaries(date(2025, 1, 9)).height == 0  # a day of mourning
    assert boundaries(date(2025, 1, 10)).height == 1
    for wrong in (("US", "lunch"), ("MARS", "regular")):
        with pytest.raises(errors.TickIndexError, match="Unknown"):
            boundaries(date(2025, 1, 10), *wrong)
    with pytest.raises(errors.TickIndexError, match="are known from 2000-01-03 to"):
        boundaries(date(1999, 1, 4))


def test_daily_figures(sample_store: Store) -> None:
    rows = sample_store.sql("SELECT * FROM daily_tick_stats ORDER BY contract_id, tick_type, date")
    days = sample_store.daily_stats()
    assert rows.height == len(days) == 7
    for row, day in zip(rows.to_dicts(), days, strict=True):
        assert (str(row["date"]), row["total_ticks"], row["vwap"], row["avg_price"]) == (
            day.date,
            day.ticks,
            day.vwap,
            day.avg_price,
        )
    assert [day.tick_type for day in sample_store.daily_stats("ibm", "bid_ask")] == ["bid_ask"] * 2
    assert len(sample_store.daily_stats(["ibm", 990101], ["all_last"])) == 3
    with pytest.raises(errors.UnknownTickTypeError):
        sample_store.daily_stats("ibm", ["trades"])
    with pytest.raises(errors.UnknownContractError):
        sample_store.daily_stats("AAPL")
