"""Resolution of where a buffer begins."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ibticks.calendar import to_ns
from ibticks.errors import (
    InputError,
    NaiveDatetimeError,
    TimeRangeError,
    UnknownMarketError,
    UnknownPeriodError,
)
from ibticks.live import resolve_buffer

# Friday 2025-01-10, 10:40 in New York; the session began at 14:30 UTC.
NOW = to_ns("2025-01-10T15:40Z")


@pytest.mark.parametrize(
    ("buffer", "start", "words"),
    [
        ("1h", "2025-01-10T14:40Z", "the last 1h"),
        ("2h30m", "2025-01-10T13:10Z", "the last 2h30m"),
        ("last_15_minutes", "2025-01-10T15:25Z", "last_15_minutes"),
        ("today", "2025-01-10T00:00Z", "today"),
        ("since_open", "2025-01-10T14:30Z", "since_open"),
        ("regular", "2025-01-10T14:30Z", "the regular session of US on 2025-01-10"),
        ("pre_market", "2025-01-10T09:00Z", "the pre_market session of US on 2025-01-10"),
        (timedelta(minutes=10), "2025-01-10T15:30Z", "the last 0:10:00"),
        ("2025-01-10T15:00Z", "2025-01-10T15:00Z", "since 2025-01-10T15:00Z"),
        (datetime(2025, 1, 10, 15, tzinfo=UTC), "2025-01-10T15:00Z", None),
    ],
)
def test_buffer_start_of_each_form(
    buffer: str | timedelta | datetime, start: str, words: str | None
) -> None:
    start_ns, label = resolve_buffer(buffer, NOW)
    assert start_ns == to_ns(start)
    assert words is None or label == words


def test_buffer_start_in_zones_and_markets() -> None:
    assert resolve_buffer("2025-01-10 10:00", NOW, tz="America/New_York")[0] == to_ns(
        "2025-01-10T15Z"
    )
    assert resolve_buffer(date(2025, 1, 10), NOW, tz="UTC")[0] == to_ns("2025-01-10T00Z")
    assert resolve_buffer("today", NOW, tz="America/New_York")[0] == to_ns("2025-01-10T05:00Z")
    assert resolve_buffer("globex", NOW, market="CME")[0] == to_ns("2025-01-09T23:00Z")
    # The last session, where none is running: Sunday.
    assert resolve_buffer("regular", to_ns("2025-01-12T15:40Z"))[0] == to_ns("2025-01-10T14:30Z")


@pytest.mark.parametrize(
    ("buffer", "error", "match"),
    [
        ("an hour", UnknownPeriodError, "since_open"),
        ("2025-01-10 10:00", NaiveDatetimeError, "no time zone"),
        ("2025-01-11T00:00Z", TimeRangeError, "still to come"),
        (3.5, InputError, "buffer=3.5 is not a time"),
    ],
)
def test_wrong_arguments_raise(buffer: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        resolve_buffer(buffer, NOW)


def test_unknown_market_raises() -> None:
    with pytest.raises(UnknownMarketError):
        resolve_buffer("regular", NOW, market="MOON")
