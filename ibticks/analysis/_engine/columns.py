"""Columns that measures require, and the rows that are trades, quotes or mid points.

A frame may hold several contracts and several tick types at once. A measure picks its rows:
trades have a ``price``, quotes a ``bid_price`` or an ``ask_price``, mid points a ``mid_price``.

Prices and sizes that stand for no value are absent, by the rule of :mod:`ibticks.format`, which
older stores did not apply: IB's unset numbers, and a price of -1 or 0 beside a size of 0. Without
a column of sizes the price stands. A quote of 0 by 0, whatever its sizes, is that of a halt: both
sides are absent.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import polars as pl

from ibticks.calendar import parse_duration
from ibticks.errors import InputError, NaiveDatetimeError, UnknownColumnError
from ibticks.schema import COLUMNS, NO_QUOTE_PRICES, UNSET_LIMIT, UNSET_NUMBERS, FieldType

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta

__all__ = [
    "UNSET_MINIMUM",
    "Frame",
    "collect_like",
    "duration_ns",
    "finite_column",
    "grouping_keys",
    "is_quote",
    "is_set",
    "is_trade",
    "key_columns",
    "mids",
    "over_keys",
    "per_contract",
    "present",
    "present_sides",
    "quotes",
    "refuse_disorder",
    "relative_to_mid",
    "require",
    "time_ns",
    "times_from_ns",
    "trades",
]

_SIZE_OF: Final = {"price": "size", "bid_price": "bid_size", "ask_price": "ask_size"}

_PRICE_OF: Final = {size: price for price, size in _SIZE_OF.items()}

_NEVER: Final = pl.lit(value=False)

UNSET_MINIMUM: Final = min(*UNSET_NUMBERS, UNSET_LIMIT)
"""Numbers below it are set, numbers from it on may be unset."""

_OTHER_SIDE: Final = {"bid_price": "ask_price", "ask_price": "bid_price"}


def is_set(value: pl.Expr) -> pl.Expr:
    """Return where a number is finite and not one of IB's unset values; null stays null.

    Examples
    --------
    >>> numbers = pl.DataFrame({"size": [100.0, 2147483647.0, 1.7976931348623157e308, None]})
    >>> numbers.select(is_set(pl.col("size")))["size"].to_list()
    [True, False, False, None]
    """
    known = (value < UNSET_LIMIT) & (value > -UNSET_LIMIT)
    for number in UNSET_NUMBERS:
        known &= value != number
    return known


def present(name: str, columns: Collection[str]) -> pl.Expr:
    """Return a column of prices or sizes, null where the number is none.

    Parameters
    ----------
    name : str
        Name of the column; for ``price``, the sides of quotes and their sizes, price and size
        decide together.
    columns : collection of str
        Columns of the frame.

    Examples
    --------
    >>> quotes = pl.DataFrame(
    ...     {"bid_price": [10.0, -1.0, -1.0], "bid_size": [5.0, 0.0, 2.0], "ask_price": 10.5}
    ... )
    >>> quotes.select(present("bid_price", quotes.columns))["bid_price"].to_list()
    [10.0, None, -1.0]
    """
    price = _PRICE_OF.get(name, name)
    size, other = _SIZE_OF.get(price, ""), _OTHER_SIDE.get(price, "")
    none = []
    if price in columns and size in columns:
        nothing = (pl.col(size) == 0) | (~is_set(pl.col(size)) & pl.col(size).is_not_nan())
        none.append(_is_no_price(pl.col(price)) & nothing)
    if price in columns and other in columns:
        none.append((pl.col(price) == 0) & (pl.col(other) == 0))
    known = is_set(pl.col(name))
    if none:
        known &= ~reduce(or_, none).fill_null(value=False)
    return pl.when(known).then(pl.col(name)).alias(name)


def is_quote() -> pl.Expr:
    """Return where a row is a quote: a side has a finite price, or its tick type is ``bid_ask``.

    A quote without a bid and an offer is one: it ends the quote before it. In a frame without
    ``tick_type`` it cannot be distinguished from a trade.

    Examples
    --------
    >>> ticks = pl.DataFrame(
    ...     {"bid_price": [1.0, None], "ask_price": [None, None], "tick_type": ["bid_ask"] * 2}
    ... )
    >>> ticks.filter(is_quote()).height, ticks.drop("tick_type").filter(is_quote()).height
    (2, 1)
    """
    # A pattern, so that a frame need not have the column.
    by_type = pl.col("^tick_type$").cast(pl.String) == "bid_ask"
    sides = (pl.col(name).is_finite() for name in _OTHER_SIDE)
    return pl.any_horizontal(*sides, by_type).fill_null(value=False)


def is_trade() -> pl.Expr:
    """Return where a row is a trade: it has a ``price`` that is one.

    A trade of size 0 at a price of 0 or -1 is IB's message that trading halted, or no data.

    Examples
    --------
    >>> ticks = pl.DataFrame({"price": [1.5, 0.0, 0.0, None], "size": [100.0, 0.0, 5.0, None]})
    >>> ticks.filter(is_trade())["price"].to_list()
    [1.5, 0.0]
    """
    price = pl.col("price")
    nothing = pl.any_horizontal(_NEVER, pl.col("^size$") == 0, ~is_set(pl.col("^size$")))
    known = is_set(price) & ~(_is_no_price(price) & nothing.fill_null(value=False))
    return known.fill_null(value=False)


def present_sides(columns: Collection[str]) -> list[pl.Expr]:
    """Return the prices and sizes of quotes that a frame has, null where they are none."""
    names = ("bid_price", "bid_size", "ask_price", "ask_size")
    return [present(name, columns) for name in names if name in columns]


def relative_to_mid(value: pl.Expr, mid: pl.Expr) -> pl.Expr:
    """Return a value as a fraction of the absolute mid; null at 0.

    Examples
    --------
    >>> spreads = pl.DataFrame({"spread": [0.5, 0.5, 0.5], "mid": [100.0, -100.0, 0.0]})
    >>> spreads.select(relative_to_mid(pl.col("spread"), pl.col("mid")))["spread"].to_list()
    [0.005, 0.005, None]
    """
    return pl.when(mid != 0).then(value / mid.abs())


def _is_no_price(price: pl.Expr) -> pl.Expr:
    return reduce(or_, (price == number for number in NO_QUOTE_PRICES))


Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)
"""An eager or a lazy frame: what a measure is given is what it returns."""

_MEASURE_OF_COLUMN: Final = {
    "mid": "mid",
    "sign": "trade_sign",
    **dict.fromkeys(("open", "high", "low", "close"), "time_bars"),
}

_ZERO_DURATIONS: Final = frozenset(
    "0" + unit for unit in ("", "w", "d", "h", "m", "s", "ms", "us", "ns")
)


def require(
    frame: pl.DataFrame | pl.LazyFrame, *names: str, caller: str, instead: str = ""
) -> None:
    """Refuse a frame that lacks a column, whose times have no zone, or whose prices are no numbers.

    Parameters
    ----------
    frame : polars.DataFrame or polars.LazyFrame
    *names : str
        The columns that must be there.
    caller : str
        Name of the measure, for the message: ``"time_bars of quotes"``.
    instead : str
        Another way to get a missing column, for the message.

    Raises
    ------
    UnknownColumnError
        A column is missing; the message says which, which there are, and how to get it.
    NaiveDatetimeError
        ``timestamp`` is asked for, and has no time zone.
    InputError
        ``timestamp`` is asked for, and holds no times; a price or a size, and it is no number; or
        it is no frame of polars.

    Examples
    --------
    >>> require(pl.DataFrame({"bid_price": [1.0]}), "price", caller="vwap")
    Traceback (most recent call last):
        ...
    ibticks.errors.UnknownColumnError: vwap needs price; the frame has bid_price. Ticks of last or
    all_last carry it: store.select(..., "last")
    """
    if not hasattr(frame, "collect_schema"):
        raise InputError(
            f"{caller} takes a frame of polars, not a {type(frame).__name__}; frames of pandas and "
            "datasets of xarray have the measures as methods of .ticks"
        )
    schema = frame.collect_schema()
    missing = [name for name in names if name not in schema]
    if missing:
        raise UnknownColumnError(
            f"{caller} needs {', '.join(missing)}; the frame has "
            f"{', '.join(schema) or 'no columns'}"
            f"{_source_hint(missing)}{instead and '; '}{instead}",
            columns=missing,
        )
    if "timestamp" in names:
        _check_times(schema["timestamp"], caller)
    for name in names:
        _check_number(name, schema[name], caller)


def refuse_disorder(ticks: pl.DataFrame | pl.LazyFrame, *, caller: str) -> None:
    """Refuse a frame in which the times of a contract fall, where that would spoil the result.

    Ticks of a store are in order. The order of a lazy frame is not known.

    Raises
    ------
    InputError
        The ticks of a contract are not in order of time.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, day, tzinfo=UTC) for day in (11, 10)]
    >>> refuse_disorder(pl.DataFrame({"timestamp": at}), caller="quotes_at")
    Traceback (most recent call last):
        ...
    ibticks.errors.InputError: quotes_at needs ticks in order of time, and in row 1 they go back:
    .sort("timestamp", maintain_order=True)
    """
    if isinstance(ticks, pl.LazyFrame) or ticks["timestamp"].is_sorted():
        return
    back = ticks.select(over_keys(pl.col("timestamp").diff() < pl.duration(), key_columns(ticks)))
    fallen = back.to_series().fill_null(value=False)
    if fallen.any():
        raise InputError(
            f"{caller} needs ticks in order of time, and in row {fallen.arg_max()} they go back: "
            '.sort("timestamp", maintain_order=True)'
        )


def trades(ticks: Frame) -> Frame:
    """Return the rows that are trades.

    Raises
    ------
    UnknownColumnError
        The frame has no column ``price``.

    Examples
    --------
    >>> trades(pl.DataFrame({"price": [1.5, None], "bid_price": [None, 1.0]})).height
    1
    """
    require(ticks, "price", caller="a measure of trades")
    return ticks.filter(is_trade())


def quotes(ticks: Frame) -> Frame:
    """Return the rows that are quotes; absent sides are null.

    A quote of one side is one: it puts an end to the quote before it, and has no mid.

    Raises
    ------
    UnknownColumnError
        The frame lacks ``bid_price`` or ``ask_price``.

    Examples
    --------
    >>> ticks = pl.DataFrame({"bid_price": [1.0, 1.0, None], "ask_price": [2.0, None, None]})
    >>> quotes(ticks).height
    2
    """
    require(ticks, "bid_price", "ask_price", caller="a measure of quotes")
    return ticks.filter(is_quote()).with_columns(present_sides(ticks.collect_schema()))


def mids(ticks: Frame) -> Frame:
    """Return the rows that are mid points: those whose ``mid_price`` is set.

    Raises
    ------
    UnknownColumnError
        The frame has no column ``mid_price``.
    """
    require(ticks, "mid_price", caller="a measure of mid points")
    return ticks.filter(is_set(pl.col("mid_price")))


def key_columns(ticks: pl.DataFrame | pl.LazyFrame) -> list[str]:
    """Return the columns that keep contracts apart: ``["contract_id"]``, or none.

    Examples
    --------
    >>> key_columns(pl.DataFrame({"contract_id": [8314], "price": [182.1]}))
    ['contract_id']
    """
    return [name for name in ("contract_id",) if name in ticks.collect_schema()]


def grouping_keys(*frames: pl.DataFrame | pl.LazyFrame) -> list[str]:
    """Return the columns to group by: :func:`key_columns`, but none for a single contract.

    A null ``contract_id`` forms its own group. A lazy frame always keeps its keys. Polars is five
    times as fast without them.

    Examples
    --------
    >>> grouping_keys(pl.DataFrame({"contract_id": [8314, 8314]}))
    []
    """
    keys = key_columns(frames[0])
    ids: set[object] = set()
    for frame in frames:
        if not keys or isinstance(frame, pl.LazyFrame):
            return keys
        ids |= {frame["contract_id"].min(), frame["contract_id"].max()} - {None}
        ids |= {None} if frame["contract_id"].null_count() else set()
    return keys if len(ids) > 1 else []


def over_keys(value: pl.Expr, keys: list[str]) -> pl.Expr:
    """Evaluate an expression for each contract; ``keys`` are those of :func:`grouping_keys`.

    Examples
    --------
    >>> frame = pl.DataFrame({"contract_id": [1, 2, 1], "price": [1.0, 5.0, 2.0]})
    >>> frame.select(over_keys(pl.col("price").diff(), grouping_keys(frame)))["price"].to_list()
    [None, None, 1.0]
    """
    return value.over(keys) if keys else value


def collect_like(
    ticks: Frame, result: pl.LazyFrame, *, engine: Literal["in-memory", "streaming"] = "in-memory"
) -> Frame:
    """Return the result in the form of the input frame: collected if that was eager.

    Measures build a query even on an eager frame, so that polars touches only the columns used. The
    streaming engine takes rows on all processors, and groups by several keys in a fifth of the
    time; groups then ask for a sort. Whole columns, as kernels want them, are for the other.

    Examples
    --------
    >>> frame = pl.DataFrame({"price": [1.0]})
    >>> collect_like(frame, frame.lazy().select(pl.col("price") * 2)).item()
    2.0
    """
    return result.collect(engine=engine) if isinstance(ticks, pl.DataFrame) else result


def per_contract(
    ticks: pl.DataFrame | pl.LazyFrame, rows: pl.LazyFrame, values: list[pl.Expr]
) -> pl.LazyFrame:
    """Return one row for each contract, sorted; without contracts, one row.

    Examples
    --------
    >>> frame = pl.DataFrame({"contract_id": [2, 1, 2], "size": [1, 2, 3]})
    >>> per_contract(frame, frame.lazy(), [pl.col("size").sum()]).collect().rows()
    [(1, 2), (2, 4)]
    """
    keys, several = key_columns(ticks), grouping_keys(ticks)
    if several:
        return rows.group_by(keys).agg(values).sort(keys)
    # One select is several times as fast. Without rows, the contract would be null.
    return rows.select(*(pl.col(key).first() for key in keys), *values).drop_nulls(keys)


def finite_column(name: str) -> pl.Expr:
    """Return a column as float64, null where it is not finite or stands for no value.

    Examples
    --------
    >>> pl.DataFrame({"price": [1, None]}).select(finite_column("price"))["price"].to_list()
    [1.0, None]
    """
    value = pl.col(name).cast(pl.Float64)
    return pl.when(is_trade() if name == "price" else is_set(value)).then(value)


def time_ns(name: str = "timestamp") -> pl.Expr:
    """Return a column of times as int64 UTC nanoseconds, for any unit and zone.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> frame = pl.DataFrame({"timestamp": [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)]})
    >>> frame.select(time_ns()).item()
    1000000000
    """
    return pl.col(name).dt.cast_time_unit("ns").cast(pl.Int64)


def times_from_ns(value: str | pl.Expr, ticks: pl.DataFrame | pl.LazyFrame) -> pl.Expr:
    """Return a column of UTC nanoseconds as times in the zone of the ticks.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame({"timestamp": [datetime(2025, 1, 10, tzinfo=UTC)]})
    >>> ticks.select(at=time_ns()).select(times_from_ns("at", ticks)).item() == ticks.item()
    True
    """
    zone = getattr(ticks.collect_schema()["timestamp"], "time_zone", None) or "UTC"
    ns = pl.col(value) if isinstance(value, str) else value
    return ns.cast(pl.Datetime("ns", "UTC")).dt.convert_time_zone(zone)


def duration_ns(duration: str | timedelta) -> int:
    """Parse a duration to nanoseconds, as :func:`ibticks.calendar.parse_duration`, or 0.

    Examples
    --------
    >>> duration_ns("0s"), duration_ns("1m30s")
    (0, 90000000000)
    """
    nothing = duration.strip() in _ZERO_DURATIONS if isinstance(duration, str) else not duration
    return 0 if nothing else parse_duration(duration)


def _source_hint(missing: list[str]) -> str:
    makers = {_MEASURE_OF_COLUMN.get(name) for name in missing}
    if len(makers) == 1 and None not in makers:
        return f". The measure {makers.pop()} makes it"
    carriers = [COLUMNS[name].tick_types for name in missing if name in COLUMNS]
    if len(carriers) < len(missing):
        return ""
    shared = [
        tick_type
        for tick_type in carriers[0]
        if all(tick_type in tick_types for tick_types in carriers)
    ]
    if not shared:
        tick_types = sorted({tick_types[0] for tick_types in carriers})
        return f". No tick type carries all of them: store.select(..., {tick_types!r})"
    return f'. Ticks of {" or ".join(shared)} carry it: store.select(..., "{shared[0]}")'


def _check_times(dtype: pl.DataType, caller: str) -> None:
    if not isinstance(dtype, pl.Datetime):
        raise InputError(
            f"{caller} needs times in column timestamp, not {dtype}", column="timestamp"
        )
    if dtype.time_zone is None:
        raise NaiveDatetimeError(
            f"{caller}: the times in column timestamp have no zone; say which it is with "
            '.dt.replace_time_zone("UTC")',
            column="timestamp",
        )


def _check_number(name: str, dtype: pl.DataType, caller: str) -> None:
    known = COLUMNS.get(name)
    if known is None or known.type is not FieldType.FLOAT or dtype.is_float() or dtype.is_integer():
        return
    if dtype != pl.Null:
        raise InputError(
            f"{caller} needs numbers in column {name}, not {dtype}: cast it with "
            f'pl.col("{name}").cast(pl.Float64)',
            column=name,
        )
