"""The columns of a tick: names, order, types, and numbers on the wire.

The order here is the order of the columns in every DataFrame that ibticks returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from numbers import Integral
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

from ibticks.config import TICK_TYPES
from ibticks.errors import InputError, UnknownColumnError, UnknownTickTypeError

__all__ = [
    "COLUMNS",
    "FLAGS",
    "ON_REQUEST",
    "Field",
    "FieldType",
    "check_columns",
    "check_contract_id",
    "check_tick_type",
    "list_columns",
    "list_flags",
]


class FieldType(Enum):
    """Type of a column."""

    TIME = "time"  # int64 nanoseconds, UTC
    SECONDS = "seconds"  # int64 seconds on the wire, nanoseconds in a DataFrame
    UINT32 = "uint32"
    UINT64 = "uint64"
    FLOAT = "float"
    BOOL = "bool"
    STRING = "string"  # codes into a dictionary of values
    STRINGS = "strings"  # a list of such codes
    MAP = "map"  # pairs of such codes


@dataclass(frozen=True, slots=True)
class Field:
    """One column: its name, its type, its number on the wire, the tick types that carry it."""

    name: str
    type: FieldType
    number: int
    tick_types: tuple[str, ...]
    nullable: bool = True


_TRADES: Final = ("last", "all_last")
_ALL: Final = TICK_TYPES

_FIELDS: Final = (
    Field("timestamp", FieldType.TIME, 3, _ALL, nullable=False),
    Field("contract_id", FieldType.UINT32, 1, _ALL, nullable=False),
    Field("tick_type", FieldType.STRING, 2, _ALL, nullable=False),
    Field("price", FieldType.FLOAT, 3, _TRADES),
    Field("size", FieldType.FLOAT, 4, _TRADES),
    Field("bid_price", FieldType.FLOAT, 5, ("bid_ask",)),
    Field("bid_size", FieldType.FLOAT, 6, ("bid_ask",)),
    Field("ask_price", FieldType.FLOAT, 7, ("bid_ask",)),
    Field("ask_size", FieldType.FLOAT, 8, ("bid_ask",)),
    Field("mid_price", FieldType.FLOAT, 9, ("mid_point",)),
    Field("exchange", FieldType.STRING, 10, _TRADES),
    Field("conditions", FieldType.STRINGS, 11, _TRADES, nullable=False),
    Field("sequence", FieldType.UINT64, 12, _ALL),
    Field("past_limit", FieldType.BOOL, 13, _TRADES),
    Field("unreported", FieldType.BOOL, 14, _TRADES),
    Field("bid_past_low", FieldType.BOOL, 15, ("bid_ask",)),
    Field("ask_past_high", FieldType.BOOL, 16, ("bid_ask",)),
    Field("exchange_time", FieldType.SECONDS, 17, _ALL),
    Field("stream_id", FieldType.STRING, 2, _ALL, nullable=False),
    Field("metadata", FieldType.MAP, 8, _ALL, nullable=False),
)

COLUMNS: Final[dict[str, Field]] = {field.name: field for field in _FIELDS}
"""Every column by its name, in order. The numbers of ``timestamp``, ``stream_id`` and ``metadata``
are those of ``StreamMessage``, the others those of ``TickData``."""

FLAGS: Final = tuple(field.name for field in _FIELDS if field.type is FieldType.BOOL)
"""The flags of all tick types, in order: the bits by which kernels pass them."""

_LARGEST_ID: Final = 2**32 - 1

ON_REQUEST: Final = frozenset({"stream_id", "metadata"})
"""Columns that are decoded only when requested by name."""


@cache
def list_flags(tick_type: str) -> tuple[str, ...]:
    """Return the flags that ticks of this type carry.

    Examples
    --------
    >>> list_flags("bid_ask")
    ('bid_past_low', 'ask_past_high')
    """
    return tuple(name for name in FLAGS if tick_type in COLUMNS[name].tick_types)


def check_tick_type(tick_type: str) -> str:
    """Return ``tick_type`` if IB has it.

    Raises
    ------
    UnknownTickTypeError
        IB has no such tick type; the message names the four that exist.

    Examples
    --------
    >>> check_tick_type("bid_ask")
    'bid_ask'
    """
    if tick_type not in TICK_TYPES:
        raise UnknownTickTypeError(
            f"unknown tick type {tick_type!r}: use one of {', '.join(TICK_TYPES)}",
            tick_type=tick_type,
        )
    return tick_type


def check_contract_id(contract_id: object) -> int:
    """Return ``contract_id``, as a plain int, if a tick can carry it.

    Raises
    ------
    InputError
        ``contract_id`` is not an integer from 1 to 4294967295 (uint32).

    Examples
    --------
    >>> check_contract_id(8314)
    8314
    """
    number = int(contract_id) if isinstance(contract_id, Integral) else 0
    if not 0 < number <= _LARGEST_ID:
        raise InputError(
            f"contract_id {contract_id!r} is not within 1 to {_LARGEST_ID}", contract_id=contract_id
        )
    return number


def list_columns(tick_types: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of ticks of these tick types, unless others are requested.

    Examples
    --------
    >>> list_columns(["mid_point"])
    ('timestamp', 'contract_id', 'tick_type', 'mid_price', 'sequence', 'exchange_time')
    """
    return tuple(
        field.name
        for field in COLUMNS.values()
        if field.name not in ON_REQUEST and any(name in field.tick_types for name in tick_types)
    )


def check_columns(columns: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns in their standard order, without duplicates.

    Raises
    ------
    UnknownColumnError
        There is no such column; the message names those that exist.
    """
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise UnknownColumnError(
            f"unknown column {unknown[0]!r}: the columns are {', '.join(COLUMNS)}",
            column=unknown[0],
        )
    return tuple(name for name in COLUMNS if name in columns)
