"""Read tables in Parquet and delimited text files, some rows at a time."""

from __future__ import annotations

import csv
import io
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

__all__ = ["BadRow", "TableFile", "is_string", "is_text", "open_table_file", "text_scalar"]

StrPath: TypeAlias = str | PathLike[str]

BadRow: TypeAlias = tuple[int, list[str]]
"""Number of the line (from 1) or, in Parquet, of the row, and its values as texts."""

_HEADER_BYTES: Final = 1 << 16
_DELIMITERS: Final = ",;\t|"
_ABSENT: Final = ["null", "NULL", "None", "NaN", "nan", "NA", "N/A", "NaT"]
_COMPRESSIONS: Final = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
_ENCODINGS: Final = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class TableFile(Protocol):
    """A file of rows and named columns."""

    @property
    def columns(self) -> list[str]:
        """The names of its columns, in the order of the file."""
        ...

    @property
    def delimiter(self) -> str:
        """The character between values, empty where there is none."""
        ...

    @property
    def ragged(self) -> int:
        """Rows with too few or too many values that the last pass left out."""
        ...

    def count(self) -> int:
        """Count its rows."""
        ...

    def batches(
        self,
        columns: Sequence[str],
        rows: int,
        *,
        skip_ragged: bool = False,
        verbatim: Sequence[str] = (),
    ) -> Iterator[pa.Table]:
        """Read these columns, at most ``rows`` rows at a time, in the order of the file.

        With ``skip_ragged``, rows with too few or too many values are left out. In the columns
        ``verbatim``, words such as NA are values: there is a company of that symbol.
        """
        ...

    def bad_rows(self, numbers: Collection[int]) -> Iterator[BadRow]:
        """Read the rows of these numbers (from 1, ragged rows do not count) and all ragged ones."""
        ...


def open_table_file(path: StrPath) -> TableFile:
    """Open a table by what the file holds: Parquet, or text with a header line.

    Text may be delimited by comma, semicolon, tab or bar, end its lines with LF, CR LF or CR, be
    UTF-8 or UTF-16 with a byte order mark, and be compressed with gzip, bzip2 or zstd; the first
    bytes say so, not the name of the file.

    Raises
    ------
    InputError
        If there is no such file, or it is neither.
    """
    try:
        with Path(path).open("rb") as file:
            magic = file.read(4)
        if magic == b"PK\x03\x04":
            raise InputError(
                f"{fspath(path)} is a ZIP archive or a workbook: unpack it, or save it as CSV",
                path=fspath(path),
            )
        return _ParquetFile(path) if magic == b"PAR1" else _DelimitedFile(path)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


class _ParquetFile:
    ragged: Final = 0
    delimiter: Final = ""

    def __init__(self, path: StrPath) -> None:
        self._path = path
        with pq.ParquetFile(fspath(path)) as file:
            self._rows: int = file.metadata.num_rows
            self.columns: list[str] = file.schema_arrow.names

    def count(self) -> int:
        return self._rows

    def batches(
        self,
        columns: Sequence[str],
        rows: int,
        *,
        skip_ragged: bool = False,
        verbatim: Sequence[str] = (),
    ) -> Iterator[pa.Table]:
        del skip_ragged, verbatim  # every row of a Parquet file has all columns, and nulls
        try:
            with pq.ParquetFile(fspath(self._path)) as file:
                for batch in file.iter_batches(rows, columns=list(columns)):
                    yield pa.Table.from_batches([batch])
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self._path, error) from error

    def bad_rows(self, numbers: Collection[int]) -> Iterator[BadRow]:
        wanted, row = set(numbers), 0
        for batch in self.batches(self.columns, 1 << 16):
            for place in range(len(batch)):
                row += 1
                if row in wanted:
                    values = (batch[name][place].as_py() for name in self.columns)
                    yield row, ["" if value is None else str(value) for value in values]


