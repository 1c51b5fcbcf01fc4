"""Addresses of TWS and IB Gateway, their usual ports, and advice for a refused connection."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from ibticks.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "USUAL_PORTS",
    "connection_advice",
    "gateway_address",
    "listening_ports",
    "parse_address",
]

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
