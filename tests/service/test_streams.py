"""Streams over HTTP: buffer and live, hand-over, resume, limits, slow clients."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ibticks.service import Service
from ibticks.service import _broadcast as broadcast

from .feed import CONTRACT, TICK_TYPES, Feed, events, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Store

WORLDS = int(os.environ.get("IBTICKS_STREAM_WORLDS", "20"))
NOTHING_MISSED = [("buffer_start", 0), ("buffer_complete", 0), ("live_start", None)]
BOTH: dict[str, Any] = {"tick_types": "bid_ask,last", "buffer_duration": "1h"}


@contextmanager
def reading(
    service: Service,
    route: str = "with-buffer",
    headers: dict[str, str] | None = None,
    **query: Any,
) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    """Read the events of a stream."""
    url = f"{service.url}/v2/stream/{CONTRACT}/{route}"
    with httpx.stream("GET", url, params=query, headers=headers, timeout=60) as response:
        assert response.status_code == 200, response.read()
        yield events(response.iter_lines())


def read_all(service: Service, **query: Any) -> list[dict[str, Any]]:
    """Return the messages of a stream that ends."""
    with reading(service, **query) as stream:
        return [message for _, message in stream]


def read_to_live(service: Service, **query: Any) -> list[dict[str, Any]]:
    """Return the messages of a stream up to the one that says that it is live."""
    messages = []
    with reading(service, **query) as stream:
        for _, message in stream:
            messages.append(message)
            if message["data"].get("status") == "live_start":
                break
    return messages


def statuses(messages: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return status or reason of each message that is no tick, with its count."""
    return [
        (data.get("status", data.get("reason")), data.get("buffer_message_count"))
        for data in (message["data"] for message in messages if message["type"] != "tick")
    ]


def test_the_sequence_of_a_stream_with_buffer(feed: Feed, live_service: Service) -> None:
    feed.write("bid_ask", 3)
    feed.write("last", 2)
    with reading(live_service, **BOTH, limit=7) as stream:
        messages = [next(stream)[1] for _ in range(8)]
        feed.write("last", 2)
        messages += [message for _, message in stream]
    assert statuses(messages) == [
        ("buffer_start", 5),
        ("buffer_complete", 5),
        ("live_start", None),
        ("limit", None),
    ]
    ticks = [message for message in messages if message["type"] == "tick"]
    assert [tick["metadata"] for tick in ticks] == [
        {"historical": True, "buffer_index": index} for index in range(5)
    ] + [{"historical": False}] * 2
    assert numbers(ticks, "bid_ask") == [0, 1, 2]
    assert numbers(ticks, "last") == [0, 1, 2, 3]
    assert messages[-1]["type"] == "complete"
    assert messages[-1]["data"]["total_ticks"] == 7
    assert {message["stream_id"] for message in messages} == {"feed", f"{CONTRACT}_multi"}


