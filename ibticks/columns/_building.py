"""Build and remove the companions of a store, one at a time under a lock."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ibticks.columns._freshness import captured_files, is_complete
from ibticks.columns._layout import CompanionKey, companion_keys
from ibticks.columns._reader import is_unchanged, read_companion_record
from ibticks.errors import CorruptFileError, StorageError
from ibticks.filesystem import explained, make_folder, remove_file
from ibticks.storage import hold_lock, metadata_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ibticks.index import CompanionRecord, FileRecord, Index
    from ibticks.storage import FileKey

__all__ = ["build_companion", "remove_companion", "remove_companions_of"]

_LOCK_SECONDS: Final = 600.0
"""Longest wait for another process that writes a companion: minutes for a day of many ticks."""

_log = logging.getLogger(__name__)


def build_companion(
    root: Path,
    index: Index,
    key: CompanionKey,
    *,
    rebuild: bool = False,
    write: Callable[[Path, CompanionKey, list[FileRecord]], CompanionRecord | None] | None = None,
) -> CompanionRecord | None:
    """Build a companion unless it is there with all sealed hours, and put its row.

    A companion on disk that the index lacks (the index was lost, or the store was copied) is
    entered without being written, if it is whole and has the hours as they are now. A companion of
    a day without sealed hours is removed.

    Parameters
    ----------
    root : Path
    index : Index
    key : CompanionKey
    rebuild : bool
        Whether to write it in any case.
    write : callable, optional
        Writes it in another process; then a companion on disk is not read here. By default
        :func:`write_companion`.

    Returns
    -------
    CompanionRecord or None
        The new row; None if there is nothing to do.

    Raises
    ------
    WriterLockedError
        If another process writes companions for long.
    StorageFullError, StoreAccessError, StorageError
        If it cannot be written; an earlier companion is as it was.
    """
    with _locked(root):
        files = captured_files(index, key)
        known = index.companions([key.contract_id], [key.tick_type], key.day_ns, key.day_ns + 1)
        if not rebuild:
            if any(is_complete(one, files) and is_unchanged(root, one) for one in known):
                return None
            adopted = _read_complete(root, key, files) if write is None else None
            if adopted is not None:
                index.put_companions([adopted])
                return adopted
        if write is None:
            from ibticks.columns._writer import write_companion

            companion = write_companion(root, key, files)
        else:
            companion = write(root, key, files)
        if companion is not None:
            index.put_companions([companion])
        elif known or (root / key.path).exists():
            _remove(root, index, key)
        return companion


def _read_complete(
    root: Path, key: CompanionKey, files: list[FileRecord]
) -> CompanionRecord | None:
    """Return the record of a companion on disk that has every sealed hour, or None."""
    if not (root / key.path).exists():
        return None
    try:
        companion = read_companion_record(root, key)
    except (CorruptFileError, StorageError) as error:
        _log.info("it is built anew: %s", error)
        return None
    return companion if is_complete(companion, files) else None


def remove_companion(root: Path, index: Index, key: CompanionKey) -> None:
    """Remove a companion and its row; a no-op where there is none."""
    with _locked(root):
        _remove(root, index, key)


def remove_companions_of(root: Path, index: Index, keys: Iterable[FileKey]) -> None:
    """Remove the companions that have the ticks of some hour files, before these are deleted."""
    for day in companion_keys(keys):
        if (root / day.path).exists():
            remove_companion(root, index, day)


def _remove(root: Path, index: Index, key: CompanionKey) -> None:
    # The row first: a row without its file costs each load a look at the disk.
    index.drop_companions([key.path])
    remove_file(root / key.path)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    folder = metadata_folder(root) / "locks"
    with explained(folder, "locking the companions in"):
        make_folder(folder)
    with hold_lock(folder / "columns.lock", timeout_seconds=_LOCK_SECONDS):
        yield
