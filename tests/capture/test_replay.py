"""Everything a gateway replays is in the store: equal field by field, in order, none missing."""

from __future__ import annotations

import pytest

from ibticks.config import TICK_TYPES
from ibticks.gateway import Replay

from .checks import BTC, FOUR, IBM, check_index, check_stored, covered, statuses, until


def test_a_stream_of_each_type(serve, capturing, store):
    gateway = serve()
    capture = capturing(gateway, FOUR)
    until(lambda: capture.status()["status"]["ticks"] == 6000)
    capture.stop()
    for tick_type in TICK_TYPES:
        assert check_stored(store, gateway, IBM, tick_type) == 1500
        assert statuses(store, IBM, tick_type) == [("subscribed", None), ("stopped", None)]
        assert covered(store, IBM, tick_type) == ["captured"]
    assert all(file.sealed for file in store.index.files())
    check_index(store.root, store.index)


def test_the_whole_sample_among_ten_contracts_at_once(samples, serve, capturing, store):
    copies = samples.head(4000).cloned(8)
    replay = Replay(copies.contracts, (copies.streams | samples.streams).values())
    gateway = serve(replay)
    kinds = ";".join(TICK_TYPES)
    tracked = ",".join(f"{each.contract_id}:{each.symbol}:{kinds}" for each in replay.contracts)
    capture = capturing(gateway, tracked)
    until(lambda: capture.status()["status"]["ticks"] == replay.rows, "all are stored", 120)
    assert capture.status()["status"]["active_contracts"] == 10
    capture.stop()
    assert list(capture.failures) == []
    assert sum(check_stored(store, gateway, *key) for key in replay.streams) == replay.rows
    check_index(store.root, store.index)


@pytest.mark.parametrize("version", [157, 163, 178, 200])
def test_every_version_of_the_protocol(version, serve, capturing, store):
    gateway = serve(highest_version=version)
    capture = capturing(gateway, f"{BTC}:BTCUSDT:all_last;bid_ask")
    until(lambda: capture.status()["status"]["ticks"] == 3000)
    capture.stop()
    for tick_type in ("all_last", "bid_ask"):
        assert check_stored(store, gateway, BTC, tick_type) == 1500
