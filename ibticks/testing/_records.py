"""Records of the index, with plausible values, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ibticks.config import DAY_NS, HOUR_NS
from ibticks.index import (
    ArchivedCopy,
    Block,
    CompanionHour,
    CompanionRecord,
    CoverageRecord,
    FileRecord,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ibticks.coverage import CoverageState

__all__ = [
    "RECORDS_START_NS",
    "make_archived_copy",
    "make_companion_record",
    "make_coverage_record",
    "make_file_record",
]

RECORDS_START_NS: Final = 1_736_467_200_000_000_000
"""2025-01-10 00:00 UTC, the hour 0 of :func:`make_file_record`."""


def make_file_record(
    hour: int = 0,
    contract_id: int = 265598,
    tick_type: str = "last",
    *,
    sealed: bool = True,
    blocks: int = 2,
    **changes: Any,
) -> FileRecord:
    """Make the record of an hour file.

    Parameters
    ----------
    hour : int
        Hours after 2025-01-10 00:00 UTC.
    contract_id : int
    tick_type : str
    sealed : bool
    blocks : int
        Number of blocks.
    **changes
        Other fields of the record.

    Returns
    -------
    FileRecord

    Examples
    --------
    >>> make_file_record(14, ticks=3).path
    '265598/last/0014_ticks.pb'
    """
    hour_ns = RECORDS_START_NS + hour * HOUR_NS
    values: dict[str, Any] = {
        "path": f"{contract_id}/{tick_type}/{hour:04d}_ticks.pb",
        "contract_id": contract_id,
        "tick_type": tick_type,
        "hour_ns": hour_ns,
        "start_ns": hour_ns + 1_000_000_001,
        "end_ns": hour_ns + 3_599_000_000_001,
        "size": 4096 + hour,
        "messages": 12,
        "ticks": 10,
        "sealed": sealed,
        "crc32c": 0xE3069283 if sealed else None,
        "first_tick_ns": hour_ns + 1_000_000_001,
        "last_tick_ns": hour_ns + 3_599_000_000_001,
        "first_sequence": 1,
        "last_sequence": 2**64 - 1,
        "min_price": 236.5,
        "max_price": 237.1,
        "sum_price": 2368.1,
        "priced_ticks": 10,
        "volume": 700.0,
        "notional": 165_767.3,
        "blocks": tuple(
            Block(256 + 1000 * n, 1000, 1000, 5, hour_ns, hour_ns, hour_ns + n, 2**32 - 1)
            for n in range(blocks)
        ),
    }
    return FileRecord(**{**values, **changes})


def make_coverage_record(
    start_ns: int,
    end_ns: int | None = None,
    state: CoverageState | str = "captured",
    reason: str = "",
    contract_id: int = 265598,
    tick_type: str = "last",
) -> CoverageRecord:
    """Make the record of a coverage interval.

    Parameters
    ----------
    start_ns : int
        UTC nanoseconds.
    end_ns : int, optional
        UTC nanoseconds; by default the interval lasts.
    state, reason : str
    contract_id : int
    tick_type : str

    Returns
    -------
    CoverageRecord

    Examples
    --------
    >>> make_coverage_record(RECORDS_START_NS).state
    'captured'
    """
    return CoverageRecord(contract_id, tick_type, start_ns, end_ns, str(state), reason)


def make_companion_record(
    day: int = 0, files: Iterable[FileRecord] = (), contract_id: int = 265598, **changes: Any
) -> CompanionRecord:
    """Make the record of a companion.

    Parameters
    ----------
    day : int
        Days after 2025-01-10.
    files : iterable of FileRecord
        Hour files whose ticks it has.
    contract_id : int
    **changes
        Other fields of the record.

    Returns
    -------
    CompanionRecord

    Examples
    --------
    >>> make_companion_record(1, [make_file_record(25)]).hours[0].path
    '265598/last/0025_ticks.pb'
    """
    hours = tuple(
        CompanionHour(file.path, file.size, file.crc32c or 0, file.ticks) for file in files
    )
    values: dict[str, Any] = {
        "path": f"columns/{contract_id}/last/{day:04d}.parquet",
        "contract_id": contract_id,
        "tick_type": "last",
        "day_ns": RECORDS_START_NS + day * DAY_NS,
        "rows": sum(hour.rows or 0 for hour in hours),
        "size": 2048,
        "crc32c": 2**32 - 1,
        "inode": 2**63 - 1,
        "modified_ns": RECORDS_START_NS + 1,
        "changed_ns": RECORDS_START_NS + 2,
        "hours": hours,
    }
    return CompanionRecord(**{**values, **changes})


def make_archived_copy(file: FileRecord, **changes: Any) -> ArchivedCopy:
    """Make the record of an archived copy of an hour file.

    Parameters
    ----------
    file : FileRecord
    **changes
        Other fields of the record.

    Returns
    -------
    ArchivedCopy

    Examples
    --------
    >>> make_archived_copy(make_file_record(14)).location
    's3://ticks/265598/last/0014_ticks.pb'
    """
    values: dict[str, Any] = {
        "path": file.path,
        "location": f"s3://ticks/{file.path}",
        "size": file.size,
        "crc32c": file.crc32c or 0,
        "file_crc32c": 2**32 - 1,
        "e_tag": '"336311a016184326ddbdd61edd4eeb52"',
        "verified_ns": RECORDS_START_NS + 30 * DAY_NS,
    }
    return ArchivedCopy(**{**values, **changes})
