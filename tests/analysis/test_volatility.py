"""Realised variance and its relatives against plain loops over their formulas."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

from ibticks import analysis
from ibticks.analysis._engine.sampling import noise_variance, pilot_variance
from ibticks.errors import InputError, UnknownColumnError

from .equality import same
from .frames import START, both, is_number, made, real, rows_of, ticks, together

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000_000


def logs_of(frame: pl.DataFrame) -> dict[int, list[tuple[int, float]]]:
    """Times and log prices of each contract."""
    actual: dict[int, list[tuple[int, float]]] = {}
    for row in rows_of(frame):
        if is_number(row["price"]) and row["price"] > 0:
            actual.setdefault(row["contract_id"], []).append((row["ns"], math.log(row["price"])))
    return dict(sorted(actual.items()))


def sampled(logs: list[tuple[int, float]], step: int, offset: int = 0) -> list[float]:
    """The first price, then the last at or before each multiple of the step."""
    actual = [logs[0][1]]
    grid = -(-(logs[0][0] - offset) // step) * step + offset
    while True:
        actual.append([log for at, log in logs if at <= grid][-1])
        if grid >= logs[-1][0]:
            return actual
        grid += step


def variance(logs: list[float]) -> float:
    return math.fsum((b - a) ** 2 for a, b in pairwise(logs))


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades", "quotes")))
def test_realized_variance_of_every_tick(frame: pl.DataFrame) -> None:
    actual = both(analysis.realized_variance, frame)
    same(
        actual,
        [(c, variance([x for _, x in logs]), len(logs) - 1) for c, logs in logs_of(frame).items()],
    )


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades",), most=20))
def test_realized_variance_on_a_grid(frame: pl.DataFrame) -> None:
    step = 600 * SECOND
    actual = both(lambda f: analysis.realized_variance(f, "10m"), frame)
    expected = [(c, sampled(logs, step)) for c, logs in logs_of(frame).items()]
    same(actual, [(c, variance(logs), len(logs) - 1) for c, logs in expected])


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades",), most=20))
def test_realized_variance_over_shifted_grids(frame: pl.DataFrame) -> None:
    step, many = 600 * SECOND, 4
    actual = both(lambda f: analysis.realized_variance(f, "10m", subsamples=many), frame)
    expected = []
    for contract, logs in logs_of(frame).items():
        grids = [sampled(logs, step, step // many * j) for j in range(many)]
        expected.append((contract, sum(map(variance, grids)) / many, len(grids[0]) - 1))
    same(actual, expected)


def test_realized_variance_of_a_day() -> None:
    ibm = real("ibm_trades")
    logs = logs_of(ibm)[8314]
    actual = both(lambda f: analysis.realized_variance(f, "5m"), ibm)
    times, values = np.array([at for at, _ in logs]), np.array([log for _, log in logs])
    step = 300 * SECOND
    grid = np.arange(-(-times[0] // step), -(-times[-1] // step) + 1) * step
    picked = np.append(values[0], values[np.searchsorted(times, grid, side="right") - 1])
    same(actual, [(8314, float((np.diff(picked) ** 2).sum()), len(grid))])


def test_a_night_is_no_return_per_day() -> None:
    frame = made(
        [
            {"ns": 0, "price": 10.0},
            {"ns": SECOND, "price": 11.0},
            {"ns": 86_400 * SECOND, "price": 20.0},
            {"ns": 86_401 * SECOND, "price": 21.0},
        ]
    )
    day = pl.col("timestamp").dt.date().alias("day")
    actual = both(lambda f: analysis.realized_variance(f, per=day), frame)
    assert actual["realized_variance"].to_list() == pytest.approx(
        [math.log(1.1) ** 2, math.log(1.05) ** 2]
    )
    assert actual.columns == ["contract_id", "day", "realized_variance", "returns"]
    names = analysis.realized_variance(frame.with_columns(day), per="day")
    assert_frame_equal(names, actual)


def test_frames_without_contracts_are_of_one() -> None:
    ibm = real("ibm_trades")
    bare = both(lambda f: analysis.realized_variance(f, "1m"), ibm.drop("contract_id"))
    whole = analysis.realized_variance(ibm, "1m")
    assert_frame_equal(bare, whole.drop("contract_id"))
    assert analysis.realized_variance(ibm.clear()).height == 0


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades",), most=20))
def test_signature_is_realized_variance_at_each_interval(frame: pl.DataFrame) -> None:
    spans = ["7s", "1m", "45s"]
    actual = both(lambda f: analysis.signature(f, spans), frame)
    expected = [
        analysis.realized_variance(frame, span).with_columns(
            every=pl.duration(seconds=seconds, time_unit="ns")
        )
        for span, seconds in zip(spans, (7, 60, 45), strict=True)
    ]
    whole = pl.concat(expected).sort("contract_id", "every").select(actual.columns)
    assert_frame_equal(actual, whole, abs_tol=1e-15)


@pytest.mark.parametrize("adjusted", [True, False])
def test_two_scales(adjusted: bool) -> None:
    logs = [math.log(p) for p in real("ibm_trades")["price"][:3000]]
    n, k = len(logs) - 1, 30
    slow = math.fsum((logs[i] - logs[i - k]) ** 2 for i in range(k, n + 1)) / k
    share = (n - k + 1) / k / n
    wanted = (slow - share * variance(logs)) / (1 - share if adjusted else 1)
    frame = real("ibm_trades")[:3000]
    actual = both(lambda f: analysis.two_scale_rv(f, k, adjusted=adjusted), frame)
    same(actual, [(8314, wanted, k, n)])


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades",)))
def test_two_scales_of_any_frame(frame: pl.DataFrame) -> None:
    actual = both(lambda f: analysis.two_scale_rv(f, 3), frame)
    for (contract, logs), row in zip(logs_of(frame).items(), actual.rows(), strict=True):
        assert (row[0], row[2], row[3]) == (contract, 3, len(logs) - 1)
        assert (row[1] is None) == (len(logs) < 5)
    both(analysis.two_scale_rv, frame)


def noisy(n: int, noise: float, seed: int = 3) -> pl.DataFrame:
    """A day of log prices of variance 1e-4 with noise."""
    random = np.random.default_rng(seed)
    walk = np.cumsum(random.normal(0, 1e-2 / n**0.5, n)) + random.normal(0, noise, n)
    at = START + np.sort(random.integers(0, 23_400 * SECOND, n))
    return pl.DataFrame({"timestamp": at, "price": 100 * np.exp(walk)}).with_columns(
        pl.col("timestamp").cast(pl.Datetime("ns", "UTC"))
    )


def test_noise_bends_realized_variance_but_not_the_robust_forms() -> None:
    frame = noisy(20_000, 5e-4)
    plain = analysis.realized_variance(frame)["realized_variance"].item()
    assert plain > 50e-4
    for actual in (
        analysis.two_scale_rv(frame)["two_scale_rv"].item(),
        analysis.realized_kernel(frame)["realized_kernel"].item(),
        analysis.realized_kernel(frame, "modified_tukey_hanning", flat_top=True)[
            "realized_kernel"
        ].item(),
    ):
        assert actual == pytest.approx(1e-4, rel=0.35)


def test_noise_and_pilot() -> None:
    frame = noisy(20_000, 5e-4)
    at = frame["timestamp"].cast(pl.Int64).to_numpy()
    log = frame["price"].log().to_numpy()
    # What the price itself moves in two minutes, 1e-4 / 195, is in it.
    assert noise_variance(at, log) == pytest.approx(25e-8 + 1e-4 / 195 / 2, rel=0.1)
    assert pilot_variance(at, log) == pytest.approx(1e-4, rel=0.6)
    assert noise_variance(at[:1], log[:1]) == 0.0
    assert pilot_variance(at[:1], log[:1]) == 0.0
    assert pilot_variance(at[:50] * 0, log[:50]) == pytest.approx((log[49] - log[0]) ** 2)


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades",), most=25))
def test_bipower_variation(frame: pl.DataFrame) -> None:
    def wanted(logs: list[float]) -> tuple[Any, ...]:
        moves = [b - a for a, b in pairwise(logs)]
        bipower = math.pi / 2 * math.fsum(abs(a * b) for a, b in pairwise(moves))
        whole = variance(logs)
        return bipower, whole, max(0.0, 1 - bipower / whole) if whole else None, len(moves)

    plain = both(analysis.bipower_variation, frame)
    same(plain, [(c, *wanted([x for _, x in logs])) for c, logs in logs_of(frame).items()])
    grid = both(lambda f: analysis.bipower_variation(f, "5m"), frame)
    sampling = {c: sampled(logs, 300 * SECOND) for c, logs in logs_of(frame).items()}
    same(grid, [(c, *wanted(logs)) for c, logs in sampling.items()])


def test_a_jump_is_detected() -> None:
    calm = noisy(5_000, 0.0)
    jump = calm.with_columns(
        pl.when(pl.int_range(pl.len()) > 2_500).then(pl.col("price") * 1.02).otherwise("price")
    )
    shares = [
        analysis.bipower_variation(value, "1m")["jump_share"].item() for value in (calm, jump)
    ]
    assert shares[0] < 0.15
    assert shares[1] == pytest.approx(0.8, abs=0.1)


def test_mids_are_prices_too() -> None:
    frame = together(real("ibm_trades"), made([{"ns": 0, "mid_price": 1.0}]))
    actual = analysis.realized_variance(frame, column="mid_price")
    assert actual.rows() == [(1, 0.0, 0)]


@pytest.mark.parametrize(
    "call",
    [
        lambda f: analysis.realized_variance(f, subsamples=5),
        lambda f: analysis.realized_variance(f, "1s", subsamples=7),
        lambda f: analysis.realized_variance(f, "1s", subsamples=0),
        lambda f: analysis.signature(f, []),
        lambda f: analysis.two_scale_rv(f, 1),
    ],
)
def test_invalid_arguments_are_refused(call: Callable[..., Any]) -> None:
    with pytest.raises(InputError):
        call(real("ibm_trades")[:10])


def test_a_missing_price_is_named() -> None:
    with pytest.raises(UnknownColumnError, match="mid_price"):
        analysis.realized_variance(real("ibm_trades").drop("price"), column="mid_price")


def test_a_signature_of_one_interval() -> None:
    ibm = real("ibm_trades")
    assert analysis.signature(ibm, "5m").equals(analysis.signature(ibm, ["5m"]))
