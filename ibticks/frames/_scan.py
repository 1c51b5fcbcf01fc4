"""Scan stored ticks as a polars ``LazyFrame``: read only what the query needs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeVar, cast

import polars as pl
from polars.io.plugins import register_io_source

from ibticks.config import NANOSECONDS
from ibticks.frames._to_polars import polars_schema, to_polars
from ibticks.schema import check_columns

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Bounds", "TickSource", "parse_bounds", "scan"]

_DAY_NS: Final = 86_400 * NANOSECONDS
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_UNIT_NS: Final = {"ms": 1_000_000, "us": 1_000, "ns": 1}
_T = TypeVar("_T")
_Operator = Callable[[pl.Expr, pl.Expr], pl.Expr]
_COMPARISONS: Final[dict[str, _Operator]] = {
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "==v": lambda a, b: a.eq_missing(b),
    "in": lambda a, b: a.is_in(b),
    "inv": lambda a, b: a.is_in(b, nulls_equal=True),
}
_MIRRORED: Final = {">=": "<=", ">": "<", "<": ">", "<=": ">=", "==": "==", "==v": "==v"}
_CLOSED: Final[dict[Literal["both", "left", "right", "none"], tuple[str, str]]] = {
    "both": (">=", "<="),
    "left": (">=", "<"),
    "right": (">", "<="),
    "none": (">", "<"),
}


class TickSource(Protocol):
    """Source of the ticks of a lazy frame."""

    def batches(
        self,
        columns: Sequence[str],
        *,
        start_ns: int | None,
        end_ns: int | None,
        contract_ids: frozenset[int] | None,
        tick_types: frozenset[str] | None,
    ) -> Iterator[pa.Table]:
        """Read ticks, some of them at a time, sorted by time throughout.

        The bounds permit to skip: files and blocks outside them need not be read, and ticks outside
        them may be yielded all the same. A generator is closed as soon as no more ticks are wanted.

        Parameters
        ----------
        columns : sequence of str
            Columns of each table, in their standard order.
        start_ns, end_ns : int or None
            Half-open range of UTC nanoseconds.
        contract_ids, tick_types : frozenset or None
            The only ones wanted.

        Yields
        ------
        pyarrow.Table
            From :func:`ibticks.frames.to_table`.
        """
        ...


def scan(columns: Sequence[str], source: TickSource) -> pl.LazyFrame:
    """Make a lazy frame over a source of ticks.

    A query reads the columns it uses, stops after the rows it wants (``head``), and where its
    filter bounds ``timestamp``, ``contract_id`` or ``tick_type`` by constants, only files and
    blocks within: see ``parse_bounds`` for the filters that are understood.
    ``collect(engine="streaming")`` holds one batch at a time.

    Parameters
    ----------
    columns : sequence of str
        The columns of the frame.
    source : TickSource
        Read when the query is collected, once for each occurrence of the frame in it.

    Returns
    -------
    polars.LazyFrame
        With the schema of :func:`ibticks.frames.to_polars`.

    Raises
    ------
    UnknownColumnError
        Naming the columns that exist.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.frames import to_table
    >>> class Empty:
    ...     def batches(self, columns, **bounds):
    ...         yield to_table([], columns)
    >>> scan(["timestamp", "price"], Empty()).filter(pl.col("price") > 0).collect().shape
    (0, 2)
    """
    names = check_columns(list(columns))

    def read(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # a hint: files and blocks have their own size
    ) -> Iterator[pl.DataFrame]:
        wanted = list(names) if with_columns is None else with_columns
        used = {*wanted, *(() if predicate is None else predicate.meta.root_names())}
        # polars counts rows before it filters them: where it does both, all rows count.
        bounds = Bounds() if predicate is None or n_rows is not None else parse_bounds(predicate)
        if bounds.empty or n_rows == 0:
            return
        left = n_rows
        batches = source.batches(check_columns(tuple(used)), **asdict(bounds))
        try:
            for table in batches:
                frame = to_polars(table)
                if left is not None:
                    frame = frame.head(left)
                    left -= frame.height
                if predicate is not None:
                    frame = frame.filter(predicate)
                yield frame.select(wanted)
                if left == 0:
                    break
        finally:
            if isinstance(batches, Generator):
                batches.close()

    return register_io_source(read, schema=polars_schema(names), is_pure=True)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of the rows that a filter can select; None where the filter does not bound them.

    Attributes
    ----------
    start_ns, end_ns : int or None
        Half-open range of UTC nanoseconds.
    contract_ids : frozenset of int or None
    tick_types : frozenset of str or None
    """

    start_ns: int | None = None
    end_ns: int | None = None
    contract_ids: frozenset[int] | None = None
    tick_types: frozenset[str] | None = None

    @property
    def empty(self) -> bool:
        """True if no row can lie within the bounds."""
        backwards = (
            self.start_ns is not None and self.end_ns is not None and self.start_ns >= self.end_ns
        )
        no_contract = self.contract_ids is not None and not self.contract_ids
        return backwards or no_contract or (self.tick_types is not None and not self.tick_types)

    def __and__(self, other: Bounds) -> Bounds:
        return Bounds(
            _combine(max, self.start_ns, other.start_ns),
            _combine(min, self.end_ns, other.end_ns),
            _combine(frozenset.intersection, self.contract_ids, other.contract_ids),
            _combine(frozenset.intersection, self.tick_types, other.tick_types),
        )

    def __or__(self, other: Bounds) -> Bounds:
        return Bounds(
            _combine_if_both(min, self.start_ns, other.start_ns),
            _combine_if_both(max, self.end_ns, other.end_ns),
            _combine_if_both(frozenset.union, self.contract_ids, other.contract_ids),
            _combine_if_both(frozenset.union, self.tick_types, other.tick_types),
        )


