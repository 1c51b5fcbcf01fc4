"""The TWS protocol as a gateway speaks it: frames, fields, and messages by server version.

Up to server version 200 a message is text throughout: its id and its fields, each ended by NUL.
From 201 on the id is four bytes; a message in Protocol Buffers has its id plus 200. A reply is one
from the version on in which ibapi sends its request so (``getServerVersionForMessage``); errors are
from 203 on, with orders. IB documents no versions for replies, and ibapi reads either.
"""

from __future__ import annotations

from decimal import Decimal
from math import isnan
from typing import TYPE_CHECKING, Any, Final

from ibticks.errors import FormatError
from ibticks.tws import message_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ibticks.gateway._contracts import GatewayContract

__all__ = [
    "ACCOUNTS",
    "BINARY_IDS",
    "CANCELS",
    "COMPLETED_ORDERS",
    "CONTRACTS",
    "EXECUTIONS",
    "HIGHEST_TEXT_VERSION",
    "HIGHEST_VERSION",
    "LOWEST_VERSION",
    "MAX_FRAME",
    "NO_REQUEST",
    "ORDERS",
    "PROTOBUF_IDS",
    "SETTINGS",
    "TICKS",
    "TIME_AND_IDS",
    "FrameReader",
    "account_updates_end",
    "account_updates_multi_end",
    "completed_orders_end",
    "contract_details",
    "contract_details_end",
    "current_time",
    "current_time_millis",
    "error",
    "escaped",
    "executions_end",
    "fields_of",
    "frame",
    "greeting",
    "managed_accounts",
    "message",
    "message_head",
    "next_valid_id",
    "open_orders_end",
    "padding",
    "plain",
    "positions_end",
    "protobuf",
    "reply",
    "settings",
]

LOWEST_VERSION: Final = 157
"""The oldest server version the layouts here are written for."""
HIGHEST_TEXT_VERSION: Final = 200
"""The newest server version that is text throughout."""
HIGHEST_VERSION: Final = 226
"""The newest server version, that of ibapi 10.51."""

BINARY_IDS: Final = 201
"""The server version from which on a message id is four bytes."""
EXECUTIONS: Final = 201
ORDERS: Final = 203
COMPLETED_ORDERS: Final = 204
CONTRACTS: Final = 205
ACCOUNTS: Final = 207
TICKS: Final = 208
TIME_AND_IDS: Final = 213
CANCELS: Final = 215
SETTINGS: Final = 219
"""The server versions from which on these messages are Protocol Buffers, as are all later ones."""
PROTOBUF_IDS: Final = 200
"""Offset of the ids of messages in Protocol Buffers."""

NO_REQUEST: Final = -1
"""The request id of a message that answers no request."""
_DATA_FARM_OK: Final = 2106
_FITTING_STEPS: Final = 4

MAX_FRAME: Final = 1 << 20
"""Bytes of the longest frame a client may send; what any request needs is far below."""

_LENGTH: Final = 4
_ID: Final = 4


def frame(payload: bytes) -> bytes:
    r"""A payload with its length before it.

    Examples
    --------
    >>> frame(b"49\x00")
    b'\x00\x00\x00\x0349\x00'
    """
    return len(payload).to_bytes(_LENGTH, "big") + payload


def message(*fields: str | int | float) -> bytes:
    r"""A whole frame of fields; a number is written in plain decimal, a truth as 0 or 1.

    Examples
    --------
    >>> message(9, 1, 7)
    b'\x00\x00\x00\x069\x001\x007\x00'
    """
    return frame(_join_fields(fields))


def _join_fields(fields: Iterable[str | float]) -> bytes:
    """Fields, each ended by NUL."""
    texts = (field if isinstance(field, str) else plain(field) for field in fields)
    return "".join(f"{text}\0" for text in texts).encode()


def message_head(version: int, number: int) -> bytes:
    r"""A message id in the layout of a server version.

    Examples
    --------
    >>> message_head(200, 99), message_head(201, 99)
    (b'99\x00', b'\x00\x00\x00c')
    """
    return b"%d\0" % number if version < BINARY_IDS else number.to_bytes(_ID, "big")


