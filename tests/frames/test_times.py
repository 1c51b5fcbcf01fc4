from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import dateutil.tz
import numpy as np
import pyarrow as pa
import pytest
import pytz

from ibticks.calendar import to_ns
from ibticks.errors import InputError, NaiveDatetimeError
from ibticks.frames._times import utc_nanoseconds

NOON = 1_736_510_400_000_000_000  # 2025-01-10 12:00 UTC, 07:00 in New York
NEW_YORK = "America/New_York"


def read(values: list[Any], kind: Any = None, **options: Any) -> list[Any]:
    times, valid = utc_nanoseconds(pa.chunked_array([pa.array(values, kind)]), "time", **options)
    assert times.dtype == np.int64
    there = [True] * len(times) if valid is None else valid.tolist()
    return [t if ok else None for t, ok in zip(times.tolist(), there, strict=True)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_every_resolution(unit: str) -> None:
    size = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    value = pa.scalar(NOON // size, pa.timestamp(unit, "Asia/Tokyo"))
    assert read([value, None], pa.timestamp(unit, "Asia/Tokyo")) == [NOON, None]
    naive = pa.timestamp(unit)
    assert read([pa.scalar(NOON // size, naive)], naive, tz="UTC") == [NOON]
    five = pa.scalar(NOON // size - 5 * 3_600 * 10**9 // size, naive)
    assert read([five], naive, tz=NEW_YORK) == [NOON]


def test_with_a_unit_texts_of_any_length_are_numbers() -> None:
    assert read(["34200000", "1", None], unit="ms") == [34_200 * 10**9, 10**6, None]
    assert read(["20250110"], tz="UTC") == [NOON - 12 * 3_600 * 10**9]


def test_naive_times_are_refused() -> None:
    for values in ([datetime(2025, 1, 10)], [date(2025, 1, 10)], ["2025-01-10 12:00"]):
        with pytest.raises(NaiveDatetimeError, match="tz="):
            read(values)
    assert read([date(2025, 1, 10)], tz="UTC") == [NOON - 12 * 3_600 * 10**9]


@pytest.mark.parametrize(
    "text",
    [
        "2025-01-10 07:00:00.5",
        "2025-01-10T07:00:00.500",
        "20250110 07:00:00.500",
        "20250110-07:00:00.500000000",
        "20250110  07:00:00.5",
        "2025/01/10 07:00:00.5",
        " 2025-01-10 07:00:00.5 ",
    ],
)
def test_texts_of_local_time(text: str) -> None:
    assert read([text, None], tz=NEW_YORK) == [NOON + 500_000_000, None]


@pytest.mark.parametrize(
    "text",
    [
        "2025-01-10T12:00:00Z",
        "2025-01-10 12:00:00 UTC",
        "2025-01-10 07:00:00-05:00",
        "2025-01-10 07:00:00 -0500",
        "2025-01-10 07:00:00-05",
        "2025-01-10T21:00:00.000000+09:00",
        "20250110 12:00:00 GMT",
    ],
)
def test_texts_with_a_zone(text: str) -> None:
    assert read([text]) == [NOON]
    assert read([text], tz=NEW_YORK) == [NOON]


@pytest.mark.parametrize(
    "texts",
    [
        ["10/01/2025 12:00"],
        ["noon"],
        ["2025-01-10 12:00:00", "2025-01-10 12:00:00Z"],
        ["2025-13-10 12:00:00"],
        ["12:00:00"],
    ],
)
def test_invalid_time_texts(texts: list[str]) -> None:
    with pytest.raises(InputError, match="time"):
        read(texts, tz="UTC")


@pytest.mark.parametrize(
    ("number", "unit"),
    [
        (NOON // 10**9, "s"),
        (NOON // 10**6, "ms"),
        (NOON // 10**3, "us"),
        (NOON, "ns"),
    ],
)
def test_the_magnitude_of_a_number_determines_its_unit(number: int, unit: str) -> None:
    assert read([number]) == [NOON]
    assert read([number, None], unit=unit) == [NOON, None]
    assert read([str(number)]) == [NOON]
    assert read([Decimal(number)], pa.decimal128(20, 0)) == [NOON]
    assert read([number], pa.uint64()) == [NOON]


def test_ambiguous_numbers_need_a_unit() -> None:
    for values in ([14_400_054], [20250110120000], [0], [NOON, NOON // 1000], [-NOON]):
        with pytest.raises(InputError, match="timestamp_unit"):
            read(values)
    assert read([14_400_054, 0, -1], unit="ms") == [14_400_054_000_000, 0, -1_000_000]
    with pytest.raises(InputError, match="'minutes'"):
        read([NOON], unit="minutes")


def test_fractions_keep_their_digits() -> None:
    assert read(["1736510400.087891268"]) == [NOON + 87_891_268]
    assert read(["1736510400087.5"]) == [NOON + 87_500_000]
    assert read(["1736510400."]) == [NOON]
    assert read([Decimal("1736510400.087891268")]) == [NOON + 87_891_268]
    assert read([1_736_510_400.25, None, float("nan")]) == [NOON + 250_000_000, None, None]
    assert read([1_736_510_400.25], pa.float32(), unit="s")[0] == pytest.approx(NOON, rel=1e-6)


def test_times_out_of_range_are_refused() -> None:
    for values, kind, unit in (
        ([datetime(9999, 1, 1, tzinfo=UTC)], None, None),
        ([2**62], None, "s"),
        ([-(2**62)], None, "us"),
        ([1e300], None, "s"),
        ([2**64 - 1], pa.uint64(), "ns"),
        (["99999999999999999999"], None, "ns"),
        (["-123456789.5"], None, "s"),
    ):
        with pytest.raises(InputError, match="1677"):
            read(values, kind, unit=unit)


def test_ambiguous_and_nonexistent_local_times() -> None:
    for text in ("2024-11-03 01:30:00", "2024-03-10 02:30:00"):
        with pytest.raises(InputError, match=NEW_YORK):
            read([text], tz=NEW_YORK)
    with pytest.raises(InputError, match="America/New_Yark"):
        read(["2024-03-10 02:30:00"], tz="America/New_Yark")


def test_empty_and_null_columns() -> None:
    assert read([]) == []
    assert read([None, None]) == [None, None]
    assert read([None], pa.string()) == read([None], pa.timestamp("s")) == [None]
    assert read([None], pa.int64()) == [None]
    with pytest.raises(InputError, match="time64"):
        read([1], pa.time64("ns"))


class Nameless(tzinfo):
    """New York, without a name by which another library could find it."""

    _zone = ZoneInfo(NEW_YORK)

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        return None if when is None else when.replace(tzinfo=self._zone).utcoffset()

    def dst(self, when: datetime | None) -> timedelta | None:
        return None if when is None else when.replace(tzinfo=self._zone).dst()

    def tzname(self, when: datetime | None) -> str:
        return "nameless"

    def fromutc(self, when: datetime) -> datetime:
        return self._zone.fromutc(when.replace(tzinfo=self._zone)).replace(tzinfo=self)


ZONES = {
    "US/Eastern": ("us/eastern", "US/EASTERN", "America/New_York", ZoneInfo("US/Eastern")),
    "pytz": ("-05:00", pytz.timezone("US/Eastern"), pytz.FixedOffset(-300)),
    "offset": ("-0500", "-05", "UTC-5", "utc-05:00", timezone(timedelta(hours=-5))),
    "others": (
        Nameless(),
        dateutil.tz.gettz("America/New_York"),
        dateutil.tz.tzoffset("EST", -18000),
    ),
}


@pytest.mark.parametrize("zones", ZONES.values(), ids=ZONES)
def test_aliases_of_a_zone(zones: tuple[Any, ...]) -> None:
    """The results equal those of calendar.to_ns."""
    text = "2025-01-10 09:30:00.123456789"
    for zone in zones:
        expected = to_ns("2025-01-10T14:30:00.123456789Z")
        assert read([text, None], tz=zone) == [expected, None]
        assert to_ns(text, tz=zone) == expected


@pytest.mark.parametrize("tz", ["", "GMT+5", "Mars", "+25:00", "-05:75", "America/New York", 5])
def test_invalid_zones_are_refused(tz: Any) -> None:
    with pytest.raises(InputError, match="time zone"):
        read(["2025-01-10 09:30:00"], tz=tz)
    with pytest.raises(InputError, match="time zone"):
        to_ns("2025-01-10 09:30:00", tz=tz)


def test_a_zone_of_python_alone_skips_hours_and_repeats_them() -> None:
    zone = Nameless()
    assert read(["2024-03-10 01:59:59", "2024-03-10 03:00:00"], tz=zone) == [
        to_ns("2024-03-10T06:59:59Z"),
        to_ns("2024-03-10T07:00:00Z"),
    ]
    for text in ("2024-03-10 02:30:00", "2024-11-03 01:30:00"):
        with pytest.raises(InputError, match="twice or never"):
            read([text], tz=zone)


def test_floats_that_cannot_be_nanoseconds() -> None:
    exact = [1736519400.5, 1736519401.25]
    assert read(exact, pa.float64()) == [1736519400500000000, 1736519401250000000]
    with pytest.raises(InputError, match="Int64"):
        read([1736519400123456789.0], pa.float64())
    with pytest.raises(InputError, match="as integers"):
        read([1736519400123456789.0], pa.float64(), unit="ns")


@pytest.mark.parametrize(
    "text", ["1736519400.1234567891", "1736519400123.1234567", "1736519400123456789.5"]
)
def test_fractions_of_a_nanosecond_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="a part of a nanosecond"):
        utc_nanoseconds(pa.chunked_array([[text]]), "time")
    whole = utc_nanoseconds(pa.chunked_array([["1736519400.1234567890000"]]), "time")[0]
    assert whole.tolist() == [1_736_519_400_123_456_789]
