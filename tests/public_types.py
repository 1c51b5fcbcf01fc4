"""Types that users of ibticks see, asserted; checked by mypy and pyright in ``test_typing.py``.

A use that both checkers must refuse has a comment ``type: ignore``.
"""

# mypy: enable-error-code="index"

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

import pandas as pd
import polars as pl
import pyarrow as pa
import xarray as xr

import ibticks as ibt
from ibticks import analysis
from ibticks._types import Interval, StreamKey, TickType
from ibticks.calendar import resolve_period
from ibticks.capture import CaptureOptions, CaptureSettings
from ibticks.coverage import Coverage, CoverageInterval, FeedState
from ibticks.gateway import Gateway, Replay, TickStream
from ibticks.live import Buffer
from ibticks.selection import TimeRange

if TYPE_CHECKING:
    from ibticks.schema import TickColumns


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


def selecting(store: ibt.Store, replay: Replay, ticks: TickColumns) -> None:
    """Streams and intervals are values; a plain tuple finds a stream of a replay, too."""
    selection = store.select("AAPL")
    assert_type(selection.intervals, tuple[Interval, ...])
    assert_type(selection.coverage([(265598, "last")]), Coverage)
    assert_type(store.coverage().streams, tuple[StreamKey, ...])
    assert_type(store.coverage().intervals, tuple[Interval, ...])
    assert_type(store.coverage().gaps()[0].stream, StreamKey)
    assert_type(store.coverage().gaps()[0].interval, Interval)
    assert_type(store.live("AAPL").streams, tuple[StreamKey, ...])
    assert_type(store.buffer("AAPL").stats().counts, dict[StreamKey, int])
    assert_type(ibt.read_hours("ticks").missing, tuple[Interval, ...])
    assert_type(ticks.missing, tuple[Interval, ...])
    assert_type(ibt.market("JP").session("2025-01-10").breaks, tuple[Interval, ...])
    assert_type(resolve_period("1h", 10**18), Interval)
    assert_type(replay.streams[265598, "last"], TickStream)
    assert_type(list(replay.streams), list[StreamKey])
    assert_type(Replay.from_columns(replay.contracts, {(265598, "last"): ticks}), Replay)
    assert_type(Replay.from_columns(replay.contracts, {StreamKey(265598, "last"): ticks}), Replay)
    with Gateway(replay) as gateway:
        assert_type(gateway.sent, dict[StreamKey, int])
        assert_type(gateway.log[0].key, StreamKey)
        assert_type(gateway.wait_sent(1, (265598, "last")), bool)


def selecting_wrongly(store: ibt.Store, replay: Replay, ticks: TickColumns) -> None:
    _ = replay.streams["AAPL", "last"]  # type: ignore[index]
    _ = replay.streams[265598]  # type: ignore[index]
    store.select("AAPL").coverage(["AAPL"])  # type: ignore[list-item]
    Replay.from_columns(replay.contracts, {265598: ticks})  # type: ignore[arg-type]
    StreamKey("AAPL", "last")  # type: ignore[arg-type]
    Interval("2025-01-10", "2025-01-11")  # type: ignore[arg-type]


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
