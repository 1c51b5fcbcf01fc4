"""Schema of frames: Arrow types of the columns, metadata, and symbols of contracts.

The types are chosen so that the decoder's arrays become Arrow, and Arrow becomes polars or pandas,
without a copy of the numbers: dictionary codes are the decoder's int32, lists have its int64
offsets. List items are ``large_string`` (what polars returns), so that no list column can outgrow
2 GB.

The metadata names the selection of a frame and the time ranges that are missing from it. In Arrow
it is JSON under ``b"ibticks"`` of the schema, in pandas ``df.attrs["ibticks"]``, in xarray JSON in
``ds.attrs["ibticks"]``. A polars frame carries no metadata.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ibticks._types import Interval, merge_intervals
from ibticks.errors import InputError
from ibticks.schema import COLUMNS, FieldType, check_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "CATEGORY",
    "METADATA_KEY",
    "TIMESTAMP",
    "arrow_schema",
    "arrow_type",
    "attach_metadata",
    "metadata_of",
    "missing_of",
    "remember_symbols",
    "symbol_of",
]

TIMESTAMP: Final = pa.timestamp("ns", "UTC")
"""Nanoseconds since 1970-01-01T00:00Z: 1677-09-21 to 2262-04-11."""

CATEGORY: Final = pa.dictionary(pa.int32(), pa.string())
"""Strings that repeat."""

_TYPES: Final = {
    FieldType.TIME: TIMESTAMP,
    FieldType.SECONDS: TIMESTAMP,
    FieldType.UINT32: pa.uint32(),
    FieldType.UINT64: pa.uint64(),
    FieldType.FLOAT: pa.float64(),
    FieldType.BOOL: pa.bool_(),
    FieldType.STRING: CATEGORY,
    FieldType.STRINGS: pa.large_list(pa.large_string()),
    FieldType.MAP: pa.map_(pa.string(), pa.string()),
}

METADATA_KEY: Final = "ibticks"
"""Name of the metadata in schemas and attributes."""

_SYMBOLS: Final[dict[int, str]] = {}


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type of a column.

    Examples
    --------
    >>> str(arrow_type("exchange"))
    'dictionary<values=string, indices=int32, ordered=0>'
    """
    return _TYPES[COLUMNS[name].type]


def arrow_schema(columns: Sequence[str]) -> pa.Schema:
    """Return the Arrow schema of a frame with these columns, in their standard order.

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


def attach_metadata(
    metadata: Mapping[str, Any] | None,
    missing: Iterable[Interval],
    left_out: Iterable[str] = (),
) -> dict[bytes, bytes]:
    """Make Arrow schema metadata of a mapping and of the intervals that could not be read.

    Parameters
    ----------
    metadata : mapping, optional
        Values that JSON can hold; any other becomes its text. Its ``"missing"`` is added to the
        result.
    missing : iterable of Interval
        Half-open ranges of UTC nanoseconds; in the result they are RFC 3339 texts under
        ``"missing"``, sorted, those that touch joined.
    left_out : iterable of str
        The files that the ranges are missing from; under ``"left_out"``, where there are any.

    Examples
    --------
    >>> attach_metadata({"selection": "AAPL last"}, [Interval(0, 10**9)])[b"ibticks"].decode()
    '{"selection": "AAPL last", "missing": [["1970-01-01T00:00:00.000000000Z",
    "1970-01-01T00:00:01.000000000Z"]]}'
    """
    combined = dict(metadata or {})
    ranges = merge_intervals([*missing, *missing_of(combined)])
    combined["missing"] = [[_format_ns(start), _format_ns(end)] for start, end in ranges]
    if files := sorted({*left_out, *combined.get("left_out", ())}):
        combined["left_out"] = files
    return {METADATA_KEY.encode(): json.dumps(combined, default=str, ensure_ascii=False).encode()}


def metadata_of(data: Any) -> dict[str, Any]:
    """Return the metadata of an Arrow table or schema, a pandas frame or an xarray dataset.

    Parameters
    ----------
    data : pyarrow.Table, pyarrow.Schema, pandas.DataFrame or xarray.Dataset

    Returns
    -------
    dict
        With ``"missing"`` if ibticks made the frame; empty if it did not.

    Raises
    ------
    InputError
        If ``data`` carries no metadata (a polars frame).

    Examples
    --------
    >>> from ibticks.frames import to_table
    >>> metadata_of(to_table([], ["timestamp"], metadata={"selection": "AAPL last"}))
    {'selection': 'AAPL last', 'missing': []}
    """
    if isinstance(data, pa.Table | pa.Schema | pa.RecordBatch):
        schema = data if isinstance(data, pa.Schema) else data.schema
        text = (schema.metadata or {}).get(METADATA_KEY.encode(), b"{}")
    elif isinstance(attrs := getattr(data, "attrs", None), dict):
        text = attrs.get(METADATA_KEY, {})
    else:
        raise InputError(
            f"a {type(data).__name__} carries no metadata: ask the selection, or its Arrow table"
        )
    parsed = json.loads(text) if isinstance(text, str | bytes) else text
    return dict(parsed)


def missing_of(metadata: Mapping[str, Any]) -> tuple[Interval, ...]:
    """Return the missing intervals that :func:`attach_metadata` has written."""
    return tuple(
        Interval(_parse_ns(start), _parse_ns(end)) for start, end in metadata.get("missing", ())
    )


def _format_ns(instant: int) -> str:
    return f"{np.datetime64(instant, 'ns')}Z"


def _parse_ns(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))


def remember_symbols(symbols: Mapping[int, str]) -> None:
    """Remember the symbols of contracts by their ids; an empty symbol is not one."""
    _SYMBOLS.update({contract: symbol for contract, symbol in symbols.items() if symbol})


def symbol_of(contract_id: int) -> str | None:
    """Return the symbol of a contract that was loaded, None if it is not known.

    Examples
    --------
    >>> remember_symbols({4294967295: "XYZ"})
    >>> symbol_of(4294967295)
    'XYZ'
    """
    return _SYMBOLS.get(contract_id)