def reply(version: int, number: int, *fields: str | float) -> bytes:
    r"""A frame of a message id and text fields, in the layout of a server version.

    Examples
    --------
    >>> reply(200, 9, 1, 7)
    b'\x00\x00\x00\x069\x001\x007\x00'
    >>> reply(201, 9, 1, 7)
    b'\x00\x00\x00\x08\x00\x00\x00\t1\x007\x00'
    """
    return frame(message_head(version, number) + _join_fields(fields))


def protobuf(number: int, name: str, **values: Any) -> bytes:
    r"""A frame of a message in Protocol Buffers.

    Parameters
    ----------
    number : int
        Message id, without the 200 that are added to it.
    name : str
        Its name in IB's schemas.
    **values : Any
        Its fields; those of a message within it as a dictionary.

    Examples
    --------
    >>> protobuf(9, "NextValidId", orderId=7)
    b'\x00\x00\x00\x06\x00\x00\x00\xd1\x08\x07'
    """
    body: bytes = message_class(name)(**values).SerializeToString()
    return frame(message_head(BINARY_IDS, number + PROTOBUF_IDS) + body)


def fields_of(payload: bytes) -> list[str]:
    r"""The fields of a payload.

    Raises
    ------
    FormatError
        If the last field does not end in NUL.

    Examples
    --------
    >>> fields_of(b"97\x0060001\x00\x00")
    ['97', '60001', '']
    """
    if not payload.endswith(b"\0"):
        raise FormatError(f"a payload of {len(payload)} bytes whose last field does not end in NUL")
    return payload[:-1].decode("utf-8", "backslashreplace").split("\0")


def plain(number: float) -> str:
    """A number as IB writes it: shortest text that reads back the same, never an exponent.

    NaN, a value that is not there, is written as 0.

    Examples
    --------
    >>> plain(182.1), plain(300.0), plain(9e-05), plain(True), plain(float("nan"))
    ('182.1', '300', '0.00009', '1', '0')
    """
    if isinstance(number, int) or number.is_integer():
        return str(int(number))
    if isnan(number):
        return "0"
    text = repr(number)
    return format(Decimal(text), "f") if "e" in text else text


def escaped(text: str) -> str:
    r"""Text that clients decode as ``unicode-escape``: pure ASCII, backslashes doubled.

    Examples
    --------
    >>> escaped("Zürich \\ Ω")
    'Z\\xfcrich \\\\ \\u03a9'
    """
    return text.encode("unicode-escape").decode("ascii")


class FrameReader:
    r"""Payloads out of bytes as they arrive, however they are cut.

    Examples
    --------
    >>> reader = FrameReader()
    >>> list(reader.feed(b"\x00\x00\x00\x0349"))
    []
    >>> list(reader.feed(b"\x00"))
    [b'49\x00']
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that are whole once these bytes have come.

        Raises
        ------
        FormatError
            If a frame says it is longer than the limit; ``context["length"]`` is what it says.
        """
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH:
            length = int.from_bytes(buffer[:_LENGTH], "big")
            if length > self._limit:
                raise FormatError(
                    f"a frame of {length} bytes, more than the {self._limit} a request may have: "
                    "the other side does not speak the TWS protocol",
                    length=length,
                )
            end = _LENGTH + length
            if len(buffer) < end:
                return
            payload = bytes(buffer[_LENGTH:end])
            del buffer[:end]
            yield payload


def greeting(version: int, connected_at: str) -> bytes:
    """The agreed server version and the time of connection.

    ibapi throws away what arrives together with it, and waits for ever if it arrives in pieces.
    """
    return message(str(version), connected_at)


def next_valid_id(version: int, order_id: int) -> bytes:
    """The first order id a client may use."""
    if version >= TIME_AND_IDS:
        return protobuf(9, "NextValidId", orderId=order_id)
    return reply(version, 9, 1, order_id)


def managed_accounts(version: int, accounts: Sequence[str]) -> bytes:
    """The accounts, with commas in one field."""
    text = ",".join(accounts)
    if version >= ACCOUNTS:
        return protobuf(15, "ManagedAccounts", accountsList=text)
    return reply(version, 15, 1, text)


def current_time(version: int, seconds: int) -> bytes:
    """The gateway's clock, UTC seconds."""
    if version >= TIME_AND_IDS:
        return protobuf(49, "CurrentTime", currentTime=seconds)
    return reply(version, 49, 1, seconds)


