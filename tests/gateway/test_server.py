"""The server: handshakes, limits, many clients, slow clients and cleanup."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.errors import InputError
from ibticks.gateway import Gateway, Limits, Replay

from .clients import RawClient, request

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("versions", "agreed"),
    [((157, 157), 157), ((157, 178), 178), ((100, 226), 226), ((100, 227), 226)],
)
def test_the_negotiated_version_is_the_highest_common_one(
    serve: Callable[..., Gateway],
    dial: Callable[..., RawClient],
    versions: tuple[int, int],
    agreed: int,
) -> None:
    client = dial(serve(), versions=versions, client_id=None)
    assert client.fields()[0] == str(agreed)


def test_the_server_version_can_be_lowered(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    assert dial(serve(server_version=178), versions=(100, 226)).version == "178"


def test_the_greeting_is_two_fields_and_alone(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    client = dial(serve(), client_id=None)
    assert len(client.fields()) == 2
    assert client.quiet()


@pytest.mark.parametrize(
    "hello",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"API\0\0\0\0\x04oops",
        b"API\0\xff\xff\xff\xff",
        b"API\0\0\0\0\x0av100..150 ",
        b"API\0\0\0\0\x0av227..230 ",
        b"AP",
    ],
)
def test_other_protocols_are_disconnected(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient], hello: bytes
) -> None:
    gateway = serve()
    stranger = dial(gateway, versions=None)
    stranger.socket.sendall(hello)
    stranger.socket.shutdown(socket.SHUT_WR)
    assert stranger.ended() == b""
    assert dial(gateway).answers()


def test_nothing_is_served_before_the_api_is_started(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    client = dial(serve(), client_id=None)
    client.version, _ = client.fields()
    client.send(49, 1)
    client.subscribe(1, 1)
    assert client.quiet()
    client.send(71, 2, 1, "")
    assert [client.fields()[0] for _ in range(5)] == ["15", "9", "4", "4", "4"]
    client.send(71, 2, 1, "")
    assert client.answers()


def test_requests_in_any_pieces_and_at_once(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    client = dial(serve())
    data = request(49, 1) + request(8, 1, 1) + request(17, 1) + request(105)
    for byte in data[:10]:
        client.socket.sendall(bytes([byte]))
    client.socket.sendall(data[10:])
    client.until("49")
    assert [client.fields()[0] for _ in range(3)] == ["9", "15", "109"]


@pytest.mark.parametrize(
    ("contract_id", "kind", "code"),
    [(99, "BidAsk", 200), (3, "Last", 10189), (1, "Bars", 10189)],
)
def test_subscriptions_that_are_refused(
    serve: Callable[..., Gateway],
    dial: Callable[..., RawClient],
    contract_id: int,
    kind: str,
    code: int,
) -> None:
    client = dial(serve())
    client.subscribe(4, contract_id, kind)
    assert client.error()[:2] == (4, code)


def test_an_ambiguous_contract_is_refused(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    client = dial(serve())
    client.send(97, 4, 0, "TWO", "", "", "0", "", "", "", "", "", "", "", "BidAsk", 0, 0)
    req_id, code, text = client.error()
    assert (req_id, code) == (4, 200)
    assert "ambiguous" in text
    client.send(97, 4, 0, "TWO", "", "", "0", "", "", "", "", "EUR", "", "", "BidAsk", 0, 0)
    assert client.until("99")


def test_a_request_id_twice_and_one_never_given(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve(start_after=0)
    client = dial(gateway)
    client.subscribe(4, 1)
    client.subscribe(4, 2)
    assert client.error() == (4, 102, "Duplicate ticker ID.")
    client.send(98, 4)
    client.send(98, 4)
    assert client.error()[:2] == (4, 300)
    assert gateway.subscriptions == 0


def test_a_request_that_cannot_be_read(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    client = dial(serve())
    client.send(97, 4, "IBM")
    assert client.error()[:2] == (4, 320)
    assert client.answers()


def test_requests_that_are_not_served_are_counted(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    client = dial(gateway)
    client.send(1, 11, 4)
    client.send(1, 11, 5)
    client.send(59, 1, 3)
    client.answers()
    assert gateway.unknown_requests == {1: 2, 59: 1}


def test_no_more_streams_than_the_limit(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve(limits=Limits(streams=2))
    one, two = dial(gateway, client_id=1), dial(gateway, client_id=2)
    one.subscribe(1, 1)
    one.answers()
    two.subscribe(1, 1)
    two.answers()
    one.subscribe(2, 2)
    assert one.error()[:2] == (2, 10190)
    two.send(98, 1)
    two.answers()
    one.subscribe(3, 2)
    one.answers()
    assert gateway.subscriptions == 2


def test_no_more_requests_a_second_than_the_limit(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    client = dial(serve(limits=Limits(requests_per_second=3)))
    client.socket.sendall(request(98, 1) * 9)
    codes = {client.error()[1] for _ in range(9)}
    assert codes == {100, 300}


def test_no_second_request_for_a_contract_too_soon(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    client = dial(serve(limits=Limits(seconds_between=3600)))
    client.subscribe(1, 1, "BidAsk")
    client.subscribe(2, 1, "Last")
    client.subscribe(3, 2, "Last")
    assert client.error()[:2] == (2, 420)
    assert client.answers()


def test_history_that_is_refused(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    client = dial(serve())
    for what, contract_id, start, code in (
        ("TRADES", 99, "", "200"),
        ("TRADES", 3, "", "10187"),
        ("FEES", 1, "", "10187"),
        ("TRADES", 1, "yesterday", "10314"),
        ("TRADES", 1, "20131008 09:30:00 Mars/Olympus", "10314"),
    ):
        assert client.history(5, contract_id, what, start=start)[1:3] == ["5", code]


def test_the_same_stream_twice_is_sent_twice(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    client = dial(serve(start_after=2))
    client.subscribe(1, 1)
    client.subscribe(2, 1)
    got = client.ticks(1200)
    one, two = ([tick[2:] for tick in got if tick[1] == name] for name in "12")
    assert one == two
    assert len(one) == 600


def test_quotes_without_those_that_change_a_size_only(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    client = dial(gateway)
    client.subscribe(1, 1, ignore_size=1)
    got = client.ticks(200)
    bids = ticks.streams[1, "bid_ask"].columns.numbers("bid_price")[::3]
    assert [float(tick[4]) for tick in got] == bids.tolist()
    assert gateway.wait_finished(1)
    assert [(s.first, s.last, s.ignore_size) for s in gateway.log] == [(0, 597, True)]


def test_twenty_clients_at_once(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve(start_after=20)
    clients = [dial(gateway, client_id=number) for number in range(20)]
    for client in clients:
        client.subscribe(1, 1, "MidPoint")
    mids = ticks.streams[1, "mid_point"].columns.numbers("mid_price").tolist()
    for client in clients:
        assert [float(tick[4]) for tick in client.ticks(600)] == mids
    assert gateway.wait_finished(20)
    assert gateway.clients == tuple(range(20))


def test_streams_of_a_client_are_merged_by_time(
    samples: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    opening = samples.streams[8314, "last"].time_ns[0]
    replay = samples.only([8314]).between(opening, 2**62).head(3000)
    client = dial(serve(replay, start_after=3))
    for req_id, kind in enumerate(("BidAsk", "MidPoint", "AllLast")):
        client.subscribe(req_id, 8314, kind)
    seconds = [int(tick[3]) for tick in client.ticks(9000)]
    assert seconds == sorted(seconds)


def test_a_client_that_does_not_read_holds_up_only_itself(
    samples: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    replay = samples.cloned(8)
    gateway = serve(replay)
    slow = RawClient(gateway.port, versions=None)
    slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    slow.socket.sendall(b"API\0\0\0\0\x09v100..200")
    slow.version, _ = slow.fields()
    slow.send(71, 2, 1, "")
    for req_id, (contract_id, _) in enumerate(replay.streams):
        slow.subscribe(req_id, contract_id)
    while gateway.buffered == 0:
        pass
    quick = dial(gateway, client_id=2)
    quick.subscribe(1, 8314)
    quick.ticks(62_875)
    # Of the slow one's 900,000 ticks only what the line holds was sent; here hardly any waits.
    slow_ticks = sum(s.last - s.first + 1 for s in gateway.log if s.client_id == 1)
    assert slow_ticks < 60_000
    assert gateway.buffered < 1 << 18
    slow.close()


def test_paced_replay_sends_everything_in_order(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    # Five minutes in three milliseconds.
    client = dial(serve(speed=100_000.0, start_after=2))
    client.subscribe(1, 1, "BidAsk")
    client.subscribe(2, 1, "Last")
    got = client.ticks(1200)
    seconds = [int(tick[3]) for tick in got]
    assert seconds == sorted(seconds)
    for req_id, tick_type in (("1", "bid_ask"), ("2", "last")):
        wanted = ticks.streams[1, tick_type].seconds.tolist()
        assert [int(tick[3]) for tick in got if tick[1] == req_id] == wanted


def test_paced_replay_goes_on_without_its_client(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve(speed=1000.0)
    first = dial(gateway)
    first.subscribe(1, 1)
    first.ticks(10)
    gateway.drop(abrupt=True)
    last_sent = gateway.log[0].last
    again = dial(gateway)
    again.subscribe(1, 1)
    assert gateway.wait_finished(1)
    sent = gateway.rows_sent(1, "bid_ask").tolist()
    assert sent == sorted(set(sent))
    assert sent[: last_sent + 1] == list(range(last_sent + 1))


def test_one_clock_for_all(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve(clock="shared")
    gateway.after(100, gateway.pause)
    first, late = dial(gateway, client_id=1), dial(gateway, client_id=2)
    first.subscribe(1, 1, "BidAsk")
    first.ticks(100)
    late.subscribe(1, 1, "MidPoint")
    late.answers()
    gateway.resume()
    late.ticks(501)
    assert gateway.wait_finished(2)
    assert {s.client_id: s.first for s in gateway.log} == {1: 0, 2: 99}


def test_every_client_restarts_after_a_rewind(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    client = dial(gateway)
    client.subscribe(1, 1)
    client.ticks(600)
    client.subscribe(2, 1)
    client.answers()
    gateway.rewind()
    client.subscribe(3, 1)
    assert len(client.ticks(600)) == 600
    assert [(s.req_id, s.first, s.last) for s in gateway.log] == [(1, 0, 599), (3, 0, 599)]


def test_close_stops_all_threads_and_sockets(ticks: Replay) -> None:
    def open_files() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    files, threads = open_files(), threading.active_count()
    gateway = Gateway(ticks, speed=None).start()
    clients = [RawClient(gateway.port, client_id=number) for number in range(3)]
    clients += [RawClient(gateway.port, client_id=None), RawClient(gateway.port, versions=None)]
    for client in clients[:3]:
        client.subscribe(1, 1)
        client.answers()
    gateway.stall(client_id=1)
    port = gateway.port
    gateway.close()
    gateway.close()
    for client in clients:
        client.ended()
        client.close()
    assert (open_files(), threading.active_count()) == (files, threads)
    with pytest.raises(ConnectionRefusedError):
        RawClient(port)
    assert gateway.sent
    with pytest.raises(InputError, match="not running"):
        gateway.drop()
    with pytest.raises(InputError, match="started before"):
        gateway.start()


class Rounds:
    """Call functions in the event loop of a gateway, and stop it, after so many rounds each."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.stopping: Future[None] = Future()

    def run(self, action: Callable[[], object], rounds: int, stop_rounds: int) -> None:
        def start() -> None:
            self._after(stop_rounds, self._stop)
            self._after(rounds, action)

        self.gateway._call(start)
        self.stopping.result(timeout=30)
        self.gateway.close()
        gc.collect()  # a socket left open warns

    def _after(self, rounds: int, action: Callable[[], object]) -> None:
        if rounds:
            asyncio.get_running_loop().call_soon(self._after, rounds - 1, action)
        else:
            action()

    def _stop(self) -> None:
        task = asyncio.get_running_loop().create_task(self.gateway._stop())
        task.add_done_callback(lambda _: self.stopping.set_result(None))


