"""One connection to TWS: its messages, the reaction to each, and its watchdog."""

from __future__ import annotations

import logging
import queue
import re
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ibticks.coverage import CoverageState, StreamStatus, closed_reason
from ibticks.tws import NO_TICKS, Action, Outages, TwsEvents, find_code

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from ibticks.capture._settings import CaptureSettings
    from ibticks.capture._subscriptions import Subscription, Subscriptions, TrackedDetails
    from ibticks.index import Index
    from ibticks.tws import Client, TickSink

__all__ = ["ConnectionHandler", "Disconnect", "Watchdog"]

_log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 300.0
_RETRY_REFUSED_SECONDS: Final = 3600.0
_PACING_PAUSE_SECONDS: Final = 15.0
_STRAY_PAUSE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.25
_PORT: Final = re.compile(r"port\D{0,20}(\d{2,5})", re.IGNORECASE)
_COMPETING_SESSION: Final = 10197
_PACING: Final = 420
_MOVED: Final = 1300
_NOT_CONNECTED: Final = 504

_RENEW_AFTER_SECONDS: Final = 300.0
# Trades of a calm contract are far apart in an open market; quotes are not.
_TRADE_SILENCE_FACTOR: Final = 10.0


class Watchdog:
    """Liveness checks of one connection and its streams; for the supervisor's thread alone.

    Parameters
    ----------
    settings : CaptureSettings
    subscriptions : Subscriptions
    """

    def __init__(self, settings: CaptureSettings, subscriptions: Subscriptions) -> None:
        self._heartbeat_seconds = settings.heartbeat
        self._quiet_seconds = settings.quiet_after
        self._subscriptions = subscriptions
        self._last_message = 0.0
        self._heartbeat_sent: float | None = None

    def note_message(self, now: float) -> None:
        """Note that the server has sent something."""
        self._last_message = now
        self._heartbeat_sent = None

    def is_dead(self, client: Client, now: float) -> bool:
        """Return whether the server has stopped answering; a heartbeat is requested first."""
        for subscription in self._subscriptions:
            if subscription.has_new_ticks(now):
                self.note_message(now)
        if self._heartbeat_sent is not None:
            return now - self._heartbeat_sent > self._heartbeat_seconds
        if now - self._last_message > self._heartbeat_seconds:
            self._heartbeat_sent = now
            client.reqCurrentTime()
        return False

    def check_silence(self, now: float) -> None:
        """Note the state of every stream that is silent, or whose market has closed or opened."""
        now_ns = time.time_ns()
        streams = {
            stream: details
            for details in self._subscriptions.contracts.values()
            for stream in details.streams
            if stream.request is not None
        }
        others_tick = any(
            stream.last_tick > stream.since and now - stream.last_tick <= self._quiet_seconds
            for stream in streams
        )
        for stream, details in streams.items():
            state = stream.recorder.state
            is_open = None if details.hours is None else details.hours.is_open(now_ns)
            if is_open is False:
                is_silent = now - stream.last_tick > self._quiet_seconds
                if is_silent and state in (CoverageState.CAPTURED, CoverageState.QUIET):
                    opens_ns = details.hours.next_open(now_ns) if details.hours else None
                    stream.recorder.note(StreamStatus.SESSION_CLOSED, closed_reason(opens_ns))
            elif state is CoverageState.SESSION_CLOSED:
                stream.recorder.note(StreamStatus.RESTORED, "the session has begun")
                stream.last_tick = now
            elif others_tick or _is_busy(details, now_ns):
                self._check_stream(stream, now)

    def _check_stream(self, subscription: Subscription, now: float) -> None:
        """Note that a stream is silent and should not be; after a while, subscribe it anew."""
        recorder = subscription.recorder
        is_trades = recorder.tick_type in ("last", "all_last")
        limit = self._quiet_seconds * (_TRADE_SILENCE_FACTOR if is_trades else 1.0)
        silence = now - subscription.last_tick
        if silence <= limit:
            return
        if recorder.state is CoverageState.CAPTURED:
            recorder.note(
                StreamStatus.QUIET, f"no tick for {silence:.0f} s while the market is open"
            )
        if now - subscription.since > max(_RENEW_AFTER_SECONDS, limit):
            self._subscriptions.renew(subscription, now)


