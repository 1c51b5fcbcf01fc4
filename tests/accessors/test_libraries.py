"""Frames in pandas and xarray: nanoseconds, zones, categories, lists, metadata."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr

from ibticks import analysis
from ibticks.accessors import Ticks
from ibticks.accessors._delegation import library_of, to_polars
from ibticks.errors import InputError, NaiveDatetimeError
from ibticks.frames import metadata_of, to_pandas, to_table, to_xarray
from ibticks.schema import TickColumns, Values

if TYPE_CHECKING:
    from collections.abc import Callable

NS = 1_381_239_000_123_456_789


@pytest.fixture
def stored() -> Any:
    """Trades as a selection gives them, of all columns there are."""
    from ibticks.frames import from_arrow

    rows = pl.DataFrame(
        {
            "timestamp": pl.Series([NS, NS + 1], dtype=pl.Int64).cast(pl.Datetime("ns", "UTC")),
            "price": [10.5, None],
            "size": [100.0, 2.0],
            "exchange": ["P", None],
            "conditions": [["2000", "20"], []],
            "sequence": pl.Series([2**63 + 1, None], dtype=pl.UInt64),
            "past_limit": [True, None],
            "metadata": [[{"key": "source", "value": "backfill"}], []],
        }
    )
    ticks = from_arrow(rows, contract_id=8314, tick_type="last")
    details = {
        "selection": "IBM last",
        "missing": [["2013-10-08T13:00:00Z", "2013-10-08T13:01:00Z"]],
    }
    return to_table([ticks], list(ticks.columns), metadata=details)


@pytest.mark.parametrize("turn", [to_pandas, to_xarray])
def test_a_window_changes_nothing_but_the_rows(
    stored: Any, turn: Callable[..., pd.DataFrame] | Callable[..., xr.Dataset]
) -> None:
    frame: Any = turn(stored)
    whole = frame.ticks.trailing_window("1s")
    if turn is to_pandas:
        pd.testing.assert_frame_equal(whole, frame)
    else:
        xr.testing.assert_identical(whole.assign_attrs(frame.attrs), frame)
        assert whole["timestamp"].encoding == frame["timestamp"].encoding


@pytest.mark.parametrize("turn", [to_pandas, to_xarray])
def test_metadata_is_kept_and_lists_measures(
    stored: Any, turn: Callable[..., pd.DataFrame] | Callable[..., xr.Dataset]
) -> None:
    frame = turn(stored)
    bars = frame.ticks.trailing_window("1s").ticks.time_bars("1m", of="trades")
    details = metadata_of(bars)
    assert details["selection"] == "IBM last"
    assert details["missing"]
    assert details["measures"] == ["trailing_window('1s')", "time_bars('1m', of='trades')"]
    assert "measures" not in metadata_of(frame)


def test_other_attributes_of_a_pandas_frame_stay(stored: Any) -> None:
    frame = to_pandas(stored)
    frame.attrs["mine"] = 1
    assert frame.ticks.vwap().attrs["mine"] == 1


def test_a_time_index_is_the_timestamp_and_comes_back() -> None:
    times = pd.DatetimeIndex(["2025-01-10 09:30:00.000000001"] * 2, tz="America/New_York")
    frame = pd.DataFrame({"bid_price": [1.0, 2.0], "ask_price": [2.0, 3.0]}, index=times)
    actual = frame.ticks.mid()
    assert actual["mid"].tolist() == [1.5, 2.5]
    assert actual.index.name == "timestamp"
    pd.testing.assert_index_equal(actual.index, times, check_names=False)


@pytest.mark.parametrize(
    ("name", "how"),
    [("time_bars", ["1m"]), ("trailing_window", ["1m"]), ("vwap", []), ("gaps", ["1s"])],
)
def test_a_dimension_of_times_is_the_timestamp_and_stays(
    minutes: tuple[pl.DataFrame, pl.DataFrame], name: str, how: list[str]
) -> None:
    from .conftest import IN

    ticks = IN["xarray"](minutes[0])
    expected = getattr(ticks.ticks, name)(*how)
    if "timestamp" in expected.dims:
        expected = expected.rename(timestamp="time")
    actual = getattr(ticks.rename(timestamp="time").ticks, name)(*how)
    # Sums may be taken in another order.
    xr.testing.assert_allclose(actual, expected, rtol=1e-12)
    assert actual.attrs == expected.attrs


def test_pandas_bars_stay_in_their_zone() -> None:
    times = pd.DatetimeIndex(["2025-01-10 09:30:01"], tz="America/New_York")
    trades = pd.DataFrame({"timestamp": times, "price": [1.0], "size": [1]})
    (start,) = trades.ticks.time_bars("1m")["timestamp"]
    assert start == pd.Timestamp("2025-01-10 09:30", tz="America/New_York")
    assert str(start.tz) == "America/New_York"


@pytest.mark.parametrize("kind", ["polars", "lazy", "arrow", "objects"])
def test_decimals_are_measured(kind: str) -> None:
    at = datetime(2025, 1, 10, tzinfo=UTC)
    exact = [Decimal("1.25"), Decimal("1.50")]
    quotes = pl.DataFrame(
        {"timestamp": [at, at], "bid_price": exact, "ask_price": [*exact[1:]] * 2}
    )
    frame = {
        "polars": lambda: quotes,
        "lazy": quotes.lazy,
        "arrow": lambda: quotes.to_pandas(use_pyarrow_extension_array=True),
        "objects": quotes.to_pandas,
    }[kind]()
    actual = to_polars(frame.ticks.spread()).lazy().collect()
    # Of decimals, polars would round the share to two digits.
    assert actual["relative_spread"].to_list() == [pytest.approx(0.25 / 1.375), 0.0]
    assert to_polars(frame.ticks.time_bars("1m", of="quotes")).lazy().collect()["count"].item() == 2


def test_ticks_without_a_condition() -> None:
    at = pd.to_datetime(["2025-01-10"], utc=True)
    frame = pd.DataFrame({"timestamp": at, "price": [1.0], "size": [1.0], "conditions": [[]]})
    assert len(frame.ticks.sales_condition()) == 1


def test_counts_stay_integers() -> None:
    times = pd.DatetimeIndex(["2025-01-10 09:30:01"], tz="UTC")
    trades = pd.DataFrame({"timestamp": times, "price": [1.0], "size": [1]})
    bars = trades.ticks.time_bars("1m")
    assert bars.dtypes["count"] == np.uint32
    assert bars.dtypes["timestamp"] == "datetime64[ns, UTC]"


def test_times_without_a_zone_are_refused_with_a_remedy() -> None:
    frame = pd.DataFrame({"timestamp": pd.to_datetime(["2025-01-10"]), "price": [1.0]})
    with pytest.raises(NaiveDatetimeError, match=r'\.dt\.tz_localize\("UTC"\)'):
        frame.ticks.vwap()
    with pytest.raises(NaiveDatetimeError, match=r'as in df\.tz_localize\("UTC"\)$'):
        frame.set_index("timestamp").ticks.vwap()
    dataset = xr.Dataset({"price": ("timestamp", [1.0])}, {"timestamp": frame["timestamp"]})
    with pytest.raises(NaiveDatetimeError, match=r"attrs\['time_zone'\] = 'UTC'"):
        dataset.ticks.vwap()
    dataset["timestamp"].attrs["time_zone"] = "UTC"
    assert to_polars(dataset).schema["timestamp"] == pl.Datetime("ns", "UTC")


def test_other_objects_are_refused() -> None:
    with pytest.raises(InputError, match="a dict is no frame of pandas or polars"):
        Ticks({}).vwap()
    assert library_of(pl.Series([1])) is None
    assert library_of(pd.Series([1])) is None


def test_repr() -> None:
    assert repr(pl.LazyFrame().ticks) == "<ticks of a polars LazyFrame>"
    assert repr(xr.Dataset().ticks) == "<ticks of an xarray Dataset>"
    assert repr(pd.DataFrame().ticks.plot) == "<plots of a pandas DataFrame>"


def test_html_lists_all_measures() -> None:
    shown = pl.DataFrame().ticks._repr_html_()
    table = ElementTree.fromstring(shown)
    assert table.find("summary").text == "ticks of a polars DataFrame"
    assert {cell.text for cell in table.iter("code")} == set(analysis.__all__) - {"Incremental"}
    details = [row[1].text for row in table.iter("tr") if len(row) == 2]
    assert all(line and not {"`", "\n"} & set(line) for line in details)


def test_dimensions_of_results_without_times(minutes: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    trades, _ = minutes
    from .conftest import IN

    dataset = IN["xarray"](trades)
    assert dataset.ticks.vwap().sizes == {"contract_id": 2}
    assert dataset.ticks.vwap().sel(contract_id=8314)["vwap"].item() > 0
    profile = dataset.ticks.volume_profile(0.5)
    assert set(profile.sizes) == {"row"}
    assert profile["contract_id"].dims == ("row",)
    assert profile["volume"].attrs == {"long_name": "volume", "units": "as IB counts them"}
    assert json.loads(profile.attrs["ibticks"])["measures"] == ["volume_profile(0.5)"]


@pytest.mark.parametrize("rows", [0, 1])
def test_empty_frames_have_the_columns_of_full_ones(
    library: Any, minutes: tuple[pl.DataFrame, pl.DataFrame], rows: int
) -> None:
    from .conftest import IN

    trades, _ = minutes
    full = to_polars(IN[library](trades).ticks.time_bars("1m")).collect_schema()
    few = to_polars(IN[library](trades.head(rows)).ticks.time_bars("1m")).collect_schema()
    assert few == full


def test_an_xarray_frame_of_times_before_1970() -> None:
    ticks = TickColumns(1, {"timestamp": Values(np.array([-1])), "price": Values(np.array([2.0]))})
    dataset = to_xarray(to_table([ticks], ["timestamp", "price"]))
    assert dataset.ticks.trailing_window("1s")["timestamp"].values.astype(int).tolist() == [-1]


def test_every_form_of_utc(minutes: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    """Arrow's times of microseconds are as good."""
    at = datetime(2025, 1, 10, tzinfo=UTC)
    frame = pd.DataFrame({"timestamp": pd.Series([at]).astype("datetime64[us, UTC]"), "price": [1]})
    assert frame.ticks.twap()["twap"].item() == 1.0
