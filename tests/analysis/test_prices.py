"""Mid, microprice, spread, and the averages of prices: whole, rolling, since the opening."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ibticks.analysis import (
    anchored_twap,
    anchored_vwap,
    bollinger_bands,
    microprice,
    mid,
    rolling_twap,
    rolling_vwap,
    spread,
    time_bars,
    twap,
    vwap,
)
from ibticks.calendar import market
from ibticks.errors import InputError, UnknownColumnError, UnknownMarketError, UnknownPeriodError

from .frames import PATIENT, both, is_number, made, real, rows_of, ticks, together

NEAR = 1e-9


def near(value: Any) -> pytest.Approx[Any] | None:
    return None if value is None else pytest.approx(value, rel=NEAR, abs=1e-9)


def added(frame: pl.DataFrame, *names: str) -> list[tuple[Any, ...]]:
    """The new columns, row by row."""
    return frame.select(names).rows()


def divided(over: Any, under: Any) -> Any:
    return over / under if under else None


@PATIENT
@given(ticks())
def test_prices_of_quotes(frame: pl.DataFrame) -> None:
    actual = both(lambda f: spread(microprice(mid(f)), tick_size=0.01), frame)
    assert actual.columns[: frame.width] == frame.columns
    assert_frame_equal(actual.select(frame.columns), frame)
    for row, new in zip(rows_of(frame), actual[:, frame.width :].to_dicts(), strict=True):
        bid, ask = row["bid_price"], row["ask_price"]
        if bid is None or ask is None:
            assert set(new.values()) == {None}
            continue
        if not (is_number(bid) and is_number(ask)):
            assert not any(is_number(value) for value in new.values())
            continue
        assert new["mid"] == (bid + ask) / 2
        assert new["spread"] == ask - bid
        assert new["relative_spread"] == near((ask - bid) / ((bid + ask) / 2))
        assert new["spread_ticks"] == near((ask - bid) * 100)
        sizes = row["bid_size"], row["ask_size"]
        if all(is_number(size) for size in sizes) and sum(sizes):
            wanted = (sizes[1] * bid + sizes[0] * ask) / sum(sizes)
            assert new["microprice"] == near(wanted)
        elif sizes == (0, 0) or None in sizes:
            assert new["microprice"] is None
        else:
            assert not is_number(new["microprice"])


def test_a_mid_of_zero_has_no_relative_spread() -> None:
    frame = made([{"ns": 0, "bid_price": -1.0, "ask_price": 1.0}])
    assert spread(frame).select("spread", "relative_spread").rows() == [(2.0, None)]


@PATIENT
@given(ticks())
def test_averages_of_all_ticks(frame: pl.DataFrame) -> None:
    actual = both(vwap, frame)
    over_time = both(twap, frame)
    for contract in (1, 2):
        trades = [
            r for r in rows_of(frame) if r["contract_id"] == contract and is_number(r["price"])
        ]
        own = actual.filter(pl.col("contract_id") == contract)
        timed = over_time.filter(pl.col("contract_id") == contract)
        if not trades:
            assert own.height == timed.height == 0
            continue
        sized = [t for t in trades if is_number(t["size"])]
        volume = sum(t["size"] for t in sized)
        value = sum(t["price"] * t["size"] for t in sized)
        assert own.row(0)[1:] == (near(divided(value, volume)), volume, len(trades))
        area = sum(a["price"] * (b["ns"] - a["ns"]) for a, b in pairwise(trades))
        span = trades[-1]["ns"] - trades[0]["ns"]
        wanted = area / span if span else trades[-1]["price"]
        assert timed.row(0)[1:] == (near(wanted), near(span / 1e9))


def test_whole_averages_of_the_ibm_day() -> None:
    trades = real("ibm_trades")
    price, size = trades["price"].to_list(), trades["size"].to_list()
    wanted = math.fsum(p * s for p, s in zip(price, size, strict=True)) / math.fsum(size)
    assert vwap(trades)["vwap"].item() == pytest.approx(wanted, rel=1e-13)
    ns = trades["timestamp"].cast(pl.Int64).to_list()
    area = sum(round(p * 10_000) * (b - a) for p, (a, b) in zip(price, pairwise(ns), strict=False))
    assert twap(trades)["twap"].item() == pytest.approx(area / 10_000 / (ns[-1] - ns[0]), rel=1e-13)


def test_whole_averages_without_contracts_are_one_row() -> None:
    trades = real("ibm_trades")
    assert_frame_equal(vwap(trades.drop("contract_id")), vwap(trades).drop("contract_id"))
    assert_frame_equal(twap(trades.drop("contract_id")), twap(trades).drop("contract_id"))
    nothing = trades.drop("contract_id").clear()
    assert both(vwap, nothing).rows() == [(None, 0.0, 0)]
    assert both(twap, nothing).rows() == [(None, None)]


def in_window(rows: list[dict[Any, Any]], place: int, column: str, window: int | str) -> list[Any]:
    """Return the rows of the contract up to this one that are in the window."""
    now = rows[place]
    past = [
        r
        for r in rows[: place + 1]
        if r["contract_id"] == now["contract_id"] and is_number(r[column])
    ]
    if isinstance(window, int):
        return past[-window:]
    return [r for r in past if r["ns"] > now["ns"] - int(window.removesuffix("ns"))]


@PATIENT
@given(ticks(), st.sampled_from([1, 2, 5, "1ns", "1000000000ns", "20000000000ns"]))
def test_rolling_vwap(frame: pl.DataFrame, window: Any) -> None:
    actual = both(partial(rolling_vwap, window=window), frame)
    rows = rows_of(frame)
    for place, (row, (new,)) in enumerate(zip(rows, added(actual, "vwap"), strict=True)):
        if not is_number(row["price"]):
            assert new is None
            continue
        current = [r for r in in_window(rows, place, "price", window) if is_number(r["size"])]
        value = sum(r["price"] * r["size"] for r in current)
        assert new == near(divided(value, sum(r["size"] for r in current)))


@PATIENT
@given(ticks(), st.sampled_from([1, 3, "1ns", "20000000000ns"]), st.sampled_from([0.0, 2.0]))
def test_bollinger_bands(frame: pl.DataFrame, window: Any, deviations: Any) -> None:
    measure = partial(bollinger_bands, window=window, deviations=deviations, column="mid_price")
    names = ("bollinger_lower", "bollinger_middle", "bollinger_upper")
    rows = rows_of(frame)
    for place, new in enumerate(added(both(measure, frame), *names)):
        if not is_number(rows[place]["mid_price"]):
            assert new == (None, None, None)
            continue
        current = [r["mid_price"] for r in in_window(rows, place, "mid_price", window)]
        mean = sum(current) / len(current)
        away = deviations * math.sqrt(sum((v - mean) ** 2 for v in current) / len(current))
        wanted = (mean - away, mean, mean + away)
        assert new == tuple(pytest.approx(v, rel=1e-7) for v in wanted)


@PATIENT
@given(ticks(), st.sampled_from([1, 10**9, 20 * 10**9]))
def test_rolling_twap(frame: pl.DataFrame, window: Any) -> None:
    actual = both(partial(rolling_twap, window=f"{window}ns"), frame)
    rows = rows_of(frame)
    for place, (row, (new,)) in enumerate(zip(rows, added(actual, "twap"), strict=True)):
        if not is_number(row["price"]):
            assert new is None
            continue
        past = in_window(rows, place, "price", place + 1)
        begin = max(past[0]["ns"], row["ns"] - window)
        area = sum(a["price"] * max(0, b["ns"] - max(a["ns"], begin)) for a, b in pairwise(past))
        span = row["ns"] - begin
        assert new == near(area / span if span else row["price"])


@PATIENT
@given(ticks(), st.booleans())
def test_since_the_opening(frame: pl.DataFrame, by_session: bool) -> None:
    where: dict[str, Any] = {"market": "US"} if by_session else {}
    actual = both(partial(anchored_vwap, deviations=1.5, **where), frame)
    timed = both(partial(anchored_twap, column="mid_price", **where), frame)
    session = market("US").session("2025-01-10")
    rows = rows_of(frame)
    names = ("vwap", "vwap_lower", "vwap_upper")
    for place, row in enumerate(rows):
        inside = session.start_ns <= row["ns"] < session.end_ns or not by_session
        begun = session.start_ns if by_session else 0
        new, (average,) = added(actual, *names)[place], added(timed, "twap")[place]
        current = [r for r in in_window(rows, place, "price", place + 1) if r["ns"] >= begun]
        sized = [r for r in current if is_number(r["size"])]
        volume = sum(r["size"] for r in sized)
        if not (inside and is_number(row["price"]) and volume):
            assert new == (None, None, None)
        else:
            mean = sum(r["price"] * r["size"] for r in sized) / volume
            square = sum(r["size"] * (r["price"] - mean) ** 2 for r in sized) / volume
            away = 1.5 * math.sqrt(square)
            wanted = (mean, mean - away, mean + away)
            assert new == tuple(pytest.approx(v, rel=1e-7) for v in wanted)
        current = [r for r in in_window(rows, place, "mid_price", place + 1) if r["ns"] >= begun]
        if not (inside and is_number(row["mid_price"])):
            assert average is None
        else:
            area = sum(a["mid_price"] * (b["ns"] - a["ns"]) for a, b in pairwise(current))
            span = row["ns"] - current[0]["ns"]
            assert average == near(area / span if span else row["mid_price"])


@pytest.mark.parametrize("name", ["ibm_trades", "btcusdt_trades"])
def test_rolling_beside_polars(name: str) -> None:
    """Polars' windows include later rows of the same time: compare at the last row of each time."""
    trades = real(name)
    value = pl.col("price") * pl.col("size")
    rolled = trades.select(
        vwap=value.rolling_sum_by("timestamp", "1m")
        / pl.col("size").rolling_sum_by("timestamp", "1m"),
        mean=pl.col("price").rolling_mean_by("timestamp", "1m"),
    )
    last = (trades["timestamp"] != trades["timestamp"].shift(-1)).fill_null(True)
    actual = bollinger_bands(rolling_vwap(trades, "1m"), "1m").select(
        "vwap", mean="bollinger_middle"
    )
    assert_frame_equal(actual.filter(last), rolled.filter(last), rel_tol=1e-10)
    twenty = trades.select(pl.col("price").rolling_std(20, ddof=0) * 2)["price"]
    bands = bollinger_bands(trades)
    wide = bands["bollinger_upper"] - bands["bollinger_middle"]
    assert (wide[19:] - twenty[19:]).abs().max() < 1e-5  # of prices of 60,000


