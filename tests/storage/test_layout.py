"""Paths of hour files, and the files that a listing passes over."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.config import HALF_HOUR_NS, HOUR_NS, TICK_TYPES
from ibticks.errors import StorageError, TimeRangeError
from ibticks.storage import FileKey, file_suffix, floor_hour, list_files
from ibticks.storage._layout import half_hours, list_streams, list_unfinished

from .samples import CONTRACT, H13, KEY

if TYPE_CHECKING:
    from tests.forking import Children

# All hours of which an int64 of nanoseconds holds the whole: 1677 to 2262.
FIRST = -(2**63) // HOUR_NS + 1
LAST = (2**63 - 1) // HOUR_NS - 1
PARTS = ("", "30", "backfill")
HOURS = st.integers(FIRST, LAST).map(lambda hour: hour * HOUR_NS)
KEYS = st.builds(
    FileKey, st.integers(0, 2**32 - 1), st.sampled_from(TICK_TYPES), HOURS, st.sampled_from(PARTS)
)


@given(KEYS)
def test_a_key_is_its_path(key: FileKey) -> None:
    assert FileKey.parse(key.path) == key


@given(KEYS)
def test_a_path_has_its_part(key: FileKey) -> None:
    assert file_suffix(key.path) == key.suffix


@given(KEYS)
def test_a_path_has_its_utc_hour(key: FileKey) -> None:
    contract, tick_type, year, month, day, file = key.path.split("/")
    hour = datetime(int(year), int(month), int(day), int(file[:2]), tzinfo=UTC)
    assert (int(contract), tick_type) == (key.contract_id, key.tick_type)
    assert int(hour.timestamp()) * 10**9 == key.hour_ns
    endings = {"": "_ticks.pb", "30": "-30_ticks.pb", "backfill": "-backfill_ticks.pb"}
    assert file[2:] == endings[key.suffix]


@given(st.lists(KEYS))
def test_keys_are_ordered_by_contract_type_time_and_part(keys: list[Any]) -> None:
    def order(key: Any) -> tuple[Any, Any, Any, int]:
        return (key.contract_id, key.tick_type, key.hour_ns, PARTS.index(key.suffix))

    assert sorted(keys) == sorted(keys, key=order)


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_hour_begins_before_each_of_its_times(time_ns: int) -> None:
    hour = floor_hour(time_ns)
    assert hour % HOUR_NS == 0
    assert hour <= time_ns < hour + HOUR_NS


@pytest.mark.parametrize("hour", [FIRST - 1, LAST + 1, -(10**7), 10**7])
def test_an_hour_beyond_the_range_of_nanoseconds_has_no_file(hour: int) -> None:
    with pytest.raises(TimeRangeError, match="1677 to 2262"):
        _ = FileKey(CONTRACT, "last", hour * HOUR_NS).path


@given(st.lists(st.integers(-5, 5).map(lambda half: half * HALF_HOUR_NS + 7), max_size=12))
def test_half_hours_are_grouped(times: list[Any]) -> None:
    runs = list(half_hours(np.array(times, dtype=np.int64)))
    assert [row for start, stop in runs for row in range(start, stop)] == list(range(len(times)))
    for start, stop in runs:
        assert len(set(times[start:stop])) == 1
    for (_, stop), _ in pairwise(runs):
        assert times[stop - 1] != times[stop]


FOREIGN = [
    "8314/bid_ask/2013/10/08/13_ticks.pb.torn",
    "8314/bid_ask/2013/10/08/.13_ticks.pb.new",
    "8314/bid_ask/2013/10/08/notes.txt",
    "8314/bid_ask/2013/10/08/1_ticks.pb",
    "8314/bid_ask/2013/10/08/24_ticks.pb",
    "8314/bid_ask/2013/10/08/13-15_ticks.pb",
    "8314/bid_ask/2013/10/08/13-30-backfill_ticks.pb",
    "8314/bid_ask/2013/10/08/13backfill_ticks.pb",
    "8314/bid_ask/2013/10/08/.13-backfill_ticks.pb.new",
    "8314/bid_ask/2013/10/08/14_ticks.pb/13_ticks.pb",
    "8314/bid_ask/2013/10/08/14_ticks.pb/notes.txt",
    "8314/bid_ask/2013/10/8/13_ticks.pb",
    "8314/bid_ask/2013/13/08/13_ticks.pb",
    "8314/bid_ask/2013/02/30/13_ticks.pb",
    "8314/bid_ask/0000/10/08/13_ticks.pb",
    "8314/bid_ask/1600/10/08/13_ticks.pb",
    "8314/bid_ask/9999/10/08/13_ticks.pb",
    "8314/bid_ask/13_ticks.pb",
    "8314/bids/2013/10/08/13_ticks.pb",
    "8314/13_ticks.pb",
    "08314/bid_ask/2013/10/08/13_ticks.pb",
    "٨٣١٤/bid_ask/2013/10/08/13_ticks.pb",
    "8314/bid_ask/٢٠١٣/10/08/13_ticks.pb",
    "-8314/bid_ask/2013/10/08/13_ticks.pb",
    "AAPL/bid_ask/2013/10/08/13_ticks.pb",
    "metadata/schema.proto",
    "13_ticks.pb",
]


@pytest.mark.parametrize("path", FOREIGN)
def test_a_foreign_path_is_no_tick_file(path: str) -> None:
    assert FileKey.parse(path) is None


@given(st.text(alphabet="0123456789/_-.abcdfiklmnopst٣", max_size=45))
def test_parsed_paths_are_canonical(path: str) -> None:
    key = FileKey.parse(path)
    assert key is None or key.path == path


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_files_are_listed_in_order_without_foreign_ones(tmp_path: Path) -> None:
    keys = [
        FileKey(9, "last", H13),
        FileKey(CONTRACT, "bid_ask", H13 - HOUR_NS),
        FileKey(CONTRACT, "bid_ask", H13 + HOUR_NS, "30"),
        FileKey(CONTRACT, "bid_ask", H13 + HOUR_NS, "backfill"),
        FileKey(CONTRACT, "bid_ask", H13 + 24 * HOUR_NS),
        FileKey(CONTRACT, "last", H13),
    ]
    touch(tmp_path, *(key.path for key in reversed(keys)), *FOREIGN)
    assert list(list_files(tmp_path)) == keys
    assert list_streams(tmp_path) == [(9, "last"), (CONTRACT, "bid_ask"), (CONTRACT, "last")]
    assert list(list_files(tmp_path, CONTRACT)) == keys[1:]
    assert list(list_files(tmp_path, CONTRACT, "last")) == keys[5:]
    assert list(list_files(tmp_path, tick_type="last")) == [keys[0], keys[5]]
    assert list(list_files(tmp_path, 10)) == []


def test_unfinished_files_of_a_killed_process_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, KEY.path, *FOREIGN)
    day = tmp_path / "8314/bid_ask/2013/10/08"
    assert list(list_unfinished(tmp_path, CONTRACT, "bid_ask")) == [day / ".13_ticks.pb.new"]
    assert list(list_unfinished(tmp_path, CONTRACT, "last")) == []
    # A capture begins during a backfill: neither changes files that the other is writing.
    [backfill] = list_unfinished(tmp_path, CONTRACT, "bid_ask", backfill=True)
    assert backfill == day / ".13-backfill_ticks.pb.new"


def test_a_dangling_link_is_listed(tmp_path: Path) -> None:
    path = tmp_path / KEY.path
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "unmounted")
    assert list(list_files(tmp_path)) == [KEY]


def test_a_missing_root_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"No such file.*nowhere"):
        list(list_files(tmp_path / "nowhere"))


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111], ids=oct)
@pytest.mark.parametrize("depth", range(6))
def test_a_folder_that_cannot_be_read_is_named(
    open_folder: Path, children: Children, depth: int, mode: int
) -> None:
    root = open_folder / "ticks"
    touch(root, KEY.path)
    locked = root / Path(*Path(KEY.path).parts[:depth])
    report = open_folder / "report"
    report.touch()
    report.chmod(0o666)
    locked.chmod(mode)
    try:
        children.run("list_as_nobody", root=root, report=report)
    finally:
        locked.chmod(0o755)
    text = report.read_text()
    if mode == 0o444 and depth == 5:
        assert text == f"['{KEY.path}']\n"  # the names in the last folder are all that is needed
    else:
        assert "not permitted while listing" in text
        assert str(locked) in text
