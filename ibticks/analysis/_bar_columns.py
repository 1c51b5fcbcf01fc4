"""What happened in a bar: the columns of bars of trades, of quotes and of mid points."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import polars as pl

from ibticks.analysis._columns import require
from ibticks.analysis._grouping import number, quote_rows, rows_with, trade_rows
from ibticks.errors import InputError

__all__ = ["Of", "aggregates", "empty_values", "rows_of"]

Of: TypeAlias = Literal["trades", "quotes", "mids"]
"""What bars are made of."""

_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "trades": ("timestamp", "price", "size"),
    "quotes": ("timestamp", "bid_price", "ask_price"),
    "mids": ("timestamp", "mid_price"),
}


def rows_of(
    ticks: pl.DataFrame | pl.LazyFrame, of: Of, *, what: str, without_size: bool = False
) -> pl.LazyFrame:
    """The rows that bars are made of, NaN made null, and what is derived of them.

    Raises
    ------
    InputError
        ``of`` is none of the three.
    UnknownColumnError, NaiveDatetimeError
        From ``require``.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame({"timestamp": [datetime(2025, 1, 10, tzinfo=UTC)], "price": [1.0]})
    >>> rows_of(ticks, "trades", what="time_bars")
    Traceback (most recent call last):
        ...
    ibticks.errors.UnknownColumnError: time_bars of trades needs size; the frame has timestamp,
    price. Ticks of last or all_last carry it: store.select(..., "last")
    """
    if of not in _NEEDED:
        raise InputError(f"{what} of {of!r}: there are bars of {', '.join(get_args(Of))}")
    needed = [name for name in _NEEDED[of] if not (without_size and name == "size")]
    require(ticks, *needed, what=f"{what} of {of}")
    match of:
        case "trades" if without_size:
            return trade_rows(ticks)
        case "trades":
            size = number(ticks, "size").cast(pl.Float64)
            return trade_rows(ticks).with_columns(size)
        case "quotes":
            bid, ask = (number(ticks, name) for name in ("bid_price", "ask_price"))
            return quote_rows(ticks).with_columns(bid, ask, _mid=(bid + ask) / 2, _spread=ask - bid)
        case "mids":
            return rows_with(ticks, "mid_price")


def aggregates(of: Of) -> list[pl.Expr]:
    """The columns of a bar, as aggregates of its rows in order of arrival.

    Examples
    --------
    >>> [each.meta.output_name() for each in aggregates("trades")]
    ['open', 'high', 'low', 'close', 'volume', 'vwap', 'count', 'first_time', 'last_time']
    """
    match of:
        case "trades":
            volume = pl.col("size").sum()
            value = (pl.col("price") * pl.col("size")).sum()
            vwap = pl.when(volume > 0).then(value / volume).alias("vwap")
            what = [*_ohlc("price"), volume.alias("volume"), vwap]
        case "quotes":
            sides = ("bid_price", "bid_"), ("ask_price", "ask_"), ("_mid", "mid_")
            what = [each for name, prefix in sides for each in _ohlc(name, prefix)]
            what.append(pl.col("_spread").mean().alias("spread"))
        case "mids":
            what = _ohlc("mid_price")
    return [
        *what,
        pl.len().alias("count"),
        pl.col("timestamp").first().alias("first_time"),
        pl.col("timestamp").last().alias("last_time"),
    ]


def empty_values(of: Of) -> dict[str, pl.Expr]:
    """What a bar in which nothing happened has instead of nulls.

    Examples
    --------
    >>> list(empty_values("trades"))
    ['count', 'volume']
    """
    return {
        name: pl.col(name).fill_null(0)
        for name in ("count", "volume")
        if name == "count" or of == "trades"
    }


def _ohlc(name: str, prefix: str = "") -> list[pl.Expr]:
    value = pl.col(name)
    return [
        value.first(ignore_nulls=True).alias(f"{prefix}open"),
        value.max().alias(f"{prefix}high"),
        value.min().alias(f"{prefix}low"),
        value.last(ignore_nulls=True).alias(f"{prefix}close"),
    ]
