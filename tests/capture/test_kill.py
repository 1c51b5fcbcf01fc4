"""Killed a hundred times: no tick that ibapi handed over is lost, and none is there twice."""

from __future__ import annotations

import os
import random
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ibticks.gateway import Gateway, GatewayContract, Replay
from ibticks.schema import TickColumns, Values
from ibticks.storage import verify_files
from ibticks.storage._hour_file import find_whole_messages
from tests.capture_checks import check_index, until
from tests.forking import Children

from . import killed_captures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Store

ROUNDS = 100
ROWS = 2_400_000
TRACKED = "1:ONE:bid_ask;last;mid_point"
PRICES = {"bid_ask": "bid_price", "last": "price", "mid_point": "mid_price"}


@pytest.fixture(scope="module")
def endless() -> Replay:
    """Prices that grow, two thousand a second of each type, for longer than the test."""
    times = Values(1_700_000_000_000_000_000 + np.arange(ROWS) * 500_000)
    prices = Values(np.arange(ROWS) + 1.0)
    streams = {
        (1, kind): TickColumns(ROWS, {"timestamp": times, name: prices})
        for kind, name in PRICES.items()
    }
    return Replay.from_columns([GatewayContract(contract_id=1, symbol="ONE")], streams)


@pytest.fixture
def captures(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Forks captures: each is ended by a signal, some time after it began or had a tick."""
    children = Children(killed_captures.__file__, tmp_path / "prepared")

    def run(how: signal.Signals, seconds: float, *, ticking: bool, **arguments: Any) -> int:
        pid = children.start("run", **arguments)
        report = Path(arguments["report_path"])
        if ticking:
            until(lambda: report.exists() and report.stat().st_size)
        time.sleep(seconds)
        os.kill(pid, how)
        return children.wait(pid)

    yield run
    children.close()


def reported_prices(path: Path) -> dict[str, list[float]]:
    """Return the prices that a run reported as written, by tick type."""
    prices: dict[str, list[float]] = {name: [] for name in killed_captures.TICK_TYPES}
    data = path.read_bytes() if path.exists() else b""
    whole = len(data) // killed_captures.TICK.size * killed_captures.TICK.size
    for number, price in killed_captures.TICK.iter_unpack(data[:whole]):
        prices[killed_captures.TICK_TYPES[number]].append(price)
    return prices


def test_a_hundred_kills(
    endless: Replay,
    serve: Callable[..., Gateway],
    captures: Callable[..., int],
    store: Store,
    database: str,
    tmp_path: Path,
) -> None:
    gateway = serve(endless, speed=1.0)
    moments = random.Random(8314)
    epoch = time.time_ns()
    reports: list[Any] = []

    def run(how: signal.Signals, seconds: float, *, ticking: bool) -> int:
        reports.append(tmp_path / f"run{len(reports)}")
        return captures(
            how,
            seconds,
            ticking=ticking,
            root=str(store.root),
            dsn=database,
            port=gateway.port,
            tracked=TRACKED,
            epoch=epoch,
            report_path=str(reports[-1]),
        )

    # Some have barely begun, some recover what the one before left, some seal an hour.
    for number in range(ROUNDS):
        how, seconds = signal.SIGKILL, 0.3 * moments.random()
        assert run(how, seconds, ticking=number % 3 > 0) == -signal.SIGKILL
    assert run(signal.SIGTERM, 0.5, ticking=True) == 0

    runs = [reported_prices(path) for path in reports]
    reported = sum(len(prices) for run in runs for prices in run.values())
    assert reported > 10_000
    for kind, name in PRICES.items():
        frame = store.select(1, kind).to_polars()
        prices = frame[name].to_list()
        # In order, and none twice.
        assert all(one < other for one, other in pairwise(prices))
        assert frame["sequence"].to_list() == list(range(1, len(frame) + 1))
        # Every reported tick is stored; each run may have stored one more before its report.
        accepted = [price for run in runs for price in run[kind]]
        assert set(accepted) <= set(prices)
        assert len(prices) <= len(accepted) + len(runs)
    assert not any(finding.problem for finding in verify_files(store.root, store.index))
    assert all(file.sealed for file in store.index.files())
    assert len(store.index.files()) > 30, "hours have ended meanwhile"
    # The system may end the write of a killed process between two pages, inside of a frame.
    for torn in store.root.rglob("*.torn"):
        whole, problem = find_whole_messages(memoryview(torn.read_bytes()), 0)
        assert (whole, problem) == (0, "the last frame is torn")
    check_index(store.root, store.index)
