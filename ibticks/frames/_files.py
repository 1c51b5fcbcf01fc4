"""Ticks into files that others read, and as lines of JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ibticks.errors import InputError
from ibticks.frames._export import FileKind, write_tables
from ibticks.frames._metadata import metadata_of
from ibticks.frames._to_polars import to_polars

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    import pyarrow as pa

__all__ = ["check_output", "file_kind", "json_lines", "write_file"]

_LINES: Final = 1 << 16


def check_output(path: str | PathLike[str]) -> Path:
    """Return ``path`` if its suffix says a kind of file that ticks are written to.

    Raises
    ------
    InputError
        Naming the suffixes there are.
    """
    checked = Path(path)
    if checked.suffix not in _KINDS:
        raise InputError(
            f"{path}: ticks are not written as {checked.suffix or 'a file without a suffix'}; use "
            f"{', '.join(_KINDS)}",
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
    with checked.open("w+b") as file:
        write_tables(
            [table], table.column_names, file, _KINDS[checked.suffix], metadata=metadata_of(table)
        )


def file_kind(path: str | PathLike[str]) -> FileKind:
    """Return the kind of file that a suffix stands for; errors as :func:`check_output`.

    Examples
    --------
    >>> file_kind("ticks.feather")
    'ipc'
    """
    return _KINDS[check_output(path).suffix]


def json_lines(table: pa.Table) -> Iterator[str]:
    r"""The rows of a table of ticks as JSON objects, one a line, many lines at a time.

    Times are ISO 8601 in UTC to the nanosecond; NaN and the infinities, which JSON lacks, are null.

    Examples
    --------
    >>> from ibticks.format import TickColumns, Values
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


_KINDS: Final[dict[str, FileKind]] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
}
