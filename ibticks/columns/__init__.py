"""Columnar companions: the sealed hours of a stream and a UTC day as one Parquet file.

Records of sealed hour files come in, Parquet files and their ``CompanionRecord`` go out. A
companion is derived: it may be deleted at any time, and it counts only for the hours whose files
still have the checksums that it names: ``plan_scans`` divides a load between companions and hour
files. Any other tool reads the files, too:
``columns/{contract_id}/{tick_type}/{YYYY}/{MM}/{DD}.parquet``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.columns._build_process import write_companion_in_process
    from ibticks.columns._building import (
        build_companion,
        remove_companion,
        remove_companions_of,
    )
    from ibticks.columns._comparison import compare_companion
    from ibticks.columns._freshness import captured_files, relink_companion
    from ibticks.columns._layout import CompanionKey, companion_keys, floor_day, list_companions
    from ibticks.columns._plan import CompanionScan, FileScan, plan_scans
    from ibticks.columns._writer import write_companion

__all__ = [
    "CompanionKey",
    "CompanionScan",
    "FileScan",
    "build_companion",
    "captured_files",
    "companion_keys",
    "compare_companion",
    "floor_day",
    "list_companions",
    "plan_scans",
    "relink_companion",
    "remove_companion",
    "remove_companions_of",
    "write_companion",
    "write_companion_in_process",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
