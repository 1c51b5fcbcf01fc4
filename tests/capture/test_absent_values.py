"""IB's numbers for "none", from the gateway into the store: captured, on demand, backfilled."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ibticks as ibt
from ibticks.gateway import Gateway, GatewayContract, Replay
from ibticks.schema import TickColumns, Values
from tests.capture_checks import SERVER_VERSIONS, until
from tests.recorded_replay import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000_000
START = 1_741_012_200 * SECOND  # 2025-03-03 14:30 UTC
DOUBLE = sys.float_info.max
XYZ = 77

SENT: dict[str, dict[str, list[Any]]] = {
    "last": {
        "price": [10.0, 11.0, 0.0, 0.0, DOUBLE],
        "size": [100.0, 2147483647.0, 0.0, 0.0, 5.0],
        "past_limit": [False, False, True, False, False],  # halted, and trading again
    },
    "bid_ask": {
        "bid_price": [10.0, -1.0, 10.0, -1.25, 10.0, 0.0],
        "bid_size": [5.0, 0.0, 9223372036854775807.0, 3.0, 5.0, 0.0],
        "ask_price": [10.5, -1.0, 0.0, -1.0, DOUBLE, 10.5],
        "ask_size": [5.0, 0.0, 0.0, 2.0, 5.0, 2147483647.0],
    },
    "mid_point": {"mid_price": [10.0, DOUBLE, 0.0, -1.0]},
}
STORED: dict[str, dict[str, list[Any]]] = {
    "last": {
        "price": [10.0, 11.0, 0.0, 0.0, None],
        "size": [100.0, None, 0.0, 0.0, 5.0],
        "past_limit": [False, False, True, False, False],
    },
    "bid_ask": {
        "bid_price": [10.0, None, 10.0, -1.25, 10.0, None],
        "bid_size": [5.0, None, None, 3.0, 5.0, None],
        "ask_price": [10.5, None, None, -1.0, None, 10.5],
        "ask_size": [5.0, None, None, 2.0, 5.0, None],
    },
    "mid_point": {"mid_price": [10.0, None, 0.0, -1.0]},
}
KINDS = tuple(SENT)


@pytest.fixture(scope="module")
def replay() -> Replay:
    streams = {}
    for kind, columns in SENT.items():
        rows = len(next(iter(columns.values())))
        times = Values(START + np.arange(rows) * SECOND)
        values = {name: Values(np.array(numbers)) for name, numbers in columns.items()}
        streams[XYZ, kind] = TickColumns(rows, {"timestamp": times, **values})
    return Replay.from_columns([GatewayContract(contract_id=XYZ, symbol="XYZ")], streams)


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_capture_stores_unset_values_as_absent(
    kind: str,
    store: ibt.Store,
    serve: Callable[..., Gateway],
    capturing: Callable[..., ibt.Capture],
    replay: Replay,
) -> None:
    capture = capturing(serve(replay), f"{XYZ}:XYZ:{kind}")
    rows = replay.streams[XYZ, kind].rows
    until(lambda: capture.status()["status"]["ticks"] == rows, "all are captured")
    capture.stop()
    ticks = store.select("XYZ", kind).to_polars()
    assert ticks.select(*STORED[kind]).to_dict(as_series=False) == STORED[kind]


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_stream_on_demand_omits_unset_values(
    kind: str, store: ibt.Store, serve: Callable[..., Gateway], replay: Replay
) -> None:
    rows = replay.streams[XYZ, kind].rows
    with ibt.stream_ticks(
        XYZ, kind, port=serve(replay).port, limit=rows, store=store, timeout_seconds=60
    ) as stream:
        ticks = [message["data"] for message in stream if message["type"] == "tick"]
    handed = {name: [tick.get(name) for tick in ticks] for name in STORED[kind]}
    assert handed == STORED[kind]
    stored = store.select(XYZ, kind).to_polars()
    assert stored.select(*STORED[kind]).to_dict(as_series=False) == STORED[kind]


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_backfill_stores_unset_values_as_absent_and_once(
    kind: str, store: ibt.Store, serve: Callable[..., Gateway], replay: Replay
) -> None:
    only = Replay.from_columns(replay.contracts, {(XYZ, kind): replay.streams[XYZ, kind].columns})
    recorded = Recorded(store, only, [(START + SECOND, START + 3 * SECOND)])
    pacing = ibt.Pacing(requests=10**6, burst=10**6, identical_seconds=0, messages_per_second=1000)
    result = ibt.backfill(store, port=serve(only).port, pacing=pacing)
    assert result.ticks == recorded.missed(XYZ, kind) == 2
    ticks = store.select(XYZ, kind, backfill="include").to_polars()
    assert ticks.select(*STORED[kind]).to_dict(as_series=False) == STORED[kind]
