"""Streams over WebSockets: the envelopes, several streams on one socket, and who may connect."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from ibticks.service import Service

from .feed import CONTRACT, Feed, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser
    from websockets.sync.client import ClientConnection

    from ibticks import Store


@pytest.fixture
def opened(live_service: Service) -> Iterator[Callable[..., ClientConnection]]:
    """Open WebSockets, which are closed after the test."""
    with ExitStack() as sockets:

        def open_socket(path: str, **how: Any) -> ClientConnection:
            url = live_service.url.replace("http", "ws") + path
            return sockets.enter_context(connect(url, **how))

        yield open_socket


def receive(socket: ClientConnection) -> dict[str, Any]:
    """Return the next message."""
    message: dict[str, Any] = json.loads(socket.recv(timeout=60))
    return message


def send(socket: ClientConnection, kind: str, **data: Any) -> None:
    """Send a request."""
    socket.send(json.dumps({"type": kind, "data": data}))


def test_a_stream_with_buffer(feed: Feed, opened: Callable[..., ClientConnection]) -> None:
    feed.write("last", 2)
    path = f"/v2/stream/{CONTRACT}/with-buffer?tick_types=last&buffer_duration=1h&limit=3"
    socket = opened(path)
    messages = [receive(socket) for _ in range(5)]
    feed.write("last")
    messages += [json.loads(text) for text in socket]
    statuses = [message["data"]["status"] for message in messages if message["type"] == "info"]
    assert statuses == ["buffer_start", "buffer_complete", "live_start"]
    assert numbers(messages, "last") == [0, 1, 2]
    assert messages[-1]["data"]["reason"] == "limit"
    assert socket.close_code == 1000
    # Each position resumes after its tick.
    first, second, third = (message for message in messages if message["type"] == "tick")
    assert (first["metadata"]["buffer_index"], third["metadata"]["historical"]) == (0, False)
    again = opened(f"{path}&resume={second['metadata']['position']}".replace("&buffer", "&x"))
    assert numbers((receive(again) for _ in range(2)), "last") == [2]


def test_the_other_envelope(feed: Feed, opened: Callable[..., ClientConnection]) -> None:
    feed.write("last", 2)
    path = f"/v2/stream/{CONTRACT}/with-buffer?tick_type=last&buffer_period=last_hour&limit=3"
    socket = opened(path)
    messages = [receive(socket) for _ in range(3)]
    feed.write("last")
    messages += [json.loads(text) for text in socket]
    assert [message["type"] for message in messages] == [
        *("historical", "historical", "info", "tick", "complete"),
    ]
    assert numbers((message["data"] for message in messages[:2]), "last") == [0, 1]
    assert messages[2]["data"] == {"status": "switching_to_live", "historical_count": 2}


def test_several_streams_on_one_socket(feed: Feed, opened: Callable[..., ClientConnection]) -> None:
    feed.write("last", 2)
    socket = opened("/v2/ws/stream")
    send(socket, "subscribe", contract_id=CONTRACT, tick_types=["last"], buffer_duration="1h")
    send(socket, "subscribe", contract_id="FEED", tick_type="bid_ask", limit=1)
    messages: list[dict[str, Any]] = []

    def until(condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not condition(message := receive(socket)):
            messages.append(message)
        messages.append(message)
        return message

    started = 0
    while started < 2:
        message = until(lambda message: message["type"] == "info")
        started += message["data"]["status"] == "live_start"
    assert {m["stream_id"] for m in messages if m["type"] == "subscribed"} == {
        f"{CONTRACT}_last",
        f"{CONTRACT}_bid_ask",
    }
    feed.write("bid_ask")
    until(lambda message: message["type"] == "complete")
    feed.write("last")
    until(lambda message: numbers([message], "last") == [2])
    assert numbers(messages, "bid_ask") == [0]
    assert numbers(messages, "last") == [0, 1, 2]
    send(socket, "unsubscribe", stream_id=f"{CONTRACT}_last")
    until(lambda message: message["type"] == "unsubscribed")
    feed.write("last")
    send(socket, "ping")
    assert receive(socket)["type"] == "pong"


@pytest.mark.parametrize(
    "request_",
    [
        "no JSON",
        "[" * 100_000,
        "[]",
        "{}",
        '{"type": "sell"}',
        '{"type": "subscribe", "data": 1}',
        '{"type": "subscribe", "data": {}}',
        '{"type": "subscribe", "data": {"contract_id": true}}',
        '{"type": "subscribe", "data": {"contract_id": 42, "tick_types": [1]}}',
        '{"type": "subscribe", "data": {"contract_id": 42, "tick_types": ["trades"]}}',
        '{"type": "subscribe", "data": {"contract_id": 42, "speed": 5}}',
        '{"type": "subscribe", "data": {"contract_id": 42, "colour": 5}}',
        '{"type": "subscribe", "data": {"contract_id": 42, "limit": 0}}',
        '{"type": "subscribe", "data": {"contract_id": 42, "policy": "some"}}',
        '{"type": "subscribe", "data": {"contract_id": 4711}}',
        '{"type": "subscribe", "data": {"contract_id": 1e300}}',
        '{"type": "subscribe", "data": {"contract_id": 42, "resume": "x"}}',
        '{"type": "unsubscribe", "data": {"stream_id": "42_last"}}',
        '{"type": "unsubscribe", "data": {"stream_id": ["42_last"]}}',
    ],
)
def test_a_wrong_request_is_answered(
    opened: Callable[..., ClientConnection], request_: str
) -> None:
    socket = opened("/v2/ws/stream")
    socket.send(request_)
    message = receive(socket)
    assert message["type"] == "error"
    assert message["data"]["message"]
    send(socket, "ping")
    assert receive(socket)["type"] == "pong"


def test_a_second_subscription_of_a_stream(opened: Callable[..., ClientConnection]) -> None:
    socket = opened("/v2/ws/stream")
    for _ in range(2):
        send(socket, "subscribe", contract_id=CONTRACT, tick_types=["last"])
    messages = [receive(socket) for _ in range(3)]
    assert sorted(message["type"] for message in messages) == ["error", "info", "subscribed"]


@pytest.mark.parametrize(
    ("path", "code", "close_code"),
    [
        (f"/v2/stream/{CONTRACT}/live?tick_type=trades", "INVALID_TICK_TYPE", 4400),
        (f"/v2/stream/{CONTRACT}/live?limit=0", "INVALID_REQUEST", 4400),
        (f"/v2/stream/{CONTRACT}/with-buffer?resume=x", "INVALID_REQUEST", 4400),
        ("/v2/stream/4711/live", "CONTRACT_NOT_FOUND", 4404),
    ],
)
def test_an_error_closes_the_socket(
    opened: Callable[..., ClientConnection], path: str, code: str, close_code: int
) -> None:
    socket = opened(path)
    assert receive(socket)["data"]["code"] == code
    with pytest.raises(ConnectionClosedError):
        receive(socket)
    assert socket.close_code == close_code


def test_a_lost_position_closes_with_its_code(
    feed: Feed, opened: Callable[..., ClientConnection], store: Store
) -> None:
    feed.write("last", 2)
    path = f"/v2/stream/{CONTRACT}/with-buffer?tick_type=last"
    position = [json.loads(text) for text in opened(f"{path}&limit=1")][-1]["metadata"]["position"]
    for file in (store.root / str(CONTRACT) / "last").rglob("*_ticks.pb"):
        file.unlink()
    socket = opened(f"{path}&resume={position}")
    error = receive(socket)["data"]
    assert error["code"] == "POSITION_LOST"
    assert error["details"]["first_position"]
    with pytest.raises(ConnectionClosedError):
        receive(socket)
    assert socket.close_code == 4409


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://example.com"}, {"Origin": "null"}, {"Host": "example.com"}]
)
def test_pages_of_other_sites_are_refused(live_service: Service, headers: dict[str, str]) -> None:
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    url = f"{live_service.url}/v2/stream/{CONTRACT}/live"
    assert httpx.get(url, headers=handshake | headers).status_code == 403


def test_pages_of_this_machine_may_connect(
    opened: Callable[..., ClientConnection], live_service: Service
) -> None:
    socket = opened(
        f"/v2/stream/{CONTRACT}/live?tick_type=last",
        additional_headers={"Origin": live_service.url},
    )
    assert receive(socket)["data"]["status"] == "live_start"


@pytest.mark.browser
def test_the_event_source_and_the_socket_of_a_browser(
    browser: Browser, feed: Feed, live_service: Service
) -> None:
    feed.write("last", 3)
    page = browser.new_page()
    page.goto(f"{live_service.url}/health")
    query = "tick_type=last&buffer_duration=1h"
    read = """(url) => new Promise((resolve) => {
      const ticks = [];
      const source = url.startsWith("ws") ? new WebSocket(url) : new EventSource(url);
      source.onmessage = (event) => {
        const message = JSON.parse(event.data);
        if (message.type === "tick") ticks.push(message.data.sequence);
        if (ticks.length === 3) { source.close(); resolve(ticks); }
      };
    })"""
    path = f"/v2/stream/{CONTRACT}/with-buffer?{query}"
    assert page.evaluate(read, live_service.url + path) == [0, 1, 2]
    assert page.evaluate(read, live_service.url.replace("http", "ws") + path) == [0, 1, 2]
    page.close()


@pytest.mark.browser
def test_a_browser_connects_again_without_a_duplicate(
    browser: Browser, feed: Feed, store: Store
) -> None:
    feed.write("last", 3)
    first = Service(store, port=0)
    page = browser.new_page()
    page.goto(f"{first.url}/health")
    page.evaluate(
        """(url) => {
          window.ticks = [];
          const source = new EventSource(url);
          source.onmessage = (event) => {
            const message = JSON.parse(event.data);
            if (message.type === "tick") window.ticks.push(message.data.sequence);
          };
        }""",
        f"{first.url}/v2/stream/{CONTRACT}/with-buffer?tick_type=last&buffer_duration=1h",
    )
    page.wait_for_function("window.ticks.length === 3")
    assert first.port is not None
    first.close()
    feed.write("last", 2)
    with Service(store, port=first.port):
        page.wait_for_function("window.ticks.length >= 5")
        feed.write("last")
        page.wait_for_function("window.ticks.length >= 6")
        assert page.evaluate("window.ticks") == [0, 1, 2, 3, 4, 5]
        page.close()
