"""The ledger of coverage out of the files, and what a killed capture left of it in the index.

It reads the messages of captures from the files: all of them for :func:`rebuild_coverage`; only
the last ones of a stream where a capture ended without a word, which loads no compiler.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from ibticks.config import HOUR_NS
from ibticks.coverage._ledger import Ledger, StatusChange, deleted, intervals, replayed
from ibticks.errors import FormatError
from ibticks.format import from_protobuf
from ibticks.storage import StreamLock, file_suffix, iter_payloads_backwards, message_time_ns
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ibticks.index import CoverageRecord, FileRecord, Index
    from ibticks.storage import FileKey

__all__ = [
    "closing_rows",
    "end_abandoned_intervals",
    "mark_files_deleted",
    "read_hour_changes",
    "rebuild_coverage",
    "resume_ledger",
]

_INFO: Final = StreamMessage(type="info").SerializeToString()


def rebuild_coverage(root: Path, files: Iterable[FileRecord]) -> list[CoverageRecord]:
    """The coverage of all streams, from the stored messages.

    Rows without an end are those of captures that run.

    Parameters
    ----------
    root : Path
        The store.
    files : iterable of FileRecord
        All its files.

    Returns
    -------
    list of CoverageRecord
        By contract, tick type and start.

    Warns
    -----
    CorruptDataWarning
        Where damage may hide a message.
    """
    rows: list[CoverageRecord] = []
    ordered = sorted(files, key=_place)
    for stream, found in groupby(ordered, lambda file: (file.contract_id, file.tick_type)):
        records = list(found)
        last_ns = partial(_last_of_run, root, records)
        changes = list(_changes(root, records))
        running = StreamLock.is_locked(root, *stream) and _is_of(
            StreamLock.read_run(root, *stream), changes
        )
        rows += intervals(*stream, changes, last_ns, running=running)
    return rows


def _is_of(run: str | None, changes: Sequence[StatusChange]) -> bool:
    """Whether a run has spoken last, as far as is known: one may have begun and said nothing."""
    lived = [change for change in changes if change.is_of_state]
    return run is None or not lived or max(lived, key=lambda each: each.time_ns).run == run


def end_abandoned_intervals(root: Path, index: Index) -> list[CoverageRecord]:
    """End, in the index, the intervals that killed captures left open; returns their new rows."""
    settled: list[CoverageRecord] = []
    for row in index.coverage(start_ns=time.time_ns()):
        if row.end_ns is not None:
            continue
        stream = row.contract_id, row.tick_type
        following = index.coverage([stream[0]], [stream[1]], row.start_ns)[1:]
        if following:
            # An index that was rebuilt while a capture ran may not have heard of its end.
            settled.append(replace(row, end_ns=following[0].start_ns))
        elif not StreamLock.is_locked(root, *stream):
            rows = closing_rows(root, index, row)
            # Should a capture have begun meanwhile, its messages may be among those just read.
            if not StreamLock.is_locked(root, *stream):
                settled += rows
    if settled and index.writable:
        index.put_coverage(settled)
    return settled


def resume_ledger(root: Path, index: Index, contract_id: int, tick_type: str, run: str) -> Ledger:
    """The ledger of a run that begins; what a killed one left behind is settled in the index.

    The caller holds the lock of the stream, which is from now on known to be held by this run.
    """
    StreamLock.write_run(root, contract_id, tick_type, run)
    known = index.coverage([contract_id], [tick_type])
    row = known.pop() if known and known[-1].end_ns is None else None
    before = Ledger(contract_id, tick_type, "", row)
    for each in known:
        before.touch(each.start_ns if each.end_ns is None else each.end_ns - 1)
    rows = _ended(root, index, before)
    if rows:
        index.put_coverage(rows)
    ledger = Ledger(contract_id, tick_type, run)
    ledger.touch(before.latest_ns)
    return ledger


def closing_rows(root: Path, index: Index, row: CoverageRecord) -> list[CoverageRecord]:
    """How a row that is open in the index ended, its capture having been killed.

    It ends with the last message that the capture stored. More rows tell of what the capture said
    and the index never heard.
    """
    return _ended(root, index, Ledger(row.contract_id, row.tick_type, "", row))


def _ended(root: Path, index: Index, ledger: Ledger) -> list[CoverageRecord]:
    """The rows that end a ledger with what was said last, and what was stored last."""
    files = index.files([ledger.contract_id], [ledger.tick_type])
    files.sort(key=_place, reverse=True)
    unheard: list[StatusChange] = []
    before = None
    for change in (change for file in files for change in _backwards(root, file)):
        if change.time_ns <= ledger.latest_ns:
            before = change
            break
        unheard.append(change)
    last_ns = partial(_last_of_run, root, files)
    return list(replayed(ledger, reversed(unheard), last_ns, before=before).values())


def read_hour_changes(
    root: Path, index: Index, contract_id: int, tick_type: str, hour_ns: int
) -> list[StatusChange]:
    """Return what the files of one hour of a stream tell of its coverage."""
    files = index.files([contract_id], [tick_type], hour_ns, hour_ns + HOUR_NS)
    return list(_changes(root, [file for file in files if file.hour_ns == hour_ns]))


def mark_files_deleted(index: Index, keys: Iterable[FileKey]) -> None:
    """Tell the index that files, the oldest of their streams, are about to be deleted."""
    until: dict[tuple[int, str], int] = {}
    for key in keys:
        stream = key.contract_id, key.tick_type
        until[stream] = max(key.hour_ns + HOUR_NS, until.get(stream, key.hour_ns))
    for (contract_id, tick_type), before_ns in until.items():
        known = index.coverage([contract_id], [tick_type], None, before_ns)
        if rows := deleted(known, before_ns):
            index.put_coverage(rows)


def _place(file: FileRecord) -> tuple[int, str, int, str]:
    return file.contract_id, file.tick_type, file.hour_ns, file_suffix(file.path)


def _may_tell(file: FileRecord) -> bool:
    """Whether a file may hold anything but ticks; of an open one nothing is counted yet."""
    return not file.sealed or file.messages > file.ticks


def _changes(root: Path, files: Sequence[FileRecord]) -> Iterator[StatusChange]:
    telling = [file for file in files if _may_tell(file)]
    if not telling:
        return
    from ibticks.storage import read_messages

    for time_ns, message in read_messages(root, telling):
        change = StatusChange.of(time_ns, message)
        if change is not None:
            yield change


def _backwards(root: Path, file: FileRecord) -> Iterator[StatusChange]:
    """The changes of state a file tells, the last first."""
    if not _may_tell(file) or file.backfilled:
        return
    for payload in iter_payloads_backwards(root, file):
        if not payload.startswith(_INFO):
            continue
        try:
            message = StreamMessage.FromString(payload)
            change = StatusChange.of(message_time_ns(message), from_protobuf(message))
        except (DecodeError, FormatError):
            continue  # no message of ours; reading the file tells
        if change is not None and change.is_of_state:
            yield change


def _last_of_run(root: Path, files: Sequence[FileRecord], change: StatusChange) -> int | None:
    """Time of the last message of the run that a change is of."""
    for file in sorted(files, key=_place, reverse=True):
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
