"""Bars of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ibticks.analysis import time_bars
from ibticks.calendar import market, to_ns
from ibticks.errors import InputError, UnknownColumnError, UnknownMarketError, UnknownPeriodError

from .frames import PATIENT, as_frame, both, is_number, made, real, rows_of, ticks, together

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE = 60_000_000_000


def ohlc(values: list[Any], prefix: str = "") -> dict[Any, Any]:
    known = [value for value in values if is_number(value)]
    names = ("open", "high", "low", "close")
    if not known:
        return {prefix + name: None for name in names}
    four = (known[0], max(known), min(known), known[-1])
    return {prefix + name: value for name, value in zip(names, four, strict=True)}


def mid_of(row: Any) -> float | None:
    bid, ask = row["bid_price"], row["ask_price"]
    return (bid + ask) / 2 if is_number(bid) and is_number(ask) else None


def bar_of(rows: Any, of: str) -> dict[Any, Any]:
    """Return the bar of some rows, by plain Python."""
    bar = {}
    if of == "trades":
        sized = [(r["price"], r["size"]) for r in rows if is_number(r["size"])]
        volume = sum(size for _, size in sized)
        value = sum(price * size for price, size in sized)
        bar = ohlc([r["price"] for r in rows])
        bar |= {"volume": float(volume), "vwap": value / volume if volume else None}
    elif of == "quotes":
        for prefix, values in (
            ("bid_", [r["bid_price"] for r in rows]),
            ("ask_", [r["ask_price"] for r in rows]),
            ("mid_", [mid_of(r) for r in rows]),
        ):
            bar |= ohlc(values, prefix)
        wide = [r["ask_price"] - r["bid_price"] for r in rows if mid_of(r) is not None]
        bar["spread"] = sum(wide) / len(wide) if wide else None
    else:
        bar = ohlc([r["mid_price"] for r in rows])
    return bar | {
        "count": len(rows),
        "first_time": rows[0]["ns"] if rows else None,
        "last_time": rows[-1]["ns"] if rows else None,
    }


def counts(row: dict[Any, Any], of: str) -> bool:
    """Return whether a row is of that kind."""
    names = {"trades": ["price"], "quotes": ["bid_price", "ask_price"], "mids": ["mid_price"]}[of]
    return any(is_number(row.get(name)) for name in names)


def slowly(
    frame: pl.DataFrame,
    of: str,
    start_of: Callable[..., Any] | Callable[..., None],
    next_start: Callable[..., Any] | None = None,
) -> list[Any]:
    """Bars by the definition; ``start_of`` gives the start of a bar, or None, of an instant."""
    bars: dict[Any, Any] = {}
    for row in rows_of(frame):
        start = start_of(row["ns"])
        if counts(row, of) and start is not None:
            bars.setdefault((start, row["contract_id"]), []).append(row)
    if next_start is not None:
        for contract in {contract for _, contract in bars}:
            starts = [start for start, c in bars if c == contract]
            start = min(starts)
            while start <= max(starts):
                bars.setdefault((start, contract), [])
                start = next_start(start)
    return [
        {"timestamp": start, "contract_id": contract, **bar_of(rows, of)}
        for (start, contract), rows in sorted(bars.items(), key=lambda item: item[0])
    ]


@PATIENT
@given(ticks(), st.sampled_from(["trades", "quotes", "mids"]), st.booleans())
def test_by_the_clock(frame: pl.DataFrame, of: Any, empty: bool) -> None:
    actual = both(partial(time_bars, every="30m", of=of, empty=empty), frame)
    step = 30 * MINUTE
    wanted = slowly(
        frame, of, lambda ns: ns // step * step, (lambda s: s + step) if empty else None
    )
    assert_frame_equal(actual, as_frame(wanted, actual), rel_tol=1e-12)


@PATIENT
@given(ticks(), st.sampled_from(["trades", "quotes"]))
def test_by_sessions(frame: pl.DataFrame, of: Any) -> None:
    session = market("US").session("2025-01-10")

    def start_of(ns: Any) -> None:
        if not session.is_open(ns):
            return None
        return session.start_ns + (ns - session.start_ns) // (45 * MINUTE) * 45 * MINUTE

    measure = partial(time_bars, every="45m", of=of, anchor="session", market="US")
    actual = both(measure, frame)
    # Forty ticks an hour apart reach into the weekend, not to Monday's opening.
    assert_frame_equal(actual, as_frame(slowly(frame, of, start_of), actual), rel_tol=1e-12)


def test_real_trades() -> None:
    frame = real("ibm_trades")[:3000]
    actual = time_bars(frame, "1m")
    wanted = slowly(frame, "trades", lambda ns: ns // MINUTE * MINUTE)
    assert_frame_equal(actual, as_frame(wanted, actual), rel_tol=1e-12)
    assert actual["count"].sum() == 3000


def test_real_contracts_together() -> None:
    """Bars of a mixed frame are those of each contract by itself, in order of time."""
    apart = [time_bars(real(name), "5m") for name in ("ibm_trades", "btcusdt_trades")]
    mixed = together(*(real(n) for n in ("ibm_trades", "btcusdt_trades", "ibm_quotes")))
    assert_frame_equal(time_bars(mixed, "5m"), pl.concat(apart).sort("timestamp", "contract_id"))


def test_shapes() -> None:
    bars = time_bars(real("btcusdt_quotes"), "10s", of="quotes")
    assert bars.schema["timestamp"] == pl.Datetime("ns", "UTC")
    assert bars.schema["contract_id"] == pl.UInt32
    assert bars.schema["count"] == pl.UInt32
    assert (bars["bid_high"] >= bars["bid_low"]).all()
    assert (bars["mid_close"] == (bars["bid_close"] + bars["ask_close"]) / 2).all()


def test_weeks_begin_on_mondays_and_days_at_midnight() -> None:
    friday = made([{"ns": 0, "price": 1.0, "size": 1.0}])
    assert time_bars(friday, "1w")["timestamp"].item() == datetime(2025, 1, 6, tzinfo=UTC)
    assert time_bars(friday, "1d")["timestamp"].item() == datetime(2025, 1, 10, tzinfo=UTC)
    assert time_bars(friday, timedelta(days=7)).equals(time_bars(friday, "1w"))


def trade_at(*times: str) -> pl.DataFrame:
    return made([{"ns": 0, "price": 1.0, "size": 1.0}] * len(times)).with_columns(
        timestamp=pl.Series([to_ns(t) for t in times]).cast(pl.Datetime("ns", "UTC"))
    )


def starts(bars: pl.DataFrame) -> list[Any]:
    return [f"{start:%m-%d %H:%M}" for start in bars["timestamp"]]


def test_an_early_close_ends_the_last_bar() -> None:
    # 2024-11-29: New York closes at 13:00, 18:00 UTC.
    frame = trade_at("2024-11-29T17:59:59Z", "2024-11-29T18:00:00Z", "2024-11-29T18:30:00Z")
    bars = time_bars(frame, "1h", anchor="session", market="US")
    assert starts(bars) == ["11-29 17:30"]
    assert bars["count"].to_list() == [1]


def test_sessions_move_with_daylight_saving() -> None:
    # New York went to summer time on 2025-03-09.
    frame = trade_at("2025-03-07T14:30:00Z", "2025-03-10T13:30:00Z", "2025-03-10T14:30:00Z")
    bars = time_bars(frame, "2h", anchor="session", market="US")
    assert starts(bars) == ["03-07 14:30", "03-10 13:30"]
    assert bars["count"].to_list() == [1, 2]


def test_a_lunch_break_is_in_no_bar() -> None:
    # Tokyo, 2025-01-10: 9:00 to 11:30 and 12:30 to 15:30, UTC+9.
    frame = trade_at("2025-01-10T02:15:00Z", "2025-01-10T02:45:00Z", "2025-01-10T03:45:00Z")
    bars = partial(time_bars, frame, anchor="session", market="JP")
    assert starts(bars("1d")) == ["01-10 00:00"]
    assert bars("1d")["count"].to_list() == [2]
    assert starts(bars("30m", empty=True)) == ["01-10 02:00", "01-10 03:30"]


def test_empty_bars_by_sessions_leave_the_night_out() -> None:
    frame = trade_at("2025-01-10T19:30:00Z", "2025-01-13T14:45:00Z")
    bars = time_bars(frame, "30m", anchor="session", market="US", empty=True)
    assert starts(bars) == ["01-10 19:30", "01-10 20:00", "01-10 20:30", "01-13 14:30"]
    assert bars["count"].to_list() == [1, 0, 0, 1]
    assert bars["volume"].to_list() == [1.0, 0.0, 0.0, 1.0]
    assert bars["open"].to_list() == [1.0, None, None, 1.0]
    assert bars.lazy().collect_schema() == time_bars(frame, "30m").schema


def test_each_contract_has_its_empty_bars() -> None:
    frame = made(
        [
            {"ns": i * MINUTE, "contract_id": c, "price": 1.0, "size": 1.0}
            for i, c in ((0, 1), (1, 2), (3, 1), (4, 2))
        ]
    )
    bars = time_bars(frame, "1m", empty=True)
    assert bars.group_by("contract_id").len().sort("contract_id")["len"].to_list() == [4, 4]


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("where", [{}, {"anchor": "session", "market": "US"}])
def test_empty_frames_give_empty_results(where: dict[str, Any], empty: bool) -> None:
    frame = made([])
    actual = both(partial(time_bars, every="1m", empty=empty, **where), frame)
    assert actual.height == 0
    assert actual.schema == time_bars(real("ibm_trades"), "1h").schema
    none = frame.drop("contract_id")
    assert both(partial(time_bars, every="1m", empty=empty, **where), none).height == 0


def test_without_contracts() -> None:
    frame = real("ibm_trades")
    plain = time_bars(frame.drop("contract_id"), "1h", empty=True)
    assert_frame_equal(plain, time_bars(frame, "1h", empty=True).drop("contract_id"))


def test_unordered_times_lie_in_their_sessions() -> None:
    frame = real("ibm_trades")
    shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
    bars = partial(time_bars, every="1h", anchor="session", market="US")
    same = ("timestamp", "high", "low", "volume", "count")
    assert_frame_equal(bars(shuffled).select(same), bars(frame).select(same))


def test_invalid_arguments_are_refused() -> None:
    frame = real("ibm_trades")
    with pytest.raises(UnknownPeriodError, match="1mo"):
        time_bars(frame, "1mo")
    with pytest.raises(InputError, match="needs a market"):
        time_bars(frame, "1m", anchor="session")
    with pytest.raises(UnknownMarketError, match="pre_market"):
        time_bars(frame, "1m", anchor="session", market="US", session_type="lunch")
    with pytest.raises(InputError, match="'clock' or 'session'"):
        time_bars(frame, "1m", anchor="day")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="trades, quotes, mids"):
        time_bars(frame, "1m", of="ticks")  # type: ignore[arg-type]
    with pytest.raises(UnknownColumnError, match="mid_point"):
        time_bars(frame, "1m", of="mids")
