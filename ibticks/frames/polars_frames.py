"""Ticks as a polars frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import polars as pl
import pyarrow as pa

from ibticks.errors import InputError
from ibticks.frames.schema import CATEGORY, arrow_schema
from ibticks.frames.time_objects import has_time_objects, read_time_objects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["from_polars", "from_rows", "polars_schema", "to_polars"]

_POLARS_CATEGORY = pa.dictionary(pa.uint32(), pa.string())


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
        where absent, ``conditions`` List(String), ``sequence`` UInt64, flags Boolean. Where the
        times are sorted, the column says so, which spares polars the look. A polars frame carries
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


def from_rows(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Make a polars frame of rows by column name, such as a database gives.

    What polars has no type for (PostgreSQL's ranges) becomes text.

    Examples
    --------
    >>> from_rows([{"symbol": "IBM", "files": 29}]).schema
    Schema([('symbol', String), ('files', Int64)])
    """
    frame = pl.DataFrame(rows, infer_schema_length=None)
    strange = [each for each in frame if each.dtype == pl.Object]
    return frame.with_columns(
        pl.Series(each.name, [None if value is None else str(value) for value in each], pl.String)
        for each in strange
    )


def polars_schema(columns: Sequence[str]) -> pl.Schema:
    """The polars schema of a frame with these columns, in their standard order.

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


def _unsigned(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same categories by unsigned codes, which polars takes in half the time."""
    if column.type != CATEGORY:
        return column
    chunks = [
        pa.DictionaryArray.from_arrays(
            chunk.indices.view(pa.uint32()), chunk.dictionary, safe=False
        )
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, type=_POLARS_CATEGORY)
