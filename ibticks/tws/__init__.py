"""tws."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.tws._address import gateway_address, parse_address
    from ibticks.tws._client import Client, contract_of
    from ibticks.tws._error_codes import Action, meaning
    from ibticks.tws._outages import Outages
    from ibticks.tws._trading_hours import TradingHours, parse_trading_hours

__all__ = [
    "Action",
    "Client",
    "Outages",
    "TradingHours",
    "contract_of",
    "gateway_address",
    "meaning",
    "parse_address",
    "parse_trading_hours",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
