"""One connection, from its beginning to its end: what is heard, and what is done about it.

The client's thread hands ticks straight to the recorders; everything else it hears becomes an
event here, so that what is decided about a connection is decided in one place, in order.
"""

from __future__ import annotations

import logging
import queue
import re
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ibticks.capture._watchdog import Watch
from ibticks.coverage import CoverageState, StreamStatus
from ibticks.tws import Action, Outages, meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal
    from threading import Event

    from ibticks.capture._settings import CaptureSettings
    from ibticks.capture._subscriptions import Subscription, Subscriptions
    from ibticks.index import Index
    from ibticks.tws import Client

__all__ = ["End", "Session"]

_log = logging.getLogger(__name__)
_RETRY_LATER: Final = 300.0
_RETRY_RARELY: Final = 3600.0
_PACING_PAUSE: Final = 15.0
_STRAY_PAUSE: Final = 2.0
_BEAT: Final = 0.25
_PORT: Final = re.compile(r"port\D{0,20}(\d{2,5})", re.IGNORECASE)
_COMPETING_SESSION: Final = 10197
_PACING: Final = 420
_MOVED: Final = 1300
_NOT_CONNECTED: Final = 504


class End(NamedTuple):
    """Why a connection is over, and on which port TWS said it is from now on, if it did."""

    reason: str
    code: int
    port: int | None = None


