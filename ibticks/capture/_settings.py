"""Settings of a capture: the tracked contracts, the connection, and their defaults."""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from datetime import timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, TypedDict

from ibticks.config import NANOSECONDS, TICK_TYPES
from ibticks.errors import ConfigError
from ibticks.tws import gateway_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from ibticks._types import TickTypeLike

__all__ = [
    "BACKGROUND_CLIENT_ID",
    "FIRST_REQUEST_ID",
    "MAX_TRACKED",
    "ON_DEMAND_CLIENT_ID",
    "CaptureOptions",
    "CaptureSettings",
    "TrackedContract",
    "check_tracked",
    "format_tracked",
    "merge_tracked",
    "parse_tracked",
]

BACKGROUND_CLIENT_ID: Final = 10
"""Client id of a capture."""

ON_DEMAND_CLIENT_ID: Final = 2
"""Client id of streams on demand."""

FIRST_REQUEST_ID: Final = 60_000
"""First request id of a capture."""

MAX_TRACKED: Final = 10
"""Default of the largest number of contracts."""

_DEFAULT_TYPES: Final = ("bid_ask", "last")
_MAX_CONTRACT_ID: Final = 2**32 - 1
_MAX_BUFFER_HOURS: Final = 24 * 7
_WHOLE: Final = re.compile(r"\d{1,18}", re.ASCII)
_SEPARATORS: Final = ":;,"  # of the line that lists contracts


@dataclass(frozen=True, slots=True)
class TrackedContract:
    """One contract to capture.

    Attributes
    ----------
    contract_id : int
        IB's conId.
    symbol : str
        For display; requests use the id.
    tick_types : sequence of str
        In the order in which they are subscribed.
    buffer_hours : int
        Hours of history at the start of a live view.
    enabled : bool
    """

    contract_id: int
    symbol: str
    tick_types: Sequence[TickTypeLike] = _DEFAULT_TYPES
    buffer_hours: int = 1
    enabled: bool = True

    def __post_init__(self) -> None:
        where = f"contract {self.symbol or self.contract_id}"
        is_whole = isinstance(self.contract_id, int) and not isinstance(self.contract_id, bool)
        if not is_whole or not 0 < self.contract_id <= _MAX_CONTRACT_ID:
            raise ConfigError(f"{where}: {self.contract_id!r} is not a contract id of IB")
        if not isinstance(self.symbol, str) or any(mark in self.symbol for mark in _SEPARATORS):
            raise ConfigError(f"{where}: {self.symbol!r} is not a symbol")
        if isinstance(self.tick_types, str):
            raise ConfigError(f"{where}: give tick types as a tuple: ({self.tick_types!r},)")
        object.__setattr__(self, "tick_types", tuple(self.tick_types))
        if not self.tick_types:
            raise ConfigError(f"{where}: no tick type; use some of {', '.join(TICK_TYPES)}")
        for tick_type in self.tick_types:
            if tick_type not in TICK_TYPES:
                raise ConfigError(
                    f"{where}: unknown tick type {tick_type!r}; use some of {', '.join(TICK_TYPES)}"
                )
        if len(set(self.tick_types)) < len(self.tick_types):
            raise ConfigError(f"{where}: a tick type is named twice: {';'.join(self.tick_types)}")
        if not isinstance(self.buffer_hours, int) or not 0 < self.buffer_hours <= _MAX_BUFFER_HOURS:
            raise ConfigError(
                f"{where}: buffer of {self.buffer_hours!r} hours; use 1 to {_MAX_BUFFER_HOURS}"
            )


def parse_tracked(text: str) -> tuple[TrackedContract, ...]:
    """Parse ``contract_id:symbol:tick_types:buffer_hours,...``.

    Tick types are separated by semicolons. They and the hours may be left out.

    Raises
    ------
    ConfigError
        If an entry is wrong; the message names it.

    Examples
    --------
    >>> parse_tracked("711280073:MNQ:bid_ask;last:2")[0].buffer_hours
    2
    >>> parse_tracked("265598:AAPL")[0].tick_types
    ('bid_ask', 'last')
    """
    entries = [entry.strip() for entry in text.split(",")]
    if not any(entries):
        return ()
    contracts: list[TrackedContract] = []
    for number, entry in enumerate(entries, 1):
        if not entry:
            raise ConfigError(f"entry {number} of the tracked contracts is empty: {text!r}")
        contract = _parse_entry(entry, number)
        if any(contract.contract_id == other.contract_id for other in contracts):
            raise ConfigError(
                f"entry {number} of the tracked contracts ({entry!r}): contract "
                f"{contract.contract_id} is there already; put all its tick types into one entry"
            )
        contracts.append(contract)
    return tuple(contracts)