def parse_bounds(predicate: pl.Expr) -> Bounds:
    """Read bounds off a filter.

    Understood are comparisons, ``is_between``, ``is_in``, ``&`` and ``|`` of ``timestamp`` (also
    its ``dt.date()``, and converted to another zone), ``contract_id`` and ``tick_type`` with
    constants.

    Parameters
    ----------
    predicate : polars.Expr

    Returns
    -------
    Bounds
        Every row for which the filter holds lies within; not every row within passes the filter.

    Examples
    --------
    >>> from datetime import datetime, UTC
    >>> since = pl.col("timestamp") >= datetime(2025, 1, 10, tzinfo=UTC)
    >>> parse_bounds(since & (pl.col("price") > 5)).start_ns
    1736467200000000000
    >>> parse_bounds(pl.col("price") > 5)
    Bounds(start_ns=None, end_ns=None, contract_ids=None, tick_types=None)
    """
    if _is_constant(predicate):
        return Bounds() if any(pl.select(predicate).to_series()) else _NOWHERE
    operands = predicate.meta.pop()[::-1]
    if len(operands) == 2:
        first, second = operands
        if predicate.meta.eq(first & second):
            return parse_bounds(first) & parse_bounds(second)
        if predicate.meta.eq(first | second):
            return parse_bounds(first) | parse_bounds(second)
        for operator, compose in _COMPARISONS.items():
            if predicate.meta.eq(compose(first, second)):
                return _compare(first, operator, second)
    if len(operands) == 3:
        column, low, high = operands
        for closed, (above, below) in _CLOSED.items():
            if predicate.meta.eq(column.is_between(low, high, closed=closed)):
                return _compare(column, above, low) & _compare(column, below, high)
    return Bounds()


def _compare(first: pl.Expr, operator: str, second: pl.Expr) -> Bounds:
    if _is_constant(second):
        return _compare_column(first, operator, pl.select(second).to_series())
    if operator in _MIRRORED and _is_constant(first):
        return _compare_column(second, _MIRRORED[operator], pl.select(first).to_series())
    return Bounds()


