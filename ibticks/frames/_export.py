"""Write ticks to Parquet, Arrow IPC, CSV and JSON lines, block by block in bounded memory."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ibticks.errors import InputError
from ibticks.frames._schema import CATEGORY, arrow_schema, attach_metadata, metadata_of, missing_of
from ibticks.frames._to_polars import to_polars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from os import PathLike

    from ibticks._types import Interval


__all__ = ["BufferCompression", "FileFormat", "encode_tables", "parse_file_format", "write_tables"]

FileFormat: TypeAlias = Literal["csv", "ipc", "parquet"]
BufferCompression: TypeAlias = Literal["none", "lz4", "zstd"]
"""Compressions of the buffers of Arrow, and of the pages of Parquet."""

_GROUP_ROWS: Final = 1 << 19
"""Rows that are written together: a row group of Parquet, a record batch of Arrow."""

_Writer: TypeAlias = "Callable[..., int]"
_FORMATS: Final[dict[str, FileFormat]] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
}


def write_tables(
    tables: Iterable[pa.Table],
    columns: Sequence[str],
    file: BinaryIO,
    file_format: FileFormat,
    *,
    metadata: Mapping[str, Any] | None = None,
    scratch: str | PathLike[str] | None = None,
) -> int:
    r"""Write tables of ticks one after the other into a file.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        From :func:`ibticks.frames.to_table`, all with these columns.
    columns : sequence of str
    file : binary file
        Empty, to be written to and read.
    file_format : {"csv", "ipc", "parquet"}
        Parquet and Arrow IPC, compressed with zstd, keep every type and the metadata. In CSV times
        are ISO 8601 in UTC to the nanosecond, conditions are joined by ``;`` and metadata is JSON.
    metadata : mapping, optional
        Of the whole; time ranges and files that the tables miss are added to it.
    scratch : path-like, optional
        Folder for an intermediate file of ``ipc``, whose dictionaries have to be known before the
        first row; by default the system's.

    Returns
    -------
    int
        Ticks written.

    Examples
    --------
    >>> import io
    >>> from ibticks.frames import to_table
    >>> file = io.BytesIO()
    >>> write_tables([to_table([], ["timestamp", "price"])], ["timestamp", "price"], file, "csv")
    0
    >>> file.getvalue()
    b'timestamp,price\n'
    """
    file_metadata = _Metadata(metadata)
    schema = arrow_schema(columns)
    return _WRITERS[file_format](
        _groups(file_metadata.of(tables), schema), schema, file, file_metadata, scratch
    )


def encode_tables(
    tables: Iterable[pa.Table],
    columns: Sequence[str],
    file_format: FileFormat,
    *,
    metadata: Mapping[str, Any] | None = None,
    compression: BufferCompression = "none",
) -> Iterator[bytes]:
    r"""Encode tables of ticks one after the other, for a sink that cannot be read again.

    Parameters
    ----------
    tables, columns
        As in :func:`write_tables`. Each table becomes one chunk.
    file_format : {"csv", "ipc", "parquet"}
        ``ipc`` is the streaming format. Its schema and that of Parquet are known before the rows,
        so that their metadata have no missing time ranges: in ``ipc`` an empty batch at the end has
        the metadata of the whole.
    metadata : mapping, optional
        As in :func:`write_tables`.
    compression : {"none", "lz4", "zstd"}
        Of buffers and pages.

    Yields
    ------
    bytes
        A part of the encoded ticks.

    Examples
    --------
    >>> from ibticks.frames import to_table
    >>> b"".join(encode_tables([to_table([], ["timestamp", "price"])], ["price"], "csv"))
    b'timestamp,price\n'
    """
    file_metadata = _Metadata(metadata)
    schema = arrow_schema(columns)
    sink = io.BytesIO()
    passed = file_metadata.of(tables)
    match file_format:
        case "csv":
            chunks = _encode_csv(passed, schema, sink)
        case "ipc":
            chunks = _encode_ipc(passed, schema, sink, file_metadata, compression)
        case "parquet":
            chunks = _encode_parquet(passed, schema, sink, file_metadata, compression)
    for _ in chunks:
        yield sink.getvalue()
        sink.seek(0)
        sink.truncate()


def _encode_csv(tables: Iterable[pa.Table], schema: pa.Schema, sink: BinaryIO) -> Iterator[None]:
    has_header = True
    for table in tables:
        _write_csv_rows(table, sink, has_header=has_header)
        has_header = False
        yield
    if has_header:
        _write_csv_rows(schema.empty_table(), sink, has_header=True)
        yield


def _encode_ipc(
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    sink: BinaryIO,
    file_metadata: _Metadata,
    compression: BufferCompression,
) -> Iterator[None]:
    announced = file_metadata.as_arrow()
    options = pa.ipc.IpcWriteOptions(compression=None if compression == "none" else compression)
    with pa.ipc.new_stream(sink, schema.with_metadata(announced), options=options) as stream:
        yield
        for table in tables:
            stream.write_table(table.replace_schema_metadata(announced))
            yield
        if file_metadata.as_arrow() != announced:
            (empty,) = schema.empty_table().to_batches() or [
                pa.RecordBatch.from_pylist([], schema=schema)
            ]
            stream.write_batch(empty, custom_metadata=file_metadata.as_arrow())
    yield


def _encode_parquet(
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    sink: BinaryIO,
    file_metadata: _Metadata,
    compression: BufferCompression,
) -> Iterator[None]:
    # The writer asks for its place in the whole, of which the sink has the end only.
    counted = _CountedSink(sink)
    final = schema.with_metadata(file_metadata.as_arrow())
    with pq.ParquetWriter(counted, final, compression=compression.upper()) as writer:
        for table in _groups(tables, schema):
            writer.write_table(table)
            yield
    yield


class _CountedSink(io.RawIOBase):
    """A sink that knows how many bytes have passed through it."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._bytes = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._bytes

    def write(self, data: Any) -> int:
        written = self._sink.write(data)
        self._bytes += written
        return written


