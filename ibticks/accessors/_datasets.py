"""Results as xarray datasets that say what their numbers mean, and datasets as tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import xarray as xr

from ibticks.accessors._panels import PANEL, from_panel, to_panel
from ibticks.accessors._units import EXACT, UTC, attributes_of
from ibticks.frames import METADATA_KEY, arrow_type, frame_to_arrow, variable
from ibticks.schema import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl
    from numpy.typing import NDArray

__all__ = ["from_dataset", "like_dataset", "to_dataset"]

_LABELS: Final = ("timestamp", "contract_id", "tick_type", "stream_id")
_DURATION: Final = {"units": "nanoseconds", "dtype": "int64"}


def to_dataset(table: pa.Table, *, attributes: Mapping[str, Any]) -> xr.Dataset:
    """A result as a dataset, in the form of :func:`ibticks.frames.to_xarray`.

    Parameters
    ----------
    table : pyarrow.Table
        Ticks, bars, or a row for each contract.
    attributes : mapping
        What is known of where it comes from; JSON in ``ds.attrs["ibticks"]``.

    Returns
    -------
    xarray.Dataset
        Along ``timestamp`` where there is one; else along ``contract_id`` where each contract has
        one row; else along ``row``. Numbers that can be absent are float64, times
        ``datetime64[ns]`` in naive UTC.

    Examples
    --------
    >>> table = pa.table({"contract_id": [8314], "vwap": [179.8]})
    >>> ds = to_dataset(table, attributes={"measures": ["vwap()"]})
    >>> ds["vwap"].sel(contract_id=8314).item(), ds["vwap"].attrs["units"]
    (179.8, 'currency of the contract')
    """
    along = _dimension(table)
    variables = {name: _variable(name, table[name], along) for name in table.column_names}
    labels = {name: variables.pop(name) for name in _LABELS if name in variables}
    said = {
        "Conventions": "CF-1.11",
        METADATA_KEY: json.dumps(attributes, ensure_ascii=False, default=str),
    }
    return xr.Dataset(variables, labels, said)


def like_dataset(
    source: xr.Dataset, result: pl.DataFrame, table: pa.Table, attributes: Mapping[str, Any]
) -> xr.Dataset:
    """A result in the form of the dataset it came from, along dimensions of the same names.

    Of a panel it is a panel if it has times, and if not, a value for each contract; of what was
    selected from a panel, such as one contract, a result of that alone.
    """
    panel = _panel_of(source)
    if panel is None:
        found, along = to_dataset(table, attributes=attributes), _times_of(source)
        return (
            found
            if along is None or "timestamp" not in found.dims
            else found.rename(timestamp=along)
        )
    ids = panel["contract_id" if "contract_id" in panel.coords else "contract"].values.tolist()
    names = dict(zip(ids, panel["contract"].values.tolist(), strict=True))
    if {"timestamp", "contract_id"} <= set(result.columns):
        same = names == {i: i for i in ids}
        found = to_panel(result, names=None if same else names, attributes=attributes)
    else:
        found = to_dataset(table, attributes=attributes)
        if "contract_id" not in found.dims:
            return found
        # By name, as in the panel.
        labels = np.array([names[i] for i in found["contract_id"].values.tolist()])
        along_contracts = xr.Variable("contract_id", labels, attributes_of("contract"))
        found = found.assign_coords(contract=along_contracts).swap_dims(contract_id="contract")
    chosen = [dim for dim in PANEL if dim not in source.dims and found.sizes.get(dim) == 1]
    return found.squeeze(chosen)


def from_dataset(dataset: xr.Dataset) -> pa.Table:
    """A dataset of ticks or bars, or a panel of bars, as a table.

    Raises
    ------
    InputError
        It has other dimensions.

    Examples
    --------
    >>> time = xr.Variable("time", np.array(["2025-01-10T15:00"], "M8[ns]"), {"time_zone": "UTC"})
    >>> ticks = xr.Dataset({"price": ("time", [187.5])}, {"time": time})
    >>> from_dataset(ticks).column_names
    ['price', 'timestamp']
    """
    panel = _panel_of(dataset)
    if panel is not None:
        return from_panel(panel)
    along = _times_of(dataset)
    return frame_to_arrow(dataset if along is None else dataset.rename({along: "timestamp"}))


def _panel_of(dataset: xr.Dataset) -> xr.Dataset | None:
    """A panel, or what was selected from one with the dimensions it has lost; else None."""
    lost = [dim for dim in PANEL if dim not in dataset.dims]
    if any(dim not in dataset.coords for dim in lost):
        return None
    if "contract" in lost and "contract_id" in dataset.coords:
        ids = dataset["contract_id"].variable.expand_dims("contract")
        return dataset.drop_vars("contract_id").expand_dims(lost).assign_coords(contract_id=ids)
    return dataset.expand_dims(lost) if lost else dataset


def _times_of(dataset: xr.Dataset) -> str | None:
    """The dimension whose times are taken for ``timestamp``: the only one, if there is no such."""
    names = [str(dim) for dim in dataset.dims]
    if len(names) != 1 or "timestamp" in dataset.variables or names[0] not in dataset.coords:
        return None
    return names[0] if dataset[names[0]].dtype.kind == "M" else None


def _dimension(table: pa.Table) -> str:
    if "timestamp" in table.column_names:
        return "timestamp"
    if "contract_id" in table.column_names:
        contracts = table["contract_id"]
        if len(contracts.unique()) == len(contracts):
            return "contract_id"
    return "row"


def _variable(name: str, column: pa.ChunkedArray, along: str) -> xr.Variable:
    kind = column.type
    if name in COLUMNS and (kind != pa.string() or COLUMNS[name].type.value == "string"):
        zoned = pa.types.is_timestamp(kind)
        return variable(
            COLUMNS[name], column.cast(arrow_type("timestamp")) if zoned else column, along
        )
    attributes: dict[str, Any] = dict(attributes_of(name))
    encoding: Mapping[str, Any] = {}
    values: NDArray[Any]
    if pa.types.is_timestamp(kind):
        values = column.cast(pa.timestamp("ns", kind.tz)).cast(pa.timestamp("ns")).to_numpy()
        attributes |= UTC if kind.tz else {}
        encoding = EXACT
    elif pa.types.is_duration(kind):
        values, encoding = column.cast(pa.duration("ns")).to_numpy(), _DURATION
    elif pa.types.is_date(kind):
        values = column.cast(pa.timestamp("ns")).to_numpy()
    elif pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = np.array(column.cast(pa.string()).fill_null("").to_pylist(), dtype=np.str_)
    elif pa.types.is_boolean(kind):
        values = column.fill_null(False).to_numpy()
    elif column.null_count:
        values = column.cast(pa.float64()).to_numpy()
    else:
        values = column.to_numpy()
    return xr.Variable(along, values, attributes, encoding)
