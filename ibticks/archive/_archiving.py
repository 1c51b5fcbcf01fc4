"""Copy sealed hour files to an object store, and delete local ones that have a verified copy.

Each step can be interrupted and repeated: a copy is created only if absent, read back and compared
byte for byte before the index gets its row; a local file is deleted only after a grace time, while
the object still is the one that was compared, and after the marker is on the disk.
"""

from __future__ import annotations

import json
import logging
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ibticks._warnings import user_stacklevel
from ibticks.archive._catalogue import StreamMonth, write_archive_catalogue
from ibticks.archive._markers import Marker, write_marker
from ibticks.archive._object_store import check_preconditions, open_object_store, split_location
from ibticks.errors import (
    ArchiveError,
    CorruptFileError,
    StreamInUseWarning,
    WriterLockedError,
)
from ibticks.filesystem import explained, remove_file, write_all, written_beside
from ibticks.format import checksum, read_header
from ibticks.index import ArchivedCopy
from ibticks.storage import FileKey, StreamLock, check_place, marker_path, metadata_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ibticks.archive._object_store import ObjectStore
    from ibticks.index import FileRecord, Index

__all__ = ["ArchiveReport", "archive_files", "has_archive", "restore_files", "verify_copy"]

_READ_ATTEMPTS: Final = 3

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ArchiveReport:
    """The result of archiving.

    Attributes
    ----------
    copied : list of str
        Paths of the files that have a verified copy since now.
    copied_bytes : int
    deleted : list of str
        Paths of the files that were deleted here.
    deleted_bytes : int
    waiting : int
        Number of files with a verified copy that stay until the grace time has passed.

    Examples
    --------
    >>> ArchiveReport(["1/last/2025/01/10/14_ticks.pb"], 52_000)
    1 file copied (52,000 bytes), 0 deleted here (0 bytes), 0 within the grace time
    """

    copied: list[str] = field(default_factory=list)
    copied_bytes: int = 0
    deleted: list[str] = field(default_factory=list)
    deleted_bytes: int = 0
    waiting: int = 0

    def __repr__(self) -> str:
        files = f"{len(self.copied):,} file{'s' * (len(self.copied) != 1)}"
        return (
            f"{files} copied ({self.copied_bytes:,} bytes), {len(self.deleted):,} deleted here "
            f"({self.deleted_bytes:,} bytes), {self.waiting:,} within the grace time"
        )


def has_archive(root: Path) -> bool:
    """Return whether hours of a store may be archived: one look at a file."""
    return _note_path(root).exists()


def archive_files(
    root: Path,
    index: Index,
    records: Sequence[FileRecord],
    objects: ObjectStore,
    *,
    grace_ns: int | None,
    clock: Callable[[], int],
    report: ArchiveReport,
) -> Iterator[FileRecord]:
    """Copy sealed files, and delete those whose copies were verified a grace time ago.

    Parameters
    ----------
    root : Path
        Folder of the store.
    index : Index
    records : sequence of FileRecord
        Sealed files.
    objects : ObjectStore
    grace_ns : int or None
        Nanoseconds from the comparison of a copy to the deletion of the file; None keeps it.
    clock : callable
        Returns the time, UTC nanoseconds.
    report : ArchiveReport
        Takes what was done.

    Yields
    ------
    FileRecord
        Each file after it was handled.

    Raises
    ------
    ArchiveError
        If the object store fails, ignores preconditions, or does not return what was written.
        What was archived before stays so.
    CorruptFileError
        At the end: names the damaged files, which are unchanged and not archived.

    Warns
    -----
    StreamInUseWarning
        At the end, for files that have a copy but are not deleted, since their streams are written.
    """
    if not records:
        return
    check_preconditions(objects)
    copies = {copy.path: copy for copy in index.archived([record.path for record in records])}
    new = (
        record
        for record in records
        if (copy := copies.get(record.path)) is None or not copy.is_copy_of(record)
    )
    pending = _note_pending(root, index, objects.url, map(_month_of, new))
    damaged: list[str] = []
    in_use: dict[str, int] = {}
    for record in records:
        copy = copies.get(record.path)
        try:
            if not (root / record.path).exists():
                if copy is None:  # deleted meanwhile
                    _log.warning("%s is gone: it is not archived", root / record.path)
                yield record
                continue
            if copy is None or not copy.is_copy_of(record):
                copy = _copy_file(root, record, objects, clock)
                index.put_archived([copy])
                report.copied.append(record.path)
                report.copied_bytes += record.size
            if grace_ns is not None and copy.verified_ns + grace_ns <= clock():
                _delete_local(root, index, record, copy)
                report.deleted.append(record.path)
                report.deleted_bytes += record.size
            else:
                report.waiting += 1
        except CorruptFileError as error:
            _log.error("%s; it is not archived", error)
            damaged.append(record.path)
        except WriterLockedError as error:
            reason = error.message.partition(";")[0]
            in_use[reason] = in_use.get(reason, 0) + 1
        yield record
    if pending:
        write_archive_catalogue(objects, index, pending)
        _write_note(root, objects.url, ())
    if in_use:
        warnings.warn(
            f"{sum(in_use.values())} archived files stay here: {'; '.join(in_use)}. Archive again "
            "while their streams are not written",
            StreamInUseWarning,
            stacklevel=user_stacklevel(),
        )
    if damaged:
        raise CorruptFileError(
            f"{', '.join(damaged)} cannot be archived: see the log, and `ibticks verify`",
            path=str(root / damaged[0]),
        )


