"""Fixtures of the gateway: ticks to replay, and gateways that close after each test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ibticks.gateway import Gateway, GatewayContract, Replay
from ibticks.schema import StringColumn, StringListColumn, TickColumns, Values

from .clients import Official, RawClient, fix_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


@pytest.fixture(scope="session")
def samples() -> Replay:
    """All four tick types of both sample contracts."""
    return Replay.from_samples()


@pytest.fixture(scope="session")
def ticks() -> Replay:
    """Three contracts with ticks that set every flag, two of them to a second of each stream."""
    contracts = [
        GatewayContract(
            contract_id=1,
            symbol="ONE",
            primary_exchange="NYSE",
            valid_exchanges="SMART,NYSE",
            long_name="Größe & \\Co",
            time_zone="UTC",
        ),
        GatewayContract(contract_id=2, symbol="TWO", exchange="GLOBEX", sec_type="FUT"),
        GatewayContract(contract_id=3, symbol="TWO", exchange="EUREX", currency="EUR"),
    ]
    streams = {
        (contract_id, tick_type): made_up(tick_type, 600)
        for contract_id in (1, 2)
        for tick_type in ("bid_ask", "mid_point", "all_last", "last")
    }
    return Replay.from_columns(contracts, streams | {(3, "bid_ask"): made_up("bid_ask", 5)})


def made_up(tick_type: str, rows: int) -> TickColumns:
    """Ticks half a second apart; the n-th has n in its numbers and its flags."""
    count = np.arange(rows)
    columns: dict[str, Any] = {"timestamp": Values(START + count * SECOND // 2)}
    match tick_type:
        case "bid_ask":
            # Every third quote changes a size only.
            columns |= {
                "bid_price": Values(100 + (count - count % 3) / 64),
                "ask_price": Values(101 + (count - count % 3) / 64),
                "bid_size": Values(count + 0.5),
                "ask_size": Values(count * 1e-5),
                "bid_past_low": Values(count % 2 == 1),
                "ask_past_high": Values(count // 2 % 2 == 1),
            }
        case "mid_point":
            columns["mid_price"] = Values(100.5 + count / 128)
        case _:
            texts = np.array([0, 1] * rows, dtype=np.int32)[: rows // 2 * 2]
            offsets = np.minimum(count // 2 * 2, len(texts))
            columns |= {
                "price": Values(100 + count / 64),
                "size": Values(count * 100.0),
                "past_limit": Values(count % 2 == 1),
                "unreported": Values(count // 2 % 2 == 1),
                "exchange": StringColumn((count % 3 - 1).astype(np.int32), ("NYSE", "ARCA")),
                "conditions": StringListColumn(np.append(offsets, len(texts)), texts, ("T", "I")),
            }
    return TickColumns(rows, columns)


@pytest.fixture
def serve(ticks: Replay) -> Iterator[Callable[..., Gateway]]:
    """Start gateways, at full speed by default; they close after the test."""
    opened: list[Gateway] = []

    def start(replay: Replay = ticks, **how: Any) -> Gateway:
        gateway = Gateway(replay, **{"speed": None} | how)
        opened.append(gateway)
        return gateway.start()

    yield start
    for gateway in opened:
        gateway.close()


@pytest.fixture
def dial() -> Iterator[Callable[..., RawClient]]:
    """Connects bare clients; they hang up after the test."""
    opened: list[RawClient] = []

    def connect(gateway: Gateway, **how: Any) -> RawClient:
        opened.append(RawClient(gateway.port, **how))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Official]]:
    """Connect official clients with the fixed reader; they disconnect after the test."""
    fix_reader(monkeypatch)
    opened: list[Official] = []

    def connect(gateway: Gateway, client_id: int = 10) -> Official:
        opened.append(Official(gateway.port, client_id))
        return opened[-1]

    yield connect
    for client in opened:
        client.leave()
