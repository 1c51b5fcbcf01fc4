from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
import pytz
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.errors import InputError, NaiveDatetimeError
from ibticks.frames.times import utc_nanoseconds, zone_name

NOON = 1_736_510_400_000_000_000  # 2025-01-10 12:00 UTC, 07:00 in New York
NEW_YORK = "America/New_York"


def read(values, kind=None, **options):
    times, valid = utc_nanoseconds(pa.chunked_array([pa.array(values, kind)]), "time", **options)
    assert times.dtype == np.int64
    there = [True] * len(times) if valid is None else valid.tolist()
    return [t if ok else None for t, ok in zip(times.tolist(), there, strict=True)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_every_resolution(unit):
    size = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    value = pa.scalar(NOON // size, pa.timestamp(unit, "Asia/Tokyo"))
    assert read([value, None], pa.timestamp(unit, "Asia/Tokyo")) == [NOON, None]
    naive = pa.timestamp(unit)
    assert read([pa.scalar(NOON // size, naive)], naive, tz="UTC") == [NOON]
    five = pa.scalar(NOON // size - 5 * 3_600 * 10**9 // size, naive)
    assert read([five], naive, tz=NEW_YORK) == [NOON]


def test_with_a_unit_texts_of_any_length_are_numbers():
    assert read(["34200000", "1", None], unit="ms") == [34_200 * 10**9, 10**6, None]
    assert read(["20250110"], tz="UTC") == [NOON - 12 * 3_600 * 10**9]


def test_nothing_naive_is_guessed():
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
def test_texts_of_local_time(text):
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
def test_texts_that_say_their_zone(text):
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
def test_texts_that_are_no_times(texts):
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
def test_the_size_of_a_number_says_its_unit(number, unit):
    assert read([number]) == [NOON]
    assert read([number, None], unit=unit) == [NOON, None]
    assert read([str(number)]) == [NOON]
    assert read([Decimal(number)], pa.decimal128(20, 0)) == [NOON]
    assert read([number], pa.uint64()) == [NOON]


def test_numbers_that_could_be_anything_need_a_unit():
    for values in ([14_400_054], [20250110120000], [0], [NOON, NOON // 1000], [-NOON]):
        with pytest.raises(InputError, match="timestamp_unit"):
            read(values)
    assert read([14_400_054, 0, -1], unit="ms") == [14_400_054_000_000, 0, -1_000_000]
    with pytest.raises(InputError, match="'minutes'"):
        read([NOON], unit="minutes")


def test_fractions_keep_their_digits():
    assert read(["1736510400.087891268"]) == [NOON + 87_891_268]
    assert read(["1736510400087.5"]) == [NOON + 87_500_000]
    assert read(["1736510400."]) == [NOON]
    assert read([Decimal("1736510400.087891268")]) == [NOON + 87_891_268]
    assert read([1_736_510_400.25, None, float("nan")]) == [NOON + 250_000_000, None, None]
    assert read([1_736_510_400.25], pa.float32(), unit="s")[0] == pytest.approx(NOON, rel=1e-6)


def test_what_no_nanosecond_can_say():
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


def test_local_times_that_happened_twice_or_never():
    for text in ("2024-11-03 01:30:00", "2024-03-10 02:30:00"):
        with pytest.raises(InputError, match=NEW_YORK):
            read([text], tz=NEW_YORK)
    with pytest.raises(InputError, match="America/New_Yark"):
        read(["2024-03-10 02:30:00"], tz="America/New_Yark")


def test_nothing_at_all():
    assert read([]) == []
    assert read([None, None]) == [None, None]
    assert read([None], pa.string()) == read([None], pa.timestamp("s")) == [None]
    assert read([None], pa.int64()) == [None]
    with pytest.raises(InputError, match="time64"):
        read([1], pa.time64("ns"))


def test_names_of_zones():
    assert zone_name(None) is None
    assert zone_name(pytz.timezone(NEW_YORK)) == zone_name(ZoneInfo(NEW_YORK)) == NEW_YORK
    assert zone_name(UTC) == "UTC"


@settings(deadline=None)
@given(
    st.lists(st.integers(662_688_000 * 10**9, 4_102_444_800 * 10**9 - 1), min_size=1, max_size=4)
)
def test_texts_and_numbers_say_the_same(times):
    typed = pa.array(times).cast(pa.timestamp("ns"))
    texts = typed.cast(pa.string()).to_pylist()
    assert read(texts, tz="UTC") == times
    assert read([text.replace("-", "").replace(" ", "-") for text in texts], tz="UTC") == times
    assert read(times, unit="ns") == times
    assert read([f"{t // 10**9}.{t % 10**9:09d}" for t in times]) == times
