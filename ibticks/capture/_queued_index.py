"""What a capture has to tell the index, told in a thread of its own: no tick waits for a database.

A database that hangs, a journal for which the disk has no room: the changes wait here, in order,
until they are taken. What is lost of them with the process is found again in the files.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from ibticks.errors import IndexUnavailableError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ibticks.index import ContractRecord, CoverageRecord, DailyStats, FileRecord, Index

__all__ = ["Clerk"]

_log = logging.getLogger(__name__)
_COURTESY: Final = 0.5  # seconds a caller waits for a healthy index
_AGAIN: Final = 2.0
_LAST_CHANCE: Final = 10.0


class Clerk:
    """An :class:`~ibticks.index.Index` that is told things as soon as it listens.

    Files are usually in the index when :meth:`put_files` returns, so that who looks for the first
    tick of an hour finds it; but nobody waits longer than half a second for that, and nobody at all
    once the index has fallen behind.

    Parameters
    ----------
    index : Index
    on_failure : callable
        Told where, and what exception, if the index refuses something for good.
    """

    def __init__(self, index: Index, on_failure: Callable[[str, Exception], None]) -> None:
        self._index = index
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._waiting: deque[Callable[[], object]] = deque()
        self._behind = False
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="ibticks-clerk", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Have everything told, as far as that is possible within seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_LAST_CHANCE)
        left = len(self._waiting)
        if left:
            _log.critical(
                "the index was not told of %d changes: rebuild it (ibticks index rebuild)", left
            )

    def do(self, call: Callable[[], object]) -> None:
        """Have something done, after everything that was put before."""
        with self._changed:
            self._waiting.append(call)
            self._changed.notify_all()

    def settled(self, patience: float) -> bool:
        """Wait until everything has been told; False if it has not within ``patience`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, patience)

    # -- what is told ------------------------------------------------------------------------------

    def put_files(self, records: Iterable[FileRecord]) -> None:
        """Insert or replace files by path."""
        self.do(partial(self._index.put_files, list(records)))
        self._wait()

    def drop_files(self, paths: Iterable[str]) -> None:
        """Remove files by path."""
        self.do(partial(self._index.drop_files, list(paths)))

    def replace_files(self, records: Iterable[FileRecord]) -> None:
        """Make these files, and no others, the index."""
        self.do(partial(self._index.replace_files, list(records)))

    def put_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or fill in what a known one lacks."""
        self.do(partial(self._index.put_contracts, list(records)))

    def correct_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or replace what is known of them by what is not empty."""
        self.do(partial(self._index.correct_contracts, list(records)))

    def put_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Insert intervals, or replace those of the same stream and start."""
        self.do(partial(self._index.put_coverage, list(records)))

    def drop_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Remove the intervals of these streams and starts."""
        self.do(partial(self._index.drop_coverage, list(records)))

    def _wait(self) -> None:
        if not self._behind and threading.current_thread() is not self._thread:
            self._behind = not self.settled(_COURTESY)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                call = self._waiting[0]
            if not self._told(call):
                with self._changed:
                    if self._closing:
                        return
                    self._changed.wait_for(lambda: self._closing, _AGAIN)
                continue
            with self._changed:
                self._waiting.popleft()
                if not self._waiting:
                    self._behind = False
                self._changed.notify_all()

    def _told(self, call: Callable[[], object]) -> bool:
        """Whether a change needs no more telling."""
        try:
            call()
        except (IndexUnavailableError, StorageError) as error:
            if not self._behind:
                _log.error("the index cannot be told, which is tried again: %s", error)
            self._behind = True
            return False
        except Exception as error:
            _log.exception("the index refused a change: rebuild it (ibticks index rebuild)")
            self._on_failure("index", error)
        return True

    # -- what is asked -----------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether changes are kept."""
        return self._index.writable

    def describe(self) -> str:
        """Where the index lives, in words, for a person."""
        return self._index.describe()

    def files(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[FileRecord]:
        """Files that may hold messages in ``[start_ns, end_ns)``."""
        self._wait()
        return self._index.files(contract_ids, tick_types, start_ns, end_ns)

    def streams(self) -> set[tuple[int, str]]:
        """Return the contract ids and tick types that have captured files."""
        self._wait()
        return self._index.streams()

    def tick_ranges(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> dict[tuple[int, str], tuple[int, int]]:
        """Return the first and last tick in the sealed files of each stream that has any."""
        self._wait()
        return self._index.tick_ranges(contract_ids, tick_types)

    def open_files(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[FileRecord]:
        """Return the files that are not sealed, by contract, type and hour."""
        self._wait()
        return self._index.open_files(contract_ids, tick_types)

    def contracts(self) -> list[ContractRecord]:
        """Every contract known, by id."""
        self._wait()
        return self._index.contracts()

    def daily_stats(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[DailyStats]:
        """Daily statistics."""
        self._wait()
        return self._index.daily_stats(contract_ids, tick_types)

    def coverage(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CoverageRecord]:
        """Intervals that reach into ``[start_ns, end_ns)``."""
        self._wait()
        return self._index.coverage(contract_ids, tick_types, start_ns, end_ns)
