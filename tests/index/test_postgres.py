"""The PostgreSQL index stores records exactly and has the rules of the memory index."""

from __future__ import annotations

import math
import threading
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ibticks.errors import ReadOnlyError, TickIndexError
from ibticks.index import (
    Block,
    ContractRecord,
    CoverageRecord,
    FileRecord,
    MemoryIndex,
    PostgresIndex,
)
from ibticks.index import _postgres as postgres
from ibticks.index._memory import daily_statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import Connection

HOUR_NS = 3_600_000_000_000
DAY = 1_736_467_200_000_000_000  # 2025-01-10 00:00 UTC

against_the_database = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

int64 = st.integers(-(2**63), 2**63 - 1)
moments = st.integers(DAY - 3 * HOUR_NS, DAY + 30 * HOUR_NS)
amounts = st.none() | st.floats(allow_nan=False)
counts = st.integers(0, 2**40)


@st.composite
def file_records(draw: Any) -> FileRecord:
    contract_id = draw(st.sampled_from([1, 2, 4_000_000_000]))
    tick_type = draw(st.sampled_from(["last", "all_last", "bid_ask"]))
    hour = draw(st.integers(-3, 30))
    hour_ns = DAY + hour * HOUR_NS
    start_ns, end_ns = sorted([draw(moments), draw(moments)])
    block = st.builds(Block, *[st.integers(0, 2**62)] * 4, *[int64] * 3, st.integers(0, 2**32 - 1))
    part = draw(st.sampled_from(["", "-30", "-backfill"]))
    return FileRecord(
        path=f"{contract_id}/{tick_type}/{hour + 3:02d}{part}_ticks.pb",
        contract_id=contract_id,
        tick_type=tick_type,
        hour_ns=hour_ns,
        start_ns=start_ns,
        end_ns=end_ns,
        size=draw(counts),
        messages=draw(counts),
        ticks=draw(counts),
        compression=draw(st.sampled_from(["none", "gzip", "zstd", "snappy"])),
        sealed=draw(st.booleans()),
        crc32c=draw(st.none() | st.integers(0, 2**32 - 1)),
        first_tick_ns=draw(st.none() | moments),
        last_tick_ns=draw(st.none() | moments),
        first_sequence=draw(st.none() | st.integers(0, 2**64 - 1)),
        last_sequence=draw(st.none() | st.integers(0, 2**64 - 1)),
        min_price=draw(amounts),
        max_price=draw(amounts),
        sum_price=draw(amounts),
        priced_ticks=draw(st.integers(0, 5)),
        volume=draw(amounts),
        notional=draw(amounts),
        blocks=tuple(draw(st.lists(block, max_size=3))),
    )


@st.composite
def intervals(draw: Any) -> CoverageRecord:
    start = draw(moments)
    return CoverageRecord(
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from(["last", "bid_ask"])),
        start,
        draw(st.none() | st.integers(start, start + 3 * HOUR_NS)),
        draw(st.sampled_from(["captured", "quiet", "disconnected"])),
        draw(st.sampled_from(["", "1100", "größe \"x\" \\ 'y'"])),
    )


streams = st.fixed_dictionaries(
    {
        "contract_ids": st.none() | st.lists(st.sampled_from([1, 2, 3, 4_000_000_000]), max_size=2),
        "tick_types": st.none() | st.lists(st.sampled_from(["last", "bid_ask"]), max_size=2),
    }
)
ranges = st.fixed_dictionaries({"start_ns": st.none() | moments, "end_ns": st.none() | moments})


# -- files -----------------------------------------------------------------------------------------


@given(st.lists(file_records(), max_size=6))
@against_the_database
def test_files_are_read_back_exactly(index: PostgresIndex, records: list[Any]) -> None:
    index.replace_files(records)
    assert index.files() == MemoryIndex(records).files()


