"""Streams put together: the quote in force at each trade, and several contracts on one clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from ibticks.analysis import _columns as columns
from ibticks.analysis._columns import (
    F,
    apart,
    by,
    instant,
    like,
    nanoseconds,
    refuse_disorder,
    require,
)
from ibticks.analysis._grouping import quote_rows, trade_rows
from ibticks.analysis._session_split import SessionIntervals, SessionSplit
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.calendar import Market

__all__ = ["join_quotes", "quotes_at"]

_QUOTE: Final = ("bid_price", "bid_size", "ask_price", "ask_size")


def quotes_at(
    trades: F,
    quotes: F | None = None,
    *,
    lag: str | timedelta = "0s",
    tolerance: str | timedelta | None = None,
    strict: bool = False,
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> F:
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
        How much older than the trade a quote must at least be: ``"5s"`` is Lee and Ready's rule.
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
    require(trades, "timestamp", "price", what="quotes_at")
    source = trades if quotes is None else quotes
    require(source, "timestamp", "bid_price", "ask_price", what="quotes_at")
    split = SessionSplit.of(market, session_type, sessions, what="quotes_at")
    joined = join_quotes(trades, quotes, nanoseconds(lag), tolerance, strict=strict, split=split)
    order = [pl.exclude("quote_timestamp", "_session"), pl.col("quote_timestamp")]
    return like(trades, joined.select(order))


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
    """Trades with the quote in force, as :func:`quotes_at` has them.

    With a split, the column ``_session`` stays. Without ``sizes``, the quotes give none.
    ``are_trades`` says that all rows of ``trades`` are.
    """
    source = trades if quotes is None else quotes
    if by(source) != by(trades):
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
        for each in (trades, source):
            refuse_disorder(each, what="quotes_at")
        left = trades.lazy() if are_trades else trade_rows(trades)
        left = left.with_columns(_key=instant() - lag_ns)
        right = quote_rows(source).with_columns(_key=instant())
    names = _QUOTE if sizes else ("bid_price", "ask_price")
    found: list[str] = [name for name in names if name in source.collect_schema()]
    session = [] if split is None else ["_quote_session"]
    if split is not None:
        left, right = split.mark(left), right.with_columns(_quote_session=split.number)
    right = right.select(
        *(pl.col(key).cast(trades.collect_schema()[key]) for key in apart(trades, source)),
        *(pl.col(name) for name in found),
        "_key",
        *session,
        quote_timestamp="timestamp",
    )
    old = [*found, "mid", "quote_timestamp"]
    joined = left.drop(old, strict=False).join_asof(
        right,
        on="_key",
        by=apart(trades, source) or None,
        strategy="backward",
        allow_exact_matches=not strict,
        coalesce=True,
        check_sortedness=False,
    )
    if split is not None:
        here = pl.col("_session") == pl.col("_quote_session")
        joined = joined.with_columns(
            pl.when(here).then(pl.col(name)) for name in [*found, "quote_timestamp"]
        ).drop("_quote_session")
    if tolerance is not None:
        age = instant() - lag_ns - instant("quote_timestamp")
        fresh = age <= nanoseconds(tolerance)
        joined = joined.with_columns(
            pl.when(fresh).then(pl.col(name)) for name in [*found, "quote_timestamp"]
        )
    mid = (pl.col("bid_price") + pl.col("ask_price")) / 2
    return joined.drop("_key", "_order", strict=False).with_columns(mid=mid)
