"""Records of the index as plain values, and their JSON encoding.

Nothing here needs a database: the storage package fills these records from the files, and every
index stores and returns them. Times are UTC nanoseconds (int64), since PostgreSQL's own timestamps
stop at the microsecond.

The journal, the catalogue and the database share one encoding. A record becomes a flat object of
its attribute names; the blocks of a file become eight arrays ``block_offset``, ``block_size`` and
so on. Numbers are exact; an infinite one, which JSON lacks, is the string ``"Infinity"`` or
``"-Infinity"``, which PostgreSQL reads too.
"""

from __future__ import annotations

import json
import math
import operator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Self

from ibticks._types import StreamKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibticks._types import Interval

__all__ = [
    "ARCHIVED_FIELDS",
    "BLOCK_FIELDS",
    "COMPANION_FIELDS",
    "COMPANION_HOUR_FIELDS",
    "FILE_FIELDS",
    "ArchivedCopy",
    "Block",
    "CompanionHour",
    "CompanionRecord",
    "ContractRecord",
    "CoverageRecord",
    "DailyStats",
    "FileRecord",
    "QueryResult",
    "dump_json",
    "nan_to_none",
]


@dataclass(frozen=True, slots=True)
class Block:
    """A block of an hour file: about 1 MiB of whole frames.

    Attributes
    ----------
    offset, size : int
        Position and number of the stored bytes in the file.
    raw_size : int
        Bytes of the frames once decompressed; equal to ``size`` in a plain file.
    messages : int
        Number of frames.
    first_ns, min_ns, max_ns : int
        Time of the first message, and the earliest and latest time (both inclusive).
    crc32c : int
        CRC-32C of the stored bytes.
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
    """One file of a store: a row of ``tick_files``.

    Attributes
    ----------
    path : str
        Relative to the store's root, with forward slashes.
    contract_id : int
    tick_type : str
    hour_ns : int
        Start of the UTC hour of the file.
    start_ns, end_ns : int
        Earliest and latest message (inclusive). An open file counts as reaching to the end of time.
    size : int
        Bytes on disk, header included.
    messages, ticks : int
        Frames after the header, and ticks among them.
    compression : str
        ``none``, ``gzip``, ``zstd`` or ``snappy``.
    sealed : bool
    crc32c : int or None
        CRC-32C of all bytes after the header frame; None while the file is open.
    first_tick_ns, last_tick_ns : int or None
        Earliest and latest tick.
    first_sequence, last_sequence : int or None
        Smallest and largest sequence number.
    min_price, max_price : float or None
        Range of ``price`` (last, all_last) or ``mid_price`` (mid_point), or lowest bid and
        highest ask.
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
        """Return whether the ticks come from a backfill, by the name of the file."""
        return self.path.endswith("-backfill_ticks.pb")

    @property
    def stream(self) -> StreamKey:
        """The stream of the file."""
        return StreamKey(self.contract_id, self.tick_type)

    def is_inside(self, interval: Interval) -> bool:
        """Return whether all messages of a sealed file lie in an interval."""
        return interval.start_ns <= self.start_ns and self.end_ns < interval.end_ns

    def to_dict(self, *, blocks: bool = True) -> dict[str, Any]:
        """Return the record as an object that :func:`dump_json` encodes.

        Parameters
        ----------
        blocks : bool
            Whether to include the blocks.

        Examples
        --------
        >>> record = FileRecord("1/last/2025/01/10/14_ticks.pb", 1, "last", 0, 0, 9, 256, 0, 0)
        >>> FileRecord.from_dict(record.to_dict()) == record
        True
        """
        plain: dict[str, Any] = {name: getattr(self, name) for name in FILE_FIELDS}
        for name in _FLOAT_FIELDS:
            plain[name] = _float_to_json(plain[name])
        if blocks:
            for name in BLOCK_FIELDS:
                plain[f"block_{name}"] = [getattr(block, name) for block in self.blocks]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the record that :meth:`to_dict` encoded; it may lack the blocks."""
        values = {name: plain[name] for name in FILE_FIELDS}
        for name in _FLOAT_FIELDS:
            values[name] = None if values[name] is None else float(values[name])
        columns = [plain.get(f"block_{name}", ()) for name in BLOCK_FIELDS]
        return cls(**values, blocks=tuple(map(Block, *columns)))


@dataclass(frozen=True, slots=True)
class ContractRecord:
    """One contract: a row of ``contracts``. Unknown fields are empty strings."""

    contract_id: int
    symbol: str
    exchange: str = ""
    currency: str = ""
    contract_type: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as an object that :func:`dump_json` encodes."""
        return {name: getattr(self, name) for name in _CONTRACT_FIELDS}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the record that :meth:`to_dict` encoded."""
        return cls(**{name: plain[name] for name in _CONTRACT_FIELDS})


@dataclass(frozen=True, slots=True)
class DailyStats:
    """One UTC day of one stream: a row of ``daily_tick_stats``.

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
    """An interval ``[start_ns, end_ns)`` of a stream, with the state of the capture in it.

    ``state`` is ``captured``, ``backfilled``, ``session_closed``, ``quiet``, ``disconnected``,
    ``not_permitted`` or ``deleted`` (:class:`ibticks.coverage.CoverageState` explains each);
    ``reason`` is an IB code, or words. ``end_ns`` is None while the interval lasts.
    """

    contract_id: int
    tick_type: str
    start_ns: int
    end_ns: int | None
    state: str
    reason: str = ""

    @property
    def stream(self) -> StreamKey:
        """The stream of the interval."""
        return StreamKey(self.contract_id, self.tick_type)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as an object that :func:`dump_json` encodes."""
        return {name: getattr(self, name) for name in _COVERAGE_FIELDS}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the record that :meth:`to_dict` encoded."""
        return cls(**{name: plain[name] for name in _COVERAGE_FIELDS})


