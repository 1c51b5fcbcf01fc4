"""Initial states of incremental measures, and the reasons of those that have none."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ibticks.analysis._flow import delta, signed_volume
from ibticks.analysis._incremental import lookback as kept
from ibticks.analysis._incremental.deferred import (
    ClockBars,
    EachTime,
    FullBars,
    Grid,
    InformedBars,
    Waiting,
    clock_of,
    instants_given,
    instants_of_grid,
)
from ibticks.analysis._incremental.states import Chain, Rows, RunningSum, Sums, Way, Whole
from ibticks.analysis._prices import mark_value_area
from ibticks.analysis._signing import signed
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import polars as pl

    from ibticks.analysis._incremental.lookback import Keep, Pick
    from ibticks.analysis._incremental.states import Call

    Plan: TypeAlias = Callable[[Call], Way]
    """From a measure and its arguments to how it begins."""

__all__ = ["PLANS", "way_of"]


def way_of(call: Call) -> Way:
    """How a measure begins that takes ticks as they come.

    Raises
    ------
    InputError
        It cannot; the message says why, and what to do instead.
    """
    if call.arguments.get("quotes") is not None:
        raise InputError(
            f"{call.name} of ticks as they come takes the quotes from the same frame as the "
            'trades, in the order they came: update it with both, as store.live(..., ["bid_ask", '
            '"last"]) gives them, and leave out quotes='
        )
    return PLANS[call.name](call)


def _rows(keep: Keep | None = None, gives: Pick = kept.every_row) -> Plan:
    return lambda call: Rows(call, keep, gives)


def _whole(keep: Keep) -> Plan:
    return lambda call: Whole(call, keep)


def _full(picks: Pick) -> Plan:
    return lambda call: FullBars(call, picks)


def _sums(*added: str, averaged: Mapping[str, str] | None = None, keep: Keep | None = None) -> Plan:
    return lambda call: Sums(call, added, averaged or {}, keep=keep)


def _clock(picks: Pick, *, before: bool = False, own: bool = False) -> Plan:
    return lambda call: ClockBars(call, clock_of(call), picks, before, before, own)


def _time_bars(call: Call) -> Way:
    # Where there are bars without a tick, they follow the last that has one.
    return ClockBars(call, clock_of(call), kept.by_kind, before=call["empty"])


def _merged(call: Call) -> Way:
    return ClockBars(call, EachTime(), kept.by_kind, own=True)


def _profile(call: Call) -> Way:
    def finish(call: Call, levels: pl.DataFrame) -> pl.DataFrame:
        return mark_value_area(levels, call["share"])

    added = ("volume", "trades", "buy_volume", "sell_volume", "delta")
    return Sums(call, added, marks=("point_of_control", "value_area"), finish=finish)


def _given(argument: str, plan: Plan, otherwise: Plan) -> Plan:
    """One plan with an argument, another without."""
    return lambda call: (otherwise if call[argument] is None else plan)(call)


def _by_sessions(plan: Plan, otherwise: Plan) -> Plan:
    """One plan where sessions divide the ticks, another where they do not."""

    def begin(call: Call) -> Way:
        divided = call["market"] is not None or call["sessions"] is not None
        return (plan if divided else otherwise)(call)

    return begin


def _signed(plan: Plan) -> Plan:
    """Trades are signed first; the measure is then given them with their sign."""

    def begin(call: Call) -> Way:
        def sign(ticks: pl.DataFrame, **arguments: Any) -> pl.DataFrame:
            names = ("method", "quotes", "quote_delay", "sessions")
            return signed(ticks, *(arguments[name] for name in names)).collect()

        signing = Rows(replace(call, function=sign), kept.signing, kept.trades)
        known = replace(call, arguments={**call.arguments, "method": None, "sessions": None})
        return Chain(signing, plan(known))

    return begin


def _running_sum(of: Callable[..., Any], column: str, plan: Plan) -> Plan:
    """The plan of another measure, whose column is added up."""

    def begin(call: Call) -> Way:
        names = list(signature(of).parameters)[1:]
        shared = {name: call[name] for name in names if name in call.arguments}
        return Chain(
            plan(replace(call, function=of, arguments=shared)), RunningSum(column, call.name)
        )

    return begin


def _refused(reason: str) -> Plan:
    def refuse(call: Call) -> Way:
        raise InputError(f"{call.name} cannot take ticks as they come: {reason}")

    return refuse


_BUFFER: Final = "take the measure of a buffer, as of store.buffer(...).to_polars()"

_PAIRS: Final = f"it is a fit over all there is; {_BUFFER}"

_SAMPLED: Final = f"it samples prices and looks at all of them together; {_BUFFER}"

_AHEAD: Final = f"it looks at what comes after each tick; {_BUFFER}"

_EACH: Final = _rows()

_SIGNING: Final = _rows(kept.signing, kept.trades)

_DELTA: Final = _signed(
    _given(
        "every",
        _clock(kept.trades),
        _sums("buy_volume", "sell_volume", "unsigned_volume", "delta", "trades"),
    )
)


def _mean_of_bars(name: str) -> Plan:
    return _given("window", _rows(kept.last_bars), _sums("bars", averaged={name: "bars"}))


PLANS: Final[Mapping[str, Plan]] = {
    "align": lambda call: Grid(call, instants_of_grid(call)),
    "amihud": _refused(f"it is a mean over bars; {_BUFFER}"),
    "anchored_twap": _rows(kept.session_mean_and_last),
    "anchored_vwap": _rows(kept.two_for_all),
    "bipower_variation": _refused(_SAMPLED),
    "bollinger_bands": _rows(kept.window),
    "coverage": _refused(
        f"it is a share of all bars there are; count those of intensity, or {_BUFFER}"
    ),
    "crossed_quotes": _EACH,
    "cumulative_delta": _given(
        "every",
        _running_sum(delta, "delta", _DELTA),
        _running_sum(signed_volume, "signed_volume", _SIGNING),
    ),
    "delta": _DELTA,
    "dollar_bars": _full(kept.trades),
    "duplicates": _rows(kept.last_of_stream),
    "effective_spread": _rows(kept.signing_and_mid, kept.trades),
    "gaps": _rows(kept.last_of_stream, kept.no_row),
    "garman_klass": _mean_of_bars("garman_klass"),
    "imbalance_bars": InformedBars,
    "intensity": _clock(kept.every_row),
    "interarrival": _rows(kept.last_of_stream),
    "kyle_lambda": _refused(_PAIRS),
    "last": _whole(kept.result),
    "last_value": lambda call: Grid(call, instants_given(call)),
    "latency": _EACH,
    "merge_same_timestamp": _merged,
    "microprice": _EACH,
    "mid": _EACH,
    "no_zero_prices": _EACH,
    "no_zero_quotes": _EACH,
    "order_flow_imbalance": _given(
        "every", _clock(kept.quotes, before=True), _rows(kept.last_quote)
    ),
    "outliers": _refused(_AHEAD),
    "parkinson": _mean_of_bars("parkinson"),
    "price_impact": Waiting,
    "quality_report": _refused(f"its outliers look ahead; {_BUFFER}"),
    "quote_imbalance": _EACH,
    "quoted_spread": _given(
        "every",
        _clock(kept.quotes, before=True, own=True),
        _refused("it is one mean over all time; give the length of bars, as in every='1m'"),
    ),
    "quotes_at": _rows(kept.quotes_in_force, kept.no_row),
    "quotes_cleanup": _refused(f"its rules look at the whole day; {_BUFFER}"),
    "realized_kernel": _refused(_SAMPLED),
    "realized_spread": Waiting,
    "realized_variance": _given(
        "every",
        _refused(f"it samples prices; leave out every=, so that each tick is one, or {_BUFFER}"),
        _sums("realized_variance", "returns", keep=kept.last_priced),
    ),
    "refresh_time": _refused(
        f"when all contracts have moved is not known before all have come; {_BUFFER}"
    ),
    "rm_corrected": _EACH,
    "rm_large_spread": _refused(f"it looks at the median spread of the whole day; {_BUFFER}"),
    "rm_negative_spread": _EACH,
    "rm_quote_outliers": _refused(_AHEAD),
    "rm_trade_outliers": _rows(kept.quotes_in_force, kept.no_row),
    "rogers_satchell": _mean_of_bars("rogers_satchell"),
    "roll": _refused(_PAIRS),
    "rolling_twap": _rows(kept.window_and_before),
    "rolling_vwap": _rows(kept.window),
    "run_bars": InformedBars,
    "sales_condition": _EACH,
    "select_exchange": _EACH,
    "session": _EACH,
    "signature": _refused(_SAMPLED),
    "signed_volume": _SIGNING,
    "since_open": _refused(
        "it is the whole session; a buffer has it, store.buffer(..., buffer='since_open')"
    ),
    "spread": _EACH,
    "staleness": _rows(kept.since_same_prices),
    "tick_bars": _full(kept.by_kind),
    "time_bars": _time_bars,
    "trade_sign": _SIGNING,
    "trades_cleanup": _refused(
        "it gives a report on all ticks; take its rules one after another, such as no_zero_prices"
    ),
    "twap": _by_sessions(
        _sums("seconds", averaged={"twap": "seconds"}, keep=kept.last_with_column),
        _whole(kept.mean_and_last),
    ),
    "two_scale_rv": _refused(_SAMPLED),
    "volume_bars": _full(kept.trades),
    "volume_profile": _profile,
    "vpin": _refused(f"the scale of its classes is that of all bars there are; {_BUFFER}"),
    "vwap": _sums("volume", "count", averaged={"vwap": "volume"}),
    "yang_zhang": _given(
        "window",
        _rows(kept.last_bars),
        _refused("it is one variance over all bars; give how many are looked at, as in window=20"),
    ),
}
"""Of each measure of :mod:`ibticks.analysis`, how it begins."""
