"""Incremental measures whose output is delayed: bars, horizons and grids."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeAlias

import numpy as np
import polars as pl

from ibticks.analysis._engine.bars import BarClock, rows_of
from ibticks.analysis._engine.columns import apart, by, instant, nanoseconds, within
from ibticks.analysis._engine.grouping import rows_with
from ibticks.analysis._engine.sessions import session_table
from ibticks.analysis._incremental.lookback import (
    beside,
    by_column,
    latest,
    per_key,
    quotes,
    signing_and_mid,
    trades,
)
from ibticks.analysis._incremental.states import following, moment, refuse_late
from ibticks.analysis._information_bars import Informed, expectations, informed_bars
from ibticks.analysis._joins import as_of, grid, instants
from ibticks.calendar import parse_duration
from ibticks.config import TIME_MIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.analysis._incremental.states import Call

    Instants: TypeAlias = Callable[[int, int], pl.LazyFrame]
    from collections.abc import Mapping

    import numpy.typing as npt

    from ibticks.analysis._incremental.lookback import Pick

__all__ = [
    "Clock",
    "ClockBars",
    "EachTime",
    "FullBars",
    "Grid",
    "InformedBars",
    "Waiting",
    "clock_of",
    "instants_given",
    "instants_of_grid",
]

_NEVER: Final = pl.LazyFrame({"_key": []}, {"_key": pl.Int64})


@dataclass(frozen=True)
class Waiting:
    """Trades that are final when a quote of the contract came after the horizon of each.

    Attributes
    ----------
    call : Call
        The measure, with a ``horizon``.
    ticks : polars.DataFrame
        The trades that wait, all quotes and trades since, and what signs them; ``_given`` says
        which trades do not wait.
    """

    call: Call
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    total: ClassVar[bool] = False

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return self.ticks.height

    def after(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, Waiting]:
        """What is final with more ticks, and the way from there."""
        trade, quote = trades(self.call), quotes(self.call)
        mine = ticks.filter(trade | quote).with_columns(_given=pl.lit(value=False))
        rows = following(self.ticks, mine)
        keys, newest = apart(rows), instant().filter(quote).max()
        over = instant() + nanoseconds(self.call["horizon"]) < within(newest, keys)
        marked = rows.with_columns(_over=(trade & over).fill_null(value=False))
        chosen = marked.filter(trade)
        found = self.call(rows.drop("_given"))
        found = found.filter(chosen["_over"] & ~chosen["_given"])
        waits = trade & ~pl.col("_over")
        marked = marked.with_columns(
            _since=within(waits.cum_sum(), keys) > 0, _given=pl.col("_over") | pl.col("_given")
        )
        before = marked.filter(~pl.col("_since"))
        kept = pl.concat([signing_and_mid(self.call, before, found), marked.filter("_since")])
        return found, replace(self, ticks=kept.select(rows.columns))

    def open(self) -> pl.DataFrame:
        """What is not final yet."""
        given = self.ticks.filter(trades(self.call))["_given"]
        return self.call(self.ticks.drop("_given")).filter(~given)


def instants_of_grid(call: Call) -> Instants:
    """Those of ``align``."""
    step, table = parse_duration(call["every"]), None
    if call["market"] is not None:
        table = session_table(call["market"], call["session_type"], what=call.name)
    return lambda first, last: grid(pl.LazyFrame({"_first": [first], "_last": [last]}), step, table)


def instants_given(call: Call) -> Instants:
    """Those of ``last_value``."""
    at = instants(call["at"])
    return lambda first, last: at


@dataclass(frozen=True)
class Grid:
    """What contracts last had, at instants that are final when a tick came after them.

    Of a contract that is new, the instants before are given, too.

    Attributes
    ----------
    call : Call
        The measure, with a ``column`` and a ``tolerance``.
    instants : callable
        From the times of the first and the last tick to the instants, ``_key``.
    ticks : polars.DataFrame
        The last of each contract.
    first, newest : int
        Times of ticks.
    """

    call: Call
    instants: Instants
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    first: int | None = None
    newest: int = TIME_MIN
    total: ClassVar[bool] = False

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return self.ticks.height

    def after(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, Grid]:
        """What is final with more ticks, and the way from there."""
        mine = ticks.filter(by_column(self.call))
        rows, key, seen = following(self.ticks, mine), pl.col("_key"), self.newest
        if not mine.height:
            return self._at(rows, _NEVER), replace(self, ticks=rows)
        earliest, newest = mine.select(first=instant().min(), last=instant().max()).row(0)
        first, newest = earliest if self.first is None else self.first, max(newest, seen)
        self._refuse_late(mine, earliest)
        clock = self.instants(max(first, seen), newest).filter(key >= seen, key < newest)
        found = self._at(rows, clock)
        if by(rows) and self.ticks.height:
            fresh = mine.join(self.ticks, on=by(rows), how="anti", maintain_order="left")
            before = self.instants(first, seen).filter(key < seen) if fresh.height else _NEVER
            found = pl.concat([self._at(fresh, before), found])
        return found, replace(self, ticks=latest(rows, apart(rows)), first=first, newest=newest)

    def open(self) -> pl.DataFrame:
        """What is not final yet."""
        if self.first is None:
            return self.call(self.ticks)
        clock = self.instants(self.newest, self.newest)
        return self._at(self.ticks, clock.filter(pl.col("_key") >= self.newest))

    def _at(self, rows: pl.DataFrame, clock: pl.LazyFrame) -> pl.DataFrame:
        column = self.call["column"]
        return as_of(rows, rows_with(rows, column), clock, column, self.call["tolerance"])

    def _refuse_late(self, ticks: pl.DataFrame, earliest: int) -> None:
        """Refuse ticks at or before an instant that was given."""
        if earliest >= self.newest:
            return
        clock = self.instants(earliest, self.newest).filter(pl.col("_key") < self.newest)
        given = clock.select(pl.col("_key").max()).collect().item()
        late = ticks.filter(instant() <= given)
        if late.height:
            refuse_late(self.call, late, f"{moment(given)} was given already")


class Clock(Protocol):
    """When the bars begin and end in which ticks lie; times are int64 UTC nanoseconds."""

    @property
    def start(self) -> pl.Expr:
        """Of what :meth:`rows` gives, the start of the bar."""
        ...

    @property
    def end(self) -> pl.Expr:
        """The end of the bar."""
        ...

    def rows(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Those that lie in a bar."""
        ...


