"""Clients resume exactly over services and writers that are killed at random."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import ibticks as ibt
from tests.capture_checks import until
from tests.forking import Children

from . import killed_services
from .feed import CONTRACT, TICK_TYPES, events, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

WORLDS = int(os.environ.get("IBTICKS_STREAM_WORLDS", "3"))
URL = f"http://127.0.0.1:%d/v2/stream/{CONTRACT}/with-buffer"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    """A server that forks services and writers."""
    started = Children(Path(killed_services.__file__), tmp_path_factory.mktemp("prepared"))
    yield started
    started.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class World:
    """A writer and a service that are killed and started again, and a client that resumes."""

    def __init__(self, children: Children, root: Path, dsn: str, seed: int) -> None:
        self.total = random.Random(seed).randrange(300, 700)
        self.received: list[dict[str, Any]] = []
        self._children = children
        self._choose = random.Random(seed)
        self._store = {"root": root, "dsn": dsn}
        self._port = free_port()
        self._position: str | None = None
        self._start_service()
        self._start_writer()

    def run(self) -> None:
        """Read until every tick has been received."""
        while len(self.received) < self.total:
            act = self._choose.choice((self._kill_service, self._kill_writer, None))
            try:
                self._read(self._choose.choice((1, 5, 50, 200)), act)
            except httpx.HTTPError:
                # The service was killed while it answered.
                assert act == self._kill_service
        self._children.kill(self._service)
        assert self._children.wait(self._writer) == 0

    def _read(self, ticks: int, act: Any) -> None:
        """Read some ticks, do something, and read what still comes until the client leaves."""
        query: dict[str, Any] = {"tick_types": ",".join(TICK_TYPES), "buffer_duration": "1h"}
        if self._position is not None:
            query["resume"] = self._position
        with httpx.stream("GET", URL % self._port, params=query, timeout=60) as response:
            assert response.status_code == 200, response.read()
            left, stream = ticks, events(response.iter_lines())
            for self._position, message in stream:
                if message["type"] == "tick":
                    self.received.append(message)
                    left -= 1
                if not left or len(self.received) == self.total:
                    break
            if act is not None and len(self.received) < self.total:
                act()
                # Events that are on their way still arrive.
                for self._position, message in stream:
                    if message["type"] == "tick":
                        self.received.append(message)
                        break

    def _kill_service(self) -> None:
        self._children.kill(self._service)
        self._start_service()

    def _kill_writer(self) -> None:
        self._children.kill(self._writer)
        self._start_writer()

    def _start_service(self) -> None:
        self._service = self._children.start("run_service", **self._store, port=self._port)
        until(self._is_serving)

    def _start_writer(self) -> None:
        seed = self._choose.randrange(10**6)
        self._writer = self._children.start(
            "run_writer", **self._store, seed=seed, total=self.total
        )

    def _is_serving(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/health").status_code == 200
        except httpx.HTTPError:
            return False


@pytest.mark.parametrize("seed", range(WORLDS))
def test_every_tick_comes_once_and_in_order(
    children: Children, tmp_path: Path, database: str, seed: int
) -> None:
    root = tmp_path / "ticks"
    with ibt.open(root, dsn=database) as store:
        store.add_contract(CONTRACT, "FEED")
    world = World(children, root, database, seed)
    world.run()
    with ibt.open(root, dsn=database) as store:
        for tick_type in TICK_TYPES:
            stored = store.select(CONTRACT, tick_type).to_polars()["sequence"].to_list()
            assert stored == list(range(len(stored)))
            received = numbers(world.received, tick_type)
            assert received == stored[: len(received)]
    assert len(world.received) == world.total
