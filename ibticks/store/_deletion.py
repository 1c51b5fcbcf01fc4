"""Ticks taken out of a stream: its hour files rewritten without them, and what they lose kept.

Each hour file concerned is written anew beside itself and renamed into its place, so that a kill
at any moment leaves the old file or the new one. Before that, the ticks that leave are on the disk
in a sealed tick file of their own, ``{HH}_ticks.pb.deleted-{time}``, which no reader takes for an
hour file; it can be imported again, and is removed by :func:`purge_files` alone.

The rewritten file has a ``deleted`` message, by which a ledger of coverage made anew from the files
says so, too. The ledger and the index are told first, as by
:func:`ibticks.store.delete_files`: interrupted, a deletion can be repeated. After an
error the ledger is as before for the hours that were not rewritten.
"""

from __future__ import annotations

import re
import time
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.config import HOUR_NS, NANOSECONDS, TIME_MAX, TIME_MIN
from ibticks.coverage import (
    StreamStatus,
    deleted_rows,
    effective_deletions,
    merge_intervals,
    read_hour_changes,
    undeleted_rows,
)
from ibticks.errors import CorruptFileError, StorageError, TickError
from ibticks.filesystem import explained, remove_file
from ibticks.format import Header, encode_frame, encode_message, find_payloads, read_header
from ibticks.storage import (
    WRITER,
    FileKey,
    StreamAppender,
    iter_frames,
    list_files,
    provisional_record,
    summarise_file,
    write_sealed_file,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from ibticks.index import CoverageRecord, Index

__all__ = [
    "Deletion",
    "count_ticks",
    "delete_ticks",
    "deleted_files",
    "purge_files",
    "undo_deletion",
]

_DELETED_FILE: Final = re.compile(r"(?P<hour_file>.+_ticks\.pb)\.deleted-\d{8}T\d{6}(?:\.\d+)?Z")

_DELETION_TIME: Final = re.compile(r"\.deleted-(?P<moment>\d{8}T\d{6})\.(?P<fraction>\d{9})Z$")


@dataclass(frozen=True, slots=True)
class Deletion:
    """Ticks that were deleted, or would be.

    Attributes
    ----------
    contract_id : int
    tick_type : str
    ticks : int
        How many.
    files : tuple of str
        The hour files that hold or held them, relative to the store's root.
    kept : tuple of str
        The files that the deleted ticks are in now, one an hour file; none of a dry run.
    """

    contract_id: int
    tick_type: str
    ticks: int
    files: tuple[str, ...]
    kept: tuple[str, ...] = ()


def count_ticks(
    root: Path, contract_id: int, tick_type: str, start_ns: int, end_ns: int
) -> Deletion:
    """Count the ticks that :func:`delete_ticks` would delete now; nothing is changed.

    Raises
    ------
    CorruptFileError
        If a file is damaged.
    """
    counts = {
        key.path: _count(root, key, start_ns, end_ns)
        for key in _files_within(root, contract_id, tick_type, start_ns, end_ns)
    }
    files = tuple(path for path, count in counts.items() if count)
    return Deletion(contract_id, tick_type, sum(counts.values()), files)


def delete_ticks(
    root: Path, index: Index, contract_id: int, tick_type: str, start_ns: int, end_ns: int
) -> Deletion:
    """Delete the ticks of a stream in ``[start_ns, end_ns)``, backfilled ones included.

    Other messages (errors, infos) stay. If it is interrupted, doing it again deletes the rest.

    Parameters
    ----------
    root : Path
        The store.
    index : Index
    contract_id : int
    tick_type : str
    start_ns, end_ns : int
        UTC nanoseconds.

    Raises
    ------
    WriterLockedError
        If the stream is being written; names the writer. Nothing is deleted then.
    CorruptFileError
        If a file is damaged; nothing is deleted then.
    StorageError
        As the operating system says; the file it names is as it was.
    """
    keys = list(_files_within(root, contract_id, tick_type, start_ns, end_ns))
    with ExitStack() as locks:
        for is_backfill in sorted({False, *(key.suffix == "backfill" for key in keys)}):
            # It also seals what a killed writer left open.
            appender = StreamAppender(
                root, contract_id, tick_type, index, fsync=None, backfill=is_backfill
            )
            locks.enter_context(appender)
        counts = {
            key: _count(root, key, start_ns, end_ns)
            for key in _files_within(root, contract_id, tick_type, start_ns, end_ns)
        }
        concerned = {key: count for key, count in counts.items() if count}
        for key in concerned:
            _check_whole(root, key)
        hours = [
            (max(start_ns, key.hour_ns), min(end_ns, key.hour_ns + HOUR_NS)) for key in concerned
        ]
        before = index.coverage([contract_id], [tick_type]) if concerned else []
        rows = _deleted_rows(contract_id, tick_type, hours, before)
        index.put_coverage(rows)
        run, now_ns = uuid.uuid4().hex[:12], time.time_ns()
        try:
            kept = [_rewrite(root, index, key, start_ns, end_ns, run, now_ns) for key in concerned]
        except StorageError:
            with suppress(TickError):
                rewritten = [key for key in concerned if not _count(root, key, start_ns, end_ns)]
                hours = [
                    (max(start_ns, key.hour_ns), min(end_ns, key.hour_ns + HOUR_NS))
                    for key in rewritten
                ]
                made = _deleted_rows(contract_id, tick_type, hours, before)
                _replace_rows(index, (*before, *rows), (*before, *made))
            raise
    return Deletion(
        contract_id,
        tick_type,
        sum(concerned.values()),
        tuple(key.path for key in concerned),
        tuple(kept),
    )


def _deleted_rows(
    contract_id: int,
    tick_type: str,
    hours: Iterable[tuple[int, int]],
    known: Iterable[CoverageRecord],
) -> list[CoverageRecord]:
    """Return the rows of a ledger that change where the ticks of some intervals are deleted."""
    rows = {row.start_ns: row for row in known}
    changed: dict[int, CoverageRecord] = {}
    for first_ns, last_ns in merge_intervals(hours):
        made = deleted_rows(contract_id, tick_type, first_ns, last_ns, rows.values())
        changed.update((row.start_ns, row) for row in made)
        rows |= changed
    return [changed[start] for start in sorted(changed)]


def _replace_rows(
    index: Index, now: Iterable[CoverageRecord], wanted: Iterable[CoverageRecord]
) -> None:
    """Replace rows of a stream's ledger by others; the last of those with the same start count."""
    before, after = ({row.start_ns: row for row in rows} for rows in (now, wanted))
    if changed := [row for start, row in after.items() if before.get(start) != row]:
        index.put_coverage(changed)
    if gone := [row for start, row in before.items() if start not in after]:
        index.drop_coverage(gone)


def undo_deletion(
    root: Path, index: Index, writer: StreamAppender, path: Path, hour_ns: int, ticks: int
) -> None:
    """Make the ledger right where the ticks of a file of deleted ticks are in the store again.

    The deletion is found by its time, which the file has in its name, among the ``deleted``
    messages of the hour. Where there is none (another store, or a file with a new name), or later
    deletions took more out of the same time, the ledger stays as it is.

    Parameters
    ----------
    root : Path
        The store.
    index : Index
    writer : StreamAppender
        Of the stream, whose files have all ticks of the file.
    path : Path
        The file of deleted ticks.
    hour_ns : int
        The hour of its ticks.
    ticks : int
        How many it has: the captured and the backfilled ticks of an hour are in a file each.
    """
    match = _DELETION_TIME.search(path.name)
    if match is None:
        return
    moment = datetime.strptime(match["moment"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    deleted_at_ns = int(moment.timestamp()) * NANOSECONDS + int(match["fraction"])
    stream = writer.contract_id, writer.tick_type
    changes = read_hour_changes(root, index, *stream, hour_ns)
    lasting = effective_deletions(changes)
    for change in changes:
        if change.deleted is None or change.time_ns != deleted_at_ns or change.deleted[2] != ticks:
            continue
        first_ns, until_ns, _ = change.deleted
        if change in lasting:
            about = {"start_ns": first_ns, "end_ns": until_ns, "ticks": ticks}
            about["deleted_at_ns"] = deleted_at_ns
            run, now_ns = change.run, time.time_ns()
            writer.append(_message(stream, first_ns, StreamStatus.UNDELETED, run, now_ns, about))
            lasting.remove(change)
        before = rows = index.coverage([stream[0]], [stream[1]])
        others = [other.deleted[:2] for other in lasting if other.deleted is not None]
        for start_ns, end_ns in _without((first_ns, until_ns), others):
            rows = undeleted_rows(start_ns, end_ns, rows)
        _replace_rows(index, before, rows)


def _without(
    interval: tuple[int, int], others: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield the parts of an interval that are in no other one."""
    at, end = interval
    for other_start, other_end in merge_intervals(others):
        if at < min(other_start, end):
            yield at, min(other_start, end)
        at = max(at, other_end)
    if at < end:
        yield at, end


def deleted_files(
    root: Path,
    contract_id: int,
    tick_type: str,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
) -> list[Path]:
    """Return the files that hold deleted ticks of a stream, of hours that meet an interval."""
    found: list[Path] = []
    folder = root / str(contract_id) / tick_type
    for path in sorted(folder.glob("*/*/*/*_ticks.pb.deleted-*Z")):
        match = _DELETED_FILE.fullmatch(path.relative_to(root).as_posix())
        key = None if match is None else FileKey.parse(match["hour_file"])
        if key is not None and key.hour_ns < end_ns and key.hour_ns + HOUR_NS > start_ns:
            found.append(path)
    return found


def purge_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Remove files of deleted ticks for good.

    Raises
    ------
    StorageError
        The file it names stays.
    """
    for path in paths:
        remove_file(path)
        yield path


def _files_within(
    root: Path, contract_id: int, tick_type: str, start_ns: int, end_ns: int
) -> Iterator[FileKey]:
    for key in list_files(root, contract_id, tick_type):
        if key.hour_ns < end_ns and key.hour_ns + HOUR_NS > start_ns:
            yield key


def _check_whole(root: Path, key: FileKey) -> None:
    summary = summarise_file(root, key)
    if not summary.header.sealed or summary.problem is not None:
        problem = summary.problem or "it is not sealed"
        raise CorruptFileError(
            f"{root / key.path} is damaged at byte {summary.end} ({problem}): nothing was deleted. "
            "`ibticks verify` tells what is damaged; delete other hours by --start and --end",
            path=str(root / key.path),
            offset=summary.end,
        )


def _read(root: Path, key: FileKey) -> tuple[Header, Iterator[bytes | memoryview]]:
    path = root / key.path
    with explained(path, "reading"):
        data = np.fromfile(path, dtype=np.uint8)
    header = read_header(data.data, path=str(path))
    return header, iter_frames(data, header)


def _count(root: Path, key: FileKey, start_ns: int, end_ns: int) -> int:
    _, blocks = _read(root, key)
    return sum(
        len(find_payloads(raw, ticks=True, others=False, start_ns=start_ns, end_ns=end_ns)[0])
        for raw in blocks
    )


def _divide(
    raw: bytes | memoryview, start_ns: int, end_ns: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The frames that stay and the frames that leave, each in their order."""
    data = np.frombuffer(raw, dtype=np.uint8)
    found = find_payloads(raw, ticks=True, others=False, start_ns=start_ns, end_ns=end_ns)
    offsets, sizes, _ = found
    borders = np.zeros(len(data) + 1, dtype=np.int8)
    borders[offsets - 4] += 1
    borders[offsets + sizes] -= 1
    leaves = np.cumsum(borders[:-1], dtype=np.int8).astype(np.bool_)
    return data[~leaves], data[leaves]


def _rewrite(
    root: Path, index: Index, key: FileKey, start_ns: int, end_ns: int, run: str, now_ns: int
) -> str:
    """Keep the ticks that leave a file beside it, and write it anew without them."""
    path = root / key.path
    header, blocks = _read(root, key)
    stay, leave = [], []
    for raw in blocks:
        staying, leaving = _divide(raw, start_ns, end_ns)
        stay.append(staying)
        leave.append(leaving)
    kept = _kept_path(path, now_ns)
    plain = Header(key.contract_id, key.tick_type, key.hour_ns, key.hour_ns, writer=WRITER)
    removed = write_sealed_file(kept, plain, [raw for raw in leave if len(raw)])
    note = {
        "start_ns": max(start_ns, key.hour_ns),
        "end_ns": min(end_ns, key.hour_ns + HOUR_NS),
        "ticks": removed.message_count,
    }
    stay.append(_note(key, removed.start_ns, run, now_ns, note))
    try:
        # Until its row is put again, the index has one that holds of the old file and of the new.
        index.put_files([provisional_record(root, key)])
        write_sealed_file(path, header, [raw for raw in stay if len(raw)])
    except StorageError:
        _restore(root, index, key, header, kept)
        raise
    index.put_files([summarise_file(root, key).record])
    return str(kept.relative_to(root))


def _restore(root: Path, index: Index, key: FileKey, header: Header, kept: Path) -> None:
    """Put the row of a file that may not have been rewritten, and remove what repeats it."""
    record = summarise_file(root, key).record
    with suppress(TickError):
        # Where it is refused, the next writer puts it.
        index.put_files([record])
    if record.crc32c == header.crc32c:
        # Nothing left the file: where the disk is full, a copy would only take room.
        with suppress(StorageError):
            remove_file(kept)


def _note(
    key: FileKey, time_ns: int, run: str, now_ns: int, about: dict[str, int]
) -> npt.NDArray[np.uint8]:
    stream = key.contract_id, key.tick_type
    payload = encode_message(_message(stream, time_ns, StreamStatus.DELETED, run, now_ns, about))
    return np.frombuffer(encode_frame(payload), dtype=np.uint8)


def _message(
    stream: tuple[int, str],
    time_ns: int,
    status: StreamStatus,
    run: str,
    now_ns: int,
    about: dict[str, int],
) -> dict[str, Any]:
    return {
        "type": "info",
        "stream_id": f"{stream[0]}_{stream[1]}_{run}",
        "timestamp": f"{np.datetime64(time_ns, 'ns')}Z",
        "data": {"status": str(status)},
        "metadata": {"run": run, "at_ns": now_ns, **about},
    }


def _kept_path(path: Path, now_ns: int) -> Path:
    moment = datetime.fromtimestamp(now_ns // NANOSECONDS, UTC)
    name = f"{path.name}.deleted-{moment:%Y%m%dT%H%M%S}.{now_ns % NANOSECONDS:09d}Z"
    return path.with_name(name)
