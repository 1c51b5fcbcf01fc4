"""Which contracts are captured, and how that is written in one line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ibticks.config import TICK_TYPES
from ibticks.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MAX_TRACKED",
    "TrackedContract",
    "check_tracked",
    "format_tracked",
    "parse_tracked",
]

MAX_TRACKED: Final = 10
"""How many contracts are captured at most, unless the settings say otherwise."""

_DEFAULT_TYPES: Final = ("bid_ask", "last")
_LARGEST_ID: Final = 2**32 - 1
_MOST_HOURS: Final = 24 * 7
_WHOLE: Final = re.compile(r"\d{1,18}", re.ASCII)
_MARKS: Final = ":;,"  # they separate what is said of contracts in one line


@dataclass(frozen=True, slots=True)
class TrackedContract:
    """One contract to capture.

    Attributes
    ----------
    contract_id : int
        IB's conId.
    symbol : str
        For people; IB is asked by id.
    tick_types : sequence of str
        In the order in which they are subscribed.
    buffer_hours : int
        How much history a live view of it starts with.
    enabled : bool
    """

    contract_id: int
    symbol: str
    tick_types: Sequence[str] = _DEFAULT_TYPES
    buffer_hours: int = 1
    enabled: bool = True

    def __post_init__(self) -> None:
        where = f"contract {self.symbol or self.contract_id}"
        is_whole = isinstance(self.contract_id, int) and not isinstance(self.contract_id, bool)
        if not is_whole or not 0 < self.contract_id <= _LARGEST_ID:
            raise ConfigError(f"{where}: {self.contract_id!r} is not a contract id of IB")
        if not isinstance(self.symbol, str) or any(mark in self.symbol for mark in _MARKS):
            raise ConfigError(f"{where}: {self.symbol!r} is not a symbol")
        if isinstance(self.tick_types, str):
            raise ConfigError(f"{where}: give tick types as a tuple: ({self.tick_types!r},)")
        object.__setattr__(self, "tick_types", tuple(self.tick_types))
        if not self.tick_types:
            raise ConfigError(f"{where}: no tick type; use some of {', '.join(TICK_TYPES)}")
        for kind in self.tick_types:
            if kind not in TICK_TYPES:
                raise ConfigError(
                    f"{where}: unknown tick type {kind!r}; use some of {', '.join(TICK_TYPES)}"
                )
        if len(set(self.tick_types)) < len(self.tick_types):
            raise ConfigError(f"{where}: a tick type is named twice: {';'.join(self.tick_types)}")
        if not isinstance(self.buffer_hours, int) or not 0 < self.buffer_hours <= _MOST_HOURS:
            raise ConfigError(
                f"{where}: buffer of {self.buffer_hours!r} hours; use 1 to {_MOST_HOURS}"
            )


def parse_tracked(text: str) -> tuple[TrackedContract, ...]:
    """Read ``contract_id:symbol:tick_types:buffer_hours,...``.

    Tick types are separated by semicolons. They and the hours may be left out.

    Raises
    ------
    ConfigError
        Saying which entry is wrong, and how.

    Examples
    --------
    >>> parse_tracked("711280073:MNQ:bid_ask;last:2")[0].buffer_hours
    2
    >>> parse_tracked("265598:AAPL")[0].tick_types
    ('bid_ask', 'last')
    """
    entries = [entry.strip() for entry in text.split(",")]
    if not any(entries):
        return ()
    found: list[TrackedContract] = []
    for number, entry in enumerate(entries, 1):
        if not entry:
            raise ConfigError(f"entry {number} of the tracked contracts is empty: {text!r}")
        contract = _parse_entry(entry, number)
        if any(contract.contract_id == other.contract_id for other in found):
            raise ConfigError(
                f"entry {number} of the tracked contracts ({entry!r}): contract "
                f"{contract.contract_id} is there already; put all its tick types into one entry"
            )
        found.append(contract)
    return tuple(found)


def check_tracked(contracts: Sequence[TrackedContract], most: int) -> None:
    """Refuse what cannot be captured together.

    Raises
    ------
    ConfigError
        If there are more than ``most``, or one is there twice.
    """
    if len(contracts) > most:
        raise ConfigError(
            f"{len(contracts)} contracts are to be tracked, and at most {most} may be: IB limits "
            "tick-by-tick lines; raise IB_STREAM_MAX_TRACKED if your account has more"
        )
    seen: set[int] = set()
    for contract in contracts:
        if not isinstance(contract, TrackedContract):
            raise ConfigError(f"{contract!r} is not a TrackedContract")
        if contract.contract_id in seen:
            raise ConfigError(
                f"contract {contract.contract_id} is to be tracked twice: put all its tick types "
                "into one"
            )
        seen.add(contract.contract_id)


def format_tracked(contracts: Sequence[TrackedContract]) -> str:
    """The line that :func:`parse_tracked` reads as these contracts."""
    return ",".join(
        f"{c.contract_id}:{c.symbol}:{';'.join(c.tick_types)}:{c.buffer_hours}" for c in contracts
    )


def _parse_entry(entry: str, number: int) -> TrackedContract:
    where = f"entry {number} of the tracked contracts ({entry!r})"
    parts = [part.strip() for part in entry.split(":")]
    if not 2 <= len(parts) <= 4:
        raise ConfigError(
            f"{where} has {len(parts)} parts: write contract_id:symbol:tick_types:buffer_hours, as "
            "265598:AAPL:bid_ask;last:1"
        )
    if not _WHOLE.fullmatch(parts[0]):
        raise ConfigError(f"{where}: {parts[0]!r} is not a contract id (a whole number)")
    if not parts[1]:
        raise ConfigError(f"{where}: the symbol is missing")
    kinds: tuple[str, ...] = _DEFAULT_TYPES
    if len(parts) > 2 and parts[2]:
        kinds = tuple(kind.strip() for kind in parts[2].split(";"))
    hours = 1
    if len(parts) > 3 and parts[3]:
        if not _WHOLE.fullmatch(parts[3]):
            raise ConfigError(f"{where}: {parts[3]!r} is not a number of hours (a whole number)")
        hours = int(parts[3])
    try:
        return TrackedContract(int(parts[0]), parts[1], kinds, hours)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
