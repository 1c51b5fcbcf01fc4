"""A server of a store on this machine, in a background thread."""

from __future__ import annotations

import ipaddress
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from ibticks.errors import InputError, StorageError
from ibticks.filesystem import expand_home
from ibticks.service._app import create_app
from ibticks.service._hosts import LOOPBACK_HOSTS

if TYPE_CHECKING:
    from os import PathLike
    from typing import Self

    from ibticks.capture import SharedStreams, SharingOptions
    from ibticks.store import Store

__all__ = ["DEFAULT_PORT", "Service"]

DEFAULT_PORT: Final = 8001
"""Port of the service."""

_BACKLOG: Final = 2048
_SHUTDOWN_SECONDS: Final = 5
_SOCKET_MODE: Final = 0o600


class Service:
    """A store over HTTP, to clients on this machine; a context manager.

    It listens when it has been made, and answers in a thread until it is closed. Only addresses of
    this machine are taken, since every client that reaches the service can read the store; for
    other machines, use a tunnel (``ssh -L 8001:localhost:8001 box``).

    Parameters
    ----------
    store : Store
        Stays open while the service runs.
    host : str
        Loopback address, or ``localhost``.
    port : int
        0 chooses a free one.
    uds : path-like, optional
        Path of a Unix socket, instead of host and port; only the user of this process can use it.
    on_demand : SharingOptions, optional
        ``host``, ``port`` and ``client_id`` (2 by default) of TWS or IB Gateway, from which streams
        of contracts that are not captured come on demand.

    Attributes
    ----------
    url : str
        Base URL; of a Unix socket, with the host name localhost.
    port : int or None
        None for a Unix socket.

    Raises
    ------
    InputError
        If the address is not one of this machine.
    StorageError
        If the port or the path is in use, or may not be used.

    Examples
    --------
    >>> import json, tempfile
    >>> from urllib.request import urlopen
    >>> import ibticks as ibt
    >>> with ibt.open(tempfile.mkdtemp()) as store, Service(store, port=0) as service:
    ...     with urlopen(service.url + "/health") as response:
    ...         json.load(response)["status"]
    'healthy'
    """

    def __init__(
        self,
        store: Store,
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        uds: str | PathLike[str] | None = None,
        on_demand: SharingOptions | None = None,
    ) -> None:
        self._path: Final = None if uds is None else expand_home(uds)
        self._socket: Final = (
            _listen(host, port) if self._path is None else _listen_at_path(self._path)
        )
        self.port: Final[int | None] = self._socket.getsockname()[1] if self._path is None else None
        name = f"[{host}]" if ":" in host else host
        self.url: Final = "http://localhost" if self.port is None else f"http://{name}:{self.port}"
        app = create_app(
            store, hosts=LOOPBACK_HOSTS if self._path is None else None, on_demand=on_demand
        )
        self._broadcaster: Final = app.state.broadcaster
        self._shared_streams: Final[SharedStreams | None] = app.state.shared_streams
        config = uvicorn.Config(
            app,
            log_config=None,  # loggers are those of the process
            access_log=False,
            lifespan="off",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        self._server: Final = uvicorn.Server(config)
        self._thread: Final = threading.Thread(
            target=self._server.run, args=([self._socket],), name="ibticks-serve", daemon=True
        )
        self._thread.start()

    @property
    def running(self) -> bool:
        """True until the service is closed."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the service: streams are completed, other responses have some seconds."""
        self._broadcaster.close()
        self._server.should_exit = True
        self._thread.join()
        if self._shared_streams is not None:
            self._shared_streams.close()
        self._socket.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = self.url if self._path is None else self._path
        return f"<Service {where}, {'running' if self.running else 'closed'}>"


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket of an address of this machine."""
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise InputError(f"port={port!r}: give a number from 0 to 65535; 0 chooses a free one")
    family, address = _resolve(host, port)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StorageError(
            f"{host}:{port} cannot be listened at: {error.strerror}; use another port, or 0 for a "
            "free one",
            host=host,
            port=port,
        ) from error
    return listener


def _resolve(host: str, port: int) -> tuple[int, Any]:
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"host={host!r} is no address: {error}; use 127.0.0.1") from error
    family, _, _, _, address = min(addresses, key=lambda info: info[0] != socket.AF_INET)
    if not ipaddress.ip_address(address[0]).is_loopback:
        raise InputError(
            f"host={host!r} can be reached from other machines, whose users could read the whole "
            "store: use 127.0.0.1 or a Unix socket, and a tunnel, as with ssh -L "
            f"{port}:localhost:{port}"
        )
    return family, address


def _listen_at_path(path: Path) -> socket.socket:
    """Return a listening Unix socket; one that a process left behind is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and not _is_answered(path):
            path.unlink()
        listener.bind(str(path))
        path.chmod(_SOCKET_MODE)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StorageError(
            f"{path} cannot be listened at: {error.strerror or error}; use another path",
            path=str(path),
        ) from error
    return listener


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True
