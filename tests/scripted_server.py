"""A server that sends exactly the bytes of a test, and a log of the events of its client."""

from __future__ import annotations

import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = 200


def message(*fields: object) -> bytes:
    payload = "".join(f"{field}\0" for field in fields).encode()
    return len(payload).to_bytes(4, "big") + payload


GREETING = message(VERSION, "20131008 13:30:00 UTC")
READY = message(15, 1, "DU1") + message(9, 1, 1)


def quote(request: int, number: int) -> bytes:
    return message(99, request, 3, 1_381_239_000, number, number + 1, 1, 2, 0)


class Server:
    """Accepts one client and runs a script with it."""

    def __init__(self, script: Callable[[socket.socket], object]) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._script = script
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            line, _ = self._listening.accept()
        except OSError:
            return
        with line:
            try:
                self._script(line)
            except OSError:
                return  # the client has left

    def close(self) -> None:
        self._listening.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hello(line: socket.socket) -> None:
    """Take the client's hello."""
    head = _exactly(line, 8)
    assert head[:4] == b"API\0"
    _exactly(line, int.from_bytes(head[4:], "big"))


def raw_request(line: socket.socket) -> bytes:
    """Take one request in any layout."""
    return _exactly(line, int.from_bytes(_exactly(line, 4), "big"))


def request(line: socket.socket) -> list[str]:
    """Take one request."""
    payload = raw_request(line)
    return payload.decode().rstrip("\0").split("\0")


def let_in(line: socket.socket) -> None:
    """All that comes before a client is ready."""
    hello(line)
    line.sendall(GREETING)
    assert request(line)[0] == "71"
    line.sendall(READY)


def linger(line: socket.socket) -> None:
    """Send no further message until the client disconnects."""
    while line.recv(65536):
        pass


def _exactly(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = line.recv(size - len(data))
        if not more:
            raise OSError("the client has left")
        data += more
    return data


class EventLog:
    """Events of a client, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []
        self.failures: list[tuple[str, Exception]] = []
        self.over = threading.Event()
        self.fails: dict[str, Exception] = {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        def log(*arguments: Any) -> None:
            self.all.append((name, *arguments))
            if name in self.fails:
                raise self.fails[name]

        return log

    def ticks(self, request: int) -> TickLog:
        return TickLog(self, request)

    def callback_failed(self, where: str, error: Exception) -> None:
        self.failures.append((where, error))

    def closed(self) -> None:
        self.all.append(("closed",))
        self.over.set()

    def of(self, name: str) -> list[list[Any]]:
        return [arguments for event, *arguments in self.all if event == name]


class TickLog:
    """Ticks of one request, among the other events."""

    def __init__(self, log: EventLog, request: int) -> None:
        self._log, self._request = log, request

    def __getattr__(self, name: str) -> Callable[..., None]:
        return partial(getattr(self._log, name), self._request)
