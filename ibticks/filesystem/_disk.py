"""Files that survive a crash: atomic writes, advisory locks, owners and modes, clear errors."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ibticks.errors import InputError, StorageError, StorageFullError, StoreAccessError, TickError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "UNFINISHED",
    "exclusive",
    "expand_home",
    "explained",
    "explanation",
    "give_to_store_owner",
    "make_folder",
    "make_lock_file",
    "open_lock",
    "remove_file",
    "sync_data",
    "sync_folder",
    "synced_beside",
    "try_lock",
    "unfinished_path",
    "write_all",
    "write_anew",
    "written_beside",
]

_PERMISSIONS: Final = 0o777
UNFINISHED: Final = ".new"
"""Ends the names of files whose contents are not complete yet."""


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


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Replace ``~`` or ``~user`` at the beginning of a path by that home folder.

    Raises
    ------
    InputError
        There is no such user, or the user has no home: no ``HOME`` and no line in /etc/passwd.

    Examples
    --------
    >>> expand_home("/ticks/us").as_posix()
    '/ticks/us'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(
            f"there is no home folder for the ~ of {os.fspath(path)}: write the whole path, or set "
            "the variable HOME",
            path=os.fspath(path),
        ) from None


_COPY_BYTES: Final = 1 << 20


@contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn the operating system's errors into ours, saying what was being done to which file.

    Raises
    ------
    StorageFullError
        No space (or quota) left.
    StoreAccessError
        No permission.
    StorageError
        Anything else the operating system refuses.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, TickError):
            raise
        raise explanation(error, path, doing) from error


def explanation(error: OSError, path: Path, doing: str) -> StorageError:
    """Return the error of the house for an operating system error while ``doing`` to ``path``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(
            f"no space left while {doing} {path}: free some and go on; what was accepted before is "
            "kept",
            path=str(path),
        )
    if isinstance(error, PermissionError):
        return StoreAccessError(
            f"not permitted while {doing} {path}: check who owns it and its mode", path=str(path)
        )
    return StorageError(f"{error.strerror or error} while {doing} {path}", path=str(path))


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte: the operating system may take fewer at a time."""
    written = os.write(descriptor, data)
    if written < len(data):
        view = memoryview(data)
        while written < len(view):
            written += os.write(descriptor, view[written:])


def sync_data(descriptor: int) -> None:
    """Have the bytes written to a file on the disk itself."""
    # macOS has no fdatasync.
    getattr(os, "fdatasync", os.fsync)(descriptor)


def write_anew(path: Path) -> None:
    """Write a file's bytes to a new one in its place, for a sync that may be believed."""
    with written_beside(path) as descriptor, path.open("rb") as source:
        while piece := source.read(_COPY_BYTES):
            write_all(descriptor, piece)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that their names survive a power cut.

    One whose name cannot be synced is taken away again, so that the next attempt makes it anew.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError:
            problem = errno.ENOTDIR
            raise NotADirectoryError(problem, os.strerror(problem), str(folder)) from None
        give_to_store_owner(folder)
        try:
            sync_folder(folder.parent)
        except OSError:
            with suppress(OSError):
                folder.rmdir()
            raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_file(path: Path) -> None:
    """Delete a file, if it is there, so that it stays deleted through a power cut."""
    with explained(path, "deleting"):
        if path.exists():
            path.unlink()
            sync_folder(path.parent)


def unfinished_path(path: Path) -> Path:
    """Return the path beside a file to which its new contents are written."""
    return path.with_name(f".{path.name}{UNFINISHED}")


@contextmanager
def synced_beside(path: Path) -> Iterator[int]:
    """A file descriptor for new contents of ``path``, synced to :func:`unfinished_path`.

    They are not put in their place: ``path`` stays as it is. On an error they are thrown away. The
    caller is the only one who writes to ``path``: it holds the lock of its stream.
    """
    beside = unfinished_path(path)
    with explained(path, "writing"):
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            yield descriptor
            os.fsync(descriptor)
            give_to_store_owner(beside)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


@contextmanager
def written_beside(path: Path) -> Iterator[int]:
    """A file descriptor for new contents of ``path``, put in its place when all went well.

    Until then ``path`` is as it was; on an error the new contents are thrown away. The caller is
    the only one who writes to ``path``: it holds the lock of its stream.
    """
    with synced_beside(path) as descriptor:
        yield descriptor
    with explained(path, "writing"):
        try:
            unfinished_path(path).replace(path)
        except BaseException:
            unfinished_path(path).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
