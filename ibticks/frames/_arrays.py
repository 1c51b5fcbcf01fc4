"""Arrow arrays out of numpy and Python, around :func:`pyarrow.array`.

That one imports pandas, to see whether it was given some: a third of a second and 60 MB for whoever
wants Arrow or polars only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["numbers", "texts"]


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
