"""Tests for jumps against their formulas, and on prices with and without jumps."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist
from typing import Any, Literal, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from ibticks import analysis
from ibticks.errors import InputError

from .equality import same
from .frames import START, both, real, ticks
from .test_robust_volatility import powers
from .test_volatility import SECOND, logs_of, sampled

Form = Literal["linear", "ratio", "log"]
FORMS: tuple[Form, ...] = ("linear", "ratio", "log")


def plain_test(returns: list[float], form: Form) -> tuple[float | None, ...]:
    """The statistic of Huang and Tauchen, with bipower variation and tripower quarticity."""
    n = len(returns)
    variance = math.fsum(r**2 for r in returns)
    bipower, tripower = powers(returns, 2, 1.0, 1.0), powers(returns, 3, 4 / 3, n)
    if not bipower or not tripower:
        return None, None, None
    factor = (math.pi / 2) ** 2 + math.pi - 5
    bounded = math.sqrt(factor / n * max(1, tripower / bipower**2))
    statistic = {
        "linear": (variance - bipower) / math.sqrt(factor / n * tripower),
        "ratio": (variance - bipower) / variance / bounded,
        "log": (math.log(variance) - math.log(bipower)) / bounded,
    }[form]
    return statistic, 1 - NormalDist().cdf(statistic), max(variance - bipower, 0)


@pytest.mark.parametrize("form", FORMS)
def test_a_day_of_trades(form: Form) -> None:
    ibm = real("ibm_trades")
    returns = [b - a for a, b in pairwise(sampled(logs_of(ibm)[8314], 60 * SECOND))]
    actual = both(lambda f: analysis.bns_jump_test(f, "1m", form), ibm)
    same(actual, [(8314, *plain_test(returns, form), len(returns))])


@settings(max_examples=30, deadline=None)
@given(frame=ticks(kinds=("trades",), most=40))
def test_any_frame(frame: pl.DataFrame) -> None:
    actual = both(analysis.bns_jump_test, frame)
    for (contract, logs), row in zip(logs_of(frame).items(), actual.rows(), strict=True):
        returns = [b - a for (_, a), (_, b) in pairwise(logs)]
        same(row, (contract, *plain_test(returns, "ratio"), len(returns)), rel=1e-7)


def walks(jump: float) -> pl.DataFrame:
    """A thousand contracts of 399 returns, of variance 1e-4 together, and a jump in the middle."""
    random = np.random.default_rng(5)
    log = np.cumsum(random.normal(0, 1e-2 / 399**0.5, (1000, 400)), axis=1)
    log[:, 200:] += jump
    at = np.tile(START + np.arange(400) * SECOND, 1000)
    return pl.DataFrame(
        {
            "timestamp": pl.Series(at).cast(pl.Datetime("ns", "UTC")),
            "contract_id": np.repeat(np.arange(1000, dtype=np.uint32), 400),
            "price": 100 * np.exp(log.ravel()),
        }
    )


@pytest.mark.parametrize("form", FORMS)
def test_size_and_power(form: Form) -> None:
    calm = analysis.bns_jump_test(walks(0.0), form=form)
    assert (calm["p_value"] < 0.05).mean() == pytest.approx(0.05, abs=0.03)
    jump = analysis.bns_jump_test(walks(0.01), form=form)
    assert (jump["p_value"] < 0.01).mean() > 0.99
    assert jump["jump_variation"].mean() == pytest.approx(1e-4, rel=0.15)


@pytest.mark.parametrize(
    ("name", "value"),
    [("form", "z"), ("estimator", "realized_variance"), ("quarticity", "realized_quarticity")],
)
def test_invalid_arguments_are_refused(name: str, value: str) -> None:
    arguments = cast("Any", {name: value})
    with pytest.raises(InputError, match=f"no {name} '{value}': there are"):
        analysis.bns_jump_test(real("ibm_trades")[:10], **arguments)
