"""One stream's files, read on from where they were read to."""

from __future__ import annotations

import logging
import warnings
from collections import deque
from typing import TYPE_CHECKING, Final

from ibticks.errors import CorruptDataWarning, CorruptFileError, StorageError
from ibticks.format import MAX_FRAME_BYTES, TORN, count_frames, find_payloads
from ibticks.live._body import Body
from ibticks.live._folders import Seen, list_days, list_folder, look_at
from ibticks.live._frame_batch import Stretch
from ibticks.live._position import MARK_BYTES, Cursor, mark_of
from ibticks.storage import FileKey, hour_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

__all__ = ["Tail"]

_log = logging.getLogger(__name__)
_CHUNK: Final = 1 << 20
_ALL: Final = 2**63
_HOT: Final = 2  # files at the end of a stream that are looked at most often


class _File:
    """What is known of one file, and how far it has been read."""

    __slots__ = ("before", "body", "cursor", "done", "key", "limit", "path", "seen", "snapshot")

    def __init__(self, root: Path, key: FileKey, cursor: Cursor) -> None:
        self.key: Final = key
        self.path: Final = root / key.path
        self.cursor = cursor
        self.before: deque[Cursor] = deque(maxlen=8)
        self.seen: Seen | None = None
        self.body: Body | None = None
        self.done = False  # whether the last read met the end
        self.snapshot: Seen | None = None  # as it was when the stream was opened
        self.limit: int | None = None  # how far its body was read then, or will have been

    def close(self) -> None:
        if self.body is not None:
            self.body.close()
            self.body = None


