"""The time of a replay, and how far each client has come in each stream."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from ibticks.gateway._replay import Replay, StreamKey
    from ibticks.gateway._ticks import TickStream

__all__ = ["Clock", "ClockMode", "Positions", "Progress"]

ClockMode = Literal["per_subscription", "shared"]


class Clock:
    """Replay time: the nanoseconds that have gone by, at so many times real speed.

    Parameters
    ----------
    speed : float or None
        None is as fast as clients read; the clock then only says whether it runs.

    Attributes
    ----------
    running : bool
        It stands still when made.
    """

    def __init__(self, speed: float | None) -> None:
        self.speed: Final = speed
        self.running = False
        self._elapsed = 0
        self._since = 0

    def elapsed_ns(self) -> int:
        """Replay nanoseconds since it was first started, pauses not counted."""
        if not self.running or self.speed is None:
            return self._elapsed
        return self._elapsed + int((time.monotonic_ns() - self._since) * self.speed)

    def start(self) -> None:
        """Run, from now on."""
        if not self.running:
            self._since, self.running = time.monotonic_ns(), True

    def stop(self) -> None:
        """Stand still until started again."""
        self._elapsed, self.running = self.elapsed_ns(), False


@dataclass(slots=True)
class Progress:
    """The progress of a client in a stream.

    Attributes
    ----------
    stream : TickStream
    next : int
        The row to be sent next.
    origin_ns : int
        What is added to the clock to know the time in the stream, UTC nanoseconds.
    """

    stream: TickStream
    next: int = 0
    origin_ns: int = 0

    @property
    def ended(self) -> bool:
        """Return whether every row was sent or skipped."""
        return self.next >= self.stream.rows

    def skip(self, rows: int) -> None:
        """Let rows go by unsent."""
        self.next = min(self.next + rows, self.stream.rows)

    def skip_until(self, time_ns: int) -> None:
        """Let everything before that time go by unsent."""
        self.next = max(self.next, int(np.searchsorted(self.stream.time_ns, time_ns)))


class Positions:
    """The progress of every client in every stream, kept when a client disconnects.

    A client that comes back resumes at the present row of the replay: it has missed the rows in
    between, as it would have with IB. At full speed the replay waits for its readers, unless rows
    are skipped.
    """

    def __init__(self, replay: Replay, clock: Clock, mode: ClockMode) -> None:
        self._replay = replay
        self._clock = clock
        self._shared = mode == "shared"
        self._frontier_ns = replay.start_ns
        self._known: dict[tuple[int, StreamKey, bool], Progress] = {}

    def resume(self, client_id: int, key: StreamKey, *, ignore_size: bool) -> Progress:
        """Return the progress of this client in that stream, new or resumed."""
        progress = self._known.get((client_id, key, ignore_size))
        if progress is None:
            progress = self._begin(key, ignore_size=ignore_size)
            self._known[client_id, key, ignore_size] = progress
        self.catch_up(progress)
        return progress

    def catch_up(self, progress: Progress) -> None:
        """Let go by what the clock has passed."""
        if self._clock.speed is not None:
            progress.skip_until(self._clock.elapsed_ns() + progress.origin_ns)
        elif self._shared:
            progress.skip_until(self._frontier_ns)

    def sent(self, time_ns: int) -> None:
        """Note that a tick of that time has been sent to somebody."""
        self._frontier_ns = max(self._frontier_ns, time_ns)

    def rewind(self) -> None:
        """Reset all progress: the next subscriptions begin at the first row."""
        self._known.clear()
        self._frontier_ns = self._replay.start_ns

    def _begin(self, key: StreamKey, *, ignore_size: bool) -> Progress:
        stream = self._replay.streams[key]
        if self._shared:
            origin_ns = self._replay.start_ns
        else:
            start_ns = int(stream.time_ns[0]) if stream.rows else 0
            origin_ns = start_ns - self._clock.elapsed_ns()
        if ignore_size:
            stream = stream.take(stream.price_changes())
        return Progress(stream, origin_ns=origin_ns)
