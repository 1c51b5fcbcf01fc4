"""Columnar companions: the sealed hours of a stream and a UTC day as one Parquet file.

Records of sealed hour files come in, Parquet files and their ``CompanionRecord`` go out. A
companion is derived: it may be deleted at any time, and it counts only for the hours whose files
still have the checksums that it names. Any other tool reads the files, too:
``columns/{contract_id}/{tick_type}/{YYYY}/{MM}/{DD}.parquet``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.columns._encodings import ColumnEncoding, choose_encodings
    from ibticks.columns._layout import CompanionKey, columns_folder, floor_day, list_companions
    from ibticks.columns._reader import is_unchanged, read_companion_record
    from ibticks.columns._writer import GROUP_ROWS, write_companion

__all__ = [
    "GROUP_ROWS",
    "ColumnEncoding",
    "CompanionKey",
    "choose_encodings",
    "columns_folder",
    "floor_day",
    "is_unchanged",
    "list_companions",
    "read_companion_record",
    "write_companion",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