@dataclass(frozen=True, slots=True)
class CompanionHour:
    """An hour file of a companion, as it was when its ticks were read.

    Attributes
    ----------
    path : str
        Relative to the store's root.
    size, crc32c : int
        Bytes on disk, and CRC-32C of the bytes after the header frame. While those in the index are
        the same, the companion has the ticks of the file.
    rows : int or None
        Number of its ticks; None if the companion lacks them, since they cannot be in it (damage,
        ticks of another hour): loads read the file.
    """

    path: str
    size: int
    crc32c: int
    rows: int | None


@dataclass(frozen=True, slots=True)
class CompanionRecord:
    """One columnar companion: the sealed hours of a stream and a UTC day, as a Parquet file.

    Attributes
    ----------
    path : str
        Relative to the store's root, with forward slashes.
    contract_id : int
    tick_type : str
    day_ns : int
        Start of the UTC day.
    rows : int
        Number of ticks.
    size, crc32c : int
        Bytes of the file, and CRC-32C of all of them.
    inode, modified_ns, changed_ns : int
        Inode and times of the file once it was in its place. While they are the same, so are its
        bytes; after a copy of the store they differ, and the checksum decides.
    hours : tuple of CompanionHour
        In order of time.
    """

    path: str
    contract_id: int
    tick_type: str
    day_ns: int
    rows: int
    size: int
    crc32c: int
    inode: int
    modified_ns: int
    changed_ns: int
    hours: tuple[CompanionHour, ...]

    @property
    def stream(self) -> StreamKey:
        """The stream of the companion."""
        return StreamKey(self.contract_id, self.tick_type)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as an object that :func:`dump_json` encodes.

        Examples
        --------
        >>> hour = CompanionHour("1/last/2025/01/10/14_ticks.pb", 900, 7, 10)
        >>> record = CompanionRecord("1.parquet", 1, "last", 0, 10, 99, 8, 5, 1, 1, (hour,))
        >>> CompanionRecord.from_dict(record.to_dict()) == record
        True
        """
        plain: dict[str, Any] = {name: getattr(self, name) for name in COMPANION_FIELDS}
        for name in COMPANION_HOUR_FIELDS:
            plain[f"hour_{name}"] = [getattr(hour, name) for hour in self.hours]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the record that :meth:`to_dict` encoded."""
        columns = [plain[f"hour_{name}"] for name in COMPANION_HOUR_FIELDS]
        hours = tuple(map(CompanionHour, *columns))
        return cls(**{name: plain[name] for name in COMPANION_FIELDS}, hours=hours)


