"""Spreads, impact and illiquidity against plain loops over their formulas."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import pairwise
from statistics import correlation, covariance, fmean, linear_regression
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks import analysis
from ibticks.errors import InputError, UnknownColumnError

from .equality import same
from .frames import both, is_number, made, real, rows_of, ticks, together
from .test_flow import signed_trades
from .test_signing import plain_signs

MINUTE = 60_000_000_000


def quotes_of(frame: pl.DataFrame) -> dict[int, list[tuple[int, float | None, float | None]]]:
    """Time, spread and mid of the quotes of each contract."""
    actual: dict[int, list[Any]] = {}
    for row in rows_of(frame):
        bid, ask = row["bid_price"], row["ask_price"]
        if is_number(bid) or is_number(ask):
            whole = is_number(bid) and is_number(ask)
            entry = (row["ns"], ask - bid if whole else None, (ask + bid) / 2 if whole else None)
            actual.setdefault(row["contract_id"], []).append(entry)
    return dict(sorted(actual.items()))


def mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def over_time(
    quotes: list[tuple[int, float | None, float | None]], start: int, end: int
) -> tuple[float | None, float | None]:
    """Spread and relative spread over the time within (start, end)."""
    total = relative = time = 0.0
    for (at, spread, mid), (until, *_) in pairwise(quotes):
        current = min(until, end) - max(at, start)
        if spread is not None and current > 0:
            total, relative, time = (
                total + spread * current,
                relative + spread / mid * current,
                time + current,
            )
    return (total / time, relative / time) if time else (None, None)


def spreads(
    quotes: list[tuple[int, float | None, float | None]], start: int, end: int
) -> tuple[Any, ...]:
    seen = [(s, m) for at, s, m in quotes if s is not None and start <= at < end]
    return (
        mean([s for s, _ in seen]),
        mean([s / m for s, m in seen]),
        *over_time(quotes, start, end),
        len(seen),
    )


@settings(max_examples=50, deadline=None)
@given(ticks(kinds=("trades", "quotes")))
def test_quoted_spread(frame: pl.DataFrame) -> None:
    quotes = quotes_of(frame)
    whole = both(analysis.quoted_spread, frame)
    same(whole, [(c, *spreads(quote, 0, 2**62)) for c, quote in quotes.items()])
    bars = both(lambda f: analysis.quoted_spread(f, "5m"), frame)
    step = 5 * MINUTE
    starts = sorted({(at // step * step, c) for c, quote in quotes.items() for at, *_ in quote})
    bars = bars.with_columns(pl.col("timestamp").cast(pl.Int64))
    same(bars, [(at, c, *spreads(quotes[c], at, at + step)) for at, c in starts])


def later(quotes: list[tuple[int, float | None, float | None]], at: int) -> float | None:
    """The mid in force at a time, unless the quotes end before it."""
    if not quotes or at > quotes[-1][0]:
        return None
    place = bisect_right([t for t, *_ in quotes], at) - 1
    return quotes[place][2] if place >= 0 else None


@settings(max_examples=50, deadline=None)
@given(ticks(kinds=("trades", "quotes")), st.sampled_from(["tick", "lee_ready"]))
def test_spreads_of_trades(frame: pl.DataFrame, method: Any) -> None:
    quotes, horizon = quotes_of(frame), 17_000_000_000
    signs = plain_signs(method, frame)
    mids, in_force = [], {}
    for row in rows_of(frame):
        if is_number(row["bid_price"]) or is_number(row["ask_price"]):
            whole = is_number(row["bid_price"]) and is_number(row["ask_price"])
            mid = (row["bid_price"] + row["ask_price"]) / 2 if whole else None
            in_force[row["contract_id"]] = mid
        if is_number(row["price"]):
            mids.append(in_force.get(row["contract_id"]))
    trades = [row for row in rows_of(frame) if is_number(row["price"])]
    paid, remaining, impact = [], [], []
    for row, sign, mid in zip(trades, signs, mids, strict=True):
        after = later(quotes.get(row["contract_id"], []), row["ns"] + horizon)
        paid.append(2 * sign * (row["price"] - mid) if sign and mid else None)
        remaining.append(2 * sign * (row["price"] - after) if sign and after else None)
        impact.append(2 * sign * (after - mid) if sign and after and mid else None)

    effective = both(lambda f: analysis.effective_spread(f, method=method), frame)
    same(effective["effective_spread"].to_list(), paid)
    same(effective["sign"].to_list(), signs)
    realized = both(lambda f: analysis.realized_spread(f, "17s", method=method), frame)
    same(realized["realized_spread"].to_list(), remaining)
    impacts = both(lambda f: analysis.price_impact(f, "17s", method=method), frame)
    same(impacts["price_impact"].to_list(), impact)
    relative = [p / m if p is not None else None for p, m in zip(paid, mids, strict=True)]
    same(effective["relative_effective_spread"].to_list(), relative)
    assert effective.columns == [*frame.columns, "mid", "sign", *effective.columns[-2:]]


def test_effective_is_realized_and_impact() -> None:
    trades, quotes = real("ibm_trades"), real("ibm_quotes")
    effective, realized, impact = (
        both(lambda t, q, m=measure: m(t, quotes=q), trades, quotes)
        for measure in (
            analysis.effective_spread,
            analysis.realized_spread,
            analysis.price_impact,
        )
    )
    parts = realized["realized_spread"] + impact["price_impact"]
    gap = (parts - effective["effective_spread"]).drop_nulls()
    assert gap.len() > 30_000
    assert gap.abs().max() < 1e-9
    # A liquid share in a quiet year: a cent or two, most of which the price moves on by.
    assert 0.01 <= effective["effective_spread"].median() <= 0.04
    assert impact["price_impact"].mean() > realized["realized_spread"].mean()


def test_an_existing_sign_column_is_used() -> None:
    trades, quotes = real("ibm_trades")[:500], real("ibm_quotes")
    signed = trades.with_columns(sign=pl.lit(1, pl.Int8))
    actual = analysis.effective_spread(signed, quotes=quotes)
    wanted = 2 * (actual["price"] - actual["mid"])
    assert actual["effective_spread"].equals(wanted.alias("effective_spread"))
    assert actual["sign"].unique().to_list() == [1]


def bars_of(
    rows: list[tuple[int, int, float, float, int]], step: int | None
) -> dict[int, list[tuple[float, float, float]]]:
    """Last price, signed volume and value of each bar of each contract, in order."""
    bars: dict[tuple[Any, ...], list[Any]] = {}
    for number, (contract, at, price, size, sign) in enumerate(rows):
        key = (contract, number if step is None else at // step)
        entry = bars.setdefault(key, [0.0, 0.0, 0.0])
        entry[0], entry[1], entry[2] = price, entry[1] + sign * size, entry[2] + price * size
    actual: dict[int, list[Any]] = {}
    for contract, bar in sorted(bars):
        actual.setdefault(contract, []).append(tuple(bars[contract, bar]))
    return actual


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades",)), st.sampled_from([None, "1m"]))
def test_kyle_lambda(frame: pl.DataFrame, every: Any) -> None:
    actual = both(lambda f: analysis.kyle_lambda(f, every, method="tick"), frame)
    step = None if every is None else MINUTE
    for row, (contract, bars) in zip(
        actual.rows(), bars_of(signed_trades(frame, "tick"), step).items(), strict=True
    ):
        x = [flow for _, flow, _ in bars[1:]]
        y = [b[0] - a[0] for a, b in pairwise(bars)]
        assert (row[0], row[4]) == (contract, len(y))
        if len(y) < 2 or max(x) - min(x) < 1e-9:
            assert row[1] is None
            continue
        same(row[1], linear_regression(x, y).slope, absolute=1e-9)
        if max(y) - min(y) > 1e-9:
            r = correlation(x, y)
            same(row[3], r * r, absolute=1e-9)
            if len(y) > 2 and abs(r) < 0.999:
                same(row[2], r * ((len(y) - 2) / (1 - r * r)) ** 0.5, absolute=1e-6)


def test_kyle_lambda_recovers_a_known_value() -> None:
    random = np.random.default_rng(4)
    side = random.choice([-1, 1], 5_000)
    size = random.integers(1, 100, 5_000)
    price = 100 + np.cumsum(2e-4 * side * size + random.normal(0, 1e-3, 5_000))
    rows = [
        {"ns": i, "price": p, "size": float(s)}
        for i, (p, s) in enumerate(zip(price, size, strict=True))
    ]
    frame = made(rows).with_columns(sign=pl.Series(side, dtype=pl.Int8))
    actual = analysis.kyle_lambda(frame, None)
    assert actual["kyle_lambda"].item() == pytest.approx(2e-4, rel=0.01)
    assert actual["t_statistic"].item() > 100


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades",)))
def test_amihud(frame: pl.DataFrame) -> None:
    actual = both(lambda f: analysis.amihud(f, "1m"), frame)
    expected = []
    for contract, bars in bars_of(signed_trades(frame, "tick"), MINUTE).items():
        ratios = [abs(b[0] / a[0] - 1) / b[2] for a, b in pairwise(bars) if b[2] > 0]
        expected.append((contract, mean(ratios), len(ratios)))
    same(actual, expected, absolute=1e-15)


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades",)), st.sampled_from([None, "1m"]))
def test_roll_spread(frame: pl.DataFrame, every: Any) -> None:
    actual = both(lambda f: analysis.roll_spread(f, every), frame)
    step = None if every is None else MINUTE
    for row, (contract, bars) in zip(
        actual.rows(), bars_of(signed_trades(frame, "tick"), step).items(), strict=True
    ):
        moves = [b[0] - a[0] for a, b in pairwise(bars)]
        pairs = max(0, len(moves) - 1)
        assert (row[0], row[3]) == (contract, pairs)
        if pairs < 2:
            assert row[1:3] == (None, None)
            continue
        wanted = covariance(moves[:-1], moves[1:])
        same(row[2], wanted)
        if wanted < -1e-9:
            same(row[1], 2 * math.sqrt(-wanted))
        elif wanted > 1e-9:
            assert row[1] is None


def test_roll_spread_of_a_bid_ask_bounce() -> None:
    random = np.random.default_rng(5)
    price = 50 + np.cumsum(random.normal(0, 0.005, 20_000)) + 0.05 * random.choice([-1, 1], 20_000)
    frame = pl.DataFrame({"price": price})
    assert both(analysis.roll_spread, frame)["roll"].item() == pytest.approx(0.1, rel=0.03)


def test_two_contracts_are_measured_separately() -> None:
    frame = together(real("ibm_trades"), real("btcusdt_trades"))
    for measure in (
        lambda f: analysis.kyle_lambda(f, method="tick"),
        lambda f: analysis.amihud(f, "1m"),
        analysis.roll_spread,
    ):
        whole = both(measure, frame)
        parts = [measure(frame.filter(contract_id=c)) for c in (8314, 990101)]
        same(whole, pl.concat(parts).rows())


def test_missing_columns_are_named() -> None:
    with pytest.raises(UnknownColumnError, match="bid_price"):
        analysis.effective_spread(real("ibm_trades")[:5])
    with pytest.raises(UnknownColumnError, match="ask_price"):
        analysis.quoted_spread(real("ibm_trades")[:5])
    with pytest.raises(InputError):
        analysis.quoted_spread(real("ibm_quotes")[:5], "0s")
