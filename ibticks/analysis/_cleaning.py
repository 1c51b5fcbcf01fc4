"""Cleaning of trades and quotes in the order of R's *highfrequency*.

Each rule of Barndorff-Nielsen, Hansen, Lunde and Shephard is a function;
:func:`trades_cleanup` and :func:`quotes_cleanup` apply them in order, and report how many ticks
each dropped. The rules are for the regular session of a share: select it first (rule P1), as in
``store.select(..., session="regular")``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple

import polars as pl

from ibticks.analysis._cleaning_rules import (
    correction_column,
    merge_same_timestamp,
    no_zero_prices,
    no_zero_quotes,
    rm_corrected,
    rm_large_spread,
    rm_negative_spread,
    rm_quote_outliers,
    rm_trade_outliers,
    sales_condition,
    select_exchange,
)
from ibticks.analysis._engine import columns
from ibticks.analysis._engine.columns import Frame, collect_like, require
from ibticks.analysis._engine.registry import NotIncremental, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import timedelta

    from ibticks.analysis._engine.sessions import SessionIntervals
    from ibticks.calendar import Market

__all__ = ["Cleaned", "quotes_cleanup", "trades_cleanup"]


class Cleaned(NamedTuple, Generic[Frame]):
    """Cleaned ticks, and a report on how many each rule dropped.

    Attributes
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
    report : same as ticks
        A row for each rule, in order, after one for what was given: ``rule`` (str), ``rows`` that
        were left (uint32) and ``dropped`` (uint32).
    """

    ticks: Frame
    report: Frame


@measure(
    "Cleaning",
    NotIncremental(
        "it gives a report on all ticks", "take its rules one after another, such as no_zero_prices"
    ),
)
def trades_cleanup(
    ticks: Frame,
    *,
    quotes: Frame | None = None,
    exchanges: str | Collection[str] | None = None,
    conditions: Collection[str] | None = None,
    quote_delay: str | timedelta = "0s",
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Cleaned[Frame]:
    """Clean trades by all rules.

    In this order: :func:`no_zero_prices`; :func:`select_exchange`, if exchanges are given;
    :func:`rm_corrected`, if the ticks have corrections; :func:`sales_condition`, if conditions are
    given; ``merge_same_timestamp``, by the median; :func:`rm_trade_outliers`, if quotes are given
    (clean ones: of :func:`quotes_cleanup`).

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, ``price`` and ``size``, in order of arrival.
    quotes
        As in :func:`rm_trade_outliers`.
    exchanges
        As in :func:`select_exchange`.
    conditions
        As in :func:`sales_condition`.
    quote_delay, market, session_type, sessions
        As in :func:`rm_trade_outliers`.

    Returns
    -------
    Cleaned
        ``ticks`` and ``report``, both in the form of what was given.

    References
    ----------
    O. E. Barndorff-Nielsen, P. R. Hansen, A. Lunde and N. Shephard, Realized kernels in practice:
    trades and quotes, *Econometrics Journal* 12 (2009), C1-C32. R's *highfrequency*:
    ``tradesCleanup``, ``tradesCleanupUsingQuotes``.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> for rule, rows, dropped in trades_cleanup(ibm, exchanges="N").report.rows():
    ...     print(f"{rule:22}{rows:6}{dropped:6}")
    given                  33381     0
    no_zero_prices         33381     0
    select_exchange         5479 27902
    merge_same_timestamp    4925   554
    """
    require(ticks, "timestamp", "price", "size", caller="trades_cleanup")
    rules: dict[str, Callable[[Frame], Frame]] = {"no_zero_prices": no_zero_prices}
    if exchanges is not None:
        rules["select_exchange"] = lambda rows: select_exchange(rows, exchanges)
    if correction_column(ticks) is not None:
        rules["rm_corrected"] = rm_corrected
    if conditions is not None:
        rules["sales_condition"] = lambda rows: sales_condition(rows, conditions)
    rules["merge_same_timestamp"] = merge_same_timestamp
    if quotes is not None:
        rules["rm_trade_outliers"] = lambda rows: rm_trade_outliers(
            rows,
            quotes,
            quote_delay=quote_delay,
            market=market,
            session_type=session_type,
            sessions=sessions,
        )
    return _apply(columns.trades(ticks), rules)


@measure("Cleaning", NotIncremental("its rules look at the whole day"))
def quotes_cleanup(
    ticks: Frame,
    *,
    exchanges: str | Collection[str] | None = None,
    day: str | pl.Expr | None = None,
) -> Cleaned[Frame]:
    """Clean quotes by all rules.

    In this order: :func:`no_zero_quotes`; :func:`select_exchange`, if exchanges are given;
    :func:`rm_negative_spread`; :func:`rm_large_spread`; ``merge_same_timestamp``, by the median;
    :func:`rm_quote_outliers`.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, ``bid_price`` and ``ask_price``, in order of arrival.
    exchanges
        As in :func:`select_exchange`.
    day
        As in :func:`rm_large_spread`.

    Returns
    -------
    Cleaned
        ``ticks`` and ``report``, both in the form of what was given.

    References
    ----------
    As for :func:`trades_cleanup`. R's *highfrequency*: ``quotesCleanup``.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_quotes").path)
    >>> for rule, rows, dropped in quotes_cleanup(ibm).report.rows():
    ...     print(f"{rule:22}{rows:6}{dropped:6}")
    given                  62875     0
    no_zero_quotes         62875     0
    rm_negative_spread     62835    40
    rm_large_spread        62831     4
    merge_same_timestamp   48983 13848
    rm_quote_outliers      48983     0
    """
    require(ticks, "timestamp", "bid_price", "ask_price", caller="quotes_cleanup")
    rules: dict[str, Callable[[Frame], Frame]] = {"no_zero_quotes": no_zero_quotes}
    if exchanges is not None:
        rules["select_exchange"] = lambda rows: select_exchange(rows, exchanges)
    rules["rm_negative_spread"] = rm_negative_spread
    rules["rm_large_spread"] = lambda rows: rm_large_spread(rows, day=day)
    rules["merge_same_timestamp"] = lambda rows: merge_same_timestamp(rows, of="quotes")
    rules["rm_quote_outliers"] = lambda rows: rm_quote_outliers(rows, day=day)
    return _apply(columns.quotes(ticks), rules)


def _apply(rows: Frame, rules: Mapping[str, Callable[[Frame], Frame]]) -> Cleaned[Frame]:
    original, counts = rows, [_counted("given", rows)]
    for name, rule in rules.items():
        rows = rule(rows)
        counts.append(_counted(name, rows))
    dropped = (pl.col("rows").shift().cast(pl.Int64) - pl.col("rows")).fill_null(0)
    report = pl.concat(counts).with_columns(dropped=dropped.cast(pl.UInt32))
    return Cleaned(rows, collect_like(original, report))


def _counted(rule: str, rows: Frame) -> pl.LazyFrame:
    if isinstance(rows, pl.DataFrame):  # counted now, it need not be kept until the last rule
        count = pl.Series([rows.height], dtype=pl.get_index_type())
        return pl.LazyFrame({"rule": [rule], "rows": count})
    return rows.lazy().select(rule=pl.lit(rule), rows=pl.len())
