"""Reading ticks: only the files, the blocks and the columns that are asked for.

Where the index knows a sealed file's blocks, each block is read, checked against its CRC-32C and
decoded on its own, by several threads, so that five minutes cost five minutes and one damaged
block costs one block. An open file is read up to its last whole frame.
"""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.config import NANOSECONDS
from ibticks.errors import CorruptDataWarning, CorruptFileError, StorageError
from ibticks.format.decode import TIME_MAX, TIME_MIN, Decoder
from ibticks.format.frames import TORN, find_payloads, walk
from ibticks.format.framing import MAX_FRAME, checksum
from ibticks.format.header import Header, read_header
from ibticks.format.messages import decode_message
from ibticks.storage.blocks import decompress, split
from ibticks.storage.disk import explained
from ibticks.storage.layout import HOUR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ibticks.errors import TickError
    from ibticks.format.columns import TickColumns
    from ibticks.index.records import Block, FileRecord

__all__ = ["read_messages", "read_ticks"]

_HEADER_GUESS: Final = 4096
_PIECE: Final = 4 << 20
_WORTH_A_THREAD: Final = 200_000  # messages


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of one file to decode: one block, or (``block`` None) whatever the file holds."""

    record: FileRecord
    block: Block | None
    header: Header

    @property
    def messages(self) -> int:
        return self.record.messages if self.block is None else self.block.messages


class _Damage:
    """What was left out of ``[start_ns, end_ns)``, and why."""

    def __init__(self, start_ns: int, end_ns: int, *, strict: bool) -> None:
        self._start_ns = start_ns
        self._end_ns = end_ns
        self._strict = strict
        self.missing: list[tuple[int, int]] = []
        self.reasons: list[str] = []

    def report(self, record: FileRecord, block: Block | None, error: TickError) -> None:
        """Note what a damaged block, or file, leaves out; with ``strict``, raise it."""
        if self._strict:
            raise error.with_context(path=record.path) from error
        if block is not None:
            first, last = block.min_ns, block.max_ns + 1
        else:
            first, last = record.hour_ns, record.hour_ns + HOUR
        first, last = max(first, self._start_ns), min(last, self._end_ns)
        self.missing.append((first, last))
        self.reasons.append(
            f"{record.path}: {error}; left out: {_utc(first)} to {_utc(last)}. "
            "`ibticks verify` tells what else is damaged; strict=True raises instead"
        )

    def wants(self, first_ns: int, last_ns: int) -> bool:
        """Whether times from ``first_ns`` to ``last_ns`` can lie in the range."""
        return last_ns >= self._start_ns and first_ns < self._end_ns

    def warn(self) -> None:
        """Tell the user."""
        for reason in self.reasons:
            warnings.warn(reason, CorruptDataWarning, stacklevel=4)


def read_ticks(
    root: Path,
    records: Sequence[FileRecord],
    columns: Sequence[str],
    *,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
    strict: bool = False,
    threads: int | None = None,
) -> list[TickColumns]:
    """Decode the ticks of some files of one stream.

    Parameters
    ----------
    root : Path
        The store.
    records : sequence of FileRecord
        In time order, as the index gives them.
    columns : sequence of str
    start_ns, end_ns : int
        Half-open range of UTC nanoseconds.
    strict : bool
        Raise at damage, instead of leaving the block out.
    threads : int, optional
        At most this many; by default as many as there are processors, where it is worth it.

    Returns
    -------
    list of TickColumns
        One or several stretches, in file order; ``missing`` of the first says what was left out.

    Warns
    -----
    CorruptDataWarning
        Saying which time range is missing, and why.

    Raises
    ------
    CorruptFileError
        With ``strict``.
    """
    damage = _Damage(start_ns, end_ns, strict=strict)
    pieces = list(_plan(root, records, damage))
    shares = _shares(pieces, threads or os.cpu_count() or 1)

    def run(share: list[_Piece]) -> tuple[TickColumns, _Damage]:
        rows = sum(piece.messages for piece in share)
        decoder = Decoder(columns, start_ns=start_ns, end_ns=end_ns, rows=rows)
        hurt = _Damage(start_ns, end_ns, strict=strict)
        with _Source(root) as source:
            for piece in share:
                _decode(source, piece, decoder, hurt)
        return decoder.finish(), hurt

    if len(shares) == 1:
        results = [run(shares[0])]
    else:
        with ThreadPoolExecutor(len(shares), thread_name_prefix="ibticks-read") as pool:
            results = list(pool.map(run, shares))
    for _, hurt in results:
        damage.missing += hurt.missing
        damage.reasons += hurt.reasons
    damage.warn()
    parts = [part for part, _ in results]
    if damage.missing:
        parts[0] = replace(parts[0], missing=tuple(damage.missing))
    return parts


def read_messages(
    root: Path,
    records: Sequence[FileRecord],
    *,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
    ticks: bool = False,
    others: bool = True,
    strict: bool = False,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The messages of some files as v2 JSON dictionaries, with their times, in file order.

    Parameters
    ----------
    ticks, others : bool
        Whether ticks, and errors, infos and completions, are wanted.

    Other parameters, warnings and errors are those of :func:`read_ticks`.
    """
    damage = _Damage(start_ns, end_ns, strict=strict)
    with _Source(root) as source:
        for piece in _plan(root, records, damage):
            try:
                for raw in _raw(source, piece):
                    found = find_payloads(
                        raw, ticks=ticks, others=others, start_ns=start_ns, end_ns=end_ns
                    )
                    for offset, size, time_ns in zip(*(a.tolist() for a in found), strict=True):
                        yield time_ns, decode_message(raw[offset : offset + size].tobytes())
            except CorruptFileError as error:
                damage.report(piece.record, piece.block, error)
    damage.warn()


