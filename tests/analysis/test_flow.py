"""Signed volume, order flow and profiles against plain loops."""

from __future__ import annotations

import math
from statistics import NormalDist, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks import analysis
from ibticks.analysis._prices import value_area
from ibticks.errors import InputError

from .equality import same
from .frames import both, is_number, made, real, rows_of, ticks, together
from .test_signing import plain_signs

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE = 60_000_000_000


def signed_trades(frame: pl.DataFrame, method: str) -> list[tuple[int, int, float, float, int]]:
    """Contract, time, price, size, sign."""
    trades = [row for row in rows_of(frame) if is_number(row["price"])]
    signs = plain_signs(method, frame)
    return [
        (
            row["contract_id"],
            row["ns"],
            row["price"],
            row["size"] if is_number(row["size"]) else 0.0,
            sign,
        )
        for row, sign in zip(trades, signs, strict=True)
    ]


def summed(
    rows: list[tuple[int, int, float, float, int]],
    key: Callable[..., tuple[Any]] | Callable[..., tuple[Any, Any]],
) -> list[tuple[Any, ...]]:
    """Bought, sold, unsigned, delta and count of each key, in order."""
    sums: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        *_, size, sign = row
        sums_of_key = sums.setdefault(key(row), [0.0, 0.0, 0.0, 0.0, 0])
        sums_of_key[{1: 0, -1: 1, 0: 2}[sign]] += size
        sums_of_key[3] += sign * size
        sums_of_key[4] += 1
    return [(*k, *sums[k]) for k in sorted(sums)]


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades", "quotes")), st.sampled_from(["tick", "lee_ready"]))
def test_delta(frame: pl.DataFrame, method: Any) -> None:
    trades = signed_trades(frame, method)
    signed = both(lambda f: analysis.signed_volume(f, method=method), frame)
    same(signed["signed_volume"].to_list(), [size * sign for *_, size, sign in trades])

    whole = both(lambda f: analysis.delta(f, method=method), frame)
    same(whole, summed(trades, lambda r: (r[0],)))

    bars = both(lambda f: analysis.delta(f, "5m", method=method), frame)
    bars = bars.with_columns(pl.col("timestamp").cast(pl.Int64))
    by_bar = summed(trades, lambda r: (r[1] // (5 * MINUTE) * 5 * MINUTE, r[0]))
    same(bars, by_bar)

    levels = both(lambda f: analysis.delta(f, by_price=True, method=method), frame)
    same(levels, summed(trades, lambda r: (r[0], r[2])))

    running = []
    total: dict[Any, Any] = {}
    for contract, _, _, size, sign in trades:
        total[contract] = total.get(contract, 0.0) + size * sign
        running.append(total[contract])
    cumulative = both(lambda f: analysis.cumulative_delta(f, method=method), frame)
    same(cumulative["cumulative_delta"].to_list(), running)

    of_bars = both(lambda f: analysis.cumulative_delta(f, "5m", method=method), frame)
    total.clear()
    for (_, contract, *_, delta, _), of_bar in zip(
        by_bar, of_bars["cumulative_delta"], strict=True
    ):
        total[contract] = total.get(contract, 0.0) + delta
        same(of_bar, total[contract])


def test_a_footprint_of_a_day() -> None:
    ibm = analysis.trade_sign(real("ibm_trades"), "tick")
    footprint = both(lambda f: analysis.delta(f, "1h", by_price=True, step=0.25), ibm)
    whole = analysis.delta(ibm)
    names = ["buy_volume", "sell_volume", "unsigned_volume", "delta", "trades"]
    same(footprint.select(names).sum().row(0), whole.select(names).row(0))
    assert (footprint["price"] * 4 % 1 == 0).all()
    assert footprint["timestamp"].dt.minute().unique().to_list() == [0]


def test_an_existing_sign_column_is_used() -> None:
    frame = real("ibm_trades")[:50].with_columns(sign=pl.lit(-1, pl.Int8))
    assert analysis.delta(frame)["buy_volume"].item() == 0
    assert analysis.delta(frame, method="tick")["buy_volume"].item() > 0
    assert analysis.delta(frame.with_columns(sign=None))["unsigned_volume"].item() > 0


@settings(max_examples=50, deadline=None)
@given(ticks(kinds=("trades", "quotes")))
def test_order_flow_imbalance(frame: pl.DataFrame) -> None:
    expected = []
    bars: dict[Any, Any] = {}
    last: dict[Any, Any] = {}
    for row in rows_of(frame):
        book = [row[n] for n in ("bid_price", "bid_size", "ask_price", "ask_size")]
        if not (is_number(book[0]) or is_number(book[2])):
            continue
        contract, event = row["contract_id"], None
        before = last.get(contract)
        if before is not None and all(map(is_number, [*book, *before])):
            (b, qb, a, qa), (b0, qb0, a0, qa0) = book, before
            event = qb * (b >= b0) - qb0 * (b <= b0) - qa * (a <= a0) + qa0 * (a >= a0)
        last[contract] = book
        expected.append(event)
        sums_of_key = bars.setdefault((row["ns"] // MINUTE * MINUTE, contract), [0.0, 0])
        sums_of_key[0] += event or 0.0
        sums_of_key[1] += 1
    actual = both(analysis.order_flow_imbalance, frame)
    same(actual["order_flow_imbalance"].to_list(), expected)
    assert actual.columns == [*frame.columns, "order_flow_imbalance"]
    barred = both(lambda f: analysis.order_flow_imbalance(f, "1m"), frame)
    barred = barred.with_columns(pl.col("timestamp").cast(pl.Int64))
    same(barred, [(*key, *bars[key]) for key in sorted(bars)])


def test_order_flow_moves_the_price() -> None:
    quotes = real("ibm_quotes")
    session = quotes.filter(pl.col("timestamp").dt.hour().is_between(14, 19))
    bars = analysis.order_flow_imbalance(session, "1m")
    mids = analysis.time_bars(session, "1m", of="quotes")
    move = mids["mid_close"] - mids["mid_open"]
    assert np.corrcoef(bars["order_flow_imbalance"], move)[0, 1] > 0.5


@settings(max_examples=30, deadline=None)
@given(ticks(kinds=("quotes",)))
def test_quote_imbalance(frame: pl.DataFrame) -> None:
    actual = both(analysis.quote_imbalance, frame)
    for row in rows_of(actual):
        bid, ask = row["bid_size"], row["ask_size"]
        wanted = None
        sides = is_number(row["bid_price"]) and is_number(row["ask_price"])
        if sides and is_number(bid) and is_number(ask) and bid + ask > 0:
            wanted = (bid - ask) / (bid + ask)
        same(row["quote_imbalance"], wanted)


def plain_area(volumes: list[float], share: float) -> tuple[int, int, int]:
    middle = (len(volumes) - 1) / 2
    control = min(range(len(volumes)), key=lambda i: (-volumes[i], abs(i - middle), i))
    low = high = control
    while math.fsum(volumes[low : high + 1]) < share * math.fsum(volumes) * (1 - 1e-12):
        above = math.fsum(volumes[high + 1 : high + 3]) if high + 1 < len(volumes) else -1
        below = math.fsum(volumes[max(0, low - 2) : low]) if low else -1
        if above >= below:
            high = min(high + 2, len(volumes) - 1)
        else:
            low = max(0, low - 2)
    return control, low, high


@given(st.lists(st.integers(0, 9).map(float), min_size=1, max_size=20), st.floats(0.01, 1))
def test_value_area(volumes: list[Any], share: float) -> None:
    assert value_area(np.array(volumes), share) == plain_area(volumes, share)


@settings(max_examples=30, deadline=None)
@given(ticks(kinds=("trades",)))
def test_volume_profile(frame: pl.DataFrame) -> None:
    levels: dict[int, dict[float, list[Any]]] = {}
    for contract, _, price, size, _ in signed_trades(frame, "tick"):
        sums_of_key = levels.setdefault(contract, {}).setdefault(price, [0.0, 0])
        sums_of_key[0] += size
        sums_of_key[1] += 1
    expected = []
    for contract in sorted(levels):
        prices = sorted(levels[contract])
        control, low, high = plain_area([levels[contract][p][0] for p in prices], 0.7)
        for i, price in enumerate(prices):
            row = (contract, price, *levels[contract][price], i == control, low <= i <= high)
            expected.append(row)
    same(both(analysis.volume_profile, frame), expected)


def test_profile_separates_sides() -> None:
    ibm = analysis.trade_sign(real("ibm_trades"), "tick")
    profile = both(lambda f: analysis.volume_profile(f, 0.1), ibm)
    assert profile["volume"].sum() == ibm["size"].sum()
    assert profile["delta"].sum() == analysis.delta(ibm)["delta"].item()
    assert profile["point_of_control"].sum() == 1
    inside = profile.filter("value_area")["volume"].sum() / profile["volume"].sum()
    assert 0.7 <= inside < 0.75


def plain_vpin(frame: pl.DataFrame, size: float, window: int) -> list[tuple[Any, ...]]:
    """Volume poured into buckets, share by share."""
    bars: dict[int, list[Any]] = {}
    for row in rows_of(frame):
        sums_of_key = bars.setdefault(row["ns"] // MINUTE, [0.0, 0.0])
        sums_of_key[0] = row["price"]
        sums_of_key[1] += row["size"]
    prices = [bars[key][0] for key in sorted(bars)]
    changes = [b - a for a, b in zip([prices[0], *prices], prices, strict=False)]
    spread = stdev(changes[1:])
    actual, current, bought = [], 0.0, 0.0
    for key, change in zip(sorted(bars), changes, strict=True):
        share, left = NormalDist().cdf(change / spread), bars[key][1]
        while left > 0:
            poured = min(left, size - current)
            current, bought, left = current + poured, bought + poured * share, left - poured
            if current >= size:
                actual.append((key * MINUTE, bought, size - bought))
                current = bought = 0.0
    uneven = [abs(buy - sell) for _, buy, sell in actual]
    return [
        (
            *value,
            math.fsum(uneven[i + 1 - window : i + 1]) / (window * size)
            if i + 1 >= window
            else None,
        )
        for i, value in enumerate(actual)
    ]


def test_vpin() -> None:
    ibm = real("ibm_trades")
    actual = both(lambda f: analysis.vpin(f, 25_000, window=20), ibm)
    plain = actual.select(pl.col("timestamp").cast(pl.Int64), "buy_volume", "sell_volume", "vpin")
    same(plain, plain_vpin(ibm, 25_000.0, 20), absolute=1e-6)
    assert actual["bucket"].to_list() == list(range(actual.height))
    shares = actual["vpin"].drop_nulls()
    assert shares.is_between(0, 1).all()


def test_vpin_of_signs_and_of_two_contracts() -> None:
    ibm, coin = real("ibm_trades"), real("btcusdt_trades")
    frame = analysis.trade_sign(together(ibm, coin), "tick")
    actual = both(lambda f: analysis.vpin(f, window=5, classify="signs"), frame)
    assert actual["contract_id"].unique().sort().to_list() == [8314, 990101]
    # A fiftieth of a day: 50 buckets a day; the coins have two days.
    assert actual["contract_id"].value_counts().sort("contract_id")["count"].to_list() == [50, 100]
    alone = analysis.vpin(frame.filter(contract_id=8314), window=5, classify="signs")
    assert actual.filter(contract_id=8314).equals(alone)


@settings(max_examples=30, deadline=None)
@given(ticks(kinds=("trades",)))
def test_vpin_of_any_frame(frame: pl.DataFrame) -> None:
    actual = both(lambda f: analysis.vpin(f, 100.0, window=2), frame)
    assert actual["vpin"].drop_nulls().is_between(0, 1 + 1e-9).all()
    both(analysis.vpin, frame)


def test_invalid_arguments_are_refused() -> None:
    ibm = real("ibm_trades")[:10].with_columns(sign=1)
    for call in (
        lambda: analysis.delta(ibm, step=0.1),
        lambda: analysis.delta(ibm, by_price=True, step=0.0),
        lambda: analysis.delta(ibm, "0s"),
        lambda: analysis.volume_profile(ibm, share=0.0),
        lambda: analysis.vpin(ibm, 0.0),
        lambda: analysis.vpin(ibm, window=0),
        lambda: analysis.vpin(ibm, classify="guess"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError):
            call()


def test_made_frames_without_trades_are_empty() -> None:
    frame = made([{"ns": 0, "bid_price": 1.0, "ask_price": 2.0}])
    for measure in (analysis.delta, analysis.volume_profile, analysis.vpin):
        assert both(measure, frame).height == 0
