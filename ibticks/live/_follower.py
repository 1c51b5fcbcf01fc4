"""Following the files of some streams: told of changes where possible, looking where not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ibticks.config import TIME_MIN
from ibticks.live._feed import Feed
from ibticks.live._folders import list_days
from ibticks.live._tail import Tail
from ibticks.live._wait import Waiting
from ibticks.live._watcher import Watch
from ibticks.storage import HOUR, FileKey

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from ibticks.live._batch import Batch
    from ibticks.live._position import Cursor

__all__ = ["Follower"]

_DAY: Final = 24 * HOUR
_LOOK_SECONDS: Final = 0.01
_SURVEY_SECONDS: Final = 1.0
_SURVEY_SHARE: Final = 200.0
_UNTOLD: Final = 3


class Follower:
    """Reads the files of some streams on, as they grow.

    Parameters
    ----------
    root : Path
        The store.
    streams : sequence of (int, str)
        Contract ids and tick types.
    columns : sequence of str
        Of the frames that batches give.
    start_ns : int or None
        Earlier ticks are left out, UTC nanoseconds. None for those only that come from now on,
        late ones of a day or two among them.
    cursors : mapping of FileKey to Cursor, optional
        How far files have been read already.
    delay : float
        Seconds a tick may be held until those of other streams have come.
    keep : int, optional
        Most live ticks that wait to be read; earlier ones are dropped.
    watched : bool
        Whether somebody waits for changes; else every file is looked at whenever ticks are asked
        for.
    """

    def __init__(
        self,
        root: Path,
        streams: Sequence[tuple[int, str]],
        columns: Sequence[str],
        start_ns: int | None,
        *,
        cursors: Mapping[FileKey, Cursor] | None = None,
        delay: float,
        keep: int | None,
        watched: bool = True,
    ) -> None:
        self._root: Final = root
        self._watched: Final = watched
        self._watch = Watch(told=watched)
        self._waiting = Waiting(self._watch.close)
        try:
            self.start_ns: Final = _day_before(root, streams) if start_ns is None else start_ns
            self._tails: Final = {
                stream: Tail(root, *stream, self.start_ns, cursors=cursors, visit=self._watch.add)
                for stream in streams
            }
            for tail in self._tails.values():
                if start_ns is None:
                    tail.skip()
                else:
                    tail.take_snapshot()
            self.feed: Final = Feed(
                list(self._tails.values()),
                columns,
                self.start_ns,
                delay=delay,
                keep=keep,
                historical=start_ns is not None,
            )
        except BaseException:
            self._waiting.close()
            raise
        self._survey_at = 0.0
        self._untold = 0

    def next(self, *, hold: bool = True) -> Batch | None:
        """The ticks that come next, if there are any at this moment.

        Parameters
        ----------
        hold : bool
            Whether some are held until earlier ones of other streams have come.
        """
        if not self.feed.historical:
            self._look()
        return self.feed.next(time.monotonic(), hold=hold)

    def count_history(self) -> int:
        """How many ticks were stored, and have not been handed out."""
        position = self.feed.position()
        return sum(tail.count(position.cursors) for tail in self._tails.values())

    def patience(self) -> float:
        """Seconds until it is worth asking for the next ticks, if no file changes before."""
        until = self._survey_at
        if (due := self.feed.due()) is not None:
            until = min(until, due)
        left = until - time.monotonic()
        return left if self._watch.descriptor is not None else min(left, _LOOK_SECONDS)

    def wait(self, seconds: float, *, changes: bool = True) -> None:
        """Wait, until a file changes if wanted; :meth:`close` ends it."""
        self._waiting.wait(seconds, self._watch.descriptor if changes else None)

    async def wait_async(self, seconds: float, *, changes: bool = True) -> None:
        """Let the event loop go on meanwhile."""
        await self._waiting.wait_async(seconds, self._watch.descriptor if changes else None)

    @property
    def intact(self) -> bool:
        """Whether all files are what they were when they were read, and could be read."""
        return all(tail.intact for tail in self._tails.values())

    def wake(self) -> None:
        """Have whoever waits go on at once."""
        self._waiting.wake()

    def close(self) -> None:
        """Let go of everything."""
        for tail in self._tails.values():
            tail.close()
        self._waiting.close()

    def _look(self) -> None:
        """Find out which files have more."""
        if not self._watched:
            self._survey(time.monotonic())
            return
        told, now = self._watch.changes(), time.monotonic()
        if told is not None:
            self._look_at(told)
        elif self._watch.descriptor is not None:
            self._survey(now)
        else:
            for tail in self._tails.values():
                tail.look()
        if now < self._survey_at:
            return
        found, told = self._survey(now), self._watch.changes()
        if told:
            self._look_at(told)
        elif told is None and self._watch.descriptor is not None:
            self._survey_at = now  # something else changed meanwhile
        elif found:
            # Others write to this file system, of whom this system is not told.
            self._untold += 1
            if self._untold == _UNTOLD:
                self._watch.close()

    def _look_at(self, paths: Collection[Path]) -> None:
        """Look at files that are said to have changed."""
        self._untold = 0 if paths else self._untold
        for path in paths:
            parts = path.relative_to(self._root).parts
            if len(parts) > 2:  # in a folder of ours, or of a year
                self._tails[int(parts[0]), parts[1]].look([path])

    def _survey(self, now: float) -> bool:
        found = [tail.survey() for tail in self._tails.values()]
        taken = time.monotonic() - now
        self._survey_at = now + max(_SURVEY_SECONDS, _SURVEY_SHARE * taken)
        return any(found)


def _day_before(root: Path, streams: Sequence[tuple[int, str]]) -> int:
    """A day before that of the latest file, or before now; all of time, where there are none."""
    days = [day for stream in streams for day in list_days(root, *stream, TIME_MIN)[-1:]]
    if not days:
        return TIME_MIN
    latest = max(
        key.hour_ns
        for day in days
        if (key := FileKey.parse(f"{day.relative_to(root).as_posix()}/00_ticks.pb")) is not None
    )
    return min(latest, time.time_ns()) - _DAY
