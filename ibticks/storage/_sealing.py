"""Sealing: the header made final, the bytes on the disk, the row for the index.

It reads the file through, which takes the compiled decoder. A process that only appends has it
done in another one, and stays small: :class:`~ibticks.storage.SealerApart`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from ibticks.errors import CorruptFileError
from ibticks.format import HEADER_BYTES
from ibticks.index import FileRecord
from ibticks.storage._headers import put_header
from ibticks.storage._hour_file import WRITER
from ibticks.storage._layout import FileKey

__all__ = ["Compressor", "Sealer", "seal", "seal_files"]

_log = logging.getLogger(__name__)

Sealer: TypeAlias = Callable[[Path, Sequence[FileKey]], list[FileRecord]]
"""Recovers and seals files, and says what they hold; leaves out those that cannot be sealed."""

Compressor: TypeAlias = Callable[[Path, FileKey, str], FileRecord]
"""Compresses a sealed file, and says what it is then."""


def seal(root: Path, key: FileKey) -> FileRecord:
    """Make the header of a file final, if it is not, and say what is in it.

    Raises
    ------
    CorruptFileError
        If it is damaged; nothing is changed then.
    """
    from ibticks.storage._summary import summarise

    summary = summarise(root, key)
    path = root / key.path
    if summary.problem is not None:
        raise CorruptFileError(
            f"{path} cannot be sealed: at byte {summary.end}: {summary.problem}",
            path=str(path),
            offset=summary.end,
        )
    if summary.header.sealed:
        return summary.record
    header = replace(summary.header, writer=WRITER).seal(
        start_ns=summary.record.start_ns,
        end_ns=summary.record.end_ns,
        message_count=summary.record.messages,
        crc32c=summary.body_crc32c,
        body_bytes=summary.end - summary.header.frame_bytes,
    )
    put_header(path, summary.header, header)
    moved = HEADER_BYTES - summary.header.frame_bytes
    blocks = tuple(replace(b, offset=b.offset + moved) for b in summary.record.blocks)
    return replace(
        summary.record,
        sealed=True,
        crc32c=header.crc32c,
        size=summary.record.size + moved,
        blocks=blocks,
    )


def seal_files(root: Path, keys: Sequence[FileKey]) -> list[FileRecord]:
    """Cut the torn tails of files, if they have any, and seal them.

    One that is damaged stays as it is; it, and one that is gone, is left out and told in the log.
    """
    from ibticks.storage._recovery import cut_torn_tail

    records = []
    for key in keys:
        path = root / key.path
        if not path.exists():
            _log.error("%s is gone: it was deleted while it was open", path)
            continue
        try:
            if cut_torn_tail(path) is None:
                path.unlink()
            else:
                records.append(seal(root, key))
        except CorruptFileError:
            _log.exception("%s is damaged and stays as it is", key.path)
    return records
