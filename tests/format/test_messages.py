"""v2 JSON to protobuf and back."""

from __future__ import annotations

import json
import math
import pickle
import struct
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from ibticks.errors import FormatError, NaiveDatetimeError, ProtocolError
from ibticks.format import decode_message, encode_message, from_protobuf, to_protobuf
from ibticks.testing import wire
from ibticks.testing.strategies import messages, stream_messages, ticks, wire_messages
from ibticks.tick_stream_pb2 import (
    CompleteData,
    ErrorData,
    InfoData,
    StreamMessage,
    TickData,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message


TICK = {
    "type": "tick",
    "stream_id": "8314_all_last_1",
    "timestamp": "2013-10-08T13:30:01.123456Z",
    "data": {
        "contract_id": 8314,
        "tick_type": "all_last",
        "price": 181.875,
        "size": 100.0,
        "exchange": "P",
        "conditions": ["20", "2000"],
        "sequence": 7,
        "past_limit": False,
        "unreported": True,
        "exchange_time": 1381239001,
    },
    "metadata": {"historical": True, "buffer_index": 0, "note": "true"},
}
ERROR = {
    "type": "error",
    "stream_id": "8314_last",
    "timestamp": "2025-07-10T13:45:22.000000Z",
    "data": {
        "code": "10197",
        "message": "No market data during competing live session",
        "recoverable": True,
        "details": {"req_id": 60000, "retry": [30, 60.5, None], "text": "5"},
    },
}
COMPLETE = {
    "type": "complete",
    "stream_id": "8314_last",
    "timestamp": "2025-07-10T13:45:22.000000001Z",
    "data": {
        "reason": "limit_reached",
        "total_ticks": 2**64 - 1,
        "duration_seconds": 12.5,
        "final_sequence": 0,
    },
}
INFO = {
    "type": "info",
    "stream_id": "8314_last",
    "timestamp": "0001-01-01T00:00:00.000000Z",
    "data": {
        "status": "subscribed",
        "contract_info": {
            "symbol": "IBM",
            "exchange": "SMART",
            "currency": "USD",
            "contract_type": "STK",
        },
        "stream_config": {"tick_type": "last", "limit": 0, "timeout_seconds": 2**32 - 1},
    },
}
EXAMPLES: list[dict[str, Any]] = [TICK, ERROR, COMPLETE, INFO]


def with_data(message: dict[str, Any], /, **changes: Any) -> dict[Any, Any]:
    return {**message, "data": {**message["data"], **changes}}


def refused(message: Any) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        to_protobuf(message)
    assert pickle.loads(pickle.dumps(caught.value)).context == caught.value.context
    assert caught.value.context["key"] in str(caught.value)
    return caught.value


# --- nothing is lost ------------------------------------------------------------------------------


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message["type"])
def test_every_type_survives_a_round_trip(message: dict[str, Any]) -> None:
    assert from_protobuf(to_protobuf(message)) == message
    assert decode_message(encode_message(message)) == message
    assert list(from_protobuf(to_protobuf(message))) == list(message)


def test_the_examples_set_every_field_of_the_schema() -> None:
    for message in EXAMPLES:
        payload = getattr(to_protobuf(message), message["type"] + "_data")
        names = {field.name for field in payload.DESCRIPTOR.fields}
        quotes = {"bid_price", "bid_size", "ask_price", "ask_size", "mid_price"}
        quotes |= {"bid_past_low", "ask_past_high"}
        assert names - quotes <= message["data"].keys()


@given(messages())
def test_v2_to_protobuf_and_back(message: dict[str, Any]) -> None:
    back = decode_message(encode_message(message))
    assert back == message
    assert json.dumps(back, sort_keys=True) == json.dumps(message, sort_keys=True)


@given(stream_messages(regular=True))
def test_protobuf_to_v2_and_back(message: StreamMessage) -> None:
    payload = message.SerializeToString(deterministic=True)
    assert encode_message(from_protobuf(message)) == payload
    assert encode_message(decode_message(payload)) == payload


@given(messages())
def test_the_same_through_json_text(message: dict[str, Any]) -> None:
    assert encode_message(json.loads(json.dumps(message))) == encode_message(message)


@given(ticks(allow_nan=True))
def test_nan_and_infinities_are_kept(message: dict[str, Any]) -> None:
    data = decode_message(encode_message(message))["data"]
    assert data.keys() == message["data"].keys()
    for name, value in message["data"].items():
        if isinstance(value, float):
            assert struct.pack("<d", data[name]) == struct.pack("<d", value)


