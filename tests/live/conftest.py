"""Fixtures: a store in memory, its writers and live streams, and a check for leaks."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.frames import to_polars, to_table
from ibticks.index import MemoryIndex
from ibticks.live import Live, LiveOptions
from ibticks.storage import StreamWriter
from tests.storage.samples import CONTRACT, new_root, open_descriptors

from .simulation import COLUMNS, STREAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def loaded_polars() -> None:
    """Load polars, which opens files when it is first used."""
    to_polars(to_table([], ["timestamp"])).select("timestamp")


@pytest.fixture
def root(loaded_polars: None) -> Iterator[Path]:
    """A folder for a store; no descriptor or thread may be left open in it."""
    with new_root() as folder:
        yield folder
        assert [thread for thread in threading.enumerate() if thread.name == "ibticks-live"] == []
        assert open_descriptors(folder) == 0


@pytest.fixture
def index() -> MemoryIndex:
    return MemoryIndex()


@pytest.fixture
def writer(root: Path, index: MemoryIndex) -> Iterator[Callable[..., StreamWriter]]:
    """Open writers, which are closed after the test."""
    opened = []

    def open_writer(tick_type: str = "bid_ask", **options: Any) -> StreamWriter:
        opened.append(StreamWriter(root, CONTRACT, tick_type, index, **{"fsync": None} | options))
        return opened[-1]

    yield open_writer
    for one in opened:
        one.close()


@pytest.fixture
def follow(root: Path) -> Iterator[Callable[..., Live]]:
    """Open live streams, which are closed after the test."""
    opened = []

    def open_live(
        start_ns: int | None = None,
        streams: tuple[tuple[int, str], ...] = STREAMS[:1],
        *,
        columns: tuple[str, ...] = COLUMNS,
        label: str = "",
        resume: str | None = None,
        **options: Any,
    ) -> Live:
        live = Live(
            root,
            streams,
            columns,
            start_ns,
            label=label,
            resume=resume,
            options=LiveOptions(**options),
        )
        opened.append(live)
        return live

    yield open_live
    for one in opened:
        one.close()
