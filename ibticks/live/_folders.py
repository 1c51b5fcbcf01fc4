"""The folders of a stream, from some day on, and the files in them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from ibticks.config import NANOSECONDS
from ibticks.errors import StorageError
from ibticks.filesystem import explained
from ibticks.storage import FileKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Seen", "list_days", "list_folder", "look_at"]

_FIRST_SECOND: Final = int(datetime(1677, 1, 1, tzinfo=UTC).timestamp())


class Seen(NamedTuple):
    """What tells one version of a file from the next without reading it."""

    inode: int
    size: int
    changed_ns: int


def look_at(path: str | os.PathLike[str]) -> Seen | None:
    """A file as it is; None if it is not there."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called for every change of a file
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Seen(found.st_ino, found.st_size, found.st_mtime_ns)


def list_days(
    root: Path,
    contract_id: int,
    tick_type: str,
    since_ns: int,
    visit: Callable[[Path], object] = lambda _: None,
) -> list[Path]:
    """The folders of a stream's days, in order, from the UTC day of a time on.

    Parameters
    ----------
    root : Path
        The store.
    contract_id : int
    tick_type : str
    since_ns : int
        UTC nanoseconds.
    visit : callable
        Called with each folder in which files or folders may appear, before it is looked into.

    Raises
    ------
    StoreAccessError
        If a folder cannot be read.
    """
    day = datetime.fromtimestamp(max(since_ns // NANOSECONDS, _FIRST_SECOND), UTC)
    since = (f"{day.year:04}", f"{day.month:02}", f"{day.day:02}")
    stream = root / str(contract_id) / tick_type
    for folder in (root, stream.parent, stream):
        if not folder.is_dir():
            return []
        visit(folder)
    level: list[tuple[Path, tuple[str, ...]]] = [(stream, ())]
    for depth in (1, 2, 3):
        level = [
            (folder / name, (*date, name))
            for folder, date in level
            for name in sorted(_folders(folder))
            if (*date, name) >= since[:depth]
        ]
        for folder, _ in level:
            visit(folder)
    return [folder for folder, _ in level]


def list_folder(root: Path, folder: Path) -> Iterator[tuple[FileKey, Seen]]:
    """The tick files in the folder of a day, as they are, in no order.

    Raises
    ------
    StoreAccessError
        If it cannot be read. One that is not there has no files.
    """
    place = folder.relative_to(root).as_posix()
    for entry in _entries(folder):
        key = FileKey.parse(f"{place}/{entry.name}")
        seen = None if key is None else look_at(entry.path)
        if key is not None and seen is not None:
            yield key, seen


def _folders(folder: Path) -> Iterator[str]:
    for entry in _entries(folder):
        if entry.name.isdecimal() and entry.is_dir():
            yield entry.name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with explained(folder, "listing"), os.scandir(folder) as entries:
            return list(entries)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return []
        raise
