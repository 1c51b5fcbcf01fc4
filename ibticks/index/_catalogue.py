"""The catalogue: ``{root}/metadata/index.json``, the index readable without a database.

One JSON object with one row a file, columns named once::

    {
        "schema": 1,
        "written": "...",
        "file_columns": [...],
        "files": [[...], ...],
        "contracts": [{...}],
        "coverage": [{...}],
        "archived": [{...}],
    }

The blocks of the files are left out (they would be most of it): a query of a part of an hour then
reads the whole hour.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ibticks.errors import (
    CorruptFileError,
    IndexVersionError,
    ReadOnlyError,
    StorageFullError,
    StoreAccessError,
    TickError,
)
from ibticks.filesystem import give_to_store_owner, sync_folder
from ibticks.index._memory import MemoryIndex
from ibticks.index._protocol import ForwardingIndex
from ibticks.index._records import (
    FILE_FIELDS,
    ArchivedCopy,
    ContractRecord,
    CoverageRecord,
    FileRecord,
    dump_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ibticks.index._protocol import IndexChange, IndexReads, ReadScope

__all__ = ["SCHEMA_VERSION", "CatalogueIndex", "write_catalogue"]

SCHEMA_VERSION: Final = 1
"""Version of the catalogue's layout."""

_T = TypeVar("_T")


def write_catalogue(
    path: Path,
    files: Iterable[FileRecord],
    contracts: Iterable[ContractRecord],
    coverage: Iterable[CoverageRecord] = (),
    archived: Iterable[ArchivedCopy] = (),
) -> None:
    """Write the catalogue atomically: a reader sees all of the old one or all of the new one.

    The files are consumed one by one, so that an iterator over many needs little memory.

    Raises
    ------
    StorageFullError
        The disk is full.
    StoreAccessError
        The folder cannot be written to.
    """
    head = dump_json(
        {
            "schema": SCHEMA_VERSION,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "contracts": [record.to_dict() for record in contracts],
            "coverage": [record.to_dict() for record in coverage],
            "archived": [record.to_dict() for record in archived],
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
                plain = file.to_dict(blocks=False)
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
                "and the next one will be complete",
                path=str(path),
            ) from error
        raise StoreAccessError(
            f"cannot write the catalogue {path}: {error.strerror}", path=str(path)
        ) from error


class CatalogueIndex(ForwardingIndex):
    """The catalogue file as a read-only :class:`~ibticks.index.Index`.

    A catalogue that was written again is read again. A missing file is an empty index.

    Parameters
    ----------
    path : Path
        Usually ``{root}/metadata/index.json``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()  # guards the two fields below
        self._version: tuple[int, int, int] | None = None
        self._records = MemoryIndex()

    @property
    def writable(self) -> bool:
        """False: every change raises :class:`~ibticks.errors.ReadOnlyError`."""
        return False

    def describe(self) -> str:
        """Return the location in words."""
        return f"the catalogue {self.path}, read-only"

    def read(self) -> MemoryIndex:
        """Return the content of the catalogue; shared, so copy it before changing it.

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
                    version = (status.st_ino, status.st_size, status.st_mtime_ns)
                    if version != self._version:
                        self._records = self._parse(stream.read())
                        self._version = version
            except FileNotFoundError:
                self._version, self._records = None, MemoryIndex()
            except OSError as error:
                raise StoreAccessError(
                    f"cannot read the catalogue {self.path}: {error.strerror}", path=str(self.path)
                ) from error
            return self._records

    def write(self, change: IndexChange) -> None:
        """Raise ReadOnlyError."""
        raise ReadOnlyError(
            f"the catalogue {self.path} is read-only: open the store with its index",
            path=str(self.path),
        )

    def _forward(self, read: Callable[[IndexReads], _T], scope: ReadScope) -> _T:
        return read(self.read())

    def _parse(self, text: bytes) -> MemoryIndex:
        try:
            plain: dict[str, Any] = json.loads(text)
            schema = int(plain["schema"])
            if schema > SCHEMA_VERSION:
                raise IndexVersionError(
                    f"a newer ibticks wrote the catalogue {self.path} (schema {schema}, this one "
                    f"knows {SCHEMA_VERSION}): upgrade ibticks, or remove the file and rebuild it",
                    path=str(self.path),
                )
            columns = plain["file_columns"]
            return MemoryIndex(
                (
                    FileRecord.from_dict(dict(zip(columns, row, strict=True)))
                    for row in plain["files"]
                ),
                map(ContractRecord.from_dict, plain["contracts"]),
                map(CoverageRecord.from_dict, plain["coverage"]),
                archived=map(ArchivedCopy.from_dict, plain.get("archived", ())),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptFileError(
                f"{self.path} is not a catalogue ({type(error).__name__}: {error}): remove it, and "
                "it is written again from the index",
                path=str(self.path),
                offset=getattr(error, "pos", 0),
            ) from error
