"""The receiving side of ibapi's connection, replaced: nothing that was read is thrown away.

Ibapi's own goes on reading as long as a read fills 4096 bytes, and when nothing follows within a
second it discards them all. It cannot read a greeting that comes in pieces, drops what comes
behind it in the same read, waits for a silent server for ever, and takes a damaged length for a
message of up to 4 GiB, which it then waits for.
"""

from __future__ import annotations

import socket
import time
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from threading import Event

__all__ = ["Line"]

_READ_BYTES: Final = 16_384
_POLL_SECONDS: Final = 1.0
_LENGTH: Final = Struct(">I")
_LARGEST: Final = 0xFFFFFF  # ibapi takes no longer message
_LONGEST_GREETING: Final = 4096


class Line:
    """One TCP connection to a server that speaks the TWS protocol.

    Its :meth:`connect` and :meth:`receive` stand in for those of an ``ibapi.Connection``.

    Parameters
    ----------
    connection : ibapi.connection.Connection
        Whose ``socket`` it is.
    patience : float
        Seconds until the server has to have greeted.
    ended : threading.Event
        Set when nobody wants the line any more.

    Attributes
    ----------
    problem : str
        Why the line is of no use any more, if something is wrong with it.
    """

    def __init__(self, connection: Any, patience: float, ended: Event) -> None:
        self._connection = connection
        self._ended = ended
        self._until = time.monotonic() + patience
        self._greeted = False
        self._ahead = b""  # read already, not handed on yet
        self._skip = 0  # bytes of the last message that have not come yet
        self._torn = b""  # the length of the next message, as far as it came
        self.problem = ""

    def connect(self) -> None:
        """Reach the server.

        Raises
        ------
        OSError
            If nobody answers in time.
        """
        host, port = self._connection.host, self._connection.port
        refusal: OSError | None = None
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            ):
                line = self._connection.socket = socket.socket(family, kind, protocol)
                line.settimeout(max(self._until - time.monotonic(), 0.1))
                try:
                    if self._ended.is_set():
                        raise self._broken("it is not wanted any more")
                    line.connect(address)
                except OSError as error:
                    line.close()
                    refusal = error
                else:
                    line.settimeout(_POLL_SECONDS)
                    return
        except OSError as error:
            refusal = error
        self._connection.socket = None
        refusal = refusal or OSError("it has no address")
        self.problem = refusal.strerror or str(refusal)
        raise refusal

    def hang_up(self) -> None:
        """End the line from any thread: what has arrived is still read, then comes the end."""
        self._ended.set()
        line = self._connection.socket
        if line is not None:
            try:
                line.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is not connected yet, or the other side was quicker

    def receive(self) -> bytes:
        """What has come, without waiting for more; nothing at the end of the line.

        Raises
        ------
        TimeoutError
            If nothing came for a second.
        OSError
            If the line is broken, or what comes is not the TWS protocol.
        """
        if not self._greeted:
            return self._greeting()
        if self._ahead:
            data, self._ahead = self._ahead, b""
        else:
            data = self._read()
        return self._sound(data)

    def _read(self) -> bytes:
        line = self._connection.socket
        return b"" if line is None else line.recv(_READ_BYTES)

    def _greeting(self) -> bytes:
        """The next message, whole and alone, as ibapi wants it until it knows the version."""
        while True:
            if len(self._ahead) >= _LENGTH.size:
                end = _LENGTH.size + _LENGTH.unpack_from(self._ahead)[0]
                if end > _LONGEST_GREETING:
                    raise self._broken("what answers there does not speak the protocol of TWS")
                if len(self._ahead) >= end:
                    break
            try:
                data = self._read()
            except TimeoutError:
                if time.monotonic() > self._until or self._ended.is_set():
                    raise self._broken("it took the connection and said nothing") from None
                continue
            if not data:
                self.problem = "it hung up"
                return b""
            self._ahead += data
        message, self._ahead = self._ahead[:end], self._ahead[end:]
        # Version and time: two fields; ibapi passes over anything else.
        self._greeted = message.count(b"\0", _LENGTH.size) == 2
        return message

    def _sound(self, data: bytes) -> bytes:
        """As much of ``data`` as is messages, going by their lengths."""
        before = len(self._torn)
        walked = self._torn + data
        at, end = self._skip, len(walked)
        while at + _LENGTH.size <= end:
            size = _LENGTH.unpack_from(walked, at)[0]
            if not 0 < size <= _LARGEST:
                if at <= before:
                    raise self._broken(f"it sent garbage: a message of {size:,} bytes")
                # What came before is good; the next read begins with this.
                self._ahead, self._skip, self._torn = walked[at:], 0, b""
                return walked[before:at]
            at += _LENGTH.size + size
        self._torn = walked[at:] if at < end else b""
        self._skip = max(at - end, 0)
        return data

    def _broken(self, problem: str) -> ConnectionError:
        self.problem = problem
        return ConnectionError(problem)
