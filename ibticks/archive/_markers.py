"""Markers: ``{HH}_ticks.pb.archived``, a file in the place of an hour file that is archived only.

It holds the rows of the index, as JSON, so that the files of a store go on being the truth: an
index that is lost is rebuilt with the archived hours, and no writer begins a second file of one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ibticks.errors import CorruptFileError
from ibticks.filesystem import explained, write_all, written_beside
from ibticks.index import ArchivedCopy, FileRecord
from ibticks.storage import marker_path

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Marker", "read_marker", "write_marker"]


@dataclass(frozen=True, slots=True)
class Marker:
    """The rows of an hour file that is archived only."""

    file: FileRecord
    copy: ArchivedCopy


def write_marker(root: Path, marker: Marker) -> None:
    """Write and sync the marker of an hour file."""
    text = json.dumps({"file": marker.file.to_dict(), "archived": marker.copy.to_dict()})
    with written_beside(marker_path(root, marker.file.path)) as descriptor:
        write_all(descriptor, f"{text}\n".encode())


def read_marker(root: Path, path: str) -> Marker:
    """Read the marker of an hour file.

    Raises
    ------
    CorruptFileError
        If it is not one of this file.
    StorageError
        If it cannot be read.
    """
    place = marker_path(root, path)
    with explained(place, "reading"):
        text = place.read_bytes()
    try:
        plain = json.loads(text)
        file = FileRecord.from_dict(plain["file"])
        marker = Marker(file, ArchivedCopy.from_dict(plain["archived"]))
        is_own = file.path == path and marker.copy.is_copy_of(file)
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt(place, f"{type(error).__name__}: {error}") from error
    if not is_own:
        raise _corrupt(place, f"it names {file.path}")
    return marker


def _corrupt(place: Path, reason: str) -> CorruptFileError:
    return CorruptFileError(
        f"{place} is not the marker of an archived hour ({reason}): restore it, or copy the hour "
        f"file back from the archive to {place.name.removesuffix('.archived')}",
        path=str(place),
        offset=0,
    )
