"""Convert frames that users pass in to tick columns: Arrow, polars, pandas, xarray."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ibticks.calendar import find_timezone
from ibticks.config import NANOSECONDS
from ibticks.errors import InputError, UnknownColumnError
from ibticks.frames._arrays import combine_chunks, map_column, string_column, strings_column
from ibticks.frames._schema import metadata_of, missing_of
from ibticks.frames._times import read_times
from ibticks.schema import (
    COLUMNS,
    Column,
    Field,
    FieldType,
    StringColumn,
    TickColumns,
    Values,
    check_contract_id,
    check_tick_type,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from ibticks._types import TickTypeLike, TimeUnit

__all__ = ["frame_to_arrow", "from_arrow", "read_column"]

_NUMBERS: Final = {
    FieldType.UINT32: pa.uint32(),
    FieldType.UINT64: pa.uint64(),
    FieldType.FLOAT: pa.float64(),
    FieldType.BOOL: pa.bool_(),
}
_READERS: Final[dict[FieldType, Callable[[pa.ChunkedArray], Column]]] = {
    FieldType.STRING: string_column,
    FieldType.STRINGS: strings_column,
    FieldType.MAP: map_column,
}


def from_arrow(
    data: Any,
    *,
    contract_id: int | None = None,
    tick_type: TickTypeLike | None = None,
    tz: str | tzinfo | None = None,
    timestamp_unit: TimeUnit | None = None,
) -> TickColumns:
    """Read ticks out of a frame.

    Parameters
    ----------
    data : pyarrow.Table, polars.DataFrame, pandas.DataFrame, xarray.Dataset, or any other
        Any object with ``__arrow_c_stream__``. Its columns have the names of
        :data:`ibticks.schema.COLUMNS`, in any order and in any type that can hold them; a
        pandas time index counts as ``timestamp``.
    contract_id, tick_type : optional
        Of all rows, where ``data`` has no such column.
    tz : str or tzinfo, optional
        Zone of times that have none: see :func:`ibticks.calendar.find_timezone`.
    timestamp_unit : {"s", "ms", "us", "ns"}, optional
        Unit of times that are numbers.

    Returns
    -------
    TickColumns
        With the columns of ``data``, ``contract_id`` and ``tick_type``; the rows in their order.
        Nulls are absent, in pandas NaN and NaT, too; ``exchange_time`` is floored to seconds.

    Raises
    ------
    UnknownColumnError
        If a column is none of a tick's.
    NaiveDatetimeError
        If times have no zone, and ``tz`` is not given.
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
    table = frame_to_arrow(data)
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
    tick_columns = {
        name: read_column(field, table[name], tz=zone, unit=timestamp_unit)
        for name, field in COLUMNS.items()
        if name in names
    }
    _check_no_nulls("timestamp", _null_rows(tick_columns["timestamp"]))
    tick_columns["contract_id"] = _contract_column(
        tick_columns.get("contract_id"), rows, contract_id
    )
    tick_columns["tick_type"] = _tick_type_column(tick_columns.get("tick_type"), rows, tick_type)
    ordered = {name: tick_columns[name] for name in COLUMNS if name in tick_columns}
    return TickColumns(rows, ordered, missing_of(metadata_of(table)))


def frame_to_arrow(data: Any) -> pa.Table:
    """Convert a frame of any library to an Arrow table, without checking its columns.

    Parameters
    ----------
    data : pyarrow.Table, polars.DataFrame, pandas.DataFrame, xarray.Dataset, or any other
        Any object with ``__arrow_c_stream__``; a pandas time index counts as ``timestamp``.

    Raises
    ------
    InputError
        If it is none of these, or its objects cannot be read.

    Examples
    --------
    >>> frame_to_arrow(pa.table({"price": [1.5]})).column_names
    ['price']
    """
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


