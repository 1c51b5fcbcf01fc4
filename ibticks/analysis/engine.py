"""Engine of the measures, for rooms that draw or delegate them."""

from __future__ import annotations

from ibticks.analysis._engine import columns
from ibticks.analysis._engine.bars import BarSource
from ibticks.analysis._engine.columns import (
    duration_ns,
    finite_column,
    key_columns,
    require,
    time_ns,
)
from ibticks.analysis._engine.registry import MEASURES, SECTIONS
from ibticks.analysis._engine.sessions import session_start, session_table
from ibticks.analysis._signing import SigningMethod

__all__ = [
    "MEASURES",
    "SECTIONS",
    "BarSource",
    "SigningMethod",
    "columns",
    "duration_ns",
    "finite_column",
    "key_columns",
    "require",
    "session_start",
    "session_table",
    "time_ns",
]
