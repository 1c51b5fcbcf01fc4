"""The column cache of a store: repeated loads, invalidation and isolation from frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import ibticks as ibt
from ibticks import errors
from ibticks.sample import sample

if TYPE_CHECKING:
    from tests.fix_files import Reads

IBM = 8314


@pytest.fixture
def ibm(store: ibt.Store) -> ibt.Store:
    actual = sample("ibm_trades")
    store.add_contract(IBM, "IBM")
    ibt.import_table(store, actual.path, contract_id=IBM, tick_type="all_last")
    return store


def test_a_repeated_load_uses_the_cache(ibm: ibt.Store, reads: Reads) -> None:
    first = ibm.select("IBM", "all_last").to_polars()
    assert reads.bytes > 1_000_000
    reads.clear()
    assert ibm.select("IBM", "all_last").to_polars().equals(first)
    afternoon = ibm.select(
        "IBM", "all_last", start="2013-10-08 15:00", end="2013-10-08 16:00", tz="America/New_York"
    )
    assert afternoon.to_polars().height > 1000
    assert ibm.select("IBM", "all_last", columns=["timestamp", "price"]).to_polars().width == 2
    assert reads == []
    ibm.clear_cache()
    assert ibm.select("IBM", "all_last").to_polars().equals(first)
    assert reads.bytes > 1_000_000


def test_no_cache(tmp_path: Path, database: str, reads: Reads) -> None:
    actual = sample("ibm_trades")
    with ibt.open(tmp_path / "ticks", dsn=database, cache=0) as store:
        ibt.import_table(store, actual.path, contract_id=IBM, tick_type="all_last")
        for _ in range(2):
            reads.clear()
            store.select(IBM, "all_last").to_polars()
            assert reads.bytes > 1_000_000


@pytest.mark.parametrize("size", ["0", None, 1.5, -1, True])
def test_another_size_is_refused(tmp_path: Path, size: Any) -> None:
    with pytest.raises(errors.InputError, match=r"cache=.*: give a whole number of bytes"):
        ibt.open(tmp_path / "new", cache=size)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("columns", [None, ["price"], ["timestamp", "price"]])
def test_changing_a_frame_does_not_change_the_cache(
    ibm: ibt.Store, columns: list[str] | None
) -> None:
    selection = ibm.select("IBM", "all_last", columns=columns)
    first = selection.to_polars()
    for _ in range(2):  # decoded the first time, cached the second time
        frame = selection.to_pandas()
        frame.loc[:, "price"] = 0.0
        frame["price"] += 1.0
        if columns is None or "timestamp" in columns:
            with pytest.raises(ValueError, match="read-only"):
                selection.to_xarray()["price"].values[:] = 7.0
        assert selection.to_polars().equals(first)


def test_new_ticks_are_loaded(ibm: ibt.Store) -> None:
    before = ibm.select("IBM", "all_last").to_polars()
    late = before.tail(1).with_columns(pl.col("price") + 1).drop("contract_id", "tick_type")
    ibm.write(late, contract_id=IBM, tick_type="all_last")
    after = ibm.select("IBM", "all_last").to_polars()
    assert after.height == before.height + 1
    assert after["price"][-1] == before["price"][-1] + 1


def test_a_lazy_query_is_not_cached(ibm: ibt.Store, reads: Reads) -> None:
    lazy = ibm.select("IBM", "all_last").lazy()
    for _ in range(2):
        reads.clear()
        lazy.select(pl.col("size").sum()).collect(engine="streaming")
        assert reads.bytes > 1_000_000


def test_the_old_name_of_clear_cache_warns(sample_store: ibt.Store) -> None:
    with pytest.warns(DeprecationWarning, match="clear_cache"):
        sample_store.forget()
