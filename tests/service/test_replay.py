"""Replays of stored ticks over HTTP: the form of a live stream, its pace, buffer and resume."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.sync.client import connect

from ibticks.service import Service

from .conftest import IBM
from .feed import events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Store

START, END = "2013-10-08T14:00:00Z", "2013-10-08T14:01:00Z"
REPLAY: dict[str, Any] = {"replay": f"{START}/{END}", "tick_types": "bid_ask,all_last"}
Event = tuple[str, dict[str, Any]]


@contextmanager
def replaying(service: Service, route: str = "live", **query: Any) -> Iterator[Iterator[Event]]:
    """Read the events of a replay."""
    url = f"{service.url}/v2/stream/{IBM}/{route}"
    with httpx.stream("GET", url, params=REPLAY | query, timeout=60) as response:
        assert response.status_code == 200, response.read()
        yield events(response.iter_lines())


def replay(service: Service, route: str = "live", **query: Any) -> list[dict[str, Any]]:
    """Return the messages of a replay."""
    with replaying(service, route, **query) as stream:
        return [message for _, message in stream]


def ticks_of(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] == "tick"]


def contents(messages: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return time and data of each tick."""
    return [(tick["timestamp"], tick["data"]) for tick in ticks_of(messages)]


def by_type(rows: list[tuple[str, dict[str, Any]]]) -> dict[str, list[Any]]:
    """Return the ticks of each type in their order."""
    return {
        name: [row for row in rows if row[1]["tick_type"] == name]
        for name in ("bid_ask", "all_last")
    }


@pytest.fixture
def stored(get: Callable[..., Any]) -> list[tuple[str, dict[str, Any]]]:
    """Time and data of the stored ticks of the interval."""
    query = {"tick_types": REPLAY["tick_types"], "start_time": START, "end_time": END}
    return contents(get(f"/v2/historical/{IBM}/range", **query)["messages"])


def test_a_replay_is_a_live_stream_of_the_stored_ticks(service: Service, stored: list[Any]) -> None:
    messages = replay(service, speed="max")
    assert messages[0]["data"] == {"status": "live_start"}
    ticks = contents(messages)
    assert by_type(ticks) == by_type(stored)
    assert [when for when, _ in ticks] == [when for when, _ in stored]
    assert {tick["metadata"]["historical"] for tick in ticks_of(messages)} == {False}
    assert messages[-1]["type"] == "complete"
    assert messages[-1]["data"]["reason"] == "replay_complete"
    assert messages[-1]["data"]["total_ticks"] == len(stored)


def test_the_buffer_of_a_replay_is_before_its_start(
    service: Service, get: Callable[..., Any], stored: list[Any]
) -> None:
    messages = replay(service, "with-buffer", speed="max", buffer_duration="30s")
    start_time = "2013-10-08T13:59:30Z"
    query = {"tick_types": REPLAY["tick_types"], "start_time": start_time, "end_time": START}
    before = contents(get(f"/v2/historical/{IBM}/range", **query)["messages"])
    count = len(before)
    assert count
    assert [
        (message["data"]["status"], message["data"].get("buffer_message_count"))
        for message in messages
        if message["type"] == "info"
    ] == [("buffer_start", count), ("buffer_complete", count), ("live_start", None)]
    assert messages.index(next(m for m in messages if m["data"].get("status") == "live_start")) == (
        count + 2
    )
    ticks = ticks_of(messages)
    assert by_type(contents(ticks[:count])) == by_type(before)
    assert by_type(contents(ticks[count:])) == by_type(stored)
    metadata = [tick["metadata"] for tick in ticks[:count]]
    assert [one["buffer_index"] for one in metadata] == list(range(count))
    assert {one["historical"] for one in metadata} == {True}
    assert {tick["metadata"]["historical"] for tick in ticks[count:]} == {False}


