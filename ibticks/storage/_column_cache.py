"""LRU cache of the decoded columns of sealed files, and the reader that uses it.

A notebook loads the same interval again with every run of its cell. The arrays of a load are kept
as they are, without a copy; all of them can be dropped at any time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, fields
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.errors import StorageError
from ibticks.schema import Column, StringColumn, TickColumns
from ibticks.storage._file_reader import FileReader, sort_records
from ibticks.storage._tick_reader import read_chunks

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ibticks.index import FileRecord, Index
    from ibticks.storage._tick_reader import ColumnChunk

__all__ = ["CachedFile", "ColumnCache", "Rows", "join_rows", "merge_adjacent", "read_cached_ticks"]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows ``start`` to ``stop`` of some columns."""

    columns: TickColumns
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class CachedFile:
    """The decoded ticks of one file.

    Attributes
    ----------
    identity : hashable
        Identity of the file when it was read; as long as it is the same, so are its ticks.
    rows : tuple of Rows
        In the order of the file, which is that of their times.
    first_ns, last_ns : int
        Earliest and latest time, UTC nanoseconds.
    """

    identity: Hashable
    rows: tuple[Rows, ...]
    first_ns: int
    last_ns: int

    def within(self, start_ns: int, end_ns: int) -> list[Rows]:
        """Return the rows with times in ``[start_ns, end_ns)``."""
        if start_ns <= self.first_ns and self.last_ns < end_ns:
            return list(self.rows)
        return [_within(rows, start_ns, end_ns) for rows in self.rows]


