"""One tick at a time, against the protobuf runtime and against whole columns, byte for byte."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from ibticks.config import TICK_TYPES
from ibticks.errors import UnknownTickTypeError
from ibticks.format import TickEncoder
from ibticks.format import _tick_encoder as tick_encoder
from ibticks.format._decode import decode
from ibticks.format._encode import encode
from ibticks.schema import StringColumn, StringListColumn, TickColumns, Values
from ibticks.tick_stream_pb2 import StreamMessage, TickData

SECOND = 1_000_000_000
NOW = 1_795_503_870 * SECOND

# A capture's own, and everything else that fits.
TIMES = st.one_of(
    st.builds(lambda second, ns: NOW + second * SECOND + ns, st.integers(0, 3), st.integers(0, 9)),
    st.integers(NOW, NOW + 10 * SECOND),
    st.integers(-3 * SECOND, 3 * SECOND),
    st.sampled_from([0, SECOND - 1, SECOND, 127, 128, 1 << 14, 1 << 21, 1 << 28, (1 << 28) - 1]),
    st.integers(-(2**62), 2**62),
)
EVENTS = st.one_of(st.integers(1_381_239_000, 1_381_239_003), st.integers(-(2**63), 2**63 - 1))
SEQUENCES = st.one_of(
    st.sampled_from([0, 1, 127, 128, 16_383, 16_384, 1 << 21, 1 << 28, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
)
NUMBERS = st.floats(allow_nan=True)
SIZES = st.one_of(NUMBERS, st.decimals(0, 10**9, places=8))
TEXTS = st.sampled_from(["", "NYSE", "ARCA", "é", "Q" * 127, "Q" * 128])
MAYBE_NUMBERS, MAYBE_SIZES = st.none() | NUMBERS, st.none() | SIZES
CONDITIONS = st.lists(TEXTS, max_size=3)


def runtime(contract_id: int, tick_type: str, stream_id: str, time_ns: int, **values: Any) -> bytes:
    """The frame as google.protobuf writes it."""
    tick = TickData(contract_id=contract_id, tick_type=tick_type)
    tick.conditions.extend(values.pop("conditions", ()))
    for name, value in values.items():
        if value is not None:
            setattr(tick, name, value)
    message = StreamMessage(type="tick", stream_id=stream_id, tick_data=tick)
    message.timestamp.seconds, message.timestamp.nanos = divmod(time_ns, SECOND)
    payload = message.SerializeToString(deterministic=True)
    return len(payload).to_bytes(4, "big") + payload


def columnar(
    contract_id: Any, tick_type: str, stream_id: Any, time_ns: Any, **values: Any
) -> bytes:
    """The frame as whole columns of one row are written."""
    conditions = values.pop("conditions", [])
    columns: dict[str, Any] = {
        "timestamp": Values(np.array([time_ns], np.int64)),
        "conditions": StringListColumn(
            np.array([0, len(conditions)]),
            np.arange(len(conditions), dtype=np.int32),
            tuple(conditions),
        ),
    }
    for name, value in values.items():
        if name == "exchange":
            columns[name] = StringColumn(np.zeros(1, np.int32), (value,))
        else:
            dtype = np.uint64 if name == "sequence" else None
            valid = None if value is not None else np.array([False])
            columns[name] = Values(np.array([0.0 if value is None else value], dtype), valid)
    return encode(
        TickColumns(1, columns), contract_id=contract_id, tick_type=tick_type, stream_id=stream_id
    )


class Streams(RuleBasedStateMachine):
    """One encoder of each tick type for many ticks: its caches must not affect the result."""

    @initialize(
        contract_id=st.sampled_from([1, 127, 128, 8314, 2**32 - 1]),
        stream_id=st.sampled_from(["", "8314_last_20261124T070430-17901", "é" * 70]),
    )
    def begin(self, contract_id: Any, stream_id: Any) -> None:
        self.identity = contract_id, stream_id
        self.encoders: dict[str, Any] = {
            kind: TickEncoder(contract_id, kind, stream_id) for kind in TICK_TYPES
        }

    def check(self, frame: bytes, tick_type: str, time_ns: Any, **values: Any) -> None:
        contract_id, stream_id = self.identity
        floats = {k: float(v) if isinstance(v, Decimal) else v for k, v in values.items()}
        assert frame == runtime(contract_id, tick_type, stream_id, time_ns, **floats)
        assert frame == columnar(contract_id, tick_type, stream_id, time_ns, **floats)

    @rule(
        time_ns=TIMES,
        numbers=st.tuples(MAYBE_NUMBERS, MAYBE_SIZES, MAYBE_NUMBERS, MAYBE_SIZES),
        sequence=SEQUENCES,
        event=EVENTS,
        low=st.booleans(),
        high=st.booleans(),
    )
    def quote(
        self, time_ns: Any, numbers: Any, sequence: Any, event: Any, low: Any, high: Any
    ) -> None:
        frame = self.encoders["bid_ask"].bid_ask(time_ns, *numbers, sequence, event, low, high)
        names = ("bid_price", "bid_size", "ask_price", "ask_size")
        self.check(
            frame,
            "bid_ask",
            time_ns,
            **dict(zip(names, numbers, strict=True)),
            sequence=sequence,
            bid_past_low=low,
            ask_past_high=high,
            exchange_time=event,
        )

    @rule(
        kind=st.sampled_from(["last", "all_last"]),
        time_ns=TIMES,
        price=MAYBE_NUMBERS,
        size=MAYBE_SIZES,
        exchange=TEXTS,
        conditions=CONDITIONS,
        sequence=SEQUENCES,
        event=EVENTS,
        past=st.booleans(),
        unreported=st.booleans(),
    )
    def trade(
        self,
        kind: Any,
        time_ns: Any,
        price: Any,
        size: Any,
        exchange: Any,
        conditions: Any,
        sequence: Any,
        event: Any,
        past: Any,
        unreported: Any,
    ) -> None:
        frame = self.encoders[kind].trade(
            time_ns, price, size, exchange, conditions, sequence, event, past, unreported
        )
        self.check(
            frame,
            kind,
            time_ns,
            price=price,
            size=size,
            exchange=exchange,
            conditions=conditions,
            sequence=sequence,
            past_limit=past,
            unreported=unreported,
            exchange_time=event,
        )

    @rule(time_ns=TIMES, mid=MAYBE_NUMBERS, sequence=SEQUENCES, event=EVENTS)
    def mid_point(self, time_ns: Any, mid: Any, sequence: Any, event: Any) -> None:
        frame = self.encoders["mid_point"].mid_point(time_ns, mid, sequence, event)
        self.check(
            frame, "mid_point", time_ns, mid_price=mid, sequence=sequence, exchange_time=event
        )


Streams.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestStreams = Streams.TestCase


@given(st.lists(st.tuples(TIMES, NUMBERS, SEQUENCES, EVENTS), min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_encoded_ticks_decode_to_the_same_values(ticks: list[Any]) -> None:
    encoder = TickEncoder(8314, "mid_point", "8314_mid_point")
    frames = b"".join(encoder.mid_point(*tick) for tick in ticks)
    text = decode(frames, ["timestamp", "mid_price", "sequence", "exchange_time"])
    names = ("timestamp", "mid_price", "sequence", "exchange_time")
    for name, wanted in zip(names, zip(*ticks, strict=True), strict=True):
        for ours, theirs in zip(text.numbers(name).tolist(), wanted, strict=True):
            assert ours == theirs or (math.isnan(ours) and math.isnan(theirs))


def test_the_cache_of_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tick_encoder, "_MOST_TEXTS", 10)
    encoder: Any = TickEncoder(1, "last", "")
    for number in [*range(35), *range(35)]:
        values: dict[str, Any] = {
            "price": 1.0,
            "size": 2.0,
            "exchange": f"E{number}",
            "conditions": ["T"],
        }
        flags = {"past_limit": False, "unreported": False}
        frame = encoder.trade(NOW, *values.values(), number, 5)
        wanted = runtime(1, "last", "", NOW, **values, sequence=number, **flags, exchange_time=5)
        assert frame == wanted
        assert len(encoder._texts) <= 10


@pytest.mark.parametrize("size", [16_383, 16_384, 1 << 21])
def test_long_texts(size: int) -> None:
    values: dict[str, Any] = {
        "price": 1.0,
        "size": 2.0,
        "exchange": "E" * size,
        "conditions": ["T" * size] * 2,
    }
    flags = {"past_limit": True, "unreported": True}
    encoder: Any = TickEncoder(1, "last", "s")
    frame = encoder.trade(NOW, *values.values(), 1, 5, *flags.values())
    assert frame == runtime(1, "last", "s", NOW, **values, sequence=1, **flags, exchange_time=5)


def test_an_unknown_tick_type() -> None:
    with pytest.raises(UnknownTickTypeError, match="bid_ask"):
        TickEncoder(1, "quotes", "")


def test_a_failed_tick_does_not_change_the_encoder() -> None:
    encoder = TickEncoder(1, "last", "")
    before = encoder.trade(NOW, 1.0, 1, "NYSE", (), 1, 5)
    with pytest.raises(UnicodeEncodeError):
        encoder.trade(NOW, 1.0, 1, "\ud800", (), 2, 5)
    assert encoder.trade(NOW, 1.0, 1, "NYSE", (), 1, 5) == before
