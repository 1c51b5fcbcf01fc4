"""States of coverage, intervals in one state, and the status messages that change a state.

A capture writes ``info`` messages into the stream it records. Their ``status`` is a
:class:`StreamStatus`; until the next one, the stream is in the state of :data:`STATE_OF_STATUS`.
The coverage ledger is computed from these messages alone, so it can be rebuilt from the files.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from ibticks._types import Interval, StreamKey
from ibticks.config import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "COMPLETE_STATES",
    "MEANINGS",
    "STATE_OF_STATUS",
    "CoverageInterval",
    "CoverageState",
    "StreamStatus",
    "clip_intervals",
    "closed_reason",
    "covered_fraction",
    "duration_by_state",
    "group_adjacent",
    "next_open_ns",
]

_CLOSED: Final = "outside of IB's trading hours"
_OPENS: Final = "; the next session opens at "


class CoverageState(StrEnum):
    """State of an interval of a stream; :attr:`meaning` describes each."""

    CAPTURED = "captured"
    BACKFILLED = "backfilled"
    SESSION_CLOSED = "session_closed"
    QUIET = "quiet"
    DISCONNECTED = "disconnected"
    NOT_PERMITTED = "not_permitted"
    DELETED = "deleted"
    # States of intervals without a row in the ledger.
    NOT_RUNNING = "not_running"
    ENDED = "ended"
    UNKNOWN = "unknown"

    @property
    def label(self) -> str:
        """Name of the state with spaces, for reports."""
        return self.value.replace("_", " ")

    @property
    def meaning(self) -> str:
        """Description of the state."""
        return MEANINGS[self]


MEANINGS: Final[dict[CoverageState, str]] = {
    CoverageState.CAPTURED: "subscribed and connected: every tick that IB sent is stored",
    CoverageState.BACKFILLED: "requested from IB's history afterwards: times are whole seconds",
    CoverageState.SESSION_CLOSED: "the market was closed: nothing is missing",
    CoverageState.QUIET: "subscribed, but no tick came while the market was open",
    CoverageState.DISCONNECTED: "no connection to TWS, or from TWS to IB",
    CoverageState.NOT_PERMITTED: "IB refused this stream",
    CoverageState.DELETED: "stored once and deleted since; any ticks stored now came later",
    CoverageState.NOT_RUNNING: "no capture was running; any ticks stored now were imported",
    CoverageState.ENDED: "no longer captured: no gap where all time is asked for",
    CoverageState.UNKNOWN: "before any capture of this stream: imported or never stored, it is "
    "unknown whether ticks are missing",
}
"""Description of each state."""

COMPLETE_STATES: Final = frozenset(
    {CoverageState.CAPTURED, CoverageState.BACKFILLED, CoverageState.SESSION_CLOSED}
)
"""States in which no tick is missing, as far as the ledger shows."""


class StreamStatus(StrEnum):
    """``data.status`` of the info messages that change the state of a stream.

    Their ``metadata`` has ``run`` (id of a run of a capture; a message without it is ignored),
    ``reason`` (text) and, where IB sent one, ``code``.
    """

    SUBSCRIBED = "subscribed"
    RESTORED = "restored"  # the connection is back and no data was lost (1102)
    QUIET = "quiet"
    DISCONNECTED = "disconnected"
    NOT_PERMITTED = "not_permitted"
    SESSION_CLOSED = "session_closed"
    STOPPED = "stopped"  # the capture ended in order
    BACKFILLED = "backfilled"  # metadata start_ns, end_ns, ticks, at_ns: a gap filled afterwards
    DELETED = "deleted"  # the same metadata: ticks deleted on purpose
    # The same metadata, and deleted_at_ns, the at_ns of the deletion of the same run it undoes.
    UNDELETED = "undeleted"


STATE_OF_STATUS: Final[dict[StreamStatus, CoverageState | None]] = {
    StreamStatus.SUBSCRIBED: CoverageState.CAPTURED,
    StreamStatus.RESTORED: CoverageState.CAPTURED,
    StreamStatus.QUIET: CoverageState.QUIET,
    StreamStatus.DISCONNECTED: CoverageState.DISCONNECTED,
    StreamStatus.NOT_PERMITTED: CoverageState.NOT_PERMITTED,
    StreamStatus.SESSION_CLOSED: CoverageState.SESSION_CLOSED,
    StreamStatus.STOPPED: None,
}
"""State that begins with a status; None where the capture ended. ``BACKFILLED``, ``DELETED`` and
``UNDELETED`` change no state."""


@dataclass(frozen=True, slots=True, order=True)
class CoverageInterval:
    """An interval of one stream in one state.

    Attributes
    ----------
    contract_id : int
    tick_type : str
    start_ns, end_ns : int
        UTC nanoseconds, half-open.
    state : CoverageState
        :attr:`CoverageState.meaning` describes each.
    reason : str
        IB's code and text, where there are any.
    """

    contract_id: int
    tick_type: str
    start_ns: int
    end_ns: int
    state: CoverageState
    reason: str = ""

    @property
    def stream(self) -> StreamKey:
        """Contract id and tick type."""
        return StreamKey(self.contract_id, self.tick_type)

    @property
    def interval(self) -> Interval:
        """Start and end."""
        return Interval(self.start_ns, self.end_ns)

    @property
    def duration(self) -> timedelta:
        """Length, to the microsecond."""
        return timedelta(microseconds=(self.end_ns - self.start_ns) // 1000)

    @property
    def is_gap(self) -> bool:
        """Return whether ticks may be missing; ``unknown`` time is not counted as a gap."""
        return self.state not in COMPLETE_STATES and self.state not in (
            CoverageState.ENDED,
            CoverageState.UNKNOWN,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the values as JSON types, times in ISO 8601."""
        from ibticks.calendar import format_ns

        return {
            "contract_id": self.contract_id,
            "tick_type": self.tick_type,
            "start": format_ns(self.start_ns),
            "end": format_ns(self.end_ns),
            "seconds": (self.end_ns - self.start_ns) / NANOSECONDS,
            "state": self.state.value,
            "reason": self.reason,
        }


