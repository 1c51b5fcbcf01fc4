"""Results as xarray datasets and panels with units, and datasets as tables."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import xarray as xr

from ibticks.analysis.engine import require, time_ns
from ibticks.errors import InputError
from ibticks.frames import METADATA_KEY, arrow_type, attach_metadata, frame_to_arrow, variable
from ibticks.schema import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "PANEL_DIMENSIONS",
    "TIME_ENCODING",
    "UTC_ATTRIBUTES",
    "column_attributes",
    "dataset_like",
    "from_dataset",
    "from_panel",
    "to_dataset",
    "to_panel",
]

UTC_ATTRIBUTES: Final = {"time_zone": "UTC", "comment": "naive UTC: numpy has no time zones"}
"""Attributes of times."""

TIME_ENCODING: Final = {"units": "nanoseconds since 1970-01-01", "dtype": "int64"}
"""Encoding of times: left to itself, xarray picks a unit by the data, and may lose nanoseconds."""

_PRICE, _SIZE, _VARIANCE = "currency of the contract", "as IB counts them", "log price squared"
_NONE, _NO_UNIT = "1", ""

_COUNTS: Final = (
    "bandwidth bars bucket dropped duplicates filled not_positive observations one_sided "
    "out_of_order outliers quotes returns rows slow ticks trades"
)
_FRACTIONS: Final = "coverage jump_share quote_imbalance r_squared t_statistic vpin"

_KNOWN: Final[dict[str, tuple[str, str]]] = {
    **{name: (name.replace("_", " "), _NONE) for name in f"{_COUNTS} {_FRACTIONS}".split()},
    "amihud": ("absolute return by value traded", "1 / currency of the contract"),
    "contract": ("contract", _NO_UNIT),
    "contract_id": ("IB contract id", _NO_UNIT),
    "count": ("ticks in the bar", _NONE),
    "covariance": ("covariance of successive price changes", f"{_PRICE} squared"),
    "intensity": ("ticks per second", "1 / s"),
    "kyle_lambda": ("price change by signed volume", f"{_PRICE} by size"),
    "order_flow_imbalance": ("order flow imbalance", _SIZE),
    "roll": ("spread by Roll's measure", _PRICE),
    "seconds": ("time covered", "s"),
    "sign": ("1 bought, -1 sold, 0 unknown", _NONE),
    "spread": ("ask less bid", _PRICE),
    "spread_ticks": ("ask less bid", "steps of the price"),
    "time": ("start of the bar", _NO_UNIT),
}

_PATTERNS: Final[tuple[tuple[str, str, str], ...]] = (
    (r"relative_.*", "{0}: a share of the mid", _NONE),
    (r"(?:(?:bid|ask|mid)_)?(?:open|high|low|close)", "{0} of the bar", _PRICE),
    (r"parkinson|garman_klass|rogers_satchell|yang_zhang", "variance of a bar: {0}", _VARIANCE),
    (r".*(?:variance|kernel|variation|_rv)", "{0}", _VARIANCE),
    (r".*(?:volume|delta)", "{0}", _SIZE),
    (r".*(?:price|vwap|twap|mid|spread|impact)(?:_(?:lower|upper))?", "{0}", _PRICE),
)


def column_attributes(name: str) -> dict[str, str]:
    """Return ``long_name`` and, where it has one, ``units`` of a column of a measure.

    Examples
    --------
    >>> column_attributes("bid_high")
    {'long_name': 'bid high of the bar', 'units': 'currency of the contract'}
    >>> column_attributes("first_time")
    {'long_name': 'first time'}
    """
    spoken = name.replace("_", " ")
    result = _KNOWN.get(name)
    if result is None:
        matches = (
            (long_name, unit)
            for pattern, long_name, unit in _PATTERNS
            if re.fullmatch(pattern, name)
        )
        result = next(matches, ("{0}", _NO_UNIT))
    long_name, unit = result
    return {"long_name": long_name.format(spoken)} | ({"units": unit} if unit else {})


PANEL_DIMENSIONS: Final = ("contract", "time")
"""The dimensions of a panel, in this order."""

_KEYS: Final = ("timestamp", "contract_id")


def to_panel(
    bars: pl.DataFrame | pl.LazyFrame,
    *,
    names: Mapping[int, str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Return bars in long form as a panel; the method ``panel`` calls it.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, minute, tzinfo=UTC) for minute in (0, 1, 0)]
    >>> bars = pl.DataFrame(
    ...     {"timestamp": at, "contract_id": [8314, 8314, 265598], "close": [10.5, 10.7, 240.0]}
    ... )
    >>> panel = to_panel(bars, names={8314: "IBM", 265598: "AAPL"})
    >>> panel["close"].sel(contract="AAPL").values
    array([240.,  nan])
    >>> panel["close"].attrs["units"]
    'currency of the contract'
    """
    require(bars, *_KEYS, caller="panel")
    frame = bars.collect() if isinstance(bars, pl.LazyFrame) else bars
    ids, rows = np.unique(frame["contract_id"].to_numpy(), return_inverse=True)
    times, columns = np.unique(frame.select(time_ns()).to_series(), return_inverse=True)
    place = rows * len(times) + columns
    _refuse_repeats(frame, place)
    shape = (len(ids), len(times))
    variables = {
        value.name: xr.Variable(
            PANEL_DIMENSIONS,
            _fill_panel(value, place, shape),
            column_attributes(value.name) | (UTC_ATTRIBUTES if timed else {}),
            TIME_ENCODING if timed else {},
        )
        for value in frame
        if value.name not in _KEYS
        for timed in [value.dtype == pl.Datetime]
    }
    contract_labels = (
        ids if names is None else np.array([names.get(i, str(i)) for i in ids.tolist()])
    )
    start = xr.Variable(
        "time", times.view("M8[ns]"), column_attributes("time") | UTC_ATTRIBUTES, TIME_ENCODING
    )
    labels = {
        "contract": xr.Variable("contract", contract_labels, column_attributes("contract")),
        "contract_id": xr.Variable("contract", ids, column_attributes("contract_id")),
        "time": start,
    }
    text = json.dumps(attributes or {}, ensure_ascii=False, default=str)
    return xr.Dataset(variables, labels, {"Conventions": "CF-1.11", METADATA_KEY: text})


