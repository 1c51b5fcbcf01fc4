"""The PostgreSQL index: the contract of every index, its constraints, sessions and queries."""

from __future__ import annotations

import threading
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.errors import ReadOnlyError, TickIndexError
from ibticks.index import ContractRecord, CoverageRecord, FileRecord, PostgresIndex
from ibticks.index import _postgres as postgres
from ibticks.index._memory import daily_statistics
from ibticks.testing import IndexContract, make_archived_copy, make_companion_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import Connection

HOUR_NS = 3_600_000_000_000
DAY = 1_736_467_200_000_000_000  # 2025-01-10 00:00 UTC


class TestPostgresIndex(IndexContract):
    @pytest.fixture
    def index(self, index: PostgresIndex) -> PostgresIndex:
        return index


# -- files -----------------------------------------------------------------------------------------


def test_statistics_follow_plain_sql_too(
    index: PostgresIndex, sql: Connection[tuple[Any, ...]], make_file: Callable[..., FileRecord]
) -> None:
    index.put_files([make_file(0), make_file(1), make_file(24)])
    sql.execute("UPDATE tick_files SET message_count = 100 WHERE utc_date = '2025-01-10'")
    assert [day.messages for day in index.daily_stats()] == [200, 12]
    sql.execute("DELETE FROM tick_files WHERE utc_date = '2025-01-11'")
    assert [day.date for day in index.daily_stats()] == ["2025-01-10"]
    sql.execute("TRUNCATE tick_files")
    assert index.daily_stats() == []


def test_upserts_create_no_duplicate_rows(
    index: PostgresIndex, sql: Connection[tuple[Any, ...]], make_file: Callable[..., FileRecord]
) -> None:
    index.put_files([make_file(sealed=False), make_file(sealed=False, messages=13)])
    index.put_files([make_file(messages=14)])
    assert sql.execute(
        "SELECT count(*), min(created_at) < max(updated_at) FROM tick_files"
    ).fetchone() == (1, True)


def test_an_inconsistent_record_raises(
    index: PostgresIndex, make_file: Callable[..., FileRecord]
) -> None:
    with pytest.raises(TickIndexError, match="tick_files_start_before_end"):
        index.put_files([make_file(), make_file(1, start_ns=2, end_ns=1)])
    assert index.files() == []


def test_concurrent_writers_lose_no_statistics(
    dsn: str, store_id: str, make_file: Callable[..., FileRecord]
) -> None:
    """Writers add files to the same days: statistics must include the rows of all."""

    def write(worker: Any) -> None:
        index = PostgresIndex(dsn, store_id)
        for hour in range(worker, 48, 4):
            index.put_files([make_file(hour)])
        index.close()

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    index = PostgresIndex(dsn, store_id)
    assert [day.files for day in index.daily_stats()] == [24, 24]
    assert index.daily_stats() == daily_statistics(index.files())
    index.close()


# -- coverage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"end_ns": DAY - 1}, {"state": "asleep"}])
def test_invalid_intervals_raise(
    index: PostgresIndex, make_interval: Callable[..., CoverageRecord], wrong: dict[str, Any]
) -> None:
    with pytest.raises(TickIndexError, match="coverage_"):
        index.put_coverage([make_interval(DAY, **wrong)])


# -- archived copies -------------------------------------------------------------------------------


def test_the_view_of_locations_leaves_out_copies_of_other_bytes(
    index: PostgresIndex, make_file: Callable[..., FileRecord]
) -> None:
    files = [make_file(hour) for hour in range(3)]
    index.put_files(files)
    index.put_archived([make_archived_copy(file) for file in files[:2]])
    index.put_files([make_file(1, crc32c=1)])
    rows = index.query("SELECT file_path, location FROM file_locations ORDER BY file_path")
    assert [(row["file_path"], row["location"]) for row in rows] == [
        (files[0].path, f"s3://ticks/{files[0].path}"),
        (files[1].path, None),
        (files[2].path, None),
    ]


# -- companions ------------------------------------------------------------------------------------


