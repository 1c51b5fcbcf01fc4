"""Keeping a capture connected: one connection after the other, for as long as it runs."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from ibticks.capture._connection import End, Session
from ibticks.capture._subscriptions import Subscriptions
from ibticks.coverage import StreamStatus
from ibticks.errors import ConnectionFailedError
from ibticks.tws import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibticks.capture._recorder import Recorder
    from ibticks.capture._settings import CaptureSettings
    from ibticks.index import ContractRecord, Index

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 10.0  # times the delay of the settings
_MOST_DOUBLINGS: Final = 10


class Supervisor:
    """Connects, has the session served, and begins again.

    Parameters
    ----------
    settings : CaptureSettings
    recorders : sequence of Recorder
    known : dict of int to ContractRecord
        Contracts that were resolved before.
    index : Index
        Where contracts are kept.
    on_failure : callable
        Told of each exception in our own callbacks.
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
        self._ports = deque([settings.port])  # the one to be tried next is the first
        self.stopping: Final = threading.Event()
        # The connection that is made or served, to be woken and hung up from another thread.
        self._current: tuple[Client, Session] | None = None
        self._connected = False
        self.subscriptions: Final = Subscriptions(settings, recorders, known)
        self.connections = 0
        self.failed_attempts = 0
        self.last_problem = ""

    @property
    def connected(self) -> bool:
        """Whether there is a connection, and IB's side of it is not known to be broken."""
        current = self._current
        return self._connected and current is not None and not current[1].outages

    def stop(self) -> None:
        """Ask :meth:`run` to end."""
        self.stopping.set()
        current = self._current
        if current is not None:
            client, session = current
            session.wake()
            if not self._connected:
                client.hang_up()

    def run(self) -> None:
        """Connect and serve until stopped."""
        while not self.stopping.is_set():
            session = Session(self._settings, self.subscriptions, self._index, self._on_failure)
            client = Client(session)
            self._current = client, session
            try:
                end = self._connect(client, session)
            finally:
                self._connected = False
                client.shut()
                self._current = None
            if end is not None and not self.stopping.is_set():
                self._pause()

    def _connect(self, client: Client, session: Session) -> End | None:
        """One connection, from beginning to end; why it is over, if not because of us."""
        settings = self._settings
        try:
            client.open(settings.host, self._ports[0], settings.client_id, settings.connect_timeout)
        except ConnectionFailedError as error:
            # Where TWS said that it had moved to, there may be nobody any more.
            self._ports = deque([settings.port])  # the one to be tried next is the first
            refusal = End(error.context["problem"], int(error.context["code"]))
            # Advice is for people: streams and ledger have the problem alone, and the log has the
            # advice once for each series of failures.
            self._over(session, refusal, str(error) if self.failed_attempts == 0 else "")
            self.last_problem = str(error)
            return refusal
        began = time.monotonic()
        self.connections += 1
        self._connected, self.last_problem = True, ""
        try:
            end = session.serve(client, self.stopping)
        except BaseException as error:
            self._over(session, End(f"a mistake of ours: {error!r}", 0))
            raise
        # One that held for a while starts the waiting over.
        if time.monotonic() - began > settings.reconnect_delay:
            self.failed_attempts = 0
        if end is not None:
            if end.port is not None:
                self._ports = deque(dict.fromkeys((end.port, settings.port)))
            self._over(session, end)
        return end

    def _over(self, session: Session, end: End, logged: str = "") -> End:
        if not self.stopping.is_set():
            self.last_problem = end.reason
            _log.warning("not connected: %s", logged or end.reason)
            session.note_all(StreamStatus.DISCONNECTED, end.reason, end.code)
        return end

    def _pause(self) -> None:
        """Wait before the next attempt: a second, then the delay, then twice that, and so on."""
        delay = self._settings.reconnect_delay
        if self.failed_attempts == 0:
            wait = min(_FIRST_PAUSE, delay)
        else:
            doublings = min(self.failed_attempts - 1, _MOST_DOUBLINGS)
            wait = min(delay * 2.0**doublings, _LONGEST_PAUSE * delay)
            wait *= random.uniform(0.75, 1.25)
        self.failed_attempts += 1
        self.stopping.wait(wait)
