"""The tail of one stream: its hour files, read on from a cursor as they grow."""

from __future__ import annotations

import logging
import warnings
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from ibticks._types import Interval, StreamKey
from ibticks.config import HOUR_NS, TIME_MAX
from ibticks.errors import CorruptDataWarning, CorruptFileError, StorageError
from ibticks.format import MAX_FRAME_BYTES, TORN, count_frames, find_payloads
from ibticks.live._batch import FrameBatch
from ibticks.live._stream_files import (
    CURSOR_CHECK_BYTES,
    Cursor,
    FileBody,
    FileVersion,
    changed_files,
    cursor_check,
    file_version,
    format_position,
    list_day_files,
    list_day_folders,
    parse_position,
)
from ibticks.storage import FileKey, floor_hour

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

__all__ = ["LostPosition", "Tail", "next_position"]

_log = logging.getLogger(__name__)
_CHUNK_BYTES: Final = 1 << 20
_NO_LIMIT: Final = 2**63
_POLLED_FILES: Final = 2
"""Number of the newest files of a stream that are polled, where nothing reports changes."""
_MAX_EARLIER_CURSORS: Final = 8


class _WholeFrames(NamedTuple):
    """Whole frames that follow a cursor, with some bytes before them."""

    raw: npt.NDArray[np.uint8]
    base: int  # offset of `raw` in the body
    stop: int  # where in `raw` the last whole frame ends
    end: Cursor


class _FollowedFile:
    """The state of one file: its version, and the cursor up to which it has been read."""

    __slots__ = (
        "at_end",
        "body",
        "cursor",
        "earlier_cursors",
        "key",
        "limit",
        "path",
        "snapshot",
        "version",
    )

    def __init__(self, root: Path, key: FileKey, cursor: Cursor) -> None:
        self.key: Final = key
        self.path: Final = root / key.path
        self.cursor = cursor
        self.earlier_cursors: deque[Cursor] = deque(maxlen=_MAX_EARLIER_CURSORS)
        self.version: FileVersion | None = None
        self.body: FileBody | None = None
        self.at_end = False  # whether the last read met the end
        self.snapshot: FileVersion | None = None  # its version when the stream was opened
        self.limit: int | None = None  # the length of its body in the snapshot, once it is known

    def close(self) -> None:
        if self.body is not None:
            self.body.close()
            self.body = None


