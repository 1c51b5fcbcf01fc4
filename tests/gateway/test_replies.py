"""Replies in the layout of each server version, read by the decoders of both clients."""

from __future__ import annotations

import dataclasses
from typing import Any

import ib_async.decoder
import pytest
from ibapi.decoder import Decoder
from ibapi.wrapper import EWrapper

from ibticks.gateway import GatewayContract
from ibticks.gateway import _wire as replies

from .clients import interpret

VERSIONS = (
    157,
    163,
    164,
    165,
    166,
    176,
    178,
    179,
    182,
    186,
    193,
    194,
    200,
    201,
    203,
    205,
    208,
    213,
    226,
)

FUTURE = GatewayContract(
    contract_id=711280073,
    symbol="MNQ",
    sec_type="FUT",
    exchange="CME",
    currency="USD",
    local_symbol="MNQZ6",
    trading_class="MNQ",
    last_trade_date="20261218",
    multiplier="2",
    min_tick=0.25,
    size_increment=1,
    time_zone="US/Central",
    trading_hours="20261117:1700-20261118:1600;20261119:CLOSED",
    liquid_hours="20261118:0830-20261118:1600",
    long_name="Micro E-Mini Nasdaq-100 \\ Größe",
)


class Recorded(EWrapper):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def error(self, *arguments: Any) -> None:
        self.calls.append(arguments)

    def contractDetails(self, *arguments: Any) -> None:  # noqa: N802
        self.calls.append(arguments)


class RecordedByIbAsync:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def error(self, *arguments: Any) -> None:
        self.calls.append(arguments)

    def contractDetails(self, *arguments: Any) -> None:  # noqa: N802
        self.calls.append(arguments)


def ibapi_hears(version: int, frame: bytes) -> tuple[Any, ...]:
    received = Recorded()
    interpret(Decoder(received, version), version, frame[4:])
    (call,) = received.calls
    return call


def ib_async_hears(version: int, frame: bytes) -> tuple[Any, ...]:
    received: Any = RecordedByIbAsync()
    fields = frame[4:].decode().split("\0")[:-1]
    ib_async.decoder.Decoder(received, version).interpret(fields)
    (call,) = received.calls
    return call


@pytest.mark.parametrize("version", VERSIONS)
def test_ibapi_reads_every_error(version: int) -> None:
    frame = replies.error(version, 60001, 200, "Ω \\ no", at_ms=1234, reject='{"a": "ü"}')
    reject = '{"a": "ü"}' if version >= 166 else ""
    at_ms = 1234 if version >= 194 else 0
    assert ibapi_hears(version, frame) == (60001, at_ms, 200, "Ω \\ no", reject)


@pytest.mark.parametrize("version", [v for v in VERSIONS if v <= 178])
def test_ib_async_reads_every_error(version: Any) -> None:
    assert ib_async_hears(version, replies.error(version, -1, 1100, "lost", at_ms=1)) == (
        -1,
        1100,
        "lost",
        "",
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("sec_type", ["FUT", "STK"])
def test_ibapi_reads_every_contract(version: int, sec_type: str) -> None:
    contract = dataclasses.replace(FUTURE, sec_type=sec_type)
    req_id, details = ibapi_hears(version, replies.contract_details(version, 9, contract))
    assert req_id == 9
    assert details.contract.conId == 711280073
    assert details.contract.symbol == "MNQ"
    assert details.contract.localSymbol == "MNQZ6"
    assert details.contract.lastTradeDateOrContractMonth == "20261218"
    assert details.contract.multiplier == "2"
    assert details.contract.exchange == "CME"
    assert details.minTick == 0.25
    assert details.longName == "Micro E-Mini Nasdaq-100 \\ Größe"
    assert details.contractMonth == "202612"
    assert details.tradingHours == FUTURE.trading_hours
    assert details.liquidHours == FUTURE.liquid_hours
    assert details.realExpirationDate == "20261218"
    assert details.stockType == ("COMMON" if sec_type == "STK" else "")
    if version >= 164:
        assert details.sizeIncrement == 1
    if version >= 182:
        assert details.contract.lastTradeDate == "20261218"


@pytest.mark.parametrize("version", [157, 163, 164, 178])
def test_ib_async_reads_every_contract(version: int) -> None:
    req_id, details = ib_async_hears(version, replies.contract_details(version, 9, FUTURE))
    assert req_id == 9
    assert details.contract.conId == 711280073
    assert details.contract.lastTradeDateOrContractMonth == "20261218"
    assert details.minTick == 0.25
    assert details.longName == "Micro E-Mini Nasdaq-100 \\ Größe"
    assert details.liquidHours == FUTURE.liquid_hours


def test_ibapi_reads_a_fund() -> None:
    fund = dataclasses.replace(FUTURE, sec_type="FUND")
    _, details = ibapi_hears(200, replies.contract_details(200, 9, fund))
    assert details.contract.secType == "FUND"
    assert details.fundName == ""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [64, 65, *range(150, 200), 4096, 16_420, 16_421, 16_422, 70_000])
