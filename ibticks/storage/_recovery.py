"""Recover a file after a crash: cut its torn tail, keep it beside the file, and report it."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from ibticks.errors import CorruptFileError
from ibticks.filesystem import explained, give_to_store_owner, sync_folder, write_all
from ibticks.format import MAX_FRAME_BYTES, Header, read_header
from ibticks.storage._file_header import check_place
from ibticks.storage._layout import FileKey
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cut_torn_tail", "find_whole_messages", "keep_tail"]

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
