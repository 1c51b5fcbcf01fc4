"""Frames of records that are not ticks: rows of SQL queries, and intervals of coverage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast, overload

import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["coverage_frame", "from_query", "totals_frame"]

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
        return pl.Series(
            name, values, pl.Decimal(38, max([0, *(-exponent for exponent in exponents)]))
        )
    return pl.Series(
        name, [None if value is None else float(value) for value in values], pl.Float64
    )


def _as_text(values: list[Any]) -> list[str | None]:
    return [
        value
        if value is None or isinstance(value, str)
        else json.dumps(value)
        if isinstance(value, dict | list)
        else str(value)
        for value in values
    ]


_TOTALS_SCHEMA: Final[dict[str, Any]] = {
    "contract_id": pl.UInt32,
    "tick_type": pl.String,
    "date": pl.Date,
    "ticks": pl.Int64,
    "first_tick": pl.Datetime("ns", "UTC"),
    "last_tick": pl.Datetime("ns", "UTC"),
    "min_price": pl.Float64,
    "max_price": pl.Float64,
    "volume": pl.Float64,
    "vwap": pl.Float64,
}


def totals_frame(rows: Sequence[dict[str, Any]], *, by_day: bool) -> pl.DataFrame:
    """Make a polars frame of totals of ticks, one row a stream, or one a stream and UTC day.

    Parameters
    ----------
    rows : sequence of dict
        ``first_tick`` and ``last_tick`` in UTC nanoseconds, ``date`` as days since 1970.
    by_day : bool
        Whether there is a column ``date``.

    Examples
    --------
    >>> totals_frame([], by_day=False).columns[:3]
    ['contract_id', 'tick_type', 'ticks']
    """
    schema: dict[Any, Any] = {
        name: dtype for name, dtype in _TOTALS_SCHEMA.items() if by_day or name != "date"
    }
    physical: dict[str, Any] = {
        name: pl.Int32 if dtype == pl.Date else pl.Int64 if dtype == pl.Datetime else dtype
        for name, dtype in schema.items()
    }
    columns = {name: [row[name] for row in rows] for name in schema}
    return pl.DataFrame(columns, schema=physical).cast(dict(schema))


class _CoverageInterval(Protocol):
    @property
    def contract_id(self) -> int: ...
    @property
    def tick_type(self) -> str: ...
    @property
    def start_ns(self) -> int: ...
    @property
    def end_ns(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...


@overload
def coverage_frame(
    intervals: Sequence[_CoverageInterval], library: Literal["polars"]
) -> pl.DataFrame: ...
@overload
def coverage_frame(
    intervals: Sequence[_CoverageInterval], library: Literal["pandas"]
) -> pd.DataFrame: ...
def coverage_frame(
    intervals: Sequence[_CoverageInterval], library: Literal["polars", "pandas"]
) -> pl.DataFrame | pd.DataFrame:
    """Make a frame of coverage intervals, one a row.

    Parameters
    ----------
    intervals : sequence
        Coverage intervals of any streams.
    library : {"polars", "pandas"}

    Returns
    -------
    polars.DataFrame or pandas.DataFrame
        ``contract_id tick_type start end duration state reason``.

    Examples
    --------
    >>> coverage_frame([], "polars").schema["start"]
    Datetime(time_unit='ns', time_zone='UTC')
    >>> coverage_frame([], "pandas").dtypes["duration"]
    dtype('<m8[ns]')
    """
    table = _coverage_table(intervals)
    if library == "pandas":
        return cast("pd.DataFrame", table.to_pandas())
    return cast("pl.DataFrame", pl.from_arrow(table))


def _coverage_table(intervals: Sequence[_CoverageInterval]) -> pa.Table:
    time, duration = pa.timestamp("ns", "UTC"), pa.duration("ns")
    durations = [interval.end_ns - interval.start_ns for interval in intervals]
    return pa.table(
        {
            "contract_id": pa.array([interval.contract_id for interval in intervals], pa.uint32()),
            "tick_type": pa.array([interval.tick_type for interval in intervals], pa.string()),
            "start": pa.array([interval.start_ns for interval in intervals], pa.int64()).cast(time),
            "end": pa.array([interval.end_ns for interval in intervals], pa.int64()).cast(time),
            "duration": pa.array(durations, pa.int64()).cast(duration),
            "state": pa.array([str(interval.state) for interval in intervals], pa.string()),
            "reason": pa.array([interval.reason for interval in intervals], pa.string()),
        }
    )
