"""Averages over what came last, as of each row: over a length of time, or a number of rows.

A window reaches back from its row and holds nothing that arrived after it, not even at the same
time: a live buffer gives the numbers that the whole day will give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from ibticks.analysis._columns import (
    F,
    apart,
    finite,
    instant,
    like,
    nanoseconds,
    refuse_disorder,
    require,
    within,
)
from ibticks.analysis._compiled import compiled
from ibticks.analysis._session_split import SessionIntervals, SessionSplit
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.calendar import Market

__all__ = ["bollinger_bands", "rolling_twap", "rolling_vwap"]

_MOMENTS: Final = {"mean": pl.Float64(), "variance": pl.Float64()}


def rolling_vwap(
    ticks: F,
    window: str | timedelta | int,
    *,
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> F:
    """The average price of the trades in a window, weighted by size: column ``vwap``.

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
    require(ticks, "timestamp", "price", "size", what="rolling_vwap")
    size = finite("size")
    split = SessionSplit.of(market, session_type, sessions, what="rolling_vwap")
    found = {"vwap": pl.col("_mean")}
    return _with_moments(ticks, "price", size, window, "rolling_vwap", found, split)


def bollinger_bands(
    ticks: F,
    window: str | timedelta | int = 20,
    *,
    deviations: float = 2.0,
    column: str = "price",
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> F:
    """A moving average, and bands some standard deviations around it.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival; or bars, with ``column="close"``.
    window : str, timedelta or int
        As of :func:`rolling_vwap`.
    deviations : float
        How far from the average the bands are.
    column : str
        Of which price; rows without it are passed over.
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
    require(ticks, "timestamp", column, what="bollinger_bands")
    middle, away = pl.col("_mean"), pl.col("_variance").sqrt() * deviations
    found = {
        "bollinger_middle": middle,
        "bollinger_lower": middle - away,
        "bollinger_upper": middle + away,
    }
    split = SessionSplit.of(market, session_type, sessions, what="bollinger_bands")
    return _with_moments(ticks, column, pl.lit(1.0), window, "bollinger_bands", found, split)


def rolling_twap(
    ticks: F,
    window: str | timedelta,
    *,
    column: str = "price",
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> F:
    """The average price over a time that has passed: column ``twap``.

    Each price holds until the next; at the start of the window, the one from before it holds.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival.
    window : str or timedelta
        ``"5m"``: the last five minutes, or for earlier rows the time since the first.
    column : str
        Of which price: ``"price"``, ``"mid_price"``, ``"mid"``, ...; rows without it are passed
        over.
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
    require(ticks, "timestamp", column, what="rolling_twap")
    refuse_disorder(ticks, what="rolling_twap")
    split = SessionSplit.of(market, session_type, sessions, what="rolling_twap")
    average = compiled(
        "time_average",
        [instant(), _priced(column, split)],
        _length(window, "rolling_twap"),
        keys=_keys(ticks, split),
        results={"twap": pl.Float64()},
    )
    rows = ticks.lazy() if split is None else split.mark(ticks.lazy())
    return like(ticks, rows.with_columns(twap=average).drop("_session", strict=False))


def _with_moments(
    ticks: F,
    column: str,
    weight: pl.Expr,
    window: str | timedelta | int,
    what: str,
    found: dict[str, pl.Expr],
    split: SessionSplit | None,
) -> F:
    split = None if isinstance(window, int) else split
    keys = _keys(ticks, split)
    if isinstance(window, int):
        if isinstance(window, bool) or window < 1:
            raise InputError(f"{what}: a window of {window!r} rows holds none; give 1 or more")
        length = window
        times = within(finite(column).is_not_null().cum_sum(), keys).cast(pl.Int64)
    else:
        refuse_disorder(ticks, what=what)
        length, times = _length(window, what), instant()
    moments = compiled(
        "moments", [times, _priced(column, split), weight], length, keys=keys, results=_MOMENTS
    )
    fields = {f"_{name}": pl.col("_moments").struct.field(name) for name in _MOMENTS}
    rows = ticks.lazy() if split is None else split.mark(ticks.lazy())
    lazy = rows.with_columns(_moments=moments).drop("_session", strict=False)
    lazy = lazy.with_columns(**fields).with_columns(**found)
    return like(ticks, lazy.drop("_moments", *fields))


def _keys(ticks: pl.DataFrame | pl.LazyFrame, split: SessionSplit | None) -> list[str]:
    return apart(ticks) if split is None else [*apart(ticks), "_session"]


def _priced(column: str, split: SessionSplit | None) -> pl.Expr:
    """The price of each row, null outside of sessions."""
    value = finite(column)
    return value if split is None else pl.when(pl.col("_session").is_not_null()).then(value)


def _length(window: str | timedelta, what: str) -> int:
    length = nanoseconds(window)
    if not length:
        raise InputError(f"{what}: a window of {window!r} holds nothing")
    return length