class Tail:
    """Read the files of one stream, each from its cursor to its end, and on as they grow.

    Only whole frames are read. A file may be sealed, opened again, compressed or have a torn end
    cut off meanwhile: the place in its body stays the same. What a crash tore is never read.
    Backfilled files are not followed: they are no part of the stream as it happened.

    Parameters
    ----------
    root : Path
        The store.
    contract_id : int
    tick_type : str
    start_ns, end_ns : int
        Half-open interval of UTC nanoseconds: ticks outside it are passed over, and so are files of
        other hours.
    cursors : mapping of FileKey to Cursor
        Cursors up to which files have been read already.
    visit : callable
        Called with each folder that has to be watched.

    Attributes
    ----------
    stream : StreamKey
    intact : bool
        Whether every file is still the one that was read, and could be read.
    """

    def __init__(
        self,
        root: Path,
        contract_id: int,
        tick_type: str,
        start_ns: int,
        end_ns: int = TIME_MAX,
        *,
        cursors: Mapping[FileKey, Cursor] | None = None,
        visit: Callable[[Path], object] = lambda _: None,
    ) -> None:
        self.stream: Final = StreamKey(contract_id, tick_type)
        self.start_ns: Final = start_ns
        self.end_ns: Final = end_ns
        self.intact = True
        self._root: Final = root
        self._visit: Final = visit
        self._cursors: Final = dict(cursors or {})
        self._files: dict[FileKey, _FollowedFile] = {}
        self._newest: FileKey | None = None
        self._changed: set[FileKey] = set()
        self._key_of_path: dict[Path, FileKey | None] = {}
        self._damaged: set[tuple[FileKey, int]] = set()

    # -- finding changes ---------------------------------------------------------------------------

    def rescan(self) -> bool:
        """Compare every file with its known version; return whether any changed."""
        present: set[FileKey] = set()
        days = list_day_folders(self._root, self.stream, self.start_ns, self._visit)
        is_changed = False
        for day in days:
            for key, version in list_day_files(self._root, day):
                if self._is_followed(key):
                    present.add(key)
                    is_changed |= self._update(key, version)
        for key in self._files.keys() - present:
            self._remove(key)
        return is_changed

    def check(self, paths: Iterable[Path] | None = None) -> bool:
        """Compare some files, or the newest, with their versions; return whether any changed."""
        if paths is None:
            keys = sorted(self._files)[-_POLLED_FILES:]
        else:
            keys = [key for key in map(self._parse_path, paths) if key is not None]
        is_changed = False
        for key in keys:
            version = file_version(self._root / key.path)
            if version is not None:
                is_changed |= self._update(key, version)
            elif key in self._files:
                self._remove(key)
        return is_changed

    def _parse_path(self, path: Path) -> FileKey | None:
        if path not in self._key_of_path:
            key = FileKey.parse(path.relative_to(self._root).as_posix())
            self._key_of_path[path] = key if key is not None and self._is_followed(key) else None
        return self._key_of_path[path]

    def _is_followed(self, key: FileKey) -> bool:
        is_inside = floor_hour(self.start_ns) <= key.hour_ns < self.end_ns
        return is_inside and key.suffix != "backfill"

    def _update(self, key: FileKey, version: FileVersion) -> bool:
        file = self._files.get(key)
        if file is None:
            cursor = self._cursors.pop(key, Cursor())
            file = self._files[key] = _FollowedFile(self._root, key, cursor)
            self._newest = key if self._newest is None else max(key, self._newest)
        if file.version == version:
            return False
        file.version = version
        self._changed.add(key)
        return True

    def _remove(self, key: FileKey) -> None:
        """Drop the state of a deleted file: a file that takes its place is another one."""
        if key in self._changed:
            _log.warning("%s was deleted before it was read to its end", key.path)
        self._files.pop(key).close()
        self.intact = False
        self._changed.discard(key)

    # -- buffer and live ---------------------------------------------------------------------------

    def take_snapshot(self) -> None:
        """Make what the files hold now the buffer: until :meth:`go_live`, no more is read."""
        self.rescan()
        for file in self._files.values():
            file.snapshot = file.version

    def go_live(self) -> None:
        """Read what came after the snapshot, too."""
        for file in self._files.values():
            file.snapshot = file.limit = None
        self.rescan()

    def skip_to_end(self) -> None:
        """Move every cursor to the end of what the files hold now."""
        self.rescan()
        for key in sorted(self._changed):
            file = self._files[key]
            try:
                self._skip_file(file)
            except CorruptFileError as error:
                self._warn_damage(file, error)
            except StorageError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
            file.close()
        self._changed.clear()

    def _skip_file(self, file: _FollowedFile) -> None:
        body = self._open(file)
        if body is None:
            return
        header = body.header
        if header.sealed and header.compression == "none":
            # Sealed means whole: its frames need not be walked.
            offset = header.body_bytes
            checked = min(CURSOR_CHECK_BYTES, offset)
            before = body.read(offset - checked, checked)
            file.cursor = Cursor(offset, header.message_count, cursor_check(before))
            return
        while (whole := self._read_whole_frames(file, body)) is not None:
            file.cursor = whole.end

    # -- reading -----------------------------------------------------------------------------------

    @property
    def behind(self) -> bool:
        """True while there may be more to read at once."""
        return bool(self._changed)

    def read(self) -> FrameBatch | None:
        """Read the next whole frames, about a MiB; None where everything has been read."""
        while self._changed:
            key = min(self._changed)
            file = self._files[key]
            frames = self._read_file(file)
            if frames is None or file.at_end:
                self._changed.discard(key)
                if key != self._newest:
                    file.close()
            if frames is not None:
                return frames
        return None

    def count(self, cursors: Mapping[FileKey, Cursor]) -> int:
        """Count the ticks of the snapshot that come after these cursors."""
        own = {key: cursor for key, cursor in cursors.items() if key in self._files}
        counter = Tail(self._root, *self.stream, self.start_ns, self.end_ns, cursors=own)
        for key, file in self._files.items():
            if file.snapshot is not None:
                counter._update(key, file.snapshot)
                counter._files[key].snapshot = file.snapshot
        ticks = 0
        while (frames := counter.read()) is not None:
            ticks += frames.ticks
        counter.close()
        return ticks

    def cursors(self) -> dict[FileKey, Cursor]:
        """Return the cursor of each file."""
        read = {key: file.cursor for key, file in self._files.items() if file.cursor.offset}
        return self._cursors | read

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.close()

    def _read_file(self, file: _FollowedFile) -> FrameBatch | None:
        try:
            body = self._open(file)
            whole = None if body is None else self._read_whole_frames(file, body)
            if whole is None:
                return None
            frames = self._find_ticks(file, whole)
        except CorruptFileError as error:
            file.close()  # it is checked anew once it has changed
            self._warn_damage(file, error)
            return None
        except StorageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            self._remove(file.key)
            return None
        file.earlier_cursors.append(file.cursor)
        file.cursor = frames.end
        return frames

    def _open(self, file: _FollowedFile) -> FileBody | None:
        """Return the body of a file, or None where there is nothing to read in it."""
        if (
            file.body is not None
            and file.version is not None
            and file.body.inode == file.version.inode
        ):
            return file.body
        file.close()
        body = file.body = FileBody(file.path)
        header, cursor = body.header, file.cursor
        if header.compression != "none" and 0 < header.message_count == cursor.frames:
            file.close()
            return None  # it was read before it was compressed
        if header.sealed and not cursor.offset:
            body.check()
        if not body.matches(cursor):
            self._step_back(file, body)
        if file.snapshot is not None and file.limit is None:
            is_same = body.inode == file.snapshot.inode and header.compression == "none"
            file.limit = file.snapshot.size - header.frame_bytes if is_same else _NO_LIMIT
        return body

    def _read_whole_frames(self, file: _FollowedFile, body: FileBody) -> _WholeFrames | None:
        size = _CHUNK_BYTES
        while True:
            cursor = file.cursor
            before = min(CURSOR_CHECK_BYTES, cursor.offset)
            base = cursor.offset - before
            raw = body.read(base, before + size)
            if len(raw) < before:
                self.intact = False
                return None  # a writer took back what it could not make durable: it comes again
            if cursor_check(raw[:before]) != cursor.check:
                self._step_back(file, body)
                continue
            stop = len(raw) if file.limit is None else min(len(raw), file.limit - base)
            count, end, problem = count_frames(raw, before, max(before, stop))
            is_whole = problem in (None, TORN)
            file.at_end = is_whole and (len(raw) < before + size or stop < len(raw))
            if end > before:
                frames = -1 if cursor.frames < 0 else cursor.frames + count
                return _WholeFrames(
                    raw, base, end, Cursor(base + end, frames, cursor_check(raw[:end]))
                )
            if not is_whole:
                raise CorruptFileError(
                    f"{file.path}: {problem}", path=str(file.path), offset=cursor.offset
                )
            if file.at_end or problem is None or size > MAX_FRAME_BYTES:
                return None
            size = MAX_FRAME_BYTES + 4

    def _find_ticks(self, file: _FollowedFile, whole: _WholeFrames) -> FrameBatch:
        raw, base, stop, end = whole
        start = file.cursor.offset - base
        find_ticks = partial(
            find_payloads,
            raw,
            start,
            ticks=True,
            others=False,
            start_ns=self.start_ns,
            end_ns=self.end_ns,
        )
        try:
            payloads = find_ticks(stop)
        except CorruptFileError as error:
            damage = error.context["offset"]
            if damage == start:
                raise
            # The frames before the damage come now; the next read meets the damage again.
            payloads = find_ticks(damage)
            end = Cursor(base + damage, -1, cursor_check(raw[:damage]))
            file.at_end = False
        return FrameBatch(file.key, raw, base, *payloads, end)

    def _step_back(self, file: _FollowedFile, body: FileBody) -> None:
        """Move the cursor back to the last place where the file is unchanged, or to its start."""
        earlier = file.earlier_cursors
        while earlier and not body.matches(earlier[-1]):
            earlier.pop()
        self.intact = False
        last, file.cursor = file.cursor, earlier.pop() if earlier else Cursor()
        _log.warning(
            "%s is not the file it was up to byte %d of its body: it is read again from byte %d",
            file.path,
            last.offset,
            file.cursor.offset,
        )

    def _warn_damage(self, file: _FollowedFile, error: CorruptFileError) -> None:
        """Warn of damage once for each version of a file; the rest of the file is left out."""
        self.intact = False
        inode = 0 if file.version is None else file.version.inode
        if (file.key, inode) in self._damaged:
            return
        self._damaged.add((file.key, inode))
        warnings.warn(
            f"{error}; what follows in the file is left out. `ibticks verify` reports what else is "
            "damaged",
            CorruptDataWarning,
            stacklevel=2,
        )


