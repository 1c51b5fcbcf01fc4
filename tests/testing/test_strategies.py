"""Hypothesis strategies: valid examples, and enough of each type."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.config import TICK_TYPES
from ibticks.format import from_protobuf, to_protobuf
from ibticks.schema import COLUMNS
from ibticks.testing.strategies import (
    malformed_messages,
    messages,
    stream_messages,
    ticks,
    timestamps,
    wire_messages,
)
from ibticks.tick_stream_pb2 import StreamMessage


def accepted(payload: bytes) -> bool:
    try:
        StreamMessage.FromString(payload)
    except DecodeError:
        return False
    return True


@given(wire_messages())
def test_the_runtime_accepts_every_wire_message(payload: bytes) -> None:
    StreamMessage.FromString(payload)


def test_wire_messages_are_mostly_ticks_in_unusual_encodings() -> None:
    seen: Counter[str | None] = Counter()

    # Hypothesis draws constants of the modules that are loaded, so that what it draws depends on
    # the tests before: the counts are of so many examples that they are far from their bounds.
    @settings(max_examples=1000, database=None, derandomize=True)
    @given(wire_messages())
    def look(payload: bytes) -> None:
        message = StreamMessage.FromString(payload)
        seen[message.WhichOneof("message_data")] += 1
        seen["canonical"] += message.SerializeToString(deterministic=True) == payload
        seen["with metadata"] += len(message.metadata) > 0
        seen["with timestamp"] += message.HasField("timestamp")

    look()
    assert seen["tick_data"] > 166
    assert all(seen[f"{kind}_data"] > 16 for kind in ("error", "complete", "info"))
    assert seen["canonical"] < 500
    assert seen["with metadata"] > 66
    assert seen["with timestamp"] > 166


def test_malformed_messages_are_mostly_but_not_always_refused() -> None:
    verdicts: Counter[bool] = Counter()

    @settings(max_examples=500, database=None, derandomize=True)
    @given(malformed_messages())
    def judge(payload: bytes) -> None:
        verdicts[accepted(payload)] += 1

    judge()
    assert verdicts[False] > 333
    assert verdicts[True] > 16


@pytest.mark.parametrize("tick_type", TICK_TYPES)
def test_ticks_have_any_field_of_their_type_and_no_other(tick_type: str) -> None:
    seen: set[str] = set()

    @settings(max_examples=300, database=None, derandomize=True)
    @given(ticks(tick_type, contract_ids=st.just(8314)))
    def look(message: dict[str, Any]) -> None:
        assert message["type"] == "tick"
        assert message["data"]["tick_type"] == tick_type
        assert message["data"]["contract_id"] == 8314
        seen.update(message["data"])

    look()
    apart = {"timestamp", "stream_id", "metadata"}
    assert (
        seen == {field.name for field in COLUMNS.values() if tick_type in field.tick_types} - apart
    )


@given(ticks(times=timestamps(datetime(2025, 1, 10, 14), datetime(2025, 1, 10, 14, 59))))
def test_ticks_have_the_requested_times(message: dict[str, Any]) -> None:
    stamp = to_protobuf(message).timestamp
    start = int(datetime(2025, 1, 10, 14, tzinfo=UTC).timestamp())
    assert start <= stamp.seconds <= start + 59 * 60


@given(messages())
def test_messages_survive_a_round_trip_through_protobuf(message: dict[str, Any]) -> None:
    assert from_protobuf(to_protobuf(message)) == message


@given(stream_messages(regular=True))
def test_regular_messages_have_their_own_payload_and_a_time(message: StreamMessage) -> None:
    assert message.WhichOneof("message_data") == f"{message.type}_data"
    assert message.timestamp.ToJsonString()


def test_messages_have_every_type_and_irregular_ones_any_payload() -> None:
    kinds: set[str] = set()
    pairs: set[tuple[bool, str | None]] = set()

    @settings(max_examples=600, database=None, derandomize=True)
    @given(messages(), stream_messages())
    def look(message: dict[str, Any], stream_message: StreamMessage) -> None:
        kinds.add(message["type"])
        payload = stream_message.WhichOneof("message_data")
        pairs.add((payload == f"{stream_message.type}_data", payload))

    look()
    assert kinds == {"tick", "error", "complete", "info"}
    payloads = ["tick_data", "error_data", "complete_data", "info_data"]
    assert {(agree, payload) for agree in (True, False) for payload in payloads} <= pairs
    assert (False, None) in pairs
