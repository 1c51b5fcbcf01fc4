"""Windows on a frame already loaded."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.analysis import session, since_open, trailing_window
from ibticks.calendar import market, to_ns
from ibticks.errors import (
    InputError,
    NoSessionError,
    UnknownColumnError,
    UnknownMarketError,
    UnknownPeriodError,
)

from .frames import PATIENT, both, made, real, rows_of, ticks

if TYPE_CHECKING:
    from ibticks import Store

HOUR = 3_600_000_000_000


@PATIENT
@given(ticks(), st.sampled_from(["regular", "pre_market", "extended"]))
def test_session(frame: pl.DataFrame, session_type: Any) -> None:
    actual = both(partial(session, session_type=session_type, market="US"), frame)
    sessions = market("US").sessions("2025-01-08", "2025-01-14", session_type)
    inside = [any(s.start_ns <= r["ns"] < s.end_ns for s in sessions) for r in rows_of(frame)]
    assert actual.equals(frame.filter(pl.Series(inside, dtype=pl.Boolean)))


@PATIENT
@given(ticks(), st.sampled_from(["1ns", "1s", "90m", timedelta(hours=5)]))
def test_trailing_window(frame: pl.DataFrame, duration: Any) -> None:
    actual = both(partial(trailing_window, duration=duration), frame)
    length = {"1ns": 1, "1s": HOUR // 3600, "90m": HOUR * 3 // 2}.get(duration, 5 * HOUR)
    ns = [row["ns"] for row in rows_of(frame)]
    remaining = [value >= max(ns) - length for value in ns]
    assert actual.equals(frame.filter(pl.Series(remaining, dtype=pl.Boolean)))


@PATIENT
@given(ticks())
def test_since_open(frame: pl.DataFrame) -> None:
    actual = both(partial(since_open, market="US"), frame)
    ns = [row["ns"] for row in rows_of(frame)]
    opened = market("US").latest_session(max(ns)).start_ns if ns else 0
    assert actual.equals(
        frame.filter(pl.Series([value >= opened for value in ns], dtype=pl.Boolean))
    )


def at(*instants: str) -> pl.DataFrame:
    frame = made([{"ns": 0, "price": 1.0}] * len(instants))
    return frame.with_columns(
        timestamp=pl.Series([to_ns(i) for i in instants]).cast(pl.Datetime("ns", "UTC"))
    )


def test_breaks_and_borders() -> None:
    # Tokyo, 2025-01-10: 9:00 to 11:30 and 12:30 to 15:30, UTC+9.
    morning, noon, end = "2025-01-10T00:00:00Z", "2025-01-10T02:30:00Z", "2025-01-10T06:30:00Z"
    frame = at(morning, noon, "2025-01-10T03:30:00Z", end)
    assert session(frame, market="JP").equals(frame[[0, 2]])
    assert session(frame, "morning", market=market("JP")).equals(frame[[0]])


def test_since_the_opening_after_the_close() -> None:
    frame = at("2025-01-10T14:29:59Z", "2025-01-10T14:30:00Z", "2025-01-11T12:00:00Z")
    assert since_open(frame, market="US").equals(frame[1:])


def test_a_frame_of_anything_with_times() -> None:
    bars = real("ibm_trades").select("timestamp", "price")
    assert session(bars, market="US").height == 33_323


def test_default_market_is_that_of_a_selection(sample_store: Store) -> None:
    selected = sample_store.select("IBM", "all_last", session="pre_market", date="2013-10-08")
    frame = real("ibm_trades")
    assert session(frame, "pre_market").height == selected.count()
    assert since_open(frame).equals(since_open(frame, market="US"))


def test_invalid_arguments_are_refused() -> None:
    frame = real("ibm_trades")
    with pytest.raises(UnknownMarketError, match="'lunch': it has pre_market"):
        session(frame, "lunch", market="US")
    with pytest.raises(UnknownMarketError, match="NOWHERE"):
        since_open(frame, market="NOWHERE")
    with pytest.raises(InputError, match="needs a market"):
        session(frame, market=None)  # type: ignore[arg-type]
    with pytest.raises(UnknownPeriodError, match="1mo"):
        trailing_window(frame, "1mo")
    with pytest.raises(UnknownColumnError, match="needs timestamp"):
        trailing_window(frame.drop("timestamp"), "1h")
    with pytest.raises(NoSessionError, match="no regular session"):
        since_open(at("1800-01-01T00:00:00Z"), market="US")


def test_a_tick_without_a_time_is_in_no_session() -> None:
    trades = real("ibm_trades")[5_000:5_003]
    timeless = trades.with_columns(pl.lit(None, trades.schema["timestamp"]).alias("timestamp"))
    assert session(pl.concat([trades, timeless]), market="US").equals(trades)
    assert session(timeless, market="US").is_empty()
