"""Rows and groups of measures, with shortcuts for eager frames.

An eager frame shows at little cost that it has one contract, or that each row is a trade; polars is
several times as fast without the key, and without the copy. :func:`apply_kernel` evaluates a numba
kernel for each contract.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ibticks.analysis._engine import columns
from ibticks.analysis._engine.columns import (
    UNSET_MINIMUM,
    grouping_keys,
    is_set,
    is_trade,
    key_columns,
    over_keys,
    require,
    time_ns,
    times_from_ns,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from ibticks.analysis._engine.bars import BarClock

__all__ = [
    "apply_kernel",
    "constant_keys",
    "group_adjacent",
    "group_rows",
    "has_complete_quotes",
    "is_all_finite",
    "is_all_set",
    "is_time_ordered",
    "number_or_null",
    "quote_rows",
    "rows_with",
    "trade_rows",
]


def trade_rows(ticks: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    """Return the rows that are trades, without a copy where all are.

    Examples
    --------
    >>> trade_rows(pl.DataFrame({"price": [1.5, None]})).collect().height
    1
    """
    require(ticks, "price", caller="a measure of trades")
    return rows_with(ticks, "price")


def quote_rows(ticks: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    """Return the rows that are quotes, without a copy where all are.

    Examples
    --------
    >>> ticks = pl.DataFrame({"bid_price": [1.0, None], "ask_price": [2.0, None]})
    >>> quote_rows(ticks).collect().height
    1
    """
    require(ticks, "bid_price", "ask_price", caller="a measure of quotes")
    return ticks.lazy() if has_complete_quotes(ticks) else columns.quotes(ticks.lazy())


def has_complete_quotes(ticks: pl.DataFrame | pl.LazyFrame) -> bool:
    """Return True where each row is known to be a quote with two sides, whose sizes are set.

    Examples
    --------
    >>> ticks = pl.DataFrame({"bid_price": [1.0, -1.0], "ask_price": [2.0, 2.0]})
    >>> (
    ...     has_complete_quotes(ticks[:1]),
    ...     has_complete_quotes(ticks),
    ...     has_complete_quotes(ticks[:1].lazy()),
    ... )
    (True, False, False)
    """
    prices = all(is_all_set(ticks, name) for name in ("bid_price", "ask_price"))
    sizes = [name for name in ("bid_size", "ask_size") if name in ticks.collect_schema()]
    return prices and all(is_all_set(ticks, name, least=0) for name in sizes)


def rows_with(ticks: pl.DataFrame | pl.LazyFrame, name: str) -> pl.LazyFrame:
    """Return the rows in which a column has a value.

    Examples
    --------
    >>> rows_with(pl.DataFrame({"mid": [1.5, None, float("inf")]}), "mid").collect().height
    1
    """
    lazy = ticks.lazy()
    if is_all_set(ticks, name):
        return lazy
    return lazy.filter(is_trade() if name == "price" else is_set(pl.col(name)))


def is_all_set(
    ticks: pl.DataFrame | pl.LazyFrame, name: str, *, least: float | None = None
) -> bool:
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
    >>> [is_all_set(ticks, name) for name in ("price", "bid_price", "size")]
    [True, False, False]
    >>> is_all_set(ticks, "size", least=0)
    True
    """
    if not is_all_finite(ticks, name) or isinstance(ticks, pl.LazyFrame) or not ticks.height:
        return False
    low, high = ticks[name].min(), ticks[name].max()
    return bool((low > 0 if least is None else low >= least) and high < UNSET_MINIMUM)  # type: ignore[operator]


def is_all_finite(ticks: pl.DataFrame | pl.LazyFrame, name: str) -> bool:
    """Return whether each row of a column is known to be finite: then their sum is finite.

    Examples
    --------
    >>> ticks = pl.DataFrame({"price": [1.0, 2.0], "size": [1.0, float("nan")]})
    >>> (
    ...     is_all_finite(ticks, "price"),
    ...     is_all_finite(ticks, "size"),
    ...     is_all_finite(ticks.lazy(), "price"),
    ... )
    (True, False, False)
    """
    if isinstance(ticks, pl.LazyFrame) or ticks[name].null_count():
        return False
    total = ticks[name].sum()
    return total is not None and math.isfinite(total)


