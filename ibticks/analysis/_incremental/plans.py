"""Initial states of incremental measures, from the plans that measures are registered with."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any, assert_never

from ibticks import analysis
from ibticks.analysis._engine.registry import (
    MEASURES,
    Additive,
    BySessions,
    ClockBars,
    FullBars,
    Grid,
    Horizon,
    InformationBars,
    NotIncremental,
    Plan,
    Rowwise,
    RunningTotal,
    SignedFirst,
    Snapshot,
    WithArgument,
)
from ibticks.analysis._incremental import lookback
from ibticks.analysis._incremental.deferred import (
    ClockBarsState,
    FullBarsState,
    GridState,
    HorizonState,
    InformationBarsState,
    TimestampClock,
    argument_instants,
    bar_clock,
    grid_instants,
)
from ibticks.analysis._incremental.states import (
    AdditiveState,
    ChainedState,
    RowwiseState,
    RunningTotalState,
    SnapshotState,
)
from ibticks.analysis._signing import sign_trades
from ibticks.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from ibticks.analysis._incremental.lookback import Lookback, Pick
    from ibticks.analysis._incremental.states import Call, IncrementalState

__all__ = ["initial_state"]


def initial_state(call: Call) -> IncrementalState:
    """Return the state of a measure before any ticks.

    Raises
    ------
    InputError
        The measure is not incremental; the message says why, and what to do instead.
    """
    if call.arguments.get("quotes") is not None:
        raise InputError(
            f"{call.name} of ticks as they come takes the quotes from the same frame as the "
            'trades, in the order they came: update it with both, as store.live(..., ["bid_ask", '
            '"last"]) gives them, and leave out quotes='
        )
    return _state(call, MEASURES[call.name].incremental)


def _state(call: Call, plan: Plan) -> IncrementalState:
    match plan:
        case Rowwise():
            return RowwiseState(call, _lookback(plan.lookback), _pick(plan.rows))
        case Snapshot():
            return SnapshotState(call, getattr(lookback, plan.lookback))
        case Additive():
            return AdditiveState(
                call, plan.sums, plan.averages, plan.marks, plan.finish, _lookback(plan.lookback)
            )
        case ClockBars():
            return _clock_bars(call, plan)
        case FullBars():
            return FullBarsState(call, _pick(plan.rows))
        case InformationBars():
            return InformationBarsState(call)
        case Horizon():
            return HorizonState(call)
        case Grid():
            instants = grid_instants if plan.instants == "grid" else argument_instants
            return GridState(call, instants(call))
        case WithArgument():
            return _state(
                call, plan.otherwise if call[plan.argument] is None else plan.with_argument
            )
        case BySessions():
            divided = call["market"] is not None or call["sessions"] is not None
            return _state(call, plan.divided if divided else plan.otherwise)
        case SignedFirst():
            return _signed_first(call, plan.plan)
        case RunningTotal():
            return _running_total(call, plan.measure)
        case NotIncremental():
            raise InputError(
                f"{call.name} cannot take ticks as they come: {plan.reason}; {plan.instead}"
            )
    assert_never(plan)


def _lookback(name: str | None) -> Lookback | None:
    return None if name is None else getattr(lookback, name)


def _pick(name: str) -> Pick:
    pick: Pick = getattr(lookback, name)
    return pick


def _clock_bars(call: Call, plan: ClockBars) -> ClockBarsState:
    return ClockBarsState(
        call,
        bar_clock(call) if plan.clock == "bars" else TimestampClock(),
        _pick(plan.rows),
        previous=call[plan.previous] if isinstance(plan.previous, str) else plan.previous,
        outside=plan.outside,
        per_contract=plan.per_contract,
    )


def _signed_first(call: Call, plan: Plan) -> ChainedState:
    """Return a state that signs the trades, then one that takes them with their sign."""

    def sign(ticks: pl.DataFrame, **arguments: Any) -> pl.DataFrame:
        names = ("method", "quotes", "quote_delay", "sessions")
        return sign_trades(ticks, *(arguments[name] for name in names)).collect()

    signing = RowwiseState(replace(call, function=sign), lookback.signing, lookback.trades)
    known = replace(call, arguments={**call.arguments, "method": None, "sessions": None})
    return ChainedState(signing, _state(known, plan))


def _running_total(call: Call, name: str) -> ChainedState:
    """Return the state of another measure, then one that adds up its column of the same name."""
    function = getattr(analysis, name)
    shared = [
        parameter for parameter in signature(function).parameters if parameter in call.arguments
    ]
    rows = replace(call, function=function, arguments={value: call[value] for value in shared})
    return ChainedState(
        _state(rows, MEASURES[name].incremental), RunningTotalState(name, call.name)
    )
