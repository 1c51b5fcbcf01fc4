"""Values that every room shares: the key of a stream, a time interval, and literal choices.

Both values are named tuples: they compare, sort and unpack as the plain tuples of the wire and the
database do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

__all__ = [
    "ClockMode",
    "Compression",
    "CompressionLike",
    "Interval",
    "SessionType",
    "SessionTypeLike",
    "StreamKey",
    "StreamKeyLike",
    "TickType",
    "TickTypeLike",
    "TickTypes",
    "TimeUnit",
    "merge_intervals",
]

TickType = Literal["last", "all_last", "bid_ask", "mid_point"]
"""The tick-by-tick types of IB."""

SessionType = Literal[
    "regular",
    "pre_market",
    "after_hours",
    "extended",
    "overnight",
    "morning",
    "afternoon",
    "globex",
]
"""Session types of all markets; ``Market.session_types`` are those of one."""

Compression = Literal["none", "gzip", "zstd", "snappy"]
"""Compressions of the body of a sealed hour file."""

# These names are also data: columns of a frame, lines of a file and arguments of a command hold
# them as `str`. So functions of users take any `str`, which they check, beside the literals, which
# editors complete.
TickTypeLike: TypeAlias = TickType | str
"""A tick type as users give it."""

TickTypes: TypeAlias = TickTypeLike | Sequence[TickTypeLike]
"""One tick type as users give it, or several."""

SessionTypeLike: TypeAlias = SessionType | str
"""A session type as users give it."""

CompressionLike: TypeAlias = Compression | str
"""A compression as users give it."""

TimeUnit = Literal["s", "ms", "us", "ns"]
"""Units of times that are numbers."""

ClockMode = Literal["per_subscription", "shared"]
"""Clocks of a simulated gateway: one for each subscription, or one for all."""


class StreamKey(NamedTuple):
    """The key of one stream: one contract and one tick type.

    Examples
    --------
    >>> StreamKey(265598, "last")
    StreamKey(contract_id=265598, tick_type='last')
    """

    contract_id: int
    tick_type: str


StreamKeyLike: TypeAlias = StreamKey | tuple[int, str]
"""A stream as users give it."""


class Interval(NamedTuple):
    """A half-open range of UTC nanoseconds, ``[start_ns, end_ns)``.

    Examples
    --------
    >>> Interval(0, 10).intersection(Interval(5, 20))
    Interval(start_ns=5, end_ns=10)
    >>> Interval(0, 10).intersection(Interval(10, 20)) is None
    True
    """

    start_ns: int
    end_ns: int

    def contains(self, time_ns: int) -> bool:
        """Return whether a time lies in the interval; its end does not."""
        return self.start_ns <= time_ns < self.end_ns

    def intersection(self, other: Interval) -> Interval | None:
        """Return the common part of two intervals, or None where they have none."""
        start, end = max(self.start_ns, other.start_ns), min(self.end_ns, other.end_ns)
        return Interval(start, end) if start < end else None


def merge_intervals(intervals: Iterable[Interval]) -> list[Interval]:
    """Sort intervals and merge those that touch or overlap.

    Examples
    --------
    >>> merge_intervals([Interval(60, 70), Interval(50, 60), Interval(80, 90)])
    [Interval(start_ns=50, end_ns=70), Interval(start_ns=80, end_ns=90)]
    """
    merged: list[Interval] = []
    for interval in sorted(intervals):
        if merged and merged[-1].end_ns >= interval.start_ns:
            last = merged.pop()
            merged.append(Interval(last.start_ns, max(last.end_ns, interval.end_ns)))
        else:
            merged.append(interval)
    return merged
