"""Ten million real ticks, and measures of them held against queries written by hand.

The ticks are the real IBM day of ``ibticks.sample``, repeated a day later each time. Queries are
for one contract and for ticks without nulls, as one writes them for the moment; ibticks keeps
contracts apart and looks for both. Before the clock runs, the columns that a query and its measure
both return are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from polars.testing import assert_frame_equal

from benchmarks.report import Figure, Row, at_most
from benchmarks.timing import compare, simple
from ibticks.sample import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.scene import Scene

__all__ = ["Case", "measured", "quotes", "trades"]

_TIMES: Final = 10  # as many ticks as the hour has
_RUNS: Final = 3
_TWICE, _A_SECOND = at_most(2), at_most(1, absolute=True)


@dataclass(frozen=True, slots=True)
class Case:
    """A measure, and the query it is held against.

    Attributes
    ----------
    what : str
    ours : callable
    peer : str
        How the query is made.
    theirs : callable, optional
    same : str
        The columns that both return and must agree on, in one string.
    rounding : float
        How far apart numbers may be, beside a share of 1e-9.
    rows : callable, optional
        Takes the rows that are to be compared; by default all.
    """

    what: str
    ours: Callable[[], Any]
    peer: str = ""
    theirs: Callable[[], Any] | None = None
    same: str = ""
    rounding: float = 0.0
    rows: Callable[[pl.DataFrame], pl.DataFrame] | None = None

    def check(self) -> None:
        """Refuse a query that does not return what the measure does."""
        if self.theirs is not None and self.same:
            result = [run().select(self.same.split()) for run in (self.ours, self.theirs)]
            ours, theirs = result if self.rows is None else map(self.rows, result)
            assert_frame_equal(
                ours, theirs, check_dtypes=False, rel_tol=1e-9, abs_tol=self.rounding
            )


@cache
def trades(scene: Scene, *more: str) -> pl.DataFrame:
    """Ten million trades of one contract; ``more`` are columns of words."""
    return _days("ibm_trades", scene.ticks * _TIMES, ["price", "size"], more)


@cache
def quotes(scene: Scene) -> pl.DataFrame:
    """Ten million quotes of one contract."""
    sides = ["bid_price", "bid_size", "ask_price", "ask_size"]
    return _days("ibm_quotes", scene.ticks * _TIMES, sides)


def _days(name: str, ticks: int, numbers: list[str], words: tuple[str, ...] = ()) -> pl.DataFrame:
    result, at = sample(name), pl.col("timestamp")
    day = pl.read_parquet(result.path).select(
        "timestamp",
        pl.lit(result.contract_id, pl.UInt32).alias("contract_id"),
        pl.col(numbers).cast(pl.Float64),
        *words,
    )
    days = -(-ticks // len(day))
    moved = (day.with_columns(at.dt.offset_by(f"{number}d")) for number in range(days))
    return pl.concat(moved).head(ticks).rechunk().with_columns(at.set_sorted())


def measured(cases: list[Case], scene: Scene) -> Iterator[Row]:
    """A row for each, and one for the slowest of them."""
    slowest = None
    for case in cases:
        case.check()
        contenders = [simple("ours", case.ours)]
        if case.theirs is not None:
            contenders.append(simple("theirs", case.theirs))
        runs = compare(contenders, min(scene.repeat, _RUNS))
        took = {name: Figure.seconds(seconds) for name, seconds in runs.items()}
        if case.theirs is None:
            yield Row(case.what, took["ours"], goal=_A_SECOND)
        else:
            yield Row(
                case.what,
                took["ours"],
                case.peer,
                took["theirs"],
                share=True,
                goal=_TWICE,
                also=_A_SECOND,
            )
        if slowest is None or took["ours"].value > slowest.value:
            slowest = took["ours"]
    if slowest is not None:
        yield Row("· the slowest of these", slowest, goal=_A_SECOND)