def _is_busy(details: TrackedDetails, now_ns: int) -> bool:
    """Return whether a contract surely trades; outside of liquid hours it may well be calm."""
    hours = details.liquid_hours or details.hours
    return hours is not None and bool(hours.is_open(now_ns))


class Disconnect(NamedTuple):
    """Reason for the end of a connection, and the port TWS announced for the next one, if any."""

    reason: str
    code: int
    port: int | None = None


class ConnectionHandler(TwsEvents):
    """Receiver of one connection, and the loop that reacts to what it brings.

    Parameters
    ----------
    settings : CaptureSettings
    subscriptions : Subscriptions
    index : Index
        Where contracts are stored.
    on_failure : callable
        Called with the place and the exception of each callback that raises.
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
        self._on_failure = on_failure
        self._events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._next_stray_report: dict[int, float] = {}
        self._watchdog = Watchdog(settings, subscriptions)
        self.outages: Final = Outages()

    # -- callbacks, in the client's thread ---------------------------------------------------------

    def ticks(self, request: int) -> TickSink:
        """Return the recorder of a request; ticks of a cancelled one are discarded."""
        subscription = self._subscriptions.by_request.get(request)
        if subscription is not None and subscription.accepts(request):
            return subscription.recorder
        self._report_stray(request)
        return NO_TICKS

    def _report_stray(self, request: int) -> None:
        """Have a stream cancelled again whose cancellation IB has not processed."""
        now = time.monotonic()
        if now >= self._next_stray_report.get(request, now):
            self._next_stray_report[request] = now + _STRAY_PAUSE_SECONDS
            self._events.put(("stray", request))

    def contract_details(self, request: int, details: Any) -> None:
        """Queue the details of a contract."""
        self._events.put(("contract_details", request, details))

    def contract_details_end(self, request: int) -> None:
        """Queue the end of the details of a contract."""
        self._events.put(("contract_details_end", request))

    def message(self, request: int, code: int, text: str) -> None:
        """Queue an error or a notice."""
        self._events.put(("message", request, code, text))

    def current_time(self) -> None:
        """Queue the answer to a heartbeat."""
        self._events.put(("current_time",))

    def closed(self) -> None:
        """Queue the end of the connection."""
        self._events.put(("closed",))

    def callback_failed(self, where: str, error: Exception) -> None:
        """Report an exception of a callback."""
        self._on_failure(where, error)

    # -- reactions, in the supervisor's thread -----------------------------------------------------

    def wake(self) -> None:
        """Make :meth:`serve` check whether it has to stop; from any thread."""
        self._events.put(("",))

    def serve(self, client: Client, stopping: Event) -> Disconnect | None:
        """Send requests and react to events until the connection ends.

        Returns None if ``stopping`` is set.
        """
        now = time.monotonic()
        self._watchdog.note_message(now)
        self._subscriptions.reset(now)
        while not stopping.is_set():
            pause = _POLL_SECONDS
            if not self.outages.is_ib_lost and not client.is_lost:
                pause = min(pause, self._subscriptions.send_due(client, time.monotonic()))
            try:
                event, *arguments = self._events.get(timeout=pause)
            except queue.Empty:
                event, arguments = "", []
            disconnect = self._handle(client, event, arguments)
            if disconnect is None and not client.is_lost:
                disconnect = self._check_liveness(client)
            if disconnect is not None:
                return disconnect
        self._subscriptions.cancel_all(client)
        return None

    def note_all(self, status: StreamStatus, reason: str, code: int) -> None:
        """Note a status in every stream that is not disconnected or refused already."""
        for subscription in self._subscriptions:
            recorder = subscription.recorder
            if recorder.state not in (CoverageState.DISCONNECTED, CoverageState.NOT_PERMITTED):
                recorder.note(status, reason, code)

    def _check_liveness(self, client: Client) -> Disconnect | None:
        now = time.monotonic()
        if self._watchdog.is_dead(client, now):
            return Disconnect("heartbeat timeout: the connection is dead", _NOT_CONNECTED)
        if not self.outages:
            self._watchdog.check_silence(now)
        return None

    def _handle(self, client: Client, event: str, arguments: list[Any]) -> Disconnect | None:
        """React to an event; return the reason if it ends the connection."""
        if event:
            self._watchdog.note_message(time.monotonic())
        if event == "closed":
            return Disconnect(client.problem or "the connection was closed", _NOT_CONNECTED)
        if event == "message":
            return self._on_message(*arguments)
        if event == "contract_details":
            record = self._subscriptions.apply_details(*arguments)
            if record is not None:
                for index in {self._index, *self._subscriptions.indexes(record.contract_id)}:
                    index.put_contracts([record])
        elif event == "contract_details_end":
            details = self._subscriptions.find_details(*arguments)
            if details is not None:
                details.answered_at = time.monotonic()
        elif event == "stray":
            self._subscriptions.cancel(*arguments)
        return None

    def _on_message(self, request: int, number: int, text: str) -> Disconnect | None:
        code = find_code(number, text)
        is_harmless = code.action in (Action.NOTE, Action.RESTORED)
        _log.log(
            logging.INFO if is_harmless else logging.WARNING,
            "IB %d (%d): %s",
            number,
            request,
            text,
        )
        reason = text if code.text in text else f"{code.text}: {text}"
        match code.action:
            case Action.BROKEN:
                self.outages.begin(number, text)
                self.note_all(StreamStatus.DISCONNECTED, reason, number)
            case Action.RESTORED:
                if self.outages.end(number, text):
                    self._note_restored(reason, number)
            case Action.RESUBSCRIBE_ALL:
                # IB has dropped the subscriptions: there is nothing to cancel.
                self.outages.end(number, text)
                self._resubscribe_all(reason, number)
            case Action.RECONNECT:
                return Disconnect(
                    reason, number, _announced_port(text) if number == _MOVED else None
                )
            case Action.SLOW_DOWN:
                self._subscriptions.slow_down(time.monotonic())
            case Action.NOTE:
                pass
            case _:
                self._on_refusal(request, code.action, number, reason)
        return None

    def _resubscribe_all(self, reason: str, number: int) -> None:
        for subscription in self._subscriptions:
            if subscription.request is not None:
                subscription.recorder.note(StreamStatus.DISCONNECTED, reason, number)
        self._subscriptions.reset(time.monotonic())

    def _note_restored(self, reason: str, number: int) -> None:
        for subscription in self._subscriptions:
            if subscription.request is not None:
                subscription.recorder.note(StreamStatus.RESTORED, reason, number)

    def _on_refusal(self, request: int, action: Action, number: int, reason: str) -> None:
        """React to the refusal of one stream, or of the details of one contract."""
        subscription = self._subscriptions.by_request.get(request)
        if subscription is not None:
            # The refusal of a request that was replaced is of no consequence.
            if subscription.is_latest(request):
                self._refuse(subscription, action, number, reason)
            return
        details = self._subscriptions.find_details(request)
        if details is None:
            return
        if action is Action.GIVE_UP:
            details.refused = True
            for stream in details.streams:
                self._refuse(stream, action, number, reason)
        else:
            # Its streams are tried with the details known so far.
            details.answered_at = time.monotonic()

    def _refuse(self, subscription: Subscription, action: Action, number: int, reason: str) -> None:
        recorder = subscription.recorder
        now = time.monotonic()
        recorder.error(number, reason, recoverable=action is not Action.GIVE_UP)
        if action is Action.GIVE_UP:
            self._subscriptions.drop(subscription, now + _RETRY_REFUSED_SECONDS)
            recorder.note(StreamStatus.NOT_PERMITTED, reason, number)
        elif action is Action.RESUBSCRIBE:
            self._subscriptions.resubscribe(subscription, now)
            recorder.note(StreamStatus.DISCONNECTED, reason, number)
        elif action is Action.RETRY_SOON:
            self._subscriptions.retry_with_backoff(subscription, now)
            recorder.note(StreamStatus.DISCONNECTED, reason, number)
        elif number == _COMPETING_SESSION:
            # The subscription might resume by itself, and then every tick would come twice.
            self._subscriptions.renew(subscription, now + _RETRY_SECONDS)
            recorder.note(StreamStatus.QUIET, reason, number)
        else:
            wait = _PACING_PAUSE_SECONDS if number == _PACING else _RETRY_SECONDS
            self._subscriptions.drop(subscription, now + wait)
            recorder.note(StreamStatus.NOT_PERMITTED, reason, number)


def _announced_port(text: str) -> int | None:
    """Return the port that TWS announces for the next connection."""
    match = _PORT.search(text)
    return int(match[1]) if match and 0 < int(match[1]) < 65536 else None
