"""The catalogue: ``{root}/metadata/index.json``, the index readable without a database.

One JSON object with one row a file, columns named once::

    {
        "schema": 1,
        "written": "...",
        "file_columns": [...],
        "files": [[...], ...],
        "contracts": [{...}],
        "coverage": [{...}],
    }

The blocks of the files are left out (they would be most of it): without them a part of an hour is
found by reading the hour.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ibticks.errors import (
    CorruptFileError,
    IndexVersionError,
    ReadOnlyError,
    StorageFullError,
    StoreAccessError,
    TickError,
)
from ibticks.filesystem import give_to_store_owner
from ibticks.index._encoding import (
    FILE_FIELDS,
    contract_from_json,
    contract_to_json,
    coverage_from_json,
    coverage_to_json,
    dump_json,
    file_from_json,
    file_to_json,
)
from ibticks.index._memory import MemoryIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ibticks.index._records import ContractRecord, CoverageRecord, DailyStats, FileRecord

__all__ = ["SCHEMA", "CatalogueIndex", "sync_folder", "write_catalogue"]

SCHEMA: Final = 1
"""Version of the catalogue's layout."""


def write_catalogue(
    path: Path,
    files: Iterable[FileRecord],
    contracts: Iterable[ContractRecord],
    coverage: Iterable[CoverageRecord] = (),
) -> None:
    """Write the catalogue at once: whoever reads sees the old one or the new one, whole.

    The files are taken one by one, so that an iterator over many needs little memory.

    Raises
    ------
    StorageFullError
        The disk is full.
    StoreAccessError
        The folder cannot be written to.
    """
    head = dump_json(
        {
            "schema": SCHEMA,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "contracts": [contract_to_json(record) for record in contracts],
            "coverage": [coverage_to_json(record) for record in coverage],
            "file_columns": FILE_FIELDS,
            "files": [],
        }
    )
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with fresh.open("w", encoding="utf-8") as stream:
            stream.write(head.removesuffix("]}"))
            separator = "\n"
            for file in files:
                plain = file_to_json(file, blocks=False)
                stream.write(separator + dump_json([plain[name] for name in FILE_FIELDS]))
                separator = ",\n"
            stream.write("]}\n")
            stream.flush()
            os.fsync(stream.fileno())
        give_to_store_owner(fresh)
        fresh.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            fresh.unlink()
        if not isinstance(error, OSError) or isinstance(error, TickError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(
                f"no space left while writing the catalogue {path}: free some; the old one stays, "
                "and the next one has everything",
                path=str(path),
            ) from error
        raise StoreAccessError(
            f"cannot write the catalogue {path}: {error.strerror}", path=str(path)
        ) from error


class CatalogueIndex:
    """The catalogue as a read-only :class:`~ibticks.index.Index`.

    It follows the file: a catalogue written anew is read anew. A file that is not there is an empty
    index.

    Parameters
    ----------
    path : Path
        Usually ``{root}/metadata/index.json``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._records = MemoryIndex()

    @property
    def writable(self) -> bool:
        """False: every change raises :class:`~ibticks.errors.ReadOnlyError`."""
        return False

    def describe(self) -> str:
        """Where it is, in words."""
        return f"the catalogue {self.path}, read-only"

    def read(self) -> MemoryIndex:
        """What the catalogue says now, in memory; shared, so copy it before changing it.

        Raises
        ------
        CorruptFileError
            The file is not a catalogue.
        IndexVersionError
            A newer ibticks wrote it.
        StoreAccessError
            It cannot be read.
        """
        with self._lock:
            try:
                with self.path.open("rb") as stream:
                    status = os.fstat(stream.fileno())
                    seen = (status.st_ino, status.st_size, status.st_mtime_ns)
                    if seen != self._seen:
                        self._records = self._parse(stream.read())
                        self._seen = seen
            except FileNotFoundError:
                self._seen, self._records = None, MemoryIndex()
            except OSError as error:
                raise StoreAccessError(
                    f"cannot read the catalogue {self.path}: {error.strerror}", path=str(self.path)
                ) from error
            return self._records

    def _parse(self, text: bytes) -> MemoryIndex:
        try:
            plain: dict[str, Any] = json.loads(text)
            schema = int(plain["schema"])
            if schema > SCHEMA:
                raise IndexVersionError(
                    f"a newer ibticks wrote the catalogue {self.path} (schema {schema}, this one "
                    f"knows {SCHEMA}): upgrade ibticks, or remove the file and rebuild it",
                    path=str(self.path),
                )
            columns = plain["file_columns"]
            return MemoryIndex(
                (file_from_json(dict(zip(columns, row, strict=True))) for row in plain["files"]),
                map(contract_from_json, plain["contracts"]),
                map(coverage_from_json, plain["coverage"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptFileError(
                f"{self.path} is not a catalogue ({type(error).__name__}: {error}): remove it, and "
                "it is written again from the index",
                path=str(self.path),
                offset=getattr(error, "pos", 0),
            ) from error

    def files(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[FileRecord]:
        """Files that may hold messages in ``[start_ns, end_ns)``; without their blocks."""
        return self.read().files(contract_ids, tick_types, start_ns, end_ns)

    def streams(self) -> set[tuple[int, str]]:
        """Return the contract ids and tick types that have captured files."""
        return self.read().streams()

    def tick_ranges(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> dict[tuple[int, str], tuple[int, int]]:
        """Return the first and last tick in the sealed files of each stream that has any."""
        return self.read().tick_ranges(contract_ids, tick_types)

    def open_files(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[FileRecord]:
        """Return the files that are not sealed, by contract, type and hour."""
        return self.read().open_files(contract_ids, tick_types)

    def contracts(self) -> list[ContractRecord]:
        """Every contract known, by id."""
        return self.read().contracts()

    def daily_stats(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[DailyStats]:
        """Daily statistics, computed from the files' records."""
        return self.read().daily_stats(contract_ids, tick_types)

    def coverage(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CoverageRecord]:
        """Intervals that meet ``[start_ns, end_ns)``, by contract, type and start."""
        return self.read().coverage(contract_ids, tick_types, start_ns, end_ns)

    def put_files(self, records: Iterable[FileRecord]) -> None:
        """Raise ReadOnlyError."""
        self._refuse()

    def drop_files(self, paths: Iterable[str]) -> None:
        """Raise ReadOnlyError."""
        self._refuse()

    def replace_files(self, records: Iterable[FileRecord]) -> None:
        """Raise ReadOnlyError."""
        self._refuse()

    def put_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Raise ReadOnlyError."""
        self._refuse()

    def correct_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Raise ReadOnlyError."""
        self._refuse()

    def put_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Raise ReadOnlyError."""
        self._refuse()

    def drop_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Raise ReadOnlyError."""
        self._refuse()

    def replace_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Raise ReadOnlyError."""
        self._refuse()

    def close(self) -> None:
        """Nothing to let go of."""

    def _refuse(self) -> NoReturn:
        raise ReadOnlyError(
            f"the catalogue {self.path} is read-only: open the store with its index",
            path=str(self.path),
        )


def sync_folder(folder: Path) -> None:
    """Make a new or renamed file's name last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
