"""Answers of a gateway to requests: contracts, times, and pages of historical ticks."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from ibticks._types import StreamKey
from ibticks.errors import InputError
from ibticks.gateway import _requests as requests
from ibticks.gateway import _wire as replies
from ibticks.gateway._contracts import matching
from ibticks.gateway._feed import Subscription
from ibticks.gateway._ticks import IB_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ibticks.gateway._contracts import ContractQuery, GatewayContract
    from ibticks.gateway._state import State
    from ibticks.gateway._ticks import TickStream

__all__ = [
    "MOST_TICKS",
    "WHAT",
    "Answer",
    "Answers",
    "ib_seconds",
    "in_hours",
    "now_ms",
    "page",
    "past",
]

MOST_TICKS: Final = 1000
"""Ticks a page holds at most, but for those that share a second."""

WHAT: Final = {"TRADES": ("all_last", "last"), "BID_ASK": ("bid_ask",), "MIDPOINT": ("mid_point",)}
"""Tick types a request for these data is served from, in this order."""


def ib_seconds(text: str, zone: tzinfo) -> int:
    """A time in IB's notation, as UTC seconds.

    Parameters
    ----------
    text : str
        ``20131008 09:30:00 US/Eastern``, ``20131008-13:30:00`` (UTC, also with a Z), or
        ``20131008 09:30:00``, which is meant in ``zone``.
    zone : tzinfo

    Raises
    ------
    InputError
        If it is not such a time.

    Examples
    --------
    >>> ib_seconds("20131008 09:30:00 US/Eastern", UTC) == ib_seconds("20131008-13:30:00", UTC)
    True
    """
    day, _, rest = text.strip().partition("-" if "-" in text[:9] else " ")
    clock, _, name = rest.strip().partition(" ")
    clock = clock.removesuffix("Z") if "-" in text[:9] else clock  # from server version 214 on
    try:
        names = zone if not name else ZoneInfo(name.strip())
        moment = datetime.strptime(f"{day} {clock}", "%Y%m%d %H:%M:%S")
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise InputError(
            f"{text!r} is not a time as IB writes it: yyyymmdd hh:mm:ss zone, or "
            "yyyymmdd-hh:mm:ss in UTC",
            text=text,
        ) from error
    return int(moment.replace(tzinfo=UTC if "-" in text[:9] else names).timestamp())


def page(
    stream: TickStream, *, start: int | None, end: int | None, count: int
) -> npt.NDArray[np.intp]:
    """Rows of a page, in the order of their seconds.

    Parameters
    ----------
    stream : TickStream
    start : int or None
        UTC seconds; the page begins with the first tick of this second, or of a later one.
    end : int or None
        UTC seconds; without a start, the page ends with the last tick before this second.
    count : int
        Ticks asked for; the second in which they are reached is given whole.
    """
    order = np.argsort(stream.seconds, kind="stable")
    seconds = stream.seconds[order]
    if start is not None:
        first = int(np.searchsorted(seconds, start))
        stop = len(seconds) if end is None else int(np.searchsorted(seconds, end))
        last = min(first + count, stop)
        if first < last:
            last = int(np.searchsorted(seconds, seconds[last - 1], "right"))
        return order[first : max(first, last)]
    last = len(seconds) if end is None else int(np.searchsorted(seconds, end))
    first = max(last - count, 0)
    if first < last:
        first = int(np.searchsorted(seconds, seconds[first]))
    return order[first:last]


def in_hours(stream: TickStream, hours: str, zone: str) -> TickStream:
    """The ticks in the hours of a contract, all of them if it does not say its hours.

    Parameters
    ----------
    stream : TickStream
    hours : str
        As IB writes them: ``20131008:0930-20131008:1600;20131009:CLOSED``.
    zone : str
        Their time zone.
    """
    if not hours:
        return stream
    place = ZoneInfo(zone)
    inside = np.zeros(stream.rows, dtype=np.bool_)
    for span in hours.split(";"):
        opens, _, closes = span.partition("-")
        if closes:
            start, end = (
                datetime.strptime(text, "%Y%m%d:%H%M").replace(tzinfo=place).timestamp()
                for text in (opens, closes)
            )
            inside |= (stream.seconds >= start) & (stream.seconds < end)
    return stream.take(np.flatnonzero(inside))


def past(progress_next: int, count: int) -> npt.NDArray[np.intp]:
    """Rows of the so many ticks before a row."""
    return np.arange(max(progress_next - count, 0), progress_next, dtype=np.intp)


_OUR_NAMES: Final = {name: ours for ours, name in IB_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Answer:
    """Messages to send at once, and the subscription that begins after them."""

    frames: tuple[bytes, ...] = ()
    begins: Subscription | None = None


class _Refused(Exception):  # noqa: N818
    """A request that is answered with an error: the code, and IB's words for it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


