"""Columns of sealed files, kept from the load that decoded them for those that come after.

A notebook loads the same stretch again with every run of its cell. What a load made is kept as it
is, nothing is copied; all of it can be forgotten at any time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.schema import Column, StringColumn, TickColumns

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

__all__ = ["Decoded", "KeptFile", "Rows", "joined", "run_together"]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows ``start`` to ``stop`` of some columns."""

    part: TickColumns
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class KeptFile:
    """The ticks of one file.

    Attributes
    ----------
    identity : hashable
        What the file was when it was read; as long as it is the same, so are its ticks.
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
        """The rows with times in ``[start_ns, end_ns)``."""
        if start_ns <= self.first_ns and self.last_ns < end_ns:
            return list(self.rows)
        return [_within(rows, start_ns, end_ns) for rows in self.rows]


class Decoded:
    """What the last loads decoded, up to so many bytes.

    Parameters
    ----------
    most_bytes : int
        Of memory. A load that is larger is not kept.

    Examples
    --------
    >>> from ibticks.schema import Values
    >>> part = TickColumns(2, {"price": Values(np.array([1.0, 2.0]))})
    >>> decoded = Decoded(1000)
    >>> decoded.keep([part], {"a": KeptFile("as it was", (Rows(part, 0, 2),), 0, 0)})
    >>> decoded.find("a", "as it was", ["price"]).rows == (Rows(part, 0, 2),)
    True
    >>> decoded.find("a", "changed", ["price"]), decoded.find("a", "as it was", ["size"])
    (None, None)
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes: Final = most_bytes
        self._lock = threading.Lock()
        # By identity: of two loads of the same file, the later one counts.
        self._parts: OrderedDict[int, tuple[TickColumns, int]] = OrderedDict()
        self._files: dict[str, KeptFile] = {}

    @property
    def bytes(self) -> int:
        """How much is kept now."""
        with self._lock:
            return sum(size for _, size in self._parts.values())

    def __contains__(self, path: str) -> bool:
        """Whether there is something of a file, be it what the file is now or not."""
        return path in self._files

    def find(self, path: str, identity: Hashable, columns: Sequence[str]) -> KeptFile | None:
        """The ticks of a file; None where they, or some column of them, are not there.

        Parameters
        ----------
        path : str
        identity : hashable
            What the file is now.
        columns : sequence of str
        """
        with self._lock:
            kept = self._files.get(path)
            if kept is None or kept.identity != identity:
                return None
            if any(name not in rows.part.columns for rows in kept.rows for name in columns):
                return None
            for rows in kept.rows:
                self._parts.move_to_end(id(rows.part))
            return kept

    def keep(self, parts: Sequence[TickColumns], files: Mapping[str, KeptFile]) -> None:
        """Keep what a load made.

        Parameters
        ----------
        parts : sequence of TickColumns
            From now on they can only be read.
        files : mapping of str to KeptFile
            By path; their rows are among the parts.
        """
        used = {id(rows.part) for file in files.values() for rows in file.rows}
        sizes = [(part, _size(part)) for part in parts if id(part) in used]
        if not sizes or sum(size for _, size in sizes) > self.most_bytes:
            return
        with self._lock:
            for part, size in sizes:
                for array in _arrays(part):
                    array.flags.writeable = False
                self._parts[id(part)] = part, size
            self._files.update(files)
            kept = sum(size for _, size in self._parts.values())
            while kept > self.most_bytes:
                kept -= self._parts.popitem(last=False)[1][1]
            self._files = {
                path: file
                for path, file in self._files.items()
                if all(id(rows.part) in self._parts for rows in file.rows)
            }
            needed = {id(rows.part) for file in self._files.values() for rows in file.rows}
            for key in self._parts.keys() - needed:
                del self._parts[key]

    def forget(self) -> None:
        """Keep nothing any more."""
        with self._lock:
            self._parts.clear()
            self._files.clear()


def joined(pieces: Sequence[Rows], columns: Sequence[str]) -> list[TickColumns]:
    """Some rows after each other, in as few parts as can be, as if they had just been decoded.

    Examples
    --------
    >>> from ibticks.schema import Values
    >>> part = TickColumns(3, {"price": Values(np.array([1.0, 2.0, 3.0]))})
    >>> one, other = joined([Rows(part, 1, 2), Rows(part, 2, 3), Rows(part, 0, 1)], ["price"])
    >>> one.numbers("price"), other.numbers("price")
    (array([2., 3.]), array([1.]))
    """
    return [_taken(rows, columns) for rows in run_together(pieces) if rows.start < rows.stop]


def run_together(pieces: Iterable[Rows]) -> list[Rows]:
    """The same rows, those that follow each other in one part as one.

    Examples
    --------
    >>> part = TickColumns(3, {})
    >>> [(rows.start, rows.stop) for rows in run_together([Rows(part, 0, 1), Rows(part, 1, 3)])]
    [(0, 3)]
    """
    runs: list[Rows] = []
    for rows in pieces:
        if runs and runs[-1].part is rows.part and runs[-1].stop == rows.start:
            runs[-1] = Rows(rows.part, runs[-1].start, rows.stop)
        else:
            runs.append(rows)
    return runs


def _taken(rows: Rows, columns: Sequence[str]) -> TickColumns:
    part = rows.part
    wanted = TickColumns(
        part.rows, {name: column for name, column in part.columns.items() if name in columns}
    )
    if (rows.start, rows.stop) == (0, part.rows):
        return wanted
    return _tidy(wanted.take(slice(rows.start, rows.stop)))


def _within(rows: Rows, start_ns: int, end_ns: int) -> Rows:
    times = rows.part.timestamp[rows.start : rows.stop]
    first, last = np.searchsorted(times, (start_ns, end_ns)).tolist()
    return Rows(rows.part, rows.start + first, rows.start + last)


def _tidy(part: TickColumns) -> TickColumns:
    """Only the strings that stand in these rows, in order of first appearance."""
    columns = {
        name: _own_strings(column) if isinstance(column, StringColumn) else column
        for name, column in part.columns.items()
    }
    return TickColumns(part.rows, columns, part.missing, part.left_out)


def _own_strings(column: StringColumn) -> StringColumn:
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


def _arrays(part: TickColumns) -> Iterator[npt.NDArray[Any]]:
    for column in part.columns.values():
        yield from _arrays_of(column)


def _arrays_of(column: Column) -> Iterator[npt.NDArray[Any]]:
    for each in fields(column):
        value = getattr(column, each.name)
        if isinstance(value, np.ndarray):
            yield value


def _size(part: TickColumns) -> int:
    """The memory that is held by these columns: that of the arrays they are views of."""
    owners = {id(owner): owner for owner in map(_owner, _arrays(part))}
    return sum(owner.nbytes for owner in owners.values())


def _owner(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.base if isinstance(array.base, np.ndarray) else array
