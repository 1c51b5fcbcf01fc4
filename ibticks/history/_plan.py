"""Plan and result of a backfill: the gaps to fill, and what was filled."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ibticks._html import html_table
from ibticks._types import Interval, StreamKey
from ibticks.config import NANOSECONDS, TIME_MAX, TIME_MIN
from ibticks.coverage import CoverageState, missing_intervals
from ibticks.errors import TimeRangeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta, tzinfo

    from ibticks.calendar import Market, TimeLike
    from ibticks.coverage import CoverageInterval
    from ibticks.store import Store

__all__ = ["BackfillResult", "BackfilledInterval", "RemainingGap", "plan_backfill", "whole_seconds"]


def plan_backfill(
    store: Store,
    streams: Sequence[tuple[int, str]],
    within: tuple[int, int],
    market: Market | str | None,
    session: str,
    min_duration: str | timedelta | None,
) -> list[CoverageInterval]:
    """Return the gaps to fill, by stream and time.

    Parameters
    ----------
    store : Store
    streams : sequence of (int, str)
        Contract ids and tick types.
    within : tuple of (int, int)
        Half-open, UTC nanoseconds.
    market, session, min_duration
        See :func:`ibticks.backfill`.

    Returns
    -------
    list of Stretch
        Without gaps that have not ended, and without deleted time.
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
) -> Interval:
    """Return a time range in the whole seconds it touches; all of time by default.

    Parameters
    ----------
    start, end : optional
        From ``start`` without ``end``, to now.
    tz : str or tzinfo, optional
        Zone of naive times.
    to_now : bool
        Whether a range without an end ends now; otherwise it has no end.

    Returns
    -------
    Interval
        UTC nanoseconds.

    Raises
    ------
    TimeRangeError
        If start is not before end.

    Examples
    --------
    >>> tuple(whole_seconds("2025-01-10T14:30:00.5Z", "2025-01-10T14:30:01.5Z", None))
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
    return Interval(first, last)


@dataclass(frozen=True, slots=True)
class BackfilledInterval:
    """An interval of a stream that was backfilled, and the number of its ticks.

    Attributes
    ----------
    contract_id : int
    tick_type : str
    start_ns, end_ns : int
        Half-open, UTC nanoseconds.
    ticks : int
        Number of ticks stored now; ticks that were stored before do not count.
    """

    contract_id: int
    tick_type: str
    start_ns: int
    end_ns: int
    ticks: int

    def is_followed_by(self, other: BackfilledInterval) -> bool:
        """Return whether another interval of the stream begins where this one ends."""
        stream = StreamKey(self.contract_id, self.tick_type)
        return (*stream, self.end_ns) == (other.contract_id, other.tick_type, other.start_ns)


@dataclass(frozen=True, slots=True)
class RemainingGap:
    """A gap, or the rest of one, that was not filled.

    Attributes
    ----------
    gap : CoverageInterval
    reason : str
    """

    gap: CoverageInterval
    reason: str

    @property
    def why(self) -> str:
        """Deprecated name of :attr:`reason`."""
        warnings.warn("why is called reason now", DeprecationWarning, stacklevel=2)
        return self.reason


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """Result of a backfill; printed, a report, and a table in a notebook.

    Attributes
    ----------
    gaps : tuple of Stretch
        The gaps to fill, by stream and time.
    filled : tuple of Filled
        Filled intervals with the numbers of ticks stored.
    remaining : tuple of Remaining
        Gaps that were not filled, with reasons.
    requests : int
        Number of requested pages.
    dry_run : bool
        Whether the gaps were only planned.
    """

    gaps: tuple[CoverageInterval, ...] = ()
    filled: tuple[BackfilledInterval, ...] = ()
    remaining: tuple[RemainingGap, ...] = ()
    requests: int = 0
    dry_run: bool = False

    @property
    def ticks(self) -> int:
        """Number of ticks stored."""
        return sum(value.ticks for value in self.filled)

    def as_json(self) -> dict[str, Any]:
        """Return the values as JSON types, times in ISO 8601."""
        from ibticks.calendar import format_ns

        return {
            "dry_run": self.dry_run,
            "ticks": self.ticks,
            "requests": self.requests,
            "gaps": [gap.as_json() for gap in self.gaps],
            "filled": [
                {
                    "contract_id": value.contract_id,
                    "tick_type": value.tick_type,
                    "start": format_ns(value.start_ns),
                    "end": format_ns(value.end_ns),
                    "ticks": value.ticks,
                }
                for value in self.filled
            ],
            "remaining": [{**value.gap.as_json(), "why": value.reason} for value in self.remaining],
        }

    def __str__(self) -> str:
        lines = (
            f"  {contract_id} {tick_type} {start} to {end} {state}{reason and f': {reason}'}"
            for contract_id, tick_type, start, end, state, reason in self._rows()
        )
        return "\n".join([self._summary(), *lines])

    def _repr_html_(self) -> str:
        columns = ("contract", "tick type", "start", "end", "state", "reason")
        return html_table(self._rows(), columns, caption=self._summary())

    def _summary(self) -> str:
        gaps = f"{len(self.gaps)} gap{'s' * (len(self.gaps) != 1)}"
        if self.dry_run:
            return f"{gaps} to fill"
        left = f", {len(self.remaining)} left" if self.remaining else ""
        return f"{gaps}, filled with {self.ticks:,} ticks in {self.requests:,} requests{left}"

    def _rows(self) -> list[tuple[str, ...]]:
        """Return the cells of the gaps: those to fill of a dry run, else those that remain."""
        from ibticks.calendar import format_ns

        gaps = (
            [(gap, gap.reason) for gap in self.gaps]
            if self.dry_run
            else [(remaining.gap, remaining.reason) for remaining in self.remaining]
        )
        return [
            (
                str(gap.contract_id),
                gap.tick_type,
                format_ns(gap.start_ns),
                format_ns(gap.end_ns),
                str(gap.state),
                reason,
            )
            for gap, reason in gaps
        ]
