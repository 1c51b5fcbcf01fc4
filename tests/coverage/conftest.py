"""Fixtures of coverage tests: a folder and an index in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ibticks.index import MemoryIndex
from tests.storage.samples import new_root

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def root() -> Iterator[Path]:
    with new_root() as folder:
        yield folder / "ticks"


@pytest.fixture
def index() -> MemoryIndex:
    return MemoryIndex()
