"""Arrow arrays to and from the numpy columns of decoded ticks.

:func:`pyarrow.array` is avoided where ticks are read: its first call imports pandas, which costs a
third of a second and 60 MB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.errors import InputError
from ibticks.schema import MapColumn, StringColumn, StringListColumn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


__all__ = [
    "combine_chunks",
    "distinct_lists",
    "map_column",
    "numbers",
    "object_array",
    "string_column",
    "strings_column",
    "take_rows",
    "texts",
]


def numbers(values: npt.NDArray[Any]) -> pa.Array:
    """Make an array of numbers without nulls, around the same memory.

    Examples
    --------
    >>> numbers(np.array([1, 2], dtype=np.int32)).to_pylist()
    [1, 2]
    """
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, data])


def texts(values: Sequence[str], data_type: pa.DataType) -> pa.Array:
    """Make an array of strings without nulls.

    Parameters
    ----------
    values : sequence of str
    data_type : pyarrow.DataType
        ``string`` or ``large_string``.

    Examples
    --------
    >>> texts(["Ω", ""], pa.string()).to_pylist()
    ['Ω', '']
    """
    raw = [value.encode() for value in values]
    offsets = np.zeros(len(raw) + 1, dtype=np.int32 if pa.types.is_string(data_type) else np.int64)
    np.cumsum([len(text) for text in raw], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(raw))]
    return pa.Array.from_buffers(data_type, len(raw), buffers)


def combine_chunks(column: pa.ChunkedArray) -> pa.Array:
    """Combine the chunks of a column; a single chunk is not copied.

    Examples
    --------
    >>> combine_chunks(pa.chunked_array([[1], [2, 3]])).to_pylist()
    [1, 2, 3]
    """
    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks()


def take_rows(arrays: Sequence[pa.Array], rows: npt.NDArray[Any]) -> pa.Array:
    """Take rows by their positions in the concatenated arrays.

    Examples
    --------
    >>> import numpy as np
    >>> take_rows([pa.array([1.5, None]), pa.array([2.5])], np.array([2, 1])).to_pylist()
    [2.5, None]
    """
    array, indices = pa.concat_arrays(arrays), numbers(rows)
    data_type = array.type
    if (
        not array.null_count
        or not pa.types.is_primitive(data_type)
        or pa.types.is_boolean(data_type)
    ):
        return array.take(indices)
    # Arrow takes numbers with nulls ten times slower than numbers and their validity apart.
    _, data = array.buffers()
    bare = pa.Array.from_buffers(data_type, len(array), [None, data], offset=array.offset)
    _, valid = array.is_valid().take(indices).buffers()
    return pa.Array.from_buffers(data_type, len(indices), [valid, bare.take(indices).buffers()[1]])


def string_column(column: pa.ChunkedArray) -> StringColumn:
    """Read strings, dictionary-encoded in the order of first appearance.

    Examples
    --------
    >>> string_column(pa.chunked_array([["Q", None], ["P", "Q"]]))
    StringColumn(codes=array([ 0, -1,  1,  0], dtype=int32), values=('Q', 'P'))
    """
    array = combine_chunks(column)
    if not pa.types.is_dictionary(array.type) or array.dictionary.null_count:
        array = array.cast(pa.large_string()).dictionary_encode()
    used = array.indices.dictionary_encode()
    codes = used.indices.fill_null(-1).to_numpy().astype(np.int32, copy=False)
    values = array.dictionary.cast(pa.large_string()).take(used.dictionary)
    return StringColumn(codes, tuple(values.to_pylist()))


def strings_column(column: pa.ChunkedArray) -> StringListColumn:
    """Read lists of strings; a single string becomes a list of one, an empty one an empty list.

    Examples
    --------
    >>> strings_column(pa.chunked_array([["2000", "", None]])).offsets
    array([0, 1, 1, 1])
    """
    data_type = column.type
    if pa.types.is_null(data_type):
        return StringListColumn(np.zeros(len(column) + 1, np.int64), np.zeros(0, np.int32), ())
    if not _is_list(data_type):
        single = string_column(column)
        empty = single.values.index("") if "" in single.values else -1
        is_present = (single.codes >= 0) & (single.codes != empty)
        codes = single.codes[is_present]
        return StringListColumn(_offsets(is_present), *_without_empty(codes, single.values))
    array = combine_chunks(column)
    lengths = pc.list_value_length(array).fill_null(0).to_numpy().astype(np.int64)
    items = string_column(pa.chunked_array([array.flatten()]))
    # A null element is no string: it shortens the list.
    is_present = items.codes >= 0
    return StringListColumn(
        _offsets(is_present)[_offsets(lengths)], items.codes[is_present], items.values
    )


def map_column(column: pa.ChunkedArray) -> MapColumn:
    """Read pairs of strings: an Arrow map, a list of pairs, or a struct of strings.

    Examples
    --------
    >>> map_column(pa.chunked_array([[{"source": "backfill"}, {}]]))
    MapColumn(offsets=array([0, 1, 1]), keys=array([0], dtype=int32),
    items=array([1], dtype=int32), values=('source', 'backfill'))
    """
    array = combine_chunks(column)
    if pa.types.is_null(array.type):
        no_codes = np.zeros(0, np.int32)
        return MapColumn(np.zeros(len(array) + 1, np.int64), no_codes, no_codes, ())
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
    keys, items = (strings.cast(pa.large_string()) for strings in array.flatten().flatten())
    return _map(_offsets(lengths), keys, items)


def _map_of_struct(array: pa.StructArray) -> MapColumn:
    fields = [child.cast(pa.large_string()) for child in array.flatten()]
    names = pa.array(array.type.names, pa.large_string())
    is_present = np.stack(
        [child.is_valid().to_numpy(zero_copy_only=False) for child in fields], axis=1
    )
    rows, children = np.nonzero(is_present)
    # Arrow stores child after child; a map has the pairs of a row together.
    items = pa.concat_arrays(fields).take(pa.array(children * len(array) + rows))
    return _map(_offsets(is_present.sum(axis=1)), names.take(pa.array(children)), items)


def _map(offsets: npt.NDArray[np.int64], keys: pa.Array, items: pa.Array) -> MapColumn:
    strings = string_column(pa.chunked_array([keys.fill_null(""), items.fill_null("")]))
    return MapColumn(
        offsets, strings.codes[: len(keys)], strings.codes[len(keys) :], strings.values
    )


def _is_list(data_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(data_type)
        or pa.types.is_large_list(data_type)
        or pa.types.is_fixed_size_list(data_type)
        or pa.types.is_list_view(data_type)
        or pa.types.is_large_list_view(data_type)
    )


def _offsets(lengths: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _without_empty(
    codes: npt.NDArray[np.int32], values: tuple[str, ...]
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Drop the empty string from the values, and renumber the codes."""
    if "" not in values:
        return codes, values
    empty = values.index("")
    return codes - (codes > empty).astype(np.int32), tuple(v for v in values if v)


