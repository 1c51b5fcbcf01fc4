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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ibticks.capture.client import Client, contract_of
from ibticks.capture.codes import Action, meaning
from ibticks.capture.hours import TradingHours, parse_trading_hours
from ibticks.capture.settings import FIRST_REQUEST
from ibticks.errors import ConnectionFailedError
from ibticks.index.records import ContractRecord
from ibticks.storage.states import State, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from ibticks.capture.recorder import Recorder
    from ibticks.capture.settings import CaptureSettings
    from ibticks.index.records import Index

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)
_RETRY_LATER: Final = 300.0
_PACING_PAUSE: Final = 15.0
_RETRY_RARELY: Final = 3600.0
_DETAILS_TIMEOUT: Final = 15.0
_SIGN_OF_LIFE: Final = 10.0
_DETAILS_FRESH: Final = 12 * 3600.0
# Trades of a calm contract are far apart in an open market; quotes are not.
_TRADES_ARE_RARER: Final = 10.0
_PORT: Final = re.compile(r"port\D{0,20}(\d{2,5})", re.IGNORECASE)


@dataclass(slots=True)
class _Subscription:
    """What the supervisor knows of one stream on the present connection."""

    recorder: Recorder
    request: int | None = None
    due: float = 0.0
    given_up: bool = False
    renewed: float = 0.0


