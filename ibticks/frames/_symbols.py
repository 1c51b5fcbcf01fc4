"""Symbols of the contracts that this process has loaded, for titles of frames without metadata.

A contract id is IB's and means the same contract in every store. A polars frame carries no
metadata, and a frame that was filtered or joined has lost it, so titles look the id up here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["remember_symbols", "symbol_of"]

_SYMBOLS: Final[dict[int, str]] = {}


def remember_symbols(symbols: Mapping[int, str]) -> None:
    """Remember the symbols of contracts by their ids; an empty symbol is not one."""
    _SYMBOLS.update({contract: symbol for contract, symbol in symbols.items() if symbol})


def symbol_of(contract_id: int) -> str | None:
    """Return the symbol of a contract that was loaded, None if it is not known.

    Examples
    --------
    >>> remember_symbols({4294967295: "XYZ"})
    >>> symbol_of(4294967295)
    'XYZ'
    """
    return _SYMBOLS.get(contract_id)