def distinct_lists(column: StringListColumn) -> tuple[npt.NDArray[np.int64], list[tuple[str, ...]]]:
    """Number the distinct lists of a column.

    Returns
    -------
    numbers : numpy.ndarray
        int64, one a row.
    lists : list of tuple of str
        The list of each number; number 0 is the empty list. Some may occur in no row.

    Examples
    --------
    >>> import numpy as np
    >>> from ibticks.schema import StringListColumn
    >>> column = StringListColumn(
    ...     np.array([0, 1, 1, 2, 4]), np.array([0, 0, 0, 1], np.int32), ("a", "b")
    ... )
    >>> distinct_lists(column)
    (array([1, 0, 1, 2]), [(), ('a',), ('a', 'b')])
    """
    import pandas as pd  # here, since Arrow and polars do without it

    starts, lengths = column.offsets[:-1], np.diff(column.offsets)
    numbers = np.zeros(len(lengths), dtype=np.int64)
    lists: list[tuple[str, ...]] = [()]
    rows = np.flatnonzero(lengths > 0)
    position = 0
    # A list is identified by the number of its beginning and by its last string.
    while len(rows):
        strings = column.codes[starts[rows] + position]
        codes, pairs = pd.factorize(numbers[rows] * len(column.values) + strings)
        numbers[rows] = len(lists) + codes
        beginnings = (divmod(pair, len(column.values)) for pair in pairs.tolist())
        lists += [(*lists[number], column.values[string]) for number, string in beginnings]
        position += 1
        rows = rows[lengths[rows] > position]
    return numbers, lists


def object_array(values: Iterable[Any]) -> npt.NDArray[np.object_]:
    """Return a one-dimensional array of Python objects, also of sequences.

    Examples
    --------
    >>> object_array([(), ("a", "b")]).shape
    (2,)
    """
    items = list(values)
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
