"""The lock of a stream: one writer per store and stream.

The lock is the operating system's (released when the process ends, however it ends); a note beside
it names its holder, for the error message of a second writer.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from ibticks.errors import WriterLockedError
from ibticks.filesystem import explained, give_to_store_owner, make_lock_file
from ibticks.storage._layout import metadata_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["StreamLock", "hold_lock"]

_log = logging.getLogger(__name__)
_ACQUIRE_SECONDS: Final = 0.1  # is_locked() holds the lock for some microseconds


class StreamLock:
    """Held while a stream of a store is written to.

    Parameters
    ----------
    root : Path
        The store.
    contract_id : int
    tick_type : str
    backfill : bool
        Lock the backfill of the stream, which has separate files and a separate lock: it is written
        while a capture runs.

    Raises
    ------
    WriterLockedError
        If another writer holds it; names the process, the machine and since when.
    StoreAccessError
        If this user may not write to the store.
    """

    def __init__(
        self, root: Path, contract_id: int, tick_type: str, *, backfill: bool = False
    ) -> None:
        path = _lock_path(root, contract_id, tick_type, backfill=backfill)
        stream = f"the backfill of {tick_type}" if backfill else tick_type
        self._note: Final = path.with_suffix(".json")
        # The lock is released where the writer is closed, in whichever thread that is.
        with explained(path.parent, "locking a stream in"):
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = make_lock_file(path)
            self._lock = FileLock(path, mode=mode, is_singleton=False, thread_local=False)
            try:
                self._lock.acquire(timeout=_ACQUIRE_SECONDS, poll_interval=_ACQUIRE_SECONDS / 10)
            except Timeout:
                holder = _read_note(self._note)
                raise WriterLockedError(
                    f"{stream} of contract {contract_id} in {root} is already written by "
                    f"{_describe_holder(holder)}; stop that one first, or write another stream",
                    path=str(root),
                    contract_id=contract_id,
                    tick_type=tick_type,
                    holder=holder,
                ) from None
        note: dict[str, object] = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        _write_note(self._note, note)

    @property
    def is_held(self) -> bool:
        """Return whether this object still holds the lock."""
        return self._lock.is_locked

    def release(self) -> None:
        """Release the lock for the next writer."""
        if self.is_held:
            try:
                self._note.unlink(missing_ok=True)
            except OSError as error:
                # The next holder writes its note over it.
                _log.warning("%s cannot be removed: %s", self._note, error)
            finally:
                self._lock.release()

    @staticmethod
    def is_locked(root: Path, contract_id: int, tick_type: str, *, backfill: bool = False) -> bool:
        """Return whether any process holds the lock of a stream, or of its backfill.

        The check takes the lock for some microseconds; a writer that starts at that moment waits.
        A user who may not write to the store cannot open the lock, and gets the answer from the
        note of its holder.
        """
        path = _lock_path(root, contract_id, tick_type, backfill=backfill)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except PermissionError:
            return _may_live(_read_note(path.with_suffix(".json")))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @staticmethod
    def write_run(root: Path, contract_id: int, tick_type: str, run: str) -> None:
        """Add the run of a capture to the note of the lock, which the caller holds."""
        path = _lock_path(root, contract_id, tick_type).with_suffix(".json")
        _write_note(path, _read_note(path) | {"run": run})

    @staticmethod
    def read_run(root: Path, contract_id: int, tick_type: str) -> str | None:
        """Return the run of a capture in the note of a lock, or None if there is none."""
        note = _read_note(_lock_path(root, contract_id, tick_type).with_suffix(".json"))
        run = note.get("run")
        return run if isinstance(run, str) else None


def _lock_path(root: Path, contract_id: int, tick_type: str, *, backfill: bool = False) -> Path:
    suffix = ".backfill" if backfill else ""
    return metadata_folder(root) / "locks" / f"{contract_id}.{tick_type}{suffix}.lock"


def _write_note(path: Path, note: dict[str, object]) -> None:
    try:
        path.write_text(json.dumps(note))
        give_to_store_owner(path)
    except OSError as error:
        # The note only informs. A full disk must not keep files from being deleted.
        _log.warning("%s cannot be written: %s", path, error)


def _read_note(path: Path) -> dict[str, object]:
    try:
        note = json.loads(path.read_text())
    except (OSError, ValueError):
        # The holder of the lock has not written it yet.
        return {}
    return note if isinstance(note, dict) else {}


def _describe_holder(holder: dict[str, object]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')} (since {holder.get('since')})"


def _may_live(holder: dict[str, object]) -> bool:
    """Return whether the process that wrote a note may still be running."""
    pid = holder.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    if holder.get("host") != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextmanager
def hold_lock(path: Path, *, timeout_seconds: float) -> Iterator[None]:
    """Hold a lock file for work that several processes may begin at once, and one is to do.

    Raises
    ------
    WriterLockedError
        If another process holds it for longer than the timeout.
    """
    try:
        with FileLock(path, timeout=timeout_seconds):
            yield
    except Timeout as error:
        raise WriterLockedError(
            f"another process has held {path} for {timeout_seconds} s: try again", path=str(path)
        ) from error