@pytest.mark.parametrize("price", [math.nan, math.inf, -math.inf, -0.0, 5e-324])
def test_any_double_is_a_price(price: float) -> None:
    back = from_protobuf(to_protobuf(with_data(TICK, price=price)))["data"]["price"]
    assert struct.pack("<d", back) == struct.pack("<d", price)


def test_an_absent_side_stays_absent_and_zero_stays_zero() -> None:
    data = {"contract_id": 0, "tick_type": "bid_ask", "bid_price": 0.0, "ask_past_high": False}
    message = to_protobuf({**TICK, "data": data})
    assert message.tick_data.HasField("bid_price")
    assert not message.tick_data.HasField("ask_price")
    assert from_protobuf(message)["data"] == data


def test_empty_lists_and_maps_are_absent_ones() -> None:
    message = {**with_data(TICK, conditions=[]), "metadata": {}}
    back = from_protobuf(to_protobuf(message))
    assert "conditions" not in back["data"]
    assert "metadata" not in back
    assert "details" not in from_protobuf(to_protobuf(with_data(ERROR, details={})))["data"]


def test_integer_sizes_are_the_floats_of_that_value() -> None:
    assert encode_message(with_data(TICK, size=100)) == encode_message(with_data(TICK, size=100.0))
    assert encode_message(with_data(TICK, size=2**53)) == encode_message(
        with_data(TICK, size=float(2**53))
    )


def test_empty_parts_stay_present() -> None:
    parts = {"symbol": "", "exchange": "", "currency": "", "contract_type": ""}
    message = to_protobuf({**INFO, "data": {"status": "", "contract_info": parts}})
    assert message.WhichOneof("message_data") == "info_data"
    assert message.info_data.HasField("contract_info")
    assert from_protobuf(message)["data"] == {"status": "", "contract_info": parts}


def test_the_payload_equals_that_of_protobuf() -> None:
    expected = StreamMessage(type="tick", stream_id="s", tick_data=TickData(contract_id=5))
    expected.timestamp.seconds = 1
    message = {"type": "tick", "stream_id": "s", "timestamp": "1970-01-01T00:00:01Z"}
    encoded = encode_message({**message, "data": {"contract_id": 5, "tick_type": ""}})
    assert encoded == expected.SerializeToString()


# --- timestamps -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("2025-01-10T14:30:00Z", "2025-01-10T14:30:00.000000Z"),
        ("2025-01-10t14:30:00.5z", "2025-01-10T14:30:00.500000Z"),
        ("2025-01-10 09:30:00.123456-05:00", "2025-01-10T14:30:00.123456Z"),
        ("2025-01-10T20:00:00.123456789+05:30", "2025-01-10T14:30:00.123456789Z"),
        ("2025-01-10T14:30:00.000000001+00:00", "2025-01-10T14:30:00.000000001Z"),
        ("2025-01-10T14:30:00.123456000-00:00", "2025-01-10T14:30:00.123456Z"),
        ("1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999999Z"),
        ("0001-01-01T00:00:00-23:59", "0001-01-01T23:59:00.000000Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000Z"),
    ],
)
def test_any_rfc3339_time_is_read_and_written_in_utc(text: str, back: str) -> None:
    assert from_protobuf(to_protobuf({**TICK, "timestamp": text}))["timestamp"] == back


def test_seconds_before_1970_count_down_and_nanoseconds_up() -> None:
    message = to_protobuf({**TICK, "timestamp": "1969-12-31T23:59:58.25Z"})
    assert (message.timestamp.seconds, message.timestamp.nanos) == (-2, 250_000_000)


@pytest.mark.parametrize("text", ["2025-01-10T14:30:00", "2025-01-10 14:30:00.123456"])
def test_a_naive_timestamp_is_refused(text: str) -> None:
    with pytest.raises(NaiveDatetimeError, match="no time zone") as caught:
        to_protobuf({**TICK, "timestamp": text})
    assert caught.value.context["key"] == "timestamp"


