"""Prices sampled for realised measures, and the variance of their noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from ibticks.analysis._engine.columns import (
    duration_ns,
    grouping_keys,
    is_set,
    is_trade,
    require,
    time_ns,
)
from ibticks.analysis._engine.grouping import constant_keys, is_all_set, is_time_ordered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta

    from numpy.typing import NDArray


__all__ = [
    "LOG_PRICE",
    "LOG_PRICES",
    "Sampled",
    "measure_groups",
    "measure_returns",
    "noise_variance",
    "pilot_variance",
    "positive_prices",
    "sample_groups",
]


class Sampled(NamedTuple):
    """Prices of one group sampled at intervals (start, end]: intervals with prices, in order.

    Attributes
    ----------
    bucket : numpy.ndarray of int64
        The number of the end of each interval.
    first, last : numpy.ndarray of float64
        The first and the last log price in it.

    Examples
    --------
    >>> sampled = Sampled(np.array([1, 2, 4]), np.array([0.0, 2, 3]), np.array([1.0, 2, 5]))
    >>> sampled.returns.tolist(), sampled.intervals
    ([1.0, 1.0, 3.0], 4)
    >>> sampled.coarser(2).last.tolist(), sampled.variance_on_grids(2)
    ([2.0, 5.0], 12.0)
    """

    bucket: NDArray[np.int64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]

    @property
    def returns(self) -> NDArray[np.float64]:
        """Returns from last price to last price; the first one from the first price."""
        return np.diff(self.last, prepend=self.first[0])

    @property
    def spaced_returns(self) -> NDArray[np.float64]:
        """Returns with zeros for the intervals without prices, three in a row at the most.

        Products, minima and medians of up to four adjacent returns have the same sums as with all
        zeros, in memory that the intervals with prices bound.
        """
        steps = np.minimum(np.diff(self.bucket, prepend=self.bucket[0]), _LONGEST_STEP)
        place = np.cumsum(steps)
        spaced = np.zeros(place[-1] + 1)
        spaced[place] = self.returns
        return spaced

    @property
    def intervals(self) -> int:
        """Number of intervals, those without prices too."""
        return int(self.bucket[-1] - self.bucket[0]) + 1

    def coarser(self, times: int) -> Sampled:
        """Return the samples at intervals some times as long."""
        if times == 1:
            return self
        bucket = -(-self.bucket // times)
        ends = np.flatnonzero(np.append(bucket[1:] != bucket[:-1], True))
        starts = np.append(0, ends[:-1] + 1)
        return Sampled(bucket[ends], self.first[starts], self.last[ends])

    def variance_on_grids(self, grids: int) -> float:
        """Return the realised variance at longer intervals, averaged over shifted grids.

        One of them ends at each interval here, wherever that is.
        """
        if grids == 1:
            return float(self.returns @ self.returns)
        ends = int(self.bucket[0]), int(self.bucket[-1]) + grids
        return self.squares(grids, *ends) / grids

    def squares(self, lag: int, begin: int, end: int) -> float:
        """Return the squared changes over ``lag`` intervals, summed over ends ``[begin, end)``.

        It is the same from one price, or the end of its time, to the next.
        """
        edges = np.concatenate([self.bucket, self.bucket + lag])
        order = np.argsort(edges, kind="stable")
        enters = order < len(self.bucket)
        now, left = np.cumsum(enters) - 1, np.cumsum(~enters) - 1
        change = self.last[now] - np.where(left < 0, self.first[0], self.last[left])
        bounds = np.diff(np.clip(edges[order], begin, end), append=end)
        return float(bounds @ change**2)


_LONGEST_STEP: Final = 4  # with three zeros between, no four adjacent returns have both ends

_MINUTE_NS: Final = 60_000_000_000


def noise_variance(at: NDArray[np.int64], log: NDArray[np.float64]) -> float:
    r"""Estimate the variance of the noise in log prices, from prices two minutes apart.

    :math:`\hat\omega^2 = RV / 2n` where n counts the returns that are not zero, over the prices of
    each q-th tick, pooled over the q first ticks to begin with. With q such that they are two
    minutes apart on the average, what is left of serial dependence in noise does not disturb it;
    half the variance of two minutes is in it, so that a bandwidth errs to the wide side.

    Parameters
    ----------
    at : numpy.ndarray of int64, shape (n,)
        Nanoseconds.
    log : numpy.ndarray of float64, shape (n,)
        Log prices.

    References
    ----------
    O. E. Barndorff-Nielsen, P. R. Hansen, A. Lunde and N. Shephard, Realized kernels in practice,
    *Econometrics Journal* 12 (2009), C1-C32.

    Examples
    --------
    >>> at = np.arange(5) * 120_000_000_000
    >>> noise_variance(at, np.array([0.0, 0.5, 0.0, 0.5, 0.5]))
    0.125
    """
    if len(log) < 2:
        return 0.0
    minutes = max(1, int(at[-1] - at[0]) // (2 * _MINUTE_NS))
    q = max(1, (len(log) - 1) // minutes)
    moves = log[q:] - log[:-q]
    moved = np.count_nonzero(moves)
    return float(moves @ moves / (2 * moved)) if moved else 0.0


def pilot_variance(at: NDArray[np.int64], log: NDArray[np.float64]) -> float:
    """Estimate the variance without noise: returns of twenty minutes, at each second.

    Where there are less than 200 minutes, a tenth of the time takes the place of twenty minutes.

    Parameters
    ----------
    at, log
        As in :func:`noise_variance`.

    References
    ----------
    As for :func:`noise_variance`.

    Examples
    --------
    >>> pilot_variance(np.arange(2) * 60_000_000_000, np.array([0.0, 0.1])) > 0
    True
    """
    span = int(at[-1] - at[0])
    step = min(20 * _MINUTE_NS, span // 10)
    shift = max(1, min(_MINUTE_NS // 60, step // 60))
    lag = step // shift
    if not lag:
        return float((log[-1] - log[0]) ** 2)
    bucket = (at - at[0] + (shift - 1)) // shift
    ends = np.flatnonzero(np.append(bucket[1:] != bucket[:-1], True))
    sampled, points = Sampled(bucket[ends], log[:1], log[ends]), span // shift + 2
    # As a mean over the grids, extended to the time that the shifted ones leave out.
    return sampled.squares(lag, lag, points) / lag * (points - 1) / (points - lag)


LOG_PRICE: Final = pl.col("_price").log()

LOG_PRICES: Final = {"at": pl.col("_at"), "log": LOG_PRICE}
"""Of :func:`positive_prices`, for :func:`each_group`: times and log prices."""


def positive_prices(
    ticks: pl.DataFrame | pl.LazyFrame, column: str, per: str | pl.Expr | None, caller: str
) -> tuple[pl.LazyFrame, list[str]]:
    """Return the prices that have a log, with their times, and the columns to group by.

    Returns
    -------
    prices : polars.LazyFrame
        The groups, ``_at`` (int64 UTC nanoseconds) and ``_price`` (float64, not 0).
    groups : list of str
        Never empty: ``["_all"]`` where nothing is to be kept apart.
    """
    require(ticks, "timestamp", column, caller=caller)
    split = [pl.col(name) for name in grouping_keys(ticks)]
    if per is not None:
        split.append(pl.col(per) if isinstance(per, str) else per)
    split = split or [pl.lit(0, pl.UInt8).alias("_all")]
    price = pl.col(column)
    rows = ticks.lazy()
    if not (isinstance(ticks, pl.DataFrame) and is_all_set(ticks, column)):
        rows = rows.filter(is_trade() if column == "price" else is_set(price), price != 0)
    logs = rows.select(*split, _at=time_ns(), _price=price.cast(pl.Float64))
    return logs, [value.meta.output_name() for value in split]


def measure_groups(
    ticks: pl.DataFrame | pl.LazyFrame,
    rows: pl.LazyFrame,
    groups: list[str],
    values: Mapping[str, pl.Expr],
    measure: Callable[..., tuple[Any, ...]],
    schema: Mapping[str, pl.DataType],
    undefined: tuple[Any, ...] | None = None,
) -> pl.LazyFrame:
    """Return a row for each group: ``measure`` of its values as arrays.

    Where a value is NaN, the log of a negative price, the row is ``undefined``: by default nulls.
    """
    instead = undefined or (None,) * len(schema)
    if groups == ["_all"]:
        # A group of all rows would copy them.
        together = rows.select(
            pl.first("_all"), **{name: value.implode() for name, value in values.items()}
        ).drop_nulls("_all")
    else:
        together = rows.group_by(groups).agg(**values).sort(groups)
    names = [name for name in groups if name != "_all"]

    def measure_all(frame: pl.DataFrame) -> pl.DataFrame:
        arrays = (
            [value.to_numpy() for value in row]
            for row in zip(*(frame[name] for name in values), strict=True)
        )
        measured = [instead if _has_nan(array) else measure(*array) for array in arrays]
        result = pl.DataFrame(measured, schema=schema, orient="row")
        return result.select(*(frame[name] for name in names), pl.all())

    known = rows.collect_schema()
    result = together.map_batches(
        measure_all, schema={**{name: known[name] for name in names}, **schema}
    )
    return result.select(*constant_keys(ticks, groups), pl.all())


def sample_groups(
    ticks: pl.DataFrame | pl.LazyFrame,
    logs: pl.LazyFrame,
    groups: list[str],
    column: str,
    step: int,
    measure: Callable[[Sampled], tuple[Any, ...]],
    schema: Mapping[str, pl.DataType],
    undefined: tuple[Any, ...] | None = None,
) -> pl.LazyFrame:
    """Return a measure of the samples of each group, every ``step`` nanoseconds."""
    fine = _buckets(ticks, logs, groups, step, column).sort([*groups, "_bucket"])
    values = {name: pl.col(f"_{name}") for name in Sampled._fields}
    return measure_groups(
        ticks, fine, groups, values, lambda *arrays: measure(Sampled(*arrays)), schema, undefined
    )


def measure_returns(
    ticks: pl.DataFrame | pl.LazyFrame,
    every: str | timedelta | None,
    column: str,
    per: str | pl.Expr | None,
    caller: str,
    columns: Iterable[str],
    measure: Callable[[NDArray[np.float64], int], tuple[Any, ...]],
) -> pl.LazyFrame:
    """Return a measure of the returns of each group, and the number of these.

    Parameters
    ----------
    ticks, every, column, per
        As in :func:`ibticks.analysis.realized_variance`.
    caller : str
        Measure, for messages.
    columns : iterable of str
        Names of the results, all float64.
    measure : callable
        From returns, as those of :attr:`Sampled.spaced_returns`, and their number with all zeros,
        to the results.
    """
    logs, groups = positive_prices(ticks, column, per, caller)
    schema = {**dict.fromkeys(columns, pl.Float64()), "returns": pl.UInt32()}

    def of_logs(log: NDArray[np.float64]) -> tuple[Any, ...]:
        n = len(log) - 1
        return *measure(np.diff(log), n), n

    def of_samples(sampled: Sampled) -> tuple[Any, ...]:
        return *measure(sampled.spaced_returns, sampled.intervals), sampled.intervals

    if every is None:
        return measure_groups(ticks, logs, groups, {"log": LOG_PRICE}, of_logs, schema)
    return sample_groups(ticks, logs, groups, column, duration_ns(every), of_samples, schema)


def _buckets(
    ticks: pl.DataFrame | pl.LazyFrame,
    logs: pl.LazyFrame,
    groups: list[str],
    step: int,
    column: str,
) -> pl.LazyFrame:
    """Return first and last log price of each interval (start, end], by the number of its end.

    NaN where a price in between is negative, too.
    """
    bucket = (pl.col("_at") + (step - 1)) // step
    # A constant second key would take three times as long.
    split = [name for name in groups if name != "_all"]
    price = pl.col("_price")
    ends = {"_first": price.first().log(), "_last": price.last().log()}
    if not (isinstance(ticks, pl.DataFrame) and is_all_set(ticks, column)):
        has_logs = price.min() > 0
        ends = {name: pl.when(has_logs).then(end).otherwise(np.nan) for name, end in ends.items()}
    if not split and is_time_ordered(ticks):
        # The rows of an interval are adjacent.
        bucket = bucket.set_sorted()
    result = logs.with_columns(_bucket=bucket).group_by(*split, "_bucket").agg(**ends)
    return result if split else result.with_columns(_all=pl.lit(0, pl.UInt8))


def _has_nan(arrays: Iterable[NDArray[Any]]) -> bool:
    return any(array.dtype.kind == "f" and bool(np.isnan(array).any()) for array in arrays)
