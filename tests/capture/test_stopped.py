"""PostgreSQL is stopped under a capture, and started again later."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import conninfo_to_dict

import ibticks as ibt
from ibticks.index.embedded import EmbeddedServer
from tests.capture_checks import STREAMS, TICKING, check_index, check_stored, covered, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks.gateway import Gateway, Replay

pytestmark = pytest.mark.own_server


@pytest.fixture
def start(clusters: Path, tmp_path: Path) -> Iterator[Callable[[], EmbeddedServer]]:
    """Starts a server of the test's own, or joins it."""
    shares: list[EmbeddedServer] = []

    def start() -> EmbeddedServer:
        shares.append(EmbeddedServer.for_store(tmp_path / "server", str(tmp_path)))
        return shares[-1]

    yield start
    for share in shares:
        share.close()


@pytest.fixture
def store(start: Callable[[], EmbeddedServer], tmp_path: Path) -> Iterator[ibt.Store]:
    """A store opened by DSN, so that only the test restarts the server."""
    with ibt.open(tmp_path / "ticks", dsn=start().dsn) as opened:
        yield opened


def more(capture: ibt.Capture) -> None:
    def ticks() -> int:
        return capture.status()["status"]["ticks"]

    before = ticks()
    until(lambda: ticks() >= before + 50, "ticks go on")


@pytest.mark.filterwarnings("ignore::ibticks.errors.IndexAwayWarning")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["shut down", "killed"])
def test_stopped_database_server(
    how: signal.Signals,
    start: Callable[[], EmbeddedServer],
    steady: Replay,
    serve: Callable[..., Gateway],
    capturing: Callable[..., ibt.Capture],
    store: ibt.Store,
) -> None:
    gateway = serve(steady, speed=1.0)
    capture = capturing(gateway, TICKING)
    more(capture)
    server = start()
    home = Path(str(conninfo_to_dict(server.dsn)["host"]))
    os.kill(int((home / "data" / "postmaster.pid").read_text().split()[0]), how)
    gateway.drop()  # which changes the coverage
    until(lambda: capture.status()["status"]["connections"] == 2)
    until(lambda: store.index.away)
    more(capture)
    start()
    more(capture)
    gateway.pause()
    until(lambda: capture.status()["status"]["ticks"] == sum(gateway.sent.values()))
    capture.stop()
    assert list(capture.failures) == []
    store.index.connect()
    assert not store.index.pending
    for key in STREAMS:
        check_stored(store, gateway, *key)
        assert covered(store, *key) == ["captured", "disconnected", "captured"]
    check_index(store.root, store.index)
