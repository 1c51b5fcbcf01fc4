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

    def intersection(self, other: tuple[int, int]) -> Interval | None:
        """Return the common part of two intervals, or None where they have none."""
        start, end = max(self.start_ns, other[0]), min(self.end_ns, other[1])
        return Interval(start, end) if start < end else None


def merge_intervals(intervals: Iterable[tuple[int, int]]) -> list[Interval]:
    """Sort intervals and merge those that touch or overlap.

    Examples
    --------
    >>> [tuple(interval) for interval in merge_intervals([(60, 70), (50, 60), (80, 90)])]
    [(50, 70), (80, 90)]
    """
    merged: list[Interval] = []
    for start_ns, end_ns in sorted(intervals):
        if merged and merged[-1].end_ns >= start_ns:
            last = merged.pop()
            merged.append(Interval(last.start_ns, max(last.end_ns, end_ns)))
        else:
            merged.append(Interval(start_ns, end_ns))
    return merged
