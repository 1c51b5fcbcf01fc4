"""The feed of one connection: its streams merged by time, and the tick that is due next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ibticks.config import NANOSECONDS
from ibticks.gateway._state import Sent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from ibticks._types import StreamKey
    from ibticks.gateway._connection import Connection
    from ibticks.gateway._state import Progress, State

__all__ = ["Feed", "Subscription", "merged"]

_MOST_ROWS: Final = 512
_SOONEST: Final = 0.001


def merged(
    windows: Sequence[tuple[npt.NDArray[np.int64], bool]], limit: int
) -> npt.NDArray[np.intp]:
    """The owners of the next ticks, in the order of time.

    Parameters
    ----------
    windows : sequence of (numpy.ndarray, bool)
        For each stream the times of its next rows, sorted, and whether more rows follow them.
    limit : int
        Most ticks to take.

    Returns
    -------
    numpy.ndarray
        For each tick the number of its window. Every tick that belongs before one of them is
        among them; of equal times, the earlier window comes first. Empty only if all windows are.

    Examples
    --------
    >>> merged([(np.array([1, 4, 6]), False), (np.array([2, 4]), True)], 10)
    array([0, 1, 0, 1])
    """
    # After the last known row of a stream that continues, its next row may be earlier than those
    # of the other streams.
    bounds = [int(times[-1]) for times, more in windows if more and len(times)]
    parts = [times for times, _ in windows]
    if bounds:
        bound = min(bounds)
        parts = [times[: np.searchsorted(times, bound, "right")] for times in parts]
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.argsort(np.concatenate(parts), kind="stable") if parts else owners
    return owners[order][:limit]


@dataclass(frozen=True, slots=True)
class Subscription:
    """One tick-by-tick subscription of one connection."""

    req_id: int
    key: StreamKey
    progress: Progress
    rows: npt.NDArray[np.intp] | None
    """Rows of the replay's stream, where only some of them are sent (``ignore_size``)."""

    def sent(self, connection: Connection, first: int, end: int) -> Sent:
        """The record of rows ``[first, end)`` of what is sent."""
        last = end - 1
        if self.rows is not None:
            first, last = int(self.rows[first]), int(self.rows[last])
        return Sent(
            connection.number,
            connection.client_id,
            self.req_id,
            *self.key,
            first,
            last,
            self.rows is not None,
        )


class Feed:
    """The ticks of one connection, in the order of time.

    Parameters
    ----------
    state : State
    connection : Connection
    """

    def __init__(self, state: State, connection: Connection) -> None:
        self._state = state
        self._connection = connection

    def next_frames(self) -> list[bytes] | None:
        """The messages that are due and may be sent now; they count as sent.

        None if there is nothing to do. A muted stream goes by without a message.
        """
        state = self._state
        wanted = [s for s in self._connection.subscriptions.values() if not s.progress.ended]
        if not (wanted and state.clock.running and self._connection.in_contact):
            return None
        # One reading of the clock for all, or a later stream would be ahead of an earlier one.
        elapsed = state.clock.elapsed_ns()
        windows = [self._window(value.progress, elapsed) for value in wanted]
        room = state.room()
        owners = merged(windows, _MOST_ROWS if room is None else min(_MOST_ROWS, room))
        if not len(owners):
            return None
        counts = np.bincount(owners, minlength=len(wanted)).tolist()
        parts = [self._take(s, count) for s, count in zip(wanted, counts, strict=True)]
        return [frame for owner in owners.tolist() if (frame := next(parts[owner], None))]

    def seconds_to_next(self) -> float | None:
        """Return the seconds until the next tick is due; None if no subscription has one."""
        state = self._state
        speed = state.clock.speed
        if speed is None or not (state.clock.running and self._connection.in_contact):
            return None
        due = [
            int(p.stream.time_ns[p.next]) - p.origin_ns
            for p in (s.progress for s in self._connection.subscriptions.values())
            if not p.ended
        ]
        if not due:
            return None
        return max((min(due) - state.clock.elapsed_ns()) / speed / NANOSECONDS, _SOONEST)

    def _window(self, progress: Progress, elapsed_ns: int) -> tuple[npt.NDArray[np.int64], bool]:
        stream, first = progress.stream, progress.next
        times = stream.time_ns[first : first + _MOST_ROWS]
        end = first + len(times)
        if self._state.clock.speed is not None:
            # Streams may have clocks of their own: what counts is when each tick is due.
            times = times - progress.origin_ns
            due = int(np.searchsorted(times, elapsed_ns, "right"))
            return times[:due], due == len(times) and end < stream.rows
        return times, end < stream.rows

    def _take(self, subscription: Subscription, count: int) -> Iterator[bytes]:
        if count == 0:
            return iter(())
        state, progress = self._state, subscription.progress
        first, end = progress.next, progress.next + count
        progress.next = end
        frames: list[bytes] = []
        if not state.is_muted(subscription.key):
            frames = progress.stream.frames(
                self._connection.version, subscription.req_id, first, end
            )
            state.positions.sent(int(progress.stream.time_ns[end - 1]))
            state.log.add(subscription.sent(self._connection, first, end), first, count)
        if progress.ended:
            state.log.end(self._connection.client_id, subscription.key)
        return iter(frames)
