"""Requests of clients to a gateway, as values.

Requests whose answer is always the same "nothing here" (positions, orders, executions, account
updates) are understood because ib_async asks them before it calls itself connected. Every other
request is :class:`Unknown`, which a gateway counts and otherwise ignores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from ibticks.errors import FormatError
from ibticks.gateway._contracts import ContractQuery
from ibticks.gateway._wire import (
    ACCOUNTS,
    BINARY_IDS,
    CANCELS,
    COMPLETED_ORDERS,
    CONTRACTS,
    EXECUTIONS,
    ORDERS,
    PROTOBUF_IDS,
    SETTINGS,
    TICKS,
    TIME_AND_IDS,
    fields_of,
    plain,
)
from ibticks.tws import parse_message

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "AskAccountUpdates",
    "AskAccountUpdatesMulti",
    "AskAccounts",
    "AskCompletedOrders",
    "AskContract",
    "AskExecutions",
    "AskHistoricalTicks",
    "AskIds",
    "AskOpenOrders",
    "AskPositions",
    "AskSettings",
    "AskTicks",
    "AskTime",
    "CancelHistoricalTicks",
    "CancelTicks",
    "Request",
    "StartApi",
    "Unknown",
    "parse",
    "versions_offered",
]


@dataclass(frozen=True, slots=True)
class StartApi:
    """The first request of every client: who it is."""

    client_id: int


@dataclass(frozen=True, slots=True)
class AskIds:
    """The next valid order id."""


@dataclass(frozen=True, slots=True)
class AskAccounts:
    """The accounts."""


@dataclass(frozen=True, slots=True)
class AskTime:
    """The gateway's clock, in seconds or in milliseconds."""

    millis: bool


@dataclass(frozen=True, slots=True)
class AskContract:
    """The contracts that match a description."""

    req_id: int
    contract: ContractQuery


@dataclass(frozen=True, slots=True)
class AskTicks:
    """A tick-by-tick subscription; ``tick_type`` as IB writes it, ``past`` ticks sent first."""

    req_id: int
    contract: ContractQuery
    tick_type: str
    past: int
    ignore_size: bool


@dataclass(frozen=True, slots=True)
class CancelTicks:
    """The end of a tick-by-tick subscription."""

    req_id: int


@dataclass(frozen=True, slots=True)
class AskHistoricalTicks:
    """A page of past ticks, from ``start`` on or up to ``end``, both in IB's notation."""

    req_id: int
    contract: ContractQuery
    start: str
    end: str
    count: int
    what: str
    regular_hours: bool
    ignore_size: bool


@dataclass(frozen=True, slots=True)
class CancelHistoricalTicks:
    """The page is not wanted any more."""

    req_id: int


@dataclass(frozen=True, slots=True)
class AskSettings:
    """The settings of TWS."""

    req_id: int


@dataclass(frozen=True, slots=True)
class AskPositions:
    """All positions."""


@dataclass(frozen=True, slots=True)
class AskOpenOrders:
    """Open orders."""


@dataclass(frozen=True, slots=True)
class AskCompletedOrders:
    """Completed orders."""


@dataclass(frozen=True, slots=True)
class AskAccountUpdates:
    """Updates of an account, from now on or no longer."""

    subscribe: bool
    account: str


@dataclass(frozen=True, slots=True)
class AskAccountUpdatesMulti:
    """Updates of an account or model."""

    req_id: int


@dataclass(frozen=True, slots=True)
class AskExecutions:
    """Executions of the day."""

    req_id: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """A request a gateway does not serve: its id and the rest of its fields."""

    message_id: int
    fields: tuple[str, ...]


Request: TypeAlias = (
    StartApi
    | AskIds
    | AskAccounts
    | AskTime
    | AskContract
    | AskTicks
    | CancelTicks
    | AskHistoricalTicks
    | CancelHistoricalTicks
    | AskPositions
    | AskSettings
    | AskOpenOrders
    | AskCompletedOrders
    | AskAccountUpdates
    | AskAccountUpdatesMulti
    | AskExecutions
    | Unknown
)

_ID_BYTES: Final = 4


