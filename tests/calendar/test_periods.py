"""Periods and durations, and that now is always in them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.calendar import (
    PERIODS,
    format_duration,
    format_ns,
    market,
    parse_duration,
    resolve_period,
    to_ns,
)
from ibticks.errors import InputError, UnknownMarketError, UnknownPeriodError

SECOND = 1_000_000_000
NOW = to_ns("2025-01-10T15:00:00.000000005Z")  # Friday, half an hour into New York's day


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("5min", 300),
        ("1h5min30s", 3930),
        ("1h", 3600),
        ("2h30m", 9000),
        ("2h 30m", 9000),
        (" 1d ", 86_400),
        ("1w", 604_800),
        ("1w2d3h4m5s", 604_800 + 2 * 86_400 + 3 * 3600 + 4 * 60 + 5),
        ("1.5h", 5400),
        ("0.25m", 15),
        (timedelta(minutes=1, microseconds=500_000), 60.5),
    ],
)
def test_durations(text: str | timedelta, seconds: float) -> None:
    assert parse_duration(text) == int(seconds * SECOND)


@pytest.mark.parametrize(
    ("text", "ns"), [("1ms", 10**6), ("2us", 2000), ("3ns", 3), ("0.1ms", 10**5)]
)
def test_short_durations(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "h", "5", "5 m", "-5m", "5x", "30m2h", "1h1h", "1M", "5mins", "m5", "0.5ns"),
        *("1h,5m", "1m5min", "5hin", "1mo", 300, None),
    ],
)
def test_an_invalid_duration_lists_valid_ones(text: Any) -> None:
    with pytest.raises(UnknownPeriodError, match=r"no length of time, such as 90s, .*2h30m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "5218w", "36526d", timedelta(0), timedelta(seconds=-1)])
def test_durations_are_positive_and_bounded(text: str | timedelta) -> None:
    with pytest.raises(UnknownPeriodError, match="century"):
        parse_duration(text)


@given(st.integers(1, 36_525 * 86_400 * SECOND))
def test_formatted_durations_are_parsed_again(ns: int) -> None:
    assert parse_duration(format_duration(ns)) == ns


@given(st.tuples(*[st.integers(0, 99)] * 5))
def test_parts_add_up(parts: tuple[Any, ...]) -> None:
    text = "".join(f"{n}{unit}" for n, unit in zip(parts, "wdhms", strict=True) if n)
    days = timedelta(
        **dict(zip(("weeks", "days", "hours", "minutes", "seconds"), parts, strict=True))
    )
    if text:
        assert parse_duration(text) == days // timedelta(microseconds=1) * 1000


def test_an_empty_duration_cannot_be_formatted() -> None:
    with pytest.raises(InputError, match="positive"):
        format_duration(0)


@pytest.mark.parametrize(
    ("period", "length"),
    [
        ("last_minute", timedelta(minutes=1)),
        ("last_5_minutes", timedelta(minutes=5)),
        ("last_15_minutes", timedelta(minutes=15)),
        ("last_30_minutes", timedelta(minutes=30)),
        ("last_hour", timedelta(hours=1)),
        ("last_2_hours", timedelta(hours=2)),
        ("last_4_hours", timedelta(hours=4)),
        ("last_day", timedelta(days=1)),
        ("last_week", timedelta(weeks=1)),
        ("last_month", timedelta(days=30)),
        ("last_90_seconds", timedelta(seconds=90)),
        ("last_7_minutes", timedelta(minutes=7)),
        ("last_1_hour", timedelta(hours=1)),
        ("last_3_days", timedelta(days=3)),
        ("last_2_weeks", timedelta(weeks=2)),
        ("last_2_months", timedelta(days=60)),
        ("2h30m", timedelta(hours=2, minutes=30)),
        (timedelta(seconds=1), timedelta(seconds=1)),
    ],
)
def test_periods_reach_back_from_now(period: str | timedelta, length: timedelta) -> None:
    start, end = resolve_period(period, NOW)
    assert start == NOW - length // timedelta(microseconds=1) * 1000
    assert start <= NOW < end == NOW + 1


def test_every_period_with_a_name_is_known() -> None:
    for period in PERIODS:
        start, end = resolve_period(period, NOW, market="US")
        assert start < NOW < end


@pytest.mark.parametrize(
    ("tz", "start"),
    [
        (None, "2025-01-10T00:00:00Z"),
        ("America/New_York", "2025-01-10T05:00:00Z"),
        ("Asia/Tokyo", "2025-01-10T15:00:00Z"),  # Saturday has just begun there
    ],
)
def test_today_is_of_the_zone(tz: str | None, start: str) -> None:
    assert format_ns(resolve_period("today", NOW, tz=tz)[0]) == start


def test_today_has_25_hours_when_the_clocks_go_back() -> None:
    now = to_ns("2025-11-02T23:59:59-05:00")
    start, _ = resolve_period("today", now, tz="America/New_York")
    assert now - start == (25 * 3600 - 1) * SECOND


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2025-01-10T15:00:00Z", "2025-01-10T14:30:00Z"),  # open
        ("2025-01-10T14:30:00Z", "2025-01-10T14:30:00Z"),  # this very instant
        ("2025-01-10T14:29:59Z", "2025-01-08T14:30:00Z"),  # mourning the day before
        ("2025-01-12T12:00:00Z", "2025-01-10T14:30:00Z"),  # Sunday
    ],
)
def test_since_open_is_the_latest_opening(now: str, start: str) -> None:
    assert format_ns(resolve_period("since_open", to_ns(now), market="US")[0]) == start


def test_since_open_of_other_markets_and_sessions() -> None:
    now = to_ns(
        "2025-01-13T02:00:00Z"
    )  # Sunday evening in Chicago, Monday noon in Tokyo: a holiday
    starts = {
        "2025-01-12T23:00:00Z": resolve_period(
            "since_open", now, market=market("CME"), session_type="globex"
        )[0],
        "2025-01-10T14:30:00Z": resolve_period("since_open", now, market="CME")[0],
        "2025-01-10T00:00:00Z": resolve_period("since_open", now, market="JP")[0],
    }
    assert [format_ns(ns) for ns in starts.values()] == list(starts)


def test_since_open_needs_a_market_that_exists() -> None:
    with pytest.raises(InputError, match="needs a market"):
        resolve_period("since_open", NOW)
    with pytest.raises(UnknownMarketError):
        resolve_period("since_open", NOW, market="Mars")


@pytest.mark.parametrize(
    "period", ["last_hours_2", "last_", "last_0x_days", "yesterday", "", None, 5]
)
def test_an_invalid_period_lists_valid_ones(period: Any) -> None:
    with pytest.raises(UnknownPeriodError) as info:
        resolve_period(period, NOW)
    assert all(name in str(info.value) for name in (*PERIODS, "2h30m", "last_<n>_"))


def test_a_misspelt_period_has_a_suggestion() -> None:
    with pytest.raises(UnknownPeriodError, match="did you mean 'last_hour'"):
        resolve_period("last_hr", NOW)


@pytest.mark.parametrize("period", ["last_0_days", "last_99999_weeks"])
def test_numbered_periods_are_positive_and_bounded(period: str) -> None:
    with pytest.raises(UnknownPeriodError, match="century"):
        resolve_period(period, NOW)
