"""The journal: changes of the index kept in a file while the server is away.

One JSON object a line, ``{"op": "put_files", "records": [...]}``, fsynced before the call returns.
A line that a crash cut short was never promised: it is ignored, and cut off by the next append.

To apply it, the journal is first renamed to ``{name}.applying``, so that nobody who appends has to
wait for the server; what an applying process leaves when it is killed is applied again by the
next, which changes nothing. Any number of processes and threads may append and apply.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

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
from ibticks.filesystem import give_to_store_owner, make_lock_file
from ibticks.index._catalogue import sync_folder
from ibticks.index._encoding import (
    contract_from_json,
    contract_to_json,
    coverage_from_json,
    coverage_to_json,
    dump_json,
    file_from_json,
    file_to_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ibticks.index._records import ContractRecord, CoverageRecord, FileRecord

__all__ = ["OPERATIONS", "Change", "Journal", "Target", "replay"]

_PATIENCE: Final = 10.0  # seconds, for another process that holds a lock

_log = logging.getLogger(__name__)


class Target(Protocol):
    """What changes can be applied to."""

    def put_files(self, records: Iterable[FileRecord]) -> None:
        """Insert or replace files by path."""

    def drop_files(self, paths: Iterable[str]) -> None:
        """Remove files by path."""

    def replace_files(self, records: Iterable[FileRecord]) -> None:
        """Make these files, and no others, the index."""

    def put_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or fill in what a known one lacks."""

    def correct_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or replace what is known of them by what is not empty."""

    def put_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Insert intervals, or replace those of the same stream and start."""

    def drop_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Remove the intervals of these streams and starts."""

    def replace_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Make these intervals, and no others, the ledger."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change: the name of a method of :class:`Target`, and what it was given."""

    operation: str
    records: tuple[Any, ...]


def _same(value: Any) -> Any:
    return value


OPERATIONS: Final[dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    "put_files": (file_to_json, file_from_json),
    "drop_files": (_same, _same),
    "replace_files": (file_to_json, file_from_json),
    "put_contracts": (contract_to_json, contract_from_json),
    "correct_contracts": (contract_to_json, contract_from_json),
    "put_coverage": (coverage_to_json, coverage_from_json),
    "drop_coverage": (coverage_to_json, coverage_from_json),
    "replace_coverage": (coverage_to_json, coverage_from_json),
}
"""Each operation, with how a record of it becomes JSON and comes back."""

_TOGETHER: Final = (
    "put_files",
    "drop_files",
    "put_contracts",
    "correct_contracts",
    "put_coverage",
    "drop_coverage",
)


