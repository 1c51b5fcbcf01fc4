"""Ticks as columns: plain numpy arrays, before any DataFrame library.

The decoder returns them and the encoder takes them; ``ibticks.frames`` converts them to and from
Arrow, polars, pandas and xarray.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibticks._types import Interval

__all__ = [
    "Column",
    "MapColumn",
    "StringColumn",
    "StringListColumn",
    "TickColumns",
    "Values",
    "split_streams",
]


@dataclass(frozen=True, slots=True)
class Values:
    """A column of numbers or flags, one per row.

    Attributes
    ----------
    values : numpy.ndarray
        Shape ``(rows,)``: int64 (``timestamp``, UTC nanoseconds), int64 (``exchange_time``, UTC
        seconds), uint32, uint64, float64 or bool.
    valid : numpy.ndarray or None
        Shape ``(rows,)``, bool: False where the message did not carry the field; None where all
        did. ``values`` is undefined at an absent row.
    """

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class StringColumn:
    """A column of strings, dictionary-encoded.

    Attributes
    ----------
    codes : numpy.ndarray
        Shape ``(rows,)``, int32: index into ``values``; -1 where absent.
    values : tuple of str
        The distinct strings, in order of first appearance.
    """

    codes: npt.NDArray[np.int32]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StringListColumn:
    """A column of lists: row ``i`` is ``codes[offsets[i]:offsets[i + 1]]`` into ``values``."""

    offsets: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int32]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MapColumn:
    """A column of maps: row ``i`` is ``keys`` and ``items`` at ``offsets[i]:offsets[i + 1]``.

    ``keys`` and ``items`` are codes into ``values``; the keys of a row are distinct.
    """

    offsets: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    values: tuple[str, ...]


Column: TypeAlias = Values | StringColumn | StringListColumn | MapColumn


@dataclass(frozen=True, slots=True)
class TickColumns:
    """Ticks as columns, all of the same number of rows.

    Attributes
    ----------
    rows : int
        Number of ticks.
    columns : dict of str to Column
        Requested columns by name, in the order of :data:`ibticks.schema.COLUMNS`.
    missing : tuple of Interval
        Intervals that could not be read (damaged blocks).
    left_out : tuple of str
        Paths, relative to the root, of files that could not be read whole.
    """

    rows: int
    columns: dict[str, Column]
    missing: tuple[Interval, ...] = field(default=())
    left_out: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return self.rows

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """Return the values of a numeric column."""
        column = self.columns[name]
        if not isinstance(column, Values):
            raise TypeError(f"{name} is not a numeric column")
        return column.values

    @property
    def timestamp(self) -> npt.NDArray[np.int64]:
        """Times in UTC nanoseconds, int64, shape ``(rows,)``."""
        return self.numbers("timestamp")

    def take(self, rows: npt.NDArray[np.intp] | slice) -> TickColumns:
        """Return some rows, in the order of ``rows``; a slice makes views where it can."""
        columns = {name: _take(column, rows) for name, column in self.columns.items()}
        size = len(range(*rows.indices(self.rows))) if isinstance(rows, slice) else len(rows)
        return TickColumns(size, columns, self.missing, self.left_out)


def _take(column: Column, rows: npt.NDArray[np.intp] | slice) -> Column:
    match column:
        case Values(values, valid):
            return Values(values[rows], None if valid is None else valid[rows])
        case StringColumn(codes, values):
            return StringColumn(codes[rows], values)
        case StringListColumn(offsets, codes, values):
            new, flat = _take_lists(offsets, rows)
            return StringListColumn(new, codes[flat], values)
        case MapColumn(offsets, keys, items, values):
            new, flat = _take_lists(offsets, rows)
            return MapColumn(new, keys[flat], items[flat], values)


def _take_lists(
    offsets: npt.NDArray[np.int64], rows: npt.NDArray[np.intp] | slice
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the new offsets, and the positions of the elements, of the lists at ``rows``."""
    starts = offsets[:-1][rows]
    lengths = offsets[1:][rows] - starts
    new = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=new[1:])
    flat = np.arange(new[-1], dtype=np.int64) + np.repeat(starts - new[:-1], lengths)
    return new, flat


def split_streams(columns: TickColumns) -> Iterator[tuple[int, str, TickColumns]]:
    """Split ticks into streams, keeping the order of the rows within each.

    Parameters
    ----------
    columns : TickColumns
        Ticks with the columns ``contract_id`` and ``tick_type``.

    Yields
    ------
    contract_id : int
    tick_type : str
    columns : TickColumns
    """
    tick_types = columns.columns["tick_type"]
    if not isinstance(tick_types, StringColumn):
        raise TypeError("tick_type is not a string column")
    contracts, codes = columns.numbers("contract_id"), tick_types.codes
    if columns.rows and contracts.min() == contracts.max() and codes.min() == codes.max():
        # One stream, the usual case: neither sorted nor copied.
        yield int(contracts[0]), tick_types.values[codes[0]], columns
        return
    contracts = contracts.astype(np.int64)
    streams = contracts * (len(tick_types.values) + 1) + tick_types.codes
    order = np.argsort(streams, kind="stable")
    borders = np.flatnonzero(np.diff(streams[order])) + 1
    for rows in np.split(order, borders) if len(order) else []:
        first = int(rows[0])
        tick_type = tick_types.values[tick_types.codes[first]]
        yield int(contracts[first]), tick_type, columns.take(rows)
