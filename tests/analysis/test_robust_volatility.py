"""Measures robust to jumps and noise, moments and quarticities against plain loops."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist, median
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

from ibticks import analysis
from ibticks.errors import InputError

from .equality import same
from .frames import START, both, real, ticks
from .test_volatility import SECOND, logs_of, noisy, sampled

if TYPE_CHECKING:
    from collections.abc import Callable

Row = tuple[float | None, ...]


def windows(returns: list[float], many: int) -> list[list[float]]:
    """Sizes of ``many`` adjacent returns, for each place."""
    sizes = [abs(value) for value in returns]
    return [sizes[at : at + many] for at in range(len(sizes) - many + 1)]


def scaled(total: float, n: int, many: int) -> float | None:
    return total * n / (n - many + 1) if n >= many else None


def moment(power: float) -> float:
    """The expected power of the size of a standard normal variable, by Simpson's rule."""
    x = np.linspace(0, 12, 240_001)
    value = 2 * x**power * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    weight = np.where(np.arange(len(x)) % 2, 4.0, 2.0)
    weight[[0, -1]] = 1
    return float(value @ weight * (x[1] - x[0]) / 3)


def med(returns: list[float], power: int) -> float | None:
    constant = {
        2: math.pi / (6 - 4 * math.sqrt(3) + math.pi),
        4: 3 * math.pi * len(returns) / (9 * math.pi + 72 - 52 * math.sqrt(3)),
    }
    total = math.fsum(median(value) ** power for value in windows(returns, 3))
    return scaled(constant[power] * total, len(returns), 3)


def least(returns: list[float], power: int) -> float | None:
    constant = {2: math.pi / (math.pi - 2), 4: math.pi * len(returns) / (3 * math.pi - 8)}
    total = math.fsum(min(value) ** power for value in windows(returns, 2))
    return scaled(constant[power] * total, len(returns), 2)


def powers(returns: list[float], many: int, power: float, rate: float) -> float | None:
    total = math.fsum(math.prod(x**power for x in value) for value in windows(returns, many))
    return scaled(rate * total / moment(power) ** many, len(returns), many)


def threshold(returns: list[float]) -> Row:
    n = len(returns)
    if n < 2:
        return None, None
    bipower = math.pi / 2 * math.fsum(math.prod(value) for value in windows(returns, 2))
    limit = 3 * math.sqrt(bipower) * n**-0.49
    below = math.fsum(r**2 for r in returns if abs(r) <= limit)
    return below, math.fsum(r**2 for r in returns if abs(r) > limit)


def semivariance(returns: list[float]) -> Row:
    down = math.fsum(r**2 for r in returns if r < 0)
    up = math.fsum(r**2 for r in returns if r > 0)
    return down, up, up - down


def standardised(returns: list[float], power: int) -> float | None:
    variance = math.fsum(r**2 for r in returns)
    n = len(returns)
    if not variance:
        return None
    return n ** (power / 2 - 1) * math.fsum(r**power for r in returns) / variance ** (power / 2)


def interval(returns: list[float]) -> Row:
    variance, quarticity, n = least(returns, 2), med(returns, 4), len(returns)
    if variance is None or quarticity is None:
        return variance, None, None, None
    error = math.sqrt(3.81 * quarticity / n)
    z = NormalDist().inv_cdf(0.95)
    return variance, error, variance - z * error, variance + z * error


PLAIN: dict[str, Callable[[list[float]], Row]] = {
    "med_rv": lambda r: (med(r, 2),),
    "min_rv": lambda r: (least(r, 2),),
    "threshold_rv": threshold,
    "realized_semivariance": semivariance,
    "realized_skewness": lambda r: (standardised(r, 3),),
    "realized_kurtosis": lambda r: (standardised(r, 4),),
    "realized_quarticity": lambda r: (len(r) / 3 * math.fsum(x**4 for x in r),),
    "tripower_quarticity": lambda r: (powers(r, 3, 4 / 3, len(r)),),
    "quadpower_quarticity": lambda r: (powers(r, 4, 1.0, len(r)),),
    "med_rq": lambda r: (med(r, 4),),
    "min_rq": lambda r: (least(r, 4),),
    "variance_interval": interval,
}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "variance_interval": {"estimator": "min_rv", "quarticity": "med_rq", "confidence": 0.9}
}


@pytest.mark.parametrize("every", [None, "10m"])
@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=30, deadline=None)
@given(frame=ticks(kinds=("trades", "quotes"), most=30))
def test_the_formula_in_a_loop(name: str, every: str | None, frame: pl.DataFrame) -> None:
    measure = getattr(analysis, name)
    actual = both(lambda f: measure(f, every, **ARGUMENTS.get(name, {})), frame)
    expected = []
    for contract, logs in logs_of(frame).items():
        samples = sampled(logs, 600 * SECOND) if every else [log for _, log in logs]
        returns = [b - a for a, b in pairwise(samples)]
        expected.append((contract, *PLAIN[name](returns), len(returns)))
    # Of quarticities only the digits count: they are of the size of rounding elsewhere.
    same(actual, expected, absolute=1e-24)


@pytest.mark.parametrize("name", PLAIN)
def test_a_day_of_trades(name: str) -> None:
    ibm = real("ibm_trades")
    logs = sampled(logs_of(ibm)[8314], 60 * SECOND)
    returns = [b - a for a, b in pairwise(logs)]
    actual = getattr(analysis, name)(ibm, "1m", **ARGUMENTS.get(name, {}))
    same(actual, [(8314, *PLAIN[name](returns), len(returns))], rel=1e-9, absolute=0)