def test_the_headers_of_events(live_service: Service) -> None:
    url = f"{live_service.url}/v2/stream/{CONTRACT}/live"
    with httpx.stream("GET", url, params={"tick_type": "last", "timeout": 0.1}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.read().startswith(b"retry: 2000\n\n")


@pytest.mark.parametrize("route", ["", "live"])
def test_a_live_stream_has_no_buffer(feed: Feed, live_service: Service, route: str) -> None:
    feed.write("last", 3)
    url = f"{live_service.url}/v2/stream/FEED" + (f"/{route}" if route else "")
    with httpx.stream("GET", url, params={"tick_type": "last", "limit": 2}) as response:
        stream = events(response.iter_lines())
        first = next(stream)[1]
        feed.write("last", 2)
        messages = [first, *(message for _, message in stream)]
    assert statuses(messages) == [("live_start", None), ("limit", None)]
    assert numbers(messages, "last") == [3, 4]


@pytest.mark.parametrize("limit", [1, 2, 4, 5])
def test_a_stream_resumes_after_its_limit(feed: Feed, live_service: Service, limit: int) -> None:
    feed.write("last", 5)
    with reading(live_service, tick_type="last", limit=limit) as stream:
        position, last = list(stream)[-1]
    assert last["type"] == "complete"
    messages = read_to_live(live_service, tick_type="last", resume=position)
    assert numbers(messages, "last") == list(range(limit, 5))


def test_a_timeout_ends_a_stream(live_service: Service) -> None:
    messages = read_all(live_service, tick_type="last", timeout=0.2)
    assert statuses(messages)[-1] == ("timeout", None)
    assert messages[-1]["data"]["duration_seconds"] >= 0.2


def test_heartbeats(live_service: Service) -> None:
    query: dict[str, Any] = {"tick_type": "last", "heartbeat": 0.1}
    url = f"{live_service.url}/v2/stream/{CONTRACT}"
    with httpx.stream("GET", url, params=query, timeout=60) as response:
        lines = response.iter_lines()
        for _ in range(2):
            assert ": heartbeat" in lines


def test_the_buffer_hours_of_a_tracked_contract(
    feed: Feed, live_service: Service, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ibticks.service import _streams

    feed.write("last")
    tracked = {"status": {"contracts": {str(CONTRACT): {"buffer_hours": 3}}}}
    monkeypatch.setattr(_streams, "read_status", lambda _: tracked)
    assert _streams._buffer_period(store, CONTRACT) == "3h"
    assert _streams._buffer_period(store, CONTRACT + 1) == "1h"
    messages = read_all(live_service, tick_type="last", limit=1)
    assert statuses(messages)[0] == ("buffer_start", 1)


def test_clients_share_a_stream(feed: Feed, live_service: Service) -> None:
    with reading(live_service, "live", tick_types="bid_ask,last") as first:
        next(first)
        with reading(live_service, "live", tick_types="bid_ask,last") as second:
            next(second)
            active = httpx.get(f"{live_service.url}/stream/active").json()
            assert active["streams"] == [
                {
                    "contract_ids": [CONTRACT],
                    "tick_types": list(TICK_TYPES),
                    "clients": 2,
                    "ticks": 0,
                }
            ]
            assert [client["state"] for client in active["clients"]] == ["live", "live"]
            feed.write("last", 5)
            read = [[next(stream) for _ in range(5)] for stream in (first, second)]
            assert read[0] == read[1]
    until(lambda: httpx.get(f"{live_service.url}/stream/active").json()["streams"] == [])


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.01)


@pytest.mark.parametrize("seed", range(WORLDS))
def test_hand_over_with_connections_cut_at_random(feed: Feed, store: Store, seed: int) -> None:
    choose = random.Random(seed)
    feed.write("bid_ask", choose.randrange(300))
    feed.write("last", choose.randrange(300))
    total = sum(feed.written.values()) + choose.randrange(200, 600)
    feed.start(choose, total)
    received: list[dict[str, Any]] = []
    position = None
    service = Service(store, port=0)
    while len(received) < total:
        how: dict[str, str] = (
            {"Last-Event-ID": position} if position and choose.random() < 0.5 else {}
        )
        resume: dict[str, Any] = {"resume": position} if position and not how else {}
        # A reader that is cut off has had some events, and more are on their way.
        cut = choose.choice((1, 5, 50, 200, 10**9))
        with reading(service, headers=how, **BOTH, **resume) as stream:
            for position, message in stream:  # noqa: B007 - where the next reader goes on
                if message["type"] == "tick":
                    received.append(message)
                    cut -= 1
                if not cut or len(received) == total:
                    break
        if choose.random() < 0.2:
            service.close()
            service = Service(store, port=0)
    service.close()
    feed.stop()
    for tick_type in TICK_TYPES:
        written = list(range(feed.written[tick_type]))
        assert numbers(received, tick_type) == written[: len(numbers(received, tick_type))]
    assert len(received) == total


def test_resume_over_a_seal_and_a_compression(
    feed: Feed, live_service: Service, store: Store
) -> None:
    feed.write("last", 10)
    with reading(live_service, tick_type="last", limit=4) as stream:
        position = [place for place, message in stream if message["type"] == "tick"][-1]
    feed.close()
    assert store.compress("zstd", older_than="1h", now="2100-01-01T00:00Z")
    messages = read_to_live(live_service, tick_type="last", resume=position)
    assert numbers(messages, "last") == list(range(4, 10))


def test_a_position_whose_file_is_gone(feed: Feed, live_service: Service, store: Store) -> None:
    feed.write("last", 5)
    with reading(live_service, tick_type="last", limit=3) as stream:
        position = [place for place, message in stream if message["type"] == "tick"][-1]
    shutil.rmtree(store.root / str(CONTRACT) / "last")
    url = f"{live_service.url}/v2/stream/{CONTRACT}/with-buffer"
    query: dict[str, Any] = {"tick_type": "last", "resume": position}
    answer = httpx.get(url, params=query)
    assert answer.status_code == 409
    error = answer.json()["data"]
    assert (error["code"], error["recoverable"]) == ("POSITION_LOST", True)
    assert error["details"]["start"] < error["details"]["end"]
    assert {part["state"] for part in error["details"]["coverage"]} == {"unknown"}
    query |= {"resume": error["details"]["first_position"]}
    assert statuses(read_to_live(live_service, **query)) == NOTHING_MISSED


def test_a_position_whose_file_was_replaced(
    feed: Feed, live_service: Service, store: Store
) -> None:
    feed.write("last", 5)
    with reading(live_service, tick_type="last", limit=3) as stream:
        position = [place for place, message in stream if message["type"] == "tick"][-1]
    feed.close()
    shutil.rmtree(store.root / str(CONTRACT) / "last")
    other = Feed(store)
    other.write("last", 7)
    other.close()
    url = f"{live_service.url}/v2/stream/{CONTRACT}/with-buffer"
    answer = httpx.get(url, params={"tick_type": "last", "resume": position})
    assert answer.status_code == 409
    assert str(store.root) not in answer.text
    position = answer.json()["data"]["details"]["first_position"]
    messages = read_to_live(live_service, tick_type="last", resume=position)
    assert statuses(messages) == NOTHING_MISSED


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"resume": "nonsense"}, "INVALID_REQUEST"),
        ({"resume": "x.1~last~2~~3~4"}, "INVALID_REQUEST"),
        ({"limit": "0"}, "INVALID_REQUEST"),
        ({"timeout": "nan"}, "INVALID_REQUEST"),
        ({"timeout": "-1"}, "INVALID_REQUEST"),
        ({"heartbeat": "inf"}, "INVALID_REQUEST"),
        ({"policy": "some"}, "INVALID_REQUEST"),
        ({"buffer_duration": "soon"}, "INVALID_REQUEST"),
        ({"buffer_duration": "1h", "buffer_period": "1h"}, "INVALID_REQUEST"),
        ({"tick_type": "trades"}, "INVALID_TICK_TYPE"),
    ],
)
def test_wrong_parameters(live_service: Service, query: dict[str, str], code: str) -> None:
    url = f"{live_service.url}/v2/stream/{CONTRACT}/with-buffer"
    answer = httpx.get(url, params={"tick_type": "last"} | query)
    assert answer.status_code == 400
    assert answer.json()["data"]["code"] == code


