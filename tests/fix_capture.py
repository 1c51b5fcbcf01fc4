"""Fixtures of gateways and captures, which are closed after a test."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

import ibticks as ibt
from ibticks.capture import _capture as capture_module
from ibticks.gateway import Gateway, GatewayContract, Replay
from ibticks.schema import TickColumns, Values
from ibticks.storage import seal_files
from tests.capture_checks import QUICK, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks.index import FileRecord
    from tests.servers import PostgresServer


@pytest.fixture(scope="session")
def samples() -> Replay:
    """All four tick types of both sample contracts."""
    return Replay.from_samples()


@pytest.fixture(scope="session")
def few(samples: Replay) -> Replay:
    """The first ticks of them."""
    return samples.head(1500)


@pytest.fixture(scope="session")
def steady() -> Replay:
    """Two contracts with a hundred quotes and trades a second, for ten minutes.

    No test takes as long, on a busy machine either.
    """
    rows = 60_000
    times = Values(1_700_000_000_000_000_000 + np.arange(rows) * 10_000_000)
    numbers = np.arange(rows) / 64
    quotes = {name: Values(numbers + 1) for name in ("bid_price", "ask_price", "bid_size")}
    trades = {"price": Values(numbers + 1), "size": Values(numbers)}
    contracts = [
        GatewayContract(contract_id=1, symbol="ONE", exchange="NYSE"),
        GatewayContract(contract_id=2, symbol="TWO", exchange="CME", sec_type="FUT"),
    ]
    streams = {
        (contract.contract_id, kind): TickColumns(rows, {"timestamp": times, **columns})
        for contract in contracts
        for kind, columns in (("bid_ask", quotes), ("last", trades))
    }
    return Replay.from_columns(contracts, streams)


@pytest.fixture
def server_version() -> int | None:
    """The server version of gateways: the newest, unless a test is parametrized by it."""
    return None


@pytest.fixture
def serve(few: Replay, server_version: int | None) -> Iterator[Callable[..., Gateway]]:
    """Start gateways, at full speed by default; they close after the test."""
    opened: list[Gateway] = []

    def start(replay: Replay = few, **how: Any) -> Gateway:
        gateway = Gateway(replay, **{"speed": None, "server_version": server_version} | how)
        opened.append(gateway)
        return gateway.start()

    yield start
    for gateway in opened:
        gateway.close()


class SealedHere:
    """Seals in this process, which has the compiler loaded already."""

    def __call__(self, root: Any, keys: Any) -> list[FileRecord]:
        return seal_files(root, keys)

    def stop_if_idle(self, idle_seconds: Any) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def capturing(
    store: ibt.Store, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., ibt.Capture]]:
    """Starts captures of a gateway into ``store``; they stop after the test, without a failure."""
    monkeypatch.setattr(capture_module, "SealProcess", SealedHere)
    for name in ("IB_STREAM_TRACKED_CONTRACTS", "IB_STREAM_MAX_TRACKED", "IBTICKS_GATEWAY"):
        monkeypatch.delenv(name, raising=False)
    started: list[ibt.Capture] = []

    def start(gateway: Gateway | int, tracked: str, **settings: Any) -> ibt.Capture:
        port = gateway if isinstance(gateway, int) else gateway.port
        capture = ibt.Capture(store, tracked, port=port, **QUICK | settings)
        started.append(capture)
        return capture.start()

    yield start
    for capture in started:
        capture.stop()


@pytest.fixture
def outage(postgres: PostgresServer, database: str) -> Iterator[Callable[..., None]]:
    """Take the store's database away, and give it back."""

    def switch(away: bool) -> None:
        postgres.set_available(database, not away)

    yield switch
    switch(away=False)


@pytest.fixture
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Holds that no thread and no file is left open."""
    store = request.getfixturevalue("store") if "store" in request.fixturenames else None
    # Polars opens something for itself, once, and keeps it.
    pl.DataFrame({"a": [0]}).with_columns(pl.col("a") + 1)
    threads, files = set(threading.enumerate()), open_files()
    yield
    # Its pool keeps a connection for each thread that ever asked the index at the same time.
    if store is not None:
        store.close()
    until(lambda: set(threading.enumerate()) <= threads, "threads end")
    until(lambda: open_files() <= files, f"{open_files() - files} are closed")


def open_files() -> set[str]:
    files = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if not target.startswith("/proc"):
            files.add(f"{descriptor.name} {target}")
    return files
