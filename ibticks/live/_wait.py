"""Waiting until something can be read, for a time, or until woken; in a thread or an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Waiting"]

_MOST_SECONDS = 3600.0


class Waiting:
    """A place to wait at.

    Parameters
    ----------
    release : callable
        Called once nobody waits any more, after :meth:`close`.
    """

    def __init__(self, release: Callable[[], None]) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._release = release
        self._lock = Lock()
        self._inside = 0
        self._closed = False
        self._released = False

    def wait(self, seconds: float, descriptor: int | None = None) -> None:
        """Wait in this thread, also for ``descriptor`` to have something."""
        with self._entered() as closed:
            if not closed:
                waiting = select.poll()
                for each in self._awaited(descriptor):
                    waiting.register(each, select.POLLIN)
                waiting.poll(1000 * max(0.0, min(seconds, _MOST_SECONDS)))
                self._drain()

    async def wait_async(self, seconds: float, descriptor: int | None = None) -> None:
        """Let the event loop go on meanwhile."""
        with self._entered() as closed:
            if closed:
                return
            loop = asyncio.get_running_loop()
            over = loop.create_future()

            def wake() -> None:
                if not over.done():
                    over.set_result(None)

            timer = loop.call_later(max(0.0, min(seconds, _MOST_SECONDS)), wake)
            awaited = self._awaited(descriptor)
            for each in awaited:
                loop.add_reader(each, wake)
            try:
                await over
            finally:
                timer.cancel()
                for each in awaited:
                    loop.remove_reader(each)
                self._drain()

    def wake(self) -> None:
        """Have whoever waits go on at once."""
        with self._lock:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):  # it is full of such calls
                    os.write(self._writer, b".")

    def close(self) -> None:
        """Wake whoever waits, and let nobody wait again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(BlockingIOError):
                os.write(self._writer, b".")
        self._leave()

    @contextmanager
    def _entered(self) -> Iterator[bool]:
        with self._lock:
            closed = self._closed
            self._inside += not closed
        try:
            yield closed
        finally:
            if not closed:
                with self._lock:
                    self._inside -= 1
                self._leave()

    def _drain(self) -> None:
        if not self._closed:
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4096)

    def _leave(self) -> None:
        with self._lock:
            if not self._closed or self._inside or self._released:
                return
            self._released = True
            os.close(self._reader)
            os.close(self._writer)
        self._release()

    def _awaited(self, descriptor: int | None) -> list[int]:
        return [self._reader] if descriptor is None else [self._reader, descriptor]
