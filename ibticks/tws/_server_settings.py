"""Settings of TWS or IB Gateway that decide what its ticks mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["ServerSettings", "parse_settings"]

_API_FIELDS: Final = {
    "readOnlyApi": "is_read_only",
    "showForexDataIn1_10Pips": "has_forex_tenth_pips",
}


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of the server of one connection; None where TWS has not sent them.

    A TWS sends its settings from server version 219 on.

    Attributes
    ----------
    server_version : int
        Version of the TWS protocol.
    us_stock_sizes : {"lots", "shares"} or None
        Unit of the sizes of US stocks.
    is_read_only : bool or None
        Whether the API takes no orders.
    has_forex_tenth_pips : bool or None
        Whether forex prices have tenths of a pip.
    exit_time, exit_type : str or None
        Time of day of the automatic logoff or restart, in IB's words, in the time zone of TWS.
    """

    server_version: int
    us_stock_sizes: Literal["lots", "shares"] | None = None
    is_read_only: bool | None = None
    has_forex_tenth_pips: bool | None = None
    exit_time: str | None = None
    exit_type: str | None = None

    def as_metadata(self) -> dict[str, Any]:
        """Return the known settings as metadata of a message.

        Examples
        --------
        >>> ServerSettings(226, "lots").as_metadata()
        {'tws_server_version': 226, 'tws_us_stock_sizes': 'lots'}
        """
        values = {f"tws_{name}": getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value is not None}


def parse_settings(server_version: int, response: Any) -> ServerSettings:
    """Return the settings of a ``ConfigResponse`` of IB's schemas."""
    api, leave = response.api.settings, response.lockAndExit
    sizes: Literal["lots", "shares"] | None = None
    if api.HasField("sendMarketDataInLotsForUsStocks"):
        sizes = "lots" if api.sendMarketDataInLotsForUsStocks else "shares"
    flags = {ours: getattr(api, name) for name, ours in _API_FIELDS.items() if api.HasField(name)}
    return ServerSettings(
        server_version,
        sizes,
        exit_time=leave.autoLogoffTime or None,
        exit_type=leave.autoLogoffType or None,
        **flags,
    )
