"""Kernels of moving windows, against windows that are sliced for each row."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.analysis._engine import window_kernels
from ibticks.analysis._engine.window_kernels import neighbour_median, run_in_blocks, trimmed_moments


def walk(n: int, seed: int, decimals: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    jumps = random.choice([0.0, 0.0, 5.0, -5.0], n)
    return np.round(200 + np.cumsum(random.normal(0, 0.02, n)) + jumps, decimals)


def plain_medians(values: np.ndarray, half: int) -> np.ndarray:
    actual = np.full(len(values), np.nan)
    for i in range(len(values)):
        around = np.delete(values[max(0, i - half) : i + half + 1], min(i, half))
        if len(around):
            actual[i] = np.median(around)
    return actual


def plain_moments(values: np.ndarray, width: int, cut: int) -> np.ndarray:
    width = min(width, len(values))
    actual = np.full((2, len(values)), np.nan)
    for i in range(len(values) if width > 2 * cut + 1 else 0):
        begin = min(max(i - width // 2, 0), len(values) - width)
        inner = np.sort(values[begin : begin + width])[cut : width - cut]
        actual[:, i] = inner.mean(), inner.std(ddof=1)
    return actual


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3).map(float), max_size=40), st.integers(1, 6), st.integers(0, 2))
def test_few_values(values: list[Any], half: int, cut: int) -> None:
    array = np.array(values)
    np.testing.assert_allclose(neighbour_median(array, half), plain_medians(array, half))
    actual = np.array(trimmed_moments(array, 2 * half, cut)).reshape(2, -1)
    np.testing.assert_allclose(actual, plain_moments(array, 2 * half, cut), atol=1e-7)


@pytest.mark.parametrize("decimals", [1, 2, 8])
@pytest.mark.parametrize(("width", "cut"), [(60, 6), (7, 1), (10, 0)])
def test_many_values(decimals: int, width: int, cut: int) -> None:
    values = walk(4_000, width, decimals)
    actual = np.array(trimmed_moments(values, width, cut))
    np.testing.assert_allclose(actual, plain_moments(values, width, cut), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(neighbour_median(values, width), plain_medians(values, width))


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_blocks_do_not_change_results(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    values = walk(1_500, 3, 2)
    medians, moments = neighbour_median(values, 25), trimmed_moments(values, 60, 6)
    monkeypatch.setattr(
        window_kernels, "run_in_blocks", partial(run_in_blocks, rows_per_block=piece)
    )
    np.testing.assert_array_equal(neighbour_median(values, 25), medians)
    np.testing.assert_allclose(trimmed_moments(values, 60, 6), moments, rtol=1e-12, atol=1e-7)
