"""Deletion of ticks, and retention: compression and deletion of old sealed files."""

from __future__ import annotations

import logging
import re
import time
import uuid
import warnings
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks._types import Interval, StreamKey
from ibticks._warnings import user_stacklevel
from ibticks.columns import CompanionKey, relink_companion, remove_companions_of
from ibticks.config import HOUR_NS, NANOSECONDS, TIME_MAX, TIME_MIN
from ibticks.coverage import LedgerDeletion, StreamStatus, mark_files_deleted, undo_ledger_deletion
from ibticks.errors import (
    CorruptFileError,
    StorageError,
    StreamInUseWarning,
    TickError,
    TimeRangeError,
    WriterLockedError,
)
from ibticks.filesystem import explained, remove_file
from ibticks.format import Header, encode_frame, encode_message, find_payloads, read_header
from ibticks.storage import (
    WRITER,
    FileKey,
    StreamAppender,
    StreamLock,
    compress_file,
    iter_frames,
    list_files,
    provisional_record,
    summarise_file,
    write_sealed_file,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from datetime import tzinfo
    from pathlib import Path

    import numpy.typing as npt

    from ibticks.calendar import TimeLike
    from ibticks.coverage import StatusChange
    from ibticks.index import FileRecord, Index

__all__ = [
    "Deletion",
    "compress_files",
    "count_ticks",
    "delete_files",
    "delete_ticks",
    "deleted_files",
    "deleted_hours",
    "deletion_interval",
    "purge_files",
    "undo_deletion",
]

_DELETED_FILE: Final = re.compile(r"(?P<hour_file>.+_ticks\.pb)\.deleted-\d{8}T\d{6}(?:\.\d+)?Z")
_DELETION_TIME: Final = re.compile(r"\.deleted-(?P<moment>\d{8}T\d{6})\.(?P<fraction>\d{9})Z$")

_log = logging.getLogger(__name__)


def compress_files(
    root: Path, index: Index, keys: Iterable[FileKey], compression: str
) -> Iterator[FileRecord]:
    """Compress files one by one, each under its stream's lock, and put their rows.

    Raises
    ------
    CorruptFileError
        Names the damaged files, which are unchanged; the others were compressed before.
    StorageError
        If the file system fails; the file is the old or the new one, whole.

    Warns
    -----
    StreamInUseWarning
        At the end, for files whose streams are being written; they are unchanged.
    """
    damaged, skipped = [], _SkippedFiles()
    for key in keys:
        if skipped.includes(key):
            continue
        try:
            lock = StreamLock(root, *_stream(key), backfill=_is_backfill(key))
        except WriterLockedError as error:
            skipped.add([key], error)
            continue
        try:
            record = _compress_indexed(root, index, key, compression)
        except CorruptFileError as error:
            _log.error("%s", error)
            damaged.append(key.path)
            continue
        finally:
            lock.release()
        yield record
    skipped.warn("a capture compresses its own with compress_after=")
    if damaged:
        raise CorruptFileError(
            f"{', '.join(damaged)} cannot be compressed: see the log, and `ibticks verify`",
            path=str(root / damaged[0]),
        )


def _compress_indexed(root: Path, index: Index, key: FileKey, compression: str) -> FileRecord:
    """Compress a file and put its row; after a kill, the next writer puts the row.

    A companion that has the ticks of the file still has them.
    """
    companion = CompanionKey.of(key)
    before = _indexed(index, key) if (root / companion.path).exists() else None

    def announce() -> bool:
        # Called just before the new file replaces the old one: this row is valid for both.
        index.put_files([provisional_record(root, key)])
        return True

    try:
        record = compress_file(root, key, compression, has_lock=announce)
    except StorageError:
        # Either file may be in place; the next writer puts its row if this fails.
        with suppress(TickError):
            index.put_files([summarise_file(root, key).record])
        raise
    index.put_files([record])
    if before is not None:
        relink_companion(index, before, record)
    return record


def _indexed(index: Index, key: FileKey) -> FileRecord | None:
    """Return the row of a file, or None."""
    hour = key.hour_ns
    rows = index.files([key.contract_id], [key.tick_type], hour, hour + HOUR_NS)
    return next((row for row in rows if row.path == key.path), None)


def delete_files(
    root: Path, index: Index, keys: Iterable[FileKey]
) -> Generator[FileKey, None, None]:
    """Delete files, the oldest of their streams, after marking them in the ledger and the index.

    Companions that have their ticks are deleted before them. Each stream is locked. An interrupted
    deletion leaves no row without a file; it can be repeated.

    Warns
    -----
    StreamInUseWarning
        At the end, for files whose streams are being written; they are unchanged.
    """
    skipped = _SkippedFiles()
    for stream, group in groupby(sorted(keys), _stream):
        files = list(group)
        with ExitStack() as locks:
            try:
                for is_backfill in sorted({False, *map(_is_backfill, files)}):
                    lock = StreamLock(root, *stream, backfill=is_backfill)
                    locks.callback(lock.release)
            except WriterLockedError as error:
                skipped.add(files, error)
                continue
            mark_files_deleted(index, files)
            remove_companions_of(root, index, files)
            for key in files:
                index.drop_files([key.path])
                remove_file(root / key.path)
                yield key
    skipped.warn("a capture deletes its own with keep=")


class _SkippedFiles:
    """Files of streams that are being written, and the writers."""

    def __init__(self) -> None:
        self._files: Counter[tuple[int, str, bool]] = Counter()
        self._reasons: dict[tuple[int, str, bool], str] = {}

    def includes(self, key: FileKey) -> bool:
        """Return whether the stream of a file is known to be written; the file is then counted."""
        stream = (*_stream(key), _is_backfill(key))
        if stream not in self._reasons:
            return False
        self._files[stream] += 1
        return True

    def add(self, keys: Sequence[FileKey], error: WriterLockedError) -> None:
        """Skip the files of a stream for a reason."""
        for key in keys:
            stream = (*_stream(key), _is_backfill(key))
            self._reasons.setdefault(stream, error.message.partition(";")[0])
            self._files[stream] += 1

    def warn(self, advice: str) -> None:
        """Warn of the skipped files, if there are any."""
        if not self._files:
            return
        reasons = dict.fromkeys(self._reasons.values())
        warnings.warn(
            f"{self._files.total()} files are left as they are: {'; '.join(reasons)}. {advice}",
            StreamInUseWarning,
            stacklevel=user_stacklevel(),
        )


def _stream(key: FileKey) -> StreamKey:
    return StreamKey(key.contract_id, key.tick_type)


def _is_backfill(key: FileKey) -> bool:
    return key.suffix == "backfill"


@dataclass(frozen=True, slots=True)
class Deletion:
    """Ticks that were deleted, or would be.

    Attributes
    ----------
    contract_id : int
    tick_type : str
    ticks : int
        Number of ticks.
    files : tuple of str
        The hour files of the ticks, relative to the root of the store.
    kept : tuple of str
        The files of the deleted ticks, one for each hour file; empty after a dry run.
    """

    contract_id: int
    tick_type: str
    ticks: int
    files: tuple[str, ...]
    kept: tuple[str, ...] = ()


def deletion_interval(
    start: TimeLike | None, end: TimeLike | None, tz: str | tzinfo | None
) -> Interval:
    """Return an interval of UTC nanoseconds, unbounded where start or end is missing."""
    from ibticks.calendar import to_ns

    start_ns = TIME_MIN if start is None else to_ns(start, tz=tz, name="start")
    end_ns = TIME_MAX if end is None else to_ns(end, tz=tz, name="end")
    if start_ns >= end_ns:
        raise TimeRangeError(f"start={start} is not before end={end}", start=start, end=end)
    return Interval(start_ns, end_ns)


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

    Other messages (errors, infos) stay. An interrupted deletion can be repeated.

    Parameters
    ----------
    root : Path
        Folder of the store.
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
        If the file system fails; the file in the message is unchanged.
    """
    keys = list(_files_within(root, contract_id, tick_type, start_ns, end_ns))
    with ExitStack() as locks:
        for is_backfill in sorted({False, *(key.suffix == "backfill" for key in keys)}):
            # Opening the appender seals the files that a killed writer left open.
            appender = StreamAppender(
                root, contract_id, tick_type, index, fsync=None, backfill=is_backfill
            )
            locks.enter_context(appender)
        counts = {
            key: _count(root, key, start_ns, end_ns)
            for key in _files_within(root, contract_id, tick_type, start_ns, end_ns)
        }
        affected = {key: count for key, count in counts.items() if count}
        for key in affected:
            _check_whole(root, key)
        run, now_ns = uuid.uuid4().hex[:12], time.time_ns()
        ledger = LedgerDeletion(index, contract_id, tick_type)
        ledger.put(_clip_hours(affected, start_ns, end_ns))
        try:
            remaining = [
                _rewrite(root, index, key, start_ns, end_ns, run, now_ns) for key in affected
            ]
        except StorageError:
            with suppress(TickError):
                rewritten = [key for key in affected if not _count(root, key, start_ns, end_ns)]
                ledger.put(_clip_hours(rewritten, start_ns, end_ns))
            raise
    return Deletion(
        contract_id,
        tick_type,
        sum(affected.values()),
        tuple(key.path for key in affected),
        tuple(remaining),
    )


def undo_deletion(
    root: Path, index: Index, writer: StreamAppender, path: Path, hour_ns: int, ticks: int
) -> None:
    """Undo a deletion in the coverage ledger after its file of deleted ticks was imported.

    The deletion is found by its time, which is part of the file's name, among the ``deleted``
    messages of the hour. Where there is none (another store, or a renamed file), or later deletions
    took more out of the same time, the ledger stays as it is.

    Parameters
    ----------
    root : Path
        Folder of the store.
    index : Index
    writer : StreamAppender
        Writer of the stream; its files have all ticks of the file.
    path : Path
        The file of deleted ticks.
    hour_ns : int
        Hour of its ticks.
    ticks : int
        Number of its ticks: the captured and the backfilled ticks of an hour are in a file each.
    """
    match = _DELETION_TIME.search(path.name)
    if match is None:
        return
    moment = datetime.strptime(match["moment"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    deleted_at_ns = int(moment.timestamp()) * NANOSECONDS + int(match["fraction"])
    stream = StreamKey(writer.contract_id, writer.tick_type)

    def write_undeleted(deletion: StatusChange) -> None:
        assert deletion.interval is not None
        first_ns, until_ns = deletion.interval
        about = {"start_ns": first_ns, "end_ns": until_ns, "ticks": ticks}
        about["deleted_at_ns"] = deleted_at_ns
        run, now_ns = deletion.run, time.time_ns()
        writer.append(_message(stream, first_ns, StreamStatus.UNDELETED, run, now_ns, about))

    undo_ledger_deletion(root, index, stream, hour_ns, deleted_at_ns, ticks, write_undeleted)


def _clip_hours(keys: Iterable[FileKey], start_ns: int, end_ns: int) -> list[Interval]:
    """Return the intervals of the hours of some files, within an interval."""
    return [
        Interval(max(start_ns, key.hour_ns), min(end_ns, key.hour_ns + HOUR_NS)) for key in keys
    ]


def deleted_files(
    root: Path,
    contract_id: int,
    tick_type: str,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
) -> list[Path]:
    """Return the files of deleted ticks of a stream, for the hours that meet an interval."""
    paths: list[Path] = []
    folder = root / str(contract_id) / tick_type
    for path in sorted(folder.glob("*/*/*/*_ticks.pb.deleted-*Z")):
        match = _DELETED_FILE.fullmatch(path.relative_to(root).as_posix())
        key = None if match is None else FileKey.parse(match["hour_file"])
        if key is not None and key.hour_ns < end_ns and key.hour_ns + HOUR_NS > start_ns:
            paths.append(path)
    return paths


def deleted_hours(root: Path, paths: Iterable[Path]) -> list[FileKey]:
    """Return the hour files that files of deleted ticks lie beside."""
    matches = (_DELETED_FILE.fullmatch(path.relative_to(root).as_posix()) for path in paths)
    keys = (FileKey.parse(match["hour_file"]) for match in matches if match is not None)
    return [key for key in keys if key is not None]


def purge_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Remove files of deleted ticks for good.

    Raises
    ------
    StorageError
        If the file system fails; the file in the message stays.
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
    """Return the frames that stay and those that are deleted, each in their order."""
    data = np.frombuffer(raw, dtype=np.uint8)
    offsets, sizes, _ = find_payloads(
        raw, ticks=True, others=False, start_ns=start_ns, end_ns=end_ns
    )
    borders = np.zeros(len(data) + 1, dtype=np.int8)
    borders[offsets - 4] += 1
    borders[offsets + sizes] -= 1
    is_deleted = np.cumsum(borders[:-1], dtype=np.int8).astype(np.bool_)
    return data[~is_deleted], data[is_deleted]


def _rewrite(
    root: Path, index: Index, key: FileKey, start_ns: int, end_ns: int, run: str, now_ns: int
) -> str:
    """Write the deleted ticks of a file beside it, then the file anew without them."""
    path = root / key.path
    header, blocks = _read(root, key)
    stay, deleted = [], []
    for raw in blocks:
        staying, leaving = _divide(raw, start_ns, end_ns)
        stay.append(staying)
        deleted.append(leaving)
    remaining = _deleted_path(path, now_ns)
    plain = Header(key.contract_id, key.tick_type, key.hour_ns, key.hour_ns, writer=WRITER)
    removed = write_sealed_file(remaining, plain, [raw for raw in deleted if len(raw)])
    note = {
        "start_ns": max(start_ns, key.hour_ns),
        "end_ns": min(end_ns, key.hour_ns + HOUR_NS),
        "ticks": removed.message_count,
    }
    stay.append(_note(key, removed.start_ns, run, now_ns, note))
    try:
        # This row is valid for the old file and for the new one, in case of a kill.
        index.put_files([provisional_record(root, key)])
        write_sealed_file(path, header, [raw for raw in stay if len(raw)])
    except StorageError:
        _restore(root, index, key, header, remaining)
        raise
    index.put_files([summarise_file(root, key).record])
    return str(remaining.relative_to(root))


def _restore(root: Path, index: Index, key: FileKey, header: Header, removed_path: Path) -> None:
    """Put the row of a file whose rewrite failed; remove a copy of ticks it still has."""
    record = summarise_file(root, key).record
    with suppress(TickError):
        # If the index refuses it, the next writer puts it.
        index.put_files([record])
    if record.crc32c == header.crc32c:
        # No tick was deleted, and the disk may be full.
        with suppress(StorageError):
            remove_file(removed_path)


def _note(
    key: FileKey, time_ns: int, run: str, now_ns: int, about: dict[str, int]
) -> npt.NDArray[np.uint8]:
    stream = StreamKey(key.contract_id, key.tick_type)
    payload = encode_message(_message(stream, time_ns, StreamStatus.DELETED, run, now_ns, about))
    return np.frombuffer(encode_frame(payload), dtype=np.uint8)


def _message(
    stream: StreamKey,
    time_ns: int,
    status: StreamStatus,
    run: str,
    now_ns: int,
    about: dict[str, int],
) -> dict[str, Any]:
    return {
        "type": "info",
        "stream_id": f"{stream.contract_id}_{stream.tick_type}_{run}",
        "timestamp": f"{np.datetime64(time_ns, 'ns')}Z",
        "data": {"status": str(status)},
        "metadata": {"run": run, "at_ns": now_ns, **about},
    }


def _deleted_path(path: Path, now_ns: int) -> Path:
    moment = datetime.fromtimestamp(now_ns // NANOSECONDS, UTC)
    name = f"{path.name}.deleted-{moment:%Y%m%dT%H%M%S}.{now_ns % NANOSECONDS:09d}Z"
    return path.with_name(name)
