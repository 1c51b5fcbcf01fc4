"""Ticks into files that others read, and as lines of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather as feather
import pyarrow.parquet as pq

from ibticks.errors import InputError
from ibticks.frames.polars_frames import to_polars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

__all__ = ["check_output", "json_lines", "write_file"]

_LINES: Final = 1 << 16


def check_output(path: str | PathLike[str]) -> Path:
    """Return ``path`` if its suffix says a kind of file that ticks are written to.

    Raises
    ------
    InputError
        Naming the suffixes there are.
    """
    checked = Path(path)
    if checked.suffix not in _WRITERS:
        raise InputError(
            f"{path}: ticks are not written as {checked.suffix or 'a file without a suffix'}; use "
            f"{', '.join(_WRITERS)}",
            path=str(path),
        )
    return checked


def write_file(table: pa.Table, path: str | PathLike[str]) -> None:
    r"""Write a table of ticks to a file, by its suffix.

    Parameters
    ----------
    table : pyarrow.Table
        From :func:`ibticks.frames.to_table`.
    path : path-like
        ``.parquet`` and ``.arrow`` (or ``.feather``), compressed with zstd, keep every type and the
        table's metadata. In ``.csv`` times are ISO 8601 in UTC to the nanosecond, conditions are
        joined by ``;`` and metadata is JSON.

    Raises
    ------
    InputError
        If the suffix is none of these.
    OSError
        As the operating system says.

    Examples
    --------
    >>> import tempfile
    >>> from ibticks.frames import to_table
    >>> path = Path(tempfile.mkdtemp(), "ticks.csv")
    >>> write_file(to_table([], ["timestamp", "price"]), path)
    >>> path.read_text()
    'timestamp,price\n'
    """
    checked = check_output(path)
    with checked.open("wb") as file:
        _WRITERS[checked.suffix](table, file)


def json_lines(table: pa.Table) -> Iterator[str]:
    r"""The rows of a table of ticks as JSON objects, one a line, many lines at a time.

    Times are ISO 8601 in UTC to the nanosecond; NaN and the infinities, which JSON lacks, are null.

    Examples
    --------
    >>> from ibticks.format.columns import TickColumns, Values
    >>> from ibticks.frames import to_table
    >>> import numpy as np
    >>> ticks = TickColumns(
    ...     1, {"timestamp": Values(np.array([1])), "price": Values(np.array([5.0]))}
    ... )
    >>> list(json_lines(to_table([ticks], ["timestamp", "price"])))
    ['{"timestamp":"1970-01-01T00:00:00.000000001+00:00","price":5.0}\n']
    """
    for part in to_polars(table).iter_slices(_LINES):
        yield part.write_ndjson()


def _csv(table: pa.Table, file: BinaryIO) -> None:
    for name, flat in (("conditions", _joined), ("metadata", _as_json)):
        if name in table.column_names:
            place = table.column_names.index(name)
            table = table.set_column(place, name, flat(table[name]))
    to_polars(table).write_csv(file, datetime_format="%Y-%m-%dT%H:%M:%S%.9fZ")


def _joined(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join(lists, pa.scalar(";", pa.large_string()))


def _as_json(maps: pa.ChunkedArray) -> pa.Array:
    rows = (dict(row) for row in maps.to_pylist())
    return pa.array([json.dumps(row, ensure_ascii=False) if row else None for row in rows])


def _parquet(table: pa.Table, file: BinaryIO) -> None:
    pq.write_table(table, file, compression="zstd")


def _arrow(table: pa.Table, file: BinaryIO) -> None:
    feather.write_feather(table, file, compression="zstd")


_WRITERS: Final[dict[str, Callable[[pa.Table, BinaryIO], None]]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
}
