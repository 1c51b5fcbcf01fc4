"""A capture deletes the old hours of its own streams: nobody else may while it writes them."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from ibticks.capture._maintenance import Rounds
from ibticks.config import NANOSECONDS
from ibticks.coverage import mark_files_deleted
from ibticks.errors import WriterLockedError
from ibticks.storage import HOUR, FileKey, StreamLock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibticks.capture._queued_index import Clerk
    from ibticks.capture._recorder import Recorder
    from ibticks.store import Store

__all__ = ["HourPruner"]

_log = logging.getLogger(__name__)
_PATIENCE: Final = 10.0


class HourPruner:
    """Deletes files once their hour is longer over than they are to be kept.

    As :meth:`ibticks.Store.prune` does: the ledger of coverage and the index know first, so that
    nothing is said to be there that is not. As long as they cannot be told, everything stays.

    Parameters
    ----------
    store : Store
    recorders : sequence of Recorder
    clerk : Clerk
        Tells the index, in the order of what the recorders tell.
    keep : float
        Seconds since the end of an hour.
    on_failure : callable
        Told where, and what exception, of anything unexpected.
    """

    def __init__(
        self,
        store: Store,
        recorders: Sequence[Recorder],
        clerk: Clerk,
        keep: float,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._store = store
        self._clerk = clerk
        self._keep_ns = round(keep * NANOSECONDS)
        self._leaving: dict[str, set[FileKey]] = {}  # by stream: those the index was told of
        self._rounds = Rounds("prune", recorders, self._prune, on_failure)

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def stop(self) -> None:
        """End, once the files that are being deleted are gone."""
        self._rounds.stop()

    def _prune(self, recorder: Recorder) -> None:
        asked = self._store.index.partial_answers
        keys = self._due(recorder)
        if not keys or self._store.index.partial_answers != asked:
            return  # the catalogue, which answers while PostgreSQL is away, may be of old
        with ExitStack() as locks:
            if any(key.part == "backfill" for key in keys):
                try:
                    stream = recorder.contract_id, recorder.tick_type
                    lock = StreamLock(self._store.root, *stream, backfill=True)
                except WriterLockedError as error:
                    _log.info("old hours are deleted later: %s", error)
                    return
                locks.callback(lock.release)
            recorder.forget(max(key.hour_ns for key in keys) + HOUR)
            mark_files_deleted(self._clerk, keys)
            self._clerk.drop_files([key.path for key in keys])
            leaving = self._leaving.setdefault(recorder.stream_id, set())
            leaving.update(keys)
            if self._clerk.settled(_PATIENCE):
                for key in keys:
                    self._rounds.attempt(key, partial(recorder.delete, key))
                    leaving.discard(key)
                self._clerk.do(self._store.note_change)

    def _due(self, recorder: Recorder) -> list[FileKey]:
        before_ns = time.time_ns() - self._keep_ns
        known = {
            FileKey.parse(file.path)
            for file in self._clerk.files(
                [recorder.contract_id], [recorder.tick_type], None, before_ns
            )
        }
        found = {key for key in known if key is not None and key.hour_ns + HOUR <= before_ns}
        found |= self._leaving.get(recorder.stream_id, set())
        return sorted(
            key
            for key in found
            if key.path not in self._rounds.refused and not recorder.has_open(key)
        )
