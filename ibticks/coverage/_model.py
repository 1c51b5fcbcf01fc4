"""Coverage of a selection: the captured intervals and the gaps of its streams."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ibticks._types import Interval, StreamKey
from ibticks.config import NANOSECONDS
from ibticks.coverage._states import (
    CoverageInterval,
    CoverageState,
    clip_intervals,
    covered_fraction,
    duration_by_state,
    group_adjacent,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import pandas as pd
    import polars as pl

    from ibticks._types import SessionTypeLike, StreamKeyLike
    from ibticks.calendar import Market

__all__ = ["Coverage"]

_MAX_METADATA_INTERVALS: Final = 100


@dataclass(frozen=True, repr=False)
class Coverage:
    """The captured intervals and the gaps of a selection, stream by stream.

    Made by :meth:`ibticks.Selection.coverage` and :meth:`ibticks.Store.coverage`. In a notebook it
    is shown as a picture; printed, as a report. Time later than now is left out.

    Attributes
    ----------
    streams : tuple of StreamKey
        Contract ids and tick types.
    intervals : tuple of Interval
        The time asked for, half-open ranges of UTC nanoseconds, in order.
    state_intervals : tuple of CoverageInterval
        By stream and time. Those of a stream fill the intervals without gap or overlap.
    label : str
        Description of the selection.
    symbols : dict of int to str
        Symbols of the contracts, where they are known.
    """

    streams: tuple[StreamKey, ...]
    intervals: tuple[Interval, ...]
    state_intervals: tuple[CoverageInterval, ...]
    label: str = ""
    symbols: Mapping[int, str] = field(default_factory=dict, compare=False)

    def gaps(
        self,
        min_duration: str | timedelta | None = None,
        market: Market | str | None = None,
        session: SessionTypeLike = "regular",
    ) -> list[CoverageInterval]:
        """List the intervals in which ticks may be missing.

        These are the intervals that were not captured, not backfilled, and not out of session.
        Time before any capture of a stream (``unknown``: ticks were imported, or never stored) is
        no gap, nor, where all time is asked for, is time after the last capture of a stream
        (``ended``).

        Parameters
        ----------
        min_duration : str or timedelta, optional
            Only gaps at least that long, such as ``"1m"``. Adjacent intervals are one gap:
            disconnected, then not running.
        market : Market or str, optional
            Only the time in which this market was open: see :meth:`during`.
        session : str
            Session type of the market.

        Returns
        -------
        list of CoverageInterval
            By stream and time.

        Raises
        ------
        UnknownMarketError, UnknownPeriodError
            Listing the valid values.
        """
        if market is not None:
            return self.during(market, session).gaps(min_duration)
        gaps = [interval for interval in self.state_intervals if interval.is_gap]
        if min_duration is None:
            return gaps
        from ibticks.calendar import parse_duration

        min_ns = parse_duration(min_duration)
        return [
            gap
            for group in group_adjacent(gaps)
            if group[-1].end_ns - group[0].start_ns >= min_ns
            for gap in group
        ]

    def during(self, market: Market | str, session: SessionTypeLike = "regular") -> Coverage:
        """Return the coverage of the time in which a market was open.

        Parameters
        ----------
        market : Market or str
            ``US``, ``UK``, ``JP``, ``CME`` or the name of any calendar.
        session : str
            Session type, such as ``"regular"`` or ``"globex"``; its breaks are left out.

        Raises
        ------
        UnknownMarketError
            Listing the markets, or the session types of this market.
        """
        hours = list(clip_intervals(_open_hours(market, session, self.intervals), self.intervals))
        return replace(
            self,
            intervals=tuple(hours),
            state_intervals=tuple(
                replace(interval, start_ns=start, end_ns=end)
                for interval in self.state_intervals
                for start, end in clip_intervals(hours, [interval.interval])
            ),
        )

    @property
    def durations(self) -> dict[CoverageState, timedelta]:
        """Time in each state, summed over the streams."""
        return {
            state: timedelta(microseconds=ns // 1000)
            for state, ns in duration_by_state(self.state_intervals).items()
        }

    @property
    def fraction(self) -> float:
        """Fraction of the time that is known to be captured or backfilled, from 0 to 1.

        Time out of session does not count, nor does time after the last capture (``ended``). 0
        where nothing is known, as for imported ticks.
        """
        return covered_fraction(self.state_intervals)

    @property
    def stretches(self) -> tuple[CoverageInterval, ...]:
        """Deprecated name of :attr:`state_intervals`."""
        warnings.warn(
            "Coverage.stretches is called Coverage.state_intervals now",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.state_intervals

    def metadata(self) -> list[list[Any]]:
        """Return a short form for the metadata of a frame.

        Returns
        -------
        list of list
            Each ``[contract_id, tick_type, start, end, state, reason]``; intervals of ``unknown``
            time are left out. Of more than a hundred intervals the longest gaps are taken first,
            then the longest captured intervals.
        """
        from ibticks.calendar import format_ns

        known = [
            state_interval
            for state_interval in self.state_intervals
            if state_interval.state is not CoverageState.UNKNOWN
        ]
        if len(known) > _MAX_METADATA_INTERVALS:
            known.sort(key=lambda part: (not part.is_gap, part.start_ns - part.end_ns))
            known = sorted(known[:_MAX_METADATA_INTERVALS])
        return [
            [
                value.contract_id,
                value.tick_type,
                format_ns(value.start_ns),
                format_ns(value.end_ns),
                value.state.value,
                value.reason,
            ]
            for value in known
        ]

    def as_json(
        self,
        min_duration: str | timedelta | None = None,
    ) -> dict[str, Any]:
        """Return the report as JSON types.

        Parameters
        ----------
        min_duration : str or timedelta, optional
            Minimum length of the gaps: see :meth:`gaps`.

        Returns
        -------
        dict
            ``selection``, ``intervals``, ``fraction``, ``streams`` (each with its ``fraction`` and
            ``seconds`` by state) and ``gaps``.
        """
        from ibticks.calendar import format_ns

        return {
            "selection": self.label,
            "intervals": [[format_ns(start), format_ns(end)] for start, end in self.intervals],
            "fraction": self.fraction,
            "streams": [
                {
                    "contract_id": contract_id,
                    "symbol": self.symbols.get(contract_id, ""),
                    "tick_type": tick_type,
                    "fraction": covered_fraction(intervals),
                    "seconds": {
                        state.value: ns / NANOSECONDS
                        for state, ns in duration_by_state(intervals).items()
                    },
                }
                for (contract_id, tick_type), intervals in self.by_stream()
            ],
            "gaps": [gap.as_json() for gap in self.gaps(min_duration)],
        }

    def to_polars(self) -> pl.DataFrame:
        """Return the intervals as a polars frame.

        Returns
        -------
        polars.DataFrame
            ``contract_id`` (UInt32), ``tick_type``, ``start``, ``end`` (nanoseconds, UTC),
            ``duration``, ``state`` and ``reason``.
        """
        from ibticks.frames import coverage_frame

        return coverage_frame(self.state_intervals, "polars")

    def to_pandas(self) -> pd.DataFrame:
        """Return the intervals as a pandas frame, with the columns of :meth:`to_polars`."""
        from ibticks.frames import coverage_frame

        return coverage_frame(self.state_intervals, "pandas")

    def by_stream(self) -> Iterator[tuple[StreamKey, list[CoverageInterval]]]:
        """Iterate over the streams and their intervals."""
        by_stream: dict[StreamKey, list[CoverageInterval]] = {stream: [] for stream in self.streams}
        for interval in self.state_intervals:
            by_stream[interval.stream].append(interval)
        for stream, intervals in by_stream.items():
            yield StreamKey(*stream), intervals

    def merged_gaps(
        self,
        min_duration: str | timedelta | None = None,
        *,
        exclude: Collection[CoverageState] = (),
    ) -> list[CoverageInterval]:
        """List the gaps, adjacent ones merged into one with the state and reason of the first.

        Parameters
        ----------
        min_duration : str or timedelta, optional
            As for :meth:`gaps`.
        exclude : collection of CoverageState, optional
            States whose gaps are left out.
        """
        gaps = (gap for gap in self.gaps(min_duration) if gap.state not in exclude)
        return [replace(group[0], end_ns=group[-1].end_ns) for group in group_adjacent(gaps)]

    def summary_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return heads and rows of a table: the covered fraction and the states of each stream."""
        from ibticks.coverage._report import SUMMARY_COLUMNS, summary_rows

        return SUMMARY_COLUMNS, summary_rows(self)

    def gap_table(
        self, min_duration: str | timedelta | None = None
    ) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return heads and rows of a table of the gaps, as text; see :meth:`gaps`."""
        from ibticks.coverage._report import GAP_COLUMNS, gap_rows

        return GAP_COLUMNS, gap_rows(self, self.gaps(min_duration))

    def name(self, stream: StreamKeyLike) -> str:
        """Return the symbol of a stream, or else its contract id, and its tick type."""
        contract_id, tick_type = StreamKey(*stream)
        return f"{self.symbols.get(contract_id) or contract_id} {tick_type}"

    def __repr__(self) -> str:
        streams, gaps = len(self.streams), len(group_adjacent(self.gaps()))
        return (
            f"<Coverage of {streams} stream{'s' * (streams != 1)}, {self.fraction:.1%} covered, "
            f"{gaps} gap{'s' * (gaps != 1)}>"
        )

    def __str__(self) -> str:
        from ibticks.coverage._report import format_report

        return format_report(self)

    def _repr_html_(self) -> str:
        from ibticks.coverage._report import render_html

        return render_html(self)


def _open_hours(
    name: Market | str, session: SessionTypeLike, intervals: Sequence[Interval]
) -> Iterator[Interval]:
    """Iterate over the opening hours of a market around some intervals."""
    from ibticks.calendar import from_ns
    from ibticks.calendar import market as find_market

    market = find_market(name) if isinstance(name, str) else name
    first = last = market.first_date
    if intervals:
        day = timedelta(days=1)  # a session may begin the evening before its day
        first = max(from_ns(intervals[0][0], market.tz).date() - day, market.first_date)
        last = min(from_ns(intervals[-1][1], market.tz).date() + day, market.last_date)
    for hours in market.sessions(first, last, session):
        start_ns = hours.start_ns
        for break_start_ns, break_end_ns in hours.breaks:
            yield Interval(start_ns, break_start_ns)
            start_ns = break_end_ns
        yield Interval(start_ns, hours.end_ns)
