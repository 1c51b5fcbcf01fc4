"""How a capture connects and behaves."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from datetime import timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from ibticks.capture._tracked import MAX_TRACKED, TrackedContract, check_tracked, parse_tracked
from ibticks.config import NANOSECONDS
from ibticks.errors import ConfigError
from ibticks.tws import gateway_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "BACKGROUND_CLIENT",
    "FIRST_REQUEST",
    "ON_DEMAND_CLIENT",
    "CaptureSettings",
]

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
    max_tracked : int
        How many contracts there may be: IB limits tick-by-tick lines.
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
        counts as silent, and is subscribed anew some minutes later.
    heartbeat : float
        Seconds without any message after which the server is asked for a sign of life, and seconds
        it has to give one.
    same_contract_seconds : float
        IB allows one tick-by-tick request for a contract in this time.
    requests_per_second : int
        IB allows 50.
    backfill : bool
        Fill gaps from IB's history once they are over.
    compress_after : float or None
        Seconds after the end of an hour after which its file is compressed; None: never. Made from
        ``24h`` and the like, too, and from a timedelta.
    keep : float or None
        Seconds after the end of an hour after which its file is deleted; None: never. Made as
        ``compress_after`` is.

    Raises
    ------
    ConfigError
        Saying which setting is wrong, and how.
    """

    tracked: tuple[TrackedContract, ...]
    max_tracked: int = MAX_TRACKED
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
    compress_after: float | None = None
    keep: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.host, str) or not self.host:
            raise ConfigError(f"host={self.host!r}: give the name or address of a machine")
        self._whole("port", 1, 65535)
        self._whole("client_id", 0, 2**31 - 1)
        self._whole("max_tracked", 1, 10_000)
        self._whole("requests_per_second", 1, 50)
        for name in ("reconnect_delay", "connect_timeout", "quiet_after", "heartbeat"):
            self._seconds(name, zero=False)
        self._seconds("same_contract_seconds", zero=True)
        for name in ("fsync", "compress_after"):
            if getattr(self, name) is not None:
                self._seconds(name, zero=True)
        if self.keep is not None:
            self._seconds("keep", zero=False)
        check_tracked(self.tracked, self.max_tracked)

    def wanted(self) -> tuple[TrackedContract, ...]:
        """The contracts that are to be captured: those that are enabled.

        Raises
        ------
        ConfigError
            If there are none.
        """
        wanted = tuple(contract for contract in self.tracked if contract.enabled)
        if not wanted:
            raise ConfigError(
                "no contract to capture: give some, as '265598:AAPL:bid_ask;last:1', or set "
                "IB_STREAM_TRACKED_CONTRACTS"
            )
        return wanted

    def _whole(self, name: str, least: int, most: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ConfigError(f"{name}={value!r}: give a whole number from {least} to {most}")

    def _seconds(self, name: str, *, zero: bool) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not isfinite(value) or value < 0 or (value == 0 and not zero):
            least = "0 or more" if zero else "more than 0"
            raise ConfigError(f"{name}={value!r}: give seconds, {least}")

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        tracked: str | Sequence[TrackedContract] | None = None,
        **given: Any,
    ) -> CaptureSettings:
        """Read ``IB_STREAM_TRACKED_CONTRACTS`` and the other variables.

        ======================================  ===================================  ==============
        variable                                meaning                              default
        ======================================  ===================================  ==============
        ``IB_STREAM_TRACKED_CONTRACTS``         see :func:`parse_tracked`            none
        ``IB_STREAM_MAX_TRACKED``               most contracts                       10
        ``IB_STREAM_RECONNECT_DELAY``           seconds                              30
        ``IBTICKS_GATEWAY``                     ``host:port`` of TWS or IB Gateway   127.0.0.1:4002
        ======================================  ===================================  ==============

        Parameters
        ----------
        environment : mapping, optional
            By default that of the process.
        tracked : str or sequence of TrackedContract, optional
        **given
            Other settings. What is given is not read from the environment.

        Raises
        ------
        ConfigError
            Saying which variable or setting is wrong, and how.
        UnknownPeriodError
            If ``compress_after`` or ``keep`` is no length of time.
        """
        said = os.environ if environment is None else environment
        names = [field.name for field in fields(cls)]
        unknown = sorted(given.keys() - set(names))
        if unknown:
            raise ConfigError(f"a capture has no setting {unknown[0]!r}; it has {', '.join(names)}")
        most = given.setdefault("max_tracked", None)
        if most is None:
            most = given["max_tracked"] = _whole(said, "IB_STREAM_MAX_TRACKED", MAX_TRACKED)
        if "reconnect_delay" not in given:
            given["reconnect_delay"] = _number(said, "IB_STREAM_RECONNECT_DELAY", 30.0)
        if "host" not in given or "port" not in given:
            host, port = gateway_address(said)
            given = {"host": host, "port": port} | given
        if tracked is None:
            try:
                tracked = parse_tracked(said.get("IB_STREAM_TRACKED_CONTRACTS", ""))
                check_tracked(tracked, most)
            except ConfigError as error:
                raise ConfigError(f"IB_STREAM_TRACKED_CONTRACTS: {error}") from error
        elif isinstance(tracked, str):
            tracked = parse_tracked(tracked)
        for name in ("compress_after", "keep"):
            length = given.get(name)
            if isinstance(length, str | timedelta):
                from ibticks.calendar import parse_duration

                given[name] = parse_duration(length) / NANOSECONDS
        return cls(tuple(tracked), **given)


def _whole(said: Mapping[str, str], name: str, default: int) -> int:
    text = said.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise ConfigError(f"{name}={text!r} is not a whole number above 0")
    return int(text)


def _number(said: Mapping[str, str], name: str, default: float) -> float:
    text = said.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not isfinite(value) or value <= 0:
        raise ConfigError(f"{name}={text!r} is not a number above 0")
    return value
