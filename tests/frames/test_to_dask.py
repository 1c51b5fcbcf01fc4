from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ibticks.errors import MissingExtraError, UnknownColumnError
from ibticks.frames import to_dask, to_pandas, to_table
from ibticks.schema import COLUMNS, TickColumns, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ALL = list(COLUMNS)


class Hours:
    """A loader of an hour that records its requests."""

    def __init__(self, ticks: TickColumns) -> None:
        self.ticks = ticks
        self.asked: list[Any] = []

    def load(self, hour: Any, columns: Sequence[str]) -> Any:
        self.asked.append((hour, columns))
        times = Values(self.ticks.timestamp + hour * 3_600_000_000_000)
        part = TickColumns(self.ticks.rows, {**self.ticks.columns, "timestamp": times})
        return to_table([part], columns)


@pytest.fixture
def hours(ticks: Callable[..., TickColumns], quotes_and_trades: list[Any]) -> Hours:
    return Hours(ticks(quotes_and_trades))


def test_partitions_are_the_frames_of_pandas(hours: Hours) -> None:
    frame = to_dask([0, 1], hours.load, ALL)
    assert frame.npartitions == 2
    assert not hours.asked
    whole = to_pandas(hours.load(0, ALL))
    assert list(frame.columns) == ALL
    computed = frame.compute(scheduler="sync")
    assert computed.dtypes.map(str).to_dict() == whole.dtypes.map(str).to_dict()
    assert frame.dtypes.map(str).to_dict() == whole.dtypes.map(str).to_dict()
    assert computed["conditions"].tolist() == 2 * whole["conditions"].tolist()
    assert computed["exchange"].cat.categories.tolist() == ["P", "Q"]


def test_only_the_columns_used_are_loaded(hours: Hours) -> None:
    frame = to_dask([3, 4], hours.load, ALL)
    assert frame["ask_size"].sum().compute(scheduler="sync") == 200
    assert sorted(hours.asked) == [(3, ("ask_size",)), (4, ("ask_size",))]
    picked = frame[["price", "timestamp"]].compute(scheduler="sync")
    assert list(picked.columns) == ["price", "timestamp"]


def test_divisions_by_time(hours: Hours) -> None:
    frame = to_dask([0, 1], hours.load, ["timestamp", "ask_price"])
    assert not frame.known_divisions
    timed = frame.set_index("timestamp", sorted=True)
    assert timed.known_divisions
    assert timed.divisions[0].value == hours.ticks.timestamp[0]


def test_no_partition(hours: Hours) -> None:
    frame = to_dask([], hours.load, ALL)
    computed = frame.compute(scheduler="sync")
    assert (
        computed.dtypes.map(str).tolist() == to_pandas(to_table([], ALL)).dtypes.map(str).tolist()
    )
    assert len(computed) == 0
    with pytest.raises(UnknownColumnError):
        to_dask([], hours.load, ["vwap"])


def test_without_dask(hours: Hours, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.dataframe", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ibticks\[dask\]'"):
        to_dask([0], hours.load, ALL)


def test_other_processes_load_their_partitions(hours: Hours) -> None:
    frame = to_dask([np.int64(0)], hours.load, ["timestamp", "price"])
    assert frame.compute(scheduler="processes", num_workers=1)["price"].isna().sum() == 3
