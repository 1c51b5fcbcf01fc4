"""Sums over adjacent returns, scaled to integrated variance or quarticity.

Each takes the returns, with zeros between them as of ``Sampled.spaced_returns``, and their number,
which counts all zeros. ``order`` is 2 for variance and 4 for quarticity. The sum of too few returns
is None.
"""

from __future__ import annotations

from math import gamma, pi
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["median_sum", "minimum_sum", "product_sum"]

_MINIMUM: Final = {2: pi / (pi - 2), 4: pi / (3 * pi - 8)}

_MEDIAN: Final = {2: pi / (6 - 4 * 3**0.5 + pi), 4: 3 * pi / (9 * pi + 72 - 52 * 3**0.5)}


def minimum_sum(returns: Floats, n: int, order: int, *, adjusted: bool = True) -> float | None:
    """Return the scaled sum of powers of the smaller of two adjacent sizes.

    Examples
    --------
    >>> minimum_sum(np.array([1.0, -2.0, 3.0]), 3, 2, adjusted=False) * (1 - 2 / pi)
    5.0
    """
    if n < 2:
        return None
    size = np.abs(returns)
    total = _power_sum(np.minimum(size[1:], size[:-1]), order)
    return _scaled(total * _MINIMUM[order], n, 2, order, adjusted=adjusted)


def median_sum(returns: Floats, n: int, order: int, *, adjusted: bool = True) -> float | None:
    """Return the scaled sum of powers of the median of three adjacent sizes.

    Examples
    --------
    >>> round(median_sum(np.array([1.0, -2.0, 3.0]), 3, 2, adjusted=False) / _MEDIAN[2], 9)
    4.0
    """
    if n < 3:
        return None
    size = np.abs(returns)
    one, two, three = size[:-2], size[1:-1], size[2:]
    median = np.maximum(np.minimum(one, two), np.minimum(np.maximum(one, two), three))
    return _scaled(_power_sum(median, order) * _MEDIAN[order], n, 3, order, adjusted=adjusted)


def product_sum(
    returns: Floats, n: int, factors: int, power: float, *, adjusted: bool = True
) -> float | None:
    """Return the scaled sum of products of adjacent sizes, each to a power: multipower variation.

    Examples
    --------
    >>> round(product_sum(np.array([1.0, -2.0, 3.0]), 3, 2, 1.0, adjusted=False) * 2 / pi, 9)
    8.0
    """
    if n < factors:
        return None
    size = np.abs(returns) if power == 1 else np.abs(returns) ** power
    rows = len(size) - factors + 1
    product = size[:rows].copy()
    for lag in range(1, factors):
        product *= size[lag : lag + rows]
    moment = 2 ** (power / 2) * gamma((power + 1) / 2) / pi**0.5
    total = float(product.sum()) / moment**factors
    return _scaled(total, n, factors, round(factors * power), adjusted=adjusted)


def _power_sum(sizes: Floats, order: int) -> float:
    """Return the sum of second or fourth powers, by products: powers take several times as long."""
    if order == 2:
        return float(sizes @ sizes)
    square = sizes * sizes
    return float(square @ square)


def _scaled(total: float, n: int, factors: int, order: int, *, adjusted: bool) -> float:
    """Scale a sum of powers to its rate, and for the sums that few returns lack."""
    rate = n if order == 4 else 1
    return total * rate * (n / (n - factors + 1) if adjusted else 1.0)
