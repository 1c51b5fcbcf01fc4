"""One file being written: appended to, sealed, opened again for a late tick."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ibticks import __version__
from ibticks.errors import CorruptFileError
from ibticks.format.header import HEADER_BYTES, Header
from ibticks.storage.disk import explained, sync_folder, write_all, written_beside
from ibticks.storage.recovery import cut_torn_tail
from ibticks.storage.summary import body_blocks, summarise

if TYPE_CHECKING:
    from pathlib import Path

    from ibticks.index.records import FileRecord
    from ibticks.storage.layout import FileKey

__all__ = ["HourFile", "decompress_file", "put_header", "seal"]

_WRITER: Final = f"ibticks {__version__}"
_COPY_BYTES: Final = 1 << 20


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
        self._unsynced = True
        self.synced_at = time.monotonic()

    def _create(self, first_ns: int) -> Header:
        header = Header(
            contract_id=self.key.contract_id,
            tick_type=self.key.tick_type,
            start_ns=first_ns,
            end_ns=first_ns,
            writer=_WRITER,
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Beside and then renamed: no reader ever meets a file with half a header.
        with written_beside(self.path) as descriptor:
            write_all(descriptor, header.to_bytes())
        return header

    def _reopen(self, first_ns: int) -> Header:
        header = cut_torn_tail(self.path)
        if header is None:
            return self._create(first_ns)
        if header.compression != "none":
            header = decompress_file(self.path, header)
        elif header.sealed:
            put_header(self.path, header, header.unseal())
            header = header.unseal()
        return header

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
            with explained(self.path, "appending to"):
                write_all(self._descriptor, frames)
        except BaseException:
            # A part may have got in: take it back, so that the file ends with a whole frame.
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            raise
        self.size += len(frames)
        self._unsynced = True

    def sync(self) -> None:
        """Have everything appended so far on the disk itself."""
        if self._unsynced:
            with explained(self.path, "syncing"):
                os.fdatasync(self._descriptor)
            self._unsynced = False
        self.synced_at = time.monotonic()

    def close(self) -> None:
        """Close without sealing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def seal(self) -> FileRecord:
        """Sync, make the header final, close; returns the row for the index."""
        self.sync()
        self.close()
        return seal(self.root, self.key)


def seal(root: Path, key: FileKey) -> FileRecord:
    """Make the header of a file final, if it is not, and say what is in it.

    Raises
    ------
    CorruptFileError
        If it is damaged; nothing is changed then.
    """
    summary = summarise(root, key)
    path = root / key.path
    if summary.problem is not None:
        raise CorruptFileError(
            f"{path} cannot be sealed: at byte {summary.end}: {summary.problem}",
            path=str(path),
            offset=summary.end,
        )
    if summary.header.sealed and summary.header.crc32c == summary.body_crc32c:
        return summary.record
    header = summary.header.seal(
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


def put_header(path: Path, old: Header, new: Header) -> None:
    """Replace a file's header: in place where it has our length, else by writing the file anew."""
    if old.frame_bytes == HEADER_BYTES:
        with explained(path, "writing the header of"):
            descriptor = os.open(path, os.O_RDWR)
            try:
                # What the header vouches for must be on the disk before it says so.
                os.fdatasync(descriptor)
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
