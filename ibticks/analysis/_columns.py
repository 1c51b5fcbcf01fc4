"""What a measure asks of a frame: the columns it must have, and the rows that are its business.

A frame may hold several contracts and several tick types at once. A measure picks its rows:
trades have a ``price``, quotes a ``bid_price`` or an ``ask_price``, mid points a ``mid_price``.
Numbers that stand for none are absent: see :mod:`ibticks.analysis`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeVar

import polars as pl

from ibticks.analysis._absent import is_quote, is_set, is_trade, present_sides
from ibticks.calendar import parse_duration
from ibticks.errors import InputError, NaiveDatetimeError, UnknownColumnError
from ibticks.schema import COLUMNS, FieldType

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = [
    "F",
    "apart",
    "as_times",
    "by",
    "finite",
    "instant",
    "like",
    "mids",
    "nanoseconds",
    "per_contract",
    "quotes",
    "refuse_disorder",
    "require",
    "trades",
    "within",
]

F = TypeVar("F", pl.DataFrame, pl.LazyFrame)
"""An eager or a lazy frame: what a measure is given is what it returns."""

_MAKERS: Final = {
    "mid": "mid",
    "sign": "trade_sign",
    **dict.fromkeys(("open", "high", "low", "close"), "time_bars"),
}
_NOTHING: Final = frozenset("0" + unit for unit in ("", "w", "d", "h", "m", "s", "ms", "us", "ns"))


def require(frame: pl.DataFrame | pl.LazyFrame, *names: str, what: str, instead: str = "") -> None:
    """Refuse a frame that lacks a column, whose times have no zone, or whose prices are no numbers.

    Parameters
    ----------
    frame : polars.DataFrame or polars.LazyFrame
    *names : str
        The columns that must be there.
    what : str
        Who asks, for the message: ``"time_bars of quotes"``.
    instead : str
        What else can be done about a missing column, for the message.

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
    >>> require(pl.DataFrame({"bid_price": [1.0]}), "price", what="vwap")
    Traceback (most recent call last):
        ...
    ibticks.errors.UnknownColumnError: vwap needs price; the frame has bid_price. Ticks of last or
    all_last carry it: store.select(..., "last")
    """
    if not hasattr(frame, "collect_schema"):
        raise InputError(
            f"{what} takes a frame of polars, not a {type(frame).__name__}; frames of pandas and "
            "datasets of xarray have the measures as methods of .ticks"
        )
    schema = frame.collect_schema()
    missing = [name for name in names if name not in schema]
    if missing:
        raise UnknownColumnError(
            f"{what} needs {', '.join(missing)}; the frame has {', '.join(schema) or 'no columns'}"
            f"{_how_to_get(missing)}{instead and '; '}{instead}",
            columns=missing,
        )
    if "timestamp" in names:
        _check_times(schema["timestamp"], what)
    for name in names:
        _check_number(name, schema[name], what)


def refuse_disorder(ticks: pl.DataFrame | pl.LazyFrame, *, what: str) -> None:
    """Refuse a frame in which the times of a contract fall, where that would spoil the result.

    What a store gives is in order. Of a lazy frame it is not known.

    Raises
    ------
    InputError
        The ticks of a contract are not in order of time.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, day, tzinfo=UTC) for day in (11, 10)]
    >>> refuse_disorder(pl.DataFrame({"timestamp": at}), what="quotes_at")
    Traceback (most recent call last):
        ...
    ibticks.errors.InputError: quotes_at needs ticks in order of time, and in row 1 they go back:
    .sort("timestamp", maintain_order=True)
    """
    if isinstance(ticks, pl.LazyFrame) or ticks["timestamp"].is_sorted():
        return
    back = ticks.select(within(pl.col("timestamp").diff() < pl.duration(), by(ticks)))
    fallen = back.to_series().fill_null(value=False)
    if fallen.any():
        raise InputError(
            f"{what} needs ticks in order of time, and in row {fallen.arg_max()} they go back: "
            '.sort("timestamp", maintain_order=True)'
        )


def trades(ticks: F) -> F:
    """Rows that are trades, of ``is_trade``.

    Raises
    ------
    UnknownColumnError
        The frame has no column ``price``.

    Examples
    --------
    >>> trades(pl.DataFrame({"price": [1.5, None], "bid_price": [None, 1.0]})).height
    1
    """
    require(ticks, "price", what="a measure of trades")
    return ticks.filter(is_trade())


def quotes(ticks: F) -> F:
    """Rows that are quotes, of ``is_quote``; absent sides are null.

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
    require(ticks, "bid_price", "ask_price", what="a measure of quotes")
    return ticks.filter(is_quote()).with_columns(present_sides(ticks.collect_schema()))


