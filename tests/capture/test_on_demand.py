"""Streams on demand, from the gateway through the official client."""

from __future__ import annotations

import gc
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ibticks as ibt
from ibticks.capture import OnDemandStream
from ibticks.capture import _on_demand as on_demand
from ibticks.errors import (
    ConnectionFailedError,
    InputError,
    UnknownTickTypeError,
    WriterLockedError,
)
from ibticks.gateway import Gateway, Replay
from ibticks.testing import FakeCapture
from ibticks.tws import _transport as transport
from tests.capture_checks import BTC, IBM, SERVER_VERSIONS, covered, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KINDS = ("last", "all_last", "bid_ask", "mid_point")
FIELDS = {
    "bid_ask": ("bid_price", "bid_size", "ask_price", "ask_size", "bid_past_low", "ask_past_high"),
    "mid_point": ("mid_price",),
}


# Before any gateway: no thread stays, of whichever side.
pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def stream() -> Iterator[Callable[..., OnDemandStream]]:
    """Opens streams of a gateway; they close after the test."""
    opened = []

    def start(
        gateway: Gateway, contract_id: int = IBM, tick_type: str = "bid_ask", **how: Any
    ) -> OnDemandStream:
        opened.append(ibt.stream_ticks(contract_id, tick_type, port=gateway.port, **how))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def kinds(messages: list[dict[str, Any]] | OnDemandStream) -> list[Any]:
    return [message["type"] for message in messages]


def sent_rows(
    gateway: Gateway, count: int, contract_id: int = IBM, tick_type: str = "bid_ask"
) -> list[Any]:
    """The first ticks of a stream as messages have them."""
    part = gateway.replay.streams[contract_id, tick_type].take(slice(count)).columns
    names = FIELDS.get(tick_type, ("price", "size", "past_limit", "unreported"))
    rows = zip(*(part.numbers(name).tolist() for name in names), strict=True)
    seconds = part.numbers("exchange_time").tolist()
    return [
        {**dict(zip(names, row, strict=True)), "exchange_time": second}
        for row, second in zip(rows, seconds, strict=True)
    ]


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
@pytest.mark.parametrize("tick_type", KINDS)
def test_stream_from_subscribed_to_complete(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream], tick_type: str
) -> None:
    gateway = serve()
    before = time.time_ns()
    first, *ticks, last = stream(gateway, IBM, tick_type, limit=200, timeout_seconds=60)
    assert (first["type"], first["data"]["status"]) == ("info", "subscribed")
    assert first["data"]["contract_info"]["symbol"] == "IBM"
    assert first["data"]["contract_info"]["contract_type"] == "STK"
    assert first["data"]["stream_config"] == {
        "tick_type": tick_type,
        "limit": 200,
        "timeout_seconds": 60,
    }
    assert kinds(ticks) == ["tick"] * 200
    assert [tick["data"]["sequence"] for tick in ticks] == list(range(1, 201))
    for tick, sent in zip(ticks, sent_rows(gateway, 200, IBM, tick_type), strict=True):
        assert tick["data"].items() >= sent.items()
        assert (tick["data"]["contract_id"], tick["data"]["tick_type"]) == (IBM, tick_type)
    assert last["type"] == "complete"
    assert 0 <= last["data"].pop("duration_seconds") < (time.time_ns() - before) / 1e9
    assert last["data"] == {"reason": "limit_reached", "total_ticks": 200, "final_sequence": 200}
    assert len({message["stream_id"] for message in (first, *ticks, last)}) == 1
    json.dumps([first, *ticks, last])
    until(lambda: not gateway.clients, "the client leaves")


def test_messages_are_v2_messages(
    serve: Callable[..., Gateway],
    stream: Callable[..., OnDemandStream],
    tmp_path: Path,
    database: str,
) -> None:
    messages = list(stream(serve(), tick_type="last", limit=20))
    with ibt.open(tmp_path / "imported", dsn=database) as store:
        path = tmp_path / "stream.jsonl"
        path.write_text("".join(json.dumps(message) + "\n" for message in messages))
        ibt.import_messages(store, path)
        stored = list(store.select(IBM, "last").messages(ticks=True))
    for message in (*messages, *stored):
        message["timestamp"] = message["timestamp"].rstrip("0Z")
    assert stored == messages


