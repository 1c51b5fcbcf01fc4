"""A psycopg connection on which no wait is endless.

The server's own timeouts end a statement that is slow or meets a lock. They do nothing where the
server itself has stopped (SIGSTOP, a suspended machine, a hung disk), and TCP's timeouts do not
apply to a unix socket: so the client bounds each wait for a reply, too.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg.rows import TupleRow

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ["LOCK_TIMEOUT_SECONDS", "STATEMENT_TIMEOUT_SECONDS", "BoundedConnection"]

STATEMENT_TIMEOUT_SECONDS: Final = 30
"""Longest time of one statement of the index."""

LOCK_TIMEOUT_SECONDS: Final = 10
"""Longest wait of a statement of the index for the lock of another session."""

REPLY_MARGIN_SECONDS: Final = 5
"""Seconds beyond the statement timeout that the client waits for the server's reply."""

_POLL_SECONDS: Final = 0.1
_T = TypeVar("_T")


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection that is closed when the server does not reply in time.

    Attributes
    ----------
    reply_timeout : float or None
        Seconds to wait for a reply; None for no bound.
    """

    reply_timeout: float | None = STATEMENT_TIMEOUT_SECONDS + REPLY_MARGIN_SECONDS

    @contextmanager
    def allow_seconds(self, seconds: float) -> Iterator[None]:
        """Wait so long for each reply meanwhile, as a statement that may take longer needs."""
        usual, self.reply_timeout = self.reply_timeout, seconds + REPLY_MARGIN_SECONDS
        try:
            yield
        finally:
            self.reply_timeout = usual

    def wait(
        self,
        gen: Generator[Any, Any, _T],
        interval: float = _POLL_SECONDS,
        timeout: float | None = None,
    ) -> _T:
        """Run a generator of psycopg's; raises OperationalError where the reply is overdue."""
        bounded = self._bounded(gen)
        if timeout is None:
            return super().wait(bounded, interval)
        return super().wait(bounded, interval, timeout)

    def _bounded(self, gen: Generator[Any, Any, _T]) -> Generator[Any, Any, _T]:
        """Pass a generator on, with a deadline that is checked whenever nothing has come."""
        timeout = self.reply_timeout
        begun = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and timeout is not None and time.monotonic() - begun > timeout:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(
                        f"the server has not replied for {timeout:.0f} s; it may be stopped, or "
                        "its machine or disk overloaded"
                    )
                wanted = gen.send(ready)
        except StopIteration as end:
            result: _T = end.value
            return result
