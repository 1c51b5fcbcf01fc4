"""Bars of every measure begin in one way: by the clock, or with the sessions of a market."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ibticks import Session, analysis
from ibticks.calendar import market
from ibticks.errors import InputError

from .frames import both

if TYPE_CHECKING:
    from collections.abc import Callable

MEASURES = {
    "time_bars": lambda t, **how: analysis.time_bars(t, "1d", **how),
    "delta": lambda t, **how: analysis.delta(t, "1d", **how),
    "cumulative_delta": lambda t, **how: analysis.cumulative_delta(t, "1d", **how),
    "order_flow_imbalance": lambda t, **how: analysis.order_flow_imbalance(t, "1d", **how),
    "quoted_spread": lambda t, **how: analysis.quoted_spread(t, "1d", **how),
    "intensity": lambda t, **how: analysis.intensity(t, "1d", **how),
    "coverage": lambda t, **how: analysis.coverage(t, "1h", **how),
    "kyle_lambda": lambda t, **how: analysis.kyle_lambda(t, "1h", **how),
    "amihud": lambda t, **how: analysis.amihud(t, "1h", **how),
    "roll_spread": lambda t, **how: analysis.roll_spread(t, "1h", **how),
}
BARS = list(MEASURES)[:6]
FUTURES = {"anchor": "session", "market": "CME", "session_type": "globex"}


def walk(start: datetime, end: datetime, seconds: int) -> pl.DataFrame:
    """Trades of known side and quotes of two contracts, all the time, on days and nights."""
    at = pl.datetime_range(start, end, f"{seconds}s", time_unit="ns", eager=True, closed="left")
    random = np.random.default_rng(len(at))
    price = 100 + np.cumsum(random.integers(-1, 2, len(at))) / 4
    frame = pl.DataFrame(
        {
            "timestamp": at.dt.replace_time_zone("UTC"),
            "contract_id": np.where(np.arange(len(at)) % 3, 1, 2),
            "price": price,
            "size": random.integers(1, 9, len(at)).astype(float),
            "sign": random.choice([-1, 1], len(at)),
            "bid_price": price - random.integers(1, 4, len(at)) / 4,
            "bid_size": random.integers(1, 9, len(at)).astype(float),
            "ask_price": price + 0.25,
            "ask_size": random.integers(1, 9, len(at)).astype(float),
        }
    )
    return frame.with_columns(pl.col("contract_id").cast(pl.UInt32))


@pytest.fixture(scope="module")
def futures() -> pl.DataFrame:
    """Around the Sunday on which clocks went back, with sessions from evening to afternoon."""
    return walk(datetime(2025, 10, 30, 12), datetime(2025, 11, 4, 12), 60)


@pytest.fixture(scope="module")
def sessions() -> list[Session]:
    return market("CME").sessions(date(2025, 10, 30), date(2025, 11, 4), "globex")


def instant(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // 10**9, UTC)


@pytest.mark.parametrize("name", BARS)
def test_a_day_of_futures_is_a_session(
    name: str, futures: pl.DataFrame, sessions: list[Session]
) -> None:
    bars = both(lambda ticks: MEASURES[name](ticks, **FUTURES), futures)
    opened = [instant(session.start_ns) for session in sessions]
    assert bars["timestamp"].unique().sort().to_list() == opened
    assert [value.hour for value in opened[1:3]] == [22, 23]  # 17:00 in Chicago, in both times
    # What lies in no session is in no bar.
    inside = sum(
        futures["timestamp"]
        .is_between(instant(session.start_ns), instant(session.end_ns), "left")
        .sum()
        for session in sessions
    )
    counted = next(n for n in ("count", "trades", "quotes", "ticks") if n in bars.columns)
    assert bars[counted].sum() == inside < futures.height


@pytest.mark.parametrize("name", ["delta", "intensity"])
def test_bars_of_a_session_equal_those_of_the_session_alone(
    name: str, futures: pl.DataFrame, sessions: list[Session]
) -> None:
    bars = MEASURES[name](futures, **FUTURES)
    for session in sessions[1:3]:
        start, end = instant(session.start_ns), instant(session.end_ns)
        mine = futures.filter(pl.col("timestamp").is_between(start, end, "left"))
        actual = bars.filter(pl.col("timestamp") == start)
        if name == "delta":
            assert_frame_equal(actual.drop("timestamp"), analysis.delta(mine))
        else:
            count = mine.group_by("contract_id").len().sort("contract_id")["len"]
            assert actual["intensity"].to_list() == pytest.approx(
                (count / (end - start).total_seconds()).to_list()
            )


def test_bars_of_all_measures_begin_with_those_of_time(futures: pl.DataFrame) -> None:
    how: dict[str, Any] = {"anchor": "session", "market": "US"}
    start = analysis.time_bars(futures, "1h", **how).select("timestamp", "contract_id")
    for measure in (analysis.delta, analysis.order_flow_imbalance, analysis.quoted_spread):
        assert measure(futures, "1h", **how).select("timestamp", "contract_id").equals(start)


@pytest.mark.parametrize("how", [{}, {"anchor": "session", "market": "US"}])
def test_the_time_weighted_spread_of_a_bar_by_hand(
    futures: pl.DataFrame, how: dict[str, Any]
) -> None:
    ticks = futures.filter(pl.col("contract_id") == 1)
    bars = analysis.quoted_spread(ticks, "7h", **how)
    at, spread = ticks["timestamp"], ticks["ask_price"] - ticks["bid_price"]
    end_of = {
        instant(session.start_ns): instant(session.end_ns)
        for session in market("US").sessions(date(2025, 10, 30), date(2025, 11, 4))
    }
    for row in bars.slice(1, 2).iter_rows(named=True):
        start = row["timestamp"]
        end = end_of[start] if how else start + timedelta(hours=7)
        area = time = 0.0
        for current, until, value in zip(at, [*at[1:], None], spread, strict=True):
            if until is None:
                continue
            seconds = (min(until, end) - max(current, start)).total_seconds()
            if seconds > 0:
                area, time = area + value * seconds, time + seconds
        assert row["time_weighted_spread"] == pytest.approx(area / time, rel=1e-12)


def test_coverage_by_sessions_counts_no_nights(futures: pl.DataFrame) -> None:
    ticks = futures.filter(pl.col("timestamp").dt.minute() < 30)
    actual = analysis.coverage(ticks, "30m", anchor="session", market="US")
    # Of 13 half hours a day every other has ticks: from the second of Thursday to Monday's twelfth.
    assert actual["bars"].to_list() == [12 + 13 + 12] * 2
    assert actual["filled"].to_list() == [3 * 6] * 2
    assert analysis.coverage(ticks, "30m")["bars"][0] > 200


@pytest.mark.parametrize("name", BARS)
def test_weeks_begin_on_mondays(name: str) -> None:
    ticks = walk(datetime(2025, 1, 1), datetime(2025, 1, 20), 3600)
    start = getattr(analysis, name)(ticks, "1w")["timestamp"].unique().sort()
    assert start.dt.weekday().unique().to_list() == [1]
    assert start[0].date() == date(2024, 12, 30)


@pytest.mark.parametrize("how", [{}, {"anchor": "session", "market": "US"}])
@pytest.mark.parametrize("name", BARS)
def test_bars_are_in_the_zone_of_the_ticks(
    name: str, how: dict[str, str], futures: pl.DataFrame
) -> None:
    zone = "America/New_York"
    here = futures.with_columns(pl.col("timestamp").dt.convert_time_zone(zone))
    bars = both(lambda ticks: MEASURES[name](ticks, **how), here)
    assert bars.schema["timestamp"] == pl.Datetime("ns", zone)
    there = MEASURES[name](futures, **how)
    assert bars["timestamp"].dt.convert_time_zone("UTC").equals(there["timestamp"])


@pytest.mark.parametrize("name", MEASURES)
def test_invalid_arguments_are_refused(name: str, futures: pl.DataFrame) -> None:
    measure = MEASURES[name]
    if name == "quoted_spread":
        # A market divides its quotes by session, with any anchor of its bars.
        inside = analysis.session(futures)
        assert measure(futures, market="US").equals(measure(inside, market="US"))
    else:
        with pytest.raises(InputError, match="anchor='session'"):
            measure(futures, market="US")
    with pytest.raises(InputError, match="needs a market"):
        measure(futures, anchor="session")
    with pytest.raises(InputError, match="'clock' or 'session'"):
        measure(futures, anchor="day")


@pytest.mark.parametrize(
    "measure", [analysis.delta, analysis.cumulative_delta, analysis.order_flow_imbalance]
)
def test_sessions_without_bars_are_refused(
    measure: Callable[..., Any], futures: pl.DataFrame
) -> None:
    with pytest.raises(InputError, match="needs the length of bars, as in every='1d'"):
        measure(futures, anchor="session", market="US")
