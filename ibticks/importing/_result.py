"""The result of an import."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ImportResult"]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did.

    Attributes
    ----------
    source : str
        The file.
    read, added, known : int
        Messages read from it, written to the store, and found there already.
    streams : tuple of (int, str)
        Contract ids and tick types they belong to.
    mapped : dict of str to tuple of str
        Our column names, and the columns of the file they were read from.
    ignored : tuple of str
        Columns of the file that have no place in a tick.
    """

    source: str
    read: int
    added: int
    known: int
    streams: tuple[tuple[int, str], ...]
    mapped: dict[str, tuple[str, ...]]
    ignored: tuple[str, ...]
