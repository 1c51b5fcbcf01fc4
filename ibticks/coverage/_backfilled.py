"""Coverage of what was not captured live, but asked of IB afterwards.

A backfill may run beside a capture: it fills intervals that have ended only. It asks for the
:func:`missing_intervals`, stores the ticks, writes a ``backfilled`` message for each interval, and
puts the :func:`backfilled_rows` into the index.

Pure functions of their arguments, as those of :mod:`ibticks.coverage`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ibticks.coverage._states import COMPLETE_STATES, CoverageState
from ibticks.errors import InputError
from ibticks.index import CoverageRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["backfilled_rows", "filled", "missing_intervals"]

_AFTER_ALL: Final = 2**63


def missing_intervals(
    known: Iterable[CoverageRecord], start_ns: int, end_ns: int
) -> list[tuple[int, int]]:
    """What of ``[start_ns, end_ns)`` there is to be backfilled.

    Parameters
    ----------
    known : iterable of CoverageRecord
        The rows of the stream that meet the range, as the index has them.
    start_ns, end_ns : int

    Returns
    -------
    list of (int, int)
        The parts in which ticks may be missing, in order. What lasts still is not among them.

    Examples
    --------
    >>> rows = [
    ...     CoverageRecord(265598, "last", 10, 30, "captured"),
    ...     CoverageRecord(265598, "last", 30, 60, "disconnected"),
    ...     CoverageRecord(265598, "last", 60, None, "disconnected"),
    ... ]
    >>> missing_intervals(rows, 0, 90)
    [(0, 10), (30, 60)]
    """
    parts: list[tuple[int, int]] = []
    for row in filled(
        known, CoverageRecord(0, "", start_ns, end_ns, CoverageState.BACKFILLED.value)
    ):
        if row.state == CoverageState.BACKFILLED and row.end_ns is not None:
            touches = parts and parts[-1][1] == row.start_ns
            begin = parts.pop()[0] if touches else row.start_ns
            parts.append((begin, row.end_ns))
    return parts


def backfilled_rows(
    contract_id: int,
    tick_type: str,
    start_ns: int,
    end_ns: int,
    ticks: int,
    known: Iterable[CoverageRecord],
) -> list[CoverageRecord]:
    """Return the rows that change where a missing interval has been backfilled.

    They belong in the index as those of a :class:`Ledger` do. A ``backfilled`` message, with a
    ``run`` of its own, says the same in the stream.

    Parameters
    ----------
    contract_id : int
    tick_type : str
    start_ns, end_ns : int
    ticks : int
        How many were found; none is an answer, too.
    known : iterable of CoverageRecord
        The rows of the stream that meet the range, as the index has them.

    Raises
    ------
    InputError
        If the range is empty.
    """
    if start_ns >= end_ns:
        raise InputError(f"nothing lies between {start_ns} and {end_ns} ns to be backfilled")
    state, reason = CoverageState.BACKFILLED.value, f"backfill of {ticks:,} ticks"
    return filled(known, CoverageRecord(contract_id, tick_type, start_ns, end_ns, state, reason))


def filled(rows: Iterable[CoverageRecord], filling: CoverageRecord) -> list[CoverageRecord]:
    """The rows that change where a stretch is filled afterwards.

    Where nothing was missing, rows stay as they are, and so does one that has no end yet; others
    are cut where the filling begins and ends.

    Parameters
    ----------
    rows : iterable of CoverageRecord
        Of the stream; those that do not meet the filling do not matter.
    filling : CoverageRecord
        With an end.

    Returns
    -------
    list of CoverageRecord
        New rows, and rows that take the place of one with the same start.

    Examples
    --------
    >>> gap = CoverageRecord(265598, "last", 10, 90, "disconnected")
    >>> rows = filled([gap], CoverageRecord(265598, "last", 20, 50, "backfilled"))
    >>> [(row.start_ns, row.end_ns, row.state) for row in rows]
    [(10, 20, 'disconnected'), (20, 50, 'backfilled'), (50, 90, 'disconnected')]
    """
    assert filling.end_ns is not None
    at, until = filling.start_ns, filling.end_ns
    made: list[CoverageRecord] = []
    for row in sorted(rows, key=lambda row: row.start_ns):
        end = _AFTER_ALL if row.end_ns is None else row.end_ns
        if end <= at or row.start_ns >= until:
            continue
        if row.start_ns > at:
            made.append(replace(filling, start_ns=at, end_ns=row.start_ns))
            at = row.start_ns
        if row.end_ns is not None and row.state not in COMPLETE_STATES:
            if row.start_ns < at:
                made.append(replace(row, end_ns=at))
            made.append(replace(filling, start_ns=at, end_ns=min(end, until)))
            if until < end:
                made.append(replace(row, start_ns=until))
        at = min(end, until)
    if at < until:
        made.append(replace(filling, start_ns=at))
    return made
