"""Whole columns under the rule of :mod:`ibticks.format`, for rooms that have numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ibticks.format._absent import (
    NO_QUOTE_PRICES,
    SIDES,
    UNSET_LIMIT,
    UNSET_NUMBERS,
    VALUES,
)
from ibticks.format._columns import TickColumns, Values

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["is_no_quote_rows", "is_unset_rows", "with_absent_values"]


def is_unset_rows(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return the rows of :func:`is_unset`.

    Examples
    --------
    >>> is_unset_rows(np.array([2147483647.0, np.inf, np.nan, 100.0]))
    array([ True,  True,  True, False])
    """
    unset: npt.NDArray[np.bool_] = ~(np.abs(values) < UNSET_LIMIT)
    for number in UNSET_NUMBERS:
        unset |= values == number
    return unset


def is_no_quote_rows(
    prices: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Return the rows of :func:`is_no_quote`; absent sizes are NaN.

    Examples
    --------
    >>> is_no_quote_rows(np.array([-1.0, 0.0, -1.0]), np.array([0.0, 0.0, 5.0]))
    array([ True,  True, False])
    """
    candidates: npt.NDArray[np.bool_] = np.zeros(len(prices), dtype=np.bool_)
    for number in NO_QUOTE_PRICES:
        candidates |= prices == number
    if candidates.any():
        candidates &= (sizes == 0) | (is_unset_rows(sizes) & ~np.isnan(sizes))
    return candidates


def with_absent_values(columns: TickColumns) -> TickColumns:
    """Return ticks in which unset values and sides without a quote are absent.

    Parameters
    ----------
    columns : TickColumns
        Of any tick types.

    Returns
    -------
    TickColumns
        ``columns`` itself if nothing changes; else with new validity masks around the same values.

    Examples
    --------
    >>> quotes = TickColumns(
    ...     2,
    ...     {
    ...         "timestamp": Values(np.array([1, 2])),
    ...         "bid_price": Values(np.array([-1.0, -1.0])),
    ...         "bid_size": Values(np.array([0.0, 5.0])),
    ...     },
    ... )
    >>> with_absent_values(quotes).columns["bid_price"].valid
    array([False,  True])
    """
    absent: dict[str, npt.NDArray[np.bool_]] = {}
    for name in VALUES:
        column = columns.columns.get(name)
        if isinstance(column, Values):
            absent[name] = is_unset_rows(column.values)
    for price, size in SIDES:
        if price in absent and size in absent:
            missing = is_no_quote_rows(
                _numbers(columns.columns[price]), _numbers(columns.columns[size])
            )
            absent[price] |= missing
            absent[size] |= missing
    changed = {
        name: _without(column, rows)
        for name, rows in absent.items()
        if rows.any() and isinstance(column := columns.columns[name], Values)
    }
    if not changed:
        return columns
    return TickColumns(columns.rows, {**columns.columns, **changed}, columns.missing)


def _numbers(column: object) -> npt.NDArray[np.float64]:
    """Return the values of a column, NaN where they are absent."""
    assert isinstance(column, Values)
    return column.values if column.valid is None else np.where(column.valid, column.values, np.nan)


def _without(column: Values, absent: npt.NDArray[np.bool_]) -> Values:
    return Values(column.values, ~absent if column.valid is None else column.valid & ~absent)
