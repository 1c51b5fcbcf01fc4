"""In which session of a market a tick lies, as expressions that stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from ibticks.analysis._columns import instant
from ibticks.calendar import market as find_market
from ibticks.errors import InputError, UnknownMarketError

if TYPE_CHECKING:
    import numpy.typing as npt

    from ibticks.calendar import Market, SessionTable

__all__ = ["session_start", "session_table"]

_OUTSIDE: Final = np.iinfo(np.int64).min


def session_table(market: Market | str | None, session_type: str, *, what: str) -> SessionTable:
    """The sessions of a market, by its name.

    Raises
    ------
    InputError
        No market is given.
    UnknownMarketError
        No such market, or it has no such sessions.

    Examples
    --------
    >>> session_table("US", "lunch", what="time_bars")
    Traceback (most recent call last):
        ...
    ibticks.errors.UnknownMarketError: US has no session type 'lunch': it has pre_market, ...
    """
    if market is None:
        raise InputError(f"{what} by sessions needs a market, as in market='US'")
    known = find_market(market) if isinstance(market, str) else market
    if session_type not in known.tables:
        raise UnknownMarketError(
            f"{known.name} has no session type {session_type!r}: it has "
            f"{', '.join(known.session_types)}",
            market=known.name,
            session_type=session_type,
        )
    return known.tables[session_type]


def session_start(table: SessionTable) -> pl.Expr:
    """Start of the session in which each tick lies.

    Parameters
    ----------
    table : SessionTable
        From :func:`session_table`.

    Returns
    -------
    polars.Expr
        Int64, UTC nanoseconds; null outside the sessions, and in their breaks. Row by row, so that
        it streams.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame({"timestamp": [datetime(2025, 1, 10, 14, 30, tzinfo=UTC)]})
    >>> start = session_start(session_table("US", "regular", what="an example"))
    >>> ticks.select(start.cast(pl.Datetime("ns", "UTC"))).item()
    datetime.datetime(2025, 1, 10, 14, 30, tzinfo=zoneinfo.ZoneInfo(key='UTC'))
    """

    def place(times: pl.Series) -> pl.Series:
        # A tick without a time is in no session.
        started = pl.Series(times.name, _starts(times.fill_null(_OUTSIDE).to_numpy(), table))
        return pl.select(pl.when(started != _OUTSIDE).then(started)).to_series()

    return instant().map_batches(place, pl.Int64, is_elementwise=True)


def _starts(ns: npt.NDArray[np.int64], table: SessionTable) -> npt.NDArray[np.int64]:
    """The same as an array; ``_OUTSIDE`` where there is no session."""
    if not bool(np.all(ns[1:] >= ns[:-1])):
        order = np.argsort(ns, kind="stable")
        starts = np.empty_like(ns)
        starts[order] = _starts(ns[order], table)
        return starts
    starts = np.full(len(ns), _OUTSIDE, dtype=np.int64)
    if not len(ns):
        return starts
    first, last = table.ended(int(ns[0])), table.started(int(ns[-1]))
    rows = np.searchsorted(ns, [table.start_ns[first:last], table.end_ns[first:last]])
    for session, (begin, end) in enumerate(rows.T.tolist(), start=first):
        starts[begin:end] = table.start_ns[session]
        for pause in table.breaks(session):
            begin, end = np.searchsorted(ns, pause)
            starts[begin:end] = _OUTSIDE
    return starts