class LostPosition(NamedTuple):
    """Files of a position that are gone or were replaced, and the position after them.

    Attributes
    ----------
    files : tuple of FileKey
    interval : Interval
        The hours of these files, UTC nanoseconds.
    position : str
        Resume token with the same cursors in all other files, after what the replaced ones hold
        now.
    """

    files: tuple[FileKey, ...]
    interval: Interval
    position: str


def next_position(root: Path, resume: str) -> LostPosition | None:
    """Return what a position has lost, and from where a stream can go on; None if nothing.

    Parameters
    ----------
    root : Path
        The store.
    resume : str
        Resume token.

    Raises
    ------
    InputError
        If it is not a resume token.
    StorageError
        If the operating system refuses.
    """
    position = parse_position(resume)
    lost = tuple(changed_files(root, position))
    if not lost:
        return None
    cursors = {key: cursor for key, cursor in position.cursors.items() if key not in lost}
    for stream in {StreamKey(key.contract_id, key.tick_type) for key in lost}:
        tail = Tail(root, *stream, position.start_ns)
        tail.skip_to_end()
        present = tail.cursors()
        tail.close()
        cursors |= {key: present[key] for key in lost if key in present}
    hours = [key.hour_ns for key in lost]
    interval = Interval(min(hours), max(hours) + HOUR_NS)
    return LostPosition(lost, interval, format_position(position._replace(cursors=cursors)))
