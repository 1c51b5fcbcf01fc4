"""Companions are built where they lack hours, and removed with them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from ibticks.columns import (
    CompanionKey,
    build_companion,
    compare_companion,
    remove_companion,
    remove_companions_of,
    write_companion_in_process,
)
from ibticks.columns._reader import is_unchanged
from ibticks.errors import StorageError
from ibticks.storage import FileKey

from .conftest import CONTRACT, DAY, trades

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ibticks.index import CompanionRecord, MemoryIndex

KEY = CompanionKey(CONTRACT, "last", DAY)


@pytest.fixture
def build(
    root: Path, index: MemoryIndex, write: Callable[..., None]
) -> Callable[..., CompanionRecord | None]:
    """Build the companion of the day; it has one hour at first."""
    write(trades(13, 50))
    return lambda **how: build_companion(root, index, KEY, **how)


def test_a_companion_is_built_once(build: Callable[..., Any], index: MemoryIndex) -> None:
    companion = build()
    assert companion.rows == 50
    assert index.companions() == [companion]
    assert build() is None
    assert build(rebuild=True).rows == 50


def test_a_late_tick_builds_it_anew(
    build: Callable[..., Any], index: MemoryIndex, write: Callable[..., None]
) -> None:
    build()
    write(trades(13, 1, first=7))
    assert build().rows == 51
    write(trades(14, 9))
    assert build().rows == 60
    assert len(index.companions()) == 1


@pytest.mark.parametrize("harm", ["deleted", "damaged", "cut", "emptied"])
def test_a_harmed_companion_is_built_anew(
    build: Callable[..., Any],
    root: Path,
    index: MemoryIndex,
    damage: Callable[..., None],
    harm: str,
) -> None:
    path = root / build().path
    before = path.read_bytes()
    match harm:
        case "deleted":
            path.unlink()
        case "damaged":
            damage(path)
        case "cut":
            path.write_bytes(before[:-1])
        case "emptied":
            path.write_bytes(b"")
    assert not is_unchanged(root, index.companions()[0])
    assert build() is not None
    assert path.read_bytes() == before
    assert is_unchanged(root, index.companions()[0])


def test_an_hour_that_cannot_be_in_it_is_tried_once(
    build: Callable[..., Any],
    root: Path,
    index: MemoryIndex,
    write: Callable[..., None],
    damage: Callable[..., None],
) -> None:
    write(trades(14, 9))
    damage(root / index.files()[1].path, 0.9)
    companion = build()
    assert (companion.rows, [hour.rows for hour in companion.hours]) == (50, [50, None])
    assert build() is None


def test_a_companion_on_disk_is_entered(
    build: Callable[..., Any], root: Path, index: MemoryIndex
) -> None:
    companion = build()
    index.drop_companions([companion.path])
    inode = (root / companion.path).stat().st_ino
    assert build() == companion
    assert (root / companion.path).stat().st_ino == inode


def test_an_outdated_companion_on_disk_is_not_entered(
    build: Callable[..., Any], index: MemoryIndex, write: Callable[..., None]
) -> None:
    index.drop_companions([build().path])
    write(trades(13, 1, first=7))
    assert build().rows == 51


def test_a_day_without_hours_has_no_companion(
    build: Callable[..., Any], root: Path, index: MemoryIndex
) -> None:
    path = root / build().path
    index.drop_files([file.path for file in index.files()])
    assert build() is None
    assert not path.exists()
    assert index.companions() == []


def test_companions_are_removed(build: Callable[..., Any], root: Path, index: MemoryIndex) -> None:
    path = root / build().path
    other = FileKey(CONTRACT, "last", DAY - 1)
    backfill = FileKey(CONTRACT, "last", DAY, "backfill")
    remove_companions_of(root, index, [other, backfill])
    assert path.exists()
    remove_companions_of(root, index, [FileKey(CONTRACT, "last", DAY)])
    assert not path.exists()
    assert index.companions() == []
    remove_companion(root, index, KEY)


# -- in another process ----------------------------------------------------------------------------


def test_another_process_writes_the_same_file(
    build: Callable[..., Any], root: Path, index: MemoryIndex
) -> None:
    companion = build()
    before = (root / companion.path).read_bytes()
    index.drop_companions([companion.path])
    again = build(write=write_companion_in_process)
    assert (again.rows, again.crc32c, again.hours) == (50, companion.crc32c, companion.hours)
    assert (root / companion.path).read_bytes() == before


def test_an_error_of_the_other_process_is_raised(
    build: Callable[..., Any], root: Path, index: MemoryIndex
) -> None:
    (root / "columns").write_text("not a folder")
    with pytest.raises(StorageError, match=r"08\.parquet could not be written: .*a directory"):
        build(write=write_companion_in_process)
    assert index.companions() == []


def test_a_process_that_is_to_stop_ends(root: Path, index: MemoryIndex) -> None:
    with pytest.raises(StorageError, match="exit code"):
        write_companion_in_process(root, KEY, [], is_stopping=lambda: True)


# -- compared with the frames ----------------------------------------------------------------------


def test_a_companion_is_compared_with_the_frames(
    build: Callable[..., Any], root: Path, index: MemoryIndex, write: Callable[..., None]
) -> None:
    write(trades(14, 30))
    companion = build()
    assert compare_companion(root, companion, index.files()) is None
    # An hour that changed is not compared: loads read its frames.
    write(trades(14, 1, first=3))
    assert compare_companion(root, companion, index.files()) is None


@pytest.mark.parametrize("column", ["price", "sequence", "conditions", "timestamp"])
def test_another_value_is_found(
    build: Callable[..., Any], root: Path, index: MemoryIndex, column: str
) -> None:
    companion = build()
    path = root / companion.path
    other = pl.read_parquet(path)
    other = other.with_columns(pl.col(column).shift(1).fill_null(strategy="backward"))
    if column == "conditions":
        other = other.with_columns(conditions=pl.lit([], dtype=pl.List(pl.String)))
    other.write_parquet(path)
    forged = _record_of(path, companion)
    assert "its ticks are not those of" in (compare_companion(root, forged, index.files()) or "")


def _record_of(path: Path, companion: CompanionRecord) -> CompanionRecord:
    from ibticks.columns._reader import file_checksum

    descriptor = os.open(path, os.O_RDONLY)
    try:
        return replace(
            companion, size=os.fstat(descriptor).st_size, crc32c=file_checksum(descriptor)
        )
    finally:
        os.close(descriptor)


def test_damage_and_loss_are_found(
    build: Callable[..., Any], root: Path, index: MemoryIndex, damage: Callable[..., None]
) -> None:
    companion = build()
    damage(root / companion.path)
    assert "computed" in (compare_companion(root, companion, index.files()) or "")
    (root / companion.path).unlink()
    assert "No such file" in (compare_companion(root, companion, index.files()) or "")
