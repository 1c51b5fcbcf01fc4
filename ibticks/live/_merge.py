"""Merge of several streams by time.

A stream keeps the order of its files. Its ticks are merged with those of other streams by their
timestamps; a late tick, which is earlier than the tick before it, is merged as if it had the
timestamp of that one. Equal times keep the order of the streams.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.live._batch import FrameSlice

if TYPE_CHECKING:
    from collections.abc import Collection

    from ibticks.live._batch import FrameBatch

__all__ = ["StreamMerge"]


class StreamMerge:
    """Merge of frame batches of several streams, which holds ticks until earlier ones have come.

    Parameters
    ----------
    streams : int
        Number of streams.
    delay_seconds : float
        Longest time that a tick is held for an earlier one of another stream. A tick is not held
        where every other stream is past its time already.

    Attributes
    ----------
    held_ticks : int
        Number of ticks that are held.
    """

    def __init__(self, streams: int, delay_seconds: float) -> None:
        self._delay_seconds: Final = delay_seconds
        self._queues: list[deque[tuple[FrameSlice, float]]] = [deque() for _ in range(streams)]
        self._latest_ns: list[int] = [TIME_MIN] * streams
        self.held_ticks = 0

    def add(self, stream: int, frames: FrameBatch, arrival: float) -> None:
        """Add frames that were read of a stream.

        Parameters
        ----------
        stream : int
        frames : FrameBatch
            May have no tick: its end still says how far the file was read.
        arrival : float
            Monotonic seconds from which on the ticks are held.
        """
        keys = frames.times
        if frames.ticks:
            keys = np.maximum(np.maximum.accumulate(keys), self._latest_ns[stream])
            self._latest_ns[stream] = int(keys[-1])
        self._queues[stream].append((FrameSlice(stream, frames, 0, frames.ticks, keys), arrival))
        self.held_ticks += frames.ticks

    def has_held(self, stream: int) -> bool:
        """Return whether frames of a stream are held."""
        return bool(self._queues[stream])

    def latest_ns(self, stream: int) -> int:
        """Return the latest time read of a stream, UTC nanoseconds."""
        return self._latest_ns[stream]

    def due_at(self) -> float | None:
        """Return when the first held tick has been held long enough, in monotonic seconds."""
        arrivals = [queue[0][1] for queue in self._queues if queue]
        return min(arrivals) + self._delay_seconds if arrivals else None

    def take(
        self, now: float, unread: Collection[int] = (), *, hold: bool = True
    ) -> list[FrameSlice]:
        """Take the ticks that may go: by stream, those of each stream in their order.

        Parameters
        ----------
        now : float
            Monotonic seconds.
        unread : collection of int
            Streams of which more can be read at once: what they still bring may have to go first.
        hold : bool
            Whether ticks are held for earlier ones of other streams.
        """
        bound_ns = min((self._latest_ns[stream] for stream in unread), default=TIME_MAX + 1)
        if hold and len(self._queues) > 1:
            bound_ns = min(bound_ns, max(min(self._latest_ns), self._overdue_ns(now)))
        return self._take_before(bound_ns)

    def drop_oldest(self, keep: int) -> list[FrameSlice]:
        """Take the earliest ticks, so that about ``keep`` are left; more where times are equal."""
        if self.held_ticks <= keep:
            return []
        keys = np.concatenate([one.keys for queue in self._queues for one, _ in queue])
        return self._take_before(int(np.partition(keys, len(keys) - keep)[len(keys) - keep]))

    def _overdue_ns(self, now: float) -> int:
        """Return the nanosecond after the latest tick that has been held long enough."""
        overdue = [
            int(one.keys[-1]) + 1
            for queue in self._queues
            for one, arrival in queue
            if one.ticks and arrival + self._delay_seconds <= now
        ]
        return max(overdue, default=TIME_MIN)

    def _take_before(self, bound_ns: int) -> list[FrameSlice]:
        taken = []
        for queue in self._queues:
            while queue:
                first, arrival = queue[0]
                count = first.ticks
                if count and first.keys[-1] >= bound_ns:
                    count = int(np.searchsorted(first.keys, bound_ns))
                    if count:
                        middle = first.start + count
                        taken.append(replace(first, stop=middle, keys=first.keys[:count]))
                        rest = replace(first, start=middle, keys=first.keys[count:])
                        queue[0] = rest, arrival
                    break
                taken.append(first)
                queue.popleft()
        self.held_ticks -= sum(one.ticks for one in taken)
        return taken
