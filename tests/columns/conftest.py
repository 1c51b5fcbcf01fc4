"""A folder for a store in memory, its index, and hours of ticks in it."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ibticks.config import HOUR_NS
from ibticks.index import MemoryIndex
from ibticks.schema import StringColumn, StringListColumn, TickColumns, Values
from ibticks.storage import StreamWriter
from tests.fix_files import damage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["damage"]

DAY = 1_381_190_400_000_000_000  # 2013-10-08, nanoseconds
CONTRACT = 8314
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@pytest.fixture
def root() -> Iterator[Path]:
    with TemporaryDirectory(dir=FAST) as folder:
        yield Path(folder) / "ticks"


@pytest.fixture
def index() -> MemoryIndex:
    return MemoryIndex()


def trades(hour: int, count: int, first: int = 0) -> TickColumns:
    """Trades in an hour of the day, two at each time; some without a price, some conditions."""
    number = np.arange(first, first + count)
    times = DAY + hour * HOUR_NS + number // 2 * 1_000_003
    return TickColumns(
        count,
        {
            "timestamp": Values(times),
            "price": Values(236.5 + number % 7 / 100, number % 11 > 0),
            "size": Values((number % 1000).astype(np.float64) * 0.37),
            "exchange": StringColumn((number % 3 - 1).astype(np.int32), ("NYSE", "ARCA")),
            "conditions": StringListColumn(
                np.arange(count + 1, dtype=np.int64),
                (number % 2).astype(np.int32),
                ("T", "I"),
            ),
            "sequence": Values(number.astype(np.uint64)),
            "past_limit": Values(number % 5 == 0),
            "exchange_time": Values(times // 1_000_000_000, number % 13 > 0),
        },
    )


@pytest.fixture
def write(root: Path, index: MemoryIndex) -> Callable[..., None]:
    """Write trades and seal their hours: ``write(trades(13, 100))``."""

    def write_sealed(*chunks: TickColumns, contract_id: int = CONTRACT) -> None:
        with StreamWriter(root, contract_id, "last", index, fsync=None) as writer:
            for chunk in chunks:
                writer.write(chunk)

    return write_sealed
