"""Convert Arrow tables of ticks to xarray datasets, and datasets to Arrow tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from ibticks.errors import InputError
from ibticks.frames._arrays import distinct_lists, string_column, strings_column
from ibticks.frames._schema import METADATA_KEY, TIMESTAMP, arrow_type, attach_metadata, metadata_of
from ibticks.frames._times import has_time_objects, read_time_objects
from ibticks.schema import COLUMNS, Field, FieldType

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["from_xarray", "to_xarray", "variable"]

Array: TypeAlias = npt.NDArray[Any]
_PRICE, _SIZE = "currency of the contract", "as IB counts them"
_UTC: Final = {"time_zone": "UTC", "comment": "naive UTC: numpy has no time zones"}
_ATTRIBUTES: Final[dict[str, dict[str, Any]]] = {
    "timestamp": {"standard_name": "time", "long_name": "time of receipt", **_UTC},
    "contract_id": {"long_name": "IB contract id"},
    "tick_type": {"long_name": "IB tick type"},
    "price": {"long_name": "trade price", "units": _PRICE},
    "size": {"long_name": "trade size", "units": _SIZE},
    "bid_price": {"long_name": "best bid price", "units": _PRICE},
    "bid_size": {"long_name": "size at the best bid", "units": _SIZE},
    "ask_price": {"long_name": "best ask price", "units": _PRICE},
    "ask_size": {"long_name": "size at the best ask", "units": _SIZE},
    "mid_price": {"long_name": "middle of bid and ask", "units": _PRICE},
    "exchange": {"long_name": "exchange of the trade", "comment": "empty where absent"},
    "conditions": {"long_name": "conditions of the trade", "comment": "joined by ;"},
    "sequence": {"long_name": "sequence number", "comment": "0 where absent"},
    "past_limit": {"long_name": "past the limit"},
    "unreported": {"long_name": "unreported trade"},
    "bid_past_low": {"long_name": "bid below the day's low"},
    "ask_past_high": {"long_name": "ask above the day's high"},
    "exchange_time": {"long_name": "IB's time of the tick, whole seconds", **_UTC},
    "stream_id": {"long_name": "stream that recorded the tick"},
    "metadata": {"long_name": "what the recorder noted", "comment": "JSON, empty where nothing"},
}
_LABELS: Final = ("contract_id", "tick_type", "stream_id")

# Without it, to_netcdf picks a unit by the data, and the nanoseconds may not survive.
_EXACT: Final = {"units": "nanoseconds since 1970-01-01", "dtype": "int64"}


def to_xarray(table: pa.Table) -> xr.Dataset:
    """Turn a table of ticks into an xarray dataset.

    Parameters
    ----------
    table : pyarrow.Table
        From :func:`ibticks.frames.to_table`, with ``timestamp``.

    Returns
    -------
    xarray.Dataset
        Along the dimension ``timestamp``, whose index (datetime64[ns], naive UTC) takes
        ``ds.sel(timestamp=slice("2025-01-10T14:30", "2025-01-10T15:00"))`` and ``ds.resample``;
        times may repeat. ``contract_id``, ``tick_type`` and ``stream_id`` are coordinates along it,
        the others data variables. All are plain numpy, so that ``to_netcdf`` and ``to_zarr`` take
        them: prices and sizes are float64 (NaN where absent), ``sequence`` uint64 (0 where absent),
        strings fixed-width unicode ("" where absent), ``conditions`` joined by ``;``, flags int8
        with CF ``flag_values`` (-1 where absent). ``ds.attrs["ibticks"]`` is the table's metadata
        as JSON: see :func:`ibticks.frames.metadata_of`.

    Raises
    ------
    InputError
        If there is no ``timestamp``.

    Examples
    --------
    >>> from ibticks.frames import to_table
    >>> ds = to_xarray(to_table([], ["timestamp", "price", "past_limit"]))
    >>> dict(ds.sizes), ds["past_limit"].dtype.name, ds["past_limit"].attrs["flag_meanings"]
    ({'timestamp': 0}, 'int8', 'absent false true')
    """
    if "timestamp" not in table.column_names:
        raise InputError("an xarray dataset of ticks needs their timestamp", column="timestamp")
    variables = {name: variable(COLUMNS[name], table[name]) for name in table.column_names}
    labels = {name: variables.pop(name) for name in ("timestamp", *_LABELS) if name in variables}
    attributes = {
        "Conventions": "CF-1.11",
        METADATA_KEY: json.dumps(metadata_of(table), ensure_ascii=False),
    }
    return xr.Dataset(variables, labels, attributes)


def from_xarray(dataset: xr.Dataset) -> pa.Table:
    """Turn an xarray dataset, in the form of :func:`to_xarray`, into an Arrow table.

    Parameters
    ----------
    dataset : xarray.Dataset
        Variables along one dimension, or scalars that hold for every tick.

    Returns
    -------
    pyarrow.Table
        Values that mark absence in the dataset are null. Times are UTC if their attribute
        ``time_zone`` is ``UTC``, and naive if not.

    Raises
    ------
    InputError
        If a variable has other dimensions than ``timestamp``.

    Examples
    --------
    >>> times = np.array(["2025-01-10T14:30"], "datetime64[ns]")
    >>> ds = xr.Dataset({"price": ("timestamp", [1.5])}, {"timestamp": times})
    >>> from_xarray(ds).schema
    price: double
    timestamp: timestamp[ns]
    """
    single = tuple(dataset.dims) if len(dataset.dims) == 1 else ()
    along = dataset["timestamp"].dims if "timestamp" in dataset.variables else single
    arrays = {}
    for name, variable in dataset.variables.items():
        if variable.dims not in ((), along):
            raise InputError(
                f"variable {name!r} lies along {variable.dims}, the ticks along {along}: drop it",
                column=str(name),
            )
        values = np.broadcast_to(variable.values, [dataset.sizes[dim] for dim in along])
        arrays[str(name)] = _array(name, values, variable.attrs)
    metadata = dataset.attrs.get(METADATA_KEY)
    table = pa.table(arrays)
    return (
        table
        if metadata is None
        else table.replace_schema_metadata(attach_metadata(json.loads(metadata), ()))
    )


def variable(field: Field, column: pa.ChunkedArray, along: str = "timestamp") -> xr.Variable:
    """One column of ticks in the form of :func:`to_xarray`, along a dimension of any name.

    Examples
    --------
    >>> variable(COLUMNS["price"], pa.chunked_array([[1.5, None]])).attrs["long_name"]
    'trade price'
    """
    attributes, encoding = _ATTRIBUTES[field.name], {}
    values: Array
    match field.type:
        case FieldType.TIME | FieldType.SECONDS:
            values, encoding = column.cast(pa.timestamp("ns")).to_numpy(), _EXACT
        case FieldType.BOOL:
            values = column.cast(pa.int8()).fill_null(-1).to_numpy()
            flags = {
                "flag_values": np.array([-1, 0, 1], np.int8),
                "flag_meanings": "absent false true",
            }
            attributes = attributes | flags
        case FieldType.STRING:
            texts = string_column(column)
            values = np.array([*texts.values, ""])[texts.codes]
        case FieldType.STRINGS:
            numbers, lists = distinct_lists(strings_column(column))
            values = np.array([";".join(strings) for strings in lists])[numbers]
        case FieldType.MAP:
            pairs = [dict(row) for row in column.to_pylist()]
            values = np.array([json.dumps(row) if row else "" for row in pairs], dtype=np.str_)
        case FieldType.FLOAT:
            values = column.to_numpy()
        case _:
            values = column.fill_null(0).to_numpy()
    return xr.Variable(along, values, attributes, encoding)


def _array(name: Hashable, values: Array, attributes: dict[Hashable, Any]) -> pa.Array:
    field = COLUMNS.get(str(name))
    field_type = None if field is None else field.type
    if values.dtype == object and has_time_objects(str(name), values.tolist()):
        return read_time_objects(str(name), values.tolist())
    if values.dtype.kind == "M":
        times = pa.array(values)
        return times.cast(TIMESTAMP) if attributes.get("time_zone") == "UTC" else times
    match field_type:
        case FieldType.BOOL if values.dtype.kind == "i":
            return pa.array(values == 1, mask=values < 0)
        case FieldType.UINT64:
            return pa.array(values, mask=values == 0)
        case FieldType.STRING:
            return _or_null(values)
        case FieldType.STRINGS:
            return pc.split_pattern(_or_null(values), ";")
        case FieldType.MAP:
            rows = [json.loads(text) if text else {} for text in values.tolist()]
            return pa.array(rows, arrow_type(str(name)))
        case None if values.dtype.kind == "U":
            return _or_null(values)
    return pa.array(values, from_pandas=True)


def _or_null(texts: Array) -> pa.Array:
    return pa.array(texts.tolist(), pa.large_string(), mask=texts == "")
