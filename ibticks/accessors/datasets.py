"""Results as xarray datasets that say what their numbers mean, and datasets as tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import xarray as xr

from ibticks.accessors.panels import PANEL, from_panel, to_panel
from ibticks.accessors.units import EXACT, UTC, attributes_of
from ibticks.format.fields import COLUMNS
from ibticks.frames.metadata import KEY
from ibticks.frames.schema import CATEGORY, TIMESTAMP
from ibticks.frames.xarray_frames import from_xarray, variable

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
    said = {"Conventions": "CF-1.11", KEY: json.dumps(attributes, ensure_ascii=False, default=str)}
    return xr.Dataset(variables, labels, said)


def like_dataset(
    source: xr.Dataset, result: pl.DataFrame, table: pa.Table, attributes: Mapping[str, Any]
) -> xr.Dataset:
    """A result in the form of the dataset it came from: of a panel a panel, if it has times."""
    if _is_panel(source) and {"timestamp", "contract_id"} <= set(result.columns):
        coordinates = source.coords
        names = None
        if "contract_id" in coordinates:
            ids = coordinates["contract_id"].values.tolist()
            names = dict(zip(ids, coordinates["contract"].values.tolist(), strict=True))
            names = None if names == {i: i for i in ids} else names
        return to_panel(result, names=names, attributes=attributes)
    return to_dataset(table, attributes=attributes)


def from_dataset(dataset: xr.Dataset) -> pa.Table:
    """A dataset of ticks or bars, or a panel of bars, as a table.

    Raises
    ------
    InputError
        It has other dimensions.
    """
    return from_panel(dataset) if _is_panel(dataset) else from_xarray(dataset)


def _is_panel(dataset: xr.Dataset) -> bool:
    return set(PANEL) <= set(dataset.dims)


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
    if name in COLUMNS and (kind != pa.string() or COLUMNS[name].kind.value == "string"):
        zoned = pa.types.is_timestamp(kind)
        return variable(COLUMNS[name], column.cast(TIMESTAMP) if zoned else column, along)
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
    elif kind == CATEGORY or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = np.array(column.cast(pa.string()).fill_null("").to_pylist(), dtype=np.str_)
    elif pa.types.is_boolean(kind):
        values = column.fill_null(False).to_numpy()
    elif column.null_count:
        values = column.cast(pa.float64()).to_numpy()
    else:
        values = column.to_numpy()
    return xr.Variable(along, values, attributes, encoding)
