"""Buffers: the latest ticks, asked for again and again, each decoded once."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ibticks._html import html_table
from ibticks._types import StreamKey
from ibticks.calendar import format_ns, resolve_period, to_ns
from ibticks.calendar import market as find_market
from ibticks.config import HOUR_NS
from ibticks.errors import TimeRangeError
from ibticks.live._follower import LiveOptions
from ibticks.live._live import Live
from ibticks.selection import Selection
from ibticks.storage import floor_hour

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path

    import polars as pl

    from ibticks.calendar import TimeLike

__all__ = ["Buffer", "BufferCache", "BufferStats", "resolve_buffer"]

_MAX_CACHED_BUFFERS: Final = 8
_MAX_CACHED_ROWS: Final = 300_000
_MAX_CACHED_NS: Final = 24 * HOUR_NS
_DATE: Final = re.compile(r"\d{4}-?\d\d-?\d\d.*")


@dataclass(frozen=True, slots=True)
class BufferStats:
    """Counts and times of the ticks in a buffer.

    Attributes
    ----------
    label : str
        Description of what was asked for.
    start_ns, end_ns : int
        The interval that was asked for, half-open, UTC nanoseconds.
    counts : dict of StreamKey to int
        Number of ticks of each stream.
    first_ns, last_ns : int or None
        Earliest and latest tick, UTC nanoseconds.
    """

    label: str
    start_ns: int
    end_ns: int
    counts: dict[StreamKey, int]
    first_ns: int | None
    last_ns: int | None

    @property
    def ticks(self) -> int:
        """Number of ticks."""
        return sum(self.counts.values())

    @property
    def by_tick_type(self) -> dict[str, int]:
        """Number of ticks of each tick type."""
        totals: dict[str, int] = {}
        for stream, count in self.counts.items():
            totals[stream.tick_type] = totals.get(stream.tick_type, 0) + count
        return totals

    @property
    def available(self) -> timedelta:
        """Time from the earliest to the latest tick."""
        if self.first_ns is None or self.last_ns is None:
            return timedelta()
        return timedelta(microseconds=(self.last_ns - self.first_ns) // 1000)

    @property
    def rates(self) -> dict[str, float]:
        """Ticks a second of each tick type, over the time from the first to the last tick."""
        seconds = self.available.total_seconds()
        return {
            tick_type: count / seconds if seconds else 0.0
            for tick_type, count in self.by_tick_type.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as values that JSON can hold.

        Examples
        --------
        >>> counts = {StreamKey(8314, "last"): 5}
        >>> BufferStats("", 0, 10**10, counts, 10**9, 3 * 10**9).to_dict()["rates"]
        {'last': 2.5}
        """
        time_range = None
        if self.first_ns is not None and self.last_ns is not None:
            time_range = {"start": format_ns(self.first_ns), "end": format_ns(self.last_ns)}
        return {
            "message_count": self.ticks,
            "tick_type_counts": self.by_tick_type,
            "time_range": time_range,
            "duration_available": str(self.available),
            "rates": self.rates,
        }

    def _repr_html_(self) -> str:
        figures = self.to_dict()
        times = figures["time_range"]
        rows = {
            "time": f"{times['start']} to {times['end']}" if times else "no tick",
            "available": figures["duration_available"],
            **{
                tick_type: f"{count:,} ticks, {self.rates[tick_type]:,.2f}/s"
                for tick_type, count in self.by_tick_type.items()
            },
        }
        return html_table(rows.items(), caption=f"ibticks buffer {self.label}", row_headers=True)


@dataclass(frozen=True, repr=False)
class Buffer(Selection):
    """The ticks of a store from some time to now.

    Made by :meth:`ibticks.Store.buffer`. A :class:`~ibticks.selection.Selection` like any other,
    but :meth:`to_polars` and :meth:`stats` decode each tick only once, however often they are
    called: the latest buffers stay in memory and are read on.
    """

    buffers: BufferCache = field(kw_only=True, compare=False)

    def to_polars(self) -> pl.DataFrame:
        """Return a polars frame, as that of any selection.

        Equal timestamps of different streams are in the order in which they were read.
        """
        if self.strict:
            return super().to_polars()
        frame = self.buffers.frame(self)
        return super().to_polars() if frame is None else frame

    def stats(self) -> BufferStats:
        """Return how many ticks there are, from when to when, and how often they come.

        A buffer that is too large for the cache is counted by the index: hours inside it are not
        read.
        """
        ((start_ns, end_ns),) = self.intervals
        counts = dict.fromkeys(_streams_of(self), 0)
        narrow = replace(self, columns=("timestamp", "contract_id", "tick_type"))
        ticks = None if self.strict else self.buffers.frame(narrow)
        if ticks is None:
            streams = self.describe()
            times = [*streams["first_tick"].to_physical(), *streams["last_tick"].to_physical()]
        else:
            streams = ticks.group_by("contract_id", "tick_type").len("ticks")
            times = ticks["timestamp"].to_physical()[[0, -1]].to_list() if ticks.height else []
        for *stream, count in streams.select("contract_id", "tick_type", "ticks").rows():
            counts[StreamKey(*stream)] = count
        first_ns, last_ns = min(times, default=None), max(times, default=None)
        return BufferStats(self.label, start_ns, end_ns, counts, first_ns, last_ns)

    async def stats_async(self) -> BufferStats:
        """Return the figures of :meth:`stats`, without blocking the event loop."""
        return await asyncio.to_thread(self.stats)


