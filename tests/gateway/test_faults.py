"""Each injected fault, as a raw client sees it."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.gateway._connection import Boundary

from .clients import RawClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.gateway import Gateway, Replay


def prices(ticks: list[list[str]]) -> list[float]:
    return [float(tick[4]) for tick in ticks]


def bids(replay: Replay, rows: slice[Any, Any, Any]) -> list[float]:
    return replay.streams[1, "bid_ask"].columns.numbers("bid_price")[rows].tolist()


def test_a_drop_after_so_many_ticks_is_exact(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    gateway.after(137, gateway.drop)
    client = dial(gateway)
    client.subscribe(7, 1)
    assert prices(client.ticks(137)) == bids(ticks, slice(137))
    assert client.ended() == b""
    assert [(s.req_id, s.first, s.last) for s in gateway.log] == [(7, 0, 136)]
    assert gateway.wait_clients(0)


def test_an_abrupt_drop_resets_the_connection(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    client = dial(gateway)
    client.answers()
    assert gateway.drop(abrupt=True) == 1
    with pytest.raises(ConnectionResetError):
        client.payload()


def test_only_one_client_is_dropped(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    one, two = dial(gateway, client_id=1), dial(gateway, client_id=2)
    one.answers()
    two.answers()
    assert gateway.drop(1) == 1
    assert one.ended() == b""
    assert two.answers()
    assert gateway.drop(3) == 0


def test_ticks_during_a_disconnection_are_lost(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    gateway.after(100, lambda: gateway.drop(lose=50))
    first = dial(gateway)
    first.subscribe(1, 1)
    assert prices(first.ticks(100)) == bids(ticks, slice(100))
    first.ended()
    again = dial(gateway)
    again.subscribe(2, 1)
    assert prices(again.ticks(450)) == bids(ticks, slice(150, None))


def test_a_client_id_in_use_is_refused(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    dial(gateway, client_id=5).answers()
    second = dial(gateway, client_id=5)
    assert second.error() == (-1, 326, "Unable to connect as the client id is already in use.")
    assert second.ended() == b""
    assert gateway.clients == (5,)


def test_a_client_id_is_free_again_when_its_client_has_left(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    first = dial(gateway, client_id=5)
    first.answers()
    first.close()
    assert gateway.wait_clients(0)
    assert dial(gateway, client_id=5).answers()


def test_a_client_id_can_be_refused_on_command(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    gateway.refuse(5)
    assert dial(gateway, client_id=5).error()[1] == 326
    gateway.admit(5)
    assert dial(gateway, client_id=5).answers()


@pytest.mark.parametrize("versions", [(157, 157), (157, 178), (100, 200)])
@pytest.mark.parametrize("code", [1100, 1102, 1300, 2103, 2105, 10197])
def test_errors_on_command(
    serve: Callable[..., Gateway],
    dial: Callable[..., RawClient],
    versions: tuple[int, int],
    code: int,
) -> None:
    gateway = serve()
    client = dial(gateway, versions=versions)
    client.answers()
    assert gateway.send_error(code) == 1
    assert gateway.send_error(code, "in these words", req_id=60001) == 1
    req_id, got, text = client.error()
    assert (req_id, got) == (-1, code)
    assert len(text) > 20
    assert client.error() == (60001, code, "in these words")


def test_after_1101_the_subscriptions_are_forgotten(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    gateway.after(60, lambda: gateway.send_error(1101))
    client = dial(gateway)
    client.subscribe(1, 1)
    assert prices(client.ticks(60)) == bids(ticks, slice(60))
    assert client.error()[:2] == (-1, 1101)
    assert gateway.subscriptions == 0
    client.subscribe(1, 1)
    assert prices(client.ticks(540)) == bids(ticks, slice(60, None))


@pytest.mark.parametrize("data_lost", [True, False])
def test_the_connection_to_ib_is_lost_and_restored(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient], data_lost: bool
) -> None:
    gateway = serve()
    gateway.after(60, gateway.lose_contact)
    client = dial(gateway)
    client.subscribe(1, 1)
    client.ticks(60)
    assert client.error()[:2] == (-1, 1100)
    assert client.answers()
    assert client.quiet()
    assert gateway.regain_contact(data_lost=data_lost, lose=40) == 1
    assert client.error()[:2] == (-1, 1101 if data_lost else 1102)
    if data_lost:
        client.subscribe(2, 1)
    assert prices(client.ticks(500)) == bids(ticks, slice(100, None))


def test_a_stall_keeps_the_connection_open(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    gateway.after(60, gateway.stall)
    client = dial(gateway)
    client.subscribe(1, 1)
    client.ticks(60)
    client.send(49, 1)
    assert client.quiet()
    assert gateway.flow() == 1
    messages = [client.fields() for _ in range(541)]
    assert prices([m for m in messages if m[0] == "99"]) == bids(ticks, slice(60, None))
    assert [m[0] for m in messages].count("49") == 1


def test_a_stall_ends_by_itself(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    client = dial(gateway)
    client.answers()
    gateway.stall(0.05)
    assert client.answers()


def test_garbage_comes_between_two_messages(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    gateway.after(60, lambda: gateway.garbage(b"\xde\xad\xbe\xef"))
    client = dial(gateway)
    client.subscribe(1, 1)
    assert prices(client.ticks(60)) == bids(ticks, slice(60))
    assert client._exactly(4) == b"\xde\xad\xbe\xef"
    assert prices(client.ticks(540)) == bids(ticks, slice(60, None))


def test_a_connection_that_ends_within_a_message(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    gateway.after(60, gateway.close_mid_message)
    client = dial(gateway)
    client.subscribe(1, 1)
    client.ticks(60)
    rest = client.ended()
    assert int.from_bytes(rest[:4], "big") > len(rest) - 4 > 0


def test_a_nightly_restart(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    gateway.after(60, lambda: gateway.shut(lose=10))
    client = dial(gateway)
    client.subscribe(1, 1)
    client.ticks(60)
    assert client.ended() == b""
    with pytest.raises(ConnectionRefusedError):
        RawClient(gateway.port)
    # No other process gets the port meanwhile.
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", gateway.port))
    gateway.reopen()
    again = dial(gateway)
    again.subscribe(1, 1)
    assert prices(again.ticks(530)) == bids(ticks, slice(70, None))
    gateway.nightly_restart(0.05)
    assert again.ended() == b""
    while True:
        try:
            assert dial(gateway, client_id=2).answers()
        except ConnectionRefusedError:
            continue
        break


def test_a_restart_disconnects_new_clients(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    client = dial(gateway, versions=None)
    dial(gateway).answers()
    gateway.shut()
    assert client.ended() == b""


def test_writes_in_small_pieces(
    ticks: Replay,
    serve: Callable[..., Gateway],
    dial: Callable[..., RawClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The sizes of the writes are counted where they are made: TCP may join them for the reader.
    sizes: list[int] = []
    write = asyncio.StreamWriter.write

    def counted_write(writer: asyncio.StreamWriter, data: bytes) -> None:
        sizes.append(len(data))
        write(writer, data)

    gateway = serve()
    client = dial(gateway)
    assert client.answers()
    gateway.split_writes(3)
    monkeypatch.setattr(asyncio.StreamWriter, "write", counted_write)
    client.subscribe(1, 1)
    whole = b"".join(ticks.streams[1, "bid_ask"].frames(200, 1, 0, 600))
    received = b""
    while len(received) < len(whole):
        received += client.socket.recv(65536)
    assert received == whole
    assert sum(sizes) == len(whole)
    assert max(sizes) == 3
    assert gateway.drop() == 1
    gateway.split_writes(None)
    again = dial(gateway)
    assert again.answers()


def test_a_client_that_connects_later_gets_small_pieces_after_its_greeting(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    gateway.split_writes(1)
    client = dial(gateway, client_id=None)
    client.fields()
    client.send(71, 2, 1, "")
    client.version = "200"
    assert client.answers()


@pytest.mark.parametrize(
    ("size", "gap"), [(0, 0), (100, 0), (200, 0), (30, 70), (37, 163), (99, 101), (101, 99)]
)
def test_a_notice_fills_a_burst_to_a_multiple_of_its_size(size: int, gap: int) -> None:
    assert Boundary(100, 1.0, 1, whole=True).gap(size) == gap


@pytest.mark.parametrize("size", [4096, 8192])
def test_bursts_of_exactly_so_many_bytes(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient], size: int
) -> None:
    gateway = serve(start_after=0)
    client = dial(gateway)
    client.subscribe(1, 1)
    client.answers()
    gateway.silent_until_boundary(size, seconds=0.5)
    gateway.resume()
    burst = client._exactly(size)
    assert client.quiet(0.2)
    client.buffer = burst + client.buffer
    ends = 0
    while ends < len(burst):
        ends += 4 + int.from_bytes(burst[ends : ends + 4], "big")
    assert ends == len(burst)
    assert prices(client.ticks(600)) == bids(ticks, slice(None))


def test_a_drop_during_a_burst_loses_no_logged_tick(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve(start_after=0)
    client = dial(gateway)
    client.subscribe(1, 1)
    client.answers()
    gateway.silent_until_boundary(4096, seconds=30)
    gateway.resume()
    client.buffer = client._exactly(4096) + client.buffer
    assert gateway.drop() == 1
    ((first, last),) = [(s.first, s.last) for s in gateway.log]
    assert (first, last) == (0, 511)
    assert prices(client.ticks(512)) == bids(ticks, slice(512))
    assert client.ended() == b""


def test_bursts_that_end_within_a_message(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve(start_after=0)
    client = dial(gateway)
    client.subscribe(1, 1)
    client.answers()
    gateway.silent_until_boundary(1000, seconds=0.3, bursts=2, whole=False)
    gateway.resume()
    bursts = []
    for _ in range(2):
        bursts.append(client._exactly(1000))
        assert client.quiet(0.1)
    client.buffer = b"".join(bursts) + client.buffer
    assert prices(client.ticks(600)) == bids(ticks, slice(None))


def test_a_burst_that_nothing_fills_goes_out_with_a_notice(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    client = dial(gateway)
    client.answers()
    gateway.silent_until_boundary(4096, seconds=0.1)
    client.send(49, 1)
    client.subscribe(1, 99)
    client.buffer = client._exactly(4096) + client.buffer
    assert client.until("49")
    assert client.error()[1] == 200


def test_a_muted_stream_is_subscribed_but_silent(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve(start_after=2)
    gateway.mute(1, "bid_ask")
    gateway.after(50, lambda: gateway.unmute(1, "bid_ask"))
    client = dial(gateway)
    client.subscribe(1, 1, "BidAsk")
    client.subscribe(2, 1, "MidPoint")
    got = client.ticks(1150)
    # Both streams tick at the same times; half of the first hundred were muted.
    assert [tick[1] for tick in got[:50]] == ["2"] * 50
    assert prices([tick for tick in got if tick[1] == "1"]) == bids(ticks, slice(50, None))
    assert [(s.key, s.first, s.last) for s in gateway.log] == [
        ((1, "mid_point"), 0, 599),
        ((1, "bid_ask"), 50, 599),
    ]


def test_a_whole_contract_is_muted_to_its_end(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    gateway.mute(1)
    client = dial(gateway)
    client.subscribe(1, 1)
    assert gateway.wait_finished(1)
    assert client.answers()
    assert gateway.sent == {}


@pytest.mark.parametrize("tick_type", ["bid_ask", None])
def test_streams_without_permission(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient], tick_type: str | None
) -> None:
    gateway = serve()
    gateway.forbid(1, tick_type)
    gateway.forbid(2, tick_type, code=354, message="no")
    client = dial(gateway)
    client.subscribe(1, 1)
    client.subscribe(2, 2)
    assert client.error()[:2] == (1, 10189)
    assert client.error() == (2, 354, "no")
    gateway.permit(1, tick_type)
    client.subscribe(1, 1)
    assert client.until("99")


def test_a_gateway_that_does_not_answer_and_one_that_hangs_up(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    gateway.answer_connections("silence")
    silent = dial(gateway, client_id=None, versions=None)
    silent.socket.sendall(b"API\0\0\0\0\x09v100..200")
    assert silent.quiet()
    gateway.answer_connections("hang_up")
    assert dial(gateway, versions=None).ended() == b""
    gateway.answer_connections("greet")
    assert dial(gateway).answers()


def test_actions_happen_at_their_ticks_in_order(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    seen = []

    def note() -> None:
        seen.append(sum(gateway.sent.values()))

    for at in (200, 10, 100, 10):
        gateway.after(at, note)
    gateway.after(0, note)
    client = dial(gateway)
    client.subscribe(1, 1)
    client.ticks(600)
    assert seen == [0, 10, 10, 100, 200]


def test_an_action_that_fails_is_logged_and_the_replay_goes_on(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient], caplog: pytest.LogCaptureFixture
) -> None:
    gateway = serve()
    gateway.after(5, gateway.close)
    client = dial(gateway)
    client.subscribe(1, 1)
    assert len(client.ticks(600)) == 600
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "shut() it instead" in record.exc_text


def test_the_replay_can_be_paused(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    gateway.after(60, gateway.pause)
    client = dial(gateway)
    client.subscribe(1, 1)
    client.ticks(60)
    assert client.answers()
    assert client.quiet()
    gateway.resume()
    assert prices(client.ticks(540)) == bids(ticks, slice(60, None))
