"""One file being written: appended to, sealed, opened again for a late tick."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ibticks import __version__
from ibticks.errors import CorruptFileError
from ibticks.format.framing import checksum
from ibticks.format.header import HEADER_BYTES, Header, read_header
from ibticks.storage.blocks import body_blocks
from ibticks.storage.disk import (
    explained,
    explanation,
    make_folder,
    sync_data,
    sync_folder,
    write_all,
    written_beside,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ibticks.storage.layout import FileKey

__all__ = ["LONGEST_HEADER", "HourFile", "decompress_file", "open_header", "put_header"]

_WRITER: Final = f"ibticks {__version__}"
_COPY_BYTES: Final = 1 << 20
LONGEST_HEADER: Final = 1 << 20


class HourFile:
    """A file open for appending.

    What :meth:`append` accepted has been handed to the operating system when it returns: a kill
    of the process loses nothing of it, and any other process can read it. It survives a power cut
    once :meth:`sync` has returned.

    Parameters
    ----------
    root : Path
        The store.
    key : FileKey
        Which file. One that exists is recovered, decompressed and unsealed as needed.
    first_ns : int
        Time of the message about to be appended, for the header of a new file.
    """

    def __init__(self, root: Path, key: FileKey, first_ns: int) -> None:
        self.root: Final = root
        self.key: Final = key
        self.path: Final = root / key.path
        with explained(self.path, "opening"):
            try:
                size = self.path.stat().st_size
            except FileNotFoundError:
                size = 0
            if size:
                self.header = self._reopen(first_ns)
            else:
                self.header = self._create(first_ns)
            self._descriptor = os.open(self.path, os.O_RDWR)
            self.size = os.lseek(self._descriptor, 0, os.SEEK_END)
        self.unsynced = True
        self.synced_at = time.monotonic()

    def _create(self, first_ns: int) -> Header:
        header = Header(
            contract_id=self.key.contract_id,
            tick_type=self.key.tick_type,
            start_ns=first_ns,
            end_ns=first_ns,
            writer=_WRITER,
        )
        make_folder(self.path.parent)
        # Beside and then renamed: no reader ever meets a file with half a header.
        with written_beside(self.path) as descriptor:
            write_all(descriptor, header.to_bytes())
        return header

    def _reopen(self, first_ns: int) -> Header:
        with self.path.open("rb") as file:
            start = file.read(LONGEST_HEADER)
        header = open_header(start, self.path)
        if header is None or not header.sealed:
            from ibticks.storage.recovery import cut_torn_tail

            return cut_torn_tail(self.path) or self._create(first_ns)
        if header.compression != "none":
            return decompress_file(self.path, header)
        if _body_checksum(self.path, header) != header.crc32c:
            raise CorruptFileError(
                f"{self.path} is sealed but does not have its checksum; it is left as it is",
                path=str(self.path),
                offset=header.frame_bytes,
            )
        put_header(self.path, header, header.unseal())
        return header.unseal()

    def append(self, frames: bytes | memoryview) -> None:
        """Append whole frames.

        Raises
        ------
        StorageFullError
            Disk full: none of ``frames`` is in the file, all that was before still is.
        StorageError
            As the operating system says; the same holds.
        """
        try:
            written = os.write(self._descriptor, frames)
            if written < len(frames):
                write_all(self._descriptor, memoryview(frames)[written:])
        except BaseException as error:
            # A part may have got in: take it back, so that the file ends with a whole frame.
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            if isinstance(error, OSError):
                raise explanation(error, self.path, "appending to") from error
            raise
        self.size += len(frames)
        self.unsynced = True

    def sync(self) -> None:
        """Have everything appended so far on the disk itself."""
        if self.unsynced:
            with explained(self.path, "syncing"):
                sync_data(self._descriptor)
            self.unsynced = False
        self.synced_at = time.monotonic()

    def close(self) -> None:
        """Close without sealing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def duplicate(self) -> int:
        """Another descriptor of the file, to be synced and closed by whoever asked."""
        self.unsynced = False
        self.synced_at = time.monotonic()
        return os.dup(self._descriptor)


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
    with path.open("rb") as source, written_beside(path) as descriptor:
        write_all(descriptor, new.to_bytes())
        source.seek(old.frame_bytes)
        while piece := source.read(_COPY_BYTES):
            write_all(descriptor, piece)


def decompress_file(path: Path, header: Header) -> Header:
    """Turn a compressed file into a plain, open one, so that it can be appended to."""
    plain = replace(header.unseal(), compression="none", frame_bytes=HEADER_BYTES)
    data = memoryview(path.read_bytes())
    with written_beside(path) as descriptor:
        write_all(descriptor, plain.to_bytes())
        for _, _, raw in body_blocks(data, header):
            write_all(descriptor, raw)
    return plain


def open_header(start: bytes, path: Path) -> Header | None:
    """The header at the start of a file; None if the file ends before the header does.

    Raises
    ------
    CorruptFileError
        If there is a whole first frame, and it is no header.
    """
    try:
        return read_header(start, path=str(path))
    except CorruptFileError:
        if len(start) >= 4 and int.from_bytes(start[:4], "big") + 4 <= len(start):
            raise
        return None


def _body_checksum(path: Path, header: Header) -> int:
    crc = 0
    with path.open("rb") as file:
        file.seek(header.frame_bytes)
        while piece := file.read(_COPY_BYTES):
            crc = checksum(piece, crc)
    return crc
