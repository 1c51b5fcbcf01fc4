"""What a stream says, as v2 messages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ibticks.format import format_timestamp
from ibticks.schema import clean_number, clean_side

if TYPE_CHECKING:
    from decimal import Decimal

    from ibticks.coverage import StreamStatus
    from ibticks.index import ContractRecord

__all__ = [
    "complete_message",
    "error_message",
    "info_message",
    "mid_point_data",
    "quote_data",
    "tick_message",
    "trade_data",
]


def tick_message(
    stream_id: str,
    contract_id: int,
    tick_type: str,
    sequence: int,
    exchange_time: int,
    data: dict[str, Any],
) -> dict[str, Any]:
    """A tick that has come just now; ``exchange_time`` is IB's, UTC seconds."""
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


def trade_data(
    price: float,
    size: Decimal,
    exchange: str,
    conditions: str,
    past_limit: bool,
    unreported: bool,
) -> dict[str, Any]:
    """Return the data of a trade without unset values; IB separates conditions by spaces."""
    data: dict[str, Any] = _present(price=clean_number(price), size=clean_number(size))
    data["exchange"] = exchange
    if conditions:
        data["conditions"] = conditions.split(" ")
    return {**data, "past_limit": bool(past_limit), "unreported": bool(unreported)}


def quote_data(
    bid_price: float,
    bid_size: Decimal,
    ask_price: float,
    ask_size: Decimal,
    bid_past_low: bool,
    ask_past_high: bool,
) -> dict[str, Any]:
    """Return the data of a quote without unset values and sides that have no quote."""
    bid, bid_volume = clean_side(bid_price, bid_size)
    ask, ask_volume = clean_side(ask_price, ask_size)
    return {
        **_present(bid_price=bid, bid_size=bid_volume, ask_price=ask, ask_size=ask_volume),
        "bid_past_low": bool(bid_past_low),
        "ask_past_high": bool(ask_past_high),
    }


def mid_point_data(mid_price: float) -> dict[str, Any]:
    """Return the data of a mid point, none if it is unset."""
    return _present(mid_price=clean_number(mid_price))


def _present(**values: float | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


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
) -> dict[str, Any]:
    """What has become of a stream, now or at a given time."""
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
    return {
        "type": "info",
        "stream_id": stream_id,
        "timestamp": format_timestamp(time.time_ns() if at_ns is None else at_ns),
        "data": data,
        "metadata": metadata,
    }


def error_message(
    stream_id: str, run: str, code: int, text: str, *, recoverable: bool
) -> dict[str, Any]:
    """An error of IB's or, with code 0, of ours."""
    return {
        "type": "error",
        "stream_id": stream_id,
        "timestamp": format_timestamp(time.time_ns()),
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
    """The end of a stream, and why.

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
