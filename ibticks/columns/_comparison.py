"""Compare a companion with the hour files, tick by tick."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ibticks.columns._freshness import fresh_hours
from ibticks.columns._reader import file_checksum
from ibticks.config import HOUR_NS
from ibticks.errors import CorruptFileError, StorageError
from ibticks.frames import to_polars, to_table
from ibticks.storage import read_ticks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ibticks.index import CompanionRecord, FileRecord

__all__ = ["compare_companion"]


def compare_companion(
    root: Path, companion: CompanionRecord, files: Sequence[FileRecord]
) -> str | None:
    """Compare a companion with its checksum, and its fresh hours with their files.

    Parameters
    ----------
    root : Path
    companion : CompanionRecord
    files : sequence of FileRecord
        All captured files of its stream and day in the index.

    Returns
    -------
    str or None
        Description of the first difference. Hours that are not fresh are not compared, nor are
        those whose files are damaged.
    """
    path = root / companion.path
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return f"{error.strerror or error}: loads read the hour files"
    try:
        crc32c = file_checksum(descriptor)
    finally:
        os.close(descriptor)
    if crc32c != companion.crc32c:
        return f"{companion.crc32c:#010x} in the index, {crc32c:#010x} computed"
    try:
        stored = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        return f"it cannot be read: {error}"
    times = stored["timestamp"].cast(pa.int64())
    for hour_ns in sorted(fresh_hours(companion, files)):
        hour = [file for file in files if file.hour_ns == hour_ns]
        try:
            chunks = read_ticks(root, hour, stored.column_names, strict=True)
        except (CorruptFileError, StorageError):
            continue  # which the verification of the file reports
        expected = to_polars(to_table(chunks, stored.column_names))
        inside = pc.and_(pc.greater_equal(times, hour_ns), pc.less(times, hour_ns + HOUR_NS))
        if not to_polars(stored.filter(inside)).equals(expected):
            return f"its ticks are not those of {hour[0].path}"
    return None