def restore_files(root: Path, copies: Sequence[ArchivedCopy]) -> Iterator[ArchivedCopy]:
    """Bring files back from the archive, byte for byte; their copies stay there.

    Parameters
    ----------
    root : Path
        Folder of the store.
    copies : sequence of ArchivedCopy

    Yields
    ------
    ArchivedCopy
        Each copy whose file is here again.

    Raises
    ------
    ArchiveError
        If a copy cannot be read, or is not what was archived; nothing is written then.
    WriterLockedError
        If the stream is being written.
    """
    for copy in copies:
        with _locked_stream(root, copy.path):
            path = root / copy.path
            if not path.exists():
                url, name = split_location(copy.location, copy.path)
                data = open_object_store(url).read(name).data
                if (len(data), checksum(data)) != (copy.size, copy.file_crc32c):
                    raise ArchiveError(
                        f"{copy.location} does not have the checksum of the file that was "
                        "archived: restore it from a version or a backup of the bucket",
                        path=str(path),
                        location=copy.location,
                    )
                with written_beside(path) as descriptor:
                    write_all(descriptor, data)
            remove_file(marker_path(root, copy.path))
        yield copy


@contextmanager
def _locked_stream(root: Path, path: str) -> Iterator[None]:
    """Hold the lock of the stream of an hour file; raise WriterLockedError if it is written."""
    key = FileKey.parse(path)
    assert key is not None
    is_backfill = key.suffix == "backfill"
    lock = StreamLock(root, key.contract_id, key.tick_type, backfill=is_backfill)
    try:
        yield
    finally:
        lock.release()


def verify_copy(record: FileRecord, copy: ArchivedCopy) -> str | None:
    """Return what is wrong with the archived copy of a file, or None.

    The object is read and its checksum computed, unless its entity tag is that of the object that
    was compared with the file.

    Raises
    ------
    ArchiveError
        If the object store cannot be reached.
    """
    if not copy.is_copy_of(record):
        return f"the copy {copy.location} has other bytes than the row of the file in the index"
    url, key = split_location(copy.location, record.path)
    objects = open_object_store(url)
    status = objects.status(key)
    if status is None:
        return f"there is no object {copy.location}"
    if status.size != copy.size:
        return f"{copy.location} has {status.size} bytes instead of {copy.size}"
    if copy.e_tag and status.e_tag == copy.e_tag:
        return None
    file_crc32c = checksum(objects.read(key).data)
    if file_crc32c != copy.file_crc32c:
        return (
            f"{copy.location} has the checksum {file_crc32c:#010x} instead of "
            f"{copy.file_crc32c:#010x}"
        )
    return None


def _copy_file(
    root: Path, record: FileRecord, objects: ObjectStore, clock: Callable[[], int]
) -> ArchivedCopy:
    """Copy a file, read the copy back and compare it."""
    data = _read_sealed(root, record)
    file_crc32c = checksum(data)
    # An object of the same path with other bytes is an earlier version of the hour: it stays.
    for key in (record.path, f"{record.path}.{file_crc32c:08x}"):
        is_new = objects.create(key, data)
        e_tag = _compare(objects, key, data)
        if e_tag is not None:
            return ArchivedCopy(
                path=record.path,
                location=f"{objects.url}/{key}",
                size=record.size,
                crc32c=record.crc32c or 0,
                file_crc32c=file_crc32c,
                e_tag=e_tag,
                verified_ns=clock(),
            )
        if is_new:
            break
        _log.warning("%s/%s is another version of %s", objects.url, key, record.path)
    raise ArchiveError(
        f"{objects.url}/{key} does not have the bytes of {root / record.path} that were written "
        "to it: the object store damages or truncates objects. The file stays here; remove the "
        "object, check the store, and archive again",
        path=str(root / record.path),
        location=f"{objects.url}/{key}",
    )


