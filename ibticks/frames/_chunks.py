"""Arrow columns in one piece and in another order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ibticks.frames._arrays import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["joined", "rearranged"]


def joined(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece; not copied if it is one already.

    Examples
    --------
    >>> joined(pa.chunked_array([[1], [2, 3]])).to_pylist()
    [1, 2, 3]
    """
    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks()


def rearranged(arrays: Sequence[pa.Array], rows: npt.NDArray[Any]) -> pa.Array:
    """The rows at these positions of the arrays laid end to end.

    Examples
    --------
    >>> import numpy as np
    >>> rearranged([pa.array([1.5, None]), pa.array([2.5])], np.array([2, 1])).to_pylist()
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
