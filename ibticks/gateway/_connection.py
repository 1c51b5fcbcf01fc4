"""One client's connection to the gateway: its requests, the answers, and the bytes sent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ibticks.errors import FormatError
from ibticks.gateway import _requests as requests
from ibticks.gateway import _wire as replies
from ibticks.gateway._answers import Answers, now_ms
from ibticks.gateway._feed import Feed
from ibticks.gateway._state import Pace
from ibticks.gateway._wire import FrameReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ibticks.gateway._feed import Subscription
    from ibticks.gateway._state import State

__all__ = ["Boundary", "Connection", "Outlet"]

_log = logging.getLogger(__name__)
_HELLO: Final = b"API\0"
_RESET: Final = struct.pack("ii", 1, 0)
_READ: Final = 1 << 16
_LINGER: Final = 5.0
_FARMS: Final = (
    (2104, "Market data farm connection is OK:usfarm"),
    (2106, "HMDS data farm connection is OK:ushmds"),
    (2158, "Sec-def data farm connection is OK:secdefnj"),
)

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


class Connection:
    """One client.

    Parameters
    ----------
    state : State
    number : int
        Of the connection, from 1.
    reader, writer

    Attributes
    ----------
    version : int
        Agreed server version; 0 before the handshake.
    client_id : int
        -1 before the client has started the API.
    subscriptions : dict of int to Subscription
        By request id.
    in_contact : bool
        Whether ticks come from IB at all.
    """

    def __init__(
        self,
        state: State,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._state = state
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader()
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._feed = Feed(state, self)
        self._pace = Pace(state.limits.requests_per_second)
        self._answers: Answers | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._leaving = False
        self._linger: asyncio.TimerHandle | None = None
        self._posts: set[asyncio.Task[None]] = set()
        self.outlet: Final = Outlet(writer, self._padding)
        self.number: Final = number
        self.version = 0
        self.client_id = -1
        self.subscriptions: dict[int, Subscription] = {}
        self.in_contact = True

    async def run(self) -> None:
        """Serve the client until one side leaves."""
        self._state.everyone.add(self)
        try:
            if await self._handshake():
                await self._serve()
        except OSError as error:
            _log.info("connection %d: %s", self.number, error)
        except FormatError as error:
            _log.warning("connection %d is closed: %s", self.number, error)
        finally:
            self.forget()
            if self._linger is not None:
                self._linger.cancel()
            self._writer.transport.abort()
            if self._feeding is not None:
                await asyncio.wait([self._feeding])

    def wake(self) -> None:
        """Look again whether there is something to send."""
        self._wake.set()

    def leave(self, last: bytes = b"") -> None:
        """Close, once everything sent has been read, and these last bytes."""
        self.forget()
        self._leaving = True
        self.outlet.finish(last)
        loop = asyncio.get_running_loop()
        self._linger = loop.call_later(_LINGER, self._writer.transport.abort)

    def abort(self) -> None:
        """Close at once and reset the line; what has not been read is lost."""
        self.forget()
        with contextlib.suppress(OSError):
            line: socket.socket = self._writer.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    def forget(self) -> None:
        """Stop sending, and give the client id free."""
        self.subscriptions.clear()
        self._state.everyone.discard(self)
        if self._state.connections.get(self.client_id) is self:
            del self._state.connections[self.client_id]
        if self._feeding is not None:
            self._feeding.cancel()
        self._state.log.notify()

    def post(self, data: bytes) -> None:
        """Send something as soon as it is its turn, without waiting for it."""

        async def send() -> None:
            with contextlib.suppress(OSError):
                await self.outlet.send(data)
                self.wake()

        task = asyncio.get_running_loop().create_task(send())
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    def error(self, req_id: int, code: int, text: str) -> bytes:
        """An error message in this client's layout."""
        return replies.error(self.version, req_id, code, text, at_ms=now_ms())

    def _padding(self, size: int) -> bytes:
        return replies.padding(self.version, size, at_ms=now_ms())

    async def _handshake(self) -> bool:
        if self._state.greeting == "hang_up":
            return False
        try:
            hello = await self._reader.readexactly(len(_HELLO))
        except asyncio.IncompleteReadError:
            return False
        if hello != _HELLO:
            raise FormatError(f"a client that begins with {hello!r} instead of {_HELLO!r}")
        payload = await self._payload()
        if payload is None:
            return False
        lowest, highest = requests.versions_offered(payload)
        version = min(highest, self._state.server_version)
        if version < max(lowest, replies.LOWEST_VERSION):
            raise FormatError(
                f"a client that speaks versions {lowest} to {highest}; this gateway speaks "
                f"{replies.LOWEST_VERSION} to {self._state.server_version}"
            )
        if self._state.greeting == "silence":
            while await self._payload() is not None:
                continue
            return False
        self.version = version
        connected = datetime.now(UTC).strftime("%Y%m%d %H:%M:%S UTC")
        await self.outlet.send(replies.greeting(self._state.announced or version, connected))
        if self._state.greeting == "greet_and_hang_up":
            self.leave()
        return True

    async def _payload(self) -> bytes | None:
        """The next message of the client; None when it has left."""
        while not self._waiting:
            data = await self._reader.read(_READ)
            if not data:
                return None
            self._waiting.extend(self._frames.feed(data))
        return self._waiting.popleft()

    async def _serve(self) -> None:
        while (payload := await self._payload()) is not None:
            if self._leaving:
                continue
            if not self._pace.allows():
                text = "Max rate of messages per second has been exceeded."
                await self.outlet.send(self.error(replies.NO_REQUEST, 100, text))
                continue
            try:
                request = requests.parse(payload, self.version)
            except FormatError as error:
                req_id = error.context.get("req_id", replies.NO_REQUEST)
                text = f"Error reading request: {error}"
                await self.outlet.send(self.error(req_id, 320, text))
                continue
            await self._take(request)

    async def _take(self, request: requests.Request) -> None:
        if isinstance(request, requests.StartApi):
            await self._start(request.client_id)
        elif isinstance(request, requests.CancelTicks):
            if self.subscriptions.pop(request.req_id, None) is None:
                text = f"Can't find EId with tickerId:{request.req_id}"
                await self.outlet.send(self.error(request.req_id, 300, text))
        elif self._answers is not None:
            answer = self._answers.to(request)
            if answer.frames:
                await self.outlet.send(*answer.frames)
            if answer.begins is not None and not self._leaving:
                self.subscriptions[answer.begins.req_id] = answer.begins
                if answer.begins.progress.ended:
                    self._state.log.end(self.client_id, answer.begins.key)
                self._state.subscribed()
        self.wake()

    async def _start(self, client_id: int) -> None:
        state = self._state
        if self.client_id >= 0:
            return
        if client_id in state.refused_clients or client_id in state.connections:
            text = "Unable to connect as the client id is already in use."
            await self.outlet.send(self.error(replies.NO_REQUEST, 326, text))
            self.leave()
            return
        self.client_id = client_id
        state.connections[client_id] = self
        await self.outlet.send(
            replies.managed_accounts(self.version, state.accounts),
            replies.next_valid_id(self.version, 1),
            *(self.error(replies.NO_REQUEST, code, text) for code, text in _FARMS),
        )
        self.outlet.split = state.split
        self._answers = Answers(state, client_id, self.version, self.subscriptions)
        self._feeding = asyncio.create_task(self._run_feed())
        state.log.notify()

    async def _run_feed(self) -> None:
        try:
            while not self._leaving:
                self._wake.clear()
                async with self.outlet.turn():
                    frames = self._feed.next_frames()
                    if frames is not None:
                        await self.outlet.put(frames)
                if frames is not None:
                    self._state.fire()
                    await asyncio.sleep(0)
                    continue
                await self.outlet.settle()
                # Python 3.11's wait_for() takes no heed of a cancel that comes with a wake.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._feed.seconds_to_next()):
                        await self._wake.wait()
        except OSError as error:
            _log.info("connection %d: %s", self.number, error)
