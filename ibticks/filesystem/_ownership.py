"""Owners and modes of a store's files, where several users write to it or look at it.

A file that root makes in a user's store would lock that user out, and a lock file that anyone may
read can be locked by anyone (``flock`` asks for no right to write).
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["give_to_store_owner", "make_lock_file"]

_PERMISSIONS: Final = 0o777


def give_to_store_owner(path: Path) -> None:
    """Give a file or folder that root made to the owner of the store it lies in.

    The folders between it and the store's, where they are root's, go along. For any other user, and
    outside a store, this is a no-op.
    """
    if os.geteuid() != 0:
        return
    root = next((folder for folder in path.parents if (folder / "metadata").is_dir()), None)
    if root is None:
        return
    owner = root.stat()
    if owner.st_uid == 0:
        return
    for value in (path, *path.parents):
        if value == root:
            return
        # Root of a container may lack the right to, and another process may have removed it.
        with suppress(PermissionError, FileNotFoundError):
            if value.lstat().st_uid == 0:
                os.chown(value, owner.st_uid, owner.st_gid, follow_symlinks=False)


def make_lock_file(path: Path) -> int:
    """Make a lock file that only those can open who may write to its folder; return its mode.

    A file that is there, and this user's, gets that mode too: older ones could be read by all.

    Raises
    ------
    OSError
        The folder is missing or cannot be written to, or the file is another user's alone.
    """
    folder = path.parent.stat()
    mode = stat.S_IRUSR | stat.S_IWUSR
    if folder.st_mode & stat.S_IWGRP:
        mode |= stat.S_IRGRP | stat.S_IWGRP
    if folder.st_mode & stat.S_IWOTH:
        mode |= stat.S_IROTH | stat.S_IWOTH
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(descriptor)
        if os.geteuid() in (0, status.st_uid):
            if mode & stat.S_IWGRP and status.st_gid != folder.st_gid:
                with suppress(PermissionError):  # not of that group: its members are not let in
                    os.fchown(descriptor, -1, folder.st_gid)
            if status.st_mode & _PERMISSIONS != mode:
                os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
    give_to_store_owner(path)
    return mode
