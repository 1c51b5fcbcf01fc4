"""What happens to sealed files as they age: they are compressed, and one day deleted."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ibticks.errors import CorruptFileError
from ibticks.format.framing import checksum
from ibticks.format.header import HEADER_BYTES
from ibticks.storage.blocks import check_compression, compress, decompress
from ibticks.storage.disk import explained, sync_folder, write_all, written_beside
from ibticks.storage.lock import StreamLock
from ibticks.storage.summary import frame_blocks, summarise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ibticks.index.records import FileRecord, Index
    from ibticks.storage.layout import FileKey

__all__ = ["compress_file", "compress_files", "delete_files"]

_log = logging.getLogger(__name__)


def compress_file(root: Path, key: FileKey, compression: str) -> FileRecord:
    """Compress a sealed file (or, with ``none``, make it plain again) and say what it is now.

    The new file is written beside the old one, every block is decompressed again and compared,
    and only then takes its place. The caller holds the stream's lock.

    Raises
    ------
    CorruptFileError
        If the file is not sealed or does not have its checksum, or a block did not come back as
        it was: the old file is then untouched.
    """
    check_compression(compression)
    path = root / key.path
    summary = summarise(root, key)
    header = summary.header
    if not header.sealed or summary.problem:
        raise CorruptFileError(
            f"{path} is not sealed, or does not have the checksum its header promises; it is left "
            "as it is: only complete, whole files are compressed",
            path=str(path),
        )
    if header.compression == compression:
        return summary.record
    new = replace(header, compression=compression, frame_bytes=HEADER_BYTES)
    with explained(path, "reading"):
        data = np.fromfile(path, dtype=np.uint8)
    with written_beside(path) as descriptor:
        write_all(descriptor, new.to_bytes())
        crc = body_bytes = 0
        for raw in frame_blocks(data, header):
            stored = compress(raw, compression)
            if decompress(stored, compression) != raw:
                raise CorruptFileError(
                    f"{path}: a {compression} block did not come back as it was; the file is left "
                    "as it is",
                    path=str(path),
                )
            write_all(descriptor, stored)
            crc = checksum(stored, crc)
            body_bytes += len(stored)
        new = replace(new, crc32c=crc, body_bytes=body_bytes)
        os.pwrite(descriptor, new.to_bytes(), 0)
    return summarise(root, key).record


def compress_files(
    root: Path, index: Index, keys: Iterable[FileKey], compression: str
) -> Iterator[FileRecord]:
    """Compress files one by one, each under its stream's lock, telling the index of each.

    Raises
    ------
    CorruptFileError
        Naming those that are damaged, after the others were compressed; they stay as they are.
    """
    damaged = []
    for key in keys:
        lock = _lock_of(root, key)
        try:
            record = compress_file(root, key, compression)
            index.put_files([record])
        except CorruptFileError as error:
            _log.error("%s", error)
            damaged.append(key.path)
            continue
        finally:
            lock.release()
        yield record
    if damaged:
        raise CorruptFileError(
            f"{', '.join(damaged)} cannot be compressed: see the log, and `ibticks verify`",
            path=str(root / damaged[0]),
        )


def delete_files(root: Path, index: Index, keys: Iterable[FileKey]) -> Iterator[FileKey]:
    """Delete files one by one, each under its stream's lock, first from the index."""
    for key in keys:
        lock = _lock_of(root, key)
        path = root / key.path
        try:
            index.drop_files([key.path])
            with explained(path, "deleting"):
                if path.exists():
                    path.unlink()
                    sync_folder(path.parent)
        finally:
            lock.release()
        yield key


def _lock_of(root: Path, key: FileKey) -> StreamLock:
    """The lock of whoever writes to a file."""
    return StreamLock(root, key.contract_id, key.tick_type, backfill=key.part == "backfill")
