"""Lazy frames of companions have the rows of the hour files, whatever happens to companions."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ibticks._types import Interval
from ibticks.columns import CompanionKey, build_companion, floor_day
from ibticks.config import DAY_NS, HOUR_NS, TIME_MAX, TIME_MIN
from ibticks.index import MemoryIndex
from ibticks.schema import (
    COLUMNS,
    StringColumn,
    StringListColumn,
    TickColumns,
    Values,
    list_columns,
)
from ibticks.selection import Selection
from ibticks.storage import FileKey, StreamWriter, compress_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DAY = 1_381_190_400_000_000_000  # 2013-10-08, nanoseconds
CONTRACT = 8314
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
EVERYTHING = Interval(TIME_MIN, TIME_MAX)


def trades(hour: int, count: int, first: int) -> TickColumns:
    """Trades of an hour, numbered; two at each time."""
    number = np.arange(first, first + count)
    return TickColumns(
        count,
        {
            "timestamp": Values(DAY + hour * HOUR_NS + (number % 97) // 2 * 10**10),
            "price": Values(236.5 + number % 7 / 100, number % 11 > 0),
            "exchange": StringColumn((number % 3 - 1).astype(np.int32), ("NYSE", "ARCA")),
            "conditions": StringListColumn(
                np.arange(count + 1, dtype=np.int64), (number % 2).astype(np.int32), ("T", "I")
            ),
            "sequence": Values(number.astype(np.uint64)),
        },
    )


class Stage:
    """A stream of some hours, and what may happen to its companions."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index = MemoryIndex()
        self.number = 0

    def write(self, *hours: int, backfill: bool = False) -> None:
        """Write ticks and seal them; of an hour that is there, they are late ticks."""
        options: dict[str, Any] = {"backfill": True} if backfill else {}
        with StreamWriter(self.root, CONTRACT, "last", self.index, fsync=None, **options) as writer:
            for hour in hours:
                writer.write(trades(hour, 20, self.number))
                self.number += 20

    def build(self) -> None:
        days = {floor_day(file.hour_ns) for file in self.index.files()}
        for day_ns in sorted(days):
            build_companion(self.root, self.index, CompanionKey(CONTRACT, "last", day_ns))

    def paths(self) -> list[Path]:
        return sorted(self.root.glob("columns/**/*.parquet"))

    def selection(self, interval: Interval = EVERYTHING, **changes: Any) -> Selection:
        made = Selection(
            self.root,
            self.index,
            (CONTRACT,),
            ("last",),
            (interval,),
            list_columns(["last"]),
            uses_companions=True,
        )
        return replace(made, **changes)

    def check(self, selection: Selection | None = None) -> pl.DataFrame:
        """Hold the lazy frame against the hour files; return it."""
        chosen = selection or self.selection()
        frame = chosen.lazy().collect()
        assert_frame_equal(frame, chosen.to_polars())
        return frame

    def uses_companions(self) -> bool:
        return ".parquet" in self.selection().lazy().explain()


@pytest.fixture
def stage() -> Iterator[Stage]:
    with TemporaryDirectory(dir=FAST) as folder:
        made = Stage(Path(folder) / "ticks")
        made.write(13, 14, 37, 38, 63)
        made.build()
        yield made


# -- examples --------------------------------------------------------------------------------------


def test_a_lazy_frame_is_a_scan_of_companions(stage: Stage) -> None:
    plan = stage.selection().lazy().explain()
    assert "Parquet SCAN" in plan
    assert "PYTHON SCAN" not in plan
    assert stage.check().height == 100


def test_slices_and_aggregates_are_pushed_down(stage: Stage) -> None:
    ticks, frame = stage.selection().lazy(), stage.selection().to_polars()
    assert "SLICE: Negative" in ticks.tail(3).explain()
    assert_frame_equal(ticks.tail(3).collect(), frame.tail(3))
    assert_frame_equal(ticks.head(3).collect(), frame.head(3))
    assert ticks.select(pl.len()).collect().item() == 100
    assert "PROJECT 1/" in ticks.select(pl.col("price").max()).explain()
    wanted = pl.col("sequence") > 50
    assert "SELECTION" in ticks.filter(wanted).explain()
    assert_frame_equal(ticks.filter(wanted).collect(), frame.filter(wanted))


def test_a_whole_day_needs_no_filter(stage: Stage) -> None:
    day = stage.selection(Interval(DAY + DAY_NS, DAY + 2 * DAY_NS))
    assert "SELECTION" not in day.lazy().explain()
    assert stage.check(day).height == 40
    hour = stage.selection(Interval(DAY + 37 * HOUR_NS, DAY + 38 * HOUR_NS))
    assert "SELECTION" in hour.lazy().explain()
    assert stage.check(hour).height == 20


def test_all_columns(stage: Stage) -> None:
    """Columns of other tick types are null, those on request are read."""
    stage.check(stage.selection(columns=tuple(COLUMNS)))
    stage.check(stage.selection(columns=("metadata",)))


def test_open_hours_come_from_their_files(stage: Stage) -> None:
    with StreamWriter(stage.root, CONTRACT, "last", stage.index, fsync=None) as writer:
        writer.write(trades(64, 20, 1000))
        assert stage.check().height == 120
        plan = stage.selection().lazy().explain()
        assert plan.count("Parquet SCAN") == 2 + 1
        assert plan.count("PYTHON SCAN") == 1


