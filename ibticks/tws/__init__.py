"""The connection to TWS or IB Gateway.

In comes an address; out come decoded ticks, contract details and messages, handed to a receiver
(:class:`TwsEvents`, :class:`TickSink`) in the thread of the :class:`Client`. Captures, on-demand
streams and the backfill use it. It stores nothing, and alone imports ibapi.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.tws._client import Client, make_contract
    from ibticks.tws._error_codes import Action, Outages, find_code
    from ibticks.tws._events import NO_TICKS, TickSink, TwsEvents
    from ibticks.tws._schemas import has_schemas, message_class, parse_message
    from ibticks.tws._server_settings import ServerSettings
    from ibticks.tws._trading_hours import TradingHours, parse_trading_hours
    from ibticks.tws._transport import gateway_address, parse_address

__all__ = [
    "NO_TICKS",
    "Action",
    "Client",
    "Outages",
    "ServerSettings",
    "TickSink",
    "TradingHours",
    "TwsEvents",
    "find_code",
    "gateway_address",
    "has_schemas",
    "make_contract",
    "message_class",
    "parse_address",
    "parse_message",
    "parse_trading_hours",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
