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
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.config import NANOSECONDS, TIME_MAX, TIME_MIN
from ibticks.errors import CorruptDataWarning, CorruptFileError, FormatError, StorageError
from ibticks.format import (
    MAX_FRAME_BYTES,
    TORN,
    Decoder,
    checksum,
    count_frames,
    decode_message,
    find_payloads,
)
from ibticks.storage._blocks import body_blocks, decompress
from ibticks.storage._layout import HOUR, part_of
from ibticks.storage._source import Source
from ibticks.storage._stacklevel import caller_depth

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ibticks.errors import TickError
    from ibticks.format import Header
    from ibticks.index import Block, FileRecord, Index
    from ibticks.schema import TickColumns

__all__ = ["Share", "in_order", "read_messages", "read_shares", "read_ticks"]

_PIECE: Final = 4 << 20
_USUAL_MESSAGE: Final = 128  # bytes; where it is not known how many there are
_WORTH_A_THREAD: Final = 200_000  # messages


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of one file to decode: one block, or (``block`` None) whatever the file holds.

    ``header`` is None where it cannot be read, but the index knows the blocks.
    """

    record: FileRecord
    block: Block | None
    header: Header | None
    messages: int


@dataclass(frozen=True, slots=True)
class Share:
    """What one thread has decoded.

    Attributes
    ----------
    part : TickColumns
    blocks : list of (FileRecord, hashable, int, int)
        For each block that is whole: its file, what the file was when it was read (see
        :class:`ibticks.storage.Source`), and its first row and the row after its last.
    ordered : bool
        Whether no row is earlier than the one before it.
    missing : list of (int, int)
        What is left out of the part, for ``reasons``.
    left_out : list of str
        The files it is left out of.
    """

    part: TickColumns
    blocks: list[tuple[FileRecord, Hashable, int, int]]
    ordered: bool
    missing: list[tuple[int, int]]
    reasons: list[str]
    left_out: list[str]


class _ReplacedError(Exception):
    """A file is no longer what it was when its pieces were planned."""


class _Damage:
    """What was left out of ``[start_ns, end_ns)``, and why."""

    def __init__(
        self, root: Path, start_ns: int, end_ns: int, *, strict: bool, index: Index | None = None
    ) -> None:
        self._root = root
        self._start_ns = start_ns
        self._end_ns = end_ns
        self._strict = strict
        self._index = index
        self.missing: list[tuple[int, int]] = []
        self.reasons: list[str] = []
        self.left_out: list[str] = []

    def report(self, record: FileRecord, block: Block | None, error: TickError) -> None:
        """Note what a damaged block, or file, leaves out; with ``strict``, raise it."""
        if isinstance(error.__cause__, FileNotFoundError) and self._is_deleted(record):
            return
        first, last = _span(record) if block is None else (block.min_ns, block.max_ns + 1)
        first, last = max(first, self._start_ns), min(last, self._end_ns)
        path = str(self._root / record.path)
        said = str(error) if error.context.get("path") else f"{path}: {error}"
        if self._strict:
            raise type(error)(said, **{**error.context, "path": path}) from error
        self.missing.append((first, last))
        self.left_out.append(record.path)
        self.reasons.append(
            f"{said}; left out: {_utc(first)} to {_utc(last)}. "
            "`ibticks verify` tells what else is damaged; strict=True raises instead"
        )

    def _is_deleted(self, record: FileRecord) -> bool:
        """Whether a file has left the index meanwhile, as those that are deleted on purpose do."""
        if self._index is None:
            return False
        hour = record.hour_ns
        files = self._index.files([record.contract_id], [record.tick_type], hour, hour + HOUR)
        return all(file.path != record.path for file in files)

    def wants(self, first_ns: int, after_ns: int) -> bool:
        """Whether times from ``first_ns`` to before ``after_ns`` can lie in the range."""
        return after_ns > self._start_ns and first_ns < self._end_ns

    def warn(self) -> None:
        """Tell the user."""
        for reason in self.reasons:
            warnings.warn(reason, CorruptDataWarning, stacklevel=caller_depth())


def read_ticks(
    root: Path,
    records: Sequence[FileRecord],
    columns: Sequence[str],
    *,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
    strict: bool = False,
    threads: int | None = None,
    index: Index | None = None,
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
    index : Index, optional
        Asked about files that are gone: one that has left it was deleted, and is not missed.

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
    shares = read_shares(
        root,
        records,
        columns,
        start_ns=start_ns,
        end_ns=end_ns,
        strict=strict,
        threads=threads,
        index=index,
    )
    return [share.part for share in shares]


def read_shares(
    root: Path,
    records: Sequence[FileRecord],
    columns: Sequence[str],
    *,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
    strict: bool = False,
    threads: int | None = None,
    index: Index | None = None,
) -> list[Share]:
    """What :func:`read_ticks` gives, and which rows are those of which file."""

    def run(pieces: list[_Piece]) -> Share:
        rows = sum(piece.messages for piece in pieces)
        decoder = Decoder(columns, start_ns=start_ns, end_ns=end_ns, rows=rows)
        hurt = _Damage(root, start_ns, end_ns, strict=strict, index=index)
        blocks: list[tuple[FileRecord, Hashable, int, int]] = []
        with Source(root) as source:
            for piece in pieces:
                before = decoder.rows
                whole = _decode(source, piece, decoder, hurt)
                if whole and piece.block is not None:
                    blocks.append((piece.record, source.identity, before, decoder.rows))
        return Share(
            decoder.finish(), blocks, decoder.sorted, hurt.missing, hurt.reasons, hurt.left_out
        )

    while True:
        damage = _Damage(root, start_ns, end_ns, strict=strict, index=index)
        with Source(root) as source:
            pieces = [
                piece for record in in_order(records) for piece in _plan(source, record, damage)
            ]
        try:
            shares = _in_threads(run, _shares(pieces, threads or os.cpu_count() or 1))
        except _ReplacedError:
            continue  # compressed, sealed or deleted meanwhile
        break
    for share in shares:
        damage.missing += share.missing
        damage.reasons += share.reasons
        damage.left_out += share.left_out
    damage.warn()
    if damage.missing:
        part = replace(
            shares[0].part,
            missing=tuple(damage.missing),
            left_out=tuple(dict.fromkeys(damage.left_out)),
        )
        shares[0] = replace(shares[0], part=part)
    return shares


def read_messages(
    root: Path,
    records: Sequence[FileRecord],
    *,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
    ticks: bool = False,
    others: bool = True,
    strict: bool = False,
    index: Index | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The messages of some files as v2 JSON dictionaries, with their times, in file order.

    Parameters
    ----------
    ticks, others : bool
        Whether ticks, and errors, infos and completions, are wanted.

    Other parameters, warnings and errors are those of :func:`read_ticks`.
    """
    damage = _Damage(root, start_ns, end_ns, strict=strict, index=index)
    find = partial(find_payloads, ticks=ticks, others=others, start_ns=start_ns, end_ns=end_ns)
    with Source(root) as source:
        # Each file is planned when its turn comes, and stays open until it has been read.
        for record in in_order(records):
            for piece in _plan(source, record, damage):
                try:
                    for offset, raw in _raw(source, piece):
                        yield from _messages(piece, offset, raw, find)
                except CorruptFileError as error:
                    damage.report(record, piece.block, error)
    damage.warn()


