"""Open a table file of any layout as ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks.errors import InputError
from ibticks.tables._files import open_table_file
from ibticks.tables._tick_table import BATCH_ROWS, TickTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import tzinfo
    from os import PathLike

    from ibticks._types import TickTypeLike, TimeUnit
    from ibticks.schema import TickColumns

__all__ = ["count_rows", "file_columns", "open_table", "read_batches"]


def file_columns(path: str | PathLike[str]) -> list[str]:
    """Return the columns of a Parquet or delimited text file.

    Raises
    ------
    InputError
        If there is no such file, or it is neither.
    """
    return open_table_file(path).columns


def count_rows(path: str | PathLike[str]) -> int:
    """Count the rows of a Parquet file (at once) or of a text file (by reading it).

    Raises
    ------
    InputError
        If there is no such file, or it is neither.
    """
    return open_table_file(path).count()


def read_batches(
    path: str | PathLike[str],
    *,
    tick_type: TickTypeLike,
    contract_id: int,
    mapping: Mapping[str, str | None] | None = None,
    tz: str | tzinfo | None = None,
    timestamp_unit: TimeUnit | None = None,
    batch_rows: int = BATCH_ROWS,
    preset: str | None = None,
    time_format: str | None = None,
    decimal: str | None = None,
) -> Iterator[TickColumns]:
    r"""Read a Parquet or delimited text file as ticks, some rows at a time.

    Parameters
    ----------
    path : path-like
        Parquet, or text with a header, also compressed (``.csv.gz``).
    tick_type, contract_id
        Of all rows; a file that states others is refused.
    mapping : mapping of str to str or None, optional
        Column of a tick to column of the file, where the names differ:
        see :func:`ibticks.tables.describe_mapping`.
    tz : str or tzinfo, optional
        Zone of times that have none.
    timestamp_unit : {"s", "ms", "us", "ns"}, optional
        Unit of times that are numbers, if their size leaves a choice.
    batch_rows : int
        Rows at a time.
    preset, time_format, decimal : str, optional
        As for :func:`open_table`.

    Yields
    ------
    TickColumns
        Rows in the order of the file, sorted or not. Nulls, empty texts and NaN texts are absent; a
        condition that is a single text becomes a list of one. ``sequence`` is there if the file
        has it: the number of a row in its file is no part of a tick.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, holds several instruments, or has a value that
        fits no tick; the message names file and row (from 1), and the rows before it are yielded
        first. Errors of the columns are raised before the first row is read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "trades.csv")
    >>> _ = path.write_text("time,last,qty\n2025-01-10 09:30:00,187.5,100\n")
    >>> ticks = next(read_batches(path, tick_type="last", contract_id=8314, tz="America/New_York"))
    >>> ticks.timestamp, ticks.numbers("size")
    (array([1736519400000000000]), array([100.]))
    """
    table = open_table(
        path,
        tick_type=tick_type,
        mapping=mapping,
        preset=preset,
        tz=tz,
        timestamp_unit=timestamp_unit,
        time_format=time_format,
        decimal=decimal,
    )
    if batch_rows < 1:
        raise InputError(f"batch_rows must be at least 1, not {batch_rows}")
    return table.batches(contract_id, batch_rows=batch_rows)


def open_table(
    path: str | PathLike[str],
    *,
    tick_type: TickTypeLike,
    mapping: Mapping[str, str | None] | None = None,
    preset: str | None = None,
    tz: str | tzinfo | None = None,
    timestamp_unit: TimeUnit | None = None,
    time_format: str | None = None,
    decimal: str | None = None,
) -> TickTable:
    """Open a foreign table and match its columns with those of a tick, by names and values.

    Parameters
    ----------
    path, tick_type, mapping
        As for :func:`read_batches`.
    preset : str, optional
        Name of one of ``PRESETS``, or ``"none"``; by default the one
        that the columns match.
    tz, timestamp_unit
        As for :func:`read_batches`.
    time_format : str, optional
        Format of times that are texts, as for ``strptime``, such as
        ``"%d/%m/%Y %H:%M:%S.%f"``. A format of a date or of a time of day alone is for that column.
    decimal : "." or ",", optional
        Decimal mark of numbers that are texts; by default what the numbers show.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing, or columns are ambiguous.
    """
    if decimal not in (None, ".", ","):
        raise InputError(f"decimal={decimal!r} is no decimal mark: use '.' or ','", decimal=decimal)
    return TickTable(path, tick_type, mapping, preset, tz, timestamp_unit, time_format, decimal)
