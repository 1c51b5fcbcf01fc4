"""The journal: a write-ahead file of index changes for the time the server is away.

One JSON object a line, ``{"op": "put_files", "records": [...]}``, fsynced before the call returns.
A line that a crash cut short was never acknowledged: it is ignored, and cut off by the next append.

To be applied, the journal is first renamed to ``{name}.applying``, so that an append never waits
for the server. A killed process leaves that file behind; the next one applies it again, which is
idempotent. Any number of processes and threads may append and apply.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args

from filelock import FileLock, Timeout

from ibticks.errors import (
    CorruptFileError,
    IndexUnavailableError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    StoreAccessError,
    TickError,
    TickIndexError,
)
from ibticks.filesystem import give_to_store_owner, make_lock_file, sync_folder, write_all
from ibticks.index._protocol import IndexChange, Operation
from ibticks.index._records import (
    ArchivedCopy,
    CompanionRecord,
    ContractRecord,
    CoverageRecord,
    FileRecord,
    dump_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ibticks.index._protocol import IndexWrites

__all__ = ["OPERATIONS", "Journal"]

_LOCK_TIMEOUT_SECONDS: Final = 10.0

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)

_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "files": FileRecord.from_dict,
    "contracts": ContractRecord.from_dict,
    "coverage": CoverageRecord.from_dict,
    "companions": CompanionRecord.from_dict,
    "archived": ArchivedCopy.from_dict,
}
"""Record decoders of the tables that the names of the operations end in."""

_OF_PATHS: Final = ("drop_files", "drop_companions", "drop_archived")
"""Operations whose records are paths."""

_MERGEABLE: Final = tuple(name for name in OPERATIONS if not name.startswith("replace_"))
"""Operations of which neighbours have the same effect as one with all their records."""

_log = logging.getLogger(__name__)


class Journal:
    """Changes of an index in a file.

    Parameters
    ----------
    path : Path
        Usually ``{root}/metadata/index.journal``; the file is there only while it is needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._applying = path.with_name(f"{path.name}.applying")
        self._refused = path.with_name(f"{path.name}.refused")

    @property
    def writable(self) -> bool:
        """Return whether changes can be appended."""
        return os.access(self.path.parent, os.W_OK | os.X_OK)

    @property
    def pending(self) -> bool:
        """Return whether there are changes to apply."""
        return self.path.exists() or self._applying.exists()

    def append(self, change: IndexChange) -> None:
        """Append a change and sync it to the disk.

        Raises
        ------
        StorageFullError
            The disk is full; the change is not in the journal.
        ReadOnlyError
            The folder cannot be written to.
        """
        line = _encode_line(change)
        with self._locked("lock"):
            is_new = not self.path.exists()
            # Unbuffered: otherwise a line that failed would be written when the file is closed.
            with self.path.open("a+b", buffering=0) as stream:
                _cut_torn_line(stream.fileno(), self.path)
                size = os.fstat(stream.fileno()).st_size
                try:
                    write_all(stream.fileno(), line)
                    os.fsync(stream.fileno())
                except BaseException:
                    # After a failed fsync another one would succeed and mean nothing: the next
                    # line is written over this one. Where truncating fails too, the next append
                    # cuts a torn line off, but a whole line may be applied all the same.
                    with suppress(OSError):
                        os.ftruncate(stream.fileno(), size)
                    raise
            if is_new:
                give_to_store_owner(self.path)
                sync_folder(self.path.parent)

    def read_changes(self) -> list[IndexChange]:
        """Return the changes not yet applied, in order.

        Raises
        ------
        CorruptFileError
            A line other than the last is damaged.
        StoreAccessError
            It cannot be read.
        """
        changes, damaged = self.read_valid_changes()
        if damaged is not None:
            raise damaged
        return changes

    def read_valid_changes(self) -> tuple[list[IndexChange], TickError | None]:
        """Return the changes not yet applied that can be read, and the first error."""
        if not self.pending:
            return [], None
        if not self.writable:
            # Without the lock, a rename between these reads shows a change twice, but loses none.
            newer, newer_damage = _read(self.path)
            older, older_damage = _read(self._applying)
        else:
            with self._locked("lock"):
                older, older_damage = _read(self._applying)
                newer, newer_damage = _read(self.path)
        return [*older, *newer], older_damage or newer_damage

    def apply(self, target: IndexWrites, *, on_damage: Callable[[], None] | None = None) -> int:
        """Apply all changes to ``target``, in order, and return their number.

        Damaged lines, and changes that ``target`` refuses, are moved to ``{name}.refused`` and
        logged: the index then needs a rebuild, and the other changes are applied.

        Parameters
        ----------
        target : IndexWrites
        on_damage : callable, optional
            Called before damaged lines are moved: ``target`` lacks their changes.

        Raises
        ------
        IndexUnavailableError
            The server went away again, or another process is slow to apply; nothing is lost.
        ReadOnlyError, StorageFullError
        """
        applied = 0
        if not self.pending:
            return applied
        with self._locked("apply.lock"):
            while self._start_applying():
                changes, damaged = _parse(self._applying)
                if damaged:
                    if on_damage is not None:
                        on_damage()
                    self._set_aside(damaged, f"is damaged at byte {damaged[0].offset}")
                self._apply_batches(changes, target)
                applied += len(changes)
                with self._locked("lock"):
                    self._applying.unlink()
                    # A file that came back after a crash would undo newer changes.
                    sync_folder(self.path.parent)
        return applied

    def _start_applying(self) -> bool:
        """Rename the journal to be applied, unless an earlier attempt left one; False if none."""
        with self._locked("lock"):
            if not self._applying.exists():
                if not self.path.exists():
                    return False
                self.path.rename(self._applying)
                sync_folder(self.path.parent)
            return True

    def _apply_batches(self, changes: list[IndexChange], target: IndexWrites) -> None:
        for batch in _batches(changes):
            try:
                target.write(batch)
            except IndexUnavailableError:
                raise
            except TickIndexError:
                self._apply_one_by_one(batch, target)

    def _apply_one_by_one(self, batch: IndexChange, target: IndexWrites) -> None:
        singles = (
            [IndexChange(batch.operation, (record,)) for record in batch.records]
            if batch.operation in _MERGEABLE
            else [batch]
        )
        for change in singles:
            try:
                target.write(change)
            except IndexUnavailableError:
                raise
            except TickIndexError as error:
                self._set_aside(
                    [_DamagedLine(0, _encode_line(change))], f"has a change that failed: {error}"
                )

    def _set_aside(self, lines: list[_DamagedLine], reason: str) -> None:
        _log.error(
            "the index's journal %s %s; moved to %s: rebuild the index",
            self.path,
            reason,
            self._refused,
        )
        with self._refused.open("ab") as stream:
            stream.writelines(damaged.line for damaged in lines)
            stream.flush()
            os.fsync(stream.fileno())
        give_to_store_owner(self._refused)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_name(f"{self.path.name}.{name}")
            with FileLock(lock, timeout=_LOCK_TIMEOUT_SECONDS, mode=make_lock_file(lock)):
                yield
        except Timeout as error:
            raise IndexUnavailableError(
                f"another process has locked the index's journal {self.path} for "
                f"{_LOCK_TIMEOUT_SECONDS} s",
                path=str(self.path),
            ) from error
        except OSError as error:
            if isinstance(error, StorageError | IndexUnavailableError):
                raise
            raise self._write_error(error) from error

    def _write_error(self, error: OSError) -> StorageError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFullError(
                f"no space left for the index's journal {self.path}: free some", path=str(self.path)
            )
        return ReadOnlyError(
            f"cannot write the index's journal {self.path}: {error.strerror or error}",
            path=str(self.path),
        )