@pytest.mark.parametrize("name", [*PLAIN, "preaveraged_rv"])
def test_days_together_equal_each_day_alone(name: str) -> None:
    ibm = real("ibm_trades")[:8000]
    later = ibm.with_columns(
        pl.col("timestamp") + pl.duration(days=1, time_unit="ns"),
        price=pl.col("price").reverse() * 1.01,
    )
    measure, day = getattr(analysis, name), pl.col("timestamp").dt.date().alias("day")
    together = measure(pl.concat([ibm, later]), per=day)
    alone = pl.concat([measure(value, per=day) for value in (ibm, later)])
    assert together.height == 2
    assert_frame_equal(together, alone)


@pytest.mark.parametrize(("name", "lost"), [("med_rv", 2), ("min_rv", 1), ("bipower_variation", 1)])
def test_corrections_for_small_samples(name: str, lost: int) -> None:
    ibm, measure = real("ibm_trades")[:500], getattr(analysis, name)
    value = both(lambda f: measure(f, adjusted=True), ibm)[name].item()
    plain = both(lambda f: measure(f, adjusted=False), ibm)[name].item()
    assert value == pytest.approx(plain * 499 / (499 - lost), rel=1e-12)


def test_a_corrected_product_needs_two_returns() -> None:
    ibm = real("ibm_trades")
    assert both(lambda f: analysis.bipower_variation(f, adjusted=True), ibm[:2])[
        "bipower_variation"
    ].to_list() == [None]


def test_preaveraged_variance_by_its_definition() -> None:
    ibm = real("ibm_trades")[:700]
    logs = [math.log(price) for price in ibm["price"]]
    returns = [b - a for a, b in pairwise(logs)]
    n = len(returns)
    k = 2 * math.ceil(0.8 * math.sqrt(n) / 2)
    weights = [min(j / k, 1 - j / k) for j in range(k + 1)]
    psi_1 = k * math.fsum((b - a) ** 2 for a, b in pairwise(weights))
    psi_2 = math.fsum(value**2 for value in weights) / k
    averages = [
        math.fsum(weights[j] * returns[i + j - 1] for j in range(1, k)) for i in range(n - k + 2)
    ]
    whole = n / (n - k + 2) / (k * psi_2) * math.fsum(value**2 for value in averages)
    noise = psi_1 * n / k**2 / psi_2 * math.fsum(r**2 for r in returns) / (2 * n)
    same(both(analysis.preaveraged_rv, ibm), [(8314, whole - noise, k, n)], absolute=0)


def test_preaveraged_variance_of_any_frame() -> None:
    actual = both(lambda f: analysis.preaveraged_rv(f, 2.0), real("ibm_trades")[:4])
    assert actual.rows() == [(8314, None, 4, 3)]


def test_noise_does_not_bend_the_preaveraged_variance() -> None:
    value = analysis.preaveraged_rv(noisy(20_000, 5e-4))["preaveraged_rv"].item()
    assert value == pytest.approx(1e-4, rel=0.35)


def test_a_jump_moves_only_the_measures_that_it_should() -> None:
    calm = noisy(20_000, 0.0)
    jump = calm.with_columns(
        pl.when(pl.int_range(pl.len()) > 9_000).then(pl.col("price") * 0.97).otherwise("price")
    )
    for name in ("med_rv", "min_rv", "threshold_rv"):
        measure = getattr(analysis, name)
        values = [measure(frame, "1m")[name].item() for frame in (calm, jump)]
        assert values[1] == pytest.approx(values[0], rel=0.05)
    truncated = analysis.threshold_rv(jump, "1m")["truncated"].item()
    assert truncated == pytest.approx(math.log(0.97) ** 2, rel=0.2)
    assert analysis.realized_skewness(jump, "1m")["realized_skewness"].item() < -5
    assert analysis.realized_kurtosis(calm, "1m")["realized_kurtosis"].item() < 4
    halves = analysis.realized_semivariance(jump, "1m")
    assert halves["signed_variation"].item() == pytest.approx(-truncated, rel=0.1)


def test_intervals_cover_the_variance_as_often_as_they_claim() -> None:
    random = np.random.default_rng(11)
    at = START + np.arange(400) * SECOND
    # Each contract is one drawing of 399 returns, of variance 1e-4 together.
    walks = np.cumsum(random.normal(0, 1e-2 / 399**0.5, (1000, 400)), axis=1)
    frame = pl.DataFrame(
        {
            "timestamp": pl.Series(np.tile(at, 1000)).cast(pl.Datetime("ns", "UTC")),
            "contract_id": np.repeat(np.arange(1000, dtype=np.uint32), 400),
            "price": 100 * np.exp(walks.ravel()),
        }
    )
    for estimator in ("realized_variance", "bipower_variation", "med_rv", "min_rv"):
        actual = analysis.variance_interval(frame, estimator=estimator)
        covered = ((actual["lower"] < 1e-4) & (actual["upper"] > 1e-4)).mean()
        assert covered == pytest.approx(0.95, abs=0.03), estimator


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: analysis.threshold_rv(f, threshold=0), "above 0"),
        (lambda f: analysis.threshold_rv(f, power=0.5), "between 0 and 0.5"),
        (lambda f: analysis.preaveraged_rv(f, math.nan), "above 0"),
        (
            lambda f: analysis.variance_interval(f, estimator=cast("Any", "garch")),
            "there are realized_variance",
        ),
        (
            lambda f: analysis.variance_interval(f, quarticity=cast("Any", "rq")),
            "there are realized_quarticity",
        ),
        (lambda f: analysis.variance_interval(f, confidence=95), "between 0 and 1"),
    ],
)
def test_invalid_arguments_are_refused(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(real("ibm_trades")[:10])
