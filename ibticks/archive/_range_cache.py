"""Ranges of archived hours in a local folder: sparse files that have the blocks that were loaded.

A load of a time range fetches the blocks that meet it, neighbours in one request, into a file of
the same size and layout as the hour file; the readers of hour files then read it as one. Each block
is checked against its CRC-32C where it is read, so that a hole, a torn write or a damaged object
is never taken for ticks.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ibticks._types import Interval
from ibticks.archive._object_store import open_object_store, split_location
from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.errors import InputError
from ibticks.filesystem import explained, open_lock, try_lock, write_all
from ibticks.format import checksum

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ibticks.archive._object_store import ObjectStore
    from ibticks.index import ArchivedCopy, Block, FileRecord, Index

__all__ = ["find_copies", "local_files", "merge_ranges"]

_CACHE_BYTES: Final = 4 << 30
_MAX_GAP_BYTES: Final = 256 << 10  # a request takes longer than reading as much
_MAX_REQUEST_BYTES: Final = 32 << 20
_REQUESTS_AT_ONCE: Final = 8
_FETCH_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True)
class _Fetch:
    """A range of an object to be written to its sparse file, and the blocks in it."""

    objects: ObjectStore
    key: str
    file: Path
    start: int
    stop: int
    blocks: tuple[Block, ...]


def find_copies(root: Path, index: Index, records: Iterable[FileRecord]) -> dict[str, ArchivedCopy]:
    """Return the archived copies of the files that are not here, by path.

    Copies of other bytes than those of the file's row are left out: loads report these hours as
    missing.
    """
    missing = {record.path: record for record in records if not (root / record.path).exists()}
    if not missing:
        return {}
    copies = index.archived(sorted(missing))
    return {copy.path: copy for copy in copies if copy.is_copy_of(missing[copy.path])}


@contextmanager
def local_files(
    root: Path,
    records: Sequence[FileRecord],
    copies: Mapping[str, ArchivedCopy],
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
) -> Iterator[Sequence[FileRecord]]:
    """Fetch the blocks of archived hours that meet ``[start_ns, end_ns)``.

    The folder is that of the variable ``IBTICKS_ARCHIVE_CACHE`` (``~/.cache/ibticks/archive`` by
    default), bounded by ``IBTICKS_ARCHIVE_CACHE_BYTES`` (4 GiB): what was read longest ago goes,
    except while loads use the folder.

    Parameters
    ----------
    root : Path
        Folder of the store.
    records : sequence of FileRecord
    copies : mapping of str to ArchivedCopy
        By path, of the files that are not here (:func:`find_copies`).
    start_ns, end_ns : int
        UTC nanoseconds.

    Yields
    ------
    sequence of FileRecord
        The records; those of archived hours have the absolute path of a sparse file, which stays
        until the context ends.

    Raises
    ------
    ArchiveError
        If the object store fails.
    """
    wanted = [record for record in records if record.path in copies]
    if not wanted:
        yield records
        return
    folder = _cache_folder()
    with explained(folder, "making"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    interval = Interval(start_ns, end_ns)
    lock = open_lock(folder / "lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        files = {
            record.path: _file_of(folder, copies[record.path])
            for record in wanted
            if not record.blocks or _blocks_within(record, interval)
        }
        fetches = [
            fetch
            for record in wanted
            if record.path in files
            for fetch in _plan(record, copies[record.path], files[record.path], interval)
        ]
        if len(fetches) > 1:
            threads = min(_REQUESTS_AT_ONCE, len(fetches))
            with ThreadPoolExecutor(threads, thread_name_prefix="ibticks-archive") as pool:
                list(pool.map(_fetch, fetches))
        elif fetches:
            _fetch(fetches[0])
        yield [
            replace(record, path=str(files[record.path])) if record.path in files else record
            for record in records
            if record.path in files or record.path not in copies
        ]
        if fetches and try_lock(lock):
            _evict(folder)
    finally:
        os.close(lock)


def merge_ranges(blocks: Sequence[Block]) -> list[tuple[int, int, tuple[Block, ...]]]:
    """Merge the byte ranges of neighbouring blocks.

    Returns
    -------
    list of (int, int, tuple of Block)
        Start and stop of each range, and its blocks.

    Examples
    --------
    >>> from ibticks.index import Block
    >>> blocks = [
    ...     Block(at, 1_000_000, 1_000_000, 1, 0, 0, 0, 0) for at in (256, 1_000_256, 9_000_000)
    ... ]
    >>> [(start, stop, len(inside)) for start, stop, inside in merge_ranges(blocks)]
    [(256, 2000256, 2), (9000000, 10000000, 1)]
    """
    ranges: list[tuple[int, int, tuple[Block, ...]]] = []
    for block in sorted(blocks, key=lambda block: block.offset):
        end = block.offset + block.size
        if ranges:
            start, stop, inside = ranges[-1]
            if block.offset - stop <= _MAX_GAP_BYTES and end - start <= _MAX_REQUEST_BYTES:
                ranges[-1] = start, end, (*inside, block)
                continue
        ranges.append((block.offset, end, (block,)))
    return ranges


def _cache_folder() -> Path:
    chosen = os.environ.get("IBTICKS_ARCHIVE_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "ibticks" / "archive"


def _cache_bytes() -> int:
    text = os.environ.get("IBTICKS_ARCHIVE_CACHE_BYTES", str(_CACHE_BYTES))
    try:
        return int(text)
    except ValueError:
        raise InputError(
            f"IBTICKS_ARCHIVE_CACHE_BYTES is {text!r}: set it to a number of bytes"
        ) from None


def _file_of(folder: Path, copy: ArchivedCopy) -> Path:
    """Return the sparse file of a copy, of its size; each version of an hour has another one."""
    version = f"{copy.location} {copy.size} {copy.file_crc32c}"
    name = hashlib.sha256(version.encode()).hexdigest()[:16]
    file = folder / name / copy.path
    with explained(file, "making"):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            about = os.fstat(descriptor)
            if about.st_size != copy.size:
                os.ftruncate(descriptor, copy.size)
            else:  # the time of its use; that of its change is part of its identity
                os.utime(descriptor, ns=(time.time_ns(), about.st_mtime_ns))
        finally:
            os.close(descriptor)
    return file


def _blocks_within(record: FileRecord, interval: Interval) -> list[Block]:
    return [
        block
        for block in record.blocks
        if block.max_ns >= interval.start_ns and block.min_ns < interval.end_ns
    ]


def _plan(record: FileRecord, copy: ArchivedCopy, file: Path, interval: Interval) -> list[_Fetch]:
    """Return the requests for what a sparse file lacks."""
    url, key = split_location(copy.location, record.path)
    if not record.blocks:
        # An index rebuilt from the catalogue has no blocks.
        with explained(file, "reading"):
            is_here = checksum(file.read_bytes()) == copy.file_crc32c
        return [] if is_here else [_Fetch(_objects(url), key, file, 0, copy.size, ())]
    with file.open("rb") as stream:
        lacking = [
            block
            for block in _blocks_within(record, interval)
            if not _has_block(stream.fileno(), block)
        ]
    return [
        _Fetch(_objects(url), key, file, start, stop, blocks)
        for start, stop, blocks in merge_ranges(lacking)
    ]


def _has_block(descriptor: int, block: Block) -> bool:
    return checksum(os.pread(descriptor, block.size, block.offset)) == block.crc32c


@lru_cache(maxsize=64)
def _open_cached(url: str, environment: tuple[str, ...]) -> ObjectStore:
    del environment  # another endpoint, or other credentials, open another one
    return open_object_store(url)


def _objects(url: str) -> ObjectStore:
    names = (name for name in sorted(os.environ) if name.startswith(("AWS_", "GOOGLE_", "AZURE_")))
    return _open_cached(url, tuple(f"{name}={os.environ[name]}" for name in names))


def _fetch(fetch: _Fetch) -> None:
    """Read a range and write it to its sparse file; a block that fails its checksum once more."""
    data = b""
    for _ in range(_FETCH_ATTEMPTS):
        data = fetch.objects.read_range(fetch.key, fetch.start, fetch.stop)
        view = memoryview(data)
        begins = ((block, block.offset - fetch.start) for block in fetch.blocks)
        if all(checksum(view[at : at + block.size]) == block.crc32c for block, at in begins):
            break
    # A block that is damaged in the object is written as it is: the load reports it.
    with explained(fetch.file, "writing"):
        descriptor = os.open(fetch.file, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.lseek(descriptor, fetch.start, os.SEEK_SET)
            write_all(descriptor, data)
        finally:
            os.close(descriptor)


def _evict(folder: Path) -> None:
    """Remove the files that were read longest ago, down to the limit of the folder."""
    limit = _cache_bytes()
    files = []
    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith("_ticks.pb"):
                path = Path(place, name)
                about = path.stat()
                files.append((about.st_atime_ns, about.st_blocks * 512, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit:
            break
        with suppress(OSError):
            path.unlink()
            total -= size
            for above in list(path.parents)[:7]:
                if above == folder:
                    break
                above.rmdir()
