"""Writing so that a crash at any moment leaves the old bytes or the new, and clear errors."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ibticks.errors import InputError, StorageError, StorageFullError, StoreAccessError, TickError
from ibticks.filesystem._ownership import give_to_store_owner

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "UNFINISHED",
    "expand_home",
    "explained",
    "explanation",
    "make_folder",
    "remove_file",
    "sync_data",
    "sync_folder",
    "write_all",
    "write_anew",
    "written_beside",
]

UNFINISHED: Final = ".new"
"""Ends the names of files whose contents are not complete yet."""


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


@contextmanager
def written_beside(path: Path) -> Iterator[int]:
    """A file descriptor for new contents of ``path``, put in its place when all went well.

    Until then ``path`` is as it was; on an error the new contents are thrown away. The caller is
    the only one who writes to ``path``: it holds the lock of its stream.
    """
    beside = path.with_name(f".{path.name}{UNFINISHED}")
    with explained(path, "writing"):
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            yield descriptor
            os.fsync(descriptor)
            give_to_store_owner(beside)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        sync_folder(path.parent)
