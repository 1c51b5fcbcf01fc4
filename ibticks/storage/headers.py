"""The header of a file on disk: read from it, replaced in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ibticks.format.header import HEADER_BYTES, Header, read_header
from ibticks.storage.disk import explained, sync_data, sync_folder, write_all, written_beside

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["header_of", "put_header"]

_ENOUGH: Final = 4096  # for any header in use
_COPY_BYTES: Final = 1 << 20
_MOST_READS: Final = 100


def header_of(descriptor: int, path: str = "") -> Header:
    """The header of an open file, of any length a header may have.

    A writer may replace the header in place meanwhile, and a read beside a write may return some
    bytes of either version: it is read until two reads agree.

    Raises
    ------
    CorruptFileError
        If the file does not begin with a whole header.
    """
    start = os.pread(descriptor, _ENOUGH, 0)
    size = 4 + int.from_bytes(start[:4], "big")
    if size > _COPY_BYTES:
        return read_header(start, path=path)
    start = start[:size]
    for _ in range(_MOST_READS):
        again = os.pread(descriptor, size, 0)
        if again == start:
            break
        start = again
    return read_header(start, path=path)


def put_header(path: Path, old: Header, new: Header) -> None:
    """Replace a file's header: in place where it has our length, else by writing the file anew."""
    if old.frame_bytes == HEADER_BYTES:
        with explained(path, "writing the header of"):
            descriptor = os.open(path, os.O_RDWR)
            try:
                # What the header vouches for must be on the disk before it says so.
                sync_data(descriptor)
                os.pwrite(descriptor, new.to_bytes(), 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_folder(path.parent)
        return
    with written_beside(path) as descriptor, path.open("rb") as source:
        write_all(descriptor, new.to_bytes())
        source.seek(old.frame_bytes)
        while piece := source.read(_COPY_BYTES):
            write_all(descriptor, piece)
