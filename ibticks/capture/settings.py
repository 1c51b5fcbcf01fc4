"""How a capture connects and behaves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ibticks.capture.tracked import MAX_TRACKED, TrackedContract, parse_tracked
from ibticks.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BACKGROUND_CLIENT", "FIRST_REQUEST", "ON_DEMAND_CLIENT", "CaptureSettings"]

BACKGROUND_CLIENT: Final = 10
"""Client id of the capture that runs all the time."""

ON_DEMAND_CLIENT: Final = 2
"""Client id of streams that are asked for on demand."""

FIRST_REQUEST: Final = 60_000
"""Request ids of the background capture begin here."""


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """What a capture needs to know.

    Attributes
    ----------
    tracked : tuple of TrackedContract
    host, port : str, int
        Of TWS (7497 paper, 7496 live) or IB Gateway (4002 paper, 4001 live).
    client_id : int
    reconnect_delay : float
        Seconds before the second attempt to connect; doubled from attempt to attempt, up to ten
        times this, give or take a quarter. The first attempt comes after a second.
    connect_timeout : float
        Seconds an attempt may take.
    fsync : float or None
        Seconds that ticks may wait to be forced to the disk; 0: every tick; None: never.
    quiet_after : float
        Seconds without a tick, while the market is open and others tick, after which a stream
        counts as silent and is subscribed anew.
    heartbeat : float
        Seconds without any message after which the server is asked for a sign of life.
    same_contract_seconds : float
        IB allows one tick-by-tick request for a contract in this time.
    requests_per_second : int
        IB allows 50.
    backfill : bool
        Fill gaps from IB's history once they are over.
    """

    tracked: tuple[TrackedContract, ...]
    host: str = "127.0.0.1"
    port: int = 4002
    client_id: int = BACKGROUND_CLIENT
    reconnect_delay: float = 30.0
    connect_timeout: float = 15.0
    fsync: float | None = 1.0
    quiet_after: float = 60.0
    heartbeat: float = 10.0
    same_contract_seconds: float = 15.0
    requests_per_second: int = 45
    backfill: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> CaptureSettings:
        """Read ``IB_STREAM_TRACKED_CONTRACTS`` and the other variables.

        ======================================  ===================================  ===========
        variable                                meaning                              default
        ======================================  ===================================  ===========
        ``IB_STREAM_TRACKED_CONTRACTS``         see :func:`parse_tracked`            none
        ``IB_STREAM_MAX_TRACKED``               most contracts                       10
        ``IB_STREAM_RECONNECT_DELAY``           seconds                              30
        ``IBTICKS_GATEWAY``                     ``host:port`` of TWS or IB Gateway   127.0.0.1:4002
        ======================================  ===================================  ===========

        Raises
        ------
        ConfigError
            Saying which variable is wrong, and how.
        """
        said = os.environ if environment is None else environment
        most = int(_number(said, "IB_STREAM_MAX_TRACKED", MAX_TRACKED, whole=True))
        delay = _number(said, "IB_STREAM_RECONNECT_DELAY", 30.0)
        try:
            tracked = parse_tracked(said.get("IB_STREAM_TRACKED_CONTRACTS", ""), most=most)
        except ConfigError as error:
            raise ConfigError(f"IB_STREAM_TRACKED_CONTRACTS: {error}") from error
        host, port = parse_address(said.get("IBTICKS_GATEWAY", "127.0.0.1:4002"))
        return cls(tracked, host=host, port=port, reconnect_delay=delay)


def parse_address(text: str) -> tuple[str, int]:
    """Read ``host:port``.

    Examples
    --------
    >>> parse_address("localhost:7497")
    ('localhost', 7497)
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{text!r} is not an address: write host:port, as 127.0.0.1:4002")
    return host, int(port)


def _number(said: Mapping[str, str], name: str, default: float, *, whole: bool = False) -> float:
    text = said.get(name, "").strip()
    if not text:
        return default
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e9:
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"{name}={text!r} is not {kind} above 0")
    return value
