"""States of incremental measures whose output is delayed: bars, horizons and grids."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeAlias

import numpy as np
import polars as pl

from ibticks.analysis._bars import (
    InformationBarsName,
    kernel_arguments,
    numbered_information_bars,
)
from ibticks.analysis._engine.bars import BarClock, bar_rows
from ibticks.analysis._engine.columns import (
    duration_ns,
    grouping_keys,
    key_columns,
    over_keys,
    time_ns,
)
from ibticks.analysis._engine.grouping import rows_with
from ibticks.analysis._engine.sessions import session_table
from ibticks.analysis._incremental.lookback import (
    by_column,
    group_by_keys,
    join_per_contract,
    last_rows,
    quotes,
    signing_and_mid,
    trades,
)
from ibticks.analysis._incremental.states import append_ticks, format_time, refuse_late
from ibticks.analysis._joins import as_of, grid, instants
from ibticks.calendar import parse_duration
from ibticks.config import TIME_MIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from ibticks.analysis._incremental.lookback import Pick
    from ibticks.analysis._incremental.states import Call

    Instants: TypeAlias = Callable[[int, int], pl.LazyFrame]

__all__ = [
    "Clock",
    "ClockBarsState",
    "FullBarsState",
    "GridState",
    "HorizonState",
    "InformationBarsState",
    "TimestampClock",
    "argument_instants",
    "bar_clock",
    "grid_instants",
]

_NO_INSTANTS: Final = pl.LazyFrame({"_key": []}, {"_key": pl.Int64})


@dataclass(frozen=True)
class HorizonState:
    """State of trades that are final when a quote of their contract came after their horizon.

    Attributes
    ----------
    call : Call
        The measure, with a ``horizon``.
    ticks : polars.DataFrame
        The pending trades, all later quotes and trades, and the ticks that sign them; ``_final``
        marks the trades whose rows are final.
    """

    call: Call
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    is_total: ClassVar[bool] = False

    @property
    def lookback_rows(self) -> int:
        """Number of rows in the state."""
        return self.ticks.height

    def advance(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, HorizonState]:
        """Return the rows that are final with more ticks, and the state after them."""
        trade, quote = trades(self.call), quotes(self.call)
        relevant = ticks.filter(trade | quote).with_columns(_final=pl.lit(value=False))
        rows = append_ticks(self.ticks, relevant)
        keys, newest = grouping_keys(rows), time_ns().filter(quote).max()
        is_over = time_ns() + duration_ns(self.call["horizon"]) < over_keys(newest, keys)
        marked = rows.with_columns(_over=(trade & is_over).fill_null(value=False))
        all_trades = marked.filter(trade)
        result = self.call(rows.drop("_final"))
        result = result.filter(all_trades["_over"] & ~all_trades["_final"])
        is_pending = trade & ~pl.col("_over")
        marked = marked.with_columns(
            _since=over_keys(is_pending.cum_sum(), keys) > 0,
            _final=pl.col("_over") | pl.col("_final"),
        )
        before = marked.filter(~pl.col("_since"))
        lookback = pl.concat([signing_and_mid(self.call, before, result), marked.filter("_since")])
        return result, replace(self, ticks=lookback.select(rows.columns))

    def pending(self) -> pl.DataFrame:
        """Return the rows of trades whose horizon is not over."""
        is_final = self.ticks.filter(trades(self.call))["_final"]
        return self.call(self.ticks.drop("_final")).filter(~is_final)


def grid_instants(call: Call) -> Instants:
    """Return the instants of ``align``, from the first and the last time of ticks."""
    step, table = parse_duration(call["every"]), None
    if call["market"] is not None:
        table = session_table(call["market"], call["session_type"], caller=call.name)
    return lambda first, last: grid(pl.LazyFrame({"_first": [first], "_last": [last]}), step, table)


def argument_instants(call: Call) -> Instants:
    """Return the instants of ``last_value``, whatever the times of ticks."""
    at = instants(call["at"])
    return lambda first, last: at


@dataclass(frozen=True)
class GridState:
    """State of the last values of contracts at instants, final when a later tick came.

    A new contract has rows for the earlier instants, too.

    Attributes
    ----------
    call : Call
        The measure, with a ``column`` and a ``tolerance``.
    instants : callable
        From the times of the first and the last tick to the instants, ``_key``.
    ticks : polars.DataFrame
        The last tick of each contract.
    first, newest : int
        Times of ticks.
    """

    call: Call
    instants: Instants
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    first: int | None = None
    newest: int = TIME_MIN
    is_total: ClassVar[bool] = False

    @property
    def lookback_rows(self) -> int:
        """Number of rows in the state."""
        return self.ticks.height

    def advance(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, GridState]:
        """Return the rows that are final with more ticks, and the state after them."""
        relevant = ticks.filter(by_column(self.call))
        rows, key, previous = append_ticks(self.ticks, relevant), pl.col("_key"), self.newest
        if not relevant.height:
            return self._at(rows, _NO_INSTANTS), replace(self, ticks=rows)
        earliest, newest = relevant.select(first=time_ns().min(), last=time_ns().max()).row(0)
        first, newest = earliest if self.first is None else self.first, max(newest, previous)
        self._refuse_late(relevant, earliest)
        clock = self.instants(max(first, previous), newest).filter(key >= previous, key < newest)
        result = self._at(rows, clock)
        if key_columns(rows) and self.ticks.height:
            new = relevant.join(self.ticks, on=key_columns(rows), how="anti", maintain_order="left")
            earlier = _NO_INSTANTS
            if new.height:
                earlier = self.instants(first, previous).filter(key < previous)
            result = pl.concat([self._at(new, earlier), result])
        return result, replace(
            self, ticks=last_rows(rows, grouping_keys(rows)), first=first, newest=newest
        )

    def pending(self) -> pl.DataFrame:
        """Return the rows of instants at or after the newest tick."""
        if self.first is None:
            return self.call(self.ticks)
        clock = self.instants(self.newest, self.newest)
        return self._at(self.ticks, clock.filter(pl.col("_key") >= self.newest))

    def _at(self, rows: pl.DataFrame, clock: pl.LazyFrame) -> pl.DataFrame:
        column = self.call["column"]
        return as_of(rows, rows_with(rows, column), clock, column, self.call["tolerance"])

    def _refuse_late(self, ticks: pl.DataFrame, earliest: int) -> None:
        """Refuse ticks at or before an instant whose row is final."""
        if earliest >= self.newest:
            return
        clock = self.instants(earliest, self.newest).filter(pl.col("_key") < self.newest)
        last_final = clock.select(pl.col("_key").max()).collect().item()
        late = ticks.filter(time_ns() <= last_final)
        if late.height:
            refuse_late(self.call, late, f"{format_time(last_final)} was given already")


class Clock(Protocol):
    """Start and end of the bar of each tick; times are int64 UTC nanoseconds."""

    @property
    def start(self) -> pl.Expr:
        """Start of the bar of each row of :meth:`rows`."""
        ...

    @property
    def end(self) -> pl.Expr:
        """End of the bar."""
        ...

    def rows(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return the rows that lie in a bar."""
        ...


