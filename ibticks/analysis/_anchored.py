"""Averages since the opening of a session, as of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ibticks.analysis._columns import F, apart, finite, instant, like, require
from ibticks.analysis._compiled import compiled
from ibticks.analysis._session_split import SessionIntervals, SessionSplit
from ibticks.analysis._sessions import session_start, session_table
from ibticks.errors import InputError

if TYPE_CHECKING:
    from ibticks.calendar import Market

__all__ = ["anchored_twap", "anchored_vwap"]


def anchored_vwap(
    ticks: F,
    *,
    market: Market | str | None = None,
    session_type: str = "regular",
    deviations: float = 2.0,
) -> F:
    r"""The average price of all trades of a session so far, weighted by size, and bands around it.

    .. math:: \bar p = \frac{\sum v_i p_i}{\sum v_i}, \qquad
              \sigma^2 = \frac{\sum v_i (p_i - \bar p)^2}{\sum v_i}

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, some of which are trades.
    market, session_type : optional
        Whose sessions: ``market="US"``. Without a market, the first trade of each contract is the
        anchor.
    deviations : float
        How many :math:`\sigma` the bands are away.

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
    require(ticks, "timestamp", "price", "size", what="anchored_vwap")
    size = finite("size")
    moments = compiled(
        "anchored_moments",
        [_anchor(market, session_type, "anchored_vwap"), finite("price"), size],
        keys=apart(ticks),
        results={"mean": pl.Float64(), "variance": pl.Float64()},
    )
    field = pl.col("_moments").struct.field
    mean, away = field("mean"), field("variance").sqrt() * deviations
    lazy = ticks.lazy().with_columns(_moments=moments)
    lazy = lazy.with_columns(vwap=mean, vwap_lower=mean - away, vwap_upper=mean + away)
    return like(ticks, lazy.drop("_moments"))


def anchored_twap(
    ticks: F,
    *,
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
    column: str = "price",
) -> F:
    """The average price over the time of a session so far: column ``twap``.

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
        Of which price: ``"price"``, ``"mid_price"``, ``"mid"``, ...; rows without it are passed
        over.

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
    require(ticks, "timestamp", column, what="anchored_twap")
    average = compiled(
        "anchored_average",
        [_anchor(market, session_type, "anchored_twap", sessions), instant(), finite(column)],
        keys=apart(ticks),
        results={"twap": pl.Float64()},
    )
    return like(ticks, ticks.lazy().with_columns(twap=average))


def _anchor(
    market: Market | str | None,
    session_type: str,
    what: str,
    sessions: SessionIntervals | None = None,
) -> pl.Expr:
    """A number that is the same for all rows of a session; -1 outside."""
    if sessions is not None:
        split = SessionSplit.of(market, session_type, sessions, what=what)
        if split is not None:
            return split.number.fill_null(-1)
    if market is None:
        return instant() * 0
    table = session_table(market, session_type, what=what)
    return session_start(table).fill_null(-1)