def test_no_message_after_the_timeout(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream], few: Replay
) -> None:
    """A stream that ticks, and one that does not."""
    gateway = serve(few, speed=1.0)
    gateway.mute(BTC)
    for contract_id in (IBM, BTC):
        messages = list(stream(gateway, contract_id, timeout_seconds=0.4))
        last = messages[-1]["data"]
        assert last["reason"] == "timeout"
        assert last["total_ticks"] == kinds(messages).count("tick") == len(messages) - 2
        assert ("final_sequence" in last) == (last["total_ticks"] > 0)
        assert last["duration_seconds"] >= 0.4


def test_a_stream_ends_once_and_stays_ended(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream]
) -> None:
    ticks = stream(serve(), limit=3)
    assert kinds(ticks) == ["info", "tick", "tick", "tick", "complete"]
    assert list(ticks) == []
    ticks.close()
    ticks.close()


def test_unread_messages_are_handed_out_after_a_cancel(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream]
) -> None:
    gateway = serve()
    ticks = stream(gateway)
    got = [next(ticks) for _ in range(11)]
    ticks.close()
    until(lambda: gateway.subscriptions == 0, "it is cancelled")
    rest = list(ticks)
    assert rest[-1]["data"]["reason"] == "cancelled"
    sequences = [m["data"]["sequence"] for m in (*got, *rest) if m["type"] == "tick"]
    assert sequences == list(range(1, len(sequences) + 1))
    assert rest[-1]["data"]["total_ticks"] == len(sequences)


def test_close_from_another_thread_ends_the_reader(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream]
) -> None:
    gateway = serve()
    gateway.mute(IBM)
    ticks = stream(gateway)
    assert next(ticks)["type"] == "info"
    closing = threading.Timer(0.2, ticks.close)
    closing.start()
    assert next(ticks)["data"]["reason"] == "cancelled"
    closing.join()


def test_with_statement_and_garbage_collection_close_a_stream(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream]
) -> None:
    gateway = serve()
    with ibt.stream_ticks(IBM, "bid_ask", port=gateway.port) as ticks:
        next(ticks)
    until(lambda: gateway.subscriptions == 0, "it is cancelled")
    for message in ibt.stream_ticks(IBM, "bid_ask", port=gateway.port):
        assert message
        break
    gc.collect()
    until(lambda: not gateway.clients, "the client leaves")


def test_slow_reader_loses_nothing_and_slows_the_gateway(
    serve: Callable[..., Gateway],
    stream: Callable[..., OnDemandStream],
    samples: Replay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_demand, "_MAX_UNREAD", 50)
    monkeypatch.setattr(transport, "_MAX_QUEUED_BYTES", 20_000)
    gateway = serve(samples)
    ticks = stream(gateway)
    until(lambda: gateway.buffered > 0, "the gateway waits for its reader")
    waiting = ticks._listener._unread
    assert len(waiting) == 50
    total = gateway.replay.streams[IBM, "bid_ask"].rows
    assert gateway.sent[IBM, "bid_ask"] < total
    sequence = 0
    for message in ticks:
        assert len(waiting) <= 50
        if message["type"] == "tick":
            sequence += 1
            assert message["data"]["sequence"] == sequence
        if sequence == total:
            break
    assert sequence == total


def test_a_slow_reader_can_still_close(
    serve: Callable[..., Gateway],
    stream: Callable[..., OnDemandStream],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_demand, "_MAX_UNREAD", 10)
    ticks = stream(serve())
    until(lambda: len(ticks._listener._unread) == 10)
    ticks.close()
    *messages, last = ticks
    assert last["data"]["reason"] == "cancelled"
    assert last["data"]["total_ticks"] == kinds(messages).count("tick")


# -- what goes wrong -------------------------------------------------------------------------------