def test_a_session_ends_where_its_bar_does() -> None:
    trades = real("ibm_trades")
    day = time_bars(trades, "1d", anchor="session", market="US")
    last = anchored_vwap(trades, market="US").drop_nulls("vwap")["vwap"][-1]
    assert last == pytest.approx(day["vwap"].item(), rel=1e-12)


def test_large_prices_keep_their_bands() -> None:
    """A variance as a difference of squares would lose all its digits here."""
    prices = [1e9 + step % 2 for step in range(4000)]
    frame = made([{"ns": ns, "price": p, "size": 1.0} for ns, p in enumerate(prices)])
    bands = bollinger_bands(frame, 2, deviations=1).select("bollinger_lower", "bollinger_upper")
    assert bands.row(-1) == (1e9, 1e9 + 1)
    assert anchored_vwap(frame, deviations=1).row(-1)[-2:] == pytest.approx((1e9, 1e9 + 1))
    long = bollinger_bands(frame, 1500, deviations=1)["bollinger_upper"][-1]
    assert long == pytest.approx(1e9 + 1, rel=1e-15)


ROWS = {
    "rolling_vwap": partial(rolling_vwap, window="2s"),
    "rolling_vwap of rows": partial(rolling_vwap, window=30),
    "bollinger_bands": partial(bollinger_bands, window="1s"),
    "rolling_twap": partial(rolling_twap, window="2s"),
    "anchored_vwap": partial(anchored_vwap, market="24/7"),
    "anchored_twap": anchored_twap,
}


