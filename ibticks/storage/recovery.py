"""After a crash: what is whole stays, what is torn is cut, kept beside the file, and reported."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import numpy as np

from ibticks.errors import CorruptFileError
from ibticks.format.frames import scan
from ibticks.format.header import Header, read_header
from ibticks.storage.disk import explained, sync_folder, write_all

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["cut_torn_tail"]

_log = logging.getLogger(__name__)
_LONGEST_HEADER = 1 << 20


def cut_torn_tail(path: Path) -> Header | None:
    """Cut what follows the last whole frame of an open file.

    The cut bytes go to ``{path}.torn`` (appended, where there is one), and are on the disk before
    they leave the file. A sealed file is left as it is.

    Returns
    -------
    Header or None
        None where not even the header was whole; the file is then empty.

    Raises
    ------
    CorruptFileError
        If the file does not begin with a header, or a sealed file is damaged.
    """
    with explained(path, "reading"):
        data = np.fromfile(path, dtype=np.uint8)
    try:
        header = read_header(data[:_LONGEST_HEADER].data, path=str(path))
    except CorruptFileError:
        if len(data) >= 4 and int.from_bytes(data[:4].tobytes(), "big") + 4 <= len(data):
            raise
        _cut(path, data, 0, "the header is torn")
        return None
    if header.compression != "none":
        return header
    walked = scan(data, header.frame_bytes)
    if walked.problem is None:
        return header
    if header.sealed:
        raise CorruptFileError(
            f"{path} is sealed but damaged at byte {walked.end} ({walked.problem}); it is left as "
            "it is",
            path=str(path),
            offset=walked.end,
        )
    _cut(path, data, walked.end, walked.problem)
    return header


def _cut(path: Path, data: npt.NDArray[np.uint8], end: int, why: str) -> None:
    kept = path.with_name(path.name + ".torn")
    tail = data[end:]
    with explained(path, "recovering"):
        descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            write_all(descriptor, tail.data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.ftruncate(descriptor, end)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    _log.warning(
        "%s: %d bytes after byte %d were not whole frames (%s); they are kept in %s",
        path,
        len(tail),
        end,
        why,
        kept.name,
    )
