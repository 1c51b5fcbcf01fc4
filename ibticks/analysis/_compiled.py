"""Compiled recurrences as expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ibticks.analysis._columns import within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

__all__ = ["compiled"]


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
        from ibticks.analysis import _recurrences as recurrences

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
