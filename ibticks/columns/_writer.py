"""Write a companion: the sealed hours of a stream and a UTC day, row group by row group."""

from __future__ import annotations

import json
import logging
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ibticks._version import __version__
from ibticks.columns._encodings import choose_encodings, writer_options
from ibticks.columns._reader import COMPANION_KEY, FORMAT_VERSION, file_checksum, identify
from ibticks.config import HOUR_NS
from ibticks.errors import CorruptFileError, StorageError
from ibticks.filesystem import explained, make_folder, written_beside
from ibticks.frames import to_table
from ibticks.index import CompanionHour, CompanionRecord
from ibticks.schema import COLUMNS, list_columns
from ibticks.storage import FileReader, read_ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ibticks.columns._encodings import ColumnEncoding
    from ibticks.columns._layout import CompanionKey
    from ibticks.index import FileRecord

__all__ = ["GROUP_ROWS", "write_companion"]

GROUP_ROWS: Final = 262_144
"""Rows of a row group: of the sizes tried, the fastest to read."""

_log = logging.getLogger(__name__)


def write_companion(
    root: Path, key: CompanionKey, records: Iterable[FileRecord]
) -> CompanionRecord | None:
    """Write the companion of a stream and a UTC day, or replace it as a whole.

    The ticks are read from the hour files, checked against their checksums, and written sorted by
    time, stable in the order of the files: the rows of a load. The columns are those of the tick
    type, and others that the ticks of the first hour have (an import fills ``exchange`` of quotes).
    An hour is left out, and loads read its frames, if a file of it is open, damaged, or changes
    meanwhile, or has a tick of another hour or with more columns. The caller is the only one who
    writes this companion.

    Parameters
    ----------
    root : Path
        The store.
    key : CompanionKey
    records : iterable of FileRecord
        Captured files of the stream and the day, as the index has them now.

    Returns
    -------
    CompanionRecord or None
        None if there is no hour to write; nothing is written then.

    Raises
    ------
    StorageFullError, StoreAccessError, StorageError
        If the file cannot be written; an earlier companion is as it was.
    """
    hours = _group_by_hour(record for record in records if not record.backfilled)
    path = root / key.path
    written: list[CompanionHour] = []
    with ExitStack() as stack:
        writer: _Writer | None = None
        for hour in hours:
            table = _read_hour(root, key, hour)
            if table is None:
                written += _describe_hour(hour, None)
                continue
            if not all(_is_current(root, record) for record in hour):
                continue  # sealed anew, compressed or deleted meanwhile: the next build has it
            names = _used_columns(table, key.tick_type)
            if writer is None:
                with explained(path, "writing"):
                    make_folder(path.parent)
                descriptor = stack.enter_context(written_beside(path))
                writer = stack.enter_context(_Writer(descriptor, key, names))
            elif not writer.has(names):
                _log.warning("%s has no ticks of %s: more columns", key.path, hour[0].path)
                written += _describe_hour(hour, None)
                continue
            writer.add(table)
            written += _describe_hour(hour, table.num_rows)
        if writer is None:
            return None
        rows, size, crc32c = writer.finish(written)
    identity = identify(path)
    return CompanionRecord(
        key.path,
        key.contract_id,
        key.tick_type,
        key.day_ns,
        rows,
        size,
        crc32c,
        *identity,
        tuple(written),
    )


def _group_by_hour(records: Iterable[FileRecord]) -> Iterator[list[FileRecord]]:
    """Yield the files of each hour of which all are sealed."""
    hours: dict[int, list[FileRecord]] = {}
    for record in records:
        hours.setdefault(record.hour_ns, []).append(record)
    for _, hour in sorted(hours.items()):
        if all(record.sealed and record.crc32c is not None for record in hour):
            yield sorted(hour, key=lambda record: record.path)


def _read_hour(root: Path, key: CompanionKey, hour: Sequence[FileRecord]) -> pa.Table | None:
    """Return the ticks of an hour with all columns, sorted by time; None if it is left out."""
    try:
        chunks = read_ticks(root, hour, tuple(COLUMNS), strict=True, threads=1)
    except (CorruptFileError, StorageError) as error:
        _log.warning("%s has no ticks of an hour: %s", key.path, error)
        return None
    table = to_table(chunks, tuple(COLUMNS)).replace_schema_metadata(None)
    hour_ns = hour[0].hour_ns
    if table.num_rows:
        times = table["timestamp"].cast(pa.int64())
        if times[0].as_py() < hour_ns or times[-1].as_py() >= hour_ns + HOUR_NS:
            _log.warning("%s has no ticks of %s: some are of another hour", key.path, hour[0].path)
            return None
    return table


