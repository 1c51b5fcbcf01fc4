"""Ticks of the same time made one."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import polars as pl

from ibticks.analysis import _columns as columns
from ibticks.analysis._columns import F, apart, finite, instant, like, require
from ibticks.analysis._compiled import compiled
from ibticks.errors import InputError

__all__ = ["merge_same_timestamp"]

How: TypeAlias = Literal["median", "max_volume", "weighted_average"]
"""Which price stands for all."""

_MERGED: Final = {name: pl.Float64() for name in ("value", "sum", "largest", "rows")}


def merge_same_timestamp(
    ticks: F, *, of: Literal["trades", "quotes"] = "trades", how: How = "median"
) -> F:
    """One row for all trades, or quotes, of a contract that have the same timestamp.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival; rows of the other kind are left out.
    of : {"trades", "quotes"}
        Which rows.
    how : {"median", "max_volume", "weighted_average"}
        The price is the median; that of the largest size (the highest of several); or the average
        weighted by size (the plain average if all sizes are zero). Of a quote, each side by its own
        size.

    Returns
    -------
    same as ticks
        The columns of the ticks and ``count`` (uint32), of how many rows each is made. Sizes are
        the sum; of trades with ``"max_volume"``, the largest. All else is that of the last row.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``of`` or ``how`` is not known.

    Notes
    -----
    As ``mergeTradesSameTimestamp`` and ``mergeQuotesSameTimestamp`` of R's *highfrequency*. Times
    are those of arrival; the trades of one order that swept a book often share one.

    References
    ----------
    O. E. Barndorff-Nielsen, P. R. Hansen, A. Lunde and N. Shephard (2009), Realized kernels in
    practice: trades and quotes, *Econometrics Journal* 12, C1-C32: rules T3 and Q1.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, tzinfo=UTC)] * 3
    >>> trades = pl.DataFrame({"timestamp": at, "price": [1.0, 2.0, 5.0], "size": [1.0, 1.0, 2.0]})
    >>> merge_same_timestamp(trades).row(0)[1:]
    (2.0, 4.0, 3)
    >>> merge_same_timestamp(trades, how="weighted_average").row(0)[1:]
    (3.25, 4.0, 3)
    """
    sides = {
        "trades": [("price", "size")],
        "quotes": [("bid_price", "bid_size"), ("ask_price", "ask_size")],
    }
    if of not in sides or how not in get_args(How):
        raise InputError(
            f"merge_same_timestamp: of={of!r} is trades or quotes, how={how!r} is one of "
            f"{', '.join(get_args(How))}"
        )
    names: list[str] = [name for side in sides[of] for name in side]
    require(ticks, "timestamp", *names, what=f"merge_same_timestamp of {of}")
    lazy = ticks.lazy()
    rows = columns.trades(lazy) if of == "trades" else columns.quotes(lazy)
    keys = apart(ticks)
    code = get_args(How).index(how)
    runs = {
        f"_{price}": compiled(
            "merged", [instant(), finite(price), finite(size)], code, keys=keys, results=_MERGED
        )
        for price, size in sides[of]
    }
    merged = {}
    for price, size in sides[of]:
        run = pl.col(f"_{price}").struct.field
        merged[price] = run("value")
        merged[size] = run("largest" if (how, of) == ("max_volume", "trades") else "sum")
        merged["count"] = run("rows")
    last = pl.col("count").is_not_null()
    rows = rows.with_columns(**runs).with_columns(**merged).filter(last)
    return like(ticks, rows.drop(runs).with_columns(pl.col("count").cast(pl.UInt32)))
