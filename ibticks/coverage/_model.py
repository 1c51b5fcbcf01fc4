"""What of a selection was captured, and what was not: so that no gap is taken for a calm market."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ibticks.coverage._states import NOTHING_MISSING, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    import polars as pl

    from ibticks.calendar import Market

__all__ = ["Coverage", "Stretch", "clipped", "fraction", "runs", "sums"]

Interval = tuple[int, int]
Stream = tuple[int, str]

_MOST_IN_METADATA: Final = 100
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """Some time of one stream, all of it in one state.

    Attributes
    ----------
    contract_id : int
    tick_type : str
    start_ns, end_ns : int
        UTC nanoseconds, half-open.
    state : State
        :data:`ibticks.coverage.MEANINGS` says what each means.
    reason : str
        IB's code and words, where there are any.
    """

    contract_id: int
    tick_type: str
    start_ns: int
    end_ns: int
    state: State
    reason: str = ""

    @property
    def duration(self) -> timedelta:
        """How long it lasts, to the microsecond."""
        return timedelta(microseconds=(self.end_ns - self.start_ns) // 1000)

    @property
    def is_gap(self) -> bool:
        """Whether ticks may be missing; of ``unknown`` time nobody can say."""
        return self.state not in NOTHING_MISSING and self.state not in (State.ENDED, State.UNKNOWN)

    def as_json(self) -> dict[str, Any]:
        """Its values as JSON can hold them, times in ISO 8601."""
        from ibticks.calendar import format_ns

        return {
            "contract_id": self.contract_id,
            "tick_type": self.tick_type,
            "start": format_ns(self.start_ns),
            "end": format_ns(self.end_ns),
            "seconds": (self.end_ns - self.start_ns) / _SECOND,
            "state": self.state.value,
            "reason": self.reason,
        }


@dataclass(frozen=True, repr=False)
class Coverage:
    """The time of a selection, stream by stream, and what was captured in it.

    Made by :meth:`ibticks.Selection.coverage` and :meth:`ibticks.Store.coverage`. In a notebook it
    is a picture; printed, a report. Time that has not come yet is left out.

    Attributes
    ----------
    streams : tuple of (int, str)
        Contract ids and tick types.
    intervals : tuple of (int, int)
        The time asked for, half-open ranges of UTC nanoseconds, in order.
    stretches : tuple of Stretch
        By stream and time. Those of a stream fill the intervals without gap or overlap.
    label : str
        What was asked for, in words.
    symbols : dict of int to str
        Names of the contracts, where they are known.
    """

    streams: tuple[Stream, ...]
    intervals: tuple[Interval, ...]
    stretches: tuple[Stretch, ...]
    label: str = ""
    symbols: Mapping[int, str] = field(default_factory=dict, compare=False)

    def gaps(
        self,
        min_duration: str | timedelta | None = None,
        market: Market | str | None = None,
        session: str = "regular",
    ) -> list[Stretch]:
        """The stretches in which ticks may be missing.

        Those are all that were not captured, not backfilled, and not out of session; time before
        any capture of a stream (``unknown``: imported, or never stored) is not among them. Where
        all time is asked for, nor is what came after the last capture of a stream (``ended``).

        Parameters
        ----------
        min_duration : str or timedelta, optional
            Only gaps at least that long, such as ``"1m"``. Stretches that follow one another at
            once are one gap: disconnected, then not running.
        market : Market or str, optional
            Only the time in which this market was open: see :meth:`during`.
        session : str
            Session type of the market.

        Returns
        -------
        list of Stretch
            By stream and time.

        Raises
        ------
        UnknownMarketError, UnknownPeriodError
            Naming what there is.
        """
        if market is not None:
            return self.during(market, session).gaps(min_duration)
        gaps = [stretch for stretch in self.stretches if stretch.is_gap]
        if min_duration is None:
            return gaps
        from ibticks.calendar import parse_duration

        least = parse_duration(min_duration)
        return [
            gap for run in runs(gaps) if run[-1].end_ns - run[0].start_ns >= least for gap in run
        ]

    def during(self, market: Market | str, session: str = "regular") -> Coverage:
        """The coverage of the time in which a market was open.

        Parameters
        ----------
        market : Market or str
            ``US``, ``UK``, ``JP``, ``CME`` or any calendar's name.
        session : str
            Session type, such as ``"regular"`` or ``"globex"``; its breaks are left out.

        Raises
        ------
        UnknownMarketError
            Naming the markets, or the session types of this one.
        """
        spans = list(clipped(_open_hours(market, session, self.intervals), self.intervals))
        return replace(
            self,
            intervals=tuple(spans),
            stretches=tuple(
                replace(stretch, start_ns=start, end_ns=end)
                for stretch in self.stretches
                for start, end in clipped(spans, [(stretch.start_ns, stretch.end_ns)])
            ),
        )

    @property
    def durations(self) -> dict[State, timedelta]:
        """How long the streams together were in each state."""
        return {
            state: timedelta(microseconds=ns // 1000) for state, ns in sums(self.stretches).items()
        }

    @property
    def fraction(self) -> float:
        """Which share of the time is known to be captured or backfilled, from 0 to 1.

        Time out of session does not count, nor does what came after the last capture (``ended``).
        0 where nothing at all is known, as of imported ticks.
        """
        return fraction(self.stretches)

    def metadata(self) -> list[list[Any]]:
        """What is known, in brief: for the metadata of a frame.

        Returns
        -------
        list of list
            Each ``[contract_id, tick_type, start, end, state, reason]``; stretches of ``unknown``
            time are left out. Where there are more than a hundred, the longest gaps are kept, and
            only then what was captured.
        """
        from ibticks.calendar import format_ns

        known = [stretch for stretch in self.stretches if stretch.state is not State.UNKNOWN]
        if len(known) > _MOST_IN_METADATA:
            known.sort(key=lambda each: (not each.is_gap, each.start_ns - each.end_ns))
            known = sorted(known[:_MOST_IN_METADATA])
        return [
            [
                each.contract_id,
                each.tick_type,
                format_ns(each.start_ns),
                format_ns(each.end_ns),
                each.state.value,
                each.reason,
            ]
            for each in known
        ]

    def as_json(
        self,
        min_duration: str | timedelta | None = None,
    ) -> dict[str, Any]:
        """The report as JSON can hold it.

        Parameters
        ----------
        min_duration : str or timedelta, optional
            Of the gaps: see :meth:`gaps`.

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
                    "fraction": fraction(stretches),
                    "seconds": {s.value: ns / _SECOND for s, ns in sums(stretches).items()},
                }
                for (contract_id, tick_type), stretches in self.by_stream()
            ],
            "gaps": [gap.as_json() for gap in self.gaps(min_duration)],
        }

    def to_polars(self) -> pl.DataFrame:
        """The stretches as a polars frame.

        Returns
        -------
        polars.DataFrame
            ``contract_id`` (UInt32), ``tick_type``, ``start``, ``end`` (nanoseconds, UTC),
            ``duration``, ``state`` and ``reason``.
        """
        from ibticks.frames import coverage_frame

        return coverage_frame(self.stretches, "polars")

    def to_pandas(self) -> pd.DataFrame:
        """The stretches as a pandas frame, with the columns of :meth:`to_polars`."""
        from ibticks.frames import coverage_frame

        return coverage_frame(self.stretches, "pandas")

    def by_stream(self) -> Iterator[tuple[Stream, list[Stretch]]]:
        """Each stream and its stretches."""
        found: dict[Stream, list[Stretch]] = {stream: [] for stream in self.streams}
        for stretch in self.stretches:
            found[stretch.contract_id, stretch.tick_type].append(stretch)
        yield from found.items()

    def name(self, stream: Stream) -> str:
        """A stream for a person: the symbol, or else the contract's id, and the tick type."""
        contract_id, tick_type = stream
        return f"{self.symbols.get(contract_id) or contract_id} {tick_type}"

    def __repr__(self) -> str:
        streams, gaps = len(self.streams), len(runs(self.gaps()))
        return (
            f"<Coverage of {streams} stream{'s' * (streams != 1)}, {self.fraction:.1%} covered, "
            f"{gaps} gap{'s' * (gaps != 1)}>"
        )

    def __str__(self) -> str:
        from ibticks.coverage._report import report

        return report(self)

    def _repr_html_(self) -> str:
        from ibticks.coverage._report import page

        return page(self)


