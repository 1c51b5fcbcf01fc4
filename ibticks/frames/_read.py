"""One Arrow column, as users hand it in, becomes one numpy column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.config import NANOSECONDS
from ibticks.errors import InputError
from ibticks.format import Column, Field, Kind, MapColumn, StringColumn, StringsColumn, Values
from ibticks.frames._chunks import joined
from ibticks.frames._time_columns import check_time_of_day
from ibticks.frames._times import Unit, utc_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

__all__ = ["map_column", "read_column", "string_column", "strings_column"]

_NUMBERS: Final = {
    Kind.UINT32: pa.uint32(),
    Kind.UINT64: pa.uint64(),
    Kind.FLOAT: pa.float64(),
    Kind.BOOL: pa.bool_(),
}


def read_column(
    field: Field,
    column: pa.ChunkedArray,
    *,
    tz: str | tzinfo | None = None,
    unit: Unit | None = None,
) -> Column:
    """Read one column of ticks, whatever type it comes in.

    Parameters
    ----------
    field : Field
        Which column it is.
    column : pyarrow.ChunkedArray
    tz : str or tzinfo, optional
        Zone of times that do not say theirs.
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
    if field.kind in (Kind.TIME, Kind.SECONDS):
        check_time_of_day(column, field.name, unit)
        times, valid = utc_nanoseconds(column, field.name, tz=tz, unit=unit)
        return Values(times if field.kind is Kind.TIME else times // NANOSECONDS, valid)
    try:
        if field.kind in _NUMBERS:
            return _numbers(column, _NUMBERS[field.kind])
        return _READERS[field.kind](column)
    except pa.ArrowException as error:
        raise InputError(
            f"column {field.name!r} holds {column.type}, which cannot be read as "
            f"{field.kind.value}: {error}",
            column=field.name,
        ) from error


def string_column(column: pa.ChunkedArray) -> StringColumn:
    """Read strings; only those that occur are kept, in the order in which they do.

    Examples
    --------
    >>> string_column(pa.chunked_array([["Q", None], ["P", "Q"]]))
    StringColumn(codes=array([ 0, -1,  1,  0], dtype=int32), values=('Q', 'P'))
    """
    array = joined(column)
    if not pa.types.is_dictionary(array.type) or array.dictionary.null_count:
        array = array.cast(pa.large_string()).dictionary_encode()
    used = array.indices.dictionary_encode()
    codes = used.indices.fill_null(-1).to_numpy().astype(np.int32, copy=False)
    values = array.dictionary.cast(pa.large_string()).take(used.dictionary)
    return StringColumn(codes, tuple(values.to_pylist()))


def strings_column(column: pa.ChunkedArray) -> StringsColumn:
    """Read lists of strings; a single string is a list of itself, an empty one none at all.

    Examples
    --------
    >>> strings_column(pa.chunked_array([["2000", "", None]])).offsets
    array([0, 1, 1, 1])
    """
    kind = column.type
    if pa.types.is_null(kind):
        return StringsColumn(np.zeros(len(column) + 1, np.int64), np.zeros(0, np.int32), ())
    if not _is_list(kind):
        single = string_column(column)
        empty = single.values.index("") if "" in single.values else -1
        there = (single.codes >= 0) & (single.codes != empty)
        codes = single.codes[there]
        return StringsColumn(_offsets(there), *_compact(codes, single.values))
    array = joined(column)
    lengths = pc.list_value_length(array).fill_null(0).to_numpy().astype(np.int64)
    items = string_column(pa.chunked_array([array.flatten()]))
    # An element that is null is no string: the list is shorter by it.
    there = items.codes >= 0
    return StringsColumn(_offsets(there)[_offsets(lengths)], items.codes[there], items.values)


def map_column(column: pa.ChunkedArray) -> MapColumn:
    """Read pairs of strings: an Arrow map, a list of pairs, or a struct of strings.

    Examples
    --------
    >>> map_column(pa.chunked_array([[{"source": "backfill"}, {}]]))
    MapColumn(offsets=array([0, 1, 1]), keys=array([0], dtype=int32),
    items=array([1], dtype=int32), values=('source', 'backfill'))
    """
    array = joined(column)
    if pa.types.is_null(array.type):
        nothing = np.zeros(0, np.int32)
        return MapColumn(np.zeros(len(array) + 1, np.int64), nothing, nothing, ())
    if pa.types.is_struct(array.type):
        return _map_of_struct(array)
    if pa.types.is_map(array.type):
        key, item = array.type.key_field, array.type.item_field
        pair = pa.struct([(key.name, key.type), (item.name, item.type)])
        array = array.cast(pa.large_list(pair))
    elif not _is_list(array.type) or array.type.value_type.num_fields != 2:
        raise InputError(
            f"column 'metadata' holds {array.type}, not pairs of strings", column="metadata"
        )
    lengths = pc.list_value_length(array).fill_null(0).to_numpy().astype(np.int64)
    keys, items = (part.cast(pa.large_string()) for part in array.flatten().flatten())
    return _map(_offsets(lengths), keys, items)


_READERS: Final[dict[Kind, Callable[[pa.ChunkedArray], Column]]] = {
    Kind.STRING: string_column,
    Kind.STRINGS: strings_column,
    Kind.MAP: map_column,
}


def _map_of_struct(array: pa.StructArray) -> MapColumn:
    fields = [child.cast(pa.large_string()) for child in array.flatten()]
    names = pa.array(array.type.names, pa.large_string())
    there = np.stack([child.is_valid().to_numpy(zero_copy_only=False) for child in fields], axis=1)
    rows, places = np.nonzero(there)
    # Child after child, as they lie; the rows want one of each in turn.
    laid_end_to_end = pa.concat_arrays(fields).take(pa.array(places * len(array) + rows))
    return _map(_offsets(there.sum(axis=1)), names.take(pa.array(places)), laid_end_to_end)


def _map(offsets: npt.NDArray[np.int64], keys: pa.Array, items: pa.Array) -> MapColumn:
    both = string_column(pa.chunked_array([keys.fill_null(""), items.fill_null("")]))
    return MapColumn(offsets, both.codes[: len(keys)], both.codes[len(keys) :], both.values)


def _numbers(column: pa.ChunkedArray, kind: pa.DataType) -> Values:
    array = joined(column)
    if pa.types.is_decimal(array.type) and pa.types.is_floating(kind):
        # Arrow's own cast is one unit in the last place off for every third decimal.
        array = array.cast(pa.large_string())
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_boolean(array.type) and not pa.types.is_boolean(kind):
        raise pa.ArrowInvalid("True and False are no numbers")  # Arrow makes them 1 and 0
    array = array.cast(kind)
    if not array.null_count:
        return Values(array.to_numpy(zero_copy_only=False))
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    zero = False if pa.types.is_boolean(kind) else 0
    return Values(array.fill_null(zero).to_numpy(zero_copy_only=False), valid)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def _offsets(lengths: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _compact(
    codes: npt.NDArray[np.int32], values: tuple[str, ...]
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """The codes without the empty string, which is no longer used."""
    if "" not in values:
        return codes, values
    empty = values.index("")
    return codes - (codes > empty).astype(np.int32), tuple(v for v in values if v)