def test_a_position_of_other_streams(feed: Feed, live_service: Service) -> None:
    feed.write("last")
    with reading(live_service, tick_type="last", limit=1) as stream:
        position = [place for place, _ in stream][-1]
    url = f"{live_service.url}/v2/stream/{CONTRACT}/with-buffer"
    answer = httpx.get(url, params={"tick_type": "bid_ask", "resume": position})
    assert answer.status_code == 400
    assert "ask for the same contracts" in answer.json()["data"]["message"]


def test_an_unknown_contract(live_service: Service) -> None:
    answer = httpx.get(f"{live_service.url}/v2/stream/4711/live", params={"tick_type": "last"})
    assert (answer.status_code, answer.json()["data"]["code"]) == (404, "CONTRACT_NOT_FOUND")


def test_the_end_of_the_service_completes_its_streams(feed: Feed, store: Store) -> None:
    service = Service(store, port=0)
    with reading(service, tick_type="last", buffer_duration="1h") as stream:
        next(stream)
        closing = threading.Thread(target=service.close)
        closing.start()
        messages = [message for _, message in stream]
        closing.join()
    assert statuses(messages)[-1] == ("service_closed", None)


class SlowClient:
    """A client that opens a stream and reads nothing until it is asked to."""

    def __init__(self, service: Service, query: str, route: str = "live") -> None:
        assert service.port is not None
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", service.port))
        path = f"/v2/stream/{CONTRACT}/{route}?{query}"
        self._socket.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        self._file = self._socket.makefile("r", newline="\n")
        assert "200 OK" in self._file.readline()
        self.events = events(self._file)
        first = "live_start" if route == "live" else "buffer_start"
        assert next(self.events)[1]["data"]["status"] == first

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def test_a_slow_client_gets_every_tick(
    feed: Feed, live_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "_RING_BYTES", 10_000)
    ticks = 30_000
    slow = SlowClient(live_service, f"tick_type=last&limit={ticks}")
    fast = SlowClient(live_service, f"tick_type=last&limit={ticks}")
    reader = threading.Thread(target=lambda: read.extend(message for _, message in fast.events))
    read: list[dict[str, Any]] = []
    reader.start()
    feed.write("last", ticks)
    reader.join()
    assert numbers(read, "last") == list(range(ticks))
    behind = [message for _, message in slow.events]
    assert numbers(behind, "last") == list(range(ticks))
    assert {message["metadata"]["historical"] for message in behind[:-1]} == {False}
    slow.close()
    fast.close()


