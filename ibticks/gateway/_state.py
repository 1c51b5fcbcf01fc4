"""State shared by the connections of a gateway: clock, limits, and the log of sent ticks."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo

import numpy as np

from ibticks._types import StreamKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ibticks._types import ClockMode
    from ibticks.gateway._connection import Connection
    from ibticks.gateway._replay import Replay
    from ibticks.gateway._ticks import TickStream

__all__ = [
    "DEFAULT_SETTINGS",
    "Clock",
    "Greeting",
    "Limits",
    "Pace",
    "Positions",
    "Progress",
    "Sent",
    "SentLog",
    "State",
]

_log = logging.getLogger(__name__)

DEFAULT_SETTINGS: Final[Mapping[str, str | bool]] = {
    "readOnlyApi": True,
    "sendMarketDataInLotsForUsStocks": False,
    "showForexDataIn1_10Pips": True,
    "autoLogoffTime": "23:45",
    "autoLogoffType": "Restart",
}
Greeting = Literal["greet", "silence", "hang_up", "greet_and_hang_up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a gateway; None is no limit.

    Attributes
    ----------
    streams : int or None
        Tick-by-tick subscriptions at once, over all clients; one more is refused with code 10190.
        IB grants 5 with the standard market data lines.
    requests_per_second : int or None
        Requests a client may send within a second; each above is dropped with code 100. IB has 50.
    seconds_between : float or None
        Seconds between tick-by-tick requests for one contract; a sooner one is refused with code
        420. IB's documentation says 15.
    """

    streams: int | None = None
    requests_per_second: int | None = None
    seconds_between: float | None = None


class Pace:
    """Counts the requests of one client within the last second."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._times: deque[float] = deque()

    def allows(self) -> bool:
        """Return whether a request that comes now is within the limit."""
        if self._most is None:
            return True
        now = time.monotonic()
        while self._times and now - self._times[0] >= 1.0:
            self._times.popleft()
        self._times.append(now)
        return len(self._times) <= self._most


@dataclass(frozen=True, slots=True)
class Sent:
    """Rows of a stream that went to one client without a break.

    Attributes
    ----------
    connection : int
        Number of the connection, from 1.
    client_id, req_id : int
    contract_id : int
    tick_type : str
    first, last : int
        Rows of the stream in the replay, both inclusive.
    ignore_size : bool
        Whether, of the quotes in between, only those with a new price were sent.
    """

    connection: int
    client_id: int
    req_id: int
    contract_id: int
    tick_type: str
    first: int
    last: int
    ignore_size: bool = False

    @property
    def key(self) -> StreamKey:
        """Contract id and tick type."""
        return StreamKey(self.contract_id, self.tick_type)

    @property
    def rows(self) -> range:
        """The rows."""
        return range(self.first, self.last + 1)


class SentLog:
    """Written by the gateway's thread, read and waited for by any other."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._records: list[Sent] = []
        self._open: dict[tuple[int, int], tuple[int, int]] = {}
        self._counts: Counter[StreamKey] = Counter()
        self._ended: set[tuple[int, StreamKey]] = set()
        self.total = 0

    def add(self, sent: Sent, start: int, ticks: int) -> None:
        """Note that ticks went out.

        Parameters
        ----------
        sent : Sent
        start : int
            Place of the first one among those the subscription is sent; where it follows the last
            one, their record grows.
        ticks : int
        """
        subscription = (sent.connection, sent.req_id)
        with self._changed:
            place, follows = self._open.get(subscription, (-1, -1))
            if follows == start and self._records[place].key == sent.key:
                self._records[place] = replace(self._records[place], last=sent.last)
            else:
                place = len(self._records)
                self._records.append(sent)
            self._open[subscription] = (place, start + ticks)
            self._counts[sent.key] += ticks
            self.total += ticks
            self._changed.notify_all()

    def end(self, client_id: int, key: StreamKey) -> None:
        """Note that a client has come to the end of a stream."""
        with self._changed:
            self._ended.add((client_id, key))
            self._changed.notify_all()

    def records(self) -> tuple[Sent, ...]:
        """Everything sent so far, in the order in which it began."""
        with self._changed:
            return tuple(self._records)

    def counts(self) -> dict[StreamKey, int]:
        """Ticks sent of each stream, over all clients."""
        with self._changed:
            return dict(self._counts)

    def ended(self) -> int:
        """Count how often a client has reached the end of a stream."""
        with self._changed:
            return len(self._ended)

    def wait(self, reached: Callable[[], bool], timeout: float) -> bool:
        """Wait until something holds; False if it does not in that many seconds."""
        with self._changed:
            return self._changed.wait_for(reached, timeout)

    def notify(self) -> None:
        """Let those who wait look again."""
        with self._changed:
            self._changed.notify_all()


