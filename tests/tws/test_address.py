"""Errors of failed connections: open ports and the required TWS settings."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from ibticks.errors import ConnectionFailedError
from ibticks.tws import Client
from ibticks.tws import _transport as ports
from tests.capture_checks import IBM, until
from tests.scripted_server import EventLog, Server, linger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Capture, Store
    from ibticks.gateway import Gateway


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[int]]]:
    """Replace the usual ports by four free ones, and open some of them."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    numbers = [server.getsockname()[1] for server in servers]
    monkeypatch.setattr(ports, "USUAL_PORTS", dict(zip(numbers, ("A", "B", "C", "D"), strict=True)))

    def keep(*places: int) -> list[int]:
        for place, server in enumerate(servers):
            if place not in places:
                server.close()
        return numbers

    yield keep
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("answering", "says"),
    [
        ((), "on 127.0.0.1 none of the others answers: start TWS or IB Gateway there and log in"),
        ((2,), "on 127.0.0.1 {2} (C) answers: connect there"),
        ((1, 3), "on 127.0.0.1 {1} (B) and {3} (D) answer: connect there"),
    ],
)
def test_open_ports_are_named(
    usual: Callable[..., list[int]], answering: tuple[int, ...], says: str, nothing_left: None
) -> None:
    numbers = usual(*answering)
    with pytest.raises(ConnectionFailedError) as raised:
        Client(EventLog()).open("127.0.0.1", numbers[0], 10, 20.0)  # type: ignore[arg-type]
    text = str(raised.value)
    assert text.startswith(f"127.0.0.1:{numbers[0]} cannot be used: Connection refused (502). ")
    assert says.format(*numbers) in text
    assert all(f"{number} ({name})" in text for number, name in ports.USUAL_PORTS.items())
    assert "client id" not in text
    for setting in ("Global Configuration > API > Settings", "Socket port", "Trusted IPs"):
        assert setting in text
    assert "Enable ActiveX and Socket Clients" in text


def test_another_program_is_not_reported_as_a_client_id_in_use(
    usual: Callable[..., list[int]], nothing_left: None
) -> None:
    numbers = usual(3)

    def script(line: socket.socket) -> None:
        line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        linger(line)

    with Server(script) as server, pytest.raises(ConnectionFailedError) as raised:
        Client(EventLog()).open("127.0.0.1", server.port, 10, 20.0)  # type: ignore[arg-type]
    assert f"{numbers[3]} (D) answers: connect there" in str(raised.value)
    assert "client id" not in str(raised.value)


def test_an_unknown_host_is_not_scanned_for_ports() -> None:
    text = ports.connection_advice("nowhere.invalid", 4002, 20.0)
    assert text.startswith("The host nowhere.invalid is not known: check its name.")


@pytest.mark.parametrize("tracked", ["77:XYZ:last", "77:XYZ:last;bid_ask,78:ABC:mid_point"])
def test_symbols_are_stored_without_a_connection(
    tracked: str, usual: Callable[..., list[int]], store: Store, capturing: Callable[..., Capture]
) -> None:
    numbers = usual()
    capturing(numbers[0], tracked).stop()
    names = {entry.split(":")[1] for entry in tracked.split(",")}
    assert {contract.symbol for contract in store.contracts()} == names
    assert store.contract_ids(sorted(names)) == tuple(
        int(entry.split(":")[0])
        for entry in sorted(tracked.split(","), key=lambda entry: entry[3:])
    )


def test_details_of_a_named_contract_are_still_requested(
    store: Store, serve: Callable[..., Gateway], capturing: Callable[..., Capture]
) -> None:
    store.add_contract(IBM, "IBM")
    capture = capturing(serve(), f"{IBM}:IBM:last")
    until(lambda: capture.status()["status"]["ticks"] > 0, "ticks come")
    capture.stop()
    (contract,) = store.contracts()
    assert contract.exchange
