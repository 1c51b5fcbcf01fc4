"""Streams on demand over HTTP: shared, ended with the last client, recorded if asked, refused."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ibticks.capture import _capture as capture_module
from ibticks.gateway import Gateway, Limits
from ibticks.service import Service
from tests.capture_checks import QUICK, until
from tests.fix_capture import (
    SealedHere,
    capturing,
    few,
    samples,
    serve,
    server_version,
    steady,
)

from .feed import events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import ibticks as ibt
    from ibticks.gateway import Replay

__all__ = ["capturing", "few", "samples", "serve", "server_version", "steady"]

Event = tuple[str, dict[str, Any]]
ONE, TWO = 1, 2


@pytest.fixture
def gateway(serve: Callable[..., Gateway], steady: Replay) -> Gateway:
    """A gateway with a hundred ticks a second of each stream, and two lines."""
    return serve(steady, speed=1.0, limits=Limits(streams=2))


@pytest.fixture
def on_demand(
    store: ibt.Store, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    """A service that streams from the gateway on demand."""
    monkeypatch.setattr(capture_module, "SealProcess", SealedHere)
    options: Any = {"port": gateway.port, "grace_seconds": 0.2, **QUICK}
    with Service(store, port=0, on_demand=options) as service:
        yield service


@contextmanager
def reading(service: Service, contract: int, **query: Any) -> Iterator[Iterator[Event]]:
    """Read the events of a stream of live trades."""
    url = f"{service.url}/v2/stream/{contract}"
    with httpx.stream("GET", url, params={"tick_type": "last"} | query, timeout=60) as response:
        assert response.status_code == 200, response.read()
        yield events(response.iter_lines())


def next_ticks(stream: Iterator[Event], count: int) -> list[dict[str, Any]]:
    """Return the data of the next ticks."""
    ticks: list[dict[str, Any]] = []
    for _, message in stream:
        if message["type"] == "tick":
            ticks.append(message["data"])
        if len(ticks) == count:
            break
    return ticks


def next_problem(stream: Iterator[Event]) -> dict[str, Any]:
    """Return the data of the next error."""
    return next(message["data"] for _, message in stream if message["type"] == "error")


def sequences(ticks: list[dict[str, Any]]) -> list[int]:
    return [tick["sequence"] for tick in ticks]


def test_clients_share_a_subscription_that_ends_with_the_last(
    on_demand: Service, gateway: Gateway, store: ibt.Store
) -> None:
    shared = on_demand._shared_streams
    assert shared is not None
    with reading(on_demand, ONE) as first:
        ticks = next_ticks(first, 20)
        assert sequences(ticks) == list(range(1, 21))
        with reading(on_demand, ONE) as second:
            others = next_ticks(second, 20)
            assert gateway.subscriptions == 1
            assert list(shared.active().values()) == [2]
        numbers = sequences(others)
        assert numbers == list(range(numbers[0], numbers[0] + 20))
        rest = sequences(next_ticks(first, 20))
        assert rest == list(range(21, 41))
    prices = [tick["price"] for tick in ticks]
    assert prices == [row / 64 + 1 for row in gateway.rows_sent(ONE, "last", 2)[:20]]
    until(lambda: gateway.subscriptions == 0 and gateway.clients == ())
    until(lambda: not list(shared.root.glob("1/last/**/*_ticks.pb")))
    assert not shared.active()
    assert store.contracts() == []
    # It can be asked for again.
    with reading(on_demand, ONE) as stream:
        assert sequences(next_ticks(stream, 3)) == [1, 2, 3]


def test_a_client_that_was_cut_off_goes_on(store: ibt.Store, gateway: Gateway) -> None:
    options: Any = {"port": gateway.port, "grace_seconds": 600, **QUICK}
    received: list[int] = []
    position = None
    with Service(store, port=0, on_demand=options) as service:
        for _ in range(5):
            resume: dict[str, Any] = {} if position is None else {"resume": position}
            with reading(service, ONE, **resume) as stream:
                for position, message in stream:  # noqa: B007 - where the next reader goes on
                    if message["type"] == "tick":
                        received.append(message["data"]["sequence"])
                        if len(received) % 10 == 0:
                            break
        assert gateway.subscriptions == 1
    assert received == list(range(1, 51))


def test_the_buffer_of_a_stream_on_demand(on_demand: Service) -> None:
    url = f"{on_demand.url}/v2/stream/{ONE}/with-buffer"
    query = {"tick_type": "last", "limit": "30", "buffer_duration": "1h"}
    with reading(on_demand, ONE) as stream:
        next_ticks(stream, 20)
        body = httpx.get(url, params=query, timeout=60).text
    messages = [message for _, message in events(body.splitlines())]
    assert messages[0]["data"]["buffer_message_count"] >= 20
    ticks = [message["data"] for message in messages if message["type"] == "tick"]
    assert sequences(ticks) == list(range(1, 31))


def test_a_recorded_stream(on_demand: Service, gateway: Gateway, store: ibt.Store) -> None:
    with reading(on_demand, ONE) as unrecorded:
        next_ticks(unrecorded, 5)
        with reading(on_demand, ONE, record="1") as stream:
            ticks = next_ticks(stream, 50)
            assert gateway.subscriptions == 1
        until(lambda: store.index.files() and not store.index.open_files())
        # The stream goes on without the recording.
        next_ticks(unrecorded, 5)
    frame = store.select("ONE", "last").to_polars()
    assert frame["sequence"].to_list() == list(range(1, frame.height + 1))
    # The first may have come before the recording began.
    prices, received = frame["price"].to_list(), [tick["price"] for tick in ticks]
    missed = received.index(prices[0]) if prices[0] in received else 0
    assert missed < len(received)
    first = prices.index(received[missed])
    assert prices[first : first + len(received) - missed] == received[missed:]
    assert frame.height == store.select(ONE, "last").count()
    states = [state.state.value for state in store.coverage(ONE, "last").state_intervals]
    assert "captured" in states


def test_streams_beyond_the_limit_of_ib(on_demand: Service, gateway: Gateway) -> None:
    with reading(on_demand, ONE) as first, reading(on_demand, TWO) as second:
        next_ticks(first, 1)
        next_ticks(second, 1)
        with reading(on_demand, TWO, tick_type="bid_ask") as third:
            problem = next_problem(third)
        assert problem["code"] == "RATE_LIMIT_EXCEEDED"
        assert problem["recoverable"]
        assert problem["details"] == {"contract_id": TWO, "tick_type": "bid_ask", "ib_code": 10190}
        next_ticks(first, 1)
        next_ticks(second, 1)


def test_a_contract_that_ib_does_not_know(on_demand: Service) -> None:
    with reading(on_demand, 4711) as stream:
        messages = [message for _, message in stream]
    assert messages[-1]["type"] == "error"
    problem = messages[-1]["data"]
    assert (problem["code"], problem["recoverable"]) == ("CONTRACT_NOT_FOUND", False)
    assert problem["details"]["ib_code"] == 200


def test_a_gateway_that_is_away(on_demand: Service, gateway: Gateway) -> None:
    gateway.shut()
    with reading(on_demand, ONE) as stream:
        problem = next_problem(stream)
        assert (problem["code"], problem["recoverable"]) == ("CONNECTION_ERROR", True)
        gateway.reopen()
        assert sequences(next_ticks(stream, 3)) == [1, 2, 3]


def test_captured_contracts_are_not_subscribed_again(
    on_demand: Service,
    gateway: Gateway,
    capturing: Callable[..., ibt.Capture],
    store: ibt.Store,
) -> None:
    capture = capturing(gateway, "1:ONE:last")
    url = f"{on_demand.url}/background/status"
    until(lambda: httpx.get(url).json()["status"].get("ticks", 0) > 0)
    with reading(on_demand, ONE, record="1") as stream:
        next_ticks(stream, 5)
        assert gateway.clients == (capture.settings.client_id,)
    assert gateway.subscriptions == 1


def test_symbols_that_are_not_known(on_demand: Service) -> None:
    answer = httpx.get(f"{on_demand.url}/v2/stream/NONE", params={"tick_type": "last"})
    assert (answer.status_code, answer.json()["data"]["code"]) == (404, "CONTRACT_NOT_FOUND")


@pytest.mark.parametrize("tick_type", ["trades", ""])
def test_tick_types_that_are_none(on_demand: Service, gateway: Gateway, tick_type: str) -> None:
    query = {"tick_type": tick_type}
    answer = httpx.get(f"{on_demand.url}/v2/stream/{ONE}", params=query)
    assert answer.status_code == 400
    assert gateway.subscriptions == 0


def test_a_service_without_streams_on_demand(store: ibt.Store) -> None:
    store.add_contract(ONE, "ONE")
    with Service(store, port=0) as service:
        answer = httpx.get(f"{service.url}/v2/stream/{ONE}", params={"record": "1"})
    assert answer.status_code == 400
    assert "--on-demand" in answer.json()["data"]["message"]


def test_the_end_of_the_service(store: ibt.Store, gateway: Gateway) -> None:
    options: Any = {"port": gateway.port, **QUICK}
    service = Service(store, port=0, on_demand=options)
    shared = service._shared_streams
    assert shared is not None
    with reading(service, ONE) as stream:
        next_ticks(stream, 1)
        service.close()
        last = [message for _, message in stream][-1]
    assert last["data"]["reason"] == "service_closed"
    assert gateway.wait_clients(0)
    assert not shared.root.exists()


def test_a_position_after_the_end_of_its_stream(on_demand: Service, gateway: Gateway) -> None:
    with reading(on_demand, ONE) as stream:
        position = next(place for place, message in stream if message["type"] == "tick")
    until(lambda: gateway.subscriptions == 0 and gateway.clients == ())
    query = {"tick_type": "last", "resume": position}
    answer = httpx.get(f"{on_demand.url}/v2/stream/{ONE}", params=query)
    assert answer.status_code == 409
    assert json.loads(answer.text)["data"]["details"]["first_position"]
