"""Fixtures of coverage tests: a folder and an index in memory."""

from __future__ import annotations

import pytest

from ibticks.index import MemoryIndex
from tests.storage.samples import new_root


@pytest.fixture
def root():
    with new_root() as folder:
        yield folder / "ticks"


@pytest.fixture
def index() -> MemoryIndex:
    return MemoryIndex()
