"""The index protocol: typed reads, and writes that are all one :class:`IndexChange`.

An implementation derives from :class:`IndexWrites` and defines ``write`` and the reads. An index in
front of another one derives from :class:`ForwardingIndex` and defines ``write`` and ``_forward``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from ibticks._types import StreamKey
    from ibticks.index._records import (
        ArchivedCopy,
        CompanionRecord,
        ContractRecord,
        CoverageRecord,
        DailyStats,
        FileRecord,
        QueryResult,
    )

__all__ = [
    "ForwardingIndex",
    "Index",
    "IndexChange",
    "IndexReads",
    "IndexWrites",
    "Operation",
    "QueryMethods",
    "ReadScope",
]

_T = TypeVar("_T")

Operation: TypeAlias = Literal[
    "put_files",
    "drop_files",
    "replace_files",
    "put_contracts",
    "correct_contracts",
    "put_coverage",
    "drop_coverage",
    "replace_coverage",
    "put_companions",
    "drop_companions",
    "put_archived",
    "drop_archived",
]
"""Names of the write methods of :class:`IndexWrites`."""


@dataclass(frozen=True, slots=True)
class IndexChange:
    """One write: the name of a method of :class:`IndexWrites` and its records (or paths)."""

    operation: Operation
    records: tuple[Any, ...]


class IndexReads(Protocol):
    """Read methods of an index."""

    def files(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[FileRecord]:
        """Return the files that may hold messages in ``[start_ns, end_ns)``.

        Sorted by contract, tick type, hour and path. None leaves a side of the interval open.
        """

    def streams(self) -> set[StreamKey]:
        """Return the streams that have captured files."""

    def tick_ranges(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> dict[StreamKey, tuple[int, int]]:
        """Return the times of the first and the last tick in the sealed files of each stream."""

    def last_ticks(self, streams: Collection[StreamKey]) -> dict[StreamKey, int]:
        """Return the time of the last tick of the last day with statistics of each stream.

        Backfills, and files that are not sealed, have none; a stream without any is left out. The
        time it takes does not depend on the number of days.
        """

    def open_files(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[FileRecord]:
        """Return the files that are not sealed, by contract, tick type and hour."""

    def contracts(self) -> list[ContractRecord]:
        """Return all contracts, by id."""

    def daily_stats(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[DailyStats]:
        """Return daily statistics, by contract, tick type and date."""

    def coverage(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CoverageRecord]:
        """Return the intervals that meet ``[start_ns, end_ns)``, by contract, type and start.

        An interval without an end lasts; an empty one meets a range that contains its start.
        """

    def companions(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CompanionRecord]:
        """Return the companions of the UTC days that meet ``[start_ns, end_ns)``.

        Sorted by contract, tick type and day. Whether they are fresh is for the caller to compare.
        """

    def archived(self, paths: Sequence[str] | None = None) -> list[ArchivedCopy]:
        """Return the archived copies of some hour files, or of all, by path.

        Whether a copy has the bytes of its file now is for the caller to compare.
        """


class Index(IndexReads, Protocol):
    """An index as the other packages use it."""

    @property
    def writable(self) -> bool:
        """Return whether changes are stored (at once, or through the journal)."""

    def describe(self) -> str:
        """Return the location of the index for a person, without a password."""

    def write(self, change: IndexChange) -> None:
        """Apply one change."""

    def put_files(self, records: Iterable[FileRecord]) -> None:
        """Insert or replace files by path."""

    def drop_files(self, paths: Iterable[str]) -> None:
        """Remove files by path."""

    def replace_files(self, records: Iterable[FileRecord]) -> None:
        """Replace all files."""

    def put_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or fill in the empty fields of known ones."""

    def correct_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or overwrite fields of known ones with those that are not empty."""

    def put_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Insert or replace coverage intervals by stream and start."""

    def drop_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Remove coverage intervals by stream and start."""

    def replace_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Replace all coverage intervals."""

    def put_companions(self, records: Iterable[CompanionRecord]) -> None:
        """Insert or replace companions by path."""

    def drop_companions(self, paths: Iterable[str]) -> None:
        """Remove companions by path."""

    def put_archived(self, records: Iterable[ArchivedCopy]) -> None:
        """Insert or replace archived copies by the path of their file."""

    def drop_archived(self, paths: Iterable[str]) -> None:
        """Remove archived copies by the path of their file."""

    def close(self) -> None:
        """Close the connections; the embedded server stops with its last user."""


