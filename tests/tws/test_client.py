"""The client connects or gives the reason, and hands over all that it reads."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.errors import ConnectionFailedError
from ibticks.gateway import frame
from ibticks.gateway._wire import protobuf
from ibticks.tws import Client, make_contract
from tests.capture_checks import IBM, ONE, check_stored, until
from tests.scripted_server import (
    GREETING,
    READY,
    EventLog,
    Server,
    hello,
    let_in,
    linger,
    message,
    quote,
    raw_request,
    request,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Capture, Store
    from ibticks.gateway import Gateway, Replay


@pytest.fixture
def events() -> EventLog:
    return EventLog()


@pytest.fixture
def client(events: Any, nothing_left: None) -> Iterator[Client]:
    client = Client(events)
    yield client
    client.close()


def opened(client: Client, script: Callable[..., None], timeout: float = 20.0) -> None:
    with Server(script) as server:
        client.open("127.0.0.1", server.port, 10, timeout)


# --- who answers, and who does not ----------------------------------------------------------------


def refusal(
    client: Client, port: int, timeout: float = 20.0, host: str = "127.0.0.1", code: int = 502
) -> str:
    with pytest.raises(ConnectionFailedError) as raised:
        client.open(host, port, 10, timeout)
    assert raised.value.context["code"] == code
    text, problem = str(raised.value), raised.value.context["problem"]
    if code in (502, 504):
        # It is not the client id's fault: the ports and the settings of TWS are named instead.
        assert problem.startswith(f"{host}:{port} cannot be used: ")
        assert text.startswith(f"{problem}. The ")
        for usual in ("7496", "7497", "4001", "4002"):
            assert usual in text.removeprefix(problem)
        return problem.partition("used: ")[2]
    assert text == problem
    assert text.startswith(f"{host}:{port} cannot be used with client id 10: ")
    return text.partition("10: ")[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_connection_refused(client: Client, events: EventLog) -> None:
    assert refusal(client, free_port()) == "Connection refused (502)"
    assert not client.isConnected()
    assert client.is_lost
    assert events.of("closed") == []


def test_unknown_host(client: Client) -> None:
    assert "(502)" in refusal(client, 4002, host="nowhere.invalid")


def test_server_sends_no_greeting(client: Client, serve: Callable[..., Gateway]) -> None:
    gateway = serve()
    gateway.answer_connections("silence")
    with pytest.raises(ConnectionFailedError) as raised:
        client.open("127.0.0.1", gateway.port, 10, 0.2)
    problem = f"127.0.0.1:{gateway.port} cannot be used: connected, but the server sent no greeting"
    assert raised.value.context == {"code": 502, "problem": f"{problem} (502)"}
    assert str(raised.value) == (
        f"{problem} (502). Restart TWS or the Gateway, its API is blocked: it accepts connections "
        "and does not greet. Or another program listens on this port"
    )


def test_server_closes_the_connection_at_once(
    client: Client, serve: Callable[..., Gateway]
) -> None:
    gateway = serve()
    gateway.answer_connections("hang_up")
    assert refusal(client, gateway.port) in (
        "the server closed the connection (502)",
        "Connection reset by peer (502)",
        "Broken pipe (502)",
    )


def test_server_closes_the_connection_after_its_greeting(client: Client) -> None:
    def script(line: socket.socket) -> None:
        hello(line)
        line.sendall(GREETING)
        request(line)

    with Server(script) as server:
        assert refusal(client, server.port) == (
            "the server of version 200 greeted and closed the connection (502)"
        )


def test_gateway_greets_and_closes_the_connection(
    client: Client, serve: Callable[..., Gateway]
) -> None:
    gateway = serve()
    gateway.answer_connections("greet_and_hang_up")
    assert refusal(client, gateway.port) in (
        "the server of version 226 greeted and closed the connection (502)",
        "Connection reset by peer (502)",
    )


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        (150, "Install a current TWS or IB Gateway"),
        (227, "Install a newer client: pip install -U ibapi-latest"),
    ],
)
def test_server_of_a_version_that_is_not_read_is_sent_nothing(
    version: int, advice: str, client: Client
) -> None:
    received: list[bytes] = []

    def script(line: socket.socket) -> None:
        hello(line)
        line.sendall(message(version, "20131008 13:30:00 UTC"))
        while data := line.recv(4096):
            received.append(data)

    with Server(script) as server, pytest.raises(ConnectionFailedError) as raised:
        client.open("127.0.0.1", server.port, 10, 20.0)
    assert str(raised.value) == (
        f"127.0.0.1:{server.port} cannot be used: it announces server version {version}, ibticks "
        f"reads 157 to 226 (503). {advice}"
    )
    assert raised.value.context["code"] == 503
    assert received == []


@pytest.mark.parametrize(("version", "warnings"), [(178, 1), (194, 0), (226, 0)])
def test_server_that_ib_no_longer_admits_is_warned_of(
    version: int,
    warnings: int,
    client: Client,
    serve: Callable[..., Gateway],
    caplog: pytest.LogCaptureFixture,
) -> None:
    client.open("127.0.0.1", serve(server_version=version).port, 10, 20.0)
    assert caplog.text.count("IB admits 10.37 and later") == warnings


def test_server_greets_and_is_never_ready(client: Client) -> None:
    def script(line: socket.socket) -> None:
        hello(line)
        line.sendall(GREETING)
        linger(line)

    with Server(script) as server:
        reason = refusal(client, server.port, timeout=0.3, code=504)
    assert reason == "connected, but no nextValidId within 0.3 s (504)"


def test_server_of_another_protocol(client: Client) -> None:
    def script(line: socket.socket) -> None:
        line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        linger(line)

    with Server(script) as server:
        reason = refusal(client, server.port)
    assert reason == "the server does not speak the TWS protocol (502)"


def test_invalid_greeting(client: Client) -> None:
    def script(line: socket.socket) -> None:
        hello(line)
        line.sendall(message("two", "hundred"))
        linger(line)

    with Server(script) as server, pytest.raises(ConnectionFailedError, match="does not answer as"):
        client.open("127.0.0.1", server.port, 10, 20.0)


def test_client_id_in_use(client: Client, serve: Callable[..., Gateway], events: Any) -> None:
    gateway = serve()
    gateway.refuse(10)
    reason = refusal(client, gateway.port, code=326)
    assert reason == "Unable to connect as the client id is already in use. (326)"
    # And once it is free, another client gets in.
    gateway.admit(10)
    other = Client(events)
    other.open("127.0.0.1", gateway.port, 10, 20.0)
    assert gateway.clients == (10,)
    other.close()


@pytest.mark.parametrize("greeting", ["silence", "greet"])
def test_connecting_can_be_cancelled(client: Client, greeting: str) -> None:
    """A capture that stops does not wait for a silent server."""
    reached = threading.Event()

    def script(line: socket.socket) -> None:
        hello(line)
        if greeting == "greet":
            line.sendall(GREETING)
            request(line)
        reached.set()
        linger(line)

    with Server(script) as server:
        opening = threading.Thread(target=refused, args=(client, server.port))
        opening.start()
        assert reached.wait(20)
        client.hang_up()
        opening.join(20)
        assert not opening.is_alive()


def refused(client: Any, port: Any) -> None:
    with pytest.raises(ConnectionFailedError):
        client.open("127.0.0.1", port, 10, 600.0)


def test_cancelled_client_does_not_connect(client: Client, serve: Callable[..., Gateway]) -> None:
    gateway = serve()
    client.hang_up()
    with pytest.raises(ConnectionFailedError):
        client.open("127.0.0.1", gateway.port, 10, 600.0)
    assert gateway.clients == ()


# --- how it begins --------------------------------------------------------------------------------


def test_greeting_in_several_segments(client: Client) -> None:
    def script(line: Any) -> None:
        hello(line)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(GREETING)):
            line.sendall(GREETING[place : place + 1])
            threading.Event().wait(0.002)
        request(line)
        line.sendall(READY)
        linger(line)

    opened(client, script)
    assert client.serverVersion() == 200


def test_messages_behind_the_greeting_are_not_lost(client: Client) -> None:
    """Unfixed ibapi drops the messages behind the greeting, and waits for nextValidId for ever."""

    def script(line: Any) -> None:
        hello(line)
        line.sendall(GREETING + READY)
        linger(line)

    opened(client, script)


def test_messages_before_the_greeting_are_skipped(client: Client) -> None:
    def script(line: Any) -> None:
        hello(line)
        line.sendall(message("some", "news", "first") + GREETING)
        request(line)
        line.sendall(READY)
        linger(line)

    opened(client, script)
    assert client.serverVersion() == 200


def test_messages_before_next_valid_id_are_handed_over(client: Client, events: EventLog) -> None:
    def script(line: Any) -> None:
        hello(line)
        line.sendall(GREETING)
        request(line)
        line.sendall(message(4, -1, 1100, "lost", "", 5) + READY)
        linger(line)

    opened(client, script)
    assert events.of("message") == [[-1, 1100, "lost"]]


# --- what it hands over ---------------------------------------------------------------------------


def test_every_type_of_message(client: Client, events: EventLog) -> None:
    def script(line: Any) -> None:
        let_in(line)
        line.sendall(
            message(99, 5, 3, 7, 1.5, 2.5, "0.25", 300, 3)
            + message(99, 6, 1, 8, 10.25, 100, 1, "NYSE", "T I")
            + message(99, 6, 2, 9, 0, 0, 2, "", "")
            + message(99, 7, 4, 10, 1.75)
            + message(4, 5, 10189, "no \\u00e9", "", 5)
            + message(49, 1, 1_381_239_000)
            + message(52, 1, 60_000)
        )

    opened(client, script)
    assert events.over.wait(20)
    assert events.all == [
        ("quote", 5, 7, 1.5, Decimal("0.25"), 2.5, Decimal(300), True, True),
        ("trade", 6, 8, 10.25, Decimal(100), "NYSE", "T I", True, False),
        ("trade", 6, 9, 0.0, Decimal(0), "", "", False, True),
        ("mid_point", 7, 10, 1.75),
        ("message", 5, 10189, "no é"),
        ("current_time",),
        ("contract_details_end", 60_000),
        ("closed",),
    ]
    assert events.failures == []


def test_messages_before_close_are_handed_over(client: Client, events: EventLog) -> None:
    """After any end of the connection; ibapi itself drops its queue on disconnect."""

    def script(line: Any) -> None:
        let_in(line)
        line.sendall(b"".join(quote(5, number) for number in range(5000)))

    hold = threading.Event()
    replaced: Any = events
    replaced.quote = lambda *tick: (hold.wait(20), events.all.append(("quote", *tick)))
    opened(client, script)
    closing = threading.Thread(target=client.close)
    closing.start()
    hold.set()
    closing.join(60)
    prices = [tick[2] for tick in events.of("quote")]
    # All that the server sent before it ended its side, too.
    assert prices == [float(number) for number in range(5000)]
    assert events.all[-1] == ("closed",)
    assert events.failures == []


def test_messages_before_the_server_left_are_handed_over(client: Client, events: EventLog) -> None:
    def script(line: Any) -> None:
        let_in(line)
        line.sendall(b"".join(quote(5, number) for number in range(20_000)) + quote(5, 1)[:-5])

    opened(client, script)
    assert events.over.wait(60)
    assert [tick[2] for tick in events.of("quote")] == [float(number) for number in range(20_000)]
    assert events.of("closed") == [[]]
    client.close()
    assert events.of("closed") == [[]]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_messages_in_small_pieces(size: int, client: Client, events: EventLog) -> None:
    sent = b"".join(quote(5, number) for number in range(60))

    def script(line: Any) -> None:
        let_in(line)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(0, len(sent), size):
            line.sendall(sent[place : place + size])

    opened(client, script)
    assert events.over.wait(60)
    assert [tick[2] for tick in events.of("quote")] == [float(number) for number in range(60)]


def test_longest_message(client: Client, events: EventLog) -> None:
    text = "x" * (0xFFFFFF - 40)

    def script(line: Any) -> None:
        let_in(line)
        line.sendall(message(4, 5, 10189, text, "", 5) + quote(5, 1))

    opened(client, script)
    assert events.over.wait(60)
    assert events.of("message") == [[5, 10189, text]]
    assert len(events.of("quote")) == 1


# --- what is wrong with a message, or with us -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("quote", quote(5, 1)),
        ("trade", message(99, 6, 1, 8, 10.25, 100, 1, "NYSE", "T I")),
        ("mid_point", message(99, 7, 4, 10, 1.75)),
        ("message", message(4, 5, 10189, "no", "", 5)),
        ("current_time", message(49, 1, 1_381_239_000)),
        ("contract_details_end", message(52, 1, 60_000)),
    ],
)
def test_callback_that_raises_is_reported_and_the_loop_goes_on(
    name: str, sent: bytes, client: Client, events: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    mistake = events.fails[name] = RuntimeError("an error in a callback")

    def script(line: Any) -> None:
        let_in(line)
        line.sendall(sent + message(99, 8, 4, 11, 2.5) + sent)

    opened(client, script)
    assert events.over.wait(20)
    assert ["message", mistake] in [list(failure) for failure in events.failures]
    assert len(events.of(name)) >= 2
    assert [8, 11, 2.5] in events.of("mid_point")
    assert events.of("closed") == [[]]
    assert "an error in a callback" in caplog.text


@pytest.mark.parametrize(
    "bad",
    [
        message(99, 5, 3, 7, 1.5),
        message(99, 5, 3, 7, "a lot", 2.5, 1, 2, 0),
        message(99, 5, 3, "now", 1.5, 2.5, 1, 2, 0),
        message(99, 5, 3, 7, 1.5, 2.5, "x", 2, 0),
        message(99, "\xff", 3, 7, 1.5, 2.5, 1, 2, 0),
        message(99),
        message(4),
        message(10, 1, "x"),
    ],
)
def test_undecodable_message_is_reported_and_skipped(
    bad: bytes, client: Client, events: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    def script(line: Any) -> None:
        let_in(line)
        line.sendall(quote(5, 1) + bad + quote(5, 2))

    opened(client, script)
    assert events.over.wait(20)
    assert [tick[2] for tick in events.of("quote")] == [1.0, 2.0]
    assert len(events.failures) == 1
    assert "a message could not be processed" in caplog.text


def test_unknown_message_is_skipped(client: Client, events: EventLog) -> None:
    def script(line: Any) -> None:
        let_in(line)
        line.sendall(message(999, 1, 2) + message(9999, 1) + quote(5, 2))

    opened(client, script)
    assert events.over.wait(20)
    assert [tick[2] for tick in events.of("quote")] == [2.0]


# --- Protocol Buffers ---------------------------------------------------------------------------

TRADE = {"time": 1_381_239_000, "price": 1.5, "size": "100", "exchange": "NYSE"}


def trade(price: float) -> bytes:
    return protobuf(
        99, "TickByTickData", reqId=5, tickType=1, historicalTickLast=TRADE | {"price": price}
    )


def let_in_by_protobuf(line: socket.socket) -> None:
    hello(line)
    line.sendall(message(226, "20131008 13:30:00 UTC"))
    raw_request(line)
    line.sendall(protobuf(9, "NextValidId", orderId=1))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (frame(trade(9.0)[4:-3]), "DecodeError"),
        (frame(b"\0\0\1\x2b" + b"\xff" * 20), "DecodeError"),
        (protobuf(99, "TickByTickData", reqId=5, tickType=1), "without its request"),
        (protobuf(99, "TickByTickData", reqId=5, historicalTickLast=TRADE), "without its request"),
        (
            protobuf(99, "TickByTickData", tickType=1, historicalTickLast=TRADE),
            "without its request",
        ),
        (
            protobuf(99, "TickByTickData", reqId=5, tickType=2, historicalTickLast={"price": 1.0}),
            "request 5 without its time",
        ),
        (
            protobuf(99, "TickByTickData", reqId=5, tickType=1, historicalTickLast={"time": 7}),
            "request 5 without its price",
        ),
        (
            protobuf(99, "TickByTickData", reqId=5, tickType=3, historicalTickBidAsk={}),
            "request 5 without its time",
        ),
        (
            protobuf(99, "TickByTickData", reqId=5, tickType=4, historicalTickMidPoint={"time": 7}),
            "request 5 without its price",
        ),
        (
            protobuf(
                99, "TickByTickData", reqId=5, tickType=1, historicalTickLast=TRADE | {"size": "x"}
            ),
            "ConversionSyntax",
        ),
    ],
)
def test_undecodable_protobuf_message_is_reported_and_skipped(
    bad: bytes, reason: str, client: Client, events: EventLog
) -> None:
    def script(line: Any) -> None:
        let_in_by_protobuf(line)
        line.sendall(trade(1.0) + bad + trade(2.0))

    opened(client, script)
    assert events.over.wait(20)
    assert [tick[2] for tick in events.of("trade")] == [1.0, 2.0]
    ((where, error),) = events.failures
    assert where == "message"
    assert reason in repr(error)


def test_unknown_protobuf_messages_and_fields_are_skipped(client: Client, events: EventLog) -> None:
    # Field 500 of the whole message, varint 7: as a newer TWS may add.
    newer = frame(trade(3.0)[4:] + b"\xa0\x1f\x07")

    def script(line: Any) -> None:
        let_in_by_protobuf(line)
        line.sendall(
            frame(b"\0\0\4\0\x08\x07") + frame(b"\0\0\0\x78") + trade(1.0) + newer + trade(2.0)
        )

    opened(client, script)
    assert events.over.wait(20)
    assert [tick[2] for tick in events.of("trade")] == [1.0, 3.0, 2.0]
    assert events.failures == []
    assert [message[1] for message in events.of("message")] == [505, 505]


@pytest.mark.parametrize(
    ("garbage", "problem"),
    [
        (b"\xff" * 64, "the server sent garbage: a message of 4,294,967,295 bytes"),
        (b"\x01\x00\x00\x00", "the server sent garbage: a message of 16,777,216 bytes"),
        (b"\0\0\0\0", "the server sent garbage: a message of 0 bytes"),
        (b"\0\0\0\x03abc", "the server sent garbage: b'abc'"),
        (b"\0\0\0\x03\0\0\0", r"the server sent garbage: b'\x00\x00\x00'"),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_garbage_ends_the_connection_after_the_messages_before_it(
    garbage: bytes, problem: str, apart: bool, client: Client, events: EventLog
) -> None:
    """Ibapi takes four such bytes for a message of 4 GiB, and waits for it while ticks go by."""

    def script(line: Any) -> None:
        let_in(line)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        good = b"".join(quote(5, number) for number in range(100))
        for part in (good, garbage) if apart else (good + garbage,):
            line.sendall(part)
        linger(line)

    opened(client, script)
    assert events.over.wait(20)
    assert [tick[2] for tick in events.of("quote")] == [float(number) for number in range(100)]
    assert client.problem == problem
    assert client.is_lost


def test_requests_after_the_end_are_no_error(client: Client, events: EventLog) -> None:
    opened(client, let_in)
    assert events.over.wait(20)
    client.subscribe(5, make_contract(IBM, "SMART"), "last")
    client.unsubscribe(5)
    client.reqCurrentTime()
    client.reqContractDetails(6, make_contract(IBM, ""))
    assert {message[1] for message in events.of("message")} == {504}


def test_both_signatures_of_ibapi_errors(client: Client, events: EventLog) -> None:
    client.error(5, 1_381_239_000_000, 200, "no contract", "")
    client.error(5, 200, "no contract", "")
    client.error(5, 200, "no contract")
    assert events.of("message") == [[5, 200, "no contract"]] * 3


# --- the fault that loses ticks -------------------------------------------------------------------

PLAIN = """
import sys, threading, time
from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.wrapper import EWrapper

