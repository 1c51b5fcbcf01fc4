"""Arrow arrays to and from the numpy columns of decoded ticks.

:func:`pyarrow.array` is avoided where ticks are read: its first call imports pandas, which costs a
third of a second and 60 MB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.errors import InputError
from ibticks.schema import MapColumn, StringColumn, StringListColumn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt


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
    """Numbers, none of them absent, around the same memory.

    Examples
    --------
    >>> numbers(np.array([1, 2], dtype=np.int32)).to_pylist()
    [1, 2]
    """
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, data])


def texts(values: Sequence[str], kind: pa.DataType) -> pa.Array:
    """Strings, none of them absent.

    Parameters
    ----------
    values : sequence of str
    kind : pyarrow.DataType
        ``string`` or ``large_string``.

    Examples
    --------
    >>> texts(["Ω", ""], pa.string()).to_pylist()
    ['Ω', '']
    """
    raw = [value.encode() for value in values]
    offsets = np.zeros(len(raw) + 1, dtype=np.int32 if pa.types.is_string(kind) else np.int64)
    np.cumsum([len(each) for each in raw], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(raw))]
    return pa.Array.from_buffers(kind, len(raw), buffers)


def combine_chunks(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece; not copied if it is one already.

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
    """The rows at these positions of the arrays laid end to end.

    Examples
    --------
    >>> import numpy as np
    >>> take_rows([pa.array([1.5, None]), pa.array([2.5])], np.array([2, 1])).to_pylist()
    [2.5, None]
    """
    array, places = pa.concat_arrays(arrays), numbers(rows)
    kind = array.type
    if not array.null_count or not pa.types.is_primitive(kind) or pa.types.is_boolean(kind):
        return array.take(places)
    # Arrow takes numbers with nulls ten times slower than numbers and their validity apart.
    _, data = array.buffers()
    bare = pa.Array.from_buffers(kind, len(array), [None, data], offset=array.offset)
    _, valid = array.is_valid().take(places).buffers()
    return pa.Array.from_buffers(kind, len(places), [valid, bare.take(places).buffers()[1]])


def string_column(column: pa.ChunkedArray) -> StringColumn:
    """Read strings; only those that occur are kept, in the order in which they do.

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
    """Read lists of strings; a single string is a list of itself, an empty one none at all.

    Examples
    --------
    >>> strings_column(pa.chunked_array([["2000", "", None]])).offsets
    array([0, 1, 1, 1])
    """
    kind = column.type
    if pa.types.is_null(kind):
        return StringListColumn(np.zeros(len(column) + 1, np.int64), np.zeros(0, np.int32), ())
    if not _is_list(kind):
        single = string_column(column)
        empty = single.values.index("") if "" in single.values else -1
        there = (single.codes >= 0) & (single.codes != empty)
        codes = single.codes[there]
        return StringListColumn(_offsets(there), *_compact(codes, single.values))
    array = combine_chunks(column)
    lengths = pc.list_value_length(array).fill_null(0).to_numpy().astype(np.int64)
    items = string_column(pa.chunked_array([array.flatten()]))
    # An element that is null is no string: the list is shorter by it.
    there = items.codes >= 0
    return StringListColumn(_offsets(there)[_offsets(lengths)], items.codes[there], items.values)


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


def distinct_lists(column: StringListColumn) -> tuple[npt.NDArray[np.int64], list[tuple[str, ...]]]:
    """Number the distinct lists of a column.

    Returns
    -------
    numbers : numpy.ndarray
        int64, one a row.
    lists : list of tuple of str
        The list of each number; number 0 is the empty one, and some may stand in no row.

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
    starts, lengths = column.offsets[:-1], np.diff(column.offsets)
    numbers = np.zeros(len(lengths), dtype=np.int64)
    lists: list[tuple[str, ...]] = [()]
    rows = np.flatnonzero(lengths > 0)
    position = 0
    # A list is known by the number of all but its last string, and that string.
    while len(rows):
        strings = column.codes[starts[rows] + position]
        found, pairs = pd.factorize(numbers[rows] * len(column.values) + strings)
        numbers[rows] = len(lists) + found
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
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array
