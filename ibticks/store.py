"""A store: a root folder of tick files and the index that finds them."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import date as date_type
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ibticks.config import TICK_TYPES, dsn_from_environment, resource
from ibticks.contracts import find_contracts
from ibticks.errors import InputError, NoStoreError, StoreAccessError, TimeRangeError
from ibticks.format.fields import check_tick_type
from ibticks.index.records import ContractRecord
from ibticks.selection import Selection, default_columns
from ibticks.storage.layout import list_files, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    import polars as pl

    from ibticks.calendar import TimeLike
    from ibticks.index.journaled import JournaledIndex
    from ibticks.index.records import DailyStats, FileRecord
    from ibticks.selection import Interval
    from ibticks.storage.audit import Finding
    from ibticks.storage.layout import FileKey
    from ibticks.storage.writer import StreamWriter

__all__ = ["Contents", "Store", "open_store"]

_MARKET: Final = "US"
_LAST_TICK: Final = "last_tick"
_FIRST_SESSION: Final = date_type(2000, 1, 1)
_CATALOGUE_SECONDS: Final = 30.0


def open_store(
    root: str | os.PathLike[str], *, dsn: str | None = None, create: bool = True
) -> Store:
    """Open a store, beginning one where there is none.

    Parameters
    ----------
    root : path
        The folder of the ticks; ``~`` is understood.
    dsn : str, optional
        PostgreSQL server for the index, as ``postgresql://user@host/database``. By default that
        of ``IBTICKS_DSN``, or else the embedded server.
    create : bool
        Whether a store may be begun.

    Returns
    -------
    Store

    Raises
    ------
    NoStoreError
        If there is none and ``create`` is false, or ``root`` is a file.
    StoreAccessError
        If this user may not read the folder.
    IndexUnavailableError
        If no server answers at ``dsn``.
    IndexVersionError
        If it is older than PostgreSQL 14, or its schema is newer than this ibticks.
    IndexMismatchError
        If the database is the index of another store.

    Examples
    --------
    >>> import tempfile
    >>> with open_store(tempfile.mkdtemp()) as store:
    ...     store.contracts()
    []
    """
    path = Path(root).expanduser().resolve()
    identity = _identity(path, create=create)
    from ibticks.index import open_index

    store = Store(path, open_index(path, identity, dsn or dsn_from_environment()))
    try:
        store._refill()
    except BaseException:
        store.index.close()
        raise
    return store


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store holds of one contract and tick type.

    Attributes
    ----------
    contract_id : int
    symbol : str
    tick_type : str
    files, ticks, size : int
        Size in bytes on disk. Ticks of files being written are not counted yet.
    first_ns, last_ns : int or None
        Earliest and latest tick, UTC nanoseconds.
    """

    contract_id: int
    symbol: str
    tick_type: str
    files: int
    ticks: int
    size: int
    first_ns: int | None
    last_ns: int | None


