"""Ticks as columns: plain numpy arrays, before any DataFrame library.

What the decoder returns, what the encoder takes, and what the rooms above pass around. Arrow,
polars, pandas and xarray are made from it in ``ibticks.frames``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Column", "MapColumn", "StringColumn", "StringsColumn", "TickColumns", "Values"]


@dataclass(frozen=True, slots=True)
class Values:
    """Numbers, one a row.

    Attributes
    ----------
    values : numpy.ndarray
        Shape ``(rows,)``: int64 (``timestamp``, UTC nanoseconds), int64 (``exchange_time``, UTC
        seconds), uint32, uint64, float64 or bool.
    valid : numpy.ndarray or None
        Shape ``(rows,)``, bool: False where the message did not carry the field; None where all
        did. What ``values`` holds at an absent row means nothing.
    """

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class StringColumn:
    """Strings, dictionary-encoded.

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
class StringsColumn:
    """Lists of strings: row ``i`` is ``codes[offsets[i]:offsets[i + 1]]`` into ``values``."""

    offsets: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int32]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MapColumn:
    """String pairs: row ``i`` has ``keys`` and ``items`` from ``offsets[i]`` to ``offsets[i + 1]``.

    ``keys`` and ``items`` are codes into ``values``; a key stands once in a row.
    """

    offsets: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    values: tuple[str, ...]


Column: TypeAlias = Values | StringColumn | StringsColumn | MapColumn


@dataclass(frozen=True, slots=True)
class TickColumns:
    """A stretch of ticks as columns, all of the same number of rows.

    Attributes
    ----------
    rows : int
        Number of ticks.
    columns : dict of str to Column
        By name, in the order of :data:`ibticks.format.FIELDS`; only those asked for.
    missing : tuple of (int, int)
        Half-open ranges of UTC nanoseconds that could not be read (damaged blocks left out).
    left_out : tuple of str
        Files of which something, or all, was left out, relative to the root.
    """

    rows: int
    columns: dict[str, Column]
    missing: tuple[tuple[int, int], ...] = field(default=())
    left_out: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return self.rows

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """The values of a numeric column."""
        column = self.columns[name]
        if not isinstance(column, Values):
            raise TypeError(f"{name} is not a numeric column")
        return column.values

    @property
    def timestamp(self) -> npt.NDArray[np.int64]:
        """UTC nanoseconds, int64, shape ``(rows,)``."""
        return self.numbers("timestamp")

    def take(self, rows: npt.NDArray[np.intp] | slice) -> TickColumns:
        """The given rows, in the given order (a slice makes views where it can)."""
        taken = {name: _take(column, rows) for name, column in self.columns.items()}
        size = len(range(*rows.indices(self.rows))) if isinstance(rows, slice) else len(rows)
        return TickColumns(size, taken, self.missing, self.left_out)


def _take(column: Column, rows: npt.NDArray[np.intp] | slice) -> Column:
    match column:
        case Values(values, valid):
            return Values(values[rows], None if valid is None else valid[rows])
        case StringColumn(codes, values):
            return StringColumn(codes[rows], values)
        case StringsColumn(offsets, codes, values):
            new, flat = _take_lists(offsets, rows)
            return StringsColumn(new, codes[flat], values)
        case MapColumn(offsets, keys, items, values):
            new, flat = _take_lists(offsets, rows)
            return MapColumn(new, keys[flat], items[flat], values)


def _take_lists(
    offsets: npt.NDArray[np.int64], rows: npt.NDArray[np.intp] | slice
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """New offsets, and the positions of the elements, of the lists at ``rows``."""
    starts = offsets[:-1][rows]
    lengths = offsets[1:][rows] - starts
    new = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=new[1:])
    flat = np.arange(new[-1], dtype=np.int64) + np.repeat(starts - new[:-1], lengths)
    return new, flat
