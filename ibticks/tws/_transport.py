"""TCP transport of the TWS protocol, addresses, usual ports, and advice for a refusal."""

from __future__ import annotations

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from ibticks.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "USUAL_PORTS",
    "Transport",
    "connection_advice",
    "gateway_address",
    "listening_ports",
    "parse_address",
]

_READ_BYTES: Final = 65_536
_POLL_SECONDS: Final = 0.5
_LENGTH: Final = Struct(">I")
_MAX_MESSAGE_BYTES: Final = 0xFFFFFF  # ibapi takes no longer message either
_MAX_GREETING_BYTES: Final = 4096
_MAX_QUEUED_BYTES: Final = 256 << 20
_BACKPRESSURE_SECONDS: Final = 0.01
_MIN_CONNECT_SECONDS: Final = 0.01

_DEFAULT_ADDRESS: Final = "127.0.0.1:4002"

USUAL_PORTS: Final = {
    7496: "TWS, live",
    7497: "TWS, paper",
    4001: "IB Gateway, live",
    4002: "IB Gateway, paper",
}
"""Ports that TWS and IB Gateway listen on unless their settings say otherwise."""

_PROBE_SECONDS: Final = 0.5


def parse_address(text: str) -> tuple[str, int]:
    """Parse ``host:port``.

    Examples
    --------
    >>> parse_address("localhost:7497")
    ('localhost', 7497)
    >>> parse_address("[::1]:4002")
    ('::1', 4002)
    """
    host, _, port = text.strip().rpartition(":")
    in_brackets = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if in_brackets else host
    if (
        not bare
        or (":" in bare) != in_brackets
        or not (port.isascii() and port.isdecimal())
        or not 0 < int(port) < 65536
    ):
        raise ConfigError(f"{text!r} is not an address: write host:port, as {_DEFAULT_ADDRESS}")
    return bare, int(port)


def gateway_address(environment: Mapping[str, str] | None = None) -> tuple[str, int]:
    """Host and port in ``IBTICKS_GATEWAY``, or the usual ones.

    Raises
    ------
    ConfigError
        If the variable is not an address.

    Examples
    --------
    >>> gateway_address({"IBTICKS_GATEWAY": "gateway:4001"})
    ('gateway', 4001)
    """
    environment = os.environ if environment is None else environment
    try:
        return parse_address(environment.get("IBTICKS_GATEWAY", "").strip() or _DEFAULT_ADDRESS)
    except ConfigError as error:
        raise ConfigError(f"IBTICKS_GATEWAY: {error}") from error


def listening_ports(host: str, ports: tuple[int, ...], timeout: float) -> tuple[int, ...]:
    """Return the ports that accept a connection.

    Parameters
    ----------
    host : str
    ports : tuple of int
    timeout : float
        Seconds for all ports, which are tried at the same time.
    """

    def accepts(port: int) -> bool:
        try:
            socket.create_connection((host, port), timeout).close()
        except OSError:
            return False
        return True

    if not ports:
        return ()
    with ThreadPoolExecutor(len(ports)) as probes:
        answers = list(probes.map(accepts, ports))
    return tuple(port for port, open_ in zip(ports, answers, strict=True) if open_)


def connection_advice(host: str, port: int, timeout: float) -> str:
    """Return advice about a connection that TWS or IB Gateway did not accept.

    It names the usual ports, those of them that answer on the host, and the API settings of TWS.
    Nothing is sent to a port that answers, since another program may own it.

    Parameters
    ----------
    host : str
    port : int
        The port that was tried.
    timeout : float
        Seconds that the connection was given; the usual ports get half a second at most.
    """
    usual = ", ".join(f"{number} ({name})" for number, name in USUAL_PORTS.items())
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return f"The host {host} is not known: check its name. The usual ports are {usual}"
    others = tuple(number for number in USUAL_PORTS if number != port)
    listening = listening_ports(host, others, min(timeout, _PROBE_SECONDS))
    if listening:
        names = " and ".join(f"{number} ({USUAL_PORTS[number]})" for number in listening)
        seen = f"on {host} {names} {'answers' if len(listening) == 1 else 'answer'}: connect there"
    else:
        seen = f"on {host} none of the others answers: start TWS or IB Gateway there and log in"
    return (
        f"The usual ports are {usual}; {seen}. In TWS, Global Configuration > API > Settings has "
        "the Socket port, needs 'Enable ActiveX and Socket Clients' switched on, and lists the "
        "Trusted IPs, which are not asked about"
    )