def test_a_buffer_without_ticks_after_it(service: Service) -> None:
    night = "2013-10-08T14:00:00Z/2013-10-08T14:00:00.000000001Z"
    messages = replay(
        service,
        "with-buffer",
        replay=night,
        speed="max",
        buffer_duration="30s",
        tick_types="bid_ask",
    )
    statuses = [m["data"].get("status", m["data"].get("reason")) for m in messages]
    assert [status for status in statuses if status] == [
        "buffer_start",
        "buffer_complete",
        "live_start",
        "replay_complete",
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_replay_resumes_after_any_tick(service: Service, seed: int) -> None:
    choose = random.Random(seed)
    query = {"speed": "max", "buffer_duration": "10s"}
    whole = ticks_of(replay(service, "with-buffer", **query))
    received: list[dict[str, Any]] = []
    position = None
    while True:
        resume: dict[str, Any] = {} if position is None else {"resume": position}
        cut = choose.randrange(1, len(whole))
        with replaying(service, "with-buffer", **query, **resume) as stream:
            for position, message in stream:  # noqa: B007 - where the next reader goes on
                if message["type"] == "tick":
                    received.append(message)
                    cut -= 1
                if not cut or message["type"] == "complete":
                    break
        if cut:
            break
    assert contents(received) == contents(whole)
    historical = [tick["metadata"]["historical"] for tick in received]
    assert historical == [tick["metadata"]["historical"] for tick in whole]


def test_ticks_come_as_far_apart_as_they_were(service: Service, stored: list[Any]) -> None:
    speed = 100
    began = time.monotonic()
    messages = replay(service, speed=speed)
    elapsed = time.monotonic() - began
    assert by_type(contents(messages)) == by_type(stored)
    span = float(stored[-1][0][17:-1]) - float(stored[0][0][17:-1])
    assert span > 50
    assert elapsed >= span / speed


def test_a_replay_waits_with_heartbeats(service: Service) -> None:
    query = REPLAY | {"speed": 0.001, "heartbeat": 0.1}
    with httpx.stream("GET", f"{service.url}/v2/stream/{IBM}", params=query) as response:
        lines = response.iter_lines()
        for _ in range(2):
            assert ": heartbeat" in lines
    messages = replay(service, speed=0.001, timeout=0.3)
    assert messages[-1]["data"]["reason"] == "timeout"


def test_the_limit_of_a_replay(service: Service, stored: list[Any]) -> None:
    messages = replay(service, speed="max", limit=3)
    assert by_type(contents(messages)) == by_type(contents(ticks_of(messages)))
    assert messages[-1]["data"]["reason"] == "limit"
    assert [when for when, _ in contents(messages)] == [when for when, _ in stored[:3]]


def test_the_end_of_the_service_completes_a_replay(sample_store: Store) -> None:
    service = Service(sample_store, port=0)
    with replaying(service, speed=0.001) as stream:
        next(stream)
        closing = threading.Thread(target=service.close)
        closing.start()
        messages = [message for _, message in stream]
        closing.join()
    assert messages[-1]["data"]["reason"] == "service_closed"


def test_a_replay_over_a_websocket(service: Service, stored: list[Any]) -> None:
    url = service.url.replace("http", "ws")
    query = str(httpx.QueryParams(REPLAY | {"speed": "max"}))
    with connect(f"{url}/v2/stream/{IBM}?{query}") as socket:
        messages = [json.loads(text) for text in socket]
    assert by_type(contents(messages)) == by_type(stored)
    assert messages[-1]["data"]["reason"] == "replay_complete"
    with connect(f"{url}/v2/ws/stream") as socket:
        data = {"contract_id": IBM, "speed": 1000, **REPLAY}
        socket.send(json.dumps({"type": "subscribe", "data": data}))
        several = [json.loads(socket.recv(timeout=60))]
        while several[-1]["type"] != "complete":
            several.append(json.loads(socket.recv(timeout=60)))
    assert several[0]["type"] == "subscribed"
    assert contents(several) == contents(messages)


def test_clients_of_a_replay_are_listed(service: Service) -> None:
    with replaying(service, speed=0.001) as stream:
        next(stream)
        clients = httpx.get(f"{service.url}/stream/active").json()["clients"]
    assert "replaying" in [client["state"] for client in clients]


@pytest.mark.parametrize(
    "query",
    [
        {"replay": "yesterday"},
        {"replay": START},
        {"replay": f"{END}/{START}"},
        {"replay": f"{START}/{START}"},
        {"replay": "2013-10-08T14:00:00/2013-10-08T14:01:00"},
        {"replay": f"{START}/{END}/{END}"},
        {"speed": "0"},
        {"speed": "-1"},
        {"speed": "nan"},
        {"speed": "inf"},
        {"speed": "fast"},
        {"resume": "nonsense"},
    ],
)
def test_wrong_parameters(service: Service, query: dict[str, str]) -> None:
    answer = httpx.get(f"{service.url}/v2/stream/{IBM}/live", params=REPLAY | query)
    assert answer.status_code == 400, answer.text
    assert answer.json()["data"]["code"] == "INVALID_REQUEST"