def _is_current(root: Path, record: FileRecord) -> bool:
    """Return whether a file is the one of its record."""
    with FileReader(root) as reader:
        try:
            reader.open(record.path)
        except StorageError:
            return False
        header = reader.header
        return header is not None and header.sealed and header.crc32c == record.crc32c


def _describe_hour(hour: Sequence[FileRecord], hour_rows: int | None) -> Iterator[CompanionHour]:
    """Yield the files of an hour; ``hour_rows`` is None if it is left out."""
    for record in hour:
        rows = record.ticks if len(hour) > 1 and hour_rows is not None else hour_rows
        yield CompanionHour(record.path, record.size, record.crc32c or 0, rows)


class _Writer:
    """Collects the rows of hours and writes them as row groups of ``GROUP_ROWS``."""

    def __init__(self, descriptor: int, key: CompanionKey, columns: list[str]) -> None:
        self._descriptor = descriptor
        self._key = key
        self._columns = columns
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._rows = 0
        self._encodings: dict[str, ColumnEncoding] = {}
        self._writer: pq.ParquetWriter | None = None
        self._file = open(descriptor, "r+b", closefd=False)  # noqa: SIM115

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None and self._writer.is_open:
            self._writer.close()
        self._file.close()

    def has(self, columns: Sequence[str]) -> bool:
        """Return whether the companion has some columns."""
        return {*columns} <= {*self._columns}

    def add(self, table: pa.Table) -> None:
        """Add the ticks of the next hour."""
        self._pending.append(table.select(self._columns))
        self._pending_rows += table.num_rows
        while self._pending_rows >= GROUP_ROWS:
            pending = pa.concat_tables(self._pending)
            self._write(pending.slice(0, GROUP_ROWS))
            self._pending = [pending.slice(GROUP_ROWS)]
            self._pending_rows = pending.num_rows - GROUP_ROWS

    def finish(self, hours: Sequence[CompanionHour]) -> tuple[int, int, int]:
        """Write the last rows and the footer; return rows, bytes and CRC-32C of the file."""
        if self._pending_rows or self._writer is None:
            self._write(pa.concat_tables(self._pending))
        assert self._writer is not None
        self._writer.add_key_value_metadata(
            {COMPANION_KEY: _describe(self._key, hours, self._encodings)}
        )
        self._writer.close()
        self._file.flush()
        return self._rows, os.fstat(self._descriptor).st_size, file_checksum(self._descriptor)

    def _write(self, table: pa.Table) -> None:
        # One chunk a column: a second dictionary would end the dictionary encoding of a row group.
        group = table.unify_dictionaries().combine_chunks()
        if self._writer is None:
            self._encodings = choose_encodings(group)
            self._writer = pq.ParquetWriter(
                self._file,
                group.schema,
                write_page_checksum=True,
                sorting_columns=[pq.SortingColumn(group.column_names.index("timestamp"))],
                **writer_options(self._encodings),
            )
        self._writer.write_table(group, GROUP_ROWS)
        self._rows += group.num_rows


def _used_columns(table: pa.Table, tick_type: str) -> list[str]:
    """Return the columns of a tick type, and others that have values in a table."""
    usual = {*list_columns([tick_type]), "stream_id", "metadata"}
    return [name for name in COLUMNS if name in usual or _has_values(table[name])]


def _has_values(column: pa.ChunkedArray) -> bool:
    if pa.types.is_large_list(column.type):
        return bool(pc.sum(pc.list_value_length(column)).as_py())
    return bool(pc.count(column).as_py())


def _describe(
    key: CompanionKey, hours: Sequence[CompanionHour], encodings: Mapping[str, ColumnEncoding]
) -> str:
    """Return the metadata of a companion as JSON."""
    about: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "writer": f"ibticks {__version__}",
        "contract_id": key.contract_id,
        "tick_type": key.tick_type,
        "day_ns": key.day_ns,
        "hours": [[hour.path, hour.size, hour.crc32c, hour.rows] for hour in hours],
        "encodings": {name: f"{value.encoding} {value.codec}" for name, value in encodings.items()},
    }
    return json.dumps(about, separators=(",", ":"))