def test_a_slow_client_that_wants_the_latest(
    feed: Feed, live_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "_RING_BYTES", 10_000)
    ticks = 30_000
    slow = SlowClient(live_service, "tick_type=last&policy=latest")
    fast = SlowClient(live_service, f"tick_type=last&limit={ticks}")
    feed.write("last", ticks)
    assert len(numbers((message for _, message in fast.events), "last")) == ticks
    received: list[int] = []
    dropped = 0
    for _, message in slow.events:
        data = message["data"]
        if message["type"] == "info":
            assert data["status"] == "dropped"
            assert data["start"] < data["end"]
            dropped += data["count"]
        else:
            received.append(data["sequence"])
        if received and received[-1] == ticks - 1:
            break
    assert dropped > 0
    assert len(received) + dropped == ticks
    assert received == sorted(set(received))
    slow.close()
    fast.close()


def test_a_client_that_wants_the_latest_after_a_buffer(feed: Feed, live_service: Service) -> None:
    stored, ticks = 20_000, 50_000
    feed.write("last", stored)
    slow = SlowClient(live_service, "tick_type=last&buffer_duration=1h&policy=latest", "buffer")
    feed.write("last", ticks - stored)
    received: list[dict[str, Any]] = []
    dropped = 0
    for _, message in slow.events:
        dropped += message["data"].get("count", 0)
        if message["type"] == "tick":
            received.append(message)
        if numbers(received[-1:], "last") == [ticks - 1]:
            break
    historical = [tick for tick in received if tick["metadata"]["historical"]]
    assert numbers(historical, "last") == list(range(stored))
    assert dropped > 0
    assert len(received) + dropped == ticks
    slow.close()


def test_the_memory_of_a_ring(feed: Feed, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "_RING_BYTES", 500_000)

    async def fill() -> int:
        channel = broadcast.Channel(store.live(CONTRACT, list(TICK_TYPES), markers=False))
        try:
            for _ in range(100):
                feed.write("last", 50)
                channel.drain()
            return memory_bytes(channel._ring)
        finally:
            await channel.close()

    assert 400_000 < asyncio.run(fill()) < 550_000


def memory_bytes(value: object) -> int:
    """Return the size of a value and of all that it refers to."""
    size = sys.getsizeof(value)
    if isinstance(value, deque | list | tuple):
        return size + sum(map(memory_bytes, value))
    return size + sum(map(memory_bytes, getattr(value, "__dict__", {}).values()))


def test_curl(feed: Feed, live_service: Service) -> None:
    feed.write("last", 2)
    url = f"{live_service.url}/v2/stream/{CONTRACT}/with-buffer?tick_type=last&limit=2"
    done = subprocess.run(["curl", "-sN", url], capture_output=True, text=True, check=True)
    messages = [message for _, message in events(done.stdout.splitlines())]
    assert numbers(messages, "last") == [0, 1]
