"""Buffers: the latest ticks, asked for again and again, each decoded once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Any, Final

from ibticks.calendar import format_ns
from ibticks.live._live import Live
from ibticks.selection import Selection
from ibticks.storage import HOUR, hour_of

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

__all__ = ["Buffer", "BufferStats", "Buffers"]

_MOST_KEPT: Final = 8
_MOST_ROWS: Final = 300_000
_LONGEST: Final = 24 * HOUR


@dataclass(frozen=True, slots=True)
class BufferStats:
    """What a buffer holds.

    Attributes
    ----------
    label : str
        What was asked for, in words.
    start_ns, end_ns : int
        Half-open, UTC nanoseconds: the time that was asked for.
    counts : dict of (int, str) to int
        Ticks of each contract and tick type.
    first_ns, last_ns : int or None
        Earliest and latest tick, UTC nanoseconds.
    """

    label: str
    start_ns: int
    end_ns: int
    counts: dict[tuple[int, str], int]
    first_ns: int | None
    last_ns: int | None

    @property
    def ticks(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    @property
    def by_tick_type(self) -> dict[str, int]:
        """How many there are of each tick type."""
        found: dict[str, int] = {}
        for (_, kind), count in self.counts.items():
            found[kind] = found.get(kind, 0) + count
        return found

    @property
    def available(self) -> timedelta:
        """From the earliest to the latest tick."""
        if self.first_ns is None or self.last_ns is None:
            return timedelta()
        return timedelta(microseconds=(self.last_ns - self.first_ns) // 1000)

    @property
    def rates(self) -> dict[str, float]:
        """Ticks a second of each tick type, over the time in which there are any."""
        seconds = self.available.total_seconds()
        return {k: count / seconds if seconds else 0.0 for k, count in self.by_tick_type.items()}

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold.

        Examples
        --------
        >>> BufferStats("", 0, 10**10, {(8314, "last"): 5}, 10**9, 3 * 10**9).to_dict()["rates"]
        {'last': 2.5}
        """
        span = None
        if self.first_ns is not None and self.last_ns is not None:
            span = {"start": format_ns(self.first_ns), "end": format_ns(self.last_ns)}
        return {
            "message_count": self.ticks,
            "tick_type_counts": self.by_tick_type,
            "time_range": span,
            "duration_available": str(self.available),
            "rates": self.rates,
        }

    def _repr_html_(self) -> str:
        said = self.to_dict()
        span = said["time_range"]
        rows = {
            "time": f"{span['start']} to {span['end']}" if span else "no tick",
            "available": said["duration_available"],
            **{
                kind: f"{count:,} ticks, {self.rates[kind]:,.2f}/s"
                for kind, count in self.by_tick_type.items()
            },
        }
        body = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in rows.items()
        )
        return f"<table><caption>ibticks buffer {escape(self.label)}</caption>{body}</table>"


@dataclass(frozen=True, repr=False)
class Buffer(Selection):
    """The ticks of a store from some time to now.

    Made by :meth:`ibticks.Store.buffer`. A :class:`~ibticks.selection.Selection` like any other,
    but :meth:`to_polars` and :meth:`stats` decode each tick only once, however often they are
    asked: the latest buffers are kept in memory and read on.
    """

    buffers: Buffers = field(kw_only=True, compare=False)

    def to_polars(self) -> pl.DataFrame:
        """A polars frame, as that of any selection.

        Equal timestamps of different streams are in the order in which they were read.
        """
        if self.strict:
            return super().to_polars()
        frame = self.buffers.frame(self)
        return super().to_polars() if frame is None else frame

    def stats(self) -> BufferStats:
        """How many ticks there are, from when to when, and how often they come."""
        ((start_ns, end_ns),) = self.intervals
        counts = {(c, k): 0 for c in self.contract_ids for k in self.tick_types}
        found = self.with_columns("timestamp", "contract_id", "tick_type").to_polars()
        for contract_id, kind, count in found.group_by("contract_id", "tick_type").len().rows():
            counts[contract_id, kind] = count
        times = found["timestamp"].to_physical()
        first, last = (int(times[0]), int(times[-1])) if len(times) else (None, None)
        return BufferStats(self.label, start_ns, end_ns, counts, first, last)


class Buffers:
    """The buffers of a store that were asked for last, kept up to date when they are asked again.

    Parameters
    ----------
    root : Path
        The store.
    """

    def __init__(self, root: Path) -> None:
        self._root: Final = root
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], Live] = OrderedDict()

    def frame(self, buffer: Buffer) -> pl.DataFrame | None:
        """The ticks of a buffer; None where it is larger than what is kept, or damaged."""
        ((start_ns, end_ns),) = buffer.intervals
        if end_ns - start_ns > _LONGEST:
            return None
        live = self._live(buffer, start_ns, end_ns)
        if live.window_since > start_ns:
            return None  # too large: it was found out before
        frame = live.frame()
        if live.closed or not live.intact or live.window_since > start_ns:
            return None
        times = frame["timestamp"].to_physical()
        first = int(times.search_sorted(start_ns))
        wanted = frame.slice(first, int(times.search_sorted(end_ns)) - first)
        return wanted if "timestamp" in buffer.columns else wanted.drop("timestamp")

    def close(self) -> None:
        """Keep none any more."""
        with self._lock:
            for live in self._kept.values():
                live.close()
            self._kept.clear()

    def _live(self, buffer: Buffer, start_ns: int, end_ns: int) -> Live:
        """The stream that is read on for such a buffer, begun where there is none."""
        streams = tuple((c, k) for c in buffer.contract_ids for k in buffer.tick_types)
        key = streams, buffer.columns
        with self._lock:
            live = self._kept.get(key)
            if live is None or not live.intact or live.start_ns > start_ns:
                if live is not None:
                    live.close()
                live = self._kept[key] = Live(
                    self._root,
                    streams,
                    ("timestamp", *buffer.columns),
                    hour_of(start_ns),
                    label=buffer.label,
                    window_rows=_MOST_ROWS,
                    window_ns=end_ns - start_ns + HOUR,
                    watched=False,
                )
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)[1].close()
            return live
