"""What of IB's side is known to be broken: its own connection, or a farm of market data."""

from __future__ import annotations

from typing import Final

__all__ = ["Outages"]

_TO_IB: Final = (1100, 2110)
_ALL_IS_WELL: Final = (1101, 1102)


class Outages:
    """The outages that messages told of, and not yet the end of.

    Examples
    --------
    >>> outages = Outages()
    >>> outages.begin(2103, "Market data farm connection is broken:usfarm")
    >>> outages.end(2104, "Market data farm connection is OK:eufarm")
    False
    >>> outages.end(2104, "Market data farm connection is OK:usfarm")
    True
    """

    def __init__(self) -> None:
        self._broken: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._broken)

    @property
    def of_ib(self) -> bool:
        """Whether TWS itself has no connection to IB: nothing can be asked."""
        return "" in self._broken

    def begin(self, number: int, text: str) -> None:
        """Take in that something is broken."""
        self._broken.add("" if number in _TO_IB else _farm(text))

    def end(self, number: int, text: str) -> bool:
        """Take in that something is restored; whether that was the last of it."""
        if not self._broken:
            return False
        if number in _ALL_IS_WELL:
            self._broken.clear()
        else:
            self._broken.discard(_farm(text))
        return not self._broken


def _farm(text: str) -> str:
    """The farm a message is about, at its end after a colon."""
    return text.rpartition(":")[2].strip() or "farm"
