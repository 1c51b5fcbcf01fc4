"""Freshness: an hour counts only while its files are as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ibticks.columns import CompanionKey, captured_files, relink_companion
from ibticks.columns._freshness import fresh_hours, is_complete
from ibticks.config import HOUR_NS
from ibticks.index import FileRecord, MemoryIndex
from ibticks.storage import FileKey
from ibticks.testing import make_companion_record, make_file_record

DAY = make_file_record(0).hour_ns
KEY = CompanionKey(265598, "last", DAY)


def hour_file(hour: int, suffix: str = "", **changes: Any) -> FileRecord:
    key = FileKey(265598, "last", DAY + hour * HOUR_NS, suffix)  # type: ignore[arg-type]
    return make_file_record(hour, path=key.path, **changes)


FILES = [hour_file(1), hour_file(2), hour_file(2, "30"), hour_file(3)]
COMPANION = make_companion_record(0, FILES)


def hours(files: list[FileRecord]) -> list[int]:
    return sorted((hour - DAY) // HOUR_NS for hour in fresh_hours(COMPANION, files))


def test_a_companion_of_the_files_is_fresh() -> None:
    assert hours(FILES) == [1, 2, 3]
    assert is_complete(COMPANION, FILES)


@pytest.mark.parametrize(
    "change", [{"crc32c": 1}, {"size": 1}, {"sealed": False}, {"crc32c": None}]
)
@pytest.mark.parametrize("place", range(4))
def test_a_changed_file_costs_its_hour(place: int, change: dict[str, object]) -> None:
    files = [*FILES]
    files[place] = replace(files[place], **change)  # type: ignore[arg-type]
    assert hours(files) == [hour for hour in (1, 2, 3) if hour != (1, 2, 2, 3)[place]]
    assert not is_complete(COMPANION, files)


@pytest.mark.parametrize("place", range(4))
def test_a_deleted_file_costs_its_hour(place: int) -> None:
    files = [file for number, file in enumerate(FILES) if number != place]
    assert hours(files) == [hour for hour in (1, 2, 3) if hour != (1, 2, 2, 3)[place]]


def test_a_second_file_costs_its_hour() -> None:
    assert hours([*FILES, hour_file(3, "30")]) == [1, 2]


def test_open_hours_and_backfills_are_not_missed() -> None:
    more = [*FILES, hour_file(4, sealed=False), hour_file(1, "backfill")]
    assert hours(more) == [1, 2, 3]
    assert is_complete(COMPANION, more)
    assert not is_complete(COMPANION, [*more, hour_file(5)])


def test_an_hour_that_cannot_be_in_it_is_not_fresh() -> None:
    rest = COMPANION.hours[1:]
    companion = replace(COMPANION, hours=(replace(COMPANION.hours[0], rows=None), *rest))
    assert len(fresh_hours(companion, FILES)) == 2
    assert is_complete(companion, FILES), "building it again would not help"


def test_the_files_of_a_day() -> None:
    index = MemoryIndex([*FILES, hour_file(1, "backfill"), hour_file(24), hour_file(-1)])
    assert {file.path for file in captured_files(index, KEY)} == {file.path for file in FILES}


def test_compression_keeps_an_hour_fresh() -> None:
    index = MemoryIndex(FILES, companions=[COMPANION])
    after = replace(FILES[0], size=9, crc32c=8, compression="zstd")
    relink_companion(index, FILES[0], after)
    index.put_files([after])
    (companion,) = index.companions()
    assert is_complete(companion, captured_files(index, KEY))
    # A companion of another state of the file is not touched.
    relink_companion(index, FILES[0], replace(after, crc32c=7))
    assert index.companions() == [companion]
