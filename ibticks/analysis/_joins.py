"""Streams joined by time: the quote in force at each trade, and contracts on one clock.

The value of a contract at an instant is its last one at or before it, never a later one; at an
opening that is the last of the session before, unless ``tolerance`` is shorter. Frames stay
long, a row for each instant and contract; a column for each contract is one step away::

    frame.pivot("contract_id", index="timestamp", values="price")
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from ibticks.analysis._engine import columns
from ibticks.analysis._engine.columns import (
    Frame,
    collect_like,
    duration_ns,
    finite_column,
    grouping_keys,
    key_columns,
    refuse_disorder,
    require,
    time_ns,
    times_from_ns,
)
from ibticks.analysis._engine.grouping import quote_rows, rows_with, trade_rows
from ibticks.analysis._engine.registry import Grid, NotIncremental, Rowwise, measure
from ibticks.analysis._engine.sessions import SessionIntervals, SessionSplit, session_table
from ibticks.calendar import parse_duration
from ibticks.errors import InputError, NaiveDatetimeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from ibticks.calendar import Market, SessionTable


__all__ = [
    "align",
    "as_of",
    "grid",
    "instants",
    "join_quotes",
    "last_value",
    "quotes_at",
    "refresh_time",
]


@measure("Joins", Grid("argument"))
def last_value(
    ticks: Frame,
    at: pl.Series | Sequence[datetime] | datetime,
    *,
    column: str = "price",
    tolerance: str | timedelta | None = None,
) -> Frame:
    """Last value of each contract at given instants.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival.
    at : polars.Series, or a datetime, or a sequence or an index of them
        Instants, with a time zone, in any order.
    column : str
        Column of the value: ``"price"``, ``"mid_price"``, ``"mid"`` (from
        :func:`ibticks.analysis.mid`), ...; rows without it are passed over.
    tolerance : str or timedelta, optional
        A value older than this is null.

    Returns
    -------
    same as ticks
        A row for each instant and contract, sorted: ``timestamp`` (the instant), ``contract_id``
        (if the ticks have it), the column (float64, null before the first value) and ``last_time``,
        when it arrived. Of equal times, the value that arrived last.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    NaiveDatetimeError
        ``at`` has no time zone.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, minute, tzinfo=UTC) for minute in (0, 4, 5)]
    >>> ticks = pl.DataFrame({"timestamp": at, "price": [10.0, 11.0, 13.0]})
    >>> when = pl.Series([datetime(2025, 1, 10, 15, 4, 30, tzinfo=UTC)])
    >>> last_value(ticks, when)["price"].to_list()
    [11.0]
    """
    require(ticks, "timestamp", column, caller="last_value")
    return as_of(ticks, rows_with(ticks, column), instants(at), column, tolerance)


@measure("Joins", Grid("grid"))
def align(
    ticks: Frame,
    every: str | timedelta,
    *,
    column: str = "price",
    tolerance: str | timedelta | None = None,
    market: Market | str | None = None,
    session_type: str = "regular",
) -> Frame:
    """Last value of each contract on a regular grid that all contracts share.

    Previous-tick sampling, as for realised measures.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival.
    every : str or timedelta
        Step of the grid; see :func:`ibticks.calendar.parse_duration`.
    column, tolerance
        As of :func:`last_value`.
    market, session_type : optional
        On the grid are then the openings of the market's sessions, every ``every`` after, and their
        ends; without a market, the multiples of ``every`` since midnight UTC.

    Returns
    -------
    same as ticks
        As :func:`last_value`, from the first instant of the grid at or after the first tick of any
        contract to the first at or after the last.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    UnknownPeriodError
        ``every`` is no length of time.
    UnknownMarketError
        No such market, or it has no such sessions.

    References
    ----------
    M. M. Dacorogna, R. Gençay, U. Müller, R. B. Olsen and O. V. Pictet (2001), *An Introduction to
    High-Frequency Finance*, Academic Press, chapter 3.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, 0, second, tzinfo=UTC) for second in (1, 4, 11)]
    >>> ticks = pl.DataFrame({"timestamp": at, "price": [10.0, 11.0, 13.0]})
    >>> align(ticks, "5s").select(pl.col("timestamp").dt.second(), "price").rows()
    [(5, 11.0), (10, 11.0), (15, 13.0)]
    """
    step = parse_duration(every)
    require(ticks, "timestamp", column, caller="align")
    rows = rows_with(ticks, column)
    at = pl.col("timestamp")
    ends = rows.select(_first=at.min(), _last=at.max()).drop_nulls()
    ends = ends.select(time_ns("_first"), time_ns("_last"))
    table = None if market is None else session_table(market, session_type, caller="align")
    return as_of(ticks, rows, grid(ends, step, table), column, tolerance)


@measure("Joins", NotIncremental("when all contracts have moved is not known before all have come"))
def refresh_time(ticks: Frame, *, column: str = "price") -> Frame:
    r"""Values of all contracts, whenever each of them has a new one.

    The first refresh time is when every contract has had a value; each next one, when all have had
    another since:

    .. math:: \tau_1 = \max_i t^{(i)}_1, \qquad
              \tau_{j+1} = \max_i t^{(i)}_{N_i(\tau_j) + 1}

    with :math:`N_i(t)` the number of values of contract i up to t.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival.
    column : str
        As of :func:`last_value`.

    Returns
    -------
    same as ticks
        A row for each refresh time and contract, sorted: ``timestamp``, ``contract_id`` (if the
        ticks have it), the column (float64), and ``last_time``, when that value arrived. A lazy
        frame stays lazy, but does not stream.

    Raises
    ------
    UnknownColumnError
        A column is missing.

    References
    ----------
    O. E. Barndorff-Nielsen, P. R. Hansen, A. Lunde and N. Shephard (2011), Multivariate realised
    kernels, *Journal of Econometrics* 162, 149-169. As ``refreshTime`` of R's *highfrequency*.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2025, 1, 10, 15, 0, s, tzinfo=UTC) for s in (1, 2, 3, 5, 9)],
    ...         "contract_id": [1, 1, 2, 2, 1],
    ...         "price": [10.0, 10.1, 50.0, 50.5, 10.2],
    ...     }
    ... )
    >>> refreshed = refresh_time(ticks).select(
    ...     pl.col("timestamp").dt.second(), "contract_id", "price"
    ... )
    >>> refreshed.rows()
    [(3, 1, 10.1), (3, 2, 50.0), (9, 1, 10.2), (9, 2, 50.5)]
    """
    require(ticks, "timestamp", column, caller="refresh_time")
    keys: list[str] = key_columns(ticks)
    rows = ticks.lazy().select("timestamp", *keys, finite_column(column)).drop_nulls(column)
    schema = ticks.collect_schema()
    columns: list[str] = ["timestamp", *keys, column, "last_time"]
    types = {**schema, column: pl.Float64(), "last_time": schema["timestamp"]}

    def refresh(frame: pl.DataFrame) -> pl.DataFrame:
        from ibticks.analysis._engine.window_kernels import refresh_rows

        # Contracts may be concatenated.
        frame = frame.sort("timestamp", maintain_order=True)
        ids = frame[keys[0]].to_numpy() if keys else np.zeros(len(frame), dtype=np.int64)
        contracts = np.unique(ids)
        at = frame.select(time_ns()).to_series().to_numpy()
        many = len(contracts)
        if not many:
            return frame.with_columns(last_time="timestamp").select(columns)
        places = refresh_rows(at, np.searchsorted(contracts, ids).astype(np.int64), many)
        instants = pl.Series("_key", at[places].reshape(-1, many).max(axis=1).repeat(many))
        result = frame.select(pl.all().gather(places)).with_columns(instants)
        times = times_from_ns("_key", frame).cast(types["last_time"])
        return result.with_columns(timestamp=times, last_time="timestamp").select(columns)

    return collect_like(
        ticks, rows.map_batches(refresh, schema=pl.Schema({name: types[name] for name in columns}))
    )


def grid(ends: pl.LazyFrame, step: int, table: SessionTable | None) -> pl.LazyFrame:
    """Return the instants of :func:`align` from ``_first`` to the first at or after ``_last``.

    Examples
    --------
    >>> grid(pl.LazyFrame({"_first": [4], "_last": [11]}), 5, None).collect()["_key"].to_list()
    [5, 10, 15]
    """
    if table is not None:
        return _session_grid(ends, table, step)
    first, last = (-(-pl.col(name) // step) * step for name in ("_first", "_last"))
    return ends.select(_key=pl.int_ranges(first, last + 1, step)).explode(
        "_key", empty_as_null=False, keep_nulls=False
    )


def instants(at: pl.Series | Sequence[datetime] | datetime) -> pl.LazyFrame:
    """Return the instants of :func:`last_value`, unique and in order: ``_key``, in nanoseconds.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> instants([datetime(1970, 1, 1, 0, 0, second, tzinfo=UTC) for second in (1, 0, 1)]).collect()
    shape: (2, 1)
    ┌────────────┐
    │ _key       │
    │ ---        │
    │ i64        │
    ╞════════════╡
    │ 0          │
    │ 1000000000 │
    └────────────┘
    """
    values = [at] if isinstance(at, datetime) else at
    try:
        times = pl.Series(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"last_value: at must be times, not a {type(at).__name__}") from error
    if not isinstance(times.dtype, pl.Datetime):
        raise InputError(f"last_value: at must be a series of times, not of {times.dtype}")
    if times.dtype.time_zone is None:
        raise NaiveDatetimeError(
            "last_value: the times of at have no zone; say which it is, as in "
            'pl.Series(at).dt.replace_time_zone("UTC")'
        )
    times = times.drop_nulls().sort()
    once = times.filter((times != times.shift()).fill_null(value=True))
    return pl.LazyFrame({"_at": once}).select(_key=time_ns("_at"))


def _session_grid(ends: pl.LazyFrame, table: SessionTable, step: int) -> pl.LazyFrame:
    """Return the instants from ``_first`` to the first at or after ``_last``."""
    opens, closes = pl.col("_open"), pl.col("_close")
    before = np.concatenate(([np.iinfo(np.int64).min], table.end_ns))[: len(table)]
    sessions = pl.LazyFrame({"_open": table.start_ns, "_close": table.end_ns, "_before": before})
    points = (
        sessions.join(ends, how="cross")
        .filter(closes >= pl.col("_first"), pl.col("_before") < pl.col("_last"))
        .select("_first", "_last", _key=pl.concat_list(pl.int_ranges(opens, closes, step), closes))
        .explode("_key", empty_as_null=False, keep_nulls=False)
        .filter(pl.col("_key") >= pl.col("_first"))
        .unique("_key")
        .sort("_key")
    )
    earlier = pl.col("_key").shift(1).fill_null(pl.col("_first") - 1)
    return points.filter(earlier < pl.col("_last")).select("_key")


def as_of(
    ticks: Frame,
    rows: pl.LazyFrame,
    clock: pl.LazyFrame,
    column: str,
    tolerance: str | timedelta | None,
) -> Frame:
    """Return :func:`last_value` at each ``_key`` of the clock, in nanoseconds and order.

    ``rows`` are those of the ticks in which the column is finite.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame({"timestamp": [datetime(1970, 1, 1, tzinfo=UTC)], "price": [10.0]})
    >>> clock = pl.LazyFrame({"_key": [-1, 1]})
    >>> as_of(ticks, ticks.lazy(), clock, "price", None)["price"].to_list()
    [None, 10.0]
    """
    refuse_disorder(ticks, caller="the last value")
    keys: list[str] = key_columns(ticks)
    contracts = rows.select(keys).unique() if grouping_keys(ticks) else rows.select(keys).head(1)
    left = clock.join(contracts, how="cross") if keys else clock
    if grouping_keys(ticks):
        left = left.sort("_key", *keys)
    value = pl.col(column).cast(pl.Float64)
    right = rows.select(*grouping_keys(ticks), value, last_time="timestamp", _key=time_ns())
    with_quotes = left.join_asof(
        right, on="_key", by=grouping_keys(ticks) or None, check_sortedness=False
    )
    if tolerance is not None:
        fresh = pl.col("_key") - time_ns("last_time") <= duration_ns(tolerance)
        with_quotes = with_quotes.with_columns(
            pl.when(fresh).then(pl.col(name)) for name in (column, "last_time")
        )
    times = times_from_ns("_key", ticks).alias("timestamp")
    return collect_like(ticks, with_quotes.select(times, *keys, column, "last_time"))


_QUOTE: Final = ("bid_price", "bid_size", "ask_price", "ask_size")


@measure("Joins", Rowwise("quotes_in_force", "no_row"))
def quotes_at(
    trades: Frame,
    quotes: Frame | None = None,
    *,
    lag: str | timedelta = "0s",
    tolerance: str | timedelta | None = None,
    strict: bool = False,
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    """Each trade with the quote in force when it arrived.

    In force is the last quote of the same contract that arrived at or before ``timestamp - lag``,
    by arrival here: IB's own times are whole seconds, in which a hundred quotes may lie, and are
    not looked at. Trades and quotes come from IB in separate streams, so that a quote may arrive a
    little before or after the trade that it follows; ``lag`` is there for that.

    Parameters
    ----------
    trades : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp`` and ``price``, in order of arrival; rows without a price are left
        out.
    quotes : same as trades, optional
        Ticks with ``timestamp``, ``bid_price``, ``ask_price`` and maybe the sizes, in order of
        arrival. Without it, they are in the same frame as the trades.
    lag : str or timedelta
        Least age of a quote at its trade: ``"5s"`` is Lee and Ready's rule.
    tolerance : str or timedelta, optional
        A quote that came longer than this before ``timestamp - lag`` does not count. By default a
        quote holds until the next.
    strict : bool
        Whether a quote of exactly ``timestamp - lag`` is too late. By default it counts. The
        exception is one frame of both without a lag: there the order of the rows decides, and a
        quote counts that stands before the trade.
    market, session_type, sessions : optional
        Sessions, as in :func:`~ibticks.analysis.quoted_spread`: the quote in force is one of the
        same session as the trade, never the last of an earlier one; outside of sessions none is.

    Returns
    -------
    same as trades
        The trades with ``bid_price bid_size ask_price ask_size`` (sizes if the quotes have them),
        ``mid`` (float64, null if the quote has one side only) and ``quote_timestamp``; null where
        no quote is in force. IB's sentinels for no price are absent sides. A lazy frame stays lazy.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        One of two frames says its contracts, the other does not; or ticks are not in order of time.

    Notes
    -----
    A store puts streams of equal timestamps in the order of their names, so that in a frame of
    ``bid_ask`` and ``last`` the quote comes first, and in one of ``all_last`` and ``bid_ask`` the
    trade does. Where that matters, use ``strict=True`` (only what came before) or two frames.

    Of the quotes of one timestamp, the last counts: the others were in force for no time.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, 0, second, tzinfo=UTC) for second in (1, 2, 3)]
    >>> ticks = pl.DataFrame(
    ...     {
    ...         "timestamp": at,
    ...         "price": [None, 187.52, 187.50],
    ...         "bid_price": [187.49, None, None],
    ...         "ask_price": [187.53, None, None],
    ...     }
    ... )
    >>> quotes_at(ticks).select("price", "bid_price", "ask_price", "mid").rows()
    [(187.52, 187.49, 187.53, 187.51), (187.5, 187.49, 187.53, 187.51)]
    >>> quotes_at(ticks, tolerance="1s")["mid"].to_list()
    [187.51, None]
    """
    require(trades, "timestamp", "price", caller="quotes_at")
    source = trades if quotes is None else quotes
    require(source, "timestamp", "bid_price", "ask_price", caller="quotes_at")
    split = SessionSplit.of(market, session_type, sessions, caller="quotes_at")
    with_quotes = join_quotes(
        trades, quotes, duration_ns(lag), tolerance, strict=strict, split=split
    )
    order = [pl.exclude("quote_timestamp", "_session"), pl.col("quote_timestamp")]
    return collect_like(trades, with_quotes.select(order))


def join_quotes(
    trades: pl.DataFrame | pl.LazyFrame,
    quotes: pl.DataFrame | pl.LazyFrame | None,
    lag_ns: int,
    tolerance: str | timedelta | None = None,
    *,
    strict: bool = False,
    split: SessionSplit | None = None,
    sizes: bool = True,
    are_trades: bool = False,
) -> pl.LazyFrame:
    """Return trades with the quote in force, as :func:`quotes_at`.

    With a split, the column ``_session`` stays. Without ``sizes``, the quotes give none.
    ``are_trades`` says that all rows of ``trades`` are.
    """
    source = trades if quotes is None else quotes
    if key_columns(source) != key_columns(trades):
        raise InputError(
            "quotes_at: the trades or the quotes have no contract_id, the others do; "
            "select it for both, or drop it from both"
        )
    by_order = quotes is None and not lag_ns and not strict
    if by_order:
        numbered = trades.lazy().with_row_index("_order")
        numbered = numbered.with_columns(_key=pl.col("_order").cast(pl.Int64))
        left, right = columns.trades(numbered), columns.quotes(numbered)
    else:
        for value in (trades, source):
            refuse_disorder(value, caller="quotes_at")
        left = trades.lazy() if are_trades else trade_rows(trades)
        left = left.with_columns(_key=time_ns() - lag_ns)
        right = quote_rows(source).with_columns(_key=time_ns())
    names = _QUOTE if sizes else ("bid_price", "ask_price")
    result: list[str] = [name for name in names if name in source.collect_schema()]
    session = [] if split is None else ["_quote_session"]
    if split is not None:
        left, right = split.mark(left), right.with_columns(_quote_session=split.number)
    right = right.select(
        *(pl.col(key).cast(trades.collect_schema()[key]) for key in grouping_keys(trades, source)),
        *(pl.col(name) for name in result),
        "_key",
        *session,
        quote_timestamp="timestamp",
    )
    old = [*result, "mid", "quote_timestamp"]
    with_quotes = left.drop(old, strict=False).join_asof(
        right,
        on="_key",
        by=grouping_keys(trades, source) or None,
        strategy="backward",
        allow_exact_matches=not strict,
        coalesce=True,
        check_sortedness=False,
    )
    if split is not None:
        here = pl.col("_session") == pl.col("_quote_session")
        with_quotes = with_quotes.with_columns(
            pl.when(here).then(pl.col(name)) for name in [*result, "quote_timestamp"]
        ).drop("_quote_session")
    if tolerance is not None:
        age = time_ns() - lag_ns - time_ns("quote_timestamp")
        fresh = age <= duration_ns(tolerance)
        with_quotes = with_quotes.with_columns(
            pl.when(fresh).then(pl.col(name)) for name in [*result, "quote_timestamp"]
        )
    mid = (pl.col("bid_price") + pl.col("ask_price")) / 2
    return with_quotes.drop("_key", "_order", strict=False).with_columns(mid=mid)