class _Source:
    """Reads stretches of one file after another into memory that is used again."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = ""
        self._descriptor = -1
        self._memory = np.empty(0, dtype=np.uint8)

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def open(self, path: str) -> int:
        """Descriptor of a file."""
        if path != self._path:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            with explained(self._root / path, "reading"):
                self._descriptor = os.open(self._root / path, os.O_RDONLY)
            self._path = path
        return self._descriptor

    def size(self, path: str) -> int:
        """Bytes of a file, now."""
        return os.fstat(self.open(path)).st_size

    def read(self, path: str, offset: int, size: int) -> npt.NDArray[np.uint8]:
        """Bytes of a file, as many of ``size`` as there are; valid until the next call."""
        descriptor = self.open(path)
        if size > len(self._memory):
            self._memory = np.empty(size, dtype=np.uint8)
        got = 0
        with explained(self._root / path, "reading"):
            while got < size:
                taken = os.preadv(descriptor, [self._memory[got:size].data], offset + got)
                if taken == 0:
                    break
                got += taken
        return self._memory[:got]


def _plan(root: Path, records: Sequence[FileRecord], damage: _Damage) -> Iterator[_Piece]:
    for record in records:
        path = root / record.path
        try:
            with explained(path, "reading"), path.open("rb") as file:
                header = read_header(file.read(_HEADER_GUESS), path=str(path))
                size = os.fstat(file.fileno()).st_size
        except (CorruptFileError, StorageError) as error:
            damage.report(record, None, error)
            continue
        # The blocks are those of the file as it was sealed; since then it may have been opened
        # again for a late tick, compressed, or sealed anew.
        current = header.sealed and header.crc32c == record.crc32c and size == record.size
        if record.sealed and current and record.blocks:
            for block in record.blocks:
                if damage.wants(block.min_ns, block.max_ns):
                    yield _Piece(record, block, header)
        else:
            yield _Piece(record, None, header)


def _shares(pieces: list[_Piece], threads: int) -> list[list[_Piece]]:
    """Contiguous shares of about as many messages each, one a thread."""
    total = sum(piece.messages for piece in pieces)
    threads = max(1, min(threads, total // _WORTH_A_THREAD + 1, len(pieces)))
    shares: list[list[_Piece]] = [[]]
    before = 0
    for piece in pieces:
        if before >= len(shares) * total / threads and len(shares) < threads:
            shares.append([])
        shares[-1].append(piece)
        before += piece.messages
    return shares


def _decode(source: _Source, piece: _Piece, decoder: Decoder, damage: _Damage) -> None:
    mark = decoder.mark()
    try:
        for raw in _raw(source, piece):
            decoder.feed(raw)
    except CorruptFileError as error:
        if piece.header.sealed:
            # A sealed block is whole or it is not used.
            decoder.rewind(mark)
        damage.report(piece.record, piece.block, error)


def _raw(source: _Source, piece: _Piece) -> Iterator[npt.NDArray[np.uint8]]:
    """The frames of a piece, checked and decompressed; whole frames at a time.

    Each array is valid until the next one is asked for.
    """
    record, block, header = piece.record, piece.block, piece.header
    if block is not None:
        stored = source.read(record.path, block.offset, block.size)
        if checksum(stored) != block.crc32c:
            raise CorruptFileError(f"the block at byte {block.offset} fails its checksum")
        yield _plain(stored, header.compression)
    elif header.compression == "none":
        yield from _whole_frames(source, piece)
    else:
        everything = source.read(record.path, 0, source.size(record.path))
        body = everything[header.frame_bytes :]
        for begin, end in split(body.data, header.compression):
            yield _plain(body[begin:end], header.compression)


def _plain(stored: npt.NDArray[np.uint8], compression: str) -> npt.NDArray[np.uint8]:
    if compression == "none":
        return stored
    return np.frombuffer(decompress(stored.data, compression), np.uint8)


def _whole_frames(source: _Source, piece: _Piece) -> Iterator[npt.NDArray[np.uint8]]:
    """A plain body, some MiB at a time, up to its last whole frame."""
    path, header = piece.record.path, piece.header
    offset, size, crc = header.frame_bytes, _PIECE, 0
    while True:
        data = source.read(path, offset, size)
        _, end, problem = walk(data)
        if end > 0:
            crc = checksum(data[:end], crc)
            yield data[:end]
        if problem not in (None, TORN):
            raise CorruptFileError(f"after byte {offset}: {problem}")
        if end > 0:
            offset += end
            size = _PIECE
        elif len(data) < size:
            break
        else:
            size = _PIECE + MAX_FRAME
    if header.sealed and crc != header.crc32c:
        raise CorruptFileError("the file fails its checksum")


def _utc(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, NANOSECONDS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d} UTC"
