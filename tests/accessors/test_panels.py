"""Bars of several contracts as ``Dataset[contract, time]``, to disk and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xarray as xr

from ibticks import analysis
from ibticks.accessors._delegation import to_polars
from ibticks.errors import InputError, UnknownColumnError
from ibticks.frames import metadata_of

from .conftest import IN

NAMES = {8314: "IBM", 4815: "MSFT"}


@pytest.fixture
def bars(minutes: tuple[pl.DataFrame, pl.DataFrame]) -> pl.DataFrame:
    """Bars of two contracts; the second one lacks the first bars."""
    actual = analysis.time_bars(minutes[0], "30s")
    return actual.filter((pl.col("contract_id") == 8314) | (pl.int_range(pl.len()) > 3))


@pytest.fixture
def panel(bars: pl.DataFrame) -> Any:
    return bars.ticks.panel(names=NAMES)


def test_bars_are_placed_by_contract_and_time(bars: pl.DataFrame, panel: Any) -> None:
    assert dict(panel.sizes) == {"contract": 2, "time": bars["timestamp"].n_unique()}
    for row in bars.iter_rows(named=True):
        time = np.datetime64(row["timestamp"].replace(tzinfo=None), "ns")
        cell = panel.sel(contract=NAMES[row["contract_id"]], time=time)
        for name in ("open", "high", "low", "close", "volume", "vwap", "count"):
            assert cell[name].item() == row[name]
    filled = panel["close"].notnull()
    assert filled.sum().item() == bars.height
    assert np.isnat(panel["first_time"].values[~filled.values]).all()


def test_panel_attributes(bars: pl.DataFrame) -> None:
    panel = IN["pandas"](bars).ticks.trailing_window("1h").ticks.panel()
    assert panel["contract"].values.tolist() == sorted(NAMES)
    assert panel["contract_id"].dims == ("contract",)
    assert panel["close"].dims == ("contract", "time")
    assert panel["close"].attrs["units"] == "currency of the contract"
    assert panel["volume"].attrs["units"] == "as IB counts them"
    assert panel["time"].attrs["time_zone"] == "UTC"
    assert all(variable.attrs["long_name"] for variable in panel.variables.values())
    assert metadata_of(panel)["measures"] == ["trailing_window('1h')", "panel()"]


def test_the_same_panel_from_every_library(bars: pl.DataFrame, panel: Any, library: Any) -> None:
    xr.testing.assert_equal(IN[library](bars).ticks.panel(names=NAMES), panel)


@pytest.mark.parametrize("engine", ["h5netcdf", "zarr"])
def test_a_panel_survives_the_disk(panel: Any, tmp_path: Path, engine: str) -> None:
    path = tmp_path / f"panel.{engine}"
    if engine == "zarr":
        panel.to_zarr(path, zarr_format=2)
        again = xr.open_zarr(path, zarr_format=2).load()
    else:
        panel.to_netcdf(path, engine=engine)
        again = xr.load_dataset(path, engine=engine)
    xr.testing.assert_identical(again, panel)
    assert again["time"].dtype == "datetime64[ns]"
    measured = panel.ticks.parkinson(2)
    xr.testing.assert_equal(again.ticks.parkinson(2), measured)


@pytest.mark.parametrize("engine", ["h5netcdf", "zarr"])
def test_bars_and_ticks_survive_the_disk(
    minutes: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path, engine: str
) -> None:
    ticks = IN["xarray"](minutes[0].drop("exchange", "conditions"))
    for dataset in (ticks, ticks.ticks.time_bars("1m"), ticks.ticks.vwap()):
        path = tmp_path / str(hash(tuple(dataset.data_vars)))
        if engine == "zarr":
            dataset.to_zarr(path, zarr_format=2)
            again = xr.open_zarr(path, zarr_format=2).load()
        else:
            dataset.to_netcdf(path, engine=engine)
            again = xr.load_dataset(path, engine=engine)
        xr.testing.assert_identical(again, dataset)


def test_measures_of_a_panel_are_those_of_its_bars(bars: pl.DataFrame, panel: Any) -> None:
    measured = panel.ticks.garman_klass(2)
    assert set(measured.dims) == {"contract", "time"}
    expected = bars.ticks.garman_klass(2).ticks.panel(names=NAMES)
    xr.testing.assert_equal(measured, expected)
    whole = panel.ticks.yang_zhang()
    assert whole.sizes == {"contract": 2}
    for contract, value in bars.ticks.yang_zhang().select("contract_id", "yang_zhang").rows():
        assert whole["yang_zhang"].sel(contract=NAMES[contract]).item() == pytest.approx(value)
        assert whole["contract_id"].sel(contract=NAMES[contract]).item() == contract
    assert json.loads(whole.attrs["ibticks"])["measures"] == ["panel()", "yang_zhang()"]


def test_measures_of_one_contract_of_a_panel(bars: pl.DataFrame, panel: Any) -> None:
    """The result has the times at which the contract has a bar, and its name."""
    mine = bars.filter(pl.col("contract_id") == 4815)
    assert mine.height < panel.sizes["time"]
    selected = panel.sel(contract="MSFT")
    rows = selected.ticks.garman_klass(2)
    assert rows.sizes == {"time": mine.height}
    assert rows["contract"].item() == "MSFT"
    assert rows["contract_id"].item() == 4815
    expected = mine.ticks.garman_klass(2)["garman_klass"].to_numpy()
    np.testing.assert_array_equal(rows["garman_klass"], expected)
    whole = selected.ticks.garman_klass()
    assert whole["garman_klass"].dims == ()
    assert whole["bars"].item() == mine.height
    assert selected.ticks.plot().layout.title.text.startswith("<b>Contract 4815")


def test_measures_of_one_time_of_a_panel(bars: pl.DataFrame, panel: Any) -> None:
    last = bars.filter(pl.col("timestamp") == pl.col("timestamp").max())
    actual = panel.isel(time=-1).ticks.parkinson()
    assert actual["parkinson"].dims == ("contract",)
    expected = last.ticks.parkinson().sort("contract_id")["parkinson"].to_list()
    assert actual["parkinson"].values.tolist() == expected
    one = panel.isel(time=-1, contract=0).ticks.parkinson()
    assert one["parkinson"].item() == expected[0]


def test_round_trip_of_a_panel(bars: pl.DataFrame, panel: Any) -> None:
    again = to_polars(panel)
    names = ["timestamp", "contract_id", "open", "close", "volume", "first_time"]
    assert again.select(names).rows() == bars.select(names).rows()


def test_an_unnamed_contract_is_labelled_by_its_id(bars: pl.DataFrame) -> None:
    assert bars.ticks.panel(names={8314: "IBM"})["contract"].values.tolist() == ["4815", "IBM"]


def test_frames_that_make_no_panel_are_refused(bars: pl.DataFrame, panel: Any) -> None:
    with pytest.raises(UnknownColumnError, match="panel needs contract_id"):
        bars.drop("contract_id").ticks.panel()
    with pytest.raises(InputError, match="one bar for each contract and time, and 8314"):
        pl.concat([bars, bars.filter(pl.col("contract_id") == 8314)]).ticks.panel()
    with pytest.raises(InputError, match="in a panel of bars depth has other dimensions"):
        panel.assign(depth=("level", [1, 2])).ticks.parkinson()


def test_a_panel_without_bars(bars: pl.DataFrame) -> None:
    assert dict(bars.head(0).ticks.panel().sizes) == {"contract": 0, "time": 0}


def test_texts_in_a_panel(bars: pl.DataFrame) -> None:
    panel = bars.with_columns(state=pl.lit("calm")).ticks.panel()
    assert set(panel["state"].values.ravel()) == {"calm", ""}