@pytest.mark.parametrize(
    "text",
    [
        *("", "2025-01-10", "14:30:00Z", "2025-01-10T14:30Z", "2025-01-10T14:30:00.Z"),
        *("2025-01-10T14:30:00.1234567890Z", "2025-01-10T14:30:00+05", "2025-01-10T14:30:00+0530"),
        *("2025-01-10T24:00:00Z", "2025-01-10T23:60:00Z", "2016-12-31T23:59:60Z"),
        *("2025-02-29T00:00:00Z", "2025-13-01T00:00:00Z", "0000-01-01T00:00:00Z"),
        *("2025-01-10T14:30:00+24:00", "2025-01-10T14:30:00+05:60", "٢٠٢٥-01-10T14:30:00Z"),
        *("0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "2025-01-10T14:30:00Z\n"),
        *(1736519400, None, 1.5, ["2025-01-10T14:30:00Z"]),
    ],
)
def test_invalid_times_are_refused(text: str | float | list[str] | None) -> None:
    assert refused({**TICK, "timestamp": text}).context["key"] == "timestamp"


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["type", "stream_id", "timestamp", "data"])
def test_a_missing_key_is_named(key: str) -> None:
    message = {name: value for name, value in TICK.items() if name != key}
    error = refused(message)
    assert error.context["key"] == key
    assert "missing" in str(error)


@pytest.mark.parametrize(
    ("message", "key"),
    [
        (TICK, "contract_id"),
        (TICK, "tick_type"),
        (ERROR, "code"),
        (ERROR, "message"),
        (ERROR, "recoverable"),
        (COMPLETE, "reason"),
        (COMPLETE, "total_ticks"),
        (COMPLETE, "duration_seconds"),
        (INFO, "status"),
    ],
)
def test_a_missing_data_key_is_named(message: dict[str, Any], key: str) -> None:
    data = {name: value for name, value in message["data"].items() if name != key}
    assert refused({**message, "data": data}).context["key"] == f"data.{key}"


def test_keys_of_parts_are_named_by_their_path() -> None:
    assert refused(with_data(INFO, contract_info={})).context["key"] == "data.contract_info.symbol"
    config = {"tick_type": "last", "limits": 5}
    error = refused(with_data(INFO, stream_config=config))
    assert error.context["key"] == "data.stream_config.limits"
    assert "tick_type, limit, timeout_seconds" in str(error)


def test_nothing_is_dropped_silently() -> None:
    assert refused({**TICK, "sequence": 5}).context["key"] == "sequence"
    error = refused(with_data(INFO, buffer_message_count=245))
    assert error.context["key"] == "data.buffer_message_count"
    assert "metadata" in str(error)


@pytest.mark.parametrize("kind", ["ticks", "Tick", "", None, 5, ["tick"], True])
def test_an_unknown_type_is_refused(kind: str | int | list[str] | None) -> None:
    error = refused({**TICK, "type": kind})
    assert error.context["key"] == "type"
    assert "tick, error, complete, info" in str(error)


def test_type_and_payload_must_agree() -> None:
    for message in EXAMPLES:
        for other in EXAMPLES:
            if other is not message:
                assert refused({**message, "data": other["data"]}).context["key"].startswith("data")


BAD_VALUES: dict[int, list[Any]] = {
    FieldDescriptor.TYPE_STRING: [5, None, True, b"x", ["x"], "\ud800"],
    FieldDescriptor.TYPE_BOOL: [0, 1, None, "true", 1.0],
    FieldDescriptor.TYPE_DOUBLE: [True, None, "1.5", [1], 2**53 + 1, 10**400, -(10**400)],
    FieldDescriptor.TYPE_UINT32: [-1, 2**32, 1.0, True, None, "5"],
    FieldDescriptor.TYPE_UINT64: [-1, 2**64, 1.0, True, None, "5"],
    FieldDescriptor.TYPE_INT64: [-(2**63) - 1, 2**63, 1.0, False, None, "5"],
    FieldDescriptor.TYPE_MESSAGE: [None, 5, "x", [], [("symbol", "IBM")]],
}
PAYLOADS: tuple[type[Message], ...] = (TickData, ErrorData, CompleteData, InfoData)
CASES = [
    (message, field.name, value)
    for message, payload in zip(EXAMPLES, PAYLOADS, strict=True)
    for field in payload.DESCRIPTOR.fields
    for value in ([None, "x", 5, ["x", 5]] if field.is_repeated else BAD_VALUES[field.type])
]


