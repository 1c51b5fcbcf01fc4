"""Compare the files with the index, and rebuild its records. Files are the truth."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ibticks.config import HOUR_NS
from ibticks.errors import CorruptFileError, MisplacedFileError, StorageError
from ibticks.format import HEADER_VERSION, TORN
from ibticks.storage._hour_file import provisional_record
from ibticks.storage._layout import FileKey, list_files
from ibticks.storage._whole_file import CHECKSUM, salvage_file, summarise_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ibticks.index import FileRecord, Index
    from ibticks.storage._whole_file import Summary

__all__ = ["Finding", "Findings", "read_all_records", "read_records", "verify_files"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of verifying one file.

    Attributes
    ----------
    path : str
        Relative to the root.
    problem : str or None
        ``damaged``, ``checksum``, ``torn``, ``header``, ``misplaced``, ``not indexed``, ``index
        differs``, ``gone``, ``archive`` (of the copy in an object store), and of a folder
        ``unreadable``; None where all is well.
    detail : str
        Description of the problem.
    messages, size : int
        Number of whole messages, and bytes on disk.
    """

    path: str
    problem: str | None
    detail: str
    messages: int
    size: int


class Findings(list[Finding]):
    """Findings of all files; printed, a report of what is wrong.

    Examples
    --------
    >>> whole = Finding("1/last/2025/01/10/14_ticks.pb", None, "", 400, 52_000)
    >>> torn = Finding("1/last/2025/01/10/15_ticks.pb", "torn", "open, and not whole", 7, 900)
    >>> Findings([whole])
    1 file, 400 messages: all well
    >>> Findings([whole, torn])
    2 files, 407 messages: 1 problem
      1/last/2025/01/10/15_ticks.pb: torn, open, and not whole
    """

    @property
    def problems(self) -> list[Finding]:
        """Findings that are problems."""
        return [finding for finding in self if finding.problem is not None]

    def __repr__(self) -> str:
        problems = self.problems
        messages = sum(finding.messages for finding in self)
        result = _counted(len(problems), "problem") if problems else "all well"
        lines = (f"  {finding.path}: {finding.problem}, {finding.detail}" for finding in problems)
        return "\n".join(
            [f"{_counted(len(self), 'file')}, {messages:,} messages: {result}", *lines]
        )

    __str__ = __repr__


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def verify_files(
    root: Path,
    index: Index | None,
    verify_archived: Callable[[FileRecord], Finding | None] | None = None,
) -> Iterator[Finding]:
    """Read every file, check its checksum and its record in the index.

    Without an index, only the files are checked.

    Parameters
    ----------
    root : Path
    index : Index or None
    verify_archived : callable, optional
        Takes the record of a file that is not on disk, and verifies its archived copy; None if it
        has none.

    Yields
    ------
    Finding
        One per file, by contract, tick type and time; then the records whose file is gone.
    """
    known = {} if index is None else {record.path: record for record in index.files()}
    unreadable: list[StorageError] = []
    for key in list_files(root, on_error=unreadable.append):
        row = known.pop(key.path, None)
        try:
            summary = summarise_file(root, key)
        except MisplacedFileError as error:
            size = (root / key.path).stat().st_size
            yield Finding(key.path, "misplaced", str(error), 0, size)
            continue
        except (CorruptFileError, StorageError) as error:
            if isinstance(error.__cause__, FileNotFoundError) and not _is_indexed(index, key.path):
                continue  # deleted since the folder was listed
            yield Finding(key.path, "damaged", str(error), 0, 0)
            continue
        record, header = summary.record, summary.header
        problem, detail = None, ""
        if summary.problem == TORN and not header.sealed:
            problem = "torn"
            detail = f"open, and not whole after byte {summary.end}; the next writer cuts that off"
        elif summary.problem == CHECKSUM:
            problem = "checksum"
            detail = (
                f"{header.crc32c or 0:#010x} in the header, {summary.body_crc32c:#010x} computed"
            )
        elif summary.problem is not None:
            problem, detail = "damaged", f"at byte {summary.end}: {summary.problem}"
        elif wrong := _header_differences(summary):
            problem, detail = "header", f"does not match the file: {wrong}"
        elif index is None:
            pass
        elif row is None:
            problem, detail = "not indexed", "`ibticks index rebuild` adds it"
        elif (header.sealed or row.sealed) and row != record:
            problem = "index differs"
            detail = f"in {_difference(row, record)}; `ibticks index rebuild` corrects it"
        yield Finding(key.path, problem, detail, record.messages, record.size)
    folders = []
    for failure in unreadable:
        folder = Path(failure.context["path"]).relative_to(root).as_posix()
        folders.append(f"{folder}/")
        yield Finding(folder, "unreadable", str(failure), 0, 0)
    for path, row in known.items():
        if path.startswith(tuple(folders)) or not _is_indexed(index, path):
            continue  # in an unreadable folder, or deleted meanwhile
        copied = None if verify_archived is None else verify_archived(row)
        yield copied or Finding(path, "gone", "in the index, but not on disk", 0, 0)


