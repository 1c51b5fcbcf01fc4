"""Everything a gateway replays is in the store: equal field by field, in order, none missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ibticks.config import NANOSECONDS, TICK_TYPES
from ibticks.gateway import Gateway, Replay, TickStream
from ibticks.schema import TickColumns, Values
from tests.capture_checks import (
    BTC,
    FOUR,
    IBM,
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

FLAGS = {
    "last": ("past_limit", "unreported"),
    "all_last": ("past_limit", "unreported"),
    "bid_ask": ("bid_past_low", "ask_past_high"),
    "mid_point": (),
}


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
def test_streams_of_every_tick_type(
    serve: Callable[..., Gateway], capturing: Callable[..., Capture], store: Store
) -> None:
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


def its_own(stream: TickStream) -> TickStream:
    """The ticks with shifted times, and with flags, which real ticks seldom have.

    So those of one stream are never equal to those of another, should they be mixed up.
    """
    dice = np.random.default_rng([stream.contract_id, TICK_TYPES.index(stream.tick_type)])
    flags = {name: Values(dice.random(stream.rows) < 0.1) for name in FLAGS[stream.tick_type]}
    columns = TickColumns(stream.rows, stream.columns.columns | flags)
    made = TickStream(stream.contract_id, stream.tick_type, columns)
    return made.shifted(stream.contract_id % 97 * NANOSECONDS)


def test_the_whole_sample_of_ten_contracts_at_once(
    samples: Replay, serve: Callable[..., Gateway], capturing: Callable[..., Capture], store: Store
) -> None:
    """All 1.4 million ticks, as fast as they are read: twenty seconds of two cores."""
    ten = samples.cloned(8)
    replay = Replay(ten.contracts, map(its_own, ten.streams.values()))
    assert replay.rows == 5 * samples.rows > 1_300_000
    gateway = serve(replay)
    kinds = ";".join(TICK_TYPES)
    tracked = ",".join(f"{c.contract_id}:{c.symbol}:{kinds}" for c in replay.contracts)
    # The ticks of IBM are of another year: they are over, while those of BTCUSDT continue.
    capture = capturing(gateway, tracked, quiet_after=600.0)
    until(lambda: capture.status()["status"]["ticks"] == replay.rows, "all are stored", 300)
    assert capture.status()["status"]["active_contracts"] == 10
    capture.stop()
    assert list(capture.failures) == []
    assert len(replay.streams) == 40
    for key, stream in replay.streams.items():
        assert check_stored(store, gateway, *key) == stream.rows
        assert covered(store, *key) == ["captured"]
    assert all(file.sealed for file in store.index.files())
    check_index(store.root, store.index)


@pytest.mark.parametrize("server_version", [157, 163, 201, 203, 205])
def test_other_versions_of_the_protocol(
    serve: Callable[..., Gateway], capturing: Callable[..., Capture], store: Store
) -> None:
    gateway = serve()
    capture = capturing(gateway, f"{BTC}:BTCUSDT:all_last;bid_ask")
    until(lambda: capture.status()["status"]["ticks"] == 3000)
    capture.stop()
    for tick_type in ("all_last", "bid_ask"):
        assert check_stored(store, gateway, BTC, tick_type) == 1500
