"""Consumers of a live reader: an iterator of messages, one of batches, and a callback thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from ibticks.live._batch import Batch
    from ibticks.live._reader import LiveReader

__all__ = ["Batches", "CallbackThread", "LiveIterator", "Messages"]

_log = logging.getLogger(__name__)

T = TypeVar("T")


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