def check_tracked(contracts: Sequence[TrackedContract], max_tracked: int) -> None:
    """Check that contracts can be captured together.

    Raises
    ------
    ConfigError
        If there are more than ``max_tracked``, or one is listed twice.
    """
    if len(contracts) > max_tracked:
        raise ConfigError(
            f"{len(contracts)} contracts are to be tracked, and at most {max_tracked} may be: IB "
            "limits tick-by-tick lines; raise IB_STREAM_MAX_TRACKED if your account has more"
        )
    seen: set[int] = set()
    for contract in contracts:
        if not isinstance(contract, TrackedContract):
            raise ConfigError(f"{contract!r} is not a TrackedContract")
        if contract.contract_id in seen:
            raise ConfigError(
                f"contract {contract.contract_id} is to be tracked twice: put all its tick types "
                "into one"
            )
        seen.add(contract.contract_id)


def merge_tracked(
    tracked: Sequence[TrackedContract], added: Sequence[TrackedContract]
) -> tuple[TrackedContract, ...]:
    """Return tracked contracts with others, or with more tick types of them.

    Examples
    --------
    >>> merged = merge_tracked(parse_tracked("1:ONE:last"), parse_tracked("1:ONE:bid_ask,2:TWO"))
    >>> format_tracked(merged)
    '1:ONE:last;bid_ask:1,2:TWO:bid_ask;last:1'
    """
    merged = {contract.contract_id: contract for contract in tracked}
    for contract in added:
        before = merged.get(contract.contract_id)
        if before is not None:
            tick_types = dict.fromkeys((*before.tick_types, *contract.tick_types))
            contract = dataclasses.replace(contract, tick_types=tuple(tick_types))
        merged[contract.contract_id] = contract
    return tuple(merged.values())


def format_tracked(contracts: Sequence[TrackedContract]) -> str:
    """Format contracts as the line that :func:`parse_tracked` parses."""
    return ",".join(
        f"{c.contract_id}:{c.symbol}:{';'.join(c.tick_types)}:{c.buffer_hours}" for c in contracts
    )


def _parse_entry(entry: str, number: int) -> TrackedContract:
    where = f"entry {number} of the tracked contracts ({entry!r})"
    fields = [part.strip() for part in entry.split(":")]
    if not 2 <= len(fields) <= 4:
        raise ConfigError(
            f"{where} has {len(fields)} parts: write contract_id:symbol:tick_types:buffer_hours, "
            "as 265598:AAPL:bid_ask;last:1"
        )
    if not _WHOLE.fullmatch(fields[0]):
        raise ConfigError(f"{where}: {fields[0]!r} is not a contract id (a whole number)")
    if not fields[1]:
        raise ConfigError(f"{where}: the symbol is missing")
    tick_types: tuple[str, ...] = _DEFAULT_TYPES
    if len(fields) > 2 and fields[2]:
        tick_types = tuple(name.strip() for name in fields[2].split(";"))
    hours = 1
    if len(fields) > 3 and fields[3]:
        if not _WHOLE.fullmatch(fields[3]):
            raise ConfigError(f"{where}: {fields[3]!r} is not a number of hours (a whole number)")
        hours = int(fields[3])
    try:
        return TrackedContract(int(fields[0]), fields[1], tick_types, hours)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


