"""Maintenance of an index: completion and rebuild from the files, and sessions of the markets."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from ibticks._types import StreamKey
from ibticks.config import HOUR_NS
from ibticks.errors import CorruptFileError, IndexVersionError, StorageError
from ibticks.index import Index
from ibticks.storage import FileKey, list_paths, metadata_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from ibticks.archive import Marker
    from ibticks.calendar import TimeLike
    from ibticks.index import CoverageRecord, FileRecord, JournaledIndex
    from ibticks.storage import FileListing

__all__ = [
    "CompletableIndex",
    "archived_paths",
    "complete_index",
    "complete_journal",
    "find_missing",
    "keep_sessions",
    "older_files",
    "rebuild_index",
]

_FIRST_SESSION: Final = date(2000, 1, 1)
_BATCH_CONTRACTS: Final = 20
"""Number of contracts whose coverage is rebuilt together."""

_ANALYZED_FILES: Final = 1_000
"""Number of new files from which on the query planner needs new statistics."""

_log = logging.getLogger(__name__)


class CompletableIndex(Index, Protocol):
    """An index into which files are entered while writers go on."""

    def paths(self) -> set[str]:
        """Return the paths of all files."""

    def iter_files(self) -> Iterator[FileRecord]:
        """Iterate over all files without their blocks."""

    def is_complete(self) -> bool:
        """Return whether every file of the store has been entered."""

    def set_complete(self, complete: bool) -> None:
        """Store whether every file of the store has been entered."""

    def next_revision(self) -> int:
        """Return a number that all later changes exceed."""

    def refresh_files(self, records: Iterable[FileRecord], revision: int) -> None:
        """Insert or replace rows, except those changed since ``revision``."""

    def drop_stale_files(self, paths: Iterable[str], revision: int) -> None:
        """Remove rows, except those changed since ``revision``."""

    def refresh_coverage(
        self, streams: Iterable[StreamKey], records: Iterable[CoverageRecord], revision: int
    ) -> None:
        """Make these the intervals of some streams, except those changed since ``revision``."""

    def analyze(self) -> None:
        """Refresh the statistics of the query planner."""


def complete_index(root: Path, index: CompletableIndex) -> bool:
    """Enter the files of a store that its index lacks; True if there were any.

    The names of the files are compared with those in the index: a listing of the folders and one
    query. Of the files that the index has, only sealed ones that are open in the index are read,
    while their streams are not written: a process was killed, or its index lost, before it put
    their rows. Rows whose file is missing stay, so that loads and ``verify`` report the loss.

    An index that is not marked complete (new, or left by a rebuild that was killed, or by a journal
    with a damaged line) also gets the contracts and coverage of the catalogue, the coverage in the
    files, and the files that are open or of another size in it.
    """
    was_complete = index.is_complete()
    listing = list_paths(root)
    _warn_of_unreadable(listing)
    entered = index.paths() if was_complete else _current_paths(root, index)
    missing = sorted(listing.paths - entered)
    has_sealed = was_complete and _enter_sealed(root, index)
    has_archived = _enter_archived(root, index, listing.archived - entered)
    if was_complete and not missing:
        return has_sealed or has_archived
    if missing:
        _log.info("the index of %s lacks %d files: entering them", root, len(missing))
    _restore_from_catalogue(root, index)
    failures: list[StorageError] = []
    streams = _enter_files(root, index, missing, failures)
    if not was_complete:
        if len(missing) < len(listing.paths):
            streams = _all_streams(index)
        streams |= _covered_streams(index)
    _rebuild_coverage(root, index, streams)
    if len(missing) >= _ANALYZED_FILES:
        index.analyze()
    if not (was_complete or listing.unreadable or failures):
        index.set_complete(True)
    return bool(missing) or has_archived


def complete_journal(root: Path, index: CompletableIndex) -> bool:
    """Journal the files that neither the catalogue nor the journal has; True if there were any.

    Like :func:`complete_index`, for an index whose server is away.
    """
    listing = list_paths(root)
    _warn_of_unreadable(listing)
    known = index.paths()
    missing = sorted(listing.paths - known)
    has_archived = _enter_archived(root, index, listing.archived - known)
    if missing:
        _rebuild_coverage(root, index, _enter_files(root, index, missing, []))
    return bool(missing) or has_archived


def find_missing(root: Path, known: set[str]) -> list[FileRecord]:
    """Return rows of the files that are not known, without reading them.

    Loads read such files as a whole, like files that are being written.
    """
    from ibticks.storage import provisional_record

    listing = list_paths(root)
    missing = sorted(listing.paths - known)
    rows = [marker.file for marker in _read_markers(root, listing.archived - known)]
    for key in filter(None, map(FileKey.parse, missing)):
        with suppress(StorageError):  # deleted since it was listed
            rows.append(provisional_record(root, key))
    return rows


def rebuild_index(root: Path, index: CompletableIndex, *, progress: bool | None = None) -> int:
    """Read all files and make the index agree with them; returns the number of files.

    Writers may run meanwhile: rows that they change after a file was read stay, and a row is
    removed only if its file is missing.
    """
    listing = list_paths(root)
    _warn_of_unreadable(listing)
    index.set_complete(False)
    streams = _enter_files(root, index, sorted(listing.paths), None, progress=progress)
    _enter_archived(root, index, listing.archived)
    count = len(listing.paths) + len(listing.archived)
    del listing  # of many files it takes some memory
    revision = index.next_revision()
    # Listed again: files may have been deleted since.
    current = list_paths(root)
    gone = [
        path
        for path in sorted(index.paths() - current.paths)
        if not current.is_unreadable(path)
        and not os.path.lexists(root / path)
        and path not in current.archived
    ]
    if gone:
        index.drop_stale_files(gone, revision)
    _rebuild_coverage(root, index, streams | _covered_streams(index))
    index.analyze()
    if not current.unreadable:
        index.set_complete(True)
    return count


def _current_paths(root: Path, index: CompletableIndex) -> set[str]:
    """Return the paths of sealed rows whose file has the size they state, and of lost files."""
    current = set()
    for record in index.iter_files():
        try:
            size = (root / record.path).stat().st_size
        except OSError:
            current.add(record.path)
            continue
        if record.sealed and size == record.size:
            current.add(record.path)
    return current


def _enter_sealed(root: Path, index: CompletableIndex) -> bool:
    """Put the rows of sealed files that are open in the index and not written; True if any."""
    from ibticks.storage import StreamLock

    # A writer that takes the lock of a stream from now on puts its rows after this revision.
    revision = index.next_revision() if (rows := index.open_files()) else 0
    by_writer: dict[tuple[int, str, bool], list[FileKey]] = {}
    for key in filter(None, (FileKey.parse(row.path) for row in rows)):
        writer = key.contract_id, key.tick_type, key.suffix == "backfill"
        by_writer.setdefault(writer, []).append(key)
    keys = [
        key
        for (contract_id, tick_type, backfill), open_keys in by_writer.items()
        if not StreamLock.is_locked(root, contract_id, tick_type, backfill=backfill)
        for key in open_keys
        if _is_sealed(root, key)
    ]
    if not keys or not index.writable:
        return False
    # The decoder is loaded only where files are read, so that a headless capture stays small.
    from ibticks.storage import iter_records

    for _, records in iter_records(root, keys, lambda: revision, []):
        index.refresh_files(records, revision)
    return True


def _enter_archived(root: Path, index: CompletableIndex, paths: Collection[str]) -> bool:
    """Put the rows of hours that are in an object store only, by their markers; True if any."""
    markers = _read_markers(root, paths)
    if markers:
        index.put_files([marker.file for marker in markers])
        index.put_archived([marker.copy for marker in markers])
    return bool(markers)


def _read_markers(root: Path, paths: Collection[str]) -> list[Marker]:
    """Read the markers of archived hours; log those that cannot be read."""
    if not paths:
        return []
    from ibticks.archive import read_marker

    markers = []
    for path in sorted(paths):
        try:
            markers.append(read_marker(root, path))
        except (CorruptFileError, StorageError) as error:
            _log.error("%s; the index lacks its hour", error)
    return markers


def archived_paths(root: Path, paths: Iterable[str]) -> set[str]:
    """Return those of some paths whose files are in an object store only."""
    from ibticks.archive import has_archive
    from ibticks.storage import marker_path

    if not has_archive(root):
        return set()
    return {
        path
        for path in paths
        if not os.path.lexists(root / path) and marker_path(root, path).exists()
    }


def _is_sealed(root: Path, key: FileKey) -> bool:
    """Return whether the header of a file can be read and is final."""
    from ibticks.storage import read_file_header

    try:
        with (root / key.path).open("rb") as file:
            return read_file_header(file.fileno(), key.path).sealed
    except (OSError, CorruptFileError):
        return False


def _warn_of_unreadable(listing: FileListing) -> None:
    for folder, reason in listing.unreadable.items():
        _log.warning("%s; its rows in the index stay as they are", reason or folder)


def _restore_from_catalogue(root: Path, index: CompletableIndex) -> None:
    """Insert the contracts and coverage of the catalogue that the index does not have."""
    from ibticks.index import CatalogueIndex

    catalogue = CatalogueIndex(metadata_folder(root) / "index.json")
    try:
        coverage, contracts = catalogue.coverage(), catalogue.contracts()
    except (CorruptFileError, IndexVersionError) as error:
        _log.warning("%s", error)
        return
    if coverage:
        # At revision 0 no row of the index is replaced.
        index.refresh_coverage((), coverage, 0)
    if contracts:
        index.put_contracts(contracts)


def _enter_files(
    root: Path,
    index: CompletableIndex,
    paths: Sequence[str],
    failures: list[StorageError] | None,
    *,
    progress: bool | None = None,
) -> set[StreamKey]:
    """Read files and put their rows; returns the streams whose coverage they may change.

    ``failures`` takes the errors of files that cannot be found, instead of raising them.
    """
    streams: set[StreamKey] = set()
    if not paths:
        return streams
    # The decoder is loaded only where files are read, so that a headless capture stays small.
    from ibticks._progress import progress_bar
    from ibticks.storage import StreamLock, iter_records

    keys = [key for key in map(FileKey.parse, paths) if key is not None]
    with progress_bar("reading files", len(keys), show=progress) as advance:
        for revision, records in iter_records(root, keys, index.next_revision, failures):
            index.refresh_files(records, revision)
            for record in records:
                stream = StreamKey(record.contract_id, record.tick_type)
                # A running capture writes the coverage of its stream.
                if stream not in streams and (
                    record.messages > record.ticks
                    if record.sealed
                    else not StreamLock.is_locked(root, *stream)
                ):
                    streams.add(stream)
            advance(len(records))
    for failure in failures or ():
        _log.error("%s; the index lacks it", failure)
    return streams


def _all_streams(index: CompletableIndex) -> set[StreamKey]:
    """Return the streams that have files."""
    keys = map(FileKey.parse, index.paths())
    return {StreamKey(key.contract_id, key.tick_type) for key in keys if key is not None}


def _covered_streams(index: CompletableIndex) -> set[StreamKey]:
    """Return the streams that have coverage."""
    return {StreamKey(row.contract_id, row.tick_type) for row in index.coverage()}


def _rebuild_coverage(root: Path, index: CompletableIndex, streams: Collection[StreamKey]) -> None:
    """Replace the coverage of some streams by that of their files."""
    if not streams:
        return
    from ibticks.coverage import end_abandoned_intervals, rebuild_coverage

    contracts = sorted({contract_id for contract_id, _ in streams})
    for first in range(0, len(contracts), _BATCH_CONTRACTS):
        ids = contracts[first : first + _BATCH_CONTRACTS]
        revision = index.next_revision()
        chosen = {stream for stream in streams if ids[0] <= stream[0] <= ids[-1]}
        known = [r for r in index.coverage(ids) if (r.contract_id, r.tick_type) in chosen]
        files = [r for r in index.files(ids) if (r.contract_id, r.tick_type) in chosen]
        remote = archived_paths(root, (file.path for file in files))
        # The messages of archived hours are not here: the rows of the index, or those of the
        # catalogue, are all that is known of their streams.
        remote_streams = {file.stream for file in files if file.path in remote}
        for stream in sorted(remote_streams):
            _log.warning(
                "the coverage of %s %s is not rebuilt: it has archived hours. Restore them with "
                "Store.restore_archived, and rebuild the index",
                *stream,
            )
        chosen -= remote_streams
        known = [r for r in known if (r.contract_id, r.tick_type) in chosen]
        files = [r for r in files if (r.contract_id, r.tick_type) in chosen]
        rows = rebuild_coverage(root, files, known)
        if rows or known:
            index.refresh_coverage(chosen, rows, revision)
    end_abandoned_intervals(root, index)


def keep_sessions(index: JournaledIndex) -> None:
    """Fill the table of market sessions from the calendars, up to a year from now."""
    from ibticks.calendar import MARKETS, session_rows

    today = datetime.now(UTC).date()
    for name in MARKETS:
        dates = index.sessions_span(name)
        if dates is None or dates[1] < today + timedelta(days=30):
            until = today + timedelta(days=365)
            index.put_sessions(session_rows([name], _FIRST_SESSION, until))


def older_files(
    index: Index, age: str | timedelta, now: TimeLike | None
) -> Iterator[tuple[FileRecord, FileKey]]:
    """Iterate over the files whose hour ended some time before now."""
    from ibticks.calendar import now_ns, parse_duration, to_ns

    instant = now_ns() if now is None else to_ns(now, name="now")
    before = instant - parse_duration(age)
    for record in index.files():
        key = FileKey.parse(record.path)
        if key is not None and record.hour_ns + HOUR_NS <= before:
            yield record, key
