"""Retention: compression and deletion of sealed files.

Files of a stream that is being written are skipped with a warning, since its writer may open any of
them again for a late tick.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from contextlib import ExitStack, suppress
from itertools import groupby
from typing import TYPE_CHECKING

from ibticks._types import StreamKey
from ibticks._warnings import user_stacklevel
from ibticks.coverage import mark_files_deleted
from ibticks.errors import (
    CorruptFileError,
    StorageError,
    StreamInUseWarning,
    TickError,
    WriterLockedError,
)
from ibticks.filesystem import remove_file
from ibticks.storage import StreamLock, compress_file, provisional_record, summarise_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ibticks.index import FileRecord, Index
    from ibticks.storage import FileKey

__all__ = ["compress_files", "delete_files"]

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
    """Compress a file and put its row; after a kill, the next writer puts the row."""

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
    return record


def delete_files(root: Path, index: Index, keys: Iterable[FileKey]) -> Iterator[FileKey]:
    """Delete files, the oldest of their streams, after marking them in the ledger and the index.

    Each stream is locked. An interrupted deletion leaves no row without a file; it can be repeated.

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
