"""The TWS protocol as a gateway speaks it: frames, fields, and messages by server version."""

from __future__ import annotations

from decimal import Decimal
from math import isnan
from typing import TYPE_CHECKING, Final

from ibticks.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ibticks.gateway._contracts import GatewayContract

__all__ = [
    "HIGHEST_VERSION",
    "LOWEST_VERSION",
    "MAX_FRAME",
    "NO_REQUEST",
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
    "next_valid_id",
    "open_orders_end",
    "padding",
    "plain",
    "positions_end",
]

LOWEST_VERSION: Final = 157
"""The oldest server version the layouts here are written for."""
HIGHEST_VERSION: Final = 200
"""The newest server version that is text throughout."""
NO_REQUEST: Final = -1
"""The request id of a message that answers no request."""
_DATA_FARM_OK: Final = 2106

MAX_FRAME: Final = 1 << 20
"""Bytes of the longest frame a client may send; what any request needs is far below."""

_LENGTH: Final = 4


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
    text = "\0".join(field if isinstance(field, str) else plain(field) for field in fields)
    return frame(text.encode() + b"\0")


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


def next_valid_id(order_id: int) -> bytes:
    """The first order id a client may use."""
    return message(9, 1, order_id)


def managed_accounts(accounts: Sequence[str]) -> bytes:
    """The accounts, with commas in one field."""
    return message(15, 1, ",".join(accounts))


def current_time(seconds: int) -> bytes:
    """The gateway's clock, UTC seconds."""
    return message(49, 1, seconds)


def current_time_millis(milliseconds: int) -> bytes:
    """The gateway's clock, UTC milliseconds."""
    return message(109, milliseconds)


def error(
    version: int, req_id: int, code: int, text: str, *, at_ms: int, reject: str = ""
) -> bytes:
    r"""An error, a warning or a notice; ``req_id`` is -1 where it concerns no request.

    Parameters
    ----------
    version : int
        Agreed server version: it has a message version below 194, ``reject`` from 166 on, and the
        time from 194 on.
    req_id : int
        Request that the error concerns, or -1.
    code : int
        IB's error code.
    text : str
        The message.
    at_ms : int
        When it happened, UTC milliseconds.
    reject : str
        IB's ``advancedOrderRejectJson``.

    Examples
    --------
    >>> error(178, -1, 2104, "farm", at_ms=0)[4:]
    b'4\x002\x00-1\x002104\x00farm\x00\x00'
    >>> error(200, 7, 200, "No security definition", at_ms=5)[4:]
    b'4\x007\x00200\x00No security definition\x00\x005\x00'
    """
    body: tuple[str | int, ...] = (req_id, code, escaped(text))
    if version < 194:
        body = (2, *body)
    if version >= 166:
        body = (*body, escaped(reject))
    if version >= 194:
        body = (*body, at_ms)
    return message(4, *body)


def padding(version: int, size: int, *, at_ms: int) -> bytes:
    """A harmless notice of exactly that many bytes, frame and all.

    Examples
    --------
    >>> len(padding(200, 100, at_ms=1_700_000_000_000))
    100
    """
    bare = len(error(version, NO_REQUEST, _DATA_FARM_OK, "", at_ms=at_ms))
    return error(version, NO_REQUEST, _DATA_FARM_OK, "." * (size - bare), at_ms=at_ms)


def contract_details(version: int, req_id: int, contract: GatewayContract) -> bytes:
    """One contract, with everything IB says of it."""
    fields: list[str | int | float] = [10]
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
    return message(*fields)


def contract_details_end(req_id: int) -> bytes:
    """No more contracts for this request."""
    return message(52, 1, req_id)


def positions_end() -> bytes:
    """There are no positions."""
    return message(62, 1)


def open_orders_end() -> bytes:
    """There are no open orders."""
    return message(53, 1)


def completed_orders_end() -> bytes:
    """There are no completed orders."""
    return message(102)


def account_updates_end(account: str) -> bytes:
    """There is nothing to say of the account."""
    return message(54, 1, account)


def account_updates_multi_end(req_id: int) -> bytes:
    """There is nothing to say of the account or model."""
    return message(74, 1, req_id)


def executions_end(req_id: int) -> bytes:
    """There are no executions."""
    return message(55, 1, req_id)