def test_stream_of_an_unknown_contract(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream]
) -> None:
    error, complete = stream(serve(), 4711, "last")
    assert error["data"]["code"] == "200"
    assert not error["data"]["recoverable"]
    assert complete["data"]["reason"] == "error"
    assert complete["data"]["total_ticks"] == 0


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
def test_stream_that_ib_refuses(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream]
) -> None:
    gateway = serve()
    gateway.forbid(IBM, "last")
    subscribed, error, complete = stream(gateway, IBM, "last")
    assert subscribed["data"]["status"] == "subscribed"
    assert error["type"] == "error"
    assert complete["data"]["reason"] == "error"
    assert list(stream(gateway, IBM, "bid_ask", limit=1))[-1]["data"]["reason"] == "limit_reached"


def test_a_connection_that_is_lost(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream]
) -> None:
    gateway = serve()
    gateway.after(50, lambda: gateway.drop())
    *messages, error, complete = stream(gateway)
    assert kinds(messages) == ["info", *["tick"] * 50]
    assert (error["type"], error["data"]["code"]) == ("error", "504")
    assert error["data"]["recoverable"]
    assert complete["data"]["reason"] == "disconnected"
    assert complete["data"]["total_ticks"] == 50


def test_outage_of_ib_is_reported_and_the_stream_goes_on(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream]
) -> None:
    gateway = serve()
    gateway.after(20, lambda: gateway.send_error(1100, "Connectivity has been lost"))
    gateway.after(30, lambda: gateway.send_error(1102, "Connectivity has been restored"))
    messages = list(stream(gateway, limit=60))
    infos = [
        (m["data"]["status"], m["metadata"].get("code")) for m in messages if m["type"] == "info"
    ]
    assert infos == [("subscribed", None), ("disconnected", 1100), ("restored", 1102)]
    assert kinds(messages).count("tick") == 60


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
def test_stream_is_subscribed_again_after_data_loss(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream]
) -> None:
    gateway = serve()
    gateway.after(20, lambda: (gateway.lose_contact(), gateway.regain_contact(data_lost=True)))
    messages = list(stream(gateway, limit=60))
    infos = [m["data"]["status"] for m in messages if m["type"] == "info"]
    assert infos[0] == infos[-1] == "subscribed"
    assert "disconnected" in infos
    sequences = [m["data"]["sequence"] for m in messages if m["type"] == "tick"]
    assert sequences == list(range(1, 61))


@pytest.mark.parametrize("code", [316, 10182, 10225])
def test_stream_that_ib_ends_is_subscribed_again(
    code: int, serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream]
) -> None:
    gateway = serve()
    gateway.after(20, lambda: gateway.send_error(code, req_id=gateway.log[-1].req_id))
    messages = list(stream(gateway, limit=60))
    infos = [
        (m["data"]["status"], m["metadata"].get("code")) for m in messages if m["type"] == "info"
    ]
    assert infos == [("subscribed", None), ("disconnected", code), ("subscribed", None)]
    sequences = [m["data"]["sequence"] for m in messages if m["type"] == "tick"]
    assert sequences == list(range(1, 61))


def test_stream_that_ib_ends_again_without_a_tick_fails(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream]
) -> None:
    gateway = serve()
    gateway.forbid(IBM, "bid_ask", code=10225)
    subscribed, disconnected, again, error, complete = stream(gateway, IBM, "bid_ask")
    assert [m["data"]["status"] for m in (subscribed, disconnected, again)] == [
        "subscribed",
        "disconnected",
        "subscribed",
    ]
    assert error["data"]["code"] == "10225"
    assert complete["data"]["reason"] == "error"