class Transport:
    """One TCP connection to a server that speaks the TWS protocol.

    Its :meth:`connect` and :meth:`receive` replace those of an ``ibapi.Connection``. After the
    greeting, ibapi's reader thread runs :meth:`receive` alone: the socket is read without delay,
    since TWS drops what a slow client does not read, and :meth:`messages` yields the messages to
    another thread.

    Parameters
    ----------
    connection : ibapi.connection.Connection
        The owner of the ``socket``.
    timeout_seconds : float
        Seconds until the server has to have sent its greeting.

    Attributes
    ----------
    problem : str
        Why the transport cannot be used any more, if something is wrong with it.
    is_silent : bool
        Whether the server accepted the connection and sent nothing in time.
    """

    def __init__(self, connection: Any, timeout_seconds: float) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + timeout_seconds
        self._ended = False
        self._greeted = False
        self._greeting = b""
        self._chunks: SimpleQueue[bytes] = SimpleQueue()
        self._received_bytes = 0
        self._consumed_bytes = 0
        self.problem = ""
        self.is_silent = False

    def connect(self) -> None:
        """Connect to the server.

        Raises
        ------
        OSError
            If no address of the host accepts a connection in time.
        """
        refusal: OSError = ConnectionError("the host has no address")
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(
                self._connection.host, self._connection.port, type=socket.SOCK_STREAM
            ):
                sock = self._connection.socket = socket.socket(family, kind, protocol)
                try:
                    sock.settimeout(max(self._deadline - time.monotonic(), _MIN_CONNECT_SECONDS))
                    if not self._ended:
                        sock.connect(address)
                        sock.settimeout(_POLL_SECONDS)
                        return
                except OSError as error:
                    refusal = error
                sock.close()
        except OSError as error:
            refusal = error
        self._connection.socket = None
        self.problem = refusal.strerror or str(refusal)
        raise refusal

    def hang_up(self) -> None:
        """Shut the socket down, from any thread; messages already received are still yielded."""
        self._ended = True
        sock = self._connection.socket
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is not connected yet, or the other side was quicker

    def half_close(self) -> None:
        """Shut the sending side down: the server ends, and all it sent until then arrives."""
        sock = self._connection.socket
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                return  # it is over already

    def receive(self) -> bytes:
        """Stand in for ibapi's ``recvMsg``.

        Until the server has greeted, return one message of the greeting. After that, read until the
        connection ends, and return nothing.
        """
        sock = self._connection.socket
        try:
            if sock is None:
                raise ConnectionError("the socket is closed")
            if not self._greeted:
                return self._read_greeting(sock)
            self._read_until_end(sock)
        except OSError as error:
            # The reason of an earlier failure counts, not how the socket then ended.
            self.problem = self.problem or error.strerror or str(error)
        self._chunks.put(b"")
        self._connection.disconnect()
        return b""

    def fail(self, problem: str) -> None:
        """End the connection because of what it received."""
        self.problem = problem
        self.hang_up()

    def messages(self) -> Iterator[bytes]:
        """Yield the messages after the greeting, until the connection ends.

        An impossible length prefix ends it, too.
        """
        data = b""
        while chunk := self._chunks.get():
            self._consumed_bytes += len(chunk)
            data = data + chunk if data else chunk
            at, end = 0, len(data)
            while at + _LENGTH.size <= end:
                begin = at + _LENGTH.size
                size = _LENGTH.unpack_from(data, at)[0]
                if not 0 < size <= _MAX_MESSAGE_BYTES:
                    self.fail(f"the server sent garbage: a message of {size:,} bytes")
                    return
                if begin + size > end:
                    break
                at = begin + size
                yield data[begin:at]
            data = data[at:]

    def _read_until_end(self, sock: socket.socket) -> None:
        sock.settimeout(None)
        while data := sock.recv(_READ_BYTES):
            self._chunks.put(data)
            self._received_bytes += len(data)
            while self._received_bytes - self._consumed_bytes > _MAX_QUEUED_BYTES:
                time.sleep(_BACKPRESSURE_SECONDS)

    def _read_greeting(self, sock: socket.socket) -> bytes:
        """Return the next message alone, as ibapi needs it until it knows the version."""
        while True:
            if len(self._greeting) >= _LENGTH.size:
                end = _LENGTH.size + _LENGTH.unpack_from(self._greeting)[0]
                if end > _MAX_GREETING_BYTES:
                    raise ConnectionError("the server does not speak the TWS protocol")
                if len(self._greeting) >= end:
                    break
            try:
                data = sock.recv(_MAX_GREETING_BYTES)
            except TimeoutError:
                if time.monotonic() > self._deadline or self._ended:
                    self.is_silent = not (self._ended or self._greeting)
                    raise ConnectionError("connected, but the server sent no greeting") from None
                continue
            if not data:
                raise ConnectionError("the server closed the connection")
            self._greeting += data
        message, self._greeting = self._greeting[:end], self._greeting[end:]
        # Version and time: two fields. Ibapi passes over anything else that comes before.
        self._greeted = message.count(b"\0", _LENGTH.size) == 2
        if self._greeted and self._greeting:
            self._chunks.put(self._greeting)
        return message
