"""IB's sentinels for "no value", and the rule that tells them from prices and sizes.

TWS sends numbers where it has none:

- *unset*: 2147483647 (``UNSET_INTEGER``), 2**63 - 1 (``UNSET_LONG``), 2**127 - 1
  (``UNSET_DECIMAL``), the largest double (``UNSET_DOUBLE``), ``Infinity`` and NaN. No price and no
  size is as large, so each is recognised by itself;
- *no quote*: a side of a quote without a bid or an offer has a price of -1 or 0 and a size of 0. A
  price of -1 or 0 may be real (futures spreads, crude oil in April 2020) and then has a size, so
  price and size decide together. Where a size is missing altogether, the price stands;
- *no trade*: a trade of price 0 and size 0 says that trading was halted (with ``past_limit``) or
  goes on (without); -1 with size 0 is IB's "no data". Neither is a price.

Unset values and sides without a quote are stored as absent. A trade of size 0 is stored as it came,
since a halt must stay recognisable; statistics and measures leave its price out. A ``mid_point``
tick has no size, so only an unset mid is absent.

Files of earlier versions hold such numbers as they came, and are loaded as they are.

Numpy is imported by the functions that take columns, so that a capture does without it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, SupportsFloat

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ibticks.schema._columns import TickColumns, Values
    from ibticks.tick_stream_pb2 import TickData

__all__ = [
    "NO_QUOTE_PRICES",
    "PRICES_AND_SIZES",
    "SIDES",
    "UNSET_LIMIT",
    "UNSET_NUMBERS",
    "clean_number",
    "clean_side",
    "clear_absent_fields",
    "is_no_quote",
    "is_unset",
    "mask_absent_values",
    "no_quote_mask",
    "unset_mask",
]

UNSET_NUMBERS: Final = (2147483647.0, float(2**63 - 1))
"""``UNSET_INTEGER`` and ``UNSET_LONG``, as doubles."""

UNSET_LIMIT: Final = 1.7e38
"""Numbers of this magnitude and beyond are unset: ``UNSET_DECIMAL``, ``UNSET_DOUBLE``, infinity."""

_FEW_ROWS: Final = 1_000  # up to which a mask costs no more than to see that it is not needed

NO_QUOTE_PRICES: Final = (-1.0, 0.0)
"""Prices that mean "none" beside a size of 0."""

PRICES_AND_SIZES: Final = (
    "price",
    "size",
    "bid_price",
    "bid_size",
    "ask_price",
    "ask_size",
    "mid_price",
)
"""Columns that may be unset."""

SIDES: Final = (("bid_price", "bid_size"), ("ask_price", "ask_size"))
"""Price and size of each side of a quote."""


def is_unset(value: float) -> bool:
    """Return whether a number stands for no value.

    Examples
    --------
    >>> [is_unset(value) for value in (2147483647, float(2**127 - 1), float("nan"), 100.0, -1.0)]
    [True, True, True, False, False]
    """
    # Written so that NaN, which compares as False, is unset.
    return not -UNSET_LIMIT < value < UNSET_LIMIT or value in UNSET_NUMBERS


def is_no_quote(price: float, size: float) -> bool:
    """Return whether price and size stand for no quote, or for no trade.

    Parameters
    ----------
    price : float
    size : float
        As TWS sent it; an unset number counts as 0, NaN (not known) does not.

    Examples
    --------
    >>> is_no_quote(-1.0, 0.0), is_no_quote(0.0, 0.0), is_no_quote(-1.0, 2147483647.0)
    (True, True, True)
    >>> is_no_quote(-1.0, 5.0), is_no_quote(-37.63, 0.0), is_no_quote(-1.0, float("nan"))
    (False, False, False)
    """
    return price in NO_QUOTE_PRICES and (size == 0 or (is_unset(size) and not math.isnan(size)))


def clean_number(value: SupportsFloat) -> float | None:
    """Return a price or a size as a float, None if it is unset.

    Examples
    --------
    >>> clean_number(100), clean_number(2147483647)
    (100.0, None)
    """
    number = float(value)
    return None if is_unset(number) else number


def clean_side(price: float, size: SupportsFloat) -> tuple[float | None, float | None]:
    """Return price and size of one side of a quote, None for what is absent.

    Examples
    --------
    >>> clean_side(10.0, 5), clean_side(-1.0, 0), clean_side(10.0, 2147483647)
    ((10.0, 5.0), (None, None), (10.0, None))
    """
    number = float(size)
    if is_no_quote(price, number):
        return None, None
    return None if is_unset(price) else price, None if is_unset(number) else number


def clear_absent_fields(tick: TickData) -> None:
    """Clear, in place, the fields of a tick that are unset and the sides without a quote.

    Examples
    --------
    >>> from ibticks.tick_stream_pb2 import TickData
    >>> tick = TickData(bid_price=-1.0, bid_size=0.0, ask_price=10.5, ask_size=2147483647.0)
    >>> clear_absent_fields(tick)
    >>> [field.name for field, value in tick.ListFields()]
    ['ask_price']
    """
    absent = [
        name for name in PRICES_AND_SIZES if tick.HasField(name) and is_unset(getattr(tick, name))
    ]
    for price, size in SIDES:
        known = tick.HasField(price) and tick.HasField(size)
        if known and is_no_quote(getattr(tick, price), getattr(tick, size)):
            absent += price, size
    for name in absent:
        tick.ClearField(name)


def unset_mask(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return the mask of the values for which :func:`is_unset` holds.

    Examples
    --------
    >>> import numpy as np
    >>> unset_mask(np.array([2147483647.0, np.inf, np.nan, 100.0]))
    array([ True,  True,  True, False])
    """
    import numpy as np

    # The usual case, which the largest and the smallest number tell; not so with NaN.
    if len(values) > _FEW_ROWS:
        with np.errstate(invalid="ignore"):
            if values.min() > -UNSET_LIMIT and values.max() < UNSET_NUMBERS[0]:
                return np.zeros(len(values), dtype=np.bool_)
    unset: npt.NDArray[np.bool_] = ~(np.abs(values) < UNSET_LIMIT)
    for number in UNSET_NUMBERS:
        unset |= values == number
    return unset


