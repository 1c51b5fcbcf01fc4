"""Records as JSON: one encoding for the journal, the catalogue and the database.

A record becomes a flat object of its own attribute names; the blocks of a file become eight arrays
``block_offset``, ``block_size`` and so on. Numbers come back exactly; an infinite one (JSON has
none) is the string ``"Infinity"`` or ``"-Infinity"``, which PostgreSQL reads too.
"""

from __future__ import annotations

import json
import math
import operator
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from ibticks.index._records import Block, ContractRecord, CoverageRecord, FileRecord
from ibticks.index._statistics import known

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BLOCK_FIELDS",
    "FILE_FIELDS",
    "contract_from_json",
    "contract_to_json",
    "coverage_from_json",
    "coverage_to_json",
    "dump_json",
    "file_from_json",
    "file_to_json",
]

FILE_FIELDS: Final = tuple(field.name for field in fields(FileRecord) if field.name != "blocks")
"""The attributes of a file but its blocks, in order."""

BLOCK_FIELDS: Final = tuple(field.name for field in fields(Block))
"""The attributes of a block, in order."""

_FLOATS: Final = ("min_price", "max_price", "sum_price", "volume", "notional")
_CONTRACT: Final = tuple(field.name for field in fields(ContractRecord))
_COVERAGE: Final = tuple(field.name for field in fields(CoverageRecord))


def file_to_json(record: FileRecord, *, blocks: bool = True) -> dict[str, Any]:
    """A file as an object that :func:`dump_json` takes.

    Examples
    --------
    >>> record = FileRecord("1/last/2025/01/10/14_ticks.pb", 1, "last", 0, 0, 9, 256, 0, 0)
    >>> file_from_json(file_to_json(record)) == record
    True
    """
    plain: dict[str, Any] = {name: getattr(record, name) for name in FILE_FIELDS}
    for name in _FLOATS:
        plain[name] = _float_to_json(plain[name])
    if blocks:
        for name in BLOCK_FIELDS:
            plain[f"block_{name}"] = [getattr(block, name) for block in record.blocks]
    return plain


def file_from_json(plain: Mapping[str, Any]) -> FileRecord:
    """The file such an object says; without blocks if it has none."""
    values = {name: plain[name] for name in FILE_FIELDS}
    for name in _FLOATS:
        values[name] = None if values[name] is None else float(values[name])
    columns = [plain.get(f"block_{name}", ()) for name in BLOCK_FIELDS]
    return FileRecord(**values, blocks=tuple(map(Block, *columns)))


def contract_to_json(record: ContractRecord) -> dict[str, Any]:
    """A contract as a JSON object."""
    return {name: getattr(record, name) for name in _CONTRACT}


def contract_from_json(plain: Mapping[str, Any]) -> ContractRecord:
    """The contract such an object says."""
    return ContractRecord(**{name: plain[name] for name in _CONTRACT})


def coverage_to_json(record: CoverageRecord) -> dict[str, Any]:
    """An interval as a JSON object."""
    return {name: getattr(record, name) for name in _COVERAGE}


def coverage_from_json(plain: Mapping[str, Any]) -> CoverageRecord:
    """The interval such an object says."""
    return CoverageRecord(**{name: plain[name] for name in _COVERAGE})


def dump_json(value: Any) -> str:
    """Compact JSON; numpy integers, which storage may hand on, are integers too."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, default=operator.index)


def _float_to_json(value: float | None) -> float | str | None:
    value = known(value)
    if value is None or math.isfinite(value):
        return value
    return "Infinity" if value > 0 else "-Infinity"
