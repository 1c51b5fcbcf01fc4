"""An index in memory: the rules of the index in plain Python.

It serves the catalogue file, what a journal makes of it while the server is away, and tests. The
PostgreSQL index keeps the same rules in SQL; tests hold the two together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks.index._records import ContractRecord
from ibticks.index._statistics import daily_statistics

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from ibticks.index._records import CoverageRecord, DailyStats, FileRecord

__all__ = ["MemoryIndex", "corrected", "fill_in", "latest_coverage", "latest_files", "may_hold"]


class MemoryIndex:
    """An :class:`~ibticks.index.Index` that is gone with its process.

    Examples
    --------
    >>> from ibticks.index._records import ContractRecord
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
    ) -> None:
        self._files = latest_files(files)
        self._contracts: dict[int, ContractRecord] = {}
        self._coverage = latest_coverage(coverage)
        self.put_contracts(contracts)

    @property
    def writable(self) -> bool:
        """True: changes are kept, as long as the process lives."""
        return True

    def describe(self) -> str:
        """Where it is, in words."""
        return "in memory"

    def copy(self) -> MemoryIndex:
        """Another index with the same records."""
        return MemoryIndex(self._files.values(), self._contracts.values(), self._coverage.values())

    def files(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[FileRecord]:
        """Files that may hold messages in ``[start_ns, end_ns)``, by contract, type and hour."""
        ids = None if contract_ids is None else frozenset(contract_ids)
        chosen = (
            file
            for file in self._files.values()
            if _of_streams(file, ids, tick_types) and may_hold(file, start_ns, end_ns)
        )
        return sorted(chosen, key=lambda f: (f.contract_id, f.tick_type, f.hour_ns, f.path))

    def put_files(self, records: Iterable[FileRecord]) -> None:
        """Insert or replace files by path."""
        self._files |= latest_files(records)

    def drop_files(self, paths: Iterable[str]) -> None:
        """Remove files by path."""
        for path in paths:
            self._files.pop(path, None)

    def replace_files(self, records: Iterable[FileRecord]) -> None:
        """Make these files, and no others, the index."""
        self._files = latest_files(records)

    def paths(self) -> set[str]:
        """Return the paths of all files."""
        return set(self._files)

    def streams(self) -> set[tuple[int, str]]:
        """Return the contract ids and tick types that have captured files."""
        return {
            (file.contract_id, file.tick_type)
            for file in self._files.values()
            if not file.backfilled
        }

    def tick_ranges(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> dict[tuple[int, str], tuple[int, int]]:
        """Return the first and last tick in the sealed files of each stream that has any."""
        ranges: dict[tuple[int, str], tuple[int, int]] = {}
        for file in self.files(contract_ids, tick_types):
            first, last = file.first_tick_ns, file.last_tick_ns
            if file.sealed and first is not None and last is not None:
                stream = file.contract_id, file.tick_type
                known = ranges.get(stream, (first, last))
                ranges[stream] = min(known[0], first), max(known[1], last)
        return ranges

    def open_files(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[FileRecord]:
        """Return the files that are not sealed, by contract, type and hour."""
        return [file for file in self.files(contract_ids, tick_types) if not file.sealed]

    def contracts(self) -> list[ContractRecord]:
        """Every contract known, by id."""
        return [self._contracts[key] for key in sorted(self._contracts)]

    def put_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or fill in what a known one lacks."""
        for record in records:
            known = self._contracts.get(record.contract_id)
            self._contracts[record.contract_id] = fill_in(known, record)

    def correct_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or replace what is known of them by what is not empty."""
        for record in records:
            known = self._contracts.get(record.contract_id)
            self._contracts[record.contract_id] = corrected(known, record)

    def daily_stats(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[DailyStats]:
        """Daily statistics, by contract, tick type and date."""
        return daily_statistics(self.files(contract_ids, tick_types))

    def coverage(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CoverageRecord]:
        """Intervals that meet ``[start_ns, end_ns)``, by contract, type and start.

        One without an end lasts; one of no length is where it starts.
        """
        ids = None if contract_ids is None else frozenset(contract_ids)
        chosen = (
            interval
            for interval in self._coverage.values()
            if _of_streams(interval, ids, tick_types) and _meets(interval, start_ns, end_ns)
        )
        return sorted(chosen, key=lambda c: (c.contract_id, c.tick_type, c.start_ns))

    def put_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Insert intervals, or replace those of the same stream and start (to close one)."""
        self._coverage |= latest_coverage(records)

    def drop_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Remove the intervals of these streams and starts."""
        for key in latest_coverage(records):
            self._coverage.pop(key, None)

    def replace_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Make these intervals, and no others, the ledger."""
        self._coverage = latest_coverage(records)

    def close(self) -> None:
        """Nothing to let go of."""


def may_hold(file: FileRecord, start_ns: int | None, end_ns: int | None) -> bool:
    """Whether a file may hold messages in ``[start_ns, end_ns)``; None leaves a side open.

    A sealed file reaches from its earliest to its latest message, both inclusive. An open one may
    be ahead of its record, so it reaches from the start of its hour to the end of time.
    """
    first = file.start_ns if file.sealed else min(file.start_ns, file.hour_ns)
    return (
        _ordered(start_ns, end_ns)
        and (end_ns is None or first < end_ns)
        and (start_ns is None or not file.sealed or file.end_ns >= start_ns)
    )


def fill_in(known: ContractRecord | None, record: ContractRecord) -> ContractRecord:
    """What is known of a contract, and from ``record`` what is not."""
    if known is None:
        return record
    return ContractRecord(
        known.contract_id,
        known.symbol or record.symbol,
        known.exchange or record.exchange,
        known.currency or record.currency,
        known.contract_type or record.contract_type,
    )


def corrected(known: ContractRecord | None, record: ContractRecord) -> ContractRecord:
    """What ``record`` says of a contract, and what is known where it says nothing."""
    return record if known is None else fill_in(record, known)


def latest_files(records: Iterable[FileRecord]) -> dict[str, FileRecord]:
    """Files by path; the last one given counts."""
    return {record.path: record for record in records}


def latest_coverage(
    records: Iterable[CoverageRecord],
) -> dict[tuple[int, str, int], CoverageRecord]:
    """Intervals by stream and start; the last one given counts."""
    return {(record.contract_id, record.tick_type, record.start_ns): record for record in records}


def _of_streams(
    record: FileRecord | CoverageRecord,
    contract_ids: Collection[int] | None,
    tick_types: Collection[str] | None,
) -> bool:
    return (contract_ids is None or record.contract_id in contract_ids) and (
        tick_types is None or record.tick_type in tick_types
    )


def _ordered(start_ns: int | None, end_ns: int | None) -> bool:
    return start_ns is None or end_ns is None or start_ns < end_ns


def _meets(interval: CoverageRecord, start_ns: int | None, end_ns: int | None) -> bool:
    ends_after = (
        start_ns is None
        or interval.end_ns is None
        or interval.end_ns > start_ns
        or interval.start_ns >= start_ns
    )
    return (
        _ordered(start_ns, end_ns) and ends_after and (end_ns is None or interval.start_ns < end_ns)
    )
