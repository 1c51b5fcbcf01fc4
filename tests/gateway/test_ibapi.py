"""The gateway, as the official client sees it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from .clients import KINDS, contract, expected

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.gateway import Gateway, Replay
    from tests.gateway.clients import Official, RawClient

VERSIONS = (178, 200, 201, 205, 208, 213, 226)
"""Text, the last text, binary ids, contracts, ticks, all in Protocol Buffers, the newest."""


@pytest.mark.parametrize("symbol", ["IBM", "BTCUSDT"])
def test_a_whole_sample_arrives_field_by_field(
    samples: Replay, serve: Callable[..., Gateway], official: Callable[..., Official], symbol: str
) -> None:
    (chosen,) = (value for value in samples.contracts if value.symbol == symbol)
    replay = samples.only([chosen.contract_id])
    gateway = serve(replay, start_after=4)
    client = official(gateway).ready()
    asked = dict(enumerate(replay.streams, 60_000))
    for req_id, (contract_id, tick_type) in asked.items():
        client.subscribe(req_id, contract_id, tick_type)
    assert gateway.wait_finished()
    for req_id, key in asked.items():
        wanted = expected(replay.streams[key])
        client.wait(lambda r=req_id, w=wanted: len(client.ticks[r]) >= len(w))
        assert client.ticks[req_id] == wanted
    assert gateway.sent == {key: stream.rows for key, stream in replay.streams.items()}


def test_ten_contracts_at_once(
    samples: Replay, serve: Callable[..., Gateway], official: Callable[..., Official]
) -> None:
    replay = samples.cloned(8).head(400)
    gateway = serve(replay, start_after=40)
    client = official(gateway).ready()
    asked = dict(enumerate(replay.streams, 60_000))
    for req_id, key in asked.items():
        client.subscribe(req_id, *key)
    client.wait(lambda: sum(map(len, client.ticks.values())) == 40 * 400)
    for req_id, key in asked.items():
        assert client.ticks[req_id] == expected(replay.streams[key])


@pytest.mark.parametrize("version", VERSIONS)
def test_every_flag_arrives(
    ticks: Replay, serve: Callable[..., Gateway], official: Callable[..., Official], version: int
) -> None:
    gateway = serve(start_after=8, server_version=version)
    client = official(gateway).ready()
    asked = [key for key in ticks.streams if key[0] != 3]
    for req_id, key in enumerate(asked):
        client.subscribe(req_id, *key)
    assert gateway.wait_finished(8)
    for req_id, key in enumerate(asked):
        client.wait(lambda r=req_id: len(client.ticks[r]) >= 600)
        assert client.ticks[req_id] == expected(ticks.streams[key])


@pytest.mark.parametrize("version", VERSIONS)
def test_accounts_and_farms_are_sent(
    serve: Callable[..., Gateway], official: Callable[..., Official], version: int
) -> None:
    client = official(serve(accounts=("DU1", "DU2"), server_version=version)).ready()
    client.wait(lambda: len(client.errors) >= 3)
    assert client.accounts == "DU1,DU2"
    assert client.serverVersion() == version
    assert [(req_id, code) for req_id, code, _ in client.errors] == [
        (-1, 2104),
        (-1, 2106),
        (-1, 2158),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_contract_details(
    serve: Callable[..., Gateway], official: Callable[..., Official], version: int
) -> None:
    client = official(serve(server_version=version)).ready()
    client.reqContractDetails(7, contract(1))
    client.wait(lambda: None in client.details[7])
    details = client.details[7][0]
    assert (details.contract.conId, details.contract.symbol) == (1, "ONE")
    assert details.contract.primaryExchange == "NYSE"
    assert details.longName == "Größe & \\Co"
    assert details.minTick == 0.01
    assert details.timeZoneId == "UTC"
    assert details.stockType == "COMMON"
    assert details.sizeIncrement == 1


@pytest.mark.parametrize("version", [version for version in VERSIONS if version >= 197])
def test_the_clock(
    serve: Callable[..., Gateway], official: Callable[..., Official], version: int
) -> None:
    client = official(serve(server_version=version)).ready()
    before = int(time.time())
    client.reqCurrentTime()
    client.reqCurrentTimeInMillis()
    client.wait(lambda: len(client.times) == 2)
    seconds, milliseconds = client.times
    assert before <= seconds <= milliseconds / 1000 <= time.time()


@pytest.mark.parametrize("version", VERSIONS)
def test_error_texts_arrive_unchanged(
    serve: Callable[..., Gateway], official: Callable[..., Official], version: int
) -> None:
    gateway = serve(server_version=version)
    client = official(gateway).ready()
    client.reqContractDetails(8, contract(99))
    gateway.send_error(2103, "Zürich's farm is \\ broken: Ω", req_id=-1)
    client.wait(lambda: len(client.errors) == 5)
    assert (8, 200, "No security definition has been found for the request") in client.errors
    assert (-1, 2103, "Zürich's farm is \\ broken: Ω") in client.errors


def test_cancel_ends_a_stream(
    ticks: Replay, serve: Callable[..., Gateway], official: Callable[..., Official]
) -> None:
    gateway = serve(start_after=2)
    gateway.after(100, gateway.pause)
    client = official(gateway).ready()
    client.subscribe(1, 1, "bid_ask")
    client.subscribe(2, 1, "mid_point")
    assert gateway.wait_sent(100)
    client.cancelTickByTickData(1)
    client.reqCurrentTime()
    client.wait(lambda: client.times)
    gateway.resume()
    assert gateway.wait_finished(1)
    client.wait(lambda: len(client.ticks[2]) == 600)
    assert client.ticks[1] == expected(ticks.streams[1, "bid_ask"], 0, 50)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", ["TRADES", "BID_ASK", "MIDPOINT"])
def test_historical_ticks(
    ticks: Replay,
    serve: Callable[..., Gateway],
    official: Callable[..., Official],
    version: int,
    what: str,
) -> None:
    client = official(serve(server_version=version)).ready()
    client.reqHistoricalTicks(5, contract(1), "20231114-22:13:25", "", 4, what, 0, False, [])
    client.wait(lambda: 5 in client.past)
    got = client.past[5]
    # The stream begins at 22:13:20 with two ticks a second; the page asked for 4.
    assert [tick.time for tick in got] == [1_700_000_005] * 2 + [1_700_000_006] * 2
    if what == "BID_ASK":
        wanted = expected(ticks.streams[1, "bid_ask"], 10, 14)
        assert [
            (
                tick.time,
                tick.priceBid,
                tick.priceAsk,
                float(tick.sizeBid),
                float(tick.sizeAsk),
                tick.tickAttribBidAsk.bidPastLow,
                tick.tickAttribBidAsk.askPastHigh,
            )
            for tick in got
        ] == wanted
    elif what == "TRADES":
        wanted = expected(ticks.streams[1, "all_last"], 10, 14)
        assert [
            (
                tick.time,
                tick.price,
                float(tick.size),
                tick.tickAttribLast.pastLimit,
                tick.tickAttribLast.unreported,
                tick.exchange,
                tick.specialConditions,
            )
            for tick in got
        ] == wanted
    else:
        assert [(tick.time, tick.price) for tick in got] == expected(
            ticks.streams[1, "mid_point"], 10, 14
        )


def test_past_ticks_come_before_the_stream(
    ticks: Replay,
    serve: Callable[..., Gateway],
    dial: Callable[..., RawClient],
    official: Callable[..., Official],
) -> None:
    gateway = serve()
    gateway.after(100, lambda: gateway.drop())
    first = dial(gateway, client_id=10)
    first.subscribe(1, 1, "AllLast")
    first.ended()
    client = official(gateway).ready()
    client.reqTickByTickData(9, contract(1), KINDS["all_last"], 7, False)
    client.wait(lambda: len(client.ticks[9]) == 500)
    assert [float(tick.price) for tick in client.past[9]] == [
        tick[1] for tick in expected(ticks.streams[1, "all_last"], 93, 100)
    ]
    assert client.ticks[9] == expected(ticks.streams[1, "all_last"], 100)


def test_a_reconnected_client_continues_at_the_replay_position(
    ticks: Replay, serve: Callable[..., Gateway], official: Callable[..., Official]
) -> None:
    gateway = serve()
    gateway.after(150, lambda: gateway.drop(lose=20))
    before = official(gateway).ready()
    before.subscribe(1, 1, "bid_ask")
    assert before.closed.wait(30)
    after = official(gateway).ready()
    after.subscribe(1, 1, "bid_ask")
    after.wait(lambda: len(after.ticks[1]) == 430)
    assert before.ticks[1] == expected(ticks.streams[1, "bid_ask"], 0, 150)
    assert after.ticks[1] == expected(ticks.streams[1, "bid_ask"], 170)
    assert [(s.connection, s.client_id, s.first, s.last) for s in gateway.log] == [
        (1, 10, 0, 149),
        (2, 10, 170, 599),
    ]
    assert gateway.rows_sent(1, "bid_ask").tolist() == [*range(150), *range(170, 600)]