def _compare(objects: ObjectStore, key: str, data: bytes) -> str | None:
    """Read a copy back; return its entity tag if its bytes are those of the file."""
    for attempt in range(_READ_ATTEMPTS):
        try:
            stored = objects.read(key)
        except ArchiveError:
            if attempt == _READ_ATTEMPTS - 1:
                raise
            continue
        if stored.data == data:
            return stored.e_tag
    return None


def _read_sealed(root: Path, record: FileRecord) -> bytes:
    """Read a sealed file, and check that it is the one of its row in the index."""
    path = root / record.path
    with explained(path, "reading"):
        data = path.read_bytes()
    header = read_header(data, path=str(path))
    check_place(header, FileKey.parse(record.path), path)
    body = checksum(memoryview(data)[header.frame_bytes :])
    if not header.sealed or header.crc32c != body:
        raise CorruptFileError(
            f"{path} does not have the checksum of its header, or is not sealed",
            path=str(path),
            offset=header.frame_bytes,
        )
    if (len(data), body) != (record.size, record.crc32c):
        raise CorruptFileError(
            f"{path} is not as its row in the index says: run `ibticks index rebuild`",
            path=str(path),
            offset=0,
        )
    return data


def _delete_local(root: Path, index: Index, record: FileRecord, copy: ArchivedCopy) -> None:
    """Delete a file that has a verified copy, under the lock of its stream.

    Raises
    ------
    WriterLockedError
        If the stream is being written; the file stays.
    ArchiveError, CorruptFileError
        If the copy or the file is not what was compared; the file stays.
    """
    with _locked_stream(root, record.path):
        data = _read_sealed(root, record)
        if checksum(data) != copy.file_crc32c:
            raise CorruptFileError(
                f"{root / record.path} has changed since it was archived",
                path=str(root / record.path),
                offset=0,
            )
        url, name = split_location(copy.location, record.path)
        objects = open_object_store(url)
        status = objects.status(name)
        is_compared = (
            status is not None
            and status.size == copy.size
            and bool(copy.e_tag)
            and status.e_tag == copy.e_tag
        )
        if not is_compared and (status is None or _compare(objects, name, data) is None):
            # The next run copies it anew.
            index.drop_archived([record.path])
            raise ArchiveError(
                f"{copy.location} is missing or has other bytes than when it was compared with "
                f"{root / record.path}: the file stays here; archive again to copy it anew",
                path=str(root / record.path),
                location=copy.location,
            )
        write_marker(root, Marker(record, copy))
        remove_file(root / record.path)


def _note_path(root: Path) -> Path:
    return metadata_folder(root) / "archive.json"


def _note_pending(
    root: Path, index: Index, url: str, months: Iterable[StreamMonth]
) -> set[StreamMonth]:
    """Note the archive in the store, with the months that its catalogue will lack until the end.

    Returns
    -------
    set of StreamMonth
        These months, and those that an interrupted run has left.
    """
    noted = _read_note(root).get(url)
    if noted is None:  # an archive without a catalogue
        copies = (copy for copy in index.archived() if copy.location.startswith(f"{url}/"))
        left = {_month_of(copy) for copy in copies}
    else:
        left = {month for key in noted if (month := StreamMonth.parse(key)) is not None}
    pending = left.union(months)
    if noted is None or pending != left:
        _write_note(root, url, pending)
    return pending


def _month_of(row: FileRecord | ArchivedCopy) -> StreamMonth:
    key = FileKey.parse(row.path)
    assert key is not None
    return StreamMonth.of(key.contract_id, key.tick_type, key.hour_ns)


def _read_note(root: Path) -> dict[str, list[str]]:
    """Return the months that the catalogue of each archive of a store lacks, by its URL."""
    with suppress(FileNotFoundError, ValueError, KeyError):
        return dict(json.loads(_note_path(root).read_text())["pending"])
    return {}


def _write_note(root: Path, url: str, pending: Iterable[StreamMonth]) -> None:
    noted = _read_note(root) | {url: sorted(month.key for month in pending)}
    with written_beside(_note_path(root)) as descriptor:
        write_all(descriptor, json.dumps({"pending": noted}).encode())
