"""Arrival of ticks: durations, intensity, gaps, staleness and latency.

A contract and a tick type are one stream here: where the frame has ``tick_type``, ticks of each are
timed by themselves. Times are those of arrival.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from ibticks.analysis._engine.bars import Anchor, BarClock
from ibticks.analysis._engine.columns import (
    F,
    apart,
    by,
    instant,
    like,
    nanoseconds,
    require,
    within,
)
from ibticks.analysis._engine.grouping import grouped
from ibticks.analysis._engine.registry import (
    USE_BUFFER,
    ClockBars,
    NotIncremental,
    Rowwise,
    measure,
)
from ibticks.analysis._engine.sessions import SessionIntervals, SessionSplit, within_session

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.calendar import Market

__all__ = [
    "apart_streams",
    "coverage",
    "gaps",
    "intensity",
    "interarrival",
    "latency",
    "staleness",
    "streams",
]

_PRICES: Final = ("price", "bid_price", "ask_price", "mid_price")


@measure("Arrival and quality", Rowwise("last_of_stream"))
def interarrival(
    ticks: F,
    *,
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> F:
    """How long after the tick before it each tick came.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, in order of arrival.
    market, session_type, sessions : optional
        Sessions, as in :func:`~ibticks.analysis.quoted_spread`: no duration reaches over the end
        of one.

    Returns
    -------
    same as ticks
        With ``interarrival`` (duration[ns]; null for the first of a contract and tick type, in
        each session if there are, and outside of them).

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, 0, second, tzinfo=UTC) for second in (1, 1, 4)]
    >>> interarrival(pl.DataFrame({"timestamp": at}))["interarrival"].dt.total_seconds().to_list()
    [None, 0, 3]
    """
    require(ticks, "timestamp", what="interarrival")
    split = SessionSplit.of(market, session_type, sessions, what="interarrival")
    rows = ticks.lazy() if split is None else split.mark(ticks.lazy())
    found = rows.with_columns(interarrival=_since_last(apart_streams(ticks), split))
    return like(ticks, found.drop("_session", strict=False), engine="streaming")


@measure("Arrival and quality", ClockBars("every_row"))
def intensity(
    ticks: F,
    every: str | timedelta = "1m",
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
) -> F:
    """Ticks a second, in bars.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``.
    every : str or timedelta
        The length of bars.
    anchor, market, session_type
        When bars begin and end, as in :func:`~ibticks.analysis.time_bars`. Those that end with a
        session before they are full count for the time they have.

    Returns
    -------
    same as ticks
        A row for each bar with a tick: ``timestamp`` (start), ``contract_id``, ``tick_type``, as
        far as there are, ``ticks`` (uint32), ``intensity`` (float64, a second).

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, 0, second, tzinfo=UTC) for second in (1, 1, 4)]
    >>> intensity(pl.DataFrame({"timestamp": at})).select("ticks", "intensity").row(0)
    (3, 0.05)
    """
    require(ticks, "timestamp", what="intensity")
    clock = BarClock.of(every, anchor, market, session_type, what="intensity")
    keys: list[str] = streams(ticks)
    groups = [clock.timestamp(ticks), *(pl.col(key) for key in keys)]
    length = pl.lit(clock.step) if clock.table is None else (clock.end - clock.start).first()
    bars = grouped(
        clock.rows(ticks.lazy()),
        groups,
        ticks,
        clock,
        ticks=pl.len().cast(pl.UInt32),
        intensity=pl.len() / (length / 1e9),
    )
    return like(ticks, bars)


@measure("Arrival and quality", Rowwise("last_of_stream", "no_row"))
def gaps(
    ticks: F,
    longer_than: str | timedelta = "1m",
    *,
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> F:
    """Stretches of time without a tick.

    A calm market has them too: what was asked of IB and not received says the coverage of the
    store, ``store.select(...).coverage()``.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, in order of arrival.
    longer_than : str or timedelta
        The shortest stretch, itself not among them.
    market, session_type, sessions : optional
        Sessions, as in :func:`~ibticks.analysis.quoted_spread`: a night between two is no gap.

    Returns
    -------
    same as ticks
        A row for each: ``contract_id``, ``tick_type``, as far as there are, ``start`` and ``end``
        (the ticks around it) and ``duration`` (duration[ns]).

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, minute, tzinfo=UTC) for minute in (0, 1, 4)]
    >>> gaps(pl.DataFrame({"timestamp": at}))["duration"].dt.total_minutes().to_list()
    [3]
    """
    require(ticks, "timestamp", what="gaps")
    keys = streams(ticks)
    split = apart_streams(ticks)
    parts = SessionSplit.of(market, session_type, sessions, what="gaps")
    rows = (ticks.lazy() if parts is None else parts.mark(ticks.lazy())).select(
        *keys,
        end="timestamp",
        duration=_since_last(split, parts),
    )
    shortest = pl.duration(nanoseconds=nanoseconds(longer_than), time_unit="ns")
    start = pl.col("end") - pl.col("duration")
    found = rows.filter(pl.col("duration") > shortest).select(
        *keys, start.alias("start"), "end", "duration"
    )
    return like(ticks, found.sort(*split, "start"), engine="streaming")


@measure("Arrival and quality", Rowwise("since_same_prices"))
def staleness(
    ticks: F,
    *,
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> F:
    """How long the prices that a tick carries have stood, when it came.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp`` and one or more of ``price``, ``bid_price``, ``ask_price``,
        ``mid_price``, in order of arrival.
    market, session_type, sessions : optional
        Sessions, as in :func:`~ibticks.analysis.quoted_spread`: in each, prices begin to stand.

    Returns
    -------
    same as ticks
        With ``staleness`` (duration[ns]): the time since the first of the ticks in a row that had
        the same prices; nothing where one changed; null outside of sessions, if there are.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, 0, second, tzinfo=UTC) for second in (1, 2, 4)]
    >>> ticks = pl.DataFrame({"timestamp": at, "price": [10.0, 10.0, 10.1]})
    >>> staleness(ticks)["staleness"].dt.total_seconds().to_list()
    [0, 1, 0]
    """
    require(ticks, "timestamp", what="staleness")
    priced = [name for name in _PRICES if name in ticks.collect_schema()]
    if not priced:
        require(ticks, "price", what="staleness")
    changes = [pl.col(name).ne_missing(pl.col(name).shift()) for name in priced]
    first = pl.int_range(pl.len()) == 0
    split = SessionSplit.of(market, session_type, sessions, what="staleness")
    rows, session = ticks.lazy(), pl.col("_session")
    if split is not None:
        rows = split.mark(rows)
        changes.append(session.ne_missing(session.shift()))
    since = pl.when(pl.any_horizontal(first, *changes)).then(instant()).forward_fill()
    standing = instant() - within(since, apart_streams(ticks))
    if split is not None:
        standing = pl.when(session.is_not_null()).then(standing)
    found = rows.with_columns(staleness=standing.cast(pl.Duration("ns")))
    return like(ticks, found.drop("_session", strict=False), engine="streaming")


@measure("Arrival and quality", Rowwise())
def latency(ticks: F) -> F:
    """How late a tick came: between which bounds, since IB's own time is a whole second.

    What happened in second s was at least s and less than s + 1: the tick was late by more than
    ``timestamp - exchange_time - 1 s`` and at most ``timestamp - exchange_time``. The least
    ``latency_at_most`` of many ticks bounds the least latency there was, and a negative one says
    that our clock, or IB's, is wrong by more than that.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp`` and ``exchange_time``.

    Returns
    -------
    same as ticks
        With ``latency_more_than`` and ``latency_at_most`` (duration[ns]; null without an exchange
        time).

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2025, 1, 10, 15, 0, 1, 250_000, tzinfo=UTC)],
    ...         "exchange_time": [datetime(2025, 1, 10, 15, 0, 1, tzinfo=UTC)],
    ...     }
    ... )
    >>> bounds = latency(ticks).select(pl.col("^latency_.*$").dt.total_milliseconds())
    >>> bounds.row(0)
    (-750, 250)
    """
    require(ticks, "timestamp", "exchange_time", what="latency")
    late = instant() - instant("exchange_time")
    return like(
        ticks,
        ticks.lazy().with_columns(
            latency_more_than=(late - 1_000_000_000).cast(pl.Duration("ns")),
            latency_at_most=late.cast(pl.Duration("ns")),
        ),
    )


@measure(
    "Arrival and quality",
    NotIncremental(
        "it is a fraction of all bars there are",
        f"count those of intensity, or {USE_BUFFER}",
    ),
)
def coverage(
    ticks: F,
    every: str | timedelta = "1m",
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
) -> F:
    """The share of bars, from the first tick to the last, that have one.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, in order of arrival.
    every : str or timedelta
        The length of bars.
    anchor, market, session_type
        When bars begin and end, as in :func:`~ibticks.analysis.time_bars`.

    Returns
    -------
    same as ticks
        A row for each stream: ``contract_id``, ``tick_type``, as far as there are, ``first`` and
        ``last`` (times of ticks), ``ticks``, ``bars``, ``filled`` (uint32) and ``coverage``
        (float64, filled by bars).

    Notes
    -----
    By the clock, nights count as bars without ticks; by sessions, only bars in which the market is
    open count. What was captured, quiet or lost says the store: ``store.select(...).coverage()``.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, minute, tzinfo=UTC) for minute in (0, 1, 1, 3)]
    >>> coverage(pl.DataFrame({"timestamp": at})).select("bars", "filled", "coverage").row(0)
    (4, 3, 0.75)
    """
    require(ticks, "timestamp", what="coverage")
    clock = BarClock.of(every, anchor, market, session_type, what="coverage")
    keys: list[str] = streams(ticks)
    at = pl.col("timestamp")
    groups: list[pl.Expr] = [pl.col(key) for key in keys]
    bars = grouped(
        clock.rows(ticks.lazy()),
        [*groups, clock.timestamp(ticks)],
        ticks,
        clock,
        first=at.min(),
        last=at.max(),
        ticks=pl.len(),
    )
    if clock.table is not None:
        bars = bars.with_columns(_start=instant())
        bars = clock.grid(bars, keys).join(bars, on=["_start", *keys], how="left")
        span = pl.len()
    else:
        span = (instant().max() - instant().min()) // clock.step + 1
    found = grouped(
        bars,
        groups,
        ticks,
        first=pl.col("first").min(),
        last=pl.col("last").max(),
        ticks=pl.col("ticks").sum().cast(pl.UInt32),
        bars=span.cast(pl.UInt32),
        filled=pl.col("ticks").count().cast(pl.UInt32),
    )
    return like(ticks, found.with_columns(coverage=pl.col("filled") / pl.col("bars")))


def streams(ticks: pl.DataFrame | pl.LazyFrame) -> list[str]:
    """The columns that tell streams apart: the contract and the tick type, as far as there are.

    Examples
    --------
    >>> streams(pl.DataFrame({"tick_type": ["last"], "contract_id": [8314], "price": [182.1]}))
    ['contract_id', 'tick_type']
    """
    return [*by(ticks), *(name for name in ("tick_type",) if name in ticks.collect_schema())]


def apart_streams(ticks: pl.DataFrame | pl.LazyFrame) -> list[str]:
    """The keys a computation must keep apart, where those of an eager frame are known.

    Examples
    --------
    >>> apart_streams(pl.DataFrame({"tick_type": ["last", "bid_ask"], "contract_id": [1, 1]}))
    ['tick_type']
    """
    kinds = [name for name in streams(ticks) if name == "tick_type"]
    if kinds and isinstance(ticks, pl.DataFrame) and ticks["tick_type"].n_unique() < 2:
        kinds = []
    return [*apart(ticks), *kinds]


def _since_last(keys: list[str], split: SessionSplit | None) -> pl.Expr:
    passed = instant().diff()
    if split is not None:
        passed = within_session(passed)
    return within(passed, keys).cast(pl.Duration("ns"))