def from_panel(panel: xr.Dataset) -> pa.Table:
    """Return the bars of a panel in long form: by time, then contract, those with a value.

    Raises
    ------
    InputError
        A variable has other dimensions than a panel.

    Examples
    --------
    >>> time = np.array(["2025-01-10T15:00"], "M8[ns]")
    >>> panel = xr.Dataset(
    ...     {"close": (PANEL_DIMENSIONS, [[10.5], [np.nan]])},
    ...     {"contract": [8314, 265598], "time": time},
    ... )
    >>> from_panel(panel).to_pydict()["contract_id"]
    [8314]
    """
    strange = [
        str(name) for name, v in panel.variables.items() if not set(v.dims) <= set(PANEL_DIMENSIONS)
    ]
    if strange:
        raise InputError(f"in a panel of bars {', '.join(strange)} has other dimensions: drop it")
    order = PANEL_DIMENSIONS[::-1]
    ids = panel["contract_id"] if "contract_id" in panel.coords else panel["contract"]
    (full,) = xr.broadcast(panel.drop_vars("contract_id", errors="ignore"))
    cells = {str(name): array.transpose(*order) for name, array in full.data_vars.items()}
    shape = [panel.sizes[dim] for dim in order]
    there = np.zeros(shape, dtype=np.bool_)
    for name, array in panel.data_vars.items():
        if set(array.dims) == set(PANEL_DIMENSIONS):
            there |= cells[str(name)].notnull().values
    when = np.broadcast_to(panel["time"].values[:, None].astype("M8[ns]"), shape)[there]
    arrays = {
        "timestamp": pa.array(when).cast(arrow_type("timestamp")),
        "contract_id": pa.array(np.broadcast_to(ids.values[None, :], shape)[there]),
    }
    for name, array in cells.items():
        column = pa.array(array.values[there], from_pandas=True)
        arrays[name] = column.cast(arrow_type("timestamp")) if array.dtype.kind == "M" else column
    metadata = json.loads(panel.attrs.get(METADATA_KEY, "{}"))
    return pa.table(arrays).replace_schema_metadata(attach_metadata(metadata, ()))


def _refuse_repeats(frame: pl.DataFrame, place: NDArray[np.int64]) -> None:
    _, first, counts = np.unique(place, return_index=True, return_counts=True)
    if (counts > 1).any():
        row = frame.row(int(first[counts > 1][0]), named=True)
        raise InputError(
            f"a panel has one bar for each contract and time, and {row['contract_id']} has several "
            f"at {row['timestamp']}: bars of time have one",
            contract_id=row["contract_id"],
        )


