"""Several contracts on one clock: at given instants, on a grid, or whenever all of them have moved.

What a contract has at an instant is its last value at or before it, never a later one; at an
opening that is the last of the session before, unless ``tolerance`` is shorter. Frames stay
long, a row for each instant and contract; a column for each contract is one step away::

    frame.pivot("contract_id", index="timestamp", values="price")
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ibticks.analysis._columns import (
    F,
    apart,
    as_times,
    by,
    finite,
    instant,
    like,
    nanoseconds,
    refuse_disorder,
    require,
)
from ibticks.analysis._grouping import rows_with
from ibticks.analysis._sessions import session_table
from ibticks.calendar import parse_duration
from ibticks.errors import InputError, NaiveDatetimeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from ibticks.calendar import Market, SessionTable

__all__ = ["align", "as_of", "grid", "instants", "last_value", "refresh_time"]


def last_value(
    ticks: F,
    at: pl.Series | Sequence[datetime] | datetime,
    *,
    column: str = "price",
    tolerance: str | timedelta | None = None,
) -> F:
    """What each contract last had, at instants of your own.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival.
    at : polars.Series, or a datetime, or a sequence or an index of them
        Instants, with a time zone, in any order.
    column : str
        Of which column: ``"price"``, ``"mid_price"``, ``"mid"`` (from
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
    require(ticks, "timestamp", column, what="last_value")
    return as_of(ticks, rows_with(ticks, column), instants(at), column, tolerance)


def align(
    ticks: F,
    every: str | timedelta,
    *,
    column: str = "price",
    tolerance: str | timedelta | None = None,
    market: Market | str | None = None,
    session_type: str = "regular",
) -> F:
    """What each contract last had, on a regular grid that all contracts share.

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
    require(ticks, "timestamp", column, what="align")
    rows = rows_with(ticks, column)
    at = pl.col("timestamp")
    ends = rows.select(_first=at.min(), _last=at.max()).drop_nulls()
    ends = ends.select(instant("_first"), instant("_last"))
    table = None if market is None else session_table(market, session_type, what="align")
    return as_of(ticks, rows, grid(ends, step, table), column, tolerance)


def refresh_time(ticks: F, *, column: str = "price") -> F:
    r"""What all contracts had, whenever each of them had something new.

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
    require(ticks, "timestamp", column, what="refresh_time")
    keys: list[str] = by(ticks)
    rows = ticks.lazy().select("timestamp", *keys, finite(column)).drop_nulls(column)
    schema = ticks.collect_schema()
    columns: list[str] = ["timestamp", *keys, column, "last_time"]
    types = {**schema, column: pl.Float64(), "last_time": schema["timestamp"]}

    def refresh(frame: pl.DataFrame) -> pl.DataFrame:
        from ibticks.analysis._recurrences import refreshed

        # Contracts may stand one after the other.
        frame = frame.sort("timestamp", maintain_order=True)
        ids = frame[keys[0]].to_numpy() if keys else np.zeros(len(frame), dtype=np.int64)
        contracts = np.unique(ids)
        at = frame.select(instant()).to_series().to_numpy()
        many = len(contracts)
        if not many:
            return frame.with_columns(last_time="timestamp").select(columns)
        places = refreshed(at, np.searchsorted(contracts, ids).astype(np.int64), many)
        instants = pl.Series("_key", at[places].reshape(-1, many).max(axis=1).repeat(many))
        found = frame.select(pl.all().gather(places)).with_columns(instants)
        times = as_times("_key", frame).cast(types["last_time"])
        return found.with_columns(timestamp=times, last_time="timestamp").select(columns)

    return like(
        ticks, rows.map_batches(refresh, schema=pl.Schema({name: types[name] for name in columns}))
    )


def grid(ends: pl.LazyFrame, step: int, table: SessionTable | None) -> pl.LazyFrame:
    """The instants of :func:`align` from ``_first`` to the first at or after ``_last``.

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
    """The instants of :func:`last_value`, each once and in order: ``_key``, in nanoseconds.

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
    given = [at] if isinstance(at, datetime) else at
    try:
        times = pl.Series(given)
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
    return pl.LazyFrame({"_at": once}).select(_key=instant("_at"))


def _session_grid(ends: pl.LazyFrame, table: SessionTable, step: int) -> pl.LazyFrame:
    """The instants from ``_first`` to the first at or after ``_last``."""
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
    ticks: F,
    rows: pl.LazyFrame,
    clock: pl.LazyFrame,
    column: str,
    tolerance: str | timedelta | None,
) -> F:
    """What :func:`last_value` gives, at each ``_key`` of the clock, in nanoseconds and order.

    ``rows`` are those of the ticks in which the column is finite.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame({"timestamp": [datetime(1970, 1, 1, tzinfo=UTC)], "price": [10.0]})
    >>> clock = pl.LazyFrame({"_key": [-1, 1]})
    >>> as_of(ticks, ticks.lazy(), clock, "price", None)["price"].to_list()
    [None, 10.0]
    """
    refuse_disorder(ticks, what="the last value")
    keys: list[str] = by(ticks)
    contracts = rows.select(keys).unique() if apart(ticks) else rows.select(keys).head(1)
    left = clock.join(contracts, how="cross") if keys else clock
    if apart(ticks):
        left = left.sort("_key", *keys)
    value = pl.col(column).cast(pl.Float64)
    right = rows.select(*apart(ticks), value, last_time="timestamp", _key=instant())
    joined = left.join_asof(right, on="_key", by=apart(ticks) or None, check_sortedness=False)
    if tolerance is not None:
        fresh = pl.col("_key") - instant("last_time") <= nanoseconds(tolerance)
        joined = joined.with_columns(
            pl.when(fresh).then(pl.col(name)) for name in (column, "last_time")
        )
    times = as_times("_key", ticks).alias("timestamp")
    return like(ticks, joined.select(times, *keys, column, "last_time"))