def test_padding_has_its_size_and_is_a_notice(version: int, size: int) -> None:
    frame = replies.padding(version, size, at_ms=1_700_000_000_000)
    assert len(frame) == size
    assert int.from_bytes(frame[:4], "big") == size - 4
    assert ibapi_hears(version, frame)[2] == 2106


def test_layouts_by_the_bytes() -> None:
    assert replies.error(157, 7, 200, "no", at_ms=5) == b"\0\0\0\x0d4\x002\x007\x00200\x00no\x00"
    assert replies.error(178, 7, 200, "no", at_ms=5)[4:] == b"4\x002\x007\x00200\x00no\x00\x00"
    assert replies.error(200, 7, 200, "no", at_ms=5)[4:] == b"4\x007\x00200\x00no\x00\x005\x00"
    assert replies.greeting(178, "20131008 09:30:00 UTC") == (
        b"\0\0\0\x1a178\x0020131008 09:30:00 UTC\x00"
    )
    assert replies.next_valid_id(200, 1)[4:] == b"9\x001\x001\x00"
    assert replies.managed_accounts(200, ["DU1", "DU2"])[4:] == b"15\x001\x00DU1,DU2\x00"
    assert replies.current_time(200, 1700000000)[4:] == b"49\x001\x001700000000\x00"
    assert replies.current_time_millis(200, 1700000000123)[4:] == b"109\x001700000000123\x00"
    assert replies.contract_details_end(200, 4)[4:] == b"52\x001\x004\x00"
    assert replies.positions_end(200)[4:] == b"62\x001\x00"
    assert replies.open_orders_end(200)[4:] == b"53\x001\x00"
    assert replies.completed_orders_end(200)[4:] == b"102\x00"
    assert replies.account_updates_end(200, "DU1")[4:] == b"54\x001\x00DU1\x00"
    assert replies.account_updates_multi_end(200, 3)[4:] == b"74\x001\x003\x00"
    assert replies.executions_end(200, 3)[4:] == b"55\x001\x003\x00"
    assert replies.next_valid_id(212, 1)[4:] == b"\0\0\0\x091\x001\x00"
    assert replies.completed_orders_end(203)[4:] == b"\0\0\0\x66"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("callback", "arguments"),
    [
        ("next_valid_id nextValidId", (7,)),
        ("managed_accounts managedAccounts", (["DU1", "DU2"],)),
        ("current_time currentTime", (1_700_000_000,)),
        ("current_time_millis currentTimeInMillis", (1_700_000_000_123,)),
        ("contract_details_end contractDetailsEnd", (9,)),
        ("positions_end positionEnd", ()),
        ("open_orders_end openOrderEnd", ()),
        ("completed_orders_end completedOrdersEnd", ()),
        ("account_updates_end accountDownloadEnd", ("DU1",)),
        ("account_updates_multi_end accountUpdateMultiEnd", (3,)),
        ("executions_end execDetailsEnd", (3,)),
    ],
)
def test_ibapi_reads_every_other_reply(
    version: int, callback: str, arguments: tuple[Any, ...]
) -> None:
    function, name = callback.split()
    received: Any = EWrapper()
    calls: list[tuple[Any, ...]] = []
    setattr(received, name, lambda *values: calls.append(values))
    interpret(
        Decoder(received, version), version, getattr(replies, function)(version, *arguments)[4:]
    )
    wanted = tuple(",".join(value) if isinstance(value, list) else value for value in arguments)
    assert calls == [wanted]
