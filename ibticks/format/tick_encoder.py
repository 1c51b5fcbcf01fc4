"""One tick to one frame, in microseconds and without a compiler: what capture calls.

The frame is byte for byte what the protobuf runtime would write, and what
:mod:`ibticks.format.encode` writes for whole columns. What stays the same from tick to tick (the
stream, the contract, the tags, the current second) is encoded once.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from ibticks.config import NANOSECONDS
from ibticks.format.fields import check_tick_type

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TickEncoder", "varint"]

_LENGTH: Final = Struct(">I").pack
_QUOTE: Final = Struct("<BdBdBdBd").pack  # bid_price, bid_size, ask_price, ask_size
_TRADE: Final = Struct("<BdBd").pack  # price, size
_MID: Final = Struct("<Bd").pack
_LAST_SEVEN_BITS: Final = tuple(bytes((i,)) for i in range(128))
_FOURTEEN_BITS: Final = tuple(
    bytes((low | 0x80, high | 0x80)) for high in range(128) for low in range(128)
)
_UINT64: Final = (1 << 64) - 1
# Tags and values of two flags, by whether each is set.
_TRADE_FLAGS: Final = tuple(bytes((0x68, a, 0x70, b)) for a in (0, 1) for b in (0, 1))
_QUOTE_FLAGS: Final = tuple(bytes((0x78, a, 0x80, 0x01, b)) for a in (0, 1) for b in (0, 1))


def varint(value: int) -> bytes:
    """A number as protobuf writes it; a negative one as its 64-bit two's complement.

    Examples
    --------
    >>> varint(300).hex(), len(varint(-1))
    ('ac02', 10)
    """
    if value < 0:
        value &= _UINT64
    if value < 0x80:
        return _LAST_SEVEN_BITS[value]
    encoded = b""
    while value >= 0x4000:
        encoded += _FOURTEEN_BITS[value & 0x3FFF]
        value >>= 14
    if value >= 0x80:
        return encoded + bytes((value & 0x7F | 0x80, value >> 7))
    return encoded + _LAST_SEVEN_BITS[value]


class TickEncoder:
    """Encodes the ticks of one stream, one at a time.

    Parameters
    ----------
    contract_id : int
    tick_type : str
    stream_id : str

    Examples
    --------
    >>> from ibticks.format.decode import decode
    >>> encoder = TickEncoder(8314, "mid_point", "8314_mid_point")
    >>> frame = encoder.mid_point(1_381_239_000_000_000_000, 181.5, 1, 1_381_239_000)
    >>> decode(frame, ["mid_price"]).numbers("mid_price")
    array([181.5])
    """

    def __init__(self, contract_id: int, tick_type: str, stream_id: str) -> None:
        kind = check_tick_type(tick_type).encode()
        stream = stream_id.encode()
        self._head: Final = (
            b"\x0a\x04tick" + (b"\x12" + varint(len(stream)) + stream if stream else b"") + b"\x1a"
        )
        self._tick_head: Final = (
            (b"\x08" + varint(contract_id) if contract_id else b"")
            + b"\x12"
            + varint(len(kind))
            + kind
        )
        self._second: int | None = None
        self._second_field = b""
        self._event_second: int | None = None
        self._event_field = b""

    def bid_ask(
        self,
        time_ns: int,
        bid_price: float,
        bid_size: float,
        ask_price: float,
        ask_size: float,
        sequence: int,
        exchange_time: int,
        bid_past_low: bool = False,
        ask_past_high: bool = False,
    ) -> bytes:
        """A quote, as a whole frame; ``time_ns`` UTC nanoseconds, ``exchange_time`` UTC seconds."""
        return self._frame(
            time_ns,
            _QUOTE(0x29, bid_price, 0x31, bid_size, 0x39, ask_price, 0x41, ask_size)
            + b"\x60"
            + varint(sequence)
            + _QUOTE_FLAGS[2 * bid_past_low + ask_past_high]
            + self._event(exchange_time),
        )

    def trade(
        self,
        time_ns: int,
        price: float,
        size: float,
        exchange: str,
        conditions: Sequence[str],
        sequence: int,
        exchange_time: int,
        past_limit: bool = False,
        unreported: bool = False,
    ) -> bytes:
        """A trade (``last`` or ``all_last``), as a whole frame."""
        venue = exchange.encode()
        listed = b"".join(b"\x5a" + varint(len(raw)) + raw for raw in map(str.encode, conditions))
        return self._frame(
            time_ns,
            _TRADE(0x19, price, 0x21, size)
            + b"\x52"
            + varint(len(venue))
            + venue
            + listed
            + b"\x60"
            + varint(sequence)
            + _TRADE_FLAGS[2 * past_limit + unreported]
            + self._event(exchange_time),
        )

    def mid_point(self, time_ns: int, mid_price: float, sequence: int, exchange_time: int) -> bytes:
        """A mid point, as a whole frame."""
        return self._frame(
            time_ns,
            _MID(0x49, mid_price) + b"\x60" + varint(sequence) + self._event(exchange_time),
        )

    def _event(self, seconds: int) -> bytes:
        """The exchange_time field; many ticks share a second."""
        if seconds != self._event_second:
            self._event_field = b"\x88\x01" + varint(seconds)
            self._event_second = seconds
        return self._event_field

    def _frame(self, time_ns: int, body: bytes) -> bytes:
        second, nanos = divmod(time_ns, NANOSECONDS)
        if second != self._second:
            self._second_field = b"\x08" + varint(second) if second else b""
            self._second = second
        stamp = self._second_field + b"\x10" + varint(nanos) if nanos else self._second_field
        size = len(self._tick_head) + len(body)
        message = (
            self._head
            + _LAST_SEVEN_BITS[len(stamp)]
            + stamp
            + b"\x22"
            + varint(size)
            + self._tick_head
            + body
        )
        return _LENGTH(len(message)) + message
