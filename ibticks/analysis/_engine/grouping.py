"""Rows and groups of measures, with shortcuts for eager frames.

An eager frame shows at little cost that it has one contract, or that each row is a trade; polars is
several times as fast without the key, and without the copy. :func:`compiled` evaluates a numba
kernel for each contract.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ibticks.analysis._engine import columns
from ibticks.analysis._engine.columns import (
    UNSET_LEAST,
    apart,
    as_times,
    by,
    instant,
    is_set,
    is_trade,
    require,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from ibticks.analysis._engine.bars import BarClock

__all__ = [
    "compiled",
    "grouped",
    "has_plain_quotes",
    "in_a_row",
    "in_time",
    "is_plain",
    "kept",
    "number",
    "quote_rows",
    "rows_with",
    "trade_rows",
    "whole",
]


def trade_rows(ticks: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    """The rows that are trades, as ``trades`` picks them.

    Examples
    --------
    >>> trade_rows(pl.DataFrame({"price": [1.5, None]})).collect().height
    1
    """
    require(ticks, "price", what="a measure of trades")
    return rows_with(ticks, "price")


def quote_rows(ticks: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    """The rows that are quotes, as ``quotes`` picks them.

    Examples
    --------
    >>> ticks = pl.DataFrame({"bid_price": [1.0, None], "ask_price": [2.0, None]})
    >>> quote_rows(ticks).collect().height
    1
    """
    require(ticks, "bid_price", "ask_price", what="a measure of quotes")
    return ticks.lazy() if has_plain_quotes(ticks) else columns.quotes(ticks.lazy())


def has_plain_quotes(ticks: pl.DataFrame | pl.LazyFrame) -> bool:
    """Return True where each row is known to be a quote with two sides, whose sizes are set.

    Examples
    --------
    >>> ticks = pl.DataFrame({"bid_price": [1.0, -1.0], "ask_price": [2.0, 2.0]})
    >>> has_plain_quotes(ticks[:1]), has_plain_quotes(ticks), has_plain_quotes(ticks[:1].lazy())
    (True, False, False)
    """
    prices = all(is_plain(ticks, name) for name in ("bid_price", "ask_price"))
    sizes = [name for name in ("bid_size", "ask_size") if name in ticks.collect_schema()]
    return prices and all(is_plain(ticks, name, least=0) for name in sizes)


def rows_with(ticks: pl.DataFrame | pl.LazyFrame, name: str) -> pl.LazyFrame:
    """The rows in which a column has a number, and not one that stands for none.

    Examples
    --------
    >>> rows_with(pl.DataFrame({"mid": [1.5, None, float("inf")]}), "mid").collect().height
    1
    """
    lazy = ticks.lazy()
    if is_plain(ticks, name):
        return lazy
    return lazy.filter(is_trade() if name == "price" else is_set(pl.col(name)))


def is_plain(ticks: pl.DataFrame | pl.LazyFrame, name: str, *, least: float | None = None) -> bool:
    """Return True where a column is known to be finite and set, and nowhere a price for "none".

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
    name : str
    least : float, optional
        The least number there may be; by default any above 0.

    Examples
    --------
    >>> ticks = pl.DataFrame({"price": [1.0, 2.0], "bid_price": [1.0, -1.0], "size": [0.0, 1.0]})
    >>> [is_plain(ticks, name) for name in ("price", "bid_price", "size")]
    [True, False, False]
    >>> is_plain(ticks, "size", least=0)
    True
    """
    if not whole(ticks, name) or isinstance(ticks, pl.LazyFrame) or not ticks.height:
        return False
    low, high = ticks[name].min(), ticks[name].max()
    return bool((low > 0 if least is None else low >= least) and high < UNSET_LEAST)  # type: ignore[operator]


def whole(ticks: pl.DataFrame | pl.LazyFrame, name: str) -> bool:
    """Whether it is known of a column that each row is a finite number: then their sum is finite.

    Examples
    --------
    >>> ticks = pl.DataFrame({"price": [1.0, 2.0], "size": [1.0, float("nan")]})
    >>> whole(ticks, "price"), whole(ticks, "size"), whole(ticks.lazy(), "price")
    (True, False, False)
    """
    if isinstance(ticks, pl.LazyFrame) or ticks[name].null_count():
        return False
    total = ticks[name].sum()
    return total is not None and math.isfinite(total)


def number(ticks: pl.DataFrame | pl.LazyFrame, name: str) -> pl.Expr:
    """A column of numbers, null where it is NaN, infinite or unset.

    Examples
    --------
    >>> ticks = pl.DataFrame({"price": [1.0, float("nan")]})
    >>> ticks.select(number(ticks, "price"))["price"].to_list()
    [1.0, None]
    """
    if is_plain(ticks, name, least=-math.inf):
        return pl.col(name)
    return pl.when(is_set(pl.col(name))).then(pl.col(name))


def grouped(
    rows: pl.LazyFrame,
    groups: Sequence[pl.Expr],
    ticks: pl.DataFrame | pl.LazyFrame,
    clock: BarClock | None = None,
    /,
    **values: pl.Expr,
) -> pl.LazyFrame:
    """A row for each group, sorted by the groups; without any, one if there are rows at all.

    Parameters
    ----------
    rows : polars.LazyFrame
    groups : sequence of polars.Expr
        What to group and sort by, the contract among it; one called ``timestamp`` is the start of
        bars, and rises with time.
    ticks : polars.DataFrame or polars.LazyFrame
        The frame that the rows are of.
    clock : BarClock, optional
        What bars begin with, where ``timestamp`` is among the groups.
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
    elif not (in_time(ticks) and [each.meta.output_name() for each in hashed] == ["timestamp"]):
        found = rows.group_by(hashed).agg(*said, **values)
        found = found.sort([name for name in names if name not in alone])
    elif clock is not None and clock.table is None and _as_many(ticks, clock.step):
        every, offset = f"{clock.step}i", f"{clock.origin}i"
        counted = rows.with_columns(_group=instant().set_sorted())
        bars = counted.group_by_dynamic("_group", every=every, offset=offset)
        found = bars.agg(*said, **values)
        found = found.with_columns(timestamp=as_times("_group", ticks))
    else:
        # Known to rise, they are found where they lie.
        rising = rows.with_columns(_group=hashed[0].set_sorted()).group_by("_group")
        found = rising.agg(*said, **values).sort("_group").rename({"_group": "timestamp"})
    return found.select(*names, *values)


