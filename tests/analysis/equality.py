"""Equality up to rounding, of rows with nothing in them too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl


def same(found, expected, *, rel: float = 1e-9, absolute: float = 1e-12) -> None:
    """Assert that numbers, or rows of them, are the same up to rounding; None equals None."""
    if isinstance(found, pl.DataFrame):
        found = found.rows()
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        assert len(found) == len(expected), (found, expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other, rel=rel, absolute=absolute)
    elif isinstance(expected, float) and isinstance(found, float):
        close = math.isclose(found, expected, rel_tol=rel, abs_tol=absolute)
        assert close or (math.isnan(found) and math.isnan(expected)), (found, expected)
    else:
        assert found == expected
