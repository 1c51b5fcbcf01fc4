"""Rolling and anchored averages of prices, and bands around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from ibticks.analysis._engine.columns import (
    Frame,
    collect_like,
    duration_ns,
    finite_column,
    grouping_keys,
    over_keys,
    refuse_disorder,
    require,
    time_ns,
)
from ibticks.analysis._engine.grouping import apply_kernel
from ibticks.analysis._engine.registry import Rowwise, measure
from ibticks.analysis._engine.sessions import (
    SessionIntervals,
    SessionSplit,
    session_start,
    session_table,
)
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.calendar import Market


__all__ = ["anchored_twap", "anchored_vwap", "bollinger_bands", "rolling_twap", "rolling_vwap"]


@measure("Prices", Rowwise("session_pair"))
def anchored_vwap(
    ticks: Frame,
    *,
    market: Market | str | None = None,
    session_type: str = "regular",
    deviations: float = 2.0,
) -> Frame:
    r"""Average price of the trades of a session so far, weighted by size, and bands around it.

    .. math:: \bar p = \frac{\sum v_i p_i}{\sum v_i}, \qquad
              \sigma^2 = \frac{\sum v_i (p_i - \bar p)^2}{\sum v_i}

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, some of which are trades.
    market, session_type : optional
        Market of the sessions: ``market="US"``. Without a market, the first trade of each contract
        is the anchor.
    deviations : float
        Distance of the bands, in :math:`\sigma`.

    Returns
    -------
    same as ticks
        All rows, with ``vwap``, ``vwap_lower`` and ``vwap_upper`` (float64): null where there is no
        trade, before there is volume, outside the sessions and in their breaks. A lazy frame stays
        lazy, but does not stream.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    UnknownMarketError
        No such market, or it has no such sessions.
    InputError
        ``deviations`` is below 0.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> day = anchored_vwap(trades, market="US").drop_nulls("vwap")
    >>> day.select(pl.col("vwap", "vwap_lower", "vwap_upper").round(2)).row(-1)
    (179.87, 178.37, 181.37)
    """
    if not deviations >= 0:
        raise InputError(f"anchored_vwap: deviations={deviations!r} must not be below 0")
    require(ticks, "timestamp", "price", "size", caller="anchored_vwap")
    size = finite_column("size")
    moments = apply_kernel(
        "anchored_moments",
        [_anchor(market, session_type, "anchored_vwap"), finite_column("price"), size],
        keys=grouping_keys(ticks),
        results={"mean": pl.Float64(), "variance": pl.Float64()},
    )
    field = pl.col("_moments").struct.field
    mean, away = field("mean"), field("variance").sqrt() * deviations
    lazy = ticks.lazy().with_columns(_moments=moments)
    lazy = lazy.with_columns(vwap=mean, vwap_lower=mean - away, vwap_upper=mean + away)
    return collect_like(ticks, lazy.drop("_moments"))


@measure("Prices", Rowwise("session_mean_and_last"))
def anchored_twap(
    ticks: Frame,
    *,
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
    column: str = "price",
) -> Frame:
    """Average price over the time of a session so far: column ``twap``.

    Each price holds until the next; time counts from the first row in the session.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival.
    market, session_type : optional
        As of :func:`anchored_vwap`.
    sessions : optional
        ``(start, end)`` of each session, instead of a market.
    column : str
        Column of the price: ``"price"``, ``"mid_price"``, ``"mid"``, ...; rows without it are
        passed over.

    Returns
    -------
    same as ticks
        All rows, with ``twap`` (float64): null where ``column`` is, outside the sessions and in
        their breaks. The time of a break counts. A lazy frame stays lazy, but does not stream.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    UnknownMarketError
        No such market, or it has no such sessions.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, 0, second, tzinfo=UTC) for second in (0, 8, 12)]
    >>> anchored_twap(pl.DataFrame({"timestamp": at, "price": [1.0, 4.0, 9.0]}))["twap"].to_list()
    [1.0, 1.0, 2.0]
    """
    require(ticks, "timestamp", column, caller="anchored_twap")
    average = apply_kernel(
        "anchored_average",
        [
            _anchor(market, session_type, "anchored_twap", sessions),
            time_ns(),
            finite_column(column),
        ],
        keys=grouping_keys(ticks),
        results={"twap": pl.Float64()},
    )
    return collect_like(ticks, ticks.lazy().with_columns(twap=average))


def _anchor(
    market: Market | str | None,
    session_type: str,
    caller: str,
    sessions: SessionIntervals | None = None,
) -> pl.Expr:
    """Return a number that is the same for all rows of a session; -1 outside."""
    if sessions is not None:
        split = SessionSplit.of(market, session_type, sessions, caller=caller)
        if split is not None:
            return split.number.fill_null(-1)
    if market is None:
        return time_ns() * 0
    table = session_table(market, session_type, caller=caller)
    return session_start(table).fill_null(-1)


_MOMENTS: Final = {"mean": pl.Float64(), "variance": pl.Float64()}


@measure("Prices", Rowwise("window"))
def rolling_vwap(
    ticks: Frame,
    window: str | timedelta | int,
    *,
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    """Average price of the trades in a window, weighted by size: column ``vwap``.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, some of which are trades.
    window : str, timedelta or int
        ``"5m"``: the trades of the last five minutes, ``(timestamp - window, timestamp]``; an int:
        the last so many trades.
    market, session_type, sessions : optional
        Sessions, as in :func:`~ibticks.analysis.quoted_spread`: a window of time begins with its
        session at the earliest. One of a number of trades counts trades, of whatever session.

    Returns
    -------
    same as ticks
        All rows, with ``vwap`` (float64): null where there is no trade, no volume in the window, or
        no session.
        A lazy frame stays lazy, but does not stream.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError, UnknownPeriodError
        ``window`` is no length, or one of time and the ticks are not in order of time.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, minute, tzinfo=UTC) for minute in (0, 4, 5)]
    >>> trades = pl.DataFrame(
    ...     {"timestamp": at, "price": [10.0, 11.0, 13.0], "size": [100, 100, 300]}
    ... )
    >>> rolling_vwap(trades, "5m")["vwap"].to_list()
    [10.0, 10.5, 12.5]
    """
    require(ticks, "timestamp", "price", "size", caller="rolling_vwap")
    size = finite_column("size")
    split = SessionSplit.of(market, session_type, sessions, caller="rolling_vwap")
    result = {"vwap": pl.col("_mean")}
    return _with_moments(ticks, "price", size, window, "rolling_vwap", result, split)


@measure("Prices", Rowwise("window"))
def bollinger_bands(
    ticks: Frame,
    window: str | timedelta | int = 20,
    *,
    deviations: float = 2.0,
    column: str = "price",
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    """Moving average, and bands some standard deviations around it.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival; or bars, with ``column="close"``.
    window : str, timedelta or int
        As of :func:`rolling_vwap`.
    deviations : float
        Distance of the bands from the average.
    column : str
        Column of the price; rows without it are passed over.
    market, session_type, sessions : optional
        As of :func:`rolling_vwap`.

    Returns
    -------
    same as ticks
        All rows, with ``bollinger_middle``, ``bollinger_lower`` and ``bollinger_upper`` (float64):
        the mean of the rows in the window and as many standard deviations of the population away
        from it; of what there is, where the window is not full yet. Null where ``column`` is. A
        lazy frame stays lazy, but does not stream.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError, UnknownPeriodError
        ``window`` is no length, or one of time and the ticks are not in order of time; or
        ``deviations`` is below 0.

    References
    ----------
    J. Bollinger (2001), *Bollinger on Bollinger Bands*, McGraw-Hill: 20 periods, 2 deviations.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, minute, tzinfo=UTC) for minute in range(3)]
    >>> bands = bollinger_bands(pl.DataFrame({"timestamp": at, "price": [1.0, 3.0, 5.0]}), 2)
    >>> bands.select("bollinger_lower", "bollinger_middle", "bollinger_upper").rows()
    [(1.0, 1.0, 1.0), (0.0, 2.0, 4.0), (2.0, 4.0, 6.0)]
    """
    if not deviations >= 0:
        raise InputError(f"bollinger_bands: deviations={deviations!r} must not be below 0")
    require(ticks, "timestamp", column, caller="bollinger_bands")
    middle, away = pl.col("_mean"), pl.col("_variance").sqrt() * deviations
    result = {
        "bollinger_middle": middle,
        "bollinger_lower": middle - away,
        "bollinger_upper": middle + away,
    }
    split = SessionSplit.of(market, session_type, sessions, caller="bollinger_bands")
    return _with_moments(ticks, column, pl.lit(1.0), window, "bollinger_bands", result, split)


@measure("Prices", Rowwise("window_and_before"))
def rolling_twap(
    ticks: Frame,
    window: str | timedelta,
    *,
    column: str = "price",
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    """Average price over a window of time: column ``twap``.

    Each price holds until the next; at the start of the window, the one from before it holds.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival.
    window : str or timedelta
        ``"5m"``: the last five minutes, or for earlier rows the time since the first.
    column : str
        Column of the price: ``"price"``, ``"mid_price"``, ``"mid"``, ...; rows without it are
        passed over.
    market, session_type, sessions : optional
        Sessions, as in :func:`~ibticks.analysis.quoted_spread`: a window begins with the first row
        of its session at the earliest.

    Returns
    -------
    same as ticks
        All rows, with ``twap`` (float64): null where ``column`` is, and outside of sessions, if
        there are. A lazy frame stays lazy, but does not stream.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError, UnknownPeriodError
        ``window`` is no length of time, or the ticks are not in order of time.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, 0, second, tzinfo=UTC) for second in (0, 8, 12)]
    >>> rolling_twap(pl.DataFrame({"timestamp": at, "price": [1.0, 5.0, 9.0]}), "10s")["twap"]
    shape: (3,)
    Series: 'twap' [f64]
    [
        1.0
        1.0
        2.6
    ]
    """
    require(ticks, "timestamp", column, caller="rolling_twap")
    refuse_disorder(ticks, caller="rolling_twap")
    split = SessionSplit.of(market, session_type, sessions, caller="rolling_twap")
    average = apply_kernel(
        "time_average",
        [time_ns(), _priced(column, split)],
        _length(window, "rolling_twap"),
        keys=_keys(ticks, split),
        results={"twap": pl.Float64()},
    )
    rows = ticks.lazy() if split is None else split.mark(ticks.lazy())
    return collect_like(ticks, rows.with_columns(twap=average).drop("_session", strict=False))


def _with_moments(
    ticks: Frame,
    column: str,
    weight: pl.Expr,
    window: str | timedelta | int,
    caller: str,
    result: dict[str, pl.Expr],
    split: SessionSplit | None,
) -> Frame:
    split = None if isinstance(window, int) else split
    keys = _keys(ticks, split)
    if isinstance(window, int):
        if isinstance(window, bool) or window < 1:
            raise InputError(f"{caller}: a window of {window!r} rows holds none; give 1 or more")
        length = window
        times = over_keys(finite_column(column).is_not_null().cum_sum(), keys).cast(pl.Int64)
    else:
        refuse_disorder(ticks, caller=caller)
        length, times = _length(window, caller), time_ns()
    moments = apply_kernel(
        "moments", [times, _priced(column, split), weight], length, keys=keys, results=_MOMENTS
    )
    fields = {f"_{name}": pl.col("_moments").struct.field(name) for name in _MOMENTS}
    rows = ticks.lazy() if split is None else split.mark(ticks.lazy())
    lazy = rows.with_columns(_moments=moments).drop("_session", strict=False)
    lazy = lazy.with_columns(**fields).with_columns(**result)
    return collect_like(ticks, lazy.drop("_moments", *fields))


def _keys(ticks: pl.DataFrame | pl.LazyFrame, split: SessionSplit | None) -> list[str]:
    return grouping_keys(ticks) if split is None else [*grouping_keys(ticks), "_session"]


def _priced(column: str, split: SessionSplit | None) -> pl.Expr:
    """Return the price of each row, null outside of sessions."""
    value = finite_column(column)
    return value if split is None else pl.when(pl.col("_session").is_not_null()).then(value)


def _length(window: str | timedelta, caller: str) -> int:
    length = duration_ns(window)
    if not length:
        raise InputError(f"{caller}: a window of {window!r} holds nothing")
    return length
