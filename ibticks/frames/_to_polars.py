"""Ticks as a polars frame."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

import polars as pl
import pyarrow as pa

from ibticks.errors import InputError
from ibticks.frames._schema import CATEGORY, arrow_schema
from ibticks.frames._time_objects import has_time_objects, read_time_objects

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["from_polars", "from_query", "polars_schema", "to_polars"]

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


_SQL_TYPES: Final[dict[str, Any]] = {
    "boolean": pl.Boolean,
    **dict.fromkeys(("smallint", "integer", "bigint", "oid"), pl.Int64),
    **dict.fromkeys(("real", "double precision"), pl.Float64),
    "date": pl.Date,
    "time without time zone": pl.Time,
    "timestamp without time zone": pl.Datetime("us"),
    "timestamp with time zone": pl.Datetime("us", "UTC"),
    "interval": pl.Duration("us"),
    "bytea": pl.Binary,
}
"""Polars' types for those of PostgreSQL; any other type becomes text."""


def from_query(
    columns: Sequence[str], types: Sequence[str], rows: Sequence[Sequence[Any]]
) -> pl.DataFrame:
    """Make a polars frame of the rows of an SQL query; without rows it has the same columns.

    What polars has no type for (PostgreSQL's ranges, JSON, UUIDs) becomes text.

    Parameters
    ----------
    columns : sequence of str
        Names, each another one.
    types : sequence of str
        Of the columns, as PostgreSQL writes them.
    rows : sequence of sequences

    Examples
    --------
    >>> from_query(["symbol", "files"], ["text", "bigint"], [("IBM", 29)]).schema
    Schema([('symbol', String), ('files', Int64)])
    >>> from_query(["symbol", "files"], ["text", "bigint"], []).schema
    Schema([('symbol', String), ('files', Int64)])
    """
    return pl.DataFrame(
        [
            _sql_series(name, sql_type, [row[place] for row in rows])
            for place, (name, sql_type) in enumerate(zip(columns, types, strict=True))
        ]
    )


def _sql_series(name: str, sql_type: str, values: list[Any]) -> pl.Series:
    sql_type = sql_type.split("(")[0].strip() + sql_type.partition(")")[2]
    if sql_type == "numeric":
        return _numeric_series(name, values)
    if not sql_type.endswith("[]"):
        dtype = _SQL_TYPES.get(sql_type, pl.String)
        return pl.Series(name, _as_text(values) if dtype == pl.String else values, dtype)
    inner = _SQL_TYPES.get(sql_type[:-2], pl.String)
    if any(isinstance(item, list) for value in values for item in value or ()):
        return pl.Series(name, _as_text(values), pl.String)  # of several dimensions
    if inner == pl.String:
        values = [None if value is None else _as_text(value) for value in values]
    return pl.Series(name, values, pl.List(inner))


def _numeric_series(name: str, values: list[Any]) -> pl.Series:
    """Decimals with as many places as the values have; floats where one is NaN or infinite."""
    numbers = [value for value in values if value is not None]
    if all(number.is_finite() for number in numbers):
        exponents = [number.as_tuple().exponent for number in numbers]
        return pl.Series(name, values, pl.Decimal(38, max([0, *(-each for each in exponents)])))
    return pl.Series(name, [None if one is None else float(one) for one in values], pl.Float64)


def _as_text(values: list[Any]) -> list[str | None]:
    return [
        value
        if value is None or isinstance(value, str)
        else json.dumps(value)
        if isinstance(value, dict | list)
        else str(value)
        for value in values
    ]


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
