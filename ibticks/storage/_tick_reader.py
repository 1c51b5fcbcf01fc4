"""Read ticks and messages: only the files, the blocks and the columns that are requested.

Blocks are read and decoded by several threads, so that five minutes cost five minutes.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.errors import CorruptFileError, FormatError
from ibticks.format import Decoder, decode_message, find_payloads
from ibticks.storage._file_reader import (
    DamageReport,
    FileReader,
    FileReplacedError,
    PlannedRead,
    locate_error,
    plan_reads,
    read_planned,
    sort_records,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from ibticks._types import Interval
    from ibticks.index import FileRecord, Index
    from ibticks.schema import TickColumns

__all__ = ["ColumnChunk", "read_chunks", "read_messages", "read_ticks"]

_MESSAGES_PER_THREAD: Final = 200_000


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """Columns decoded by one thread.

    Attributes
    ----------
    columns : TickColumns
    blocks : list of (FileRecord, hashable, int, int)
        For each undamaged block: its file, the identity of the file when it was read (see
        :class:`FileReader`), its first row and the row after its last.
    ordered : bool
        Whether the rows are in order of time.
    missing : list of Interval
        Half-open intervals that damage leaves out.
    reasons : list of str
        Why they are left out.
    left_out : list of str
        The damaged files.
    """

    columns: TickColumns
    blocks: list[tuple[FileRecord, Hashable, int, int]]
    ordered: bool
    missing: list[Interval]
    reasons: list[str]
    left_out: list[str]


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
        Index to look up files that are gone: one that has left it was deleted, not lost.

    Returns
    -------
    list of TickColumns
        One or several, in file order; ``missing`` of the first has the intervals left out.

    Raises
    ------
    CorruptFileError
        With ``strict``.

    Warns
    -----
    CorruptDataWarning
        With the interval that is missing, and the reason.
    """
    chunks = read_chunks(
        root,
        records,
        columns,
        start_ns=start_ns,
        end_ns=end_ns,
        strict=strict,
        threads=threads,
        index=index,
    )
    return [chunk.columns for chunk in chunks]


def read_chunks(
    root: Path,
    records: Sequence[FileRecord],
    columns: Sequence[str],
    *,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
    strict: bool = False,
    threads: int | None = None,
    index: Index | None = None,
) -> list[ColumnChunk]:
    """Read what :func:`read_ticks` reads, with the rows of each file."""

    def decode_reads(reads: list[PlannedRead]) -> ColumnChunk:
        rows = sum(planned.messages for planned in reads)
        decoder = Decoder(columns, start_ns=start_ns, end_ns=end_ns, rows=rows)
        damage = DamageReport(root, start_ns, end_ns, strict=strict, index=index)
        blocks: list[tuple[FileRecord, Hashable, int, int]] = []
        with FileReader(root) as reader:
            for planned in reads:
                before = decoder.rows
                is_whole = _decode(reader, planned, decoder, damage)
                if is_whole and planned.block is not None:
                    blocks.append((planned.record, reader.identity, before, decoder.rows))
        return ColumnChunk(
            decoder.finish(),
            blocks,
            decoder.sorted,
            damage.missing,
            damage.reasons,
            damage.left_out,
        )

    while True:
        damage = DamageReport(root, start_ns, end_ns, strict=strict, index=index)
        with FileReader(root) as reader:
            reads = [
                planned
                for record in sort_records(records)
                for planned in plan_reads(reader, record, damage)
            ]
        try:
            chunks = _run_in_threads(
                decode_reads, _split_work(reads, threads or os.cpu_count() or 1)
            )
        except FileReplacedError:
            continue  # compressed, sealed or deleted meanwhile
        break
    for chunk in chunks:
        damage.missing += chunk.missing
        damage.reasons += chunk.reasons
        damage.left_out += chunk.left_out
    damage.warn()
    if damage.missing:
        first = replace(
            chunks[0].columns,
            missing=tuple(damage.missing),
            left_out=tuple(dict.fromkeys(damage.left_out)),
        )
        chunks[0] = replace(chunks[0], columns=first)
    return chunks


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
) -> Generator[tuple[int, dict[str, Any]], None, None]:
    """Read the messages of some files as v2 JSON dictionaries, with their times, in file order.

    Warnings and errors are those of :func:`read_ticks`.

    Parameters
    ----------
    root, records, start_ns, end_ns
        As in :func:`read_ticks`.
    ticks, others : bool
        Whether to read ticks, and errors, infos and completions.
    strict, index
        As in :func:`read_ticks`.
    """
    damage = DamageReport(root, start_ns, end_ns, strict=strict, index=index)
    find = partial(find_payloads, ticks=ticks, others=others, start_ns=start_ns, end_ns=end_ns)
    with FileReader(root) as reader:
        # Each file is planned when its turn comes, and stays open until it has been read.
        for record in sort_records(records):
            for planned in plan_reads(reader, record, damage):
                try:
                    for offset, raw in read_planned(reader, planned):
                        yield from _messages(planned, offset, raw, find)
                except CorruptFileError as error:
                    damage.report(record, planned.block, error)
    damage.warn()


def _messages(
    planned: PlannedRead, base: int, raw: npt.NDArray[np.uint8], find: Callable[..., Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    damage = None
    try:
        payloads = find(raw)
    except CorruptFileError as error:
        damage = error
        payloads = find(raw, stop=error.context["offset"])
    for offset, size, time_ns in zip(*(a.tolist() for a in payloads), strict=True):
        try:
            message = decode_message(raw[offset : offset + size].tobytes())
        except FormatError as error:
            raise locate_error(error, planned, base, offset) from error
        yield time_ns, message
    if damage is not None:
        raise locate_error(damage, planned, base, damage.context["offset"])


def _run_in_threads(
    decode: Callable[[list[PlannedRead]], ColumnChunk], work: list[list[PlannedRead]]
) -> list[ColumnChunk]:
    if len(work) == 1:
        return [decode(work[0])]
    with ThreadPoolExecutor(len(work), thread_name_prefix="ibticks-read") as pool:
        return list(pool.map(decode, work))


def _split_work(reads: list[PlannedRead], threads: int) -> list[list[PlannedRead]]:
    """Split reads into contiguous lists of about as many messages each, one a thread."""
    total = sum(planned.messages for planned in reads)
    threads = max(1, min(threads, total // _MESSAGES_PER_THREAD + 1, len(reads)))
    work: list[list[PlannedRead]] = [[]]
    before = 0
    for planned in reads:
        if before >= len(work) * total / threads and len(work) < threads:
            work.append([])
        work[-1].append(planned)
        before += planned.messages
    return work


def _decode(
    reader: FileReader, planned: PlannedRead, decoder: Decoder, damage: DamageReport
) -> bool:
    """Decode a planned read, as far as it is undamaged; return whether all of it is."""
    mark = decoder.mark()
    try:
        for offset, raw in read_planned(reader, planned):
            try:
                decoder.feed(raw)
            except CorruptFileError as error:
                raise locate_error(error, planned, offset, error.context["offset"]) from error
    except CorruptFileError as error:
        if planned.block is not None or (planned.header is not None and planned.header.sealed):
            # What is sealed is whole or it is not used.
            decoder.rewind(mark)
        damage.report(planned.record, planned.block, error)
        return False
    return True
