"""Saying which ticks: every way of it, and every way it can be wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import pytz

from ibticks import Selection, Store, errors
from ibticks.calendar import PERIODS, format_ns, market, now_ns, to_ns
from ibticks.config import TICK_TYPES, TIME_MAX, TIME_MIN
from ibticks.schema import list_columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NEW_YORK = "America/New_York"
CLOSE = to_ns("2013-10-08T16:00-04:00")
HOUR = 3600 * 10**9
LAST_TRADE = to_ns("2013-10-08T23:23:56.822Z")
LAST_QUOTE = to_ns("2013-10-09T00:00:00.646Z")


@pytest.fixture
def select(sample_store: Store) -> Callable[..., Selection]:
    return sample_store.select


# -- contracts and tick types ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "contracts",
    [8314, "IBM", "ibm", "iBm", "8314", np.int64(8314), np.uint32(8314), ["IBM"], ("ibm", 8314)],
    ids=repr,
)
def test_a_contract(select: Callable[..., Selection], contracts: Any) -> None:
    selection = select(contracts)
    assert selection.contract_ids == (8314,)
    assert all(type(contract_id) is int for contract_id in selection.contract_ids)
    assert selection.tick_types == ("all_last", "bid_ask")


@pytest.mark.parametrize(
    "contracts",
    [
        ["ibm", "BTCUSDT"],
        [8314, "btcusdt", "IBM"],
        np.array([8314, 990101]),
        pd.Series([8314, 990101]),
    ],
    ids=["symbols", "mixed", "numpy", "pandas"],
)
def test_several_contracts_in_the_order_given_each_once(
    select: Callable[..., Selection], contracts: list[Any] | NDArray[Any] | pd.Series[Any]
) -> None:
    assert select(contracts, "all_last").contract_ids == (8314, 990101)
    assert select(list(contracts)[::-1], "all_last").contract_ids[0] in (8314, 990101)


def test_the_order_of_contracts_is_the_callers(select: Callable[..., Selection]) -> None:
    assert select(["btcusdt", "ibm"]).contract_ids == (990101, 8314)


def test_tick_types(select: Callable[..., Selection]) -> None:
    assert select("IBM", "bid_ask").tick_types == ("bid_ask",)
    assert select("IBM", ["bid_ask", "all_last", "bid_ask"]).tick_types == ("bid_ask", "all_last")
    # One that is not stored may be selected: it gives an empty frame, with its columns.
    assert select("IBM", "mid_point").to_polars().columns == list(list_columns(["mid_point"]))


def test_tick_types_of_a_contract_without_ticks(store: Store) -> None:
    store.add_contract(265598, "AAPL")
    assert store.select("AAPL").tick_types == TICK_TYPES


# -- time: everything, start and end ---------------------------------------------------------------


def test_everything(select: Callable[..., Selection]) -> None:
    selection = select("IBM", "all_last")
    assert selection.intervals == ((TIME_MIN, TIME_MAX),)
    assert selection.label == str(selection) == "IBM all_last"
    assert selection.count() == 33381


@pytest.mark.parametrize(
    ("start", "end", "tz"),
    [
        ("2013-10-08T13:30:00Z", "2013-10-08T20:00:00Z", None),
        ("2013-10-08 09:30", "2013-10-08 16:00", NEW_YORK),
        ("2013-10-08T09:30-04:00", "2013-10-08 20:00", "UTC"),
        (datetime(2013, 10, 8, 13, 30, tzinfo=UTC), datetime(2013, 10, 8, 20, tzinfo=UTC), None),
        (datetime(2013, 10, 8, 9, 30), datetime(2013, 10, 8, 16), NEW_YORK),
        (datetime(2013, 10, 8, 9, 30, tzinfo=ZoneInfo(NEW_YORK)), CLOSE, None),
        (datetime(2013, 10, 8, 9, 30), CLOSE, pytz.timezone(NEW_YORK)),
        (pd.Timestamp("2013-10-08 09:30", tz=NEW_YORK), pd.Timestamp(CLOSE, tz="UTC"), None),
        (np.datetime64("2013-10-08T13:30"), np.datetime64("2013-10-08T20:00"), "UTC"),
    ],
    ids=["Z", "tz", "mixed", "datetime", "naive+tz", "zoneinfo", "pytz", "pandas", "numpy"],
)
def test_start_and_end(select: Callable[..., Selection], start: Any, end: Any, tz: Any) -> None:
    selection = select("IBM", "all_last", start=start, end=end, tz=tz)
    assert selection.intervals == ((CLOSE - 13 * HOUR // 2, CLOSE),)
    assert selection.count() == 33323


def test_only_an_end(select: Callable[..., Selection]) -> None:
    selection = select("IBM", "all_last", end="2013-10-08T13:30Z")
    assert selection.intervals == ((TIME_MIN, CLOSE - 13 * HOUR // 2),)
    assert selection.count() == 9
    assert "from the first tick to 2013-10-08T13:30Z" in selection.label


def test_from_a_start_to_now(select: Callable[..., Selection]) -> None:
    before = now_ns()
    ((start, end),) = select("IBM", "all_last", start="2013-10-08T20:00Z").intervals
    assert start == CLOSE
    assert before < end <= now_ns() + 1
    # With a now of one's own, now is in it.
    selection = select("IBM", "all_last", start="2013-10-08T20:00Z", now=LAST_TRADE)
    assert selection.intervals == ((CLOSE, LAST_TRADE + 1),)
    assert selection.to_polars()["timestamp"].dt.epoch("ns").max() == LAST_TRADE
    assert selection.label.endswith("to now")


def test_half_open(select: Callable[..., Selection]) -> None:
    """A tick exactly at the start is in, one exactly at the end is not."""
    times = select("IBM", "all_last").to_polars()["timestamp"].dt.epoch("ns").to_numpy()
    repeated = int(times[np.flatnonzero(np.diff(times) == 0)[100]])
    there = int((times == repeated).sum())
    assert there > 1
    assert select("IBM", "all_last", start=repeated, end=repeated + 1).count() == there
    before = select("IBM", "all_last", end=repeated)
    after = select("IBM", "all_last", start=repeated, now=LAST_TRADE)
    assert before.count() + after.count() == 33381
    assert before.to_polars()["timestamp"].dt.epoch("ns").max() < repeated
    assert after.to_polars()["timestamp"].dt.epoch("ns").min() == repeated


# -- time: periods ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "length"),
    [
        ("last_minute", HOUR // 60),
        ("last_5_minutes", HOUR // 12),
        ("last_15_minutes", HOUR // 4),
        ("last_30_minutes", HOUR // 2),
        ("last_hour", HOUR),
        ("last_2_hours", 2 * HOUR),
        ("last_4_hours", 4 * HOUR),
        ("last_day", 24 * HOUR),
        ("last_week", 7 * 24 * HOUR),
        ("last_month", 30 * 24 * HOUR),
        ("90s", HOUR // 40),
        ("5m", HOUR // 12),
        ("1h", HOUR),
        ("2h30m", 5 * HOUR // 2),
        ("1d", 24 * HOUR),
        ("1w", 7 * 24 * HOUR),
        (timedelta(minutes=5), HOUR // 12),
    ],
    ids=str,
)
def test_a_period_includes_now(
    select: Callable[..., Selection], period: str | timedelta, length: int
) -> None:
    selection = select("IBM", "all_last", period, now="2013-10-08T16:00-04:00")
    assert selection.intervals == ((CLOSE - length, CLOSE + 1),)
    assert str(period) in selection.label


def test_every_named_period_is_understood(select: Callable[..., Selection]) -> None:
    for period in PERIODS:
        ((start, end),) = select("IBM", "all_last", period).intervals
        assert start < end


@pytest.mark.parametrize(
    ("tz", "start"),
    [
        (None, "2013-10-08T00:00Z"),
        (NEW_YORK, "2013-10-08T04:00Z"),
        ("Asia/Tokyo", "2013-10-08T15:00Z"),
    ],
)
def test_today_begins_with_the_day_of_the_zone(
    select: Callable[..., Selection], tz: str | None, start: str
) -> None:
    selection = select("IBM", "all_last", "today", now="2013-10-08T23:00Z", tz=tz)
    assert selection.intervals == ((to_ns(start), to_ns("2013-10-08T23:00Z") + 1),)


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2013-10-08T15:00Z", "2013-10-08T13:30Z"),  # running
        ("2013-10-09T05:00Z", "2013-10-08T13:30Z"),  # closed: since it opened last
        ("2013-10-06T05:00Z", "2013-10-04T13:30Z"),  # a Sunday
    ],
)
def test_since_open(select: Callable[..., Selection], now: str, start: str) -> None:
    selection = select("IBM", "all_last", "since_open", now=now)
    assert selection.intervals == ((to_ns(start), to_ns(now) + 1),)


def test_since_open_of_another_market(select: Callable[..., Selection]) -> None:
    selection = select("IBM", "all_last", "since_open", now="2024-11-06T06:20Z", market="JP")
    assert selection.intervals[0][0] == to_ns("2024-11-06T09:00+09:00")


@pytest.mark.parametrize(
    "now",
    [
        "2013-10-08 16:00",
        datetime(2013, 10, 8, 16),
        np.datetime64("2013-10-08T16:00"),
        pd.Timestamp("2013-10-08 16:00"),
        pd.Timestamp("2013-10-08 20:00", tz="UTC"),
        CLOSE,
    ],
    ids=["text", "datetime", "numpy", "pandas", "zoned", "ns"],
)
def test_now_in_a_given_zone(select: Callable[..., Selection], now: Any) -> None:
    selection = select("IBM", "all_last", "1h", now=now, tz=NEW_YORK)
    assert selection.intervals == ((CLOSE - HOUR, CLOSE + 1),)


def test_now_is_the_last_tick_of_the_selection(select: Callable[..., Selection]) -> None:
    assert select("IBM", "all_last", "1h", now="last_tick").intervals[0][1] == LAST_TRADE + 1
    assert select("IBM", None, "1h", now="last_tick").intervals[0][1] == LAST_QUOTE + 1
    both = select(["IBM", "BTCUSDT"], None, "1h", now="last_tick")
    assert both.intervals[0][1] == to_ns("2024-08-09T00:05:04.525430833Z") + 1
    assert select("IBM", "all_last", "1s", now="last_tick").count() == 3


def test_the_last_tick_may_be_in_a_file_being_written(store: Store) -> None:
    tick = {"type": "tick", "stream_id": "s", "data": {"contract_id": 1, "tick_type": "last"}}
    times = ["2025-01-10T14:30:00Z", "2025-01-10T14:59:00Z", "2025-01-10T15:00:01.5Z"]
    with store.writer(1, "last") as writer:
        for time in times:
            writer.append({**tick, "timestamp": time})
            selection = store.select(1, "last", "1h", now="last_tick")
            assert selection.intervals[0][1] == to_ns(time) + 1
        info = {"type": "info", "stream_id": "s", "data": {"status": "quiet"}}
        writer.append({**info, "timestamp": "2025-01-10T15:10:00Z"})
        assert (
            store.select(1, "last", "1h", now="last_tick").intervals[0][1] == to_ns(times[-1]) + 1
        )
    assert store.select(1, "last", "1h", now="last_tick").intervals[0][1] == to_ns(times[-1]) + 1


# -- time: sessions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("session", "rows"),
    [("regular", 33323), ("pre_market", 9), ("after_hours", 49), ("extended", 33381)],
)
def test_the_sessions_of_a_day_partition_its_ticks(
    select: Callable[..., Selection], session: str, rows: int
) -> None:
    selection = select("IBM", "all_last", session=session, date="2013-10-08", market="US")
    assert selection.count() == rows
    assert selection.label == f"IBM all_last, {session} session of US on 2013-10-08"


@pytest.mark.parametrize(
    "day",
    [
        "2013-10-08",
        date(2013, 10, 8),
        np.datetime64("2013-10-08"),
        pd.Timestamp("2013-10-08"),
        CLOSE,
    ],
    ids=["text", "date", "numpy", "pandas", "ns"],
)
def test_a_date_alone_is_its_regular_session(select: Callable[..., Selection], day: Any) -> None:
    assert select("IBM", "all_last", date=day).count() == 33323


def test_a_session_alone_is_the_latest_one(select: Callable[..., Selection]) -> None:
    selection = select("IBM", "all_last", session="regular", now="2013-10-09T02:00Z")
    assert selection.intervals == ((CLOSE - 13 * HOUR // 2, CLOSE),)


@pytest.mark.parametrize(
    ("name", "day", "start", "end"),
    [
        ("US", "2024-11-29", "2024-11-29T14:30Z", "2024-11-29T18:00Z"),  # early close
        ("JP", "2024-11-05", "2024-11-05T00:00Z", "2024-11-05T06:30Z"),  # 15:30 since that day
        ("UK", "2025-04-17", "2025-04-17T07:00Z", "2025-04-17T15:30Z"),
        ("24/7", "2024-08-08", "2024-08-08T00:00Z", "2024-08-09T00:00Z"),
        ("XETR", "2025-01-10", "2025-01-10T08:00Z", "2025-01-10T16:30Z"),
    ],
)
def test_the_markets(
    select: Callable[..., Selection], name: str, day: str, start: str, end: str
) -> None:
    selection = select("IBM", "all_last", session="regular", date=day, market=name)
    assert selection.intervals == ((to_ns(start), to_ns(end)),)


def test_previous_sessions_are_those_that_took_place(select: Callable[..., Selection]) -> None:
    now = "2013-10-08T18:00-04:00"
    selection = select("IBM", "all_last", sessions=3, now=now)
    days = [format_ns(start, NEW_YORK) for start, _ in selection.intervals]
    assert days == [
        "2013-10-04T09:30:00-04:00",
        "2013-10-07T09:30:00-04:00",
        "2013-10-08T09:30:00-04:00",
    ]
    assert selection.count() == 33323
    assert selection.label == "IBM all_last, last 3 regular sessions of US"
    # The one that runs is not previous.
    running = select("IBM", "all_last", sessions=1, now="2013-10-08T15:00Z")
    assert format_ns(running.intervals[0][0]) == "2013-10-07T13:30:00Z"
    after = select("IBM", "all_last", sessions=1, session="after_hours", now=now, market="US")
    assert format_ns(after.intervals[0][0]) == "2013-10-07T20:00:00Z"


@pytest.mark.parametrize("name", ["US", "UK", "JP", "CME"])
def test_intervals_are_in_order_and_none_overlaps(
    select: Callable[..., Selection], name: str
) -> None:
    for session in market(name).session_types:
        intervals = select(
            "IBM", "all_last", sessions=300, session=session, market=name, now="2025-06-02T12:00Z"
        ).intervals
        assert len(intervals) == 300
        assert all(a[1] <= b[0] for a, b in pairwise(intervals))


# -- columns ---------------------------------------------------------------------------------------


def test_columns(select: Callable[..., Selection]) -> None:
    assert select("IBM", "all_last").columns == list_columns(["all_last"])
    assert select("IBM", columns=["price", "timestamp", "price"]).columns == ("timestamp", "price")
    assert select("IBM", columns="price").columns == ("price",)
    selection = select("IBM", "all_last").with_columns("stream_id", "metadata", "price")
    assert selection.columns == ("price", "stream_id", "metadata")
    assert selection.intervals == select("IBM", "all_last").intervals
    assert set(selection.to_polars()["stream_id"]) == {"import"}


# -- what is wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (
            {"start": "2013-10-08 10:00"},
            errors.NaiveDatetimeError,
            "start='2013-10-08 10:00' has no",
        ),
        ({"end": datetime(2013, 10, 8)}, errors.NaiveDatetimeError, r"tz='America/New_York'"),
        ({"period": "1h", "now": "2013-10-08 10:00"}, errors.NaiveDatetimeError, "now="),
        (
            {"start": "2013-10-08T11:00Z", "end": "2013-10-08T10:00Z"},
            errors.TimeRangeError,
            r"not before end=2013-10-08T10:00Z: a range is half-open, \[start, end\)",
        ),
        (
            {"start": "2013-10-08T10:00Z", "end": "2013-10-08T10:00Z"},
            errors.TimeRangeError,
            "half-open",
        ),
        ({"start": "2100-01-01T00:00Z"}, errors.TimeRangeError, "not before end=now"),
        ({"start": "2024-03-10 02:30", "tz": NEW_YORK}, errors.TimeRangeError, "2024-03-10 02:30"),
        ({"start": "1500-01-01T00:00Z"}, errors.TimeRangeError, "1678 to 2261"),
        ({"start": "soon"}, errors.InputError, "ISO 8601"),
        ({"start": "2013-10-08 10:00", "tz": "New York"}, errors.InputError, "America/New_York"),
        (
            {"tick_types": "bidask"},
            errors.UnknownTickTypeError,
            "last, all_last, bid_ask, mid_point",
        ),
        ({"tick_types": ["last", "trades"]}, errors.UnknownTickTypeError, "'trades'"),
        ({"columns": ["prize"]}, errors.UnknownColumnError, "'prize': the columns are timestamp"),
        ({"columns": "prize"}, errors.UnknownColumnError, "'prize'"),
        ({"period": "last_fortnight"}, errors.UnknownPeriodError, "last_week, last_month, today"),
        ({"period": "last_huor"}, errors.UnknownPeriodError, "did you mean 'last_hour'"),
        ({"period": ""}, errors.UnknownPeriodError, "2h30m"),
        ({"period": 5}, errors.UnknownPeriodError, "2h30m"),
        ({"period": timedelta(0)}, errors.UnknownPeriodError, "between a nanosecond"),
        ({"period": timedelta(hours=-1)}, errors.UnknownPeriodError, "between a nanosecond"),
        ({"date": "2013-10-08", "market": "USA"}, errors.UnknownMarketError, "US, UK, JP, CME"),
        ({"period": "since_open", "market": "USA"}, errors.UnknownMarketError, "US, UK, JP, CME"),
        ({"sessions": 2, "market": "USA"}, errors.UnknownMarketError, "US, UK, JP, CME"),
        (
            {"session": "lunch", "date": "2013-10-08"},
            errors.UnknownMarketError,
            "It has pre_market, regular, after_hours, extended, overnight",
        ),
        (
            {"sessions": 2, "session": "morning"},
            errors.UnknownMarketError,
            "US has no session type",
        ),
        (
            {"date": "2013-12-25"},
            errors.NoSessionError,
            "previous one is Tuesday 2013-12-24 .*next one is Thursday 2013-12-26",
        ),
        ({"date": "2013-10-05"}, errors.NoSessionError, "Saturday 2013-10-05"),
        ({"date": "tomorrow"}, errors.InputError, "'2025-01-10'"),
        ({"date": "1950-01-03"}, errors.TimeRangeError, "are known from"),
        ({"sessions": 0}, errors.InputError, "one or more"),
        ({"sessions": -1}, errors.InputError, "one or more"),
        ({"sessions": "5"}, errors.InputError, "as an int"),
        ({"sessions": 2.5}, errors.InputError, "as an int"),
        ({"sessions": 10**6}, errors.NoSessionError, "are known from"),
        (
            {"period": "1h", "start": "2013-10-08T10:00Z"},
            errors.InputError,
            "given twice, by period and by start and end: keep one of them",
        ),
        ({"period": "1h", "sessions": 2}, errors.InputError, "by period and by sessions"),
        ({"period": "1h", "date": "2013-10-08"}, errors.InputError, "by period and by session"),
        ({"period": "1h", "session": "regular"}, errors.InputError, "by period and by session"),
        ({"sessions": 2, "date": "2013-10-08"}, errors.InputError, "by session and date and by"),
        ({"sessions": 2, "end": "2013-10-08T10:00Z"}, errors.InputError, "by start and end and by"),
        (
            {"date": "2013-10-08", "end": "2013-10-08T10:00Z"},
            errors.InputError,
            "by start and end and by session and date",
        ),
        ({"contracts": []}, errors.InputError, "no contract is given"),
        ({"contracts": 8314.0}, errors.InputError, "8314.0 is no contract"),
        ({"contracts": None}, errors.InputError, "None is no contract"),
        ({"contracts": [["IBM"]]}, errors.InputError, "is no contract"),
        ({"contracts": ""}, errors.UnknownContractError, "it has IBM"),
        ({"tick_types": []}, errors.InputError, "leave tick_types out"),
        ({"columns": []}, errors.InputError, "no column is given"),
        (
            {"period": "1h", "tick_types": "mid_point", "now": "last_tick"},
            errors.InputError,
            "mid_point",
        ),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused(
    select: Callable[..., Selection], wrong: dict[str, Any], error: Any, says: str
) -> None:
    arguments = {"contracts": "IBM", "tick_types": "all_last", **wrong}
    with pytest.raises(error, match=says) as caught:
        select(**arguments)
    assert type(caught.value) is error
    assert isinstance(caught.value, ValueError)


def test_an_error_on_a_holiday_names_the_neighbouring_days(
    select: Callable[..., Selection],
) -> None:
    with pytest.raises(errors.NoSessionError) as caught:
        select("IBM", "all_last", date="2013-12-25")
    context = caught.value.context
    assert (context["previous"].date, context["next"].date) == (
        date(2013, 12, 24),
        date(2013, 12, 26),
    )
    assert context["previous"].early_close


@pytest.mark.parametrize("wanted", [1, "265598", np.int64(265598), "AAPL", "IBN", "BTC-USDT"])
def test_an_unknown_contract_lists_the_known(select: Callable[..., Selection], wanted: Any) -> None:
    with pytest.raises(errors.UnknownContractError) as caught:
        select(wanted)
    candidates = caught.value.context["candidates"]
    assert candidates
    assert set(candidates) <= {8314, 990101}
    for contract_id in candidates:
        assert str(contract_id) in str(caught.value)
    assert isinstance(caught.value, LookupError)


def test_a_close_symbol_is_the_one_that_is_named(select: Callable[..., Selection]) -> None:
    with pytest.raises(errors.UnknownContractError) as caught:
        select("IBMX")
    assert caught.value.context["candidates"] == [8314]
    assert "IBM (8314, STK, SMART, USD)" in str(caught.value)


def test_an_ambiguous_symbol(store: Store) -> None:
    store.add_contract(1, "SPY", exchange="ARCA", currency="USD")
    store.add_contract(2, "SPY", exchange="LSE", currency="GBP")
    store.add_contract(3, "spy")
    with pytest.raises(errors.AmbiguousContractError) as caught:
        store.select("SPY")
    assert caught.value.context["candidates"] == [1, 2]
    assert "SPY (1, ARCA, USD); SPY (2, LSE, GBP)" in str(caught.value)
    with pytest.raises(errors.AmbiguousContractError):
        store.select("Spy")
    assert store.select("spy").contract_ids == (3,)
    assert store.select([1, 2]).contract_ids == (1, 2)


def test_symbols_of_digits(store: Store) -> None:
    """In Tokyo symbols are numbers; a number that is both is not guessed."""
    store.add_contract(13905344, "7203")
    store.add_contract(8314, "IBM")
    assert store.select("7203").contract_ids == (13905344,)
    assert store.select("8314").contract_ids == (8314,)
    with pytest.raises(errors.UnknownContractError):
        store.select(7203)
    store.add_contract(7203, "X")
    with pytest.raises(errors.AmbiguousContractError) as caught:
        store.select("7203")
    assert caught.value.context["candidates"] == [7203, 13905344]
    assert store.select(7203).contract_ids == (7203,)


def test_many_candidates_are_not_all_named(store: Store) -> None:
    for contract_id in range(1, 31):
        store.add_contract(contract_id, f"S{contract_id:02}")
    with pytest.raises(errors.UnknownContractError, match="and 18 more") as caught:
        store.select(31)
    assert len(caught.value.context["candidates"]) == 30


def test_an_empty_store_is_named_in_the_error(store: Store) -> None:
    with pytest.raises(errors.UnknownContractError, match="it has none yet"):
        store.select("IBM")
    with pytest.raises(errors.UnknownContractError, match="it has none yet"):
        store.select(8314)


def test_contracts_without_names(store: Store) -> None:
    with store.writer(265598, "last") as writer:
        writer.append(
            {
                "type": "tick",
                "stream_id": "s",
                "timestamp": "2025-01-10T14:30:00Z",
                "data": {"contract_id": 265598, "tick_type": "last"},
            }
        )
    assert store.select(265598).tick_types == ("last",)
    with pytest.raises(errors.UnknownContractError, match="265598, which has no symbol"):
        store.select("AAPL")
