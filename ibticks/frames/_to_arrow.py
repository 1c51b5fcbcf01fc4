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

__all__ = ["map_array", "sort_blocks", "to_table"]

_LAST_SECOND: Final = np.iinfo(np.int64).max // NANOSECONDS
_DTYPES: Final = {
    FieldType.TIME: np.int64,
    FieldType.UINT32: np.uint32,
    FieldType.UINT64: np.uint64,
    FieldType.FLOAT: np.float64,
}


def to_table(
    parts: Sequence[TickColumns],
    columns: Sequence[str],
    *,
    metadata: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Make one table of several stretches of ticks, sorted by time.

    Parts that follow each other become chunks of the table around their own memory, so the arrays
    must not be written to afterwards. Parts that overlap in time (several tick types or contracts)
    are merged, stable in the order of the parts.

    Parameters
    ----------
    parts : sequence of TickColumns
        They need ``timestamp`` to be sorted, also if it is not asked for; without it, the rows come
        as the parts are given.
    columns : sequence of str
        The columns of the table, whatever the parts carry: what a part lacks is null there
        (``conditions`` and ``metadata``: empty).
    metadata : mapping, optional
        Goes as JSON into the schema metadata under ``b"ibticks"``, with the time ranges that the
        parts miss under ``"missing"``, and their files under ``"left_out"``; read it with
        :func:`ibticks.frames.metadata_of`.

    Returns
    -------
    pyarrow.Table
        With the schema :func:`ibticks.frames.arrow_schema`, also when there is no tick. Times are
        ``timestamp[ns, UTC]``; an ``exchange_time`` outside 1677 to 2262 is null.

    Raises
    ------
    UnknownColumnError
        Naming the columns that exist.
    InputError
        If ``timestamp``, ``contract_id`` or ``tick_type`` is asked for and a part lacks it.

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
            [gap for part in parts for gap in part.missing],
            [path for part in parts for path in part.left_out],
        )
    )
    filled = [part for part in parts if part.rows]
    if not filled:
        return schema.empty_table()
    if all("timestamp" in part.columns for part in filled):
        arranged = sort_blocks([part.timestamp for part in filled])
    else:
        arranged = [SortedGroup(list(range(len(filled))), None)]
    arrays = [_chunked_column(name, filled, arranged) for name in check_columns(schema.names)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _chunked_column(
    name: str, parts: Sequence[TickColumns], arranged: Sequence[SortedGroup]
) -> pa.ChunkedArray:
    field = COLUMNS[name]
    columns = [part.columns.get(name) for part in parts]
    categories = None
    if field.type is FieldType.STRING:
        categories = Categories(c for c in columns if isinstance(c, StringColumn))
    chunks: list[pa.Array] = []
    for run in arranged:
        arrays = [array_of(field, columns[i], parts[i].rows, categories) for i in run.parts]
        if run.rows is not None:
            arrays = [take_rows(arrays, run.rows)]
        chunks += arrays
    return pa.chunked_array(chunks)


class Categories:
    """The strings of a column over all its parts, so that every chunk has one dictionary.

    Parameters
    ----------
    columns : iterable of StringColumn
        The column as it stands in each part that has it.
    """

    def __init__(self, columns: Iterable[StringColumn]) -> None:
        self._places: dict[str, int] = {}
        for column in columns:
            for value in column.values:
                self._places.setdefault(value, len(self._places))
        self._values: Final = texts(list(self._places), pa.string())

    def array(self, column: StringColumn) -> pa.DictionaryArray:
        """The column of one part, coded by the common strings."""
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
    """The Arrow array of a column; of nulls, or of empty lists, where the part has none.

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
    kind = arrow_type(field.name)
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
    return pa.nulls(rows, kind)


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


def _strings(values: tuple[str, ...], codes: npt.NDArray[np.int32], kind: pa.DataType) -> pa.Array:
    return texts(values, kind).take(numbers(codes))


@dataclass(frozen=True, slots=True)
class SortedGroup:
    """Parts that come next, and how their rows are to be rearranged.

    Attributes
    ----------
    parts : list of int
        Which parts, in the order given.
    rows : numpy.ndarray or None
        int64 positions in the parts laid end to end; None where they are in order as they are.
    """

    parts: list[int]
    rows: npt.NDArray[np.intp] | None


@dataclass(frozen=True, slots=True)
class _TimeBounds:
    part: int
    first: int
    last: int
    ordered: bool


def sort_blocks(times: Sequence[npt.NDArray[np.int64]]) -> list[SortedGroup]:
    """Arrange parts so that, run after run, their rows are sorted by time, stable as given.

    Parts are only touched where they overlap in time: hours of one stream come out as they are, the
    same hour of two streams is merged by itself.

    Parameters
    ----------
    times : sequence of numpy.ndarray
        int64 nanoseconds, one array a part, none of them empty.

    Examples
    --------
    >>> import numpy as np
    >>> sort_blocks([np.array([5, 6]), np.array([1, 3]), np.array([2])])
    [SortedGroup(parts=[1, 2], rows=array([0, 2, 1])), SortedGroup(parts=[0], rows=None)]
    """
    groups: list[list[_TimeBounds]] = []
    reach = 0
    for span in sorted(
        (_time_bounds(i, part) for i, part in enumerate(times)), key=lambda s: s.first
    ):
        # Parts that touch at one instant belong together: which comes first is up to their order.
        if groups and span.first <= reach:
            groups[-1].append(span)
            reach = max(reach, span.last)
        else:
            groups.append([span])
            reach = span.last
    return [_sorted_group(group, times) for group in groups]


def _time_bounds(part: int, times: npt.NDArray[np.int64]) -> _TimeBounds:
    if bool(np.all(times[1:] >= times[:-1])):
        return _TimeBounds(part, int(times[0]), int(times[-1]), ordered=True)
    return _TimeBounds(part, int(times.min()), int(times.max()), ordered=False)


def _sorted_group(group: list[_TimeBounds], times: Sequence[npt.NDArray[np.int64]]) -> SortedGroup:
    spans = sorted(group, key=lambda s: s.part)
    parts = [s.part for s in spans]
    follows = all(a.last <= b.first for a, b in pairwise(spans))
    if follows and all(s.ordered for s in spans):
        return SortedGroup(parts, None)
    return SortedGroup(parts, np.argsort(np.concatenate([times[i] for i in parts]), kind="stable"))
