"""What is asked of IB, and when: details first, then streams, at IB's pace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ibticks.capture.client import contract_of
from ibticks.capture.hours import TradingHours, parse_trading_hours
from ibticks.capture.settings import FIRST_REQUEST
from ibticks.index.records import ContractRecord
from ibticks.storage.states import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ibticks.capture.client import Client
    from ibticks.capture.recorder import Recorder
    from ibticks.capture.settings import CaptureSettings

__all__ = ["Subscription", "Subscriptions", "TrackedDetails"]

_DETAILS_TIMEOUT: Final = 15.0
_DETAILS_FRESH: Final = 12 * 3600.0
_NEVER: Final = float("-inf")
_SLOWEST: Final = 1.0


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
    given_up : bool
        IB refused it for good.
    since : float
        When it was subscribed.
    """

    recorder: Recorder
    request: int | None = None
    due: float = 0.0
    given_up: bool = False
    since: float = _NEVER


@dataclass(slots=True)
class TrackedDetails:
    """One contract: what IB said of it, and its streams."""

    contract_id: int
    record: ContractRecord | None
    exchange: str
    hours: TradingHours | None = None
    request: int | None = None
    asked: float = _NEVER
    known: float = _NEVER
    refused: bool = False
    streamed: float = _NEVER
    streams: list[Subscription] = field(default_factory=list)

    def wants(self, now: float) -> bool:
        """Whether its details should be asked for."""
        patience = _DETAILS_FRESH if self.known > _NEVER else 4 * _DETAILS_TIMEOUT
        return not self.refused and now - max(self.known, self.asked) > patience

    def waits(self, now: float) -> bool:
        """Whether its first details are on their way."""
        return self.known == _NEVER and now - self.asked < _DETAILS_TIMEOUT


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
        self._interval = 1.0 / settings.requests_per_second
        self._next_send = _NEVER
        self._next_request = FIRST_REQUEST
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
        for details in self.contracts.values():
            details.request = None
            details.streamed = _NEVER
            details.refused = False
            if details.known == _NEVER:
                details.asked = _NEVER
        for subscription in self:
            subscription.request = None
            subscription.given_up = False
            subscription.due = now

    def ask(self, client: Client, now: float) -> None:
        """Send what is due, as far as IB's pace allows."""
        for details in self.contracts.values():
            if details.wants(now):
                if not self._may_send(now):
                    return
                details.request = self._take_request(now)
                details.asked = now
                client.reqContractDetails(details.request, contract_of(details.contract_id, ""))
            if details.waits(now) or details.refused:
                continue
            for subscription in details.streams:
                if subscription.request is not None or now < subscription.due:
                    continue
                if now - details.streamed < self._apart:
                    break
                if not self._may_send(now):
                    return
                self._subscribe(client, details, subscription, now)

    def _subscribe(
        self, client: Client, details: TrackedDetails, subscription: Subscription, now: float
    ) -> None:
        request = self._take_request(now)
        recorder = subscription.recorder
        recorder.note(Status.SUBSCRIBED, "subscribed")
        subscription.request, subscription.since = request, now
        details.streamed = now
        # The client's thread reads it: replaced as a whole, never changed.
        self.by_request = {**self.by_request, request: subscription}
        client.subscribe(
            request, contract_of(details.contract_id, details.exchange), recorder.tick_type
        )

    def _may_send(self, now: float) -> bool:
        return now >= self._next_send

    def _take_request(self, now: float) -> int:
        self._next_send = now + self._interval
        self._next_request += 1
        return self._next_request - 1

    def slow_down(self) -> None:
        """Send half as many requests a second from now on."""
        self._interval = min(2 * self._interval, _SLOWEST)

    def drop(self, subscription: Subscription, due: float) -> None:
        """A stream is not subscribed any more; when it is due again."""
        subscription.request = None
        subscription.due = due

    def renew(self, client: Client, subscription: Subscription, now: float) -> None:
        """Cancel a stream and have it subscribed anew."""
        if subscription.request is not None:
            client.unsubscribe(subscription.request)
        self.drop(subscription, now)

    def cancel_all(self, client: Client) -> None:
        """Cancel every stream: the capture ends."""
        for subscription in self:
            if subscription.request is not None:
                client.unsubscribe(subscription.request)
                subscription.request = None

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