class _Metadata:
    """Metadata of a file, complete once all of its tables have passed."""

    def __init__(self, metadata: Mapping[str, Any] | None) -> None:
        self._metadata = metadata
        self._missing: list[Interval] = []
        self._left_out: list[str] = []

    def of(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Pass tables on, and note which times and files they miss."""
        for table in tables:
            file_metadata = metadata_of(table)
            self._missing += missing_of(file_metadata)
            self._left_out += file_metadata.get("left_out", ())
            yield table

    def as_arrow(self) -> dict[bytes, bytes]:
        """Return the metadata as a schema has it."""
        return attach_metadata(self._metadata, self._missing, self._left_out)


def _groups(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """Join small tables into groups of rows; at least one group, which may be empty."""
    pending = [schema.empty_table()]
    rows = 0
    for table in tables:
        pending.append(table)
        rows += table.num_rows
        if rows >= _GROUP_ROWS:
            yield pa.concat_tables(pending)
            pending, rows = [], 0
    if pending:
        yield pa.concat_tables(pending)


def _write_csv(tables: Iterable[pa.Table], schema: pa.Schema, file: BinaryIO, *_: object) -> int:
    rows = 0
    for place, table in enumerate(tables):
        _write_csv_rows(table, file, has_header=place == 0)
        rows += table.num_rows
    return rows


def _write_csv_rows(table: pa.Table, file: BinaryIO, *, has_header: bool) -> None:
    flat = table
    for name, text in (("conditions", _semicolons), ("metadata", _as_json)):
        if name in flat.column_names:
            flat = flat.set_column(flat.column_names.index(name), name, text(flat[name]))
    to_polars(flat).write_csv(
        file, include_header=has_header, datetime_format="%Y-%m-%dT%H:%M:%S%.9fZ"
    )


def _semicolons(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join(lists, pa.scalar(";", pa.large_string()))


def _as_json(maps: pa.ChunkedArray) -> pa.Array:
    rows = (dict(row) for row in maps.to_pylist())
    return pa.array(
        [json.dumps(row, ensure_ascii=False) if row else None for row in rows], pa.string()
    )


def _write_parquet(
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    file: BinaryIO,
    file_metadata: _Metadata,
    scratch: str | PathLike[str] | None,
) -> int:
    rows = 0
    announced = file_metadata.as_arrow()
    with pq.ParquetWriter(file, schema.with_metadata(announced), compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
            rows += table.num_rows
    if file_metadata.as_arrow() != announced:
        # Something is missing, which only the last row group tells; the schema is in the footer.
        with _scratch_file(scratch) as scratch_file:
            whole = pq.ParquetFile(file)
            final = schema.with_metadata(file_metadata.as_arrow())
            with pq.ParquetWriter(scratch_file, final, compression="zstd") as writer:
                for group in range(whole.num_row_groups):
                    writer.write_table(whole.read_row_group(group))
            for opened in (scratch_file, file):
                opened.seek(0)
            file.truncate()
            shutil.copyfileobj(scratch_file, file)
    return rows


def _write_ipc(
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    file: BinaryIO,
    file_metadata: _Metadata,
    scratch: str | PathLike[str] | None,
) -> int:
    """Write an Arrow file: schema and dictionaries come first, so the rows are written twice."""
    names = [field.name for field in schema if field.type == CATEGORY]
    dictionaries: dict[str, dict[str, None]] = {name: {} for name in names}
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    rows = 0
    with _scratch_file(scratch) as scratch_file:
        with pa.ipc.new_stream(scratch_file, schema, options=options) as stream:
            for table in tables:
                unified = table.unify_dictionaries()
                for name in names:
                    for chunk in unified[name].chunks[:1]:
                        dictionaries[name] |= dict.fromkeys(chunk.dictionary.to_pylist())
                stream.write_table(unified.replace_schema_metadata(None))
                rows += table.num_rows
        scratch_file.seek(0)
        whole = {name: pa.array(list(dictionaries[name]), pa.string()) for name in names}
        final = schema.with_metadata(file_metadata.as_arrow())
        with (
            pa.ipc.open_stream(scratch_file) as batches,
            pa.ipc.new_file(file, final, options=options) as writer,
        ):
            for batch in batches:
                writer.write_batch(_recoded(batch, whole, final))
    return rows


def _recoded(
    batch: pa.RecordBatch, dictionaries: Mapping[str, pa.Array], schema: pa.Schema
) -> pa.RecordBatch:
    """Return a batch with codes into the dictionaries of the whole file."""
    arrays = []
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        if name in dictionaries:
            places = pc.index_in(array.dictionary, dictionaries[name]).cast(pa.int32())
            codes = pc.take(places, array.indices)
            arrays.append(pa.DictionaryArray.from_arrays(codes, dictionaries[name]))
        else:
            arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


@contextmanager
def _scratch_file(folder: str | PathLike[str] | None) -> Iterator[Any]:
    with tempfile.TemporaryFile(dir=folder) as file:
        yield file


def parse_file_format(path: str | PathLike[str]) -> FileFormat:
    """Return the file format that the suffix of a path stands for.

    Raises
    ------
    InputError
        Naming the suffixes that ticks are written with.

    Examples
    --------
    >>> parse_file_format("ticks.feather")
    'ipc'
    """
    suffix = Path(path).suffix
    if suffix not in _FORMATS:
        raise InputError(
            f"{path}: ticks are not written as {suffix or 'a file without a suffix'}; use "
            f"{', '.join(_FORMATS)}",
            path=str(path),
        )
    return _FORMATS[suffix]


_WRITERS: Final[dict[FileFormat, _Writer]] = {
    "csv": _write_csv,
    "ipc": _write_ipc,
    "parquet": _write_parquet,
}
