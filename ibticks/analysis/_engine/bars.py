"""Bars of equal length: where they begin and end, and their columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np
import polars as pl

from ibticks.analysis._engine.columns import require, time_ns, times_from_ns
from ibticks.analysis._engine.grouping import number_or_null, quote_rows, rows_with, trade_rows
from ibticks.analysis._engine.sessions import session_start, session_table
from ibticks.calendar import parse_duration
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    from ibticks.calendar import Market, SessionTable

__all__ = [
    "Anchor",
    "BarClock",
    "BarSource",
    "bar_aggregates",
    "bar_rows",
    "empty_bar_values",
    "start_of_bar",
]

Anchor: TypeAlias = Literal["clock", "session"]
"""Anchor of bars."""

_WEEK_NS: Final = 604_800_000_000_000

_FIRST_MONDAY_NS: Final = 345_600_000_000_000  # 1970-01-05


@dataclass(frozen=True, slots=True)
class BarClock:
    """Start and end of bars, by ``every``, ``anchor``, ``market`` and ``session_type``.

    Attributes
    ----------
    step : int
        The length of bars in nanoseconds.
    table : SessionTable or None
        The sessions with which they begin, and end at the latest; None for those of the clock.
    """

    step: int
    table: SessionTable | None = None

    @classmethod
    def of(
        cls,
        every: str | timedelta,
        anchor: Anchor = "clock",
        market: Market | str | None = None,
        session_type: str = "regular",
        *,
        caller: str,
    ) -> BarClock:
        """Return the clock of the arguments of a measure.

        Raises
        ------
        UnknownPeriodError
            ``every`` is no length of time.
        InputError, UnknownMarketError
            The anchor, the market or its sessions are not known; or a market is given to bars that
            are not anchored to its sessions.

        Examples
        --------
        >>> BarClock.of("5m", caller="delta").step
        300000000000
        >>> BarClock.of("5m", market="US", caller="delta")
        Traceback (most recent call last):
            ...
        ibticks.errors.InputError: delta: bars of the clock need no market; those of its sessions
        are had with anchor='session'
        """
        step = parse_duration(every)
        if anchor == "session":
            return cls(step, session_table(market, session_type, caller=caller))
        if anchor != "clock":
            raise InputError(f"anchor={anchor!r}: bars are anchored to 'clock' or 'session'")
        if market is not None:
            raise InputError(
                f"{caller}: bars of the clock need no market; those of its sessions are had with "
                "anchor='session'"
            )
        return cls(step)

    @classmethod
    def optional(
        cls,
        every: str | timedelta | None,
        anchor: Anchor,
        market: Market | str | None,
        session_type: str,
        *,
        caller: str,
    ) -> BarClock | None:
        """Return the clock of the arguments of a measure, or None without ``every``.

        Examples
        --------
        >>> BarClock.optional(None, "clock", None, "regular", caller="delta") is None
        True
        """
        if every is not None:
            return cls.of(every, anchor, market, session_type, caller=caller)
        if anchor != "clock" or market is not None:
            raise InputError(f"{caller} by sessions needs the length of bars, as in every='1d'")
        return None

    @property
    def origin(self) -> int:
        """Origin of bars by the clock, nanoseconds since 1970."""
        return _origin(self.step)

    def rows(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return the rows that lie in a bar, with the columns that :attr:`start` needs."""
        if self.table is None:
            return rows
        return rows.with_columns(_session=session_start(self.table)).drop_nulls("_session")

    @property
    def start(self) -> pl.Expr:
        """Start of the bar of each row of :meth:`rows`; int64 nanoseconds."""
        return start_of_bar(self.step, None if self.table is None else pl.col("_session"))

    @property
    def end(self) -> pl.Expr:
        """End of the bar, or of its session if that is sooner."""
        table, end = self.table, self.start + self.step
        if table is None:
            return end

        def close(sessions: pl.Series) -> pl.Series:
            # Polars may evaluate this before it drops the rows outside of sessions.
            place = np.searchsorted(table.start_ns, sessions.fill_null(0).to_numpy())
            return pl.Series(table.end_ns[place.clip(max=len(table) - 1)])

        closed = pl.col("_session").map_batches(close, pl.Int64, is_elementwise=True)
        return pl.min_horizontal(end, closed)

    def timestamp(self, ticks: pl.DataFrame | pl.LazyFrame) -> pl.Expr:
        """Return :attr:`start` as a time in the zone of the ticks, called ``timestamp``."""
        return times_from_ns(self.start, ticks).alias("timestamp")

    def grid(self, bars: pl.LazyFrame, keys: list[str]) -> pl.LazyFrame:
        """Return all starts from the first to the last ``_start`` of each key, empty bars too."""
        ends = [pl.col("_start").min().alias("_first"), pl.col("_start").max().alias("_last")]
        span = bars.group_by(keys).agg(ends) if keys else bars.select(ends)
        if self.table is not None:
            return _in_sessions(span, keys, self.step, self.table)
        starts = pl.int_ranges("_first", pl.col("_last") + 1, self.step).alias("_start")
        result = span.drop_nulls("_first").select(*keys, starts)
        return result.explode("_start", empty_as_null=False, keep_nulls=False)


