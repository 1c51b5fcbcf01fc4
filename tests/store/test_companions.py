"""Columnar companions of a store: built, listed, verified, and gone with their hours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import ibticks as ibt
from ibticks import errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAYS = ["2025-01-10", "2025-01-11"]
PATHS = [f"columns/1/last/2025/01/{day}.parquet" for day in (10, 11)]


def ticks(*times: str, price: float = 1.0) -> pl.DataFrame:
    return pl.DataFrame({"timestamp": times, "price": [price + n for n in range(len(times))]})


@pytest.fixture
def days(store: ibt.Store) -> ibt.Store:
    """A store with two hours of each of two days."""
    times = [f"{day}T{hour}:30:00Z" for day in DAYS for hour in (13, 14)]
    store.write(ticks(*times), contract_id=1, tick_type="last")
    return store


def fresh(store: ibt.Store) -> dict[str, bool]:
    rows = store.sql("SELECT path, fresh FROM companions")
    return dict(zip(rows["path"], rows["fresh"], strict=True))


def test_companions_are_built_and_listed(days: ibt.Store) -> None:
    assert [one.path for one in days.build_companions()] == PATHS
    assert days.build_companions() == []
    assert fresh(days) == dict.fromkeys(PATHS, True)
    stored = pl.read_parquet(days.root / "columns/1/last/2025/01/*.parquet")
    assert stored["price"].to_list() == [1.0, 2.0, 3.0, 4.0]


def test_some_days_and_streams(days: ibt.Store) -> None:
    days.write(ticks("2025-01-10T13:00:00Z"), contract_id=2, tick_type="all_last")
    assert [one.path for one in days.build_companions(1, start="2025-01-11T00:00Z")] == PATHS[1:]
    (other,) = days.build_companions([1, 2], "all_last")
    assert other.path == "columns/2/all_last/2025/01/10.parquet"
    assert [one.path for one in days.build_companions(1, end="2025-01-11T00:00Z")] == PATHS[:1]
    with pytest.raises(errors.UnknownContractError):
        days.build_companions(3)
    with pytest.raises(errors.TimeRangeError):
        days.build_companions(start="2025-01-11T00:00Z", end="2025-01-10T00:00Z")


def test_a_late_tick_outdates_its_day(days: ibt.Store) -> None:
    days.build_companions()
    days.write(ticks("2025-01-10T13:31:00Z"), contract_id=1, tick_type="last")
    assert list(fresh(days).values()) == [False, True]
    assert [one.rows for one in days.build_companions()] == [3]
    assert list(fresh(days).values()) == [True, True]


def test_companions_are_deleted(days: ibt.Store) -> None:
    days.build_companions()
    assert days.delete_companions(start="2025-01-11T00:00Z") == PATHS[1:]
    assert days.delete_companions(1, "last") == PATHS[:1]
    assert fresh(days) == {}
    assert days.select(1).count() == 4


def test_a_lost_index_finds_them_again(days: ibt.Store) -> None:
    built = days.build_companions()
    days.index.drop_companions(PATHS)
    assert days.build_companions() == built


# -- upkeep ----------------------------------------------------------------------------------------


def test_compression_builds_them_and_keeps_them_fresh(days: ibt.Store) -> None:
    first = days.build_companions(end="2025-01-11T00:00Z")
    assert len(days.compress("zstd")) == 4
    assert fresh(days) == dict.fromkeys(PATHS, True)
    (path,) = (one.path for one in first)
    assert (days.root / path).stat().st_ino == first[0].inode, "it was not written again"
    assert days.build_companions() == []


def test_compression_leaves_running_days_alone(days: ibt.Store) -> None:
    days.compress("zstd", older_than="1h", now="2025-01-11T20:00Z")
    assert list(fresh(days)) == PATHS[:1]


def test_columns_off(tmp_path: Path, database: str) -> None:
    with ibt.open(tmp_path, dsn=database, columns="off") as store:
        store.write(ticks("2025-01-10T13:30:00Z"), contract_id=1, tick_type="last")
        store.compress("zstd")
        assert fresh(store) == {}
    with pytest.raises(errors.InputError, match="columns='on'"):
        ibt.open(tmp_path, dsn=database, columns="on")  # type: ignore[call-overload]


def test_columns_off_by_the_environment(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IBTICKS_COLUMNS", "off")
    with ibt.open(tmp_path, dsn=database) as store:
        assert store.columns == "off"


def test_pruning_deletes_them(days: ibt.Store) -> None:
    days.build_companions()
    days.prune("90d", now="2025-04-10T15:00Z")
    assert fresh(days) == {PATHS[1]: True}
    assert not (days.root / PATHS[0]).exists()


def test_deleted_ticks_leave_them_with_the_purge(days: ibt.Store) -> None:
    days.build_companions()
    days.delete(1, "last", start="2025-01-10T13:00Z", end="2025-01-10T14:00Z")
    assert fresh(days) == {PATHS[0]: False, PATHS[1]: True}
    days.purge(1, "last")
    assert fresh(days) == {PATHS[1]: True}
    assert [one.rows for one in days.build_companions()] == [1]


def test_companions_of_lost_days_are_removed(days: ibt.Store) -> None:
    days.build_companions()
    gone = [file.path for file in days.index.files() if "/2025/01/10/" in file.path]
    for path in gone:
        (days.root / path).unlink()
    days.index.drop_files(gone)
    assert days.build_companions(2 - 1, "last") == [], "of other streams nothing is removed"
    assert days.build_companions() == []
    assert list(fresh(days)) == PATHS[1:]
    assert not (days.root / PATHS[0]).exists()


# -- verification ----------------------------------------------------------------------------------


def test_verifying_compares_them(days: ibt.Store, damage: Callable[..., Any]) -> None:
    days.build_companions()
    assert [finding.path for finding in days.verify()][-2:] == PATHS
    assert days.verify().problems == []
    damage(days.root / PATHS[0])
    (problem,) = days.verify().problems
    assert (problem.path, problem.problem) == (PATHS[0], "companion")
    assert "ibticks columns build --rebuild" in problem.detail
    days.build_companions(rebuild=True)
    assert days.verify().problems == []
