"""One tick to one frame, in microseconds and without a compiler: what capture calls.

The frame is byte for byte what the protobuf runtime would write, and what
:mod:`ibticks.format` writes for whole columns. What stays the same from tick to tick (the
stream, the contract, the tags, the current second) is encoded once; the rest is put into its place
by one call.
"""

from __future__ import annotations

from struct import Struct, calcsize
from typing import TYPE_CHECKING, Final, NamedTuple, SupportsFloat

from ibticks.config import NANOSECONDS
from ibticks.schema import check_tick_type

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["TickEncoder", "varint"]

_LAST_SEVEN_BITS: Final = tuple(bytes((i,)) for i in range(128))
_FOURTEEN_BITS: Final = tuple(
    bytes((low | 0x80, high | 0x80)) for high in range(128) for low in range(128)
)
_UINT64: Final = (1 << 64) - 1
# Tags and values of two flags, by whether each is set.
_TRADE_FLAGS: Final = tuple(bytes((0x68, a, 0x70, b)) for a in (0, 1) for b in (0, 1))
_QUOTE_FLAGS: Final = tuple(bytes((0x78, a, 0x80, 0x01, b)) for a in (0, 1) for b in (0, 1))
_MOST_TEXTS: Final = 1_000
_DOUBLE: Final = Struct("<d")


def varint(value: int) -> bytes:
    """A number as protobuf writes it; a negative one as its 64-bit two's complement.

    Examples
    --------
    >>> varint(300).hex(), len(varint(-1))
    ('ac02', 10)
    """
    if value < 0:
        value &= _UINT64
    encoded = b""
    while value >= 0x4000:
        encoded += _FOURTEEN_BITS[value & 0x3FFF]
        value >>= 14
    if value >= 0x80:
        return encoded + bytes((value & 0x7F | 0x80, value >> 7))
    return encoded + _LAST_SEVEN_BITS[value]


def _fields(*values: tuple[bytes, SupportsFloat | None]) -> bytes:
    """The fields that are present, each behind its tag."""
    return b"".join(tag + _DOUBLE.pack(value) for tag, value in values if value is not None)


class _Shape(NamedTuple):
    """Write frames whose varints and texts have certain lengths, in one call."""

    pack: Callable[..., bytes]
    head: bytes  # up to the timestamp
    middle: bytes  # from behind it to the first value of the tick