def start_of_bar(step: int, session: pl.Expr | None = None) -> pl.Expr:
    """Return the start of the bar of each row, in UTC nanoseconds.

    Parameters
    ----------
    step : int
        Length of bars. By the clock they start at its multiples since midnight UTC, those of weeks
        on Mondays.
    session : polars.Expr, optional
        Start of the session each row lies in; bars of the clock have none.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> frame = pl.DataFrame({"timestamp": [datetime(2025, 1, 10, 15, 7, tzinfo=UTC)]})
    >>> start = start_of_bar(300_000_000_000).cast(pl.Datetime("ns", "UTC"))
    >>> frame.select(start.dt.strftime("%H:%M")).item()
    '15:05'
    """
    if session is not None:
        return time_ns() - (time_ns() - session) % step
    origin = _origin(step)
    return time_ns() - (time_ns() - origin) % step if origin else time_ns() // step * step


def _origin(step: int) -> int:
    return 0 if step % _WEEK_NS else _FIRST_MONDAY_NS


def _in_sessions(
    ends: pl.LazyFrame, keys: list[str], step: int, table: SessionTable
) -> pl.LazyFrame:
    """Return every bar of every session, but those that lie wholly in a break."""
    sessions = pl.LazyFrame({"_open": table.start_ns, "_close": table.end_ns})
    if len(table.break_start_ns):
        sessions = sessions.with_columns(
            pl.Series("_pause", table.break_start_ns), pl.Series("_resume", table.break_end_ns)
        )
    else:
        sessions = sessions.with_columns(_pause=pl.col("_close"), _resume=pl.col("_close"))
    start, end = pl.col("_start"), pl.min_horizontal(pl.col("_start") + step, "_close")
    return (
        ends.join(sessions, how="cross")
        .filter(pl.col("_open") <= pl.col("_last"), pl.col("_close") > pl.col("_first"))
        .with_columns(_start=pl.int_ranges("_open", "_close", step))
        .explode("_start")
        .filter(start >= pl.col("_first"), start <= pl.col("_last"))
        .filter((start < pl.col("_pause")) | (end > pl.col("_resume")))
        .select("_start", *keys)
    )


BarSource: TypeAlias = Literal["trades", "quotes", "mids"]
"""Rows that bars are made of."""

_REQUIRED_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "trades": ("timestamp", "price", "size"),
    "quotes": ("timestamp", "bid_price", "ask_price"),
    "mids": ("timestamp", "mid_price"),
}


def bar_rows(
    ticks: pl.DataFrame | pl.LazyFrame, of: BarSource, *, caller: str, without_size: bool = False
) -> pl.LazyFrame:
    """Return the rows that bars are made of, with NaN as null and derived columns.

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
    >>> bar_rows(ticks, "trades", caller="time_bars")
    Traceback (most recent call last):
        ...
    ibticks.errors.UnknownColumnError: time_bars of trades needs size; the frame has timestamp,
    price. Ticks of last or all_last carry it: store.select(..., "last")
    """
    if of not in _REQUIRED_COLUMNS:
        raise InputError(f"{caller} of {of!r}: there are bars of {', '.join(get_args(BarSource))}")
    needed = [name for name in _REQUIRED_COLUMNS[of] if not (without_size and name == "size")]
    require(ticks, *needed, caller=f"{caller} of {of}")
    match of:
        case "trades" if without_size:
            return trade_rows(ticks)
        case "trades":
            size = number_or_null(ticks, "size").cast(pl.Float64)
            return trade_rows(ticks).with_columns(size)
        case "quotes":
            bid, ask = (number_or_null(ticks, name) for name in ("bid_price", "ask_price"))
            return quote_rows(ticks).with_columns(bid, ask, _mid=(bid + ask) / 2, _spread=ask - bid)
        case "mids":
            return rows_with(ticks, "mid_price")


def bar_aggregates(of: BarSource) -> list[pl.Expr]:
    """Return the columns of a bar, as aggregates of its rows in order of arrival.

    Examples
    --------
    >>> [each.meta.output_name() for each in bar_aggregates("trades")]
    ['open', 'high', 'low', 'close', 'volume', 'vwap', 'count', 'first_time', 'last_time']
    """
    match of:
        case "trades":
            volume = pl.col("size").sum()
            value = (pl.col("price") * pl.col("size")).sum()
            vwap = pl.when(volume > 0).then(value / volume).alias("vwap")
            caller = [*_ohlc("price"), volume.alias("volume"), vwap]
        case "quotes":
            sides = ("bid_price", "bid_"), ("ask_price", "ask_"), ("_mid", "mid_")
            caller = [item for name, prefix in sides for item in _ohlc(name, prefix)]
            caller.append(pl.col("_spread").mean().alias("spread"))
        case "mids":
            caller = _ohlc("mid_price")
    return [
        *caller,
        pl.len().alias("count"),
        pl.col("timestamp").first().alias("first_time"),
        pl.col("timestamp").last().alias("last_time"),
    ]


def empty_bar_values(of: BarSource) -> dict[str, pl.Expr]:
    """Return the values of a bar without rows that are not null.

    Examples
    --------
    >>> list(empty_bar_values("trades"))
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