def parse(payload: bytes, version: int) -> Request:
    r"""The request in a payload.

    Parameters
    ----------
    payload : bytes
    version : int
        Agreed server version. A request in Protocol Buffers that a TWS of this version does not
        know is :class:`Unknown`.

    Raises
    ------
    FormatError
        If it is cut short, or a number in it is none; ``context["req_id"]`` is the request's id,
        -1 where that cannot be read.

    Examples
    --------
    >>> parse(b"98\x0060001\x00", 200)
    CancelTicks(req_id=60001)
    >>> parse(b"\x00\x00\x00\x6260001\x00", 201)
    CancelTicks(req_id=60001)
    >>> parse(b"\x00\x00\x01\x2a\x08\x07", 208)
    CancelTicks(req_id=7)
    >>> parse(b"85\x00", 200)
    Unknown(message_id=85, fields=())
    """
    if version < BINARY_IDS:
        fields = _Fields(fields_of(payload))
        message_id = fields.whole()
    else:
        if len(payload) < _ID_BYTES:
            raise FormatError(f"a request of {len(payload)} bytes without an id", req_id=-1)
        message_id, body = int.from_bytes(payload[:_ID_BYTES], "big"), payload[_ID_BYTES:]
        if message_id > PROTOBUF_IDS:
            return _from_protobuf(message_id, body, version)
        fields = _Fields(fields_of(body) if body else [])
    reader = _READERS.get(message_id)
    if reader is None:
        return Unknown(message_id, tuple(fields.rest()))
    return reader(fields)


def versions_offered(payload: bytes) -> tuple[int, int]:
    """The lowest and highest server version a client can speak, as its first frame says.

    Raises
    ------
    FormatError
        If it says something else.

    Examples
    --------
    >>> versions_offered(b"v157..178")
    (157, 178)
    >>> versions_offered(b"v100..226 +PACEAPI")
    (100, 226)
    """
    text = payload.decode("ascii", "replace").split(" ")[0]
    lowest, _, highest = text.removeprefix("v").partition("..")
    if not (text.startswith("v") and lowest.isdecimal() and (highest or lowest).isdecimal()):
        raise FormatError(f"{text[:40]!r} where a client says which versions it speaks (v100..200)")
    return int(lowest), int(highest or lowest)


_Number = TypeVar("_Number", int, float)


class _Fields:
    """The fields of one request, taken from the front."""

    def __init__(self, fields: list[str]) -> None:
        self._fields = fields
        self._next = 0
        self.req_id = -1

    def text(self) -> str:
        if self._next == len(self._fields):
            raise FormatError(
                f"a request of {len(self._fields)} fields where there should be more",
                req_id=self.req_id,
            )
        self._next += 1
        return self._fields[self._next - 1]

    def whole(self) -> int:
        return self._number(int)

    def decimal(self) -> float:
        return self._number(float)

    def truth(self) -> bool:
        # ib_async writes Python's own words where a field is typed as anything but bool.
        return self.text() not in ("", "0", "False", "false")

    def request(self) -> int:
        self.req_id = self.whole()
        return self.req_id

    def skip(self) -> None:
        self.text()

    def contract(self) -> ContractQuery:
        return ContractQuery(
            self.whole(),
            self.text(),
            self.text(),
            self.text(),
            self.decimal(),
            self.text(),
            self.text(),
            self.text(),
            self.text(),
            self.text(),
            self.text(),
            self.text(),
        )

    def rest(self) -> list[str]:
        return self._fields[self._next :]

    def _number(self, kind: Callable[[str], _Number]) -> _Number:
        text = self.text()
        try:
            return kind(text or "0")
        except ValueError:
            raise FormatError(
                f"{text[:40]!r} where a request has a number", req_id=self.req_id
            ) from None


def _start_api(fields: _Fields) -> StartApi:
    fields.skip()
    return StartApi(fields.whole())


def _contract(fields: _Fields) -> AskContract:
    fields.skip()
    return AskContract(fields.request(), fields.contract())


def _ticks(fields: _Fields) -> AskTicks:
    return AskTicks(
        fields.request(), fields.contract(), fields.text(), fields.whole(), fields.truth()
    )


def _historical(fields: _Fields) -> AskHistoricalTicks:
    req_id, contract = fields.request(), fields.contract()
    fields.skip()  # whether expired contracts count
    return AskHistoricalTicks(
        req_id,
        contract,
        fields.text(),
        fields.text(),
        fields.whole(),
        fields.text(),
        fields.truth(),
        fields.truth(),
    )


def _account_updates(fields: _Fields) -> AskAccountUpdates:
    fields.skip()
    return AskAccountUpdates(fields.truth(), fields.text())