@pytest.mark.parametrize("name", ROWS)
def test_measures_of_a_live_buffer_do_not_change_later(name: str) -> None:
    frame = together(real("btcusdt_quotes")[:3000], real("btcusdt_trades")[:1000])
    day = ROWS[name](frame)
    for rows in (0, 1, 900, 2501):
        assert_frame_equal(ROWS[name](frame[:rows]), day[:rows])


@pytest.mark.parametrize("name", ROWS)
def test_contracts_together_and_apart(name: str) -> None:
    frames = [real("btcusdt_trades")[:1500], real("ibm_trades")[:1500]]
    alone = pl.concat([ROWS[name](frame) for frame in frames])
    assert_frame_equal(
        both(ROWS[name], together(*frames)), alone.sort("timestamp", maintain_order=True)
    )


@pytest.mark.parametrize("name", ROWS)
def test_empty_frames_give_empty_results(name: str) -> None:
    assert both(ROWS[name], made([])).height == 0


def test_integer_prices_are_accepted() -> None:
    frame = real("ibm_trades").with_columns(pl.col("price", "size").cast(pl.Int64))
    as_floats = frame.with_columns(pl.col("price", "size").cast(pl.Float64))
    for measure in ROWS.values():
        same = measure(frame).drop("price", "size"), measure(as_floats).drop("price", "size")
        assert_frame_equal(*same)


def test_invalid_arguments_are_refused() -> None:
    frame = real("ibm_trades")
    for window in (0, -1, True):
        with pytest.raises(InputError, match="holds none"):
            rolling_vwap(frame, window)
    with pytest.raises(InputError, match="holds nothing"):
        rolling_twap(frame, "0s")
    with pytest.raises(UnknownPeriodError, match="fortnight"):
        bollinger_bands(frame, "fortnight")
    with pytest.raises(InputError, match="below 0"):
        bollinger_bands(frame, deviations=-1)
    with pytest.raises(InputError, match="below 0"):
        anchored_vwap(frame, deviations=math.nan)
    with pytest.raises(InputError, match="above 0"):
        spread(real("ibm_quotes"), tick_size=0)
    with pytest.raises(UnknownColumnError, match="bid_ask"):
        microprice(frame)
    with pytest.raises(UnknownColumnError, match="mid_point"):
        twap(frame, column="mid_price")
    with pytest.raises(UnknownMarketError, match="lunch"):
        anchored_twap(frame, market="US", session_type="lunch")
