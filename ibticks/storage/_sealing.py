"""Seal and compress files: final header, bytes on the disk, record for the index.

Both read a file through, which takes the compiled decoder: it is loaded when they are called. A
process that only appends has another process do it, and stays small: see
:class:`~ibticks.storage.SealProcess`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ibticks.errors import CorruptFileError, StorageError
from ibticks.filesystem import write_all, written_beside
from ibticks.format import HEADER_BYTES, Header, checksum
from ibticks.index import FileRecord
from ibticks.storage._blocks import check_compression, compress_block, decompress_block
from ibticks.storage._file_header import put_header
from ibticks.storage._hour_file import WRITER, cut_torn_tail
from ibticks.storage._layout import FileKey

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Compressor",
    "Sealer",
    "compress_file",
    "seal_file",
    "seal_files",
    "write_sealed_file",
]

_log = logging.getLogger(__name__)

Sealer: TypeAlias = Callable[[Path, Sequence[FileKey]], list[FileRecord]]
"""Recovers and seals files, and returns their records; omits those that cannot be sealed."""

Compressor: TypeAlias = Callable[[Path, FileKey, str], FileRecord]
"""Compresses a sealed file, and returns its new record."""


def seal_file(root: Path, key: FileKey) -> FileRecord:
    """Make the header of a file final, unless it is, and return the record of the file.

    Raises
    ------
    CorruptFileError
        If it is damaged; nothing is changed then.
    """
    from ibticks.storage._whole_file import summarise_file

    summary = summarise_file(root, key)
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
    growth = HEADER_BYTES - summary.header.frame_bytes
    return replace(
        summary.record,
        sealed=True,
        crc32c=header.crc32c,
        size=summary.record.size + growth,
        blocks=tuple(
            replace(block, offset=block.offset + growth) for block in summary.record.blocks
        ),
    )


def seal_files(
    root: Path, keys: Sequence[FileKey], *, whole: Collection[FileKey] = ()
) -> list[FileRecord]:
    """Cut the torn tails of files, if they have any, and seal them.

    A damaged file stays as it is; it is omitted and logged, and so is a file that is gone.

    Parameters
    ----------
    root : Path
    keys : sequence of FileKey
    whole : collection of FileKey
        Files that are known to end with a whole message, since this process encoded all that was
        appended: their messages are read once, not twice.
    """
    records = []
    for key in keys:
        path = root / key.path
        if not path.exists():
            _log.error("%s is gone: it was deleted while it was open", path)
            continue
        try:
            if key in whole:
                with suppress(CorruptFileError):  # whatever happened to it, it is read again
                    records.append(seal_file(root, key))
                    continue
            if cut_torn_tail(path) is None:
                path.unlink()
            else:
                records.append(seal_file(root, key))
        except CorruptFileError:
            _log.exception("%s is damaged and stays as it is", key.path)
    return records


def compress_file(
    root: Path, key: FileKey, compression: str, *, has_lock: Callable[[], bool] | None = None
) -> FileRecord:
    """Compress a sealed file (or, with ``none``, make it plain again) and return its new record.

    The new file is written beside the old one, every block is decompressed again and compared,
    and only then takes its place. The caller holds the stream's lock, or passes ``has_lock``, which
    returns at the last moment whether the lock is still held.

    Raises
    ------
    CorruptFileError
        If the file is not sealed or does not have its checksum, or a block did not come back as
        it was: the old file is then untouched.
    StorageError
        If the lock of the stream is lost.
    """
    import numpy as np

    from ibticks.filesystem import explained
    from ibticks.storage._whole_file import iter_frames, summarise_file

    check_compression(compression)
    path = root / key.path
    summary = summarise_file(root, key)
    header = summary.header
    if not header.sealed or summary.problem:
        raise CorruptFileError(
            f"{path} is not sealed, or does not match the checksum in its header; it is left as it "
            "is: only sealed, undamaged files are compressed",
            path=str(path),
        )
    if header.compression == compression:
        return summary.record
    with explained(path, "reading"):
        data = np.fromfile(path, dtype=np.uint8)
    new = replace(header, compression=compression)
    write_sealed_file(path, new, iter_frames(data, header), has_lock=has_lock)
    return summarise_file(root, key).record


def write_sealed_file(
    path: Path,
    header: Header,
    blocks: Iterable[bytes | memoryview | npt.NDArray[np.uint8]],
    *,
    has_lock: Callable[[], bool] | None = None,
) -> Header:
    """Write a sealed file of these frames, in the compression that the header names.

    It is written beside ``path``, every compressed block is decompressed again and compared, and
    only then it takes the place of what was there. The caller holds the stream's lock, or passes
    ``has_lock``, which returns at the last moment whether the lock is still held.

    Parameters
    ----------
    path : Path
    header : Header
        Header of the file; its times, count, checksum and size are taken from the frames.
    blocks : iterable of buffers
        Whole frames, about 1 MiB each.
    has_lock : callable, optional

    Returns
    -------
    Header
        The header as it was written.

    Raises
    ------
    CorruptFileError
        If a block did not come back as it was: what was there is untouched.
    StorageError
        If the lock of the stream is lost, or as the operating system says.
    """
    from ibticks.format import scan_frames

    header = replace(header, frame_bytes=HEADER_BYTES)
    compression = header.compression
    with written_beside(path) as descriptor:
        write_all(descriptor, header.to_bytes())
        crc = body_bytes = messages = 0
        times: list[int] = []
        for raw in blocks:
            plain = bytes(raw)
            stored = plain if compression == "none" else compress_block(plain, compression)
            if compression != "none" and decompress_block(stored, compression) != plain:
                raise CorruptFileError(
                    f"{path}: a {compression} block did not come back as it was; the file is left "
                    "as it is",
                    path=str(path),
                )
            write_all(descriptor, stored)
            crc = checksum(stored, crc)
            body_bytes += len(stored)
            for block in scan_frames(plain, block_bytes=len(plain)).blocks:
                messages += block.messages
                times += [block.min_ns, block.max_ns]
        header = header.seal(
            start_ns=min(times, default=header.start_ns),
            end_ns=max(times, default=header.end_ns),
            message_count=messages,
            crc32c=crc,
            body_bytes=body_bytes,
        )
        os.pwrite(descriptor, header.to_bytes(), 0)
        if has_lock is not None and not has_lock():
            raise StorageError(
                f"{path} was not replaced: the lock of its stream is lost", path=str(path)
            )
    return header
