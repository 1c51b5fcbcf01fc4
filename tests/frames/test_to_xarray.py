from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from ibticks.errors import InputError
from ibticks.frames import from_arrow, metadata_of, to_table, to_xarray
from ibticks.frames._to_xarray import from_xarray
from ibticks.schema import COLUMNS, TickColumns

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = list(COLUMNS)


@pytest.fixture
def dataset(ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]) -> xr.Dataset:
    return to_xarray(to_table([ticks(quotes_and_trades)], ALL, metadata={"selection": "IBM"}))


def kinds(dataset: xr.Dataset) -> dict[Any, Any]:
    return {name: variable.dtype.kind for name, variable in dataset.variables.items()}


def test_the_dtypes_of_xarray_do_not_depend_on_the_data(
    ticks: Callable[..., TickColumns], quotes_and_trades: list[Any], dataset: xr.Dataset
) -> None:
    expected = (
        dict.fromkeys(ALL[3:10], "f")
        | dict.fromkeys(["tick_type", "exchange", "conditions", "stream_id", "metadata"], "U")
        | dict.fromkeys(ALL[13:17], "i")
        | {"timestamp": "M", "contract_id": "u", "sequence": "u", "exchange_time": "M"}
    )
    full = ticks(quotes_and_trades)
    for parts in ([], [full], [full.take(slice(0, 1))]):
        made = to_xarray(to_table(parts, ALL))
        assert kinds(made) == expected
        assert list(made.data_vars) == list(dataset.data_vars)
        assert set(made.coords) == {"timestamp", "contract_id", "tick_type", "stream_id"}
        assert all(variable.dims == ("timestamp",) for variable in made.variables.values())
    assert dataset["timestamp"].dtype == "datetime64[ns]"
    assert dataset["exchange_time"].dtype == "datetime64[ns]"


def test_absent_values_in_xarray(dataset: xr.Dataset) -> None:
    assert np.isnan(dataset["bid_price"].values).tolist() == [True, False, True, True]
    assert dataset["exchange"].values.tolist() == ["", "", "P", "Q"]
    assert dataset["conditions"].values.tolist() == ["", "", "2000;20", "40"]
    assert dataset["sequence"].values.tolist() == [0, 2**63 + 1, 0, 7]
    assert dataset["past_limit"].values.tolist() == [-1, -1, 1, 1]
    assert dataset["bid_past_low"].values.tolist() == [0, 0, -1, -1]
    assert np.isnat(dataset["exchange_time"].values).tolist() == [True, True, False, True]
    assert [json.loads(text) if text else {} for text in dataset["metadata"].values] == [
        *[{}] * 3,
        {"source": "backfill", "note": ""},
    ]


def test_variables_have_units_and_descriptions(dataset: xr.Dataset) -> None:
    for name, variable in dataset.variables.items():
        assert variable.attrs["long_name"], name
    assert dataset["bid_price"].attrs["units"] == "currency of the contract"
    assert dataset["timestamp"].attrs["time_zone"] == "UTC"
    flags = dataset["past_limit"].attrs
    assert flags["flag_values"].dtype == np.int8
    assert flags["flag_meanings"].split() == ["absent", "false", "true"]
    assert metadata_of(dataset) == {"selection": "IBM", "missing": []}


def test_selection_and_resampling_by_time(dataset: xr.Dataset) -> None:
    window = dataset.sel(timestamp=slice("2013-10-07T13:30", "2013-10-07T13:30:00.000000001"))
    assert window.sizes["timestamp"] == 3
    bars = dataset["ask_price"].resample(timestamp="1min").max()
    assert bars.values.tolist() == [183.63]
    assert (dataset.where(dataset["tick_type"] == "all_last", drop=True)).sizes["timestamp"] == 2


def test_netcdf_keeps_every_tick(
    dataset: xr.Dataset, rows: Callable[..., list[dict[Any, Any]]], tmp_path: Path
) -> None:
    dataset.to_netcdf(tmp_path / "ticks.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "ticks.nc", engine="h5netcdf") as stored:
        read = stored.load()
    assert read["timestamp"].dtype == "datetime64[ns]"
    assert (read["timestamp"].values == dataset["timestamp"].values).all()
    assert metadata_of(read) == metadata_of(dataset)
    before, after = rows(from_arrow(dataset)), rows(from_arrow(read))
    assert after == before


def test_an_empty_netcdf(tmp_path: Path) -> None:
    to_xarray(to_table([], ALL)).to_netcdf(tmp_path / "none.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "none.nc", engine="h5netcdf") as stored:
        assert from_arrow(stored).rows == 0


def test_scalars_are_broadcast_to_every_tick() -> None:
    times = np.array(["2025-01-10T14:30", "2025-01-10T14:31"], "datetime64[ns]")
    made = xr.Dataset(
        {"price": ("time", [1.5, np.nan]), "contract_id": 8314, "tick_type": "last"},
        {"timestamp": ("time", times)},
    )
    ticks = from_arrow(made, tz="UTC")
    assert ticks.timestamp.tolist() == [1_736_519_400_000_000_000, 1_736_519_460_000_000_000]
    assert ticks.numbers("contract_id").tolist() == [8314, 8314]
    assert ticks.columns["price"].valid.tolist() == [True, False]


def test_invalid_datasets_are_refused() -> None:
    with pytest.raises(InputError, match="timestamp"):
        to_xarray(to_table([], ["price"]))
    other = xr.Dataset({"price": (("timestamp", "level"), [[1.0]])}, {"timestamp": [0]})
    with pytest.raises(InputError, match="level"):
        from_xarray(other)
