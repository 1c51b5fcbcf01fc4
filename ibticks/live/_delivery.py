"""What has been handed out of a stream, to the tick, and what is still to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ibticks.live._position import write_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibticks.live._batch import Batch
    from ibticks.live._follower import Follower
    from ibticks.live._frame_batch import Part
    from ibticks.live._ring import Ring

__all__ = ["Delivery"]


class Delivery:
    """Hands out the batches of a follower, whole or tick by tick; one thread at a time may ask.

    Parameters
    ----------
    follower : Follower
    ring : Ring
        Keeps what has been read.
    streams : sequence of (int, str)
        Contract ids and tick types, as the follower has them.

    Attributes
    ----------
    counts : dict of (int, str) to int
        Ticks read, by stream.
    last_ns : int or None
        The time of the last of them, UTC nanoseconds.
    last_by_stream : dict of (int, str) to int
        The same of each stream of which any was read.
    """

    def __init__(self, follower: Follower, ring: Ring, streams: Sequence[tuple[int, str]]) -> None:
        self._follower: Final = follower
        self._ring: Final = ring
        self._streams: Final = tuple(streams)
        self.counts: Final = dict.fromkeys(self._streams, 0)
        self.last_ns: int | None = None
        self.last_by_stream: Final[dict[tuple[int, str], int]] = {}
        self._current: Batch | None = None
        self._handed = 0  # of its ticks
        self._buffer_ticks = 0

    def take(self, *, at_once: bool, hold: bool) -> Batch | None:
        """The rest of the batch that was begun, or the next one.

        Parameters
        ----------
        at_once : bool
            Whether it counts as handed out; else each tick does, by :meth:`hand_out`.
        hold : bool
            Whether ticks are held back for earlier ones of other streams.
        """
        batch = self._rest() or self._next(hold)
        if batch is not None:
            self._current, self._handed = batch, 0
            if at_once:
                self._handed = batch.rows
                self._rest()
        return batch

    def hand_out(self, batch: Batch) -> bool:
        """Count one more tick of a batch, if it is still the one that is read."""
        if self._current is not batch:
            return False
        self._handed += 1
        return True

    @property
    def position(self) -> str:
        """Every tick that was handed out is before it, and no other."""
        begun: list[tuple[Part, int]] = []
        if self._current is not None:
            counts = self._current.counts(self._handed)
            begun = [pair for pair in zip(self._current.parts, counts, strict=True) if pair[1]]
        return write_token(self._follower.feed.position(begun))

    @property
    def buffer_ticks(self) -> int:
        """How many ticks have been handed out of those that were stored at the beginning."""
        current = self._current
        begun = self._handed if current is not None and current.historical else 0
        return self._buffer_ticks + begun

    def _rest(self) -> Batch | None:
        """What has not been handed out of the batch that was begun; if all was, nothing."""
        batch, handed = self._current, self._handed
        if batch is None:
            return None
        feed = self._follower.feed
        if batch.historical:
            self._buffer_ticks += handed
        self._current, self._handed = None, 0
        if handed == batch.rows:
            for part in batch.parts:
                feed.deliver(part)
            return None
        for part, count in zip(batch.parts, batch.counts(handed), strict=True):
            if count:
                feed.deliver(part, count)
        return batch.rest(handed)

    def _next(self, hold: bool) -> Batch | None:
        """The next batch with a tick in it."""
        while (batch := self._follower.next(hold=hold)) is not None:
            if batch.rows:
                self._ring.append(batch)
                for part in batch.parts:
                    if part.ticks:
                        stream, last_ns = self._streams[part.stream], int(part.keys[-1])
                        self.counts[stream] += part.ticks
                        self.last_by_stream[stream] = last_ns
                        self.last_ns = max(self.last_ns or 0, last_ns)
                return batch
            for part in batch.parts:
                self._follower.feed.deliver(part)
        return None
