"""Which gaps there are to be backfilled: those the ledger tells of, and that are over."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ibticks.config import NANOSECONDS, TIME_MAX, TIME_MIN
from ibticks.coverage import CoverageState, missing_intervals
from ibticks.errors import TimeRangeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta, tzinfo

    from ibticks.calendar import Market, TimeLike
    from ibticks.coverage import CoverageInterval
    from ibticks.store import Store

__all__ = ["plan", "whole_seconds"]


def plan(
    store: Store,
    streams: Sequence[tuple[int, str]],
    within: tuple[int, int],
    market: Market | str | None,
    session: str,
    min_duration: str | timedelta | None,
) -> list[CoverageInterval]:
    """What there is to fill, by stream and time.

    Parameters
    ----------
    store : Store
    streams : sequence of (int, str)
        Contract ids and tick types.
    within : tuple of (int, int)
        Half-open, UTC nanoseconds.
    market, session, min_duration
        As for :func:`ibticks.backfill`.

    Returns
    -------
    list of Stretch
        What lasts still, and what was deleted on purpose, is not among them.
    """
    from ibticks.coverage import query_coverage

    coverage = query_coverage(store.root, store.index, streams, [within])
    if market is not None:
        coverage = coverage.during(market, session)
    gaps: list[CoverageInterval] = []
    # Deleted ticks were deleted on purpose.
    for gap in coverage.merged_gaps(min_duration, exclude={CoverageState.DELETED}):
        known = store.index.coverage([gap.contract_id], [gap.tick_type], gap.start_ns, gap.end_ns)
        # A state that has not ended is left to the capture.
        for start_ns, end_ns in missing_intervals(known, gap.start_ns, gap.end_ns):
            gaps.append(replace(gap, start_ns=start_ns, end_ns=end_ns))
    return gaps


def whole_seconds(
    start: TimeLike | None, end: TimeLike | None, tz: str | tzinfo | None, *, to_now: bool = True
) -> tuple[int, int]:
    """A range of time in the whole seconds it touches; all time, if nothing is given.

    Parameters
    ----------
    start, end : optional
        From ``start`` without ``end``, to now.
    tz : str or tzinfo, optional
        Zone of times that do not say theirs.
    to_now : bool
        Whether it is now that a range without an end reaches to; else it has none.

    Returns
    -------
    tuple of (int, int)
        Half-open, UTC nanoseconds.

    Raises
    ------
    TimeRangeError
        If start is not before end.

    Examples
    --------
    >>> whole_seconds("2025-01-10T14:30:00.5Z", "2025-01-10T14:30:01.5Z", None)
    (1736519400000000000, 1736519402000000000)
    """
    from ibticks.calendar import to_ns

    first, last = TIME_MIN, TIME_MAX
    if start is not None:
        first = to_ns(start, tz=tz, name="start") // NANOSECONDS * NANOSECONDS
    if end is not None or (start is not None and to_now):
        until = time.time_ns() if end is None else to_ns(end, tz=tz, name="end")
        last = -(-until // NANOSECONDS) * NANOSECONDS
    if first >= last:
        upto = "now" if end is None else f"end={end}"
        raise TimeRangeError(f"start={start} is not before {upto}", start_ns=first, end_ns=last)
    return first, last