def no_quote_mask(
    prices: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Return the mask of the rows for which :func:`is_no_quote` holds; absent sizes are NaN.

    Examples
    --------
    >>> import numpy as np
    >>> no_quote_mask(np.array([-1.0, 0.0, -1.0]), np.array([0.0, 0.0, 5.0]))
    array([ True,  True, False])
    """
    import numpy as np

    candidates: npt.NDArray[np.bool_] = np.zeros(len(prices), dtype=np.bool_)
    if len(prices) > _FEW_ROWS:
        with np.errstate(invalid="ignore"):
            if prices.min() > max(NO_QUOTE_PRICES):
                return candidates
    for number in NO_QUOTE_PRICES:
        candidates |= prices == number
    if candidates.any():
        candidates &= (sizes == 0) | (unset_mask(sizes) & ~np.isnan(sizes))
    return candidates


def mask_absent_values(columns: TickColumns) -> TickColumns:
    """Mark unset values, and sides without a quote, as absent.

    Parameters
    ----------
    columns : TickColumns
        Ticks of any tick types.

    Returns
    -------
    TickColumns
        ``columns`` itself if nothing changes; else new validity masks around the same values.

    Examples
    --------
    >>> import numpy as np
    >>> from ibticks.schema import TickColumns, Values
    >>> quotes = TickColumns(
    ...     2,
    ...     {
    ...         "timestamp": Values(np.array([1, 2])),
    ...         "bid_price": Values(np.array([-1.0, -1.0])),
    ...         "bid_size": Values(np.array([0.0, 5.0])),
    ...     },
    ... )
    >>> mask_absent_values(quotes).columns["bid_price"].valid
    array([False,  True])
    """
    from ibticks.schema._columns import TickColumns, Values

    absent: dict[str, npt.NDArray[np.bool_]] = {}
    for name in PRICES_AND_SIZES:
        column = columns.columns.get(name)
        if isinstance(column, Values):
            absent[name] = unset_mask(column.values)
    for price, size in SIDES:
        if price in absent and size in absent:
            missing = no_quote_mask(
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
    import numpy as np

    from ibticks.schema._columns import Values

    assert isinstance(column, Values)
    return column.values if column.valid is None else np.where(column.valid, column.values, np.nan)


def _without(column: Values, absent: npt.NDArray[np.bool_]) -> Values:
    from ibticks.schema._columns import Values

    return Values(column.values, ~absent if column.valid is None else column.valid & ~absent)
