"""A check of the headers Host and Origin: a page of another site cannot reach a local service.

A browser sends the name that the page used, also where that name resolves to this machine (DNS
rebinding), so that a service without tokens answers its own names only. WebSockets are open to
every page, unless the server looks at the origin that a browser sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.requests import HTTPConnection, Request

from ibticks.service._errors import ErrorKind, error_response

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["LOOPBACK_HOSTS", "HostCheck", "host_name"]

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine."""

_POLICY_VIOLATION: Final = 1008


def host_name(header: str) -> str:
    """Return the name in a Host header, without the port.

    Parameters
    ----------
    header : str

    Examples
    --------
    >>> host_name("LocalHost:8001"), host_name("[::1]:8001"), host_name("[::1]")
    ('localhost', '::1', '::1')
    """
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


class HostCheck:
    """ASGI middleware that refuses requests to other host names.

    Parameters
    ----------
    app : ASGI application
    hosts : collection of str
        Names that are answered.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(name.lower() for name in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] in ("http", "websocket"):
            headers = HTTPConnection(scope).headers
            name = host_name(headers.get("host", ""))
            if name not in self._hosts:
                message = f"the host name {name!r} is not one of this service: use localhost"
                await _refuse(scope, receive, send, message, {"host": name})
                return
            origin = headers.get("origin")
            if scope["type"] == "websocket" and origin is not None:
                site = host_name(origin.partition("://")[2])
                if site not in self._hosts:
                    message = f"pages of {origin!r} may not open a WebSocket of this service"
                    await _refuse(scope, receive, send, message, {"origin": origin})
                    return
        await self._app(scope, receive, send)


async def _refuse(
    scope: Scope, receive: Receive, send: Send, message: str, details: dict[str, Any]
) -> None:
    if scope["type"] == "websocket":
        # Before the handshake ends: the server answers it with status 403.
        await receive()
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": message})
        return
    kind = ErrorKind(403, "PERMISSION_DENIED")
    await error_response(Request(scope), kind, message, details)(scope, receive, send)