def test_the_view_of_companions_tells_which_are_fresh(
    index: PostgresIndex, make_file: Callable[..., FileRecord]
) -> None:
    files = [make_file(hour) for hour in (0, 1, 24)]
    backfill = make_file(1, path="265598/last/0001-backfill_ticks.pb")
    index.put_files([*files, backfill])
    index.put_companions([make_companion_record(0, files[:2]), make_companion_record(1, files[2:])])

    def fresh() -> list[bool]:
        return [row["fresh"] for row in index.query("SELECT * FROM companions ORDER BY day")]

    assert fresh() == [True, True]
    (row, _) = index.query("SELECT * FROM companions ORDER BY day")
    assert row == {
        "path": "columns/265598/last/0000.parquet",
        "contract_id": 265598,
        "tick_type": "last",
        "day": date(2025, 1, 10),
        "rows": 20,
        "bytes": 2048,
        "hour_files": 2,
        "fresh": True,
    }
    for change in (
        make_file(1, crc32c=1),
        make_file(1, size=1),
        make_file(1, sealed=False, crc32c=None),
        make_file(2),
    ):
        index.put_files([change])
        assert fresh() == [False, True]
        index.drop_files([make_file(2).path])
        index.put_files([files[1]])
        assert fresh() == [True, True]
    index.drop_files([files[2].path])
    assert fresh() == [True, False]


# -- sessions --------------------------------------------------------------------------------------


def session(
    day: date, market: str = "US", session_type: str = "regular", early: bool = False
) -> tuple[str, str, date, int, int, bool]:
    start = DAY + (day - date(2025, 1, 10)).days * 24 * HOUR_NS + 14 * HOUR_NS + HOUR_NS // 2
    return (market, session_type, day, start, start + (3 if early else 6) * HOUR_NS, early)


def test_an_empty_write_of_sessions_is_a_no_op(index: PostgresIndex) -> None:
    index.put_sessions([])
    assert index.sessions_span("US") is None


def test_market_sessions_are_replaced_between_the_first_and_the_last(
    index: PostgresIndex, sql: Connection[tuple[Any, ...]]
) -> None:
    days = [date(2025, 1, 6) + timedelta(days=n) for n in range(5)]
    index.put_sessions(session(day) for day in days)
    index.put_sessions([session(date(2025, 1, 6), "UK")])
    assert index.sessions_span("US") == (date(2025, 1, 6), date(2025, 1, 10))
    assert index.sessions_span("JP") is None

    # The 9th was a day of mourning, announced after the calendar was made; the 10th closes early.
    index.put_sessions([session(days[1]), session(days[2]), session(days[4], early=True)])
    remaining = sql.execute(
        "SELECT session_date, early_close FROM market_sessions WHERE market = 'US' ORDER BY 1"
    ).fetchall()
    assert remaining == [(days[0], False), (days[1], False), (days[2], False), (days[4], True)]
    assert index.sessions_span("UK") == (date(2025, 1, 6), date(2025, 1, 6))


# -- anything --------------------------------------------------------------------------------------


def test_query_takes_positional_and_named_parameters(index: PostgresIndex) -> None:
    assert index.query("SELECT %s::INT AS n, 'a%%b' AS s", [3]) == [{"n": 3, "s": "a%b"}]
    assert index.query("SELECT %(n)s::INT AS n", {"n": 3}) == [{"n": 3}]
    assert index.query("SELECT 'a%b' AS s") == [{"s": "a%b"}]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM contracts",
        "CREATE TABLE mine (n INT)",
        "COMMIT; DELETE FROM contracts",
        "SELECT ns_floor(0); TRUNCATE contracts",
    ],
)
def test_query_is_read_only(index: PostgresIndex, aapl: ContractRecord, statement: str) -> None:
    index.put_contracts([aapl])
    with pytest.raises(ReadOnlyError, match="only reads"):
        index.query(statement)
    assert index.contracts() == [aapl]


def test_query_raises_the_error_of_postgresql(index: PostgresIndex) -> None:
    with pytest.raises(TickIndexError, match='"no_such_table" does not exist'):
        index.query("SELECT * FROM no_such_table")
    index.put_contracts([])  # and still may write


def test_query_without_rows(index: PostgresIndex) -> None:
    assert index.query("SHOW timezone") == [{"TimeZone": "UTC"}]
    assert index.query("SELECT 1 AS n WHERE false") == []


def test_describe(index: PostgresIndex) -> None:
    assert index.writable
    assert index.describe().startswith("PostgreSQL ")


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_iter_files_returns_all_pages(
    index: PostgresIndex,
    make_file: Callable[..., FileRecord],
    monkeypatch: pytest.MonkeyPatch,
    page: int,
) -> None:
    monkeypatch.setattr(postgres, "BATCH_ROWS", page)
    index.put_files([make_file(hour) for hour in range(5)])
    assert list(index.iter_files()) == [make_file(hour, blocks=0) for hour in range(5)]


def test_iter_files_of_an_empty_index(index: PostgresIndex) -> None:
    assert list(index.iter_files()) == []
