"""Equality up to rounding, also of null values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl


def same(
    actual: Any,
    expected: Any,
    *,
    rel: float = 1e-9,
    absolute: float = 1e-12,
) -> None:
    """Assert that numbers, or rows of them, are the same up to rounding; None equals None."""
    if isinstance(actual, pl.DataFrame):
        actual = actual.rows()
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        assert len(actual) == len(expected), (actual, expected)
        for one, other in zip(actual, expected, strict=True):
            same(one, other, rel=rel, absolute=absolute)
    elif isinstance(expected, float) and isinstance(actual, float):
        close = math.isclose(actual, expected, rel_tol=rel, abs_tol=absolute)
        assert close or (math.isnan(actual) and math.isnan(expected)), (actual, expected)
    else:
        assert actual == expected
