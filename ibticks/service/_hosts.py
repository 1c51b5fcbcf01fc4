"""A check of the Host header: a page of another site cannot reach a service on this machine.

A browser sends the name that the page used, also where that name resolves to this machine (DNS
rebinding), so that a service without tokens answers its own names only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.requests import HTTPConnection, Request

from ibticks.service._errors import ErrorKind, error_response

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["LOOPBACK_HOSTS", "HostCheck", "host_name"]

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine."""


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
        if scope["type"] == "http":
            name = host_name(HTTPConnection(scope).headers.get("host", ""))
            if name not in self._hosts:
                refusal = error_response(
                    Request(scope),
                    ErrorKind(403, "PERMISSION_DENIED"),
                    f"the host name {name!r} is not one of this service: use localhost",
                    {"host": name},
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)
