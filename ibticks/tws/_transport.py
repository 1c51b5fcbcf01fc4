"""The receiving side of ibapi's connection, replaced: nothing that was read is thrown away.

Ibapi's own goes on reading as long as a read fills 4096 bytes, and when nothing follows within a
second it discards them all. It cannot read a greeting that comes in pieces, drops what comes
behind it in the same read, waits for a silent server for ever, and takes a damaged length for a
message of up to 4 GiB, which it then waits for.
"""

from __future__ import annotations

import socket
import time
from queue import SimpleQueue
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Line"]

_READ_BYTES: Final = 65_536
_POLL_SECONDS: Final = 0.5
_LENGTH: Final = Struct(">I")
_LARGEST: Final = 0xFFFFFF  # ibapi takes no longer message either
_LONGEST_GREETING: Final = 4096
_MOST_WAITING: Final = 256 << 20  # bytes
_BREATH: Final = 0.01


class Line:
    """One TCP connection to a server that speaks the TWS protocol.

    Its :meth:`connect` and :meth:`receive` stand in for those of an ``ibapi.Connection``. Once the
    server has greeted, ibapi's reader thread does nothing but :meth:`receive`: the server is always
    read from at once, since it drops what is not, and :meth:`messages` has what it said.

    Parameters
    ----------
    connection : ibapi.connection.Connection
        Whose ``socket`` it is.
    patience : float
        Seconds until the server has to have greeted.

    Attributes
    ----------
    problem : str
        Why the line is of no use any more, if something is wrong with it.
    """

    def __init__(self, connection: Any, patience: float) -> None:
        self._connection = connection
        self._until = time.monotonic() + patience
        self._ended = False
        self._greeted = False
        self._greeting = b""
        self._chunks: SimpleQueue[bytes] = SimpleQueue()
        self._received = 0
        self._handed_on = 0
        self.problem = ""

    def connect(self) -> None:
        """Reach the server.

        Raises
        ------
        OSError
            If nobody answers in time.
        """
        refusal: OSError = ConnectionError("it has no address")
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(
                self._connection.host, self._connection.port, type=socket.SOCK_STREAM
            ):
                line = self._connection.socket = socket.socket(family, kind, protocol)
                try:
                    line.settimeout(max(self._until - time.monotonic(), _BREATH))
                    if not self._ended:
                        line.connect(address)
                        line.settimeout(_POLL_SECONDS)
                        return
                except OSError as error:
                    refusal = error
                line.close()
        except OSError as error:
            refusal = error
        self._connection.socket = None
        self.problem = refusal.strerror or str(refusal)
        raise refusal

    def hang_up(self) -> None:
        """End the line, from any thread; what has arrived is still read, then comes the end."""
        self._ended = True
        line = self._connection.socket
        if line is not None:
            try:
                line.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is not connected yet, or the other side was quicker

    def say_goodbye(self) -> None:
        """Have the server end the line, so that all it has sent until then still comes."""
        line = self._connection.socket
        if line is not None:
            try:
                line.shutdown(socket.SHUT_WR)
            except OSError:
                return  # it is over already

    def receive(self) -> bytes:
        """Ibapi's ``recvMsg``: a message of the greeting; after it, nothing, when all is over."""
        line = self._connection.socket
        try:
            if line is None:
                raise ConnectionError("it is closed")
            if not self._greeted:
                return self._greet(line)
            self._pump(line)
        except OSError as error:
            # What it was given up for counts, not how it then ended.
            self.problem = self.problem or error.strerror or str(error)
        self._chunks.put(b"")
        self._connection.disconnect()
        return b""

    def give_up(self, problem: str) -> None:
        """End the line because of what came over it."""
        self.problem = problem
        self.hang_up()

    def messages(self) -> Iterator[bytes]:
        """What the server says after its greeting, until the line ends.

        What cannot be a message ends it, too.
        """
        data = b""
        while chunk := self._chunks.get():
            self._handed_on += len(chunk)
            data = data + chunk if data else chunk
            at, end = 0, len(data)
            while at + _LENGTH.size <= end:
                begin = at + _LENGTH.size
                size = _LENGTH.unpack_from(data, at)[0]
                if not 0 < size <= _LARGEST:
                    self.give_up(f"it sent garbage: a message of {size:,} bytes")
                    return
                if begin + size > end:
                    break
                at = begin + size
                yield data[begin:at]
            data = data[at:]

    def _pump(self, line: socket.socket) -> None:
        line.settimeout(None)
        while data := line.recv(_READ_BYTES):
            self._chunks.put(data)
            self._received += len(data)
            while self._received - self._handed_on > _MOST_WAITING:
                time.sleep(_BREATH)

    def _greet(self, line: socket.socket) -> bytes:
        """The next message, whole and alone, as ibapi wants it until it knows the version."""
        while True:
            if len(self._greeting) >= _LENGTH.size:
                end = _LENGTH.size + _LENGTH.unpack_from(self._greeting)[0]
                if end > _LONGEST_GREETING:
                    raise ConnectionError("what answers there does not speak the protocol of TWS")
                if len(self._greeting) >= end:
                    break
            try:
                data = line.recv(_LONGEST_GREETING)
            except TimeoutError:
                if time.monotonic() > self._until or self._ended:
                    raise ConnectionError("it took the connection and said nothing") from None
                continue
            if not data:
                raise ConnectionError("it hung up")
            self._greeting += data
        message, self._greeting = self._greeting[:end], self._greeting[end:]
        # Version and time: two fields. Ibapi passes over anything else that comes before.
        self._greeted = message.count(b"\0", _LENGTH.size) == 2
        if self._greeted and self._greeting:
            self._chunks.put(self._greeting)
        return message
