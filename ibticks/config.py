"""Settings of the environment, constants, and the folders that ship with ibticks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from ibticks._types import Compression, TickType

__all__ = [
    "CACHE_BYTES",
    "COMPRESSIONS",
    "DAY_NS",
    "HALF_HOUR_NS",
    "HOUR_NS",
    "NANOSECONDS",
    "QUERY_TIMEOUT_SECONDS",
    "SPLIT_BYTES",
    "TICK_TYPES",
    "TIME_MAX",
    "TIME_MIN",
    "ColumnsSetting",
    "dsn_from_environment",
    "resource",
]

NANOSECONDS: Final = 1_000_000_000
"""Nanoseconds in a second."""

HOUR_NS: Final = 3600 * NANOSECONDS
HALF_HOUR_NS: Final = HOUR_NS // 2
"""Nanoseconds in an hour, and in half an hour."""

DAY_NS: Final = 24 * HOUR_NS
"""Nanoseconds in a UTC day."""

TIME_MIN: Final = -(2**63) + 1
TIME_MAX: Final = 2**63 - 1
"""All times but those before and after the years an int64 of nanoseconds holds (1677 to 2262)."""

TICK_TYPES: Final[tuple[TickType, ...]] = get_args(TickType)
"""The tick-by-tick types IB sends, by their names everywhere in ibticks."""

COMPRESSIONS: Final[tuple[Compression, ...]] = get_args(Compression)
"""Compressions of the body of a sealed hour file."""

SPLIT_BYTES: Final = 200 * 1024 * 1024
"""Size past which the second half of an hour goes to a file of its own."""

CACHE_BYTES: Final = 512 * 1024 * 1024
"""How much memory a store keeps of what loads have decoded, unless something else is said."""


QUERY_TIMEOUT_SECONDS: Final = 60.0
"""Time limit of a user's SQL query on the index, unless the caller sets another."""


ColumnsSetting: TypeAlias = Literal["auto", "off"]
"""Whether columnar companions are built."""


def dsn_from_environment() -> str | None:
    """The DSN of the index server in ``IBTICKS_DSN``, or None for the embedded server."""
    return os.environ.get("IBTICKS_DSN") or None


def resource(name: str) -> Path:
    """The folder ``proto``, ``sql`` or ``sample`` that travels with this installation.

    In a wheel they lie inside the package; in a checkout ``proto`` and ``sql`` stand beside it.
    """
    package = Path(__file__).resolve().parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
