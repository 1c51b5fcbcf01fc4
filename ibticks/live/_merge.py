"""Several streams as one, by time.

A stream keeps the order of its file. Its ticks are merged with those of others by their timestamps
or, where one is earlier than the tick before it, as if it had that one's. Equal times keep the
order of the streams.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.live._frame_batch import Part

if TYPE_CHECKING:
    from collections.abc import Collection

    from ibticks.live._frame_batch import Stretch

__all__ = ["Merge"]


class Merge:
    """Takes stretches of streams as they are read, and gives their ticks by time.

    Parameters
    ----------
    streams : int
        How many.
    delay : float
        Seconds a tick is held, for an earlier one of another stream to come. It is not held where
        every other stream is past its time already.
    """

    def __init__(self, streams: int, delay: float) -> None:
        self._delay: Final = delay
        self._waiting: list[deque[tuple[Part, float]]] = [deque() for _ in range(streams)]
        self._reach: list[int] = [TIME_MIN] * streams  # the latest time of each
        self.ticks = 0
        """How many are held."""

    def add(self, stream: int, stretch: Stretch, came: float) -> None:
        """Take what was read of a stream.

        Parameters
        ----------
        stream : int
        stretch : Stretch
            Also one without a tick: it says how far the file was read.
        came : float
            Seconds of a clock that is not set, for how long it is held from then on.
        """
        keys = stretch.times
        if stretch.ticks:
            keys = np.maximum(np.maximum.accumulate(keys), self._reach[stream])
            self._reach[stream] = int(keys[-1])
        self._waiting[stream].append((Part(stream, stretch, 0, stretch.ticks, keys), came))
        self.ticks += stretch.ticks

    def holds(self, stream: int) -> bool:
        """Whether something of a stream is held."""
        return bool(self._waiting[stream])

    def reach(self, stream: int) -> int:
        """The latest time read of a stream, UTC nanoseconds."""
        return self._reach[stream]

    def due(self) -> float | None:
        """When the first tick that is held has been held long enough."""
        began = [held[0][1] for held in self._waiting if held]
        return min(began) + self._delay if began else None

    def take(self, now: float, more: Collection[int] = (), *, hold: bool = True) -> list[Part]:
        """The ticks whose turn it is: by stream, those of each in their order.

        Parameters
        ----------
        now : float
        more : collection of int
            Streams of which more can be read at once: what they may still bring goes first.
        hold : bool
            Whether something else may come.
        """
        bound = min((self._reach[stream] for stream in more), default=TIME_MAX + 1)
        if hold and len(self._waiting) > 1:
            bound = min(bound, max(min(self._reach), self._past(now)))
        return self._cut(bound)

    def drop(self, keep: int) -> list[Part]:
        """Take the earliest ticks, so that about ``keep`` are left; more where times are equal."""
        if self.ticks <= keep:
            return []
        keys = np.concatenate([part.keys for held in self._waiting for part, _ in held])
        return self._cut(int(np.partition(keys, len(keys) - keep)[len(keys) - keep]))

    def _past(self, now: float) -> int:
        """Just after the latest tick that has been held long enough."""
        due = [
            int(part.keys[-1]) + 1
            for held in self._waiting
            for part, began in held
            if part.ticks and began + self._delay <= now
        ]
        return max(due, default=TIME_MIN)

    def _cut(self, bound: int) -> list[Part]:
        """Everything before ``bound``."""
        taken = []
        for held in self._waiting:
            while held:
                part, began = held[0]
                count = part.ticks
                if count and part.keys[-1] >= bound:
                    count = int(np.searchsorted(part.keys, bound))
                    if count:
                        middle = part.start + count
                        taken.append(replace(part, stop=middle, keys=part.keys[:count]))
                        rest = replace(part, start=middle, keys=part.keys[count:])
                        held[0] = rest, began
                    break
                taken.append(part)
                held.popleft()
        self.ticks -= sum(part.ticks for part in taken)
        return taken
