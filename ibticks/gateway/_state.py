"""State shared by the connections of one gateway; touched by the gateway's own thread only."""

from __future__ import annotations

import heapq
import itertools
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo

from ibticks.gateway._clock import Clock, ClockMode, Positions
from ibticks.gateway._sent import SentLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibticks.gateway._connection import Connection
    from ibticks.gateway._limits import Limits
    from ibticks.gateway._replay import Replay, StreamKey

__all__ = ["Greeting", "State"]

_log = logging.getLogger(__name__)

Greeting = Literal["greet", "silence", "hang_up"]


class State:
    """The replay, how far it is, who is connected, and what is to go wrong.

    Attributes
    ----------
    connections : dict of int to Connection
        Those that have started the API, by client id.
    refused_clients : set of int
        Client ids that are sent they are in use.
    forbidden : dict
        Streams without permission: code and text, by contract id and tick type (None for all).
    refused_pages : dict
        Past ticks that are not given: code, text and how often yet (None for always), by contract
        id and what is asked for (None for all).
    cuts_pages : bool
        Whether a page of past ticks may end amid a second.
    muted : set
        Streams that are subscribed but silent.
    greeting : {"greet", "silence", "hang_up"}
        What a client meets that connects.
    split : int or None
        Most bytes of one write.
    asked : dict of int to float
        When ticks of each contract were last asked for, on the monotonic clock.
    unknown_requests : Counter
        Requests a gateway does not serve, by message id.
    """

    def __init__(
        self,
        replay: Replay,
        *,
        speed: float | None,
        clock: ClockMode,
        start_after: int,
        accounts: Sequence[str],
        limits: Limits,
        highest_version: int,
        zone: str,
    ) -> None:
        self.replay: Final = replay
        self.accounts: Final = tuple(accounts)
        self.limits: Final = limits
        self.highest_version: Final = highest_version
        self.zone: Final = ZoneInfo(zone)
        self.clock: Final = Clock(speed)
        self.positions: Final = Positions(replay, self.clock, clock)
        self.log: Final = SentLog()
        self.everyone: set[Connection] = set()
        self.connections: dict[int, Connection] = {}
        self.refused_clients: set[int] = set()
        self.forbidden: dict[tuple[int, str | None], tuple[int, str]] = {}
        self.refused_pages: dict[tuple[int, str | None], tuple[int, str, int | None]] = {}
        self.cuts_pages = False
        self.muted: set[tuple[int, str | None]] = set()
        self.unknown_requests: Counter[int] = Counter()
        self.greeting: Greeting = "greet"
        self.split: int | None = None
        self.asked: dict[int, float] = {}
        self._awaited = start_after
        self._triggers: list[tuple[int, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    @property
    def subscriptions(self) -> int:
        """Tick-by-tick subscriptions that are alive, over all clients."""
        return sum(len(connection.subscriptions) for connection in self.everyone)

    def subscribed(self) -> None:
        """Note a subscription; the one that was waited for sets the replay going."""
        self._awaited -= 1
        if self._awaited == 0:
            self.start()

    def start(self) -> None:
        """Let the replay run."""
        self.clock.start()
        self.wake()

    def wake(self) -> None:
        """Let every connection look again whether there is something to send."""
        for connection in self.everyone:
            connection.wake()

    def is_muted(self, key: StreamKey) -> bool:
        """Return whether that stream is muted."""
        return key in self.muted or (key[0], None) in self.muted

    def refusal(self, key: StreamKey) -> tuple[int, str] | None:
        """Why that stream may not be subscribed: code and text."""
        return self.forbidden.get(key) or self.forbidden.get((key[0], None))

    def page_refusal(self, contract_id: int, what: str) -> tuple[int, str] | None:
        """Why a page of past ticks is not given: code and text; it counts as one refused."""
        for key in ((contract_id, what), (contract_id, None)):
            if key in self.refused_pages:
                code, text, times = self.refused_pages[key]
                if times is not None:
                    self.refused_pages[key] = code, text, times - 1
                if times is None or times > 0:
                    return code, text
        return None

    def after(self, ticks: int, action: Callable[[], object]) -> None:
        """Do something once so many more ticks have been sent, before the next one is."""
        at = self.log.total + ticks
        heapq.heappush(self._triggers, (at, next(self._numbers), action))
        self.fire()

    def room(self) -> int | None:
        """Ticks that may be sent before something is to be done; None is any number."""
        return self._triggers[0][0] - self.log.total if self._triggers else None

    def fire(self) -> None:
        """Do what is due; what fails of it is logged, and the replay goes on."""
        while self._triggers and self._triggers[0][0] <= self.log.total:
            at, _, action = heapq.heappop(self._triggers)
            try:
                action()
            except Exception:
                _log.exception("what was to be done after %d ticks failed", at)
            self.wake()
