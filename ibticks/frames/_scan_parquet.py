"""Scan companions: Parquet files of ticks as a polars ``LazyFrame``, with polars' own pushdown."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import polars as pl

from ibticks.frames._to_polars import polars_schema
from ibticks.schema import COLUMNS, FieldType, check_columns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["concat_scans", "scan_companions"]


def scan_companions(
    paths: Sequence[Path],
    tick_type: str,
    columns: Sequence[str],
    *,
    start_ns: int | None = None,
    end_ns: int | None = None,
) -> pl.LazyFrame:
    """Scan companions of one stream, in order of time.

    Parameters
    ----------
    paths : sequence of Path
        Opened when the query is collected.
    tick_type : str
        Tick type of the stream.
    columns : sequence of str
        Columns of the frame. One that the tick type does not have is null (``conditions``: empty).
    start_ns, end_ns : int, optional
        Half-open range of UTC nanoseconds; None leaves a side open. A range keeps polars from
        pushing slices from the end down to the files.

    Returns
    -------
    polars.LazyFrame
        With the schema of :func:`ibticks.frames.to_polars`.

    Raises
    ------
    UnknownColumnError
        Naming the columns that exist.
    """
    names = check_columns(list(columns))
    # With a schema no file is opened before the query is collected; a column that a file lacks is
    # null in it.
    frame = pl.scan_parquet(
        list(paths),
        schema=_all_columns(),
        missing_columns="insert",
        glob=False,
        hive_partitioning=False,
    )
    at = pl.col("timestamp")
    if start_ns is not None:
        frame = frame.filter(at >= _time(start_ns))
    if end_ns is not None:
        frame = frame.filter(at < _time(end_ns))
    empty = pl.lit([], dtype=pl.List(pl.String))
    lists = [
        pl.col(name).fill_null(empty)
        for name in names
        if COLUMNS[name].type is FieldType.STRINGS and tick_type not in COLUMNS[name].tick_types
    ]
    return (frame.with_columns(lists) if lists else frame).select(names)


def concat_scans(scans: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """Concatenate scans that follow each other in time."""
    return scans[0] if len(scans) == 1 else pl.concat(scans, how="vertical")


@cache
def _all_columns() -> pl.Schema:
    return polars_schema(tuple(COLUMNS))


def _time(time_ns: int) -> pl.Expr:
    return pl.lit(time_ns, pl.Int64).cast(pl.Datetime("ns", "UTC"))
