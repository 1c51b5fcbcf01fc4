"""What a file holds, read from the file itself.

The one place from which index rows come: sealing, rebuilding the index, recovery and verification
all ask here, so that they cannot disagree. Files are the truth.
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
from ibticks.schema import Values, no_quote_mask, unset_mask
from ibticks.storage._blocks import body_blocks
from ibticks.storage._headers import check_place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from ibticks.schema import TickColumns
    from ibticks.storage._layout import FileKey

__all__ = ["CHECKSUM", "Summary", "frame_blocks", "salvage", "summarise"]

CHECKSUM: Final = "the checksum is not the one the header promises"

_PRICES: Final = {
    "last": ("price", "size"),
    "all_last": ("price", "size"),
    "mid_point": ("mid_price",),
    "bid_ask": ("bid_price", "bid_size", "ask_price", "ask_size"),
}


@dataclass(frozen=True, slots=True)
class Summary:
    """A file read through once.

    Attributes
    ----------
    header : Header
    record : FileRecord
        As it belongs in the index.
    end : int
        Where the last whole frame (or whole block, in a compressed file) ends.
    problem : str or None
        :data:`~ibticks.format.TORN`, or what is damaged there, if the file does not end
        there; :data:`CHECKSUM`, if it is sealed and has another than its header says.
    body_crc32c : int
        CRC-32C of the bytes from the header's end to ``end``.
    """

    header: Header
    record: FileRecord
    end: int
    problem: str | None
    body_crc32c: int


def frame_blocks(data: npt.NDArray[np.uint8], header: Header) -> Iterator[bytes | memoryview]:
    """The frames of a file, a block at a time, decompressed where need be."""
    if header.compression == "none":
        for block in scan_frames(data, header.frame_bytes).blocks:
            yield data[block.start : block.stop].data
    else:
        for _, _, raw in body_blocks(data.data, header):
            yield raw


def summarise(root: Path, key: FileKey) -> Summary:
    """Read a file through and say what is in it.

    Raises
    ------
    CorruptFileError
        If it has no readable header. Damage further on is told in :attr:`Summary.problem`.
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


def salvage(root: Path, key: FileKey) -> FileRecord | None:
    """The index row of a file whose header cannot be read, if everything after it can be.

    Where the header ended, and how the blocks are compressed, is found by trying. That all of it
    makes messages, to the last byte, is taken for proof that it is whole: the checksum is lost.
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
        # Where the damage is, no checksum of a block made from it would tell.
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
        for begin, stop, raw in body_blocks(data.data, header):
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
    """The figures of a file's ticks, from the columns they are made of.

    Numbers that are unset and prices without a quote or a trade (:mod:`ibticks.format`) do
    not count: files written before hold such numbers as they came, and halts are stored so.
    """

    def __init__(self, tick_type: str) -> None:
        self._prices = _PRICES[tick_type]
        self._decoder = Decoder(["timestamp", "sequence", *self._prices])

        self.mark: Final = self._decoder.mark
        self.rewind: Final = self._decoder.rewind

    def add(self, raw: npt.NDArray[np.uint8], start: int) -> tuple[int, str | None]:
        """Count the messages from ``start`` on; returns where the last whole one ends, and why."""
        try:
            end = self._decoder.feed(raw, start)
        except CorruptFileError as error:
            return error.context["offset"], str(error)
        return end, None if end == len(raw) else TORN

    # Sums may overflow to infinity, as in any double arithmetic.
    @np.errstate(over="ignore", invalid="ignore")
    def fields(self) -> dict[str, Any]:
        ticks = self._decoder.finish()
        found: dict[str, Any] = {}
        if ticks.rows == 0:
            return found
        found["first_tick_ns"] = int(ticks.timestamp.min())
        found["last_tick_ns"] = int(ticks.timestamp.max())
        sequence = _present(ticks, "sequence")
        if len(sequence):
            found["first_sequence"] = int(sequence.min())
            found["last_sequence"] = int(sequence.max())
        if "bid_price" in self._prices:
            bids, asks = (
                _priced(ticks, "bid_price", "bid_size"),
                _priced(ticks, "ask_price", "ask_size"),
            )
            bid, ask = ticks.numbers("bid_price")[bids], ticks.numbers("ask_price")[asks]
            prices = _rows(ticks, bids & asks, "bid_price", "ask_price").mean(axis=0)
            _extremes(found, bid if len(bid) else ask, ask if len(ask) else bid)
        elif "size" in self._prices:
            traded = _priced(ticks, "price", "size")
            prices = ticks.numbers("price")[traded]
            _extremes(found, prices, prices)
            paid, amount = _rows(ticks, traded & _usable(ticks, "size"), "price", "size")
            # Sizes without a price are of no trade, and would pull the VWAP towards 0.
            found["volume"] = float(amount.sum())
            found["notional"] = float((paid * amount).sum())
        else:
            prices = _present(ticks, self._prices[0])
            _extremes(found, prices, prices)
        if len(prices):
            found["sum_price"] = float(prices.sum())
            found["priced_ticks"] = len(prices)
        return found


def _extremes(
    found: dict[str, Any], low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]
) -> None:
    if len(low):
        found["min_price"] = float(low.min())
        found["max_price"] = float(high.max())


def _usable(ticks: TickColumns, name: str) -> npt.NDArray[np.bool_]:
    """Rows that carry a value that can be counted: present and not unset."""
    column = ticks.columns[name]
    assert isinstance(column, Values)
    usable: npt.NDArray[np.bool_] = ~unset_mask(column.values)
    return usable if column.valid is None else usable & column.valid


def _present(ticks: TickColumns, name: str) -> npt.NDArray[Any]:
    present: npt.NDArray[Any] = ticks.numbers(name)[_usable(ticks, name)]
    return present


def _priced(ticks: TickColumns, price: str, size: str) -> npt.NDArray[np.bool_]:
    """Rows whose price is one of a quote or a trade."""
    sizes = ticks.columns[size]
    assert isinstance(sizes, Values)
    known = sizes.values if sizes.valid is None else np.where(sizes.valid, sizes.values, np.nan)
    return _usable(ticks, price) & ~no_quote_mask(ticks.numbers(price), known)


def _rows(
    ticks: TickColumns, rows: npt.NDArray[np.bool_], one: str, other: str
) -> npt.NDArray[np.float64]:
    """Two columns at the given rows, shape ``(2, rows)``."""
    return np.stack([ticks.numbers(one)[rows], ticks.numbers(other)[rows]])