@dataclass(frozen=True, slots=True)
class ArchivedCopy:
    """A verified copy of an hour file in an object store: a row of ``archived_files``.

    Attributes
    ----------
    path : str
        Path of the hour file, relative to the store's root.
    location : str
        URL of the copy.
    size, crc32c : int
        Bytes of the copy, and CRC-32C of the bytes after the header frame. While those of the
        :class:`FileRecord` are the same, the copy has the ticks of the file.
    file_crc32c : int
        CRC-32C of all bytes.
    e_tag : str
        Entity tag of the copy when it was compared; empty where the object store has none.
    verified_ns : int
        Time when the copy was read back and compared with the file, UTC nanoseconds.
    """

    path: str
    location: str
    size: int
    crc32c: int
    file_crc32c: int
    e_tag: str
    verified_ns: int

    def is_copy_of(self, record: FileRecord) -> bool:
        """Return whether it has the bytes of a file, by the file's row."""
        return (
            record.sealed
            and record.path == self.path
            and record.size == self.size
            and record.crc32c == self.crc32c
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as an object that :func:`dump_json` encodes.

        Examples
        --------
        >>> copy = ArchivedCopy("1/last/2025/01/10/14_ticks.pb", "s3://ticks/a", 900, 7, 8, "", 9)
        >>> ArchivedCopy.from_dict(copy.to_dict()) == copy
        True
        """
        return {name: getattr(self, name) for name in ARCHIVED_FIELDS}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the record that :meth:`to_dict` encoded."""
        return cls(**{name: plain[name] for name in ARCHIVED_FIELDS})


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows of an SQL query, with the name and the PostgreSQL type of each column.

    Attributes
    ----------
    columns : tuple of str
        Unique names: the second column of the name ``a`` is ``a_1``, the third ``a_2``.
    types : tuple of str
        Type names as PostgreSQL writes them: ``bigint``, ``timestamp with time zone``, ``text[]``.
    rows : list of tuple
        Times in UTC.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dictionary per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


FILE_FIELDS: Final = tuple(field.name for field in fields(FileRecord) if field.name != "blocks")
"""Attributes of a file without its blocks, in order."""

BLOCK_FIELDS: Final = tuple(field.name for field in fields(Block))
"""Attributes of a block, in order."""

COMPANION_FIELDS: Final = tuple(
    field.name for field in fields(CompanionRecord) if field.name != "hours"
)
"""Attributes of a companion without its hours, in order."""

COMPANION_HOUR_FIELDS: Final = tuple(field.name for field in fields(CompanionHour))
"""Attributes of an hour of a companion, in order."""

ARCHIVED_FIELDS: Final = tuple(field.name for field in fields(ArchivedCopy))
"""Attributes of an archived copy, in order."""

_FLOAT_FIELDS: Final = ("min_price", "max_price", "sum_price", "volume", "notional")
_CONTRACT_FIELDS: Final = tuple(field.name for field in fields(ContractRecord))
_COVERAGE_FIELDS: Final = tuple(field.name for field in fields(CoverageRecord))


def dump_json(value: Any) -> str:
    """Encode as compact JSON; numpy integers are integers too."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, default=operator.index)


def nan_to_none(value: float | None) -> float | None:
    """Return the number, or None for NaN."""
    return None if value is None or math.isnan(value) else value


def _float_to_json(value: float | None) -> float | str | None:
    value = nan_to_none(value)
    if value is None or math.isfinite(value):
        return value
    return "Infinity" if value > 0 else "-Infinity"
