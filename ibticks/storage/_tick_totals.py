"""Totals of ticks: from the record of a file that lies inside an interval, else from its ticks."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ibticks.config import DAY_NS
from ibticks.errors import StorageError, TickError
from ibticks.schema import TickColumns
from ibticks.storage._file_reader import FileReader
from ibticks.storage._tick_reader import read_chunks, read_ticks
from ibticks.storage._whole_file import tick_statistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ibticks._types import Interval
    from ibticks.index import FileRecord, Index

__all__ = ["TickTotals", "count_ticks", "iter_totals", "merge_totals"]

_COLUMNS: Final = {
    "last": ("timestamp", "price", "size"),
    "all_last": ("timestamp", "price", "size"),
    "mid_point": ("timestamp", "mid_price"),
    "bid_ask": ("timestamp", "bid_price", "bid_size", "ask_price", "ask_size"),
}


@dataclass(frozen=True, slots=True)
class TickTotals:
    """Number of some ticks, and what they add up to.

    Attributes
    ----------
    ticks : int
        At least 1.
    first_ns, last_ns : int
        Earliest and latest time, UTC nanoseconds.
    min_price, max_price : float or None
        Of ``price`` or ``mid_price``, or lowest bid and highest ask; without prices that are none
        of a trade or a quote.
    volume, notional : float or None
        Sum of ``size`` and of ``price * size`` of trades; None for other tick types.
    """

    ticks: int
    first_ns: int
    last_ns: int
    min_price: float | None
    max_price: float | None
    volume: float | None
    notional: float | None


def merge_totals(totals: Iterable[TickTotals]) -> TickTotals:
    """Return the totals of all ticks of some; there must be one.

    Examples
    --------
    >>> one = TickTotals(2, 10, 20, 1.5, 2.5, 100.0, 200.0)
    >>> both = merge_totals([one, TickTotals(1, 5, 5, None, None, 0.0, 0.0)])
    >>> both.ticks, both.first_ns, both.last_ns, both.min_price, both.volume
    (3, 5, 20, 1.5, 100.0)
    """
    every = list(totals)
    lows = [total.min_price for total in every if total.min_price is not None]
    highs = [total.max_price for total in every if total.max_price is not None]
    return TickTotals(
        sum(total.ticks for total in every),
        min(total.first_ns for total in every),
        max(total.last_ns for total in every),
        min(lows, default=None),
        max(highs, default=None),
        _sum([total.volume for total in every]),
        _sum([total.notional for total in every]),
    )


def _sum(values: Sequence[float | None]) -> float | None:
    """Return the sum, rounded once; None if there is nothing to add."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    with suppress(OverflowError, ValueError):  # past the largest double, or inf - inf
        return math.fsum(numbers)
    return sum(numbers)


def iter_totals(
    root: Path,
    record: FileRecord,
    interval: Interval,
    *,
    strict: bool = False,
    index: Index | None = None,
) -> Iterator[tuple[int, TickTotals]]:
    """Iterate over the totals of the ticks of a file in an interval, by UTC day.

    The record is used if the file lies inside the interval and still has the size that the record
    states; otherwise ticks are read, with the warnings and errors of
    :func:`~ibticks.storage.read_ticks`.

    Yields
    ------
    day_ns : int
        Start of the day, UTC nanoseconds.
    totals : TickTotals
    """
    known = _recorded_totals(record) if _is_inside(root, record, interval) else None
    if known is not None:
        if known.ticks:
            yield known.first_ns // DAY_NS * DAY_NS, known
        return
    chunks = read_ticks(
        root,
        [record],
        _COLUMNS[record.tick_type],
        start_ns=interval.start_ns,
        end_ns=interval.end_ns,
        strict=strict,
        index=index,
    )
    for chunk in chunks:
        days = chunk.timestamp // DAY_NS
        for day in np.unique(days).tolist():
            ticks = chunk if (days == day).all() else chunk.take(np.flatnonzero(days == day))
            yield day * DAY_NS, _totals(record.tick_type, ticks)


