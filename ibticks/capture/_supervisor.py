"""The supervisor of a capture: it connects, serves the connection, and reconnects."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from ibticks.capture._connection import ConnectionHandler, Disconnect
from ibticks.capture._subscriptions import Subscriptions
from ibticks.coverage import StreamStatus
from ibticks.errors import ConnectionFailedError
from ibticks.tws import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibticks.capture._recorder import Recorder
    from ibticks.capture._settings import CaptureSettings
    from ibticks.index import ContractRecord, Index
    from ibticks.tws import ServerSettings

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)
_FIRST_DELAY_SECONDS: Final = 1.0
_MAX_DELAY_FACTOR: Final = 10.0  # times the delay of the settings
_MAX_DOUBLINGS: Final = 10


class Supervisor:
    """Connects, serves the connection until it ends, and connects again after a backoff.

    Parameters
    ----------
    settings : CaptureSettings
    recorders : sequence of Recorder
    known : dict of int to ContractRecord
        Contracts that were resolved before.
    index : Index
        Where contracts are stored.
    on_failure : callable
        Called with the place and the exception of each callback that raises.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        recorders: Sequence[Recorder],
        known: dict[int, ContractRecord],
        index: Index,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._settings = settings
        self._index = index
        self._on_failure = on_failure
        self._ports = deque([settings.port])  # the next one to try is the first
        self.stopping: Final = threading.Event()
        # The current connection, which :meth:`stop` ends from another thread.
        self._current: tuple[Client, ConnectionHandler] | None = None
        self._connected = False
        self.subscriptions: Final = Subscriptions(settings, recorders, known)
        self.connections = 0
        self.failed_attempts = 0
        self.last_problem = ""
        self.server: ServerSettings | None = None  # of the last connection

    @property
    def connected(self) -> bool:
        """Return whether there is a connection, and no outage on IB's side."""
        current = self._current
        return self._connected and current is not None and not current[1].outages

    def stop(self) -> None:
        """Ask :meth:`run` to end."""
        self.stopping.set()
        current = self._current
        if current is not None:
            client, handler = current
            handler.wake()
            if not self._connected:
                client.hang_up()

    def wake(self) -> None:
        """Make the connection send the requests of streams that were added or removed."""
        current = self._current
        if current is not None:
            current[1].wake()

    def run(self) -> None:
        """Connect and serve until :meth:`stop`."""
        while not self.stopping.is_set():
            handler = ConnectionHandler(
                self._settings, self.subscriptions, self._index, self._on_failure
            )
            client = Client(handler)
            self._current = client, handler
            try:
                disconnect = self._connect(client, handler)
            finally:
                self._connected = False
                client.close()
                self._current = None
            if disconnect is not None and not self.stopping.is_set():
                self._pause()

    def _connect(self, client: Client, handler: ConnectionHandler) -> Disconnect | None:
        """Serve one connection; return the reason of its end unless the capture stops."""
        settings = self._settings
        try:
            client.open(settings.host, self._ports[0], settings.client_id, settings.connect_timeout)
        except ConnectionFailedError as error:
            # The port that TWS announced may be out of date.
            self._ports = deque([settings.port])
            refusal = Disconnect(error.context["problem"], int(error.context["code"]))
            # Streams and ledger get the problem without advice, and the log gets the advice once
            # for each series of failures.
            self._note_disconnect(handler, refusal, str(error) if self.failed_attempts == 0 else "")
            self.last_problem = str(error)
            return refusal
        began = time.monotonic()
        self.connections += 1
        self._connected, self.last_problem = True, ""
        self._note_server(client.server_settings)
        try:
            disconnect = handler.serve(client, self.stopping)
        except BaseException as error:
            self._note_disconnect(handler, Disconnect(f"internal error: {error!r}", 0))
            raise
        # A connection that lasted for a while resets the backoff.
        if time.monotonic() - began > settings.reconnect_delay:
            self.failed_attempts = 0
        if disconnect is not None:
            if disconnect.port is not None:
                self._ports = deque(dict.fromkeys((disconnect.port, settings.port)))
            self._note_disconnect(handler, disconnect)
        return disconnect

    def _note_server(self, server: ServerSettings | None) -> None:
        """Keep the settings of TWS, and warn of sizes that mean something else from now on."""
        before = self.server.us_stock_sizes if self.server is not None else None
        sizes = server.us_stock_sizes if server is not None else None
        if before and sizes and before != sizes:
            _log.warning(
                "TWS sends sizes of US stocks in %s, and sent them in %s before: do not add "
                "the volumes; see 'Send market data in lots for US stocks' in its API settings",
                sizes,
                before,
            )
        self.server = server

    def _note_disconnect(
        self, handler: ConnectionHandler, disconnect: Disconnect, log_text: str = ""
    ) -> None:
        if not self.stopping.is_set():
            self.last_problem = disconnect.reason
            _log.warning("not connected: %s", log_text or disconnect.reason)
            handler.note_all(StreamStatus.DISCONNECTED, disconnect.reason, disconnect.code)

    def _pause(self) -> None:
        """Wait before the next attempt: a second, then the delay, then its doubles."""
        delay = self._settings.reconnect_delay
        if self.failed_attempts == 0:
            wait = min(_FIRST_DELAY_SECONDS, delay)
        else:
            doublings = min(self.failed_attempts - 1, _MAX_DOUBLINGS)
            wait = min(delay * 2.0**doublings, _MAX_DELAY_FACTOR * delay)
            wait *= random.uniform(0.75, 1.25)
        self.failed_attempts += 1
        self.stopping.wait(wait)