def current_time_millis(version: int, milliseconds: int) -> bytes:
    """The gateway's clock, UTC milliseconds."""
    if version >= TIME_AND_IDS:
        return protobuf(109, "CurrentTimeInMillis", currentTimeInMillis=milliseconds)
    return reply(version, 109, milliseconds)


def error(
    version: int, req_id: int, code: int, text: str, *, at_ms: int, reject: str | None = ""
) -> bytes:
    r"""An error, a warning or a notice; ``req_id`` is -1 where it concerns no request.

    Parameters
    ----------
    version : int
        Agreed server version: it has a message version below 194, ``reject`` from 166 on, the
        time from 194 on, and is Protocol Buffers from 203 on.
    req_id : int
        Request that the error concerns, or -1.
    code : int
        IB's error code.
    text : str
        The message.
    at_ms : int
        When it happened, UTC milliseconds.
    reject : str or None
        IB's ``advancedOrderRejectJson``; None leaves it out of Protocol Buffers.

    Examples
    --------
    >>> error(178, -1, 2104, "farm", at_ms=0)[4:]
    b'4\x002\x00-1\x002104\x00farm\x00\x00'
    >>> error(200, 7, 200, "No security definition", at_ms=5)[4:]
    b'4\x007\x00200\x00No security definition\x00\x005\x00'
    >>> error(226, 7, 200, "Zürich", at_ms=5)[8:]
    b'\x08\x07\x10\x05\x18\xc8\x01"\x07Z\xc3\xbcrich*\x00'
    """
    if version >= ORDERS:
        return protobuf(
            4,
            "ErrorMessage",
            id=req_id,
            errorCode=code,
            errorMsg=text,
            errorTime=at_ms,
            advancedOrderRejectJson=reject,
        )
    body: tuple[str | int, ...] = (req_id, code, escaped(text))
    if version < 194:
        body = (2, *body)
    if version >= 166:
        body = (*body, escaped(reject or ""))
    if version >= 194:
        body = (*body, at_ms)
    return reply(version, 4, *body)


def padding(version: int, size: int, *, at_ms: int) -> bytes:
    """A harmless notice of exactly that many bytes, frame and all.

    Examples
    --------
    >>> len(padding(200, 100, at_ms=1_700_000_000_000))
    100
    >>> {len(padding(226, size, at_ms=1_700_000_000_000)) - size for size in range(64, 20_000, 7)}
    {0}
    """
    # In Protocol Buffers the length of a text takes one byte more from 128 and 16384 bytes on:
    # the size that lies between is reached with one more field.
    for reject in ("", None):
        dots = 0
        for _ in range(_FITTING_STEPS):
            notice = error(
                version, NO_REQUEST, _DATA_FARM_OK, "." * dots, at_ms=at_ms, reject=reject
            )
            if len(notice) == size:
                return notice
            dots += size - len(notice)
    raise AssertionError(f"no notice has {size} bytes")


def contract_details(version: int, req_id: int, contract: GatewayContract) -> bytes:
    """One contract, with everything IB says of it."""
    if version >= CONTRACTS:
        return _contract_data(req_id, contract)
    fields: list[str | int | float] = []
    if version < 164:
        fields.append(8)
    fields += [req_id, contract.symbol, contract.sec_type, contract.last_trade_date]
    if version >= 182:
        fields.append(contract.last_trade_date)
    fields += [
        contract.strike,
        contract.right,
        contract.exchange,
        contract.currency,
        contract.local_symbol or contract.symbol,
        contract.market_name or contract.symbol,
        contract.trading_class or contract.symbol,
        contract.contract_id,
        contract.min_tick,
    ]
    if version < 164:
        fields.append(1)  # size multiplier of market data
    fields += [
        contract.multiplier,
        contract.order_types,
        contract.valid_exchanges or contract.exchange,
        1,  # price magnifier
        0,  # contract id of the underlying
        escaped(contract.long_name),
        contract.primary_exchange,
        contract.last_trade_date[:6],
        "",  # industry
        "",  # category
        "",  # subcategory
        contract.time_zone,
        contract.trading_hours,
        contract.liquid_hours,
        "",  # economic value rule
        0,  # and its multiplier
        0,  # security ids
        1,  # group of smart components
        "",  # symbol of the underlying
        "",  # and its type
        "",  # market rules
        contract.last_trade_date,
        contract.stock_type if contract.sec_type == "STK" else "",
    ]
    if version == 163:
        fields.append(contract.size_increment)
    if version >= 164:
        fields += [contract.size_increment] * 3
    if version >= 179 and contract.sec_type == "FUND":
        fields += [""] * 17
    if version >= 186:
        fields.append(0)  # reasons why it cannot be traded
    return reply(version, 10, *fields)