def _messages(
    piece: _Piece, base: int, raw: npt.NDArray[np.uint8], find: Callable[..., Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    damage = None
    try:
        found = find(raw)
    except CorruptFileError as error:
        damage = error
        found = find(raw, stop=error.context["offset"])
    for offset, size, time_ns in zip(*(a.tolist() for a in found), strict=True):
        try:
            message = decode_message(raw[offset : offset + size].tobytes())
        except FormatError as error:
            raise _placed(error, piece, base, offset) from error
        yield time_ns, message
    if damage is not None:
        raise _placed(damage, piece, base, damage.context["offset"])


def in_order(records: Sequence[FileRecord]) -> list[FileRecord]:
    """By hour, the second half of one after the first, what was backfilled last."""
    return sorted(records, key=lambda record: (record.hour_ns, part_of(record.path)))


def _span(record: FileRecord) -> tuple[int, int]:
    """From when to before when a file has messages: in its hour, and where some were found."""
    hour = record.hour_ns
    if not record.blocks:
        return hour, hour + HOUR
    return min(record.start_ns, hour), max(record.end_ns + 1, hour + HOUR)


def _plan(source: Source, record: FileRecord, damage: _Damage) -> Iterator[_Piece]:
    if not damage.wants(*_span(record)):
        # The index takes an open file to go on for ever; it goes on to the end of its hour.
        return
    try:
        source.open(record.path)
    except StorageError as error:
        damage.report(record, None, error)
        return
    if source.misplaced is not None:
        damage.report(record, None, source.misplaced)
        return
    header = source.header
    # The blocks are those of the file as it was sealed; since then it may have been opened again
    # for a late tick, compressed, or sealed anew. A damaged header costs nothing but itself, and a
    # lost end the blocks in it.
    current = record.sealed and record.blocks and source.size <= record.size
    if current and (header is None or header.crc32c == record.crc32c):
        for block in record.blocks:
            if damage.wants(block.min_ns, block.max_ns + 1):
                yield _Piece(record, block, header, block.messages)
    elif header is not None:
        yield _Piece(record, None, header, max(record.messages, source.size // _USUAL_MESSAGE))
    elif source.problem is not None:
        damage.report(record, None, source.problem)


def _in_threads(run: Callable[[list[_Piece]], Share], shares: list[list[_Piece]]) -> list[Share]:
    if len(shares) == 1:
        return [run(shares[0])]
    with ThreadPoolExecutor(len(shares), thread_name_prefix="ibticks-read") as pool:
        return list(pool.map(run, shares))


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


def _decode(source: Source, piece: _Piece, decoder: Decoder, damage: _Damage) -> bool:
    """Decode a piece, or what can be had of it; whether that is all of it."""
    mark = decoder.mark()
    try:
        for offset, raw in _raw(source, piece):
            try:
                decoder.feed(raw)
            except CorruptFileError as error:
                raise _placed(error, piece, offset, error.context["offset"]) from error
    except CorruptFileError as error:
        if piece.block is not None or (piece.header is not None and piece.header.sealed):
            # What is sealed is whole or it is not used.
            decoder.rewind(mark)
        damage.report(piece.record, piece.block, error)
        return False
    return True


def _raw(source: Source, piece: _Piece) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """The frames of a piece, checked and decompressed; whole frames at a time.

    Yields
    ------
    offset : int
        Where they are stored in the file.
    frames : numpy.ndarray
        Valid until the next is asked for.

    Raises
    ------
    CorruptFileError
        Before anything is handed out, where a checksum tells.
    """
    record, block, header = piece.record, piece.block, piece.header
    try:
        source.open(record.path)
    except StorageError as error:
        raise _ReplacedError from error
    if source.header != header or source.misplaced is not None:
        raise _ReplacedError
    if block is not None:
        stored = source.read(block.offset, block.size)
        if checksum(stored.data) != block.crc32c:
            raise CorruptFileError(
                f"the block at byte {block.offset} fails its checksum", offset=block.offset
            )
        yield block.offset, _plain(stored, record.compression)
    elif header is not None:
        stop = source.size
        if header.sealed:
            stop = header.frame_bytes + header.body_bytes
            _check_body(source, header, stop)
        if header.compression == "none":
            yield from _whole_frames(source, header.frame_bytes, stop if header.sealed else None)
        else:
            everything = source.read(0, stop)
            for begin, _, raw in body_blocks(everything.data, header):
                yield begin, np.frombuffer(raw, np.uint8)


def _plain(stored: npt.NDArray[np.uint8], compression: str) -> npt.NDArray[np.uint8]:
    if compression == "none":
        return stored
    return np.frombuffer(decompress(stored.data, compression), np.uint8)


def _check_body(source: Source, header: Header, stop: int) -> None:
    if source.size > stop:
        raise CorruptFileError(f"{source.size - stop} bytes follow what was sealed", offset=stop)
    crc = 0
    for offset in range(header.frame_bytes, stop, _PIECE):
        crc = checksum(source.read(offset, min(_PIECE, stop - offset)).data, crc)
    if crc != header.crc32c:
        raise CorruptFileError("the file fails its checksum", offset=header.frame_bytes)


def _whole_frames(
    source: Source, offset: int, stop: int | None
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """A plain body, some MiB at a time, up to its last whole frame."""
    size = _PIECE
    while stop is None or offset < stop:
        data = source.read(offset, size if stop is None else min(size, stop - offset))
        _, end, problem = count_frames(data)
        if end > 0:
            yield offset, data[:end]
        if problem not in (None, TORN):
            raise CorruptFileError(f"after byte {offset}: {problem}", offset=offset + end)
        if end > 0:
            offset += end
            size = _PIECE
        elif len(data) < size:
            break
        else:
            size = _PIECE + MAX_FRAME_BYTES


def _placed(error: FormatError, piece: _Piece, base: int, offset: int) -> CorruptFileError:
    """An error at some offset of what begins at byte ``base``, with its place in the file."""
    packed = piece.header is not None and piece.header.compression != "none"
    place = base if packed else base + offset
    return CorruptFileError(f"in what begins at byte {base}: {error}", offset=place)


def _utc(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, NANOSECONDS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d} UTC"