class Tail:
    """Reads the files of one stream, each from its cursor to its end, and on as they grow.

    A file is only read past a frame that is whole. It may be sealed, opened again, compressed or
    have a torn end cut off meanwhile: the place in its body stays the same. What a crash tore is
    never read. Files of what was backfilled are not followed: they are no part of the stream as it
    happened.

    Parameters
    ----------
    root : Path
        The store.
    contract_id : int
    tick_type : str
    start_ns : int
        Earlier ticks are passed over, and so are files of earlier hours.
    cursors : mapping of FileKey to Cursor
        How far files have been read.
    visit : callable
        Called with each folder that has to be watched.

    Attributes
    ----------
    intact : bool
        Whether all files are what they were when they were read, and could be read.
    """

    def __init__(
        self,
        root: Path,
        contract_id: int,
        tick_type: str,
        start_ns: int,
        *,
        cursors: Mapping[FileKey, Cursor] | None = None,
        visit: Callable[[Path], object] = lambda _: None,
    ) -> None:
        self.contract_id: Final = contract_id
        self.tick_type: Final = tick_type
        self.start_ns: Final = start_ns
        self.intact = True
        self._root: Final = root
        self._visit: Final = visit
        self._cursors: Final = dict(cursors or {})
        self._files: dict[FileKey, _File] = {}
        self._newest: FileKey | None = None
        self._changed: set[FileKey] = set()
        self._known: dict[Path, FileKey | None] = {}
        self._damaged: set[tuple[FileKey, int]] = set()

    # -- looking -----------------------------------------------------------------------------------

    def survey(self) -> bool:
        """Look at every file; whether one changed that has not been looked at since."""
        there: set[FileKey] = set()
        days = list_days(self._root, self.contract_id, self.tick_type, self.start_ns, self._visit)
        found = False
        for day in days:
            for key, seen in list_folder(self._root, day):
                if self._is_followed(key):
                    there.add(key)
                    found |= self._note(key, seen)
        for key in self._files.keys() - there:
            self._forget(key)
        return found

    def look(self, paths: Iterable[Path] | None = None) -> bool:
        """Look at some files, or at the newest; whether one changed."""
        if paths is None:
            keys = sorted(self._files)[-_HOT:]
        else:
            keys = [key for key in map(self._key_of, paths) if key is not None]
        found = False
        for key in keys:
            seen = look_at(self._root / key.path)
            if seen is not None:
                found |= self._note(key, seen)
            elif key in self._files:
                self._forget(key)
        return found

    def _key_of(self, path: Path) -> FileKey | None:
        if path not in self._known:
            key = FileKey.parse(path.relative_to(self._root).as_posix())
            self._known[path] = key if key is not None and self._is_followed(key) else None
        return self._known[path]

    def _is_followed(self, key: FileKey) -> bool:
        return key.part != "backfill" and key.hour_ns >= hour_of(self.start_ns)

    def _note(self, key: FileKey, seen: Seen) -> bool:
        file = self._files.get(key)
        if file is None:
            cursor = self._cursors.pop(key, Cursor())
            file = self._files[key] = _File(self._root, key, cursor)
            self._newest = key if self._newest is None else max(key, self._newest)
        if file.seen == seen:
            return False
        file.seen = seen
        self._changed.add(key)
        return True

    def _forget(self, key: FileKey) -> None:
        """A file is gone: one that takes its place is another one."""
        if key in self._changed:
            _log.warning("%s was deleted before it was read to its end", key.path)
        self._files.pop(key).close()
        self.intact = False
        self._changed.discard(key)

    # -- what was there, and what comes ------------------------------------------------------------

    def take_snapshot(self) -> None:
        """Take what the files hold now for history: until :meth:`go_on`, no more is read."""
        self.survey()
        for file in self._files.values():
            file.snapshot = file.seen

    def go_on(self) -> None:
        """Read what came after the snapshot, too."""
        for file in self._files.values():
            file.snapshot = file.limit = None
        self.survey()

    def skip(self) -> None:
        """Pass over everything that the files hold now."""
        self.survey()
        for key in sorted(self._changed):
            file = self._files[key]
            try:
                self._skip(file)
            except CorruptFileError as error:
                self._leave_out(file, error)
            except StorageError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
            file.close()
        self._changed.clear()

    def _skip(self, file: _File) -> None:
        body = self._open(file)
        if body is None:
            return
        header = body.header
        if header.sealed and header.compression == "none":
            # Sealed means whole: its frames need not be gone through.
            offset = header.body_bytes
            before = body.read(max(0, offset - MARK_BYTES), min(MARK_BYTES, offset))
            file.cursor = Cursor(offset, header.message_count, mark_of(before))
            return
        while (found := self._frames(file, body)) is not None:
            file.cursor = found[-1]

    # -- reading -----------------------------------------------------------------------------------

    @property
    def behind(self) -> bool:
        """Whether there may be more to read at once."""
        return bool(self._changed)

    def read(self) -> Stretch | None:
        """The next whole frames, about a MiB; none where everything has been read."""
        while self._changed:
            key = min(self._changed)
            file = self._files[key]
            stretch = self._read_on(file)
            if stretch is None or file.done:
                self._changed.discard(key)
                if key != self._newest:
                    file.close()
            if stretch is not None:
                return stretch
        return None

    def count(self, cursors: Mapping[FileKey, Cursor]) -> int:
        """How many ticks of the snapshot come after these places."""
        ours = {key: cursor for key, cursor in cursors.items() if key in self._files}
        again = Tail(self._root, self.contract_id, self.tick_type, self.start_ns, cursors=ours)
        for key, file in self._files.items():
            if file.snapshot is not None:
                again._note(key, file.snapshot)
                again._files[key].snapshot = file.snapshot
        ticks = 0
        while (stretch := again.read()) is not None:
            ticks += stretch.ticks
        again.close()
        return ticks

    def cursors(self) -> dict[FileKey, Cursor]:
        """How far each file has been read."""
        read = {key: file.cursor for key, file in self._files.items() if file.cursor.offset}
        return self._cursors | read

    def close(self) -> None:
        """Let go of every file."""
        for file in self._files.values():
            file.close()

    def _read_on(self, file: _File) -> Stretch | None:
        try:
            body = self._open(file)
            found = None if body is None else self._frames(file, body)
            if found is None:
                return None
            raw, base, stop, cursor = found
            stretch = self._find(file, raw, base, stop, cursor)
        except CorruptFileError as error:
            file.close()  # it is checked anew once it has changed
            self._leave_out(file, error)
            return None
        except StorageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            self._forget(file.key)
            return None
        file.before.append(file.cursor)
        file.cursor = stretch.end
        return stretch

    def _open(self, file: _File) -> Body | None:
        """The body of a file, where there is anything to be read in it."""
        if file.body is not None and file.seen is not None and file.body.inode == file.seen.inode:
            return file.body
        file.close()
        body = file.body = Body(file.path)
        header, cursor = body.header, file.cursor
        if header.compression != "none" and 0 < header.message_count == cursor.frames:
            file.close()
            return None  # it was read before it was compressed
        if header.sealed and not cursor.offset:
            body.check()
        if not self._fits(body, cursor):
            self._step_back(file, body)
        if file.snapshot is not None and file.limit is None:
            same = body.inode == file.snapshot.inode and header.compression == "none"
            file.limit = file.snapshot.size - header.frame_bytes if same else _ALL
        return body

    def _frames(
        self, file: _File, body: Body
    ) -> tuple[npt.NDArray[np.uint8], int, int, Cursor] | None:
        """The whole frames that follow.

        Returns
        -------
        raw : numpy.ndarray
            Bytes, some of them before the cursor.
        base : int
            Where they begin in the body.
        stop : int
            Where in ``raw`` the last whole frame ends.
        end : Cursor
            After it.
        """
        size = _CHUNK
        while True:
            cursor = file.cursor
            before = min(MARK_BYTES, cursor.offset)
            base = cursor.offset - before
            raw = body.read(base, before + size)
            if len(raw) < before:
                self.intact = False
                return None  # what could not be made durable was taken back: it comes again
            if mark_of(raw[:before]) != cursor.mark:
                self._step_back(file, body)
                continue
            stop = len(raw) if file.limit is None else min(len(raw), file.limit - base)
            frames, end, problem = count_frames(raw, before, max(before, stop))
            whole = problem in (None, TORN)
            file.done = whole and (len(raw) < before + size or stop < len(raw))
            if end > before:
                count = -1 if cursor.frames < 0 else cursor.frames + frames
                return raw, base, end, Cursor(base + end, count, mark_of(raw[:end]))
            if not whole:
                raise CorruptFileError(
                    f"{file.path}: {problem}", path=str(file.path), offset=cursor.offset
                )
            if file.done or problem is None or size > MAX_FRAME_BYTES:
                return None
            size = MAX_FRAME_BYTES + 4

    def _find(
        self, file: _File, raw: npt.NDArray[np.uint8], base: int, stop: int, end: Cursor
    ) -> Stretch:
        start = file.cursor.offset - base
        try:
            found = find_payloads(
                raw, start, stop, ticks=True, others=False, start_ns=self.start_ns
            )
        except CorruptFileError as error:
            good = error.context["offset"]
            if good == start:
                raise
            # What can be read comes; the rest is met again by the next read.
            found = find_payloads(
                raw, start, good, ticks=True, others=False, start_ns=self.start_ns
            )
            end = Cursor(base + good, -1, mark_of(raw[:good]))
            file.done = False
        return Stretch(file.key, raw, base, *found, end)

    @staticmethod
    def _fits(body: Body, cursor: Cursor) -> bool:
        """Whether it was this file that was read to that place."""
        before = min(MARK_BYTES, cursor.offset)
        if not before:
            return True
        read = body.read(cursor.offset - before, before)[:before]
        return len(read) == before and mark_of(read) == cursor.mark

    def _step_back(self, file: _File, body: Body) -> None:
        """Go back to where a file is still the one that was read, or to its beginning."""
        while file.before and not self._fits(body, file.before[-1]):
            file.before.pop()
        self.intact = False
        last, file.cursor = file.cursor, file.before.pop() if file.before else Cursor()
        _log.warning(
            "%s is not the file it was up to byte %d of its body: it is read again from byte %d",
            file.path,
            last.offset,
            file.cursor.offset,
        )

    def _leave_out(self, file: _File, error: CorruptFileError) -> None:
        """Tell of damage, once for each version of a file; what follows it is left out."""
        self.intact = False
        inode = 0 if file.seen is None else file.seen.inode
        if (file.key, inode) in self._damaged:
            return
        self._damaged.add((file.key, inode))
        warnings.warn(
            f"{error}; what follows in the file is left out. `ibticks verify` tells what else is "
            "damaged",
            CorruptDataWarning,
            stacklevel=2,
        )
