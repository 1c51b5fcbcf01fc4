"""Asking the ledger of coverage about some streams and some time."""

from __future__ import annotations

import time
from bisect import bisect_right
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.coverage._model import Coverage, Stretch, clipped
from ibticks.coverage._rebuild import left_open
from ibticks.coverage._states import State
from ibticks.errors import CorruptFileError, StorageError
from ibticks.storage import FileKey, is_written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ibticks.index import CoverageRecord, FileRecord, Index

__all__ = ["cover", "told"]

Interval = tuple[int, int]
Stream = tuple[int, str]

_WEEKS: Final = 21 * 86_400 * 1_000_000_000


def cover(
    root: Path,
    index: Index,
    streams: Sequence[Stream],
    intervals: Sequence[Interval],
    *,
    label: str = "",
    now_ns: int | None = None,
) -> Coverage:
    """What was captured of some streams in some time, and what was not.

    Parameters
    ----------
    root : Path
        The store.
    index : Index
    streams : sequence of (int, str)
        Contract ids and tick types.
    intervals : sequence of (int, int)
        Half-open ranges of UTC nanoseconds, in order, none overlapping another. One that begins
        or ends with all time reaches as far as anything is known or stored of the streams. Then, a
        stream of which nothing more is known has ended: that is no gap.
    label : str
    now_ns : int, optional
        Instead of the clock. What lies after it is left out; a capture that runs has captured up
        to here.

    Returns
    -------
    Coverage
    """
    ledgers = _Ledgers(root, index, streams, intervals, now_ns)
    return replace(
        ledgers.coverage(intervals, ledgers.reach(index)),
        label=label,
        symbols={each.contract_id: each.symbol for each in index.contracts() if each.symbol},
    )


def told(
    root: Path, index: Index, streams: Sequence[Stream], intervals: Sequence[Interval]
) -> list[list[Any]]:
    """What the ledger tells of some streams and some time, for the metadata of a frame.

    One query where a capture kept a ledger, two where none did; see :meth:`Coverage.metadata`.
    """
    ledgers = _Ledgers(root, index, streams, intervals, None)
    return ledgers.coverage(intervals, []).metadata()


