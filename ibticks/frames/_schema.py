"""The Arrow type of every column.

Chosen so that the decoder's arrays become Arrow, and Arrow becomes polars or pandas, without a
copy of the numbers: dictionary codes are the decoder's int32, lists have its int64 offsets. List
items are ``large_string`` (what polars hands back), so that no list column can outgrow 2 GB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from ibticks.format import COLUMNS, Kind, check_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CATEGORY", "TIMESTAMP", "arrow_schema", "arrow_type"]

TIMESTAMP: Final = pa.timestamp("ns", "UTC")
"""Nanoseconds since 1970-01-01T00:00Z: 1677-09-21 to 2262-04-11."""

CATEGORY: Final = pa.dictionary(pa.int32(), pa.string())
"""Strings that repeat."""

_TYPES: Final = {
    Kind.TIME: TIMESTAMP,
    Kind.SECONDS: TIMESTAMP,
    Kind.UINT32: pa.uint32(),
    Kind.UINT64: pa.uint64(),
    Kind.FLOAT: pa.float64(),
    Kind.BOOL: pa.bool_(),
    Kind.STRING: CATEGORY,
    Kind.STRINGS: pa.large_list(pa.large_string()),
    Kind.MAP: pa.map_(pa.string(), pa.string()),
}


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a column.

    Examples
    --------
    >>> str(arrow_type("exchange"))
    'dictionary<values=string, indices=int32, ordered=0>'
    """
    return _TYPES[COLUMNS[name].kind]


def arrow_schema(columns: Sequence[str]) -> pa.Schema:
    """The Arrow schema of a frame with these columns, in their standard order.

    Raises
    ------
    UnknownColumnError
        Naming the columns that exist.

    Examples
    --------
    >>> arrow_schema(["price", "timestamp"])
    timestamp: timestamp[ns, tz=UTC]
    price: double
    """
    return pa.schema([(name, arrow_type(name)) for name in check_columns(list(columns))])
