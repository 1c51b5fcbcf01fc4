"""Advisory locks on files, let go by the system when their last holder ends, however it ends.

These are ``flock`` locks: they belong to the open file, so that a program started with the open
file holds the lock as well, for as long as it or any process it made runs.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["exclusive", "open_lock", "try_lock"]


def open_lock(path: Path) -> int:
    """Open (or make) a lock file and return its descriptor; nothing is locked yet."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock without waiting; False if another holds it. A shared lock may so be made exclusive."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def exclusive(path: Path, deadline: float) -> Iterator[bool]:
    """Hold a lock file alone; gives False if it was still held at ``deadline`` (monotonic)."""
    descriptor = open_lock(path)
    try:
        while not (current := try_lock(descriptor)) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield current
    finally:
        os.close(descriptor)
