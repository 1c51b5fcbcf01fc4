"""The public class of incremental measures."""

from __future__ import annotations

import warnings
from dataclasses import replace
from html import escape
from inspect import signature
from typing import TYPE_CHECKING, Any, assert_never

import polars as pl

from ibticks import analysis
from ibticks._html import Html, html_table
from ibticks.analysis._engine.columns import require, time_ns
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
    bind_measure,
    format_time,
)
from ibticks.analysis._signing import sign_trades
from ibticks.config import TIME_MIN
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.analysis._incremental.lookback import Lookback, Pick
    from ibticks.analysis._incremental.states import Call, IncrementalState

__all__ = ["Incremental", "initial_state"]


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


class Incremental:
    """A measure that is updated with new ticks, at the cost of the new ones alone.

    For any blocks of ticks, the results of :meth:`update` for each block and of :meth:`pending` at
    the end are together the result of the measure for all ticks::

        bars = Incremental("time_bars", "1m")
        result = pl.concat([*map(bars.update, blocks), bars.pending()])
        assert_frame_equal(result, time_bars(pl.concat(blocks), "1m"))

    up to the rounding of sums, and but for the order where several contracts share the ticks: the
    rows of one contract are in order, and come when they are final. For a total, such as ``vwap``,
    :meth:`update` returns the total of all ticks so far.

    Parameters
    ----------
    measure : str or callable
        A measure of :mod:`ibticks.analysis`: its name or the function.
    *arguments, **keywords
        Arguments of the measure, without the ticks. ``quotes`` is left out: trades and quotes come
        together, in one frame.

    Raises
    ------
    InputError
        There is no such measure or argument; or the measure is not incremental, since it looks
        ahead or at all ticks: the message says why, and what to do instead.

    Notes
    -----
    The lookback is a few ticks of each contract: none (``mid``), the last one (``interarrival``),
    the quotes in force (``effective_spread``), a window (``rolling_vwap``), the pending bar
    (``time_bars``), or two that stand for a session (``anchored_vwap``). Its size does not grow
    with time. A session or a day that is one bar is pending all day; its ticks are kept.

    Bars by the clock are final when a tick comes at or after their end, of any contract and tick
    type; those of ``quoted_spread`` and the rows of ``merge_same_timestamp``, when the next tick of
    the contract does: a quote is in force until then, and more may come at the same time. Bars of
    activity are final when they are full; with ``partial=True``, :meth:`pending` returns the last
    one so far. Rows of ``realized_spread`` and ``price_impact`` are final when the horizon of their
    trade is over.

    Ticks are taken in their order of arrival, as :meth:`ibticks.Store.live` gives them. A tick of
    an earlier time than the one before it is taken like any other, where the measure goes by order;
    where it belongs to a bar that is final, it is refused, and nothing is changed. A window, or a
    quote delay, reaches back from the latest time of the contract: older ticks are not looked for.

    Results are not changed later, so that :meth:`pending` may be called in another thread.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> bars = Incremental("time_bars", "1h")
    >>> [bars.update(block).height for block in trades.iter_slices(10_000)]
    [3, 2, 2, 4]
    >>> bars.pending().select("open", "close", "count").rows()
    [(179.35, 179.55, 3)]
    >>> bars
    <Incremental time_bars('1h'): 33,381 ticks to 2013-10-08T23:23:56.822Z, 3 rows kept>

    >>> total = Incremental("vwap")
    >>> for block in trades.iter_slices(10_000):
    ...     print(total.update(block)["vwap"].round(2).item())
    180.69
    180.27
    179.95
    179.8

    >>> Incremental("outliers")
    Traceback (most recent call last):
        ...
    ibticks.errors.InputError: outliers cannot take ticks as they come: it looks at what comes
    after each tick; take the measure of a buffer, as of store.buffer(...).to_polars()
    """

    def __init__(self, measure: str | Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        self._call = bind_measure(measure, arguments, keywords)
        self._state = initial_state(self._call)
        self._schema: pl.Schema | None = None
        self._ticks = 0
        self._newest = TIME_MIN

    def update(self, ticks: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Take more ticks.

        Parameters
        ----------
        ticks : polars.DataFrame or polars.LazyFrame
            Later ticks than all before, in order of arrival; an empty frame will do. Always of the
            same columns, ``timestamp`` among them.

        Returns
        -------
        polars.DataFrame
            Rows or bars that became final. For a total, the total so far.

        Raises
        ------
        UnknownColumnError
            A column is missing.
        InputError
            The columns are others than before, or a tick belongs to what is final already. Nothing
            of the ticks was taken then.

        Examples
        --------
        >>> from ibticks.sample import sample
        >>> quotes = pl.read_parquet(sample("ibm_quotes").path)
        >>> spreads = Incremental("quoted_spread", "1h")
        >>> spreads.update(quotes[:20_000]).height, spreads.update(quotes[20_000:]).height
        (7, 9)
        """
        frame = ticks.lazy().collect()
        if self._schema is None:
            require(frame, "timestamp", caller=f"{self._call.name} of ticks as they come")
            # The measure refuses wrong columns and arguments, even without ticks.
            self._call(frame.clear())
        elif frame.schema != self._schema:
            raise InputError(
                f"{self._call.name}: the ticks have columns {_format_schema(frame.schema)}; those "
                f"before had {_format_schema(self._schema)}"
            )
        newest = frame.select(time_ns().max()).item()
        now = self._newest if newest is None else max(newest, self._newest)
        result, self._state = self._state.advance(frame, now)
        self._schema, self._newest, self._ticks = frame.schema, now, self._ticks + frame.height
        return result

    def pending(self) -> pl.DataFrame:
        """Return the result that is not final yet.

        Returns
        -------
        polars.DataFrame
            Pending bars, as they are so far; pending rows; or none. For a total, the total. Before
            any ticks, a frame without columns.

        Examples
        --------
        >>> Incremental("time_bars", "1h").pending().shape
        (0, 0)
        """
        return pl.DataFrame() if self._schema is None else self._state.pending()

    @property
    def lookback_rows(self) -> int:
        """Number of rows in the lookback: ticks, or the sums of a total.

        Examples
        --------
        >>> Incremental("mid").lookback_rows
        0
        """
        return self._state.lookback_rows

    def __repr__(self) -> str:
        rows = f"{self.lookback_rows:,} row{'' if self.lookback_rows == 1 else 's'} kept"
        return f"<Incremental {self._call.text}: {self._seen()}, {rows}>"

    def _repr_html_(self) -> str:
        rows = {
            "measure": self._call.text,
            "ticks": self._seen(),
            "rows kept": f"{self.lookback_rows:,}",
        }
        return html_table(
            [(name, Html(f"<code>{escape(value)}</code>")) for name, value in rows.items()]
        )

    def open(self) -> pl.DataFrame:
        """Return :meth:`pending`; deprecated."""
        _warn_renamed("open()", "pending()")
        return self.pending()

    @property
    def kept(self) -> int:
        """Number of :attr:`lookback_rows`; deprecated."""
        _warn_renamed("kept", "lookback_rows")
        return self.lookback_rows

    def _seen(self) -> str:
        if self._newest == TIME_MIN:
            return f"{self._ticks:,} ticks"
        return f"{self._ticks:,} ticks to {format_time(self._newest)}"


def _format_schema(schema: pl.Schema) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in schema.items())


def _warn_renamed(old: str, new: str) -> None:
    warnings.warn(
        f"Incremental.{old} is called Incremental.{new} now", DeprecationWarning, stacklevel=3
    )