def in_a_row(rows: pl.LazyFrame, group: pl.Expr, *said: pl.Expr, **values: pl.Expr) -> pl.LazyFrame:
    """A row for each group, of groups whose rows are in a row: ``group``, and what is said of it.

    They need not be looked for, and each is a slice: where there are many, and much is said of
    each, that is twice as fast as to group by a value that is known to rise.

    Examples
    --------
    >>> rows = pl.LazyFrame({"place": [0, 1, 2, 3]})
    >>> third = (pl.col("place") // 3).alias("third")
    >>> in_a_row(rows, third, pl.col("place")).collect().rows()
    [(0, [0, 1, 2]), (1, [3])]
    """
    name = group.meta.output_name()
    # By the number of the group: by what it is, polars makes room for all that could be between.
    numbered = rows.with_columns(_group=group).with_columns(
        _number=pl.col("_group").rle_id().cast(pl.Int64).set_sorted()
    )
    found = numbered.group_by_dynamic("_number", every="1i").agg(
        pl.col("_group").first(), *said, **values
    )
    return found.select(pl.col("_group").alias(name), pl.exclude("_number", "_group"))


def in_time(ticks: pl.DataFrame | pl.LazyFrame) -> bool:
    """Whether it is known that all is of one contract, and the times never fall.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame({"timestamp": [datetime(2025, 1, day, tzinfo=UTC) for day in (1, 2)]})
    >>> in_time(ticks), in_time(ticks.reverse()), in_time(ticks.lazy())
    (True, False, False)
    """
    if isinstance(ticks, pl.LazyFrame) or apart(ticks):
        return False
    return not ticks["timestamp"].null_count() and ticks["timestamp"].is_sorted()


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


def _as_many(ticks: pl.DataFrame | pl.LazyFrame, step: int) -> bool:
    """Whether there are as many rows as bars: polars makes room for those without a row, too."""
    if isinstance(ticks, pl.LazyFrame) or not ticks.height:
        return False
    first, last = ticks[[0, -1]].select(instant()).to_series()
    return bool((last - first) // step < ticks.height)


def compiled(
    name: str,
    inputs: Sequence[pl.Expr],
    *constants: float,
    keys: list[str],
    results: Mapping[str, pl.DataType],
) -> pl.Expr:
    """What a kernel of :mod:`ibticks.analysis` makes of each contract.

    Parameters
    ----------
    name : str
        Of the kernel.
    inputs : sequence of polars.Expr
        Its arrays, Int64 without nulls or Float64, where null becomes NaN; an expression may be a
        constant, but not the first.
    *constants : float or int
        Its other arguments, always of the same type, for each of which it is compiled.
    keys : list of str
        From ``apart``.
    results : mapping of str to polars.DataType
        What it returns: one of them is a plain column, several are the fields of a struct.

    Returns
    -------
    polars.Expr
        Null where the kernel leaves NaN: as an expression, that would run the kernel once more.
        Numba loads when the query runs.

    Examples
    --------
    >>> frame = pl.DataFrame({"contract_id": [1, 2, 1, 1], "size": [3.0, 9.0, 4.0, 2.0]})
    >>> bar = compiled(
    ...     "filled_bars", [pl.col("size")], 5.0, keys=["contract_id"], results={"bar": pl.Int64()}
    ... )
    >>> frame.select(bar.alias("bar"))["bar"].to_list()
    [0, 0, 0, -2]
    """
    several = len(results) > 1

    def run(columns: Sequence[pl.Series]) -> pl.Series:
        from ibticks.analysis._engine import kernels as recurrences

        rows = len(columns[0])
        found = getattr(recurrences, name)(*(_array(each, rows) for each in columns), *constants)
        names = dict(zip(results, found if several else [found], strict=True))
        frame = pl.DataFrame(names).fill_nan(None)
        return frame.to_struct(name) if several else frame.to_series()

    (first, *_), fields = results.values(), pl.Struct(dict(results))
    return within(pl.map_batches(inputs, run, fields if several else first), keys)


def _array(column: pl.Series, rows: int) -> npt.NDArray[Any]:
    values = np.ascontiguousarray(np.broadcast_to(column.to_numpy(), rows)).view()
    # To numba an array that may be written to is of another type, to be compiled for once more.
    values.flags.writeable = False
    return values
