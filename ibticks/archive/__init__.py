"""The archive: verified copies of sealed hour files in an object store.

Records of sealed files come in and are copied byte for byte; each copy is created only if absent,
read back and compared before its ``ArchivedCopy`` goes to the index, and the local file is deleted
after a grace time, when a marker file beside it tells where the copy is. Object stores are those of
obstore (S3, Google Cloud, Azure, ``file://``, ``memory://``) and any other URL that fsspec opens.
Beside the copies is their catalogue, so that ``ArchiveIndex`` reads them without a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.archive._archiving import (
        ArchiveReport,
        archive_files,
        has_archive,
        restore_files,
        verify_copy,
    )
    from ibticks.archive._catalogue import ArchiveIndex
    from ibticks.archive._markers import Marker, read_marker, write_marker
    from ibticks.archive._object_store import (
        ObjectStatus,
        ObjectStore,
        StoredObject,
        open_object_store,
        split_location,
    )
    from ibticks.archive._range_cache import find_copies, local_files

__all__ = [
    "ArchiveIndex",
    "ArchiveReport",
    "Marker",
    "ObjectStatus",
    "ObjectStore",
    "StoredObject",
    "archive_files",
    "find_copies",
    "has_archive",
    "local_files",
    "open_object_store",
    "read_marker",
    "restore_files",
    "split_location",
    "verify_copy",
    "write_marker",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
