"""The SQL functions and views of the index."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ibticks.errors import ReadOnlyError, TickIndexError
from ibticks.index import ContractRecord, FileRecord, PostgresIndex

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 1_736_467_200_000_000_000  # 2025-01-10 00:00 UTC
HOUR_NS = 3_600_000_000_000


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2025, 1, 10, hour, minute, tzinfo=UTC)


@pytest.fixture
def stored(
    index: PostgresIndex, make_file: Callable[..., FileRecord], aapl: ContractRecord
) -> PostgresIndex:
    index.put_contracts([aapl])
    index.put_files(
        [
            make_file(13, start_ns=DAY + 13 * HOUR_NS, end_ns=DAY + 14 * HOUR_NS - 1),
            make_file(14, start_ns=DAY + 14 * HOUR_NS, end_ns=DAY + 14 * HOUR_NS + 60_000_000_000),
            make_file(15, sealed=False),
            make_file(14, tick_type="bid_ask"),
            make_file(14, contract_id=42),
        ]
    )
    return index


def hours(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["file_path"][-13:-9] for row in rows]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (at(13), at(14), ["0013"]),  # half-open: the file that begins at 14:00 is not in it
        (at(13, 59), at(14, 1), ["0013", "0014"]),
        (at(14, 1), at(14, 2), ["0014"]),  # its last message is at 14:01 exactly
        (at(14, 2), at(14, 3), []),
        (at(15), at(15, 1), ["0015"]),  # an open file may hold anything of its hour
        (at(20), at(21), ["0015"]),  # and later
        (at(14), at(14), []),
    ],
)
@pytest.mark.parametrize("function", ["get_files_for_range", "get_files_with_density"])
def test_files_for_a_range(
    stored: PostgresIndex, function: str, start: datetime, end: datetime, expected: list[str]
) -> None:
    rows = stored.query(f"SELECT * FROM {function}(265598, 'last', %s, %s)", [start, end])
    assert hours(rows) == expected


def test_microsecond_rounding_hides_no_file(
    index: PostgresIndex,
    sql: psycopg.Connection[tuple[Any, ...]],
    make_file: Callable[..., FileRecord],
) -> None:
    start, end = DAY + 1_000_999, DAY + 2_000_001  # ns inside the microsecond
    index.put_files([make_file(start_ns=start, end_ns=end)])
    (row,) = index.query("SELECT start_time, end_time FROM tick_files")
    assert row["start_time"] == datetime(2025, 1, 10, 0, 0, 0, 1000, tzinfo=UTC)
    assert row["end_time"] == datetime(2025, 1, 10, 0, 0, 0, 2001, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ns", "floor", "ceil", "day"),
    [
        (0, "1970-01-01 00:00:00+00", "1970-01-01 00:00:00+00", "1970-01-01"),
        (-1, "1969-12-31 23:59:59.999999+00", "1970-01-01 00:00:00+00", "1969-12-31"),
        (999, "1970-01-01 00:00:00+00", "1970-01-01 00:00:00.000001+00", "1970-01-01"),
        (DAY - 1, "2025-01-09 23:59:59.999999+00", "2025-01-10 00:00:00+00", "2025-01-09"),
        (
            4_102_444_799_999_999_999,
            "2099-12-31 23:59:59.999999+00",
            "2100-01-01 00:00:00+00",
            "2099-12-31",
        ),
    ],
)
def test_nanoseconds_to_timestamps(
    sql: psycopg.Connection[tuple[Any, ...]], ns: int, floor: str, ceil: str, day: str
) -> None:
    row = sql.execute(
        "SELECT ns_floor(%(ns)s)::TEXT, ns_ceil(%(ns)s)::TEXT, ns_date(%(ns)s)::TEXT", {"ns": ns}
    ).fetchone()
    assert row == (floor, ceil, day)


def test_files_to_present_contain_the_current_hour_once(stored: PostgresIndex) -> None:
    rows = stored.query("SELECT * FROM get_files_to_present(265598, 'last', %s)", [at(14)])
    assert hours(rows) == ["0014", "0015"]
    assert [row["is_complete"] for row in rows] == [True, False]


def test_density(stored: PostgresIndex) -> None:
    rows = stored.query(
        "SELECT * FROM get_files_with_density(265598, 'last', %s, %s)", [at(14), at(15)]
    )
    assert [round(row["messages_per_minute"], 6) for row in rows] == [12]
    assert float(rows[0]["file_size_mb"]) == (4096 + 14) / 2**20


def test_density_of_one_message(index: PostgresIndex, make_file: Callable[..., FileRecord]) -> None:
    index.put_files([make_file(start_ns=DAY, end_ns=DAY, messages=1)])
    (row,) = index.query(
        "SELECT * FROM get_files_with_density(265598, 'last', %s, %s)", [at(0), at(1)]
    )
    assert row["messages_per_minute"] == 0


# -- backfilled files: excluded unless requested ---------------------------------------------------

BACKFILLED = "265598/last/0014-backfill_ticks.pb"


@pytest.fixture
def backfilled(stored: PostgresIndex, make_file: Callable[..., FileRecord]) -> PostgresIndex:
    stored.put_files(
        [
            make_file(14, path=BACKFILLED, ticks=7, messages=8),
            make_file(20, path="265598/last/0020-backfill_ticks.pb", ticks=1),
            make_file(40, path="265598/last/0040-backfill_ticks.pb", ticks=1),
        ]
    )
    return stored


@pytest.mark.parametrize(
    ("function", "until"),
    [
        ("get_files_for_range", ", '2025-01-10 15:00Z'"),
        ("get_files_with_density", ", '2025-01-10 15:00Z'"),
        ("get_files_to_present", ""),
    ],
)
def test_backfilled_files_are_returned_on_request_only(
    backfilled: PostgresIndex, function: str, until: str
) -> None:
    call = f"SELECT file_path FROM {function}(265598, 'last', '2025-01-10 14:00:30Z'{until}"
    plain = [row["file_path"] for row in backfilled.query(f"{call})")]
    more = [row["file_path"] for row in backfilled.query(f"{call}, p_backfilled => true)")]
    assert plain[0] == "265598/last/0014_ticks.pb"
    assert not any("backfill" in path for path in plain)
    assert set(plain) <= set(more)
    assert BACKFILLED in more


def test_backfilled_is_computed_from_the_path(backfilled: PostgresIndex) -> None:
    rows = backfilled.query("SELECT file_path, backfilled FROM tick_files")
    assert len(rows) == 8
    assert all(row["backfilled"] == ("-backfill_" in row["file_path"]) for row in rows)


def test_daily_statistics_exclude_backfilled_files(
    backfilled: PostgresIndex, make_file: Callable[..., FileRecord]
) -> None:
    [day] = backfilled.daily_stats([265598], ["last"])
    assert (day.date, day.files, day.ticks) == ("2025-01-10", 3, 30)
    # A file of the same day that is written later, or goes, changes nothing either.
    backfilled.put_files([make_file(14, path=BACKFILLED, ticks=70, messages=80)])
    assert backfilled.daily_stats([265598], ["last"]) == [day]
    backfilled.drop_files([BACKFILLED])
    assert backfilled.daily_stats([265598], ["last"]) == [day]
    backfilled.drop_files([f"265598/last/00{hour}_ticks.pb" for hour in (13, 14, 15)])
    assert backfilled.daily_stats([265598], ["last"]) == []


def test_views_count_backfilled_ticks_separately(backfilled: PostgresIndex) -> None:
    per_day = backfilled.query("SELECT * FROM storage_per_day ORDER BY date")
    assert [(r["total_files"], r["total_ticks"], r["backfilled_ticks"]) for r in per_day] == [
        (7, 50, 8),
        (1, 0, 1),
    ]
    top = backfilled.query("SELECT * FROM top_contracts ORDER BY contract_id DESC")
    assert [(r["total_files"], r["total_ticks"], r["backfilled_ticks"]) for r in top] == [
        (7, 40, 9),
        (1, 10, 0),
    ]
    assert top[0]["last_tick"] == datetime(2025, 1, 10, 15, 59, 59, 1, tzinfo=UTC)
    active = backfilled.query("SELECT * FROM active_contracts('2025-01-10')")
    assert [row["total_ticks"] for row in active] == [30, 10, 10]
    assert backfilled.query("SELECT * FROM active_contracts('2025-01-11')") == []


# -- sessions: New York, around the early close of 2024-12-24 and Christmas ------------------------


@pytest.fixture
def sessions(index: PostgresIndex) -> PostgresIndex:
    def ns(day: int, hour: int, minute: int = 0) -> int:
        return int(datetime(2024, 12, day, hour, minute, tzinfo=UTC).timestamp()) * 10**9

    index.put_sessions(
        [
            ("US", "regular", date(2024, 12, 23), ns(23, 14, 30), ns(23, 21), False),
            ("US", "regular", date(2024, 12, 24), ns(24, 14, 30), ns(24, 18), True),
            ("US", "regular", date(2024, 12, 26), ns(26, 14, 30), ns(26, 21), False),
            ("US", "extended", date(2024, 12, 24), ns(24, 9), ns(24, 22), True),
            ("JP", "regular", date(2024, 12, 24), ns(24, 0), ns(24, 6, 30), False),
        ]
    )
    return index


def boundaries(index: PostgresIndex, call: str) -> list[Any]:
    return [
        tuple(row.values()) for row in index.query(f"SELECT * FROM get_session_boundaries({call})")
    ]


def test_session_boundaries_default_to_the_regular_us_session(sessions: PostgresIndex) -> None:
    assert boundaries(sessions, "'2024-12-23'") == [
        (datetime(2024, 12, 23, 14, 30, tzinfo=UTC), datetime(2024, 12, 23, 21, tzinfo=UTC))
    ]


def test_an_early_close(sessions: PostgresIndex) -> None:
    ((_, end),) = boundaries(sessions, "'2024-12-24', 'US', 'regular'")
    assert end == datetime(2024, 12, 24, 18, tzinfo=UTC)


def test_no_row_on_a_holiday(sessions: PostgresIndex) -> None:
    assert boundaries(sessions, "'2024-12-25'") == []


def test_other_markets(sessions: PostgresIndex) -> None:
    assert boundaries(sessions, "p_date => '2024-12-24', p_market => 'JP'") == [
        (datetime(2024, 12, 24, 0, tzinfo=UTC), datetime(2024, 12, 24, 6, 30, tzinfo=UTC))
    ]


@pytest.mark.parametrize(
    ("call", "message", "hint"),
    [
        ("'2024-12-24', 'MARS'", "Unknown market: MARS", "Known: JP, US."),
        ("'2024-12-24', 'US', 'lunch'", "Unknown session type for US: lunch", "extended, regular"),
        ("'2031-01-02'", "known from 2024-12-23 to 2024-12-26, not on 2031-01-02", "Fill"),
    ],
)
def test_unknown_markets_and_days_raise(
    sessions: PostgresIndex,
    sql: psycopg.Connection[tuple[Any, ...]],
    call: str,
    message: str,
    hint: str,
) -> None:
    with pytest.raises(psycopg.errors.Error, match=message) as caught:
        sql.execute(f"SELECT * FROM get_session_boundaries({call})")
    assert hint in caught.value.diag.message_hint


def test_an_empty_market_sessions_table_raises(sql: psycopg.Connection[tuple[Any, ...]]) -> None:
    with pytest.raises(psycopg.errors.Error, match="market_sessions is empty"):
        sql.execute("SELECT * FROM get_session_boundaries('2024-12-24')")


# -- monitoring ------------------------------------------------------------------------------------


def test_storage_per_day(stored: PostgresIndex) -> None:
    (row,) = stored.query("SELECT * FROM storage_per_day")
    assert (row["date"], row["total_files"], row["total_messages"]) == (date(2025, 1, 10), 5, 60)
    assert float(row["size_gb"]) == pytest.approx(row["total_size_bytes"] / 2**30)


def test_top_contracts(stored: PostgresIndex) -> None:
    rows = stored.query("SELECT * FROM top_contracts")
    assert [(row["contract_id"], row["symbol"], row["total_files"]) for row in rows] == [
        (265598, "AAPL", 4),
        (42, "", 1),
    ]
    assert rows[0]["ticks_7_days"] == 0
    assert rows[0]["last_tick"] == datetime(2025, 1, 10, 15, 59, 59, 1, tzinfo=UTC)


def test_active_contracts(stored: PostgresIndex) -> None:
    rows = stored.query("SELECT * FROM active_contracts('2025-01-10')")
    assert [(row["symbol"], row["tick_type"], row["file_count"]) for row in rows] == [
        ("AAPL", "last", 3),
        ("", "last", 1),
        ("AAPL", "bid_ask", 1),
    ]
    assert stored.query("SELECT * FROM active_contracts('2025-01-11')") == []


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles"])
def test_days_are_utc_days_in_every_time_zone(
    stored: PostgresIndex, sql: psycopg.Connection[tuple[Any, ...]], zone: str
) -> None:
    sql.execute(f"SET TIME ZONE '{zone}'")
    assert len(sql.execute("SELECT * FROM active_contracts('2025-01-10')").fetchall()) == 3
    assert sql.execute("SELECT date FROM storage_per_day").fetchall() == [(date(2025, 1, 10),)]


def test_session_statistics(stored: PostgresIndex) -> None:
    stored.put_sessions(
        [("US", "regular", date(2025, 1, 10), DAY + 14 * HOUR_NS, DAY + 15 * HOUR_NS, False)]
    )
    rows = stored.query(
        "SELECT * FROM session_statistics WHERE contract_id = 265598 AND tick_type = 'last'"
    )
    assert [(row["session_date"], row["total_files"], row["total_ticks"]) for row in rows] == [
        (date(2025, 1, 10), 1, 10)
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "SET TRANSACTION READ WRITE; DELETE FROM contracts",
        "COMMIT; BEGIN; DELETE FROM contracts; COMMIT",
        "DELETE FROM contracts",
    ],
)
def test_no_form_of_query_can_change_anything(index: PostgresIndex, sql: str) -> None:
    index.put_contracts([ContractRecord(8314, "IBM")])
    with pytest.raises((TickIndexError, ReadOnlyError)):
        index.query(sql)
    assert [record.symbol for record in index.contracts()] == ["IBM"]
