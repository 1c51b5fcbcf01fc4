"""Columns of string lists: few distinct lists stand in many rows, so each is made only once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ibticks.format import StringsColumn

__all__ = ["distinct_lists", "objects"]


def distinct_lists(column: StringsColumn) -> tuple[npt.NDArray[np.int64], list[tuple[str, ...]]]:
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
    >>> from ibticks.format import StringsColumn
    >>> column = StringsColumn(
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


def objects(values: Iterable[Any]) -> npt.NDArray[np.object_]:
    """A one-dimensional array of Python objects, also where they are sequences themselves.

    Examples
    --------
    >>> objects([(), ("a", "b")]).shape
    (2,)
    """
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array
