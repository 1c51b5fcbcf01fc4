"""Convert Arrow tables of ticks to polars frames, and polars frames to Arrow tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import polars as pl
import pyarrow as pa

from ibticks.errors import InputError
from ibticks.frames._schema import CATEGORY, arrow_schema
from ibticks.frames._times import has_time_objects, read_time_objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["from_polars", "json_lines", "polars_schema", "to_polars"]

_JSON_BLOCK_ROWS: Final = 1 << 16
_POLARS_CATEGORY: Final = pa.dictionary(pa.uint32(), pa.string())


def to_polars(table: pa.Table) -> pl.DataFrame:
    """Turn a table of ticks into a polars frame, around the same memory.

    Numbers and times are not copied; only categories (a few milliseconds a million rows) and lists
    of strings are. The chunks of the table stay chunks: ``frame.rechunk()`` joins them where an
    algorithm wants one piece.

    Parameters
    ----------
    table : pyarrow.Table
        From :func:`ibticks.frames.to_table`.

    Returns
    -------
    polars.DataFrame
        ``timestamp`` and ``exchange_time`` as ``Datetime("ns", "UTC")``, ``contract_id`` UInt32,
        ``tick_type``, ``exchange`` and ``stream_id`` Categorical, prices and sizes Float64, null
        where absent, ``conditions`` List(String), ``sequence`` UInt64, flags Boolean. Sorted
        times are flagged as sorted. A polars frame carries
        no metadata.

    Examples
    --------
    >>> from ibticks.frames import to_table
    >>> to_polars(to_table([], ["timestamp", "tick_type", "price"])).schema
    Schema([('timestamp', Datetime(time_unit='ns', time_zone='UTC')), ('tick_type', Categorical),
    ('price', Float64)])
    """
    arrays = [_unsigned(column) for column in table.columns]
    frame = cast(
        "pl.DataFrame", pl.from_arrow(pa.table(arrays, names=table.column_names), rechunk=False)
    )
    if "timestamp" in frame.columns and frame["timestamp"].is_sorted():
        frame = frame.with_columns(pl.col("timestamp").set_sorted())
    return frame


def from_polars(frame: pl.DataFrame) -> pa.Table:
    """Turn a polars frame into an Arrow table; times that are Python objects are read one by one.

    Raises
    ------
    InputError
        If a column of times holds other objects.
    """
    plain = frame.select(pl.exclude(pl.Object))
    table = pa.RecordBatchReader.from_stream(plain).read_all()
    times: dict[str, pa.Array] = {}
    for name in frame.columns:
        if name not in plain.columns:
            values = frame[name].to_list()
            if not has_time_objects(name, values):
                raise InputError(
                    f"column {name!r} holds Python objects: give it a type, or drop it", column=name
                )
            times[name] = read_time_objects(name, values)
    return pa.table({name: times[name] if name in times else table[name] for name in frame.columns})


def polars_schema(columns: Sequence[str]) -> pl.Schema:
    """Return the polars schema of a frame with these columns, in their standard order.

    Raises
    ------
    UnknownColumnError
        Naming the columns that exist.

    Examples
    --------
    >>> polars_schema(["conditions"])
    Schema([('conditions', List(String))])
    """
    return to_polars(arrow_schema(columns).empty_table()).schema


def json_lines(table: pa.Table) -> Iterator[str]:
    r"""Yield the rows of a table of ticks as lines of JSON, many lines at a time.

    Times are ISO 8601 in UTC to the nanosecond; NaN and the infinities, which JSON lacks, are null.

    Examples
    --------
    >>> from ibticks.schema import TickColumns, Values
    >>> from ibticks.frames import to_table
    >>> import numpy as np
    >>> ticks = TickColumns(
    ...     1, {"timestamp": Values(np.array([1])), "price": Values(np.array([5.0]))}
    ... )
    >>> list(json_lines(to_table([ticks], ["timestamp", "price"])))
    ['{"timestamp":"1970-01-01T00:00:00.000000001+00:00","price":5.0}\n']
    """
    for rows in to_polars(table).iter_slices(_JSON_BLOCK_ROWS):
        yield rows.write_ndjson()


def _unsigned(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return categories with unsigned codes, which polars converts in half the time."""
    if column.type != CATEGORY:
        return column
    chunks = [
        pa.DictionaryArray.from_arrays(
            chunk.indices.view(pa.uint32()), chunk.dictionary, safe=False
        )
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, type=_POLARS_CATEGORY)
