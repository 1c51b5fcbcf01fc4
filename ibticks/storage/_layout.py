"""Layout of a store: one file per contract, tick type and UTC hour.

::

    {root}/{contract_id}/{tick_type}/{YYYY}/{MM}/{DD}/{HH}_ticks.pb
    {root}/{contract_id}/{tick_type}/{YYYY}/{MM}/{DD}/{HH}-30_ticks.pb
    {root}/{contract_id}/{tick_type}/{YYYY}/{MM}/{DD}/{HH}-backfill_ticks.pb
    {root}/{contract_id}/{tick_type}/{YYYY}/{MM}/{DD}/{HH}_ticks.pb.archived
    {root}/metadata/

The second path takes the second half of an hour whose file has grown too large. The third takes
ticks that were not captured but requested from IB's history (a backfill): their times are whole
seconds, and loads include them only on request. The fourth is in the place of a file that is in an
object store only. ``metadata`` holds the schema, the catalogue, the
journal and the locks of the store.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, cast

from ibticks._types import StreamKey
from ibticks.config import HALF_HOUR_NS, HOUR_NS, NANOSECONDS, TICK_TYPES
from ibticks.errors import StorageError, TimeRangeError
from ibticks.filesystem import UNFINISHED, explained, explanation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

__all__ = [
    "FileKey",
    "FileListing",
    "FileSuffix",
    "HourRange",
    "file_suffix",
    "floor_hour",
    "half_hours",
    "hour_ranges",
    "list_files",
    "list_paths",
    "list_streams",
    "list_unfinished",
    "marker_path",
    "metadata_folder",
]

OnError: TypeAlias = Callable[[StorageError], None]

FileSuffix: TypeAlias = Literal["", "30", "backfill"]
"""Suffix of a file name: of an hour, of its second half, of its backfill."""

# One spelling a file: no leading zeros, no digits of other scripts.
_CONTRACT: Final = re.compile(r"0|[1-9]\d{0,9}", re.ASCII)
_FILE: Final = re.compile(
    rf"(?P<contract>{_CONTRACT.pattern})/(?P<tick_type>{'|'.join(TICK_TYPES)})/"
    r"(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/(?P<hour>\d\d)(?:-(?P<suffix>30|backfill))?_ticks\.pb",
    re.ASCII,
)
_HOUR_ROWS: Final = 1 << 20  # rows whose hours are computed together
_DEPTH: Final = 6  # names in a file's path below the root
_MARKER: Final = ".archived"
_NAME: Final = re.compile(r"([01]\d|2[0-3])(-30|-backfill)?_ticks\.pb", re.ASCII)
# A header's Timestamp, a folder of four digits and an int64 of nanoseconds all hold these years.
_FIRST_HOUR_NS: Final = -(2**63) // HOUR_NS * HOUR_NS + HOUR_NS
_LAST_HOUR_NS: Final = (2**63 - 1) // HOUR_NS * HOUR_NS - HOUR_NS


def floor_hour(time_ns: int) -> int:
    """Round a time down to the UTC hour, in nanoseconds.

    Examples
    --------
    >>> floor_hour(1_381_239_000_000_000_000)
    1381237200000000000
    """
    return time_ns - time_ns % HOUR_NS


def half_hours(times: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Iterate over row ranges of consecutive times in the same UTC half hour.

    Examples
    --------
    >>> import numpy as np
    >>> list(half_hours(np.array([0, 1, HALF_HOUR_NS, 2])))
    [(0, 2), (2, 3), (3, 4)]
    """
    import numpy as np

    halves = times // HALF_HOUR_NS
    borders = (np.flatnonzero(halves[1:] != halves[:-1]) + 1).tolist()
    start = 0
    for stop in (*borders, len(times)):
        if stop > start:
            yield start, stop
        start = stop


class HourRange(NamedTuple):
    """Consecutive rows ``start`` to ``stop`` of one UTC hour."""

    hour_ns: int
    start: int
    stop: int


def hour_ranges(
    times: npt.NDArray[np.int64], *, max_steps_back: int | None = None
) -> list[HourRange] | None:
    """Return the ranges of consecutive times in the same UTC hour.

    Parameters
    ----------
    times : numpy.ndarray
        UTC nanoseconds.
    max_steps_back : int, optional
        Largest number of times whose hour is before the hour of the time before them.

    Returns
    -------
    list of HourRange or None
        None if more times step back.

    Examples
    --------
    >>> import numpy as np
    >>> times = np.array([0, 1, HOUR_NS, 2])
    >>> [tuple(found) for found in hour_ranges(times)]
    [(0, 0, 2), (3600000000000, 2, 3), (0, 3, 4)]
    >>> hour_ranges(times, max_steps_back=0) is None
    True
    """
    import numpy as np

    ranges: list[HourRange] = []
    steps_back = 0
    for first in range(0, len(times), _HOUR_ROWS):
        hours = times[first : first + _HOUR_ROWS] // HOUR_NS
        steps = np.diff(hours)
        steps_back += int(np.count_nonzero(steps < 0))
        if ranges:
            steps_back += int(hours[0]) * HOUR_NS < ranges[-1].hour_ns
        if max_steps_back is not None and steps_back > max_steps_back:
            return None
        borders = (np.flatnonzero(steps) + 1).tolist()
        for start, stop in itertools.pairwise([0, *borders, len(hours)]):
            hour_ns = int(hours[start]) * HOUR_NS
            if ranges and ranges[-1].hour_ns == hour_ns and start == 0:
                ranges[-1] = ranges[-1]._replace(stop=first + stop)
            else:
                ranges.append(HourRange(hour_ns, first + start, first + stop))
    return ranges


