"""What is asked of IB, and when: streams and contract details, at IB's pace."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

from ibticks.capture._settings import FIRST_REQUEST
from ibticks.coverage import StreamStatus
from ibticks.index import ContractRecord
from ibticks.tws import TradingHours, contract_of, parse_trading_hours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ibticks.capture._recorder import Recorder
    from ibticks.capture._settings import CaptureSettings
    from ibticks.tws import Client

__all__ = ["Subscription", "Subscriptions", "TrackedDetails"]

_log = logging.getLogger(__name__)
_DETAILS_TIMEOUT: Final = 15.0
_DETAILS_FRESH: Final = 12 * 3600.0
_SLOWEST: Final = 2.0
_TOO_MANY_WITHIN: Final = 1.0  # seconds over which IB counts
_DROPPED_WITHIN: Final = 2.0
_REPEAT_AFTER: Final = 1.0
_MOST_REPEATS: Final = 8


@dataclass(slots=True)
class Subscription:
    """One stream on the present connection.

    Attributes
    ----------
    recorder : Recorder
    request : int or None
        Its request id, while it is subscribed.
    due : float
        When it may be subscribed (monotonic seconds).
    repeats : int
        How often in a row it was refused for no good reason.
    since : float
        When it was subscribed.
    heard : float
        When its last tick was noticed, or it was subscribed.
    has_logged_wait : bool
        Whether it was logged that the stream waits for another one of its contract.
    """

    recorder: Recorder
    request: int | None = None
    due: float = 0.0
    repeats: int = 0
    since: float = -inf
    heard: float = -inf
    has_logged_wait: bool = False
    _latest: int | None = None
    _is_answered: bool = False
    _ticks: int = 0

    def begin(self, request: int, now: float) -> None:
        """Subscribe the stream by a new request."""
        self._latest, self._is_answered = request, False
        self.request = request
        self.since = self.heard = now

    def is_latest(self, request: int) -> bool:
        """Return whether a request is the last one the stream was subscribed by."""
        return request == self._latest

    def accepts(self, request: int) -> bool:
        """Return whether a tick of this request belongs to the stream.

        A request that was cancelled has ticks on their way until the server reads of it. They come
        before the first tick of the next request, since a connection keeps the order; after that
        one they would be there twice.
        """
        if request == self._latest:
            self._is_answered = True
            return True
        return not self._is_answered

    def listen(self, now: float) -> bool:
        """Whether ticks have come since it was asked last."""
        if self.recorder.ticks == self._ticks:
            return False
        self._ticks = self.recorder.ticks
        self.heard = now
        self.repeats = 0
        return True


@dataclass(slots=True)
class TrackedDetails:
    """One contract: what IB said of it, and its streams."""

    contract_id: int
    record: ContractRecord | None
    exchange: str
    hours: TradingHours | None = None
    liquid_hours: TradingHours | None = None
    request: int | None = None
    asked: float = -inf
    known: float = -inf
    refused: bool = False
    streamed: float = -inf
    streams: list[Subscription] = field(default_factory=list)

    def due(self) -> float:
        """When its details should be asked for."""
        if self.refused:
            return inf
        # Asked and not answered: soon again. Answered: trading hours are told for some days.
        return max(self.asked + 4 * _DETAILS_TIMEOUT, self.known + _DETAILS_FRESH)

    def ready(self) -> float:
        """When its streams may be asked for: once it is known where it trades."""
        if self.refused:
            return inf
        if self.record is not None or self.known > -inf:
            return -inf
        return self.asked + _DETAILS_TIMEOUT if self.asked > -inf else inf


class Subscriptions:
    """Every contract and stream of a capture, and what is due of them.

    Parameters
    ----------
    settings : CaptureSettings
    recorders : sequence of Recorder
    known : dict of int to ContractRecord
        Contracts that were resolved before.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        recorders: Sequence[Recorder],
        known: dict[int, ContractRecord],
    ) -> None:
        self._apart = settings.same_contract_seconds
        self._usual_interval = self._interval = 1.0 / settings.requests_per_second
        self._next_send = -inf
        self._next_request = FIRST_REQUEST
        self._to_cancel: deque[int] = deque()
        self.by_request: dict[int, Subscription] = {}
        self.contracts: dict[int, TrackedDetails] = {}
        for recorder in recorders:
            record = known.get(recorder.contract_id)
            recorder.contract = record
            exchange = record.exchange if record is not None and record.exchange else "SMART"
            self.contracts.setdefault(
                recorder.contract_id, TrackedDetails(recorder.contract_id, record, exchange)
            ).streams.append(Subscription(recorder))

    def __iter__(self) -> Iterator[Subscription]:
        return (each for details in self.contracts.values() for each in details.streams)

    def forget(self, now: float) -> None:
        """Begin anew: the server knows of no subscription; all are due."""
        self.by_request = {}
        self._to_cancel.clear()
        self._interval = self._usual_interval
        for details in self.contracts.values():
            details.request = None
            details.streamed = -inf
            details.refused = False
            if details.known == -inf:
                details.asked = -inf
        for subscription in self:
            self.drop(subscription, now)

    def ask(self, client: Client, now: float) -> float:
        """Send what is due, as far as IB's pace allows; in how many seconds there may be more."""
        later = inf
        for at, send in self._wishes():
            if at > now:
                later = min(later, at)
            elif now < self._next_send:
                return self._next_send - now
            else:
                self._next_send = now + self._interval
                send(client, now)
        self._log_waits(now)
        return max(later - now, 0.0)

    def _wishes(self) -> Iterator[tuple[float, Callable[[Client, float], None]]]:
        """What is to be sent and when; the streams first, as their ticks go by meanwhile."""
        if self._to_cancel:
            yield -inf, self._cancel
        for details in self.contracts.values():
            for each in details.streams:
                if each.request is None:
                    due = max(each.due, details.ready(), details.streamed + self._apart)
                    yield due, partial(self._subscribe, details, each)
        for details in self.contracts.values():
            yield details.due(), partial(self._resolve, details)

    def _log_waits(self, now: float) -> None:
        """Log, once for each stream, that it waits for IB's limit on requests for a contract."""
        for details in self.contracts.values():
            wait = details.streamed + self._apart - now
            if wait <= 0 or details.ready() > now:
                continue
            waiting = (each for each in details.streams if each.request is None and each.due <= now)
            following = next(waiting, None)
            if following is not None and not following.has_logged_wait:
                following.has_logged_wait = True
                symbol = details.record.symbol if details.record is not None else ""
                _log.info(
                    "waiting %.3g s before %s %s: IB allows one request for a contract in %g s",
                    wait,
                    symbol or details.contract_id,
                    following.recorder.tick_type,
                    self._apart,
                )

    def _cancel(self, client: Client, now: float) -> None:
        client.unsubscribe(self._to_cancel.popleft())

    def _subscribe(
        self, details: TrackedDetails, subscription: Subscription, client: Client, now: float
    ) -> None:
        request = self._take_request()
        recorder = subscription.recorder
        recorder.note(StreamStatus.SUBSCRIBED, "subscribed")
        subscription.listen(now)
        details.streamed = now
        # The client's thread reads it: replaced as a whole, never changed. A stream has its last
        # request and the one before, whose ticks may still be on their way.
        others = {
            number: other
            for number, other in self.by_request.items()
            if other is not subscription or other.is_latest(number)
        }
        subscription.begin(request, now)
        self.by_request = {**others, request: subscription}
        client.subscribe(
            request, contract_of(details.contract_id, details.exchange), recorder.tick_type
        )

    def _resolve(self, details: TrackedDetails, client: Client, now: float) -> None:
        details.request = self._take_request()
        details.asked = now
        client.reqContractDetails(details.request, contract_of(details.contract_id, ""))

    def _take_request(self) -> int:
        self._next_request += 1
        return self._next_request - 1

    # -- what was asked, and is to be asked again --------------------------------------------------

    def slow_down(self, now: float) -> None:
        """Send half as many requests a second; what IB may have dropped is due again."""
        self._interval = min(2 * self._interval, _SLOWEST)
        self._next_send = now + _TOO_MANY_WITHIN
        for details in self.contracts.values():
            if details.known < details.asked and now - details.asked < _DROPPED_WITHIN:
                details.asked = -inf
        for each in self:
            is_new = each.request is not None and now - each.since < _DROPPED_WITHIN
            if is_new and not each.listen(now):
                self.renew(each, now)

    def repeat(self, subscription: Subscription, now: float) -> None:
        """A stream was refused for no good reason: it is due soon, and later from time to time."""
        repeats = subscription.repeats
        self.drop(subscription, now + _REPEAT_AFTER * 2 ** min(repeats, _MOST_REPEATS))
        subscription.repeats = repeats + 1

    def resubscribe(self, subscription: Subscription, now: float) -> None:
        """Cancel a stream that IB has ended, and subscribe it anew: soon, and at IB's pace.

        IB may still know the request, and then take no new one for the contract: it is cancelled
        first. Where no tick came since the last time, it waits longer from time to time.
        """
        subscription.listen(now)
        if subscription.request is not None:
            self.cancel(subscription.request)
        self.repeat(subscription, now)

    def drop(self, subscription: Subscription, due: float) -> None:
        """A stream is not subscribed any more; when it is due again."""
        subscription.request = None
        subscription.due = due

    def renew(self, subscription: Subscription, due: float) -> None:
        """Cancel a stream, of which IB may know, and have it subscribed anew."""
        if subscription.request is not None:
            self.cancel(subscription.request)
        self.drop(subscription, due)

    def cancel(self, request: int) -> None:
        """Have a stream cancelled, when it is its turn."""
        self._to_cancel.append(request)

    def cancel_all(self, client: Client) -> None:
        """Cancel every stream: the capture ends."""
        for subscription in self:
            if subscription.request is not None:
                client.unsubscribe(subscription.request)
                subscription.request = None

    # -- what IB says of contracts -----------------------------------------------------------------

    def asked_for(self, request: int) -> TrackedDetails | None:
        """The contract whose details a request was for."""
        return next((d for d in self.contracts.values() if d.request == request), None)

    def learn(self, request: int, said: Any) -> ContractRecord | None:
        """Take in a contract's details; the record that is to be kept, if they are of ours."""
        details = self.asked_for(request)
        contract = said.contract
        if details is None or contract.conId != details.contract_id:
            return None
        details.exchange = contract.exchange or details.exchange
        details.hours = parse_trading_hours(said.tradingHours, said.timeZoneId)
        details.liquid_hours = parse_trading_hours(said.liquidHours, said.timeZoneId)
        details.record = ContractRecord(
            details.contract_id,
            contract.symbol,
            contract.exchange or contract.primaryExchange,
            contract.currency,
            contract.secType,
        )
        for subscription in details.streams:
            subscription.recorder.contract = details.record
        return details.record
