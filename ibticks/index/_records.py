"""What the index keeps, as plain values, and the protocol a room speaks to it.

Nothing here needs a database: storage fills these records from the files, and any index (the
PostgreSQL one, the read-only catalogue, one of your own) keeps and returns them. Times are UTC
nanoseconds (int64), since PostgreSQL's own timestamps stop at the microsecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "QUERY_SECONDS",
    "Block",
    "ContractRecord",
    "CoverageRecord",
    "DailyStats",
    "FileRecord",
    "Index",
    "QueryResult",
]

QUERY_SECONDS: Final = 60.0
"""Time limit of a user's SQL query, unless the caller gives another."""


@dataclass(frozen=True, slots=True)
class Block:
    """About 1 MiB of whole frames inside a file.

    Attributes
    ----------
    offset, size : int
        Where its stored bytes begin in the file, and how many they are.
    raw_size : int
        Bytes of its frames once decompressed; equal to ``size`` in a plain file.
    messages : int
        Frames in it.
    first_ns, min_ns, max_ns : int
        Time of its first message, and the earliest and latest time in it (both inclusive).
    crc32c : int
        CRC-32C of its stored bytes.
    """

    offset: int
    size: int
    raw_size: int
    messages: int
    first_ns: int
    min_ns: int
    max_ns: int
    crc32c: int


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a store: what a row of ``tick_files`` says.

    Attributes
    ----------
    path : str
        Relative to the store's root, with forward slashes.
    contract_id : int
    tick_type : str
    hour_ns : int
        Start of the UTC hour the file is for.
    start_ns, end_ns : int
        Earliest and latest message (inclusive). An open file is taken to reach to the end of time.
    size : int
        Bytes on disk, header included.
    messages, ticks : int
        Frames after the header, and how many of them are ticks.
    compression : str
        ``none``, ``gzip``, ``zstd`` or ``snappy``.
    sealed : bool
    crc32c : int or None
        Of all bytes after the header frame; None while the file is open.
    first_tick_ns, last_tick_ns : int or None
        Earliest and latest tick.
    first_sequence, last_sequence : int or None
        Smallest and largest sequence number.
    min_price, max_price : float or None
        Of ``price`` (last, all_last), ``mid_price`` (mid_point), or lowest bid and highest ask.
    sum_price : float or None
        Sum of ``price``, of ``mid_price``, or of the mids of two-sided quotes; with
        ``priced_ticks`` it gives a mean over several files.
    priced_ticks : int
        Ticks that entered ``sum_price``.
    volume, notional : float or None
        Sum of ``size`` and of ``price * size``; None unless trades.
    blocks : tuple of Block
    """

    path: str
    contract_id: int
    tick_type: str
    hour_ns: int
    start_ns: int
    end_ns: int
    size: int
    messages: int
    ticks: int
    compression: str = "none"
    sealed: bool = False
    crc32c: int | None = None
    first_tick_ns: int | None = None
    last_tick_ns: int | None = None
    first_sequence: int | None = None
    last_sequence: int | None = None
    min_price: float | None = None
    max_price: float | None = None
    sum_price: float | None = None
    priced_ticks: int = 0
    volume: float | None = None
    notional: float | None = None
    blocks: tuple[Block, ...] = ()

    @property
    def backfilled(self) -> bool:
        """Whether its ticks were asked of IB afterwards, and not captured: its path tells."""
        return self.path.endswith("-backfill_ticks.pb")


@dataclass(frozen=True, slots=True)
class ContractRecord:
    """One contract: what a row of ``contracts`` says. Empty strings where nothing is known."""

    contract_id: int
    symbol: str
    exchange: str = ""
    currency: str = ""
    contract_type: str = ""


@dataclass(frozen=True, slots=True)
class DailyStats:
    """One UTC day of one contract and tick type: what a row of ``daily_tick_stats`` says.

    Backfilled files do not count.

    ``avg_price`` is the mean of the prices named in :class:`FileRecord`; ``vwap`` is
    ``sum(price * size) / sum(size)``, trades only.
    """

    contract_id: int
    tick_type: str
    date: str
    files: int
    messages: int
    ticks: int
    size: int
    first_tick_ns: int | None
    last_tick_ns: int | None
    min_price: float | None
    max_price: float | None
    avg_price: float | None
    volume: float | None
    vwap: float | None


@dataclass(frozen=True, slots=True)
class CoverageRecord:
    """An interval ``[start_ns, end_ns)`` of a stream and what the capture was doing in it.

    ``state`` is ``captured``, ``backfilled``, ``session_closed``, ``quiet``, ``disconnected``,
    ``not_permitted`` or ``deleted`` (:data:`ibticks.coverage.MEANINGS` says what each
    means); ``reason`` says why (an IB code, or words). ``end_ns`` is None while the interval lasts.
    """

    contract_id: int
    tick_type: str
    start_ns: int
    end_ns: int | None
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows, with the name and the PostgreSQL type of each column, also where there are no rows.

    Attributes
    ----------
    columns : tuple of str
        Names. The second column of the name ``a`` is ``a_1``, the third ``a_2``.
    types : tuple of str
        As PostgreSQL writes them: ``bigint``, ``timestamp with time zone``, ``text[]``.
    rows : list of tuple
        Times in UTC.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dictionary per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Index(Protocol):
    """What the rooms above need of an index."""

    @property
    def writable(self) -> bool:
        """Whether changes are kept (at once, or through the journal)."""

    def describe(self) -> str:
        """Where the index lives, in words, for a person."""

    def files(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[FileRecord]:
        """Files that may hold messages in ``[start_ns, end_ns)``, by contract, type and hour."""

    def streams(self) -> set[tuple[int, str]]:
        """Return the contract ids and tick types that have captured files."""

    def tick_ranges(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> dict[tuple[int, str], tuple[int, int]]:
        """Return the first and last tick in the sealed files of each stream that has any."""

    def open_files(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[FileRecord]:
        """Return the files that are not sealed, by contract, type and hour."""

    def put_files(self, records: Iterable[FileRecord]) -> None:
        """Insert or replace rows by path; the daily statistics of their days follow."""

    def drop_files(self, paths: Iterable[str]) -> None:
        """Remove rows by path; the daily statistics of their days follow."""

    def replace_files(self, records: Iterable[FileRecord]) -> None:
        """Make these rows, and no others, the index (a rebuild)."""

    def contracts(self) -> list[ContractRecord]:
        """Every contract known, by id."""

    def put_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or fill in what a known one lacks (what a capture learns of IB)."""

    def correct_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or replace what is known of them by what is not empty (a user's)."""

    def daily_stats(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[DailyStats]:
        """Daily statistics, by contract, tick type and date."""

    def coverage(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CoverageRecord]:
        """Intervals that reach into ``[start_ns, end_ns)``, by contract, type and start."""

    def put_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Insert intervals, or replace those of the same stream and start (to close one)."""

    def drop_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Remove the intervals of these streams and starts."""

    def close(self) -> None:
        """Let go of connections; the embedded server stops with its last user."""