def _is_indexed(index: Index | None, path: str) -> bool:
    """Return whether the index has a file now; deleted files leave it before the disk."""
    key = FileKey.parse(path)
    if index is None or key is None:
        return True
    files = index.files([key.contract_id], [key.tick_type], key.hour_ns, key.hour_ns + HOUR_NS)
    return any(record.path == path for record in files)


def _header_differences(summary: Summary) -> str:
    """Return the names of the header fields that do not match the file."""
    header, record = summary.header, summary.record
    expected = replace(header, version=HEADER_VERSION)
    if header.sealed:
        # Only ibticks seals, and it fills every field; those that older writers leave empty are
        # not compared.
        expected = replace(
            expected,
            contract_id=record.contract_id,
            tick_type=record.tick_type,
            start_ns=record.start_ns,
            end_ns=record.end_ns,
            message_count=record.messages,
            body_bytes=summary.end - header.frame_bytes,
        )
    return _difference(header, expected)


def _difference(one: Any, other: Any) -> str:
    names = [field.name for field in fields(one)]
    return ", ".join(name for name in names if getattr(one, name) != getattr(other, name))


def read_all_records(root: Path) -> Iterator[FileRecord]:
    """Read the index record of every file, from the files alone; see :func:`read_records`."""
    yield from read_records(root, list_files(root))


def read_records(
    root: Path, keys: Iterable[FileKey], failures: list[StorageError] | None = None
) -> Iterator[FileRecord]:
    """Read the index records of files, from the files alone; a file deleted meanwhile has none.

    The record of a damaged file covers its undamaged blocks. Where only the header cannot be read,
    it covers all that follows; else it is a provisional record, and a load that meets the file
    reports what is missing. The same holds for a file that this user may not read.

    Parameters
    ----------
    root : Path
    keys : iterable of FileKey
    failures : list, optional
        Takes the errors of files that do not exist, instead of raising them.

    Raises
    ------
    StorageError
        Without ``failures``, if a name leads to no file.
    """
    for key in keys:
        try:
            record = summarise_file(root, key).record
        except CorruptFileError as error:
            # A header of another version, or of another file, is not damaged: the data after it
            # does not belong here.
            is_readable = "version" in error.context or isinstance(error, MisplacedFileError)
            salvaged = None if is_readable else salvage_file(root, key)
            rest = (
                "all after the header is undamaged"
                if salvaged
                else "loads will report its hour as missing"
            )
            _log.warning("%s; %s", error, rest)
            record = salvaged or provisional_record(root, key)
        except StorageError as error:
            if not os.path.lexists(root / key.path):
                continue
            try:
                record = provisional_record(root, key)
            except StorageError:
                if failures is None:
                    raise error from None
                failures.append(error)
                continue
            _log.warning("%s; loads will report its hour as missing", error)
        yield record
