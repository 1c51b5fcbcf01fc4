"""v2 messages of a stream: ticks, statuses, errors and the end, as JSON dictionaries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ibticks.format import format_timestamp
from ibticks.schema import clean_number, clean_side
from ibticks.tws import TickSink

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from ibticks.coverage import StreamStatus
    from ibticks.index import ContractRecord
    from ibticks.tws import ServerSettings

__all__ = ["TickData", "complete_message", "error_message", "info_message", "tick_message"]


class TickData(TickSink):
    """Receiver of ticks that turns each into the ``data`` of its v2 message.

    Parameters
    ----------
    on_tick : callable
        Called with the time of IB, in UTC seconds, and the data.
    """

    def __init__(self, on_tick: Callable[[int, dict[str, Any]], None]) -> None:
        self._on_tick = on_tick

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
        """Take a trade, without unset values; IB separates conditions by spaces."""
        data: dict[str, Any] = _present(price=clean_number(price), size=clean_number(size))
        data["exchange"] = exchange
        if conditions:
            data["conditions"] = conditions.split(" ")
        data |= {"past_limit": bool(past_limit), "unreported": bool(unreported)}
        self._on_tick(time, data)

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
        """Take a quote, without unset values and sides that have no quote."""
        bid, bid_volume = clean_side(bid_price, bid_size)
        ask, ask_volume = clean_side(ask_price, ask_size)
        data: dict[str, Any] = _present(
            bid_price=bid, bid_size=bid_volume, ask_price=ask, ask_size=ask_volume
        )
        data |= {"bid_past_low": bool(bid_past_low), "ask_past_high": bool(ask_past_high)}
        self._on_tick(time, data)

    def mid_point(self, time: int, mid_price: float) -> None:
        """Take a mid point, without a price if it is unset."""
        self._on_tick(time, _present(mid_price=clean_number(mid_price)))


def _present(**values: float | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def tick_message(
    stream_id: str,
    contract_id: int,
    tick_type: str,
    sequence: int,
    exchange_time: int,
    data: dict[str, Any],
) -> dict[str, Any]:
    """Return the message of a tick that arrives now; ``exchange_time`` is IB's, UTC seconds."""
    return {
        "type": "tick",
        "stream_id": stream_id,
        "timestamp": format_timestamp(time.time_ns()),
        "data": {
            "contract_id": contract_id,
            "tick_type": tick_type,
            **data,
            "sequence": sequence,
            "exchange_time": exchange_time,
        },
    }


def info_message(
    stream_id: str,
    run: str,
    status: StreamStatus,
    reason: str,
    code: int | None = None,
    *,
    at_ns: int | None = None,
    contract: ContractRecord | None = None,
    config: dict[str, Any] | None = None,
    server: ServerSettings | None = None,
) -> dict[str, Any]:
    """Return the message of a status, of now or of a given time."""
    data: dict[str, Any] = {"status": str(status)}
    if contract is not None:
        data["contract_info"] = {
            "symbol": contract.symbol,
            "exchange": contract.exchange,
            "currency": contract.currency,
            "contract_type": contract.contract_type,
        }
    if config is not None:
        data["stream_config"] = config
    metadata: dict[str, Any] = {"run": run, "reason": reason}
    if code is not None:
        metadata["code"] = code
    if server is not None:
        metadata |= server.as_metadata()
    return {
        "type": "info",
        "stream_id": stream_id,
        "timestamp": format_timestamp(time.time_ns() if at_ns is None else at_ns),
        "data": data,
        "metadata": metadata,
    }


def error_message(
    stream_id: str,
    run: str,
    code: int,
    text: str,
    *,
    recoverable: bool,
    at_ns: int | None = None,
) -> dict[str, Any]:
    """Return the message of an error of IB or, with code 0, of the capture."""
    return {
        "type": "error",
        "stream_id": stream_id,
        "timestamp": format_timestamp(time.time_ns() if at_ns is None else at_ns),
        "data": {"code": str(code), "message": text, "recoverable": recoverable},
        "metadata": {"run": run},
    }


def complete_message(
    stream_id: str,
    run: str,
    *,
    reason: str,
    total_ticks: int,
    duration_seconds: float,
    final_sequence: int | None,
) -> dict[str, Any]:
    """Return the message of the end of a stream, with its reason.

    ``reason`` is ``limit_reached``, ``timeout``, ``disconnected``, ``cancelled`` or ``error``.
    """
    data: dict[str, Any] = {
        "reason": reason,
        "total_ticks": total_ticks,
        "duration_seconds": round(duration_seconds, 6),
    }
    if final_sequence is not None:
        data["final_sequence"] = final_sequence
    return {
        "type": "complete",
        "stream_id": stream_id,
        "timestamp": format_timestamp(time.time_ns()),
        "data": data,
        "metadata": {"run": run},
    }
