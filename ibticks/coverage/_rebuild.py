"""Rebuild of the coverage ledger from files, and repair of what a killed capture left in the index.

It reads the messages of captures from the files: all of them for :func:`rebuild_coverage`; only
the last ones of a stream whose capture was killed, which does not load numba.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from ibticks._types import Interval, StreamKey
from ibticks.config import HOUR_NS
from ibticks.coverage._ledger import (
    Ledger,
    StatusChange,
    apply_changes,
    effective_deletions,
    ledger_rows,
)
from ibticks.coverage._row_changes import (
    deleted_rows,
    deleted_rows_before,
    rows_lost_by_rebuild,
    undeleted_rows,
)
from ibticks.coverage._states import StreamStatus
from ibticks.errors import FormatError
from ibticks.format import from_protobuf
from ibticks.storage import StreamLock, file_suffix, iter_payloads_backwards, message_time_ns
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ibticks.index import CoverageRecord, FileRecord, Index
    from ibticks.storage import FileKey

__all__ = [
    "LedgerDeletion",
    "closing_rows",
    "end_abandoned_intervals",
    "mark_files_deleted",
    "rebuild_coverage",
    "resume_ledger",
    "undo_ledger_deletion",
]

_INFO: Final = StreamMessage(type="info").SerializeToString()


def rebuild_coverage(
    root: Path, files: Iterable[FileRecord], known: Iterable[CoverageRecord] = ()
) -> list[CoverageRecord]:
    """Compute the coverage of streams from their stored messages.

    Rows without an end belong to running captures.

    Parameters
    ----------
    root : Path
        Folder of the store.
    files : iterable of FileRecord
        All files of the streams.
    known : iterable of CoverageRecord
        Rows of the index; those of deleted ticks, of which the files hold no message, are kept.

    Returns
    -------
    list of CoverageRecord
        By contract, tick type and start; kept rows first.

    Warns
    -----
    CorruptDataWarning
        Where damage may hide a message.
    """
    rows: list[CoverageRecord] = []
    ordered = sorted(files, key=_file_order)
    for stream, group in groupby(ordered, lambda file: (file.contract_id, file.tick_type)):
        records = list(group)
        last_ns = partial(_last_message_ns, root, records)
        changes = list(_read_changes(root, records))
        running = StreamLock.is_locked(root, *stream) and _is_last_run(
            StreamLock.read_run(root, *stream), changes
        )
        rows += ledger_rows(*stream, changes, last_ns, running=running)
    return [*rows_lost_by_rebuild(known, rows), *rows]


def _is_last_run(run: str | None, changes: Sequence[StatusChange]) -> bool:
    """Return whether the last change of state is of a run; True while the run is not known."""
    of_state = [change for change in changes if change.is_of_state]
    return (
        run is None or not of_state or max(of_state, key=lambda status: status.time_ns).run == run
    )


def end_abandoned_intervals(root: Path, index: Index) -> list[CoverageRecord]:
    """End in the index the intervals that killed captures left open; returns their new rows."""
    ended: list[CoverageRecord] = []
    for row in index.coverage(start_ns=time.time_ns()):
        if row.end_ns is not None:
            continue
        stream = row.contract_id, row.tick_type
        following = index.coverage([stream[0]], [stream[1]], row.start_ns)[1:]
        if following:
            # An index that was rebuilt while a capture ran may lack the end of its row.
            ended.append(replace(row, end_ns=following[0].start_ns))
        elif not StreamLock.is_locked(root, *stream):
            rows = closing_rows(root, index, row)
            # A capture that has begun meanwhile may have written the messages just read.
            if not StreamLock.is_locked(root, *stream):
                ended += rows
    if ended and index.writable:
        index.put_coverage(ended)
    return ended


def resume_ledger(root: Path, index: Index, contract_id: int, tick_type: str, run: str) -> Ledger:
    """Begin the ledger of a run, after ending in the index what a killed run left open.

    The caller holds the lock of the stream, into which the id of the run is written.
    """
    StreamLock.write_run(root, contract_id, tick_type, run)
    known = index.coverage([contract_id], [tick_type])
    row = known.pop() if known and known[-1].end_ns is None else None
    before = Ledger(contract_id, tick_type, "", row)
    for value in known:
        before.touch(value.start_ns if value.end_ns is None else value.end_ns - 1)
    rows = _end_ledger(root, index, before)
    if rows:
        index.put_coverage(rows)
    ledger = Ledger(contract_id, tick_type, run)
    ledger.touch(before.latest_ns)
    return ledger


def closing_rows(root: Path, index: Index, row: CoverageRecord) -> list[CoverageRecord]:
    """Return the rows that replace the open row of a capture that was killed.

    The row ends with the last message that the capture stored. Further rows are those of status
    messages that the index did not get.
    """
    return _end_ledger(root, index, Ledger(row.contract_id, row.tick_type, "", row))


def _end_ledger(root: Path, index: Index, ledger: Ledger) -> list[CoverageRecord]:
    """Return the rows that end a ledger with its last stored status and its last message."""
    files = index.files([ledger.contract_id], [ledger.tick_type])
    files.sort(key=_file_order, reverse=True)
    missed: list[StatusChange] = []
    before = None
    for change in (change for file in files for change in _changes_backwards(root, file)):
        if change.time_ns <= ledger.latest_ns:
            before = change
            break
        missed.append(change)
    last_ns = partial(_last_message_ns, root, files)
    return list(apply_changes(ledger, reversed(missed), last_ns, before=before).values())


def _hour_changes(
    root: Path, index: Index, contract_id: int, tick_type: str, hour_ns: int
) -> list[StatusChange]:
    """Return the status changes in the files of one hour of a stream."""
    files = index.files([contract_id], [tick_type], hour_ns, hour_ns + HOUR_NS)
    return list(_read_changes(root, [file for file in files if file.hour_ns == hour_ns]))


def mark_files_deleted(index: Index, keys: Iterable[FileKey]) -> None:
    """Mark in the index that files, the oldest of their streams, are about to be deleted."""
    until: dict[StreamKey, int] = {}
    for key in keys:
        stream = StreamKey(key.contract_id, key.tick_type)
        until[stream] = max(key.hour_ns + HOUR_NS, until.get(stream, key.hour_ns))
    for (contract_id, tick_type), before_ns in until.items():
        known = index.coverage([contract_id], [tick_type], None, before_ns)
        if rows := deleted_rows_before(known, before_ns):
            index.put_coverage(rows)


class LedgerDeletion:
    """The rows of a stream's ledger that a deletion of ticks changes.

    Parameters
    ----------
    index : Index
    contract_id : int
    tick_type : str
    """

    def __init__(self, index: Index, contract_id: int, tick_type: str) -> None:
        self._index = index
        self._stream = StreamKey(contract_id, tick_type)
        self._before = index.coverage([contract_id], [tick_type])
        self._rows: list[CoverageRecord] = []

    def put(self, intervals: Iterable[Interval]) -> None:
        """Mark some intervals as deleted in the index, and no others of this deletion."""
        rows = deleted_rows(*self._stream, intervals, self._before)
        _replace_rows(self._index, (*self._before, *self._rows), (*self._before, *rows))
        self._rows = rows


def undo_ledger_deletion(
    root: Path,
    index: Index,
    stream: StreamKey,
    hour_ns: int,
    deleted_at_ns: int,
    ticks: int,
    write_undeleted: Callable[[StatusChange], None],
) -> None:
    """Restore the rows of a deletion whose ticks are in the store again.

    Where no ``deleted`` message matches, or later deletions took more out of the same time, the
    ledger stays as it is.

    Parameters
    ----------
    root : Path
    index : Index
    stream : (int, str)
    hour_ns : int
        The hour of the ticks.
    deleted_at_ns : int
        Time of the deletion.
    ticks : int
        Number of its ticks: the captured and the backfilled ticks of an hour are two deletions.
    write_undeleted : callable
        Writes the ``undeleted`` message of a deletion into the stream.
    """
    changes = _hour_changes(root, index, *stream, hour_ns)
    effective = effective_deletions(changes)
    for change in changes:
        if change.status != StreamStatus.DELETED or change.interval is None:
            continue
        if (change.time_ns, change.ticks) != (deleted_at_ns, ticks):
            continue
        if change in effective:
            write_undeleted(change)
            effective.remove(change)
        others = [other.interval for other in effective if other.interval is not None]
        before = index.coverage([stream[0]], [stream[1]])
        _replace_rows(index, before, undeleted_rows(change.interval, others, before))


def _replace_rows(
    index: Index, current: Iterable[CoverageRecord], wanted: Iterable[CoverageRecord]
) -> None:
    """Replace rows of a stream's ledger; of several rows with the same start the last counts."""
    before, after = ({row.start_ns: row for row in rows} for rows in (current, wanted))
    if changed := [row for start, row in after.items() if before.get(start) != row]:
        index.put_coverage(changed)
    if dropped := [row for start, row in before.items() if start not in after]:
        index.drop_coverage(dropped)


