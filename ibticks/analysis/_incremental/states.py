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
from ibticks.analysis._engine.columns import apart, by, instant, within
from ibticks.analysis._incremental.lookback import beside, every_row, latest, per_key
from ibticks.config import TIME_MIN
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ibticks.analysis._incremental.lookback import Keep, Pick

__all__ = [
    "Call",
    "Chain",
    "Rows",
    "RunningSum",
    "Sums",
    "Way",
    "Whole",
    "call_of",
    "following",
    "moment",
    "refuse_late",
]


@dataclass(frozen=True)
class Call:
    """What is asked of ticks.

    Attributes
    ----------
    name : str
        Of the measure.
    function : callable
        The measure.
    arguments : mapping of str to object
        All but the ticks, those left out too.
    text : str
        As it was written.
    """

    name: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    text: str

    def __call__(self, ticks: pl.DataFrame, **changed: Any) -> pl.DataFrame:
        """What the measure says of ticks, some arguments changed."""
        found: pl.DataFrame = self.function(ticks, **{**self.arguments, **changed})
        return found

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]


def call_of(
    measure: str | Callable[..., Any], arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> Call:
    """Bind arguments to a measure of :mod:`ibticks.analysis`.

    Raises
    ------
    InputError
        There is no such measure, or it has no such arguments.

    Examples
    --------
    >>> call_of("time_bars", ("1m",), {"of": "quotes"})["every"]
    '1m'
    >>> call_of("time_bars", (), {})
    Traceback (most recent call last):
        ...
    ibticks.errors.InputError: time_bars: missing a required argument: 'every'
    """
    name = measure if isinstance(measure, str) else getattr(measure, "__name__", repr(measure))
    function = getattr(analysis, name) if name in analysis.__all__ else None
    if not inspect.isfunction(function) or measure not in (name, function):
        raise InputError(f"{name} is no measure; ibticks.analysis.__all__ lists them")
    try:
        bound = inspect.signature(function).bind(None, *arguments, **named)
    except TypeError as problem:
        raise InputError(f"{name}: {problem}") from None
    bound.apply_defaults()
    _, *given = bound.arguments.items()
    said = [*map(repr, arguments), *(f"{each}={value!r}" for each, value in named.items())]
    return Call(name, function, dict(given), f"{name}({', '.join(said)})")


def moment(ns: int) -> str:
    """A time as it is written.

    Examples
    --------
    >>> moment(1_736_519_340_500_000_000)
    '2025-01-10T14:29:00.5Z'
    """
    return str(np.datetime64(ns, "ns")).rstrip("0").rstrip(".") + "Z"


def refuse_late(call: Call, late: pl.DataFrame, why: str) -> NoReturn:
    """Refuse ticks of whose time a measure has spoken already.

    Parameters
    ----------
    call : Call
    late : polars.DataFrame
        One or more.
    why : str
        What was the case when they came.

    Raises
    ------
    InputError
    """
    came = moment(late.select(instant()).item(0, 0))
    contract = f" of contract {late[by(late)[0]][0]}" if by(late) else ""
    raise InputError(
        f"{call.name}: a tick{contract} of {came} came late, when {why}. Nothing of these ticks "
        "was taken; leave it out, and update again. Live streams come in order of time if they "
        "wait for each other longer, as with store.live(..., delay=1)"
    )


class Way(Protocol):
    """A measure that has seen some ticks."""

    @property
    def total(self) -> bool:
        """Whether it speaks of everything so far at once."""
        ...

    @property
    def kept(self) -> int:
        """How many rows it keeps."""
        ...

    def after(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, Way]:
        """What is final with more ticks, and the way from there.

        ``now`` is the time of the newest tick there is, if it be of no business of the measure.
        """
        ...

    def open(self) -> pl.DataFrame:
        """What is not final yet; of a total, the total."""
        ...


def following(kept: pl.DataFrame, ticks: pl.DataFrame) -> pl.DataFrame:
    """Ticks after those kept; an average that is kept need not be an integer.

    Examples
    --------
    >>> following(pl.DataFrame(), pl.DataFrame({"size": [1]})).height
    1
    """
    return pl.concat([kept, ticks], how="vertical_relaxed", rechunk=True) if kept.width else ticks


@dataclass(frozen=True)
class Rows:
    """A row for each tick, or for some, whatever comes later.

    Attributes
    ----------
    call : Call
        The measure.
    keep : callable, optional
        Which ticks are kept. By default none.
    gives : callable
        Of which of those the measure gives a row.
    ticks : polars.DataFrame
        Those kept.
    seen : polars.DataFrame
        A frame of no rows, as the measure gives them.
    """

    call: Call
    keep: Keep | None = None
    gives: Pick = every_row
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    seen: pl.DataFrame = field(default_factory=pl.DataFrame)
    total: ClassVar[bool] = False

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return self.ticks.height

    def after(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, Rows]:
        """What is final with more ticks, and the way from there."""
        seen = self.seen if self.seen.width else self.call(ticks.clear())
        if self.keep is None:
            return self.call(ticks), replace(self, seen=seen)
        rows = following(self.ticks, ticks)
        found = self.call(rows)
        given = self.ticks.filter(self.gives(self.call)).height if self.kept else 0
        kept = self.keep(self.call, rows, found)
        return found[given:].cast(seen.schema), replace(self, ticks=kept, seen=seen)

    def open(self) -> pl.DataFrame:
        """What is not final yet."""
        return self.seen


@dataclass(frozen=True)
class Whole:
    """What a measure says of everything so far, where a few ticks stand for all.

    Attributes
    ----------
    call, keep, ticks
        As of :class:`Rows`.
    found : polars.DataFrame
        What it said last.
    """

    call: Call
    keep: Keep
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    found: pl.DataFrame = field(default_factory=pl.DataFrame)
    total: ClassVar[bool] = True

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return self.ticks.height

    def after(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, Whole]:
        """What is final with more ticks, and the way from there."""
        rows = following(self.ticks, ticks)
        found = self.call(rows)
        return found, replace(self, ticks=self.keep(self.call, rows, found), found=found)

    def open(self) -> pl.DataFrame:
        """What is not final yet."""
        return self.found


@dataclass(frozen=True)
class Sums:
    """What a measure says of everything so far, where that is the sum of what it says of parts.

    Attributes
    ----------
    call : Call
        The measure.
    added : tuple of str
        Columns that are sums.
    averaged : mapping of str to str
        Columns that are averages, and by which of the sums.
    marks : tuple of str
        Columns that ``finish`` makes anew. All others keep the rows apart.
    finish : callable, optional
        Makes of the sums what the measure gives.
    keep, ticks
        Ticks the next part begins from, as of :class:`Rows`, that add nothing themselves.
    sums : polars.DataFrame
        So far.
    """

    call: Call
    added: tuple[str, ...]
    averaged: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    finish: Callable[[Call, pl.DataFrame], pl.DataFrame] | None = None
    keep: Keep | None = None
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    sums: pl.DataFrame = field(default_factory=pl.DataFrame)
    total: ClassVar[bool] = True

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return self.ticks.height + self.sums.height

    def after(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, Sums]:
        """What is final with more ticks, and the way from there."""
        rows = following(self.ticks, ticks)
        found = self.call(rows)
        kept = self.ticks if self.keep is None else self.keep(self.call, rows, found)
        way = replace(self, ticks=kept, sums=self._and(found.drop(self.marks)))
        return way.open(), way

    def open(self) -> pl.DataFrame:
        """What is not final yet."""
        return self.sums if self.finish is None else self.finish(self.call, self.sums)

    def _and(self, found: pl.DataFrame) -> pl.DataFrame:
        if not self.sums.width:
            return found
        added = [name for name in self.added if name in found.columns]
        groups = [name for name in found.columns if name not in (*added, *self.averaged)]
        # A part that is null, such as a variance with a negative price, leaves none to the whole.
        known = pl.all_horizontal(pl.col(name).null_count() == 0 for name in added)
        values = [pl.when(known).then(pl.col(name).sum()).alias(name) for name in added]
        for name, weight in self.averaged.items():
            weights = pl.col(weight).sum()
            average = (pl.col(name) * pl.col(weight)).sum() / weights
            # Where nothing weighs, such as no time that passed, the newest part says what it is.
            newest = pl.col(name).drop_nulls().last()
            values.append(pl.when(weights > 0).then(average).otherwise(newest).alias(name))
        both = per_key(pl.concat([self.sums, found]), groups).agg(values)
        return both.sort(groups or "_all").select(found.columns).cast(found.schema)


@dataclass(frozen=True)
class RunningSum:
    """Rows with the running sum of a column, of each contract.

    Attributes
    ----------
    column, name : str
        What is summed, and what the sum is called.
    sums : polars.DataFrame
        ``_before``, that of each contract so far.
    """

    column: str
    name: str
    sums: pl.DataFrame = field(default_factory=pl.DataFrame)
    total: ClassVar[bool] = False

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return self.sums.height

    def after(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, RunningSum]:
        """What is final with more ticks, and the way from there."""
        more = within(pl.col(self.column).cum_sum(), apart(ticks))
        found = ticks.with_columns(more.alias(self.name))
        if self.sums.height:
            before = pl.col("_before").fill_null(0)
            found = beside(found, self.sums).with_columns(pl.col(self.name) + before)
        found = found.drop("_before", strict=False)
        sums = following(self.sums, found.select(*by(ticks), _before=self.name))
        return found, replace(self, sums=latest(sums, by(ticks)))

    def open(self) -> pl.DataFrame:
        """What is not final yet."""
        return pl.DataFrame()


@dataclass(frozen=True)
class Chain:
    """One after another: what the first gives is what the second takes.

    Attributes
    ----------
    first, second : Way
    """

    first: Way
    second: Way

    @property
    def total(self) -> bool:
        """As the second has it."""
        return self.second.total

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return self.first.kept + self.second.kept

    def after(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, Chain]:
        """What is final with more ticks, and the way from there."""
        between, first = self.first.after(ticks, now)
        found, second = self.second.after(between, now)
        return found, Chain(first, second)

    def open(self) -> pl.DataFrame:
        """What is not final yet."""
        found, second = self.second.after(self.first.open(), TIME_MIN)
        rest = second.open()
        return found if self.total or not rest.width else pl.concat([found, rest])
