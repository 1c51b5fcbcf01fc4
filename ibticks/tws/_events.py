"""Receivers of what TWS sends: base classes whose methods are no-ops.

A receiver overrides the methods it needs. All of them run in the thread of the client, and the next
message waits until they return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

__all__ = ["NO_TICKS", "TickSink", "TwsEvents"]


class TickSink:
    """Receiver of the ticks of one stream, up to thousands a second.

    In each method ``time`` is the time of IB, in whole UTC seconds.
    """

    def trade(
        self,
        time: int,
        price: float,
        size: Decimal,
        exchange: str,
        conditions: str,
        past_limit: bool,
        unreported: bool,
    ) -> None:
        """Take a tick of type last or all_last; conditions are words separated by spaces."""

    def quote(
        self,
        time: int,
        bid_price: float,
        bid_size: Decimal,
        ask_price: float,
        ask_size: Decimal,
        bid_past_low: bool,
        ask_past_high: bool,
    ) -> None:
        """Take a tick of type bid_ask."""

    def mid_point(self, time: int, mid_price: float) -> None:
        """Take a tick of type mid_point."""


NO_TICKS: Final = TickSink()
"""A sink that discards ticks."""


class TwsEvents:
    """Receiver of everything that one connection brings."""

    def ticks(self, request: int) -> TickSink:
        """Return the receiver of a tick that belongs to a request; called for every tick."""
        return NO_TICKS

    def historical_ticks(self, request: int, ticks: Sequence[Any], done: bool) -> None:
        """Take a page of historical ticks, or a part of it."""

    def contract_details(self, request: int, details: Any) -> None:
        """Take the details of one contract that fits a request."""

    def contract_details_end(self, request: int) -> None:
        """Note that the details of every contract that fits have been sent."""

    def message(self, request: int, code: int, text: str) -> None:
        """Take an error or a notice of IB; request -1: about the connection."""

    def current_time(self) -> None:
        """Note that the server has answered a request for its time."""

    def closed(self) -> None:
        """Note the end of the connection, once, after everything it brought was handed over."""

    def callback_failed(self, where: str, error: Exception) -> None:
        """Note that a callback raised an exception, or that a message could not be decoded."""
