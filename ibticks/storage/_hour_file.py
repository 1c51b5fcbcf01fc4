"""One file being written: appended to, sealed, opened again, and recovered after a crash."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from ibticks._version import __version__
from ibticks.config import HOUR_NS
from ibticks.errors import ArchiveError, CorruptFileError, StorageError
from ibticks.filesystem import (
    explained,
    explanation,
    give_to_store_owner,
    make_folder,
    sync_data,
    sync_folder,
    write_all,
    written_beside,
)
from ibticks.format import HEADER_BYTES, MAX_FRAME_BYTES, Header, checksum, read_header
from ibticks.index import FileRecord
from ibticks.storage._blocks import iter_blocks
from ibticks.storage._file_header import check_place, put_header, read_file_header
from ibticks.storage._layout import FileKey, marker_path
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = [
    "WRITER",
    "HourFile",
    "cut_torn_tail",
    "find_whole_messages",
    "keep_tail",
    "provisional_record",
]

WRITER: Final = f"ibticks {__version__}"
"""Software and version, for headers."""
_COPY_BYTES: Final = 1 << 20

_log = logging.getLogger(__name__)
_PREFIX: Final = 4  # bytes of a frame's length
_MAX_HEADER_BYTES: Final = 4096  # of any writer: a larger claimed size is not a torn header


def cut_torn_tail(path: Path) -> Header | None:
    """Cut the bytes after the last whole message of an open file.

    Every message is read, not only the lengths: a power cut may leave zeros inside the last one,
    and messages appended after one that cannot be read would be lost. The cut bytes go to
    ``{path}.torn`` (appended, where there is one), and are on the disk before they leave the file.
    A sealed file is left as it is, damaged or not.

    Returns
    -------
    Header or None
        None if the header itself was torn; the file is then empty.

    Raises
    ------
    CorruptFileError
        If the file does not begin with a header.
    MisplacedFileError
        If it is not the file that its path names.
    """
    with explained(path, "reading"):
        data = memoryview(path.read_bytes())
    try:
        header = read_header(data, path=str(path))
    except CorruptFileError:
        claimed = _PREFIX + int.from_bytes(data[:_PREFIX], "big")
        if not len(data) < claimed <= _MAX_HEADER_BYTES:
            raise
        _cut(path, data, 0, "the header is torn")
        return None
    check_place(header, FileKey.of_path(path), path)
    if not header.sealed and header.compression == "none":
        end, reason = find_whole_messages(data, header.frame_bytes)
        if reason is not None:
            _cut(path, data, end, reason)
    return header


def find_whole_messages(data: memoryview, at: int) -> tuple[int, str | None]:
    """Return the end of the last whole message from ``at`` on, and the problem after it."""
    while at < len(data):
        begin = at + _PREFIX
        size = int.from_bytes(data[at:begin], "big")
        if begin > len(data) or (size <= MAX_FRAME_BYTES and begin + size > len(data)):
            return at, "the last frame is torn"
        if not 0 < size <= MAX_FRAME_BYTES:
            return at, f"a frame is empty or longer than {MAX_FRAME_BYTES >> 20} MiB"
        try:
            StreamMessage.FromString(data[begin : begin + size])  # type: ignore[arg-type]
        except DecodeError:
            return at, "a frame is not a StreamMessage"
        at = begin + size
    return at, None


def _cut(path: Path, data: memoryview, end: int, reason: str) -> None:
    tail = data[end:]
    if not tail:
        return
    with explained(path, "recovering"):
        torn = keep_tail(path, tail)
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.ftruncate(descriptor, end)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    _log.warning(
        "%s: %d bytes after byte %d are not whole messages (%s): moved to %s",
        path,
        len(tail),
        end,
        reason,
        torn.name,
    )


def keep_tail(path: Path, tail: memoryview) -> Path:
    """Append bytes that leave a file to ``{path}.torn``, and sync it."""
    torn = path.with_name(path.name + ".torn")
    descriptor = os.open(torn, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        write_all(descriptor, tail)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    give_to_store_owner(torn)
    sync_folder(path.parent)
    return torn


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
        Key of the file. One that exists is recovered, decompressed and unsealed as needed.
    first_ns : int
        Time of the message about to be appended, for the header of a new file.
    announce : callable
        Called once the file is there, and before it is unsealed: its record in the index is out
        of date from then on.

    Attributes
    ----------
    size : int
        Accepted bytes.
    is_encoded : bool
        Whether all that was appended was encoded by this process: it need not be read again to
        know that the file ends with a whole message.
    problem : StorageError or None
        Set while it is not known that the file ends where :attr:`size` says, or that its bytes
        reach the disk: :meth:`append` refuses until :meth:`mend` has succeeded.

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
            self._descriptor = _open_at_end(self.path)
            self.size = os.fstat(self._descriptor).st_size
        self.is_encoded = True
        self.problem: StorageError | None = None
        self._is_untrusted = False  # a sync failed since the file was written anew
        self._synced_size = 0
        self._syncing = Lock()  # a background thread syncs while another one appends
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
        if marker_path(self.root, self.key.path).exists():
            raise ArchiveError(
                f"{self.path} is in an object store only, as {self.path.name}.archived beside it "
                "says: bring it back with Store.restore_archived before ticks are added to its "
                "hour",
                path=str(self.path),
            )
        make_folder(self.path.parent)
        # Beside and then renamed: no reader ever meets a file with half a header.
        with written_beside(self.path) as descriptor:
            write_all(descriptor, header.to_bytes())
        return header

    def _recover(self, first_ns: int) -> Header:
        """Return the header of an existing file, after its checksum, or its frames, are checked."""
        with self.path.open("rb") as file:
            header: Header | None = None  # torn, it may be
            with suppress(CorruptFileError):
                header = read_file_header(file.fileno(), str(self.path))
            if header is not None:
                check_place(header, self.key, self.path)
            if header is not None and header.sealed:
                crc = 0
                file.seek(header.frame_bytes)
                while data := file.read(_COPY_BYTES):
                    crc = checksum(data, crc)
                if crc != header.crc32c:
                    raise CorruptFileError(
                        f"{self.path} is sealed, but does not match its checksum; it is left as it "
                        "is",
                        path=str(self.path),
                        offset=header.frame_bytes,
                    )
                return header

        # The writer that began the file may have failed to make its name durable.
        sync_folder(self.path.parent)
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
            Disk full: none of ``frames`` counts as accepted, all that was before still does.
        StorageError
            As the operating system says, or because of :attr:`problem`; the same holds.
        """
        if self.problem is not None:
            raise self.problem
        size = self.size + len(frames)
        try:
            written = os.write(self._descriptor, frames)
            if written < len(frames):
                write_all(self._descriptor, memoryview(frames)[written:])
            # Nothing that an interrupt could come between lies after the bytes are in.
            self.size = size
        except BaseException as error:
            # A part may have got in: take it back, so that the file ends with a whole frame.
            self._cut()
            if isinstance(error, OSError):
                raise explanation(error, self.path, "appending to") from error
            raise
        self.unsynced = True

    def take_back(self, size: int) -> None:
        """Undo the last :meth:`append`, of so many bytes.

        Where the operating system refuses that, :attr:`problem` says so.
        """
        self.size -= size
        self._cut()

    def _cut(self) -> None:
        try:
            self._truncate()
        except OSError as error:
            reason = explanation(error, self.path, "taking a refused message back from")
            self.problem = type(reason)(
                f"{reason.message}; the file is not known to end at byte {self.size}, where the "
                "last accepted message ends: nothing is appended to it before it does",
                path=str(self.path),
                offset=self.size,
            )
            _log.error("%s", self.problem)

    def _truncate(self) -> None:
        os.ftruncate(self._descriptor, self.size)
        os.lseek(self._descriptor, self.size, os.SEEK_SET)

    def sync(self) -> None:
        """Have everything appended so far on the disk itself.

        After a failed sync the operating system may take the bytes for written: a second sync
        would succeed and mean nothing. They are written to a new file instead.

        Raises
        ------
        StorageError
            That failed too, and :attr:`problem` says which bytes a power cut may take.
        """
        self.force()
        if self.problem is not None:
            self.mend()

    def force(self) -> None:
        """Sync as :meth:`sync` does, but leave a failure in :attr:`problem`.

        Another thread may append meanwhile.
        """
        with self._syncing:
            self.synced_at = time.monotonic()
            if not self.unsynced or self._is_untrusted or self._descriptor < 0:
                return
            self.unsynced, size = False, self.size
            try:
                sync_data(self._descriptor)
            except OSError as error:
                self._distrust(error)
            else:
                self._synced_size = size

    def _distrust(self, error: OSError) -> None:
        self._is_untrusted = True
        reason = explanation(error, self.path, "syncing")
        self.problem = type(reason)(
            f"{reason.message}; what was accepted after byte {self._synced_size} may not survive "
            "a power cut: nothing is appended to it before it is written anew",
            path=str(self.path),
            offset=self._synced_size,
        )
        _log.error("%s", self.problem)

    def mend(self) -> None:
        """Bring the file to where all that was accepted is in it, and nothing else.

        A refused message is cut off. Where that fails, or after a failed sync, the accepted bytes
        are written to a new file, which is synced and takes the place of this one.

        Raises
        ------
        StorageError
            The problem remains.
        """
        with self._syncing:
            if not self._is_untrusted:
                try:
                    self._truncate()
                except OSError as error:
                    _log.warning("%s cannot be truncated: %s; it is written anew", self.path, error)
                else:
                    self.problem = None
                    return
            # From here on the open file may be another one than the path names.
            self._is_untrusted = True
            self._write_anew()
            self.problem = None
            self._is_untrusted = False

    def _write_anew(self) -> None:

        with explained(self.path, "reading"):
            data = memoryview(_read(self._descriptor, self.size))
            # Bytes whose sync failed may be gone, or read as zeros.
            end, _ = find_whole_messages(data, self.header.frame_bytes)
            with written_beside(self.path) as descriptor:
                write_all(descriptor, data[:end])
            fresh = _open_at_end(self.path)
            os.close(self._descriptor)
            self._descriptor = fresh
        _log.warning("%s: %d bytes were written to a new file and synced", self.path, end)
        lost, self.size = self.size - end, end
        self._synced_size, self.unsynced = end, False
        if lost:
            _log.critical(
                "%s: %d accepted bytes after byte %d are lost: they could not be synced, and "
                "cannot be read any more",
                self.path,
                lost,
                end,
            )
            with suppress(OSError):
                keep_tail(self.path, data[end:])

    def close(self) -> None:
        """Close without sealing."""
        with self._syncing:
            if self._descriptor >= 0:
                descriptor, self._descriptor = self._descriptor, -1
                with explained(self.path, "closing"):
                    os.close(descriptor)