def _is_inside(root: Path, record: FileRecord, interval: Interval) -> bool:
    """Return whether all messages of a file lie in an interval, and the file is as it was sealed.

    A file that was opened again for a late tick, or is gone, has another size.
    """
    if not (record.sealed and record.is_inside(interval)):
        return False
    try:
        return (root / record.path).stat().st_size == record.size
    except OSError:
        return False


def _recorded_totals(record: FileRecord) -> TickTotals | None:
    """Return the totals of a file by its record; None where the record does not state them."""
    first, last = record.first_tick_ns, record.last_tick_ns
    if record.ticks == 0:
        return TickTotals(0, 0, 0, None, None, None, None)
    if first is None or last is None or first // DAY_NS != last // DAY_NS:
        return None
    if record.tick_type == "bid_ask" and not record.priced_ticks and record.min_price is not None:
        return None  # no quote has two sides: the range may be one of bids or of asks alone
    return TickTotals(
        record.ticks,
        first,
        last,
        record.min_price,
        record.max_price,
        record.volume,
        record.notional,
    )


def _totals(tick_type: str, ticks: TickColumns) -> TickTotals:
    values = tick_statistics(tick_type, ticks)
    low, high = values.get("min_price"), values.get("max_price")
    if tick_type == "bid_ask":
        low = tick_statistics(tick_type, _side(ticks, "bid")).get("min_price")
        high = tick_statistics(tick_type, _side(ticks, "ask")).get("max_price")
    return TickTotals(
        ticks.rows,
        values["first_tick_ns"],
        values["last_tick_ns"],
        low,
        high,
        values.get("volume"),
        values.get("notional"),
    )


def _side(ticks: TickColumns, side: str) -> TickColumns:
    names = ("timestamp", f"{side}_price", f"{side}_size")
    return TickColumns(ticks.rows, {name: ticks.columns[name] for name in names})


def count_ticks(
    root: Path,
    record: FileRecord,
    interval: Interval,
    *,
    strict: bool = False,
    index: Index | None = None,
) -> int:
    """Count the ticks of a file in an interval; only blocks that the interval cuts are read.

    Warnings and errors are those of :func:`~ibticks.storage.read_ticks`.
    """
    if _is_inside(root, record, interval):
        return record.ticks
    counted = _count_by_blocks(root, record, interval)
    if counted is not None:
        return counted
    chunks = read_ticks(
        root,
        [record],
        ["timestamp"],
        start_ns=interval.start_ns,
        end_ns=interval.end_ns,
        strict=strict,
        index=index,
    )
    return sum(chunk.rows for chunk in chunks)


def _count_by_blocks(root: Path, record: FileRecord, interval: Interval) -> int | None:
    """Count by the numbers of messages of blocks; None where they cannot be used.

    Messages of blocks are all ticks, or their number says nothing.
    """
    if not record.sealed or not record.blocks or record.messages != record.ticks:
        return None
    start_ns, end_ns = interval
    met = [b for b in record.blocks if b.max_ns >= start_ns and b.min_ns < end_ns]
    cut = tuple(b for b in met if b.min_ns < start_ns or b.max_ns >= end_ns)
    if len(cut) == len(met) and cut:
        return None
    try:
        with FileReader(root) as reader:
            reader.open(record.path)
            header = reader.header
            if reader.misplaced is not None or header is None:
                return None
            if header.crc32c != record.crc32c or reader.size != record.size:
                return None
    except StorageError:
        return None
    total = sum(block.messages for block in met if block not in cut)
    if not cut:
        return total
    try:
        chunks = read_chunks(
            root,
            [replace(record, blocks=cut)],
            ["timestamp"],
            start_ns=start_ns,
            end_ns=end_ns,
            strict=True,
        )
    except TickError:
        return None  # the caller reads all of it, and reports the damage
    # A file that was replaced just now is read as a whole, without naming blocks.
    if sum(len(chunk.blocks) for chunk in chunks) != len(cut):
        return None
    return total + sum(chunk.columns.rows for chunk in chunks)
