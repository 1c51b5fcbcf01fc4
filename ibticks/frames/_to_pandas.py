"""Convert Arrow tables of ticks to pandas frames, and pandas frames to Arrow tables."""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from ibticks.errors import InputError
from ibticks.frames._arrays import distinct_lists, object_array, strings_column
from ibticks.frames._schema import CATEGORY, METADATA_KEY, arrow_type, attach_metadata, metadata_of
from ibticks.frames._times import has_time_objects, read_time_objects
from ibticks.schema import COLUMNS, PRICES_AND_SIZES, is_unset

__all__ = ["from_pandas", "to_pandas"]

_INT64: Final = range(-(2**63), 2**63)
_EXTENSIONS: Final = {pa.bool_(): pd.BooleanDtype(), pa.uint64(): pd.UInt64Dtype()}


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Turn a table of ticks into a pandas frame that owns its memory.

    Parameters
    ----------
    table : pyarrow.Table
        From :func:`ibticks.frames.to_table`.

    Returns
    -------
    pandas.DataFrame
        With a ``RangeIndex``. ``timestamp`` and ``exchange_time`` are ``datetime64[ns, UTC]`` (NaT
        where absent), ``contract_id`` uint32, ``tick_type``, ``exchange`` and ``stream_id``
        category, prices and sizes float64 (NaN where absent), ``sequence`` the nullable ``UInt64``,
        flags the nullable ``boolean``. ``conditions`` holds tuples of str, so that it can be
        grouped by and counted; ``metadata`` holds dicts. ``df.attrs["ibticks"]`` is
        the table's metadata: see :func:`ibticks.frames.metadata_of`.

    Examples
    --------
    >>> from ibticks.frames import to_table
    >>> to_pandas(to_table([], ["timestamp", "price", "sequence"])).dtypes
    timestamp    datetime64[ns, UTC]
    price                    float64
    sequence                  UInt64
    dtype: object
    """
    nested = [name for name in ("conditions", "metadata") if name in table.column_names]
    frame = table.drop_columns(nested).to_pandas(types_mapper=_EXTENSIONS.get)
    for name in nested:
        # In the order of the table: what stands before this column is there already.
        frame.insert(table.column_names.index(name), name, _objects(name, table[name]))
    for field in table.schema:
        if field.type == CATEGORY and frame[field.name].cat.categories.empty:
            # Without a single string, pyarrow does not say that the categories are strings.
            nothing = pd.CategoricalDtype(pd.Index([], dtype="str"))
            frame[field.name] = frame[field.name].astype(nothing)
    frame.attrs[METADATA_KEY] = metadata_of(table)
    return cast("pd.DataFrame", frame)


def from_pandas(frame: pd.DataFrame) -> pa.Table:
    """Turn a pandas frame into an Arrow table.

    Parameters
    ----------
    frame : pandas.DataFrame
        A time index is taken for ``timestamp`` unless there is such a column; any other index
        without a name is left out.

    Returns
    -------
    pyarrow.Table
        NaN and NaT are null. With the metadata of ``frame.attrs["ibticks"]``, if there is any.

    Raises
    ------
    InputError
        If a name is repeated, or the objects of a column have several types.

    Examples
    --------
    >>> times = pd.DatetimeIndex(["2025-01-10 14:30"], tz="UTC")
    >>> from_pandas(pd.DataFrame({"price": [1.5]}, index=times)).column_names
    ['timestamp', 'price']
    """
    if isinstance(frame.index, pd.DatetimeIndex) and "timestamp" not in frame.columns:
        frame = frame.rename_axis("timestamp").reset_index()
    if not frame.columns.is_unique:
        raise InputError(f"columns stand twice: {', '.join(map(str, frame.columns))}")
    # Not by reset_index(), which converts objects to times.
    levels = {
        name: frame.index.get_level_values(place)
        for place, name in enumerate(frame.index.names)
        if name is not None and name not in frame.columns
    }
    columns = {name: pd.Series(level, dtype=level.dtype) for name, level in levels.items()}
    columns |= {name: frame[name] for name in frame.columns}
    arrays = {str(name): _array(str(name), column) for name, column in columns.items()}
    table = pa.table(arrays)
    metadata = frame.attrs.get(METADATA_KEY)
    return table.replace_schema_metadata(
        None if metadata is None else attach_metadata(metadata, ())
    )


def _objects(name: str, column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    if name == "metadata":
        return object_array(dict(pairs) for pairs in column.to_pylist())
    numbers, lists = distinct_lists(strings_column(column))
    return cast("np.ndarray[Any, Any]", object_array(lists)[numbers])


def _array(name: str, column: pd.Series[Any]) -> pa.Array:
    if column.dtype == object and has_time_objects(name, values := column.tolist()):
        return read_time_objects(name, values)
    # Dicts would be taken for structs, with every key in every row.
    if column.dtype == object and name in PRICES_AND_SIZES:
        column = _without_unset_integers(name, column)
    data_type = arrow_type(name) if name == "metadata" and column.dtype == object else None
    try:
        array = pa.array(column, data_type, from_pandas=True)
        nothing = pa.types.is_list(array.type) and pa.types.is_null(array.type.value_type)
        return array.cast(arrow_type(name)) if nothing and name in COLUMNS else array
    except pa.ArrowException as error:
        raise InputError(f"column {name!r} is not of one kind: {error}", column=name) from error


def _without_unset_integers(name: str, column: pd.Series[Any]) -> pd.Series[Any]:
    """Return prices or sizes with None for integers that IB writes for no value.

    ``UNSET_DECIMAL`` is 2**127 - 1, which no integer type of Arrow holds.
    """
    values: list[Any] = []
    for value in column:
        if isinstance(value, bool | np.bool_):
            raise InputError(
                f"column {name!r} holds {value}, which is no number: give prices and sizes as "
                f"numbers",
                column=name,
            )
        if isinstance(value, int) and value not in _INT64:
            value = None if is_unset(value) else float(value)
        values.append(value)
    return pd.Series(values, dtype=object)
