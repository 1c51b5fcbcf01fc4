"""Bars of many contracts as one dataset, ``[contract, time]``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import xarray as xr

from ibticks.accessors._units import EXACT, UTC, attributes_of
from ibticks.analysis.engine import instant, require
from ibticks.errors import InputError
from ibticks.frames import METADATA_KEY, arrow_type, attach_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["PANEL", "from_panel", "to_panel"]

PANEL: Final = ("contract", "time")
"""The dimensions of a panel, in this order."""

_KEYS: Final = ("timestamp", "contract_id")


def to_panel(
    bars: pl.DataFrame | pl.LazyFrame,
    *,
    names: Mapping[int, str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Bars in long form as a panel; what the method ``panel`` does.

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
    require(bars, *_KEYS, what="panel")
    frame = bars.collect() if isinstance(bars, pl.LazyFrame) else bars
    ids, rows = np.unique(frame["contract_id"].to_numpy(), return_inverse=True)
    times, columns = np.unique(frame.select(instant()).to_series(), return_inverse=True)
    place = rows * len(times) + columns
    _refuse_repeats(frame, place)
    shape = (len(ids), len(times))
    variables = {
        each.name: xr.Variable(
            PANEL,
            _spread(each, place, shape),
            attributes_of(each.name) | (UTC if timed else {}),
            EXACT if timed else {},
        )
        for each in frame
        if each.name not in _KEYS
        for timed in [each.dtype == pl.Datetime]
    }
    named = ids if names is None else np.array([names.get(i, str(i)) for i in ids.tolist()])
    start = xr.Variable("time", times.view("M8[ns]"), attributes_of("time") | UTC, EXACT)
    labels = {
        "contract": xr.Variable("contract", named, attributes_of("contract")),
        "contract_id": xr.Variable("contract", ids, attributes_of("contract_id")),
        "time": start,
    }
    text = json.dumps(attributes or {}, ensure_ascii=False, default=str)
    return xr.Dataset(variables, labels, {"Conventions": "CF-1.11", METADATA_KEY: text})


def from_panel(panel: xr.Dataset) -> pa.Table:
    """The bars of a panel in long form: by time, then contract, those that have a value.

    Raises
    ------
    InputError
        A variable has other dimensions than a panel.

    Examples
    --------
    >>> time = np.array(["2025-01-10T15:00"], "M8[ns]")
    >>> panel = xr.Dataset(
    ...     {"close": (PANEL, [[10.5], [np.nan]])}, {"contract": [8314, 265598], "time": time}
    ... )
    >>> from_panel(panel).to_pydict()["contract_id"]
    [8314]
    """
    strange = [str(name) for name, v in panel.variables.items() if not set(v.dims) <= set(PANEL)]
    if strange:
        raise InputError(f"in a panel of bars {', '.join(strange)} has other dimensions: drop it")
    order = PANEL[::-1]
    ids = panel["contract_id"] if "contract_id" in panel.coords else panel["contract"]
    (full,) = xr.broadcast(panel.drop_vars("contract_id", errors="ignore"))
    cells = {str(name): array.transpose(*order) for name, array in full.data_vars.items()}
    shape = [panel.sizes[dim] for dim in order]
    there = np.zeros(shape, dtype=np.bool_)
    for name, array in panel.data_vars.items():
        if set(array.dims) == set(PANEL):
            there |= cells[str(name)].notnull().values
    when = np.broadcast_to(panel["time"].values[:, None].astype("M8[ns]"), shape)[there]
    arrays = {
        "timestamp": pa.array(when).cast(arrow_type("timestamp")),
        "contract_id": pa.array(np.broadcast_to(ids.values[None, :], shape)[there]),
    }
    for name, array in cells.items():
        column = pa.array(array.values[there], from_pandas=True)
        arrays[name] = column.cast(arrow_type("timestamp")) if array.dtype.kind == "M" else column
    said = json.loads(panel.attrs.get(METADATA_KEY, "{}"))
    return pa.table(arrays).replace_schema_metadata(attach_metadata(said, ()))


def _refuse_repeats(frame: pl.DataFrame, place: NDArray[np.int64]) -> None:
    _, first, counts = np.unique(place, return_index=True, return_counts=True)
    if (counts > 1).any():
        row = frame.row(int(first[counts > 1][0]), named=True)
        raise InputError(
            f"a panel has one bar for each contract and time, and {row['contract_id']} has several "
            f"at {row['timestamp']}: bars of time have one",
            contract_id=row["contract_id"],
        )


def _spread(values: pl.Series, place: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[Any]:
    """A column over all contracts and times; NaN, NaT or an empty text where there is no bar."""
    flat: NDArray[Any]
    if values.dtype == pl.Datetime:
        flat = np.full(shape, np.datetime64("NaT", "ns")).ravel()
        found = (
            values.dt.cast_time_unit("ns").dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        )
        flat[place] = found.to_numpy()
    elif values.dtype.is_numeric() or values.dtype == pl.Boolean:
        flat = np.full(shape, np.nan).ravel()
        flat[place] = values.cast(pl.Float64).to_numpy()
    else:
        texts = values.cast(pl.String).fill_null("").to_numpy()
        flat = np.full(shape, "", dtype=f"<U{max(1, *(map(len, texts)))}").ravel()
        flat[place] = texts
    return flat.reshape(shape)