@dataclass(frozen=True, slots=True, order=True)
class FileKey:
    """The key of one file: contract, tick type, UTC hour (nanoseconds) and suffix.

    Examples
    --------
    >>> FileKey(8314, "bid_ask", floor_hour(1_381_239_000_000_000_000)).path
    '8314/bid_ask/2013/10/08/13_ticks.pb'
    >>> FileKey.parse("8314/bid_ask/2013/10/08/13-30_ticks.pb").suffix
    '30'
    """

    contract_id: int
    tick_type: str
    hour_ns: int
    suffix: FileSuffix = ""

    @property
    def path(self) -> str:
        """Path relative to the root, with forward slashes."""
        if not _FIRST_HOUR_NS <= self.hour_ns <= _LAST_HOUR_NS:
            raise TimeRangeError(
                f"no file can hold a tick of {self.hour_ns} ns: nanoseconds since 1970 reach from "
                "1677 to 2262",
                time_ns=self.hour_ns,
            )
        hour = datetime.fromtimestamp(self.hour_ns // NANOSECONDS, UTC)
        suffix = f"-{self.suffix}" if self.suffix else ""
        return f"{self.contract_id}/{self.tick_type}/{hour:%Y/%m/%d/%H}{suffix}_ticks.pb"

    @classmethod
    def of_path(cls, path: Path) -> FileKey | None:
        """Return the key of a file wherever its store lies; None outside a store's layout.

        Examples
        --------
        >>> FileKey.of_path(Path("/data/8314/bid_ask/2013/10/08/13_ticks.pb")).contract_id
        8314
        >>> FileKey.of_path(Path("/data/13_ticks.pb")) is None
        True
        """
        return cls.parse("/".join(path.absolute().parts[-_DEPTH:]))

    @classmethod
    def parse(cls, path: str) -> FileKey | None:
        """Return the key of a path relative to the root; None if no tick file has such a path."""
        match = _FILE.fullmatch(path)
        if match is None:
            return None
        try:
            year, month, day, hour = map(int, match.group("year", "month", "day", "hour"))
            start = datetime(year, month, day, hour, tzinfo=UTC)
        except ValueError:
            return None
        hour_ns = int(start.timestamp()) * NANOSECONDS
        if not _FIRST_HOUR_NS <= hour_ns <= _LAST_HOUR_NS:
            return None
        suffix = cast("FileSuffix", match["suffix"] or "")
        return cls(int(match["contract"]), match["tick_type"], hour_ns, suffix)


def file_suffix(path: str) -> str:
    """Return the suffix of the path of a tick file; files of an hour are read in its order.

    Examples
    --------
    >>> file_suffix("8314/bid_ask/2013/10/08/13-backfill_ticks.pb")
    'backfill'
    >>> file_suffix("8314/bid_ask/2013/10/08/13_ticks.pb")
    ''
    """
    return path.rpartition("/")[2].partition("_")[0][3:]


def metadata_folder(root: Path) -> Path:
    """Return the folder of the schema, catalogue, journal and locks of a store."""
    return root / "metadata"


def marker_path(root: Path, path: str) -> Path:
    """Return the marker of an hour file: it is there if the file is in an object store only.

    Examples
    --------
    >>> marker_path(Path("/ticks"), "8314/bid_ask/2013/10/08/13_ticks.pb").name
    '13_ticks.pb.archived'
    """
    return root / f"{path}{_MARKER}"


def list_streams(root: Path, *, on_error: OnError | None = None) -> list[StreamKey]:
    """Return contract ids and tick types that have a folder, in order.

    Raises
    ------
    StoreAccessError
        If a folder cannot be read.
    """
    return sorted(
        StreamKey(int(contract.name), tick_type.name)
        for contract in _folders(root, on_error)
        if _CONTRACT.fullmatch(contract.name)
        for tick_type in _folders(contract.path, on_error)
        if tick_type.name in TICK_TYPES
    )


def list_files(
    root: Path,
    contract_id: int | None = None,
    tick_type: str | None = None,
    *,
    on_error: OnError | None = None,
) -> Iterator[FileKey]:
    """Iterate over the tick files on disk, by contract, tick type and time; skip other files.

    Parameters
    ----------
    root : Path
    contract_id, tick_type : optional
        Stream to list; all by default.
    on_error : callable, optional
        Called with the error of each folder that cannot be read, which is then skipped.

    Raises
    ------
    StoreAccessError, StorageError
        Without ``on_error``, if a folder cannot be read.
    """
    for stream in list_streams(root, on_error=on_error):
        if contract_id in (None, stream.contract_id) and tick_type in (None, stream.tick_type):
            keys = (FileKey.parse(path) for path in _paths(root, *stream, on_error))
            yield from sorted(key for key in keys if key is not None)


@dataclass(frozen=True, slots=True)
class FileListing:
    """The tick files of a store by name; none of them is opened.

    Attributes
    ----------
    paths : set of str
        Relative to the root.
    archived : set of str
        Paths of the hour files that have a marker in their place: they are in an object store only.
    unreadable : dict of str to str
        Folders that could not be listed, relative to the root, and the reason: their files are
        not known.
    """

    paths: set[str]
    unreadable: dict[str, str]
    archived: set[str] = field(default_factory=set)

    def is_unreadable(self, path: str) -> bool:
        """Return whether a file would lie in a folder that could not be listed."""
        return any(path.startswith(f"{folder}/") for folder in self.unreadable)


def list_paths(root: Path) -> FileListing:
    """List the paths of all tick files: one ``scandir`` a folder, and no ``stat``.

    Raises
    ------
    StoreAccessError
        If the root cannot be read.
    """
    listing = FileListing(set(), {})
    for contract in _folders(root):
        if _CONTRACT.fullmatch(contract.name):
            for tick_type in _listed_folders(listing, root, contract.name):
                if tick_type in TICK_TYPES:
                    _list_stream(listing, root, f"{contract.name}/{tick_type}")
    return listing


def _list_stream(listing: FileListing, root: Path, stream: str) -> None:
    """Add the files of a stream to a listing."""
    for year in _listed_folders(listing, root, stream):
        for month in _listed_folders(listing, root, f"{stream}/{year}"):
            for day in _listed_folders(listing, root, f"{stream}/{year}/{month}"):
                folder = f"{stream}/{year}/{month}/{day}"
                if FileKey.parse(f"{folder}/00_ticks.pb") is None:
                    continue
                names = _listed_names(listing, root, folder, folders=False)
                listing.paths.update(f"{folder}/{n}" for n in names if _NAME.fullmatch(n))
                markers = (n.removesuffix(_MARKER) for n in names if n.endswith(_MARKER))
                listing.archived.update(f"{folder}/{n}" for n in markers if _NAME.fullmatch(n))
                listing.archived.difference_update(listing.paths)


def _listed_folders(listing: FileListing, root: Path, folder: str) -> list[str]:
    return _listed_names(listing, root, folder, folders=True)


def _listed_names(listing: FileListing, root: Path, folder: str, *, folders: bool) -> list[str]:
    """Return the names of the folders, or of the files, in a folder; none if it is unreadable."""
    try:
        with os.scandir(f"{root}/{folder}") as entries:
            return [entry.name for entry in entries if entry.is_dir() == folders]
    except FileNotFoundError:
        return []  # removed meanwhile
    except OSError as error:
        listing.unreadable[folder] = str(explanation(error, root / folder, "listing"))
        return []


def list_unfinished(
    root: Path, contract_id: int, tick_type: str, *, backfill: bool = False
) -> Iterator[Path]:
    """Iterate over unfinished files of a stream, or of its backfill, that a killed process left.

    Raises
    ------
    StoreAccessError
        If a folder cannot be read.
    """
    if (contract_id, tick_type) in list_streams(root):
        for path in _paths(root, contract_id, tick_type):
            # Including files of deleted ticks: 13_ticks.pb.deleted-20250110T143000Z.
            if path.endswith(UNFINISHED) and "_ticks.pb." in path:
                beside = file_suffix(path.replace("/.", "/")) == "backfill"
                if beside == backfill:
                    yield root / path


def _paths(
    root: Path, contract_id: int, tick_type: str, on_error: OnError | None = None
) -> Iterator[str]:
    """Iterate over all files in the folders of days, relative to the root."""
    stream = f"{contract_id}/{tick_type}"
    for year in _folders(root / stream, on_error):
        for month in _folders(year.path, on_error):
            for day in _folders(month.path, on_error):
                for entry in _entries(day.path, on_error):
                    if not entry.is_dir():
                        yield f"{stream}/{year.name}/{month.name}/{day.name}/{entry.name}"


def _entries(folder: str | Path, on_error: OnError | None = None) -> list[os.DirEntry[str]]:
    try:
        with explained(Path(folder), "listing"), os.scandir(folder) as entries:
            return list(entries)
    except StorageError as error:
        if on_error is None:
            raise
        on_error(error)
        return []


def _folders(folder: str | Path, on_error: OnError | None = None) -> list[os.DirEntry[str]]:
    return [entry for entry in _entries(folder, on_error) if entry.is_dir()]
