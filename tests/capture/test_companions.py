"""Companions in the background of a capture: days that are over, one at a time."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.capture import _maintenance as maintenance
from ibticks.capture._maintenance import CompanionBuilder
from ibticks.columns import CompanionKey, floor_day
from ibticks.config import DAY_NS, HOUR_NS, NANOSECONDS
from ibticks.errors import StorageError
from ibticks.index import MemoryIndex
from ibticks.storage import FileKey
from ibticks.testing import make_file_record

if TYPE_CHECKING:
    from pathlib import Path

MINUTE = 60 * NANOSECONDS
DAY = make_file_record(0).hour_ns
STREAM: Any = SimpleNamespace(contract_id=265598, tick_type="last", stream_id="265598_last")


def unexpected(place: str, error: Exception) -> None:
    raise AssertionError(place) from error


class Stage:
    """An index with files of five days, and a builder that notes what it would build."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.index = MemoryIndex()
        for day in range(5):
            self.put(day * 24 + 13)
        self.built: list[int] = []
        self.now = DAY + 4 * DAY_NS + 12 * HOUR_NS
        self.failure: StorageError | None = None
        monkeypatch.setattr(time, "time_ns", lambda: self.now)
        monkeypatch.setattr(maintenance, "build_companion", self.build)
        self.builder = CompanionBuilder(root, [STREAM], self.index, None, unexpected)

    def put(self, hour: int, **changes: Any) -> None:
        path = FileKey(265598, "last", DAY + hour * HOUR_NS).path
        self.index.put_files([make_file_record(hour, path=path, **changes)])

    def build(self, root: Path, index: MemoryIndex, key: CompanionKey, **how: Any) -> None:
        assert key.day_ns == floor_day(key.day_ns)
        self.built.append((key.day_ns - DAY) // DAY_NS)
        if self.failure is not None:
            raise self.failure

    def run(self) -> list[int]:
        """Return the days that one round of the thread builds."""
        self.built.clear()
        self.builder._build(STREAM)
        return [*self.built]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_days_that_are_over_are_built_once(stage: Stage) -> None:
    assert stage.run() == [1, 2, 3]
    assert stage.run() == []
    stage.put(3 * 24 + 13, crc32c=5)  # a late tick
    assert stage.run() == [3]
    stage.now = DAY + 5 * DAY_NS + 9 * MINUTE
    assert stage.run() == [], "late ticks may still arrive"
    stage.now += 2 * MINUTE
    assert stage.run() == [4]


def test_days_without_sealed_hours_are_not_built(stage: Stage) -> None:
    stage.put(3 * 24 + 13, sealed=False, crc32c=None)
    assert stage.run() == [1, 2]


def test_days_that_are_deleted_soon_are_not_built(stage: Stage, tmp_path: Path) -> None:
    stage.builder = CompanionBuilder(tmp_path, [STREAM], stage.index, 2 * 86_400, unexpected)
    assert stage.run() == [3]


def test_a_failure_is_not_repeated(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.failure = StorageError("no space left")
    assert stage.run() == [1, 2, 3]
    assert stage.run() == []
    assert "no columnar companion: no space left" in caplog.text


def test_a_stop_leaves_the_rest(stage: Stage) -> None:
    stage.builder.stop()
    assert stage.run() == []
