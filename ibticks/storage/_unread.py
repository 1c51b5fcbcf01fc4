"""What the index says of a file that nobody has read: one being written, or one that is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks.filesystem import explained
from ibticks.index import FileRecord
from ibticks.storage._layout import HOUR

if TYPE_CHECKING:
    from pathlib import Path

    from ibticks.storage._layout import FileKey

__all__ = ["unread"]


def unread(root: Path, key: FileKey) -> FileRecord:
    """The row of a file that may hold anything of its hour.

    By it a load meets the file, and reads what there is, or says what is missing.

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
        end_ns=key.hour_ns + HOUR - 1,
        size=size,
        messages=0,
        ticks=0,
    )