class _Ledgers:
    """The rows of some streams as far as they matter for some time, each with its end."""

    def __init__(
        self,
        root: Path,
        index: Index,
        streams: Sequence[Stream],
        intervals: Sequence[Interval],
        now_ns: int | None,
    ) -> None:
        self._root: Final = root
        self._index: Final = index
        self._ids: Final = sorted({contract_id for contract_id, _ in streams})
        self._kinds: Final = sorted({kind for _, kind in streams})
        self._now: Final = time.time_ns() if now_ns is None else now_ns
        self._first, last = (intervals[0][0], intervals[-1][1]) if intervals else (0, 0)
        self._until = min(last, self._now)
        self._from_the_beginning = self._first == TIME_MIN
        self._to_the_end = last == TIME_MAX
        self._began: set[Stream] | None = None
        self._begin: dict[Stream, int] = {}
        self._rows: dict[Stream, list[Stretch]] = {stream: [] for stream in streams}
        if self._first < self._until:
            self._read()

    def _read(self) -> None:
        first = None if self._from_the_beginning else self._first
        found: dict[Stream, list[CoverageRecord]] = {stream: [] for stream in self._rows}
        for row in self._index.coverage(self._ids, self._kinds, first, self._until):
            if (stream := (row.contract_id, row.tick_type)) in found:
                found[stream].append(row)
        for stream, rows in found.items():
            if not rows:
                continue
            self._begin[stream] = rows[0].start_ns
            if rows[-1].end_ns is None and not is_written(self._root, *stream):
                rows[-1:] = left_open(self._root, self._index, rows[-1])
            self._rows[stream] = list(_ended(rows, self._now))

    def reach(self, index: Index) -> list[Interval]:
        """Return the intervals of the stored ticks, where all time is asked for."""
        if not (self._from_the_beginning or self._to_the_end):
            return []
        sealed = index.tick_ranges(self._ids, self._kinds)
        ranges = [found for stream, found in sealed.items() if stream in self._rows]
        for file in index.open_files(self._ids, self._kinds):
            if (file.contract_id, file.tick_type) in self._rows:
                first, last = _ticks_of(self._root, file)
                if first is not None and last is not None:
                    ranges.append((first, last))
        return [(first, last + 1) for first, last in ranges]

    def coverage(self, intervals: Sequence[Interval], reach: Sequence[Interval]) -> Coverage:
        """The stretches that fill the intervals; all time is what is known, and ``reach``."""
        known = [(row.start_ns, row.end_ns) for rows in self._rows.values() for row in rows]
        known += reach
        start, end = self._first, self._until
        if self._from_the_beginning:
            start = min((first for first, _ in known), default=end)
        if self._to_the_end:
            end = min(end, max((last for _, last in known), default=start))
        spans = tuple(clipped(intervals, [(start, end)]))
        stretches = [
            stretch
            for stream in self._rows
            for span in spans
            for stretch in _joined(self._tiles(stream, span))
        ]
        return Coverage(tuple(self._rows), spans, tuple(stretches))

    def _tiles(self, stream: Stream, span: Interval) -> Iterator[Stretch]:
        """The stretches of a stream that fill a span."""
        at, until = span
        rows = self._rows[stream]
        for row in rows[bisect_right(rows, at, key=lambda row: row.end_ns) :]:
            if row.start_ns >= until:
                break
            if row.start_ns > at:
                yield Stretch(*stream, at, row.start_ns, self._silence(stream, at))
                at = row.start_ns
            yield replace(row, start_ns=at, end_ns=min(row.end_ns, until))
            at = min(row.end_ns, until)
        if at < until:
            state = self._silence(stream, at)
            if state is State.NOT_RUNNING and self._to_the_end:
                # Other streams go on: that this one does not is no gap in it.
                state = State.ENDED
            yield Stretch(*stream, at, until, state)

    def _silence(self, stream: Stream, at_ns: int) -> State:
        """What it means that a ledger has no row at some time."""
        if self._begin.get(stream, self._until) <= at_ns or stream in self._begun():
            return State.NOT_RUNNING
        return State.UNKNOWN

    def _begun(self) -> set[Stream]:
        """The streams that were captured before the time asked for."""
        if self._began is None:
            from ibticks.config import TIME_MIN

            self._began = set()
            recent = max(self._first - _WEEKS, TIME_MIN)
            # Mostly the weeks before tell; whole years are read only if they do not.
            for since in () if self._from_the_beginning else (recent, None):
                rows = self._index.coverage(self._ids, self._kinds, since, self._first)
                self._began.update((row.contract_id, row.tick_type) for row in rows)
                if self._began.issuperset(self._rows):
                    break
        return self._began


def _ticks_of(root: Path, file: FileRecord) -> tuple[int | None, int | None]:
    """Return the times of the first and the last tick of a file that is not sealed."""
    # The index has the whole hour of such a file, because a later arrival may have any time of it.
    from ibticks.storage import summarise

    key = FileKey.parse(file.path)
    # A file that cannot be read may have any tick of its hour.
    with suppress(CorruptFileError, StorageError):
        if key is not None:
            record = summarise(root, key).record
            return record.first_tick_ns, record.last_tick_ns
    return file.start_ns, file.end_ns


def _ended(rows: Sequence[CoverageRecord], now_ns: int) -> Iterator[Stretch]:
    """Rows that have a length, each ending where the next one begins at the latest."""
    long = [row for row in rows if row.end_ns is None or row.end_ns > row.start_ns]
    starts = [row.start_ns for row in long] + [now_ns]
    for row, following in zip(long, starts[1:], strict=True):
        end = following if row.end_ns is None else min(row.end_ns, following)
        if row.start_ns < end:
            state = State(row.state)
            yield Stretch(row.contract_id, row.tick_type, row.start_ns, end, state, row.reason)


def _joined(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Stretches that follow one another and say the same, as one."""
    for _, same in groupby(stretches, lambda each: (each.state, each.reason)):
        run = list(same)
        yield replace(run[0], end_ns=run[-1].end_ns)
