"""Lookbacks: the earlier ticks from which an incremental measure continues.

Each function takes the call, its ticks (the lookback so far, then the new ones) and its result.
It returns a few ticks that have the same effect on later results as all earlier ticks. Some of the
rows are synthetic summaries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from ibticks.analysis._averages import anchored_twap
from ibticks.analysis._durations import apart_streams
from ibticks.analysis._engine.columns import (
    apart,
    by,
    instant,
    is_quote,
    is_set,
    is_trade,
    nanoseconds,
    within,
)
from ibticks.analysis._engine.sessions import SessionSplit, session_start, session_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from polars.dataframe.group_by import GroupBy

    from ibticks.analysis._incremental.states import Call

    Lookback: TypeAlias = Callable[[Call, pl.DataFrame, pl.DataFrame], pl.DataFrame]
    """From the measure, the ticks and what it said of them to the ticks that are kept."""

    Pick: TypeAlias = Callable[[Call], pl.Expr]
    """From the measure to what says of each tick whether it is its business."""

__all__ = [
    "beside",
    "by_column",
    "by_of",
    "every_row",
    "last_bars",
    "last_of_stream",
    "last_priced",
    "last_quote",
    "last_with_column",
    "latest",
    "mean_and_last",
    "no_row",
    "per_key",
    "quotes",
    "quotes_in_force",
    "result",
    "session_mean_and_last",
    "signing",
    "signing_and_mid",
    "since_same_prices",
    "trades",
    "two_for_all",
    "window",
    "window_and_before",
]

_TRADE = is_trade()

_QUOTE = is_quote()

_ROWS_OF = {"trades": _TRADE, "quotes": _QUOTE, "mids": is_set(pl.col("mid_price"))}


def every_row(call: Call) -> pl.Expr:
    """All ticks."""
    return pl.lit(value=True)


def no_row(call: Call) -> pl.Expr:
    """None of them."""
    return pl.lit(value=False)


def trades(call: Call) -> pl.Expr:
    """Those that are trades."""
    return _TRADE


def quotes(call: Call) -> pl.Expr:
    """Those that are quotes."""
    return _QUOTE


def by_of(call: Call) -> pl.Expr:
    """Those of the kind that ``of`` says."""
    return _ROWS_OF.get(call["of"], pl.lit(value=True))


def by_column(call: Call) -> pl.Expr:
    """Those that have the price which ``column`` names."""
    name = call.arguments.get("column", "price")
    return _TRADE if name == "price" else is_set(pl.col(name)).fill_null(value=False)


def latest(rows: pl.DataFrame, keys: list[str], many: int = 1) -> pl.DataFrame:
    """The last rows of each key.

    Examples
    --------
    >>> rows = pl.DataFrame({"contract_id": [1, 1, 2], "price": [1.0, 2.0, 3.0]})
    >>> latest(rows, ["contract_id"])["price"].to_list()
    [2.0, 3.0]
    """
    return rows.filter(within(pl.int_range(pl.len(), 0, -1), keys) <= many)


def beside(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The rows, and beside each what is known of its contract; null where nothing is.

    Examples
    --------
    >>> rows = pl.DataFrame({"contract_id": [2, 1, 2]})
    >>> beside(rows, pl.DataFrame({"contract_id": [2], "sum": [7.0]}))["sum"].to_list()
    [7.0, None, 7.0]
    """
    keys = by(rows)
    if not keys:
        return rows.join(known, how="cross", maintain_order="left")
    return rows.join(known, on=keys, how="left", maintain_order="left")


def per_key(rows: pl.DataFrame, keys: list[str]) -> GroupBy:
    """The rows by keys, or without such all in one group; of no rows, no group.

    Examples
    --------
    >>> per_key(pl.DataFrame({"price": [1.0, 2.0]}), []).agg(pl.col("price").sum())["price"].item()
    3.0
    """
    return rows.with_columns(_all=0).group_by(keys or ["_all"], maintain_order=True)


