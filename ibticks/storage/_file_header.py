"""Read, check and replace the header of a file on disk."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ibticks.config import NANOSECONDS
from ibticks.errors import MisplacedFileError
from ibticks.filesystem import explained, sync_data, sync_folder, write_all, written_beside
from ibticks.format import HEADER_BYTES, Header, read_header
from ibticks.storage._layout import floor_hour

if TYPE_CHECKING:
    from pathlib import Path

    from ibticks.storage._layout import FileKey

__all__ = ["check_place", "put_header", "read_file_header"]

_log = logging.getLogger(__name__)
_FIRST_READ_BYTES: Final = 4096  # more than any header in use
_COPY_BYTES: Final = 1 << 20
_MAX_READS: Final = 100


def read_file_header(descriptor: int, path: str = "") -> Header:
    """Read the header of an open file, of any length a header may have.

    A writer may replace the header in place meanwhile, and a read beside a write may return some
    bytes of either version: the header is read until two reads agree.

    Raises
    ------
    CorruptFileError
        If the file does not begin with a whole header.
    """
    start = os.pread(descriptor, _FIRST_READ_BYTES, 0)
    size = 4 + int.from_bytes(start[:4], "big")
    if size > _COPY_BYTES:
        return read_header(start, path=path)
    start = start[:size]
    for _ in range(_MAX_READS):
        again = os.pread(descriptor, size, 0)
        if again == start:
            break
        start = again
    return read_header(start, path=path)


def check_place(header: Header, key: FileKey | None, path: Path) -> None:
    """Check that a header belongs to the path of its file.

    Older writers leave fields of the header empty: these are not compared. A file outside a store's
    layout (``key`` is None) is not checked.

    Raises
    ------
    MisplacedFileError
        If the header states another contract, tick type or hour.
    """
    if key is None:
        return
    differences: list[str] = []
    if header.contract_id not in (0, key.contract_id):
        differences.append(f"contract_id {header.contract_id}")
    if header.tick_type not in ("", key.tick_type):
        differences.append(f"tick_type {header.tick_type!r}")
    start_ns, end_ns = header.start_ns, header.end_ns or header.start_ns
    # One stray message does not move a file: its other end, or the middle, is in the hour.
    is_in_hour = (
        not start_ns
        or key.hour_ns in (floor_hour(start_ns), floor_hour(end_ns))
        or start_ns < key.hour_ns < end_ns
    )
    if not is_in_hour:
        differences.append(f"start_ns {start_ns} ({_format_hour(start_ns)})")
    if differences:
        raise MisplacedFileError(
            f"{path} is not the file that its path names: its header has "
            f"{', '.join(differences)}. It was moved, renamed or copied here: move it back (or "
            "remove a copy), restore the file that belongs here, and run `ibticks index rebuild`",
            path=str(path),
            offset=0,
        )


def _format_hour(time_ns: int) -> str:
    try:
        hour = datetime.fromtimestamp(time_ns // NANOSECONDS, UTC)
    except (ValueError, OverflowError, OSError):
        return "out of range"
    return f"{hour:%Y-%m-%d %H:00} UTC"


def put_header(path: Path, old: Header, new: Header) -> None:
    """Replace the header of a file: in place if it has 256 bytes, else by rewriting the file.

    The file is also rewritten where a sync fails: a second sync would not show whether the bytes
    are on the disk.
    """
    if old.frame_bytes == HEADER_BYTES:
        with explained(path, "writing the header of"):
            descriptor = os.open(path, os.O_RDWR)
            try:
                # The body must be on the disk before a header with its checksum is.
                sync_data(descriptor)
                os.pwrite(descriptor, new.to_bytes(), 0)
                os.fsync(descriptor)
            except OSError as error:
                _log.error("%s: %s while syncing; it is written anew", path, error)
                with suppress(OSError):
                    # Should the rewrite fail, too, no header may vouch for the bytes.
                    os.pwrite(descriptor, old.to_bytes(), 0)
            else:
                sync_folder(path.parent)
                return
            finally:
                os.close(descriptor)
    with written_beside(path) as descriptor, path.open("rb") as source:
        write_all(descriptor, new.to_bytes())
        source.seek(old.frame_bytes)
        while data := source.read(_COPY_BYTES):
            write_all(descriptor, data)