def number_or_null(ticks: pl.DataFrame | pl.LazyFrame, name: str) -> pl.Expr:
    """Return a column of numbers, null where it is NaN, infinite or unset.

    Examples
    --------
    >>> ticks = pl.DataFrame({"price": [1.0, float("nan")]})
    >>> ticks.select(number_or_null(ticks, "price"))["price"].to_list()
    [1.0, None]
    """
    if is_all_set(ticks, name, least=-math.inf):
        return pl.col(name)
    return pl.when(is_set(pl.col(name))).then(pl.col(name))


def group_rows(
    rows: pl.LazyFrame,
    groups: Sequence[pl.Expr],
    ticks: pl.DataFrame | pl.LazyFrame,
    clock: BarClock | None = None,
    /,
    **values: pl.Expr,
) -> pl.LazyFrame:
    """Return a row for each group, sorted; without groups, one row if there are rows.

    Parameters
    ----------
    rows : polars.LazyFrame
    groups : sequence of polars.Expr
        Expressions to group and sort by, the contract among them; one called ``timestamp`` is the
        start of bars, and rises with time.
    ticks : polars.DataFrame or polars.LazyFrame
        The frame that the rows are of.
    clock : BarClock, optional
        Clock of the bars, where ``timestamp`` is among the groups.
    **values : polars.Expr
        Aggregates of each group.

    Examples
    --------
    >>> ticks = pl.DataFrame({"contract_id": [8314, 8314], "price": [1.0, 2.0]})
    >>> group_rows(
    ...     ticks.lazy(), [pl.col("contract_id")], ticks, high=pl.col("price").max()
    ... ).collect()
    shape: (1, 2)
    ┌─────────────┬──────┐
    │ contract_id ┆ high │
    │ ---         ┆ ---  │
    │ i64         ┆ f64  │
    ╞═════════════╪══════╡
    │ 8314        ┆ 2.0  │
    └─────────────┴──────┘
    """
    split = grouping_keys(ticks)
    alone = [key for key in key_columns(ticks) if key not in split]
    names = [group.meta.output_name() for group in groups]
    hashed = [group for group, name in zip(groups, names, strict=True) if name not in alone]
    constants = [pl.col(name).first() for name in names if name in alone]
    if not hashed:
        result = rows.select(*constants, _rows=pl.len(), **values).filter(pl.col("_rows") > 0)
    elif not (
        is_time_ordered(ticks) and [value.meta.output_name() for value in hashed] == ["timestamp"]
    ):
        result = rows.group_by(hashed).agg(*constants, **values)
        result = result.sort([name for name in names if name not in alone])
    elif clock is not None and clock.table is None and _has_dense_bars(ticks, clock.step):
        every, offset = f"{clock.step}i", f"{clock.origin}i"
        counted = rows.with_columns(_group=time_ns().set_sorted())
        bars = counted.group_by_dynamic("_group", every=every, offset=offset)
        result = bars.agg(*constants, **values)
        result = result.with_columns(timestamp=times_from_ns("_group", ticks))
    else:
        # Groups that are known to rise are found without hashing.
        rising = rows.with_columns(_group=hashed[0].set_sorted()).group_by("_group")
        result = rising.agg(*constants, **values).sort("_group").rename({"_group": "timestamp"})
    return result.select(*names, *values)


def group_adjacent(
    rows: pl.LazyFrame, group: pl.Expr, *aggregates: pl.Expr, **values: pl.Expr
) -> pl.LazyFrame:
    """Return a row for each group of adjacent rows: ``group``, and its aggregates.

    Each group is a slice: with many groups and many aggregates, that is twice as fast as to group
    by a value that is known to rise.

    Examples
    --------
    >>> rows = pl.LazyFrame({"place": [0, 1, 2, 3]})
    >>> third = (pl.col("place") // 3).alias("third")
    >>> group_adjacent(rows, third, pl.col("place")).collect().rows()
    [(0, [0, 1, 2]), (1, [3])]
    """
    name = group.meta.output_name()
    # Grouped by number: by value, polars would allocate all values in between.
    numbered = rows.with_columns(_group=group).with_columns(
        _number=pl.col("_group").rle_id().cast(pl.Int64).set_sorted()
    )
    result = numbered.group_by_dynamic("_number", every="1i").agg(
        pl.col("_group").first(), *aggregates, **values
    )
    return result.select(pl.col("_group").alias(name), pl.exclude("_number", "_group"))


