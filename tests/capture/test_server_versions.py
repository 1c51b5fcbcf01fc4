"""A capture at every server version: unusual values, and faults of messages in Protocol Buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

import ibticks as ibt
from ibticks.gateway import Gateway, GatewayContract, Replay, _ticks, frame
from ibticks.gateway._wire import protobuf
from ibticks.schema import StringColumn, StringListColumn, TickColumns, Values
from ibticks.tws import _client, message_class
from tests.capture_checks import (
    IBM,
    ONE,
    SERVER_VERSIONS,
    check_index,
    check_stored,
    covered,
    statuses,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks import Capture, Store

SECOND = 1_000_000_000
LARGE_ID = 2**31 - 2  # one more is the unset integer of ibapi
PRICES = np.array([-37.63, 1e-9, 123_456_789.123_456_78, 0.1 + 0.2, 2.0**-40, 1e15])
SIZES = np.array([0.5, 1e-8, 123_456_789_012.25, 1 / 3, 7.0, 1e15])


@pytest.fixture(scope="module")
def unusual() -> Replay:
    """Negative and fractional prices, fractional sizes, text that is not ASCII, a large id."""
    rows = len(PRICES)
    times = Values(1_700_000_000 * SECOND + np.arange(rows) * SECOND)
    flags = Values(np.arange(rows) % 2 == 1)
    trades: dict[str, Any] = {
        "timestamp": times,
        "price": Values(PRICES),
        "size": Values(SIZES),
        "unreported": flags,
        "exchange": StringColumn(
            np.array([0, 1, 2, 0, 1, 2], dtype=np.int32), ("BÖRSE", "ΑΘΗΝΑ", "東証")
        ),
        "conditions": StringListColumn(
            np.array([0, 1, 3, 3, 4, 4, 4]), np.array([0, 1, 0, 1], dtype=np.int32), ("Ω", "T")
        ),
    }
    quotes: dict[str, Any] = {
        "timestamp": times,
        "bid_price": Values(PRICES - 1),
        "ask_price": Values(PRICES),
        "bid_size": Values(SIZES),
        "ask_size": Values(SIZES[::-1].copy()),
        "bid_past_low": flags,
    }
    contract = GatewayContract(
        contract_id=LARGE_ID, symbol="ÖL", exchange="EUREX", sec_type="FUT", long_name="Rohöl 東"
    )
    mids: dict[str, Any] = {"timestamp": times, "mid_price": Values(PRICES)}
    columns = {"last": trades, "all_last": trades, "bid_ask": quotes, "mid_point": mids}
    streams = {(LARGE_ID, kind): TickColumns(rows, values) for kind, values in columns.items()}
    return Replay.from_columns([contract], streams)


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
def test_unusual_values_are_stored_unchanged(
    unusual: Replay, serve: Callable[..., Gateway], capturing: Callable[..., Capture], store: Store
) -> None:
    gateway = serve(unusual)
    capture = capturing(gateway, f"{LARGE_ID}:OIL:last;all_last;bid_ask;mid_point")
    until(lambda: capture.status()["status"]["ticks"] == unusual.rows)
    capture.stop()
    assert list(capture.failures) == []
    for key in unusual.streams:
        assert check_stored(store, gateway, *key) == len(PRICES)
    (contract,) = store.index.contracts()
    assert (contract.symbol, contract.exchange) == ("OIL", "EUREX")
    check_index(store.root, store.index)


def renumbered(name: str, changed: str, field: str, number: int) -> Any:
    """Return the class of a message in a copy of IB's schemas with one other field number."""
    pool = DescriptorPool()

    def copy(file: Any) -> None:
        for dependency in file.dependencies:
            copy(dependency)
        schema = FileDescriptorProto()
        file.CopyToProto(schema)
        for message in schema.message_type:
            for value in message.field:
                if (message.name, value.name) == (changed, field):
                    value.number = number
        pool.Add(schema)

    original = message_class(name).DESCRIPTOR
    copy(original.file)
    return GetMessageClass(pool.FindMessageTypeByName(original.full_name))