class ColumnCache:
    """LRU cache of decoded columns, up to a number of bytes; its lock makes it safe for threads.

    Parameters
    ----------
    max_bytes : int
        Limit of its memory. A load that is larger is not cached.

    Examples
    --------
    >>> from ibticks.schema import Values
    >>> columns = TickColumns(2, {"price": Values(np.array([1.0, 2.0]))})
    >>> cache = ColumnCache(1000)
    >>> cache.put([columns], {"a": CachedFile("version 1", (Rows(columns, 0, 2),), 0, 0)})
    >>> cache.get("a", "version 1", ["price"]).rows == (Rows(columns, 0, 2),)
    True
    >>> cache.get("a", "version 2", ["price"]), cache.get("a", "version 1", ["size"])
    (None, None)
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes: Final = max_bytes
        self._lock = threading.Lock()
        # Chunks by identity: of two loads of the same file, the later one counts.
        self._chunks: OrderedDict[int, tuple[TickColumns, int]] = OrderedDict()
        self._files: dict[str, CachedFile] = {}

    @property
    def bytes(self) -> int:
        """Bytes in the cache now."""
        with self._lock:
            return sum(size for _, size in self._chunks.values())

    def __contains__(self, path: str) -> bool:
        """Return whether some version of a file is cached."""
        return path in self._files

    def get(self, path: str, identity: Hashable, columns: Sequence[str]) -> CachedFile | None:
        """Return the ticks of a file, or None where they, or some column of them, are not cached.

        Parameters
        ----------
        path : str
        identity : hashable
            Identity of the file now.
        columns : sequence of str
        """
        with self._lock:
            file = self._files.get(path)
            if file is None or file.identity != identity:
                return None
            if any(name not in rows.columns.columns for rows in file.rows for name in columns):
                return None
            for rows in file.rows:
                self._chunks.move_to_end(id(rows.columns))
            return file

    def put(self, chunks: Sequence[TickColumns], files: Mapping[str, CachedFile]) -> None:
        """Cache the columns of a load.

        Parameters
        ----------
        chunks : sequence of TickColumns
            From now on they are read-only.
        files : mapping of str to CachedFile
            By path; their rows are among the chunks.
        """
        used = {id(rows.columns) for file in files.values() for rows in file.rows}
        sizes = [(chunk, _size(chunk)) for chunk in chunks if id(chunk) in used]
        if not sizes or sum(size for _, size in sizes) > self.max_bytes:
            return
        with self._lock:
            for chunk, size in sizes:
                for array in _arrays(chunk):
                    array.flags.writeable = False
                self._chunks[id(chunk)] = chunk, size
            self._files.update(files)
            total = sum(size for _, size in self._chunks.values())
            while total > self.max_bytes:
                total -= self._chunks.popitem(last=False)[1][1]
            self._files = {
                path: file
                for path, file in self._files.items()
                if all(id(rows.columns) in self._chunks for rows in file.rows)
            }
            needed = {id(rows.columns) for file in self._files.values() for rows in file.rows}
            for key in self._chunks.keys() - needed:
                del self._chunks[key]

    def clear(self) -> None:
        """Empty the cache."""
        with self._lock:
            self._chunks.clear()
            self._files.clear()


def join_rows(ranges: Sequence[Rows], columns: Sequence[str]) -> list[TickColumns]:
    """Return some rows in as few chunks as possible, as if they had just been decoded.

    Examples
    --------
    >>> from ibticks.schema import Values
    >>> chunk = TickColumns(3, {"price": Values(np.array([1.0, 2.0, 3.0]))})
    >>> one, other = join_rows([Rows(chunk, 1, 2), Rows(chunk, 2, 3), Rows(chunk, 0, 1)], ["price"])
    >>> one.numbers("price"), other.numbers("price")
    (array([2., 3.]), array([1.]))
    """
    return [_take(rows, columns) for rows in merge_adjacent(ranges) if rows.start < rows.stop]


def merge_adjacent(ranges: Iterable[Rows]) -> list[Rows]:
    """Merge row ranges of the same columns that follow each other.

    Examples
    --------
    >>> chunk = TickColumns(3, {})
    >>> merged = merge_adjacent([Rows(chunk, 0, 1), Rows(chunk, 1, 3)])
    >>> [(rows.start, rows.stop) for rows in merged]
    [(0, 3)]
    """
    merged: list[Rows] = []
    for rows in ranges:
        if merged and merged[-1].columns is rows.columns and merged[-1].stop == rows.start:
            merged[-1] = Rows(rows.columns, merged[-1].start, rows.stop)
        else:
            merged.append(rows)
    return merged


def _take(rows: Rows, names: Sequence[str]) -> TickColumns:
    every = rows.columns
    wanted = TickColumns(
        every.rows, {name: column for name, column in every.columns.items() if name in names}
    )
    if (rows.start, rows.stop) == (0, every.rows):
        return wanted
    return _drop_unused_strings(wanted.take(slice(rows.start, rows.stop)))


def _within(rows: Rows, start_ns: int, end_ns: int) -> Rows:
    times = rows.columns.timestamp[rows.start : rows.stop]
    first, last = np.searchsorted(times, (start_ns, end_ns)).tolist()
    return Rows(rows.columns, rows.start + first, rows.start + last)


def _drop_unused_strings(chunk: TickColumns) -> TickColumns:
    """Keep only the strings that stand in these rows, in order of first appearance."""
    columns = {
        name: _used_strings(column) if isinstance(column, StringColumn) else column
        for name, column in chunk.columns.items()
    }
    return TickColumns(chunk.rows, columns, chunk.missing, chunk.left_out)


def _used_strings(column: StringColumn) -> StringColumn:
    codes, many = column.codes, len(column.values)
    first = np.full(many + 1, len(codes), dtype=np.intp)  # absent is the last place
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    order = np.argsort(first[:many], kind="stable")
    order = order[: int(np.count_nonzero(first[:many] < len(codes)))]
    if np.array_equal(order, np.arange(many)):
        return column
    places = np.full(many + 1, -1, dtype=np.int32)
    places[order] = np.arange(len(order))
    return StringColumn(places[codes], tuple(column.values[place] for place in order))


def _arrays(chunk: TickColumns) -> Iterator[npt.NDArray[Any]]:
    for column in chunk.columns.values():
        yield from _arrays_of(column)


def _arrays_of(column: Column) -> Iterator[npt.NDArray[Any]]:
    for field in fields(column):
        value = getattr(column, field.name)
        if isinstance(value, np.ndarray):
            yield value


def _size(chunk: TickColumns) -> int:
    """Return the bytes of these columns: those of the arrays they are views of."""
    owners = {id(owner): owner for owner in map(_owner, _arrays(chunk))}
    return sum(owner.nbytes for owner in owners.values())


def _owner(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.base if isinstance(array.base, np.ndarray) else array


def read_cached_ticks(
    root: Path,
    records: Sequence[FileRecord],
    columns: Sequence[str],
    cache: ColumnCache,
    *,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
    strict: bool = False,
    index: Index | None = None,
) -> list[TickColumns]:
    """Read ticks as :func:`ibticks.storage.read_ticks` does, decoding only what is not cached.

    Sealed files that are read from beginning to end are put into the cache. Parameters, warnings
    and errors are those of ``read_ticks``; ``columns`` must have ``timestamp``.
    """
    chunks: list[TickColumns] = []
    cached = _look_up(root, records, columns, cache)
    for is_cached, group in groupby(cached, lambda pair: pair[1] is not None):
        if is_cached:
            rows = [
                part
                for _, file in group
                if file is not None
                for part in file.within(start_ns, end_ns)
            ]
            chunks += join_rows(rows, columns)
            continue
        decoded = read_chunks(
            root,
            [record for record, _ in group],
            columns,
            start_ns=start_ns,
            end_ns=end_ns,
            strict=strict,
            index=index,
        )
        new = [chunk.columns for chunk in decoded]
        cache.put(new, _complete_files(decoded, start_ns, end_ns))
        chunks += new
    return chunks


def _look_up(
    root: Path, records: Sequence[FileRecord], columns: Sequence[str], cache: ColumnCache
) -> list[tuple[FileRecord, CachedFile | None]]:
    with FileReader(root) as reader:
        return [
            (record, _look_up_file(reader, record, columns, cache))
            for record in sort_records(records)
        ]


def _look_up_file(
    reader: FileReader, record: FileRecord, columns: Sequence[str], cache: ColumnCache
) -> CachedFile | None:
    if record.path not in cache:
        return None
    try:
        reader.open(record.path)
    except StorageError:
        return None  # reading it will report the error
    return cache.get(record.path, reader.identity, columns)


def _complete_files(
    chunks: Sequence[ColumnChunk], start_ns: int, end_ns: int
) -> dict[str, CachedFile]:
    """Return the files of which every block was decoded, in full and in order of time."""
    blocks: dict[str, list[tuple[FileRecord, Hashable, Rows]]] = {}
    for chunk in chunks:
        if chunk.columns.missing:
            continue  # they would be missing from later loads, too
        for record, identity, start, stop in chunk.blocks:
            rows = Rows(chunk.columns, start, stop)
            if chunk.ordered or _is_ordered(rows):
                blocks.setdefault(record.path, []).append((record, identity, rows))
    files = {}
    for path, decoded in blocks.items():
        record, identity, _ = decoded[0]
        first = min(block.min_ns for block in record.blocks)
        last = max(block.max_ns for block in record.blocks)
        is_complete = len(decoded) == len(record.blocks) and start_ns <= first and last < end_ns
        if is_complete and all(other == identity for _, other, _ in decoded):
            merged = tuple(merge_adjacent(rows for _, _, rows in decoded))
            files[path] = CachedFile(identity, merged, first, last)
    return files


def _is_ordered(rows: Rows) -> bool:
    times = rows.columns.timestamp[rows.start : rows.stop]
    return bool(np.all(times[1:] >= times[:-1]))