def clipped(spans: Iterable[Interval], within: Sequence[Interval]) -> Iterator[Interval]:
    """The parts of some spans that lie within others; both in order, none overlapping another.

    Examples
    --------
    >>> list(clipped([(0, 5), (7, 9)], [(2, 3), (4, 8)]))
    [(2, 3), (4, 5), (7, 8)]
    """
    for start, end in spans:
        at = bisect_right(within, start, key=lambda each: each[1])
        while at < len(within) and within[at][0] < end:
            yield max(start, within[at][0]), min(end, within[at][1])
            at += 1


def runs(stretches: Iterable[Stretch]) -> list[list[Stretch]]:
    """Stretches of a stream that follow one another without a break, together."""
    found: list[list[Stretch]] = []
    for stretch in stretches:
        last = found[-1][-1] if found else None
        if last is not None and (last.contract_id, last.tick_type, last.end_ns) == (
            stretch.contract_id,
            stretch.tick_type,
            stretch.start_ns,
        ):
            found[-1].append(stretch)
        else:
            found.append([stretch])
    return found


def sums(stretches: Iterable[Stretch]) -> dict[State, int]:
    """Nanoseconds in each state that occurs, in the order of the states."""
    total = dict.fromkeys(State, 0)
    for stretch in stretches:
        total[stretch.state] += stretch.end_ns - stretch.start_ns
    return {state: ns for state, ns in total.items() if ns}


def fraction(stretches: Iterable[Stretch]) -> float:
    """Which share of the time is known to be covered: see :attr:`Coverage.fraction`."""
    by_state = sums(stretches)
    closed = by_state.pop(State.SESSION_CLOSED, 0)
    by_state.pop(State.ENDED, None)
    covered = by_state.get(State.CAPTURED, 0) + by_state.get(State.BACKFILLED, 0)
    total = sum(by_state.values())
    return covered / total if total else float(closed > 0)


def _open_hours(
    name: Market | str, session: str, intervals: Sequence[Interval]
) -> Iterator[Interval]:
    """The times a market was open, around some intervals."""
    from ibticks.calendar import from_ns
    from ibticks.calendar import market as find_market

    market = find_market(name) if isinstance(name, str) else name
    first = last = market.first_date
    if intervals:
        day = timedelta(days=1)  # a session may begin the evening before its day
        first = max(from_ns(intervals[0][0], market.tz).date() - day, market.first_date)
        last = min(from_ns(intervals[-1][1], market.tz).date() + day, market.last_date)
    for each in market.sessions(first, last, session):
        at = each.start_ns
        for pause, resumed in each.breaks:
            yield at, pause
            at = resumed
        yield at, each.end_ns
