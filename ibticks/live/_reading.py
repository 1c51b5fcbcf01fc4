"""Ways to read a live stream: message after message, or batch after batch, waiting or awaiting."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from ibticks.live._batch import Batch
    from ibticks.live._live import Live

__all__ = ["Batches", "Messages", "Reading"]

T = TypeVar("T")


class Reading(ABC, Generic[T]):
    """What comes of a live stream, for ``for`` and for ``async for``; ends when it is closed."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._is_others_turn = False

    @abstractmethod
    def poll(self) -> T | None:
        """The next, if there is one already."""

    def patience(self) -> tuple[float, bool]:
        """Seconds until it is worth asking again, and whether changes of files cut them short."""
        return self._live.patience(), True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while (found := self.poll()) is None:
            if self._live.closed:
                raise StopIteration
            self._live.wait(*self.patience())
        return found

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._is_others_turn:
            self._is_others_turn = False
            await asyncio.sleep(0)  # however much there is to be read
        while (found := self.poll()) is None:
            if self._live.closed:
                raise StopAsyncIteration
            await self._live.wait_async(*self.patience())
        return found


class Batches(Reading[T]):
    """Batch after batch, each as what ``make`` makes of it.

    Parameters
    ----------
    live : Live
    make : callable
    every : float
        Seconds from one to the next, at least: then there are fewer, and larger ones.
    """

    def __init__(self, live: Live, make: Callable[[Batch], T], every: float) -> None:
        super().__init__(live)
        self._make = make
        self._every = every
        self._next = 0.0

    def poll(self) -> T | None:
        """The next batch, if there is one, and it is time for it."""
        now = time.monotonic()
        batch = self._live.take() if now >= self._next else None
        if batch is None:
            return None
        self._next = now + self._every
        self._is_others_turn = True
        return self._make(batch)

    def patience(self) -> tuple[float, bool]:
        """Seconds until it is worth asking again, and whether changes of files cut them short."""
        left = self._next - time.monotonic()
        return (left, False) if left > 0 else super().patience()


class Messages(Reading[dict[str, Any]]):
    """Tick after tick as v2 JSON messages, with markers around those that were stored before."""

    def __init__(self, live: Live, *, markers: bool) -> None:
        super().__init__(live)
        self._markers = markers
        self._steps = self._messages()

    def poll(self) -> dict[str, Any] | None:
        """The next message, if there is one."""
        return next(self._steps)

    def _messages(self) -> Iterator[dict[str, Any] | None]:
        live, buffered = self._live, self._live.historical
        if buffered:
            yield from self._mark("buffer_start", live.count_buffer)
        else:
            yield from self._mark("live_start")
        before = live.buffer_ticks
        while True:
            batch = live.take(at_once=False)
            if buffered and not live.historical:
                buffered = False
                yield from self._mark("buffer_complete", lambda: live.buffer_ticks - before)
                yield from self._mark("live_start")
            if batch is None:
                yield None
                continue
            self._is_others_turn = True
            historical = batch.historical
            for message in batch.messages():
                about: dict[str, Any] = {"historical": historical}
                if historical:
                    about["buffer_index"] = live.buffer_ticks
                message["metadata"] = message.get("metadata", {}) | about
                if not live.hand_out(batch):
                    break  # the rest was read in another way
                yield message

    def _mark(
        self, status: str, count: Callable[[], int] | None = None
    ) -> Iterator[dict[str, Any]]:
        if self._markers:
            data: dict[str, Any] = {"status": status}
            if count is not None:
                data["buffer_message_count"] = count()
            yield {"type": "info", "data": data}
