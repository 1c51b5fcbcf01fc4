"""Keeping an index at one with the files, the ledger of coverage and the calendars."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from ibticks.config import HOUR_NS
from ibticks.errors import CorruptFileError, IndexVersionError, StorageError
from ibticks.index import Index
from ibticks.storage import FileKey, list_paths, metadata_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from ibticks.calendar import TimeLike
    from ibticks.index import CoverageRecord, FileRecord, JournaledIndex
    from ibticks.storage import FileListing

__all__ = [
    "CompletableIndex",
    "complete_index",
    "complete_journal",
    "find_missing",
    "keep_sessions",
    "older_files",
    "rebuild_index",
]

Stream: TypeAlias = tuple[int, str]
"""Contract id and tick type."""

_FIRST_SESSION: Final = date(2000, 1, 1)
_BATCH_CONTRACTS: Final = 20
"""Contracts whose coverage is rebuilt together."""

_ANALYZED_FILES: Final = 1_000
"""Entered files from which on the query planner needs new statistics."""

_log = logging.getLogger(__name__)


class CompletableIndex(Index, Protocol):
    """An index into which files are entered while writers go on."""

    def paths(self) -> set[str]:
        """Return the paths of all files."""

    def iter_files(self) -> Iterator[FileRecord]:
        """Iterate over all files without their blocks."""

    def is_complete(self) -> bool:
        """Whether every file of the store has been entered."""

    def set_complete(self, complete: bool) -> None:
        """Store whether every file of the store has been entered."""

    def next_revision(self) -> int:
        """Return a number that all later changes exceed."""

    def refresh_files(self, records: Iterable[FileRecord], revision: int) -> None:
        """Insert or replace rows, except those changed since ``revision``."""

    def drop_stale_files(self, paths: Iterable[str], revision: int) -> None:
        """Remove rows, except those changed since ``revision``."""

    def refresh_coverage(
        self, streams: Iterable[Stream], records: Iterable[CoverageRecord], revision: int
    ) -> None:
        """Make these the intervals of some streams, except those changed since ``revision``."""

    def analyze(self) -> None:
        """Refresh the statistics of the query planner."""


def complete_index(root: Path, index: CompletableIndex) -> bool:
    """Enter the files of a store that its index lacks; True if there were any.

    The names of the files are compared with those in the index: a listing of the folders and one
    query. No file is read that the index has, but for sealed files that are open in it while their
    streams are not written: a process was killed, or its index lost, before it put their rows. Rows
    whose file is not there stay: that a file is lost must be seen by loads and ``verify``.

    An index that is not marked complete (made just now, or left by a rebuild that was killed, or by
    a journal with a damaged line) also gets the contracts and coverage of the catalogue, the
    coverage that the files tell, and the files that are open or of another size in it.
    """
    was_complete = index.is_complete()
    listing = list_paths(root)
    _warn_of_unreadable(listing)
    entered = index.paths() if was_complete else _current_paths(root, index)
    missing = sorted(listing.paths - entered)
    settled = was_complete and _settle_sealed(root, index)
    if was_complete and not missing:
        return settled
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
    return bool(missing)


def complete_journal(root: Path, index: CompletableIndex) -> bool:
    """Journal the files that neither the catalogue nor the journal has; True if there were any.

    As :func:`complete_index`, for an index whose server is away.
    """
    listing = list_paths(root)
    _warn_of_unreadable(listing)
    missing = sorted(listing.paths - index.paths())
    if missing:
        _rebuild_coverage(root, index, _enter_files(root, index, missing, []))
    return bool(missing)


def find_missing(root: Path, known: set[str]) -> list[FileRecord]:
    """Return rows of the files that are not known, without a look into them.

    Loads read such files through, as they read one that is being written.
    """
    from ibticks.storage import provisional_record

    missing = sorted(list_paths(root).paths - known)
    rows = []
    for key in filter(None, map(FileKey.parse, missing)):
        with suppress(StorageError):  # deleted since it was listed
            rows.append(provisional_record(root, key))
    return rows


def rebuild_index(root: Path, index: CompletableIndex, *, progress: bool | None = None) -> int:
    """Read all files and make the index agree with them; returns the number of files.

    Writers may go on meanwhile: rows that they change after a file was read stay theirs, and a row
    goes only if its file is not there.
    """
    listing = list_paths(root)
    _warn_of_unreadable(listing)
    index.set_complete(False)
    streams = _enter_files(root, index, sorted(listing.paths), None, progress=progress)
    count = len(listing.paths)
    del listing  # of many files it takes some memory
    revision = index.next_revision()
    # Listed again: files may have been deleted since.
    now = list_paths(root)
    gone = [
        path
        for path in sorted(index.paths() - now.paths)
        if not now.is_unreadable(path) and not os.path.lexists(root / path)
    ]
    if gone:
        index.drop_stale_files(gone, revision)
    _rebuild_coverage(root, index, streams | _covered_streams(index))
    index.analyze()
    if not now.unreadable:
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


def _settle_sealed(root: Path, index: CompletableIndex) -> bool:
    """Put the rows of sealed files that are open in the index, and that no process writes.

    True if there were any.
    """
    from ibticks.storage import StreamLock

    # A writer that takes the lock of a stream from now on puts its rows after this revision.
    revision = index.next_revision() if (rows := index.open_files()) else 0
    by_writer: dict[tuple[int, str, bool], list[FileKey]] = {}
    for key in filter(None, (FileKey.parse(row.path) for row in rows)):
        writer = key.contract_id, key.tick_type, key.suffix == "backfill"
        by_writer.setdefault(writer, []).append(key)
    keys = [
        key
        for (contract_id, tick_type, backfill), opened in by_writer.items()
        if not StreamLock.is_locked(root, contract_id, tick_type, backfill=backfill)
        for key in opened
        if _is_sealed(root, key)
    ]
    if not keys or not index.writable:
        return False
    # The decoder is not loaded where nothing is read: a headless capture stays small.
    from ibticks.storage import iter_records

    for _, records in iter_records(root, keys, lambda: revision, []):
        index.refresh_files(records, revision)
    return True


def _is_sealed(root: Path, key: FileKey) -> bool:
    """Whether the header of a file can be read and is final."""
    from ibticks.storage import read_file_header

    try:
        with (root / key.path).open("rb") as file:
            return read_file_header(file.fileno(), key.path).sealed
    except (OSError, CorruptFileError):
        return False


def _warn_of_unreadable(listing: FileListing) -> None:
    for folder, reason in listing.unreadable.items():
        _log.warning("%s; what the index knows of it stays as it is", reason or folder)


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
) -> set[Stream]:
    """Read files and put their rows; returns the streams whose coverage they may change.

    ``failures`` takes the errors of files that cannot be found, instead of raising them.
    """
    told: set[Stream] = set()
    if not paths:
        return told
    # The decoder is not loaded where nothing is read: a headless capture stays small.
    from ibticks.storage import StreamLock, iter_records
    from ibticks.store._progress import bar

    keys = [key for key in map(FileKey.parse, paths) if key is not None]
    with bar("reading files", len(keys), show=progress) as advance:
        for revision, records in iter_records(root, keys, index.next_revision, failures):
            index.refresh_files(records, revision)
            for record in records:
                stream = record.contract_id, record.tick_type
                # A capture that has just begun a file keeps its coverage itself.
                if stream not in told and (
                    record.messages > record.ticks
                    if record.sealed
                    else not StreamLock.is_locked(root, *stream)
                ):
                    told.add(stream)
            advance(len(records))
    for failure in failures or ():
        _log.error("%s; the index does not have it", failure)
    return told


def _all_streams(index: CompletableIndex) -> set[Stream]:
    """The streams that have files."""
    keys = map(FileKey.parse, index.paths())
    return {(key.contract_id, key.tick_type) for key in keys if key is not None}


def _covered_streams(index: CompletableIndex) -> set[Stream]:
    """The streams that have coverage."""
    return {(row.contract_id, row.tick_type) for row in index.coverage()}


def _rebuild_coverage(root: Path, index: CompletableIndex, streams: Collection[Stream]) -> None:
    """Make the coverage of some streams what their files tell."""
    if not streams:
        return
    from ibticks.coverage import end_abandoned_intervals, rebuild_coverage, rows_lost_by_rebuild

    contracts = sorted({contract_id for contract_id, _ in streams})
    for first in range(0, len(contracts), _BATCH_CONTRACTS):
        ids = contracts[first : first + _BATCH_CONTRACTS]
        revision = index.next_revision()
        chosen = {stream for stream in streams if ids[0] <= stream[0] <= ids[-1]}
        known = [r for r in index.coverage(ids) if (r.contract_id, r.tick_type) in chosen]
        files = [r for r in index.files(ids) if (r.contract_id, r.tick_type) in chosen]
        rebuilt = rebuild_coverage(root, files)
        rows = [*rows_lost_by_rebuild(known, rebuilt), *rebuilt]
        if rows or known:
            index.refresh_coverage(chosen, rows, revision)
    end_abandoned_intervals(root, index)


def keep_sessions(index: JournaledIndex) -> None:
    """Let SQL know the sessions of the markets, from the calendars, up to a year from now."""
    from ibticks.calendar import MARKETS, session_rows

    today = datetime.now(UTC).date()
    for name in MARKETS:
        span = index.sessions_span(name)
        if span is None or span[1] < today + timedelta(days=30):
            until = today + timedelta(days=365)
            index.put_sessions(session_rows([name], _FIRST_SESSION, until))


def older_files(
    index: Index, age: str | timedelta, now: TimeLike | None
) -> Iterator[tuple[FileRecord, FileKey]]:
    """The files whose hour ended that long before now."""
    from ibticks.calendar import now_ns, parse_duration, to_ns

    instant = now_ns() if now is None else to_ns(now, name="now")
    before = instant - parse_duration(age)
    for record in index.files():
        key = FileKey.parse(record.path)
        if key is not None and record.hour_ns + HOUR_NS <= before:
            yield record, key
