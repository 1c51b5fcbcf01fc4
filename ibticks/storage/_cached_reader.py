"""Reading ticks of which some were decoded before."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.errors import StorageError
from ibticks.storage._column_cache import KeptFile, Rows, joined, run_together
from ibticks.storage._reader import in_order, read_shares
from ibticks.storage._source import Source

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from pathlib import Path

    from ibticks.index import FileRecord, Index
    from ibticks.schema import TickColumns
    from ibticks.storage._column_cache import Decoded
    from ibticks.storage._reader import Share

__all__ = ["reread_ticks"]


def reread_ticks(
    root: Path,
    records: Sequence[FileRecord],
    columns: Sequence[str],
    decoded: Decoded,
    *,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
    strict: bool = False,
    index: Index | None = None,
) -> list[TickColumns]:
    """What :func:`ibticks.storage.read_ticks` gives, decoding only what is not kept.

    Sealed files that are read from beginning to end are kept. Parameters, warnings and errors are
    those of ``read_ticks``; ``columns`` must have ``timestamp``.
    """
    parts: list[TickColumns] = []
    for there, run in groupby(_found(root, records, columns, decoded), lambda pair: bool(pair[1])):
        if there:
            rows = [each for _, kept in run if kept for each in kept.within(start_ns, end_ns)]
            parts += joined(rows, columns)
            continue
        shares = read_shares(
            root,
            [record for record, _ in run],
            columns,
            start_ns=start_ns,
            end_ns=end_ns,
            strict=strict,
            index=index,
        )
        decoded.keep([share.part for share in shares], _whole_files(shares, start_ns, end_ns))
        parts += [share.part for share in shares]
    return parts


def _found(
    root: Path, records: Sequence[FileRecord], columns: Sequence[str], decoded: Decoded
) -> list[tuple[FileRecord, KeptFile | None]]:
    with Source(root) as source:
        return [(each, _find(source, each, columns, decoded)) for each in in_order(records)]


def _find(
    source: Source, record: FileRecord, columns: Sequence[str], decoded: Decoded
) -> KeptFile | None:
    if record.path not in decoded:
        return None
    try:
        source.open(record.path)
    except StorageError:
        return None  # whoever reads it will say so
    return decoded.find(record.path, source.identity, columns)


def _whole_files(shares: Sequence[Share], start_ns: int, end_ns: int) -> dict[str, KeptFile]:
    """The files of which every block was decoded, from beginning to end and in order of time."""
    blocks: dict[str, list[tuple[FileRecord, Hashable, Rows]]] = {}
    for share in shares:
        if share.part.missing:
            continue  # they would be missing from later loads, too
        for record, identity, start, stop in share.blocks:
            rows = Rows(share.part, start, stop)
            if share.ordered or _in_order_of_time(rows):
                blocks.setdefault(record.path, []).append((record, identity, rows))
    files = {}
    for path, found in blocks.items():
        record, identity, _ = found[0]
        first = min(block.min_ns for block in record.blocks)
        last = max(block.max_ns for block in record.blocks)
        whole = len(found) == len(record.blocks) and start_ns <= first and last < end_ns
        if whole and all(each == identity for _, each, _ in found):
            rows_of_file = tuple(run_together(rows for _, _, rows in found))
            files[path] = KeptFile(identity, rows_of_file, first, last)
    return files


def _in_order_of_time(rows: Rows) -> bool:
    times = rows.part.timestamp[rows.start : rows.stop]
    return bool(np.all(times[1:] >= times[:-1]))