def _null_rows(column: Column | None) -> npt.NDArray[np.intp]:
    """Return the rows at which a column is null."""
    match column:
        case StringColumn(codes):
            return np.flatnonzero(codes < 0)
        case Values(_, valid) if valid is not None:
            return np.flatnonzero(~valid)
    return np.zeros(0, dtype=np.intp)


def _check_no_nulls(name: str, absent: npt.NDArray[np.intp]) -> None:
    if len(absent):
        raise InputError(
            f"{len(absent)} rows have no {name}, the first is row {absent[0]}: every tick has one",
            column=name,
            row=int(absent[0]),
        )


def _contract_column(column: Column | None, rows: int, contract_id: int | None) -> Values:
    if contract_id is None:
        if not isinstance(column, Values):
            raise InputError("the ticks do not say their contract: give contract_id=")
        _check_no_nulls("contract_id", _null_rows(column))
        return column
    check_contract_id(contract_id)
    if isinstance(column, Values):
        column_ids = column.values if column.valid is None else column.values[column.valid]
        _check_equal("contract_id", set(np.unique(column_ids).tolist()), contract_id)
    return Values(np.full(rows, contract_id, dtype=np.uint32))


def _tick_type_column(column: Column | None, rows: int, tick_type: str | None) -> StringColumn:
    if tick_type is None:
        if not isinstance(column, StringColumn):
            raise InputError("the ticks do not say their tick type: give tick_type=")
        _check_no_nulls("tick_type", _null_rows(column))
        for value in column.values:
            check_tick_type(value)
        return column
    if isinstance(column, StringColumn):
        _check_equal("tick_type", set(column.values), tick_type)
    return StringColumn(np.zeros(rows, dtype=np.int32), (check_tick_type(tick_type),))


def _check_equal(name: str, values: set[Any], value: object) -> None:
    other_values = values - {value}
    if other_values:
        raise InputError(
            f"{name}={value!r} was given, but the column {name} has {min(other_values)!r}: leave "
            f"the argument out, or select the rows that are meant",
            column=name,
        )


def read_column(
    field: Field,
    column: pa.ChunkedArray,
    *,
    tz: str | tzinfo | None = None,
    unit: TimeUnit | None = None,
) -> Column:
    """Read one column of ticks, whatever type it comes in.

    Parameters
    ----------
    field : Field
        Which column it is.
    column : pyarrow.ChunkedArray
    tz : str or tzinfo, optional
        Zone of times that have none.
    unit : {"s", "ms", "us", "ns"}, optional
        Unit of times that are numbers.

    Returns
    -------
    Column
        Around the Arrow memory (read-only) where the type is the one of a tick.

    Raises
    ------
    InputError
        If a value does not fit the column; the message quotes it.
    """
    if field.type in (FieldType.TIME, FieldType.SECONDS):
        times, valid = read_times(column, field.name, tz=tz, unit=unit)
        return Values(times if field.type is FieldType.TIME else times // NANOSECONDS, valid)
    try:
        if field.type in _NUMBERS:
            return _numbers(column, _NUMBERS[field.type])
        return _READERS[field.type](column)
    except pa.ArrowException as error:
        raise InputError(
            f"column {field.name!r} holds {column.type}, which cannot be read as "
            f"{field.type.value}: {error}",
            column=field.name,
        ) from error


def _numbers(column: pa.ChunkedArray, data_type: pa.DataType) -> Values:
    array = combine_chunks(column)
    if pa.types.is_decimal(array.type) and pa.types.is_floating(data_type):
        # Arrow's own cast is one unit in the last place off for every third decimal.
        array = array.cast(pa.large_string())
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_boolean(array.type) and not pa.types.is_boolean(data_type):
        raise pa.ArrowInvalid("True and False are no numbers")  # Arrow makes them 1 and 0
    array = array.cast(data_type)
    if not array.null_count:
        return Values(array.to_numpy(zero_copy_only=False))
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    zero = False if pa.types.is_boolean(data_type) else 0
    return Values(array.fill_null(zero).to_numpy(zero_copy_only=False), valid)
