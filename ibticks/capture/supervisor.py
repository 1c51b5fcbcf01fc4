"""Keeping a capture connected and subscribed: one thread that decides, fed by a queue.

The client's thread hands ticks straight to the recorders; everything else it hears becomes an
event here, so that what is decided about a connection is decided in one place, in order.
"""

from __future__ import annotations

import logging
import queue
import random
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from ibticks.capture.client import Client
from ibticks.capture.codes import Action, meaning
from ibticks.capture.subscriptions import Subscriptions
from ibticks.config import NANOSECONDS
from ibticks.errors import ConnectionFailedError
from ibticks.storage.states import State, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from ibticks.capture.recorder import Recorder
    from ibticks.capture.settings import CaptureSettings
    from ibticks.capture.subscriptions import Subscription
    from ibticks.index.records import Index

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)
_RETRY_LATER: Final = 300.0
_RETRY_RARELY: Final = 3600.0
_PACING_PAUSE: Final = 15.0
_SIGN_OF_LIFE: Final = 10.0
_BEAT: Final = 0.25
# Trades of a calm contract are far apart in an open market; quotes are not.
_TRADES_ARE_RARER: Final = 10.0
_PORT: Final = re.compile(r"port\D{0,20}(\d{2,5})", re.IGNORECASE)
# What ends the outage that a code began.
_ENDS: Final = {1100: (1102,), 2110: (1102,), 2103: (2104, 1102)}
_COMPETING_SESSION: Final = 10197
_PACING: Final = 420
_MOVED: Final = 1300