def clip_intervals(intervals: Iterable[Interval], within: Sequence[Interval]) -> Iterator[Interval]:
    """Intersect two lists of intervals, each in order and without overlaps.

    Examples
    --------
    >>> sessions = [Interval(2, 3), Interval(4, 8)]
    >>> [tuple(both) for both in clip_intervals([Interval(0, 5), Interval(7, 9)], sessions)]
    [(2, 3), (4, 5), (7, 8)]
    """
    for start, end in intervals:
        at = bisect_right(within, start, key=lambda other: other[1])
        while at < len(within) and within[at][0] < end:
            yield Interval(max(start, within[at][0]), min(end, within[at][1]))
            at += 1


def group_adjacent(intervals: Iterable[CoverageInterval]) -> list[list[CoverageInterval]]:
    """Group the intervals of a stream that follow one another without a break."""
    groups: list[list[CoverageInterval]] = []
    for interval in intervals:
        last = groups[-1][-1] if groups else None
        if last is not None and (last.stream, last.end_ns) == (interval.stream, interval.start_ns):
            groups[-1].append(interval)
        else:
            groups.append([interval])
    return groups


def duration_by_state(intervals: Iterable[CoverageInterval]) -> dict[CoverageState, int]:
    """Sum the nanoseconds in each state that occurs, in the order of the states."""
    total = dict.fromkeys(CoverageState, 0)
    for interval in intervals:
        total[interval.state] += interval.end_ns - interval.start_ns
    return {state: ns for state, ns in total.items() if ns}


def covered_fraction(intervals: Iterable[CoverageInterval]) -> float:
    """Return the fraction of time that is known to be covered; see :attr:`Coverage.fraction`."""
    by_state = duration_by_state(intervals)
    closed = by_state.pop(CoverageState.SESSION_CLOSED, 0)
    by_state.pop(CoverageState.ENDED, None)
    covered = by_state.get(CoverageState.CAPTURED, 0) + by_state.get(CoverageState.BACKFILLED, 0)
    total = sum(by_state.values())
    return covered / total if total else float(closed > 0)


def closed_reason(opens_ns: int | None) -> str:
    """Return the reason of ``session_closed``, with the time of the next session where known.

    Parameters
    ----------
    opens_ns : int or None
        UTC nanoseconds, a whole second.

    Examples
    --------
    >>> closed_reason(1_381_305_600_000_000_000)
    "outside of IB's trading hours; the next session opens at 2013-10-09T08:00:00Z"
    >>> next_open_ns(_)
    1381305600000000000
    """
    if opens_ns is None:
        return _CLOSED
    opens = datetime.fromtimestamp(opens_ns // NANOSECONDS, UTC)
    return f"{_CLOSED}{_OPENS}{opens:%Y-%m-%dT%H:%M:%SZ}"


def next_open_ns(reason: str) -> int | None:
    """Return the time of the next session that :func:`closed_reason` wrote into a reason."""
    _, opens, instant = reason.partition(_OPENS)
    try:
        return int(datetime.fromisoformat(instant).timestamp()) * NANOSECONDS if opens else None
    except ValueError:
        return None
