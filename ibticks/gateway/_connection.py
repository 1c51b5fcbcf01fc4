"""One client of a gateway: the handshake, its requests, their answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ibticks.errors import FormatError
from ibticks.gateway import _replies as replies
from ibticks.gateway import _requests as requests
from ibticks.gateway._answers import Answers, now_ms
from ibticks.gateway._feed import Feed
from ibticks.gateway._limits import Pace
from ibticks.gateway._outlet import Outlet
from ibticks.gateway._wire import FrameReader

if TYPE_CHECKING:
    from ibticks.gateway._feed import Subscription
    from ibticks.gateway._state import State

__all__ = ["Connection"]

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
        version = min(highest, self._state.highest_version)
        if version < max(lowest, replies.LOWEST_VERSION):
            raise FormatError(
                f"a client that speaks versions {lowest} to {highest}; this gateway speaks "
                f"{replies.LOWEST_VERSION} to {self._state.highest_version}"
            )
        if self._state.greeting == "silence":
            while await self._payload() is not None:
                continue
            return False
        self.version = version
        connected = datetime.now(UTC).strftime("%Y%m%d %H:%M:%S UTC")
        await self.outlet.send(replies.greeting(version, connected))
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
                request = requests.parse(payload)
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
            replies.managed_accounts(state.accounts),
            replies.next_valid_id(1),
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
