"""Lookbacks: the earlier ticks from which an incremental measure continues.

Each function takes the call, its ticks (the lookback so far, then the new ones) and its result.
It returns a few ticks that have the same effect on later results as all earlier ticks. Some of the
rows are synthetic summaries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from ibticks.analysis._averages import anchored_twap
from ibticks.analysis._durations import stream_keys
from ibticks.analysis._engine.columns import (
    duration_ns,
    grouping_keys,
    is_quote,
    is_set,
    is_trade,
    key_columns,
    over_keys,
    time_ns,
)
from ibticks.analysis._engine.sessions import SessionSplit, session_start, session_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from polars.dataframe.group_by import GroupBy

    from ibticks.analysis._incremental.states import Call

    Lookback: TypeAlias = Callable[[Call, pl.DataFrame, pl.DataFrame], pl.DataFrame]
    """From the call, its ticks and its result to the lookback."""

    Pick: TypeAlias = Callable[[Call], pl.Expr]
    """From the call to an expression that picks ticks."""

__all__ = [
    "by_column",
    "by_of",
    "every_row",
    "group_by_keys",
    "join_per_contract",
    "last_bars",
    "last_of_stream",
    "last_priced",
    "last_quote",
    "last_rows",
    "last_with_column",
    "mean_and_last",
    "no_row",
    "quotes",
    "quotes_in_force",
    "result",
    "session_mean_and_last",
    "session_pair",
    "signing",
    "signing_and_mid",
    "since_same_prices",
    "trades",
    "window",
    "window_and_before",
]

_TRADE = is_trade()

_QUOTE = is_quote()

_ROWS_OF = {"trades": _TRADE, "quotes": _QUOTE, "mids": is_set(pl.col("mid_price"))}


def every_row(call: Call) -> pl.Expr:
    """Pick all ticks."""
    return pl.lit(value=True)


def no_row(call: Call) -> pl.Expr:
    """Pick no ticks."""
    return pl.lit(value=False)


def trades(call: Call) -> pl.Expr:
    """Pick trades."""
    return _TRADE


def quotes(call: Call) -> pl.Expr:
    """Pick quotes."""
    return _QUOTE


def by_of(call: Call) -> pl.Expr:
    """Pick the trades, quotes or mid points that the argument ``of`` names."""
    return _ROWS_OF.get(call["of"], pl.lit(value=True))


def by_column(call: Call) -> pl.Expr:
    """Pick the ticks with the price that the argument ``column`` names."""
    name = call.arguments.get("column", "price")
    return _TRADE if name == "price" else is_set(pl.col(name)).fill_null(value=False)


def last_rows(rows: pl.DataFrame, keys: list[str], many: int = 1) -> pl.DataFrame:
    """Return the last rows of each key.

    Examples
    --------
    >>> rows = pl.DataFrame({"contract_id": [1, 1, 2], "price": [1.0, 2.0, 3.0]})
    >>> last_rows(rows, ["contract_id"])["price"].to_list()
    [2.0, 3.0]
    """
    return rows.filter(over_keys(pl.int_range(pl.len(), 0, -1), keys) <= many)


def join_per_contract(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Join a row for each contract to rows; null where a contract has none.

    Examples
    --------
    >>> rows = pl.DataFrame({"contract_id": [2, 1, 2]})
    >>> join_per_contract(rows, pl.DataFrame({"contract_id": [2], "sum": [7.0]}))["sum"].to_list()
    [7.0, None, 7.0]
    """
    keys = key_columns(rows)
    if not keys:
        return rows.join(known, how="cross", maintain_order="left")
    return rows.join(known, on=keys, how="left", maintain_order="left")


def group_by_keys(rows: pl.DataFrame, keys: list[str]) -> GroupBy:
    """Group rows by keys, or without keys all in one group; without rows, no group.

    Examples
    --------
    >>> group_by_keys(pl.DataFrame({"price": [1.0, 2.0]}), []).agg(pl.col("price").sum())[
    ...     "price"
    ... ].item()
    3.0
    """
    return rows.with_columns(_all=0).group_by(keys or ["_all"], maintain_order=True)


