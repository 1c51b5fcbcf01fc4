"""The reader behind a live stream, and its consumers: messages, batches and callbacks."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ibticks.calendar import format_ns
from ibticks.errors import InputError
from ibticks.live._batch import TickWindow
from ibticks.live._follower import Follower
from ibticks.live._stream_files import format_position, parse_position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Self

    import polars as pl

    from ibticks._types import StreamKey
    from ibticks.live._batch import Batch, FrameSlice
    from ibticks.live._follower import LiveOptions

__all__ = ["Batches", "CallbackThread", "LiveIterator", "LiveReader", "Messages"]

_log = logging.getLogger(__name__)
T = TypeVar("T")


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


class LiveIterator(ABC, Generic[T]):
    """Iterator over a live stream, for ``for`` and ``async for``; it ends when that is closed."""

    def __init__(self, reader: LiveReader) -> None:
        self._reader = reader
        self._should_yield_loop = False

    @abstractmethod
    def poll(self) -> T | None:
        """Return the next item; None where there is none yet. It does not wait."""

    def next_poll(self) -> tuple[float, bool]:
        """Return the seconds until the next poll, and whether a changed file cuts them short."""
        return self._reader.seconds_to_next(), True

    def patience(self) -> tuple[float, bool]:
        """Deprecated name of :meth:`next_poll`."""
        warnings.warn("patience() is called next_poll() now", DeprecationWarning, stacklevel=2)
        return self.next_poll()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while (item := self.poll()) is None:
            if self._reader.closed:
                raise StopIteration
            self._reader.wait(*self.next_poll())
        return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._should_yield_loop:
            self._should_yield_loop = False
            await asyncio.sleep(0)  # other tasks run, however much there is to be read
        while (item := self.poll()) is None:
            if self._reader.closed:
                raise StopAsyncIteration
            await self._reader.wait_async(*self.next_poll())
        return item


class Batches(LiveIterator[T]):
    """Iterator over batches, each converted by ``convert``.

    Parameters
    ----------
    reader : LiveReader
    convert : callable
    every : float
        Least seconds from one batch to the next: then there are fewer, and larger ones.
    """

    def __init__(self, reader: LiveReader, convert: Callable[[Batch], T], every: float) -> None:
        super().__init__(reader)
        self._convert = convert
        self._every_seconds = every
        self._next_at = 0.0

    def poll(self) -> T | None:
        """Return the next batch; None where there is none yet, or it is not due."""
        now = time.monotonic()
        batch = self._reader.take() if now >= self._next_at else None
        if batch is None:
            return None
        self._next_at = now + self._every_seconds
        self._should_yield_loop = True
        return self._convert(batch)

    def next_poll(self) -> tuple[float, bool]:
        """Return the seconds until the next poll, and whether a changed file cuts them short."""
        left = self._next_at - time.monotonic()
        return (left, False) if left > 0 else super().next_poll()


class Messages(LiveIterator[dict[str, Any]]):
    """Iterator over ticks as v2 JSON messages, with markers where the buffer begins and ends."""

    def __init__(self, reader: LiveReader, *, markers: bool) -> None:
        super().__init__(reader)
        self._markers = markers
        self._messages = self._iter_messages()

    def poll(self) -> dict[str, Any] | None:
        """Return the next message; None where there is none yet."""
        return next(self._messages)

    def _iter_messages(self) -> Iterator[dict[str, Any] | None]:
        reader = self._reader
        in_buffer = reader.historical
        if in_buffer:
            yield from self._marker("buffer_start", reader.count_buffer)
        else:
            yield from self._marker("live_start")
        before = reader.buffer_ticks
        while True:
            batch = reader.take(deliver=False)
            if in_buffer and not reader.historical:
                in_buffer = False
                yield from self._marker("buffer_complete", lambda: reader.buffer_ticks - before)
                yield from self._marker("live_start")
            if batch is None:
                yield None
                continue
            self._should_yield_loop = True
            historical = batch.historical
            for message in batch.messages():
                metadata: dict[str, Any] = {"historical": historical}
                if historical:
                    metadata["buffer_index"] = reader.buffer_ticks
                message["metadata"] = message.get("metadata", {}) | metadata
                if not reader.deliver_tick(batch):
                    break  # another consumer took the rest
                yield message

    def _marker(
        self, status: str, count: Callable[[], int] | None = None
    ) -> Iterator[dict[str, Any]]:
        if self._markers:
            data: dict[str, Any] = {"status": status}
            if count is not None:
                data["buffer_message_count"] = count()
            yield {"type": "info", "data": data}


class CallbackThread:
    """A thread that calls functions with each batch.

    Its lock guards the callbacks and their failures; it is not held while a callback runs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Batch], object]] = []
        self._failures: list[Exception] = []
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def running(self) -> bool:
        """True while the thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def failures(self) -> tuple[Exception, ...]:
        """Exceptions of callbacks and of reading since the last :meth:`stop`."""
        with self._lock:
            return tuple(self._failures)

    def add(self, callback: Callable[[Batch], object]) -> None:
        """Call a function with each batch, until it raises."""
        with self._lock:
            self._callbacks.append(callback)

    def start(self, poll: Callable[[], Batch | None], wait: Callable[[], object]) -> None:
        """Start the thread.

        Parameters
        ----------
        poll : callable
            Returns the next batch, or None.
        wait : callable
            Returns when it is time to poll again.
        """
        self._stopping.clear()
        self._thread = threading.Thread(
            target=self._run, args=(poll, wait), name="ibticks-live", daemon=True
        )
        self._thread.start()

    def stop(self, wake: Callable[[], object]) -> None:
        """Stop the thread and join it; called by a callback, it stops after that callback.

        Parameters
        ----------
        wake : callable
            Ends waiting.

        Raises
        ------
        Exception
            The failure of a callback or of reading; a group of several.
        """
        self._stopping.set()
        wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._thread = None
        with self._lock:
            failures, self._failures = self._failures, []
        if len(failures) > 1:
            raise ExceptionGroup("callbacks of a live stream failed", failures)
        if failures:
            raise failures[0]

    def _run(self, poll: Callable[[], Batch | None], wait: Callable[[], object]) -> None:
        try:
            while not self._stopping.is_set():
                batch = poll()
                if batch is None:
                    wait()
                else:
                    self._call(batch)
        except Exception as error:
            _log.exception("reading a live stream failed; its thread ends")
            with self._lock:
                self._failures.append(error)

    def _call(self, batch: Batch) -> None:
        with self._lock:
            callbacks = tuple(self._callbacks)
        for callback in callbacks:
            try:
                callback(batch)
            except Exception as error:
                _log.exception("a callback of a live stream failed; it is not called again")
                with self._lock:
                    self._callbacks.remove(callback)
                    self._failures.append(error)
