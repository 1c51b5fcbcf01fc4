"""Outliers, repetitions and crossed quotes against plain loops."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks import analysis
from ibticks.errors import InputError

from .frames import both, is_number, made, real, rows_of, ticks


def far_ones(prices: list[float], k: int, trim: float, gamma: float) -> list[bool]:
    """Brownlees and Gallo's rule, window by window."""
    n, actual = len(prices), []
    k = min(k, n)
    for i, price in enumerate(prices):
        begin = min(max(i - k // 2, 0), n - k)
        window = sorted(prices[begin : begin + k])
        cut = int(trim * K)
        inner = window[cut : len(window) - cut]
        if len(inner) < 2:
            actual.append(False)
            continue
        actual.append(abs(price - fmean(inner)) > 3 * stdev(inner) + gamma + 1e-9)
    return actual


K = 10


def rules_of(row: dict[Any, Any]) -> str | None:
    if row["price"] is not None:
        return "not_positive" if row["price"] <= 0 else None
    sides = [row["bid_price"], row["ask_price"]]
    if any(is_number(side) and side <= 0 for side in sides):
        return "not_positive"
    return "crossed" if all(map(is_number, sides)) and sides[0] > sides[1] else None


def flagged(frame: pl.DataFrame, gamma: float | None = None) -> list[str | None]:
    rows = rows_of(frame)
    rules = [rules_of(row) for row in rows]
    for contract in {row["contract_id"] for row in rows}:
        places, prices = [], []
        for place, row in enumerate(rows):
            bid, ask = row.get("bid_price"), row.get("ask_price")
            price = row["price"]
            if price is None and is_number(bid) and is_number(ask):
                price = (bid + ask) / 2
            if row["contract_id"] == contract and rules[place] is None and is_number(price):
                places.append(place)
                prices.append(price)
        steps = [abs(b - a) for a, b in pairwise(prices)]
        steps = [s for s, p in zip(steps, prices[1:], strict=True) if s > 1e-9 * abs(p)]
        allowed = (2 * min(steps) if steps else 0.0) if gamma is None else gamma
        for place, far in zip(places, far_ones(prices, K, 0.2, allowed), strict=True):
            rules[place] = "brownlees_gallo" if far else None
    return rules


def measure(frame: Any, gamma: float | None = None) -> Any:
    return analysis.outliers(frame, neighbours=K, trim=0.2, granularity=gamma)


@settings(max_examples=50, deadline=None)
@given(ticks(kinds=("trades",)), st.sampled_from([0.1, 0.5]))
def test_outliers_of_trades(frame: pl.DataFrame, gamma: Any) -> None:
    actual = both(lambda f: measure(f, gamma), frame)
    trades = frame.filter(pl.col("price").is_finite())
    assert actual["outlier_rule"].to_list() == flagged(trades, gamma)
    assert actual["outlier"].to_list() == [rule is not None for rule in actual["outlier_rule"]]
    assert actual.columns == [*frame.columns, "outlier", "outlier_rule"]


@settings(max_examples=50, deadline=None)
@given(ticks(kinds=("quotes",)))
def test_outliers_of_quotes(frame: pl.DataFrame) -> None:
    quotes = frame.drop("price")
    actual = both(lambda f: measure(f, 0.25), quotes)
    remaining = frame.filter(pl.col("bid_price").is_finite() | pl.col("ask_price").is_finite())
    assert actual["outlier_rule"].to_list() == flagged(remaining, 0.25)


def test_outliers_of_a_day() -> None:
    trades = real("ibm_trades")[12_000:13_500]
    actual = both(measure, trades)
    expected = flagged(trades.with_columns(bid_price=None, ask_price=None))
    assert actual["outlier_rule"].to_list() == expected
    assert 0 < actual["outlier"].sum() < 0.2 * trades.height


def test_absent_prices_are_no_neighbours() -> None:
    prices = [10.0, 10.01] * 20 + [0.0, -5.0] * 5 + [10.0, 10.01] * 20
    frame = made([{"ns": i, "price": p} for i, p in enumerate(prices)])
    actual = analysis.outliers(frame)
    assert actual["outlier_rule"].value_counts().drop_nulls().rows() == [("not_positive", 10)]


def test_impossible_arguments_are_refused() -> None:
    frame = real("ibm_trades")[:5]
    for wrong in (
        {"neighbours": 1},
        {"trim": 0.5},
        {"deviations": -1.0},
        {"granularity": math.nan},
    ):
        with pytest.raises(InputError):
            analysis.outliers(frame, **wrong)


@settings(max_examples=40, deadline=None)
@given(ticks())
def test_duplicates(frame: pl.DataFrame) -> None:
    doubled = pl.concat([frame, frame]).sort("timestamp", maintain_order=True)
    last: dict[Any, Any] = {}
    expected = []
    for row in rows_of(doubled):
        details = tuple("nan" if v is not None and v != v else v for v in row.values())
        expected.append(last.get(row["contract_id"]) == details)
        last[row["contract_id"]] = details
    assert both(analysis.duplicates, doubled)["duplicate"].to_list() == expected


def test_duplicates_look_at_lists_and_not_at_numbers_of_arrival() -> None:
    frame = made([{"ns": 0, "price": 1.0}] * 4).with_columns(
        conditions=pl.Series([["F"], ["F"], ["T"], ["T"]]), sequence=pl.Series([1, 2, 3, 4])
    )
    assert both(analysis.duplicates, frame)["duplicate"].to_list() == [False, True, False, True]


@settings(max_examples=30, deadline=None)
@given(ticks(kinds=("quotes",)))
def test_crossed_quotes(frame: pl.DataFrame) -> None:
    for row in rows_of(both(analysis.crossed_quotes, frame)):
        bid, ask = row["bid_price"], row["ask_price"]
        whole = is_number(bid) and is_number(ask)
        assert row["crossed"] == (whole and bid > ask)
        assert row["locked"] == (whole and bid == ask)


def test_crossed_and_locked_of_a_day() -> None:
    actual = analysis.crossed_quotes(real("ibm_quotes"))
    assert actual.select("crossed", "locked").sum().row(0) == (40, 504)