class Answers:
    """Answers the requests of one client.

    Parameters
    ----------
    state : State
    client_id : int
    version : int
        Agreed server version.
    subscriptions : mapping of int to Subscription
        Those that are alive, by request id.
    """

    def __init__(
        self,
        state: State,
        client_id: int,
        version: int,
        subscriptions: Mapping[int, Subscription],
    ) -> None:
        self._state = state
        self._client_id = client_id
        self._version = version
        self._subscriptions = subscriptions

    def to(self, request: requests.Request) -> Answer:
        """The answer to a request; nothing to one that is not served, which is counted."""
        if not isinstance(
            request, requests.AskTicks | requests.AskHistoricalTicks | requests.AskContract
        ):
            return Answer(self._plainly(request))
        try:
            match request:
                case requests.AskTicks():
                    return self._ticks(request)
                case requests.AskHistoricalTicks():
                    return Answer((self._history(request),))
                case requests.AskContract():
                    return Answer(self._describe(request))
        except _Refused as refused:
            return Answer((self._error(request.req_id, refused.code, refused.text),))

    def _plainly(self, request: requests.Request) -> tuple[bytes, ...]:
        version = self._version
        match request:
            case requests.AskTime(millis=True):
                return (replies.current_time_millis(version, now_ms()),)
            case requests.AskTime():
                return (replies.current_time(version, now_ms() // 1000),)
            case requests.AskIds():
                return (replies.next_valid_id(version, 1),)
            case requests.AskAccounts():
                return (replies.managed_accounts(version, self._state.accounts),)
            case requests.AskSettings(req_id):
                values = self._state.settings
                return (replies.settings(req_id, values),) if values is not None else ()
            case requests.AskPositions():
                return (replies.positions_end(version),)
            case requests.AskOpenOrders():
                return (replies.open_orders_end(version),)
            case requests.AskCompletedOrders():
                return (replies.completed_orders_end(version),)
            case requests.AskAccountUpdates(subscribe=True, account=account):
                return (replies.account_updates_end(version, account),)
            case requests.AskAccountUpdatesMulti(req_id):
                return (replies.account_updates_multi_end(version, req_id),)
            case requests.AskExecutions(req_id):
                return (replies.executions_end(version, req_id),)
            case requests.Unknown(message_id):
                self._state.unknown_requests[message_id] += 1
        return ()

    def _ticks(self, request: requests.AskTicks) -> Answer:
        state, req_id = self._state, request.req_id
        key = self._allowed(request)
        ignore_size = request.ignore_size and key.tick_type == "bid_ask"
        progress = state.positions.resume(self._client_id, key, ignore_size=ignore_size)
        if any(subscription.progress is progress for subscription in self._subscriptions.values()):
            progress = replace(progress)
        rows = state.replay.streams[key].price_changes() if ignore_size else None
        before: tuple[bytes, ...] = ()
        if request.past:
            earlier = past(progress.next, request.past)
            before = (progress.stream.history(self._version, req_id, earlier, done=True),)
        return Answer(before, Subscription(req_id, key, progress, rows))

    def _allowed(self, request: requests.AskTicks) -> StreamKey:
        """The stream a subscription is for, if IB would grant it."""
        state = self._state
        if request.req_id in self._subscriptions:
            raise _Refused(102, "Duplicate ticker ID.")
        contract = self._only(request.contract)
        now, since = time.monotonic(), state.asked.get(contract.contract_id)
        state.asked[contract.contract_id] = now
        wait = state.limits.seconds_between
        if wait is not None and since is not None and now - since < wait:
            raise _Refused(420, f"Invalid Real-time Query: one per instrument within {wait:g} s")
        key = StreamKey(contract.contract_id, _OUR_NAMES.get(request.tick_type, ""))
        if key not in state.replay.streams:
            raise _Refused(
                10189,
                "Failed to request tick-by-tick data: "
                f"{request.tick_type} tick-by-tick requests are not supported for "
                f"{contract.symbol}.",
            )
        refusal = state.refusal(key)
        if refusal is not None:
            raise _Refused(*refusal)
        if state.limits.streams is not None and state.subscriptions >= state.limits.streams:
            raise _Refused(10190, "Max number of tick-by-tick requests has been reached.")
        return key

    def _describe(self, request: requests.AskContract) -> tuple[bytes, ...]:
        req_id, result = request.req_id, matching(self._state.replay.contracts, request.contract)
        if not result:
            raise _Refused(200, _not_one(result))
        details = (replies.contract_details(self._version, req_id, value) for value in result)
        return (*details, replies.contract_details_end(self._version, req_id))

    def _history(self, request: requests.AskHistoricalTicks) -> bytes:
        contract = self._only(request.contract)
        refusal = self._state.page_refusal(contract.contract_id, request.what)
        if refusal is not None:
            raise _Refused(*refusal)
        stream = self._recorded(contract.contract_id, request.what)
        try:
            start, end = (
                ib_seconds(text, self._state.zone) if text else None
                for text in (request.start, request.end)
            )
        except InputError as error:
            raise _Refused(10314, str(error)) from error
        if request.regular_hours:
            stream = in_hours(stream, contract.liquid_hours, contract.time_zone)
        if request.ignore_size and stream.tick_type == "bid_ask":
            stream = stream.take(stream.price_changes())
        count = min(request.count, MOST_TICKS)
        rows = page(stream, start=start, end=end, count=count)
        if self._state.cuts_pages:
            rows = rows[-count:] if start is None else rows[:count]
        return stream.history(self._version, request.req_id, rows, done=True)

    def _recorded(self, contract_id: int, what: str) -> TickStream:
        for tick_type in WHAT.get(what, ()):
            if (contract_id, tick_type) in self._state.replay.streams:
                return self._state.replay.streams[contract_id, tick_type]
        raise _Refused(10187, f"Failed to request historical ticks: no {what} data")

    def _only(self, query: ContractQuery) -> GatewayContract:
        result = matching(self._state.replay.contracts, query)
        if len(result) != 1:
            raise _Refused(200, _not_one(result))
        return result[0]

    def _error(self, req_id: int, code: int, text: str) -> bytes:
        return replies.error(self._version, req_id, code, text, at_ms=now_ms())


def now_ms() -> int:
    """The clock, UTC milliseconds."""
    return time.time_ns() // 1_000_000


def _not_one(contracts: tuple[GatewayContract, ...]) -> str:
    if not contracts:
        return "No security definition has been found for the request"
    return f"The contract description specified for {contracts[0].symbol} is ambiguous."