def test_a_late_tick_costs_its_hour(stage: Stage) -> None:
    stage.write(37)
    assert stage.check().height == 120
    plan = stage.selection().lazy().explain()
    assert plan.count("PYTHON SCAN") == 1
    stage.build()
    assert "PYTHON SCAN" not in stage.selection().lazy().explain()
    assert stage.check().height == 120


def test_a_deleted_hour_is_not_read(stage: Stage) -> None:
    (gone,) = (file for file in stage.index.files() if file.path.endswith("08/13_ticks.pb"))
    (stage.root / gone.path).unlink()
    stage.index.drop_files([gone.path])
    assert stage.check().height == 80


def test_compressed_hours(stage: Stage) -> None:
    """A companion that was not relinked is not used for the hour."""
    for file in stage.index.files()[:2]:
        key = FileKey.parse(file.path)
        assert key is not None
        stage.index.put_files([compress_file(stage.root, key, "zstd")])
    stage.check()
    stage.build()
    assert "PYTHON SCAN" not in stage.selection().lazy().explain()
    stage.check()


def test_a_companion_deleted_before_the_query_raises(stage: Stage) -> None:
    ticks = stage.selection().lazy()
    stage.paths()[0].unlink()
    with pytest.raises(FileNotFoundError):
        ticks.collect()
    stage.check()


def test_sessions_of_several_days(stage: Stage) -> None:
    hours = [Interval(DAY + hour * HOUR_NS, DAY + (hour + 1) * HOUR_NS) for hour in (13, 37, 63)]
    assert stage.check(stage.selection(intervals=tuple(hours))).height == 60
    # Whole days before, between and after those whose hours have no companion.
    stage.write(110, 111)
    days = [Interval(DAY + day * DAY_NS, DAY + (day + 1) * DAY_NS) for day in (0, 1, 4)]
    assert stage.check(stage.selection(intervals=tuple(days))).height == 120
    stage.write(37)
    days = [Interval(DAY + day * DAY_NS, DAY + (day + 1) * DAY_NS) for day in (0, 4, 5)]
    assert stage.check(stage.selection(intervals=tuple(days))).height == 80
    stage.index.drop_companions([stage.paths()[1].relative_to(stage.root).as_posix()])
    stage.build()
    assert stage.check().height == 160


def test_a_pickled_selection(stage: Stage) -> None:
    stage.write(37)
    hour = stage.selection(Interval(DAY + 37 * HOUR_NS, DAY + 39 * HOUR_NS))
    restored = pickle.loads(pickle.dumps(hour))
    assert "Parquet SCAN" in restored.lazy().explain()
    assert_frame_equal(restored.lazy().collect(), stage.check(hour))


def test_companions_are_not_used(stage: Stage) -> None:
    for changes in (
        {"uses_companions": False},
        {"backfill": "only"},
        {"tick_types": ("all_last", "last")},
    ):
        assert "Parquet SCAN" not in stage.selection(**changes).lazy().explain()


def test_a_backfilled_hour_comes_from_its_files(stage: Stage) -> None:
    stage.write(37, backfill=True)
    assert stage.check().height == 100
    assert "PYTHON SCAN" not in stage.selection().lazy().explain()
    assert stage.check(stage.selection(backfill="include")).height == 120
    assert stage.check(stage.selection(backfill="only")).height == 20


# -- whatever happens ------------------------------------------------------------------------------

HARMS: dict[str, Callable[[Stage, Path, float], object]] = {
    "delete": lambda stage, path, place: path.unlink(),
    "flip a byte": lambda stage, path, place: _flip(path, place),
    "flip a byte and restore the times": lambda stage, path, place: _flip(path, place, times=True),
    "cut": lambda stage, path, place: path.write_bytes(
        path.read_bytes()[: int(path.stat().st_size * place)]
    ),
    "half-write a new one": lambda stage, path, place: path.with_name(
        f".{path.name}.new"
    ).write_bytes(path.read_bytes()[:100]),
    "replace by that of another day": lambda stage, path, place: path.write_bytes(
        stage.paths()[0].read_bytes()
    ),
    "copy": lambda stage, path, place: _copy(path),
    "outdate by late ticks": lambda stage, path, place: stage.write(13 + 24 * int(place * 3)),
    "add an hour": lambda stage, path, place: stage.write(1 + int(place * 70)),
    "lose the row": lambda stage, path, place: stage.index.drop_companions(
        [path.relative_to(stage.root).as_posix()]
    ),
    "build": lambda stage, path, place: stage.build(),
}


def _flip(path: Path, place: float, *, times: bool = False) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(int(status.st_size * place))
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))
    if times:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


_times = st.integers(DAY - HOUR_NS, DAY + 73 * HOUR_NS)
_intervals = st.just(EVERYTHING) | st.tuples(_times, _times).map(
    lambda pair: Interval(min(pair), max(pair) + 1)
)


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(HARMS)), st.integers(0, 2), st.floats(0, 0.999)),
        max_size=4,
    ),
    st.lists(_intervals, min_size=1, max_size=3),
    st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=4, unique=True),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[*HealthCheck])
def test_rows_are_those_of_the_hour_files(
    harms: list[tuple[str, int, float]], intervals: list[Interval], columns: list[str]
) -> None:
    with TemporaryDirectory(dir=FAST) as folder:
        stage = Stage(Path(folder) / "ticks")
        stage.write(13, 14, 37, 38, 63)
        stage.build()
        for harm, number, place in harms:
            paths = stage.paths()
            if paths:
                HARMS[harm](stage, paths[number % len(paths)], place)
        for interval in intervals:
            stage.check(stage.selection(interval))
            names = tuple(name for name in COLUMNS if name in columns)
            stage.check(stage.selection(interval, columns=names))
