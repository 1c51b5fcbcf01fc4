"""An index in memory, writers of a small store, and a server of processes to be killed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.index import MemoryIndex
from ibticks.storage import StreamWriter
from tests.forking import Children

from .samples import CONTRACT, new_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def root() -> Iterator[Path]:
    with new_root() as folder:
        yield folder / "ticks"


@pytest.fixture
def index() -> MemoryIndex:
    return MemoryIndex()


@pytest.fixture
def writer(root: Path, index: MemoryIndex) -> Iterator[Callable[..., StreamWriter]]:
    """Open writers of the quotes; close them after the test."""
    opened = []

    def open_writer(tick_type: str = "bid_ask", **how: Any) -> StreamWriter:
        opened.append(StreamWriter(root, CONTRACT, tick_type, index, **{"fsync": None} | how))
        return opened[-1]

    yield open_writer
    for value in opened:
        value.close()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder any user can get to, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def children() -> Iterator[Children]:
    served = Children(Path(__file__).with_name("children.py"))
    yield served
    served.close()
