"""Live messages of a service, read on over lost connections."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from ibticks.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from ibticks.remote._connection import Connection

__all__ = ["RemoteLive"]

_RETRY_SECONDS: Final = 1.0
_ATTEMPTS: Final = 60
_HEARTBEAT_SECONDS: Final = 15.0


class RemoteLive:
    """The v2 messages of a stream of a service: stored ticks of a buffer, then live ones.

    Made by :meth:`RemoteStore.live`; an iterator. Where the connection is lost, it is opened again
    after the last message that came: none is missing and none comes twice.

    Parameters
    ----------
    connection : Connection
    contract : str
        Contract id or symbol.
    tick_types : sequence of str
    buffer : str, optional
        Period of the buffer; without one, the ticks that come from now on.
    resume : str, optional
        Position of another stream of the same contract and tick types. Instead of ``buffer``.
    markers : bool
        Whether ``info`` messages mark where the buffer begins and ends.

    Attributes
    ----------
    position : str or None
        Resume token after the last message.
    """

    def __init__(
        self,
        connection: Connection,
        contract: str,
        tick_types: Sequence[str],
        *,
        buffer: str | None = None,
        resume: str | None = None,
        markers: bool = True,
    ) -> None:
        self.position = resume
        self._connection: Final = connection
        route = "live" if buffer is None else "with-buffer"
        self._path: Final = f"/v2/stream/{contract}/{route}"
        self._query: Final = {
            "tick_types": ",".join(tick_types),
            "buffer_duration": buffer,
            "heartbeat": _HEARTBEAT_SECONDS,
        }
        self._markers: Final = markers
        self._messages: Final = self._read()
        self._is_closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        return next(self._messages)

    def close(self) -> None:
        """Close the connection."""
        self._is_closed = True
        self._messages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RemoteLive {self._connection.url}{self._path}>"

    def _read(self) -> Any:
        attempts = 0
        is_first = True
        while True:
            try:
                for message in self._connected():
                    attempts = 0
                    if message["type"] == "complete" and not self._is_over(message):
                        break
                    # A stream that goes on has no second begin.
                    if message["type"] != "info" or (is_first and self._markers):
                        yield message
                    if message["type"] == "info" and message["data"]["status"] == "live_start":
                        is_first = False
                    if message["type"] == "complete" or _is_final(message):
                        return
            except RemoteError:
                attempts += 1
                if self.position is None or attempts >= _ATTEMPTS:
                    raise
            time.sleep(_RETRY_SECONDS)

    @staticmethod
    def _is_over(message: dict[str, Any]) -> bool:
        """Return whether a stream has ended by itself, not with its service."""
        return bool(message["data"]["reason"] != "service_closed")

    def _connected(self) -> Iterator[dict[str, Any]]:
        """Yield the messages of one connection, and note the position of each."""
        query = dict(self._query)
        if self.position is not None:
            query.pop("buffer_duration")
            query["resume"] = self.position
        with self._connection.stream(self._path, query) as response:
            position = self.position
            for line in response.iter_lines():
                if line.startswith("id: "):
                    position = line[4:]
                elif line.startswith("data: "):
                    self.position = position
                    yield json.loads(line[6:])


def _is_final(message: dict[str, Any]) -> bool:
    """Return whether a message is an error after which its stream does not go on."""
    return message["type"] == "error" and not message["data"]["recoverable"]
