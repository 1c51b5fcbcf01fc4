"""Columns as JSON and frames, against the v2 messages that they were made of."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.format import Decoder, decode_message, encode_frame, encode_message
from ibticks.frames import to_table
from ibticks.index import MemoryIndex
from ibticks.live import Live
from ibticks.schema import COLUMNS
from ibticks.service._broadcast import _encode_each
from ibticks.service._encoding import _map_text, encode_frames, encode_json, encode_live
from ibticks.storage import StreamWriter
from ibticks.testing.strategies import ticks

from .conftest import read_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pyarrow as pa

# Times that int64 counts in nanoseconds, and exchange times that Arrow has.
FIRST, LAST = "1700", "2200"

few = settings(max_examples=30)


def batch_of(messages: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    """Return messages as a batch of all columns, in their order."""
    decoder = Decoder(list(COLUMNS), rows=len(messages))
    decoder.feed(b"".join(encode_frame(encode_message(message)) for message in messages))
    table = to_table([decoder.finish()], list(COLUMNS)).combine_chunks()
    (batch,) = table.to_batches()
    return batch


def as_json_has_it(value: Any) -> Any:
    """Return a value with null for the numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: as_json_has_it(member) for name, member in value.items()}
    if isinstance(value, list):
        return [as_json_has_it(member) for member in value]
    return value


def encodable(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages by time that a table can hold, decoded once."""
    decoded = [decode_message(encode_message(message)) for message in messages]
    storable = [
        message
        for message in decoded
        if FIRST < message["timestamp"] < LAST
        and abs(message["data"].get("exchange_time", 0)) < 2**33
    ]
    return sorted(storable, key=lambda message: message["timestamp"].rstrip("Z").ljust(29, "0"))


def tick(**data: Any) -> dict[str, Any]:
    """Return a tick with some fields."""
    return {
        "type": "tick",
        "stream_id": "8314_last",
        "timestamp": "2025-01-10T14:30:00.123456Z",
        "data": {"contract_id": 8314, "tick_type": "last", **data},
    }


@few
@given(st.lists(ticks(), min_size=1, max_size=12))
def test_json_is_that_of_the_messages(messages: list[dict[str, Any]]) -> None:
    expected = encodable(messages)
    if expected:
        decoded = json.loads(b"[" + encode_json(batch_of(expected)) + b"]", parse_constant=refuse)
        assert decoded == as_json_has_it(expected)


@few
@given(st.lists(ticks(), min_size=1, max_size=12))
def test_frames_are_those_of_the_messages(messages: list[dict[str, Any]]) -> None:
    expected = encodable(messages)
    if expected:
        decoded = read_frames(encode_frames(batch_of(expected)))
        assert as_json_has_it(decoded) == as_json_has_it(expected)


@pytest.mark.parametrize("encode", [encode_live, _encode_each])
@pytest.mark.parametrize("index", [None, 5])
def test_live_batches_are_the_messages(
    encode: Callable[..., list[str]], index: int | None, tmp_path: Path
) -> None:
    fields: list[dict[str, Any]] = [
        {"price": 1.5},
        {"price": math.nan, "size": 2.0, "exchange": "NYSE"},
        {"price": 1e300, "conditions": ["@", 'a "quote"', "ü"], "past_limit": False},
        {"sequence": 2**64 - 1, "exchange_time": 1736519400},
    ]
    expected: list[dict[str, Any]] = []
    with (
        StreamWriter(tmp_path, 8314, "last", MemoryIndex(), fsync=None) as last,
        StreamWriter(tmp_path, 8314, "bid_ask", MemoryIndex(), fsync=None) as bid_ask,
    ):
        for number in range(40):
            # Every seventh tick is late.
            stamp = f"2025-01-10T14:30:{number - 5 * (number % 7 == 0) + 5:02}.123456Z"
            message = tick(**fields[number % 4]) | {"timestamp": stamp}
            if number % 3 == 0:
                message["metadata"] = {"n": number, "nested": {"x": [None, "y"]}}
            if number % 5 == 0:
                message["stream_id"] = ""
            if number % 2:
                message["data"] = {
                    "contract_id": 8314,
                    "tick_type": "bid_ask",
                    "bid_price": number / 7,
                }
            (bid_ask if number % 2 else last).append(message)
    with Live(tmp_path, [(8314, "bid_ask"), (8314, "last")], list(COLUMNS), 0) as live:
        (batch,) = live.drain()
        for message in batch.messages():
            message = as_json_has_it(message)
            if not message["stream_id"]:
                message["stream_id"] = f"8314_{message['data']['tick_type']}"
            place = {} if index is None else {"buffer_index": index + len(expected)}
            metadata = message.get("metadata", {}) | {"historical": True} | place
            expected.append(message | {"metadata": metadata})
        texts = encode(batch, index)
    assert len(expected) == 40
    assert [json.loads(text, parse_constant=refuse) for text in texts] == expected
    assert all(text.endswith("}}") for text in texts)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_absent_fields_are_left_out_of_each_tick() -> None:
    messages = [
        tick(price=1.5),
        tick(size=2.0, exchange="NYSE"),
        tick(price=1e300, conditions=["@", 'a "quote"', "ü"], past_limit=False),
        {**tick(sequence=2**64 - 1, exchange_time=1736519400), "metadata": {"a": [1, None]}},
    ]
    assert json.loads(b"[" + encode_json(batch_of(messages)) + b"]") == messages


def test_numbers_that_json_does_not_have_are_null() -> None:
    messages = [tick(price=math.nan, size=math.inf), tick(price=2.0, size=-math.inf)]
    messages[0]["metadata"] = {"spread": math.nan}
    decoded = json.loads(b"[" + encode_json(batch_of(messages)) + b"]", parse_constant=refuse)
    assert decoded == as_json_has_it(messages)


def test_times_have_nanoseconds_where_there_are_some() -> None:
    times = ["1969-12-31T23:59:59.999999999Z", "1970-01-01T00:00:00.000000Z"]
    messages = [{**tick(price=1.0), "timestamp": time} for time in times]
    assert json.loads(b"[" + encode_json(batch_of(messages)) + b"]") == messages


def test_a_part_of_a_batch() -> None:
    """A slice shares the arrays of the whole, with an offset in lists and maps."""
    messages = [{**tick(conditions=[str(n)] * n), "metadata": {"n": n}} for n in range(1, 6)]
    batch = batch_of(messages).slice(2, 2)
    assert json.loads(b"[" + encode_json(batch) + b"]") == messages[2:4]
    assert read_frames(encode_frames(batch)) == messages[2:4]


def test_a_key_of_the_metadata_that_stands_twice() -> None:
    assert _map_text(("b", "a", "b"), ("1", "x", "y")) == '{"a": "x", "b": "y"}'
    assert _map_text(("a", "a"), ("nan", "x")) == '{"a": "x"}'
