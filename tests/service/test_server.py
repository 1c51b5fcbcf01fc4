"""The server: addresses, its end, clients that leave, and memory."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ibticks.errors import CorruptFileError, InputError, StorageError
from ibticks.service import Service
from ibticks.service import _responses as responses
from tests.cli.conftest import PROGRAM

from .conftest import IBM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibticks import Store

ALL_TIME = {"start_time": "2000-01-01T00:00Z", "end_time": "2030-01-01T00:00Z"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="ibt-") as path:
        yield Path(path)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "not a host"])
def test_other_addresses_are_refused(sample_store: Store, host: str) -> None:
    with pytest.raises(InputError, match=r"127\.0\.0\.1"):
        Service(sample_store, host=host, port=0)


@pytest.mark.parametrize("port", [-1, 65536, "8001"])
def test_ports_that_are_none(sample_store: Store, port: Any) -> None:
    with pytest.raises(InputError, match="from 0 to 65535"):
        Service(sample_store, port=port)


def test_a_port_in_use(service: Service, sample_store: Store) -> None:
    assert service.port is not None
    with pytest.raises(StorageError, match="use another port"):
        Service(sample_store, port=service.port)


def test_a_service_ends(sample_store: Store) -> None:
    with Service(sample_store, host="localhost", port=0) as service:
        assert service.running
        assert repr(service) == f"<Service {service.url}, running>"
        assert httpx.get(f"{service.url}/health").status_code == 200
    assert not service.running
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/health")


def test_a_unix_socket(sample_store: Store, folder: Path) -> None:
    path = folder / "ibticks.sock"
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(path))  # by a process that was killed
    with Service(sample_store, uds=path) as service:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert service.port is None
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url=service.url) as client:
            assert client.get("/health").json()["service"] == "ibticks"
        with pytest.raises(StorageError, match="use another path"):
            Service(sample_store, uds=path)
    assert not path.exists()


def test_a_file_is_not_replaced_by_a_socket(sample_store: Store, folder: Path) -> None:
    path = folder / "notes.txt"
    path.write_text("mine")
    with pytest.raises(StorageError, match="use another path"):
        Service(sample_store, uds=path)
    assert path.read_text() == "mine"


def test_a_client_that_leaves_ends_the_read(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response is read as fast as its client takes it, and closed when the client has left."""
    monkeypatch.setattr(responses, "CHUNK_ROWS", 64)
    pieces = 0
    closed = threading.Event()
    plain = responses._batches

    def batches(*arguments: Any) -> Iterator[Any]:
        nonlocal pieces
        try:
            for batch in plain(*arguments):
                pieces += 1
                yield batch
        finally:
            closed.set()

    monkeypatch.setattr(responses, "_batches", batches)
    path = f"{service.url}/v2/historical/{IBM}/range"
    query = {"tick_type": "bid_ask", **ALL_TIME}
    with httpx.stream("GET", path, params=query, timeout=60) as response:
        assert response.status_code == 200
        next(response.iter_raw(1))
    assert closed.wait(60)
    # 62,875 ticks, 14 MB of JSON: far more than the buffers of a connection.
    assert pieces < 62_875 // 64


def test_a_failure_while_sending_breaks_the_response_off(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(responses, "CHUNK_ROWS", 1)
    plain = responses._batches

    def batches(*arguments: Any) -> Iterator[Any]:
        for number, batch in enumerate(plain(*arguments)):
            if number == 2:
                raise CorruptFileError("a block is damaged")
            yield batch

    monkeypatch.setattr(responses, "_batches", batches)
    path = f"{service.url}/v2/historical/{IBM}/range"
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(path, params={"tick_type": "bid_ask", **ALL_TIME})
    assert "a block is damaged" in caplog.text


def test_a_failure_before_the_first_tick_has_a_status(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches(*_: Any) -> Iterator[Any]:
        raise CorruptFileError("/home/me/ticks/14_ticks.pb is damaged")

    monkeypatch.setattr(responses, "_batches", batches)
    answer = httpx.get(f"{service.url}/v2/historical/{IBM}/range", params=ALL_TIME)
    assert answer.status_code == 500
    assert answer.json()["data"]["code"] == "INTERNAL_ERROR"
    assert "/home" not in answer.text


def test_the_command(sample_store: Store) -> None:
    arguments = ["serve", "--store", str(sample_store.root), "--port", "0", "--json"]
    with subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, env=os.environ, text=True
    ) as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        answer = httpx.get(
            f"{started['url']}/v2/historical/IBM/relative",
            params={"period": "1m", "now": "2013-10-08T14:01:00Z"},
            timeout=60,
        )
        assert answer.json()["count"] > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
