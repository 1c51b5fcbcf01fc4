"""Trading costs: quoted, effective and realised spreads, and price impact.

Trades without a quote of both sides in force have no such cost: null. Bids above asks count as they
are, with a negative spread; take them out before (``quotes_cleanup``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ibticks.analysis._engine.bars import Anchor, BarClock
from ibticks.analysis._engine.columns import (
    Frame,
    collect_like,
    duration_ns,
    grouping_keys,
    key_columns,
    over_keys,
    refuse_disorder,
    relative_to_mid,
    require,
    time_ns,
)
from ibticks.analysis._engine.grouping import group_rows, number_or_null, quote_rows
from ibticks.analysis._engine.registry import (
    ClockBars,
    Horizon,
    NotIncremental,
    Rowwise,
    WithArgument,
    measure,
)
from ibticks.analysis._engine.sessions import SessionIntervals, SessionSplit, within_session_only
from ibticks.analysis._signing import SigningMethod, sign_trades_with_mid

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.calendar import Market

__all__ = ["effective_spread", "price_impact", "quoted_spread", "realized_spread"]


@measure(
    "Costs and liquidity",
    WithArgument(
        "every",
        ClockBars("quotes", previous=True, outside=True, per_contract=True),
        NotIncremental("it is one mean over all time", "give the length of bars, as in every='1m'"),
    ),
)
def quoted_spread(
    ticks: Frame,
    every: str | timedelta | None = None,
    *,
    anchor: Anchor = "clock",
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    """Mean quoted spread, over quotes and over time.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, ``bid_price`` and ``ask_price``, in order of arrival.
    every : str or timedelta, optional
        The length of bars. By default all in one.
    anchor
        Start and end of bars, as in :func:`~ibticks.analysis.time_bars`.
    market, session_type, sessions : optional
        The sessions of a market (``market="US"``), or ``(start, end)`` of each, such as the
        ``intervals`` of a selection: no quote is in force over the end of one, and those outside
        are left out, but that before a bar which is anchored to a session. Frames of pandas and
        datasets of xarray know the sessions of their selection where it has several; a frame of
        polars carries no metadata, and without sessions it is taken for one.

    Returns
    -------
    same as ticks
        A row for each bar and contract that has a quote, in this order: ``timestamp`` (start of the
        bar), ``contract_id``, as far as there are; ``quoted_spread`` and
        ``relative_quoted_spread`` (of the absolute mid), means over the quotes;
        ``time_weighted_spread`` and ``relative_time_weighted_spread``, means over the time that
        each quote was in force; all float64; and ``quotes`` (uint32).

    Notes
    -----
    A quote is in force until the next, over the end of its bar as well; the last of a contract, or
    of its session, for no time: the numbers of several days are those of each day by itself. A
    quote of one side, or of 0 by 0, ends the one before and has no spread itself; where the mid is
    0, it has no relative one.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> quotes = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2025, 1, 10, 15, 0, s, tzinfo=UTC) for s in (0, 9, 10)],
    ...         "bid_price": [9.75, 9.5, 9.75],
    ...         "ask_price": [10.25, 10.5, 10.25],
    ...     }
    ... )
    >>> quoted_spread(quotes).select("time_weighted_spread", "quotes").row(0)
    (0.55, 3)
    """
    require(ticks, "timestamp", "bid_price", "ask_price", caller="quoted_spread")
    keys: list[str] = grouping_keys(ticks)
    bid, ask = (number_or_null(ticks, name) for name in ("bid_price", "ask_price"))
    split = SessionSplit.of(market, session_type, sessions, caller="quoted_spread")
    # Sessions divide the quotes anyway; they divide the bars only if the anchor says so.
    bar_market = market if anchor == "session" else None
    clock = BarClock.optional(every, anchor, bar_market, session_type, caller="quoted_spread")
    rows = quote_rows(ticks)
    if split is not None:
        # A quote from before the opening may be in force in the first bar of a session.
        rows = split.mark(rows) if anchor == "session" else split.inside(rows)
    quotes = rows.select(
        *key_columns(ticks),
        *([] if clock is None else ["timestamp"]),
        *([] if split is None else ["_session"]),
        _at=time_ns(),
        _spread=ask - bid,
        _relative=relative_to_mid(ask - bid, (ask + bid) / 2),
    )
    duration = pl.col("_at").shift(-1) - pl.col("_at")
    if split is not None:
        duration = within_session_only(duration, -1)
    quotes = quotes.with_columns(_held=over_keys(duration, keys))
    if clock is None:
        groups = [pl.col(key) for key in key_columns(ticks)]
        bars = group_rows(quotes, groups, ticks, **_spreads(pl.col("_held").fill_null(0)))
    else:
        bars = _spreads_by_bar(quotes, ticks, clock, split)
    result = bars.select(
        *([] if clock is None else ["timestamp"]),
        *key_columns(ticks),
        pl.col("quoted_spread", "relative_quoted_spread"),
        time_weighted_spread=_ratio("_sum", "_time"),
        relative_time_weighted_spread=_ratio("_relative_sum", "_relative_time"),
        quotes=pl.col("quotes").cast(pl.UInt32),
    )
    return collect_like(ticks, result, engine="streaming" if clock is None else "in-memory")


@measure("Costs and liquidity", Rowwise("signing_and_mid", "trades"))
def effective_spread(
    ticks: Frame,
    *,
    quotes: Frame | None = None,
    method: SigningMethod | None = None,
    quote_delay: str | timedelta = "0s",
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    r"""Effective spread of each trade: :math:`2 D_t (p_t - m_t)`.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp`` and ``price``, in order of arrival.
    quotes
        As in :func:`~ibticks.analysis.trade_sign`; the mid is that of the same quote.
    method : str, optional
        Rule that signs trades; by default the column ``sign`` if there is one, else Lee and
        Ready's.
    quote_delay
        As in :func:`~ibticks.analysis.trade_sign`; the mid is that of the same quote.
    market, session_type, sessions : optional
        Sessions, as in :func:`quoted_spread`: the quote in force is one of the same session as the
        trade, and so are the prices that sign it.

    Returns
    -------
    same as ticks
        The trades, with ``sign``, ``mid`` (of the quote in force), ``effective_spread`` and
        ``relative_effective_spread`` (of the absolute mid; null at a mid of 0), float64; null
        without a mid or a sign, and outside of sessions.

    References
    ----------
    R. D. Huang and H. R. Stoll, Dealer versus auction markets, *Journal of Financial Economics* 41
    (1996), 313-357. R's *highfrequency*: ``effectiveSpread``.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> quotes = pl.read_parquet(sample("ibm_quotes").path)
    >>> round(effective_spread(trades, quotes=quotes)["effective_spread"].median(), 3)
    0.02
    """
    split = SessionSplit.of(market, session_type, sessions, caller="effective_spread")
    trades = _with_mid(ticks, quotes, method, quote_delay, split)
    spread = 2 * _side() * (pl.col("price") - pl.col("mid"))
    result = trades.drop("_session", strict=False).with_columns(**_both("effective_spread", spread))
    return collect_like(ticks, result, engine="streaming")


@measure("Costs and liquidity", Horizon())
def realized_spread(
    ticks: Frame,
    horizon: str | timedelta = "5m",
    *,
    quotes: Frame | None = None,
    method: SigningMethod | None = None,
    quote_delay: str | timedelta = "0s",
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    r"""Realised spread, the part that the liquidity provider keeps: :math:`2 D_t (p_t - m_{t+h})`.

    Parameters
    ----------
    ticks
        As in :func:`effective_spread`.
    horizon : str or timedelta
        h, after which the mid is taken.
    quotes, method, quote_delay
        As in :func:`effective_spread`.
    market, session_type, sessions : optional
        Sessions, as in :func:`quoted_spread`: the later mid is one of the same session.

    Returns
    -------
    same as ticks
        The trades, with ``sign``, ``mid``, ``later_mid``, ``realized_spread`` and
        ``relative_realized_spread`` (of the absolute mid at the trade), float64; null where the
        quotes, or those of the session, end before the horizon does.

    References
    ----------
    As for :func:`effective_spread`. R's *highfrequency*: ``realizedSpread``, with the mid so many
    rows later, not so long after.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> quotes = pl.read_parquet(sample("ibm_quotes").path)
    >>> round(realized_spread(trades, "5m", quotes=quotes)["realized_spread"].mean(), 3)
    0.007
    """
    split = SessionSplit.of(market, session_type, sessions, caller="realized_spread")
    trades = _with_later_mid(ticks, horizon, quotes, method, quote_delay, split)
    spread = 2 * _side() * (pl.col("price") - pl.col("later_mid"))
    result = trades.with_columns(**_both("realized_spread", spread))
    return collect_like(ticks, result, engine="streaming")


@measure("Costs and liquidity", Horizon())
def price_impact(
    ticks: Frame,
    horizon: str | timedelta = "5m",
    *,
    quotes: Frame | None = None,
    method: SigningMethod | None = None,
    quote_delay: str | timedelta = "0s",
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    r"""Price impact of each trade, both ways: :math:`2 D_t (m_{t+h} - m_t)`.

    So that effective spread = realised spread + price impact. R's ``priceImpact`` is half of it.

    Parameters
    ----------
    ticks, horizon, quotes, method, quote_delay, market, session_type, sessions
        As in :func:`realized_spread`.

    Returns
    -------
    same as ticks
        The trades, with ``sign``, ``mid``, ``later_mid``, ``price_impact`` and
        ``relative_price_impact`` (of the absolute mid at the trade), float64; null where the
        quotes, or those of the session, end before the horizon does.

    References
    ----------
    As for :func:`effective_spread`.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> quotes = pl.read_parquet(sample("ibm_quotes").path)
    >>> round(price_impact(trades, "5m", quotes=quotes)["price_impact"].mean(), 3)
    0.02
    """
    split = SessionSplit.of(market, session_type, sessions, caller="price_impact")
    trades = _with_later_mid(ticks, horizon, quotes, method, quote_delay, split)
    impact = 2 * _side() * (pl.col("later_mid") - pl.col("mid"))
    result = trades.with_columns(**_both("price_impact", impact))
    return collect_like(ticks, result, engine="streaming")


def _side() -> pl.Expr:
    return pl.when(pl.col("sign") != 0).then(pl.col("sign").cast(pl.Float64))


def _both(name: str, value: pl.Expr) -> dict[str, pl.Expr]:
    return {name: value, f"relative_{name}": relative_to_mid(value, pl.col("mid"))}


def _with_mid(
    ticks: Frame,
    quotes: Frame | None,
    method: SigningMethod | None,
    quote_delay: str | timedelta,
    split: SessionSplit | None,
) -> pl.LazyFrame:
    """Return the trades with ``sign`` and ``mid``, and ``_session`` with a split."""
    require(ticks, "timestamp", "price", caller="a measure of spreads")
    return sign_trades_with_mid(ticks, method, quotes, quote_delay, split)


def _with_later_mid(
    ticks: Frame,
    horizon: str | timedelta,
    quotes: Frame | None,
    method: SigningMethod | None,
    quote_delay: str | timedelta,
    split: SessionSplit | None,
) -> pl.LazyFrame:
    """Return the trades with ``later_mid`` too: that of the last quote before the horizon."""
    trades = _with_mid(ticks, quotes, method, quote_delay, split)
    source = ticks if quotes is None else quotes
    refuse_disorder(source, caller="the later mid")
    keys: list[str] = grouping_keys(ticks, source)
    session = [] if split is None else [split.number.alias("_later_session")]
    later = (
        quote_rows(source)
        .select(
            *keys,
            *session,
            _key=time_ns(),
            later_mid=((pl.col("bid_price") + pl.col("ask_price")) / 2).fill_nan(None),
        )
        .with_columns(
            _end=over_keys(
                pl.col("_key").max(), keys if split is None else [*keys, "_later_session"]
            )
        )
    )
    with_quotes = (
        trades.drop("later_mid", strict=False)
        .with_columns(_key=time_ns() + duration_ns(horizon))
        .join_asof(later, on="_key", by=keys or None, coalesce=True, check_sortedness=False)
    )
    seen = pl.col("_key") <= pl.col("_end")
    if split is not None:
        # The last quote before the end of the horizon may be one of a later session.
        seen &= pl.col("_session") == pl.col("_later_session")
    return with_quotes.with_columns(pl.when(seen).then("later_mid")).drop(
        "_key", "_end", "_session", "_later_session", strict=False
    )


def _spreads(duration: pl.Expr) -> dict[str, pl.Expr]:
    spread, relative = pl.col("_spread"), pl.col("_relative")
    return {
        "quoted_spread": spread.mean(),
        "relative_quoted_spread": relative.mean(),
        "_sum": (spread * duration).sum(),
        "_relative_sum": (relative * duration).sum(),
        "_time": duration.filter(spread.is_not_null()).sum(),
        "_relative_time": duration.filter(relative.is_not_null()).sum(),
        "quotes": spread.count(),
    }


def _spreads_by_bar(
    quotes: pl.LazyFrame,
    ticks: pl.DataFrame | pl.LazyFrame,
    clock: BarClock,
    split: SessionSplit | None,
) -> pl.LazyFrame:
    """Return sums over each bar, with the quote that was in force when it began."""
    at, carried = pl.col("_at"), {"_sum": "_spread", "_relative_sum": "_relative"}
    before = []
    for name in carried.values():
        earlier = pl.col(name).shift()
        if split is not None:
            earlier = within_session_only(earlier)
        before.append(over_keys(earlier, grouping_keys(ticks)).alias(f"_before{name}"))
    duration = pl.min_horizontal(pl.col("_held"), clock.end - at)
    duration = pl.when(pl.col("_held").is_not_null()).then(duration).otherwise(0)
    bars = group_rows(
        clock.rows(quotes.with_columns(before)).with_columns(_held=duration),
        [clock.timestamp(ticks), *(pl.col(key) for key in key_columns(ticks))],
        ticks,
        clock,
        **_spreads(pl.col("_held")),
        _first=at.first(),
        **{name: pl.col(name).first() for name in ("_before_spread", "_before_relative")},
    )
    wait = pl.col("_first") - time_ns()
    return bars.with_columns(
        *(
            pl.col(name) + (pl.col(f"_before{last}") * wait).fill_null(0)
            for name, last in carried.items()
        ),
        *(
            pl.col(time) + pl.when(pl.col(before).is_not_null()).then(wait).otherwise(0)
            for time, before in {
                "_time": "_before_spread",
                "_relative_time": "_before_relative",
            }.items()
        ),
    )


def _ratio(total: str, time: str) -> pl.Expr:
    return pl.when(pl.col(time) > 0).then(pl.col(total) / pl.col(time))
