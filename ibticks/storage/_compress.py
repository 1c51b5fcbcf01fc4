"""Compression of one sealed file: written beside, verified, renamed into place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ibticks.errors import CorruptFileError
from ibticks.filesystem import explained
from ibticks.storage._blocks import check_compression
from ibticks.storage._sealed_body import write_sealed
from ibticks.storage._summary import frame_blocks, summarise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ibticks.index import FileRecord
    from ibticks.storage._layout import FileKey

__all__ = ["compress_file"]


def compress_file(
    root: Path, key: FileKey, compression: str, *, is_ours: Callable[[], bool] | None = None
) -> FileRecord:
    """Compress a sealed file (or, with ``none``, make it plain again) and say what it is now.

    The new file is written beside the old one, every block is decompressed again and compared,
    and only then takes its place. The caller holds the stream's lock, or has ``is_ours`` say at the
    last moment whether it is still held.

    Raises
    ------
    CorruptFileError
        If the file is not sealed or does not have its checksum, or a block did not come back as
        it was: the old file is then untouched.
    StorageError
        If the stream is not ours any more.
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
    with explained(path, "reading"):
        data = np.fromfile(path, dtype=np.uint8)
    new = replace(header, compression=compression)
    write_sealed(path, new, frame_blocks(data, header), is_ours=is_ours)
    return summarise(root, key).record