class Plain(EWrapper, EClient):
    ticks = 0
    def __init__(self):
        EClient.__init__(self, self)
        self.ready = threading.Event()
    def nextValidId(self, number):
        self.ready.set()
    def tickByTickBidAsk(self, *tick):
        self.ticks += 1
    def error(self, *arguments):
        pass

client = Plain()
client.connect("127.0.0.1", int(sys.argv[1]), 11)
loop = threading.Thread(target=client.run, daemon=True)
loop.start()
assert client.ready.wait(30)
contract = Contract()
contract.conId, contract.exchange = 8314, "SMART"
client.reqTickByTickData(1, contract, "BidAsk", 0, False)
sys.stdin.readline()
# Nothing more is coming. When its count stands still, it has handed over all it has read.
counted = -1
while counted < client.ticks:
    counted = client.ticks
    time.sleep(2.0)
print(counted)
client.disconnect()
"""


@pytest.mark.parametrize(("size", "whole"), [(4096, False), (4096, 1), (8192, 1), (65536, 1)])
def test_bursts_of_a_multiple_of_4096_bytes_lose_nothing(
    size: int,
    whole: int,
    samples: Replay,
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    store: Store,
) -> None:
    """Unfixed ibapi loses a burst of a multiple of 4096 bytes if no message follows in a second."""
    quotes = samples.only([IBM], ["bid_ask"]).head(2 * size // 50)
    gateway = serve(quotes, start_after=0)
    capture = capturing(gateway, ONE)
    command = [sys.executable, "-c", PLAIN, str(gateway.port)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as plain:
        until(lambda: gateway.subscriptions == 2)
        gateway.silent_until_boundary(size, seconds=1.6, bursts=1, whole=bool(whole))
        gateway.resume()
        assert gateway.wait_finished(2)
        until(lambda: gateway.buffered == 0)
        plain_count, _ = plain.communicate("\n", 60)
    assert int(plain_count) < len(gateway.rows_sent(IBM, "bid_ask", 11))
    until(lambda: capture.status()["status"]["ticks"] == quotes.rows)
    capture.stop()
    assert check_stored(store, gateway, IBM, "bid_ask", 10) == quotes.rows
    assert list(capture.failures) == []
