"""The gateway: a TCP server on the network side, ordinary methods on the other."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from ibticks._types import StreamKey
from ibticks.errors import InputError, MissingExtraError
from ibticks.gateway._connection import Connection
from ibticks.gateway._faults import Faults
from ibticks.gateway._state import Limits, State
from ibticks.gateway._wire import HIGHEST_TEXT_VERSION, HIGHEST_VERSION, LOWEST_VERSION
from ibticks.tws import has_schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    import numpy.typing as npt

    from ibticks._types import ClockMode, StreamKeyLike, TickTypeLike
    from ibticks.gateway._replay import Replay
    from ibticks.gateway._state import Sent

__all__ = ["Gateway"]

_T = TypeVar("_T")

_BACKLOG: Final = 128
_SEND_BUFFER_BYTES: Final = 1 << 17


class Gateway(Faults):
    """A simulated TWS or IB Gateway that replays ticks to any IB client.

    It has a thread and an event loop of its own, so that it works anywhere, also in a notebook. A
    context manager.

    Parameters
    ----------
    replay : Replay
    host : str
    port : int
        0 takes a free one; see :attr:`port`. TWS itself listens on 7496 and 7497, IB Gateway on
        4001 and 4002.
    speed : float or None
        1.0 is as recorded, 10.0 ten times faster; None as fast as each client reads.
    clock : {"per_subscription", "shared"}
        Whether every client and stream begins at the stream's first tick when subscribed, or all
        follow one clock, which begins at the replay's first tick.
    start_after : int
        Subscriptions to wait for before the first tick is sent, so that several streams begin
        together; 0 waits for :meth:`resume`.
    accounts : sequence of str
    limits : Limits
        What IB would refuse; nothing by default.
    server_version : int, optional
        Version of the TWS protocol to speak, 157 to 226, or the highest that a client knows if
        that is lower. The newest by default: 226, or 200 (text throughout) without ibapi, whose
        schemas the messages in Protocol Buffers are written in.
    zone : str
        Time zone of times in requests that do not say theirs.

    Examples
    --------
    >>> from ibticks.gateway import Gateway, Replay
    >>> with Gateway(Replay.from_samples(["ibm_quotes"]), speed=None) as gateway:
    ...     gateway.port > 0
    True
    """

    def __init__(
        self,
        replay: Replay,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float | None = 1.0,
        clock: ClockMode = "per_subscription",
        start_after: int = 1,
        accounts: Sequence[str] = ("DU1234567",),
        limits: Limits | None = None,
        server_version: int | None = None,
        zone: str = "UTC",
    ) -> None:
        if speed is not None and not speed > 0:
            raise InputError(f"speed {speed}: it must be above 0, or None for as fast as can be")
        newest = HIGHEST_VERSION if has_schemas() else HIGHEST_TEXT_VERSION
        if server_version is None:
            server_version = newest
        if not LOWEST_VERSION <= server_version <= HIGHEST_VERSION:
            raise InputError(
                f"server version {server_version}: a gateway speaks {LOWEST_VERSION} to "
                f"{HIGHEST_VERSION}"
            )
        if server_version > newest:
            raise MissingExtraError(
                f"server version {server_version} of a gateway needs the official client: "
                "pip install 'ibticks[capture]'"
            )
        self.replay: Final = replay
        self.host: Final = host
        self._port = port
        self._state = State(
            replay,
            speed=speed,
            clock=clock,
            start_after=start_after,
            accounts=accounts,
            limits=limits or Limits(),
            server_version=server_version,
            zone=zone,
        )
        self._numbers = itertools.count(1)
        self._serving: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Task[None] | None = None
        self._is_closing = False
        # The port, bound but not listened on, while no client may connect.
        self._listening: socket.socket | None = None

    def start(self) -> Self:
        """Listen.

        Raises
        ------
        InputError
            If the port cannot be had, or the gateway was started before.
        """
        if self._thread is not None:
            raise InputError("this gateway was started before: make a new one")
        self._listening = self._bind()
        self._port = int(self._listening.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop,), name=f"ibticks-gateway-{self._port}", daemon=True
        )
        self._thread.start()
        self.reopen()
        return self

    def close(self) -> None:
        """Drop every client and stop listening; nothing of the gateway is left. Idempotent.

        Raises
        ------
        InputError
            If called from what :meth:`after` was given.
        """
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            return
        if threading.current_thread() is thread:
            raise InputError("a gateway cannot close itself from its own thread: shut() it instead")
        asyncio.run_coroutine_threadsafe(self._stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def log(self) -> tuple[Sent, ...]:
        """Exactly which ticks went to whom."""
        return self._state.log.records()

    @property
    def sent(self) -> dict[StreamKey, int]:
        """Ticks sent of each stream, over all clients."""
        return self._state.log.counts()

    @property
    def clients(self) -> tuple[int, ...]:
        """Client ids that are connected."""
        return self._call(lambda: tuple(self._state.connections))

    @property
    def subscriptions(self) -> int:
        """Tick-by-tick subscriptions that are alive, over all clients."""
        return self._call(lambda: self._state.subscriptions)

    @property
    def buffered(self) -> int:
        """Bytes that wait in this process for clients to read them."""
        return self._call(lambda: sum(c.outlet.buffered for c in self._state.everyone))

    @property
    def unknown_requests(self) -> dict[int, int]:
        """Count requests that this gateway does not serve, by message id."""
        return self._call(lambda: dict(self._state.unknown_requests))

    def wait_sent(
        self, ticks: int, stream: StreamKeyLike | None = None, *, timeout: float = 30.0
    ) -> bool:
        """Wait until so many ticks have been sent, of a stream or of all.

        Returns
        -------
        bool
            False if they were not within ``timeout`` seconds.
        """
        log = self._state.log

        def reached() -> bool:
            if stream is None:
                return log.total >= ticks
            return log.counts().get(StreamKey(*stream), 0) >= ticks

        return log.wait(reached, timeout)

    def wait_finished(self, streams: int | None = None, *, timeout: float = 60.0) -> bool:
        """Wait until clients have come to the end of so many streams.

        Parameters
        ----------
        streams : int, optional
            A stream counts once for each client; by default as many as the replay has.
        timeout : float
            Seconds.

        Returns
        -------
        bool
            False if they have not by then.
        """
        wanted = len(self.replay.streams) if streams is None else streams
        return self._state.log.wait(lambda: self._state.log.ended() >= wanted, timeout)

    def wait_clients(self, clients: int, *, timeout: float = 30.0) -> bool:
        """Wait until exactly so many clients are connected; False if they are not in time."""
        connections = self._state.connections
        return self._state.log.wait(lambda: len(connections) == clients, timeout)

    def rows_sent(
        self, contract_id: int, tick_type: TickTypeLike, client_id: int | None = None
    ) -> npt.NDArray[np.intp]:
        """Rows of a stream that were sent, in the order of sending.

        Parameters
        ----------
        contract_id : int
        tick_type : str
        client_id : int, optional
            Only those sent to this client, over all its connections.

        Returns
        -------
        numpy.ndarray
            Row numbers, int64; ``replay.streams[contract_id, tick_type].take(rows)`` are the ticks.
            Not for subscriptions with ``ignore_size``, whose rows are among those in the log.
        """
        parts = [
            np.arange(sent.first, sent.last + 1, dtype=np.intp)
            for sent in self.log
            if sent.key == (contract_id, tick_type) and client_id in (None, sent.client_id)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.intp)

    def shut(self, *, lose: int = 0) -> None:
        """Drop every client and refuse connections, until :meth:`reopen`.

        Parameters
        ----------
        lose : int
            Ticks of each subscription that go by meanwhile, as for :meth:`drop`.
        """

        def run() -> None:
            if self._server is not None:
                self._server.close()
                self._server = None
                self._listening = self._bind()
            for connection in list(self._state.everyone):
                if connection.client_id < 0:
                    connection.abort()
            self.drop(lose=lose)

        self._call(self._stop_accepting)
        self._call(run)

    def reopen(self) -> None:
        """Listen again, on the same port."""
        self._call(self._reopen)

    def nightly_restart(self, seconds: float, *, lose: int = 0) -> None:
        """Shut, and reopen after so many seconds; returns at once."""
        self.shut(lose=lose)
        self._call(lambda: asyncio.get_running_loop().call_later(seconds, self._reopen))

    def pause(self) -> None:
        """Stop the replay's clock; connections stay, and requests are served."""
        self._call(self._state.clock.stop)

    def resume(self) -> None:
        """Let the replay run, or run on."""
        self._call(self._state.start)

    def rewind(self) -> None:
        """Forget how far clients have come: who subscribes from now on begins at the beginning."""
        self._call(self._state.positions.rewind)

    def __repr__(self) -> str:
        alive = self._thread is not None and self._thread.is_alive()
        place = f"{self.host}:{self._port}" if alive else "closed"
        return f"<Gateway {place}, {self.replay!r}>"

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Small, so that a client that does not read holds the replay up soon.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            listening.bind((self.host, self._port))
        except OSError as error:
            listening.close()
            raise InputError(
                f"a gateway cannot listen on {self.host}:{self._port} ({error.strerror}): give "
                "another port, or 0 for any",
                host=self.host,
                port=self._port,
            ) from error
        return listening

    def _reopen(self) -> None:
        if self._is_closing:
            return
        listening, self._listening = self._listening, None
        if listening is not None:
            # A client that connects from here on is accepted, if not at once.
            listening.listen(_BACKLOG)
            self._starting = asyncio.get_running_loop().create_task(self._serve(listening))

    async def _serve(self, listening: socket.socket) -> None:
        self._server = await asyncio.start_server(self._accept, sock=listening, backlog=_BACKLOG)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_closing:
            writer.transport.abort()
            return
        connection = Connection(self._state, next(self._numbers), reader, writer)
        task = asyncio.get_running_loop().create_task(connection.run())
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def _stop_accepting(self) -> None:
        """Leave clients that connect from here on in the backlog.

        To be called a round of the loop before the server is closed. The server has a task for each
        connection that it accepts, and that task leaves the socket open if the server is closed, or
        the task cancelled, before it has begun.
        """
        if self._server is not None:
            loop = asyncio.get_running_loop()
            for listening in self._server.sockets:
                loop.remove_reader(listening)

    async def _stop(self) -> None:
        self._is_closing = True
        if self._starting is not None:
            await asyncio.wait([self._starting])
        self._stop_accepting()
        await asyncio.sleep(0)
        if self._server is not None:
            self._server.close()
        if self._listening is not None:
            self._listening.close()
        for connection in list(self._state.everyone):
            connection.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
        # What the closed transports have left to do, they do in the next two rounds of the loop.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _call(self, action: Callable[[], _T]) -> _T:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            raise InputError("this gateway is not running")
        if threading.current_thread() is thread:
            return action()

        async def run() -> _T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), loop).result()
