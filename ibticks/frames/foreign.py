"""Tables that others wrote, read some rows at a time: Parquet and delimited text."""

from __future__ import annotations

import csv
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["ForeignTable", "open_foreign"]

StrPath: TypeAlias = str | PathLike[str]

_HEADER_BYTES: Final = 1 << 16
_DELIMITERS: Final = ",;\t|"
_ABSENT: Final = ["", "null", "NULL", "None", "NaN", "nan", "NA"]


class ForeignTable(Protocol):
    """A file of rows and named columns."""

    @property
    def columns(self) -> list[str]:
        """The names of its columns, in the order of the file."""
        ...

    def count(self) -> int:
        """Count its rows."""
        ...

    def batches(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Read these columns, at most ``rows`` rows at a time, in the order of the file."""
        ...


def open_foreign(path: StrPath) -> ForeignTable:
    """Open a table by what the file holds: Parquet, or text with a header line.

    Text may be delimited by comma, semicolon, tab or bar, and compressed if its name says so
    (``.gz``, ``.bz2``, ``.zst``).

    Raises
    ------
    InputError
        If there is no such file, or it is neither.
    """
    try:
        with Path(path).open("rb") as file:
            magic = file.read(4)
        return _Parquet(path) if magic == b"PAR1" else _Delimited(path)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


class _Parquet:
    def __init__(self, path: StrPath) -> None:
        self._path = path
        with pq.ParquetFile(fspath(path)) as file:
            self._rows: int = file.metadata.num_rows
            self.columns: list[str] = file.schema_arrow.names

    def count(self) -> int:
        return self._rows

    def batches(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        try:
            with pq.ParquetFile(fspath(self._path)) as file:
                for batch in file.iter_batches(rows, columns=list(columns)):
                    yield pa.Table.from_batches([batch])
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self._path, error) from error


class _Delimited:
    """Every value is read as text: a type guessed from the first rows fails on a later one."""

    def __init__(self, path: StrPath) -> None:
        self._path = path
        with pa.input_stream(fspath(path)) as file:
            head = file.read(_HEADER_BYTES).decode("utf-8-sig", errors="ignore")
        line = head.partition("\n")[0].rstrip("\r")
        candidates = {mark: next(csv.reader([line], delimiter=mark), []) for mark in _DELIMITERS}
        self._delimiter = max(candidates, key=lambda mark: len(candidates[mark]))
        self.columns = candidates[self._delimiter]
        if not line or "\0" in line:
            raise InputError(f"{path} is neither Parquet nor text with a header", path=str(path))
        if len(set(self.columns)) < len(self.columns):
            raise InputError(f"{path} has a column twice: {line}", path=str(path))

    def count(self) -> int:
        return sum(batch.num_rows for batch in self._read(self.columns[:1]))

    def batches(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        kept: list[pa.RecordBatch] = []
        there = 0
        for batch in self._read(columns):
            kept.append(batch)
            there += batch.num_rows
            while there >= rows:
                table = pa.Table.from_batches(kept)
                yield table[:rows]
                kept, there = table[rows:].to_batches(), there - rows
        if there:
            yield pa.Table.from_batches(kept)

    def _read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            with pa.input_stream(fspath(self._path)) as file:
                yield from pacsv.open_csv(
                    file,
                    parse_options=pacsv.ParseOptions(
                        delimiter=self._delimiter, newlines_in_values=True
                    ),
                    convert_options=pacsv.ConvertOptions(
                        include_columns=list(columns),
                        column_types={name: pa.large_string() for name in columns},
                        null_values=_ABSENT,
                        strings_can_be_null=True,
                    ),
                )
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self._path, error) from error


def _unreadable(path: StrPath, error: Exception) -> InputError:
    return InputError(f"{fspath(path)} cannot be read as a table: {error}", path=fspath(path))
