"""How measures go on that speak of a time only when it is over: what came after, or was last."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

import polars as pl

from ibticks.analysis._clocks import as_of, grid, instants
from ibticks.analysis._columns import apart, by, instant, nanoseconds, within
from ibticks.analysis._grouping import rows_with
from ibticks.analysis._incremental._kept import by_column, latest, quotes, signing_and_mid, trades
from ibticks.analysis._incremental._late import moment, refuse_late
from ibticks.analysis._incremental._ways import following
from ibticks.analysis._sessions import session_table
from ibticks.calendar import parse_duration
from ibticks.config import TIME_MIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.analysis._incremental._call import Call

    Instants: TypeAlias = Callable[[int, int], pl.LazyFrame]

__all__ = ["Grid", "Waiting", "instants_given", "instants_of_grid"]

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
