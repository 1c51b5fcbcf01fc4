"""Frames that users hand in become ticks: Arrow, polars, pandas, xarray, whatever speaks Arrow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ibticks.calendar import find_timezone
from ibticks.errors import InputError, UnknownColumnError
from ibticks.format import (
    COLUMNS,
    Column,
    StringColumn,
    TickColumns,
    Values,
    check_contract_id,
    check_tick_type,
)
from ibticks.frames._metadata import metadata_of, missing_of
from ibticks.frames._read import read_column

if TYPE_CHECKING:
    from datetime import tzinfo

    from ibticks.frames._times import Unit

__all__ = ["from_arrow"]


def from_arrow(
    data: Any,
    *,
    contract_id: int | None = None,
    tick_type: str | None = None,
    tz: str | tzinfo | None = None,
    timestamp_unit: Unit | None = None,
) -> TickColumns:
    """Read ticks out of a frame.

    Parameters
    ----------
    data : pyarrow.Table, polars.DataFrame, pandas.DataFrame, xarray.Dataset, or any other
        Whatever has ``__arrow_c_stream__``. Its columns have the names of
        :data:`ibticks.format.COLUMNS`, in any order and in any type that can hold them; a
        pandas time index counts as ``timestamp``.
    contract_id, tick_type : optional
        Of all rows, where ``data`` has no such column.
    tz : str or tzinfo, optional
        Zone of times that do not say theirs: see :func:`ibticks.calendar.find_timezone`.
    timestamp_unit : {"s", "ms", "us", "ns"}, optional
        Unit of times that are numbers.

    Returns
    -------
    TickColumns
        With the columns given and ``contract_id`` and ``tick_type``; the rows in the order given.
        Nulls are absent, in pandas NaN and NaT, too; ``exchange_time`` is floored to seconds.

    Raises
    ------
    UnknownColumnError
        If a column is none of a tick's.
    NaiveDatetimeError
        If times do not say their zone and ``tz`` does not.
    UnknownTickTypeError
        If a tick type is none of IB's.
    InputError
        If ``timestamp``, the contract or the tick type is missing, or a value does not fit.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import datetime, UTC
    >>> frame = pl.DataFrame({"timestamp": [datetime(2025, 1, 10, tzinfo=UTC)], "price": [187]})
    >>> ticks = from_arrow(frame, contract_id=265598, tick_type="last")
    >>> ticks.timestamp, ticks.numbers("price")
    (array([1736467200000000000]), array([187.]))
    """
    table = _table(data)
    names, rows = table.column_names, table.num_rows
    zone = None if tz is None else find_timezone(tz)  # also where no time needs it
    for name in names:
        if name not in COLUMNS:
            raise UnknownColumnError(
                f"unknown column {name!r}: drop or rename it; the columns of a tick are "
                f"{', '.join(COLUMNS)}",
                column=name,
            )
    if "timestamp" not in names:
        raise InputError(
            f"no column timestamp: there are {', '.join(names) or 'none'}", column="timestamp"
        )
    found = {
        name: read_column(field, table[name], tz=zone, unit=timestamp_unit)
        for name, field in COLUMNS.items()
        if name in names
    }
    _check_complete("timestamp", _absent(found["timestamp"]))
    found["contract_id"] = _contracts(found.get("contract_id"), rows, contract_id)
    found["tick_type"] = _tick_types(found.get("tick_type"), rows, tick_type)
    ordered = {name: found[name] for name in COLUMNS if name in found}
    return TickColumns(rows, ordered, missing_of(metadata_of(table)))


def _table(data: Any) -> pa.Table:
    pandas, xarray = sys.modules.get("pandas"), sys.modules.get("xarray")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        from ibticks.frames._to_pandas import from_pandas

        return from_pandas(data)
    if xarray is not None and isinstance(data, xarray.Dataset):
        from ibticks.frames._to_xarray import from_xarray

        return from_xarray(data)
    if isinstance(data, pa.Table):
        return data
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(data, polars.DataFrame):
        from ibticks.frames._to_polars import from_polars

        return from_polars(data)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(data).read_all()
    raise InputError(
        f"cannot read ticks from a {type(data).__name__}: give a pyarrow, polars or pandas frame, "
        f"an xarray dataset, or an object with __arrow_c_stream__ (a lazy frame: collect it first)"
    )


def _absent(column: Column | None) -> npt.NDArray[np.intp]:
    """The rows at which a column says nothing."""
    match column:
        case StringColumn(codes):
            return np.flatnonzero(codes < 0)
        case Values(_, valid) if valid is not None:
            return np.flatnonzero(~valid)
    return np.zeros(0, dtype=np.intp)


def _check_complete(name: str, absent: npt.NDArray[np.intp]) -> None:
    if len(absent):
        raise InputError(
            f"{len(absent)} rows have no {name}, the first is row {absent[0]}: every tick has one",
            column=name,
            row=int(absent[0]),
        )


def _contracts(column: Column | None, rows: int, given: int | None) -> Values:
    if given is None:
        if not isinstance(column, Values):
            raise InputError("the ticks do not say their contract: give contract_id=")
        _check_complete("contract_id", _absent(column))
        return column
    check_contract_id(given)
    if isinstance(column, Values):
        said = column.values if column.valid is None else column.values[column.valid]
        _check_same("contract_id", set(np.unique(said).tolist()), given)
    return Values(np.full(rows, given, dtype=np.uint32))


def _tick_types(column: Column | None, rows: int, given: str | None) -> StringColumn:
    if given is None:
        if not isinstance(column, StringColumn):
            raise InputError("the ticks do not say their tick type: give tick_type=")
        _check_complete("tick_type", _absent(column))
        for value in column.values:
            check_tick_type(value)
        return column
    if isinstance(column, StringColumn):
        _check_same("tick_type", set(column.values), given)
    return StringColumn(np.zeros(rows, dtype=np.int32), (check_tick_type(given),))


def _check_same(name: str, said: set[Any], given: object) -> None:
    others = said - {given}
    if others:
        raise InputError(
            f"{name}={given!r} was given, but the column {name} has {min(others)!r}: leave "
            f"the argument out, or select the rows that are meant",
            column=name,
        )
