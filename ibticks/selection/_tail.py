"""The last ticks of a selection, found from its end: by the index and the block tables of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ibticks.config import HOUR_NS
from ibticks.selection._batches import narrow, overlapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from ibticks._types import Interval
    from ibticks.index import FileRecord
    from ibticks.selection._selection import Selection

__all__ = ["read_tail"]

_WINDOW_GROWTH: Final = 8


def read_tail(selection: Selection, rows: int) -> pa.Table:
    """Read the last rows of a selection, those that its whole table would end with."""
    # Whatever the index says: all ticks from some time on are the end of the frame, if they are
    # enough.
    for window in _windows(selection):
        files = window.files()
        start_ns = _find_start(window, files, rows)
        if start_ns is None:
            continue
        end = narrow(window, start_ns=start_ns)
        table = None if end is None else _read(end, files)
        if table is not None and table.num_rows >= rows:
            return table.slice(table.num_rows - rows)
    table = _read(selection, selection.files())
    return table.slice(max(table.num_rows - rows, 0))


def _windows(selection: Selection) -> Iterator[Selection]:
    """Iterate over ends of a selection, each longer than the one before."""
    last_ns = max(selection.index.last_ticks(selection.streams()).values(), default=None)
    if last_ns is None or not selection.intervals:
        return
    first_ns, length_ns = selection.intervals[0].start_ns, HOUR_NS
    end_ns = min(selection.intervals[-1].end_ns, last_ns + 1)
    while end_ns - length_ns > first_ns:
        window = narrow(selection, start_ns=end_ns - length_ns)
        if window is not None:
            yield window
        length_ns *= _WINDOW_GROWTH


def _find_start(selection: Selection, files: list[FileRecord], rows: int) -> int | None:
    """Return a time from which on there are as many ticks, late in the selection; None if not."""
    runs = sorted(
        (
            run
            for record, interval in overlapping(files, selection.intervals)
            for run in _runs(selection, record, interval, rows)
        ),
        reverse=True,
    )
    total = 0
    for start_ns, ticks in runs:
        total += ticks
        if total >= rows:
            return start_ns
    return None


def _runs(
    selection: Selection, record: FileRecord, interval: Interval, rows: int
) -> Iterator[tuple[int, int]]:
    """Iterate over the earliest time and the number of ticks of blocks, of a file, or of ticks."""
    if record.sealed and record.blocks and record.messages == record.ticks:
        for block in record.blocks:
            if interval.start_ns <= block.min_ns and block.max_ns < interval.end_ns:
                yield block.min_ns, block.messages
    elif record.sealed and record.is_inside(interval):
        yield record.start_ns, record.ticks
    else:
        for chunk in selection.read_files([record], ["timestamp"], *interval):
            times = chunk.timestamp.copy()
            if len(times) > rows > 0:
                times.partition(len(times) - rows)  # the latest ones come last
                times = times[-rows:]
            for time_ns in times.tolist():
                yield time_ns, 1


def _read(selection: Selection, files: list[FileRecord]) -> pa.Table:
    """Read some files of a selection; the rows of :meth:`Selection.to_arrow`."""
    from ibticks.frames import to_table

    return to_table(selection.read_streams(files), selection.columns)
