"""One client of a gateway: the handshake, its requests, their answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ibticks.errors import FormatError, InputError
from ibticks.gateway import replies, requests
from ibticks.gateway.contracts import matching
from ibticks.gateway.feed import Feed, Subscription
from ibticks.gateway.history import MOST_TICKS, WHAT, ib_seconds, page, past
from ibticks.gateway.limits import Pace
from ibticks.gateway.outlet import Outlet
from ibticks.gateway.ticks import IB_NAMES
from ibticks.gateway.wire import FrameReader

if TYPE_CHECKING:
    from ibticks.gateway.contracts import ContractQuery, GatewayContract
    from ibticks.gateway.state import State

__all__ = ["Connection"]

_log = logging.getLogger(__name__)

_HELLO: Final = b"API\0"
_READ: Final = 1 << 16
_LINGER: Final = 5.0
_OUR_NAMES: Final = {name: ours for ours, name in IB_NAMES.items()}
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
        self._waiting: list[bytes] = []
        self._wake = asyncio.Event()
        self._feed = Feed(state, self)
        self._pace = Pace(state.limits.requests_per_second)
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
        except ConnectionError as error:
            _log.info("connection %d: %s", self.number, error)
        except FormatError as error:
            _log.warning("connection %d is closed: %s", self.number, error)
        finally:
            self.forget()
            if self._linger is not None:
                self._linger.cancel()
            self._writer.transport.abort()

    def wake(self) -> None:
        """Look again whether there is something to send."""
        self._wake.set()

    def leave(self) -> None:
        """Close, once everything sent has been read."""
        self.forget()
        self._leaving = True
        self.outlet.finish()
        loop = asyncio.get_running_loop()
        self._linger = loop.call_later(_LINGER, self._writer.transport.abort)

    def abort(self) -> None:
        """Close at once; what has not been read may be lost."""
        self.forget()
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
        task = asyncio.get_running_loop().create_task(self.outlet.send(data))
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    def error(self, req_id: int, code: int, text: str) -> bytes:
        """An error message in this client's layout."""
        return replies.error(self.version, req_id, code, text, at_ms=_now_ms())

    def _padding(self, size: int) -> bytes:
        return replies.padding(self.version, size, at_ms=_now_ms())

    async def _handshake(self) -> bool:
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
        return self._waiting.pop(0)

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
            await self._answer(request)

    async def _answer(self, request: requests.Request) -> None:
        if isinstance(request, requests.StartApi):
            await self._start(request.client_id)
            return
        if self.client_id < 0:
            return
        send = self.outlet.send
        match request:
            case requests.AskTicks():
                await self._subscribe(request)
            case requests.CancelTicks(req_id):
                if self.subscriptions.pop(req_id, None) is None:
                    await send(self.error(req_id, 300, f"Can't find EId with tickerId:{req_id}"))
            case requests.AskHistoricalTicks():
                await self._history(request)
            case requests.CancelHistoricalTicks():
                pass
            case requests.AskContract(req_id, query):
                await self._describe(req_id, query)
            case requests.AskTime(millis=False):
                await send(replies.current_time(_now_ms() // 1000))
            case requests.AskTime():
                await send(replies.current_time_millis(_now_ms()))
            case requests.AskIds():
                await send(replies.next_valid_id(1))
            case requests.AskAccounts():
                await send(replies.managed_accounts(self._state.accounts))
            case requests.AskPositions():
                await send(replies.positions_end())
            case requests.AskOpenOrders():
                await send(replies.open_orders_end())
            case requests.AskCompletedOrders():
                await send(replies.completed_orders_end())
            case requests.AskAccountUpdates(subscribe, account):
                if subscribe:
                    await send(replies.account_updates_end(account))
            case requests.AskAccountUpdatesMulti(req_id):
                await send(replies.account_updates_multi_end(req_id))
            case requests.AskExecutions(req_id):
                await send(replies.executions_end(req_id))
            case requests.Unknown(message_id):
                self._state.unknown_requests[message_id] += 1

    async def _start(self, client_id: int) -> None:
        state = self._state
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
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._feed.seconds_to_next())
        except ConnectionError as error:
            _log.info("connection %d: %s", self.number, error)

    async def _subscribe(self, request: requests.AskTicks) -> None:
        state, req_id = self._state, request.req_id
        refusal = self._refusal(request)
        if refusal is not None:
            await self.outlet.send(self.error(req_id, *refusal))
            return
        (contract,) = matching(state.replay.contracts, request.contract)
        key = (contract.contract_id, _OUR_NAMES[request.tick_type])
        ignore_size = request.ignore_size and key[1] == "bid_ask"
        progress = state.positions.resume(self.client_id, key, ignore_size=ignore_size)
        if request.past:
            rows = past(progress.next, request.past)
            await self.outlet.send(progress.stream.history(req_id, rows, done=True))
        rows_sent = state.replay.streams[key].price_changes() if ignore_size else None
        self.subscriptions[req_id] = Subscription(req_id, key, progress, rows_sent)
        state.subscribed()
        self.wake()

    def _refusal(self, request: requests.AskTicks) -> tuple[int, str] | None:
        state = self._state
        if request.req_id in self.subscriptions:
            return 102, "Duplicate ticker ID."
        found = matching(state.replay.contracts, request.contract)
        if len(found) != 1:
            return 200, _not_one(found)
        (contract,) = found
        now, since = time.monotonic(), state.asked.get(contract.contract_id)
        state.asked[contract.contract_id] = now
        wait = state.limits.seconds_between
        if wait is not None and since is not None and now - since < wait:
            return (
                420,
                f"Invalid Real-time Query: only one request per instrument within {wait:g} s",
            )
        tick_type = _OUR_NAMES.get(request.tick_type)
        failed = "Failed to request tick-by-tick data:"
        if tick_type is None or (contract.contract_id, tick_type) not in state.replay.streams:
            return 10189, f"{failed} {request.tick_type} is not supported for {contract.symbol}"
        refusal = state.refusal((contract.contract_id, tick_type))
        if refusal is not None:
            return refusal
        if state.limits.streams is not None and state.subscriptions >= state.limits.streams:
            return 10190, "Max number of tick-by-tick requests has been reached."
        return None

    async def _describe(self, req_id: int, query: ContractQuery) -> None:
        found = matching(self._state.replay.contracts, query)
        if not found:
            await self.outlet.send(self.error(req_id, 200, _not_one(found)))
            return
        await self.outlet.send(
            *(replies.contract_details(self.version, req_id, contract) for contract in found),
            replies.contract_details_end(req_id),
        )

    async def _history(self, request: requests.AskHistoricalTicks) -> None:
        state, req_id = self._state, request.req_id
        found = matching(state.replay.contracts, request.contract)
        if len(found) != 1:
            await self.outlet.send(self.error(req_id, 200, _not_one(found)))
            return
        keys = [(found[0].contract_id, kind) for kind in WHAT.get(request.what, ())]
        stream = next(
            (state.replay.streams[key] for key in keys if key in state.replay.streams), None
        )
        if stream is None:
            text = f"Failed to request historical ticks: no {request.what} data"
            await self.outlet.send(self.error(req_id, 10187, text))
            return
        try:
            start, end = (
                ib_seconds(text, state.zone) if text else None
                for text in (request.start, request.end)
            )
        except InputError as error:
            await self.outlet.send(self.error(req_id, 10314, str(error)))
            return
        if request.ignore_size and stream.tick_type == "bid_ask":
            stream = stream.take(stream.price_changes())
        rows = page(stream, start=start, end=end, count=min(request.count, MOST_TICKS))
        await self.outlet.send(stream.history(req_id, rows, done=True))


def _not_one(found: tuple[GatewayContract, ...]) -> str:
    if not found:
        return "No security definition has been found for the request"
    return f"The contract description specified for {found[0].symbol} is ambiguous."


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
