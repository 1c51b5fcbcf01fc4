"""Queries of the coverage ledger: the coverage of some streams in a time range."""

from __future__ import annotations

import time
from bisect import bisect_right
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from ibticks._types import Interval, StreamKey
from ibticks.config import NANOSECONDS, TIME_MAX, TIME_MIN
from ibticks.coverage._model import Coverage
from ibticks.coverage._rebuild import closing_rows
from ibticks.coverage._states import CoverageInterval, CoverageState, clip_intervals
from ibticks.errors import CorruptFileError, StorageError
from ibticks.storage import FileKey, StreamLock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ibticks.index import CoverageRecord, FileRecord, Index

__all__ = ["coverage_metadata", "query_coverage"]

_RECENT_NS: Final = 21 * 86_400 * NANOSECONDS


def query_coverage(
    root: Path,
    index: Index,
    streams: Sequence[StreamKey],
    intervals: Sequence[Interval],
    *,
    label: str = "",
    now_ns: int | None = None,
) -> Coverage:
    """Return the coverage of some streams in some intervals.

    Parameters
    ----------
    root : Path
        Folder of the store.
    index : Index
    streams : sequence of StreamKey
    intervals : sequence of Interval
        In order, without overlaps. A range that begins or ends with all time reaches as far as
        anything is known or stored of the streams; then the time after the last row of a stream is
        ``ended``, and no gap.
    label : str
        Description of the selection.
    now_ns : int, optional
        Instead of the clock. Later time is left out; a running capture has captured up to now.
    """
    ledgers = _Ledgers(root, index, streams, intervals, now_ns)
    return replace(
        ledgers.coverage(intervals, ledgers.stored_intervals(index)),
        label=label,
        symbols={
            contract.contract_id: contract.symbol
            for contract in index.contracts()
            if contract.symbol
        },
    )


def coverage_metadata(
    root: Path,
    index: Index,
    streams: Sequence[StreamKey],
    intervals: Sequence[Interval],
) -> list[list[Any]]:
    """Return the coverage of some streams for the metadata of a frame.

    It costs one query where a capture kept a ledger, two where none did; see
    :meth:`Coverage.metadata`.
    """
    ledgers = _Ledgers(root, index, streams, intervals, None)
    return ledgers.coverage(intervals, []).metadata()


