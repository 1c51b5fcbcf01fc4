"""A store in memory, its writers, and nothing left open after a test."""

from __future__ import annotations

import gc
import threading

import pytest

from ibticks.frames import to_polars, to_table
from ibticks.index import MemoryIndex
from ibticks.live import Live, LiveOptions
from ibticks.storage import StreamWriter
from tests.storage.samples import CONTRACT, new_root, open_descriptors

from .simulation import COLUMNS, STREAMS


@pytest.fixture(scope="session")
def polars_has_begun():
    """It opens files of its own when it is first used."""
    to_polars(to_table([], ["timestamp"])).select("timestamp")


@pytest.fixture
def root(polars_has_begun):
    """A folder for a store; whoever opens something in it closes it."""
    gc.collect()
    descriptors = open_descriptors()
    with new_root() as folder:
        yield folder
    assert [each for each in threading.enumerate() if each.name == "ibticks-live"] == []
    assert open_descriptors() == descriptors


@pytest.fixture
def index() -> MemoryIndex:
    return MemoryIndex()


@pytest.fixture
def writer(root, index):
    """Opens writers; what a test leaves open is closed after it."""
    opened = []

    def open_writer(tick_type="bid_ask", **how) -> StreamWriter:
        opened.append(StreamWriter(root, CONTRACT, tick_type, index, **{"fsync": None} | how))
        return opened[-1]

    yield open_writer
    for each in opened:
        each.close()


@pytest.fixture
def follow(root):
    """Opens live streams; what a test leaves open is closed after it."""
    opened = []

    def open_live(
        start_ns=None, streams=STREAMS[:1], *, columns=COLUMNS, label="", resume=None, **options
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
    for each in opened:
        each.close()
