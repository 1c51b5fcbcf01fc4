"""Columns of Python objects that are times: each to the nanosecond, in its own zone, or refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pytest
import pytz
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from ibticks.errors import InputError, NaiveDatetimeError
from ibticks.frames import from_arrow

if TYPE_CHECKING:
    from collections.abc import Callable

NEW_YORK = "America/New_York"
NS = 1_736_519_400_123_456_789
STAMP = pd.Timestamp(NS, tz="UTC")
MICRO = NS // 1000 * 1000
FIVE_WEST = timezone(timedelta(hours=-5))


def in_pandas(values: list[pd.Timestamp]) -> pd.DataFrame:
    return pd.DataFrame({"timestamp": pd.Series(values, dtype=object), "price": 1.0})


def in_a_named_index(values: Any) -> pd.DataFrame:
    index = pd.Index(values, dtype=object, name="timestamp")
    return pd.DataFrame({"price": 1.0}, index=index)


def in_polars(values: list[Any]) -> pl.DataFrame:
    return pl.DataFrame({"timestamp": pl.Series(values, dtype=pl.Object)}).with_columns(price=1.0)


def in_xarray(values: Any) -> xr.Dataset:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return xr.Dataset({"price": ("timestamp", np.ones(len(values)))}, {"timestamp": array})


FRAMES = [in_pandas, in_a_named_index, in_polars, in_xarray]


def read(frame: pd.DataFrame | pl.DataFrame | xr.Dataset, tz: str | None = None) -> Any:
    return from_arrow(frame, contract_id=1, tick_type="last", tz=tz).timestamp.tolist()


AWARE = {
    "Timestamps": ([STAMP, STAMP + pd.Timedelta(1, "ns")], [NS, NS + 1]),
    "Timestamps of one zone": ([STAMP.tz_convert(NEW_YORK)], [NS]),
    "Timestamps of many zones": (
        [STAMP, STAMP.tz_convert(NEW_YORK), STAMP.tz_convert(FIVE_WEST), STAMP.as_unit("us")],
        [NS, NS, NS, MICRO],
    ),
    "datetimes": ([datetime.fromtimestamp(NS // 10**9, UTC)], [NS // 10**9 * 10**9]),
    "datetimes of many zones": (
        [
            datetime(2025, 1, 10, 9, 30, 0, 123456, FIVE_WEST),
            datetime(2025, 1, 10, 9, 30, 0, 123456, ZoneInfo(NEW_YORK)),
            pytz.timezone(NEW_YORK).localize(datetime(2025, 1, 10, 9, 30, 0, 123456)),
            STAMP,
        ],
        [MICRO, MICRO, MICRO, NS],
    ),
    "texts and Timestamps": (
        [STAMP, "2025-01-10T09:30:00.123456789-05:00", "2025-01-10T14:30:00.123456789Z"],
        [NS, NS, NS],
    ),
}


@pytest.mark.parametrize("make", FRAMES)
@pytest.mark.parametrize(("values", "expected"), AWARE.values(), ids=AWARE)
def test_objects_with_a_zone(
    make: Callable[..., pd.DataFrame] | Callable[..., pl.DataFrame] | Callable[..., xr.Dataset],
    values: Any,
    expected: list[int],
) -> None:
    assert read(make(values)) == expected
    assert read(make(values), tz="Asia/Tokyo") == expected


NAIVE = {
    "Timestamps": ([STAMP.tz_localize(None)], [NS]),
    "datetime64": ([np.datetime64(NS, "ns"), np.datetime64(MICRO // 1000, "us")], [NS, MICRO]),
    "dates and datetimes": (
        [date(2025, 1, 10), datetime(2025, 1, 10, 14, 30)],
        [NS - NS % (86_400 * 10**9), NS // 10**9 * 10**9],
    ),
    "texts": (["2025-01-10 14:30:00.123456789", STAMP.tz_localize(None)], [NS, NS]),
}


@pytest.mark.parametrize("make", FRAMES)
@pytest.mark.parametrize(("values", "expected"), NAIVE.values(), ids=NAIVE)
def test_objects_without_a_zone(
    make: Callable[..., pd.DataFrame] | Callable[..., pl.DataFrame] | Callable[..., xr.Dataset],
    values: Any,
    expected: list[int],
) -> None:
    with pytest.raises(NaiveDatetimeError, match="tz="):
        read(make(values))
    assert read(make(values), tz="UTC") == expected
    assert read(make(values), tz=NEW_YORK) == [time + 5 * 3600 * 10**9 for time in expected]


@pytest.mark.parametrize("make", [in_pandas, in_a_named_index, in_polars])
@pytest.mark.parametrize(
    "naive", [STAMP.tz_localize(None), datetime(2025, 1, 10), date(2025, 1, 10)]
)
def test_objects_with_and_without_a_zone(
    make: Callable[..., pd.DataFrame] | Callable[..., pl.DataFrame], naive: date
) -> None:
    for tz in (None, "UTC"):
        with pytest.raises(NaiveDatetimeError, match=r"row 1: 2025-01-10.* has no time zone"):
            read(make([STAMP, naive]), tz=tz)


@pytest.mark.parametrize("make", FRAMES)
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([datetime(2025, 1, 10, 9, 30, tzinfo=pytz.timezone(NEW_YORK))], "local mean time"),
        ([STAMP, 5], "row 1: 5 is a int"),
        ([STAMP, pd.NaT], "no timestamp, the first is row 1"),
        ([STAMP, None], "no timestamp, the first is row 1"),
        ([datetime(9999, 1, 1, tzinfo=UTC)], "1677-09-21 to 2262-04-11"),
        ([np.datetime64("9999-01-01", "us")], "1677-09-21 to 2262-04-11"),
        ([STAMP, "noon"], "no time"),
    ],
    ids=["pytz", "number", "NaT", "None", "far", "far datetime64", "text"],
)
def test_objects_that_are_refused(
    make: Callable[..., pd.DataFrame] | Callable[..., pl.DataFrame] | Callable[..., xr.Dataset],
    values: list[Any],
    says: str,
) -> None:
    if make is in_xarray and says == "local mean time":
        pytest.skip("xarray itself has made other times of them before")
    with pytest.raises(InputError, match=says):
        read(make(values), tz="UTC")


def test_objects_of_other_columns() -> None:
    frame = in_pandas([STAMP]).assign(exchange_time=pd.Series([STAMP], dtype=object))
    ticks = from_arrow(frame, contract_id=1, tick_type="last")
    assert ticks.numbers("exchange_time").tolist() == [NS // 10**9]
    with pytest.raises(InputError, match="price"):
        from_arrow(frame.assign(price=pd.Series([STAMP], dtype=object)), contract_id=1)
    with pytest.raises(InputError, match="'price' holds Python objects"):
        read(in_polars([STAMP]).with_columns(price=pl.Series([object()], dtype=pl.Object)))
    assert read(in_polars([STAMP]).select("timestamp")) == [NS]


@given(
    st.lists(
        st.tuples(st.integers(-(2**62), 2**62), st.sampled_from(["UTC", NEW_YORK, "Asia/Kolkata"])),
        min_size=1,
        max_size=20,
    )
)
def test_any_timestamps_convert_to_nanoseconds(drawn: list[Any]) -> None:
    stamps = [pd.Timestamp(ns, tz="UTC").tz_convert(zone) for ns, zone in drawn]
    assert read(in_pandas(stamps)) == [ns for ns, _ in drawn]
    naive = [stamp.tz_convert("UTC").tz_localize(None) for stamp in stamps]
    assert read(in_pandas(naive), tz="UTC") == [ns for ns, _ in drawn]
