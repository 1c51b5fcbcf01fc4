"""What happens to sealed files as they age: they are compressed, and one day deleted.

Not while somebody writes to their stream, who may open any of them again for a late tick: such
files are left for another time, and told in a warning.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from contextlib import ExitStack, suppress
from itertools import groupby
from typing import TYPE_CHECKING

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
    """Compress files one by one, each under its stream's lock, telling the index of each.

    Raises
    ------
    CorruptFileError
        Naming those that are damaged, after the others were compressed; they stay as they are.
    StorageError
        As the operating system says; the file is the old one or the new one, whole.

    Warns
    -----
    StreamInUseWarning
        In the end, of files whose streams are being written: they stay as they are, too.
    """
    damaged, left = [], _LeftAlone()
    for key in keys:
        if left.has(key):
            continue
        try:
            lock = StreamLock(root, *_stream(key), backfill=_is_backfill(key))
        except WriterLockedError as error:
            left.add([key], error)
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
    left.warn("a capture compresses its own with compress_after=")
    if damaged:
        raise CorruptFileError(
            f"{', '.join(damaged)} cannot be compressed: see the log, and `ibticks verify`",
            path=str(root / damaged[0]),
        )


def _compress_indexed(root: Path, index: Index, key: FileKey, compression: str) -> FileRecord:
    """Compress a file and put its row; a kill in between leaves a row that is settled later."""

    def announce() -> bool:
        # Called last before the new file takes the place of the old one: this row holds of both.
        index.put_files([provisional_record(root, key)])
        return True

    try:
        record = compress_file(root, key, compression, has_lock=announce)
    except StorageError:
        # Either file may be in place. Without a row of its own it is settled by the next writer.
        with suppress(TickError):
            index.put_files([summarise_file(root, key).record])
        raise
    index.put_files([record])
    return record


def delete_files(root: Path, index: Index, keys: Iterable[FileKey]) -> Iterator[FileKey]:
    """Delete files, the oldest of their streams; the ledger of coverage and the index know first.

    Each stream under its locks. If it is broken off, nothing is said to be there that is not; done
    again, it deletes the rest.

    Warns
    -----
    StreamInUseWarning
        In the end, of files whose streams are being written: nothing becomes of these.
    """
    left = _LeftAlone()
    for stream, found in groupby(sorted(keys), _stream):
        files = list(found)
        with ExitStack() as locks:
            try:
                for is_backfill in sorted({False, *map(_is_backfill, files)}):
                    lock = StreamLock(root, *stream, backfill=is_backfill)
                    locks.callback(lock.release)
            except WriterLockedError as error:
                left.add(files, error)
                continue
            mark_files_deleted(index, files)
            for key in files:
                index.drop_files([key.path])
                remove_file(root / key.path)
                yield key
    left.warn("a capture deletes its own with keep=")


class _LeftAlone:
    """Files that are left as they are, and who has their streams."""

    def __init__(self) -> None:
        self._files: Counter[tuple[int, str, bool]] = Counter()
        self._reasons: dict[tuple[int, str, bool], str] = {}

    def has(self, key: FileKey) -> bool:
        """Whether the stream of a file is known to be somebody's; the file is then left, too."""
        stream = (*_stream(key), _is_backfill(key))
        if stream not in self._reasons:
            return False
        self._files[stream] += 1
        return True

    def add(self, keys: Sequence[FileKey], error: WriterLockedError) -> None:
        """Leave the files of a stream, and say why."""
        for key in keys:
            stream = (*_stream(key), _is_backfill(key))
            self._reasons.setdefault(stream, error.message.partition(";")[0])
            self._files[stream] += 1

    def warn(self, advice: str) -> None:
        """Tell the user of them, if there are any."""
        if not self._files:
            return
        reasons = dict.fromkeys(self._reasons.values())
        warnings.warn(
            f"{self._files.total()} files are left as they are: {'; '.join(reasons)}. {advice}",
            StreamInUseWarning,
            stacklevel=user_stacklevel(),
        )


def _stream(key: FileKey) -> tuple[int, str]:
    return key.contract_id, key.tick_type


def _is_backfill(key: FileKey) -> bool:
    return key.suffix == "backfill"
