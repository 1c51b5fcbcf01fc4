"""The gateway serves ib_async, an independent client."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import ib_async
import pytest

from .clients import KINDS, expected

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.gateway import Gateway, Replay

TIMEOUT_SECONDS = 30


def run(gateway: Gateway, talk: Any) -> Any:
    """Have a coroutine function talk to the gateway through a connected client."""

    async def session() -> Any:
        ib = ib_async.IB()
        await ib.connectAsync("127.0.0.1", gateway.port, clientId=2, raiseSyncErrors=True)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await talk(ib)
        finally:
            ib.disconnect()

    return asyncio.run(session())


async def arrived(ticker: Any, count: int, got: list[Any]) -> None:
    while len(got) < count:
        await asyncio.wait_for(ticker.updateEvent, TIMEOUT_SECONDS)


def quote_flags(tick: Any) -> tuple[Any, Any]:
    return tick.tickAttribBidAsk.bidPastLow, tick.tickAttribBidAsk.askPastHigh


def trade(tick: Any) -> tuple[Any, ...]:
    flags = tick.tickAttribLast
    return (
        tick.price,
        tick.size,
        flags.pastLimit,
        flags.unreported,
        tick.exchange,
        tick.specialConditions,
    )


def test_ib_async_connects_without_a_timeout(
    serve: Callable[..., Gateway], caplog: pytest.LogCaptureFixture
) -> None:
    gateway = serve(accounts=("DU7654321",))

    async def talk(ib: Any) -> tuple[Any, ...]:
        return ib.managedAccounts(), ib.client.serverVersion(), ib.positions(), ib.openTrades()

    with caplog.at_level(logging.ERROR):
        assert run(gateway, talk) == (["DU7654321"], 178, [], [])
    assert caplog.records == []
    assert gateway.unknown_requests == {}


def test_contract_details(serve: Callable[..., Gateway]) -> None:
    async def talk(ib: Any) -> tuple[Any, Any, Any]:
        actual = await ib.reqContractDetailsAsync(ib_async.Stock("ONE", "NYSE", "USD"))
        ambiguous = await ib.reqContractDetailsAsync(ib_async.Contract(symbol="TWO"))
        unknown = await ib.reqContractDetailsAsync(ib_async.Contract(conId=99))
        return actual, ambiguous, unknown

    (details,), ambiguous, unknown = run(serve(), talk)
    assert (details.contract.conId, details.contract.symbol) == (1, "ONE")
    assert (details.longName, details.minTick, details.stockType) == (
        "Größe & \\Co",
        0.01,
        "COMMON",
    )
    assert details.timeZoneId == "UTC"
    assert [value.contract.exchange for value in ambiguous] == ["GLOBEX", "EUREX"]
    assert unknown == []


@pytest.mark.parametrize("tick_type", list(KINDS))
def test_ticks(ticks: Replay, serve: Callable[..., Gateway], tick_type: Any) -> None:
    async def talk(ib: Any) -> list[Any]:
        got = []
        ticker = ib.reqTickByTickData(ib_async.Contract(conId=1), KINDS[tick_type])
        ticker.updateEvent += lambda update: got.extend(update.tickByTicks)
        await arrived(ticker, 600, got)
        return got

    got = run(serve(), talk)
    # It keeps its own time of arrival instead of IB's.
    wanted = [tick[1:] for tick in expected(ticks.streams[1, tick_type])]
    seen: list[tuple[Any, ...]]
    match tick_type:
        case "bid_ask":
            seen = [(t.bidPrice, t.askPrice, t.bidSize, t.askSize, *quote_flags(t)) for t in got]
        case "mid_point":
            seen = [(t.midPoint,) for t in got]
        case _:
            seen = [trade(t) for t in got]
    assert seen == wanted


@pytest.mark.parametrize("what", ["TRADES", "BID_ASK", "MIDPOINT"])
def test_historical_ticks(ticks: Replay, serve: Callable[..., Gateway], what: str) -> None:
    end = datetime(2023, 11, 14, 22, 13, 30, tzinfo=UTC)

    async def talk(ib: Any) -> Any:
        contract = ib_async.Contract(conId=1)
        return await ib.reqHistoricalTicksAsync(contract, "", end, 3, what, useRth=False)

    got = run(serve(), talk)
    # Two ticks to a second, none cut: four, the last two seconds before the end.
    assert [tick.time.timestamp() for tick in got] == [1_700_000_008] * 2 + [1_700_000_009] * 2
    tick_type, seen = {
        "MIDPOINT": ("mid_point", lambda t: (t.price,)),
        "BID_ASK": (
            "bid_ask",
            lambda t: (t.priceBid, t.priceAsk, t.sizeBid, t.sizeAsk, *quote_flags(t)),
        ),
        "TRADES": ("all_last", trade),
    }[what]
    wanted = expected(ticks.streams[1, tick_type], 16, 20)
    assert [seen(tick) for tick in got] == [tick[1:] for tick in wanted]


def test_the_clock(serve: Callable[..., Gateway]) -> None:
    async def talk(ib: Any) -> Any:
        return await ib.reqCurrentTimeAsync()

    now = datetime.now(UTC)
    assert abs((run(serve(), talk) - now).total_seconds()) < 3600


def test_a_dropped_connection_is_noticed(serve: Callable[..., Gateway]) -> None:
    gateway = serve()

    async def talk(ib: Any) -> Any:
        ended = asyncio.Event()
        ib.disconnectedEvent += ended.set
        await asyncio.to_thread(gateway.drop)
        await ended.wait()
        return ib.isConnected()

    assert run(gateway, talk) is False
