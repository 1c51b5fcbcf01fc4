"""Ledger rows that change where a gap is backfilled, or where ticks are deleted.

A backfill may run beside a capture: it fills intervals that have ended only, by asking for the
:func:`missing_intervals` and putting the :func:`backfilled_rows` into the index. Every function
here is a pure function of rows; rows replace those of the same start in the index.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ibticks._types import Interval, StreamKey, merge_intervals
from ibticks.coverage._states import COMPLETE_STATES, CoverageState
from ibticks.errors import InputError
from ibticks.index import CoverageRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "backfilled_rows",
    "deleted_rows",
    "deleted_rows_before",
    "fill_rows",
    "missing_intervals",
    "rows_lost_by_rebuild",
    "undeleted_rows",
]

_MIN_NS: Final = -(2**63)
_MAX_NS: Final = 2**63
_STORED: Final = (CoverageState.CAPTURED, CoverageState.BACKFILLED)


def missing_intervals(
    known: Iterable[CoverageRecord], start_ns: int, end_ns: int
) -> list[Interval]:
    """Return the intervals within ``[start_ns, end_ns)`` in which ticks may be missing.

    Parameters
    ----------
    known : iterable of CoverageRecord
        Rows of the stream that meet the range, as the index has them.
    start_ns, end_ns : int

    Returns
    -------
    list of Interval
        In order; the state that has not ended yet is left out.

    Examples
    --------
    >>> rows = [
    ...     CoverageRecord(265598, "last", 10, 30, "captured"),
    ...     CoverageRecord(265598, "last", 30, 60, "disconnected"),
    ...     CoverageRecord(265598, "last", 60, None, "disconnected"),
    ... ]
    >>> [tuple(interval) for interval in missing_intervals(rows, 0, 90)]
    [(0, 10), (30, 60)]
    """
    backfill = CoverageRecord(0, "", start_ns, end_ns, CoverageState.BACKFILLED.value)
    missing: list[Interval] = []
    for row in fill_rows(known, backfill):
        if row.state == CoverageState.BACKFILLED and row.end_ns is not None:
            is_adjacent = missing and missing[-1].end_ns == row.start_ns
            begin = missing.pop().start_ns if is_adjacent else row.start_ns
            missing.append(Interval(begin, row.end_ns))
    return missing


def backfilled_rows(
    contract_id: int,
    tick_type: str,
    start_ns: int,
    end_ns: int,
    ticks: int,
    known: Iterable[CoverageRecord],
) -> list[CoverageRecord]:
    """Return the rows that change where a missing interval has been backfilled.

    The stream gets a ``backfilled`` message of the same interval, so that a rebuild makes them too.

    Parameters
    ----------
    contract_id : int
    tick_type : str
    start_ns, end_ns : int
    ticks : int
        Number of ticks in IB's history; 0 is possible.
    known : iterable of CoverageRecord
        Rows of the stream that meet the range, as the index has them.

    Raises
    ------
    InputError
        If the range is empty.
    """
    if start_ns >= end_ns:
        raise InputError(f"the interval from {start_ns} to {end_ns} ns to backfill is empty")
    state, reason = CoverageState.BACKFILLED.value, f"backfill of {ticks:,} ticks"
    return fill_rows(known, CoverageRecord(contract_id, tick_type, start_ns, end_ns, state, reason))


def fill_rows(rows: Iterable[CoverageRecord], backfill: CoverageRecord) -> list[CoverageRecord]:
    """Return the rows that change where an interval is backfilled.

    Rows of complete states stay, and so does a row that has not ended; others are cut where the
    backfill begins and ends.

    Parameters
    ----------
    rows : iterable of CoverageRecord
        Rows of the stream; those outside of the backfill are ignored.
    backfill : CoverageRecord
        A row with an end.

    Returns
    -------
    list of CoverageRecord
        New rows, and rows that replace the one of the same start.

    Examples
    --------
    >>> gap = CoverageRecord(265598, "last", 10, 90, "disconnected")
    >>> rows = fill_rows([gap], CoverageRecord(265598, "last", 20, 50, "backfilled"))
    >>> [(row.start_ns, row.end_ns, row.state) for row in rows]
    [(10, 20, 'disconnected'), (20, 50, 'backfilled'), (50, 90, 'disconnected')]
    """
    assert backfill.end_ns is not None
    at, until = backfill.start_ns, backfill.end_ns
    changed: list[CoverageRecord] = []
    for row in sorted(rows, key=lambda row: row.start_ns):
        end = _MAX_NS if row.end_ns is None else row.end_ns
        if end <= at or row.start_ns >= until:
            continue
        if row.start_ns > at:
            changed.append(replace(backfill, start_ns=at, end_ns=row.start_ns))
            at = row.start_ns
        if row.end_ns is not None and row.state not in COMPLETE_STATES:
            if row.start_ns < at:
                changed.append(replace(row, end_ns=at))
            changed.append(replace(backfill, start_ns=at, end_ns=min(end, until)))
            if until < end:
                changed.append(replace(row, start_ns=until))
        at = min(end, until)
    if at < until:
        changed.append(replace(backfill, start_ns=at))
    return changed


def deleted_rows_before(rows: Iterable[CoverageRecord], before_ns: int) -> list[CoverageRecord]:
    """Return the rows that change where the ticks before some time were deleted.

    A row that has not ended stays as it is.

    Examples
    --------
    >>> rows = deleted_rows_before([CoverageRecord(265598, "last", 10, 90, "captured")], 60)
    >>> [(row.start_ns, row.end_ns, row.state) for row in rows]
    [(10, 60, 'deleted'), (60, 90, 'captured')]
    """
    changed = []
    for row in rows:
        if row.state not in _STORED or row.end_ns is None or row.start_ns >= before_ns:
            continue
        until = min(row.end_ns, before_ns)
        reason = f"{row.state}, deleted since"
        changed.append(replace(row, end_ns=until, state=CoverageState.DELETED.value, reason=reason))
        if until < row.end_ns:
            changed.append(replace(row, start_ns=until))
    return changed


def deleted_rows(
    contract_id: int,
    tick_type: str,
    intervals: Iterable[Interval],
    known: Iterable[CoverageRecord],
) -> list[CoverageRecord]:
    """Return the rows that change where the ticks of some intervals were deleted.

    Captured and backfilled time becomes ``deleted``, and so does time without a row; gaps stay.

    Parameters
    ----------
    contract_id : int
    tick_type : str
    intervals : iterable of Interval
    known : iterable of CoverageRecord
        Rows of the stream that meet the intervals, as the index has them.

    Examples
    --------
    >>> rows = [CoverageRecord(265598, "last", 10, 90, "captured")]
    >>> changed = deleted_rows(265598, "last", [Interval(30, 60)], rows)
    >>> [(row.start_ns, row.end_ns, row.state) for row in changed]
    [(10, 30, 'captured'), (30, 60, 'deleted'), (60, 90, 'captured')]
    """
    rows = {row.start_ns: row for row in known}
    changed: dict[int, CoverageRecord] = {}
    for interval in merge_intervals(intervals):
        made = _deleted_rows(StreamKey(contract_id, tick_type), interval, rows.values())
        changed.update((row.start_ns, row) for row in made)
        rows |= changed
    return [changed[start] for start in sorted(changed)]


def _deleted_rows(
    stream: StreamKey, interval: Interval, known: Iterable[CoverageRecord]
) -> list[CoverageRecord]:
    """Return the rows that change where the ticks of one interval were deleted."""
    at, end_ns = interval
    reason = "deleted since"
    gone = CoverageRecord(*stream, at, end_ns, CoverageState.DELETED.value, reason)
    changed: list[CoverageRecord] = []
    for row in sorted(known, key=lambda row: row.start_ns):
        row_end = _MAX_NS if row.end_ns is None else row.end_ns
        if row_end <= at or row.start_ns >= end_ns:
            continue
        begin, until = max(row.start_ns, at), min(row_end, end_ns)
        if begin > at:
            changed.append(replace(gone, start_ns=at, end_ns=begin))
        if row.state in _STORED:
            if row.start_ns < begin:
                changed.append(replace(row, end_ns=begin))
            reason = f"{row.state}, deleted since"
            changed.append(replace(gone, start_ns=begin, end_ns=until, reason=reason))
            if until < row_end:
                changed.append(replace(row, start_ns=until))
        at = until
    if at < end_ns:
        changed.append(replace(gone, start_ns=at))
    return changed


def undeleted_rows(
    interval: Interval,
    other_deletions: Iterable[Interval],
    known: Iterable[CoverageRecord],
) -> list[CoverageRecord]:
    """Return the rows of a stream after the deleted ticks of an interval were restored.

    Captured and backfilled time gets its state back, as part of an adjacent row of the same state
    if there is one; time that had no row before the deletion has none again.

    Parameters
    ----------
    interval : Interval
        Interval of the deletion.
    other_deletions : iterable of Interval
        Intervals of other deletions, which stay deleted.
    known : iterable of CoverageRecord
        All rows of the stream, as the index has them.

    Examples
    --------
    >>> rows = [CoverageRecord(265598, "last", 10, 90, "captured")]
    >>> deleted = deleted_rows(265598, "last", [Interval(30, 120)], rows)
    >>> restored = undeleted_rows(Interval(30, 100), [], deleted)
    >>> [(row.start_ns, row.end_ns, row.state) for row in restored]
    [(10, 90, 'captured'), (100, 120, 'deleted')]
    """
    rows = list(known)
    for start_ns, end_ns in _subtract(interval, other_deletions):
        rows = _undeleted_rows(start_ns, end_ns, rows)
    return rows


def _subtract(interval: Interval, others: Iterable[Interval]) -> Iterator[Interval]:
    """Yield the intervals within one interval that are in none of the others."""
    at, end = interval
    for other_start, other_end in merge_intervals(others):
        if at < min(other_start, end):
            yield Interval(at, min(other_start, end))
        at = max(at, other_end)
    if at < end:
        yield Interval(at, end)


def _undeleted_rows(
    start_ns: int, end_ns: int, known: Iterable[CoverageRecord]
) -> list[CoverageRecord]:
    """Return the rows of a stream after the deleted ticks of one interval were restored."""
    rows: list[CoverageRecord] = []
    is_changed = False  # of the last row

    def add(row: CoverageRecord, *, changed: bool) -> None:
        nonlocal is_changed
        last = rows[-1] if rows else row
        touches = last.end_ns == row.start_ns and last.state == row.state
        # A restored row has no reason: it takes that of the adjacent row.
        reasons = {last.reason, row.reason} - {""}
        if touches and (changed or is_changed) and len(reasons) <= 1:
            rows[-1] = replace(last, end_ns=row.end_ns, reason=last.reason or row.reason)
        else:
            rows.append(row)
        is_changed = changed

    for row in sorted(known, key=lambda row: row.start_ns):
        row_end = _MAX_NS if row.end_ns is None else row.end_ns
        begin, until = max(row.start_ns, start_ns), min(row_end, end_ns)
        if row.state != CoverageState.DELETED or begin >= until:
            add(row, changed=False)
            continue
        if row.start_ns < begin:
            add(replace(row, end_ns=begin), changed=False)
        before = row.reason.partition(",")[0]
        if before in _STORED:
            add(replace(row, start_ns=begin, end_ns=until, state=before, reason=""), changed=True)
        if until < row_end:
            add(replace(row, start_ns=until), changed=True)
    return rows


def rows_lost_by_rebuild(
    known: Iterable[CoverageRecord], rebuilt: Iterable[CoverageRecord]
) -> list[CoverageRecord]:
    """Return the rows that a rebuild from the files would lose.

    These are the rows up to the last deletion, and the row after it as far as the files have no
    rows: the status message of a captured interval may have been deleted with its beginning.

    Parameters
    ----------
    known : iterable of CoverageRecord
        Rows of the index.
    rebuilt : iterable of CoverageRecord
        Rows made from the files.

    Examples
    --------
    >>> known = deleted_rows_before([CoverageRecord(265598, "last", 10, 90, "captured")], 60)
    >>> rebuilt = [CoverageRecord(265598, "last", 80, 90, "captured")]
    >>> [(row.start_ns, row.end_ns, row.state) for row in rows_lost_by_rebuild(known, rebuilt)]
    [(10, 60, 'deleted'), (60, 80, 'captured')]
    """
    known, rebuilt = list(known), list(rebuilt)
    last_deleted_ns: dict[StreamKey, int] = {}
    for row in known:
        if row.state == CoverageState.DELETED and row.end_ns is not None:
            stream = StreamKey(row.contract_id, row.tick_type)
            last_deleted_ns[stream] = max(row.end_ns, last_deleted_ns.get(stream, row.end_ns))
    rows: list[CoverageRecord] = []
    for row in known:
        stream = StreamKey(row.contract_id, row.tick_type)
        if row.start_ns > last_deleted_ns.get(stream, _MIN_NS):
            continue
        rebuilt_starts = [
            value.start_ns
            for value in rebuilt
            if (value.contract_id, value.tick_type) == stream
            and (value.end_ns is None or value.end_ns > row.start_ns)
        ]
        if row.state == CoverageState.DELETED:
            rows.append(row)
        elif not rebuilt_starts or min(rebuilt_starts) > row.start_ns:
            ends = [*rebuilt_starts, *([] if row.end_ns is None else [row.end_ns])]
            rows.append(replace(row, end_ns=min(ends, default=None)))
    return rows
