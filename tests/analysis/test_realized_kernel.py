"""Realised kernels against their formula, and their constants against theirs."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks import analysis
from ibticks.analysis._realized_kernel import KERNELS, autocovariances
from ibticks.errors import InputError

from .frames import both, real, ticks

if TYPE_CHECKING:
    import polars as pl


def plain_covariances(returns: list[float], lags: int) -> list[float]:
    return [
        math.fsum(returns[j] * returns[j - h] for j in range(h, len(returns)))
        for h in range(lags + 1)
    ]


@given(st.integers(1, 60), st.integers(0, 59), st.integers(0, 9))
def test_autocovariances_of_few_returns(n: int, lags: int, seed: int) -> None:
    returns = np.random.default_rng(seed).normal(size=n)
    lags = min(lags, n - 1)
    assert autocovariances(returns, lags) == pytest.approx(
        plain_covariances(returns.tolist(), lags), abs=1e-9
    )


def test_autocovariances_over_several_blocks() -> None:
    returns = np.random.default_rng(1).normal(size=30_000)
    direct = [returns[h:] @ returns[: len(returns) - h] for h in range(301)]
    assert autocovariances(returns, 300) == pytest.approx(direct, abs=1e-8)


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_weights_fall_from_one_to_zero(name: str) -> None:
    weight = KERNELS[name].weight(np.array([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert weight[[0, -1]] == pytest.approx([1, 0], abs=1e-12)
    assert (np.diff(weight) < 0).all()


def test_parzen_kernel_by_its_definition() -> None:
    weight = KERNELS["parzen"].weight
    assert weight(np.array([0.25, 0.5, 0.75])) == pytest.approx(
        [1 - 6 / 16 + 6 / 64, 0.25, 2 * 0.25**3]
    )


@pytest.mark.parametrize("name", KERNELS)
def test_constants_minimise_the_variance(name: str) -> None:
    kernel = KERNELS[name]
    x = np.linspace(0, 1, 200_001)
    weight = kernel.weight(x)
    slope = np.gradient(weight, x, edge_order=2)
    curve = np.gradient(slope, x, edge_order=2)
    k00, k11, k22 = (np.trapezoid(value**2, x) for value in (weight, slope, curve))
    if kernel.smooth is not None:
        # BNHLS 2009; the published 3.5134 of Parzen's has k00 rounded.
        assert kernel.smooth == pytest.approx((curve[100] ** 2 / k00) ** 0.2, rel=2e-3)
    if kernel.flat_top is not None:
        # BNHLS 2008.
        best = (k11 / k00 * (1 + (1 + 3 * k00 * k22 / k11**2) ** 0.5)) ** 0.5
        assert kernel.flat_top == pytest.approx(best, rel=2e-3)


@pytest.mark.parametrize("flat_top", [False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_realized_kernel_of_trades(name: str, flat_top: bool) -> None:
    frame = real("ibm_trades")[:1000]
    logs = [math.log(price) for price in frame["price"]]
    ends = [sum(logs[:2]) / 2, *logs[2:-2], sum(logs[-2:]) / 2]
    returns = [b - a for a, b in pairwise(ends)]
    lags = 12
    gamma = plain_covariances(returns, lags)
    wanted = gamma[0]
    for h in range(1, lags + 1):
        x = (h - 1) / lags if flat_top else h / (lags + 1)
        wanted += 2 * float(KERNELS[name].weight(np.array([x]))[0]) * gamma[h]
    actual = both(
        lambda f: analysis.realized_kernel(f, name, bandwidth=lags, flat_top=flat_top), frame
    )
    assert actual["realized_kernel"].item() == pytest.approx(wanted, rel=1e-9)
    assert actual.select("bandwidth", "returns").row(0) == (lags, len(returns))


def test_bandwidth_follows_the_noise() -> None:
    frame = real("ibm_trades")
    row = both(analysis.realized_kernel, frame).row(0, named=True)
    assert 10 < row["bandwidth"] < 1000
    assert row["noise_variance"] > 0
    assert row["realized_kernel"] > 0


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades",)))
def test_realized_kernel_of_any_frame(frame: pl.DataFrame) -> None:
    actual = both(analysis.realized_kernel, frame)
    for value in actual["realized_kernel"]:
        assert value is None or value >= -1e-15


def test_invalid_arguments_are_refused() -> None:
    frame = real("ibm_trades")[:10]
    with pytest.raises(InputError, match="there are bartlett"):
        analysis.realized_kernel(frame, "box")
    with pytest.raises(InputError, match="no best bandwidth"):
        analysis.realized_kernel(frame, "bartlett")
    with pytest.raises(InputError, match="bandwidth must not"):
        analysis.realized_kernel(frame, bandwidth=-1)
    with pytest.raises(InputError, match="at least one price"):
        analysis.realized_kernel(frame, jitter=0)