class CaptureOptions(TypedDict, total=False):
    """Keyword arguments of a capture, described in :class:`CaptureSettings`.

    Lengths of time may also be text, such as ``"24h"``. ``max_tracked=None`` is that of the
    environment.
    """

    max_tracked: int | None
    host: str
    port: int
    client_id: int
    reconnect_delay: float
    connect_timeout: float
    fsync: float | None
    quiet_after: float
    heartbeat: float
    same_contract_seconds: float
    requests_per_second: int
    backfill: bool
    compress_after: float | str | timedelta | None
    keep: float | str | timedelta | None


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """Settings of a capture.

    Attributes
    ----------
    tracked : tuple of TrackedContract
    max_tracked : int
        Largest number of contracts: IB limits tick-by-tick lines.
    host, port : str, int
        Address of TWS (7497 paper, 7496 live) or IB Gateway (4002 paper, 4001 live).
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
        Seconds without any message after which a heartbeat is requested, and seconds until the
        answer is overdue.
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
        If a setting is wrong; the message names it.
    """

    tracked: tuple[TrackedContract, ...]
    max_tracked: int = MAX_TRACKED
    host: str = "127.0.0.1"
    port: int = 4002
    client_id: int = BACKGROUND_CLIENT_ID
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
        self._check_whole("port", 1, 65535)
        self._check_whole("client_id", 0, 2**31 - 1)
        self._check_whole("max_tracked", 1, 10_000)
        self._check_whole("requests_per_second", 1, 50)
        for name in ("reconnect_delay", "connect_timeout", "quiet_after", "heartbeat"):
            self._check_seconds(name, zero=False)
        self._check_seconds("same_contract_seconds", zero=True)
        for name in ("fsync", "compress_after"):
            if getattr(self, name) is not None:
                self._check_seconds(name, zero=True)
        if self.keep is not None:
            self._check_seconds("keep", zero=False)
        check_tracked(self.tracked, self.max_tracked)

    def enabled_contracts(self) -> tuple[TrackedContract, ...]:
        """Return the contracts to capture.

        Raises
        ------
        ConfigError
            If no contract is enabled.
        """
        enabled = tuple(contract for contract in self.tracked if contract.enabled)
        if not enabled:
            raise ConfigError(
                "no contract to capture: give some, as '265598:AAPL:bid_ask;last:1', or set "
                "IB_STREAM_TRACKED_CONTRACTS"
            )
        return enabled

    def _check_whole(self, name: str, minimum: int, maximum: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            raise ConfigError(f"{name}={value!r}: give a whole number from {minimum} to {maximum}")

    def _check_seconds(self, name: str, *, zero: bool) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not isfinite(value) or value < 0 or (value == 0 and not zero):
            allowed = "0 or more" if zero else "more than 0"
            raise ConfigError(f"{name}={value!r}: give seconds, {allowed}")

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        tracked: str | Sequence[TrackedContract] | None = None,
        **options: Unpack[CaptureOptions],
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
            By default the environment of the process.
        tracked : str or sequence of TrackedContract, optional
        **options
            Other settings, instead of those of the environment; see :class:`CaptureOptions`.

        Raises
        ------
        ConfigError
            If a variable or a setting is wrong; the message names it.
        UnknownPeriodError
            If ``compress_after`` or ``keep`` is no length of time.
        """
        environment = os.environ if environment is None else environment
        settings: dict[str, Any] = {**options}
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(settings.keys() - set(names))
        if unknown:
            raise ConfigError(f"a capture has no setting {unknown[0]!r}; it has {', '.join(names)}")
        max_tracked = settings.setdefault("max_tracked", None)
        if max_tracked is None:
            max_tracked = settings["max_tracked"] = _read_whole(
                environment, "IB_STREAM_MAX_TRACKED", MAX_TRACKED
            )
        if "reconnect_delay" not in settings:
            settings["reconnect_delay"] = _read_number(
                environment, "IB_STREAM_RECONNECT_DELAY", 30.0
            )
        if "host" not in settings or "port" not in settings:
            host, port = gateway_address(environment)
            settings = {"host": host, "port": port} | settings
        if tracked is None:
            try:
                tracked = parse_tracked(environment.get("IB_STREAM_TRACKED_CONTRACTS", ""))
                check_tracked(tracked, max_tracked)
            except ConfigError as error:
                raise ConfigError(f"IB_STREAM_TRACKED_CONTRACTS: {error}") from error
        elif isinstance(tracked, str):
            tracked = parse_tracked(tracked)
        for name in ("compress_after", "keep"):
            duration = settings.get(name)
            if isinstance(duration, str | timedelta):
                from ibticks.calendar import parse_duration

                settings[name] = parse_duration(duration) / NANOSECONDS
        return cls(tuple(tracked), **settings)


def _read_whole(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise ConfigError(f"{name}={text!r} is not a whole number above 0")
    return int(text)


def _read_number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not isfinite(value) or value <= 0:
        raise ConfigError(f"{name}={text!r} is not a number above 0")
    return value