def is_time_ordered(ticks: pl.DataFrame | pl.LazyFrame) -> bool:
    """Return whether the frame is known to have one contract, in order of time.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame({"timestamp": [datetime(2025, 1, day, tzinfo=UTC) for day in (1, 2)]})
    >>> is_time_ordered(ticks), is_time_ordered(ticks.reverse()), is_time_ordered(ticks.lazy())
    (True, False, False)
    """
    if isinstance(ticks, pl.LazyFrame) or grouping_keys(ticks):
        return False
    return not ticks["timestamp"].null_count() and ticks["timestamp"].is_sorted()


def constant_keys(ticks: pl.DataFrame | pl.LazyFrame, groups: list[str]) -> list[pl.Expr]:
    """Return the contract of an eager frame with one contract, which ``groups`` leave out.

    Examples
    --------
    >>> ticks = pl.DataFrame({"contract_id": [8314, 8314]})
    >>> pl.select(constant_keys(ticks, [])).item()
    8314
    """
    schema = ticks.collect_schema()
    result = []
    for name in key_columns(ticks):
        if name not in groups and isinstance(ticks, pl.DataFrame):
            value = ticks[name].min()
            result.append(pl.lit(value, schema[name]).alias(name))
    return result


def _has_dense_bars(ticks: pl.DataFrame | pl.LazyFrame, step: int) -> bool:
    """Return whether there are as many rows as bars: polars allocates empty bars, too."""
    if isinstance(ticks, pl.LazyFrame) or not ticks.height:
        return False
    first, last = ticks[[0, -1]].select(time_ns()).to_series()
    return bool((last - first) // step < ticks.height)


def apply_kernel(
    name: str,
    inputs: Sequence[pl.Expr],
    *constants: float,
    keys: list[str],
    results: Mapping[str, pl.DataType],
) -> pl.Expr:
    """Return a numba kernel, applied to each contract, as an expression.

    Parameters
    ----------
    name : str
        Name of the kernel.
    inputs : sequence of polars.Expr
        Arrays of the kernel, Int64 without nulls or Float64, where null becomes NaN; an expression
        may be a constant, but not the first.
    *constants : float or int
        Other arguments of the kernel, which is compiled once for each type of them.
    keys : list of str
        From ``grouping_keys``.
    results : mapping of str to polars.DataType
        Results of the kernel: one is a plain column, several are the fields of a struct.

    Returns
    -------
    polars.Expr
        Null where the kernel leaves NaN: as an expression, that would run the kernel once more.
        Numba loads when the query runs.

    Examples
    --------
    >>> frame = pl.DataFrame({"contract_id": [1, 2, 1, 1], "size": [3.0, 9.0, 4.0, 2.0]})
    >>> bar = apply_kernel(
    ...     "filled_bars", [pl.col("size")], 5.0, keys=["contract_id"], results={"bar": pl.Int64()}
    ... )
    >>> frame.select(bar.alias("bar"))["bar"].to_list()
    [0, 0, 0, -2]
    """
    several = len(results) > 1

    def evaluate(columns: Sequence[pl.Series]) -> pl.Series:
        from ibticks.analysis._engine import kernels

        rows = len(columns[0])
        result = getattr(kernels, name)(
            *(_read_only_array(column, rows) for column in columns), *constants
        )
        names = dict(zip(results, result if several else [result], strict=True))
        frame = pl.DataFrame(names).fill_nan(None)
        return frame.to_struct(name) if several else frame.to_series()

    (first, *_), fields = results.values(), pl.Struct(dict(results))
    return over_keys(pl.map_batches(inputs, evaluate, fields if several else first), keys)


def _read_only_array(column: pl.Series, rows: int) -> npt.NDArray[Any]:
    values = np.ascontiguousarray(np.broadcast_to(column.to_numpy(), rows)).view()
    # numba would compile the kernel once more for writable arrays.
    values.flags.writeable = False
    return values
