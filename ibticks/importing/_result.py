"""The result of an import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ibticks._types import StreamKey

__all__ = ["ImportResult"]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Outcome of an import.

    Attributes
    ----------
    source : str
        The file.
    read, added, known : int
        Messages read from it, written to the store, and found there already.
    streams : tuple of StreamKey
        Contract ids and tick types they belong to.
    mapped : dict of str to tuple of str
        Columns of a tick, and the columns of the file they were read from; a key of the column
        ``metadata`` as ``metadata.KEY``.
    ignored : tuple of str
        Columns of the file that were not read.
    preset : str or None
        Preset of column names that was used.
    first_ns, last_ns : int or None
        Earliest and latest time, UTC nanoseconds; None without rows.
    rows : dict of int to int
        Rows of each contract.
    rejected : int
        Rows that could not be read and were left out.
    rejects : str or None
        File that has them, with their line numbers.
    notes : tuple of str
        Notes on values that are not stored as the file has them.
    """

    source: str
    read: int
    added: int
    known: int
    streams: tuple[StreamKey, ...]
    mapped: dict[str, tuple[str, ...]]
    ignored: tuple[str, ...]
    preset: str | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    rows: dict[int, int] = field(default_factory=dict)
    rejected: int = 0
    rejects: str | None = None
    notes: tuple[str, ...] = ()