class Store:
    """A root folder of tick files and its index.

    Made by :func:`ibticks.open`; a context manager. Files are the truth: the index can be lost
    and rebuilt (:meth:`rebuild_index`).

    Attributes
    ----------
    root : Path
    index : JournaledIndex
    """

    def __init__(self, root: Path, index: JournaledIndex) -> None:
        self.root: Final = root
        self.index: Final = index
        self._catalogue_at = time.monotonic()
        self._changed = False

    def select(
        self,
        contracts: int | str | Sequence[int | str],
        tick_types: str | Sequence[str] | None = None,
        period: str | timedelta | None = None,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tz: str | None = None,
        session: str | None = None,
        date: TimeLike | None = None,
        sessions: int | None = None,
        market: str = _MARKET,
        now: TimeLike | None = None,
        columns: Sequence[str] | None = None,
        strict: bool = False,
    ) -> Selection:
        """Say which ticks; nothing is read yet.

        Time is given in one of four ways, or not at all (everything):

        - ``period``: back from now, such as ``"last_hour"``, ``"2h30m"``, ``"today"`` or
          ``"since_open"`` (see :func:`ibticks.calendar.resolve_period`);
        - ``start`` and ``end``: half-open; without ``end``, to now;
        - ``session`` and ``date``: one session of a market; without ``date``, the one that runs
          or ran last;
        - ``sessions``: the last so many sessions that have ended.

        Parameters
        ----------
        contracts : int, str or a sequence of them
            Contract ids or symbols.
        tick_types : str or sequence of str, optional
            Of ``last``, ``all_last``, ``bid_ask``, ``mid_point``; all that are stored by default.
        period : str or timedelta, optional
        start, end : optional
            Anything :func:`ibticks.calendar.to_ns` reads.
        tz : str, optional
            Zone of times that do not say theirs, and of ``today``.
        session : str, optional
            Session type, such as ``"regular"``; for ``sessions``, regular by default.
        date : optional
            Trading day of the session.
        sessions : int, optional
        market : str
            ``US``, ``UK``, ``JP``, ``CME`` or any calendar's name.
        now : optional
            Instead of the clock, for what is relative to now; ``"last_tick"`` is the last tick
            stored of what is selected.
        columns : sequence of str, optional
            By default those that the tick types carry.
        strict : bool
            Raise at damaged data, instead of warning and leaving it out.

        Returns
        -------
        Selection

        Raises
        ------
        UnknownContractError, AmbiguousContractError
            With the candidates.
        UnknownTickTypeError, UnknownColumnError, UnknownPeriodError, UnknownMarketError
            Naming what there is.
        NoSessionError
            If the market had no such session that day; names the previous and the next one.
        NaiveDatetimeError
            For a time without a zone, where ``tz`` is not given.
        TimeRangeError
            If start is not before end.
        InputError
            If time is given in more than one way.
        """
        ids = self.contract_ids(contracts)
        kinds = self._tick_types(ids, tick_types)
        ways = {
            "period": period is not None,
            "start and end": start is not None or end is not None,
            "session and date": sessions is None and (session is not None or date is not None),
            "sessions": sessions is not None,
        }
        given = [way for way, used in ways.items() if used]
        if len(given) > 1:
            raise InputError(f"time is given twice, by {' and by '.join(given)}: keep one of them")
        intervals, when = self._intervals(
            self._now(now, ids, kinds),
            period=period,
            start=start,
            end=end,
            tz=tz,
            session=session,
            date=date,
            sessions=sessions,
            market=market,
        )
        names = ", ".join(map(str, [contracts] if isinstance(contracts, int | str) else contracts))
        return Selection(
            self.root,
            self.index,
            ids,
            kinds,
            intervals,
            default_columns(kinds, columns),
            strict,
            f"{names} {', '.join(kinds)}{when}",
        )

    def contract_ids(self, contracts: int | str | Sequence[int | str]) -> tuple[int, ...]:
        """The ids of contracts given by id or symbol.

        Raises
        ------
        UnknownContractError, AmbiguousContractError
            With the candidates.
        """
        wanted = [contracts] if isinstance(contracts, int | str) else list(contracts)
        return find_contracts(wanted, self.contracts(), lambda: self._streams())

    def contracts(self) -> list[ContractRecord]:
        """The contracts the store knows by name, by id."""
        return self.index.contracts()

    def add_contract(
        self,
        contract_id: int,
        symbol: str,
        *,
        exchange: str = "",
        currency: str = "",
        contract_type: str = "",
    ) -> None:
        """Give a contract its name, so that it can be selected by symbol."""
        self.index.put_contracts(
            [ContractRecord(contract_id, symbol, exchange, currency, contract_type)]
        )
        self._changed = True

    def contents(self) -> list[Contents]:
        """What is stored, by contract and tick type."""
        symbols = {record.contract_id: record.symbol for record in self.contracts()}
        streams: dict[tuple[int, str], list[FileRecord]] = {}
        for record in self.index.files():
            streams.setdefault((record.contract_id, record.tick_type), []).append(record)
        return [
            Contents(
                contract_id=contract_id,
                symbol=symbols.get(contract_id, ""),
                tick_type=tick_type,
                files=len(records),
                ticks=sum(record.ticks for record in records),
                size=sum(record.size for record in records),
                first_ns=min((r.first_tick_ns for r in records if r.first_tick_ns), default=None),
                last_ns=max((r.last_tick_ns for r in records if r.last_tick_ns), default=None),
            )
            for (contract_id, tick_type), records in sorted(streams.items())
        ]

    def daily_stats(
        self,
        contracts: int | str | Sequence[int | str] | None = None,
        tick_types: Sequence[str] | None = None,
    ) -> list[DailyStats]:
        """Figures of each UTC day, contract and tick type, as the index keeps them."""
        ids = None if contracts is None else self.contract_ids(contracts)
        return self.index.daily_stats(ids, tick_types)

    def sql(self, query: str, parameters: Sequence[Any] = ()) -> pl.DataFrame:
        """Ask the index in SQL; it is only read.

        Examples
        --------
        >>> import tempfile
        >>> with open_store(tempfile.mkdtemp()) as store:
        ...     store.sql("SELECT count(*) AS files FROM tick_files").item()
        0
        """
        import polars as pl

        self._keep_sessions()
        return pl.DataFrame(self.index.query(query, parameters), infer_schema_length=None)

    def writer(
        self, contract_id: int, tick_type: str, *, fsync: float | None = 1.0
    ) -> StreamWriter:
        """The writer of one stream; see :class:`ibticks.storage.writer.StreamWriter`.

        Raises
        ------
        WriterLockedError
            If the stream is being written already; names by whom.
        """
        from ibticks.storage.writer import StreamWriter

        return StreamWriter(
            self.root,
            contract_id,
            tick_type,
            self.index,
            fsync=fsync,
            on_sealed=lambda _: self._note_change(),
        )

    def write(
        self,
        frame: Any,
        *,
        contract_id: int | None = None,
        tick_type: str | None = None,
        tz: str | None = None,
        stream_id: str = "",
    ) -> int:
        """Write the ticks of a frame, with the column names of :mod:`ibticks.format.fields`.

        Parameters
        ----------
        frame : polars, pandas, Arrow or xarray
        contract_id, tick_type : optional
            Of all rows, where the frame has no such column.
        tz : str, optional
            Zone of timestamps that do not say theirs.
        stream_id : str
            For rows that have none.

        Returns
        -------
        int
            How many ticks were written. A frame written twice is stored twice; ``ibticks import``
            tells what is there already.
        """
        from ibticks.frames import from_arrow
        from ibticks.streams import split_streams

        columns = from_arrow(frame, contract_id=contract_id, tick_type=tick_type, tz=tz)
        written = 0
        for contract, kind, part in split_streams(columns):
            with self.writer(contract, kind, fsync=None) as writer:
                written += writer.write(part, stream_id=stream_id)
        return written

    def verify(self, *, progress: bool | None = None) -> Iterator[Finding]:
        """Read every file through and hold it against its checksum and its row in the index."""
        from ibticks.progress import track
        from ibticks.storage.audit import verify

        total = len(self.index.files())
        return track(verify(self.root, self.index), "verifying", total, show=progress)

    def rebuild_index(self, *, progress: bool | None = None) -> int:
        """Make the index anew from the files; returns how many there are."""
        from ibticks.progress import track
        from ibticks.storage.audit import records_on_disk

        found = track(records_on_disk(self.root), "reading files", None, show=progress)
        records = list(found)
        self.index.replace_files(records)
        self._changed = True
        self._keep_sessions()
        return len(records)

    def compress(
        self,
        compression: str = "zstd",
        *,
        older_than: str | timedelta = "24h",
        now: TimeLike | None = None,
        progress: bool | None = None,
    ) -> list[FileRecord]:
        """Compress the sealed files whose hour ended that long ago.

        Parameters
        ----------
        compression : {"zstd", "gzip", "snappy", "none"}
        older_than : str or timedelta
        now : optional
            Instead of the clock.
        progress : bool, optional

        Returns
        -------
        list of FileRecord
            The files that changed, as they are now.
        """
        from ibticks.progress import track
        from ibticks.storage.blocks import check_compression
        from ibticks.storage.lifecycle import compress_files

        check_compression(compression)
        keys = [
            key
            for record, key in self._older(older_than, now)
            if record.sealed and record.compression != compression
        ]
        self._changed = True
        work = compress_files(self.root, self.index, keys, compression)
        return list(track(work, "compressing", len(keys), show=progress))

    def prune(
        self,
        keep: str | timedelta,
        *,
        now: TimeLike | None = None,
        dry_run: bool = False,
        progress: bool | None = None,
    ) -> list[str]:
        """Delete the files whose hour ended longer ago than ``keep``.

        Returns
        -------
        list of str
            The paths that were deleted or, with ``dry_run``, would be.
        """
        from ibticks.progress import track
        from ibticks.storage.lifecycle import delete_files

        keys = [key for _, key in self._older(keep, now)]
        if not dry_run:
            self._changed = True
            work = delete_files(self.root, self.index, keys)
            list(track(work, "deleting", len(keys), show=progress))
        return [key.path for key in keys]

    def close(self) -> None:
        """Let go of the index; the embedded server stops with its last user."""
        try:
            if self._changed:
                self.write_catalogue()
        finally:
            self.index.close()

    def write_catalogue(self) -> None:
        """Write ``metadata/index.json``, the index that can be read without a database.

        It is written when the store is closed, and every now and then while it is written to.
        """
        from ibticks.index import write_catalogue

        path = metadata(self.root) / "index.json"
        write_catalogue(path, self.index.files(), self.contracts(), self.index.coverage())
        self._catalogue_at = time.monotonic()
        self._changed = False

    def _note_change(self) -> None:
        self._changed = True
        if time.monotonic() - self._catalogue_at >= _CATALOGUE_SECONDS:
            self.write_catalogue()

    def _refill(self) -> None:
        """Give an index that was made just now what the files and the catalogue know."""
        if self.index.files() or not any(list_files(self.root)):
            return
        from ibticks.index import CatalogueIndex

        catalogue = CatalogueIndex(metadata(self.root) / "index.json")
        self.index.put_contracts(catalogue.contracts())
        self.index.put_coverage(catalogue.coverage())
        self.rebuild_index()

    def _keep_sessions(self) -> None:
        """Let SQL know the sessions of the markets, from the calendars, up to a year from now."""
        from ibticks.calendar import MARKETS, session_rows

        today = datetime.now(UTC).date()
        for name in MARKETS:
            span = self.index.sessions_span(name)
            if span is None or span[1] < today + timedelta(days=30):
                until = today + timedelta(days=365)
                self.index.put_sessions(session_rows([name], _FIRST_SESSION, until))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {str(self.root)!r}, index {self.index.describe()}>"

    def _repr_html_(self) -> str:
        from ibticks.calendar import format_ns

        contents = self.contents()
        head = "".join(
            f"<th>{name}</th>"
            for name in ("contract", "symbol", "tick type", "first", "last", "ticks", "files", "MB")
        )
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td style='text-align:{'right' if i > 4 else 'left'}'>{escape(str(cell))}</td>"
                for i, cell in enumerate(
                    (
                        each.contract_id,
                        each.symbol,
                        each.tick_type,
                        format_ns(each.first_ns) if each.first_ns else "–",
                        format_ns(each.last_ns) if each.last_ns else "–",
                        f"{each.ticks:,}",
                        f"{each.files:,}",
                        f"{each.size / 1e6:,.1f}",
                    )
                )
            )
            + "</tr>"
            for each in contents
        )
        caption = f"ibticks Store {self.root} · index: {self.index.describe()}"
        return (
            f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{rows or '<tr><td colspan=8>no ticks yet</td></tr>'}</tbody></table>"
        )

    def _streams(self) -> set[tuple[int, str]]:
        return {(record.contract_id, record.tick_type) for record in self.index.files()}

    def _tick_types(
        self, ids: tuple[int, ...], tick_types: str | Sequence[str] | None
    ) -> tuple[str, ...]:
        if tick_types is None:
            stored = {kind for contract, kind in self._streams() if contract in ids}
            return tuple(kind for kind in TICK_TYPES if kind in stored) or TICK_TYPES
        given = [tick_types] if isinstance(tick_types, str) else list(tick_types)
        if not given:
            raise InputError("no tick type is given: leave tick_types out for all that are stored")
        return tuple(dict.fromkeys(check_tick_type(kind) for kind in given))

    def _now(self, now: TimeLike | None, ids: tuple[int, ...], kinds: tuple[str, ...]) -> int:
        from ibticks.calendar import now_ns, to_ns

        if now is None:
            return now_ns()
        if now != _LAST_TICK:
            return to_ns(now, name="now")
        last = [r.last_tick_ns for r in self.index.files(ids, kinds) if r.last_tick_ns is not None]
        if not last:
            raise InputError(
                f"now='last_tick': no ticks of contracts {', '.join(map(str, ids))} are stored"
            )
        return max(last)

    @staticmethod
    def _intervals(
        now_ns: int,
        *,
        period: str | timedelta | None,
        start: TimeLike | None,
        end: TimeLike | None,
        tz: str | None,
        session: str | None,
        date: TimeLike | None,
        sessions: int | None,
        market: str,
    ) -> tuple[tuple[Interval, ...], str]:
        """The stretches of time, and how to say them."""
        from ibticks.calendar import market as find_market
        from ibticks.calendar import resolve_period, to_ns
        from ibticks.format.decode import TIME_MAX, TIME_MIN

        if period is not None:
            return (resolve_period(period, now_ns, market=market, tz=tz),), f", {period}"
        if start is not None or end is not None:
            first = TIME_MIN if start is None else to_ns(start, tz=tz, name="start")
            last = now_ns + 1 if end is None else to_ns(end, tz=tz, name="end")
            if first >= last:
                raise TimeRangeError(
                    f"start={start} is not before end={'now' if end is None else end}: a range is "
                    "half-open, [start, end)",
                    start_ns=first,
                    end_ns=last,
                )
            return ((first, last),), f", from {start or 'the first tick'} to {end or 'now'}"
        if sessions is not None:
            found = find_market(market).previous_sessions(sessions, session or "regular", now_ns)
            intervals = tuple((each.start_ns, each.end_ns) for each in found)
            return intervals, f", last {sessions} {session or 'regular'} sessions of {market}"
        if session is not None or date is not None:
            known, kind = find_market(market), session or "regular"
            one = known.latest_session(now_ns, kind) if date is None else known.session(date, kind)
            return ((one.start_ns, one.end_ns),), f", {kind} session of {market} on {one.date}"
        return ((TIME_MIN, TIME_MAX),), ""

    def _older(
        self, age: str | timedelta, now: TimeLike | None
    ) -> Iterator[tuple[FileRecord, FileKey]]:
        from ibticks.calendar import now_ns, parse_duration, to_ns
        from ibticks.storage.layout import HOUR, FileKey

        instant = now_ns() if now is None else to_ns(now, name="now")
        before = instant - parse_duration(age)
        for record in self.index.files():
            key = FileKey.parse(record.path)
            if key is not None and record.hour_ns + HOUR <= before:
                yield record, key


def _identity(root: Path, *, create: bool) -> str:
    """The id of the store at ``root``, given to it when it is begun."""
    note = metadata(root) / "store.json"
    try:
        if root.exists() and not root.is_dir():
            raise NoStoreError(f"{root} is a file, not a folder of ticks", path=str(root))
        if note.exists():
            return str(json.loads(note.read_text())["store_id"])
        if not create:
            raise NoStoreError(
                f"there is no store at {root}; begin one with ibticks.open({str(root)!r})",
                path=str(root),
            )
        note.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(resource("proto") / "tick_stream.proto", note.with_name("schema.proto"))
        made: Mapping[str, str] = {
            "store_id": str(uuid.uuid4()),
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # Of several processes that begin a store at once, one gives it its id.
        beside = note.with_name(f".{note.name}.{os.getpid()}.new")
        beside.write_text(json.dumps(made))
        try:
            os.link(beside, note)
        except FileExistsError:
            return str(json.loads(note.read_text())["store_id"])
        finally:
            beside.unlink()
        return made["store_id"]
    except PermissionError as error:
        if isinstance(error, StoreAccessError):
            raise
        raise StoreAccessError(
            f"{root} cannot be read or written by this user: check who owns it and its mode",
            path=str(root),
        ) from error
