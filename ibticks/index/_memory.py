"""An index in memory: the rules of the index in plain Python.

It answers for the catalogue file, for the journal while the server is away, and in tests. The
PostgreSQL index has the same rules in SQL; tests hold the two together. Daily statistics add in
the order of ``refresh_daily_tick_stats`` in ``sql/`` (hour, then path) with plain IEEE additions,
so that both agree to the last bit.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from ibticks._types import StreamKey
from ibticks.config import DAY_NS
from ibticks.index._protocol import IndexWrites
from ibticks.index._records import ContractRecord, DailyStats, nan_to_none

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from ibticks.index._protocol import IndexChange
    from ibticks.index._records import ArchivedCopy, CompanionRecord, CoverageRecord, FileRecord

__all__ = [
    "MemoryIndex",
    "correct_contract",
    "daily_statistics",
    "fill_in_contract",
    "latest_by_path",
    "latest_coverage",
    "may_contain",
    "utc_date",
]

_T = TypeVar("_T")
_K = TypeVar("_K")
_PathRecord = TypeVar("_PathRecord", "FileRecord", "CompanionRecord", "ArchivedCopy")


class MemoryIndex(IndexWrites):
    """An :class:`~ibticks.index.Index` in the memory of one process.

    Examples
    --------
    >>> from ibticks.index import ContractRecord
    >>> index = MemoryIndex(contracts=[ContractRecord(265598, "AAPL")])
    >>> index.put_contracts([ContractRecord(265598, "", "SMART")])
    >>> index.contracts()
    [ContractRecord(contract_id=265598, symbol='AAPL', exchange='SMART', currency='',
                    contract_type='')]
    >>> index.correct_contracts([ContractRecord(265598, "APPLE")])
    >>> index.contracts()[0].symbol, index.contracts()[0].exchange
    ('APPLE', 'SMART')
    """

    def __init__(
        self,
        files: Iterable[FileRecord] = (),
        contracts: Iterable[ContractRecord] = (),
        coverage: Iterable[CoverageRecord] = (),
        companions: Iterable[CompanionRecord] = (),
        archived: Iterable[ArchivedCopy] = (),
    ) -> None:
        self._files = latest_by_path(files)
        self._contracts: dict[int, ContractRecord] = {}
        self._coverage = latest_coverage(coverage)
        self._companions = latest_by_path(companions)
        self._archived = latest_by_path(archived)
        self._merge_contracts(fill_in_contract, contracts)

    @property
    def writable(self) -> bool:
        """True: changes last as long as the process."""
        return True

    def describe(self) -> str:
        """Return the location in words."""
        return "in memory"

    def copy(self) -> MemoryIndex:
        """Return another index with the same records."""
        return MemoryIndex(
            self._files.values(),
            self._contracts.values(),
            self._coverage.values(),
            self._companions.values(),
            self._archived.values(),
        )

    # -- writing -----------------------------------------------------------------------------------

    def write(self, change: IndexChange) -> None:
        """Apply one change."""
        records = change.records
        match change.operation:
            case "put_files":
                self._files |= latest_by_path(records)
            case "drop_files":
                _drop(self._files, records)
            case "replace_files":
                self._files = latest_by_path(records)
            case "put_contracts":
                self._merge_contracts(fill_in_contract, records)
            case "correct_contracts":
                self._merge_contracts(correct_contract, records)
            case "put_coverage":
                self._coverage |= latest_coverage(records)
            case "drop_coverage":
                _drop(self._coverage, latest_coverage(records))
            case "replace_coverage":
                self._coverage = latest_coverage(records)
            case "put_companions":
                self._companions |= latest_by_path(records)
            case "drop_companions":
                _drop(self._companions, records)
            case "put_archived":
                self._archived |= latest_by_path(records)
            case "drop_archived":
                _drop(self._archived, records)

    def _merge_contracts(
        self,
        merge: Callable[[ContractRecord | None, ContractRecord], ContractRecord],
        records: Iterable[ContractRecord],
    ) -> None:
        for record in records:
            known = self._contracts.get(record.contract_id)
            self._contracts[record.contract_id] = merge(known, record)

    # -- reading -----------------------------------------------------------------------------------

    def files(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[FileRecord]:
        """Return the files that may hold messages in ``[start_ns, end_ns)``; see IndexReads."""
        ids = None if contract_ids is None else frozenset(contract_ids)
        matching = (
            file
            for file in self._files.values()
            if _is_selected(file, ids, tick_types) and may_contain(file, start_ns, end_ns)
        )
        return sorted(matching, key=lambda f: (f.contract_id, f.tick_type, f.hour_ns, f.path))

    def paths(self) -> set[str]:
        """Return the paths of all files."""
        return set(self._files)

    def streams(self) -> set[StreamKey]:
        """Return the streams that have captured files."""
        return {file.stream for file in self._files.values() if not file.backfilled}

    def tick_ranges(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> dict[StreamKey, tuple[int, int]]:
        """Return the times of the first and the last tick in the sealed files of each stream."""
        ranges: dict[StreamKey, tuple[int, int]] = {}
        for file in self.files(contract_ids, tick_types):
            first, last = file.first_tick_ns, file.last_tick_ns
            if file.sealed and first is not None and last is not None:
                stream = file.stream
                earliest, latest = ranges.get(stream, (first, last))
                ranges[stream] = min(earliest, first), max(latest, last)
        return ranges

    def last_ticks(self, streams: Collection[StreamKey]) -> dict[StreamKey, int]:
        """Return the time of the last tick of the last day with statistics; see IndexReads."""
        chosen = set(streams)
        return {
            StreamKey(day.contract_id, day.tick_type): day.last_tick_ns
            for day in self.daily_stats()  # the last day of a stream comes last
            if day.last_tick_ns is not None and StreamKey(day.contract_id, day.tick_type) in chosen
        }

    def open_files(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[FileRecord]:
        """Return the files that are not sealed, by contract, tick type and hour."""
        return [file for file in self.files(contract_ids, tick_types) if not file.sealed]

    def contracts(self) -> list[ContractRecord]:
        """Return all contracts, by id."""
        return [self._contracts[key] for key in sorted(self._contracts)]

    def daily_stats(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[DailyStats]:
        """Return daily statistics, by contract, tick type and date."""
        return daily_statistics(self.files(contract_ids, tick_types))

    def coverage(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CoverageRecord]:
        """Return the intervals that meet ``[start_ns, end_ns)``; see IndexReads."""
        ids = None if contract_ids is None else frozenset(contract_ids)
        matching = (
            interval
            for interval in self._coverage.values()
            if _is_selected(interval, ids, tick_types) and _meets(interval, start_ns, end_ns)
        )
        return sorted(matching, key=lambda c: (c.contract_id, c.tick_type, c.start_ns))

    def companions(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CompanionRecord]:
        """Return the companions of the days that meet ``[start_ns, end_ns)``; see IndexReads."""
        ids = None if contract_ids is None else frozenset(contract_ids)
        matching = (
            companion
            for companion in self._companions.values()
            if _is_selected(companion, ids, tick_types)
            and _is_ordered(start_ns, end_ns)
            and (start_ns is None or companion.day_ns + DAY_NS > start_ns)
            and (end_ns is None or companion.day_ns < end_ns)
        )
        return sorted(matching, key=lambda c: (c.contract_id, c.tick_type, c.day_ns))

    def archived(self, paths: Sequence[str] | None = None) -> list[ArchivedCopy]:
        """Return the archived copies of some hour files, or of all, by path; see IndexReads."""
        names = self._archived if paths is None else self._archived.keys() & set(paths)
        return [self._archived[path] for path in sorted(names)]


# -- rules -----------------------------------------------------------------------------------------


def may_contain(file: FileRecord, start_ns: int | None, end_ns: int | None) -> bool:
    """Return whether a file may hold messages in ``[start_ns, end_ns)``; None leaves a side open.

    A sealed file reaches from its earliest to its latest message, both inclusive. An open one may
    be ahead of its record, so it reaches from the start of its hour to the end of time.
    """
    first = file.start_ns if file.sealed else min(file.start_ns, file.hour_ns)
    return (
        _is_ordered(start_ns, end_ns)
        and (end_ns is None or first < end_ns)
        and (start_ns is None or not file.sealed or file.end_ns >= start_ns)
    )


def fill_in_contract(known: ContractRecord | None, record: ContractRecord) -> ContractRecord:
    """Return the known contract, its empty fields filled in from ``record``."""
    if known is None:
        return record
    return ContractRecord(
        known.contract_id,
        known.symbol or record.symbol,
        known.exchange or record.exchange,
        known.currency or record.currency,
        known.contract_type or record.contract_type,
    )


def correct_contract(known: ContractRecord | None, record: ContractRecord) -> ContractRecord:
    """Return ``record``, its empty fields filled in from the known contract."""
    return record if known is None else fill_in_contract(record, known)


def latest_by_path(records: Iterable[_PathRecord]) -> dict[str, _PathRecord]:
    """Return files, companions or archived copies by path; the last record of a path counts."""
    return {record.path: record for record in records}


def latest_coverage(
    records: Iterable[CoverageRecord],
) -> dict[tuple[int, str, int], CoverageRecord]:
    """Return intervals by stream and start; the last record of each counts."""
    return {(record.contract_id, record.tick_type, record.start_ns): record for record in records}


def _drop(records: dict[_K, Any], keys: Iterable[_K]) -> None:
    for key in keys:
        records.pop(key, None)


def _is_selected(
    record: FileRecord | CoverageRecord | CompanionRecord,
    contract_ids: Collection[int] | None,
    tick_types: Collection[str] | None,
) -> bool:
    return (contract_ids is None or record.contract_id in contract_ids) and (
        tick_types is None or record.tick_type in tick_types
    )


def _is_ordered(start_ns: int | None, end_ns: int | None) -> bool:
    return start_ns is None or end_ns is None or start_ns < end_ns


def _meets(interval: CoverageRecord, start_ns: int | None, end_ns: int | None) -> bool:
    ends_after = (
        start_ns is None
        or interval.end_ns is None
        or interval.end_ns > start_ns
        or interval.start_ns >= start_ns
    )
    return (
        _is_ordered(start_ns, end_ns)
        and ends_after
        and (end_ns is None or interval.start_ns < end_ns)
    )


# -- daily statistics ------------------------------------------------------------------------------


def utc_date(ns: int) -> str:
    """Return the UTC day of a time in nanoseconds.

    Examples
    --------
    >>> utc_date(1_736_519_400_000_000_000)
    '2025-01-10'
    """
    return datetime.fromtimestamp(ns // DAY_NS * 86_400, UTC).date().isoformat()


def daily_statistics(records: Iterable[FileRecord]) -> list[DailyStats]:
    """Return statistics by contract, tick type and UTC day.

    Backfilled files do not count: their times are whole seconds, and their content depends on what
    was requested.

    Parameters
    ----------
    records : iterable of FileRecord
        All files of the days, in any order.

    Examples
    --------
    >>> from ibticks.index import FileRecord
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
        min_price=min(_present(nan_to_none(file.min_price) for file in files), default=None),
        max_price=max(_present(nan_to_none(file.max_price) for file in files), default=None),
        avg_price=_ratio(
            _sum(file.sum_price for file in files), float(sum(file.priced_ticks for file in files))
        ),
        volume=nan_to_none(volume),
        vwap=_ratio(_sum(file.notional for file in files), volume),
    )


def _present(values: Iterable[_T | None]) -> list[_T]:
    return [value for value in values if value is not None]


def _sum(values: Iterable[float | None]) -> float | None:
    """Add left to right: ``sum`` compensates from Python 3.12 on, SQL does not."""
    total: float | None = None
    for value in map(nan_to_none, values):
        if value is not None:
            total = value if total is None else total + value
    return total


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None or b == 0 else nan_to_none(a / b)