@given(st.lists(file_records(), max_size=8), st.lists(st.tuples(streams, ranges), max_size=8))
@against_the_database
def test_reads_equal_those_of_the_memory_index(
    index: PostgresIndex, records: list[Any], questions: list[Any]
) -> None:
    index.replace_files(records)
    memory = MemoryIndex(records)
    for stream, times in questions:
        assert index.files(**stream, **times) == memory.files(**stream, **times)


@given(st.lists(file_records(), max_size=8))
@against_the_database
def test_daily_statistics_equal_those_in_python(index: PostgresIndex, records: list[Any]) -> None:
    index.replace_files(records)
    latest = MemoryIndex(records).files()
    assert index.daily_stats() == daily_statistics(latest)


def test_statistics_follow_every_write(
    index: PostgresIndex, make_file: Callable[..., FileRecord]
) -> None:
    files = [make_file(hour, tick_type=t) for hour in (0, 1, 23, 24) for t in ("last", "bid_ask")]
    memory = MemoryIndex()

    def same() -> None:
        assert index.daily_stats() == memory.daily_stats()

    for step in (
        lambda i: i.put_files(files),
        lambda i: i.put_files([make_file(1, volume=None, notional=None, sum_price=1.25)]),
        lambda i: i.put_files([make_file(0, hour_ns=DAY + 48 * HOUR_NS)]),  # to another day
        lambda i: i.drop_files([files[2].path, "unknown"]),
        lambda i: i.drop_files([files[6].path, files[7].path]),  # the last of their day
        lambda i: i.replace_files(files[:3]),
        lambda i: i.replace_files([]),
    ):
        step(index)
        step(memory)
        same()
    assert index.daily_stats() == []


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


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        ([1.7976931348623157e308, 1.7976931348623157e308], math.inf),
        ([-1.7976931348623157e308, -1.7976931348623157e308], -math.inf),
        ([math.inf, -math.inf], None),
        ([0.1, 0.2], 0.1 + 0.2),
        ([1e16, 1.0, -1e16], 0.0),  # left to right, as IEEE adds; not 1.0
        ([None, 2.5], 2.5),
        ([None, None], None),
        ([math.nan, 2.5], 2.5),
    ],
)
def test_sums_beyond_a_double_do_not_fail(
    index: PostgresIndex,
    make_file: Callable[..., FileRecord],
    sums: list[Any],
    expected: float | None,
) -> None:
    records = [make_file(hour, volume=volume) for hour, volume in enumerate(sums)]
    index.put_files(records)
    (day,) = index.daily_stats()
    assert day.volume == expected
    assert index.daily_stats() == daily_statistics(records)


def test_upserts_create_no_duplicates(
    index: PostgresIndex, sql: Connection[tuple[Any, ...]], make_file: Callable[..., FileRecord]
) -> None:
    index.put_files([make_file(sealed=False), make_file(sealed=False, messages=13)])
    index.put_files([make_file(messages=14)])
    assert index.files() == [make_file(messages=14)]
    assert sql.execute(
        "SELECT count(*), min(created_at) < max(updated_at) FROM tick_files"
    ).fetchone() == (1, True)


def test_empty_writes_are_no_ops(index: PostgresIndex) -> None:
    index.put_files([])
    index.drop_files([])
    index.put_contracts([])
    index.put_coverage([])
    index.put_sessions([])
    assert index.files() == []


def test_writes_of_several_batches(
    index: PostgresIndex, make_file: Callable[..., FileRecord]
) -> None:
    records = [make_file(hour, blocks=1) for hour in range(2_500)]
    index.put_files(iter(records))
    assert index.files() == records
    assert index.daily_stats() == daily_statistics(records)


def test_an_open_file_reaches_from_its_hour_to_the_end_of_time(
    index: PostgresIndex, make_file: Callable[..., FileRecord]
) -> None:
    index.put_files([make_file(0, sealed=False), make_file(1)])
    assert [f.hour_ns for f in index.files(end_ns=DAY + 1)] == [DAY]
    assert [f.hour_ns for f in index.files(start_ns=DAY + 99 * HOUR_NS)] == [DAY]