def _batches(changes: list[IndexChange]) -> Iterator[IndexChange]:
    """Merge neighbouring changes of one operation."""
    for operation, group in groupby(changes, key=attrgetter("operation")):
        if operation in _MERGEABLE:
            records = tuple(record for change in group for record in change.records)
            yield IndexChange(operation, records)
        else:
            yield from group


def _encode_line(change: IndexChange) -> bytes:
    records = (
        change.records
        if change.operation in _OF_PATHS
        else [record.to_dict() for record in change.records]
    )
    return dump_json({"op": change.operation, "records": records}).encode("utf-8") + b"\n"


def _decode_line(line: bytes) -> IndexChange:
    plain = json.loads(line)
    operation, records = plain["op"], plain["records"]
    if operation not in OPERATIONS:
        raise ValueError(operation)
    if operation not in _OF_PATHS:
        records = map(_DECODERS[operation.partition("_")[2]], records)
    return IndexChange(operation, tuple(records))


class _DamagedLine(NamedTuple):
    """A line that cannot be read, and its position in the file."""

    offset: int
    line: bytes


def _read(path: Path) -> tuple[list[IndexChange], TickError | None]:
    """Return the changes in a file that can be read, and the first error."""
    try:
        changes, damaged = _parse(path)
    except OSError as error:
        return [], StoreAccessError(
            f"cannot read the index's journal {path}: {error.strerror or error}", path=str(path)
        )
    if not damaged:
        return changes, None
    return changes, CorruptFileError(
        f"the index's journal {path} is damaged at byte {damaged[0].offset}: remove it and "
        "rebuild the index",
        path=str(path),
        offset=damaged[0].offset,
    )


def _parse(path: Path) -> tuple[list[IndexChange], list[_DamagedLine]]:
    """Return the changes in a file, and the damaged lines."""
    changes: list[IndexChange] = []
    damaged: list[_DamagedLine] = []
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return changes, damaged
    offset = 0
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            _log.warning("%s ends in a line that a crash cut short; it is ignored", path)
            break
        try:
            changes.append(_decode_line(line))
        except (ValueError, KeyError, TypeError):
            damaged.append(_DamagedLine(offset, line))
        offset += len(line)
    return changes, damaged


def _cut_torn_line(descriptor: int, path: Path) -> None:
    """Truncate an open file after its last newline."""
    size = end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - 65_536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        _log.warning("cutting a line that a crash cut short off %s", path)
        os.ftruncate(descriptor, end)