def last_of_stream(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return the last tick of each contract and tick type."""
    return last_rows(rows, stream_keys(rows))


def last_quote(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return the last quote of each contract."""
    return last_rows(rows.filter(_QUOTE), grouping_keys(rows))


def last_priced(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return the last tick with a price above 0 of each contract, and of each ``per``."""
    priced, per = rows.filter(by_column(call) & (pl.col(call["column"]) > 0)), call["per"]
    if per is None:
        return last_rows(priced, grouping_keys(rows))
    marked = priced.with_columns((pl.col(per) if isinstance(per, str) else per).alias("_per"))
    return last_rows(marked, [*key_columns(rows), "_per"]).select(rows.columns)


def last_with_column(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return the last tick of each contract with the price that ``column`` names."""
    return last_rows(rows.filter(by_column(call)), grouping_keys(rows))


def since_same_prices(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return the last tick of each stream, at the time its prices first came."""
    since = pl.col("timestamp") - pl.col("staleness")
    began = result.with_columns(since.cast(rows.schema["timestamp"]).alias("timestamp"))
    return last_rows(began, stream_keys(rows)).select(rows.columns)


def result(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return the result: ticks that the measure selects."""
    return result


def last_bars(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return the last bars that count, as many as the window has."""
    return last_rows(result.select(rows.columns), grouping_keys(result), call["window"])


def window(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return the ticks within the window that ends with the last tick of the contract."""
    priced, length = rows.filter(by_column(call)), call["window"]
    if isinstance(length, int):
        return last_rows(priced, grouping_keys(rows), length)
    return _since(priced, duration_ns(length))


def window_and_before(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return the ticks within the window, and the tick before them, whose price was in force."""
    return _since(rows.filter(by_column(call)), duration_ns(call["window"]))


def quotes_in_force(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return the quotes that may be in force for a later trade, not as trades."""
    delay = call.arguments.get("quote_delay", call.arguments.get("lag"))
    marked = _mark_in_force(rows.with_row_index("_row"), duration_ns(delay))
    return marked.filter("_kept").with_columns(price=None).cast(rows.schema).select(rows.columns)


def signing(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return the ticks that sign trades: quotes, the last trade, and the last at another price."""
    if call["method"] == "tick":
        rows = rows.filter(_TRADE)
    return signing_and_mid(call, rows, result)


def signing_and_mid(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return the ticks that sign trades, with the quotes whatever the method."""
    keys, row = grouping_keys(rows), pl.col("_row")
    marked = rows.with_row_index("_row").with_columns(
        _price=over_keys(pl.col("price").filter(_TRADE).last(), keys), _kept=pl.lit(value=False)
    )
    if "bid_price" in rows.columns and "ask_price" in rows.columns:
        marked = _mark_in_force(marked, duration_ns(call["quote_delay"]))
    other = _TRADE & (pl.col("price") != pl.col("_price"))
    lasts = [row == over_keys(row.filter(which).max(), keys) for which in (_TRADE, other)]
    return marked.filter(pl.any_horizontal("_kept", *lasts)).select(rows.columns)


def session_pair(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return two trades with the size, mean price and variance of the session so far."""
    size, last = pl.col("size").cast(pl.Float64), pl.col("vwap").last()
    away = (pl.col("vwap_upper").last() - last) / (call["deviations"] or 1.0)
    sums = _of_session(call, result).filter(size > 0, is_set(size))
    columns = [
        pl.col(name).last() for name in rows.columns if name not in (*key_columns(rows), "size")
    ]
    all_in_one = group_by_keys(sums, key_columns(rows)).agg(
        *columns, size=size.sum() / 2, _mean=last, _away=away
    )
    sides = [
        all_in_one.with_columns(price=pl.col("_mean") + side * pl.col("_away")) for side in (-1, 1)
    ]
    return pl.concat(sides).select(rows.columns)


def session_mean_and_last(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return a tick at the opening with the mean price over time since, and the last tick."""
    priced, keys = _of_session(call, result), grouping_keys(rows)
    row, price = pl.col("_row"), pl.col(call["column"])
    numbered = priced.with_row_index("_row")
    last = row == over_keys(row.max(), keys)
    average = over_keys(pl.col("twap").last(), keys).cast(rows.schema[call["column"]])
    stands = pl.when(last).then(price).otherwise(average).alias(call["column"])
    return (
        numbered.with_columns(stands)
        .filter(last | (row == over_keys(row.min(), keys)))
        .select(rows.columns)
    )


def mean_and_last(call: Call, rows: pl.DataFrame, result: pl.DataFrame) -> pl.DataFrame:
    """Return a tick at the start with the mean price over time since, and the last tick."""
    return session_mean_and_last(call, rows, anchored_twap(rows, column=call["column"]))


def _of_session(call: Call, result: pl.DataFrame) -> pl.DataFrame:
    """Return the priced ticks of the session of the last tick of each contract."""
    priced = result.filter(by_column(call))
    if call.arguments.get("sessions") is not None:
        split = SessionSplit.of(None, "regular", call["sessions"], caller=call.name)
        if split is not None:
            marked = split.inside(priced.lazy()).collect()
            last = over_keys(pl.col("_session").last(), grouping_keys(result))
            return marked.filter(pl.col("_session") == last)
    if call.arguments.get("market") is None:
        return priced
    table = session_table(call["market"], call["session_type"], caller=call.name)
    inside = priced.with_columns(_session=session_start(table)).drop_nulls("_session")
    return inside.filter(
        pl.col("_session") == over_keys(pl.col("_session").last(), grouping_keys(result))
    )


def _since(rows: pl.DataFrame, length: int) -> pl.DataFrame:
    """Return the rows within a time before the last of their contract, and the one before these."""
    keys, row = grouping_keys(rows), pl.col("_row")
    old = time_ns() < over_keys(time_ns().max(), keys) - length
    marked = rows.with_row_index("_row").with_columns(_old=old)
    before = row == over_keys(row.filter("_old").max(), keys)
    return marked.filter(~pl.col("_old") | before).select(rows.columns)


def _mark_in_force(numbered: pl.DataFrame, delay: int) -> pl.DataFrame:
    """Mark in ``_kept`` the quotes that a trade may need which comes now or later."""
    keys, row = grouping_keys(numbered), pl.col("_row")
    old = time_ns() < over_keys(time_ns().max(), keys) - delay
    marked = numbered.with_columns(_old=_QUOTE & old)
    before = row == over_keys(row.filter("_old").max(), keys)
    return marked.with_columns(_kept=_QUOTE & (~pl.col("_old") | before.fill_null(value=False)))
