"""The columns of a tick: their names, their order and what the wire says of each.

The order here is the order of the columns in every frame ibticks hands out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from numbers import Integral
from typing import Final

from ibticks.config import TICK_TYPES
from ibticks.errors import InputError, UnknownColumnError, UnknownTickTypeError

__all__ = [
    "COLUMNS",
    "FIELDS",
    "ON_REQUEST",
    "Field",
    "Kind",
    "check_columns",
    "check_contract_id",
    "check_tick_type",
    "columns_of",
]


class Kind(Enum):
    """How a column is held in memory."""

    TIME = "time"  # int64 nanoseconds, UTC
    SECONDS = "seconds"  # int64 seconds on the wire, nanoseconds in a frame
    UINT32 = "uint32"
    UINT64 = "uint64"
    FLOAT = "float"
    BOOL = "bool"
    STRING = "string"  # codes into a dictionary of values
    STRINGS = "strings"  # a list of them
    MAP = "map"  # pairs of them


@dataclass(frozen=True, slots=True)
class Field:
    """One column: its name, how it is held, its number on the wire, who carries it."""

    name: str
    kind: Kind
    number: int
    tick_types: tuple[str, ...]
    nullable: bool = True


_TRADES: Final = ("last", "all_last")
_ALL: Final = TICK_TYPES

FIELDS: Final[tuple[Field, ...]] = (
    Field("timestamp", Kind.TIME, 3, _ALL, nullable=False),
    Field("contract_id", Kind.UINT32, 1, _ALL, nullable=False),
    Field("tick_type", Kind.STRING, 2, _ALL, nullable=False),
    Field("price", Kind.FLOAT, 3, _TRADES),
    Field("size", Kind.FLOAT, 4, _TRADES),
    Field("bid_price", Kind.FLOAT, 5, ("bid_ask",)),
    Field("bid_size", Kind.FLOAT, 6, ("bid_ask",)),
    Field("ask_price", Kind.FLOAT, 7, ("bid_ask",)),
    Field("ask_size", Kind.FLOAT, 8, ("bid_ask",)),
    Field("mid_price", Kind.FLOAT, 9, ("mid_point",)),
    Field("exchange", Kind.STRING, 10, _TRADES),
    Field("conditions", Kind.STRINGS, 11, _TRADES, nullable=False),
    Field("sequence", Kind.UINT64, 12, _ALL),
    Field("past_limit", Kind.BOOL, 13, _TRADES),
    Field("unreported", Kind.BOOL, 14, _TRADES),
    Field("bid_past_low", Kind.BOOL, 15, ("bid_ask",)),
    Field("ask_past_high", Kind.BOOL, 16, ("bid_ask",)),
    Field("exchange_time", Kind.SECONDS, 17, _ALL),
    Field("stream_id", Kind.STRING, 2, _ALL, nullable=False),
    Field("metadata", Kind.MAP, 8, _ALL, nullable=False),
)
"""Every column, in order. The numbers of ``timestamp``, ``stream_id`` and ``metadata`` are those
of ``StreamMessage``, the others those of ``TickData``."""

_LARGEST_ID: Final = 2**32 - 1

COLUMNS: Final[dict[str, Field]] = {field.name: field for field in FIELDS}

ON_REQUEST: Final = frozenset({"stream_id", "metadata"})
"""Columns that come only when they are asked for by name."""


def check_tick_type(tick_type: str) -> str:
    """Return ``tick_type`` if IB has it.

    Raises
    ------
    UnknownTickTypeError
        Naming the four that exist.

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
        If it is not an integer from 1 to 4294967295 (uint32).

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


def columns_of(tick_types: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """The columns a frame of these tick types has unless others are asked for.

    Examples
    --------
    >>> columns_of(["mid_point"])
    ('timestamp', 'contract_id', 'tick_type', 'mid_price', 'sequence', 'exchange_time')
    """
    return tuple(
        field.name
        for field in FIELDS
        if field.name not in ON_REQUEST and any(kind in field.tick_types for kind in tick_types)
    )


def check_columns(columns: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Return the asked-for columns in their standard order, each once.

    Raises
    ------
    UnknownColumnError
        Naming the ones that exist.
    """
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise UnknownColumnError(
            f"unknown column {unknown[0]!r}: the columns are {', '.join(COLUMNS)}",
            column=unknown[0],
        )
    return tuple(name for name in COLUMNS if name in columns)
