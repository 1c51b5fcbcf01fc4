"""The reader behind a live stream: delivery of batches to the tick, position and window."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from ibticks.calendar import format_ns
from ibticks.errors import InputError
from ibticks.live._follower import Follower
from ibticks.live._position import format_position, parse_position
from ibticks.live._window import TickWindow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import polars as pl

    from ibticks._types import StreamKey
    from ibticks.live._batch import Batch, FrameSlice
    from ibticks.live._follower import LiveOptions

__all__ = ["LiveReader"]


class LiveReader:
    """Deliver the batches of a follower, whole or tick by tick, to any number of threads.

    One lock guards the follower, the window and the counts; it is not held while a thread waits
    or a callback runs.

    Parameters
    ----------
    root : Path
        The store.
    streams : sequence of StreamKey
    columns : sequence of str
    start_ns : int or None
        Where the buffer begins, UTC nanoseconds; None without a buffer.
    resume : str, optional
        Resume token that says where to begin instead.
    options : LiveOptions

    Attributes
    ----------
    closed : bool
        Whether reading has ended: no batch is returned any more.

    Raises
    ------
    InputError
        If ``resume`` is not a position in these streams.
    """

    def __init__(
        self,
        root: Path,
        streams: Sequence[StreamKey],
        columns: Sequence[str],
        start_ns: int | None,
        *,
        resume: str | None,
        options: LiveOptions,
    ) -> None:
        self.closed = False
        self._streams: Final = tuple(streams)
        cursors = None
        if resume is not None:
            position = parse_position(resume)
            if position.streams != self._streams:
                raise InputError(
                    f"resume= is a position in {_describe(position.streams)}, not in "
                    f"{_describe(self._streams)}: ask for the same contracts and tick types"
                )
            start_ns, cursors = position.start_ns, position.cursors
        self._lock: Final = threading.RLock()
        self._follower: Final = Follower(
            root, self._streams, columns, start_ns, cursors=cursors, options=options
        )
        self._window: Final = TickWindow(columns, options.window_rows, options.window_ns)
        self._counts: Final = dict.fromkeys(self._streams, 0)
        self._last_ns: int | None = None
        self._last_tick_ns: Final[dict[StreamKey, int]] = {}
        self._current: Batch | None = None
        self._delivered = 0  # ticks of the current batch
        self._buffer_ticks = 0  # delivered before the current batch

    # -- delivery ----------------------------------------------------------------------------------

    def take(self, *, deliver: bool = True, hold: bool = True) -> Batch | None:
        """Return the rest of the current batch, or the next one; None where there is none now.

        Parameters
        ----------
        deliver : bool
            Whether all its ticks count as delivered; else each does by :meth:`deliver_tick`.
        hold : bool
            Whether ticks are held for earlier ones of other streams.
        """
        with self._lock:
            if self.closed:
                return None
            batch = self._finish_current() or self._next(hold=hold)
            if batch is not None:
                self._current, self._delivered = batch, 0
                if deliver:
                    self._delivered = batch.rows
                    self._finish_current()
            return batch

    def take_all(self) -> Iterator[Batch]:
        """Yield every batch there is at this moment."""
        while (batch := self.take(hold=False)) is not None:
            yield batch

    def deliver_tick(self, batch: Batch) -> bool:
        """Deliver one more tick of a batch; return False where it is not the current one."""
        with self._lock:
            if self._current is not batch:
                return False
            self._delivered += 1
            return True

    def _finish_current(self) -> Batch | None:
        """Move the position past the delivered ticks; return what is left of the current batch."""
        batch, delivered = self._current, self._delivered
        if batch is None:
            return None
        if batch.historical:
            self._buffer_ticks += delivered
        self._current, self._delivered = None, 0
        if delivered == batch.rows:
            for frames in batch.slices:
                self._follower.deliver(frames)
            return None
        for frames, count in zip(batch.slices, batch.count_by_slice(delivered), strict=True):
            if count:
                self._follower.deliver(frames, count)
        return batch.drop_first(delivered)

    def _next(self, *, hold: bool) -> Batch | None:
        """Return the next batch that has a tick."""
        while (batch := self._follower.next(hold=hold)) is not None:
            if batch.rows:
                self._window.append(batch)
                for frames in batch.slices:
                    if frames.ticks:
                        stream, last_ns = self._streams[frames.stream], int(frames.keys[-1])
                        self._counts[stream] += frames.ticks
                        self._last_tick_ns[stream] = last_ns
                        self._last_ns = max(self._last_ns or 0, last_ns)
                return batch
            for frames in batch.slices:
                self._follower.deliver(frames)
        return None

    # -- state -------------------------------------------------------------------------------------

    @property
    def position(self) -> str:
        """Resume token: every delivered tick is before it, and no other."""
        with self._lock:
            partial: list[tuple[FrameSlice, int]] = []
            if self._current is not None:
                counts = self._current.count_by_slice(self._delivered)
                slices = zip(self._current.slices, counts, strict=True)
                partial = [(frames, count) for frames, count in slices if count]
            return format_position(self._follower.position(partial))

    def frame(self, *, read_on: bool) -> pl.DataFrame:
        """Return the window, after reading on if wanted."""
        with self._lock:
            if read_on:
                for _ in self.take_all():
                    pass
            return self._window.frame()

    def count_buffer(self) -> int:
        """Count the ticks of the buffer that have not been delivered."""
        with self._lock:
            return self._follower.count_buffer()

    @property
    def buffer_ticks(self) -> int:
        """Number of ticks of the buffer that have been delivered."""
        current = self._current
        is_buffer = current is not None and current.historical
        return self._buffer_ticks + (self._delivered if is_buffer else 0)

    @property
    def ticks(self) -> int:
        """Number of ticks read."""
        return sum(self._counts.values())

    @property
    def historical(self) -> bool:
        """True while ticks of the buffer are still to be read."""
        return self._follower.historical

    @property
    def start_ns(self) -> int:
        """Earlier ticks are left out, UTC nanoseconds."""
        return self._follower.start_ns

    @property
    def window_complete_since_ns(self) -> int:
        """Time from which on the window has every tick that was read, UTC nanoseconds."""
        return self._window.complete_since_ns

    @property
    def intact(self) -> bool:
        """True while every file is still the one that was read, and could be read."""
        return self._follower.intact

    def last_tick_ns(self) -> dict[StreamKey, int]:
        """Return the time of the last tick of each stream of which any was read."""
        with self._lock:
            return dict(self._last_tick_ns)

    def stats(self) -> dict[str, Any]:
        """Return the figures of :meth:`ibticks.live.Live.stats` that reading determines."""
        with self._lock:
            last_ns = self._last_ns
            return {
                "ticks": self.ticks,
                "by_stream": {
                    f"{stream.contract_id}/{stream.tick_type}": count
                    for stream, count in self._counts.items()
                },
                "buffer_ticks": self.buffer_ticks,
                "dropped": self._follower.dropped,
                "last_tick": None if last_ns is None else format_ns(last_ns),
                "historical": self.historical,
                "behind": self._follower.behind,
            }

    # -- waiting -----------------------------------------------------------------------------------

    def seconds_to_next(self) -> float:
        """Return the seconds until :meth:`take` may have more, if no file changes before."""
        with self._lock:
            return self._follower.seconds_to_next()

    def wait(self, seconds: float, changes: bool = True) -> None:
        """Wait for a time, or until a file changes if wanted, or :meth:`wake`."""
        self._follower.wait(seconds, changes=changes)

    async def wait_async(self, seconds: float, changes: bool = True) -> None:
        """Wait without blocking the event loop."""
        await self._follower.wait_async(seconds, changes=changes)

    def wake(self) -> None:
        """Wake every waiter."""
        self._follower.wake()

    def close(self) -> None:
        """Close every file, and end waiting."""
        self.closed = True
        with self._lock:
            self._follower.close()

    def __del__(self) -> None:
        follower = getattr(self, "_follower", None)
        if follower is not None:
            follower.close()


def _describe(streams: Sequence[StreamKey]) -> str:
    return ", ".join(f"{stream.tick_type} of {stream.contract_id}" for stream in streams)
