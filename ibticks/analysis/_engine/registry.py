"""Registry of the measures: the section and the incremental plan of each, beside its function.

:func:`measure` registers a function when its module loads. The lists of measures are derived from
it: the methods of ``.ticks``, the plans of :class:`ibticks.analysis.Incremental` and the listing in
notebooks.

A plan is data, of which :mod:`ibticks.analysis._incremental.incremental` makes the initial state.
``lookback`` and ``rows`` name functions of :mod:`ibticks.analysis._incremental.lookback`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "MEASURES",
    "SECTIONS",
    "USE_BUFFER",
    "Additive",
    "BySessions",
    "ClockBars",
    "FullBars",
    "Grid",
    "Horizon",
    "InformationBars",
    "Measure",
    "NotIncremental",
    "Plan",
    "Rowwise",
    "RunningTotal",
    "Section",
    "SignedFirst",
    "Snapshot",
    "WithArgument",
    "measure",
]

Section: TypeAlias = Literal[
    "Time windows",
    "Bars",
    "Prices",
    "Order flow",
    "Costs and liquidity",
    "Volatility",
    "Arrival and quality",
    "Cleaning",
    "Joins",
]
"""Sections of the documentation."""

SECTIONS: Final[tuple[Section, ...]] = get_args(Section)
"""All sections, in the order of the documentation."""

USE_BUFFER: Final = "take the measure of a buffer, as of store.buffer(...).to_polars()"
"""Advice about a measure that is not incremental, for messages."""

Function = TypeVar("Function", bound="Callable[..., Any]")


@dataclass(frozen=True)
class Rowwise:
    """One row for each tick, final at once.

    Attributes
    ----------
    lookback : str, optional
        Function that picks the earlier ticks a row depends on. By default none.
    rows : str
        Function that picks the ticks which have a row.
    """

    lookback: str | None = None
    rows: str = "every_row"


@dataclass(frozen=True)
class Snapshot:
    """A result for all ticks so far, of a lookback that stands for them."""

    lookback: str


@dataclass(frozen=True)
class Additive:
    """A result for all ticks so far, the sum of the results of its blocks.

    Attributes
    ----------
    sums : tuple of str
        Columns that are sums.
    averages : mapping of str to str
        Columns that are averages, and the sum that weighs each.
    marks : tuple of str
        Columns that ``finish`` computes. All other columns keep the rows apart.
    finish : callable, optional
        From the arguments of the measure and the sums to its result.
    lookback : str, optional
        Function that picks the ticks the next block begins with; they add nothing themselves.
    """

    sums: tuple[str, ...]
    averages: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    finish: Callable[[Any, Any], Any] | None = None
    lookback: str | None = None


@dataclass(frozen=True)
class ClockBars:
    """Bars that are final when a tick came at or after their end, of any contract.

    Attributes
    ----------
    rows : str
        Function that picks the ticks that bars are made of.
    clock : {"bars", "timestamps"}
        Bars of the arguments of the measure, or one for each timestamp.
    previous : bool or str
        Whether a bar needs the last tick before it, or the argument that says so.
    outside : bool
        Whether that tick may be outside the sessions, where no bars are.
    per_contract : bool
        Whether only the next tick of its contract makes a bar final.
    """

    rows: str
    clock: Literal["bars", "timestamps"] = "bars"
    previous: bool | str = False
    outside: bool = False
    per_contract: bool = False


@dataclass(frozen=True)
class FullBars:
    """Bars that are final when they are full; ``rows`` picks the ticks they are made of."""

    rows: str


@dataclass(frozen=True)
class InformationBars:
    """Bars that are final when more has come than the bars before them let expect."""


@dataclass(frozen=True)
class Horizon:
    """Rows of trades that are final when a quote came after the horizon of each."""


@dataclass(frozen=True)
class Grid:
    """Values at instants that are final when a tick came after them.

    Attributes
    ----------
    instants : {"grid", "argument"}
        Instants of a grid of equal steps, or those of the argument ``at``.
    """

    instants: Literal["grid", "argument"]


@dataclass(frozen=True)
class WithArgument:
    """One plan where an argument is given, another where it is None."""

    argument: str
    with_argument: Plan
    otherwise: Plan


@dataclass(frozen=True)
class BySessions:
    """One plan where sessions divide the ticks, another where they do not."""

    divided: Plan
    otherwise: Plan


@dataclass(frozen=True)
class SignedFirst:
    """A plan that takes trades with their sign, after a state that signs them."""

    plan: Plan


@dataclass(frozen=True)
class RunningTotal:
    """The rows of another measure, with the running total of the column of its name."""

    measure: str


@dataclass(frozen=True)
class NotIncremental:
    """A measure that cannot be updated with new ticks.

    Attributes
    ----------
    reason : str
        Reason, for the message.
    instead : str
        Advice, for the message.
    """

    reason: str
    instead: str = USE_BUFFER


Plan: TypeAlias = (
    Rowwise
    | Snapshot
    | Additive
    | ClockBars
    | FullBars
    | InformationBars
    | Horizon
    | Grid
    | WithArgument
    | BySessions
    | SignedFirst
    | RunningTotal
    | NotIncremental
)
"""Plan of an incremental measure."""


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes
    ----------
    function : callable
    section : str
        Section of the documentation.
    incremental : Plan
        Plan by which new ticks update it.
    """

    function: Callable[..., Any]
    section: Section
    incremental: Plan


MEASURES: Final[dict[str, Measure]] = {}
"""Measures of the modules that are loaded, by name."""


def measure(section: Section, incremental: Plan) -> Callable[[Function], Function]:
    """Register a function of :mod:`ibticks.analysis` as a measure.

    Parameters
    ----------
    section : str
        Section of the documentation.
    incremental : Plan
        Plan by which new ticks update it, or :class:`NotIncremental`.

    Examples
    --------
    >>> from ibticks import analysis
    >>> MEASURES[analysis.vwap.__name__].section
    'Prices'
    """

    def register(function: Function) -> Function:
        MEASURES[function.__name__] = Measure(function, section, incremental)
        return function

    return register
