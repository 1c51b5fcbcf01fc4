"""Types that users of ibticks see, asserted; checked by mypy and pyright in ``test_typing.py``.

A use that both checkers must refuse has a comment ``type: ignore``.
"""

from __future__ import annotations

from typing import assert_type

import pandas as pd
import polars as pl
import pyarrow as pa
import xarray as xr

import ibticks as ibt
from ibticks import analysis
from ibticks._types import TickType
from ibticks.capture import CaptureOptions, CaptureSettings
from ibticks.coverage import Coverage, CoverageInterval, FeedState
from ibticks.gateway import Gateway, Replay
from ibticks.live import Buffer
from ibticks.selection import TimeRange


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


def capturing(store: ibt.Store, options: CaptureOptions) -> None:
    """The keyword arguments of a capture are its settings."""
    capture = ibt.Capture(store, port=7497, fsync=None, keep="90d", compress_after=3600)
    assert_type(capture.settings, CaptureSettings)
    assert_type(capture.settings.keep, float | None)
    assert_type(capture.settings.tracked, tuple[ibt.TrackedContract, ...])
    ibt.Capture(store, [ibt.TrackedContract(265598, "AAPL", ["bid_ask"])], **options)
    assert_type(CaptureSettings.from_environment(tracked="265598:AAPL", **options), CaptureSettings)


def capturing_wrongly(store: ibt.Store) -> None:
    ibt.Capture(store, prot=7497)  # type: ignore[call-arg]
    ibt.Capture(store, port="7497")  # type: ignore[arg-type]
    ibt.Capture(store, backfill=None)  # type: ignore[arg-type]
    ibt.Capture(store, tracked=[265598])  # type: ignore[list-item]
    ibt.Capture(store, keep=True, fsync="always")  # type: ignore[arg-type]
    CaptureSettings.from_environment(heartbeat="10s")  # type: ignore[arg-type]
    TimeRange.of(None, trading_day="2025-01-10")  # type: ignore[call-arg]
    TimeRange.of(None, sessions="5")  # type: ignore[arg-type]


def measuring(trades: pl.DataFrame, scan: pl.LazyFrame) -> None:
    assert_type(analysis.vwap(trades), pl.DataFrame)
    assert_type(analysis.vwap(scan), pl.LazyFrame)
    assert_type(analysis.time_bars(trades, "1m"), pl.DataFrame)


def choosing(store: ibt.Store, tick_type: TickType, name: str, names: list[str]) -> None:
    """Names of tick types and sessions are literals, or text that is checked when it is used."""
    assert_type(ibt.TICK_TYPES, tuple[TickType, ...])
    for choice in (tick_type, name, names, [tick_type], ibt.TICK_TYPES, ("bid_ask", "last")):
        assert_type(store.select("AAPL", choice, session="pre_market"), ibt.Selection)
    assert_type(store.coverage("AAPL", names, session=name), Coverage)
    assert_type(store.coverage().gaps("1m", "CME", "globex"), list[CoverageInterval])
    assert_type(store.feed_states("AAPL", names), list[FeedState])
    store.live("AAPL", tick_type)
    store.buffer("AAPL", [name])
    store.write(store.select("AAPL").to_polars(), contract_id=265598, tick_type=name)
    store.delete("AAPL", tick_type)
    store.compress("zstd")
    store.compress(name)
    ibt.backfill(store, "AAPL", ["bid_ask", name], session="regular")
    ibt.import_table(store, "trades.csv", tick_type=name)
    assert_type(ibt.is_market_open("CME", session_type="globex"), bool)
    assert_type(Gateway(Replay.from_samples(), clock="shared"), Gateway)


def choosing_wrongly(store: ibt.Store, name: str) -> None:
    store.select("AAPL", 1)  # type: ignore[arg-type]
    store.select("AAPL", ["bid_ask", None])  # type: ignore[list-item]
    store.select("AAPL", session=1)  # type: ignore[arg-type]
    store.coverage("AAPL", {"last": True})  # type: ignore[arg-type]
    store.feed_states("AAPL", 1)  # type: ignore[arg-type]
    store.live("AAPL", 1)  # type: ignore[arg-type]
    store.buffer("AAPL", 1)  # type: ignore[arg-type]
    store.delete("AAPL", ["bid_ask", "last"])  # type: ignore[arg-type]
    store.compress(None)  # type: ignore[arg-type]
    ibt.backfill(store, "AAPL", 1)  # type: ignore[arg-type]
    ibt.import_table(store, "trades.csv", tick_type=None)  # type: ignore[arg-type]
    Gateway(Replay.from_samples(), clock="both")  # type: ignore[arg-type]
    Gateway(Replay.from_samples(), clock=name)  # type: ignore[arg-type]
    wrong: TickType = "bid"  # type: ignore[assignment]
    store.select("AAPL", wrong)
