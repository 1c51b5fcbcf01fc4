"""Hour files by themselves: read, scan and write them without a store, an index or a database.

Paths, folders or globs come in; Arrow, polars, pandas and xarray frames, messages as protobuf or
v2 JSON come out, and frames become hour files again. ``ibt.read_hours``, ``ibt.scan_hours``,
``ibt.HourWriter`` and ``ibt.iter_messages`` are these functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.hours._messages import (
        RawMessage,
        iter_messages,
        message_from_json,
        message_to_json,
    )
    from ibticks.hours._read import HourTicks, read_hours, scan_hours
    from ibticks.hours._writer import HourWriter

__all__ = [
    "HourTicks",
    "HourWriter",
    "RawMessage",
    "iter_messages",
    "message_from_json",
    "message_to_json",
    "read_hours",
    "scan_hours",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
