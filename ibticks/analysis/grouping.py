"""Rows and groups of measures, with what an eager frame lets one leave out.

Of a frame at hand it is known at little cost that it is of one contract, or that each row is a
trade; polars is several times as fast without the key, and without the copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ibticks.analysis import columns
from ibticks.analysis.columns import apart, by, require

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["grouped", "kept", "quote_rows", "trade_rows"]


def trade_rows(ticks: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    """The rows that are trades, as :func:`ibticks.analysis.columns.trades` picks them.

    Examples
    --------
    >>> trade_rows(pl.DataFrame({"price": [1.5, None]})).collect().height
    1
    """
    require(ticks, "price", what="a measure of trades")
    lazy = ticks.lazy()
    if isinstance(ticks, pl.DataFrame) and ticks["price"].is_finite().all(ignore_nulls=False):
        return lazy
    return columns.trades(lazy)


def quote_rows(ticks: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    """The rows that are quotes, as :func:`ibticks.analysis.columns.quotes` picks them.

    Examples
    --------
    >>> ticks = pl.DataFrame({"bid_price": [1.0, None], "ask_price": [2.0, None]})
    >>> quote_rows(ticks).collect().height
    1
    """
    require(ticks, "bid_price", "ask_price", what="a measure of quotes")
    lazy = ticks.lazy()
    if isinstance(ticks, pl.DataFrame) and ticks["bid_price"].is_finite().all(ignore_nulls=False):
        return lazy
    return columns.quotes(lazy)


def grouped(
    rows: pl.LazyFrame,
    groups: Sequence[pl.Expr],
    ticks: pl.DataFrame | pl.LazyFrame,
    /,
    **values: pl.Expr,
) -> pl.LazyFrame:
    """A row for each group, sorted by the groups; without any, one if there are rows at all.

    Parameters
    ----------
    rows : polars.LazyFrame
    groups : sequence of polars.Expr
        What to group and sort by, the contract among it.
    ticks : polars.DataFrame or polars.LazyFrame
        The frame that the rows are of.
    **values : polars.Expr
        What is said of each group.

    Examples
    --------
    >>> ticks = pl.DataFrame({"contract_id": [8314, 8314], "price": [1.0, 2.0]})
    >>> grouped(ticks.lazy(), [pl.col("contract_id")], ticks, high=pl.col("price").max()).collect()
    shape: (1, 2)
    ┌─────────────┬──────┐
    │ contract_id ┆ high │
    │ ---         ┆ ---  │
    │ i64         ┆ f64  │
    ╞═════════════╪══════╡
    │ 8314        ┆ 2.0  │
    └─────────────┴──────┘
    """
    split = apart(ticks)
    alone = [key for key in by(ticks) if key not in split]
    names = [each.meta.output_name() for each in groups]
    hashed = [each for each, name in zip(groups, names, strict=True) if name not in alone]
    said = [pl.col(name).first() for name in names if name in alone]
    if not hashed:
        found = rows.select(*said, _rows=pl.len(), **values).filter(pl.col("_rows") > 0)
    else:
        found = rows.group_by(hashed).agg(*said, **values)
        found = found.sort([name for name in names if name not in alone])
    return found.select(*names, *values)


def kept(ticks: pl.DataFrame | pl.LazyFrame, groups: list[str]) -> list[pl.Expr]:
    """The contract of an eager frame that has but one, which ``groups`` leave out, to be put back.

    Examples
    --------
    >>> ticks = pl.DataFrame({"contract_id": [8314, 8314]})
    >>> pl.select(kept(ticks, [])).item()
    8314
    """
    schema = ticks.collect_schema()
    found = []
    for name in by(ticks):
        if name not in groups and isinstance(ticks, pl.DataFrame):
            value = ticks[name].min()
            found.append(pl.lit(value, schema[name]).alias(name))
    return found