class BufferCache:
    """LRU cache of the buffers of a store, each a live stream that is read on when asked for.

    Its lock guards the entries; it is not held while a stream is read.

    Parameters
    ----------
    root : Path
        The store.
    """

    def __init__(self, root: Path) -> None:
        self._root: Final = root
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[object, ...], Live] = OrderedDict()

    def frame(self, buffer: Buffer) -> pl.DataFrame | None:
        """Return the ticks of a buffer; None where it is too large to be cached, or damaged."""
        ((start_ns, end_ns),) = buffer.intervals
        if end_ns - start_ns > _MAX_CACHED_NS:
            return None
        live = self._open(buffer, start_ns, end_ns)
        if live.window_since > start_ns:
            return None  # an earlier call has found it too large
        frame = live.frame()
        if live.closed or not live.intact or live.window_since > start_ns:
            return None
        times = frame["timestamp"].to_physical()
        first = int(times.search_sorted(start_ns))
        ticks = frame.slice(first, int(times.search_sorted(end_ns)) - first)
        return ticks if "timestamp" in buffer.columns else ticks.drop("timestamp")

    def close(self) -> None:
        """Close every entry."""
        with self._lock:
            for live in self._entries.values():
                live.close()
            self._entries.clear()

    def _open(self, buffer: Buffer, start_ns: int, end_ns: int) -> Live:
        """Return the cached stream of such a buffer, or a new one."""
        streams = _streams_of(buffer)
        key = streams, buffer.columns
        with self._lock:
            live = self._entries.get(key)
            if live is None or not live.intact or live.start_ns > start_ns:
                if live is not None:
                    live.close()
                live = self._entries[key] = Live(
                    self._root,
                    streams,
                    ("timestamp", *buffer.columns),
                    floor_hour(start_ns),
                    label=buffer.label,
                    options=LiveOptions(
                        window_rows=_MAX_CACHED_ROWS,
                        window_ns=end_ns - start_ns + HOUR_NS,
                        watched=False,
                    ),
                )
            self._entries.move_to_end(key)
            while len(self._entries) > _MAX_CACHED_BUFFERS:
                self._entries.popitem(last=False)[1].close()
            return live


def _streams_of(buffer: Buffer) -> tuple[StreamKey, ...]:
    return tuple(
        StreamKey(contract_id, tick_type)
        for contract_id in buffer.contract_ids
        for tick_type in buffer.tick_types
    )


def resolve_buffer(
    buffer: TimeLike | timedelta, now_ns: int, *, market: str = "US", tz: str | tzinfo | None = None
) -> tuple[int, str]:
    """Resolve where a buffer begins; return UTC nanoseconds and a description.

    Parameters
    ----------
    buffer : str, timedelta or time
        Back from now, such as ``"1h"``, ``"2h30m"``, ``"last_15_minutes"``, ``"today"`` or
        ``"since_open"``; a session type of the market, such as ``"regular"`` (the one that runs, or
        ran last); or a time.
    now_ns : int
        UTC nanoseconds.
    market : str
        Market whose sessions count.
    tz : str or tzinfo, optional
        Zone of times without one, and of ``today``.

    Raises
    ------
    UnknownPeriodError
        Naming the periods there are.
    UnknownMarketError
        Naming the markets.
    NaiveDatetimeError
        For a time without a zone, where ``tz`` is not given.
    TimeRangeError
        For a time that is still to come.

    Examples
    --------
    >>> resolve_buffer("1h", 10**18)
    (999996400000000000, 'the last 1h')
    >>> resolve_buffer("regular", 10**18)[1]
    'the regular session of US on 2001-09-07'
    >>> resolve_buffer("2001-09-09T01:00Z", 10**18)
    (999997200000000000, 'since 2001-09-09T01:00Z')
    """
    if isinstance(buffer, str) and not _DATE.fullmatch(buffer):
        calendar = find_market(market)
        if buffer in calendar.session_types:
            session = calendar.latest_session(now_ns, buffer)
            return session.start_ns, f"the {buffer} session of {market} on {session.date}"
    if isinstance(buffer, timedelta) or (isinstance(buffer, str) and not _DATE.fullmatch(buffer)):
        start_ns, _ = resolve_period(buffer, now_ns, market=market, tz=tz)
        has_name = isinstance(buffer, str) and ("_" in buffer or buffer == "today")
        return start_ns, str(buffer) if has_name else f"the last {buffer}"
    start_ns = to_ns(buffer, tz=tz, name="buffer")
    if start_ns > now_ns:
        raise TimeRangeError(
            f"buffer={buffer} is still to come: give a time that is past, or a period such as '1h'",
            start_ns=start_ns,
        )
    return start_ns, f"since {buffer}"
