"""Immutable states of incremental measures: row by row, totals, and chains of measures.

``advance`` returns a new state, so a rejected update changes nothing.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

import numpy as np
import polars as pl

from ibticks import analysis
from ibticks.analysis._engine.columns import grouping_keys, key_columns, over_keys, time_ns
from ibticks.analysis._incremental.lookback import (
    every_row,
    group_by_keys,
    join_per_contract,
    last_rows,
)
from ibticks.config import TIME_MIN
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ibticks.analysis._incremental.lookback import Lookback, Pick

__all__ = [
    "AdditiveState",
    "Call",
    "ChainedState",
    "IncrementalState",
    "RowwiseState",
    "RunningTotalState",
    "SnapshotState",
    "append_ticks",
    "bind_measure",
    "format_time",
    "refuse_late",
]


@dataclass(frozen=True)
class Call:
    """A measure with its arguments, without ticks.

    Attributes
    ----------
    name : str
        Name of the measure.
    function : callable
        The measure.
    arguments : mapping of str to object
        All arguments but the ticks, defaults among them.
    text : str
        The call as source text.
    """

    name: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    text: str

    def __call__(self, ticks: pl.DataFrame, **changed: Any) -> pl.DataFrame:
        """Return the measure of ticks, with some arguments changed."""
        result: pl.DataFrame = self.function(ticks, **{**self.arguments, **changed})
        return result

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]


def bind_measure(
    measure: str | Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> Call:
    """Bind arguments to a measure of :mod:`ibticks.analysis`.

    Raises
    ------
    InputError
        There is no such measure, or it has no such arguments.

    Examples
    --------
    >>> bind_measure("time_bars", ("1m",), {"of": "quotes"})["every"]
    '1m'
    >>> bind_measure("time_bars", (), {})
    Traceback (most recent call last):
        ...
    ibticks.errors.InputError: time_bars: missing a required argument: 'every'
    """
    name = measure if isinstance(measure, str) else getattr(measure, "__name__", repr(measure))
    function = getattr(analysis, name) if name in analysis.__all__ else None
    if not inspect.isfunction(function) or measure not in (name, function):
        raise InputError(f"{name} is no measure; ibticks.analysis.__all__ lists them")
    try:
        bound = inspect.signature(function).bind(None, *arguments, **keywords)
    except TypeError as problem:
        raise InputError(f"{name}: {problem}") from None
    bound.apply_defaults()
    _, *others = bound.arguments.items()
    texts = [*map(repr, arguments), *(f"{key}={value!r}" for key, value in keywords.items())]
    return Call(name, function, dict(others), f"{name}({', '.join(texts)})")


def format_time(ns: int) -> str:
    """Format a time in UTC nanoseconds for messages.

    Examples
    --------
    >>> format_time(1_736_519_340_500_000_000)
    '2025-01-10T14:29:00.5Z'
    """
    return str(np.datetime64(ns, "ns")).rstrip("0").rstrip(".") + "Z"


def refuse_late(call: Call, late: pl.DataFrame, reason: str) -> NoReturn:
    """Refuse late ticks: those of a time whose result is final.

    Parameters
    ----------
    call : Call
    late : polars.DataFrame
        One or more late ticks.
    reason : str
        The state when they came, for the message.

    Raises
    ------
    InputError
    """
    came = format_time(late.select(time_ns()).item(0, 0))
    contract = f" of contract {late[key_columns(late)[0]][0]}" if key_columns(late) else ""
    raise InputError(
        f"{call.name}: a tick{contract} of {came} came late, when {reason}. Nothing of these ticks "
        "was taken; leave it out, and update again. Live streams come in order of time if they "
        "wait for each other longer, as with store.live(..., delay=1)"
    )


class IncrementalState(Protocol):
    """State of a measure that has taken some ticks."""

    @property
    def is_total(self) -> bool:
        """Return whether each result is of all ticks so far."""
        ...

    @property
    def lookback_rows(self) -> int:
        """Number of rows in the state."""
        ...

    def advance(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, IncrementalState]:
        """Return the result that is final with more ticks, and the state after them.

        ``now`` is the newest tick time, including ticks this measure ignores.
        """
        ...

    def pending(self) -> pl.DataFrame:
        """Return the result that is not final yet; of a total, the total."""
        ...


def append_ticks(lookback: pl.DataFrame, ticks: pl.DataFrame) -> pl.DataFrame:
    """Append ticks to a lookback, in which an average need not be an integer.

    Examples
    --------
    >>> append_ticks(pl.DataFrame(), pl.DataFrame({"size": [1]})).height
    1
    """
    if not lookback.width:
        return ticks
    return pl.concat([lookback, ticks], how="vertical_relaxed", rechunk=True)


@dataclass(frozen=True)
class RowwiseState:
    """State of a measure with a row for each tick, or for some, final at once.

    Attributes
    ----------
    call : Call
        The measure.
    lookback : callable, optional
        Picks the ticks of the lookback. By default none.
    rows : callable
        Picks the ticks that have a row.
    ticks : polars.DataFrame
        The lookback.
    empty : polars.DataFrame
        A result without rows.
    """

    call: Call
    lookback: Lookback | None = None
    rows: Pick = every_row
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    empty: pl.DataFrame = field(default_factory=pl.DataFrame)
    is_total: ClassVar[bool] = False

    @property
    def lookback_rows(self) -> int:
        """Number of rows in the state."""
        return self.ticks.height

    def advance(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, RowwiseState]:
        """Return the rows of more ticks, and the state after them."""
        empty = self.empty if self.empty.width else self.call(ticks.clear())
        if self.lookback is None:
            return self.call(ticks), replace(self, empty=empty)
        all_ticks = append_ticks(self.ticks, ticks)
        result = self.call(all_ticks)
        earlier = self.ticks.filter(self.rows(self.call)).height if self.lookback_rows else 0
        lookback = self.lookback(self.call, all_ticks, result)
        return result[earlier:].cast(empty.schema), replace(self, ticks=lookback, empty=empty)

    def pending(self) -> pl.DataFrame:
        """Return no rows: all of them are final."""
        return self.empty


@dataclass(frozen=True)
class SnapshotState:
    """State of a measure of all ticks so far, for which the lookback stands.

    Attributes
    ----------
    call, lookback, ticks
        As of :class:`RowwiseState`.
    result : polars.DataFrame
        The latest result.
    """

    call: Call
    lookback: Lookback
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    result: pl.DataFrame = field(default_factory=pl.DataFrame)
    is_total: ClassVar[bool] = True

    @property
    def lookback_rows(self) -> int:
        """Number of rows in the state."""
        return self.ticks.height

    def advance(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, SnapshotState]:
        """Return the result of all ticks so far, and the state after them."""
        all_ticks = append_ticks(self.ticks, ticks)
        result = self.call(all_ticks)
        lookback = self.lookback(self.call, all_ticks, result)
        return result, replace(self, ticks=lookback, result=result)

    def pending(self) -> pl.DataFrame:
        """Return the total."""
        return self.result


@dataclass(frozen=True)
class AdditiveState:
    """State of a measure of all ticks so far that is the sum of the results of its blocks.

    Attributes
    ----------
    call : Call
        The measure.
    added : tuple of str
        Columns that are sums.
    averaged : mapping of str to str
        Columns that are averages, and the sum that weighs each.
    marks : tuple of str
        Columns that ``finish`` computes. All others keep the rows apart.
    finish : callable, optional
        From the call and the sums to the result.
    lookback, ticks
        Ticks the next block begins with, as of :class:`RowwiseState`; they add nothing themselves.
    sums : polars.DataFrame
        Sums so far.
    """

    call: Call
    added: tuple[str, ...]
    averaged: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    finish: Callable[[Call, pl.DataFrame], pl.DataFrame] | None = None
    lookback: Lookback | None = None
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    sums: pl.DataFrame = field(default_factory=pl.DataFrame)
    is_total: ClassVar[bool] = True

    @property
    def lookback_rows(self) -> int:
        """Number of rows in the state."""
        return self.ticks.height + self.sums.height

    def advance(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, AdditiveState]:
        """Return the result of all ticks so far, and the state after them."""
        block = append_ticks(self.ticks, ticks)
        result = self.call(block)
        lookback = self.ticks
        if self.lookback is not None:
            lookback = self.lookback(self.call, block, result)
        state = replace(self, ticks=lookback, sums=self._add(result.drop(self.marks)))
        return state.pending(), state

    def pending(self) -> pl.DataFrame:
        """Return the total."""
        return self.sums if self.finish is None else self.finish(self.call, self.sums)

    def _add(self, block: pl.DataFrame) -> pl.DataFrame:
        if not self.sums.width:
            return block
        added = [name for name in self.added if name in block.columns]
        groups = [name for name in block.columns if name not in (*added, *self.averaged)]
        # A null block, such as a variance with a negative price, makes the total null.
        known = pl.all_horizontal(pl.col(name).null_count() == 0 for name in added)
        values = [pl.when(known).then(pl.col(name).sum()).alias(name) for name in added]
        for name, weight in self.averaged.items():
            weights = pl.col(weight).sum()
            average = (pl.col(name) * pl.col(weight)).sum() / weights
            # Without any weight, such as no time that passed, the newest block decides.
            newest = pl.col(name).drop_nulls().last()
            values.append(pl.when(weights > 0).then(average).otherwise(newest).alias(name))
        both = group_by_keys(pl.concat([self.sums, block]), groups).agg(values)
        return both.sort(groups or "_all").select(block.columns).cast(block.schema)


@dataclass(frozen=True)
class RunningTotalState:
    """State that adds the running total of a column to rows, for each contract.

    Attributes
    ----------
    column, name : str
        The column that is summed, and the name of the total.
    sums : polars.DataFrame
        ``_before``, the total of each contract so far.
    """

    column: str
    name: str
    sums: pl.DataFrame = field(default_factory=pl.DataFrame)
    is_total: ClassVar[bool] = False

    @property
    def lookback_rows(self) -> int:
        """Number of rows in the state."""
        return self.sums.height

    def advance(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, RunningTotalState]:
        """Return rows with the running total, and the state after them."""
        running = over_keys(pl.col(self.column).cum_sum(), grouping_keys(ticks))
        result = ticks.with_columns(running.alias(self.name))
        if self.sums.height:
            before = pl.col("_before").fill_null(0)
            result = join_per_contract(result, self.sums).with_columns(pl.col(self.name) + before)
        result = result.drop("_before", strict=False)
        sums = append_ticks(self.sums, result.select(*key_columns(ticks), _before=self.name))
        return result, replace(self, sums=last_rows(sums, key_columns(ticks)))

    def pending(self) -> pl.DataFrame:
        """Return no rows: all of them are final."""
        return pl.DataFrame()


@dataclass(frozen=True)
class ChainedState:
    """Two states of which the second takes the results of the first.

    Attributes
    ----------
    first, second : IncrementalState
    """

    first: IncrementalState
    second: IncrementalState

    @property
    def is_total(self) -> bool:
        """Return whether each result of the second is of all ticks so far."""
        return self.second.is_total

    @property
    def lookback_rows(self) -> int:
        """Number of rows in both states."""
        return self.first.lookback_rows + self.second.lookback_rows

    def advance(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, ChainedState]:
        """Return the result that is final with more ticks, and the state after them."""
        between, first = self.first.advance(ticks, now)
        result, second = self.second.advance(between, now)
        return result, ChainedState(first, second)

    def pending(self) -> pl.DataFrame:
        """Return the result that is not final yet."""
        result, second = self.second.advance(self.first.pending(), TIME_MIN)
        rest = second.pending()
        return result if self.is_total or not rest.width else pl.concat([result, rest])
