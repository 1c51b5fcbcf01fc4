"""What a capture does now and then for each of its streams, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from ibticks.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibticks.capture._recorder import Recorder
    from ibticks.storage import FileKey

__all__ = ["Rounds"]

_log = logging.getLogger(__name__)
_EVERY_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0


class Rounds:
    """Visits one recorder after another, every minute.

    Parameters
    ----------
    what : str
        What is done to their files, such as ``"prune"``.
    recorders : sequence of Recorder
    visit : callable
        Takes a recorder.
    on_failure : callable
        Told ``what``, and what exception, of anything unexpected. The next round comes all the
        same.
    at_end : callable, optional
        Called at the end of each round.

    Attributes
    ----------
    refused : set of str
        Paths of the files to which it could not be done; they are not tried every minute.
    """

    def __init__(
        self,
        what: str,
        recorders: Sequence[Recorder],
        visit: Callable[[Recorder], None],
        on_failure: Callable[[str, Exception], None],
        *,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self._what = what
        self._recorders = recorders
        self._visit = visit
        self._on_failure = on_failure
        self._at_end = at_end
        self.refused: Final[set[str]] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"ibticks-{what}", daemon=True)

    @property
    def stopping(self) -> bool:
        """Whether nothing more is to be begun."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, once what was begun is done."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def attempt(self, key: FileKey, work: Callable[[], object]) -> None:
        """Do something to a file; if storage fails, it stays as it is."""
        try:
            work()
        except StorageError as error:
            self.refused.add(key.path)
            _log.exception("%s: could not %s it", key.path, self._what)
            self._on_failure(self._what, error)

    def _work(self) -> None:
        while not self._stopping.wait(_EVERY_SECONDS):
            for recorder in self._recorders:
                try:
                    if not self.stopping:
                        self._visit(recorder)
                except Exception as error:
                    _log.exception("%s: could not %s old hours", recorder.stream_id, self._what)
                    self._on_failure(self._what, error)
            if self._at_end is not None:
                self._at_end()