class TimestampClock:
    """Clock with a bar for each timestamp."""

    start: Final = time_ns()
    end: Final = time_ns() + 1

    def rows(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return all rows."""
        return rows


def bar_clock(call: Call) -> Clock:
    """Return the clock of the bars that the arguments of a measure ask for."""
    names = ("anchor", "market", "session_type")
    arguments = {name: call[name] for name in names if name in call.arguments}
    if call.name == "quoted_spread" and call["anchor"] == "clock":
        arguments["market"] = None  # it divides the quotes, not the bars
    return BarClock.of(call["every"], **arguments, caller=call.name)


@dataclass(frozen=True)
class ClockBarsState:
    """State of bars that are final when a tick came at or after their end, of any contract.

    Attributes
    ----------
    call : Call
        The measure.
    clock : BarClock or TimestampClock
    picks : callable
        Picks the ticks that bars are made of.
    previous : bool
        Whether a bar needs the last tick before it.
    outside : bool
        Whether that tick may be outside the sessions, where no bars are.
    per_contract : bool
        Whether only the next tick of its contract makes a bar final.
    ticks : polars.DataFrame
        The ticks of pending bars, and those before, with ``_start`` and ``_end`` of their bars; of
        ticks in no bar, their time and null.
    final : polars.DataFrame
        ``_last_final``, the start of the last final bar of each contract, if a bar needs it.
    newest : int
        Time of the newest tick.
    """

    call: Call
    clock: Clock
    picks: Pick
    previous: bool = False
    outside: bool = False
    per_contract: bool = False
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    final: pl.DataFrame = field(default_factory=pl.DataFrame)
    newest: int = TIME_MIN
    is_total: ClassVar[bool] = False

    @property
    def lookback_rows(self) -> int:
        """Number of rows in the state."""
        return self.ticks.height

    def advance(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, ClockBarsState]:
        """Return the bars that are final with more ticks, and the state after them."""
        rows = append_ticks(self.ticks, self._with_bars(ticks))
        keys, start = key_columns(ticks), pl.col("_start")
        self._refuse_late(rows)
        newest = max(now, self.newest)
        is_final = (pl.col("_end") <= newest).fill_null(value=True)
        if self.per_contract:
            is_final = start < over_keys(start.max(), grouping_keys(rows))
        rows = rows.with_columns(_final=is_final)
        pending = rows.filter(~pl.col("_final"))
        bars = self._bars(rows)
        if self.per_contract:
            first = group_by_keys(pending, keys).agg(start.min())
            bars = (
                join_per_contract(bars, first.select(*keys, start))
                .filter(time_ns() < start)
                .drop("_start")
            )
        elif pending.height:
            bars = bars.filter(time_ns() < pending["_start"].min())
        state = replace(self, newest=newest, ticks=pending.drop("_final"))
        if self.previous:
            last = last_rows(rows.filter("_final"), grouping_keys(rows)).drop("_final")
            final = append_ticks(self.final, bars.select(*keys, _last_final=time_ns()))
            ticks = pl.concat([last, state.ticks])
            state = replace(state, ticks=ticks, final=last_rows(final, keys))
        return bars, state

    def pending(self) -> pl.DataFrame:
        """Return the pending bars."""
        return self._bars(self.ticks)

    def _with_bars(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Return the ticks that bars are made of, with start and end of their bars."""
        clock, rows = self.clock, ticks.lazy().filter(self.picks(self.call)).with_row_index("_row")
        inside = clock.rows(rows).with_columns(_start=clock.start, _end=clock.end)
        timed = inside.select(*ticks.columns, "_row", "_start", "_end")
        if self.outside:
            known = inside.select("_row", "_start", "_end")
            timed = rows.join(known, on="_row", how="left", maintain_order="left")
            timed = timed.with_columns(pl.col("_start").fill_null(time_ns()))
        return timed.drop("_row").collect()

    def _bars(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return all bars that were not final before."""
        bars = self.call(rows.select(pl.exclude("_start", "_end", "_final")))
        if not self.final.height:
            return bars
        last_final = pl.col("_last_final")
        is_new = last_final.is_null() | (time_ns() > last_final)
        return join_per_contract(bars, self.final).filter(is_new).drop("_last_final")

    def _refuse_late(self, rows: pl.DataFrame) -> None:
        """Refuse new ticks of bars that are final, which would be lost."""
        start = pl.col("_start")
        if self.per_contract:
            late = rows.filter(start < over_keys(start.cum_max(), grouping_keys(rows)))
        else:
            late = rows[self.lookback_rows :].filter(pl.col("_end") <= self.newest)
        if late.height:
            bar = format_time(late["_start"][0])
            refuse_late(self.call, late, f"its bar, of {bar}, was final already")


@dataclass(frozen=True)
class FullBarsState:
    """State of bars that are final when they are full.

    Attributes
    ----------
    call : Call
        The measure, with an argument ``partial``.
    picks : callable
        Picks the ticks that bars are made of.
    ticks : polars.DataFrame
        The ticks of pending bars.
    """

    call: Call
    picks: Pick
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    is_total: ClassVar[bool] = False

    @property
    def lookback_rows(self) -> int:
        """Number of rows in the state."""
        return self.ticks.height

    def advance(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, FullBarsState]:
        """Return the bars that are full with more ticks, and the state after them."""
        rows = append_ticks(self.ticks, ticks.filter(self.picks(self.call)))
        bars = self.call(rows, partial=False)
        return bars, replace(self, ticks=_after_full(bars, rows))

    def pending(self) -> pl.DataFrame:
        """Return the pending bars, if the call asks for them."""
        return self.call(self.ticks)


@dataclass(frozen=True)
class InformationBarsState:
    """State of bars that are final when more has come than earlier bars let expect.

    Attributes
    ----------
    call : Call
        ``imbalance_bars`` or ``run_bars``.
    ticks : polars.DataFrame
        The ticks of pending bars.
    expected : mapping
        Expectations by contract, as the kernel returns them.
    """

    call: Call
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    expected: Mapping[Any, npt.NDArray[np.float64]] = field(default_factory=dict)
    is_total: ClassVar[bool] = False

    @property
    def lookback_rows(self) -> int:
        """Number of rows in the state."""
        return self.ticks.height

    def advance(self, ticks: pl.DataFrame, now: int) -> tuple[pl.DataFrame, InformationBarsState]:
        """Return the bars that are full with more ticks, and the state after them."""
        rows = append_ticks(self.ticks, ticks.filter(trades(self.call)))
        bars, expected = self._bars(rows, partial=False)
        return bars, replace(self, ticks=_after_full(bars, rows), expected=expected)

    def pending(self) -> pl.DataFrame:
        """Return the pending bars, if the call asks for them."""
        bars, _ = self._bars(self.ticks, partial=self.call["partial"])
        return bars

    def _bars(
        self, ticks: pl.DataFrame, *, partial: bool
    ) -> tuple[pl.DataFrame, dict[Any, npt.NDArray[np.float64]]]:
        from ibticks.analysis._engine import kernels

        name: InformationBarsName = self.call.name  # type: ignore[assignment]
        names = ("amount", "expected_ticks", "span", "limits", "sign")
        inputs, constants = kernel_arguments(name, *(self.call[value] for value in names))
        kernel = getattr(kernels, f"{name}_after")
        rows = bar_rows(ticks, "trades", caller=name).collect()
        columns = rows.select(value.alias(str(n)) for n, value in enumerate(inputs)).get_columns()
        ids = (
            rows[key_columns(ticks)[0]].to_numpy()
            if key_columns(ticks)
            else np.zeros(len(rows), dtype=np.int64)
        )
        bar, signed = np.empty(len(rows), dtype=np.int64), np.empty(len(rows))
        expected = dict(self.expected)
        for contract in np.unique(ids).tolist():
            place = np.flatnonzero(ids == contract)
            arrays = [_read_only(column.to_numpy()[place]) for column in columns]
            before = expected.get(contract, np.empty(0))
            bar[place], signed[place], expected[contract] = kernel(before, *arrays, *constants)
        numbered = rows.lazy().with_columns(_bar=pl.Series(bar), _signed=pl.Series(signed))
        return numbered_information_bars(ticks, numbered, name, partial), expected


def _read_only(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Make an array read-only: numba would compile once more for a writable one."""
    values.flags.writeable = False
    return values


def _after_full(bars: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of each contract after those of its full bars, which come first."""
    keys, place = key_columns(rows), pl.int_range(pl.len())
    if not keys:
        return rows[int(bars["count"].sum()) :]
    counts = bars.group_by(keys).agg(pl.col("count").sum().alias("_full"))
    marked = join_per_contract(
        rows.with_columns(_place=over_keys(place, grouping_keys(rows))), counts
    )
    left = marked.filter(pl.col("_place") >= pl.col("_full").fill_null(0))
    return left.select(rows.columns)
