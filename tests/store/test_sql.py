"""The index asked in SQL."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from ibticks import errors
from ibticks.calendar import MARKETS, market


def test_a_question_is_answered_with_a_frame(sample_store):
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


def test_parameters(sample_store):
    by_place = sample_store.sql(
        "SELECT symbol FROM contracts WHERE contract_id = %s AND symbol LIKE 'I%%'", [8314]
    )
    by_name = sample_store.sql("SELECT symbol FROM contracts WHERE symbol = %(s)s", {"s": "IBM"})
    assert by_place.rows() == by_name.rows() == [("IBM",)]


def test_without_parameters_a_percent_sign_is_one(sample_store):
    query = "SELECT count(*) AS n FROM tick_files WHERE file_path LIKE '8314/%'"
    assert sample_store.sql(query).item() == 29


def test_whole_tables(sample_store):
    files = sample_store.sql("SELECT * FROM tick_files ORDER BY file_path")
    assert files.height == 33
    assert pl.Object not in files.dtypes
    assert files["time_range"][0].startswith("[")
    assert files.to_arrow().num_rows == 33
    assert sample_store.sql("SELECT * FROM contracts WHERE false").shape == (0, 0)


def test_times_are_utc(sample_store):
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
def test_it_only_reads(sample_store, statement):
    with pytest.raises(errors.ReadOnlyError, match="only reads"):
        sample_store.sql(statement)
    assert len(sample_store.contracts()) == 2


def test_a_wrong_statement(sample_store):
    with pytest.raises(errors.TickIndexError, match='relation "ticks" does not exist'):
        sample_store.sql("SELECT * FROM ticks")
    with pytest.raises(errors.TickIndexError, match="PostgreSQL refused the query"):
        sample_store.sql("SELECT %s", [1, 2])


FIRST, LAST = date(2024, 1, 1), date(2025, 12, 31)


@pytest.mark.parametrize("name", MARKETS)
def test_sessions_in_sql_are_those_of_the_calendars(sample_store, name):
    """Two years of days, each session type: start and end, and nothing on days without one."""
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
            (each.date, each.start.astimezone(UTC), each.end.astimezone(UTC)) for each in sessions
        ]


def test_sessions_that_there_are_none_of(sample_store):
    def boundaries(day, name="US", kind="regular"):
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


def test_daily_figures(sample_store):
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
