"""Types that users of ibticks see, asserted; checked by mypy and pyright in ``test_typing.py``."""

from __future__ import annotations

from typing import assert_type

import pandas as pd
import polars as pl
import pyarrow as pa
import xarray as xr

import ibticks as ibt
from ibticks import analysis
from ibticks.coverage import Coverage
from ibticks.live import Buffer


def loading() -> None:
    store = ibt.open("ticks")
    assert_type(store, ibt.Store)
    selection = store.select("AAPL", "bid_ask", "last_hour")
    assert_type(selection, ibt.Selection)
    assert_type(selection.to_polars(), pl.DataFrame)
    assert_type(selection.to_pandas(), pd.DataFrame)
    assert_type(selection.to_arrow(), pa.Table)
    assert_type(selection.to_xarray(), xr.Dataset)
    assert_type(selection.lazy(), pl.LazyFrame)
    assert_type(selection.coverage(), Coverage)
    assert_type(store.sql("SELECT 1 AS one"), pl.DataFrame)


def living() -> None:
    store = ibt.open("ticks")
    with store.live("AAPL", ["bid_ask", "last"], "1h") as live:
        assert_type(live, ibt.Live)
    assert_type(store.buffer("AAPL"), Buffer)
    capture = ibt.Capture(store, "265598:AAPL:last")
    assert_type(capture.start(), ibt.Capture)


def measuring(trades: pl.DataFrame, scan: pl.LazyFrame) -> None:
    assert_type(analysis.vwap(trades), pl.DataFrame)
    assert_type(analysis.vwap(scan), pl.LazyFrame)
    assert_type(analysis.time_bars(trades, "1m"), pl.DataFrame)
