"""Variance from bars, against loops over the formulas."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean, variance
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks import analysis
from ibticks.errors import InputError

from .equality import same
from .frames import both, real

LN2 = math.log(2)


def parkinson(o: Any, h: Any, low: Any, c: Any) -> float:
    return math.log(h / low) ** 2 / (4 * LN2)


def garman_klass(o: Any, h: Any, low: Any, c: Any) -> float:
    return math.log(h / low) ** 2 / 2 - (2 * LN2 - 1) * math.log(c / o) ** 2


def rogers_satchell(o: Any, h: Any, low: Any, c: Any) -> float:
    return math.log(h / c) * math.log(h / o) + math.log(low / c) * math.log(low / o)


def yang_zhang(bars: list[Any]) -> float | None:
    n = len(bars) - 1
    if n < 2:
        return None
    night = [math.log(b[0] / a[3]) for a, b in pairwise(bars)]
    day = [math.log(c / o) for o, _, _, c in bars[1:]]
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    inside = fmean(rogers_satchell(*bar) for bar in bars[1:])
    return variance(night) + k * variance(day) + (1 - k) * inside


PLAIN = {"parkinson": parkinson, "garman_klass": garman_klass, "rogers_satchell": rogers_satchell}


@st.composite
def bars(draw: Any) -> pl.DataFrame:
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        low, a, b, high = sorted(draw(st.lists(st.integers(900, 1100), min_size=4, max_size=4)))
        o, c = (a, b) if draw(st.booleans()) else (b, a)
        contract = draw(st.integers(1, 2))
        empty = draw(st.integers(0, 5)) == 0
        prices = dict.fromkeys(("open", "high", "low", "close"))
        if not empty:
            prices = {"open": o / 10, "high": high / 10, "low": low / 10, "close": c / 10}
        rows.append({"contract_id": contract, **prices})
    schema = {
        "contract_id": pl.UInt32,
        **dict.fromkeys(("open", "high", "low", "close"), pl.Float64),
    }
    return pl.DataFrame(rows, schema=schema)


def by_contract(frame: pl.DataFrame) -> dict[Any, Any]:
    priced = frame.drop_nulls()
    return {c: priced.filter(contract_id=c).rows() for c in sorted(priced["contract_id"].unique())}


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=30, deadline=None)
@given(frame=bars())
def test_variance_of_all_bars(name: str, frame: pl.DataFrame) -> None:
    actual = both(getattr(analysis, name), frame)
    expected = [
        (c, fmean(PLAIN[name](*row[1:]) for row in rows), len(rows))
        for c, rows in by_contract(frame).items()
    ]
    assert actual.columns == ["contract_id", name, "bars"]
    same(actual, expected)


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=30, deadline=None)
@given(frame=bars())
def test_variance_of_the_last_bars(name: str, frame: pl.DataFrame) -> None:
    actual = both(lambda f: getattr(analysis, name)(f, 3), frame)
    for contract, rows in by_contract(frame).items():
        bars = [PLAIN[name](*row[1:]) for row in rows]
        expected = [fmean(bars[i - 2 : i + 1]) if i >= 2 else None for i in range(len(bars))]
        same(actual.filter(contract_id=contract)[name].to_list(), expected)


@settings(max_examples=30, deadline=None)
@given(bars())
def test_yang_zhang(frame: pl.DataFrame) -> None:
    actual = both(analysis.yang_zhang, frame)
    priced = by_contract(frame).items()
    wanted = [(c, yang_zhang([row[1:] for row in rows]), len(rows)) for c, rows in priced]
    same(actual, wanted)
    rolling = both(lambda f: analysis.yang_zhang(f, 2), frame)
    for contract, rows in by_contract(frame).items():
        prices = [row[1:] for row in rows]
        expected = [yang_zhang(prices[i - 2 : i + 1]) if i >= 2 else None for i in range(len(rows))]
        same(rolling.filter(contract_id=contract)["yang_zhang"].to_list(), expected)


def test_range_variances_agree_on_a_day() -> None:
    day = analysis.time_bars(real("ibm_trades"), "5m", anchor="session", market="US")
    squares = (day["close"] / day["open"]).log().pow(2).mean()
    for name in (*PLAIN, "yang_zhang"):
        assert 0.3 < getattr(analysis, name)(day)[name].item() / squares < 1.7


def test_a_window_holds_bars() -> None:
    day = analysis.time_bars(real("ibm_trades"), "1h")
    with pytest.raises(InputError, match="window has 1 bars or more"):
        analysis.parkinson(day, 0)
    with pytest.raises(InputError, match="window has 2 bars or more"):
        analysis.yang_zhang(day, 1)
