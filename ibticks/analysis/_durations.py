"""Arrival of ticks: durations, intensity, gaps, staleness and latency.

A contract and a tick type are one stream here: where the frame has ``tick_type``, ticks of each are
timed by themselves. Times are those of arrival.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from ibticks.analysis._engine.bars import Anchor, BarClock
from ibticks.analysis._engine.columns import (
    Frame,
    collect_like,
    duration_ns,
    grouping_keys,
    key_columns,
    over_keys,
    require,
    time_ns,
)
from ibticks.analysis._engine.grouping import group_rows
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
    "coverage",
    "gaps",
    "intensity",
    "interarrival",
    "latency",
    "staleness",
    "stream_columns",
    "stream_keys",
]

_PRICES: Final = ("price", "bid_price", "ask_price", "mid_price")


@measure("Arrival and quality", Rowwise("last_of_stream"))
def interarrival(
    ticks: Frame,
    *,
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    """Time between each tick and the tick before it.

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
    require(ticks, "timestamp", caller="interarrival")
    split = SessionSplit.of(market, session_type, sessions, caller="interarrival")
    rows = ticks.lazy() if split is None else split.mark(ticks.lazy())
    result = rows.with_columns(interarrival=_since_last(stream_keys(ticks), split))
    return collect_like(ticks, result.drop("_session", strict=False), engine="streaming")


@measure("Arrival and quality", ClockBars("every_row"))
def intensity(
    ticks: Frame,
    every: str | timedelta = "1m",
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
) -> Frame:
    """Ticks a second, in bars.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``.
    every : str or timedelta
        The length of bars.
    anchor, market, session_type
        Start and end of bars, as in :func:`~ibticks.analysis.time_bars`. Those that end with a
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
    require(ticks, "timestamp", caller="intensity")
    clock = BarClock.of(every, anchor, market, session_type, caller="intensity")
    keys: list[str] = stream_columns(ticks)
    groups = [clock.timestamp(ticks), *(pl.col(key) for key in keys)]
    length = pl.lit(clock.step) if clock.table is None else (clock.end - clock.start).first()
    bars = group_rows(
        clock.rows(ticks.lazy()),
        groups,
        ticks,
        clock,
        ticks=pl.len().cast(pl.UInt32),
        intensity=pl.len() / (length / 1e9),
    )
    return collect_like(ticks, bars)


@measure("Arrival and quality", Rowwise("last_of_stream", "no_row"))
def gaps(
    ticks: Frame,
    longer_than: str | timedelta = "1m",
    *,
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    """Intervals without a tick.

    A calm market has them too: what was asked of IB and not received says the coverage of the
    store, ``store.select(...).coverage()``.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, in order of arrival.
    longer_than : str or timedelta
        The shortest interval, itself not among them.
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
    require(ticks, "timestamp", caller="gaps")
    keys = stream_columns(ticks)
    split = stream_keys(ticks)
    groups = SessionSplit.of(market, session_type, sessions, caller="gaps")
    rows = (ticks.lazy() if groups is None else groups.mark(ticks.lazy())).select(
        *keys,
        end="timestamp",
        duration=_since_last(split, groups),
    )
    shortest = pl.duration(nanoseconds=duration_ns(longer_than), time_unit="ns")
    start = pl.col("end") - pl.col("duration")
    result = rows.filter(pl.col("duration") > shortest).select(
        *keys, start.alias("start"), "end", "duration"
    )
    return collect_like(ticks, result.sort(*split, "start"), engine="streaming")