class IndexWrites(ABC):
    """Write methods of an index, all of which call :meth:`write` with one :class:`IndexChange`."""

    @abstractmethod
    def write(self, change: IndexChange) -> None:
        """Apply one change."""

    def put_files(self, records: Iterable[FileRecord]) -> None:
        """Insert or replace files by path; the daily statistics of their days follow."""
        self.write(IndexChange("put_files", tuple(records)))

    def drop_files(self, paths: Iterable[str]) -> None:
        """Remove files by path; the daily statistics of their days follow."""
        self.write(IndexChange("drop_files", tuple(paths)))

    def replace_files(self, records: Iterable[FileRecord]) -> None:
        """Replace all files at once, as a rebuild does."""
        self.write(IndexChange("replace_files", tuple(records)))

    def put_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or fill in the empty fields of known ones (from IB)."""
        self.write(IndexChange("put_contracts", tuple(records)))

    def correct_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or overwrite known ones with the fields that are not empty.

        For a user's correction, which counts more than what IB sent.
        """
        self.write(IndexChange("correct_contracts", tuple(records)))

    def put_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Insert coverage intervals, or replace those of the same stream and start (to end one)."""
        self.write(IndexChange("put_coverage", tuple(records)))

    def drop_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Remove the coverage intervals of these streams and starts."""
        self.write(IndexChange("drop_coverage", tuple(records)))

    def replace_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Replace all coverage intervals at once, as a rebuild does."""
        self.write(IndexChange("replace_coverage", tuple(records)))

    def put_companions(self, records: Iterable[CompanionRecord]) -> None:
        """Insert or replace companions by path."""
        self.write(IndexChange("put_companions", tuple(records)))

    def drop_companions(self, paths: Iterable[str]) -> None:
        """Remove companions by path."""
        self.write(IndexChange("drop_companions", tuple(paths)))

    def put_archived(self, records: Iterable[ArchivedCopy]) -> None:
        """Insert or replace archived copies by the path of their file."""
        self.write(IndexChange("put_archived", tuple(records)))

    def drop_archived(self, paths: Iterable[str]) -> None:
        """Remove archived copies by the path of their file."""
        self.write(IndexChange("drop_archived", tuple(paths)))

    def close(self) -> None:  # noqa: B027
        """Release nothing: an index without connections has nothing to close."""


class ReadScope(NamedTuple):
    """The records that a read depends on: a table and its filters."""

    table: Literal["files", "contracts", "coverage", "companions", "archived"]
    contract_ids: Sequence[int] | None = None
    tick_types: Sequence[str] | None = None
    start_ns: int | None = None
    end_ns: int | None = None


class ForwardingIndex(IndexWrites):
    """An index whose reads are answered by another one, which :meth:`_forward` chooses."""

    @abstractmethod
    def _forward(self, read: Callable[[IndexReads], _T], scope: ReadScope) -> _T:
        """Call ``read`` with the index that answers.

        Parameters
        ----------
        read : callable
        scope : ReadScope
            The records that the result depends on.
        """

    def files(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[FileRecord]:
        """Return the files that may hold messages in ``[start_ns, end_ns)``; see IndexReads."""
        return self._forward(
            lambda index: index.files(contract_ids, tick_types, start_ns, end_ns),
            ReadScope("files", contract_ids, tick_types, start_ns, end_ns),
        )

    def streams(self) -> set[StreamKey]:
        """Return the streams that have captured files."""
        return self._forward(lambda index: index.streams(), ReadScope("files"))

    def tick_ranges(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> dict[StreamKey, tuple[int, int]]:
        """Return the times of the first and the last tick in the sealed files of each stream."""
        return self._forward(
            lambda index: index.tick_ranges(contract_ids, tick_types),
            ReadScope("files", contract_ids, tick_types),
        )

    def last_ticks(self, streams: Collection[StreamKey]) -> dict[StreamKey, int]:
        """Return the time of the last tick of the last day with statistics of each stream."""
        return self._forward(
            lambda index: index.last_ticks(streams),
            ReadScope(
                "files",
                sorted({contract_id for contract_id, _ in streams}),
                sorted({tick_type for _, tick_type in streams}),
            ),
        )

    def open_files(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[FileRecord]:
        """Return the files that are not sealed, by contract, tick type and hour."""
        return self._forward(
            lambda index: index.open_files(contract_ids, tick_types),
            ReadScope("files", contract_ids, tick_types),
        )

    def contracts(self) -> list[ContractRecord]:
        """Return all contracts, by id."""
        return self._forward(lambda index: index.contracts(), ReadScope("contracts"))

    def daily_stats(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[DailyStats]:
        """Return daily statistics, by contract, tick type and date."""
        return self._forward(
            lambda index: index.daily_stats(contract_ids, tick_types),
            ReadScope("files", contract_ids, tick_types),
        )

    def coverage(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CoverageRecord]:
        """Return the intervals that meet ``[start_ns, end_ns)``; see IndexReads."""
        return self._forward(
            lambda index: index.coverage(contract_ids, tick_types, start_ns, end_ns),
            ReadScope("coverage", contract_ids, tick_types, start_ns, end_ns),
        )

    def companions(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CompanionRecord]:
        """Return the companions of the days that meet ``[start_ns, end_ns)``; see IndexReads."""
        return self._forward(
            lambda index: index.companions(contract_ids, tick_types, start_ns, end_ns),
            ReadScope("companions", contract_ids, tick_types, start_ns, end_ns),
        )

    def archived(self, paths: Sequence[str] | None = None) -> list[ArchivedCopy]:
        """Return the archived copies of some hour files, or of all, by path; see IndexReads."""
        return self._forward(lambda index: index.archived(paths), ReadScope("archived"))


class QueryMethods(ABC):
    """SQL queries of users, for an index in PostgreSQL."""

    @abstractmethod
    def read_query(
        self,
        sql: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
    ) -> QueryResult:
        """Run one SQL statement that reads."""

    def query(
        self, sql: str, params: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run one SQL statement that reads, and return a dictionary per row.

        :meth:`read_query` also returns the columns of an empty result.
        """
        return self.read_query(sql, params).to_dicts()
