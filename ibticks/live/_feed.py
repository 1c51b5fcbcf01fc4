"""Streams read together: first what was there, then what comes. Nothing here waits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ibticks.live._batch import Batch
from ibticks.live._merge import Merge
from ibticks.live._position import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibticks.live._frame_batch import Part
    from ibticks.live._position import Cursor
    from ibticks.live._tail import Tail
    from ibticks.storage import FileKey

__all__ = ["Feed"]


class Feed:
    """The ticks of some streams by time, in batches.

    What is not asked for stays in the files; no more than about a MiB of each stream is held.

    Parameters
    ----------
    tails : sequence of Tail
        Of which a snapshot was taken.
    columns : sequence of str
    start_ns : int
    delay : float
        See ``Merge``.
    keep : int, optional
        Where more live ticks than that wait to be asked for, the earliest are dropped.
    historical : bool
        Whether there is a snapshot to be read first.
    """

    def __init__(
        self,
        tails: Sequence[Tail],
        columns: Sequence[str],
        start_ns: int,
        *,
        delay: float,
        keep: int | None = None,
        historical: bool = True,
    ) -> None:
        self.tails: Final = tuple(tails)
        self.historical = historical
        self.dropped = 0
        self._streams: Final = tuple((tail.contract_id, tail.tick_type) for tail in tails)
        self._columns: Final = tuple(columns)
        self._start_ns: Final = start_ns
        self._keep: Final = keep
        self._merge: Final = Merge(len(self.tails), delay)
        self._cursors: dict[FileKey, Cursor] = {}
        for tail in self.tails:
            self._cursors |= tail.cursors()

    def due(self) -> float | None:
        """When a tick that is held is to be asked for, on the clock of :meth:`next`."""
        return self._merge.due()

    @property
    def behind(self) -> bool:
        """Whether there is more to be read than has been."""
        return any(tail.behind for tail in self.tails)

    def next(self, now: float, *, hold: bool = True) -> Batch | None:
        """What comes next; None where there is nothing at this moment.

        A batch may be empty: the files went on, but not by ticks.

        Parameters
        ----------
        now : float
            Seconds of a clock that is not set.
        hold : bool
            Whether live ticks are held for earlier ones of other streams.
        """
        if self.historical:
            parts = self._take(now, hold=False)
            if parts:
                return self._batch(parts)
            for tail in self.tails:
                tail.go_on()
            self.historical = False
        if self._keep is not None:
            self._catch_up(now, self._keep)
        parts = self._take(now, hold=hold)
        return self._batch(parts) if parts else None

    def deliver(self, part: Part, ticks: int | None = None) -> None:
        """Remember that a part, or the first ticks of it, have been handed out."""
        self._cursors |= self._after(part, ticks)

    def position(self, begun: Sequence[tuple[Part, int]] = ()) -> Position:
        """What has been handed out; ``begun`` are parts of which only some ticks were."""
        cursors = dict(self._cursors)
        for part, ticks in begun:
            cursors |= self._after(part, ticks)
        return Position(self._start_ns, cursors, self._streams)

    @staticmethod
    def _after(part: Part, ticks: int | None) -> dict[FileKey, Cursor]:
        at = part.stop if ticks is None else part.start + ticks
        return {part.stretch.key: part.stretch.cursor(at)}

    def _batch(self, parts: list[Part]) -> Batch:
        rows = sum(part.ticks for part in parts)
        return Batch(
            tuple(parts), self._streams, self._columns, self._start_ns, self.historical, rows
        )

    def _take(self, now: float, *, hold: bool) -> list[Part]:
        """Read where nothing is held, and take what can go."""
        for stream in self._behind():
            if not self._merge.holds(stream):
                self._read(stream, now)
        while True:
            behind = self._behind()
            parts = self._merge.take(now, behind, hold=hold)
            if parts or not behind:
                return parts
            # All that is held has the same time, or comes after what is still to be read.
            self._read(min(behind, key=self._merge.reach), now)

    def _catch_up(self, now: float, keep: int) -> None:
        """Read everything, and drop all but the latest."""
        while behind := self._behind():
            for stream in behind:
                self._read(stream, now)
            for part in self._merge.drop(keep):
                self.deliver(part)
                self.dropped += part.ticks

    def _behind(self) -> list[int]:
        return [stream for stream, tail in enumerate(self.tails) if tail.behind]

    def _read(self, stream: int, now: float) -> None:
        tail = self.tails[stream]
        stretch = tail.read()
        if stretch is not None:
            # What others wrote before they were read, too, where this one is behind.
            self._merge.add(stream, stretch, -math.inf if tail.behind else now)
