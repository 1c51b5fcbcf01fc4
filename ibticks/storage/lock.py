"""One writer per store and stream.

The lock is the operating system's (released when the process ends, however it ends); beside it
lies a note of who holds it, so that a second writer can be told.
"""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from ibticks.errors import StoreAccessError, WriterLockedError
from ibticks.storage.layout import metadata

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["StreamLock"]


class StreamLock:
    """Held while a stream of a store is written to.

    Parameters
    ----------
    root : Path
        The store.
    contract_id : int
    tick_type : str

    Raises
    ------
    WriterLockedError
        If another writer holds it; names the process, the machine and since when.
    """

    def __init__(self, root: Path, contract_id: int, tick_type: str) -> None:
        folder = metadata(root) / "locks"
        self._note: Final = folder / f"{contract_id}.{tick_type}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / f"{contract_id}.{tick_type}.lock", is_singleton=False)
            self._lock.acquire(timeout=0)
        except Timeout:
            holder = self._holder()
            raise WriterLockedError(
                f"{tick_type} of contract {contract_id} in {root} is already written by "
                f"{_words(holder)}; stop that one first, or write another stream",
                path=str(root),
                contract_id=contract_id,
                tick_type=tick_type,
                holder=holder,
            ) from None
        except PermissionError as error:
            raise StoreAccessError(
                f"{folder} cannot be written: give this user write permission on the store",
                path=str(folder),
            ) from error
        self._note.write_text(
            json.dumps(
                {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "since": datetime.now(UTC).isoformat(timespec="seconds"),
                }
            )
        )

    def _holder(self) -> dict[str, object]:
        try:
            holder = json.loads(self._note.read_text())
        except (OSError, ValueError):
            # It has the lock but not yet written its note.
            return {}
        return holder if isinstance(holder, dict) else {}

    def release(self) -> None:
        """Let the next writer in."""
        if self._lock.is_locked:
            self._note.unlink(missing_ok=True)
            self._lock.release()


def _words(holder: dict[str, object]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')} (since {holder.get('since')})"
