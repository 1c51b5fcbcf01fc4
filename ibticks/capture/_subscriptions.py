"""Requests for streams and contract details, sent within the pacing limits of IB."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

from ibticks.capture._settings import FIRST_REQUEST_ID
from ibticks.coverage import StreamStatus
from ibticks.index import ContractRecord
from ibticks.tws import TradingHours, make_contract, parse_trading_hours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ibticks.capture._recorder import Recorder
    from ibticks.capture._settings import CaptureSettings
    from ibticks.index import Index
    from ibticks.tws import Client

__all__ = ["Subscription", "Subscriptions", "TrackedDetails"]

_log = logging.getLogger(__name__)
_DETAILS_TIMEOUT_SECONDS: Final = 15.0
_DETAILS_REFRESH_SECONDS: Final = 12 * 3600.0
_MAX_INTERVAL_SECONDS: Final = 2.0
_RATE_WINDOW_SECONDS: Final = 1.0  # IB counts messages over it
_MAYBE_DROPPED_SECONDS: Final = 2.0
_BACKOFF_SECONDS: Final = 1.0
_MAX_DOUBLINGS: Final = 8


@dataclass(slots=True, eq=False)
class Subscription:
    """The subscription of one stream on the current connection.

    Attributes
    ----------
    recorder : Recorder
    request : int or None
        Request id while it is subscribed.
    due : float
        Earliest time of the next request (monotonic seconds).
    retries : int
        Refusals in a row without a tick between them.
    since : float
        Time of the last request.
    last_tick : float
        Time at which the last tick was noticed; at first that of the request.
    has_logged_wait : bool
        Whether the wait for another stream of the contract was logged.
    """

    recorder: Recorder
    request: int | None = None
    due: float = 0.0
    retries: int = 0
    since: float = -inf
    last_tick: float = -inf
    has_logged_wait: bool = False
    _latest: int | None = None
    _is_answered: bool = False
    _seen_ticks: int = 0

    def begin(self, request: int, now: float) -> None:
        """Note that the stream is subscribed by a new request."""
        self._latest, self._is_answered = request, False
        self.request = request
        self.since = self.last_tick = now

    def is_latest(self, request: int) -> bool:
        """Return whether a request is the last one of the stream."""
        return request == self._latest

    def accepts(self, request: int) -> bool:
        """Return whether a tick of this request belongs to the stream.

        A cancelled request has ticks in flight until the server processes the cancellation. They
        arrive before the first tick of the next request, since a connection keeps the order; after
        that one they would be stored twice.
        """
        if request == self._latest:
            self._is_answered = True
            return True
        return not self._is_answered

    def has_new_ticks(self, now: float) -> bool:
        """Return whether ticks have arrived since the last call, and note the time if so."""
        if self.recorder.ticks == self._seen_ticks:
            return False
        self._seen_ticks = self.recorder.ticks
        self.last_tick = now
        self.retries = 0
        return True


@dataclass(slots=True)
class TrackedDetails:
    """One contract: its details at IB, and its streams.

    Attributes
    ----------
    contract_id : int
    record : ContractRecord or None
        Symbol, exchange and currency, once they are known.
    exchange : str
        Where its ticks are requested from.
    hours, liquid_hours : TradingHours or None
    request : int or None
        Request id of its details.
    requested_at, answered_at : float
        When its details were requested and received last (monotonic seconds).
    refused : bool
        Whether IB knows no such contract.
    streamed_at : float
        When one of its streams was subscribed last.
    streams : list of Subscription
    """

    contract_id: int
    record: ContractRecord | None
    exchange: str
    hours: TradingHours | None = None
    liquid_hours: TradingHours | None = None
    request: int | None = None
    requested_at: float = -inf
    answered_at: float = -inf
    refused: bool = False
    streamed_at: float = -inf
    streams: list[Subscription] = field(default_factory=list)

    def due(self) -> float:
        """Return the time at which its details should be requested."""
        if self.refused:
            return inf
        # Without an answer: soon again. The trading hours of an answer cover some days.
        return max(
            self.requested_at + 4 * _DETAILS_TIMEOUT_SECONDS,
            self.answered_at + _DETAILS_REFRESH_SECONDS,
        )

    def ready(self) -> float:
        """Return the time from which its streams may be requested: once its exchange is known."""
        if self.refused:
            return inf
        if self.record is not None or self.answered_at > -inf:
            return -inf
        return self.requested_at + _DETAILS_TIMEOUT_SECONDS if self.requested_at > -inf else inf


class Subscriptions:
    """The contracts and streams of a capture, and the requests that are due for them.

    Methods run in the supervisor's thread, except :meth:`add` and :meth:`remove`: one lock guards
    the contracts and their streams, and is held while requests are sent. The client's thread reads
    :attr:`by_request` alone.

    Parameters
    ----------
    settings : CaptureSettings
    recorders : sequence of Recorder
    known : dict of int to ContractRecord
        Contracts that were resolved before.

    Attributes
    ----------
    by_request : dict of int to Subscription
        Subscribed streams; replaced as a whole, never changed.
    contracts : dict of int to TrackedDetails
        Replaced as a whole, never changed, as are the streams of each.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        recorders: Sequence[Recorder],
        known: dict[int, ContractRecord],
    ) -> None:
        self._contract_interval = settings.same_contract_seconds
        self._normal_interval = self._interval = 1.0 / settings.requests_per_second
        self._next_send = -inf
        self._next_request = FIRST_REQUEST_ID
        self._to_cancel: deque[int] = deque()
        self.by_request: dict[int, Subscription] = {}
        self.contracts: dict[int, TrackedDetails] = {}
        self._lock = threading.Lock()
        for recorder in recorders:
            self.add(recorder, known.get(recorder.contract_id))

    def add(self, recorder: Recorder, record: ContractRecord | None = None) -> None:
        """Add a stream, which is subscribed next; from any thread.

        Parameters
        ----------
        recorder : Recorder
        record : ContractRecord, optional
            Contract that was resolved before.
        """
        number = recorder.contract_id
        with self._lock:
            details = self.contracts.get(number)
            if details is None:
                exchange = record.exchange if record is not None and record.exchange else "SMART"
                details = TrackedDetails(number, record, exchange)
            recorder.contract = details.record
            details.streams = [*details.streams, Subscription(recorder)]
            self.contracts = {**self.contracts, number: details}

    def remove(self, recorder: Recorder) -> None:
        """Remove a stream, which is cancelled next; from any thread."""
        number = recorder.contract_id
        with self._lock:
            details = self.contracts[number]
            (removed,) = (stream for stream in details.streams if stream.recorder is recorder)
            details.streams = [stream for stream in details.streams if stream is not removed]
            if not details.streams:
                self.contracts = {
                    other: left for other, left in self.contracts.items() if other != number
                }
            self.by_request = {
                request: stream
                for request, stream in self.by_request.items()
                if stream is not removed
            }
            if removed.request is not None:
                self.cancel(removed.request)
                removed.request = None

    def __iter__(self) -> Iterator[Subscription]:
        return (stream for details in self.contracts.values() for stream in details.streams)

    def indexes(self, contract_id: int) -> Iterator[Index]:
        """Yield the indexes of the stores that the streams of a contract are copied to."""
        details = self.contracts.get(contract_id)
        for stream in () if details is None else details.streams:
            for copy in stream.recorder.copies:
                yield copy.index

    def reset(self, now: float) -> None:
        """Make every stream due: the server has no subscription."""
        with self._lock:
            self._reset(now)

    def _reset(self, now: float) -> None:
        self.by_request = {}
        self._to_cancel.clear()
        self._interval = self._normal_interval
        for details in self.contracts.values():
            details.request = None
            details.streamed_at = -inf
            details.refused = False
            if details.answered_at == -inf:
                details.requested_at = -inf
        for subscription in self:
            self.drop(subscription, now)

    def send_due(self, client: Client, now: float) -> float:
        """Send the requests that are due, within the pacing limits.

        Returns
        -------
        float
            Seconds until the next request may be due.
        """
        with self._lock:
            return self._send_due(client, now)

    def _send_due(self, client: Client, now: float) -> float:
        next_due = inf
        for due, send in self._requests():
            if due > now:
                next_due = min(next_due, due)
            elif now < self._next_send:
                return self._next_send - now
            else:
                self._next_send = now + self._interval
                send(client, now)
        self._log_waits(now)
        return max(next_due - now, 0.0)

    def _requests(self) -> Iterator[tuple[float, Callable[[Client, float], None]]]:
        """Yield requests with their due times; streams first, since unrequested ticks are lost."""
        if self._to_cancel:
            yield -inf, self._cancel
        for details in self.contracts.values():
            for stream in details.streams:
                if stream.request is None:
                    spaced = details.streamed_at + self._contract_interval
                    due = max(stream.due, details.ready(), spaced)
                    yield due, partial(self._subscribe, details, stream)
        for details in self.contracts.values():
            yield details.due(), partial(self._resolve, details)

    def _log_waits(self, now: float) -> None:
        """Log, once for each stream, the wait for IB's limit on requests for a contract."""
        for details in self.contracts.values():
            wait = details.streamed_at + self._contract_interval - now
            if wait <= 0 or details.ready() > now:
                continue
            streams = details.streams
            waiting = (stream for stream in streams if stream.request is None and stream.due <= now)
            first = next(waiting, None)
            if first is not None and not first.has_logged_wait:
                first.has_logged_wait = True
                symbol = details.record.symbol if details.record is not None else ""
                _log.info(
                    "waiting %.3g s before %s %s: IB allows one request for a contract in %g s",
                    wait,
                    symbol or details.contract_id,
                    first.recorder.tick_type,
                    self._contract_interval,
                )

    def _cancel(self, client: Client, now: float) -> None:
        client.unsubscribe(self._to_cancel.popleft())

    def _subscribe(
        self, details: TrackedDetails, subscription: Subscription, client: Client, now: float
    ) -> None:
        request = self._take_request()
        recorder = subscription.recorder
        recorder.server = client.server_settings
        recorder.note(StreamStatus.SUBSCRIBED, "subscribed")
        subscription.has_new_ticks(now)
        details.streamed_at = now
        # The client's thread reads the dict: it is replaced as a whole, never changed. A stream has
        # its last request and the one before, whose ticks may still be in flight.
        others = {
            number: other
            for number, other in self.by_request.items()
            if other is not subscription or other.is_latest(number)
        }
        subscription.begin(request, now)
        self.by_request = {**others, request: subscription}
        client.subscribe(
            request, make_contract(details.contract_id, details.exchange), recorder.tick_type
        )

    def _resolve(self, details: TrackedDetails, client: Client, now: float) -> None:
        details.request = self._take_request()
        details.requested_at = now
        client.reqContractDetails(details.request, make_contract(details.contract_id, ""))

    def _take_request(self) -> int:
        self._next_request += 1
        return self._next_request - 1

    # -- requests that failed ----------------------------------------------------------------------

    def slow_down(self, now: float) -> None:
        """Halve the rate of requests, and repeat those that IB may have dropped."""
        self._interval = min(2 * self._interval, _MAX_INTERVAL_SECONDS)
        self._next_send = now + _RATE_WINDOW_SECONDS
        for details in self.contracts.values():
            is_open = details.answered_at < details.requested_at
            if is_open and now - details.requested_at < _MAYBE_DROPPED_SECONDS:
                details.requested_at = -inf
        for stream in self:
            is_new = stream.request is not None and now - stream.since < _MAYBE_DROPPED_SECONDS
            if is_new and not stream.has_new_ticks(now):
                self.renew(stream, now)

    def retry_with_backoff(self, subscription: Subscription, now: float) -> None:
        """Make a refused stream due again; the delay doubles from refusal to refusal."""
        retries = subscription.retries
        self.drop(subscription, now + _BACKOFF_SECONDS * 2 ** min(retries, _MAX_DOUBLINGS))
        subscription.retries = retries + 1

    def resubscribe(self, subscription: Subscription, now: float) -> None:
        """Cancel a stream that IB has ended, and make it due again with a backoff.

        IB may still know the request, and then accepts no new one for the contract: it is cancelled
        first. Ticks since the last request reset the backoff.
        """
        subscription.has_new_ticks(now)
        if subscription.request is not None:
            self.cancel(subscription.request)
        self.retry_with_backoff(subscription, now)

    def drop(self, subscription: Subscription, due: float) -> None:
        """Note that a stream is not subscribed, and the time at which it is due again."""
        subscription.request = None
        subscription.due = due

    def renew(self, subscription: Subscription, due: float) -> None:
        """Cancel a stream that IB may still serve, and make it due again."""
        if subscription.request is not None:
            self.cancel(subscription.request)
        self.drop(subscription, due)

    def cancel(self, request: int) -> None:
        """Queue the cancellation of a request."""
        self._to_cancel.append(request)

    def cancel_all(self, client: Client) -> None:
        """Cancel every stream at once, at the end of the capture."""
        for subscription in self:
            if subscription.request is not None:
                client.unsubscribe(subscription.request)
                subscription.request = None

    # -- contract details --------------------------------------------------------------------------

    def find_details(self, request: int) -> TrackedDetails | None:
        """Return the contract whose details a request was for."""
        return next((d for d in self.contracts.values() if d.request == request), None)

    def apply_details(self, request: int, ib_details: Any) -> ContractRecord | None:
        """Store the details of a contract; return its record, if the contract is tracked."""
        details = self.find_details(request)
        contract = ib_details.contract
        if details is None or contract.conId != details.contract_id:
            return None
        details.exchange = contract.exchange or details.exchange
        details.hours = parse_trading_hours(ib_details.tradingHours, ib_details.timeZoneId)
        details.liquid_hours = parse_trading_hours(ib_details.liquidHours, ib_details.timeZoneId)
        details.record = ContractRecord(
            details.contract_id,
            contract.symbol,
            contract.exchange or contract.primaryExchange,
            contract.currency,
            contract.secType,
        )
        for subscription in details.streams:
            for recorder in (subscription.recorder, *subscription.recorder.copies):
                recorder.contract = details.record
        return details.record
