"""Read a whole file: its record for the index, its frames, its ticks.

The one place from which records of the index come: sealing, rebuilding the index, recovery and
verification all call it, so that they cannot disagree. Files are the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.config import COMPRESSIONS
from ibticks.errors import CorruptFileError
from ibticks.filesystem import explained
from ibticks.format import HEADER_BYTES, TORN, Decoder, Header, checksum, read_header, scan_frames
from ibticks.index import Block, FileRecord
from ibticks.schema import COLUMNS, TickColumns, Values, no_quote_mask, unset_mask
from ibticks.storage._blocks import iter_blocks
from ibticks.storage._file_header import check_place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from ibticks.schema import Column
    from ibticks.storage._layout import FileKey


__all__ = [
    "CHECKSUM",
    "Summary",
    "TickFile",
    "iter_frames",
    "salvage_file",
    "summarise_file",
    "tick_statistics",
]

CHECKSUM: Final = "the checksum does not match the header"

_PRICES: Final = {
    "last": ("price", "size"),
    "all_last": ("price", "size"),
    "mid_point": ("mid_price",),
    "bid_ask": ("bid_price", "bid_size", "ask_price", "ask_size"),
}


@dataclass(frozen=True, slots=True)
class Summary:
    """The contents of a file, read once.

    Attributes
    ----------
    header : Header
    record : FileRecord
        Record for the index.
    end : int
        Byte after the last whole frame (or whole block, in a compressed file).
    problem : str or None
        :data:`~ibticks.format.TORN`, or the damage at ``end``, if the file does not end there;
        :data:`CHECKSUM`, if it is sealed and its checksum does not match its header.
    body_crc32c : int
        CRC-32C of the bytes from the header's end to ``end``.
    """

    header: Header
    record: FileRecord
    end: int
    problem: str | None
    body_crc32c: int


def tick_statistics(tick_type: str, ticks: TickColumns) -> dict[str, Any]:
    """Return the statistics of ticks of one tick type: attributes of their file's record.

    They are those that the file with these ticks has: of a column that is missing, no value.
    """
    names = _PRICES[tick_type]
    columns = {
        name: _numbers(ticks, name, dtype)
        for name, dtype in (
            ("timestamp", np.int64),
            ("sequence", np.uint64),
            *((name, np.float64) for name in names),
        )
    }
    return _statistics(names, TickColumns(ticks.rows, columns))


def iter_frames(data: npt.NDArray[np.uint8], header: Header) -> Iterator[bytes | memoryview]:
    """Iterate over the frames of a file, a block at a time, decompressed."""
    if header.compression == "none":
        for block in scan_frames(data, header.frame_bytes).blocks:
            yield data[block.start : block.stop].data
    else:
        for _, _, raw in iter_blocks(data.data, header):
            yield raw


def summarise_file(root: Path, key: FileKey) -> Summary:
    """Read a file and return its summary.

    Raises
    ------
    CorruptFileError
        If it has no readable header. Later damage is in :attr:`Summary.problem`.
    MisplacedFileError
        If its header states another contract, tick type or hour than its path.
    StorageError
        If it cannot be opened.
    """
    path = root / key.path
    with explained(path, "reading"):
        data = np.fromfile(path, dtype=np.uint8)
    header = read_header(data.data, path=str(path))
    check_place(header, key, path)
    return _summary(data, header, key)


def salvage_file(root: Path, key: FileKey) -> FileRecord | None:
    """Return the record of a file whose header cannot be read, if everything after it can be.

    The end of the header and the compression are found by trying. The checksum is lost: the file
    counts as whole if it decodes to messages up to its last byte.
    """
    path = root / key.path
    with explained(path, "reading"):
        data = np.fromfile(path, dtype=np.uint8)
    claimed = 4 + int.from_bytes(data[:4].tobytes(), "big")
    starts = [start for start in {HEADER_BYTES, claimed} if start < len(data)]
    for start in starts:
        for compression in COMPRESSIONS:
            guess = Header(
                key.contract_id, key.tick_type, 0, 0, compression=compression, frame_bytes=start
            )
            summary = _summary(data, guess, key)
            if summary.problem is None and summary.record.messages:
                return replace(summary.record, sealed=True)
    return None


def _summary(data: npt.NDArray[np.uint8], header: Header, key: FileKey) -> Summary:
    stats = _Statistics(key.tick_type)
    if header.compression == "none":
        end, problem = stats.add(data, header.frame_bytes)
        walked = scan_frames(data, header.frame_bytes, end)
        blocks = [_block(data[b.start : b.stop], b.start, b) for b in walked.blocks]
        ticks = walked.ticks
    else:
        blocks, end, problem, ticks = _compressed(data, header, stats)
    body = checksum(data[header.frame_bytes : end])
    if header.sealed and problem is None and body != header.crc32c:
        problem = CHECKSUM
    start_ns = min((block.min_ns for block in blocks), default=header.start_ns)
    end_ns = max((block.max_ns for block in blocks), default=header.end_ns)
    record = FileRecord(
        path=key.path,
        contract_id=key.contract_id,
        tick_type=key.tick_type,
        hour_ns=key.hour_ns,
        start_ns=start_ns,
        end_ns=end_ns,
        size=len(data),
        messages=sum(block.messages for block in blocks),
        ticks=ticks,
        compression=header.compression,
        sealed=header.sealed,
        crc32c=header.crc32c if header.sealed else None,
        # The checksum of a damaged block, computed from it, would hide the damage.
        blocks=() if header.sealed and problem else tuple(blocks),
        **stats.fields(),
    )
    return Summary(header, record, end, problem, body)


def _compressed(
    data: npt.NDArray[np.uint8], header: Header, stats: _Statistics
) -> tuple[list[Block], int, str | None, int]:
    blocks: list[Block] = []
    end, ticks = header.frame_bytes, 0
    try:
        for begin, stop, raw in iter_blocks(data.data, header):
            before = stats.mark()
            _, problem = stats.add(np.frombuffer(raw, np.uint8), 0)
            if problem is not None:
                stats.rewind(before)
                return blocks, begin, f"in the block at byte {begin}: {problem}", ticks
            walked = scan_frames(raw, block_bytes=len(raw))
            blocks += [_block(data[begin:stop], begin, b) for b in walked.blocks]
            ticks += walked.ticks
            end = stop
    except CorruptFileError as error:
        return blocks, end, str(error), ticks
    return blocks, end, None, ticks


def _block(stored: npt.NDArray[np.uint8], offset: int, walked: Any) -> Block:
    return Block(
        offset=offset,
        size=len(stored),
        raw_size=walked.stop - walked.start,
        messages=walked.messages,
        first_ns=walked.first_ns,
        min_ns=walked.min_ns,
        max_ns=walked.max_ns,
        crc32c=checksum(stored),
    )


class _Statistics:
    """Statistics of the ticks of a file, from their columns.

    Unset numbers and prices without a quote or a trade (:mod:`ibticks.schema`) do not count: older
    files hold such numbers as they came, and halts are stored so.
    """

    def __init__(self, tick_type: str) -> None:
        self._prices = _PRICES[tick_type]
        self._decoder = Decoder(["timestamp", "sequence", *self._prices])

        self.mark: Final = self._decoder.mark
        self.rewind: Final = self._decoder.rewind

    def add(self, raw: npt.NDArray[np.uint8], start: int) -> tuple[int, str | None]:
        """Decode messages from ``start`` on; return the end of the last one, and the problem."""
        try:
            end = self._decoder.feed(raw, start)
        except CorruptFileError as error:
            return error.context["offset"], str(error)
        return end, None if end == len(raw) else TORN

    def fields(self) -> dict[str, Any]:
        """Return the statistics of what was added, as attributes of a record."""
        return _statistics(self._prices, self._decoder.finish())


# Sums may overflow to infinity, as in any double arithmetic.
@np.errstate(over="ignore", invalid="ignore")
def _statistics(names: tuple[str, ...], ticks: TickColumns) -> dict[str, Any]:
    """Return the statistics of ticks that have ``timestamp``, ``sequence`` and these columns."""
    values: dict[str, Any] = {}
    if ticks.rows == 0:
        return values
    values["first_tick_ns"] = int(ticks.timestamp.min())
    values["last_tick_ns"] = int(ticks.timestamp.max())
    sequence = _present(ticks.columns["sequence"])
    if len(sequence):
        values["first_sequence"] = int(sequence.min())
        values["last_sequence"] = int(sequence.max())
    if "bid_price" in names:
        bids, asks = (
            _priced(ticks, "bid_price", "bid_size"),
            _priced(ticks, "ask_price", "ask_size"),
        )
        bid, ask = ticks.numbers("bid_price")[bids], ticks.numbers("ask_price")[asks]
        prices = _rows(ticks, bids & asks, "bid_price", "ask_price").mean(axis=0)
        _put_extremes(values, bid if len(bid) else ask, ask if len(ask) else bid)
    elif "size" in names:
        traded = _priced(ticks, "price", "size")
        prices = ticks.numbers("price")[traded]
        _put_extremes(values, prices, prices)
        paid, amount = _rows(ticks, traded & _usable(ticks, "size"), "price", "size")
        # Sizes without a price are of no trade, and would pull the VWAP towards 0.
        values["volume"] = float(amount.sum())
        values["notional"] = float((paid * amount).sum())
    else:
        prices = ticks.numbers(names[0])[_usable(ticks, names[0])]
        _put_extremes(values, prices, prices)
    if len(prices):
        values["sum_price"] = float(prices.sum())
        values["priced_ticks"] = len(prices)
    return values


def _numbers(ticks: TickColumns, name: str, dtype: npt.DTypeLike) -> Column:
    """Return a column of numbers, absent in every row if the ticks do not have it."""
    column = ticks.columns.get(name)
    if not isinstance(column, Values):
        return Values(np.zeros(ticks.rows, dtype), np.zeros(ticks.rows, np.bool_))
    return Values(np.asarray(column.values, dtype), column.valid)


def _put_extremes(
    values: dict[str, Any], low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]
) -> None:
    if len(low):
        values["min_price"] = float(low.min())
        values["max_price"] = float(high.max())


def _usable(ticks: TickColumns, name: str) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows with a value: present and not unset."""
    column = ticks.columns[name]
    assert isinstance(column, Values)
    usable: npt.NDArray[np.bool_] = ~unset_mask(column.values)
    return usable if column.valid is None else usable & column.valid