def _is_constant(expression: pl.Expr) -> bool:
    """Return whether an expression has the same single value in every frame."""
    if expression.meta.is_literal(allow_aliasing=True):
        return True
    operands = expression.meta.pop()
    return bool(operands) and all(_is_constant(operand) for operand in operands)


def _compare_column(column: pl.Expr, operator: str, value: pl.Series) -> Bounds:
    values = value[0] if operator in ("in", "inv") and value.dtype.is_nested() else value
    if not isinstance(values, pl.Series) or (values is value and len(value) != 1):
        return Bounds()
    if operator in ("==", "==v", "in", "inv"):
        if values.dtype.is_integer() and column.meta.eq(pl.col("contract_id")):
            return Bounds(contract_ids=frozenset(values.drop_nulls().to_list()))
        if values.dtype in (pl.String, pl.Categorical, pl.Enum) and _is_tick_type(column):
            return Bounds(tick_types=frozenset(values.drop_nulls().to_list()))
    resolution = _time_resolution(column, values.dtype)
    if resolution is None or values.null_count() == len(values):
        return Bounds()
    steps = values.to_physical()
    least, most = cast("int", steps.min()), cast("int", steps.max())
    return _time_bounds(operator, least * resolution.unit_ns, most * resolution.unit_ns, resolution)


def _is_tick_type(column: pl.Expr) -> bool:
    plain = pl.col("tick_type")
    return any(column.meta.eq(form) for form in (plain, plain.cast(pl.String)))


@dataclass(frozen=True, slots=True)
class _TimeResolution:
    """Resolution at which a filter compares ``timestamp``.

    ``unit_ns`` is the size of one step of its constant; ``floored`` is true if the filter certainly
    rounds the column down to such steps.
    """

    unit_ns: int
    floored: bool


def _time_resolution(column: pl.Expr, dtype: pl.DataType) -> _TimeResolution | None:
    plain = pl.col("timestamp")
    if dtype == pl.Date:
        return _TimeResolution(_DAY_NS, floored=True) if column.meta.eq(plain.dt.date()) else None
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone is None:
        return None
    unit = _UNIT_NS[dtype.time_unit]
    for form in (plain, plain.dt.convert_time_zone(dtype.time_zone)):
        if column.meta.eq(form):
            return _TimeResolution(unit, floored=False)
        if any(column.meta.eq(form.cast(dtype, strict=strict)) for strict in (True, False)):
            return _TimeResolution(unit, floored=True)
    return None


def _time_bounds(operator: str, least: int, most: int, resolution: _TimeResolution) -> Bounds:
    """Return the bounds of a time that compares so with constants of ``least`` to ``most`` ns."""
    # Before 1970 rounding may go the other way.
    slack = resolution.unit_ns if least <= 0 else 0
    start, end = least - slack, most + resolution.unit_ns + slack
    match operator:
        case ">=":
            return _clip_to_int64(start, None)
        case ">":
            return _clip_to_int64(start + (resolution.unit_ns if resolution.floored else 1), None)
        case "<":
            return _clip_to_int64(None, most + slack)
        case "<=":
            return _clip_to_int64(None, end)
    return _clip_to_int64(start, end)


def _clip_to_int64(start: int | None, end: int | None) -> Bounds:
    """Return bounds clipped to int64: constants may lie anywhere in the years 1 to 9999."""
    return Bounds(
        None if start is None or start <= _INT64_MIN else min(start, _INT64_MAX),
        None if end is None or end > _INT64_MAX else max(end, _INT64_MIN),
    )


def _combine(choose: Callable[..., _T], first: _T | None, second: _T | None) -> _T | None:
    if first is None or second is None:
        return second if first is None else first
    return choose(first, second)


def _combine_if_both(choose: Callable[..., _T], first: _T | None, second: _T | None) -> _T | None:
    return None if first is None or second is None else choose(first, second)


_NOWHERE: Final = Bounds(contract_ids=frozenset())