class Journal:
    """The journal in a file.

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
        """Whether changes could be kept here."""
        return os.access(self.path.parent, os.W_OK | os.X_OK)

    @property
    def pending(self) -> bool:
        """Whether there are changes to apply."""
        return self.path.exists() or self._applying.exists()

    def append(self, change: Change) -> None:
        """Keep a change; it is on the disk when this returns.

        Raises
        ------
        StorageFullError
            The disk is full; the change is not promised.
        ReadOnlyError
            The folder cannot be written to.
        """
        line = _line(change)
        with self._locked("lock"):
            is_new = not self.path.exists()
            # Without a buffer: a refused line is not written when the file is closed.
            with self.path.open("a+b", buffering=0) as stream:
                _cut_torn_line(stream.fileno(), self.path)
                size = os.fstat(stream.fileno()).st_size
                try:
                    _write_all(stream.fileno(), line)
                    os.fsync(stream.fileno())
                except BaseException:
                    # Another sync would succeed and mean nothing: the next line is written where
                    # this one was. Where it cannot be cut off, its end is looked for by whoever
                    # appends next, and a line that was not promised may be applied.
                    with suppress(OSError):
                        os.ftruncate(stream.fileno(), size)
                    raise
            if is_new:
                give_to_store_owner(self.path)
                sync_folder(self.path.parent)

    def changes(self) -> list[Change]:
        """Everything not yet applied, in order.

        Raises
        ------
        CorruptFileError
            A line other than the last is damaged.
        StoreAccessError
            It cannot be read.
        """
        changes, damaged = self.whole_changes()
        if damaged is not None:
            raise damaged
        return changes

    def whole_changes(self) -> tuple[list[Change], TickError | None]:
        """Return the changes not yet applied that can be read, and the first damage."""
        if not self.pending:
            return [], None
        if not self.writable:
            # No lock either. In this order a renaming meanwhile shows a change twice, never not.
            newer, newer_damage = _read(self.path)
            older, older_damage = _read(self._applying)
        else:
            with self._locked("lock"):
                older, older_damage = _read(self._applying)
                newer, newer_damage = _read(self.path)
        return [*older, *newer], older_damage or newer_damage

    def apply(self, target: Target, *, on_damage: Callable[[], None] | None = None) -> int:
        """Do every change to ``target``, in order, and return how many there were.

        A damaged line, and what ``target`` refuses (never what it was away for), is set aside in
        ``{name}.refused`` and logged: the index is then to be rebuilt, and the rest is not held up.

        Parameters
        ----------
        target : Target
        on_damage : callable, optional
            Called before damaged lines are set aside: ``target`` lacks what they said.

        Raises
        ------
        IndexUnavailableError
            The server went away again, or another process is slow to apply; nothing is lost.
        ReadOnlyError, StorageFullError
        """
        done = 0
        if not self.pending:
            return done
        with self._locked("apply.lock"):
            while self._take():
                changes, damaged = _parse(self._applying)
                if damaged:
                    if on_damage is not None:
                        on_damage()
                    self._set_aside(damaged, f"is damaged at byte {damaged[0].offset}")
                self._replay(changes, target)
                done += len(changes)
                with self._locked("lock"):
                    self._applying.unlink()
                    # Should it come back, its changes would be done again after newer ones.
                    sync_folder(self.path.parent)
        return done

    def _take(self) -> bool:
        """Make the journal, or what an earlier attempt left of one, the one being applied."""
        with self._locked("lock"):
            if not self._applying.exists():
                if not self.path.exists():
                    return False
                self.path.rename(self._applying)
                sync_folder(self.path.parent)
            return True

    def _replay(self, changes: list[Change], target: Target) -> None:
        for batch in _batches(changes):
            try:
                replay([batch], target)
            except IndexUnavailableError:
                raise
            except TickIndexError:
                self._replay_one_by_one(batch, target)

    def _replay_one_by_one(self, batch: Change, target: Target) -> None:
        singles = (
            [Change(batch.operation, (record,)) for record in batch.records]
            if batch.operation in _TOGETHER
            else [batch]
        )
        for change in singles:
            try:
                replay([change], target)
            except IndexUnavailableError:
                raise
            except TickIndexError as error:
                self._set_aside([_Damaged(0, _line(change))], f"has what {error}")

    def _set_aside(self, lines: list[_Damaged], reason: str) -> None:
        _log.error(
            "the index's journal %s %s; kept in %s: rebuild the index",
            self.path,
            reason,
            self._refused,
        )
        with self._refused.open("ab") as stream:
            stream.writelines(one.line for one in lines)
            stream.flush()
            os.fsync(stream.fileno())
        give_to_store_owner(self._refused)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_name(f"{self.path.name}.{name}")
            with FileLock(lock, timeout=_PATIENCE, mode=make_lock_file(lock)):
                yield
        except Timeout as error:
            raise IndexUnavailableError(
                f"another process has held the index's journal {self.path} for {_PATIENCE} s",
                path=str(self.path),
            ) from error
        except OSError as error:
            if isinstance(error, StorageError | IndexUnavailableError):
                raise
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> StorageError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFullError(
                f"no room for the index's journal {self.path}: free some", path=str(self.path)
            )
        return ReadOnlyError(
            f"cannot write the index's journal {self.path}: {error.strerror or error}",
            path=str(self.path),
        )


def replay(changes: Iterable[Change], target: Target) -> None:
    """Do changes to a target, in order."""
    for change in changes:
        getattr(target, change.operation)(change.records)


def _batches(changes: list[Change]) -> Iterator[Change]:
    """The same changes in fewer calls: neighbours of one kind together."""
    for operation, group in groupby(changes, key=attrgetter("operation")):
        if operation in _TOGETHER:
            yield Change(operation, tuple(record for one in group for record in one.records))
        else:
            yield from group


def _line(change: Change) -> bytes:
    encode, _ = OPERATIONS[change.operation]
    plain = {"op": change.operation, "records": [*map(encode, change.records)]}
    return dump_json(plain).encode("utf-8") + b"\n"


class _Damaged(NamedTuple):
    """A line that cannot be read, and where it begins."""

    offset: int
    line: bytes


def _read(path: Path) -> tuple[list[Change], TickError | None]:
    """The changes in a file that can be read, and the first damage."""
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


def _parse(path: Path) -> tuple[list[Change], list[_Damaged]]:
    """The changes in a file, and the lines that are none."""
    changes: list[Change] = []
    damaged: list[_Damaged] = []
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
            plain = json.loads(line)
            _, decode = OPERATIONS[plain["op"]]
            changes.append(Change(plain["op"], tuple(map(decode, plain["records"]))))
        except (ValueError, KeyError, TypeError):
            damaged.append(_Damaged(offset, line))
        offset += len(line)
    return changes, damaged


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _cut_torn_line(descriptor: int, path: Path) -> None:
    """Cut what follows the last newline of an open file."""
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