@dataclass(slots=True)
class _Details:
    """What IB said of a contract."""

    exchange: str
    hours: TradingHours | None = None
    asked: float = 0.0
    known: float = 0.0
    request: int | None = None
    refused: bool = False
    streams: list[_Subscription] = field(default_factory=list)


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
        self._by_request: dict[int, _Subscription] = {}
        self._next_request = FIRST_REQUEST
        self._interval = 1.0 / settings.requests_per_second
        self._next_send = 0.0
        self._asked: dict[int, float] = {}
        self._heard = 0.0
        self._asked_for_life = 0.0
        self._broken = ""
        self._connected_since = 0.0
        self.connections = 0
        self.failed_attempts = 0
        self.last_problem = ""
        known = {record.contract_id: record for record in index.contracts()}
        self._details: dict[int, _Details] = {}
        for recorder in recorders:
            record = known.get(recorder.contract_id)
            recorder.contract = record
            details = self._details.setdefault(
                recorder.contract_id,
                _Details(record.exchange if record and record.exchange else "SMART"),
            )
            details.streams.append(_Subscription(recorder))

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
        subscription = self._by_request.get(request)
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
        subscription = self._by_request.get(request)
        if subscription is not None:
            subscription.recorder.quote(
                time, bid_price, bid_size, ask_price, ask_size, bid_past_low, ask_past_high
            )

    def mid_point(self, request: int, time: int, mid_price: float) -> None:
        """A mid point: straight to its recorder."""
        subscription = self._by_request.get(request)
        if subscription is not None:
            subscription.recorder.mid_point(time, mid_price)

    def history(self, request: int, ticks: Sequence[Any], done: bool) -> None:
        """Historical ticks are asked for over a connection of their own."""

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
        return self._client is not None and not self._broken

    def subscribed(self, contract_id: int, tick_type: str) -> bool:
        """Whether a stream is subscribed on the present connection."""
        return any(
            each.request is not None and each.recorder.tick_type == tick_type
            for each in self._details[contract_id].streams
        )

    def stop(self) -> None:
        """Ask :meth:`run` to end."""
        self._stopping.set()
        self._events.put(("stop",))

    def run(self) -> None:
        """Connect and serve until stopped."""
        while not self._stopping.is_set():
            client = Client(self)
            try:
                client.open(
                    self._settings.host,
                    self._port,
                    self._settings.client_id,
                    self._settings.connect_timeout,
                )
            except ConnectionFailedError as error:
                self._note_all(Status.DISCONNECTED, str(error), error.context.get("code"))
                self.last_problem = str(error)
                self._pause()
                self.failed_attempts += 1
                continue
            self.connections += 1
            self._client = client
            self._connected_since = time.monotonic()
            try:
                self._serve(client)
            finally:
                self._client = None
                self._by_request = {}
                client.shut()

    def _pause(self) -> None:
        """Wait before the next attempt: a second, then the delay, then twice that, and so on."""
        delay = self._settings.reconnect_delay
        if self.failed_attempts == 0:
            wait = min(1.0, delay)
        else:
            wait = min(delay * 2 ** (self.failed_attempts - 1), 10 * delay)
            wait *= random.uniform(0.75, 1.25)
        self._stopping.wait(wait)

    def _serve(self, client: Client) -> None:
        """Handle what happens on one connection, until it is over."""
        now = time.monotonic()
        self._heard, self._asked_for_life, self._broken = now, 0.0, ""
        for details in self._details.values():
            details.request = None
            for subscription in details.streams:
                subscription.request = None
                subscription.due = now
        while True:
            self._act(client)
            try:
                event = self._events.get(timeout=0.25)
            except queue.Empty:
                event = ("tick",)
            if self._stopping.is_set():
                self._unsubscribe_all(client)
                return
            if event[0] not in ("tick", "closed"):
                self._heard = time.monotonic()
            if event[0] == "closed":
                if not client.isConnected():
                    self._over("the connection was closed", 504)
                    return
            elif event[0] == "message":
                if not self._on_message(client, *event[1:]):
                    return
            elif event[0] == "contract":
                self._on_contract(*event[1:])
            elif event[0] == "contracts_end":
                self._on_contracts_end(*event[1:])
            elif event[0] == "alive":
                self._asked_for_life = 0.0
            if not self._watch(client):
                return

    def _over(self, reason: str, code: int) -> None:
        self.last_problem = reason
        # A connection that held for a while starts the waiting over.
        if time.monotonic() - self._connected_since > self._settings.reconnect_delay:
            self.failed_attempts = 0
        self._note_all(Status.DISCONNECTED, reason, code)
        if not self._stopping.is_set():
            self._pause()
        self.failed_attempts += 1

    def _unsubscribe_all(self, client: Client) -> None:
        for subscription in self._streams():
            if subscription.request is not None:
                client.unsubscribe(subscription.request)
                subscription.request = None

    # -- acting: what is due is asked for ----------------------------------------------------------

    def _act(self, client: Client) -> None:
        """Ask for details and subscriptions that are due, within IB's pace."""
        if self._broken:
            return
        for contract_id, details in self._details.items():
            now = time.monotonic()
            fresh = details.known and now - details.known < _DETAILS_FRESH
            waiting = details.request is not None and now - details.asked < _DETAILS_TIMEOUT
            if not fresh and not waiting and not details.refused:
                if now < self._next_send:
                    return
                if details.request is None or details.known == 0.0:
                    details.request = self._request_id()
                    details.asked = now
                    self._sent(now)
                    client.reqContractDetails(details.request, contract_of(contract_id, ""))
                    if details.known == 0.0 and details.exchange == "SMART":
                        continue
            if waiting and details.known == 0.0:
                continue
            for subscription in details.streams:
                now = time.monotonic()
                if subscription.request is not None or now < subscription.due:
                    continue
                apart = self._settings.same_contract_seconds
                if now - self._asked.get(contract_id, -apart) < apart:
                    break
                if now < self._next_send:
                    return
                self._subscribe(client, contract_id, details, subscription, now)

    def _subscribe(
        self,
        client: Client,
        contract_id: int,
        details: _Details,
        subscription: _Subscription,
        now: float,
    ) -> None:
        request = self._request_id()
        subscription.request = request
        subscription.renewed = now
        self._by_request = {**self._by_request, request: subscription}
        self._asked[contract_id] = now
        self._sent(now)
        subscription.recorder.note(Status.SUBSCRIBED, "subscribed")
        client.subscribe(
            request, contract_of(contract_id, details.exchange), subscription.recorder.tick_type
        )

    def _request_id(self) -> int:
        self._next_request += 1
        return self._next_request - 1

    def _sent(self, now: float) -> None:
        self._next_send = now + self._interval

    # -- hearing -----------------------------------------------------------------------------------

    def _on_contract(self, request: int, said: Any) -> None:
        for contract_id, details in self._details.items():
            if details.request == request and said.contract.conId == contract_id:
                contract = said.contract
                details.exchange = contract.exchange or details.exchange
                details.hours = parse_trading_hours(said.tradingHours, said.timeZoneId)
                record = ContractRecord(
                    contract_id,
                    contract.symbol,
                    contract.primaryExchange or contract.exchange,
                    contract.currency,
                    contract.secType,
                )
                for subscription in details.streams:
                    subscription.recorder.contract = record
                self._index.put_contracts([record])

    def _on_contracts_end(self, request: int) -> None:
        for details in self._details.values():
            if details.request == request:
                details.known = time.monotonic()

    def _on_message(self, client: Client, request: int, number: int, text: str) -> bool:
        """Act on a code; False when the connection is over."""
        code = meaning(number, text)
        action = code.action
        subscription = self._by_request.get(request)
        if subscription is None:
            subscription = self._details_refused(request, number, text)
        log = _log.info if action in (Action.NOTE, Action.RESTORED) else _log.warning
        log("IB %d (request %d): %s", number, request, text)
        reason = f"{code.text}: {text}" if code.text != text else text
        if action is Action.BROKEN:
            self._broken = reason
            self._note_all(Status.DISCONNECTED, reason, number)
        elif action is Action.RESTORED:
            if self._broken:
                self._broken = ""
                self._restore(reason, number)
        elif action is Action.RESUBSCRIBE_ALL:
            self._broken = ""
            self._resubscribe_all(client, reason, number)
        elif action is Action.RECONNECT:
            if number == 1300 and (match := _PORT.search(text)):
                self._port = int(match[1])
            self._over(reason, number)
            return False
        elif action is Action.SLOW_DOWN:
            self._interval = min(2 * self._interval, 1.0)
        elif subscription is not None:
            self._on_refusal(subscription, action, number, reason)
        return True

    def _details_refused(self, request: int, number: int, text: str) -> _Subscription | None:
        """A request for details that failed gives up the contract's streams, if it is final."""
        for contract_id, details in self._details.items():
            if details.request == request:
                if meaning(number, text).action is Action.GIVE_UP:
                    details.refused = True
                    for subscription in details.streams:
                        self._on_refusal(subscription, Action.GIVE_UP, number, text)
                else:
                    details.known = time.monotonic()
                _log.warning("contract %d: %s (%d)", contract_id, text, number)
        return None

    def _on_refusal(
        self, subscription: _Subscription, action: Action, number: int, reason: str
    ) -> None:
        """One stream's request failed; the others go on."""
        recorder = subscription.recorder
        if action is Action.NOTE:
            return
        now = time.monotonic()
        final = action is Action.GIVE_UP
        recorder.error(number, reason, recoverable=not final)
        subscription.request = None
        if final:
            subscription.given_up = True
            subscription.due = now + _RETRY_RARELY
            recorder.note(Status.NOT_PERMITTED, reason, number)
        elif action is Action.RETRY_SOON:
            subscription.due = now + 1.0
            recorder.note(Status.DISCONNECTED, reason, number)
        elif number == 10197:
            subscription.due = now + _RETRY_LATER
            recorder.note(Status.QUIET, reason, number)
        else:
            subscription.due = now + (_PACING_PAUSE if number == 420 else _RETRY_LATER)
            recorder.note(Status.NOT_PERMITTED, reason, number)

    def _resubscribe_all(self, client: Client, reason: str, number: int) -> None:
        del client  # IB has forgotten the subscriptions: there is nothing to cancel
        now = time.monotonic()
        self._by_request = {}
        self._asked = {}
        for subscription in self._streams():
            if not subscription.given_up:
                if subscription.recorder.state is State.CAPTURED:
                    subscription.recorder.note(Status.DISCONNECTED, reason, number)
                subscription.request = None
                subscription.due = now

    def _restore(self, reason: str, number: int) -> None:
        for subscription in self._streams():
            if subscription.request is not None:
                subscription.recorder.note(Status.RESTORED, reason, number)

    def _note_all(self, status: Status, reason: str, code: int | None) -> None:
        for subscription in self._streams():
            recorder = subscription.recorder
            refused = recorder.state is State.NOT_PERMITTED and subscription.given_up
            if recorder.state is not State.DISCONNECTED and not refused:
                recorder.note(status, reason, code)

    def _streams(self) -> list[_Subscription]:
        return [each for details in self._details.values() for each in details.streams]

    # -- watching ----------------------------------------------------------------------------------

    def _watch(self, client: Client) -> bool:
        """Look for silence; False when the connection has to be given up."""
        now = time.monotonic()
        last_tick = max((each.recorder.last_ns for each in self._streams()), default=0)
        quiet_for = min(now - self._heard, (time.time_ns() - last_tick) / 1e9)
        if self._asked_for_life:
            if now - self._asked_for_life > _SIGN_OF_LIFE and quiet_for > _SIGN_OF_LIFE:
                self._over("no sign of life: the connection is dead", 504)
                return False
        elif quiet_for > self._settings.heartbeat:
            self._asked_for_life = now
            client.reqCurrentTime()
        if not self._broken:
            self._look_for_silence(client, now)
        return True

    def _look_for_silence(self, client: Client, now: float) -> None:
        now_ns = time.time_ns()
        streams = [each for each in self._streams() if each.request is not None]
        patience = self._settings.quiet_after
        ticking = [
            each for each in streams if now_ns - each.recorder.last_ns < patience * 1_000_000_000
        ]
        for subscription in streams:
            recorder = subscription.recorder
            silent = now - max(subscription.renewed, recorder.silent_since)
            silent = min(silent, (now_ns - recorder.last_ns) / 1e9)
            hours = self._details[recorder.contract_id].hours
            is_open = None if hours is None else hours.is_open(now_ns)
            if is_open is False:
                if recorder.state is State.CAPTURED and silent > patience:
                    recorder.note(Status.SESSION_CLOSED, "outside of the trading hours IB gives")
                continue
            if recorder.state is State.SESSION_CLOSED:
                recorder.note(Status.RESTORED, "the session has begun")
                subscription.renewed = now
                continue
            rarer = _TRADES_ARE_RARER if recorder.tick_type in ("last", "all_last") else 1.0
            others = any(each is not subscription for each in ticking)
            if silent > patience * rarer and (others or is_open):
                if recorder.state is State.CAPTURED:
                    recorder.note(Status.QUIET, f"no tick for {silent:.0f} s")
                if others and now - subscription.renewed > max(_RETRY_LATER, patience):
                    client.unsubscribe(subscription.request or 0)
                    subscription.request = None
                    subscription.due = now
