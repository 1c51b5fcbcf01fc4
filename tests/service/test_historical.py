"""Routes of stored ticks, against the examples of IB-Stream and what the store loads itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
import polars as pl
import pytest

from ibticks.service import Service

from .conftest import IBM, read_frames

if TYPE_CHECKING:
    from ibticks import Store

START, END = "2013-10-08T14:00:00Z", "2013-10-08T14:00:30Z"
HISTORY = f"/v2/historical/{IBM}"
Get: TypeAlias = Callable[..., Any]

# A message as the examples of IB-Stream have it.
TICK_KEYS = ["type", "stream_id", "timestamp", "data"]


def stored(store: Store, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
    """Return the messages that the store itself yields."""
    messages = store.select(*arguments, **options).messages(ticks=True)
    return [message for message in messages if message["type"] == "tick"]


def test_range_has_the_shape_of_the_reference(get: Get, sample_store: Store) -> None:
    answer = get(f"{HISTORY}/range", tick_type="all_last", start_time=START, end_time=END)
    assert list(answer) == ["messages", "count"]
    assert answer["messages"] == stored(sample_store, IBM, "all_last", start=START, end=END)
    assert answer["count"] == len(answer["messages"]) > 1
    tick = answer["messages"][0]
    assert list(tick) == TICK_KEYS
    assert list(tick["data"])[:4] == ["contract_id", "tick_type", "price", "size"]


def test_the_default_tick_type_is_bid_ask(get: Get) -> None:
    answer = get(f"{HISTORY}/range", start_time=START, end_time=END)
    assert {message["data"]["tick_type"] for message in answer["messages"]} == {"bid_ask"}


def test_parallel_changes_nothing(get: Get) -> None:
    times = {"start_time": "2013-10-08T12:00:00Z", "end_time": "2013-10-08T14:01:00Z"}
    one = get(f"{HISTORY}/range", parallel="false", **times)
    assert get(f"{HISTORY}/range", parallel="true", **times) == one
    assert one["count"] > 1000


@pytest.mark.parametrize("name", ["tick_type", "tick_types"])
def test_several_tick_types_are_merged_by_time(get: Get, sample_store: Store, name: str) -> None:
    answer = get(f"{HISTORY}/range", **{name: "bid_ask, all_last"}, start_time=START, end_time=END)
    assert answer["messages"] == stored(
        sample_store, IBM, ["bid_ask", "all_last"], start=START, end=END
    )
    times = [message["timestamp"] for message in answer["messages"]]
    assert times == sorted(times)
    assert {message["data"]["tick_type"] for message in answer["messages"]} == {
        "bid_ask",
        "all_last",
    }


def test_tick_types_may_be_repeated(client: httpx.Client) -> None:
    query = f"start_time={START}&end_time={END}"
    listed = client.get(f"{HISTORY}/range?tick_types=bid_ask,all_last&{query}")
    repeated = client.get(f"{HISTORY}/range?tick_types=bid_ask&tick_types=all_last&{query}")
    assert repeated.json() == listed.json()


def test_a_symbol_stands_for_an_id(get: Get) -> None:
    times = {"start_time": START, "end_time": END}
    assert get("/v2/historical/ibm/range", **times) == get(f"{HISTORY}/range", **times)


def test_ranges_are_half_open(get: Get) -> None:
    messages = get(f"{HISTORY}/range", start_time=START, end_time=END)["messages"]
    time = messages[0]["timestamp"]
    until = get(f"{HISTORY}/range", start_time=START, end_time=time)
    onwards = get(f"{HISTORY}/range", start_time=time, end_time=END)
    assert until["count"] == 0
    assert until["messages"] == []
    assert onwards["messages"] == messages


@pytest.mark.parametrize(
    "start",
    [
        "2013-10-08T10:00:00-04:00",
        "2013-10-08T15:00:00+01:00",  # escaped, as clients do
        "2013-10-08 14:00:00.000000000Z",
    ],
)
def test_times_have_any_offset(get: Get, start: str) -> None:
    assert get(f"{HISTORY}/range", start_time=start, end_time=END) == get(
        f"{HISTORY}/range", start_time=START, end_time=END
    )


def test_a_plus_sign_need_not_be_escaped(client: httpx.Client, get: Get) -> None:
    answer = client.get(
        f"{HISTORY}/range?start_time=2013-10-08T14:00:00+00:00&end_time=2013-10-08T14:00:30+00:00"
    )
    assert answer.json() == get(f"{HISTORY}/range", start_time=START, end_time=END)


def test_a_zone_is_that_of_times_without_one(get: Get) -> None:
    assert get(
        f"{HISTORY}/range",
        start_time="2013-10-08 10:00",
        end_time="2013-10-08 10:00:30",
        tz="America/New_York",
    ) == get(f"{HISTORY}/range", start_time=START, end_time=END)


def test_to_present_has_the_shape_of_the_reference(get: Get) -> None:
    before = datetime.now(UTC)
    answer = get(f"{HISTORY}/to-present", tick_type="all_last", start_time="2013-10-08T20:00:00Z")
    assert list(answer) == ["messages", "count", "current_time"]
    assert answer["count"] == len(answer["messages"]) > 0
    assert before <= datetime.fromisoformat(answer["current_time"]) <= datetime.now(UTC)


def test_to_present_ends_with_now(get: Get, sample_store: Store) -> None:
    start = "2013-10-08T14:59:00Z"
    now = "2013-10-08T15:00:10Z"
    answer = get(f"{HISTORY}/to-present", start_time=start, now=now)
    assert answer["current_time"] == "2013-10-08T15:00:10+00:00"
    assert answer["messages"] == stored(sample_store, IBM, "bid_ask", start=start, now=now)
    whole_hours = get(
        f"{HISTORY}/to-present", start_time=start, now=now, include_incomplete_hour="false"
    )
    assert whole_hours["messages"] == stored(
        sample_store, IBM, "bid_ask", start=start, end="2013-10-08T15:00:00Z"
    )
    assert 0 < whole_hours["count"] < answer["count"]


def test_to_present_within_an_incomplete_hour_is_empty(get: Get) -> None:
    answer = get(
        f"{HISTORY}/to-present",
        start_time="2013-10-08T15:00:05Z",
        now="2013-10-08T15:00:10Z",
        include_incomplete_hour="false",
    )
    assert (answer["messages"], answer["count"]) == ([], 0)


def test_the_last_tick_may_be_now(get: Get) -> None:
    answer = get(f"{HISTORY}/relative", period="last_minute", now="last_tick")
    last = get(f"{HISTORY}/to-present", start_time=START, now="last_tick")
    assert answer["messages"][-1] == last["messages"][-1]
    tick = datetime.fromisoformat(last["messages"][-1]["timestamp"])
    assert tick - datetime.fromisoformat(last["current_time"]) == timedelta(0)


def test_session_has_the_shape_of_the_reference(get: Get, sample_store: Store) -> None:
    answer = get(f"{HISTORY}/session", tick_type="all_last", date="2013-10-08")
    assert list(answer) == ["messages", "count", "session"]
    assert answer["session"] == {
        "type": "regular",
        "market": "US",
        "start": "2013-10-08T13:30:00+00:00",
        "end": "2013-10-08T20:00:00+00:00",
    }
    assert answer["count"] == len(answer["messages"])
    assert (
        answer["count"]
        == sample_store.select(IBM, "all_last", session="regular", date="2013-10-08").count()
    )


@pytest.mark.parametrize(
    ("market", "session_type", "start", "end"),
    [
        ("US", "pre_market", "2013-10-08T08:00:00+00:00", "2013-10-08T13:30:00+00:00"),
        ("US", "after_hours", "2013-10-08T20:00:00+00:00", "2013-10-09T00:00:00+00:00"),
        ("US", "extended", "2013-10-08T08:00:00+00:00", "2013-10-09T00:00:00+00:00"),
        ("UK", "regular", "2013-10-08T07:00:00+00:00", "2013-10-08T15:30:00+00:00"),
        ("JP", "morning", "2013-10-08T00:00:00+00:00", "2013-10-08T02:30:00+00:00"),
    ],
)
def test_sessions_of_markets(
    get: Get, market: str, session_type: str, start: str, end: str
) -> None:
    session = get(
        f"{HISTORY}/session", date="2013-10-08", market=market, session_type=session_type
    )["session"]
    assert session == {"type": session_type, "market": market, "start": start, "end": end}


def test_a_date_may_be_a_time(get: Get) -> None:
    """A time with an offset is the day in the zone of the market, as in IB-Stream."""
    answer = get(f"{HISTORY}/session", date="2013-10-09T01:00:00Z")
    assert answer["session"]["start"] == "2013-10-08T13:30:00+00:00"


def test_without_a_date_the_session_is_the_latest(get: Get) -> None:
    answer = get(f"{HISTORY}/session", tick_type="all_last", now="last_tick")
    assert answer["session"]["start"] == "2013-10-08T13:30:00+00:00"


def test_relative_has_the_shape_of_the_reference(get: Get, sample_store: Store) -> None:
    answer = get(f"{HISTORY}/relative", now="2013-10-08T14:05:00Z", period="last_5_minutes")
    assert list(answer) == ["messages", "count", "period"]
    assert answer["period"] == "last_5_minutes"
    assert answer["messages"] == stored(
        sample_store, IBM, "bid_ask", "last_5_minutes", now="2013-10-08T14:05:00Z"
    )
    assert answer["count"] == len(answer["messages"]) > 0


def test_the_default_period_is_the_last_hour(get: Get) -> None:
    answer = get(f"{HISTORY}/relative", tick_type="all_last")
    assert answer == {"messages": [], "count": 0, "period": "last_hour"}


@pytest.mark.parametrize("name", ["buffer_period", "buffer_duration"])
def test_names_of_the_period(get: Get, name: str) -> None:
    now = "2013-10-08T14:05:00Z"
    answer = get(f"{HISTORY}/relative", **{name: "1m"}, now=now)
    assert answer == get(f"{HISTORY}/relative", period="1m", now=now)


def test_protobuf_route_as_json(get: Get, sample_store: Store) -> None:
    answer = get(f"{HISTORY}/protobuf", tick_types="bid_ask", start_time=START, end_time=END)
    assert list(answer) == ["messages"]
    assert answer["messages"] == stored(sample_store, IBM, "bid_ask", start=START, end=END)
    assert answer == get(f"{HISTORY}/protobuf", start_time=START, end_time=END, format="json")


def test_protobuf_route_as_frames(client: httpx.Client, sample_store: Store) -> None:
    answer = client.get(
        f"{HISTORY}/protobuf",
        params={
            "tick_types": "bid_ask,all_last",
            "start_time": START,
            "end_time": END,
            "format": "protobuf",
        },
    )
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert read_frames(answer.content) == stored(
        sample_store, IBM, ["bid_ask", "all_last"], start=START, end=END
    )


def test_protobuf_ends_with_now_by_default(get: Get, client: httpx.Client) -> None:
    start = "2013-10-08T23:00:00Z"
    answer = get(f"{HISTORY}/protobuf", start_time=start)
    assert answer["messages"]
    assert answer["messages"] == get(f"{HISTORY}/to-present", start_time=start)["messages"]
    empty = client.get(
        f"{HISTORY}/protobuf",
        params={"start_time": "2020-01-01T00:00Z", "format": "protobuf"},
    )
    assert (empty.status_code, empty.content) == (200, b"")


def test_a_whole_day_is_streamed_in_pieces(get: Get, sample_store: Store) -> None:
    """The pieces follow each other without a gap."""
    answer = get(
        f"{HISTORY}/range",
        tick_type="all_last",
        start_time="2000-01-01T00:00Z",
        end_time="2030-01-01T00:00Z",
    )
    assert answer["messages"] == stored(sample_store, IBM, "all_last")
    assert answer["count"] == len(answer["messages"]) > 30_000


@pytest.mark.filterwarnings("ignore::ibticks.errors.CorruptDataWarning")
def test_damaged_data_is_reported(store: Store) -> None:
    times = [f"2025-01-10T14:{minute:02}:00Z" for minute in range(60)]
    store.write(
        pl.DataFrame({"timestamp": times, "price": [1.0] * 60}), contract_id=IBM, tick_type="last"
    )
    [record] = store.select(IBM, "last").files()
    path = store.root / record.path
    data = bytearray(path.read_bytes())
    data[-100] ^= 0xFF
    path.write_bytes(data)
    parameters = {
        "tick_type": "last",
        "start_time": "2025-01-10T14:00Z",
        "end_time": "2025-01-10T15:00Z",
    }
    with Service(store, port=0) as service, httpx.Client(base_url=service.url) as client:
        answer = client.get(f"{HISTORY}/range", params=parameters).json()
        assert list(answer) == ["messages", "count", "missing"]
        [interval] = answer["missing"]
        assert list(interval) == ["start", "end"]
        assert interval["start"] == "2025-01-10T14:00:00.000000000Z"
        assert answer["count"] == 0
        body = client.get(
            f"{HISTORY}/protobuf", params={**parameters, "format": "protobuf"}
        ).content
    error = read_frames(body)[-1]
    assert error["type"] == "error"
    assert interval["start"] in error["data"]["message"]
