"""Companions on disk: which hours a file has, and whether it is the one of its record."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ibticks.columns._layout import CompanionKey
from ibticks.errors import CorruptFileError
from ibticks.filesystem import explained
from ibticks.format import checksum
from ibticks.index import CompanionHour, CompanionRecord

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "COMPANION_KEY",
    "FORMAT_VERSION",
    "file_checksum",
    "identify",
    "is_unchanged",
    "read_companion_record",
]

COMPANION_KEY: Final = "ibticks.companion"
"""Key of the JSON in the Parquet metadata of a companion."""

FORMAT_VERSION: Final = 1
"""Version of the columns and metadata; a companion of another one is not used."""

_READ_BYTES: Final = 1 << 20
_LARGEST_BIGINT: Final = 2**63 - 1


def identify(path: Path) -> tuple[int, int, int]:
    """Return inode, time of modification and time of change (nanoseconds) of a file."""
    with explained(path, "reading"):
        return _identity(path.stat())


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    # A BIGINT of PostgreSQL has 63 bits for the inode; some network file systems use 64.
    return status.st_ino & _LARGEST_BIGINT, status.st_mtime_ns, status.st_ctime_ns


def file_checksum(descriptor: int) -> int:
    """Return the CRC-32C of all bytes of an open file."""
    crc, offset = 0, 0
    while data := os.pread(descriptor, _READ_BYTES, offset):
        crc = checksum(data, crc)
        offset += len(data)
    return crc


def is_unchanged(root: Path, record: CompanionRecord) -> bool:
    """Return whether a companion on disk is the file of its record.

    Inode, size and times decide where they are those of the record: the file system changes them
    with every write. Otherwise (the store was copied, or restored from a backup) the whole file is
    read and its checksum decides. False for a file that is missing or cannot be read.
    """
    try:
        descriptor = os.open(root / record.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if status.st_size != record.size:
            return False
        if _identity(status) == (record.inode, record.modified_ns, record.changed_ns):
            return True
        return file_checksum(descriptor) == record.crc32c
    except OSError:
        return False
    finally:
        os.close(descriptor)


def read_companion_record(root: Path, key: CompanionKey) -> CompanionRecord:
    """Read the record of a companion from its file.

    Raises
    ------
    CorruptFileError
        If it is no whole companion of its place, or of another version: build it again.
    StorageError
        If it cannot be read.
    """
    path = root / key.path
    with explained(path, "reading"):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            crc32c = file_checksum(descriptor)
            status = os.fstat(descriptor)
            about, rows = _read_metadata(descriptor)
        finally:
            os.close(descriptor)
    with suppress(KeyError, TypeError, ValueError):
        if (
            about["version"] == FORMAT_VERSION
            and CompanionKey(about["contract_id"], about["tick_type"], about["day_ns"]) == key
        ):
            return CompanionRecord(
                key.path,
                key.contract_id,
                key.tick_type,
                key.day_ns,
                rows,
                status.st_size,
                crc32c,
                *_identity(status),
                tuple(CompanionHour(*hour) for hour in about["hours"]),
            )
    raise CorruptFileError(
        f"{path} is no columnar companion of its place, or is damaged: `ibticks columns build` "
        "writes it anew",
        path=str(path),
    )


def _read_metadata(descriptor: int) -> tuple[dict[str, Any], int]:
    """Return the metadata of a Parquet file and its number of rows; empty if it is damaged."""
    # Where files are not read, as in a capture, Arrow is not loaded.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open(descriptor, "rb", closefd=False) as file:
            footer = pq.read_metadata(file)
        about = json.loads((footer.metadata or {}).get(COMPANION_KEY.encode(), b"{}"))
    except (pa.ArrowException, OSError, ValueError):
        return {}, 0
    return (about, footer.num_rows) if isinstance(about, dict) else ({}, 0)