def test_gateway_that_is_away_or_refuses_the_client(serve: Callable[..., Gateway]) -> None:
    gateway = serve()
    gateway.refuse(2)
    with pytest.raises(ConnectionFailedError, match="326"):
        ibt.stream_ticks(IBM, "last", port=gateway.port)
    assert list(ibt.stream_ticks(IBM, "last", port=gateway.port, client_id=3, limit=1))
    gateway.close()
    with pytest.raises(ConnectionFailedError, match="502"):
        ibt.stream_ticks(IBM, "last", port=gateway.port)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"tick_type": "trades"}, UnknownTickTypeError, "trades"),
        ({"contract_id": -1}, InputError, "-1"),
        ({"limit": 0}, InputError, "limit=0"),
        ({"timeout_seconds": 0}, InputError, "timeout_seconds=0"),
        ({"timeout_seconds": float("nan")}, InputError, "timeout_seconds=nan"),
    ],
)
def test_invalid_arguments_are_refused_before_connecting(
    wrong: dict[str, Any], error: type[UnknownTickTypeError] | type[InputError], words: str
) -> None:
    with pytest.raises(error, match=words):
        ibt.stream_ticks(**{"contract_id": IBM, "tick_type": "last", "port": 1} | wrong)  # type: ignore[arg-type]


# -- recorded --------------------------------------------------------------------------------------


def test_messages_of_a_recorded_stream_are_in_the_store(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream], store: ibt.Store
) -> None:
    gateway = serve()
    messages = list(stream(gateway, store=store, limit=300))
    stored = list(store.select(IBM, "bid_ask").messages(ticks=True))
    assert [message["data"] for message in stored[:-1]] == [m["data"] for m in messages]
    assert stored[-1]["data"]["status"] == "stopped"
    assert covered(store, IBM, "bid_ask") == ["captured"]
    assert store.select(IBM, "bid_ask").count() == 300
    # The sequence numbers continue.
    gateway.rewind()
    more = list(stream(gateway, store=store, limit=10))
    assert [m["data"]["sequence"] for m in more if m["type"] == "tick"] == list(range(301, 311))
    assert covered(store, IBM, "bid_ask") == ["captured", "captured"]
    rows = store.index.coverage()
    store.rebuild_index(progress=False)
    assert store.index.coverage() == rows


def test_a_tick_is_stored_before_it_is_handed_out(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream], store: ibt.Store
) -> None:
    ticks = stream(serve(), store=store)
    while next(ticks)["data"].get("sequence") != 5:
        pass
    there = list(store.select(IBM, "bid_ask").messages(ticks=True))
    assert [m["data"].get("sequence") for m in there[:6]] == [None, 1, 2, 3, 4, 5]


def test_captured_stream_cannot_be_recorded(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream], store: ibt.Store
) -> None:
    gateway = serve()
    capture = FakeCapture(store.root, store.index, IBM, "bid_ask")
    with pytest.raises(WriterLockedError, match="already written by"):
        stream(gateway, store=store)
    assert not gateway.clients
    # Only to look on is allowed, and so is another stream.
    assert list(stream(gateway, limit=1))
    assert list(stream(gateway, IBM, "last", store=store, limit=1))
    capture.kill()


def test_stream_that_never_began_stores_nothing(
    serve: Callable[..., Gateway], store: ibt.Store
) -> None:
    gateway = serve()
    gateway.refuse(2)
    with pytest.raises(ConnectionFailedError):
        ibt.stream_ticks(IBM, "last", port=gateway.port, store=store)
    assert store.index.files() == []
    FakeCapture(store.root, store.index, IBM, "last").kill()  # the lock is free


def test_several_streams_at_once(serve: Callable[..., Gateway], few: Replay) -> None:
    gateway = serve(few)
    with (
        ibt.stream_ticks(IBM, "bid_ask", port=gateway.port, limit=100) as one,
        ibt.stream_ticks(BTC, "last", port=gateway.port, limit=100, client_id=3) as other,
    ):
        pairs = list(zip(one, other, strict=True))
    assert len(pairs) == 102


def test_gateway_without_ticks(
    serve: Callable[..., Gateway], stream: Callable[..., OnDemandStream], few: Replay
) -> None:
    empty = Replay(few.contracts, [few.streams[IBM, "last"].take(slice(0))])
    subscribed, complete = stream(serve(empty), IBM, "last", timeout_seconds=0.2)
    assert subscribed["data"]["status"] == "subscribed"
    assert complete["data"]["total_ticks"] == 0
