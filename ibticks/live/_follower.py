"""Follow the hour files of several streams, merged by time: the buffer, then live ticks."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np

from ibticks._types import StreamKey
from ibticks.config import HOUR_NS, TIME_MAX, TIME_MIN
from ibticks.errors import InputError
from ibticks.live._batch import Batch, FrameSlice
from ibticks.live._stream_files import Position, list_day_folders
from ibticks.live._tail import Tail
from ibticks.live._watch import FolderWatch, Waiter
from ibticks.storage import FileKey

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from ibticks.live._batch import FrameBatch
    from ibticks.live._stream_files import Cursor

__all__ = ["ChangeMonitor", "Follower", "LiveOptions", "Policy", "StreamMerge"]

_DAY_NS: Final = 24 * HOUR_NS
_POLL_SECONDS: Final = 0.01
_RESCAN_SECONDS: Final = 1.0
_RESCAN_COST_FACTOR: Final = 200.0
"""A rescan that takes long is repeated after this many times its duration."""
_MAX_UNREPORTED_CHANGES: Final = 3
Policy: TypeAlias = Literal["all", "latest"]
"""Treatment of ticks that come faster than they are read."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """Options of a live stream, as :meth:`ibticks.Store.live` takes them.

    Attributes
    ----------
    delay : float
        Longest time in seconds that a tick is held, so that ticks of several streams come by time.
    policy : {"all", "latest"}
        ``latest`` drops the oldest live ticks where more than ``most_waiting`` are unread.
    most_waiting : int
    window_rows : int
        Most ticks in the window.
    window_ns : int, optional
        How far the window reaches back from its last tick, nanoseconds.
    markers : bool
        Whether ``info`` messages mark where the buffer begins and ends.
    watched : bool
        Whether files are watched for changes; else they are rescanned whenever ticks are asked
        for.
    end_ns : int
        Ticks from this time on are left out, UTC nanoseconds.

    Raises
    ------
    InputError
        If a value is not one of those.
    """

    delay: float = 0.005
    policy: Policy = "all"
    most_waiting: int = 10_000
    window_rows: int = 500_000
    window_ns: int | None = None
    markers: bool = True
    watched: bool = True
    end_ns: int = TIME_MAX

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise InputError(
                f"policy={self.policy!r}: use 'all', which drops nothing, or 'latest', which drops "
                "what is not read in time"
            )
        if min(self.most_waiting, self.window_rows) < 1 or self.delay < 0:
            raise InputError("most_waiting and window_rows are at least 1, and delay at least 0")


class ChangeMonitor:
    """Find out which files of some tails have more to read.

    inotify reports changes where it works; a rescan of every file now and then finds what it does
    not report. Where it never reports, as on a network file system, files are polled.

    Parameters
    ----------
    root : Path
        The store.
    watch : FolderWatch
    tails : mapping of StreamKey to Tail
    watched : bool
        Whether changes are waited for; else every update is a rescan.
    """

    def __init__(
        self, root: Path, watch: FolderWatch, tails: Mapping[StreamKey, Tail], *, watched: bool
    ) -> None:
        self.watch: Final = watch
        self.rescan_at = 0.0
        self._root: Final = root
        self._tails: Final = tails
        self._watched: Final = watched
        self._unreported = 0

    def update(self) -> None:
        """Mark the files that changed as readable."""
        if not self._watched:
            self.rescan(time.monotonic())
            return
        paths, now = self.watch.changes(), time.monotonic()
        if paths is not None:
            self._check(paths)
        elif self.watch.descriptor is not None:
            self.rescan(now)
        else:
            for tail in self._tails.values():
                tail.check()
        if now < self.rescan_at:
            return
        is_changed, paths = self.rescan(now), self.watch.changes()
        if paths:
            self._check(paths)
        elif paths is None and self.watch.descriptor is not None:
            self.rescan_at = now  # files that are not known by name changed meanwhile
        elif is_changed:
            # Another machine writes to this file system, and inotify does not see it.
            self._unreported += 1
            if self._unreported == _MAX_UNREPORTED_CHANGES:
                self.watch.close()

    def rescan(self, now: float) -> bool:
        """Compare every file with its known version; return whether any changed."""
        changed = [tail.rescan() for tail in self._tails.values()]
        duration = time.monotonic() - now
        self.rescan_at = now + max(_RESCAN_SECONDS, _RESCAN_COST_FACTOR * duration)
        return any(changed)

    def seconds_to_update(self, due_at: float | None) -> float:
        """Return the seconds until an update is due, if no file changes before.

        Parameters
        ----------
        due_at : float or None
            Monotonic seconds at which a held tick may go.
        """
        until = self.rescan_at if due_at is None else min(self.rescan_at, due_at)
        left = until - time.monotonic()
        return left if self.watch.descriptor is not None else min(left, _POLL_SECONDS)

    def _check(self, paths: Collection[Path]) -> None:
        self._unreported = 0 if paths else self._unreported
        for path in paths:
            parts = path.relative_to(self._root).parts
            if len(parts) > 2:  # below the folder of a stream
                self._tails[StreamKey(int(parts[0]), parts[1])].check([path])


class Follower:
    """Read the files of some streams on as they grow, merged by time.

    Parameters
    ----------
    root : Path
        The store.
    streams : sequence of StreamKey
    columns : sequence of str
        Columns of the frames that batches return.
    start_ns : int or None
        Earlier ticks are left out, UTC nanoseconds. None for ticks that come from now on only,
        late ones of a day or two among them.
    cursors : mapping of FileKey to Cursor, optional
        Cursors up to which files have been read already.
    options : LiveOptions

    Attributes
    ----------
    start_ns : int
    historical : bool
        Whether ticks of the buffer are still to be read.
    dropped : int
        Number of ticks dropped by the policy ``latest``.
    """

    def __init__(
        self,
        root: Path,
        streams: Sequence[StreamKey],
        columns: Sequence[str],
        start_ns: int | None,
        *,
        cursors: Mapping[FileKey, Cursor] | None = None,
        options: LiveOptions,
    ) -> None:
        self.historical = start_ns is not None
        self.dropped = 0
        self._streams: Final = tuple(streams)
        self._columns: Final = tuple(columns)
        self._end_ns: Final = options.end_ns
        self._max_unread: Final = options.most_waiting if options.policy == "latest" else None
        self._merge: Final = StreamMerge(len(self._streams), options.delay)
        self._watch: Final = FolderWatch(enabled=options.watched)
        self._waiter: Final = Waiter(self._watch.close)
        try:
            self.start_ns: Final = _day_before(root, streams) if start_ns is None else start_ns
            tails = {
                stream: Tail(
                    root,
                    *stream,
                    self.start_ns,
                    self._end_ns,
                    cursors=cursors,
                    visit=self._watch.add,
                )
                for stream in self._streams
            }
            for tail in tails.values():
                if start_ns is None:
                    tail.skip_to_end()
                else:
                    tail.take_snapshot()
        except BaseException:
            self._waiter.close()
            raise
        self._tails: Final = tuple(tails.values())
        self._monitor: Final = ChangeMonitor(root, self._watch, tails, watched=options.watched)
        self._delivered: dict[FileKey, Cursor] = {}
        for tail in self._tails:
            self._delivered |= tail.cursors()

    # -- reading -----------------------------------------------------------------------------------

    def next(self, *, hold: bool = True) -> Batch | None:
        """Return the next batch; None where there is none at this moment. It does not wait.

        A batch may be empty: the files grew, but not by ticks.

        Parameters
        ----------
        hold : bool
            Whether live ticks are held for earlier ones of other streams.
        """
        if not self.historical:
            self._monitor.update()
        now = time.monotonic()
        if self.historical:
            slices = self._take(now, hold=False)
            if slices:
                return self._batch(slices)
            for tail in self._tails:
                tail.go_live()
            self.historical = False
        if self._max_unread is not None:
            self._drop_oldest(now, self._max_unread)
        slices = self._take(now, hold=hold)
        return self._batch(slices) if slices else None

    def deliver(self, frames: FrameSlice, ticks: int | None = None) -> None:
        """Move the position past a slice, or past its first ticks."""
        self._delivered |= _cursor_after(frames, ticks)

    def position(self, partial: Sequence[tuple[FrameSlice, int]] = ()) -> Position:
        """Return the position after every delivered tick.

        Parameters
        ----------
        partial : sequence of (FrameSlice, int)
            Slices of which only the first ticks count as delivered, too.
        """
        cursors = dict(self._delivered)
        for frames, ticks in partial:
            cursors |= _cursor_after(frames, ticks)
        return Position(self.start_ns, cursors, self._streams)

    def count_buffer(self) -> int:
        """Count the ticks of the buffer that have not been delivered."""
        return sum(tail.count(self._delivered) for tail in self._tails)

    @property
    def behind(self) -> bool:
        """True while the files have more than has been read."""
        return any(tail.behind for tail in self._tails)

    @property
    def intact(self) -> bool:
        """True while every file is still the one that was read, and could be read."""
        return all(tail.intact for tail in self._tails)

    def _batch(self, slices: list[FrameSlice]) -> Batch:
        rows = sum(one.ticks for one in slices)
        return Batch(
            tuple(slices),
            self._streams,
            self._columns,
            self.start_ns,
            self.historical,
            rows,
            self._end_ns,
        )

    def _take(self, now: float, *, hold: bool) -> list[FrameSlice]:
        for stream in self._unread():
            if not self._merge.has_held(stream):
                self._read(stream, now)
        while True:
            unread = self._unread()
            slices = self._merge.take(now, unread, hold=hold)
            if slices or not unread:
                return slices
            # All that is held has the same time, or comes after what is still to be read.
            self._read(min(unread, key=self._merge.latest_ns), now)

    def _drop_oldest(self, now: float, keep: int) -> None:
        while unread := self._unread():
            for stream in unread:
                self._read(stream, now)
            for frames in self._merge.drop_oldest(keep):
                self.deliver(frames)
                self.dropped += frames.ticks

    def _unread(self) -> list[int]:
        return [stream for stream, tail in enumerate(self._tails) if tail.behind]

    def _read(self, stream: int, now: float) -> None:
        tail = self._tails[stream]
        frames = tail.read()
        if frames is not None:
            # Where the tail is behind, other streams wrote before this was read: do not hold it.
            self._merge.add(stream, frames, -math.inf if tail.behind else now)

    # -- waiting -----------------------------------------------------------------------------------

    def seconds_to_next(self) -> float:
        """Return the seconds until :meth:`next` may have more, if no file changes before."""
        return self._monitor.seconds_to_update(self._merge.due_at())

    def wait(self, seconds: float, *, changes: bool = True) -> None:
        """Wait for a time, or until a file changes if wanted; :meth:`close` ends it."""
        self._waiter.wait(seconds, self._watch.descriptor if changes else None)

    async def wait_async(self, seconds: float, *, changes: bool = True) -> None:
        """Wait without blocking the event loop."""
        await self._waiter.wait_async(seconds, self._watch.descriptor if changes else None)

    def wake(self) -> None:
        """Wake every waiter."""
        self._waiter.wake()

    def close(self) -> None:
        """Close every file, and end waiting."""
        for tail in self._tails:
            tail.close()
        self._waiter.close()


def _cursor_after(frames: FrameSlice, ticks: int | None) -> dict[FileKey, Cursor]:
    at = frames.stop if ticks is None else frames.start + ticks
    return {frames.frames.key: frames.frames.cursor_after(at)}


def _day_before(root: Path, streams: Sequence[StreamKey]) -> int:
    """Return a day before the latest file or now; the earliest time where there is no file."""
    days = [day for stream in streams for day in list_day_folders(root, stream, TIME_MIN)[-1:]]
    if not days:
        return TIME_MIN
    latest_ns = max(
        key.hour_ns
        for day in days
        if (key := FileKey.parse(f"{day.relative_to(root).as_posix()}/00_ticks.pb")) is not None
    )
    return min(latest_ns, time.time_ns()) - _DAY_NS