def _open_at_end(path: Path) -> int:
    """Open a file for reading and writing, positioned at its end."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.lseek(descriptor, 0, os.SEEK_END)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read(descriptor: int, size: int) -> bytearray:
    """Return up to ``size`` bytes from the start of an open file."""
    data = bytearray()
    while len(data) < size:
        chunk = os.pread(descriptor, min(_COPY_BYTES, size - len(data)), len(data))
        if not chunk:
            break
        data += chunk
    return data


def _decompress(path: Path, header: Header) -> Header:
    """Turn a compressed file into a plain, open one, so that it can be appended to."""
    plain = replace(header.unseal(), compression="none", frame_bytes=HEADER_BYTES)
    with written_beside(path) as descriptor:
        data = memoryview(path.read_bytes())
        write_all(descriptor, plain.to_bytes())
        for _, _, raw in iter_blocks(data, header):
            write_all(descriptor, raw)
    return plain


def provisional_record(root: Path, key: FileKey) -> FileRecord:
    """Return the index record of a file whose contents are not known: it is open, or damaged.

    The record covers the whole hour, so that a load meets the file, and reads what there is or
    reports what is missing.

    Raises
    ------
    StorageError
        If the file is not there.
    """
    path = root / key.path
    with explained(path, "reading"):
        size = path.stat().st_size
    return FileRecord(
        path=key.path,
        contract_id=key.contract_id,
        tick_type=key.tick_type,
        hour_ns=key.hour_ns,
        # A later arrival may be earlier in the hour.
        start_ns=key.hour_ns,
        end_ns=key.hour_ns + HOUR_NS - 1,
        size=size,
        messages=0,
        ticks=0,
    )
