"""Reading in a thread of its own, and telling those who want to know."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.live._batch import Batch

__all__ = ["Background"]

_log = logging.getLogger(__name__)


class Background:
    """Functions that are called with each batch, and the thread that calls them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Batch], object]] = []
        self._failures: list[Exception] = []
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def running(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def failures(self) -> tuple[Exception, ...]:
        """What went wrong since it was last stopped."""
        with self._lock:
            return tuple(self._failures)

    def add(self, callback: Callable[[Batch], object]) -> None:
        """Have a function called, until it raises."""
        with self._lock:
            self._callbacks.append(callback)

    def start(self, poll: Callable[[], Batch | None], wait: Callable[[], object]) -> None:
        """Begin the thread.

        Parameters
        ----------
        poll : callable
            Gives the next batch, if there is one.
        wait : callable
            Returns when it is worth asking again.
        """
        self._stopping.clear()
        self._thread = threading.Thread(
            target=self._run, args=(poll, wait), name="ibticks-live", daemon=True
        )
        self._thread.start()

    def stop(self, wake: Callable[[], object]) -> None:
        """End the thread, unless it is this one, which then ends by itself.

        Parameters
        ----------
        wake : callable
            Has it return from waiting.

        Raises
        ------
        Exception
            What went wrong; a group, if there were several.
        """
        self._stopping.set()
        wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._thread = None
        with self._lock:
            failures, self._failures = self._failures, []
        if len(failures) > 1:
            raise ExceptionGroup("callbacks of a live stream failed", failures)
        if failures:
            raise failures[0]

    def _run(self, poll: Callable[[], Batch | None], wait: Callable[[], object]) -> None:
        try:
            while not self._stopping.is_set():
                batch = poll()
                if batch is None:
                    wait()
                else:
                    self._tell(batch)
        except Exception as error:
            _log.exception("a live stream cannot be read on")
            with self._lock:
                self._failures.append(error)

    def _tell(self, batch: Batch) -> None:
        with self._lock:
            callbacks = tuple(self._callbacks)
        for callback in callbacks:
            try:
                callback(batch)
            except Exception as error:
                _log.exception("a callback of a live stream failed; it is not called again")
                with self._lock:
                    self._callbacks.remove(callback)
                    self._failures.append(error)