@pytest.mark.parametrize(
    ("kind", "changed", "field", "difference"),
    [
        ("bid_ask", "HistoricalTickBidAsk", "sizeBid", "bid_size, row 0: None"),
        ("bid_ask", "TickAttribBidAsk", "askPastHigh", "ask_past_high"),
        ("all_last", "HistoricalTickLast", "specialConditions", "conditions"),
    ],
)
def test_a_changed_field_number_is_noticed(
    kind: str,
    changed: str,
    field: str,
    difference: str,
    unusual: Replay,
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The comparison of these tests would notice a schema that ibapi does not read."""
    wrong = renumbered("TickByTickData", changed, field, 40)
    flagged = {
        key: TickColumns(
            stream.rows,
            stream.columns.columns | {"ask_past_high": Values(np.ones(stream.rows, dtype=np.bool_))}
            if kind == "bid_ask"
            else stream.columns.columns,
        )
        for key, stream in unusual.streams.items()
        if key[1] == kind
    }
    gateway = serve(Replay.from_columns(unusual.contracts, flagged))
    monkeypatch.setattr(_ticks, "message_class", lambda _: wrong)
    capture = capturing(gateway, f"{LARGE_ID}:OIL:{kind}")
    until(lambda: capture.status()["status"]["ticks"] == len(PRICES))
    capture.stop()
    with pytest.raises(AssertionError, match=difference):
        check_stored(store, gateway, LARGE_ID, kind)


# --- faults ---------------------------------------------------------------------------------------

QUOTE = {"time": 1_381_239_000, "priceBid": 1.0, "priceAsk": 2.0, "sizeBid": "1", "sizeAsk": "2"}


def tick(req_id: int, **quote: Any) -> bytes:
    """Return a quote as IB sends it."""
    return protobuf(99, "TickByTickData", reqId=req_id, tickType=3, historicalTickBidAsk=quote)


@pytest.mark.parametrize(
    ("bad", "failures"),
    [
        (lambda req_id: frame(tick(req_id, **QUOTE)[4:-2]), 1),  # torn
        (lambda req_id: tick(req_id, priceBid=1.0), 1),  # without its time
        (lambda req_id: protobuf(99, "TickByTickData", reqId=req_id, tickType=3), 1),
        (lambda _: frame(b"\0\0\4\0\x08\x07"), 0),  # an unknown id
        (lambda _: protobuf(9, "NextValidId", orderId=8)[:-2] + b"\x08\x09", 0),
    ],
)
def test_capture_goes_on_after_a_message_that_cannot_be_used(
    bad: Callable[[int], bytes],
    failures: int,
    steady: Replay,
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    store: Store,
) -> None:
    gateway = serve(steady.head(2000))
    capture = capturing(gateway, "1:ONE:bid_ask")
    gateway.after(500, lambda: gateway.garbage(bad(gateway.log[-1].req_id)))
    until(lambda: capture.status()["status"]["ticks"] == 2000)
    capture.stop()
    assert len(capture.failures) == failures
    assert statuses(store, 1, "bid_ask") == [("subscribed", None), ("stopped", None)]
    assert check_stored(store, gateway, 1, "bid_ask") == 2000
    assert covered(store, 1, "bid_ask") == ["captured"]


def test_ticks_with_fields_of_a_newer_server_are_stored(
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    store: Store,
    few: Replay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    newer = b"\xa0\x1f\x07"  # field 500, varint 7
    monkeypatch.setattr(_ticks, "frame", lambda payload: frame(payload + newer))
    gateway = serve(few)
    capture = capturing(gateway, ONE)
    until(lambda: capture.status()["status"]["ticks"] == 1500)
    capture.stop()
    assert list(capture.failures) == []
    assert check_stored(store, gateway, IBM, "bid_ask") == 1500


def test_too_large_message_ends_the_connection_and_the_next_one_goes_on(
    steady: Replay, serve: Callable[..., Gateway], capturing: Callable[..., Capture], store: Store
) -> None:
    gateway = serve(steady, speed=1.0)
    capture = capturing(gateway, "1:ONE:bid_ask")
    assert gateway.wait_sent(20)
    gateway.garbage((1 << 24).to_bytes(4, "big") + b"\0\0\1\x2b")
    until(lambda: capture.status()["status"]["connections"] == 2)
    before = capture.status()["status"]["ticks"]
    until(lambda: capture.status()["status"]["ticks"] > before + 10)
    capture.stop()
    assert covered(store, 1, "bid_ask") == ["captured", "disconnected", "captured"]
    (gap,) = [row for row in store.index.coverage([1], ["bid_ask"]) if row.state == "disconnected"]
    assert "a message of 16,777,216 bytes" in gap.reason


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ("silence", "Restart TWS or the Gateway, its API is blocked"),
        ("greet_and_hang_up", "Trusted IPs"),
        (150, "Install a current TWS or IB Gateway"),
        (230, "pip install -U ibapi-latest"),
    ],
)
def test_advice_is_logged_once_until_the_gateway_can_be_used(
    fault: Any,
    advice: str,
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = serve()
    if isinstance(fault, int):
        gateway.announce(fault)
    else:
        gateway.answer_connections(fault)
    capture = capturing(gateway, ONE, connect_timeout=0.3, reconnect_delay=0.01)
    until(lambda: capture._supervisor.failed_attempts >= 4)
    assert caplog.text.count(advice) == 1
    gateway.announce(None)
    gateway.answer_connections("greet")
    until(lambda: capture.status()["status"]["ticks"] == 1500)
    assert capture.status()["status"]["last_problem"] == ""


# --- settings -------------------------------------------------------------------------------------

SUBSCRIBED = ("run", "reason")


def subscribed(store: Store) -> list[dict[str, Any]]:
    """Return the metadata of the statuses ``subscribed``, without those of every status."""
    return [
        {name: value for name, value in message["metadata"].items() if name not in SUBSCRIBED}
        for message in store.select(IBM, "bid_ask").messages()
        if message["type"] == "info" and message["data"]["status"] == "subscribed"
    ]


SETTINGS = {
    "tws_server_version": 226,
    "tws_us_stock_sizes": "shares",
    "tws_is_read_only": True,
    "tws_has_forex_tenth_pips": True,
    "tws_exit_time": "23:45",
    "tws_exit_type": "Restart",
}


@pytest.mark.parametrize(
    ("server_version", "settings"),
    [
        (200, {"tws_server_version": 200}),
        (218, {"tws_server_version": 218}),
        (219, SETTINGS | {"tws_server_version": 219}),
        (226, SETTINGS),
    ],
)
def test_settings_of_tws_are_stored_with_the_stream(
    settings: dict[str, Any],
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    store: Store,
) -> None:
    capture = capturing(serve(), ONE)
    until(lambda: capture.status()["status"]["ticks"] == 1500)
    assert capture.status()["status"]["tws"] == settings
    capture.stop()
    assert subscribed(store) == [settings]


def test_change_from_lots_to_shares_is_warned_of(
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    store: Store,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = serve()
    gateway.change_settings({"sendMarketDataInLotsForUsStocks": True})
    gateway.after(500, gateway.drop)
    gateway.after(500, lambda: gateway.change_settings({"sendMarketDataInLotsForUsStocks": False}))
    gateway.after(1000, gateway.drop)
    capture = capturing(gateway, ONE)
    until(lambda: capture.status()["status"]["ticks"] == 1500)
    capture.stop()
    assert [message["tws_us_stock_sizes"] for message in subscribed(store)] == [
        "lots",
        "shares",
        "shares",
    ]
    assert caplog.text.count("TWS sends sizes of US stocks in shares, and sent them in lots") == 1


def test_capture_begins_without_settings_that_do_not_come(
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    store: Store,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_client, "_SETTINGS_SECONDS", 0.05)
    gateway = serve()
    gateway.change_settings(None)
    capture = capturing(gateway, ONE)
    until(lambda: capture.status()["status"]["ticks"] == 1500)
    capture.stop()
    assert subscribed(store) == [{"tws_server_version": 226}]
    assert caplog.text.count("the unit of sizes is unknown") == 1


def test_stream_on_demand_has_the_settings(serve: Callable[..., Gateway]) -> None:
    with ibt.stream_ticks(IBM, "bid_ask", port=serve().port, limit=5, timeout_seconds=60) as stream:
        first = next(iter(stream))
    assert first["metadata"].items() >= SETTINGS.items()