@measure("Arrival and quality", Rowwise("since_same_prices"))
def staleness(
    ticks: Frame,
    *,
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    """Age of the prices of each tick: the time for which they have not changed.

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
    require(ticks, "timestamp", caller="staleness")
    priced = [name for name in _PRICES if name in ticks.collect_schema()]
    if not priced:
        require(ticks, "price", caller="staleness")
    changes = [pl.col(name).ne_missing(pl.col(name).shift()) for name in priced]
    first = pl.int_range(pl.len()) == 0
    split = SessionSplit.of(market, session_type, sessions, caller="staleness")
    rows, session = ticks.lazy(), pl.col("_session")
    if split is not None:
        rows = split.mark(rows)
        changes.append(session.ne_missing(session.shift()))
    since = pl.when(pl.any_horizontal(first, *changes)).then(time_ns()).forward_fill()
    standing = time_ns() - over_keys(since, stream_keys(ticks))
    if split is not None:
        standing = pl.when(session.is_not_null()).then(standing)
    result = rows.with_columns(staleness=standing.cast(pl.Duration("ns")))
    return collect_like(ticks, result.drop("_session", strict=False), engine="streaming")


@measure("Arrival and quality", Rowwise())
def latency(ticks: Frame) -> Frame:
    """Bounds of the latency of each tick, since IB's own time is a whole second.

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
    require(ticks, "timestamp", "exchange_time", caller="latency")
    late = time_ns() - time_ns("exchange_time")
    return collect_like(
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
    ticks: Frame,
    every: str | timedelta = "1m",
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
) -> Frame:
    """Fraction of bars containing at least one tick, from the first tick to the last.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, in order of arrival.
    every : str or timedelta
        The length of bars.
    anchor, market, session_type
        Start and end of bars, as in :func:`~ibticks.analysis.time_bars`.

    Returns
    -------
    same as ticks
        A row for each stream: ``contract_id``, ``tick_type``, as far as there are, ``first`` and
        ``last`` (times of ticks), ``ticks``, ``bars``, ``filled`` (uint32) and ``coverage``
        (float64, filled by bars).

    Notes
    -----
    By the clock, nights count as bars without ticks; by sessions, only bars in which the market is
    open count. The store knows what was captured, quiet or lost: ``store.select(...).coverage()``.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, minute, tzinfo=UTC) for minute in (0, 1, 1, 3)]
    >>> coverage(pl.DataFrame({"timestamp": at})).select("bars", "filled", "coverage").row(0)
    (4, 3, 0.75)
    """
    require(ticks, "timestamp", caller="coverage")
    clock = BarClock.of(every, anchor, market, session_type, caller="coverage")
    keys: list[str] = stream_columns(ticks)
    at = pl.col("timestamp")
    groups: list[pl.Expr] = [pl.col(key) for key in keys]
    bars = group_rows(
        clock.rows(ticks.lazy()),
        [*groups, clock.timestamp(ticks)],
        ticks,
        clock,
        first=at.min(),
        last=at.max(),
        ticks=pl.len(),
    )
    if clock.table is not None:
        bars = bars.with_columns(_start=time_ns())
        bars = clock.grid(bars, keys).join(bars, on=["_start", *keys], how="left")
        span = pl.len()
    else:
        span = (time_ns().max() - time_ns().min()) // clock.step + 1
    result = group_rows(
        bars,
        groups,
        ticks,
        first=pl.col("first").min(),
        last=pl.col("last").max(),
        ticks=pl.col("ticks").sum().cast(pl.UInt32),
        bars=span.cast(pl.UInt32),
        filled=pl.col("ticks").count().cast(pl.UInt32),
    )
    return collect_like(ticks, result.with_columns(coverage=pl.col("filled") / pl.col("bars")))


def stream_columns(ticks: pl.DataFrame | pl.LazyFrame) -> list[str]:
    """Return the columns of the frame that identify a stream: contract and tick type.

    Examples
    --------
    >>> stream_columns(
    ...     pl.DataFrame({"tick_type": ["last"], "contract_id": [8314], "price": [182.1]})
    ... )
    ['contract_id', 'tick_type']
    """
    return [
        *key_columns(ticks),
        *(name for name in ("tick_type",) if name in ticks.collect_schema()),
    ]


def stream_keys(ticks: pl.DataFrame | pl.LazyFrame) -> list[str]:
    """Return the keys of streams to group by, without those that an eager frame has once.

    Examples
    --------
    >>> stream_keys(pl.DataFrame({"tick_type": ["last", "bid_ask"], "contract_id": [1, 1]}))
    ['tick_type']
    """
    tick_types = [name for name in stream_columns(ticks) if name == "tick_type"]
    if tick_types and isinstance(ticks, pl.DataFrame) and ticks["tick_type"].n_unique() < 2:
        tick_types = []
    return [*grouping_keys(ticks), *tick_types]


def _since_last(keys: list[str], split: SessionSplit | None) -> pl.Expr:
    passed = time_ns().diff()
    if split is not None:
        passed = within_session(passed)
    return over_keys(passed, keys).cast(pl.Duration("ns"))