def mids(ticks: F) -> F:
    """The rows that are mid points: those whose ``mid_price`` is set.

    Raises
    ------
    UnknownColumnError
        The frame has no column ``mid_price``.
    """
    require(ticks, "mid_price", what="a measure of mid points")
    return ticks.filter(is_set(pl.col("mid_price")))


def by(ticks: pl.DataFrame | pl.LazyFrame) -> list[str]:
    """The columns that keep contracts apart: ``["contract_id"]``, or none if there is no such.

    Examples
    --------
    >>> by(pl.DataFrame({"contract_id": [8314], "price": [182.1]}))
    ['contract_id']
    """
    return [name for name in ("contract_id",) if name in ticks.collect_schema()]


def apart(*frames: pl.DataFrame | pl.LazyFrame) -> list[str]:
    """The keys a computation must keep apart: :func:`by`, but none where all is of one contract.

    Ticks of which it is not known whose they are, are not of a contract that is. Of a lazy frame
    that is not known. Polars is five times as fast without the keys.

    Examples
    --------
    >>> apart(pl.DataFrame({"contract_id": [8314, 8314]}))
    []
    """
    keys = by(frames[0])
    ids: set[object] = set()
    for frame in frames:
        if not keys or isinstance(frame, pl.LazyFrame):
            return keys
        ids |= {frame["contract_id"].min(), frame["contract_id"].max()} - {None}
        ids |= {None} if frame["contract_id"].null_count() else set()
    return keys if len(ids) > 1 else []


def within(value: pl.Expr, keys: list[str]) -> pl.Expr:
    """An expression taken of each contract by itself; ``keys`` are those of :func:`apart`.

    Examples
    --------
    >>> frame = pl.DataFrame({"contract_id": [1, 2, 1], "price": [1.0, 5.0, 2.0]})
    >>> frame.select(within(pl.col("price").diff(), apart(frame)))["price"].to_list()
    [None, None, 1.0]
    """
    return value.over(keys) if keys else value


def like(
    ticks: F, result: pl.LazyFrame, *, engine: Literal["in-memory", "streaming"] = "in-memory"
) -> F:
    """The result in the form of the frame it came from: collected if that was eager.

    Measures build a query even on an eager frame, so that polars touches only the columns used. The
    streaming engine takes rows on all processors, and groups by several keys in a fifth of the
    time; groups then ask for a sort. Whole columns, as kernels want them, are for the other.

    Examples
    --------
    >>> frame = pl.DataFrame({"price": [1.0]})
    >>> like(frame, frame.lazy().select(pl.col("price") * 2)).item()
    2.0
    """
    return result.collect(engine=engine) if isinstance(ticks, pl.DataFrame) else result


