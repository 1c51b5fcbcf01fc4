"""The rows of the table, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Figure", "Goal", "Row", "as_json", "as_table", "at_least", "at_most"]

_SCALES = {
    "s": (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)),
    "B": (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)),
    "ticks/s": (("M ticks/s", 1e6), ("k ticks/s", 1e3)),
    "ticks": (("k ticks", 1e3), ("ticks", 1.0)),
    "frames/s": (("frames/s", 1.0),),
}
_REACHED = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, in seconds, bytes or ticks a second, and the runs it is the median of."""

    value: float
    unit: str
    runs: tuple[float, ...] = ()

    @classmethod
    def seconds(cls, runs: Sequence[float], count: int = 1) -> Figure:
        """The median of some times, each of which was taken of ``each`` repetitions."""
        per = tuple(run / count for run in runs)
        return cls(median(per), "s", per)

    @classmethod
    def rate(cls, ticks: int, runs: Sequence[float]) -> Figure:
        """Ticks a second."""
        rates = tuple(ticks / run for run in runs)
        return cls(median(rates), "ticks/s", rates)

    @classmethod
    def size(cls, *runs: float) -> Figure:
        """Bytes."""
        return cls(median(runs), "B", runs)

    def __str__(self) -> str:
        return _text(self.value, self.unit)


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal: of the ratio, or (``absolute``) by the figure of ibticks itself."""

    bound: float
    least: bool
    absolute: bool

    def met(self, row: Row) -> bool | None:
        """Return whether a row reaches the goal; None where there is nothing to compare with."""
        value = row.ours.value if self.absolute else row.ratio
        if value is None:
            return None
        return value >= self.bound if self.least else value <= self.bound

    def text(self, row: Row) -> str:
        """For the table."""
        bound = _text(self.bound, row.ours.unit) if self.absolute else f"{self.bound:g} ×"
        return f"{'≥' if self.least else '≤'} {bound}"


def at_least(bound: float, *, absolute: bool = False) -> Goal:
    """A goal that more is better for."""
    return Goal(bound, True, absolute)


def at_most(bound: float, *, absolute: bool = False) -> Goal:
    """A goal that less is better for."""
    return Goal(bound, False, absolute)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    what : str
    ours : Figure
    peer : str
        Whom or what it is held against.
    theirs : Figure or None
    share : bool
        Whether the ratio is ibticks / peer (how much of the peer's); otherwise it says how many
        times as fast as the peer ibticks is.
    goal, also : Goal or None
        What is to be reached: the one, and the other.
    """

    what: str
    ours: Figure
    peer: str = ""
    theirs: Figure | None = None
    share: bool = False
    goal: Goal | None = None
    also: Goal | None = None

    @property
    def goals(self) -> list[Goal]:
        """The goals of the section."""
        return [goal for goal in (self.goal, self.also) if goal is not None]

    @property
    def reached(self) -> bool | None:
        """Return whether all goals are reached; None where there are none, or no peers."""
        met = [goal.met(self) for goal in self.goals]
        return None if None in met or not met else all(met)

    @property
    def ratio(self) -> float | None:
        """``share`` says which; None without a peer."""
        if self.theirs is None:
            return None
        more_is_better = self.ours.unit == "ticks/s"
        if self.share or more_is_better:
            return self.ours.value / self.theirs.value
        return self.theirs.value / self.ours.value


def as_table(title: str, rows: Sequence[Row]) -> Table:
    """The rows for a terminal."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in ("what", "ibticks", "peer", "peer's", "ratio", "to reach", "reached"):
        right = name in ("ibticks", "peer's", "ratio", "to reach")
        table.add_column(name, justify="right" if right else "left", no_wrap=right, min_width=7)
    for row in rows:
        table.add_row(
            row.what,
            str(row.ours),
            row.peer,
            "" if row.theirs is None else str(row.theirs),
            _ratio(row),
            _to_reach(row),
            _REACHED[row.reached],
        )
    return table


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows with every single run."""
    return [
        {
            "what": row.what,
            "unit": row.ours.unit,
            "ibticks": row.ours.value,
            "runs": row.ours.runs,
            "peer": row.peer,
            "peers": None if row.theirs is None else row.theirs.value,
            "peers_runs": () if row.theirs is None else row.theirs.runs,
            "ratio": row.ratio,
            "ratio_is": "ibticks / peer" if row.share else "times as fast as the peer",
            "to_reach": _to_reach(row) or None,
            "reached": row.reached,
        }
        for row in rows
    ]


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return ""
    return f"{row.ratio:.3g} × {'of it' if row.share else 'as fast'}"


def _to_reach(row: Row) -> str:
    return ", ".join(goal.text(row) for goal in row.goals)


def _text(value: float, unit: str) -> str:
    for name, scale in _SCALES[unit]:
        if abs(value) >= scale:
            return f"{value / scale:,.3g} {name}"
    name, scale = _SCALES[unit][-1]
    return f"{value / scale:,.3g} {name}"