def _after_version(kind: Callable[[int], Request]) -> Callable[[_Fields], Request]:
    def read(fields: _Fields) -> Request:
        fields.skip()
        return kind(fields.request())

    return read


_READERS: Final[dict[int, Callable[[_Fields], Request]]] = {
    5: lambda _: AskOpenOrders(),
    6: _account_updates,
    7: _after_version(AskExecutions),
    8: lambda _: AskIds(),
    9: _contract,
    16: lambda _: AskOpenOrders(),
    17: lambda _: AskAccounts(),
    49: lambda _: AskTime(millis=False),
    61: lambda _: AskPositions(),
    71: _start_api,
    76: _after_version(AskAccountUpdatesMulti),
    96: _historical,
    97: _ticks,
    98: lambda fields: CancelTicks(fields.request()),
    99: lambda _: AskCompletedOrders(),
    105: lambda _: AskTime(millis=True),
    107: lambda fields: CancelHistoricalTicks(fields.request()),
}


def _from_protobuf(message_id: int, body: bytes, version: int) -> Request:
    since, name, read = _PROTOBUF_READERS.get(message_id - PROTOBUF_IDS, (version + 1, "", None))
    if read is None or version < since:
        return Unknown(message_id, ())
    return read(parse_message(name, body))


def _contract_query(contract: Any) -> ContractQuery:
    return ContractQuery(
        contract.conId,
        contract.symbol,
        contract.secType,
        contract.lastTradeDateOrContractMonth,
        contract.strike,
        contract.right,
        plain(contract.multiplier) if contract.HasField("multiplier") else "",
        contract.exchange,
        contract.primaryExch,
        contract.currency,
        contract.localSymbol,
        contract.tradingClass,
    )


_PROTOBUF_READERS: Final[dict[int, tuple[int, str, Callable[[Any], Request]]]] = {
    5: (ORDERS, "OpenOrdersRequest", lambda _: AskOpenOrders()),
    6: (
        ACCOUNTS,
        "AccountDataRequest",
        lambda message: AskAccountUpdates(message.subscribe, message.acctCode),
    ),
    7: (EXECUTIONS, "ExecutionRequest", lambda message: AskExecutions(message.reqId)),
    8: (TIME_AND_IDS, "IdsRequest", lambda _: AskIds()),
    9: (
        CONTRACTS,
        "ContractDataRequest",
        lambda message: AskContract(message.reqId, _contract_query(message.contract)),
    ),
    16: (ORDERS, "AllOpenOrdersRequest", lambda _: AskOpenOrders()),
    17: (ACCOUNTS, "ManagedAccountsRequest", lambda _: AskAccounts()),
    49: (TIME_AND_IDS, "CurrentTimeRequest", lambda _: AskTime(millis=False)),
    61: (ACCOUNTS, "PositionsRequest", lambda _: AskPositions()),
    71: (TIME_AND_IDS, "StartApiRequest", lambda message: StartApi(message.clientId)),
    76: (
        ACCOUNTS,
        "AccountUpdatesMultiRequest",
        lambda message: AskAccountUpdatesMulti(message.reqId),
    ),
    96: (
        TICKS,
        "HistoricalTicksRequest",
        lambda message: AskHistoricalTicks(
            message.reqId,
            _contract_query(message.contract),
            message.startDateTime,
            message.endDateTime,
            message.numberOfTicks,
            message.whatToShow,
            message.useRTH,
            message.ignoreSize,
        ),
    ),
    97: (
        TICKS,
        "TickByTickRequest",
        lambda message: AskTicks(
            message.reqId,
            _contract_query(message.contract),
            message.tickType,
            message.numberOfTicks,
            message.ignoreSize,
        ),
    ),
    98: (TICKS, "CancelTickByTick", lambda message: CancelTicks(message.reqId)),
    99: (COMPLETED_ORDERS, "CompletedOrdersRequest", lambda _: AskCompletedOrders()),
    105: (TIME_AND_IDS, "CurrentTimeInMillisRequest", lambda _: AskTime(millis=True)),
    107: (
        CANCELS,
        "CancelHistoricalTicks",
        lambda message: CancelHistoricalTicks(message.reqId),
    ),
    108: (SETTINGS, "ConfigRequest", lambda message: AskSettings(message.reqId)),
}