def per_contract(
    ticks: pl.DataFrame | pl.LazyFrame, rows: pl.LazyFrame, values: list[pl.Expr]
) -> pl.LazyFrame:
    """One row a contract (without such a column: one row), sorted; ``rows`` are of ``ticks``.

    Examples
    --------
    >>> frame = pl.DataFrame({"contract_id": [2, 1, 2], "size": [1, 2, 3]})
    >>> per_contract(frame, frame.lazy(), [pl.col("size").sum()]).collect().rows()
    [(1, 2), (2, 4)]
    """
    keys, several = by(ticks), apart(ticks)
    if several:
        return rows.group_by(keys).agg(values).sort(keys)
    # All at once, which is several times as fast. Of no rows, a contract would be null.
    return rows.select(*(pl.col(key).first() for key in keys), *values).drop_nulls(keys)


def finite(name: str) -> pl.Expr:
    """A column as float64, null wherever it is no number, or one that stands for none.

    Examples
    --------
    >>> pl.DataFrame({"price": [1, None]}).select(finite("price"))["price"].to_list()
    [1.0, None]
    """
    value = pl.col(name).cast(pl.Float64)
    return pl.when(is_trade() if name == "price" else is_set(value)).then(value)


def instant(name: str = "timestamp") -> pl.Expr:
    """A column of times as int64 UTC nanoseconds, whatever its unit and zone.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> frame = pl.DataFrame({"timestamp": [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)]})
    >>> frame.select(instant()).item()
    1000000000
    """
    return pl.col(name).dt.cast_time_unit("ns").cast(pl.Int64)


def as_times(value: str | pl.Expr, ticks: pl.DataFrame | pl.LazyFrame) -> pl.Expr:
    """The reverse of :func:`instant`: a column of nanoseconds as times in the zone of the ticks.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame({"timestamp": [datetime(2025, 1, 10, tzinfo=UTC)]})
    >>> ticks.select(at=instant()).select(as_times("at", ticks)).item() == ticks.item()
    True
    """
    zone = getattr(ticks.collect_schema()["timestamp"], "time_zone", None) or "UTC"
    given = pl.col(value) if isinstance(value, str) else value
    return given.cast(pl.Datetime("ns", "UTC")).dt.convert_time_zone(zone)


def nanoseconds(span: str | timedelta) -> int:
    """A length of time in nanoseconds: as :func:`ibticks.calendar.parse_duration`, or none.

    Examples
    --------
    >>> nanoseconds("0s"), nanoseconds("1m30s")
    (0, 90000000000)
    """
    nothing = span.strip() in _NOTHING if isinstance(span, str) else not span
    return 0 if nothing else parse_duration(span)


def _how_to_get(missing: list[str]) -> str:
    makers = {_MAKERS.get(name) for name in missing}
    if len(makers) == 1 and None not in makers:
        return f". The measure {makers.pop()} makes it"
    carriers = [COLUMNS[name].tick_types for name in missing if name in COLUMNS]
    if len(carriers) < len(missing):
        return ""
    shared = [kind for kind in carriers[0] if all(kind in kinds for kinds in carriers)]
    if not shared:
        kinds = sorted({kinds[0] for kinds in carriers})
        return f". No tick type carries all of them: store.select(..., {kinds!r})"
    return f'. Ticks of {" or ".join(shared)} carry it: store.select(..., "{shared[0]}")'


def _check_times(dtype: pl.DataType, what: str) -> None:
    if not isinstance(dtype, pl.Datetime):
        raise InputError(f"{what} needs times in column timestamp, not {dtype}", column="timestamp")
    if dtype.time_zone is None:
        raise NaiveDatetimeError(
            f"{what}: the times in column timestamp have no zone; say which it is with "
            '.dt.replace_time_zone("UTC")',
            column="timestamp",
        )


def _check_number(name: str, dtype: pl.DataType, what: str) -> None:
    known = COLUMNS.get(name)
    if known is None or known.type is not FieldType.FLOAT or dtype.is_float() or dtype.is_integer():
        return
    if dtype != pl.Null:
        raise InputError(
            f"{what} needs numbers in column {name}, not {dtype}: cast it with "
            f'pl.col("{name}").cast(pl.Float64)',
            column=name,
        )