class _Ledgers:
    """Ledger rows of some streams that meet a time range, each with an end."""

    def __init__(
        self,
        root: Path,
        index: Index,
        streams: Sequence[StreamKey],
        intervals: Sequence[Interval],
        now_ns: int | None,
    ) -> None:
        self._root: Final = root
        self._index: Final = index
        self._ids: Final = sorted({contract_id for contract_id, _ in streams})
        self._tick_types: Final = sorted({tick_type for _, tick_type in streams})
        self._now_ns: Final = time.time_ns() if now_ns is None else now_ns
        self._start_ns, last = (intervals[0][0], intervals[-1][1]) if intervals else (0, 0)
        self._end_ns = min(last, self._now_ns)
        self._is_open_start = self._start_ns == TIME_MIN
        self._is_open_end = last == TIME_MAX
        self._captured_before: set[StreamKey] | None = None
        self._first_row_ns: dict[StreamKey, int] = {}
        self._rows: dict[StreamKey, list[CoverageInterval]] = {
            StreamKey(*stream): [] for stream in streams
        }
        if self._start_ns < self._end_ns:
            self._read()

    def _read(self) -> None:
        start_ns = None if self._is_open_start else self._start_ns
        by_stream: dict[StreamKey, list[CoverageRecord]] = {stream: [] for stream in self._rows}
        for row in self._index.coverage(self._ids, self._tick_types, start_ns, self._end_ns):
            if (stream := StreamKey(row.contract_id, row.tick_type)) in by_stream:
                by_stream[stream].append(row)
        for stream, rows in by_stream.items():
            if not rows:
                continue
            self._first_row_ns[stream] = rows[0].start_ns
            if rows[-1].end_ns is None and not StreamLock.is_locked(self._root, *stream):
                abandoned = rows.pop()
                rows += closing_rows(self._root, self._index, abandoned)
            self._rows[stream] = list(_with_ends(rows, self._now_ns))

    def stored_intervals(self, index: Index) -> list[Interval]:
        """Return the intervals of the stored ticks, where all time is asked for."""
        if not (self._is_open_start or self._is_open_end):
            return []
        sealed = index.tick_ranges(self._ids, self._tick_types)
        ranges = [ticks for stream, ticks in sealed.items() if stream in self._rows]
        for file in index.open_files(self._ids, self._tick_types):
            if (file.contract_id, file.tick_type) in self._rows:
                first, last = _tick_range(self._root, file)
                if first is not None and last is not None:
                    ranges.append((first, last))
        return [Interval(first, last + 1) for first, last in ranges]

    def coverage(self, intervals: Sequence[Interval], stored: Sequence[Interval]) -> Coverage:
        """Return the coverage that fills the intervals; all time is that of the rows and ticks."""
        known = [row.interval for rows in self._rows.values() for row in rows]
        known += stored
        start, end = self._start_ns, self._end_ns
        if self._is_open_start:
            start = min((first for first, _ in known), default=end)
        if self._is_open_end:
            end = min(end, max((last for _, last in known), default=start))
        asked = tuple(clip_intervals(intervals, [Interval(start, end)]))
        state_intervals = [
            merged
            for stream in self._rows
            for interval in asked
            for merged in _merge_equal(self._fill(stream, interval))
        ]
        return Coverage(tuple(self._rows), asked, tuple(state_intervals))

    def _fill(self, stream: StreamKey, interval: Interval) -> Iterator[CoverageInterval]:
        """Yield the coverage intervals of a stream that fill an interval."""
        at, until = interval
        rows = self._rows[stream]
        for row in rows[bisect_right(rows, at, key=lambda row: row.end_ns) :]:
            if row.start_ns >= until:
                break
            if row.start_ns > at:
                yield CoverageInterval(*stream, at, row.start_ns, self._rowless_state(stream, at))
                at = row.start_ns
            yield replace(row, start_ns=at, end_ns=min(row.end_ns, until))
            at = min(row.end_ns, until)
        if at < until:
            state = self._rowless_state(stream, at)
            if state is CoverageState.NOT_RUNNING and self._is_open_end:
                # The range ends with the last stream: the others are no gaps up to there.
                state = CoverageState.ENDED
            yield CoverageInterval(*stream, at, until, state)

    def _rowless_state(self, stream: StreamKey, at_ns: int) -> CoverageState:
        """Return the state of a time for which the ledger has no row."""
        if self._first_row_ns.get(stream, self._end_ns) <= at_ns or stream in self._captured():
            return CoverageState.NOT_RUNNING
        return CoverageState.UNKNOWN

    def _captured(self) -> set[StreamKey]:
        """Return the streams that were captured before the time range."""
        if self._captured_before is None:
            self._captured_before = set()
            if not self._is_open_start:
                self._find_captured(max(self._start_ns - _RECENT_NS, TIME_MIN))
                # The last weeks mostly suffice; all rows are read only if they do not.
                if not self._captured_before.issuperset(self._rows):
                    self._find_captured(None)
        return self._captured_before

    def _find_captured(self, since_ns: int | None) -> None:
        assert self._captured_before is not None
        rows = self._index.coverage(self._ids, self._tick_types, since_ns, self._start_ns)
        self._captured_before.update(StreamKey(row.contract_id, row.tick_type) for row in rows)


def _tick_range(root: Path, file: FileRecord) -> tuple[int | None, int | None]:
    """Return the times of the first and the last tick of a file that is not sealed."""
    # The index has the whole hour of such a file, because a later arrival may have any time of it.
    from ibticks.storage import summarise_file

    key = FileKey.parse(file.path)
    # A file that cannot be read may have any tick of its hour.
    with suppress(CorruptFileError, StorageError):
        if key is not None:
            record = summarise_file(root, key).record
            return record.first_tick_ns, record.last_tick_ns
    return file.start_ns, file.end_ns


def _with_ends(rows: Sequence[CoverageRecord], now_ns: int) -> Iterator[CoverageInterval]:
    """Yield the rows that have a length, each ending where the next one begins at the latest."""
    long = [row for row in rows if row.end_ns is None or row.end_ns > row.start_ns]
    starts = [row.start_ns for row in long] + [now_ns]
    for row, next_start in zip(long, starts[1:], strict=True):
        end = next_start if row.end_ns is None else min(row.end_ns, next_start)
        if row.start_ns < end:
            state = CoverageState(row.state)
            yield CoverageInterval(
                row.contract_id, row.tick_type, row.start_ns, end, state, row.reason
            )


def _merge_equal(intervals: Iterable[CoverageInterval]) -> Iterator[CoverageInterval]:
    """Merge adjacent intervals of equal state and reason."""
    for _, group in groupby(intervals, lambda interval: (interval.state, interval.reason)):
        equal = list(group)
        yield replace(equal[0], end_ns=equal[-1].end_ns)
