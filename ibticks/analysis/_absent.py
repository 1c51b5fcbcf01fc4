"""Prices and sizes that stand for none, as expressions: IB's sentinels, and quotes of 0 by 0.

The rule is that of :mod:`ibticks.format`, which stores written before did not apply: unset
numbers are absent, and so is a price of -1 or 0 beside a size of 0. Without a column of sizes the
price stands. A quote of 0 by 0, whatever its sizes, is that of a halt: both sides are absent.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Final

import polars as pl

from ibticks.schema import NO_QUOTE_PRICES, UNSET_LIMIT, UNSET_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "UNSET_LEAST",
    "is_quote",
    "is_set",
    "is_trade",
    "present",
    "present_sides",
    "relative_to",
]

_SIZE_OF: Final = {"price": "size", "bid_price": "bid_size", "ask_price": "ask_size"}
_PRICE_OF: Final = {size: price for price, size in _SIZE_OF.items()}
_ABSENT: Final = pl.lit(value=False)
UNSET_LEAST: Final = min(*UNSET_NUMBERS, UNSET_LIMIT)
"""Numbers below it are set, numbers from it on may be unset."""

_OTHER_SIDE: Final = {"bid_price": "ask_price", "ask_price": "bid_price"}


def is_set(value: pl.Expr) -> pl.Expr:
    """Return where a number is finite and not one of IB's unset values; null stays null.

    Examples
    --------
    >>> numbers = pl.DataFrame({"size": [100.0, 2147483647.0, 1.7976931348623157e308, None]})
    >>> numbers.select(is_set(pl.col("size")))["size"].to_list()
    [True, False, False, None]
    """
    known = (value < UNSET_LIMIT) & (value > -UNSET_LIMIT)
    for number in UNSET_NUMBERS:
        known &= value != number
    return known


def present(name: str, columns: Collection[str]) -> pl.Expr:
    """Return a column of prices or sizes, null where the number is none.

    Parameters
    ----------
    name : str
        Of the column; for ``price``, the sides of quotes and their sizes, price and size decide
        together.
    columns : collection of str
        Those of the frame.

    Examples
    --------
    >>> quotes = pl.DataFrame(
    ...     {"bid_price": [10.0, -1.0, -1.0], "bid_size": [5.0, 0.0, 2.0], "ask_price": 10.5}
    ... )
    >>> quotes.select(present("bid_price", quotes.columns))["bid_price"].to_list()
    [10.0, None, -1.0]
    """
    price = _PRICE_OF.get(name, name)
    size, other = _SIZE_OF.get(price, ""), _OTHER_SIDE.get(price, "")
    none = []
    if price in columns and size in columns:
        nothing = (pl.col(size) == 0) | (~is_set(pl.col(size)) & pl.col(size).is_not_nan())
        none.append(_is_none(pl.col(price)) & nothing)
    if price in columns and other in columns:
        none.append((pl.col(price) == 0) & (pl.col(other) == 0))
    known = is_set(pl.col(name))
    if none:
        known &= ~reduce(or_, none).fill_null(value=False)
    return pl.when(known).then(pl.col(name)).alias(name)


def is_quote() -> pl.Expr:
    """Return where a row is a quote: a side has a finite price, or its tick type is ``bid_ask``.

    A quote without a bid and an offer is one: it ends the quote before it. In a frame without
    ``tick_type`` it cannot be told from a trade.

    Examples
    --------
    >>> ticks = pl.DataFrame(
    ...     {"bid_price": [1.0, None], "ask_price": [None, None], "tick_type": ["bid_ask"] * 2}
    ... )
    >>> ticks.filter(is_quote()).height, ticks.drop("tick_type").filter(is_quote()).height
    (2, 1)
    """
    # A pattern, so that a frame need not have the column.
    by_type = pl.col("^tick_type$").cast(pl.String) == "bid_ask"
    sides = (pl.col(name).is_finite() for name in _OTHER_SIDE)
    return pl.any_horizontal(*sides, by_type).fill_null(value=False)


def is_trade() -> pl.Expr:
    """Return where a row is a trade: it has a ``price`` that is one.

    A trade of size 0 at a price of 0 or -1 is IB's message that trading halted, or no data.

    Examples
    --------
    >>> ticks = pl.DataFrame({"price": [1.5, 0.0, 0.0, None], "size": [100.0, 0.0, 5.0, None]})
    >>> ticks.filter(is_trade())["price"].to_list()
    [1.5, 0.0]
    """
    price = pl.col("price")
    nothing = pl.any_horizontal(_ABSENT, pl.col("^size$") == 0, ~is_set(pl.col("^size$")))
    known = is_set(price) & ~(_is_none(price) & nothing.fill_null(value=False))
    return known.fill_null(value=False)


def present_sides(columns: Collection[str]) -> list[pl.Expr]:
    """Return the prices and sizes of quotes that a frame has, null where they are none."""
    names = ("bid_price", "bid_size", "ask_price", "ask_size")
    return [present(name, columns) for name in names if name in columns]


def relative_to(value: pl.Expr, mid: pl.Expr) -> pl.Expr:
    """Return a value as a share of a mid, of its size where that is negative; null at 0.

    Examples
    --------
    >>> spreads = pl.DataFrame({"spread": [0.5, 0.5, 0.5], "mid": [100.0, -100.0, 0.0]})
    >>> spreads.select(relative_to(pl.col("spread"), pl.col("mid")))["spread"].to_list()
    [0.005, 0.005, None]
    """
    return pl.when(mid != 0).then(value / mid.abs())


def _is_none(price: pl.Expr) -> pl.Expr:
    return reduce(or_, (price == number for number in NO_QUOTE_PRICES))
