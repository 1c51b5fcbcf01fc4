"""Convert tick columns to an Arrow table, around the same memory wherever Arrow allows it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ibticks.config import NANOSECONDS
from ibticks.errors import InputError
from ibticks.frames._arrays import map_column, numbers, take_rows, texts
from ibticks.frames._schema import arrow_schema, arrow_type, attach_metadata
from ibticks.schema import (
    COLUMNS,
    Column,
    Field,
    FieldType,
    MapColumn,
    StringColumn,
    StringListColumn,
    TickColumns,
    Values,
    check_columns,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["group_by_time", "map_array", "to_table"]

_LAST_SECOND: Final = np.iinfo(np.int64).max // NANOSECONDS
_DTYPES: Final = {
    FieldType.TIME: np.int64,
    FieldType.UINT32: np.uint32,
    FieldType.UINT64: np.uint64,
    FieldType.FLOAT: np.float64,
}


def to_table(
    column_chunks: Sequence[TickColumns],
    columns: Sequence[str],
    *,
    metadata: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Make one Arrow table of column chunks, sorted by time.

    Column chunks that follow each other become chunks of the table around the same memory, so the
    arrays must not be written to afterwards. Column chunks that overlap in time (several tick types
    or contracts) are merged, stable in their order.

    Parameters
    ----------
    column_chunks : sequence of TickColumns
        They need ``timestamp`` to be sorted, also if it is not asked for; without it, the rows keep
        the order of the sequence.
    columns : sequence of str
        Columns of the table. A column that a chunk lacks is null there (``conditions`` and
        ``metadata``: empty).
    metadata : mapping, optional
        Goes as JSON into the schema metadata under ``b"ibticks"``, with the intervals that are
        missing under ``"missing"``, and their files under ``"left_out"``; read it with
        :func:`ibticks.frames.metadata_of`.

    Returns
    -------
    pyarrow.Table
        With these columns and their types (:func:`ibticks.frames.arrow_type`), also when there is
        no tick. Times are ``timestamp[ns, UTC]``; an ``exchange_time`` outside 1677 to 2262 is
        null.

    Raises
    ------
    UnknownColumnError
        Naming the columns that exist.
    InputError
        If ``timestamp``, ``contract_id`` or ``tick_type`` is asked for and a chunk lacks it.

    Examples
    --------
    >>> import numpy as np
    >>> from ibticks.schema import TickColumns, Values
    >>> late = TickColumns(1, {"timestamp": Values(np.array([20]))})
    >>> early = TickColumns(1, {"timestamp": Values(np.array([10]))})
    >>> to_table([late, early], ["timestamp", "price"]).to_pydict()["price"]
    [None, None]
    """
    schema = arrow_schema(columns).with_metadata(
        attach_metadata(
            metadata,
            [gap for chunk in column_chunks for gap in chunk.missing],
            [path for chunk in column_chunks for path in chunk.left_out],
        )
    )
    nonempty = [chunk for chunk in column_chunks if chunk.rows]
    if not nonempty:
        return schema.empty_table()
    if all("timestamp" in chunk.columns for chunk in nonempty):
        groups = group_by_time([chunk.timestamp for chunk in nonempty])
    else:
        groups = [SortedGroup(list(range(len(nonempty))), None)]
    arrays = [_chunked_column(name, nonempty, groups) for name in check_columns(schema.names)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _chunked_column(
    name: str, column_chunks: Sequence[TickColumns], groups: Sequence[SortedGroup]
) -> pa.ChunkedArray:
    field = COLUMNS[name]
    columns = [chunk.columns.get(name) for chunk in column_chunks]
    categories = None
    if field.type is FieldType.STRING:
        categories = Categories(c for c in columns if isinstance(c, StringColumn))
    arrow_chunks: list[pa.Array] = []
    for group in groups:
        arrays = [
            array_of(field, columns[i], column_chunks[i].rows, categories) for i in group.chunks
        ]
        if group.rows is not None:
            arrays = [take_rows(arrays, group.rows)]
        arrow_chunks += arrays
    return pa.chunked_array(arrow_chunks)


class Categories:
    """Strings of a column over all column chunks, so that Arrow's chunks share one dictionary.

    Parameters
    ----------
    columns : iterable of StringColumn
        The column in each chunk that has it.
    """

    def __init__(self, columns: Iterable[StringColumn]) -> None:
        self._places: dict[str, int] = {}
        for column in columns:
            for value in column.values:
                self._places.setdefault(value, len(self._places))
        self._values: Final = texts(list(self._places), pa.string())

    def array(self, column: StringColumn) -> pa.DictionaryArray:
        """Return the column of one chunk, coded by the common strings."""
        codes = np.ascontiguousarray(column.codes, dtype=np.int32)
        places = np.array([self._places[value] for value in column.values], dtype=np.int32)
        absent = _bitmap(codes >= 0) if len(codes) and codes.min() < 0 else None
        if not np.array_equal(places, np.arange(len(places))):
            # Absent rows are -1 and pick the last place; the bitmap hides what they pick.
            codes = places[codes]
        indices = pa.Array.from_buffers(pa.int32(), len(codes), [absent, pa.py_buffer(codes)])
        return pa.DictionaryArray.from_arrays(indices, self._values, safe=False)


def array_of(
    field: Field, column: Column | None, rows: int, categories: Categories | None
) -> pa.Array:
    """Return the Arrow array of a column; nulls, or empty lists, where the chunk lacks it.

    Parameters
    ----------
    field : Field
        Which column it is.
    column : Column or None
        None if the part does not carry it.
    rows : int
    categories : Categories or None
        For a column of strings.

    Raises
    ------
    InputError
        If a column that every tick has is missing.
    """
    data_type = arrow_type(field.name)
    match column:
        case Values(values, valid):
            return _values(field, values, valid)
        case StringColumn() if categories is not None:
            return categories.array(column)
        case StringListColumn(offsets, codes, strings):
            items = _strings(strings, codes, pa.large_string())
            return pa.LargeListArray.from_arrays(numbers(offsets), items)
        case MapColumn(offsets, keys, items, strings):
            return pa.MapArray.from_arrays(
                numbers(offsets.astype(np.int32)),
                _strings(strings, keys, pa.string()),
                _strings(strings, items, pa.string()),
            )
    if field.name in ("timestamp", "contract_id", "tick_type"):
        raise InputError(f"ticks without {field.name}: every tick has one", column=field.name)
    if categories is not None:
        return categories.array(StringColumn(np.full(rows, -1, dtype=np.int32), ()))
    if field.type is FieldType.STRINGS:
        nowhere = numbers(np.zeros(rows + 1, dtype=np.int64))
        return pa.LargeListArray.from_arrays(nowhere, texts([], pa.large_string()))
    if field.type is FieldType.MAP:
        nowhere = numbers(np.zeros(rows + 1, dtype=np.int32))
        nothing = texts([], pa.string())
        return pa.MapArray.from_arrays(nowhere, nothing, nothing)
    return pa.nulls(rows, data_type)


def map_array(column: pa.ChunkedArray) -> pa.Array:
    """Convert pairs of strings, as :func:`map_column` reads them, to an Arrow map.

    Examples
    --------
    >>> map_array(pa.chunked_array([[{"source": "backfill"}]])).to_pylist()
    [[('source', 'backfill')]]
    """
    return array_of(COLUMNS["metadata"], map_column(column), len(column), None)


def _values(
    field: Field, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None
) -> pa.Array:
    if field.type is FieldType.SECONDS:
        seconds = values.astype(np.int64, copy=False)
        if len(seconds) and (seconds.max() > _LAST_SECOND or seconds.min() < -_LAST_SECOND):
            inside = (seconds <= _LAST_SECOND) & (seconds >= -_LAST_SECOND)
            valid = inside if valid is None else inside & valid
        # Arrow's memory is used again; fresh memory would cost ten times what the product does.
        data = pa.allocate_buffer(seconds.nbytes)
        np.multiply(seconds, NANOSECONDS, out=np.frombuffer(data, dtype=np.int64))
    elif field.type is FieldType.BOOL:
        data = pa.py_buffer(np.packbits(values.astype(np.bool_, copy=False), bitorder="little"))
    else:
        data = pa.py_buffer(np.ascontiguousarray(values, dtype=_DTYPES[field.type]))
    return pa.Array.from_buffers(arrow_type(field.name), len(values), [_bitmap(valid), data])


def _bitmap(valid: npt.NDArray[np.bool_] | None) -> pa.Buffer | None:
    """Arrow's validity bitmap, least significant bit first; None where nothing is absent."""
    if valid is None or bool(valid.all()):
        return None
    return pa.py_buffer(np.packbits(valid, bitorder="little"))


def _strings(
    values: tuple[str, ...], codes: npt.NDArray[np.int32], data_type: pa.DataType
) -> pa.Array:
    return texts(values, data_type).take(numbers(codes))


@dataclass(frozen=True, slots=True)
class SortedGroup:
    """Column chunks that overlap in time, and the order of their rows.

    Attributes
    ----------
    chunks : list of int
        Numbers of the chunks, ascending.
    rows : numpy.ndarray or None
        int64 positions in the concatenated chunks; None where these are sorted by time.
    """

    chunks: list[int]
    rows: npt.NDArray[np.intp] | None


@dataclass(frozen=True, slots=True)
class _TimeBounds:
    chunk: int
    first: int
    last: int
    ordered: bool


def group_by_time(times: Sequence[npt.NDArray[np.int64]]) -> list[SortedGroup]:
    """Group chunks so that, group after group, their rows are sorted by time, stable.

    Only chunks that overlap in time are merged: hours of one stream are not touched, the same hour
    of two streams is merged by itself.

    Parameters
    ----------
    times : sequence of numpy.ndarray
        int64 nanoseconds, one array a chunk, none of them empty.

    Examples
    --------
    >>> import numpy as np
    >>> group_by_time([np.array([5, 6]), np.array([1, 3]), np.array([2])])
    [SortedGroup(chunks=[1, 2], rows=array([0, 2, 1])), SortedGroup(chunks=[0], rows=None)]
    """
    groups: list[list[_TimeBounds]] = []
    last_time = 0
    for bounds in sorted(
        (_time_bounds(i, chunk_times) for i, chunk_times in enumerate(times)),
        key=lambda bounds: bounds.first,
    ):
        # Chunks that touch at one instant belong together: their order decides which comes first.
        if groups and bounds.first <= last_time:
            groups[-1].append(bounds)
            last_time = max(last_time, bounds.last)
        else:
            groups.append([bounds])
            last_time = bounds.last
    return [_sorted_group(group, times) for group in groups]


def _time_bounds(chunk: int, times: npt.NDArray[np.int64]) -> _TimeBounds:
    if bool(np.all(times[1:] >= times[:-1])):
        return _TimeBounds(chunk, int(times[0]), int(times[-1]), ordered=True)
    return _TimeBounds(chunk, int(times.min()), int(times.max()), ordered=False)


def _sorted_group(group: list[_TimeBounds], times: Sequence[npt.NDArray[np.int64]]) -> SortedGroup:
    bounds = sorted(group, key=lambda chunk_bounds: chunk_bounds.chunk)
    chunks = [chunk_bounds.chunk for chunk_bounds in bounds]
    is_ascending = all(a.last <= b.first for a, b in pairwise(bounds))
    if is_ascending and all(chunk_bounds.ordered for chunk_bounds in bounds):
        return SortedGroup(chunks, None)
    return SortedGroup(
        chunks, np.argsort(np.concatenate([times[i] for i in chunks]), kind="stable")
    )