class _DelimitedFile:
    """Every value is read as text: a type guessed from the first rows fails on a later one."""

    def __init__(self, path: StrPath) -> None:
        self._path = path
        self.ragged = 0
        self._is_ragged = False
        with Path(path).open("rb") as raw:
            magic = raw.read(4)
        self._compression = next(
            (name for mark, name in _COMPRESSIONS.items() if magic.startswith(mark)), None
        )
        with self._open() as file:
            start = file.read(_HEADER_BYTES)
        self._encoding = _ENCODINGS.get(start[:2], "utf-8")
        plain = self._encoding == "utf-8"
        head = start.decode("utf-8-sig" if plain else self._encoding, errors="ignore")
        line = head.splitlines()[0] if head else ""
        candidates = {mark: next(csv.reader([line], delimiter=mark), []) for mark in _DELIMITERS}
        self.delimiter = max(candidates, key=lambda mark: len(candidates[mark]))
        self.columns = candidates[self.delimiter]
        if not line or "\0" in line:
            raise InputError(f"{path} is neither Parquet nor text with a header", path=str(path))
        if len(set(self.columns)) < len(self.columns):
            raise InputError(f"{path} has a column twice: {line}", path=str(path))

    def count(self) -> int:
        return sum(batch.num_rows for batch in self._read(self.columns[:1], skip_ragged=True))

    def batches(
        self,
        columns: Sequence[str],
        rows: int,
        *,
        skip_ragged: bool = False,
        verbatim: Sequence[str] = (),
    ) -> Iterator[pa.Table]:
        pending: list[pa.RecordBatch] = []
        pending_rows = 0
        for batch in self._read(columns, skip_ragged=skip_ragged):
            pending.append(_with_nulls(batch, verbatim))
            pending_rows += batch.num_rows
            while pending_rows >= rows:
                table = pa.Table.from_batches(pending)
                yield table[:rows]
                pending, pending_rows = table[rows:].to_batches(), pending_rows - rows
        if pending_rows:
            yield pa.Table.from_batches(pending)

    def bad_rows(self, numbers: Collection[int]) -> Iterator[BadRow]:
        wanted, row = set(numbers), 0
        encoding = "utf-8-sig" if self._encoding == "utf-8" else self._encoding
        with (
            self._open() as file,
            io.TextIOWrapper(file, encoding, errors="replace", newline="") as text,
        ):
            reader = csv.reader(text, delimiter=self.delimiter)
            next(reader)
            line = reader.line_num + 1
            for values in reader:
                first, line = line, reader.line_num + 1
                if not values:
                    continue
                ragged = len(values) != len(self.columns)
                row += not ragged
                if ragged or row in wanted:
                    yield first, values

    def _skip(self, _: object) -> str:
        self.ragged += 1
        return "skip"

    def _refuse(self, _: object) -> str:
        self._is_ragged = True
        return "error"

    def _open(self) -> pa.NativeFile:
        return pa.input_stream(fspath(self._path), compression=self._compression)

    def _read(
        self, columns: Sequence[str], *, skip_ragged: bool = False
    ) -> Iterator[pa.RecordBatch]:
        self.ragged = 0
        rows = 0
        try:
            with self._open() as file:
                lines = _LineCounter(file)
                batches = pacsv.open_csv(
                    pa.PythonFile(lines, mode="r"),
                    read_options=pacsv.ReadOptions(
                        encoding="utf8" if self._encoding == "utf-8" else self._encoding
                    ),
                    parse_options=pacsv.ParseOptions(
                        delimiter=self.delimiter,
                        newlines_in_values=True,
                        invalid_row_handler=self._skip if skip_ragged else self._refuse,
                    ),
                    convert_options=pacsv.ConvertOptions(
                        include_columns=list(columns),
                        column_types={name: pa.large_string() for name in columns},
                        null_values=[""],
                        strings_can_be_null=True,
                    ),
                )
                for batch in batches:
                    rows += batch.num_rows
                    yield batch
        except (OSError, pa.ArrowException) as error:
            ragged = next(self.bad_rows(()), None) if self._is_ragged else None
            if ragged is None:
                raise _unreadable(self._path, error) from error
            line, values = ragged
            raise InputError(
                f"{fspath(self._path)}, line {line}: Expected {len(self.columns)} columns, got "
                f"{len(values)}",
                path=fspath(self._path),
                line=line,
                values=len(values),
            ) from error
        if rows + self.ragged + 1 < lines.count:
            self._check_quotes()

    def _check_quotes(self) -> None:
        """Raise if a value of several lines has a quote that was not meant to open it.

        Such a quote hides the rows up to the next one, or to the end of the file.
        """
        encoding = "utf-8-sig" if self._encoding == "utf-8" else self._encoding
        with (
            self._open() as file,
            io.TextIOWrapper(file, encoding, errors="replace", newline="") as text,
        ):
            lines: list[str] = []

            def collected() -> Iterator[str]:
                for line in text:
                    lines.append(line)
                    yield line

            first = 1
            reader = csv.reader(collected(), delimiter=self.delimiter)
            try:
                for _ in reader:
                    if len(lines) > 1:
                        list(csv.reader(lines, delimiter=self.delimiter, strict=True))
                    first, lines = reader.line_num + 1, []
            except csv.Error as error:
                raise InputError(
                    f"{fspath(self._path)}, line {first}: a quotation mark opens a value that does "
                    f"not end in this line, which hides the rows behind it: close the quotation, "
                    f"or remove the mark",
                    path=fspath(self._path),
                    line=first,
                ) from error


class _LineCounter(io.RawIOBase):
    """A file that counts the lines of what is read."""

    def __init__(self, file: pa.NativeFile) -> None:
        self._file = file
        self._feeds = self._returns = 0

    @property
    def count(self) -> int:
        """Lines read, at least: ends of lines are LF or CR, whichever there are more of."""
        return max(self._feeds, self._returns)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = self._file.read(None if size < 0 else size)
        self._feeds += data.count(b"\n")
        self._returns += data.count(b"\r")
        return data


def _with_nulls(batch: pa.RecordBatch, verbatim: Sequence[str]) -> pa.RecordBatch:
    """Return a batch of texts with null for the words that stand for none."""
    words = pa.array(_ABSENT, pa.large_string())
    columns = [
        column
        if name in verbatim
        else pc.if_else(pc.is_in(column, value_set=words), pa.scalar(None, column.type), column)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _unreadable(path: StrPath, error: Exception) -> InputError:
    return InputError(f"{fspath(path)} cannot be read as a table: {error}", path=fspath(path))


def is_string(arrow_type: pa.DataType) -> bool:
    """Return whether a type is one of strings that every kernel of Arrow reads."""
    return bool(pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type))


def is_text(arrow_type: pa.DataType) -> bool:
    """Return whether a type is one of strings, views of strings included."""
    return is_string(arrow_type) or bool(pa.types.is_string_view(arrow_type))


def text_scalar(value: str) -> pa.Scalar:
    """Return a text as an Arrow scalar of the type that text files are read with."""
    return pa.scalar(value, pa.large_string())