class EachTime:
    """A bar for each time there is."""

    start: Final = instant()
    end: Final = instant() + 1

    def rows(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """All of them."""
        return rows


def clock_of(call: Call) -> Clock:
    """What the arguments of a measure ask for."""
    names = ("anchor", "market", "session_type")
    given = {name: call[name] for name in names if name in call.arguments}
    if call.name == "quoted_spread" and call["anchor"] == "clock":
        given["market"] = None  # it divides the quotes, not the bars
    return BarClock.of(call["every"], **given, what=call.name)


@dataclass(frozen=True)
class ClockBars:
    """Bars that are final when a tick came at or after their end, of whatever contract and kind.

    Attributes
    ----------
    call : Call
        The measure.
    clock : BarClock or EachTime
    picks : callable
        The ticks that bars are made of.
    before : bool
        Whether a bar needs the last tick before it.
    outside : bool
        Whether that may be outside the sessions, where no bars are.
    own : bool
        Whether only the next tick of the contract of which bars are made makes its bar final.
    ticks : polars.DataFrame
        Those of open bars, and those before, with ``_start`` and ``_end`` of their bars; of
        those in none, their time and null.
    given : polars.DataFrame
        ``_given``, the start of the last bar of each contract that is final, if a bar needs it.
    newest : int
        The time of the newest tick.
    """

    call: Call
    clock: Clock
    picks: Pick
    before: bool = False
    outside: bool = False
    own: bool = False
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    given: pl.DataFrame = field(default_factory=pl.DataFrame)
    newest: int = TIME_MIN
    total: ClassVar[bool] = False

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return self.ticks.height

    def after(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, ClockBars]:
        """What is final with more ticks, and the way from there."""
        rows, keys, start = following(self.ticks, self._timed(ticks)), by(ticks), pl.col("_start")
        self._refuse_late(rows)
        newest = max(now, self.newest)
        over = (pl.col("_end") <= newest).fill_null(value=True)
        final = start < within(start.max(), apart(rows)) if self.own else over
        rows = rows.with_columns(_final=final)
        opened = rows.filter(~pl.col("_final"))
        bars = self._bars(rows)
        if self.own:
            begun = per_key(opened, keys).agg(start.min())
            bars = beside(bars, begun.select(*keys, start)).filter(instant() < start).drop("_start")
        elif opened.height:
            bars = bars.filter(instant() < opened["_start"].min())
        way = replace(self, newest=newest, ticks=opened.drop("_final"))
        if self.before:
            last = latest(rows.filter("_final"), apart(rows)).drop("_final")
            given = following(self.given, bars.select(*keys, _given=instant()))
            way = replace(way, ticks=pl.concat([last, way.ticks]), given=latest(given, keys))
        return bars, way

    def open(self) -> pl.DataFrame:
        """What is not final yet."""
        return self._bars(self.ticks)

    def _timed(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Those that bars are made of, with when theirs begins and ends."""
        clock, rows = self.clock, ticks.lazy().filter(self.picks(self.call)).with_row_index("_row")
        inside = clock.rows(rows).with_columns(_start=clock.start, _end=clock.end)
        timed = inside.select(*ticks.columns, "_row", "_start", "_end")
        if self.outside:
            known = inside.select("_row", "_start", "_end")
            timed = rows.join(known, on="_row", how="left", maintain_order="left")
            timed = timed.with_columns(pl.col("_start").fill_null(instant()))
        return timed.drop("_row").collect()

    def _bars(self, rows: pl.DataFrame) -> pl.DataFrame:
        """All bars that have not been given."""
        bars = self.call(rows.select(pl.exclude("_start", "_end", "_final")))
        if not self.given.height:
            return bars
        new = pl.col("_given").is_null() | (instant() > pl.col("_given"))
        return beside(bars, self.given).filter(new).drop("_given")

    def _refuse_late(self, rows: pl.DataFrame) -> None:
        """Refuse new ticks of bars that are final, which would be lost."""
        start = pl.col("_start")
        if self.own:
            late = rows.filter(start < within(start.cum_max(), apart(rows)))
        else:
            late = rows[self.kept :].filter(pl.col("_end") <= self.newest)
        if late.height:
            bar = moment(late["_start"][0])
            refuse_late(self.call, late, f"its bar, of {bar}, was final already")


@dataclass(frozen=True)
class FullBars:
    """Bars that are final when enough has happened.

    Attributes
    ----------
    call : Call
        The measure, with an argument ``partial``.
    picks : callable
        The ticks that bars are made of.
    ticks : polars.DataFrame
        Those of open bars.
    """

    call: Call
    picks: Pick
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    total: ClassVar[bool] = False

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return self.ticks.height

    def after(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, FullBars]:
        """What is final with more ticks, and the way from there."""
        rows = following(self.ticks, ticks.filter(self.picks(self.call)))
        bars = self.call(rows, partial=False)
        return bars, replace(self, ticks=_not_in(bars, rows))

    def open(self) -> pl.DataFrame:
        """What is not final yet."""
        return self.call(self.ticks)


@dataclass(frozen=True)
class InformedBars:
    """Bars that are final when more has happened than all bars before them let expect.

    Attributes
    ----------
    call : Call
        ``imbalance_bars`` or ``run_bars``.
    ticks : polars.DataFrame
        Those of open bars.
    known : mapping
        What is expected, by contract, as the kernel returns it.
    """

    call: Call
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    known: Mapping[Any, npt.NDArray[np.float64]] = field(default_factory=dict)
    total: ClassVar[bool] = False

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return self.ticks.height

    def after(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, InformedBars]:
        """What is final with more ticks, and the way from there."""
        rows = following(self.ticks, ticks.filter(trades(self.call)))
        bars, known = self._bars(rows, partial=False)
        return bars, replace(self, ticks=_not_in(bars, rows), known=known)

    def open(self) -> pl.DataFrame:
        """What is not final yet."""
        bars, _ = self._bars(self.ticks, partial=self.call["partial"])
        return bars

    def _bars(
        self, ticks: pl.DataFrame, *, partial: bool
    ) -> tuple[pl.DataFrame, dict[Any, npt.NDArray[np.float64]]]:
        from ibticks.analysis._engine import kernels as recurrences

        what: Informed = self.call.name  # type: ignore[assignment]
        names = ("amount", "expected_ticks", "span", "limits", "sign")
        inputs, constants = expectations(what, *(self.call[name] for name in names))
        kernel = getattr(recurrences, f"{what}_after")
        rows = rows_of(ticks, "trades", what=what).collect()
        sides = rows.select(each.alias(str(n)) for n, each in enumerate(inputs)).get_columns()
        ids = rows[by(ticks)[0]].to_numpy() if by(ticks) else np.zeros(len(rows), dtype=np.int64)
        bar, signed = np.empty(len(rows), dtype=np.int64), np.empty(len(rows))
        known = dict(self.known)
        for contract in np.unique(ids).tolist():
            place = np.flatnonzero(ids == contract)
            arrays = [_fixed(each.to_numpy()[place]) for each in sides]
            before = known.get(contract, np.empty(0))
            bar[place], signed[place], known[contract] = kernel(before, *arrays, *constants)
        numbered = rows.lazy().with_columns(_bar=pl.Series(bar), _signed=pl.Series(signed))
        return informed_bars(ticks, numbered, what, partial), known


def _fixed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """To numba an array that may be written to is of another type, to be compiled for once more."""
    values.flags.writeable = False
    return values


def _not_in(bars: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of each contract after those that full bars are made of, which come first."""
    keys, place = by(rows), pl.int_range(pl.len())
    if not keys:
        return rows[int(bars["count"].sum()) :]
    counts = bars.group_by(keys).agg(pl.col("count").sum().alias("_full"))
    marked = beside(rows.with_columns(_place=within(place, apart(rows))), counts)
    left = marked.filter(pl.col("_place") >= pl.col("_full").fill_null(0))
    return left.select(rows.columns)
