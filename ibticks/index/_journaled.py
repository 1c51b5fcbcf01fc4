"""The index of a store: PostgreSQL, with a journal and a catalogue as fallback.

A write never waits for a server that is away: the change goes to the journal, and a background
thread tries to reconnect, every few seconds at most. A read waits a little, since a server that was
just restarted has better results than the catalogue; after that it reads catalogue and journal, and
warns.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ibticks.config import QUERY_TIMEOUT_SECONDS
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
from ibticks.index._journal import Journal
from ibticks.index._memory import MemoryIndex
from ibticks.index._protocol import ForwardingIndex, QueryMethods, ReadScope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from ibticks._types import StreamKey
    from ibticks.index._postgres import MarketSessionRow, PostgresIndex
    from ibticks.index._protocol import IndexChange
    from ibticks.index._records import CoverageRecord, FileRecord, QueryResult

__all__ = ["JournaledIndex"]

_T = TypeVar("_T")
_READ_CONNECT_SECONDS: Final = 10.0  # a read falls back to the catalogue after that
_OPEN_CONNECT_SECONDS: Final = 120.0  # crash recovery of a large database takes long

_WITHOUT_WARNING: Final = ("companions", "archived")
"""Tables whose reads do not warn of an outage: the read of the files beside them does.

The catalogue has no companions: the hour files are read.
"""

_log = logging.getLogger(__name__)


class JournaledIndex(QueryMethods, ForwardingIndex):
    """A PostgreSQL index that survives outages of the server; an :class:`~ibticks.index.Index`.

    Parameters
    ----------
    primary_factory : callable
        Connects to the server: takes a timeout in seconds and returns a
        :class:`~ibticks.index.PostgresIndex`, or raises
        :class:`~ibticks.errors.IndexUnavailableError`. Called again after every outage.
    catalogue_path, journal_path : Path
        Usually ``{root}/metadata/index.json`` and ``{root}/metadata/index.journal``.
    retry_seconds : float
        Least time between two attempts to connect to a server that is away.
    complete : callable, optional
        Inserts the files of the store that a database lacks, after a connect and the journal. The
        database is used only once this has returned.
    find_missing : callable, optional
        Takes the paths of catalogue and journal, and returns records of the files they lack.

    Attributes
    ----------
    partial_answers : int
        Number of reads that catalogue and journal answered.
    """

    def __init__(
        self,
        primary_factory: Callable[[float], PostgresIndex],
        catalogue_path: Path,
        journal_path: Path,
        *,
        retry_seconds: float = 5.0,
        complete: Callable[[PostgresIndex], object] | None = None,
        find_missing: Callable[[set[str]], Iterable[FileRecord]] | None = None,
    ) -> None:
        self._primary_factory = primary_factory
        self._complete = complete
        self._find_missing = find_missing
        self._catalogue = CatalogueIndex(catalogue_path)
        self._journal = Journal(journal_path)
        self._retry_seconds = retry_seconds
        self._primary: PostgresIndex | None = None
        self._reason = "no connection was tried yet"
        self._next_attempt = 0.0
        self._closed = False
        self.partial_answers = 0
        self._state_lock = threading.Lock()  # guards the fields above; never held during I/O
        self._connect_lock = threading.Lock()  # held while connecting; taken before _state_lock

    # -- connection --------------------------------------------------------------------------------

    @property
    def away(self) -> bool:
        """Return whether the last attempt to use the server failed."""
        return self._primary is None

    @property
    def pending(self) -> bool:
        """Return whether the journal has changes that the server lacks."""
        return self._journal.pending

    @property
    def writable(self) -> bool:
        """Return whether changes are stored, by the server or in the journal."""
        return self._primary is not None or self._journal.writable

    def is_reachable(self) -> bool:
        """Return whether the server answers a query; waits for it as a read does."""
        primary = self._connect_for_reader()
        if primary is None:
            return False
        try:
            primary.is_complete()
        except IndexUnavailableError as error:
            self._drop_primary(primary, error)
        return self._primary is not None or self._connect_for_reader() is not None

    def describe(self) -> str:
        """Return the location of the index in words, without the password."""
        primary = self._primary
        if primary is not None:
            return primary.describe()
        return (
            f"the catalogue {self._catalogue.path} and the journal {self._journal.path}, while "
            f"PostgreSQL is away: {self._reason}"
        )

    def connect(self, timeout_seconds: float = _OPEN_CONNECT_SECONDS) -> None:
        """Connect to the server now and apply the journal.

        Parameters
        ----------
        timeout_seconds : float
            Time limit for the crash recovery of an embedded server.

        Raises
        ------
        IndexUnavailableError
            The server is away.
        StoreAccessError
            The embedded server belongs to another user.
        IndexVersionError, IndexMismatchError
            The database does not fit this store or this ibticks.
        """
        with self._connect_lock:
            self._connect(timeout_seconds)

    def close(self) -> None:
        """Close the connections; the embedded server stops with its last user."""
        with self._state_lock:
            self._closed = True
            primary, self._primary = self._primary, None
            self._reason = "it was closed"
        if primary is not None:
            primary.close()

    def _connect(self, timeout_seconds: float) -> PostgresIndex:
        """Connect, with ``_connect_lock`` held."""
        if self._closed:
            raise IndexUnavailableError("the index was closed: open the store again")
        if self._primary is not None:
            return self._primary
        try:
            primary = self._primary_factory(timeout_seconds)
            try:
                self._apply_journal(primary)
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
        self._set_primary(primary)
        return primary

    def _set_primary(self, primary: PostgresIndex) -> None:
        with self._state_lock:
            if not self._closed:
                self._primary = primary
                return
        primary.close()
        raise IndexUnavailableError("the index was closed meanwhile: open the store again")

    def _apply_journal(self, primary: PostgresIndex) -> None:
        """Apply the journal on the server; a journal that is read-only stays as it is."""
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

    def _drop_primary(self, primary: PostgresIndex, error: TickIndexError) -> None:
        with self._state_lock:
            if self._primary is not primary:
                return  # another thread was first
            self._primary = None
            self._reason = str(error)
            # An SQL error will come again; after a lost connection the server may be back at once.
            is_sql_error = bool(error.context.get("sqlstate"))
            self._next_attempt = time.monotonic() + self._retry_seconds if is_sql_error else 0.0
        _log.warning("%s. Changes go to the journal %s", error, self._journal.path)
        primary.close()

    def _reconnect_in_background(self) -> None:
        if time.monotonic() < self._next_attempt or self._closed or self._connect_lock.locked():
            return

        def attempt() -> None:
            if not self._connect_lock.acquire(blocking=False):
                return
            try:
                self._connect(_OPEN_CONNECT_SECONDS)
            except (TickIndexError, StorageError) as error:
                _log.info("PostgreSQL is still away: %s", error)
            finally:
                self._connect_lock.release()

        with suppress(RuntimeError):  # no thread starts at interpreter shutdown
            threading.Thread(target=attempt, name="ibticks-index", daemon=True).start()

    def _connect_for_reader(self) -> PostgresIndex | None:
        """Return the server, or None if it stays away; errors of another kind are raised."""
        if self._primary is not None:
            return self._primary
        if not self._connect_lock.acquire(timeout=_READ_CONNECT_SECONDS):
            return None
        try:
            if self._primary is None and time.monotonic() < self._next_attempt:
                return None
            return self._connect(_READ_CONNECT_SECONDS)
        except (IndexUnavailableError, StorageError):
            return None
        finally:
            self._connect_lock.release()

    # -- writing -----------------------------------------------------------------------------------

    def write(self, change: IndexChange) -> None:
        """Apply a change on the server, or append it to the journal while the server is away."""
        primary = self._primary
        if primary is not None:
            try:
                self._apply_journal(primary)
                primary.write(change)
            except (IndexUnavailableError, IndexVersionError, IndexMismatchError) as error:
                self._drop_primary(primary, error)
            else:
                return
        self._journal.append(change)
        self._reconnect_in_background()

    # -- rebuild while others write ----------------------------------------------------------------

    def paths(self) -> set[str]:
        """Return the paths of all files, without a warning while the server is away."""
        return self._forward(lambda index: index.paths(), ReadScope("files"), warn=False)

    def is_complete(self) -> bool:
        """Return whether every file of the store was inserted; True while the server is away."""
        primary = self._primary
        return primary is None or primary.is_complete()

    def set_complete(self, complete: bool) -> None:
        """Store whether every file of the store was inserted; no-op while the server is away."""
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
        streams: Iterable[StreamKey],
        records: Iterable[CoverageRecord],
        revision: int,
    ) -> None:
        """Replace the intervals of some streams, except those changed since ``revision``.

        While the server is away, the intervals of other streams are written again unchanged.
        """
        primary = self._primary
        if primary is None:
            rebuilt = set(streams)
            others = [record for record in self.coverage() if record.stream not in rebuilt]
            self.replace_coverage([*others, *records])
        else:
            primary.refresh_coverage(streams, records, revision)

    def analyze(self) -> None:
        """Refresh the planner statistics (ANALYZE); no-op while the server is away."""
        primary = self._primary
        if primary is not None:
            primary.analyze()

    # -- reading ----------------------------------------------------------------------------------

    def iter_files(self) -> Iterator[FileRecord]:
        """Iterate over all files without their blocks, a page at a time from a server."""
        primary = self._connect_for_reader()
        if primary is not None:
            try:
                self._apply_journal(primary)
                if not self._journal.pending:
                    yield from primary.iter_files()
                    return
            except IndexUnavailableError as error:
                self._drop_primary(primary, error)
                raise
        yield from self.files()

    def _forward(
        self,
        read: Callable[[PostgresIndex | MemoryIndex], _T],
        scope: ReadScope,
        *,
        warn: bool = True,
    ) -> _T:
        """Read from the server, else from the catalogue, with the journal's changes applied."""
        for _ in range(2):  # a server that is lost during the query may be back at once
            primary = self._connect_for_reader()
            if primary is None:
                break
            try:
                self._apply_journal(primary)
                changes, damage = self._journal.read_valid_changes()
                if damage is not None:
                    _log.error("%s; its other lines are read", damage)
                if not changes:
                    return read(primary)
                return read(_apply_changes(changes, _load(primary, scope)))
            except IndexUnavailableError as error:
                self._drop_primary(primary, error)
        records = self._read_fallback()
        if not warn or scope.table in _WITHOUT_WARNING:
            return read(records)
        if self._find_missing is not None:
            records.put_files(self._find_missing(records.paths()))
        with self._state_lock:
            self.partial_answers += 1
        warnings.warn(
            IndexAwayWarning(
                f"PostgreSQL is away ({self._reason}): this comes from the catalogue "
                f"{self._catalogue.path} and the journal, which may be incomplete; files that "
                "neither has are read without statistics"
            ),
            stacklevel=3,
        )
        return read(records)

    def _read_fallback(self) -> MemoryIndex:
        """Return the records of catalogue and journal, as far as they can be read.

        A damaged line of the journal may have been about any file: then no row is used, and the
        files of the store are listed instead.
        """
        try:
            records = self._catalogue.read().copy()
        except (CorruptFileError, StoreAccessError) as error:
            if self._find_missing is None:
                raise
            _log.error("%s; until then the files of the store are listed", error)
            records = MemoryIndex()
        changes, damage = self._journal.read_valid_changes()
        records = _apply_changes(changes, records)
        if damage is not None:
            if self._find_missing is None:
                raise damage
            _log.error("%s; until then the files of the store are listed", damage)
            records.replace_files(self._find_missing(set()))
        return records

    # -- server only -------------------------------------------------------------------------------

    def put_sessions(self, rows: Iterable[MarketSessionRow]) -> None:
        """Replace the market sessions of each market and type between the first and the last row.

        Raises
        ------
        IndexUnavailableError
            The server is away. (The calendars can compute the rows again at any time.)
        """
        sessions = list(rows)
        self._on_primary(lambda primary: primary.put_sessions(sessions))

    def sessions_span(self, market: str) -> tuple[date, date] | None:
        """Return the first and last stored trading day of a market, or None.

        Raises
        ------
        IndexUnavailableError
            The server is away.
        """
        return self._on_primary(lambda primary: primary.sessions_span(market))

    def read_query(
        self,
        sql: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float = QUERY_TIMEOUT_SECONDS,
    ) -> QueryResult:
        """Run one SQL statement that reads; see :meth:`PostgresIndex.read_query`.

        Raises
        ------
        IndexUnavailableError
            The server is away.
        ReadOnlyError, TickIndexError
            The statement would change something, is invalid, or exceeded the timeout.
        """
        return self._on_primary(
            lambda primary: primary.read_query(sql, params, timeout_seconds=timeout_seconds)
        )

    def _on_primary(self, work: Callable[[PostgresIndex], _T]) -> _T:
        for _ in range(2):
            primary = self._connect_for_reader()
            if primary is None:
                break
            try:
                self._apply_journal(primary)
                return work(primary)
            except IndexUnavailableError as error:
                self._drop_primary(primary, error)
        raise IndexUnavailableError(f"PostgreSQL is away: {self._reason}")


def _load(primary: PostgresIndex, scope: ReadScope) -> MemoryIndex:
    """Read the records of a scope into memory."""
    table, contract_ids, tick_types, start_ns, end_ns = scope
    if table == "contracts":
        return MemoryIndex(contracts=primary.contracts())
    if table == "archived":
        return MemoryIndex(archived=primary.archived())
    if table == "companions":
        return MemoryIndex(
            companions=primary.companions(contract_ids, tick_types, start_ns, end_ns)
        )
    if table == "coverage":
        return MemoryIndex(coverage=primary.coverage(contract_ids, tick_types, start_ns, end_ns))
    return MemoryIndex(files=primary.files(contract_ids, tick_types, start_ns, end_ns))


def _apply_changes(changes: Iterable[IndexChange], records: MemoryIndex) -> MemoryIndex:
    for change in changes:
        records.write(change)
    return records