@pytest.mark.parametrize("rounds", range(4))
@pytest.mark.parametrize("stop_rounds", range(6))
def test_a_connection_made_while_the_gateway_closes_leaves_no_socket(
    ticks: Replay, rounds: int, stop_rounds: int
) -> None:
    """The event loop accepts a connection in several rounds; the gateway may close in each."""
    gateway = Gateway(ticks, speed=None).start()
    clients: list[socket.socket] = []

    def connect() -> None:
        with contextlib.suppress(ConnectionRefusedError):
            clients.append(socket.create_connection((gateway.host, gateway.port), timeout=30))

    Rounds(gateway).run(connect, rounds, stop_rounds)
    for client in clients:
        with client, contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


@pytest.mark.parametrize("rounds", range(3))
@pytest.mark.parametrize("stop_rounds", range(4))
def test_a_gateway_that_reopens_while_it_closes_leaves_no_socket(
    ticks: Replay, rounds: int, stop_rounds: int
) -> None:
    """As a nightly restart that ends just then."""
    gateway = Gateway(ticks, speed=None).start()
    gateway.shut()
    Rounds(gateway).run(gateway.reopen, rounds, stop_rounds)
    with pytest.raises(ConnectionRefusedError):
        RawClient(gateway.port)


def test_a_client_that_disconnects_after_a_request_is_cleaned_up(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    """A wake-up of the feed and its end come at once."""
    gateway = serve(ticks, speed=1.0)
    for number in range(5):
        client = dial(gateway, client_id=number)
        client.subscribe(1, 1)
        client.ticks(1)
        client.send(49, 1)
        client.close()
    assert gateway.wait_clients(0)
    end = time.monotonic() + 30
    while gateway._call(lambda: "_run_feed" in repr(asyncio.all_tasks())):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_closing_while_shut(ticks: Replay) -> None:
    with Gateway(ticks, speed=None) as gateway:
        gateway.shut()
    assert "closed" in repr(gateway)


def test_a_gateway_that_was_never_started_closes(ticks: Replay) -> None:
    Gateway(ticks).close()


def test_a_port_that_is_taken(ticks: Replay, serve: Callable[..., Gateway]) -> None:
    with pytest.raises(InputError, match="give another port") as caught:
        Gateway(ticks, port=serve().port).start()
    assert caught.value.context["port"] > 0


@pytest.mark.parametrize(
    "how", [{"speed": 0}, {"speed": -1.0}, {"server_version": 227}, {"server_version": 100}]
)
def test_invalid_arguments(ticks: Replay, how: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Gateway(ticks, **how)


def test_waiting_times_out(serve: Callable[..., Gateway]) -> None:
    gateway = serve()
    assert not gateway.wait_sent(1, timeout=0.01)
    assert not gateway.wait_finished(timeout=0.01)
    assert not gateway.wait_clients(1, timeout=0.01)
    assert gateway.wait_sent(0, (1, "bid_ask"))


def test_the_repr_names_the_address(serve: Callable[..., Gateway]) -> None:
    gateway = serve(Replay([], []))
    assert str(gateway.port) in repr(gateway)
