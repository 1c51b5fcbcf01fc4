"""Writing a sealed file as a whole: beside, verified, and then put in its place."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from ibticks.errors import CorruptFileError, StorageError
from ibticks.filesystem import write_all, written_beside
from ibticks.format import HEADER_BYTES, Header, checksum, scan_frames
from ibticks.storage._blocks import compress, decompress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

__all__ = ["write_sealed"]


def write_sealed(
    path: Path,
    header: Header,
    blocks: Iterable[bytes | memoryview | npt.NDArray[np.uint8]],
    *,
    is_ours: Callable[[], bool] | None = None,
) -> Header:
    """Write a sealed file of these frames, in the compression that the header names.

    It is written beside ``path``, every compressed block is decompressed again and compared, and
    only then it takes the place of what was there. The caller holds the stream's lock, or has
    ``is_ours`` say at the last moment whether it is still held.

    Parameters
    ----------
    path : Path
    header : Header
        Of the file; times, count, checksum and size are those of the frames.
    blocks : iterable of buffers
        Whole frames, about 1 MiB each.
    is_ours : callable, optional

    Returns
    -------
    Header
        As it was written.

    Raises
    ------
    CorruptFileError
        If a block did not come back as it was: what was there is untouched.
    StorageError
        If the stream is somebody else's by now, or as the operating system says.
    """
    header = replace(header, frame_bytes=HEADER_BYTES)
    compression = header.compression
    with written_beside(path) as descriptor:
        write_all(descriptor, header.to_bytes())
        crc = body_bytes = messages = 0
        times: list[int] = []
        for raw in blocks:
            plain = bytes(raw)
            stored = plain if compression == "none" else compress(plain, compression)
            if compression != "none" and decompress(stored, compression) != plain:
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
        if is_ours is not None and not is_ours():
            raise StorageError(f"{path} is somebody else's by now", path=str(path))
    return header
