"""Daily statistics from file records: the Python twin of ``refresh_daily_tick_stats`` in ``sql/``.

Both add in the same order (hour, then path) with plain IEEE additions, so that they agree to the
last bit. The read-only catalogue computes its statistics here; the database does its own.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from ibticks.config import NANOSECONDS
from ibticks.index._records import DailyStats, FileRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["daily_statistics", "known", "utc_date"]

_DAY_NS = 86_400 * NANOSECONDS
_T = TypeVar("_T")


def utc_date(ns: int) -> str:
    """The UTC day of a time in nanoseconds.

    Examples
    --------
    >>> utc_date(1_736_519_400_000_000_000)
    '2025-01-10'
    """
    return datetime.fromtimestamp(ns // _DAY_NS * 86_400, UTC).date().isoformat()


def known(value: float | None) -> float | None:
    """The number, or None if it is not one."""
    return None if value is None or math.isnan(value) else value


def daily_statistics(records: Iterable[FileRecord]) -> list[DailyStats]:
    """Statistics of each UTC day of each contract and tick type, in that order.

    Backfilled files do not count: their times are whole seconds, and what they hold depends on
    what was asked for.

    Parameters
    ----------
    records : iterable of FileRecord
        All files of the days asked about, in any order.

    Examples
    --------
    >>> from ibticks.index._records import FileRecord
    >>> hour = 1_736_517_600_000_000_000
    >>> file = FileRecord(
    ...     "265598/last/2025/01/10/14_ticks.pb",
    ...     265598,
    ...     "last",
    ...     hour,
    ...     hour,
    ...     hour + 1,
    ...     400,
    ...     2,
    ...     2,
    ...     sum_price=473.5,
    ...     priced_ticks=2,
    ...     volume=4.0,
    ...     notional=948.0,
    ... )
    >>> [(day.date, day.avg_price, day.vwap) for day in daily_statistics([file])]
    [('2025-01-10', 236.75, 237.0)]
    """
    captured = (record for record in records if not record.backfilled)
    ordered = sorted(captured, key=lambda r: (r.contract_id, r.tick_type, r.hour_ns, r.path))
    days = groupby(ordered, key=lambda r: (r.contract_id, r.tick_type, utc_date(r.hour_ns)))
    return [_day(*key, list(files)) for key, files in days]


def _day(contract_id: int, tick_type: str, date: str, files: list[FileRecord]) -> DailyStats:
    volume = _sum(file.volume for file in files)
    return DailyStats(
        contract_id=contract_id,
        tick_type=tick_type,
        date=date,
        files=len(files),
        messages=sum(file.messages for file in files),
        ticks=sum(file.ticks for file in files),
        size=sum(file.size for file in files),
        first_tick_ns=min(_present(file.first_tick_ns for file in files), default=None),
        last_tick_ns=max(_present(file.last_tick_ns for file in files), default=None),
        min_price=min(_present(known(file.min_price) for file in files), default=None),
        max_price=max(_present(known(file.max_price) for file in files), default=None),
        avg_price=_divide(
            _sum(file.sum_price for file in files), float(sum(file.priced_ticks for file in files))
        ),
        volume=known(volume),
        vwap=_divide(_sum(file.notional for file in files), volume),
    )


def _present(values: Iterable[_T | None]) -> list[_T]:
    return [value for value in values if value is not None]


def _sum(values: Iterable[float | None]) -> float | None:
    """One addition after the other: ``sum`` compensates from Python 3.12 on, SQL does not."""
    total: float | None = None
    for value in map(known, values):
        if value is not None:
            total = value if total is None else total + value
    return total


def _divide(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None or b == 0 else known(a / b)
