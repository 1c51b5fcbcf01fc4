"""Find hour files by path, folder or glob, and describe each by its header."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from glob import iglob
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from ibticks._types import Interval, StreamKey
from ibticks._warnings import user_stacklevel
from ibticks.calendar import to_ns
from ibticks.config import HOUR_NS, TICK_TYPES, TIME_MAX, TIME_MIN
from ibticks.errors import (
    CorruptDataWarning,
    CorruptFileError,
    InputError,
    NoStoreError,
    StorageError,
    TimeRangeError,
)
from ibticks.filesystem import expand_home
from ibticks.schema import check_columns, list_columns
from ibticks.storage import FileKey, FileReader, file_suffix, read_ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import tzinfo

    from ibticks.calendar import TimeLike
    from ibticks.index import FileRecord
    from ibticks.schema import TickColumns

__all__ = [
    "ROOT",
    "Backfill",
    "FoundFiles",
    "HourFileInfo",
    "HourPaths",
    "choose_columns",
    "describe_file",
    "find_hour_files",
    "parse_interval",
    "read_columns",
]

HourPaths: TypeAlias = "str | PathLike[str] | Iterable[str | PathLike[str]]"
"""A path, a folder, a glob pattern, or several of them."""

Backfill: TypeAlias = Literal["exclude", "include", "only"]
"""Whether folders and globs stand for captured ticks, backfilled ones, or both."""

ROOT: Final = Path()
"""Root of the records: their paths are absolute, or relative to the working directory."""

_GLOB_CHARACTERS: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class HourFileInfo:
    """An hour file as its header describes it.

    Attributes
    ----------
    record : FileRecord
        With the path of the file as it was found.
    has_place : bool
        Whether the path is one of a store's layout, so that it states contract, tick type and hour.
    is_sealed : bool
    interval : Interval or None
        Range of the times in the file; None for an open file outside a store's layout, whose header
        does not state its end.
    """

    record: FileRecord
    has_place: bool
    is_sealed: bool
    interval: Interval | None

    @property
    def stream(self) -> StreamKey:
        """Contract and tick type; 0 and "" where an old header does not state them."""
        return StreamKey(self.record.contract_id, self.record.tick_type)


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """Hour files of a path, folder or glob.

    Attributes
    ----------
    files : tuple of HourFileInfo
        By contract, tick type and time.
    left_out : tuple of str
        Paths of files whose headers cannot be read.
    """

    files: tuple[HourFileInfo, ...]
    left_out: tuple[str, ...]

    @property
    def contract_ids(self) -> tuple[int, ...]:
        """Contract ids of the files, in order."""
        return tuple(dict.fromkeys(file.record.contract_id for file in self.files))

    @property
    def tick_types(self) -> tuple[str, ...]:
        """Tick types of the files, in order."""
        return tuple(dict.fromkeys(file.record.tick_type for file in self.files))


def find_hour_files(
    paths: HourPaths, *, strict: bool = False, backfill: Backfill = "exclude"
) -> FoundFiles:
    """Find hour files and read their headers.

    Parameters
    ----------
    paths : path-like, str or iterable of them
        A file, a folder (searched with its subfolders for ``*.pb``), or a glob pattern (``**``
        stands for any subfolders).
    strict : bool
        Whether a file of a folder or glob that has no readable header raises, instead of being
        left out with a warning. A file that is named by itself always raises.
    backfill : {"exclude", "include", "only"}
        For folders and globs.

    Raises
    ------
    NoStoreError
        If a path does not exist, or no file matches a pattern.
    CorruptFileError
        If a header cannot be read.
    InputError
        If no path is given.

    Warns
    -----
    CorruptDataWarning
        Naming the files that are left out.
    """
    if backfill not in get_args(Backfill):
        raise InputError(
            f"backfill={backfill!r}: use 'exclude' for captured ticks only, 'include' for "
            "backfilled ones too, or 'only' for those alone",
            backfill=backfill,
        )
    sources = [paths] if isinstance(paths, str | PathLike) else list(paths)
    if not sources:
        raise InputError("no path of an hour file is given: name a file, a folder or a pattern")
    infos: dict[str, HourFileInfo] = {}
    left_out: list[str] = []
    for source in sources:
        for path, is_named in _expand(source, backfill):
            try:
                infos[fspath(path)] = describe_file(path)
            except (CorruptFileError, StorageError) as error:
                if is_named or strict:
                    raise
                warnings.warn(
                    f"{error}; left out", CorruptDataWarning, stacklevel=user_stacklevel()
                )
                left_out.append(fspath(path))
    return FoundFiles(tuple(sorted(infos.values(), key=_sort_key)), tuple(left_out))


def describe_file(path: Path) -> HourFileInfo:
    """Describe a file by its header, and by its path where it lies in a store's layout.

    A file whose header contradicts such a path is not refused here: reading it does that.

    Raises
    ------
    CorruptFileError
        If the file does not begin with a header.
    StorageError
        If the operating system refuses.
    """
    with FileReader(ROOT) as source:
        source.open(fspath(path))
        header = source.header
        if header is None:
            raise CorruptFileError(
                f"{path} is no hour file, or its header is damaged: {source.problem}",
                path=fspath(path),
                offset=0,
            )
        record = source.describe(header)
    key = FileKey.of_path(path)
    interval: Interval | None = None
    if key is not None:
        interval = Interval(key.hour_ns, key.hour_ns + HOUR_NS)
    elif header.sealed:
        interval = Interval(header.start_ns, header.end_ns + 1)
    return HourFileInfo(record, key is not None, header.sealed, interval)


def read_columns(
    files: Sequence[HourFileInfo],
    columns: Sequence[str],
    interval: Interval,
    *,
    strict: bool = False,
) -> list[TickColumns]:
    """Decode the ticks of some files of one stream that lie in an interval.

    Returns
    -------
    list of TickColumns
        Also with ``timestamp``; ``missing`` and ``left_out`` name what could not be read.

    Raises
    ------
    CorruptFileError
        With ``strict``, at damaged data.

    Warns
    -----
    CorruptDataWarning
        Naming what is left out.
    """
    names = check_columns(tuple({*columns, "timestamp"}))
    placed = [file.record for file in files if file.has_place]
    blocks: list[TickColumns] = []
    if placed:
        start_ns, end_ns = interval
        blocks += read_ticks(ROOT, placed, names, start_ns=start_ns, end_ns=end_ns, strict=strict)
    for file in files:
        if not file.has_place and (
            file.interval is None or file.interval.intersection(interval) is not None
        ):
            # Its name does not state an hour to be skipped by.
            for block in read_ticks(ROOT, [file.record], names, strict=strict):
                times = block.timestamp
                inside = (times >= interval.start_ns) & (times < interval.end_ns)
                blocks.append(block if inside.all() else block.take(inside.nonzero()[0]))
    return blocks


def choose_columns(files: FoundFiles, columns: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns asked for, by default those that the tick types of the files have.

    Raises
    ------
    UnknownColumnError
        Naming the columns that exist.
    InputError
        If an empty list is asked for.
    """
    if columns is None:
        known = [tick_type for tick_type in files.tick_types if tick_type in TICK_TYPES]
        return list_columns(known or list(TICK_TYPES))
    chosen = (columns,) if isinstance(columns, str) else tuple(columns)
    if not chosen:
        raise InputError(
            "no column is given: name some, or leave columns out for those the ticks have"
        )
    return check_columns(chosen)


