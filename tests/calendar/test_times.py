"""Instants: accepted forms, refused forms, and exact nanoseconds."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import pytz
from hypothesis import given
from hypothesis import strategies as st

from ibticks.calendar import find_timezone, format_ns, from_ns, now_ns, to_ns
from ibticks.calendar._times import start_of_day_ns
from ibticks.errors import InputError, NaiveDatetimeError, TimeRangeError

OPEN = 1_736_519_400_000_000_000  # 2025-01-10 09:30 in New York, 14:30 UTC
NEW_YORK = "America/New_York"
INT64 = st.integers(-(2**63), 2**63 - 1)
UNTIL_2037 = st.datetimes(datetime(1970, 1, 1), datetime(2037, 12, 31))  # pytz knows no more


@pytest.mark.parametrize(
    ("value", "tz"),
    [
        ("2025-01-10T14:30:00Z", None),
        ("2025-01-10 14:30Z", None),
        ("2025-01-10 09:30:00-05:00", None),
        ("20250110T093000-0500", None),
        ("2025-01-10T23:30+09:00", "America/New_York"),  # its own offset wins
        ("2025-01-10 09:30", NEW_YORK),
        ("2025-01-10T09:30", "US/Eastern"),
        ("2025-01-10T09:30", "america/new_york"),
        ("2025-01-10T09:30", pytz.timezone(NEW_YORK)),
        ("2025-01-10T09:30", ZoneInfo(NEW_YORK)),
        ("2025-01-10T09:30", timezone(timedelta(hours=-5))),
        (datetime(2025, 1, 10, 14, 30, tzinfo=UTC), None),
        (datetime(2025, 1, 10, 9, 30, tzinfo=ZoneInfo(NEW_YORK)), None),
        (pytz.timezone(NEW_YORK).localize(datetime(2025, 1, 10, 9, 30)), None),
        (datetime(2025, 1, 10, 9, 30), NEW_YORK),
        (pd.Timestamp("2025-01-10 09:30", tz=NEW_YORK), None),
        (pd.Timestamp("2025-01-10 09:30"), NEW_YORK),
        (np.datetime64("2025-01-10T09:30"), NEW_YORK),
        (np.datetime64("2025-01-10T14:30:00.000000000"), "UTC"),
        (OPEN, None),
        (np.int64(OPEN), None),
    ],
)
def test_one_instant_in_many_ways(value: Any, tz: Any) -> None:
    assert to_ns(value, tz=tz) == OPEN


@pytest.mark.parametrize(
    "value",
    [
        "2025-01-10T14:30:00.000000001Z",
        "2025-01-10 14:30:00,000000001Z",
        "20250110T143000.000000001Z",
        pd.Timestamp("2025-01-10 14:30:00.000000001", tz="UTC"),
    ],
)
def test_nanoseconds_are_kept(value: str | pd.Timestamp) -> None:
    assert to_ns(value) == OPEN + 1


def test_nanoseconds_of_numpy_are_kept() -> None:
    assert to_ns(np.datetime64("2025-01-10T09:30:00.123456789"), tz=NEW_YORK) == OPEN + 123_456_789


@pytest.mark.parametrize(
    "value",
    [
        "2025-01-10",
        "20250110",
        date(2025, 1, 10),
        np.datetime64("2025-01-10"),
        datetime(2025, 1, 10),
    ],
)
def test_a_date_is_its_local_midnight(value: Any) -> None:
    assert format_ns(to_ns(value, tz="Asia/Tokyo")) == "2025-01-09T15:00:00Z"


def test_a_day_without_midnight_starts_when_the_clocks_jump() -> None:
    # Brazil put its clocks forward at midnight until 2018.
    assert format_ns(to_ns("2018-11-04", tz="America/Sao_Paulo")) == "2018-11-04T03:00:00Z"
    with pytest.raises(TimeRangeError, match="did not happen"):
        to_ns("2018-11-04T00:00", tz="America/Sao_Paulo")


def test_a_day_with_two_midnights_starts_at_the_first() -> None:
    # Cuba puts its clocks back from 01:00 to 00:00.
    start = start_of_day_ns(date(2024, 11, 3), "America/Havana")
    assert format_ns(start) == "2024-11-03T04:00:00Z"


def test_anything_with_isoformat_is_read() -> None:
    class Moment:
        def isoformat(self) -> str:
            return "2025-01-10T14:30:00Z"

    assert to_ns(Moment()) == OPEN


@pytest.mark.parametrize(
    "value",
    [
        "2025-01-10",
        "2025-01-10 09:30",
        date(2025, 1, 10),
        datetime(2025, 1, 10, 9, 30),
        pd.Timestamp("2025-01-10 09:30"),
        np.datetime64("2025-01-10T09:30"),
        np.datetime64("2025-01-10"),
    ],
)
def test_naive_times_are_refused_with_a_remedy(value: Any) -> None:
    with pytest.raises(
        NaiveDatetimeError, match=r"until=.*2025-01-10.*is UTC.*tz='America"
    ) as info:
        to_ns(value, name="until")
    assert info.value.context["name"] == "until"


def test_a_skipped_local_time_names_both_choices() -> None:
    with pytest.raises(TimeRangeError, match="did not happen") as info:
        to_ns("2025-03-09 02:30", tz=NEW_YORK)
    assert info.value.context["choices"] == (
        "2025-03-09T03:30:00-04:00",
        "2025-03-09T01:30:00-05:00",
    )
    assert all(choice in str(info.value) for choice in info.value.context["choices"])


@pytest.mark.parametrize("tz", [NEW_YORK, pytz.timezone(NEW_YORK), ZoneInfo(NEW_YORK)])
def test_an_ambiguous_local_time_names_both_choices(tz: Any) -> None:
    with pytest.raises(TimeRangeError, match=r"happened twice.*\(EDT\) or .*\(EST\)") as info:
        to_ns(datetime(2025, 11, 2, 1, 30), tz=tz)
    first, second = info.value.context["choices"]
    assert to_ns(second) - to_ns(first) == 3_600_000_000_000


def test_the_hours_beside_a_time_change_are_read() -> None:
    before, after = (to_ns(f"2025-03-09 {at}", tz=NEW_YORK) for at in ("01:59:59", "03:00"))
    assert after - before == 1_000_000_000


def test_a_pytz_zone_given_as_tzinfo_is_refused() -> None:
    wrong = datetime(2025, 1, 10, 9, 30, tzinfo=pytz.timezone(NEW_YORK))
    with pytest.raises(InputError, match=r"local mean time.*localize"):
        to_ns(wrong)


@pytest.mark.parametrize(
    ("tz", "hint"),
    [
        ("New_York", "America/New_York"),
        ("newyork", "America/New_York"),
        ("Europe/Londn", "Europe/London"),
        ("Asia/Tokio", "Asia/Tokyo"),
    ],
)
def test_an_unknown_zone_has_suggestions(tz: str, hint: str) -> None:
    with pytest.raises(InputError, match=rf"no time zone '{tz}'; did you mean .*'{hint}'"):
        to_ns("2025-01-10", tz=tz)


@pytest.mark.parametrize("tz", ["", "Nowhere", "../etc/passwd", "America", 5])
def test_invalid_zones_are_refused(tz: Any) -> None:
    with pytest.raises(InputError, match="time zone"):
        find_timezone(tz)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "yesterday",
        "09:30",
        "2025-13-10",
        "2025-02-29",
        "2025-01-10T25:00Z",
        "2025-01-10T09:30.5Z",
        "2025-01-10T09:30:00.1234567891Z",
        "2025.01.10",
        "01/10/2025",
    ],
)
def test_invalid_times_are_refused(value: str) -> None:
    with pytest.raises(InputError, match="ISO 8601"):
        to_ns(value, tz="UTC")


@pytest.mark.parametrize("value", [None, 1.5, True, [], object(), np.float64(OPEN)])
def test_other_things_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="is not a time"):
        to_ns(value, tz="UTC")


@pytest.mark.parametrize("value", [pd.NaT, np.datetime64("NaT")])
def test_nat_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="NaT"):
        to_ns(value, tz="UTC")


@pytest.mark.parametrize("value", [1_736_519_400, 1_736_519_400_000, 1_736_519_400_000_000])
def test_ints_that_are_not_nanoseconds_are_refused(value: int) -> None:
    with pytest.raises(InputError, match="multiply by"):
        to_ns(value)


@pytest.mark.parametrize(
    "value",
    [
        "1600-01-01T00:00Z",
        "2300-01-01T00:00Z",
        datetime(9999, 1, 1, tzinfo=UTC),
        np.datetime64("2300-01-01T00:00:00"),
        np.datetime64("2300-01-01"),
        2**63,
    ],
)
def test_times_beyond_64_bits_are_refused(value: Any) -> None:
    with pytest.raises(TimeRangeError, match="64 bits"):
        to_ns(value, tz="UTC")


def test_the_ends_of_64_bits() -> None:
    assert format_ns(-(2**63)) == "1677-09-21T00:12:43.145224192Z"
    assert format_ns(2**63 - 1) == "2262-04-11T23:47:16.854775807Z"


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (OPEN, "2025-01-10T14:30:00Z"),
        (OPEN + 500_000_000, "2025-01-10T14:30:00.500Z"),
        (OPEN + 1_000, "2025-01-10T14:30:00.000001Z"),
        (OPEN + 1, "2025-01-10T14:30:00.000000001Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
    ],
)
def test_written_in_utc(ns: int, text: str) -> None:
    assert format_ns(ns) == text


def test_written_in_a_zone() -> None:
    assert format_ns(OPEN + 1, NEW_YORK) == "2025-01-10T09:30:00.000000001-05:00"
    assert format_ns(OPEN, pytz.timezone("Europe/London")) == "2025-01-10T14:30:00+00:00"


@given(INT64, st.sampled_from([None, NEW_YORK, "Asia/Kolkata", "Australia/Lord_Howe"]))
def test_formatted_times_are_parsed_again(ns: int, tz: Any) -> None:
    assert to_ns(format_ns(ns, tz)) == ns


@given(INT64.filter(lambda ns: ns > -(2**63)))  # which numpy calls NaT
def test_numpy_and_pandas_agree(ns: int) -> None:
    assert to_ns(np.datetime64(ns, "ns"), tz="UTC") == ns
    assert to_ns(pd.Timestamp(ns, tz="UTC")) == ns


@given(UNTIL_2037, st.sampled_from([NEW_YORK, "Europe/London", "Australia/Lord_Howe"]))
def test_local_times_agree_with_pytz(naive: datetime, tz: Any) -> None:
    zone = pytz.timezone(tz)
    try:
        expected = zone.localize(naive, is_dst=None)
    except (pytz.AmbiguousTimeError, pytz.NonExistentTimeError):
        with pytest.raises(TimeRangeError):
            to_ns(naive, tz=tz)
        return
    assert to_ns(naive, tz=tz) == to_ns(expected)
    assert from_ns(to_ns(naive, tz=tz), tz) == expected


def test_now_is_the_current_time() -> None:
    before = time.time_ns()
    assert before <= now_ns() <= time.time_ns()