def last_of_stream(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The last tick of each contract and tick type."""
    return latest(rows, apart_streams(rows))


def last_quote(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The last quote of each contract."""
    return latest(rows.filter(_QUOTE), apart(rows))


def last_priced(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The last tick with a price above 0 of each contract, and of what ``per`` keeps apart."""
    priced, per = rows.filter(by_column(call) & (pl.col(call["column"]) > 0)), call["per"]
    if per is None:
        return latest(priced, apart(rows))
    marked = priced.with_columns((pl.col(per) if isinstance(per, str) else per).alias("_per"))
    return latest(marked, [*by(rows), "_per"]).select(rows.columns)


def last_with_column(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The last tick of each contract with the price which ``column`` names."""
    return latest(rows.filter(by_column(call)), apart(rows))


def since_same_prices(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The last tick of each stream, as of when the first came that had its prices."""
    since = pl.col("timestamp") - pl.col("staleness")
    began = found.with_columns(since.cast(rows.schema["timestamp"]).alias("timestamp"))
    return latest(began, apart_streams(rows)).select(rows.columns)


def result(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """What the measure leaves of the ticks."""
    return found


def last_bars(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The last bars that count, as many as the window has."""
    return latest(found.select(rows.columns), apart(found), call["window"])


def window(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The ticks within the window, of which the last of the contract is the end."""
    priced, length = rows.filter(by_column(call)), call["window"]
    if isinstance(length, int):
        return latest(priced, apart(rows), length)
    return _since(priced, nanoseconds(length))


def window_and_before(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The same, and the tick before them, whose price was in force when the window began."""
    return _since(rows.filter(by_column(call)), nanoseconds(call["window"]))


def quotes_in_force(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The quotes that may be in force when a trade comes, as no trades."""
    delay = call.arguments.get("quote_delay", call.arguments.get("lag"))
    marked = _mark_in_force(rows.with_row_index("_row"), nanoseconds(delay))
    return marked.filter("_kept").with_columns(price=None).cast(rows.schema).select(rows.columns)


def signing(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """What signs trades: those quotes, the last trade, and the last one at another price."""
    if call["method"] == "tick":
        rows = rows.filter(_TRADE)
    return signing_and_mid(call, rows, found)


def signing_and_mid(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The same, where the quotes are needed whatever signs trades."""
    keys, row = apart(rows), pl.col("_row")
    marked = rows.with_row_index("_row").with_columns(
        _price=within(pl.col("price").filter(_TRADE).last(), keys), _kept=pl.lit(value=False)
    )
    if "bid_price" in rows.columns and "ask_price" in rows.columns:
        marked = _mark_in_force(marked, nanoseconds(call["quote_delay"]))
    other = _TRADE & (pl.col("price") != pl.col("_price"))
    lasts = [row == within(row.filter(which).max(), keys) for which in (_TRADE, other)]
    return marked.filter(pl.any_horizontal("_kept", *lasts)).select(rows.columns)


def two_for_all(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Two trades of the size, the mean price and the variance of all of the session so far."""
    size, last = pl.col("size").cast(pl.Float64), pl.col("vwap").last()
    away = (pl.col("vwap_upper").last() - last) / (call["deviations"] or 1.0)
    sums = _of_session(call, found).filter(size > 0, is_set(size))
    columns = [pl.col(name).last() for name in rows.columns if name not in (*by(rows), "size")]
    all_in_one = per_key(sums, by(rows)).agg(*columns, size=size.sum() / 2, _mean=last, _away=away)
    each = [
        all_in_one.with_columns(price=pl.col("_mean") + side * pl.col("_away")) for side in (-1, 1)
    ]
    return pl.concat(each).select(rows.columns)


def session_mean_and_last(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """A tick when the session opened, with the mean price over time since, and the last tick."""
    priced, keys = _of_session(call, found), apart(rows)
    row, price = pl.col("_row"), pl.col(call["column"])
    numbered = priced.with_row_index("_row")
    last = row == within(row.max(), keys)
    average = within(pl.col("twap").last(), keys).cast(rows.schema[call["column"]])
    stands = pl.when(last).then(price).otherwise(average).alias(call["column"])
    return (
        numbered.with_columns(stands)
        .filter(last | (row == within(row.min(), keys)))
        .select(rows.columns)
    )


def mean_and_last(call: Call, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The same, of all there was."""
    return session_mean_and_last(call, rows, anchored_twap(rows, column=call["column"]))


def _of_session(call: Call, found: pl.DataFrame) -> pl.DataFrame:
    """The ticks with a price that are in the same session as the last of their contract."""
    priced = found.filter(by_column(call))
    if call.arguments.get("sessions") is not None:
        split = SessionSplit.of(None, "regular", call["sessions"], what=call.name)
        if split is not None:
            marked = split.inside(priced.lazy()).collect()
            last = within(pl.col("_session").last(), apart(found))
            return marked.filter(pl.col("_session") == last)
    if call.arguments.get("market") is None:
        return priced
    table = session_table(call["market"], call["session_type"], what=call.name)
    inside = priced.with_columns(_session=session_start(table)).drop_nulls("_session")
    return inside.filter(pl.col("_session") == within(pl.col("_session").last(), apart(found)))


def _since(rows: pl.DataFrame, length: int) -> pl.DataFrame:
    """The rows within a time before the last of their contract, and the one before these."""
    keys, row = apart(rows), pl.col("_row")
    old = instant() < within(instant().max(), keys) - length
    marked = rows.with_row_index("_row").with_columns(_old=old)
    before = row == within(row.filter("_old").max(), keys)
    return marked.filter(~pl.col("_old") | before).select(rows.columns)


def _mark_in_force(numbered: pl.DataFrame, delay: int) -> pl.DataFrame:
    """``_kept`` of numbered ticks: the quotes that a trade may need which comes now or later."""
    keys, row = apart(numbered), pl.col("_row")
    old = instant() < within(instant().max(), keys) - delay
    marked = numbered.with_columns(_old=_QUOTE & old)
    before = row == within(row.filter("_old").max(), keys)
    return marked.with_columns(_kept=_QUOTE & (~pl.col("_old") | before.fill_null(value=False)))
