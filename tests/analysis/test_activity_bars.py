"""Bars of ticks, volume, value, imbalance and runs, against recurrences in plain Python."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from functools import partial
from math import fsum
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ibticks.analysis import (
    Incremental,
    dollar_bars,
    imbalance_bars,
    run_bars,
    tick_bars,
    volume_bars,
    vpin,
)
from ibticks.errors import InputError, UnknownColumnError

from .frames import PATIENT, both, is_number, made, real, rows_of, ticks, together

if TYPE_CHECKING:
    from collections.abc import Callable

AMOUNTS = ("tick", "volume", "dollar")
PLAIN = ("timestamp", "open", "close", "count")


def trades_of(frame: pl.DataFrame, contract: int) -> list[Any]:
    return [r for r in rows_of(frame) if r["contract_id"] == contract and is_number(r["price"])]


def amount_of(row: Any, amount: Any) -> Any:
    size = row["size"] if is_number(row["size"]) else 0.0
    return {"tick": 1.0, "volume": size, "dollar": row["price"] * size}[amount]


def decimal_of(row: Any, amount: str) -> Decimal:
    size = Decimal(repr(row["size"])) if is_number(row["size"]) else Decimal(0)
    return size if amount == "volume" else abs(Decimal(repr(row["price"])) * size)


def filled(trades: Any, amount: str, threshold: float) -> tuple[list[list[Any]], list[Any]]:
    """Bars by decimal sums, each a list of trades, and the trades of the open bar."""
    bars, bar, total = [], [], Decimal(0)
    for trade in trades:
        bar.append(trade)
        total += decimal_of(trade, amount)
        if total >= Decimal(str(threshold)):
            bars.append(bar)
            bar, total = [], Decimal(0)
    return bars, bar


def reaches(theta: float, threshold: Any) -> Any:
    """Theta is at the threshold or above it, rounding of the averages aside."""
    return theta >= threshold * (1 - 1e-12)


def sides(trades: Any, sign: Any = None) -> list[int]:
    """Return signs of the tick rule, or of a column where it is not null."""
    actual, side, before = [], 0, None
    for trade in trades:
        if before is not None and trade["price"] != before:
            side = 1 if trade["price"] > before else -1
        before = trade["price"]
        if sign is not None and trade[sign]:
            side = trade[sign]
        actual.append(side)
    return actual


def ewm(values: list[Any], span: Any) -> Any:
    """The exponential average of López de Prado's, and pandas', ``ewm(span, adjust=True)``."""
    keep = 1 - 2 / (span + 1)
    weights = [keep**age for age in range(len(values))][::-1]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def clamped(value: Any, limits: Any) -> Any:
    return value if limits is None else min(max(value, limits[0]), limits[1])


def imbalanced(
    trades: Any, amount: Any, expected: Any, span: Any, limits: Any, sign: Any = None
) -> list[tuple[Any, Any]]:
    signed = [b * amount_of(t, amount) for b, t in zip(sides(trades, sign), trades, strict=True)]
    bars = []
    begun = 0
    lengths: list[Any] = []
    for place in range(len(trades)):
        length = place + 1 - begun
        if not lengths:
            closes = length >= expected
        else:
            rows = clamped(ewm(lengths, span), limits)
            unit = ewm(signed[:begun], span * expected)
            closes = reaches(abs(fsum(signed[begun : place + 1])), rows * abs(unit))
        if closes:
            lengths.append(length)
            bars.append((trades[begun : place + 1], sum(signed[begun : place + 1])))
            begun = place + 1
    return bars


def ran(
    trades: Any, amount: Any, expected: Any, span: Any, limits: Any, sign: Any = None
) -> list[tuple[Any, float]]:
    side = sides(trades, sign)
    amounts = [amount_of(trade, amount) for trade in trades]
    bars, begun = [], 0
    lengths: list[Any] = []
    shares: list[Any] = []
    buys: list[Any] = []
    sells: list[Any] = []
    for place in range(len(trades)):
        rows = range(begun, place + 1)
        bought = [amounts[row] for row in rows if side[row] > 0]
        sold = [amounts[row] for row in rows if side[row] < 0]
        theta = max(fsum(bought), fsum(sold))
        if not lengths:
            closes = len(rows) >= expected
        else:
            share = ewm(shares, span) if shares else 0.5
            buy, sell = (ewm(value, span) if value else 0.0 for value in (buys, sells))
            unit = max(share * buy, (1 - share) * sell)
            closes = reaches(theta, clamped(ewm(lengths, span), limits) * unit)
        if closes:
            lengths.append(len(rows))
            if bought or sold:
                shares.append(len(bought) / (len(bought) + len(sold)))
            buys += [sum(bought) / len(bought)] if bought else []
            sells += [sum(sold) / len(sold)] if sold else []
            bars.append((trades[begun : place + 1], theta))
            begun = place + 1
    return bars


def summary(bars: list[Any]) -> list[Any]:
    return [(bar[0]["ns"], bar[0]["price"], bar[-1]["price"], len(bar)) for bar in bars]


def of_contract(bars: pl.DataFrame, contract: int, *more: str) -> list[tuple[Any, ...]]:
    own = bars.filter(pl.col("contract_id") == contract)
    return own.with_columns(pl.col("timestamp").cast(pl.Int64)).select(*PLAIN, *more).rows()


@PATIENT
@given(ticks(), st.integers(1, 6), st.booleans())
def test_tick_bars(frame: pl.DataFrame, n: int, partial_too: bool) -> None:
    actual = both(partial(tick_bars, n=n, partial=partial_too), frame)
    for contract in (1, 2):
        trades = trades_of(frame, contract)
        bars = [trades[i : i + n] for i in range(0, len(trades), n)]
        whole = [bar for bar in bars if partial_too or len(bar) == n]
        assert of_contract(actual, contract) == summary(whole)


@pytest.mark.parametrize(("measure", "amount"), [(volume_bars, "volume"), (dollar_bars, "dollar")])
@PATIENT
@given(frame=ticks(), threshold=st.sampled_from([1, 300, 1000, 25_000]), rest=st.booleans())
def test_filled_bars(
    measure: Callable[..., Any], amount: str, frame: pl.DataFrame, threshold: Any, rest: bool
) -> None:
    actual = both(lambda f: measure(f, threshold, partial=rest), frame)
    for contract in (1, 2):
        bars, left = filled(trades_of(frame, contract), amount, threshold)
        assert of_contract(actual, contract) == summary(bars + [left] * (rest and bool(left)))


@pytest.mark.parametrize(("measure", "slowly"), [(imbalance_bars, imbalanced), (run_bars, ran)])
@pytest.mark.parametrize("amount", AMOUNTS)
@PATIENT
@given(
    frame=ticks(kinds=("trades",), most=60),
    expected=st.integers(1, 5),
    span=st.sampled_from([1, 3, 20]),
    limits=st.sampled_from([None, (2, 6)]),
)
def test_information_bars(
    measure: Callable[..., Any],
    slowly: Callable[..., list[tuple[Any, Any]]] | Callable[..., list[tuple[Any, float]]],
    amount: str,
    frame: pl.DataFrame,
    expected: int,
    span: Any,
    limits: Any,
) -> None:
    what = {"amount": amount, "expected_ticks": expected, "span": span, "limits": limits}
    actual = both(partial(measure, **what), frame)
    for contract in (1, 2):
        bars = slowly(trades_of(frame, contract), amount, expected, span, limits)
        near = [
            pytest.approx((*row, theta))
            for row, (_, theta) in zip(summary([bar for bar, _ in bars]), bars, strict=True)
        ]
        assert of_contract(actual, contract, actual.columns[-1]) == near


@pytest.mark.parametrize(("measure", "slowly"), [(imbalance_bars, imbalanced), (run_bars, ran)])
@pytest.mark.parametrize("amount", AMOUNTS)
def test_information_bars_of_real_trades(
    measure: Callable[..., Any],
    slowly: Callable[..., list[tuple[Any, Any]]] | Callable[..., list[tuple[Any, float]]],
    amount: str,
) -> None:
    frame = real("btcusdt_trades")[:1500]
    actual = measure(frame, amount, expected_ticks=50, limits=(10, 200))
    bars = slowly(trades_of(frame, 990101), amount, 50, 20, (10, 200))
    assert of_contract(actual, 990101) == summary([bar for bar, _ in bars])
    assert actual[actual.columns[-1]].to_list() == pytest.approx([theta for _, theta in bars])
    assert len(actual) > 5


DECIMAL = [
    # Size of each trade, threshold, trades of a bar: sums of doubles miss the threshold.
    ("0.1", "1.0", 10),
    ("0.7", "2.1", 3),
    ("0.001", "0.01", 10),
    ("0.00001", "0.0003", 30),
    ("1.1", "12.1", 11),
]


def equal_trades(size: str, rows: int, price: float = 1.0) -> pl.DataFrame:
    trades = [{"ns": ns, "price": price, "size": float(size)} for ns in range(rows)]
    return made(trades)


def counts(bars: pl.DataFrame) -> list[Any]:
    return bars["count"].unique().to_list()


@pytest.mark.parametrize(("size", "threshold", "count"), DECIMAL)
def test_decimal_thresholds(size: str, threshold: str, count: int) -> None:
    trades = equal_trades(size, 7 * count)
    for measure in (volume_bars, dollar_bars):
        bars = both(lambda f, m=measure: m(f, float(threshold), partial=True), trades)
        assert (bars.height, counts(bars)) == (7, [count])
    # A bar is one trade longer where the threshold is one last decimal higher.
    above = float(Decimal(threshold) + Decimal(size) / 10)
    assert counts(volume_bars(trades, above)) == [count + 1]


@pytest.mark.parametrize(("size", "threshold", "count"), DECIMAL)
@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_decimal_thresholds_of_ticks_as_they_come(
    size: str, threshold: str, count: int, rows: int
) -> None:
    trades = equal_trades(size, 7 * count)
    bars = Incremental("volume_bars", float(threshold))
    actual = pl.concat([bars.update(piece) for piece in trades.iter_slices(rows)])
    assert (actual.height, counts(actual)) == (7, [count])


def test_decimal_thresholds_of_information_bars() -> None:
    """Ten buys of 0.1 are expected, and ten make each bar after the first."""
    trades = equal_trades("0.1", 100).with_columns(sign=pl.lit(1))
    for measure in (imbalance_bars, run_bars):
        bars = measure(trades, "volume", expected_ticks=10, sign="sign")
        assert (bars.height, counts(bars)) == (10, [10])
        pieces = Incremental(measure, "volume", expected_ticks=10, sign="sign")
        actual = pl.concat([pieces.update(piece) for piece in trades.iter_slices(7)])
        assert counts(actual) == [10]


def test_decimal_buckets() -> None:
    trades = equal_trades("0.1", 100_000)
    buckets = vpin(trades, 1.0, window=1)
    assert buckets.height == 10_000


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("amount", ["volume", "dollar"])
def test_random_decimals_are_summed_exactly(amount: str, seed: int) -> None:
    """Bars whose decimal sums are often exactly the threshold, or one last decimal below it."""
    draw = random.Random(seed)
    rows = [
        {"ns": ns, "price": draw.choice([0.1, 0.3, 1.7]), "size": draw.randint(1, 9) / 10**5}
        for ns in range(20_000)
    ]
    trades = made(rows)
    measure, threshold = {"volume": (volume_bars, 0.0137), "dollar": (dollar_bars, 0.00219)}[amount]
    bars, _ = filled(trades_of(trades, 1), amount, threshold)
    assert of_contract(measure(trades, threshold), 1) == summary(bars)


def test_thresholds_of_real_fractional_sizes() -> None:
    frame = real("btcusdt_trades")
    for measure, amount, threshold in (
        (volume_bars, "volume", 0.05),
        (volume_bars, "volume", 1.0),
        (dollar_bars, "dollar", 10_000),
    ):
        bars, _ = filled(trades_of(frame, 990101), amount, threshold)
        assert of_contract(measure(frame, threshold), 990101) == summary(bars)


def test_a_negative_price_fills_dollar_bars() -> None:
    rows = [{"ns": ns, "price": price, "size": 1.0} for ns, price in enumerate([-37.63, -13.1, 1])]
    assert dollar_bars(made(rows), 50)["count"].to_list() == [2]


def test_sides_from_a_column() -> None:
    frame = real("btcusdt_trades")[:600].with_columns(
        sign=pl.Series([1, 0, -1, None] * 150, dtype=pl.Int8)
    )
    for measure, slowly in ((imbalance_bars, imbalanced), (run_bars, ran)):
        actual = measure(frame, expected_ticks=20, sign="sign", limits=(5, 50))
        bars = slowly(trades_of(frame, 990101), "tick", 20, 20, (5, 50), "sign")
        assert of_contract(actual, 990101) == summary([bar for bar, _ in bars])


def test_a_worked_imbalance() -> None:
    """Up, up, up, down: after a first bar of two, E[T] = 2 and E[b] = (0 + 1) / 2 weighted."""
    prices = [10.0, 11.0, 12.0, 13.0, 12.0, 11.0]
    frame = made([{"ns": ns, "price": price, "size": 1.0} for ns, price in enumerate(prices)])
    bars = imbalance_bars(frame, expected_ticks=2, span=1)
    # With a span of two trades a weight of 1 - 2 / 3 remains: E[b] = (0 / 3 + 1) / (1 / 3 + 1).
    assert 2 * 0.75 == 1.5
    assert bars.select("count", "imbalance").rows() == [(2, 1.0), (2, 2.0), (2, -2.0)]


MEASURES = {
    "tick": partial(tick_bars, n=7),
    "quotes": partial(tick_bars, n=7, of="quotes"),
    "volume": partial(volume_bars, volume=0.3),
    "dollar": partial(dollar_bars, value=20_000),
    "imbalance": partial(imbalance_bars, amount="volume", expected_ticks=20),
    "run": partial(run_bars, amount="dollar", expected_ticks=20),
}


@pytest.mark.parametrize("name", MEASURES)
def test_bars_so_far_are_the_first_of_the_day(name: str) -> None:
    """Closed bars of a live buffer do not change when ticks are added."""
    frame = together(real("btcusdt_quotes")[:3000], real("btcusdt_trades")[:1000])
    measure = MEASURES[name]
    day = measure(frame)
    assert len(day) > 10
    for rows in (0, 1, 900, 2500):
        part = measure(frame[:rows])
        assert_frame_equal(part, day.head(len(part)))
        assert len(part) > 0 or rows < 900


@pytest.mark.parametrize("name", MEASURES)
def test_contracts_together_and_apart(name: str) -> None:
    measure = MEASURES[name]
    frames = [
        real("btcusdt_trades")[:2000],
        real("btcusdt_quotes")[:2000],
        real("ibm_quotes")[:500],
        real("ibm_trades")[:500],
    ]
    alone = pl.concat([measure(together(*frames[:2])), measure(together(*frames[2:]))])
    assert_frame_equal(
        both(measure, together(*frames)),
        alone.sort("timestamp", "contract_id", maintain_order=True),
    )


def test_volume_is_never_lost() -> None:
    frame = real("ibm_trades")
    for bars in (tick_bars(frame, 100, partial=True), volume_bars(frame, 10_000, partial=True)):
        assert bars["volume"].sum() == frame["size"].sum()
        assert bars["count"].sum() == len(frame)
    bars = volume_bars(frame, 10_000)
    assert (bars["volume"] >= 10_000).all()


@pytest.mark.parametrize("name", MEASURES)
def test_empty_frames_give_empty_results(name: str) -> None:
    actual = both(MEASURES[name], made([]))
    assert actual.height == 0
    assert both(MEASURES[name], made([]).drop("contract_id")).height == 0


def test_invalid_arguments_are_refused() -> None:
    frame = real("ibm_trades")
    for n in (0, -1, 2.5):
        with pytest.raises(InputError, match="at least 1"):
            tick_bars(frame, n)  # type: ignore[arg-type]
    for threshold in (0, -1.0, math.nan):
        with pytest.raises(InputError, match="above 0"):
            volume_bars(frame, threshold)
    with pytest.raises(InputError, match="tick, volume, dollar"):
        imbalance_bars(frame, "lots", expected_ticks=5)  # type: ignore[arg-type]
    for wrong in ({"expected_ticks": 0}, {"expected_ticks": 5, "span": 0.5}):
        with pytest.raises(InputError, match="at least 1"):
            run_bars(frame, **wrong)
    with pytest.raises(InputError, match="lower first"):
        run_bars(frame, expected_ticks=5, limits=(9, 3))
    with pytest.raises(UnknownColumnError, match="side"):
        run_bars(frame, expected_ticks=5, sign="side")
