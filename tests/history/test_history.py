"""A connection for historical ticks, with a scripted server."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import ibticks as ibt
from ibticks.errors import CaptureError, ConnectionFailedError
from ibticks.history import _client as history_module
from ibticks.history._client import HistoryClient
from ibticks.history._ticks import HistoricalTick
from tests.scripted_server import Server, hello, let_in, linger, message, request

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("nothing_left")

FAST = ibt.Pacing(requests=10**6, burst=10**6, identical_seconds=0, messages_per_second=1000)
T0 = 1_700_000_000


def page(req_id: int, *seconds: int, done: bool = True) -> bytes:
    """Mid points of these seconds."""
    ticks = [field for n, second in enumerate(seconds) for field in (second, "", n + 1.5, 0)]
    return message(96, req_id, len(seconds), *ticks, int(done))


def error(req_id: int, code: int, text: str) -> bytes:
    return message(4, req_id, code, text, "", 1_700_000_000_000)


@pytest.fixture
def asking() -> Iterator[Callable[..., Any]]:
    """Connections to servers that answer each request by the next of these functions."""
    opened = []

    def connect(
        *answers: Callable[..., bytes], hangs_up: bool = False, **how: Any
    ) -> HistoryClient:
        asked = []

        def script(line: socket.socket) -> None:
            let_in(line)
            for answer in answers:
                asked.append(request(line))
                line.sendall(answer(asked[-1][2 if asked[-1][0] == "9" else 1]))
            if not hangs_up:
                linger(line)

        server = Server(script)
        opened.append(server)
        history: Any = HistoryClient("127.0.0.1", server.port, 11, **{"pacing": FAST} | how)
        opened.append(history)
        history.asked = asked
        return history

    yield connect
    for value in reversed(opened):
        value.close()


def mid_points(history: HistoryClient, start: int = T0) -> list[Any]:
    return [tick.time for tick in history.page(1, "SMART", "mid_point", start, 1000)]


def test_a_page_request_has_the_format_of_ib(asking: Callable[..., Any]) -> None:
    history = asking(lambda req: page(req, T0, T0 + 1))
    assert history.page(265598, "SMART", "mid_point", T0, 500) == [
        HistoricalTick(T0, (1.5,)),
        HistoricalTick(T0 + 1, (2.5,)),
    ]
    [[number, _, contract_id, *fields]] = history.asked
    assert (number, contract_id) == ("96", "265598")
    # From a second on, in UTC; so many; what; also outside of regular hours; all quotes.
    assert fields[-7:] == ["0", "20231114-22:13:20", "", "500", "MIDPOINT", "0", "0"]
    assert history.requests == 1


def test_a_page_arrives_in_parts_and_other_answers_are_ignored(
    asking: Callable[..., Any],
) -> None:
    def answer(req: Any) -> bytes:
        stray = page(int(req) - 1, T0 + 7)
        notes = error(-1, 2106, "HMDS data farm connection is OK:ushmds") + error(
            int(req) - 1, 162, "HMDS query returned no data"
        )
        return stray + page(req, T0, done=False) + notes + page(req, T0 + 1)

    assert mid_points(asking(answer)) == [T0, T0 + 1]


@pytest.mark.parametrize(
    "text",
    [
        "Historical Market Data Service error message:HMDS query returned no data: IBM@SMART Last",
        "Historical Market Data Service error message:No historical data available",
    ],
)
def test_no_data_is_an_empty_page(asking: Callable[..., Any], text: str) -> None:
    assert mid_points(asking(lambda req: error(req, 162, text))) == []


@pytest.mark.parametrize(
    ("code", "text", "of_request"),
    [
        (162, "Historical Market Data Service error message:Historical data request pacing", True),
        (10187, "Failed to request historical ticks:Pacing violation", True),
        (420, "Invalid Real-time Query:Historical data request pacing violation", True),
        (100, "Max rate of messages per second has been exceeded:max=50 rec=51", False),
    ],
)
def test_a_pacing_violation_is_retried(
    asking: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: int,
    text: str,
    of_request: bool,
) -> None:
    monkeypatch.setattr(history_module, "_RETRY_SECONDS", (0.01, 0.02, 0.03))
    history = asking(
        *[lambda req: error(req if of_request else -1, code, text)] * 2,
        lambda req: page(req, T0),
    )
    assert mid_points(history) == [T0]
    assert history.requests == 3
    assert "retry in 0.01 s" in caplog.text
    assert "retry in 0.02 s" in caplog.text
    assert len({asked[1] for asked in history.asked}) == 3  # ids are not used twice


def test_retries_are_limited(asking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "_RETRY_SECONDS", (0.0, 0.0, 0.0))
    history = asking(*[lambda req: error(req, 162, "pacing violation")] * 4)
    with pytest.raises(CaptureError, match=r"pacing violation \(162\)") as caught:
        mid_points(history)
    assert caught.value.context["code"] == 162
    assert history.requests == 4


def test_ticks_of_earlier_requests_are_ignored(asking: Callable[..., Any]) -> None:
    with pytest.raises(CaptureError, match="with ticks before 20231114-22:13:20 UTC"):
        mid_points(asking(lambda req: page(req, T0 - 2, T0 - 1)))


def test_an_undecodable_message_is_no_page(asking: Callable[..., Any]) -> None:
    history = asking(lambda req: message(96, req, 2, "yesterday", "", 1.5, 0, 1))
    with pytest.raises(CaptureError, match="message: ValueError"):
        mid_points(history)


@pytest.mark.parametrize("parts", [0, 1])
def test_a_connection_that_ends_before_the_page_is_complete(
    asking: Callable[..., Any], parts: int
) -> None:
    history = asking(lambda req: page(req, T0, done=False) * parts, hangs_up=True)
    with pytest.raises(ConnectionFailedError, match="the connection was closed"):
        mid_points(history)
    # Nor can anything be asked from here on.
    with pytest.raises(ConnectionFailedError):
        mid_points(history)


def test_a_timeout_reports_the_last_error_of_the_server(
    asking: Callable[..., Any],
) -> None:
    broken = error(-1, 2105, "HMDS data farm connection is broken:ushmds")
    history = asking(lambda req: broken + page(req, T0), lambda _: b"")
    assert mid_points(history) == [T0]
    history._answer_timeout = 0.5
    with pytest.raises(
        ConnectionFailedError, match=r"no answer within 0.5 s \(2105: HMDS data farm .* broken"
    ):
        mid_points(history)


def test_a_stop_ends_a_wait(asking: Callable[..., Any]) -> None:
    stopping = threading.Event()

    def answer(_: Any) -> bytes:
        stopping.set()
        return b""

    history = asking(answer, stopping=stopping)
    with pytest.raises(ConnectionFailedError, match="stopped"):
        mid_points(history)
    with pytest.raises(ConnectionFailedError, match="stopped"):
        mid_points(history)
    assert history.requests == 1


def test_a_stop_ends_a_wait_for_the_greeting() -> None:
    stopping = threading.Event()

    def say_nothing(line: socket.socket) -> None:
        hello(line)
        stopping.set()
        linger(line)

    with Server(say_nothing) as server, pytest.raises(ConnectionFailedError):
        HistoryClient("127.0.0.1", server.port, 11, connect_timeout=3600.0, stopping=stopping)


def test_exchange_of_a_contract(asking: Callable[..., Any]) -> None:
    unknown = asking(lambda req: error(req, 200, "No security definition has been found"))
    with pytest.raises(CaptureError, match=r"No security definition has been found \(200\)"):
        unknown.exchange(1)
    nothing = asking(lambda req: message(52, 1, req))
    assert nothing.exchange(1) == "SMART"
