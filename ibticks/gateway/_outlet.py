"""The way out to one client: whole messages, in order, no faster than it reads.

Faults of the line live here, too: silence, writes in small pieces, and bursts of exactly so many
bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

__all__ = ["Boundary", "Outlet"]

_HIGH_WATER: Final = 1 << 16
_NOTICE: Final = 64
_CALM: Final = 0.25


@dataclass(slots=True)
class Boundary:
    """Bursts of exactly a multiple of ``size`` bytes, each followed by silence.

    Attributes
    ----------
    size : int
    seconds : float
        How long the silence lasts.
    bursts : int
        How many there are still to come.
    whole : bool
        Whether a burst ends with a whole message (a harmless notice fills it up), or wherever the
        size falls.
    """

    size: int
    seconds: float
    bursts: int
    whole: bool

    def takes(self, size: int, frame: int) -> bool:
        """Return whether a message of ``frame`` bytes fits in a burst of ``size`` bytes."""
        filled = size + frame
        return not self.whole or size == 0 or filled == self.size or filled + _NOTICE <= self.size

    def gap(self, size: int) -> int:
        """Bytes of the notice that fills a burst up."""
        gap = -size % self.size
        return gap + self.size if 0 < gap < _NOTICE else gap


class Outlet:
    """Writes to one client.

    Parameters
    ----------
    writer : asyncio.StreamWriter
    padding : callable
        Gives a notice of exactly so many bytes.

    Attributes
    ----------
    split : int or None
        Most bytes of one write.
    boundary : Boundary or None
    """

    def __init__(self, writer: asyncio.StreamWriter, padding: Callable[[int], bytes]) -> None:
        self._writer = writer
        self._padding = padding
        self._lock = asyncio.Lock()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._unsent = bytearray()
        self._coming: deque[bytes] = deque()
        self._finished = False
        self._silence: asyncio.TimerHandle | None = None
        self.split: int | None = None
        self.boundary: Boundary | None = None
        writer.transport.set_write_buffer_limits(high=_HIGH_WATER)

    @property
    def buffered(self) -> int:
        """Bytes that wait in this process for the client to read."""
        return self._writer.transport.get_write_buffer_size() + len(self._unsent)

    async def send(self, *frames: bytes) -> None:
        """Send whole messages, when it is their turn."""
        async with self.turn():
            await self.put(frames)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The right to :meth:`put`: no other thread writes, and the connection is not muted."""
        async with self._lock:
            await self._flowing.wait()
            yield

    async def put(self, frames: Sequence[bytes]) -> None:
        """Write messages; the caller has the turn. Returns when the client may have more."""
        if self._finished:
            return
        boundary = self.boundary
        if boundary is None:
            self._unsent += b"".join(frames)
            await self._write_held(self.split)
            return
        self._coming.extend(frames)
        while self._coming:
            if boundary.bursts and not boundary.takes(len(self._unsent), len(self._coming[0])):
                await self._burst(boundary)
                # What was coming may have gone out meanwhile, with the end of the line.
                continue
            self._unsent += self._coming.popleft()
            while boundary.bursts and not boundary.whole and len(self._unsent) >= boundary.size:
                await self._burst(boundary)
        if not boundary.bursts:
            await self._write_held(self.split)

    async def settle(self) -> None:
        """Send what waits for a burst to be full, since nothing more is coming for now."""
        if self._unsent:
            async with self.turn():
                if self.boundary is not None and self.boundary.whole:
                    await self._burst(self.boundary)
                await self._write_held(self.split)

    def finish(self, last: bytes = b"") -> None:
        """Send what is held, the last bytes, and then nothing more."""
        if self._finished or self._writer.is_closing():
            return
        self._finished = True
        self._writer.write(bytes(self._unsent) + b"".join(self._coming) + last)
        self._unsent.clear()
        self._coming.clear()
        self._writer.write_eof()

    def silence(self, seconds: float | None) -> None:
        """Send nothing for so long, or until :meth:`flow`; what is sent meanwhile waits."""
        self.flow()
        self._flowing.clear()
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._silence = loop.call_later(seconds, self._flowing.set)

    def flow(self) -> None:
        """End a silence."""
        if self._silence is not None:
            self._silence.cancel()
        self._flowing.set()

    async def _burst(self, boundary: Boundary) -> None:
        gap = boundary.gap(len(self._unsent))
        if boundary.whole and gap:
            self._unsent += self._padding(gap)
        # A client that reads on meets the burst from its first byte.
        await asyncio.sleep(_CALM)
        end = len(self._unsent) // boundary.size * boundary.size
        data = bytes(self._unsent[:end])
        del self._unsent[:end]
        if not self._finished:
            self._writer.write(data)
        await self._writer.drain()
        await asyncio.sleep(boundary.seconds)
        boundary.bursts -= 1
        if boundary.bursts == 0:
            self.boundary = None

    async def _write_held(self, most: int | None) -> None:
        """Write what is held, at most so many bytes at a time."""
        while self._unsent:
            data = bytes(self._unsent[:most])
            del self._unsent[: len(data)]
            self._writer.write(data)
            await self._writer.drain()
            if self._unsent:
                await asyncio.sleep(0)