class Supervisor:
    """Connects, subscribes, watches, and begins again.

    Parameters
    ----------
    settings : CaptureSettings
    recorders : sequence of Recorder
    index : Index
        Where contracts are looked up and kept.
    on_failure : callable
        Told of each exception in our own callbacks.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        recorders: Sequence[Recorder],
        index: Index,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._settings = settings
        self._index = index
        self._on_failure = on_failure
        self._port = settings.port
        self._events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._client: Client | None = None
        self._heard = 0.0
        self._asked_for_life: float | None = None
        self._broken: int | None = None
        self._connected_at = 0.0
        known = {record.contract_id: record for record in index.contracts()}
        self.subscriptions: Final = Subscriptions(settings, recorders, known)
        self.connections = 0
        self.failed_attempts = 0
        self.last_problem = ""

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
        subscription = self.subscriptions.by_request.get(request)
        if subscription is not None:
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
        subscription = self.subscriptions.by_request.get(request)
        if subscription is not None:
            subscription.recorder.quote(
                time, bid_price, bid_size, ask_price, ask_size, bid_past_low, ask_past_high
            )

    def mid_point(self, request: int, time: int, mid_price: float) -> None:
        """A mid point: straight to its recorder."""
        subscription = self.subscriptions.by_request.get(request)
        if subscription is not None:
            subscription.recorder.mid_point(time, mid_price)

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

    def failed(self, where: str, error: Exception) -> None:
        """An exception in a callback: seen by whoever looks at the capture."""
        self._on_failure(where, error)

    # -- deciding, in the supervisor's thread ------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether there is a connection, and IB's side of it is not known to be broken."""
        return self._client is not None and self._broken is None

    def stop(self) -> None:
        """Ask :meth:`run` to end."""
        self._stopping.set()
        self._events.put(("stop",))

    def run(self) -> None:
        """Connect and serve until stopped."""
        settings = self._settings
        while not self._stopping.is_set():
            client = Client(self)
            try:
                client.open(settings.host, self._port, settings.client_id, settings.connect_timeout)
            except ConnectionFailedError as error:
                self._over(str(error), int(error.context["code"]))
                continue
            self.connections += 1
            self._client = client
            try:
                self._serve(client)
            finally:
                self._client = None
                client.shut()
                self._drain()
            if self.last_problem and not self._stopping.is_set():
                self._pause()

    def _drain(self) -> None:
        """Forget what a connection that is over still said."""
        while True:
            try:
                self._events.get_nowait()
            except queue.Empty:
                return

    def _over(self, reason: str, code: int) -> None:
        """An attempt failed, before there was a connection."""
        self.last_problem = reason
        self._note_all(Status.DISCONNECTED, reason, code)
        self._pause()

    def _pause(self) -> None:
        """Wait before the next attempt: a second, then the delay, then twice that, and so on."""
        delay = self._settings.reconnect_delay
        if self.failed_attempts == 0:
            wait = min(1.0, delay)
        else:
            wait = min(delay * 2.0 ** (self.failed_attempts - 1), 10 * delay)
            wait *= random.uniform(0.75, 1.25)
        self.failed_attempts += 1
        self._stopping.wait(wait)

    def _serve(self, client: Client) -> None:
        """Handle what happens on one connection, until it is over."""
        now = self._connected_at = self._heard = time.monotonic()
        self._asked_for_life, self._broken, self.last_problem = None, None, ""
        self.subscriptions.forget(now)
        while True:
            if self._broken is None and not client.lost:
                self.subscriptions.ask(client, time.monotonic())
            try:
                kind, *said = self._events.get(timeout=_BEAT)
            except queue.Empty:
                kind, said = "", []
            if self._stopping.is_set():
                self.subscriptions.cancel_all(client)
                return
            problem = self._handle(kind, said)
            if problem is None and not client.lost:
                problem = self._watch(client)
            if problem is not None:
                self._end(*problem)
                return

    def _end(self, reason: str, code: int) -> None:
        """The connection is over."""
        self.last_problem = reason
        # One that held for a while starts the waiting over.
        if time.monotonic() - self._connected_at > self._settings.reconnect_delay:
            self.failed_attempts = 0
        self._note_all(Status.DISCONNECTED, reason, code)

    def _handle(self, kind: str, said: list[Any]) -> tuple[str, int] | None:
        """Act on an event; why the connection is over, if it is."""
        if kind:
            self._heard = time.monotonic()
        if kind == "closed":
            return "the connection was closed", 504
        if kind == "message":
            return self._on_message(*said)
        if kind == "contract":
            record = self.subscriptions.learn(*said)
            if record is not None:
                self._index.put_contracts([record])
        elif kind == "contracts_end":
            details = self.subscriptions.asked_for(*said)
            if details is not None:
                details.known = time.monotonic()
        elif kind == "alive":
            self._asked_for_life = None
        return None

    def _on_message(self, request: int, number: int, text: str) -> tuple[str, int] | None:
        code = meaning(number, text)
        action = code.action
        calm = action in (Action.NOTE, Action.RESTORED)
        _log.log(logging.INFO if calm else logging.WARNING, "IB %d (%d): %s", number, request, text)
        reason = text if code.text in text else f"{code.text}: {text}"
        if action is Action.BROKEN:
            self._broken = number
            self._note_all(Status.DISCONNECTED, reason, number)
        elif action is Action.RESTORED:
            if self._broken is not None and number in _ENDS[self._broken]:
                self._broken = None
                self._restore(reason, number)
        elif action is Action.RESUBSCRIBE_ALL:
            # IB has forgotten the subscriptions: there is nothing to cancel.
            self._broken = None
            self._note_all(Status.DISCONNECTED, reason, number)
            self.subscriptions.forget(time.monotonic())
        elif action is Action.RECONNECT:
            if number == _MOVED and (match := _PORT.search(text)):
                self._port = int(match[1])
            return reason, number
        elif action is Action.SLOW_DOWN:
            self.subscriptions.slow_down()
        elif action is not Action.NOTE:
            self._on_refusal(request, action, number, reason)
        return None

    def _on_refusal(self, request: int, action: Action, number: int, reason: str) -> None:
        """A request failed: of one stream, or for the details of a contract; the others go on."""
        subscription = self.subscriptions.by_request.get(request)
        if subscription is not None:
            self._refuse(subscription, action, number, reason)
            return
        details = self.subscriptions.asked_for(request)
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
        final = action is Action.GIVE_UP
        recorder.error(number, reason, recoverable=not final)
        if final:
            subscription.given_up = True
            self.subscriptions.drop(subscription, now + _RETRY_RARELY)
            recorder.note(Status.NOT_PERMITTED, reason, number)
        elif action is Action.RETRY_SOON:
            self.subscriptions.drop(subscription, now + 1.0)
            recorder.note(Status.DISCONNECTED, reason, number)
        else:
            wait = _PACING_PAUSE if number == _PACING else _RETRY_LATER
            self.subscriptions.drop(subscription, now + wait)
            silent = number == _COMPETING_SESSION
            recorder.note(Status.QUIET if silent else Status.NOT_PERMITTED, reason, number)

    def _restore(self, reason: str, number: int) -> None:
        for subscription in self.subscriptions:
            if subscription.request is not None:
                subscription.recorder.note(Status.RESTORED, reason, number)

    def _note_all(self, status: Status, reason: str, code: int) -> None:
        for subscription in self.subscriptions:
            recorder = subscription.recorder
            if recorder.state is not State.DISCONNECTED and not subscription.given_up:
                recorder.note(status, reason, code)

    # -- watching ----------------------------------------------------------------------------------

    def _watch(self, client: Client) -> tuple[str, int] | None:
        """Look for silence; why the connection has to be given up, if it has."""
        now, now_ns = time.monotonic(), time.time_ns()
        last_tick = max((each.recorder.last_ns for each in self.subscriptions), default=0)
        unheard = min(now - self._heard, (now_ns - last_tick) / NANOSECONDS)
        if self._asked_for_life is not None:
            if min(now - self._asked_for_life, unheard) > _SIGN_OF_LIFE:
                return "no sign of life: the connection is dead", 504
        elif unheard > self._settings.heartbeat:
            self._asked_for_life = now
            client.reqCurrentTime()
        if self._broken is None:
            self._look_for_silence(client, now, now_ns)
        return None

    def _look_for_silence(self, client: Client, now: float, now_ns: int) -> None:
        """Tell a calm market from a stream that is subscribed but silent."""
        patience = self._settings.quiet_after
        streams = [each for each in self.subscriptions if each.request is not None]
        silent = {
            id(each): min(now - each.since, (now_ns - each.recorder.last_ns) / NANOSECONDS)
            for each in streams
        }
        for each in streams:
            recorder = each.recorder
            hours = self.subscriptions.contracts[recorder.contract_id].hours
            is_open = None if hours is None else hours.is_open(now_ns)
            if is_open is False:
                if recorder.state is State.CAPTURED and silent[id(each)] > patience:
                    recorder.note(Status.SESSION_CLOSED, "outside of IB's trading hours")
                continue
            if recorder.state is State.SESSION_CLOSED:
                recorder.note(Status.RESTORED, "the session has begun")
                each.since = now
                continue
            rarer = _TRADES_ARE_RARER if recorder.tick_type in ("last", "all_last") else 1.0
            others_tick = any(silent[id(o)] < patience for o in streams if o is not each)
            if silent[id(each)] > patience * rarer and (others_tick or is_open):
                if recorder.state is State.CAPTURED:
                    recorder.note(Status.QUIET, f"no tick for {silent[id(each)]:.0f} s")
                if now - each.since > max(_RETRY_LATER, patience * rarer):
                    self.subscriptions.renew(client, each, now)
