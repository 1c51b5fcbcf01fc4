"""The catalogue of an archive: the rows of the index beside the copies, for who has no database.

Each month of a stream has an object ``catalogue/{contract_id}/{tick_type}/{YYYY-MM}/{version}``,
gzipped JSON with the rows of its files, blocks included, of their copies, and of the coverage up to
the last of them; ``catalogue/contracts/{version}`` has the contracts. Each version is created only
if absent, so that of two archives at once none replaces what the other wrote: the second one reads
what is there, and adds its own as the next version. Older versions are deleted.
"""

from __future__ import annotations

import gzip
import json
import logging
import threading
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from ibticks._types import StreamKey
from ibticks.archive._object_store import open_object_store
from ibticks.config import HOUR_NS, NANOSECONDS
from ibticks.errors import ArchiveError, CorruptFileError, IndexVersionError, ReadOnlyError
from ibticks.index import (
    ArchivedCopy,
    ContractRecord,
    CoverageRecord,
    FileRecord,
    ForwardingIndex,
    MemoryIndex,
)
from ibticks.storage import FileKey

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from ibticks.archive._object_store import ObjectStore
    from ibticks.index import Index, IndexChange, IndexReads, ReadScope

__all__ = ["ArchiveIndex", "StreamMonth", "write_archive_catalogue"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
"""Version of the layout of these objects."""

_FOLDER: Final = "catalogue"
_CONTRACTS: Final = f"{_FOLDER}/contracts"
_ATTEMPTS: Final = 10
"""Attempts to add a version while others add theirs."""


class StreamMonth(NamedTuple):
    """A calendar month (UTC) of a stream.

    Examples
    --------
    >>> StreamMonth.of(1, "last", 1_736_519_400_000_000_000).key
    'catalogue/1/last/2025-01'
    >>> StreamMonth.parse("catalogue/1/last/2025-01")
    StreamMonth(contract_id=1, tick_type='last', month='2025-01')
    """

    contract_id: int
    tick_type: str
    month: str

    @classmethod
    def of(cls, contract_id: int, tick_type: str, time_ns: int) -> StreamMonth:
        """Return the month of a time in UTC nanoseconds."""
        return cls(contract_id, tick_type, _month_of(time_ns))

    @classmethod
    def parse(cls, key: str) -> StreamMonth | None:
        """Return the month that a key names, or None if it names another thing."""
        parts = key.split("/")
        if len(parts) != 4 or parts[0] != _FOLDER or not parts[1].isdecimal():
            return None
        return cls(int(parts[1]), parts[2], parts[3])

    @property
    def stream(self) -> StreamKey:
        """The stream."""
        return StreamKey(self.contract_id, self.tick_type)

    @property
    def key(self) -> str:
        """The key of its versions in the object store."""
        return f"{_FOLDER}/{self.contract_id}/{self.tick_type}/{self.month}"


def write_archive_catalogue(
    objects: ObjectStore, index: Index, months: Iterable[StreamMonth]
) -> None:
    """Write the catalogue of some months of an archive, and of its contracts.

    Parameters
    ----------
    objects : ObjectStore
    index : Index
        Has the files and their copies in ``objects``.
    months : iterable of StreamMonth

    Raises
    ------
    ArchiveError
        If the object store fails, or does not return what was written.
    """
    listing = _list_versions(objects)
    for month in sorted(months):
        _add_version(
            objects, month.key, listing.get(month.key), _month_records(objects, index, month)
        )
    contracts = _Records(contracts=tuple(index.contracts()))
    if contracts.contracts:
        _add_version(objects, _CONTRACTS, listing.get(_CONTRACTS), contracts)


class ArchiveIndex(ForwardingIndex):
    """The catalogue of an archive as a read-only :class:`~ibticks.index.Index`.

    Which streams and months there are is read once; the rows of a month when they are needed.

    Parameters
    ----------
    url : str
        URL of the object store.

    Raises
    ------
    ArchiveError
        If it cannot be read, or has no catalogue.
    InputError, MissingExtraError
        As :func:`open_object_store`.
    """

    def __init__(self, url: str) -> None:
        self._objects: Final = open_object_store(url)
        self.url: Final = self._objects.url
        self._lock = threading.Lock()  # guards the fields below
        self._records = MemoryIndex()
        self._read: set[str] = set()
        self._versions = _list_versions(self._objects)
        if not self._versions:
            raise ArchiveError(
                f"{url} has no catalogue of ticks: check the URL, or write one with `ibticks "
                f"archive --to {url}`",
                location=f"{self.url}/{_FOLDER}",
            )
        self._months = [
            month for key in self._versions if (month := StreamMonth.parse(key)) is not None
        ]

    @property
    def writable(self) -> bool:
        """False: every change raises :class:`~ibticks.errors.ReadOnlyError`."""
        return False

    def describe(self) -> str:
        """Return the location in words."""
        return f"the catalogue of {self.url}, read-only"

    def write(self, change: IndexChange) -> None:
        """Raise ReadOnlyError."""
        raise ReadOnlyError(
            f"{self.url} is an archive, which is read-only: open the store that it was archived "
            "from",
            path=self.url,
        )

    def streams(self) -> set[StreamKey]:
        """Return the streams that have archived files."""
        return {month.stream for month in self._months}

    def archived(self, paths: Sequence[str] | None = None) -> list[ArchivedCopy]:
        """Return the copies of some hour files, or of all, by path."""
        if paths is None:
            return super().archived()
        keys = filter(None, map(FileKey.parse, paths))
        months = {StreamMonth.of(key.contract_id, key.tick_type, key.hour_ns) for key in keys}
        return self._load(months).archived(paths)

    def tick_ranges(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> dict[StreamKey, tuple[int, int]]:
        """Return the times of the first and the last tick of each stream."""
        chosen = self._select(contract_ids, tick_types)
        ends = _ends(chosen, min) | _ends(chosen, max)
        return self._load(ends).tick_ranges(contract_ids, tick_types)

    def last_ticks(self, streams: Collection[StreamKey]) -> dict[StreamKey, int]:
        """Return the time of the last tick of each stream."""
        chosen = [month for month in self._months if month.stream in streams]
        return self._load(_ends(chosen, max)).last_ticks(streams)

    def __reduce__(self) -> tuple[type[ArchiveIndex], tuple[str]]:
        return ArchiveIndex, (self.url,)

    def _forward(self, read: Callable[[IndexReads], _T], scope: ReadScope) -> _T:
        if scope.table == "contracts":
            return read(self._load(set(), with_contracts=True))
        chosen = self._select(scope.contract_ids, scope.tick_types)
        # The first messages of an hour may be earlier, and the last ones later, than the hour is.
        first = "" if scope.start_ns is None else _month_of(scope.start_ns - HOUR_NS)
        last = "9999-12" if scope.end_ns is None else _month_of(scope.end_ns + HOUR_NS)
        return read(self._load({month for month in chosen if first <= month.month <= last}))

    def _select(
        self, contract_ids: Sequence[int] | None, tick_types: Sequence[str] | None
    ) -> list[StreamMonth]:
        return [
            month
            for month in self._months
            if (contract_ids is None or month.contract_id in contract_ids)
            and (tick_types is None or month.tick_type in tick_types)
        ]

    def _load(self, months: set[StreamMonth], *, with_contracts: bool = False) -> MemoryIndex:
        """Read the rows of some months, unless they were read."""
        keys = {month.key for month in months} | ({_CONTRACTS} if with_contracts else set())
        with self._lock:
            for key in sorted((keys & self._versions.keys()) - self._read):
                records, _ = _read_latest(self._objects, key, self._versions[key])
                self._records.put_files(records.files)
                self._records.put_archived(records.copies)
                self._records.put_coverage(records.coverage)
                self._records.put_contracts(records.contracts)
                self._read.add(key)
            return self._records


@dataclass(frozen=True, slots=True)
class _Records:
    """The rows in one object."""

    files: tuple[FileRecord, ...] = ()
    copies: tuple[ArchivedCopy, ...] = ()
    coverage: tuple[CoverageRecord, ...] = ()
    contracts: tuple[ContractRecord, ...] = ()

    def merge(self, newer: _Records) -> _Records:
        """Return the rows of both; of two for the same thing, the newer one."""
        merged = MemoryIndex(self.files, self.contracts, self.coverage, archived=self.copies)
        merged.put_files(newer.files)
        merged.put_archived(newer.copies)
        merged.put_coverage(newer.coverage)
        merged.correct_contracts(newer.contracts)
        return _Records(
            tuple(merged.files()),
            tuple(merged.archived()),
            tuple(merged.coverage()),
            tuple(merged.contracts()),
        )

    def encode(self, url: str) -> bytes:
        """Encode as gzipped JSON; the places of the copies are relative to the archive."""
        plain = {
            "schema": SCHEMA_VERSION,
            "files": [file.to_dict() for file in self.files],
            "copies": [
                copy.to_dict() | {"location": copy.location.removeprefix(f"{url}/")}
                for copy in self.copies
            ],
            "coverage": [interval.to_dict() for interval in self.coverage],
            "contracts": [contract.to_dict() for contract in self.contracts],
        }
        return gzip.compress(json.dumps(plain, separators=(",", ":")).encode(), mtime=0)

    @classmethod
    def decode(cls, data: bytes, url: str, location: str) -> _Records:
        """Decode what :meth:`encode` returned, read from ``location`` below ``url``."""
        try:
            plain: dict[str, Any] = json.loads(gzip.decompress(data))
            if int(plain["schema"]) > SCHEMA_VERSION:
                raise IndexVersionError(
                    f"a newer ibticks wrote {location} (schema {plain['schema']}, this one knows "
                    f"{SCHEMA_VERSION}): upgrade ibticks",
                    location=location,
                )
            copies = (copy | {"location": f"{url}/{copy['location']}"} for copy in plain["copies"])
            return cls(
                tuple(map(FileRecord.from_dict, plain["files"])),
                tuple(map(ArchivedCopy.from_dict, copies)),
                tuple(map(CoverageRecord.from_dict, plain["coverage"])),
                tuple(map(ContractRecord.from_dict, plain["contracts"])),
            )
        except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error) as error:
            raise CorruptFileError(
                f"{location} is not a catalogue of ticks ({type(error).__name__}: {error}): delete "
                "it and archive again from the store, or restore an earlier version of the object",
                path=location,
                offset=0,
            ) from error


def _month_records(objects: ObjectStore, index: Index, month: StreamMonth) -> _Records:
    """Return the rows of a month that an index has, of files with a copy in this object store."""
    start_ns, end_ns = _bounds(month.month)
    ids, types = [month.contract_id], [month.tick_type]
    files = {
        file.path: file
        for file in index.files(ids, types, start_ns - HOUR_NS, end_ns + HOUR_NS)
        if start_ns <= file.hour_ns < end_ns
    }
    copies = tuple(
        copy
        for copy in index.archived(sorted(files))
        if copy.is_copy_of(files[copy.path]) and copy.location.startswith(f"{objects.url}/")
    )
    archived = tuple(files[copy.path] for copy in copies)
    if not archived:
        return _Records()
    # What was captured after the last archived hour is not in the archive.
    covered_ns = max(file.hour_ns for file in archived) + HOUR_NS
    coverage = tuple(
        replace(
            interval,
            start_ns=max(interval.start_ns, start_ns),
            end_ns=covered_ns if interval.end_ns is None else min(interval.end_ns, covered_ns),
        )
        for interval in index.coverage(ids, types, start_ns, covered_ns)
    )
    return _Records(archived, copies, coverage)


def _add_version(
    objects: ObjectStore, key: str, versions: Sequence[int] | None, records: _Records
) -> None:
    """Add rows to an object as its next version, unless the latest one has them."""
    versions = versions or ()
    for _ in range(_ATTEMPTS):
        before = _Records()
        latest = 0
        if versions:
            before, latest = _read_latest(objects, key, versions)
        merged = before.merge(records)
        if merged == before:
            break
        name = _object_name(key, latest + 1)
        data = merged.encode(objects.url)
        if objects.create(name, data):
            if objects.read(name).data != data:
                raise ArchiveError(
                    f"{objects.url}/{name} does not have the bytes that were written to it: the "
                    "object store damages or truncates objects. Delete the object, check the "
                    "store, and archive again",
                    location=f"{objects.url}/{name}",
                )
            versions = [*versions, latest + 1]
            break
        versions = _list_versions(objects, key).get(key, ())
    else:
        raise ArchiveError(
            f"{objects.url}/{key} was written by others at every one of {_ATTEMPTS} attempts: "
            "archive again",
            location=f"{objects.url}/{key}",
        )
    for version in versions[:-1]:
        try:
            objects.delete(_object_name(key, version))
        except ArchiveError as error:  # not everybody who may write may delete
            _log.info("an earlier version stays: %s", error)


def _read_latest(objects: ObjectStore, key: str, versions: Sequence[int]) -> tuple[_Records, int]:
    """Read the latest version of an object; one that was replaced meanwhile is looked for again."""
    for _ in range(_ATTEMPTS):
        name = _object_name(key, versions[-1])
        try:
            data = objects.read(name).data
        except ArchiveError:
            newer = _list_versions(objects, key).get(key, ())
            if not newer or newer[-1] == versions[-1]:
                raise
            versions = newer
        else:
            return _Records.decode(data, objects.url, f"{objects.url}/{name}"), versions[-1]
    raise ArchiveError(
        f"{objects.url}/{key} was written again at every one of {_ATTEMPTS} attempts to read it",
        location=f"{objects.url}/{key}",
    )


def _list_versions(objects: ObjectStore, key: str = _FOLDER) -> dict[str, list[int]]:
    """Return the versions of each object of the catalogue below a key, in order."""
    versions: dict[str, list[int]] = {}
    for name in objects.list_keys(f"{key}/"):
        place, _, number = name.removesuffix(_SUFFIX).rpartition("/")
        if name.endswith(_SUFFIX) and number.isdecimal():
            versions.setdefault(place, []).append(int(number))
    return {place: sorted(numbers) for place, numbers in versions.items()}


_SUFFIX: Final = ".json.gz"


def _object_name(key: str, version: int) -> str:
    return f"{key}/{version:06}{_SUFFIX}"


def _ends(
    months: Iterable[StreamMonth], choose: Callable[[Iterator[StreamMonth]], StreamMonth]
) -> set[StreamMonth]:
    """Return the first or the last month of each stream."""
    return {choose(group) for _, group in groupby(sorted(months), lambda month: month.stream)}


def _month_of(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // NANOSECONDS, UTC):%Y-%m}"


def _bounds(month: str) -> tuple[int, int]:
    """Return the first nanosecond of a month, and that after its last."""
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()) * NANOSECONDS, int(after.timestamp()) * NANOSECONDS