class Session:
    """What happens on one connection; the ``Events`` of its client.

    Parameters
    ----------
    settings : CaptureSettings
    subscriptions : Subscriptions
    index : Index
        Where contracts are kept.
    on_failure : callable
        Told of each exception in our own callbacks.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        subscriptions: Subscriptions,
        index: Index,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._subscriptions = subscriptions
        self._index = index
        self._events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._strays: dict[int, float] = {}
        self._watch = Watch(settings, subscriptions)
        self.failed = on_failure
        self.outages: Final = Outages()

    # -- the client's side (Events), in its thread -------------------------------------------------

    def trade(
        self,
        request: int,
        time: int,
        price: float,
        size: Decimal,
        exchange: str,
        conditions: str,
        past_limit: bool,
        unreported: bool,
    ) -> None:
        """A trade: straight to its recorder."""
        subscription = self._subscriptions.by_request.get(request)
        if subscription is None or not subscription.accepts(request):
            self._stray(request)
        else:
            subscription.recorder.trade(
                time, price, size, exchange, conditions, past_limit, unreported
            )

    def quote(
        self,
        request: int,
        time: int,
        bid_price: float,
        bid_size: Decimal,
        ask_price: float,
        ask_size: Decimal,
        bid_past_low: bool,
        ask_past_high: bool,
    ) -> None:
        """A quote: straight to its recorder."""
        subscription = self._subscriptions.by_request.get(request)
        if subscription is None or not subscription.accepts(request):
            self._stray(request)
        else:
            subscription.recorder.quote(
                time, bid_price, bid_size, ask_price, ask_size, bid_past_low, ask_past_high
            )

    def mid_point(self, request: int, time: int, mid_price: float) -> None:
        """A mid point: straight to its recorder."""
        subscription = self._subscriptions.by_request.get(request)
        if subscription is None or not subscription.accepts(request):
            self._stray(request)
        else:
            subscription.recorder.mid_point(time, mid_price)

    def _stray(self, request: int) -> None:
        """A tick of a stream that was cancelled, and of which IB has not heard that."""
        now = time.monotonic()
        if now >= self._strays.get(request, now):
            self._strays[request] = now + _STRAY_PAUSE
            self._events.put(("stray", request))

    def history(self, request: int, ticks: Sequence[Any], done: bool) -> None:
        """Nothing: historical ticks are asked for over a connection of their own."""

    def contract(self, request: int, details: Any) -> None:
        """A contract's details."""
        self._events.put(("contract", request, details))

    def contracts_end(self, request: int) -> None:
        """The end of a contract's details."""
        self._events.put(("contracts_end", request))

    def message(self, request: int, code: int, text: str) -> None:
        """An error or a note."""
        self._events.put(("message", request, code, text))

    def alive(self) -> None:
        """A sign of life."""
        self._events.put(("alive",))

    def closed(self) -> None:
        """The connection is over."""
        self._events.put(("closed",))

    # -- deciding, in the supervisor's thread ------------------------------------------------------

    def wake(self) -> None:
        """Have :meth:`serve` look whether it is to stop; from any thread."""
        self._events.put(("",))

    def serve(self, client: Client, stopping: Event) -> End | None:
        """Ask, listen and watch until the connection is over; None: because of ``stopping``."""
        now = time.monotonic()
        self._watch.heard(now)
        self._subscriptions.forget(now)
        while not stopping.is_set():
            pause = _BEAT
            if not self.outages.of_ib and not client.lost:
                pause = min(pause, self._subscriptions.ask(client, time.monotonic()))
            try:
                kind, *said = self._events.get(timeout=pause)
            except queue.Empty:
                kind, said = "", []
            end = self._handle(client, kind, said)
            if end is None and not client.lost:
                end = self._look(client)
            if end is not None:
                return end
        self._subscriptions.cancel_all(client)
        return None

    def note_all(self, status: StreamStatus, reason: str, code: int) -> None:
        """Tell every stream that has anything left to lose what has become of it."""
        for subscription in self._subscriptions:
            recorder = subscription.recorder
            if recorder.state not in (CoverageState.DISCONNECTED, CoverageState.NOT_PERMITTED):
                recorder.note(status, reason, code)

    def _look(self, client: Client) -> End | None:
        now = time.monotonic()
        if self._watch.is_dead(client, now):
            return End("no sign of life: the connection is dead", _NOT_CONNECTED)
        if not self.outages:
            self._watch.look_for_silence(now)
        return None

    def _handle(self, client: Client, kind: str, said: list[Any]) -> End | None:
        """Act on an event; why the connection is over, if it is."""
        if kind:
            self._watch.heard(time.monotonic())
        if kind == "closed":
            return End(client.problem or "the connection was closed", _NOT_CONNECTED)
        if kind == "message":
            return self._on_message(*said)
        if kind == "contract":
            record = self._subscriptions.learn(*said)
            if record is not None:
                self._index.put_contracts([record])
        elif kind == "contracts_end":
            details = self._subscriptions.asked_for(*said)
            if details is not None:
                details.known = time.monotonic()
        elif kind == "stray":
            self._subscriptions.cancel(*said)
        return None

    def _on_message(self, request: int, number: int, text: str) -> End | None:
        code = meaning(number, text)
        calm = code.action in (Action.NOTE, Action.RESTORED)
        _log.log(logging.INFO if calm else logging.WARNING, "IB %d (%d): %s", number, request, text)
        reason = text if code.text in text else f"{code.text}: {text}"
        match code.action:
            case Action.BROKEN:
                self.outages.begin(number, text)
                self.note_all(StreamStatus.DISCONNECTED, reason, number)
            case Action.RESTORED:
                if self.outages.end(number, text):
                    self._restore(reason, number)
            case Action.RESUBSCRIBE_ALL:
                # IB has forgotten the subscriptions: there is nothing to cancel.
                self.outages.end(number, text)
                self._lose_all(reason, number)
            case Action.RECONNECT:
                return End(reason, number, _port(text) if number == _MOVED else None)
            case Action.SLOW_DOWN:
                self._subscriptions.slow_down(time.monotonic())
            case Action.NOTE:
                pass
            case _:
                self._on_refusal(request, code.action, number, reason)
        return None

    def _lose_all(self, reason: str, number: int) -> None:
        for subscription in self._subscriptions:
            if subscription.request is not None:
                subscription.recorder.note(StreamStatus.DISCONNECTED, reason, number)
        self._subscriptions.forget(time.monotonic())

    def _restore(self, reason: str, number: int) -> None:
        for subscription in self._subscriptions:
            if subscription.request is not None:
                subscription.recorder.note(StreamStatus.RESTORED, reason, number)

    def _on_refusal(self, request: int, action: Action, number: int, reason: str) -> None:
        """A request failed: of one stream, or for the details of a contract; the others go on."""
        subscription = self._subscriptions.by_request.get(request)
        if subscription is not None:
            # What becomes of a request that was replaced does not matter any more.
            if subscription.is_latest(request):
                self._refuse(subscription, action, number, reason)
            return
        details = self._subscriptions.asked_for(request)
        if details is None:
            return
        if action is Action.GIVE_UP:
            details.refused = True
            for each in details.streams:
                self._refuse(each, action, number, reason)
        else:
            # Its streams are tried with what is known of it.
            details.known = time.monotonic()

    def _refuse(self, subscription: Subscription, action: Action, number: int, reason: str) -> None:
        recorder = subscription.recorder
        now = time.monotonic()
        recorder.error(number, reason, recoverable=action is not Action.GIVE_UP)
        if action is Action.GIVE_UP:
            self._subscriptions.drop(subscription, now + _RETRY_RARELY)
            recorder.note(StreamStatus.NOT_PERMITTED, reason, number)
        elif action is Action.RESUBSCRIBE:
            self._subscriptions.resubscribe(subscription, now)
            recorder.note(StreamStatus.DISCONNECTED, reason, number)
        elif action is Action.RETRY_SOON:
            self._subscriptions.repeat(subscription, now)
            recorder.note(StreamStatus.DISCONNECTED, reason, number)
        elif number == _COMPETING_SESSION:
            # It was subscribed, and might begin again by itself: then it would come twice.
            self._subscriptions.renew(subscription, now + _RETRY_LATER)
            recorder.note(StreamStatus.QUIET, reason, number)
        else:
            wait = _PACING_PAUSE if number == _PACING else _RETRY_LATER
            self._subscriptions.drop(subscription, now + wait)
            recorder.note(StreamStatus.NOT_PERMITTED, reason, number)


def _port(text: str) -> int | None:
    """The port that TWS says it listens on from now on."""
    found = _PORT.search(text)
    return int(found[1]) if found and 0 < int(found[1]) < 65536 else None