def _file_order(file: FileRecord) -> tuple[int, str, int, str]:
    return file.contract_id, file.tick_type, file.hour_ns, file_suffix(file.path)


def _may_have_status(file: FileRecord) -> bool:
    """Return whether a file may hold other messages than ticks; always true of an open one."""
    return not file.sealed or file.messages > file.ticks


def _read_changes(root: Path, files: Sequence[FileRecord]) -> Iterator[StatusChange]:
    with_status = [file for file in files if _may_have_status(file)]
    if not with_status:
        return
    from ibticks.storage import read_messages

    for time_ns, message in read_messages(root, with_status):
        change = StatusChange.parse(time_ns, message)
        if change is not None:
            yield change


def _changes_backwards(root: Path, file: FileRecord) -> Iterator[StatusChange]:
    """Yield the changes of state in a file, the last first."""
    if not _may_have_status(file) or file.backfilled:
        return
    for payload in iter_payloads_backwards(root, file):
        if not payload.startswith(_INFO):
            continue
        try:
            message = StreamMessage.FromString(payload)
            change = StatusChange.parse(message_time_ns(message), from_protobuf(message))
        except (DecodeError, FormatError):
            continue  # a damaged message; a load of the file reports it
        if change is not None and change.is_of_state:
            yield change


def _last_message_ns(root: Path, files: Sequence[FileRecord], change: StatusChange) -> int | None:
    """Return the time of the last message of the run of a change."""
    for file in sorted(files, key=_file_order, reverse=True):
        if file.backfilled:
            continue
        for payload in iter_payloads_backwards(root, file):
            try:
                message = StreamMessage.FromString(payload)
            except DecodeError:
                continue
            if message.stream_id == change.stream_id:
                return max(message_time_ns(message), change.time_ns)
    return None
