"""A write-behind index for captures: writes are queued and applied on a background thread.

A tick never waits for a database. While the database hangs, or the disk has no room for the
journal, changes wait in the queue, in order. Changes that are lost with the process are recovered
from the files.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from ibticks.errors import IndexUnavailableError, StorageError
from ibticks.index import ForwardingIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.index import Index, IndexChange

__all__ = ["QueuedIndex"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_WRITE_WAIT_SECONDS: Final = 0.5  # a caller waits so long for an index that keeps up
_RETRY_SECONDS: Final = 2.0
_CLOSE_SECONDS: Final = 10.0


class QueuedIndex(ForwardingIndex):
    """Queue index writes and apply them on a background thread; an :class:`~ibticks.index.Index`.

    Files are usually in the index when :meth:`put_files` returns, so that a reader of the first
    tick of an hour finds its file. A caller waits at most half a second for that, and not at all
    once the index has fallen behind.

    Parameters
    ----------
    index : Index
    on_failure : callable
        Called with a location and the exception when the index refuses a change for good.
    """

    def __init__(self, index: Index, on_failure: Callable[[str, Exception], None]) -> None:
        self._index = index
        self._on_failure = on_failure
        self._changed = threading.Condition()  # guards the three fields below
        self._queue: deque[Callable[[], object]] = deque()
        self._is_behind = False
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="ibticks-index-queue", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Apply the queue as far as possible within seconds, and stop the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_SECONDS)
        lost = len(self._queue)
        if lost:
            _log.critical(
                "%d changes did not reach the index: rebuild it (ibticks index rebuild)", lost
            )

    def submit(self, task: Callable[[], object]) -> None:
        """Queue a call; it runs on the background thread, after everything queued before."""
        with self._changed:
            self._queue.append(task)
            self._changed.notify_all()

    def wait_until_empty(self, timeout_seconds: float) -> bool:
        """Wait until the queue is empty; False if it is not after ``timeout_seconds``."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue, timeout_seconds)

    @property
    def writable(self) -> bool:
        """Return whether the index stores changes."""
        return self._index.writable

    def describe(self) -> str:
        """Return the location of the index in words."""
        return self._index.describe()

    def write(self, change: IndexChange) -> None:
        """Queue one change, and wait a moment for files that are put."""
        self.submit(partial(self._index.write, change))
        if change.operation == "put_files":
            self._wait()

    def _forward(self, read: Callable[[Index], _T], scope: object) -> _T:
        self._wait()
        return read(self._index)

    def _wait(self) -> None:
        if not self._is_behind and threading.current_thread() is not self._thread:
            self._is_behind = not self.wait_until_empty(_WRITE_WAIT_SECONDS)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._is_closing)
                if not self._queue:
                    return
                task = self._queue[0]
            if not self._run(task):
                with self._changed:
                    if self._is_closing:
                        return
                    self._changed.wait_for(lambda: self._is_closing, _RETRY_SECONDS)
                continue
            with self._changed:
                self._queue.popleft()
                if not self._queue:
                    self._is_behind = False
                self._changed.notify_all()

    def _run(self, task: Callable[[], object]) -> bool:
        """Run one task; False if it is to be retried."""
        try:
            task()
        except (IndexUnavailableError, StorageError) as error:
            if not self._is_behind:
                _log.error("cannot write to the index, retrying: %s", error)
            self._is_behind = True
            return False
        except Exception as error:
            _log.exception("the index refused a change: rebuild it (ibticks index rebuild)")
            self._on_failure("index", error)
        return True