def parse_interval(
    start: TimeLike | None, end: TimeLike | None, tz: str | tzinfo | None
) -> Interval:
    """Read the bounds of a half-open interval; absent bounds are the first and the last time.

    Raises
    ------
    NaiveDatetimeError
        If a bound has no time zone, and ``tz`` is not given.
    TimeRangeError
        If the start is not before the end.
    """
    start_ns = TIME_MIN if start is None else to_ns(start, tz=tz, name="start")
    end_ns = TIME_MAX if end is None else to_ns(end, tz=tz, name="end")
    if start_ns >= end_ns:
        raise TimeRangeError(
            f"start={start} is not before end={end}: an interval holds its start and not its end",
            start_ns=start_ns,
            end_ns=end_ns,
        )
    return Interval(start_ns, end_ns)


def _expand(source: str | PathLike[str], backfill: Backfill) -> Iterator[tuple[Path, bool]]:
    """Yield the files of a path, folder or glob, and whether a file was named by itself."""
    path = expand_home(source)
    if path.is_dir():
        yield from ((file, False) for file in _files_in(path, backfill))
        return
    if path.exists():
        yield path, True
        return
    if not _GLOB_CHARACTERS & set(fspath(path)):
        raise NoStoreError(f"{path}: there is no such file or folder", path=fspath(path))
    # Path.glob takes no absolute pattern.
    matches = [Path(match) for match in sorted(iglob(fspath(path), recursive=True))]  # noqa: PTH207
    files = [
        file
        for match in matches
        for file in (_files_in(match, backfill, must_exist=False) if match.is_dir() else [match])
        if match.is_dir() or _is_wanted(file, backfill)
    ]
    if not files:
        raise NoStoreError(f"{path}: no hour file matches this pattern", path=fspath(path))
    yield from ((file, False) for file in files)


def _files_in(folder: Path, backfill: Backfill, *, must_exist: bool = True) -> list[Path]:
    files = [file for file in sorted(folder.rglob("*.pb")) if _is_wanted(file, backfill)]
    if must_exist and not files:
        raise NoStoreError(f"{folder}: there is no hour file in this folder", path=fspath(folder))
    return files


def _is_wanted(file: Path, backfill: Backfill) -> bool:
    # A name with a leading dot is one of a file that is being written.
    if file.name.startswith(".") or not file.is_file():
        return False
    return backfill == "include" or (file_suffix(file.name) == "backfill") == (backfill == "only")


def _sort_key(file: HourFileInfo) -> tuple[int, str, int, str, int]:
    record = file.record
    hour_part = file_suffix(record.path) if file.has_place else ""
    return record.contract_id, record.tick_type, record.hour_ns, hour_part, record.start_ns
