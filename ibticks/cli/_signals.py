"""Being asked to end, by Ctrl-C or by SIGTERM."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["when_asked_to_end"]


@contextmanager
def when_asked_to_end(act: Callable[[], object]) -> Iterator[None]:
    """Do something, in the main thread, each time this process is asked to end meanwhile."""
    before = {
        number: signal.signal(number, lambda *_: act())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
