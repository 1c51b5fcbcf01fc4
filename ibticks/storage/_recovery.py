"""After a crash: what is whole stays, what is torn is cut, kept beside the file, and reported."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from ibticks.errors import CorruptFileError
from ibticks.filesystem import explained, give_to_store_owner, sync_folder, write_all
from ibticks.format import MAX_FRAME_BYTES, Header, read_header
from ibticks.storage._headers import check_place
from ibticks.storage._layout import FileKey
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cut_torn_tail", "keep_tail", "whole_messages"]

_log = logging.getLogger(__name__)
_PREFIX: Final = 4  # bytes of a frame's length
_LONGEST_HEADER: Final = 4096  # of any writer: what claims more is not a torn header


def cut_torn_tail(path: Path) -> Header | None:
    """Cut what follows the last whole message of an open file.

    Every message is read, not only the lengths: a power cut may leave zeros inside the last one,
    and whatever is appended after a message that cannot be read is lost. The cut bytes go to
    ``{path}.torn`` (appended, where there is one), and are on the disk before they leave the file.
    A sealed file is left as it is, damaged or not.

    Returns
    -------
    Header or None
        None where not even the header was whole; the file is then empty.

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
        if not len(data) < claimed <= _LONGEST_HEADER:
            raise
        _cut(path, data, 0, "the header is torn")
        return None
    check_place(header, FileKey.of_path(path), path)
    if not header.sealed and header.compression == "none":
        end, why = whole_messages(data, header.frame_bytes)
        if why is not None:
            _cut(path, data, end, why)
    return header


def whole_messages(data: memoryview, at: int) -> tuple[int, str | None]:
    """Find where the last whole message from ``at`` on ends, and what is wrong after it."""
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


def _cut(path: Path, data: memoryview, end: int, why: str) -> None:
    tail = data[end:]
    if not tail:
        return
    with explained(path, "recovering"):
        kept = keep_tail(path, tail)
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.ftruncate(descriptor, end)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    _log.warning(
        "%s: %d bytes after byte %d are not whole messages (%s); they are kept in %s",
        path,
        len(tail),
        end,
        why,
        kept.name,
    )


def keep_tail(path: Path, tail: memoryview) -> Path:
    """Append bytes that leave a file to ``{path}.torn``, and sync it."""
    kept = path.with_name(path.name + ".torn")
    descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        write_all(descriptor, tail)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    give_to_store_owner(kept)
    sync_folder(path.parent)
    return kept