def _fill_panel(
    values: pl.Series, place: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[Any]:
    """Return a column over all contracts and times; NaN, NaT or an empty text without a bar."""
    flat: NDArray[Any]
    if values.dtype == pl.Datetime:
        flat = np.full(shape, np.datetime64("NaT", "ns")).ravel()
        result = (
            values.dt.cast_time_unit("ns").dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        )
        flat[place] = result.to_numpy()
    elif values.dtype.is_numeric() or values.dtype == pl.Boolean:
        flat = np.full(shape, np.nan).ravel()
        flat[place] = values.cast(pl.Float64).to_numpy()
    else:
        texts = values.cast(pl.String).fill_null("").to_numpy()
        flat = np.full(shape, "", dtype=f"<U{max(1, *(map(len, texts)))}").ravel()
        flat[place] = texts
    return flat.reshape(shape)


_COORDINATES: Final = ("timestamp", "contract_id", "tick_type", "stream_id")
_DURATION_ENCODING: Final = {"units": "nanoseconds", "dtype": "int64"}


def to_dataset(table: pa.Table, *, attributes: Mapping[str, Any]) -> xr.Dataset:
    """Return a result as a dataset, in the form of :meth:`ibticks.Selection.to_xarray`.

    Parameters
    ----------
    table : pyarrow.Table
        Ticks, bars, or a row for each contract.
    attributes : mapping
        Metadata of the source; JSON in ``ds.attrs["ibticks"]``.

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
    labels = {name: variables.pop(name) for name in _COORDINATES if name in variables}
    attrs = {
        "Conventions": "CF-1.11",
        METADATA_KEY: json.dumps(attributes, ensure_ascii=False, default=str),
    }
    return xr.Dataset(variables, labels, attrs)


def dataset_like(
    source: xr.Dataset, result: pl.DataFrame, table: pa.Table, attributes: Mapping[str, Any]
) -> xr.Dataset:
    """Return a result in the form of its source dataset, along dimensions of the same names.

    The result of a panel is a panel if it has times, else a value for each contract; the result of
    a selection from a panel, such as one contract, is of that selection alone.
    """
    panel = _panel_of(source)
    if panel is None:
        output, along = to_dataset(table, attributes=attributes), _times_of(source)
        return (
            output
            if along is None or "timestamp" not in output.dims
            else output.rename(timestamp=along)
        )
    ids = panel["contract_id" if "contract_id" in panel.coords else "contract"].values.tolist()
    names = dict(zip(ids, panel["contract"].values.tolist(), strict=True))
    if {"timestamp", "contract_id"} <= set(result.columns):
        same = names == {i: i for i in ids}
        output = to_panel(result, names=None if same else names, attributes=attributes)
    else:
        output = to_dataset(table, attributes=attributes)
        if "contract_id" not in output.dims:
            return output
        # Labels as in the panel.
        labels = np.array([names[i] for i in output["contract_id"].values.tolist()])
        along_contracts = xr.Variable("contract_id", labels, column_attributes("contract"))
        output = output.assign_coords(contract=along_contracts).swap_dims(contract_id="contract")
    chosen = [
        dim for dim in PANEL_DIMENSIONS if dim not in source.dims and output.sizes.get(dim) == 1
    ]
    return output.squeeze(chosen)


def from_dataset(dataset: xr.Dataset) -> pa.Table:
    """Return a dataset of ticks or bars, or a panel of bars, as a table.

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
    """Return a panel, also from a selection of one that lost dimensions; else None."""
    lost = [dim for dim in PANEL_DIMENSIONS if dim not in dataset.dims]
    if any(dim not in dataset.coords for dim in lost):
        return None
    if "contract" in lost and "contract_id" in dataset.coords:
        ids = dataset["contract_id"].variable.expand_dims("contract")
        return dataset.drop_vars("contract_id").expand_dims(lost).assign_coords(contract_id=ids)
    return dataset.expand_dims(lost) if lost else dataset


def _times_of(dataset: xr.Dataset) -> str | None:
    """Return the only dimension, if it holds the times that ``timestamp`` would; else None."""
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
    dtype = column.type
    if name in COLUMNS and (dtype != pa.string() or COLUMNS[name].type.value == "string"):
        zoned = pa.types.is_timestamp(dtype)
        return variable(
            COLUMNS[name], column.cast(arrow_type("timestamp")) if zoned else column, along
        )
    attributes: dict[str, Any] = dict(column_attributes(name))
    encoding: Mapping[str, Any] = {}
    values: NDArray[Any]
    if pa.types.is_timestamp(dtype):
        values = column.cast(pa.timestamp("ns", dtype.tz)).cast(pa.timestamp("ns")).to_numpy()
        attributes |= UTC_ATTRIBUTES if dtype.tz else {}
        encoding = TIME_ENCODING
    elif pa.types.is_duration(dtype):
        values, encoding = column.cast(pa.duration("ns")).to_numpy(), _DURATION_ENCODING
    elif pa.types.is_date(dtype):
        values = column.cast(pa.timestamp("ns")).to_numpy()
    elif (
        pa.types.is_dictionary(dtype)
        or pa.types.is_string(dtype)
        or pa.types.is_large_string(dtype)
    ):
        values = np.array(column.cast(pa.string()).fill_null("").to_pylist(), dtype=np.str_)
    elif pa.types.is_boolean(dtype):
        values = column.fill_null(False).to_numpy()
    elif column.null_count:
        values = column.cast(pa.float64()).to_numpy()
    else:
        values = column.to_numpy()
    return xr.Variable(along, values, attributes, encoding)
