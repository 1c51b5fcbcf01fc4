"""The folders of embedded clusters: private, this user's, and with a path a socket can have.

Nothing is ever opened to others or taken from another user: what is wrong is said, with the command
that mends it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from ibticks.errors import IndexUnavailableError, StoreAccessError
from ibticks.filesystem import open_lock
from ibticks.index.embedded._account import SERVER_USER, Account, user_name

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_private", "check_socket_path", "make_base", "make_home"]

_LONGEST_SOCKET: Final = 103  # bytes, on macOS; Linux takes 107


def check_socket_path(path: Path) -> None:
    """Raise IndexUnavailableError where no socket can be, or libpq would see two hosts."""
    if len(os.fsencode(path)) > _LONGEST_SOCKET or "," in str(path):
        raise IndexUnavailableError(
            f"the embedded PostgreSQL cannot have its socket at {path}: such a path has at most "
            f"{_LONGEST_SOCKET} bytes and no comma. Set IBTICKS_PGDATA to another folder",
            path=str(path),
        )


def make_base(base: Path, lock: Path) -> None:
    """Make the folder clusters are in, and the lock file of one.

    Raises
    ------
    StoreAccessError
        It cannot be made or written to, or anyone may write to it.
    """
    try:
        base.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        mode = base.stat().st_mode
        os.close(open_lock(lock))
    except OSError as error:
        raise StoreAccessError(
            f"the embedded PostgreSQL cannot keep its data in {base}: {error.strerror}. Set "
            "IBTICKS_PGDATA to a folder of yours, or give the DSN of a server",
            path=str(base),
        ) from error
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise StoreAccessError(
            f"anyone can replace what is in {base}: chmod o-w {base}", path=str(base)
        )


def make_home(home: Path, account: Account) -> None:
    """Make the private folder of a cluster; to be called by one process at a time.

    Raises
    ------
    StoreAccessError
        It is another user's, open to others, or where the server's user cannot go.
    """
    home.mkdir(mode=0o700, exist_ok=True)
    if account.uid != os.geteuid() == home.lstat().st_uid:
        os.chown(home, account.uid, account.gid, follow_symlinks=False)
    check_private(home, account)
    barrier = account.barrier(home)
    if barrier is not None:
        raise StoreAccessError(
            f"as root the embedded PostgreSQL runs as the system user {account.name}, which cannot "
            f"enter {barrier}. Set IBTICKS_PGDATA to a folder it can reach, such as "
            "/var/lib/ibticks",
            path=str(barrier),
        )


def check_private(folder: Path, account: Account) -> None:
    """Raise StoreAccessError unless the folder is the account's, and closed to others."""
    status = folder.lstat()
    if status.st_uid != account.uid:
        owner = user_name(status.st_uid)
        whose = "root's" if owner == SERVER_USER else f"{owner}'s"
        raise StoreAccessError(
            f"the embedded PostgreSQL in {folder} is {whose}, and only theirs. Run ibticks as that "
            "user, set IBTICKS_PGDATA to another folder, or give the DSN of a server",
            path=str(folder),
            owner=owner,
        )
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077:
        raise StoreAccessError(
            f"others may enter {folder}, which holds the index's database: chmod 700 {folder}",
            path=str(folder),
        )
