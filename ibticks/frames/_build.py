"""One numpy column becomes one Arrow array, around the same memory wherever Arrow allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ibticks.config import NANOSECONDS
from ibticks.errors import InputError
from ibticks.format import Column, Field, Kind, MapColumn, StringColumn, StringsColumn, Values
from ibticks.frames._arrays import numbers, texts
from ibticks.frames._schema import arrow_type

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Categories", "array_of"]

_LAST_SECOND: Final = np.iinfo(np.int64).max // NANOSECONDS
_DTYPES: Final = {
    Kind.TIME: np.int64,
    Kind.UINT32: np.uint32,
    Kind.UINT64: np.uint64,
    Kind.FLOAT: np.float64,
}


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
        case StringsColumn(offsets, codes, strings):
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
    if field.kind is Kind.STRINGS:
        nowhere = numbers(np.zeros(rows + 1, dtype=np.int64))
        return pa.LargeListArray.from_arrays(nowhere, texts([], pa.large_string()))
    if field.kind is Kind.MAP:
        nowhere = numbers(np.zeros(rows + 1, dtype=np.int32))
        nothing = texts([], pa.string())
        return pa.MapArray.from_arrays(nowhere, nothing, nothing)
    return pa.nulls(rows, kind)


def _values(
    field: Field, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None
) -> pa.Array:
    if field.kind is Kind.SECONDS:
        seconds = values.astype(np.int64, copy=False)
        if len(seconds) and (seconds.max() > _LAST_SECOND or seconds.min() < -_LAST_SECOND):
            inside = (seconds <= _LAST_SECOND) & (seconds >= -_LAST_SECOND)
            valid = inside if valid is None else inside & valid
        # Arrow's memory is used again; fresh memory would cost ten times what the product does.
        data = pa.allocate_buffer(seconds.nbytes)
        np.multiply(seconds, NANOSECONDS, out=np.frombuffer(data, dtype=np.int64))
    elif field.kind is Kind.BOOL:
        data = pa.py_buffer(np.packbits(values.astype(np.bool_, copy=False), bitorder="little"))
    else:
        data = pa.py_buffer(np.ascontiguousarray(values, dtype=_DTYPES[field.kind]))
    return pa.Array.from_buffers(arrow_type(field.name), len(values), [_bitmap(valid), data])


def _bitmap(valid: npt.NDArray[np.bool_] | None) -> pa.Buffer | None:
    """Arrow's validity bitmap, least significant bit first; None where nothing is absent."""
    if valid is None or bool(valid.all()):
        return None
    return pa.py_buffer(np.packbits(valid, bitorder="little"))


def _strings(values: tuple[str, ...], codes: npt.NDArray[np.int32], kind: pa.DataType) -> pa.Array:
    return texts(values, kind).take(numbers(codes))
