"""Several contracts on one clock."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ibticks.analysis import align, last_value, mid, refresh_time
from ibticks.calendar import market, to_ns
from ibticks.errors import (
    InputError,
    NaiveDatetimeError,
    UnknownColumnError,
    UnknownMarketError,
    UnknownPeriodError,
)

from .frames import PATIENT, START, as_frame, both, is_number, made, real, rows_of, ticks, together

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND = 1_000_000_000


def known(frame: pl.DataFrame, column: str = "price") -> list[Any]:
    return [row for row in rows_of(frame) if is_number(row[column])]


def last_at(rows: Any, contract: Any, ns: Any, tolerance_ns: Any = None) -> tuple[Any, Any]:
    """Value and time of the last row of a contract up to an instant."""
    past = [r for r in rows if r["contract_id"] == contract and r["ns"] <= ns]
    if not past or (tolerance_ns is not None and ns - past[-1]["ns"] > tolerance_ns):
        return None, None
    return past[-1]["price"], past[-1]["ns"]


def on_clock(frame: pl.DataFrame, instants: Sequence[int], tolerance_ns: Any = None) -> list[Any]:
    rows = known(frame)
    contracts = sorted({row["contract_id"] for row in rows})
    return [(ns, c, *last_at(rows, c, ns, tolerance_ns)) for ns in instants for c in contracts]


def times(*ns: Any) -> pl.Series:
    return pl.Series(list(ns), dtype=pl.Int64).cast(pl.Datetime("ns", "UTC"))


@PATIENT
@given(
    ticks(contracts=3),
    st.lists(st.integers(-5, 60).map(lambda s: START + s * SECOND), max_size=6),
    st.sampled_from([None, 0, SECOND]),
)
def test_last_value(frame: pl.DataFrame, instants: list[Any], tolerance_ns: Any) -> None:
    tolerance = None if tolerance_ns is None else f"{tolerance_ns}ns"
    actual = both(partial(last_value, at=times(*instants), tolerance=tolerance), frame)
    wanted = on_clock(frame, sorted(set(instants)), tolerance_ns)
    assert_frame_equal(actual, as_frame(wanted, actual))


@PATIENT
@given(ticks(contracts=3), st.sampled_from([SECOND // 2, 7 * SECOND, 1800 * SECOND]))
def test_align(frame: pl.DataFrame, step: Any) -> None:
    frame = frame.filter(pl.col("timestamp") < pl.col("timestamp").first() + pl.duration(hours=1))
    actual = both(partial(align, every=f"{step}ns"), frame)
    seen = [row["ns"] for row in known(frame)]
    grid = (
        range(-(-min(seen) // step) * step, -(-max(seen) // step) * step + 1, step) if seen else []
    )
    assert_frame_equal(actual, as_frame(on_clock(frame, grid), actual))


@PATIENT
@given(ticks())
def test_align_by_sessions(frame: pl.DataFrame) -> None:
    step = 2 * 3600 * SECOND
    actual = both(partial(align, every="2h", market="US"), frame)
    seen = [row["ns"] for row in known(frame)]
    grid = []
    for session in market("US").sessions("2025-01-08", "2025-01-20"):
        grid += [*range(session.start_ns, session.end_ns, step), session.end_ns]
    if seen:
        end = min(ns for ns in grid if ns >= max(seen))
        grid = [ns for ns in grid if min(seen) <= ns <= end]
    assert_frame_equal(actual, as_frame(on_clock(frame, grid if seen else []), actual))


def test_values_do_not_look_ahead() -> None:
    """Values on the grid stay as they are when more ticks come."""
    frame = together(real("ibm_trades")[:3000], real("btcusdt_trades")[:10])
    day = align(real("ibm_trades"), "1s")
    so_far = align(real("ibm_trades")[:3000], "1s")
    # The last instant of the grid is not over yet.
    assert_frame_equal(so_far[:-1], day[: len(so_far) - 1])
    assert frame["contract_id"].n_unique() == 2


def test_real_quotes_on_a_grid() -> None:
    quotes = mid(real("ibm_quotes"))
    actual = align(quotes, "1m", column="mid", market="US")
    assert len(actual) == 391 + 1  # after hours belong to the next opening
    assert actual["timestamp"][0] == quotes_open(quotes)
    noon = actual.filter(pl.col("timestamp") == datetime.fromisoformat("2013-10-08T16:00:00Z"))
    wanted = quotes.filter(pl.col("timestamp") <= noon["timestamp"].item())
    assert noon["mid"].item() == wanted["mid"].drop_nulls()[-1]


def quotes_open(quotes: pl.DataFrame) -> datetime:
    return market("US").session(quotes["timestamp"][0].date()).start


def refreshes(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    """The definition: the largest of the next times of all contracts, again and again."""
    rows = known(frame)
    contracts = sorted({row["contract_id"] for row in rows})
    own = {c: [row["ns"] for row in rows if row["contract_id"] == c] for c in contracts}
    actual, now = [], None
    while contracts:
        following: list[Any] = [
            next((ns for ns in own[c] if now is None or ns > now), None) for c in contracts
        ]
        if None in following:
            break
        now = max(following)
        actual += [(now, c, *last_at(rows, c, now)) for c in contracts]
    return actual


@PATIENT
@given(ticks(kinds=("trades", "mids"), contracts=3, most=60))
def test_refresh_time(frame: pl.DataFrame) -> None:
    actual = both(refresh_time, frame)
    assert_frame_equal(actual, as_frame(refreshes(frame), actual))


def test_refresh_times_of_a_worked_example() -> None:
    """As Barndorff-Nielsen et al. (2011) draw them: three assets, refresh times 1, 2, 3."""
    arrivals = {1: (1, 3, 6, 9, 11), 2: (2, 5, 8, 12), 3: (4, 7, 10)}
    rows = [
        {"ns": ns, "contract_id": c, "price": float(ns)} for c in arrivals for ns in arrivals[c]
    ]
    actual = refresh_time(made(sorted(rows, key=lambda row: row["ns"])))
    wide = actual.pivot("contract_id", index="timestamp", values="price")
    assert wide.drop("timestamp").rows() == [(3.0, 2.0, 4.0), (6.0, 5.0, 7.0), (9.0, 8.0, 10.0)]


def test_refresh_times_so_far_are_the_first_of_the_day() -> None:
    frame = together(
        real("btcusdt_trades")[:800],
        real("btcusdt_trades")[:900].with_columns(
            pl.col("timestamp").dt.offset_by("3ms"), contract_id=pl.lit(7, pl.UInt32)
        ),
    )
    day = refresh_time(frame)
    assert len(day) > 200
    so_far = refresh_time(frame[:900])
    assert_frame_equal(so_far[:-2], day[: len(so_far) - 2])


def test_one_contract_is_refreshed_with_every_instant() -> None:
    trades = real("ibm_trades")
    actual = refresh_time(trades)
    wanted = trades.group_by("timestamp", maintain_order=True).agg(pl.col("price").last())
    assert_frame_equal(actual.select("timestamp", "price"), wanted)
    assert_frame_equal(refresh_time(trades.drop("contract_id")), actual.drop("contract_id"))


@pytest.mark.parametrize("unit", ["us", "ns"])
def test_units_and_zones(unit: Any) -> None:
    frame = real("ibm_trades").with_columns(
        pl.col("timestamp").dt.cast_time_unit(unit).dt.convert_time_zone("Asia/Tokyo")
    )
    actual: Any
    for measure in (refresh_time, partial(align, every="1m")):
        actual, plain = both(measure, frame), measure(real("ibm_trades"))
        assert actual.schema["timestamp"].time_zone == "Asia/Tokyo"
        assert np.array_equal(actual["price"], plain["price"])
        zoned = actual["timestamp"].dt.convert_time_zone("UTC").dt.cast_time_unit("ns")
        assert zoned.equals(plain["timestamp"])


def test_empty_frames_give_empty_results() -> None:
    for frame in (made([]), made([]).drop("contract_id"), made([{"ns": 0, "bid_price": 1.0}])):
        for measure in (
            refresh_time,
            partial(align, every="1m"),
            partial(align, every="1m", market="US"),
        ):
            assert both(measure, frame).height == 0
    assert both(partial(last_value, at=times()), real("ibm_trades")).height == 0


def test_invalid_arguments_are_refused() -> None:
    frame = real("ibm_trades")
    with pytest.raises(NaiveDatetimeError, match="replace_time_zone"):
        last_value(frame, pl.Series([datetime(2025, 1, 10)]))
    with pytest.raises(InputError, match="not of Int64"):
        last_value(frame, pl.Series([to_ns("2025-01-10T00:00:00Z")]))
    with pytest.raises(UnknownPeriodError, match="1mo"):
        align(frame, "1mo")
    with pytest.raises(UnknownMarketError, match="lunch"):
        align(frame, "1m", market="US", session_type="lunch")
    with pytest.raises(UnknownColumnError, match="mid_point"):
        refresh_time(frame, column="mid_price")


INSTANT = datetime(2025, 1, 10, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "at",
    [
        INSTANT,
        [INSTANT],
        pl.Series([INSTANT]),
        pd.DatetimeIndex([INSTANT]).tz_convert("America/New_York"),
        pd.Series([INSTANT]),
    ],
)
def test_instants_in_any_form(at: Any) -> None:
    ticks = made([{"ns": 0, "price": 1.0}, {"ns": 10**12, "price": 2.0}])
    actual = last_value(ticks, at)
    assert actual.select("timestamp", "price").rows() == [(INSTANT, 1.0)]


@pytest.mark.parametrize("at", [3, "2025-01-10", ["2025-01-10"], [1.5]])
def test_invalid_instants_are_refused(at: Any) -> None:
    with pytest.raises(InputError, match="last_value: at must be"):
        last_value(made([{"ns": 0, "price": 1.0}]), at)


def test_refresh_times_of_concatenated_contracts() -> None:
    trades = real("ibm_trades").head(500)
    later = trades.with_columns(
        pl.col("timestamp") + pl.duration(milliseconds=7, time_unit="ns"),
        contract_id=pl.lit(1, pl.UInt32),
    )
    assert refresh_time(pl.concat([trades, later])).equals(refresh_time(together(trades, later)))
