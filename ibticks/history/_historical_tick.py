"""Ticks of IB's history, and those of a store, in one shape in which they can be compared."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ibticks.config import NANOSECONDS
from ibticks.format import encode_frame
from ibticks.schema import clean_number, clean_side, clear_absent_fields
from ibticks.storage import message_time_ns
from ibticks.tick_stream_pb2 import StreamMessage, TickData

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SHOWN_AS", "SOURCE", "PastTick", "encode", "from_ib", "from_stored", "not_among"]

SOURCE: Final = {"source": "backfill"}
"""``metadata`` of every message that was not captured, but asked of IB afterwards."""

SHOWN_AS: Final = {
    "last": "TRADES",
    "all_last": "TRADES",
    "bid_ask": "BID_ASK",
    "mid_point": "MIDPOINT",
}
"""What IB's history calls the tick types. It knows but one kind of trades: ``last`` and
``all_last`` are filled with the same ones, each with its flags, so that those that are
``unreported`` can be told."""

_VALUES: Final = {
    "last": ("price", "size"),
    "all_last": ("price", "size"),
    "bid_ask": ("bid_price", "bid_size", "ask_price", "ask_size"),
    "mid_point": ("mid_price",),
}
_FLAGS: Final = {
    "last": ("past_limit", "unreported"),
    "all_last": ("past_limit", "unreported"),
    "bid_ask": ("bid_past_low", "ask_past_high"),
    "mid_point": (),
}


class PastTick(NamedTuple):
    """One tick.

    Attributes
    ----------
    time : int
        IB's, UTC seconds.
    values : tuple of float or None
        Prices and sizes; None where absent.
    exchange : str
    flags : tuple of bool
    conditions : tuple of str
    """

    time: int
    values: tuple[float | None, ...]
    exchange: str = ""
    flags: tuple[bool, ...] = ()
    conditions: tuple[str, ...] = ()

    @property
    def gist(self) -> tuple[int, tuple[float | None, ...], str]:
        """Without what IB may say of a tick at one time and not at another."""
        return self.time, self.values, self.exchange


def from_ib(tick_type: str, said: Any) -> PastTick:
    """A tick of a page of ibapi's."""
    match tick_type:
        case "bid_ask":
            about = said.tickAttribBidAsk
            return PastTick(
                said.time,
                (
                    *clean_side(said.priceBid, said.sizeBid),
                    *clean_side(said.priceAsk, said.sizeAsk),
                ),
                flags=(bool(about.bidPastLow), bool(about.askPastHigh)),
            )
        case "mid_point":
            return PastTick(said.time, (clean_number(said.price),))
        case _:
            about, conditions = said.tickAttribLast, said.specialConditions
            return PastTick(
                said.time,
                (clean_number(said.price), clean_number(said.size)),
                said.exchange,
                (bool(about.pastLimit), bool(about.unreported)),
                tuple(conditions.split(" ")) if conditions else (),
            )


def from_stored(message: StreamMessage) -> PastTick:
    """A tick of a store; one without IB's time is of the second in which it came.

    Unset values of files written before are absent, as they are in history.
    """
    tick = message.tick_data
    clear_absent_fields(tick)
    came = message_time_ns(message) // NANOSECONDS
    return PastTick(
        tick.exchange_time if tick.HasField("exchange_time") else came,
        tuple(
            getattr(tick, name) if tick.HasField(name) else None for name in _VALUES[tick.tick_type]
        ),
        tick.exchange,
        tuple(getattr(tick, name) for name in _FLAGS[tick.tick_type]),
        tuple(tick.conditions),
    )


def encode(tick: PastTick, contract_id: int, tick_type: str, stream_id: str) -> bytes:
    """The frame of a backfilled tick: its timestamp is IB's whole second, and it has no number."""
    values = zip(_VALUES[tick_type], tick.values, strict=True)
    fields: dict[str, Any] = {name: value for name, value in values if value is not None}
    fields |= zip(_FLAGS[tick_type], tick.flags, strict=True)
    data = TickData(contract_id=contract_id, tick_type=tick_type, exchange_time=tick.time, **fields)
    if SHOWN_AS[tick_type] == "TRADES":
        data.exchange = tick.exchange
        data.conditions.extend(tick.conditions)
    message = StreamMessage(type="tick", stream_id=stream_id, tick_data=data, metadata=SOURCE)
    message.timestamp.seconds = tick.time
    return encode_frame(message.SerializeToString(deterministic=True))


def not_among(ticks: Iterable[PastTick], stored: Iterable[PastTick]) -> list[PastTick]:
    """The ticks that are not stored, in their order; two that are equal are two.

    Parameters
    ----------
    ticks, stored : iterable of PastTick
        All there are of the same seconds.

    Examples
    --------
    >>> one, other = PastTick(5, (180.5, 100.0), "NYSE"), PastTick(5, (180.5, 200.0), "NYSE")
    >>> not_among([one, other, one], [one]) == [other, one]
    True
    """
    left = Counter(stored)
    rest: list[PastTick] = []
    for tick in ticks:
        if left[tick]:
            left[tick] -= 1
        else:
            rest.append(tick)
    # Flags and conditions may read otherwise in history than they did live.
    alike = Counter(tick.gist for tick in left.elements())
    missing_intervals: list[PastTick] = []
    for tick in rest:
        if alike[tick.gist]:
            alike[tick.gist] -= 1
        else:
            missing_intervals.append(tick)
    return missing_intervals