class Clock:
    """Replay time: the nanoseconds that have gone by, at so many times real speed.

    Parameters
    ----------
    speed : float or None
        None is as fast as clients read; the clock then only says whether it runs.

    Attributes
    ----------
    running : bool
        It stands still when made.
    """

    def __init__(self, speed: float | None) -> None:
        self.speed: Final = speed
        self.running = False
        self._elapsed = 0
        self._since = 0

    def elapsed_ns(self) -> int:
        """Replay nanoseconds since it was first started, pauses not counted."""
        if not self.running or self.speed is None:
            return self._elapsed
        return self._elapsed + int((time.monotonic_ns() - self._since) * self.speed)

    def start(self) -> None:
        """Run, from now on."""
        if not self.running:
            self._since, self.running = time.monotonic_ns(), True

    def stop(self) -> None:
        """Stand still until started again."""
        self._elapsed, self.running = self.elapsed_ns(), False


@dataclass(slots=True)
class Progress:
    """The progress of a client in a stream.

    Attributes
    ----------
    stream : TickStream
    next : int
        The row to be sent next.
    origin_ns : int
        What is added to the clock to know the time in the stream, UTC nanoseconds.
    """

    stream: TickStream
    next: int = 0
    origin_ns: int = 0

    @property
    def ended(self) -> bool:
        """Return whether every row was sent or skipped."""
        return self.next >= self.stream.rows

    def skip(self, rows: int) -> None:
        """Let rows go by unsent."""
        self.next = min(self.next + rows, self.stream.rows)

    def skip_until(self, time_ns: int) -> None:
        """Let everything before that time go by unsent."""
        self.next = max(self.next, int(np.searchsorted(self.stream.time_ns, time_ns)))


class Positions:
    """The progress of every client in every stream, kept when a client disconnects.

    A client that comes back resumes at the present row of the replay: it has missed the rows in
    between, as it would have with IB. At full speed the replay waits for its readers, unless rows
    are skipped.
    """

    def __init__(self, replay: Replay, clock: Clock, mode: ClockMode) -> None:
        self._replay = replay
        self._clock = clock
        self._shared = mode == "shared"
        self._frontier_ns = replay.start_ns
        self._known: dict[tuple[int, StreamKey, bool], Progress] = {}

    def resume(self, client_id: int, key: StreamKey, *, ignore_size: bool) -> Progress:
        """Return the progress of this client in that stream, new or resumed."""
        progress = self._known.get((client_id, key, ignore_size))
        if progress is None:
            progress = self._begin(key, ignore_size=ignore_size)
            self._known[client_id, key, ignore_size] = progress
        self.catch_up(progress)
        return progress

    def catch_up(self, progress: Progress) -> None:
        """Let go by what the clock has passed."""
        if self._clock.speed is not None:
            progress.skip_until(self._clock.elapsed_ns() + progress.origin_ns)
        elif self._shared:
            progress.skip_until(self._frontier_ns)

    def sent(self, time_ns: int) -> None:
        """Note that a tick of that time has been sent to somebody."""
        self._frontier_ns = max(self._frontier_ns, time_ns)

    def rewind(self) -> None:
        """Reset all progress: the next subscriptions begin at the first row."""
        self._known.clear()
        self._frontier_ns = self._replay.start_ns

    def _begin(self, key: StreamKey, *, ignore_size: bool) -> Progress:
        stream = self._replay.streams[key]
        if self._shared:
            origin_ns = self._replay.start_ns
        else:
            start_ns = int(stream.time_ns[0]) if stream.rows else 0
            origin_ns = start_ns - self._clock.elapsed_ns()
        if ignore_size:
            stream = stream.take(stream.price_changes())
        return Progress(stream, origin_ns=origin_ns)


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
    greeting : {"greet", "silence", "hang_up", "greet_and_hang_up"}
        What a client meets that connects.
    announced : int or None
        Server version to announce instead of the one to speak.
    settings : mapping or None
        Settings of the API and of the automatic exit, by IB's names; None sends no answer.
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
        server_version: int,
        zone: str,
    ) -> None:
        self.replay: Final = replay
        self.accounts: Final = tuple(accounts)
        self.limits: Final = limits
        self.server_version: Final = server_version
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
        self.announced: int | None = None
        self.settings: Mapping[str, str | bool] | None = DEFAULT_SETTINGS
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
        return key in self.muted or (key.contract_id, None) in self.muted

    def refusal(self, key: StreamKey) -> tuple[int, str] | None:
        """Why that stream may not be subscribed: code and text."""
        return self.forbidden.get(key) or self.forbidden.get((key.contract_id, None))

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
