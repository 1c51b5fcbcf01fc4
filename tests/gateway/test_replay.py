"""Replays: the samples, a store, and copies of either."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ibticks.errors import InputError
from ibticks.gateway import GatewayContract, Replay, TickStream
from ibticks.gateway._contracts import ContractQuery, matching
from ibticks.schema import StringColumn, StringListColumn

if TYPE_CHECKING:
    from ibticks import Store


def same(one: TickStream, two: TickStream, *, but: tuple[str] = ("sequence",)) -> bool:
    for name, column in one.columns.columns.items():
        other = two.columns.columns[name]
        if name in but:
            continue
        if isinstance(column, StringColumn):
            equal = texts(column) == texts(other)
        elif isinstance(column, StringListColumn):
            equal = np.array_equal(column.offsets, other.offsets) and texts(column) == texts(other)
        else:
            equal = np.array_equal(column.values, other.values)
        if not equal:
            return False
    return one.columns.columns.keys() == two.columns.columns.keys()


def texts(column: Any) -> list[str]:
    return [column.values[code] for code in column.codes.tolist()]


def test_the_samples_in_all_four_tick_types(samples: Replay) -> None:
    assert {key: stream.rows for key, stream in samples.streams.items()} == {
        (8314, "bid_ask"): 62_875,
        (8314, "all_last"): 33_381,
        (8314, "last"): 33_381,
        (8314, "mid_point"): 24_619,
        (990101, "bid_ask"): 73_174,
        (990101, "all_last"): 19_904,
        (990101, "last"): 19_904,
        (990101, "mid_point"): 6_601,
    }
    assert samples.rows == 273_839


def test_mid_points_are_sent_on_changes_of_two_sided_quotes(samples: Replay) -> None:
    quotes, mids = samples.streams[8314, "bid_ask"].columns, samples.streams[8314, "mid_point"]
    last, wanted = None, []
    for time, bid, ask in zip(
        quotes.timestamp.tolist(),
        quotes.numbers("bid_price").tolist(),
        quotes.numbers("ask_price").tolist(),
        strict=True,
    ):
        mid = round((bid + ask) / 2, 9)
        if bid > 0 and ask > 0 and mid != last:
            wanted.append((time, mid))
            last = mid
    got = zip(mids.time_ns.tolist(), mids.columns.numbers("mid_price").tolist(), strict=True)
    assert list(got) == wanted


def test_completing_adds_only_missing_streams(ticks: Replay) -> None:
    assert ticks.completed().streams.keys() == ticks.streams.keys() | {(3, "mid_point")}
    assert same(ticks.completed().streams[1, "mid_point"], ticks.streams[1, "mid_point"])


def test_copies_share_the_ticks(samples: Replay) -> None:
    ten = samples.cloned(8)
    assert len(ten.contracts) == 10
    assert len(ten.streams) == 40
    assert [contract.symbol for contract in ten.contracts[2:6]] == [
        "IBM.1",
        "BTCUSDT.1",
        "IBM.2",
        "BTCUSDT.2",
    ]
    assert same(ten.streams[1_000_001, "last"], samples.streams[8314, "last"], but=("contract_id",))
    one, two = (
        replay.columns.numbers("price")
        for replay in (ten.streams[1_000_001, "last"], samples.streams[8314, "last"])
    )
    assert np.shares_memory(one, two)
    (actual,) = matching(ten.contracts, ContractQuery(symbol="IBM.2"))
    assert actual.contract_id == 1_000_003


def test_intervals(ticks: Replay) -> None:
    start = ticks.start_ns
    part = ticks.between(start + 10**9, start + 3 * 10**9)
    assert part.streams[1, "last"].time_ns.tolist() == [
        start + half * 500_000_000 for half in range(2, 6)
    ]
    assert ticks.head(3).rows == 27
    assert ticks.shifted(7).start_ns == start + 7
    assert ticks.shifted(7).end_ns == ticks.end_ns + 7
    assert ticks.only([1], ["last"]).streams.keys() == {(1, "last")}
    assert [contract.contract_id for contract in ticks.only([1]).contracts] == [1]
    assert [contract.contract_id for contract in ticks.only(None, ["last"]).contracts] == [1, 2]
    empty = Replay([], [])
    assert (empty.rows, empty.start_ns, empty.end_ns) == (0, 0, 0)


def test_a_stream_twice_or_of_no_contract(ticks: Replay) -> None:
    stream = ticks.streams[1, "last"]
    with pytest.raises(InputError, match="twice"):
        Replay(ticks.contracts, [stream, stream])
    with pytest.raises(InputError, match="not among the contracts"):
        Replay([], [stream])


def test_a_store_replays_imported_ticks(samples: Replay, sample_store: Store) -> None:
    selection = sample_store.select(["IBM", "BTCUSDT"])
    replay = Replay.from_selection(selection.with_columns("price"))
    assert replay.streams.keys() == {
        (8314, "bid_ask"),
        (8314, "all_last"),
        (990101, "bid_ask"),
        (990101, "all_last"),
    }
    for key, stream in replay.streams.items():
        assert same(stream, samples.streams[key])
    assert {contract.contract_id: contract.symbol for contract in replay.contracts} == {
        8314: "IBM",
        990101: "BTCUSDT",
    }


def test_an_interval_of_a_store(sample_store: Store, samples: Replay) -> None:
    selection = sample_store.select(
        "IBM", "bid_ask", session="regular", date="2013-10-08", market="US"
    )
    start, end = selection.intervals[0]
    contract = GatewayContract(contract_id=8314, symbol="IBM", time_zone="US/Eastern")
    replay = Replay.from_selection(selection, [contract])
    wanted = samples.only([8314], ["bid_ask"]).between(start, end)
    assert same(replay.streams[8314, "bid_ask"], wanted.streams[8314, "bid_ask"])
    assert replay.contracts == (contract,)


def test_a_selection_without_ticks(sample_store: Store) -> None:
    selection = sample_store.select(
        "IBM", "bid_ask", start="2020-01-01", end="2020-01-02", tz="UTC"
    )
    with pytest.raises(InputError, match="nothing to replay"):
        Replay.from_selection(selection)


IBM = GatewayContract(
    contract_id=8314, symbol="IBM", primary_exchange="NYSE", valid_exchanges="SMART,NYSE,ARCA"
)
FUTURE = GatewayContract(
    contract_id=5, symbol="MNQ", sec_type="FUT", exchange="CME", last_trade_date="20261218"
)


@pytest.mark.parametrize(
    ("query", "contracts"),
    [
        (ContractQuery(8314), [IBM]),
        (ContractQuery(8314, symbol="AAPL"), [IBM]),
        (ContractQuery(8315, symbol="IBM"), []),
        (ContractQuery(), []),
        (ContractQuery(currency="USD"), []),
        (ContractQuery(symbol="IBM", exchange="ARCA", primary_exchange="NYSE"), [IBM]),
        (ContractQuery(symbol="IBM", exchange="LSE"), []),
        (ContractQuery(symbol="IBM", currency="EUR"), []),
        (ContractQuery(local_symbol="MNQ"), [FUTURE]),
        (ContractQuery(symbol="MNQ", last_trade_date="202612"), [FUTURE]),
        (ContractQuery(symbol="MNQ", last_trade_date="202703"), []),
        (ContractQuery(symbol="MNQ", strike=100.0), []),
    ],
)
def test_descriptions_of_replays(query: ContractQuery, contracts: list[GatewayContract]) -> None:
    assert list(matching([IBM, FUTURE], query)) == contracts


def test_two_contracts_of_one_symbol() -> None:
    twin = dataclasses.replace(IBM, contract_id=9, currency="EUR")
    assert matching([IBM, twin], ContractQuery(symbol="IBM")) == (IBM, twin)
    assert matching([IBM, twin], ContractQuery(symbol="IBM", currency="EUR")) == (twin,)