def test_ranges_are_half_open_to_the_nanosecond(
    index: PostgresIndex, make_file: Callable[..., FileRecord]
) -> None:
    start, end = DAY + 1_000_000_001, DAY + 2_000_000_001
    index.put_files([make_file(start_ns=start, end_ns=end)])
    assert index.files(end_ns=start) == []
    assert len(index.files(end_ns=start + 1)) == 1
    assert len(index.files(start_ns=end)) == 1
    assert index.files(start_ns=end + 1) == []
    assert index.files(start_ns=end, end_ns=end) == []


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


# -- contracts -------------------------------------------------------------------------------------


def test_contracts_are_filled_in(index: PostgresIndex) -> None:
    index.put_contracts([ContractRecord(2, "MNQ"), ContractRecord(1, "", "SMART")])
    index.put_contracts(
        [ContractRecord(1, "AAPL", "NYSE", "USD"), ContractRecord(1, "X", "", "", "STK")]
    )
    assert index.contracts() == [
        ContractRecord(1, "AAPL", "SMART", "USD", "STK"),
        ContractRecord(2, "MNQ"),
    ]


def test_contracts_are_corrected(index: PostgresIndex) -> None:
    steps = [
        ("put_contracts", [ContractRecord(1, "APPL", "SMART"), ContractRecord(2, "MNQ")]),
        (
            "correct_contracts",
            [
                ContractRecord(1, "AAPLE", "", "USD"),
                ContractRecord(1, "AAPL"),
                ContractRecord(3, "X"),
            ],
        ),
        ("put_contracts", [ContractRecord(1, "APPLE INC", "NYSE", "EUR", "STK")]),
    ]
    memory = MemoryIndex()
    for operation, records in steps:
        getattr(index, operation)(records)
        getattr(memory, operation)(records)
    assert index.contracts() == [
        ContractRecord(1, "AAPL", "SMART", "USD", "STK"),
        ContractRecord(2, "MNQ"),
        ContractRecord(3, "X"),
    ]
    assert memory.contracts() == index.contracts()


# -- coverage --------------------------------------------------------------------------------------


@given(st.lists(intervals(), max_size=8), st.lists(st.tuples(streams, ranges), max_size=8))
@against_the_database
def test_coverage_equals_that_of_the_memory_index(
    index: PostgresIndex, records: list[Any], questions: list[Any]
) -> None:
    index.replace_coverage([])
    index.put_coverage(records)
    memory = MemoryIndex(coverage=records)
    assert index.coverage() == memory.coverage()
    for stream, times in questions:
        assert index.coverage(**stream, **times) == memory.coverage(**stream, **times)


def test_an_open_interval_is_ended(
    index: PostgresIndex, make_interval: Callable[..., CoverageRecord]
) -> None:
    index.put_coverage([make_interval(DAY)])
    index.put_coverage(
        [make_interval(DAY, DAY + 5), make_interval(DAY + 5, state="disconnected", reason="1100")]
    )
    assert index.coverage() == [
        make_interval(DAY, DAY + 5),
        make_interval(DAY + 5, None, "disconnected", "1100"),
    ]
    index.replace_coverage([make_interval(DAY, DAY + 9)])
    assert index.coverage() == [make_interval(DAY, DAY + 9)]


@pytest.mark.parametrize("wrong", [{"end_ns": DAY - 1}, {"state": "asleep"}])
def test_invalid_intervals_raise(
    index: PostgresIndex, make_interval: Callable[..., CoverageRecord], wrong: dict[str, Any]
) -> None:
    with pytest.raises(TickIndexError, match="coverage_"):
        index.put_coverage([make_interval(DAY, **wrong)])


# -- sessions --------------------------------------------------------------------------------------


def session(
    day: date, market: str = "US", session_type: str = "regular", early: bool = False
) -> tuple[str, str, date, int, int, bool]:
    start = DAY + (day - date(2025, 1, 10)).days * 24 * HOUR_NS + 14 * HOUR_NS + HOUR_NS // 2
    return (market, session_type, day, start, start + (3 if early else 6) * HOUR_NS, early)


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
