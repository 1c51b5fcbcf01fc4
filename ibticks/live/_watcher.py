"""Being told that something changed in some folders, without asking all the time.

Linux tells (``inotify``, see inotify(7)); it wakes whoever waits at once and costs nothing while
nothing happens. Elsewhere, and where it refuses (too many watches, a file system that does not
know), the caller looks by itself every few milliseconds.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Watch"]

_log = logging.getLogger(__name__)
_EVENT: Final = struct.Struct("iIII")
_ENOUGH: Final = 1 << 16
_GONE: Final = (errno.ENOENT, errno.ENOTDIR)
_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _ONLY_FOLDERS, _FOLDER = 0x4000, 0x8000, 0x0100_0000, 0x4000_0000
_WANTED: Final = _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLY_FOLDERS


class Watch:
    """Folders that are watched.

    Parameters
    ----------
    told : bool
        Whether to be told at all.

    Attributes
    ----------
    descriptor : int or None
        Can be read as soon as something changed; None where nobody tells.
    """

    def __init__(self, *, told: bool = True) -> None:
        self.descriptor: int | None = None
        self._folders: dict[int, Path] = {}
        self._watched: set[Path] = set()
        self._system: Any = None
        if told and sys.platform == "linux":
            self._system = ctypes.CDLL(None, use_errno=True)
            descriptor = self._system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if descriptor < 0:
                self._refused("inotify")
            else:
                self.descriptor = descriptor

    def add(self, folder: Path) -> None:
        """Watch a folder, if it is not watched yet."""
        if self.descriptor is None or folder in self._watched:
            return
        number = self._system.inotify_add_watch(self.descriptor, os.fsencode(folder), _WANTED)
        if number >= 0:
            self._folders[number] = folder
            self._watched.add(folder)
        elif ctypes.get_errno() not in _GONE:
            self._refused(str(folder))
            self.close()

    def changes(self) -> set[Path] | None:
        """The files that changed since it was last asked; None where it may be any."""
        if self.descriptor is None:
            return None
        changed: set[Path] = set()
        anything = False
        while data := self._read():
            at = 0
            while at < len(data):
                number, mask, _, size = _EVENT.unpack_from(data, at)
                at += _EVENT.size + size
                name = data[at - size : at].rstrip(b"\0")
                if mask & _IGNORED and number in self._folders:
                    self._watched.discard(self._folders.pop(number))
                if mask & (_OVERFLOW | _FOLDER | _IGNORED):
                    anything = True
                elif number in self._folders:
                    changed.add(self._folders[number] / os.fsdecode(name))
        return None if anything else changed

    def close(self) -> None:
        """Watch nothing any more."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def _read(self) -> bytes:
        assert self.descriptor is not None
        try:
            return os.read(self.descriptor, _ENOUGH)
        except BlockingIOError:
            return b""

    @staticmethod
    def _refused(what: str) -> None:
        reason = os.strerror(ctypes.get_errno())
        _log.warning("%s cannot be watched (%s): files are looked at instead", what, reason)
