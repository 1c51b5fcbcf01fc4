"""The index a store uses: PostgreSQL, and what stands in for it while it is away.

Writing never waits for a server that is gone: the change goes to the journal, and a thread of our
own tries to reach the server again, every few seconds at most. Reading does wait a little, since a
server that was just restarted answers better than the catalogue; if it does not come, the answer
is the catalogue's and the journal's, with a warning.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ibticks.errors import (
    CorruptFileError,
    IndexAwayWarning,
    IndexMismatchError,
    IndexUnavailableError,
    IndexVersionError,
    ReadOnlyError,
    StorageError,
    StoreAccessError,
    TickError,
    TickIndexError,
)
from ibticks.index._catalogue import CatalogueIndex
from ibticks.index._journal import Change, Journal, replay
from ibticks.index._memory import MemoryIndex
from ibticks.index._records import QUERY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from ibticks.index._postgres import PostgresIndex, SessionRow
    from ibticks.index._records import (
        ContractRecord,
        CoverageRecord,
        DailyStats,
        FileRecord,
        QueryResult,
    )

__all__ = ["JournaledIndex"]

_T = TypeVar("_T")
_READER_WAITS: Final = 10.0  # seconds, for a server that is being reached
_OPENING_WAITS: Final = 120.0

_log = logging.getLogger(__name__)


class JournaledIndex:
    """A PostgreSQL index that may be away; an :class:`~ibticks.index.Index`.

    Parameters
    ----------
    primary_factory : callable
        Reaches the server: takes the seconds it may wait, returns a
        :class:`~ibticks.index.PostgresIndex`, or raises
        :class:`~ibticks.errors.IndexUnavailableError`. Called again after every outage.
    catalogue_path, journal_path : Path
        Usually ``{root}/metadata/index.json`` and ``{root}/metadata/index.journal``.
    retry_seconds : float
        Least time between two attempts to reach a server that is away.
    complete : callable, optional
        Enters into a database that was just reached, after the journal, the files of the store
        that it lacks. The database serves only once this has returned.
    find_missing : callable, optional
        Given the paths that catalogue and journal have, returns rows of the files that they lack.

    Attributes
    ----------
    partial_answers : int
        How often the catalogue answered instead of a server that was away.
    """

    def __init__(
        self,
        primary_factory: Callable[[float], PostgresIndex],
        catalogue_path: Path,
        journal_path: Path,
        *,
        retry_seconds: float = 5.0,
        complete: Callable[[PostgresIndex], None] | None = None,
        find_missing: Callable[[set[str]], Iterable[FileRecord]] | None = None,
    ) -> None:
        self._reach = primary_factory
        self._complete = complete
        self._find_missing = find_missing
        self._catalogue = CatalogueIndex(catalogue_path)
        self._journal = Journal(journal_path)
        self._retry_seconds = retry_seconds
        self._primary: PostgresIndex | None = None
        self._reason = "it has not been asked yet"
        self._next_attempt = 0.0
        self._closed = False
        self.partial_answers = 0
        self._state = threading.Lock()  # of the fields above; never held while waiting
        self._reaching = threading.Lock()  # held by the one that reaches for the server

    # -- the server, there or away ----------------------------------------------------------------

    @property
    def away(self) -> bool:
        """Whether the server is away, as far as is known."""
        return self._primary is None

    @property
    def pending(self) -> bool:
        """Whether there are changes that the server has not yet got."""
        return self._journal.pending

    @property
    def writable(self) -> bool:
        """Whether changes are kept: by the server, or in the journal."""
        return self._primary is not None or self._journal.writable

    def is_reachable(self) -> bool:
        """Whether the server answers a question now; waits for it as any reader does."""
        primary = self._reach_for_reader()
        if primary is None:
            return False
        try:
            primary.is_complete()
        except IndexUnavailableError as error:
            self._lost(primary, error)
        return self._primary is not None or self._reach_for_reader() is not None

    def describe(self) -> str:
        """Where the index is, in words; without the password."""
        primary = self._primary
        if primary is not None:
            return primary.describe()
        return (
            f"the catalogue {self._catalogue.path} and the journal {self._journal.path}, while "
            f"PostgreSQL is away: {self._reason}"
        )

    def connect(self, patience: float = _OPENING_WAITS) -> None:
        """Reach the server now and apply the journal.

        Parameters
        ----------
        patience : float
            Seconds to wait for an embedded server that recovers from a crash.

        Raises
        ------
        IndexUnavailableError
            It is away.
        StoreAccessError
            The embedded server is another user's.
        IndexVersionError, IndexMismatchError
            It is not one for this store or this ibticks.
        """
        with self._reaching:
            self._connect(patience)

    def close(self) -> None:
        """Close the connections; the embedded server stops with its last user."""
        with self._state:
            self._closed = True
            primary, self._primary = self._primary, None
            self._reason = "it was closed"
        if primary is not None:
            primary.close()

    def _connect(self, patience: float) -> PostgresIndex:
        """With ``_reaching`` held."""
        if self._closed:
            raise IndexUnavailableError("the index was closed: open the store again")
        if self._primary is not None:
            return self._primary
        try:
            primary = self._reach(patience)
            try:
                self._settle(primary)
                if self._complete is not None:
                    self._complete(primary)
            except BaseException:
                primary.close()
                raise
        except TickError as error:
            self._reason = str(error)
            raise
        finally:
            self._next_attempt = time.monotonic() + self._retry_seconds
        self._take_on(primary)
        return primary

    def _take_on(self, primary: PostgresIndex) -> None:
        with self._state:
            if not self._closed:
                self._primary = primary
                return
        primary.close()
        raise IndexUnavailableError("the index was closed meanwhile: open the store again")

    def _settle(self, primary: PostgresIndex) -> None:
        """Give the server what the journal has; what cannot be taken out of it stays there."""
        if not self._journal.pending:
            return
        try:
            applied = self._journal.apply(primary, on_damage=lambda: primary.set_complete(False))
        except ReadOnlyError as error:
            _log.warning("%s: its changes are read, not applied", error)
        else:
            _log.warning("PostgreSQL is back: applied %d changes of the journal", applied)
            if self._complete is not None and not primary.is_complete():
                # A damaged line may have been about any file.
                self._complete(primary)

    def _lost(self, primary: PostgresIndex, error: TickIndexError) -> None:
        with self._state:
            if self._primary is not primary:
                return  # another thread noticed first
            self._primary = None
            self._reason = str(error)
            # A server that answered with an error will do so again; a lost one may be back at once.
            answered = bool(error.context.get("sqlstate"))
            self._next_attempt = time.monotonic() + self._retry_seconds if answered else 0.0
        _log.warning("%s. Changes go to the journal %s", error, self._journal.path)
        primary.close()

    def _reach_in_background(self) -> None:
        if time.monotonic() < self._next_attempt or self._closed or self._reaching.locked():
            return

        def attempt() -> None:
            if not self._reaching.acquire(blocking=False):
                return
            try:
                self._connect(_OPENING_WAITS)
            except (TickIndexError, StorageError) as error:
                _log.info("PostgreSQL is still away: %s", error)
            finally:
                self._reaching.release()

        with suppress(
            RuntimeError
        ):  # at the interpreter's end no thread starts: the journal has it
            threading.Thread(target=attempt, name="ibticks-index", daemon=True).start()

    def _reach_for_reader(self) -> PostgresIndex | None:
        """The server if it can be reached soon; errors of another kind than being away go on."""
        if self._primary is not None:
            return self._primary
        if not self._reaching.acquire(timeout=_READER_WAITS):
            return None
        try:
            if self._primary is None and time.monotonic() < self._next_attempt:
                return None
            return self._connect(_READER_WAITS)
        except (IndexUnavailableError, StorageError):
            return None
        finally:
            self._reaching.release()

    # -- writing ----------------------------------------------------------------------------------

    def put_files(self, records: Iterable[FileRecord]) -> None:
        """Insert or replace files by path; the daily statistics of their days follow."""
        self._write("put_files", records)

    def drop_files(self, paths: Iterable[str]) -> None:
        """Remove files by path; the daily statistics of their days follow."""
        self._write("drop_files", paths)

    def replace_files(self, records: Iterable[FileRecord]) -> None:
        """Make these files, and no others, the index (a rebuild)."""
        self._write("replace_files", records)

    def put_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or fill in what a known one lacks."""
        self._write("put_contracts", records)

    def correct_contracts(self, records: Iterable[ContractRecord]) -> None:
        """Insert contracts, or replace what is known of them by what is not empty."""
        self._write("correct_contracts", records)

    def put_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Insert intervals, or replace those of the same stream and start (to close one)."""
        self._write("put_coverage", records)

    def drop_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Remove the intervals of these streams and starts."""
        self._write("drop_coverage", records)

    def replace_coverage(self, records: Iterable[CoverageRecord]) -> None:
        """Make these intervals, and no others, the ledger (a rebuild)."""
        self._write("replace_coverage", records)

    def _write(self, operation: str, records: Iterable[Any]) -> None:
        change = Change(operation, tuple(records))
        primary = self._primary
        if primary is not None:
            try:
                self._settle(primary)
                replay([change], primary)
            except (IndexUnavailableError, IndexVersionError, IndexMismatchError) as error:
                self._lost(primary, error)
            else:
                return
        self._journal.append(change)
        self._reach_in_background()

    # -- a rebuild beside writers ------------------------------------------------------------------

    def paths(self) -> set[str]:
        """Return the paths of all files; while the server is away, those of catalogue and journal.

        Without a warning.
        """
        return self._read(
            lambda index: index.paths(),
            lambda index: MemoryIndex(files=index.files()),
            warn=False,
        )

    def is_complete(self) -> bool:
        """Whether every file has been entered; while the server is away nobody can say more."""
        primary = self._primary
        return primary is None or primary.is_complete()

    def set_complete(self, complete: bool) -> None:
        """Store whether every file has been entered; no-op while the server is away."""
        primary = self._primary
        if primary is not None:
            primary.set_complete(complete)

    def next_revision(self) -> int:
        """Return a number that all later changes exceed; 0 while the server is away."""
        primary = self._primary
        return 0 if primary is None else primary.next_revision()

    def refresh_files(self, records: Iterable[FileRecord], revision: int) -> None:
        """Insert or replace rows by path, except those changed since ``revision``."""
        primary = self._primary
        if primary is None:
            self.put_files(records)
        else:
            primary.refresh_files(records, revision)

    def drop_stale_files(self, paths: Iterable[str], revision: int) -> None:
        """Remove rows by path, except those changed since ``revision``."""
        primary = self._primary
        if primary is None:
            self.drop_files(paths)
        else:
            primary.drop_stale_files(paths, revision)

    def refresh_coverage(
        self,
        streams: Iterable[tuple[int, str]],
        records: Iterable[CoverageRecord],
        revision: int,
    ) -> None:
        """Make these the intervals of some streams, except those changed since ``revision``.

        While the server is away, the intervals of other streams are written again as they are.
        """
        primary = self._primary
        if primary is None:
            rebuilt = set(streams)
            others = [
                row for row in self.coverage() if (row.contract_id, row.tick_type) not in rebuilt
            ]
            self.replace_coverage([*others, *records])
        else:
            primary.refresh_coverage(streams, records, revision)

    def analyze(self) -> None:
        """Have PostgreSQL count the rows again; no-op while the server is away."""
        primary = self._primary
        if primary is not None:
            primary.analyze()

    # -- reading ----------------------------------------------------------------------------------

    def files(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[FileRecord]:
        """Files that may hold messages in ``[start_ns, end_ns)``, by contract, type and hour."""
        return self._read(
            lambda index: index.files(contract_ids, tick_types, start_ns, end_ns),
            lambda index: MemoryIndex(
                files=index.files(contract_ids, tick_types, start_ns, end_ns)
            ),
        )

    def streams(self) -> set[tuple[int, str]]:
        """Return the contract ids and tick types that have captured files."""
        return self._read(
            lambda index: index.streams(),
            lambda index: MemoryIndex(files=index.files()),
        )

    def tick_ranges(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> dict[tuple[int, str], tuple[int, int]]:
        """Return the first and last tick in the sealed files of each stream that has any."""
        return self._read(
            lambda index: index.tick_ranges(contract_ids, tick_types),
            lambda index: MemoryIndex(files=index.files(contract_ids, tick_types)),
        )

    def open_files(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[FileRecord]:
        """Return the files that are not sealed, by contract, type and hour."""
        return self._read(
            lambda index: index.open_files(contract_ids, tick_types),
            lambda index: MemoryIndex(files=index.files(contract_ids, tick_types)),
        )

    def iter_files(self) -> Iterator[FileRecord]:
        """Iterate over all files without their blocks; a page at a time where a server answers."""
        primary = self._reach_for_reader()
        if primary is not None:
            try:
                self._settle(primary)
                if not self._journal.pending:
                    yield from primary.iter_files()
                    return
            except IndexUnavailableError as error:
                self._lost(primary, error)
                raise
        yield from self.files()

    def contracts(self) -> list[ContractRecord]:
        """Every contract known, by id."""
        return self._read(
            lambda index: index.contracts(),
            lambda index: MemoryIndex(contracts=index.contracts()),
        )

    def daily_stats(
        self, contract_ids: Sequence[int] | None = None, tick_types: Sequence[str] | None = None
    ) -> list[DailyStats]:
        """Daily statistics, by contract, tick type and date."""
        return self._read(
            lambda index: index.daily_stats(contract_ids, tick_types),
            lambda index: MemoryIndex(files=index.files(contract_ids, tick_types)),
        )

    def coverage(
        self,
        contract_ids: Sequence[int] | None = None,
        tick_types: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[CoverageRecord]:
        """Intervals that meet ``[start_ns, end_ns)``, by contract, type and start."""
        return self._read(
            lambda index: index.coverage(contract_ids, tick_types, start_ns, end_ns),
            lambda index: MemoryIndex(
                coverage=index.coverage(contract_ids, tick_types, start_ns, end_ns)
            ),
        )

    def _read(
        self,
        ask: Callable[[PostgresIndex | MemoryIndex], _T],
        load: Callable[[PostgresIndex], MemoryIndex],
        *,
        warn: bool = True,
    ) -> _T:
        """Ask the server, else the catalogue; changes still in the journal are laid over either."""
        for _ in range(2):  # a server that is lost while we ask may be back at once
            primary = self._reach_for_reader()
            if primary is None:
                break
            try:
                self._settle(primary)
                changes, damage = self._journal.whole_changes()
                if damage is not None:
                    _log.error("%s; what it says beside that is read", damage)
                if not changes:
                    return ask(primary)
                return ask(_overlay(load(primary), changes))
            except IndexUnavailableError as error:
                self._lost(primary, error)
        records = self._stand_in()
        if not warn:
            return ask(records)
        if self._find_missing is not None:
            records.put_files(self._find_missing(records.paths()))
        with self._state:
            self.partial_answers += 1
        warnings.warn(
            IndexAwayWarning(
                f"PostgreSQL is away ({self._reason}): this is what the catalogue "
                f"{self._catalogue.path} and the journal know, which may not be all; files that "
                "neither has are read without statistics"
            ),
            stacklevel=3,
        )
        return ask(records)

    def _stand_in(self) -> MemoryIndex:
        """Return what catalogue and journal have, as far as they can be read.

        A damaged line of the journal may have been about any file: no row is believed then, and
        the files are found by their names.
        """
        try:
            records = self._catalogue.read().copy()
        except (CorruptFileError, StoreAccessError) as error:
            if self._find_missing is None:
                raise
            _log.error("%s; until then files are found by their names", error)
            records = MemoryIndex()
        changes, damage = self._journal.whole_changes()
        records = _overlay(records, changes)
        if damage is not None:
            if self._find_missing is None:
                raise damage
            _log.error("%s; until then files are found by their names", damage)
            records.replace_files(self._find_missing(set()))
        return records

    # -- only the server ---------------------------------------------------------------------------

    def put_sessions(self, rows: Iterable[SessionRow]) -> None:
        """Make these the sessions of their market and type between the first and the last.

        Raises
        ------
        IndexUnavailableError
            The server is away. (The calendars say the same again at any time.)
        """
        given = list(rows)
        self._ask(lambda primary: primary.put_sessions(given))

    def sessions_span(self, market: str) -> tuple[date, date] | None:
        """First and last trading day known of a market; None if there is none.

        Raises
        ------
        IndexUnavailableError
            The server is away.
        """
        return self._ask(lambda primary: primary.sessions_span(market))

    def query(
        self, sql: str, params: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run one SQL statement that reads, and return a dictionary per row.

        The same as :meth:`read_query`, which also has the columns of an empty answer.
        """
        return self.read_query(sql, params).to_dicts()

    def read_query(
        self,
        sql: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float = QUERY_SECONDS,
    ) -> QueryResult:
        """Run one SQL statement that reads; see ``run_query``.

        Raises
        ------
        IndexUnavailableError
            The server is away.
        ReadOnlyError, TickIndexError
            The statement would change something, is wrong, or took too long.
        """
        return self._ask(
            lambda primary: primary.read_query(sql, params, timeout_seconds=timeout_seconds)
        )

    def _ask(self, work: Callable[[PostgresIndex], _T]) -> _T:
        for _ in range(2):
            primary = self._reach_for_reader()
            if primary is None:
                break
            try:
                self._settle(primary)
                return work(primary)
            except IndexUnavailableError as error:
                self._lost(primary, error)
        raise IndexUnavailableError(f"PostgreSQL is away: {self._reason}")


def _overlay(records: MemoryIndex, changes: Iterable[Change]) -> MemoryIndex:
    replay(changes, records)
    return records
