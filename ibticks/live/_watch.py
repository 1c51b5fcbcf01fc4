"""Watching folders with inotify, and waiting for a change in a thread or an event loop.

On Linux, inotify(7) wakes a waiting reader at once and costs nothing while nothing happens. On
other systems, and where inotify refuses (too many watches, a file system without it), the caller
polls the files every few milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
import select
import struct
import sys
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["FolderWatch", "Waiter"]

_log = logging.getLogger(__name__)
_EVENT: Final = struct.Struct("iIII")
_EVENT_BUFFER_BYTES: Final = 1 << 16
_NOT_FOUND: Final = (errno.ENOENT, errno.ENOTDIR)
_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _ONLY_FOLDERS, _FOLDER = 0x4000, 0x8000, 0x0100_0000, 0x4000_0000
_EVENT_MASK: Final = _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLY_FOLDERS
_MAX_WAIT_SECONDS: Final = 3600.0


class FolderWatch:
    """An inotify watch on some folders.

    Parameters
    ----------
    enabled : bool
        Whether inotify is used at all.

    Attributes
    ----------
    descriptor : int or None
        File descriptor that is readable as soon as a file changes; None without inotify.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.descriptor: int | None = None
        self._folder_of_number: dict[int, Path] = {}
        self._watched: set[Path] = set()
        self._libc: Any = None
        if enabled and sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if descriptor < 0:
                self._log_refusal("inotify")
            else:
                self.descriptor = descriptor

    def add(self, folder: Path) -> None:
        """Watch a folder, if it is not watched yet."""
        if self.descriptor is None or folder in self._watched:
            return
        number = self._libc.inotify_add_watch(self.descriptor, os.fsencode(folder), _EVENT_MASK)
        if number >= 0:
            self._folder_of_number[number] = folder
            self._watched.add(folder)
        elif ctypes.get_errno() not in _NOT_FOUND:
            self._log_refusal(str(folder))
            self.close()

    def changes(self) -> set[Path] | None:
        """Return the files that changed since the last call; None where any may have."""
        if self.descriptor is None:
            return None
        changed: set[Path] = set()
        is_unknown = False
        while data := self._read():
            at = 0
            while at < len(data):
                number, mask, _, size = _EVENT.unpack_from(data, at)
                at += _EVENT.size + size
                name = data[at - size : at].rstrip(b"\0")
                if mask & _IGNORED and number in self._folder_of_number:
                    self._watched.discard(self._folder_of_number.pop(number))
                if mask & (_OVERFLOW | _FOLDER | _IGNORED):
                    is_unknown = True
                elif number in self._folder_of_number:
                    changed.add(self._folder_of_number[number] / os.fsdecode(name))
        return None if is_unknown else changed

    def close(self) -> None:
        """Stop watching."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def _read(self) -> bytes:
        assert self.descriptor is not None
        try:
            return os.read(self.descriptor, _EVENT_BUFFER_BYTES)
        except BlockingIOError:
            return b""

    @staticmethod
    def _log_refusal(target: str) -> None:
        reason = os.strerror(ctypes.get_errno())
        _log.warning("%s cannot be watched (%s): files are polled instead", target, reason)


class Waiter:
    """Wait for a descriptor, a timeout or :meth:`wake`, whichever comes first.

    A self-pipe wakes the waiters. Descriptors are closed only after the last waiter has returned.

    Parameters
    ----------
    release : callable
        Called once after :meth:`close`, when the last waiter has returned.
    """

    def __init__(self, release: Callable[[], None]) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._release = release
        self._lock = Lock()
        self._waiters = 0
        self._closed = False
        self._released = False

    def wait(self, seconds: float, descriptor: int | None = None) -> None:
        """Wait in this thread, also until ``descriptor`` is readable."""
        with self._entered() as closed:
            if not closed:
                poll = select.poll()
                for awaited in self._awaited(descriptor):
                    poll.register(awaited, select.POLLIN)
                poll.poll(1000 * max(0.0, min(seconds, _MAX_WAIT_SECONDS)))
                self._drain()

    async def wait_async(self, seconds: float, descriptor: int | None = None) -> None:
        """Wait without blocking the event loop."""
        with self._entered() as closed:
            if closed:
                return
            loop = asyncio.get_running_loop()
            woken = loop.create_future()

            def wake() -> None:
                if not woken.done():
                    woken.set_result(None)

            timer = loop.call_later(max(0.0, min(seconds, _MAX_WAIT_SECONDS)), wake)
            descriptors = self._awaited(descriptor)
            for awaited in descriptors:
                loop.add_reader(awaited, wake)
            try:
                await woken
            finally:
                timer.cancel()
                for awaited in descriptors:
                    loop.remove_reader(awaited)
                self._drain()

    def wake(self) -> None:
        """Wake every waiter."""
        with self._lock:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):  # the pipe is full of wake-ups
                    os.write(self._writer, b".")

    def close(self) -> None:
        """Wake every waiter; from now on, waiting returns at once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(BlockingIOError):
                os.write(self._writer, b".")
        self._release_if_idle()

    @contextmanager
    def _entered(self) -> Iterator[bool]:
        with self._lock:
            closed = self._closed
            self._waiters += not closed
        try:
            yield closed
        finally:
            if not closed:
                with self._lock:
                    self._waiters -= 1
                self._release_if_idle()

    def _drain(self) -> None:
        if not self._closed:
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4096)

    def _release_if_idle(self) -> None:
        with self._lock:
            if not self._closed or self._waiters or self._released:
                return
            self._released = True
            os.close(self._reader)
            os.close(self._writer)
        self._release()

    def _awaited(self, descriptor: int | None) -> list[int]:
        return [self._reader] if descriptor is None else [self._reader, descriptor]
