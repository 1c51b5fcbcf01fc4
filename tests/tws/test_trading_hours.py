"""The trading hours IB gives for a contract."""

from __future__ import annotations

from datetime import UTC, datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.tws import parse_trading_hours

NEW_YORK = ZoneInfo("America/New_York")


def ns(*when: Any, zone: ZoneInfo | timezone = NEW_YORK) -> int:
    return int(datetime(*when).replace(tzinfo=zone).timestamp()) * 1_000_000_000


def test_a_stock() -> None:
    hours = parse_trading_hours(
        "20250110:0400-20250110:2000;20250111:CLOSED;20250112:CLOSED;20250113:0400-20250113:2000",
        "US/Eastern",
    )
    assert hours.is_open(ns(2025, 1, 10, 4)) is True
    assert hours.is_open(ns(2025, 1, 10, 3, 59)) is False
    assert hours.is_open(ns(2025, 1, 10, 20)) is False
    assert hours.is_open(ns(2025, 1, 11, 12)) is False
    assert hours.is_open(ns(2025, 1, 13, 12)) is True
    # Other days are unknown.
    assert hours.is_open(ns(2025, 1, 9, 12)) is None
    assert hours.is_open(ns(2025, 1, 14, 12)) is None


def test_a_future_trades_over_midnight_with_a_break() -> None:
    hours = parse_trading_hours(
        "20250109:1700-20250110:1600;20250110:1600-20250110:1615,20250112:1700-20250113:1600",
        "US/Central",
    )
    chicago = ZoneInfo("America/Chicago")
    assert hours.intervals[0] == (
        ns(2025, 1, 9, 17, zone=chicago),
        ns(2025, 1, 10, 16, 15, zone=chicago),
    )
    assert hours.is_open(ns(2025, 1, 10, 3, zone=chicago)) is True
    assert hours.is_open(ns(2025, 1, 11, 12, zone=chicago)) is False


def test_daylight_saving_of_the_exchange() -> None:
    """On 2025-03-09 New York has no 02:30, and an hour less."""
    hours = parse_trading_hours("20250308:1800-20250309:1700", "US/Eastern")
    ((start, end),) = hours.intervals
    assert end - start == 22 * 3600 * 1_000_000_000


@pytest.mark.parametrize(
    ("zone", "utc_hour"),
    [
        ("EST", 14),
        ("EST5EDT", 14),
        ("EST (Eastern Standard Time)", 14),
        ("US/Eastern", 14),
        ("CST", 15),
        ("JST", 0),
        ("GMT", 9),
        ("MET", 8),
        ("Asia/Tokyo", 0),
    ],
)
def test_zones_as_ib_names_them(zone: str, utc_hour: int) -> None:
    hours = parse_trading_hours("20250110:0900-20250110:1000", zone)
    begin = ns(2025, 1, 10, utc_hour, zone=UTC)
    assert hours.intervals == ((begin, begin + 3600 * 1_000_000_000),)


def test_an_older_server_leaves_the_second_date_out() -> None:
    assert parse_trading_hours("20250110:0930-1600", "EST") == parse_trading_hours(
        "20250110:0930-20250110:1600", "EST"
    )


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("", "EST"),
        (";", "EST"),
        ("20250110:0930-20250110:1600", ""),
        ("20250110:0930-20250110:1600", "Nowhere/At_All"),
        ("20250110:0930-20250110:1600", "../../etc/passwd"),
        ("20250110:0930-20250110:1600", "America"),
        ("20250110:0930", "EST"),
        ("closed", "EST"),
        ("20250110:1600-20250110:0930", "EST"),
        ("20251310:0930-20251310:1600", "EST"),
        ("20250110:2560-20250110:2600", "EST"),
        ("20250230:CLOSED", "EST"),
    ],
)
def test_unparsable_hours_are_unknown(text: str, zone: str) -> None:
    assert parse_trading_hours(text, zone) is None


@given(st.text("0123456789:-;,CLOSED ", max_size=60), st.sampled_from(["EST", "", "x y", "a/b"]))
def test_no_input_raises(text: str, zone: Any) -> None:
    hours = parse_trading_hours(text, zone)
    if hours is not None:
        assert all(start < end for start, end in hours.intervals)
        assert hours.is_open(0) in (True, False, None)
