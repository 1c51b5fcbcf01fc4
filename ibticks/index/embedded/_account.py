"""Which system user the embedded server runs as.

PostgreSQL refuses to run as root. For an ordinary user the server runs as that user; for root it
runs as a system user of its own, ``ibticks``, made on first use. That user must be able to reach
the server's programs and its data. Folders are never opened for it: where it cannot go, we say so
(or, for the programs, make a copy).
"""

from __future__ import annotations

import logging
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ibticks.errors import IndexUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SERVER_USER", "Account", "server_account", "user_name"]

SERVER_USER: Final = "ibticks"
"""The system user the server runs as when ibticks runs as root."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """A system user: who owns the data and runs the server."""

    uid: int
    gid: int
    name: str

    @property
    def subprocess_options(self) -> dict[str, Any]:
        """What makes ``subprocess.run`` run a program as this user."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def barrier(self, path: Path) -> Path | None:
        """The outermost folder above ``path`` a system user may not pass through, or None.

        Access lists are not looked at: a folder they open may still be called a barrier.
        """
        if self.uid == os.geteuid():
            return None
        for folder in reversed(path.parents):
            status = folder.stat()
            if status.st_uid == self.uid:
                passable = status.st_mode & stat.S_IXUSR
            elif status.st_gid == self.gid:
                passable = status.st_mode & stat.S_IXGRP
            else:
                passable = status.st_mode & stat.S_IXOTH
            if not passable:
                return folder
        return None


def user_name(uid: int) -> str:
    """The name of a system user, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def server_account() -> Account:
    """Who the embedded server runs as.

    Raises
    ------
    IndexUnavailableError
        This user has no name (PostgreSQL needs one), or root cannot make the system user.
    """
    uid = os.geteuid()
    if uid == 0:
        return _system_user()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise IndexUnavailableError(
            f"the embedded PostgreSQL cannot run: user id {uid} has no name on this system. "
            "Add it to /etc/passwd, or give the DSN of a server (dsn=, IBTICKS_DSN)",
            uid=uid,
        ) from None
    return Account(uid, entry.pw_gid, entry.pw_name)


def _system_user() -> Account:
    try:
        entry = pwd.getpwnam(SERVER_USER)
    except KeyError:
        _log.warning(
            "PostgreSQL does not run as root: making the system user %s to run it", SERVER_USER
        )
        entry = _make_system_user()
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _make_system_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/"]
    command += ["--shell", "/usr/sbin/nologin", SERVER_USER]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stderr.strip()
    except OSError as error:
        said = str(error)
    try:
        return pwd.getpwnam(SERVER_USER)  # another process may have been faster
    except KeyError:
        raise IndexUnavailableError(
            f"the embedded PostgreSQL cannot run as root, and the system user {SERVER_USER} that "
            f"would run it could not be made: {said}. Make that user, run ibticks as an ordinary "
            "user, or give the DSN of a server (dsn=, IBTICKS_DSN)"
        ) from None
