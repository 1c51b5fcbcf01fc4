"""Selections on a Dask cluster of processes: the rows of pandas, by time, filtered, pickled."""

from __future__ import annotations

import os
import pickle
from copy import copy, deepcopy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pytest
from pandas.testing import assert_frame_equal

from ibticks.errors import InputError, UnknownColumnError
from ibticks.frames import metadata_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibticks import Selection, Store

START = datetime(2013, 10, 8, 15, 30, tzinfo=UTC)
END = datetime(2013, 10, 8, 17, 10, tzinfo=UTC)
TYPES: list[Any] = ["all_last", ["all_last", "bid_ask"]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes, which share no memory with this one."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with plain strings: each partition has the categories of its rows."""
    categories = frame.select_dtypes("category").columns
    return frame.astype(dict.fromkeys(categories, "object"))


def assert_same(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert len(expected)
    assert_frame_equal(plain(actual), plain(expected), check_freq=False)


@pytest.mark.parametrize("tick_types", TYPES, ids=str)
def test_a_cluster_computes_the_frame_of_pandas(
    cluster: Any, sample_store: Store, tick_types: Any
) -> None:
    selection = sample_store.select("ibm", tick_types)
    expected = selection.to_pandas().set_index("timestamp")
    frame = selection.to_dask(index="timestamp")
    assert frame.known_divisions
    assert_same(frame.compute(), expected)
    ids = cluster.run(os.getpid).values()
    assert len({*ids, os.getpid()}) == 3
    prices = frame["price"] if "price" in frame else frame["bid_price"]
    assert prices.sum().compute() == pytest.approx(expected[prices.name].sum())


@pytest.mark.parametrize("tick_types", TYPES, ids=str)
def test_divisions_bound_the_partitions(sample_store: Store, tick_types: Any) -> None:
    frame = sample_store.select(["ibm", "btcusdt"], tick_types).to_dask(index="timestamp")
    divisions = frame.divisions
    assert list(divisions) == sorted(set(divisions))
    for number, part in enumerate(frame.partitions):
        times = part.compute(scheduler="sync").index
        assert times.is_monotonic_increasing
        assert len(times)
        assert divisions[number] <= times[0]
        is_last = number == frame.npartitions - 1
        assert times[-1] <= divisions[-1] if is_last else times[-1] < divisions[number + 1]


def test_a_time_range_reads_its_partitions(sample_store: Store) -> None:
    selection = sample_store.select("ibm", "all_last")
    frame = selection.to_dask(index="timestamp")
    part = frame.loc[str(START) : str(END)]
    assert part.optimize().npartitions < frame.npartitions
    expected = selection.to_pandas().set_index("timestamp").loc[str(START) : str(END)]
    assert_same(part.compute(scheduler="sync"), expected)


def test_rolling_values_at_the_edges_of_partitions(sample_store: Store) -> None:
    selection = sample_store.select("ibm", "all_last").with_columns("timestamp", "price")
    frame = selection.to_dask(index="timestamp")
    window = pd.Timedelta("5min")
    rolled = frame.map_overlap(lambda part: part.rolling(window).max(), window, 0)
    expected = selection.to_pandas().set_index("timestamp").rolling(window).max()
    assert_same(rolled.compute(scheduler="sync"), expected)


@pytest.mark.parametrize("index", [None, "timestamp"])
@pytest.mark.parametrize("tick_types", TYPES, ids=str)
def test_a_filter_of_time_leaves_out_partitions(
    sample_store: Store, tick_types: Any, index: Any
) -> None:
    selection = sample_store.select("ibm", tick_types)
    where = (pl.col("timestamp") >= START) & (pl.col("timestamp") < END) & (pl.col("size") > 200)
    frame = selection.to_dask(where=where, index=index)
    assert frame.npartitions < selection.to_dask(index=index).npartitions
    whole = selection.to_pandas()
    times = (whole["timestamp"] >= START) & (whole["timestamp"] < END)
    expected = whole[times & (whole["size"] > 200)].reset_index(drop=True)
    actual = frame.compute(scheduler="sync")
    actual = actual.reset_index(drop=index is None)[list(expected.columns)]
    assert_same(actual, expected)


def test_a_filter_reads_its_columns_and_returns_those_asked_for(sample_store: Store) -> None:
    selection = sample_store.select("ibm", "all_last")
    frame = selection.to_dask(where=pl.col("exchange") == "Q")
    whole = selection.to_pandas()
    expected = whole.loc[whole["exchange"] == "Q", "size"].sum()
    assert 0 < expected < whole["size"].sum()
    assert frame["size"].sum().compute(scheduler="sync") == expected


@pytest.mark.parametrize(
    "where", [pl.lit(value=False), pl.col("contract_id") == 1, pl.col("tick_type") == "bid_ask"]
)
@pytest.mark.parametrize("index", [None, "timestamp"])
def test_a_filter_that_nothing_passes(sample_store: Store, where: pl.Expr, index: Any) -> None:
    selection = sample_store.select("ibm", "all_last")
    frame = selection.to_dask(where=where, index=index)
    assert (frame.npartitions, len(frame)) == (1, 0)
    meta = selection.to_dask(index=index)
    assert frame.dtypes.map(str).to_dict() == meta.dtypes.map(str).to_dict()


def test_a_filter_of_an_unknown_column_is_refused(sample_store: Store) -> None:
    with pytest.raises(UnknownColumnError, match="vwap"):
        sample_store.select("ibm", "all_last").to_dask(where=pl.col("vwap") > 1)


def test_an_unknown_index_is_refused(sample_store: Store) -> None:
    with pytest.raises(InputError, match="index='price'"):
        sample_store.select("ibm", "all_last").to_dask(index="price")  # type: ignore[arg-type]


# -- pickled selections ----------------------------------------------------------------------------


def load(selection: Selection) -> tuple[int, pl.DataFrame, dict[str, Any]]:
    return os.getpid(), selection.to_polars(), metadata_of(selection.to_arrow())


@pytest.mark.parametrize("period", [{}, {"start": START, "end": END}], ids=str)
def test_a_selection_is_loaded_by_another_process(
    cluster: Any, sample_store: Store, period: Any
) -> None:
    selection = sample_store.select("ibm", ["all_last", "bid_ask"], **period)
    process, frame, metadata = cluster.submit(load, selection).result()
    assert process != os.getpid()
    assert frame.equals(selection.to_polars())
    assert metadata == metadata_of(selection.to_arrow())


def test_a_pickled_selection_asks_no_database(sample_store: Store) -> None:
    selection = sample_store.select("ibm", "all_last", start=START, end=END)
    thawed = pickle.loads(pickle.dumps(selection))
    assert thawed == selection
    assert thawed.files() == selection.files()
    assert thawed.index.describe() == "in memory"
    assert thawed.count() == selection.count()
    assert thawed.coverage().metadata() == selection.coverage().metadata()
    assert thawed.to_dask(index="timestamp").divisions == (
        selection.to_dask(index="timestamp").divisions
    )


def test_a_copy_is_the_selection_itself(sample_store: Store) -> None:
    selection = sample_store.select("ibm", "all_last")
    assert copy(selection) is selection
    assert deepcopy({"ibm": selection})["ibm"] is selection