def _contract_data(req_id: int, contract: GatewayContract) -> bytes:
    description: dict[str, Any] = {
        "conId": contract.contract_id,
        "symbol": contract.symbol,
        "secType": contract.sec_type,
        "lastTradeDateOrContractMonth": contract.last_trade_date,
        "lastTradeDate": contract.last_trade_date,
        "strike": contract.strike,
        "right": contract.right,
        "exchange": contract.exchange,
        "primaryExch": contract.primary_exchange,
        "currency": contract.currency,
        "localSymbol": contract.local_symbol or contract.symbol,
        "tradingClass": contract.trading_class or contract.symbol,
    }
    if contract.multiplier:
        description["multiplier"] = float(contract.multiplier)
    increment = plain(contract.size_increment)
    details = {
        "marketName": contract.market_name or contract.symbol,
        "minTick": plain(contract.min_tick),
        "orderTypes": contract.order_types,
        "validExchanges": contract.valid_exchanges or contract.exchange,
        "priceMagnifier": 1,
        "longName": contract.long_name,
        "contractMonth": contract.last_trade_date[:6],
        "timeZoneId": contract.time_zone,
        "tradingHours": contract.trading_hours,
        "liquidHours": contract.liquid_hours,
        "aggGroup": 1,
        "realExpirationDate": contract.last_trade_date,
        "stockType": contract.stock_type if contract.sec_type == "STK" else "",
        "minSize": increment,
        "sizeIncrement": increment,
        "suggestedSizeIncrement": increment,
    }
    return protobuf(10, "ContractData", reqId=req_id, contract=description, contractDetails=details)


def contract_details_end(version: int, req_id: int) -> bytes:
    """No more contracts for this request."""
    if version >= CONTRACTS:
        return protobuf(52, "ContractDataEnd", reqId=req_id)
    return reply(version, 52, 1, req_id)


def settings(req_id: int, values: Mapping[str, str | bool]) -> bytes:
    """Settings of the API, and of the automatic exit, by IB's names."""
    leave = {name: value for name, value in values.items() if name.startswith("autoLogoff")}
    api = {name: value for name, value in values.items() if name not in leave}
    return protobuf(110, "ConfigResponse", reqId=req_id, api={"settings": api}, lockAndExit=leave)


def positions_end(version: int) -> bytes:
    """There are no positions."""
    return protobuf(62, "PositionEnd") if version >= ACCOUNTS else reply(version, 62, 1)


def open_orders_end(version: int) -> bytes:
    """There are no open orders."""
    return protobuf(53, "OpenOrdersEnd") if version >= ORDERS else reply(version, 53, 1)


def completed_orders_end(version: int) -> bytes:
    """There are no completed orders."""
    if version >= COMPLETED_ORDERS:
        return protobuf(102, "CompletedOrdersEnd")
    return reply(version, 102)


def account_updates_end(version: int, account: str) -> bytes:
    """There is nothing to say of the account."""
    if version >= ACCOUNTS:
        return protobuf(54, "AccountDataEnd", accountName=account)
    return reply(version, 54, 1, account)


def account_updates_multi_end(version: int, req_id: int) -> bytes:
    """There is nothing to say of the account or model."""
    if version >= ACCOUNTS:
        return protobuf(74, "AccountUpdateMultiEnd", reqId=req_id)
    return reply(version, 74, 1, req_id)


def executions_end(version: int, req_id: int) -> bytes:
    """There are no executions."""
    if version >= EXECUTIONS:
        return protobuf(55, "ExecutionDetailsEnd", reqId=req_id)
    return reply(version, 55, 1, req_id)