class TickEncoder:
    """Encodes the ticks of one stream, one at a time.

    Parameters
    ----------
    contract_id : int
    tick_type : str
    stream_id : str

    Examples
    --------
    >>> from ibticks.format._decode import decode
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
        # Many ticks share a second of arrival, and one of IB's clock.
        self._second: int | None = None
        self._second_field = b""
        self._event: int | None = None
        self._event_field = b""
        self._shapes: dict[tuple[int, ...], _Shape] = {}
        self._texts: dict[tuple[str, tuple[str, ...]], bytes] = {}

    def bid_ask(
        self,
        time_ns: int,
        bid_price: float | None,
        bid_size: SupportsFloat | None,
        ask_price: float | None,
        ask_size: SupportsFloat | None,
        sequence: int,
        exchange_time: int,
        bid_past_low: bool = False,
        ask_past_high: bool = False,
    ) -> bytes:
        """A quote, as a whole frame; ``time_ns`` UTC nanoseconds, ``exchange_time`` UTC seconds.

        None is an absent price or size.
        """
        second, nanos, event = self._times(time_ns, exchange_time)
        number = varint(sequence)
        if bid_price is None or bid_size is None or ask_price is None or ask_size is None:
            values = _fields(
                (b"\x29", bid_price), (b"\x31", bid_size), (b"\x39", ask_price), (b"\x41", ask_size)
            )
            flags = _QUOTE_FLAGS[2 * bid_past_low + ask_past_high]
            return self._partial(second, nanos, values, number, flags, event)
        lengths = len(second), len(nanos), len(number), len(event)
        pack, head, middle = self._shapes.get(lengths) or self._shape(
            lengths, b"\x29", "dBdBdBd", 5
        )
        return pack(
            head,
            second,
            nanos,
            middle,
            bid_price,
            0x31,
            bid_size,
            0x39,
            ask_price,
            0x41,
            ask_size,
            0x60,
            number,
            _QUOTE_FLAGS[2 * bid_past_low + ask_past_high],
            event,
        )

    def trade(
        self,
        time_ns: int,
        price: float | None,
        size: SupportsFloat | None,
        exchange: str,
        conditions: Sequence[str],
        sequence: int,
        exchange_time: int,
        past_limit: bool = False,
        unreported: bool = False,
    ) -> bytes:
        """A trade (``last`` or ``all_last``), as a whole frame; None is an absent price or size."""
        second, nanos, event = self._times(time_ns, exchange_time)
        number = varint(sequence)
        details = exchange, tuple(conditions)
        texts = self._texts.get(details) or self._encode_texts(details)
        if price is None or size is None:
            values = _fields((b"\x19", price), (b"\x21", size)) + texts
            flags = _TRADE_FLAGS[2 * past_limit + unreported]
            return self._partial(second, nanos, values, number, flags, event)
        lengths = len(second), len(nanos), len(number), len(event), len(texts)
        pack, head, middle = self._shapes.get(lengths) or self._shape(
            lengths, b"\x19", f"dBd{len(texts)}s", 4
        )
        return pack(
            head,
            second,
            nanos,
            middle,
            price,
            0x21,
            size,
            texts,
            0x60,
            number,
            _TRADE_FLAGS[2 * past_limit + unreported],
            event,
        )

    def mid_point(
        self, time_ns: int, mid_price: float | None, sequence: int, exchange_time: int
    ) -> bytes:
        """A mid point, as a whole frame; None is an absent mid."""
        second, nanos, event = self._times(time_ns, exchange_time)
        number = varint(sequence)
        if mid_price is None:
            return self._partial(second, nanos, b"", number, b"", event)
        lengths = len(second), len(nanos), len(number), len(event)
        pack, head, middle = self._shapes.get(lengths) or self._shape(lengths, b"\x49", "d", 0)
        return pack(head, second, nanos, middle, mid_price, 0x60, number, b"", event)

    def _partial(
        self, second: bytes, nanos: bytes, values: bytes, number: bytes, flags: bytes, event: bytes
    ) -> bytes:
        """The frame of a tick that lacks some of its values; too rare to keep its shape."""
        tick = self._tick_head + values + b"\x60" + number + flags + event
        payload = b"".join(
            (
                self._head,
                varint(len(second) + len(nanos)),
                second,
                nanos,
                b"\x22",
                varint(len(tick)),
                tick,
            )
        )
        return len(payload).to_bytes(4, "big") + payload

    def _times(self, time_ns: int, exchange_time: int) -> tuple[bytes, bytes, bytes]:
        """The second and the tag of the nanoseconds; the nanoseconds; IB's time."""
        second, nanos = divmod(time_ns, NANOSECONDS)
        if second != self._second:
            self._second_field = (b"\x08" + varint(second) if second else b"") + b"\x10"
            self._second = second
        if exchange_time != self._event:
            self._event_field = b"\x88\x01" + varint(exchange_time)
            self._event = exchange_time
        if not nanos:
            return self._second_field[:-1], b"", self._event_field
        return self._second_field, varint(nanos), self._event_field

    def _encode_texts(self, labels: tuple[str, tuple[str, ...]]) -> bytes:
        """The exchange and conditions of a trade; there are not many different ones."""
        if len(self._texts) >= _MOST_TEXTS:
            self._texts.clear()
            self._shapes.clear()
        exchange, conditions = labels
        raw = exchange.encode()
        texts = b"\x52" + varint(len(raw)) + raw
        for condition in conditions:
            raw = condition.encode()
            texts += b"\x5a" + varint(len(raw)) + raw
        self._texts[labels] = texts
        return texts

    def _shape(self, lengths: tuple[int, ...], tag: bytes, values: str, flags: int) -> _Shape:
        """The shape of frames with these lengths; ``values`` as in :mod:`struct`."""
        second, nanos, number, event = lengths[:4]
        values = f"{values}B{number}s{flags}s{event}s"
        tick = self._tick_head + tag
        middle = b"\x22" + varint(len(tick) + calcsize(f"<{values}")) + tick
        head = self._head + varint(second + nanos)
        layout = f"{second}s{nanos}s{len(middle)}s{values}"
        head = (len(head) + calcsize(f"<{layout}")).to_bytes(4, "big") + head
        shape = _Shape(Struct(f"<{len(head)}s{layout}").pack, head, middle)
        self._shapes[lengths] = shape
        return shape
