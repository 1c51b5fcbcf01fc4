"""Holding the files and the index against each other. Files are the truth."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from ibticks.errors import CorruptFileError, StorageError
from ibticks.storage.layout import list_files
from ibticks.storage.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ibticks.index.records import FileRecord, Index

__all__ = ["Finding", "records_on_disk", "verify"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What verifying one file found.

    Attributes
    ----------
    path : str
        Relative to the root.
    problem : str or None
        ``damaged``, ``checksum``, ``torn``, ``not indexed``, ``index differs``, ``gone``; None
        where all is well.
    detail : str
        In words.
    messages, size : int
        Whole messages, and bytes on disk.
    """

    path: str
    problem: str | None
    detail: str
    messages: int
    size: int


def verify(root: Path, index: Index) -> Iterator[Finding]:
    """Read every file through, check its checksum and its row in the index.

    Yields
    ------
    Finding
        One a file, by contract, tick type and time; then the rows whose file is gone.
    """
    known = {record.path: record for record in index.files()}
    for key in list_files(root):
        row = known.pop(key.path, None)
        try:
            summary = summarise(root, key)
        except (CorruptFileError, StorageError) as error:
            yield Finding(key.path, "damaged", str(error), 0, 0)
            continue
        record, header = summary.record, summary.header
        problem, detail = None, ""
        if summary.problem == "torn" and not header.sealed:
            problem = "torn"
            detail = f"open, and not whole after byte {summary.end}; the next writer cuts that off"
        elif summary.problem is not None:
            problem, detail = "damaged", f"at byte {summary.end}: {summary.problem}"
        elif header.sealed and summary.body_crc32c != header.crc32c:
            problem = "checksum"
            detail = f"{header.crc32c:#010x} promised, {summary.body_crc32c:#010x} found"
        elif row is None:
            problem, detail = "not indexed", "`ibticks index rebuild` puts it in"
        elif header.sealed and row != (record if row.blocks else replace(record, blocks=())):
            problem = "index differs"
            detail = f"in {_difference(row, record)}; `ibticks index rebuild` mends it"
        yield Finding(key.path, problem, detail, record.messages, record.size)
    for path in known:
        yield Finding(path, "gone", "in the index, but not on disk", 0, 0)


def _difference(row: FileRecord, record: FileRecord) -> str:
    names = [field.name for field in fields(record)]
    return ", ".join(name for name in names if getattr(row, name) != getattr(record, name))


def records_on_disk(root: Path) -> Iterator[FileRecord]:
    """The index row of every readable file, from the files alone.

    A file whose header cannot be read has none; a damaged one has a row for what is whole.
    """
    for key in list_files(root):
        try:
            summary = summarise(root, key)
        except CorruptFileError:
            continue
        yield summary.record