def _present(column: object) -> npt.NDArray[Any]:
    """Return the values of a column that are present; a whole number is never unset."""
    assert isinstance(column, Values)
    present: npt.NDArray[Any] = (
        column.values if column.valid is None else column.values[column.valid]
    )
    return present


def _priced(ticks: TickColumns, price: str, size: str) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows whose price is one of a quote or a trade."""
    sizes = ticks.columns[size]
    assert isinstance(sizes, Values)
    known = sizes.values if sizes.valid is None else np.where(sizes.valid, sizes.values, np.nan)
    return _usable(ticks, price) & ~no_quote_mask(ticks.numbers(price), known)


def _rows(
    ticks: TickColumns, rows: npt.NDArray[np.bool_], one: str, other: str
) -> npt.NDArray[np.float64]:
    """Return two columns at some rows, shape ``(2, rows)``."""
    return np.stack([ticks.numbers(one)[rows], ticks.numbers(other)[rows]])


class TickFile:
    """A tick file, read into memory.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    header : Header

    Raises
    ------
    CorruptFileError
        If it has no header, or is sealed and does not have its checksum.
    StorageError
        As the operating system says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with explained(path, "reading"):
            self._data = np.fromfile(path, dtype=np.uint8)
        self.header: Header = read_header(self._data.data, path=str(path))
        start = self.header.frame_bytes
        if self.header.sealed and checksum(self._data[start:]) != self.header.crc32c:
            raise CorruptFileError(
                f"{path} does not match the checksum in its header: nothing was imported",
                path=str(path),
                offset=start,
            )

    def batches(self) -> Iterator[TickColumns]:
        """Yield its ticks in their order, with all columns, about 1 MiB of frames at a time.

        Raises
        ------
        CorruptFileError
            At the end of what is whole, if the file goes on.
        """
        end = self.header.frame_bytes
        for raw in iter_frames(self._data, self.header):
            decoder = Decoder(tuple(COLUMNS))
            decoder.feed(np.frombuffer(raw, dtype=np.uint8))
            yield decoder.finish()
            end += len(raw)
        if self.header.compression == "none" and end < len(self._data):
            raise CorruptFileError(
                f"{self._path} is damaged or torn at byte {end}: the ticks before it were imported",
                path=str(self._path),
                offset=end,
            )