@pytest.mark.parametrize(
    ("message", "name", "value"),
    CASES,
    ids=[f"{message['type']}-{name}-{value!a:.20}" for message, name, value in CASES],
)
def test_a_value_of_the_wrong_type_or_out_of_range_is_refused_by_name(
    message: dict[str, Any], name: Any, value: Any
) -> None:
    error = refused(with_data(message, **{name: value}))
    assert error.context["key"].startswith(f"data.{name}")
    assert "expected" in str(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("contract_id", 2**32 - 1),
        ("sequence", 2**64 - 1),
        ("exchange_time", -(2**63)),
        ("exchange_time", 2**63 - 1),
        ("price", -(2**53)),
    ],
)
def test_the_ends_of_every_range_are_inside(name: str, value: int) -> None:
    assert from_protobuf(to_protobuf(with_data(TICK, **{name: value})))["data"][name] == value


@pytest.mark.parametrize(
    "metadata", [None, [], "x", {1: "x"}, {"k": (1,)}, {"k": {1: 2}}, {"\ud800": 1}]
)
def test_metadata_that_is_no_json_object_is_refused(
    metadata: list[Any] | str | dict[Any, Any] | None,
) -> None:
    assert refused({**TICK, "metadata": metadata}).context["key"].startswith("metadata")


@pytest.mark.parametrize("message", [None, [], "tick", b"", [("type", "tick")]])
def test_a_message_must_be_a_mapping(message: str | bytes | list[tuple[str, str]] | None) -> None:
    assert "a dictionary" in str(refused(message))


def test_a_long_value_is_shortened_in_the_message() -> None:
    assert len(str(refused(with_data(TICK, price="9" * 10_000)))) < 200


# --- messages of other writers --------------------------------------------------------------------


@given(stream_messages())
def test_any_decodable_message_is_converted_unless_its_timestamp_is_invalid(
    message: StreamMessage,
) -> None:
    stamp = message.timestamp
    in_range = -62_135_596_800 <= stamp.seconds <= 253_402_300_799 and 0 <= stamp.nanos < 10**9
    if not in_range:
        with pytest.raises(FormatError, match="no time between"):
            from_protobuf(message)
        return
    reported = from_protobuf(message)
    assert ("timestamp" in reported) == message.HasField("timestamp")
    assert ("data" in reported) == (message.WhichOneof("message_data") is not None)
    # The converted values and the type of the data are the whole message.
    owner = {"contract_id": "tick", "code": "error", "reason": "complete", "status": "info"}
    if "data" in reported and "timestamp" in reported:
        kind = owner[next(iter(reported["data"]))]
        again = to_protobuf({**reported, "type": kind})
        again.type = message.type
        assert again.SerializeToString(deterministic=True) == message.SerializeToString(
            deterministic=True
        )


def test_a_payload_of_another_type_is_converted_under_its_own_keys() -> None:
    message = StreamMessage(type="tick", error_data=ErrorData(code="1"))
    assert from_protobuf(message) == {
        "type": "tick",
        "stream_id": "",
        "data": {"code": "1", "message": "", "recoverable": False},
    }
    stamped = {**from_protobuf(message), "timestamp": TICK["timestamp"]}
    assert "code" in str(refused(stamped))


def test_a_message_without_payload_or_timestamp_lacks_those_keys() -> None:
    assert from_protobuf(StreamMessage(type="heartbeat")) == {"type": "heartbeat", "stream_id": ""}


@given(st.integers(-(2**31), -1) | st.integers(10**9, 2**31 - 1))
def test_nanoseconds_out_of_range_are_refused_not_repaired(nanos: Any) -> None:
    with pytest.raises(FormatError, match=str(nanos)):
        decode_message(wire.delimited(3, wire.integer(2, nanos)))


def test_metadata_of_the_reference_implementation_is_read() -> None:
    message = StreamMessage(type="info", metadata={"historical": "True", "buffer_index": "0"})
    assert from_protobuf(message)["metadata"] == {"historical": "True", "buffer_index": 0}


def test_fields_of_a_newer_schema_are_left_out() -> None:
    known = encode_message(TICK)
    assert decode_message(known + wire.text(100, "later")) == decode_message(known)


@given(wire_messages())
def test_any_valid_encoding_is_decoded(payload: bytes) -> None:
    message = StreamMessage.FromString(payload)
    if 0 <= message.timestamp.nanos < 10**9 and abs(message.timestamp.seconds) < 10**9:
        reported = decode_message(payload)
        assert repr(reported) == repr(from_protobuf(message))
        assert repr(decode_message(memoryview(payload))) == repr(reported)


@pytest.mark.parametrize("payload", [b"\x0a", b"\xff" * 12, wire.delimited(1, b"\xff"), b"\x00"])
def test_invalid_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(FormatError, match=f"{len(payload)} bytes that are not a StreamMessage"):
        decode_message(payload)
