"""``xr.open_dataset(path, engine="ibticks")``: schema, lazy reads, folders and errors."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import xarray as xr

from ibticks.accessors import _backend as tick_files
from ibticks.accessors._backend import TickBackend, open_files
from ibticks.errors import (
    CorruptDataWarning,
    CorruptFileError,
    NoStoreError,
    UnknownColumnError,
)
from ibticks.storage import list_files

if TYPE_CHECKING:
    from ibticks import Store
    from ibticks.schema import TickColumns


@pytest.fixture
def hours(sample_store: Store, sample_root: Path) -> list[Any]:
    """The files of IBM's trades, the first hour first."""
    return [sample_root / key.path for key in list_files(sample_root, 8314, "all_last")]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record the reads of files, as pairs of file name and column."""
    seen: list[Any] = []
    read = tick_files.read_ticks

    def spy(root: Any, records: Any, columns: Any, **more: Any) -> list[TickColumns]:
        seen.extend(
            (record.path.rpartition("/")[2], name) for record in records for name in columns
        )
        return read(root, records, columns, **more)

    monkeypatch.setattr(tick_files, "read_ticks", spy)
    return seen


def alike(lazy: xr.Dataset, eager: xr.Dataset) -> None:
    """Assert that datasets are equal, except for dtypes of texts and their sources."""
    loaded = lazy.load()
    assert set(loaded.variables) == set(eager.variables)
    for name, variable in eager.variables.items():
        assert loaded[name].attrs.keys() == variable.attrs.keys()
        np.testing.assert_array_equal(
            loaded[name].values, variable.values.astype(loaded[name].dtype)
        )


def test_xarray_knows_the_engine() -> None:
    assert isinstance(xr.backends.list_engines()["ibticks"], TickBackend)


def test_one_file(sample_store: Store, hours: list[Any]) -> None:
    opened = xr.open_dataset(hours[1], engine="ibticks")
    eager = sample_store.select(
        "IBM", "all_last", start="2013-10-08T13:00Z", end="2013-10-08T14:00Z"
    ).to_xarray()
    alike(opened, eager)
    assert opened["timestamp"].encoding == eager["timestamp"].encoding
    assert json.loads(opened.attrs["ibticks"]) == {
        "files": [str(hours[1])],
        "contract_ids": [8314],
        "tick_types": ["all_last"],
        "missing": [],
    }


def test_a_folder_is_in_the_order_of_a_selection(sample_store: Store, sample_root: Path) -> None:
    for folder, kinds in (("8314", ["all_last", "bid_ask"]), ("990101/bid_ask", ["bid_ask"])):
        opened = xr.open_dataset(sample_root / folder, engine="ibticks", columns=["price", "size"])
        contract = int(folder.partition("/")[0])
        selection = sample_store.select(contract, kinds, columns=["timestamp", "price", "size"])
        alike(opened, selection.to_xarray())


def test_a_store_is_recognised(sample_store: Store, sample_root: Path) -> None:
    opened = xr.open_dataset(sample_root)
    assert opened.sizes["timestamp"] == 189_334
    assert (np.diff(opened["timestamp"].values) >= np.timedelta64(0)).all()


def test_several_files(sample_store: Store, hours: list[Any]) -> None:
    opened = xr.open_mfdataset(
        hours[:4], engine="ibticks", combine="nested", concat_dim="timestamp"
    )
    assert opened["price"].chunks == (tuple(open_files(hour).rows for hour in hours[:4]),)
    eager = sample_store.select(
        "IBM", "all_last", start="2013-10-08T12:00Z", end="2013-10-08T16:00Z"
    ).to_xarray()
    alike(opened, eager)
    by_time = xr.open_mfdataset(hours[:4], engine="ibticks")
    assert by_time.sizes == opened.sizes


def test_only_requested_columns_are_read(hours: list[Any], reads: list[Any]) -> None:
    opened = xr.open_dataset(hours[1], engine="ibticks")
    assert reads == [("13_ticks.pb", "timestamp")]
    reads.clear()
    assert len(opened.isel(timestamp=slice(10, 20))["price"].values) == 10
    assert reads == [("13_ticks.pb", "price")]


def test_only_the_files_that_hold_it_are_read(hours: list[Any], reads: list[Any]) -> None:
    day = xr.open_dataset(hours[0].parent, engine="ibticks")
    assert {name for _, name in reads} == {"timestamp"}
    reads.clear()
    assert len(day.sel(timestamp=slice("2013-10-08T14:59", "2013-10-08T15:01"))["price"].values)
    assert reads == [("14_ticks.pb", "price"), ("15_ticks.pb", "price")]


@pytest.mark.parametrize(
    "key", [5, -1, slice(None, None, 1000), slice(50, 10, -7), [3, 3, 30_000, 0], slice(0, 0)]
)
def test_rows_by_position(
    sample_store: Store, sample_root: Path, key: int | slice[Any, Any, Any] | list[int]
) -> None:
    folder = xr.open_dataset(sample_root / "8314", engine="ibticks", columns=["price"])
    prices = sample_store.select(8314, columns=["timestamp", "price"]).to_xarray()["price"]
    actual = folder["price"].isel(timestamp=key)
    np.testing.assert_array_equal(actual.values, prices.isel(timestamp=key).values)


def test_dask_reads_an_hour_at_a_time(hours: list[Any], reads: list[Any]) -> None:
    day = xr.open_dataset(hours[0].parent, engine="ibticks", chunks={})
    assert len(day["price"].chunks[0]) == len(hours)
    reads.clear()
    assert day["price"][:10].mean().compute().item() > 100
    assert {file for file, _ in reads} <= {"12_ticks.pb", "13_ticks.pb"}
    whole = day["size"].sum().compute().item()
    assert whole == 5_564_671


def test_measures_of_an_opened_file(sample_store: Store, hours: list[Any]) -> None:
    opened = xr.open_dataset(hours[1], engine="ibticks", chunks={})
    bars = opened.ticks.time_bars("10m")
    ticks = sample_store.select(
        "IBM", "all_last", start="2013-10-08T13:00Z", end="2013-10-08T14:00Z"
    ).to_polars()
    assert bars["close"].values.tolist() == ticks.ticks.time_bars("10m")["close"].to_list()
    assert json.loads(bars.attrs["ibticks"])["files"] == [str(hours[1])]


def test_an_opened_file_goes_to_other_processes(hours: list[Any]) -> None:
    opened = xr.open_dataset(hours[1], engine="ibticks")
    again = pickle.loads(pickle.dumps(opened))
    xr.testing.assert_identical(again.load(), opened.load())


def test_columns(hours: list[Any]) -> None:
    opened = xr.open_dataset(hours[0], engine="ibticks", columns=["metadata", "price"])
    assert list(opened.variables) == ["price", "metadata", "timestamp"]
    less = xr.open_dataset(hours[0], engine="ibticks", drop_variables=["conditions", "exchange"])
    assert not {"conditions", "exchange"} & set(less.variables)
    assert "price" not in xr.open_dataset(hours[0], engine="ibticks", drop_variables="price")
    with pytest.raises(UnknownColumnError, match="prices"):
        xr.open_dataset(hours[0], engine="ibticks", columns=["prices"])


def test_files_that_cannot_be_opened_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NoStoreError, match="there is no such file or folder"):
        xr.open_dataset(tmp_path / "14_ticks.pb", engine="ibticks")
    with pytest.raises(NoStoreError, match="there is no tick file in this folder"):
        xr.open_dataset(tmp_path, engine="ibticks")
    (tmp_path / "14_ticks.pb").write_bytes(b"something else altogether")
    with pytest.raises(CorruptFileError, match=r"14_ticks\.pb"):
        xr.open_dataset(tmp_path / "14_ticks.pb", engine="ibticks")


def test_guesses_by_name(tmp_path: Path) -> None:
    guess = TickBackend().guess_can_open
    assert guess("14-30_ticks.pb")
    assert not guess("panel.nc")
    assert not guess(tmp_path)
    assert not guess(b"14_ticks.pb")


def test_a_damaged_block_is_left_out_with_a_warning(hours: list[Any], tmp_path: Path) -> None:
    copy = shutil.copy(hours[2], tmp_path / "14_ticks.pb")
    data = bytearray(copy.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4] = b"\xff\xff\xff\xff"
    copy.write_bytes(data)
    with pytest.raises(CorruptFileError):
        xr.open_dataset(copy, engine="ibticks", strict=True)
    with pytest.warns(CorruptDataWarning):
        opened = xr.open_dataset(copy, engine="ibticks")
    assert len(json.loads(opened.attrs["ibticks"])["missing"]) == 1
    whole = xr.open_dataset(hours[2], engine="ibticks")
    assert opened.sizes["timestamp"] < whole.sizes["timestamp"]


def test_a_file_that_grows_and_one_that_shrinks(store: Store, tmp_path: Path) -> None:
    def write(second: int) -> None:
        at = [f"2025-01-10T14:30:{second:02}Z"]
        rows = pl.DataFrame({"timestamp": at, "price": [float(second)], "size": [1.0]})
        store.write(rows, contract_id=1, tick_type="last")

    write(1)
    (path,) = store.root.glob("1/last/**/*_ticks.pb")
    opened = xr.open_dataset(path, engine="ibticks")
    write(2)
    assert opened["price"].values.tolist() == [1.0]
    longer = xr.open_dataset(path, engine="ibticks")
    assert longer.sizes["timestamp"] == 2
    path.write_bytes(path.read_bytes()[:300])
    with (
        pytest.warns(CorruptDataWarning),
        pytest.raises(CorruptFileError, match="had 2 ticks when it was opened, and has"),
    ):
        longer["price"].load()


def test_backfilled_ticks_come_by_name_only(hours: list[Any], tmp_path: Path) -> None:
    shutil.copy(hours[1], tmp_path / "13_ticks.pb")
    beside: Any = shutil.copy(hours[1], tmp_path / "13-backfill_ticks.pb")
    alone = open_files(tmp_path / "13_ticks.pb").rows
    assert open_files(tmp_path).rows == alone
    assert open_files(beside).rows == alone
