"""One file being written: appended to, sealed, opened again for a late tick."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ibticks import __version__
from ibticks.errors import CorruptFileError
from ibticks.format.framing import checksum
from ibticks.format.header import HEADER_BYTES, Header
from ibticks.storage.blocks import body_blocks
from ibticks.storage.disk import (
    explained,
    explanation,
    make_folder,
    sync_data,
    write_all,
    written_beside,
)
from ibticks.storage.headers import check_place, header_of, put_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ibticks.storage.layout import FileKey

__all__ = ["WRITER", "HourFile"]

WRITER: Final = f"ibticks {__version__}"
"""How headers name us."""

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
    announce : callable
        Called once the file is there, and before it is unsealed: what is known of it will no
        longer hold.

    Raises
    ------
    CorruptFileError
        If it is sealed and damaged, or does not begin with a header; it is then left as it is.
    MisplacedFileError
        If it is not the file that its path names; it is then left as it is.
    StorageError
        As the operating system says.
    """

    def __init__(
        self, root: Path, key: FileKey, first_ns: int, announce: Callable[[], None]
    ) -> None:
        self.root: Final = root
        self.key: Final = key
        self.path: Final = root / key.path
        with explained(self.path, "opening"):
            try:
                size = self.path.stat().st_size
            except FileNotFoundError:
                size = 0
            self.header = self._recover(first_ns) if size else self._create(first_ns)
            announce()
            if self.header.sealed or self.header.compression != "none":
                self.header = self._unseal()
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
            writer=WRITER,
        )
        make_folder(self.path.parent)
        # Beside and then renamed: no reader ever meets a file with half a header.
        with written_beside(self.path) as descriptor:
            write_all(descriptor, header.to_bytes())
        return header

    def _recover(self, first_ns: int) -> Header:
        """The header of a file that is there, once it is sure that all of it is whole."""
        with self.path.open("rb") as file:
            header: Header | None = None  # torn, it may be
            with suppress(CorruptFileError):
                header = header_of(file.fileno(), str(self.path))
            if header is not None:
                check_place(header, self.key, self.path)
            if header is not None and header.sealed:
                crc = 0
                file.seek(header.frame_bytes)
                while piece := file.read(_COPY_BYTES):
                    crc = checksum(piece, crc)
                if crc != header.crc32c:
                    raise CorruptFileError(
                        f"{self.path} is sealed, but does not have its checksum; it is left as it "
                        "is",
                        path=str(self.path),
                        offset=header.frame_bytes,
                    )
                return header
        from ibticks.storage.recovery import cut_torn_tail

        return cut_torn_tail(self.path) or self._create(first_ns)

    def _unseal(self) -> Header:
        if self.header.compression != "none":
            return _decompress(self.path, self.header)
        header = self.header.unseal()
        put_header(self.path, self.header, header)
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
            written = os.write(self._descriptor, frames)
            if written < len(frames):
                write_all(self._descriptor, memoryview(frames)[written:])
        except BaseException as error:
            # A part may have got in: take it back, so that the file ends with a whole frame.
            self._cut()
            if isinstance(error, OSError):
                raise explanation(error, self.path, "appending to") from error
            raise
        self.size += len(frames)
        self.unsynced = True

    def take_back(self, size: int) -> None:
        """Undo the last :meth:`append`, of so many bytes."""
        self.size -= size
        with explained(self.path, "appending to"):
            self._cut()

    def _cut(self) -> None:
        os.ftruncate(self._descriptor, self.size)
        os.lseek(self._descriptor, self.size, os.SEEK_SET)

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


def _decompress(path: Path, header: Header) -> Header:
    """Turn a compressed file into a plain, open one, so that it can be appended to."""
    plain = replace(header.unseal(), compression="none", frame_bytes=HEADER_BYTES)
    with written_beside(path) as descriptor:
        data = memoryview(path.read_bytes())
        write_all(descriptor, plain.to_bytes())
        for _, _, raw in body_blocks(data, header):
            write_all(descriptor, raw)
    return plain
