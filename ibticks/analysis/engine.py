"""Engine of the measures, for rooms that draw or delegate them."""

from __future__ import annotations

from ibticks.analysis._engine import columns
from ibticks.analysis._engine.bars import Of
from ibticks.analysis._engine.columns import by, finite, instant, nanoseconds, require
from ibticks.analysis._engine.registry import MEASURES, SECTIONS
from ibticks.analysis._engine.sessions import session_start, session_table
from ibticks.analysis._signing import Method

__all__ = [
    "MEASURES",
    "SECTIONS",
    "Method",
    "Of",
    "by",
    "columns",
    "finite",
    "instant",
    "nanoseconds",
    "require",
    "session_start",
    "session_table",
]
