"""The ledger of coverage: which stretches of a stream were captured, and which were not, and why.

It is made of the status messages of captures (:mod:`ibticks.coverage`) and nothing else: a
running capture keeps it as it speaks (:class:`Ledger`), and whoever reads the messages again comes
to the same intervals (:func:`intervals`).

- From one status to the next the stream is in the state of the first; a state that is said again
  goes on. ``stopped`` ends it.
- A run that ends without a word (killed, a power cut) is noticed when another one speaks. What it
  left open ends with the last message it stored: of what came after, nothing is known.
- What was backfilled takes the place of what was missing, never of what was captured live, nor of
  what lasts still. Whoever backfills need not be the capture, which may run meanwhile.

Everything here is a pure function of its arguments; :mod:`ibticks.coverage` reads the
files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ibticks.coverage._backfilled import backfilled_rows
from ibticks.coverage._states import STATE_OF_STATUS, CoverageState, StreamStatus
from ibticks.errors import InputError
from ibticks.index import CoverageRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "Ledger",
    "StatusChange",
    "deleted",
    "deleted_rows",
    "effective_deletions",
    "intervals",
    "merge_intervals",
    "replayed",
    "rows_lost_by_rebuild",
    "undeleted_rows",
]

_BEFORE_ALL: Final = -(2**63)
_AFTER_ALL: Final = 2**63


@dataclass(frozen=True, slots=True)
class StatusChange:
    """What a status message says.

    Attributes
    ----------
    time_ns : int
        When it was said, UTC nanoseconds: its timestamp or, of ``backfilled``, ``deleted`` and
        ``undeleted``, its ``at_ns``.
    status : Status
    run : str
        Which run of a capture speaks.
    stream_id : str
        Of the message, and of all that this run stores in the stream.
    reason : str
    code : int or None
        IB's number.
    filled : tuple of (int, int, int) or None
        Of ``backfilled``: the range ``[start_ns, end_ns)``, and how many ticks were found in it.
    deleted : tuple of (int, int, int) or None
        Of ``deleted``: the range ``[start_ns, end_ns)``, and how many ticks were taken out of it.
    undeleted : tuple of (int, int, int, int) or None
        Of ``undeleted``: the time of the deletion that is undone, and its ``deleted``.
    """

    time_ns: int
    status: StreamStatus
    run: str
    stream_id: str = ""
    reason: str = ""
    code: int | None = None
    filled: tuple[int, int, int] | None = None
    deleted: tuple[int, int, int] | None = None
    undeleted: tuple[int, int, int, int] | None = None

    @property
    def is_of_state(self) -> bool:
        """Whether the state of a capture changes, and not what is stored of earlier time."""
        return self.filled is None and self.deleted is None and self.undeleted is None

    @classmethod
    def of(cls, time_ns: int, message: Mapping[str, Any]) -> StatusChange | None:
        """The change a v2 message says, or None if it says none.

        Examples
        --------
        >>> message = {
        ...     "type": "info",
        ...     "stream_id": "265598_last_7",
        ...     "data": {"status": "disconnected"},
        ...     "metadata": {"run": "7", "reason": "connection lost", "code": 1100},
        ... }
        >>> change = StatusChange.of(1, message)
        >>> change.status, change.run, change.code
        (<Status.DISCONNECTED: 'disconnected'>, '7', 1100)
        """
        metadata = message.get("metadata", {})
        run = metadata.get("run")
        status = message.get("data", {}).get("status")
        if message.get("type") != "info" or not isinstance(run, str) or status not in _STATUSES:
            return None
        interval = undeleted = None
        if status in (StreamStatus.BACKFILLED, StreamStatus.DELETED, StreamStatus.UNDELETED):
            # Its message lies among the ticks it speaks of.
            time_ns = time_ns if (at_ns := _integer(metadata.get("at_ns"))) is None else at_ns
            start, end, ticks = (_integer(metadata.get(k)) for k in ("start_ns", "end_ns", "ticks"))
            if start is None or end is None or start >= end:
                return None
            interval = (start, end, ticks or 0)
        if interval is not None and status == StreamStatus.UNDELETED:
            if (deleted_at_ns := _integer(metadata.get("deleted_at_ns"))) is None:
                return None
            undeleted = (deleted_at_ns, *interval)
        return cls(
            time_ns=time_ns,
            status=StreamStatus(status),
            run=run,
            stream_id=message.get("stream_id", ""),
            reason=str(metadata.get("reason", "")),
            code=_integer(metadata.get("code")),
            filled=interval if status == StreamStatus.BACKFILLED else None,
            deleted=interval if status == StreamStatus.DELETED else None,
            undeleted=undeleted,
        )


_STATUSES: Final = frozenset(str(status) for status in StreamStatus)


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class Ledger:
    """The coverage of one stream, as its capture goes.

    What its methods return belongs in the index, at once and as it is: rows that begin and rows
    that end, each replacing the one of the same start
    (:meth:`ibticks.index.Index.put_coverage`).

    Who keeps it writes the status message first, and does both under one lock, so that messages
    and rows tell the same. Give the message the time :meth:`after` says.

    Parameters
    ----------
    contract_id : int
    tick_type : str
    run : str
        Which run of a capture speaks.
    row : CoverageRecord, optional
        The row that is open, if one is.

    Attributes
    ----------
    latest_ns : int
        Time of the latest change or tick; what is said next comes after it.

    Examples
    --------
    >>> ledger = Ledger(265598, "last", "7")
    >>> ledger.change(StreamStatus.SUBSCRIBED, 1_000)
    [CoverageRecord(contract_id=265598, tick_type='last', start_ns=1000, end_ns=None,
                    state='captured', reason='')]
    >>> [(r.start_ns, r.end_ns, r.state) for r in ledger.change(StreamStatus.DISCONNECTED, 5_000)]
    [(1000, 5000, 'captured'), (5000, None, 'disconnected')]
    """

    def __init__(
        self, contract_id: int, tick_type: str, run: str, row: CoverageRecord | None = None
    ) -> None:
        self.contract_id: Final = contract_id
        self.tick_type: Final = tick_type
        self.run = run
        self._row = row
        self.latest_ns = _BEFORE_ALL if row is None else row.start_ns

    @property
    def state(self) -> CoverageState | None:
        """The state the stream is in; None: nobody listens."""
        return None if self._row is None else CoverageState(self._row.state)

    def after(self, time_ns: int) -> int:
        """``time_ns``, or if the clock stepped back: just after all that was said and touched."""
        return max(time_ns, self.latest_ns + 1)

    def touch(self, time_ns: int) -> None:
        """Note that the stream holds a tick of this time: changes come after it."""
        self.latest_ns = max(self.latest_ns, time_ns)

    def change(
        self, status: StreamStatus, time_ns: int, reason: str = "", code: int | None = None
    ) -> list[CoverageRecord]:
        """Take in a status; the row that ends and the row that begins, if any.

        Raises
        ------
        InputError
            For ``backfilled``, ``deleted`` and ``undeleted``, which change no state: see
            :mod:`ibticks.coverage`, :func:`deleted_rows` and
            :func:`undeleted_rows`.
        """
        if status is StreamStatus.BACKFILLED:
            raise InputError("a backfill is a range of time: use ibticks.coverage._backfilled")
        if status is StreamStatus.DELETED:
            raise InputError("a deletion is a range of time: use deleted_interval()")
        if status is StreamStatus.UNDELETED:
            raise InputError("a deletion is undone in a range of time: use undeleted_interval()")
        time_ns = self.latest_ns = self.after(time_ns)
        state = STATE_OF_STATUS[status]
        if state == self.state:
            return []
        rows = [] if self._row is None else [replace(self._row, end_ns=time_ns)]
        self._row = None
        if state is not None:
            self._row = self._made(time_ns, state, _words(reason, code))
            rows.append(self._row)
        return rows

    def mark_deleted(self, before_ns: int) -> list[CoverageRecord]:
        """The ticks before some time are about to be deleted: of the open row, what that changes.

        Examples
        --------
        >>> ledger = Ledger(265598, "last", "7")
        >>> _ = ledger.change(StreamStatus.SUBSCRIBED, 1_000)
        >>> [(row.start_ns, row.end_ns, row.state) for row in ledger.mark_deleted(3_000)]
        [(1000, 3000, 'deleted'), (3000, None, 'captured')]
        """
        if (
            self._row is None
            or self.state is not CoverageState.CAPTURED
            or self._row.start_ns >= before_ns
        ):
            return []
        over = replace(self._row, end_ns=before_ns)
        self._row = replace(self._row, start_ns=before_ns)
        return [*deleted([over], before_ns), self._row]

    def take_over(self, run: str, last_ns: int | None) -> list[CoverageRecord]:
        """Another run speaks from here on: what the one before left open is ended.

        Parameters
        ----------
        run : str
        last_ns : int or None
            Time of the last message that the run before stored, if any is left.
        """
        self.run = run
        if self._row is None:
            return []
        # Its own first message is in the stream, if nothing else is.
        last_ns = self._row.start_ns if last_ns is None else max(last_ns, self._row.start_ns)
        row = replace(self._row, end_ns=last_ns + 1)
        self._row = None
        self.touch(last_ns)
        return [row]

    def _made(self, start_ns: int, state: CoverageState, reason: str) -> CoverageRecord:
        return CoverageRecord(self.contract_id, self.tick_type, start_ns, None, state.value, reason)


def _words(reason: str, code: int | None) -> str:
    return ": ".join(part for part in ("" if code is None else str(code), reason) if part)


def intervals(
    contract_id: int,
    tick_type: str,
    changes: Iterable[StatusChange],
    last_ns: Callable[[StatusChange], int | None],
    *,
    running: bool = False,
) -> list[CoverageRecord]:
    """The intervals that the status messages of one stream make, by start.

    Parameters
    ----------
    contract_id : int
    tick_type : str
    changes : iterable of Change
        In any order, some of them maybe twice.
    last_ns : callable
        Given the last change of a run that ended without a word: the time of the last message of
        that run in the stream.
    running : bool
        Whether the last run still runs.

    Returns
    -------
    list of CoverageRecord
        The last one without an end, if it lasts.

    Examples
    --------
    >>> changes = [
    ...     StatusChange(1_000, StreamStatus.SUBSCRIBED, run="7"),
    ...     StatusChange(9_000, StreamStatus.SUBSCRIBED, run="8"),
    ... ]
    >>> rows = intervals(265598, "last", changes, lambda change: 4_000, running=True)
    >>> [(row.start_ns, row.end_ns, row.state) for row in rows]
    [(1000, 4001, 'captured'), (9000, None, 'captured')]
    """
    state_label = sorted(dict.fromkeys(changes), key=lambda change: change.time_ns)
    ledger = Ledger(contract_id, tick_type, "")
    lived = [change for change in state_label if change.is_of_state]
    rows = replayed(ledger, lived, last_ns, running=running)
    # A deletion has a message in each hour file; it takes effect as a whole, and when it was made.
    deletions: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for change in effective_deletions(state_label):
        if change.deleted is not None:
            deletions.setdefault((change.time_ns, change.run), []).append(change.deleted[:2])
    for change in state_label:
        for start_ns, end_ns in merge_intervals(deletions.pop((change.time_ns, change.run), [])):
            made = deleted_rows(contract_id, tick_type, start_ns, end_ns, rows.values())
            rows.update({row.start_ns: row for row in made})
        if change.filled is not None:
            lasting = _lasting(rows, change.time_ns)
            made = backfilled_rows(contract_id, tick_type, *change.filled, lasting)
            rows.update({row.start_ns: row for row in made})
    return [rows[start] for start in sorted(rows)]


def effective_deletions(changes: Iterable[StatusChange]) -> list[StatusChange]:
    """Return the deletions among changes that were not undone.

    Examples
    --------
    >>> first = StatusChange(50, StreamStatus.DELETED, run="a", deleted=(10, 20, 3))
    >>> second = StatusChange(60, StreamStatus.DELETED, run="b", deleted=(10, 30, 2))
    >>> undone = StatusChange(70, StreamStatus.UNDELETED, run="a", undeleted=(50, 10, 20, 3))
    >>> [change.run for change in effective_deletions([first, second, undone])]
    ['b']
    """
    changes = list(changes)
    undone = {(change.run, change.undeleted) for change in changes if change.undeleted is not None}
    return [
        change
        for change in changes
        if change.deleted is not None
        and (change.run, (change.time_ns, *change.deleted)) not in undone
    ]


def replayed(
    ledger: Ledger,
    changes: Iterable[StatusChange],
    last_ns: Callable[[StatusChange], int | None],
    *,
    before: StatusChange | None = None,
    running: bool = False,
) -> dict[int, CoverageRecord]:
    """Say to a ledger what captures said; the rows that change, by their start.

    Parameters
    ----------
    ledger : Ledger
    changes : iterable of Change
        Of state, in order.
    last_ns, running
        As those of :func:`intervals`.
    before : Change, optional
        What was said before these.
    """
    rows: dict[int, CoverageRecord] = {}

    def take_over(run: str) -> None:
        if ledger.state is not None:
            ended = ledger.take_over(run, None if before is None else last_ns(before))
            rows.update({row.start_ns: row for row in ended})

    for change in changes:
        if before is not None and change.run != before.run:
            take_over(change.run)
        coverage_metadata = ledger.change(change.status, change.time_ns, change.reason, change.code)
        rows.update({row.start_ns: row for row in coverage_metadata})
        before = change
    if not running:
        take_over("")
    return rows


def _lasting(rows: Mapping[int, CoverageRecord], at_ns: int) -> list[CoverageRecord]:
    """Rows as they were at some time: the one of that time had no end yet."""
    return [
        replace(row, end_ns=None)
        if row.end_ns is not None and row.start_ns <= at_ns < row.end_ns
        else row
        for row in rows.values()
    ]


def deleted(rows: Iterable[CoverageRecord], before_ns: int) -> list[CoverageRecord]:
    """The rows that change where the ticks before some time were deleted.

    A row that is still open stays as it is.

    Examples
    --------
    >>> rows = deleted([CoverageRecord(265598, "last", 10, 90, "captured")], 60)
    >>> [(row.start_ns, row.end_ns, row.state) for row in rows]
    [(10, 60, 'deleted'), (60, 90, 'captured')]
    """
    made = []
    for row in rows:
        stored = row.state in (CoverageState.CAPTURED, CoverageState.BACKFILLED)
        if not stored or row.end_ns is None or row.start_ns >= before_ns:
            continue
        until = min(row.end_ns, before_ns)
        reason = f"{row.state}, deleted since"
        made.append(replace(row, end_ns=until, state=CoverageState.DELETED.value, reason=reason))
        if until < row.end_ns:
            made.append(replace(row, start_ns=until))
    return made


def merge_intervals(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return intervals in order, those that touch or overlap as one.

    Examples
    --------
    >>> merge_intervals([(60, 70), (50, 60), (80, 90)])
    [(50, 70), (80, 90)]
    """
    joined: list[tuple[int, int]] = []
    for start_ns, end_ns in sorted(intervals):
        if joined and joined[-1][1] >= start_ns:
            before_ns, until_ns = joined.pop()
            joined.append((before_ns, max(until_ns, end_ns)))
        else:
            joined.append((start_ns, end_ns))
    return joined


def deleted_rows(
    contract_id: int,
    tick_type: str,
    start_ns: int,
    end_ns: int,
    known: Iterable[CoverageRecord],
) -> list[CoverageRecord]:
    """Return the rows that change where the ticks of an interval were deleted.

    What was captured or backfilled in it is deleted, and so is what no row tells of; a gap stays
    the gap it was.

    Parameters
    ----------
    contract_id : int
    tick_type : str
    start_ns, end_ns : int
    known : iterable of CoverageRecord
        The rows of the stream that meet the interval, as the index has them.

    Examples
    --------
    >>> rows = [CoverageRecord(265598, "last", 10, 90, "captured")]
    >>> changed = deleted_rows(265598, "last", 30, 60, rows)
    >>> [(row.start_ns, row.end_ns, row.state) for row in changed]
    [(10, 30, 'captured'), (30, 60, 'deleted'), (60, 90, 'captured')]
    """
    at, reason = start_ns, "deleted since"
    gone = CoverageRecord(contract_id, tick_type, at, end_ns, CoverageState.DELETED.value, reason)
    made: list[CoverageRecord] = []
    for row in sorted(known, key=lambda row: row.start_ns):
        row_end = _AFTER_ALL if row.end_ns is None else row.end_ns
        if row_end <= at or row.start_ns >= end_ns:
            continue
        begin, until = max(row.start_ns, at), min(row_end, end_ns)
        if begin > at:
            made.append(replace(gone, start_ns=at, end_ns=begin))
        if row.state in (CoverageState.CAPTURED, CoverageState.BACKFILLED):
            if row.start_ns < begin:
                made.append(replace(row, end_ns=begin))
            reason = f"{row.state}, deleted since"
            made.append(replace(gone, start_ns=begin, end_ns=until, reason=reason))
            if until < row_end:
                made.append(replace(row, start_ns=until))
        at = until
    if at < end_ns:
        made.append(replace(gone, start_ns=at))
    return made


def undeleted_rows(
    start_ns: int, end_ns: int, known: Iterable[CoverageRecord]
) -> list[CoverageRecord]:
    """Return the rows of a stream as they are where the deleted ticks of an interval are back.

    What was captured or backfilled in it is so again, as part of a row beside it, if there is one
    of the same state; of what no row told of before, no row is left.

    Parameters
    ----------
    start_ns, end_ns : int
    known : iterable of CoverageRecord
        All rows of the stream, as the index has them.

    Examples
    --------
    >>> rows = [CoverageRecord(265598, "last", 10, 90, "captured")]
    >>> cut = deleted_rows(265598, "last", 30, 120, rows)
    >>> [(row.start_ns, row.end_ns, row.state) for row in undeleted_rows(30, 100, cut)]
    [(10, 90, 'captured'), (100, 120, 'deleted')]
    """
    rows: list[CoverageRecord] = []
    is_changed = False  # the last of the rows

    def add(row: CoverageRecord, *, changed: bool) -> None:
        nonlocal is_changed
        last = rows[-1] if rows else row
        touches = last.end_ns == row.start_ns and last.state == row.state
        # What is back has no reason: it gets that of the row beside it.
        reasons = {last.reason, row.reason} - {""}
        if touches and (changed or is_changed) and len(reasons) <= 1:
            rows[-1] = replace(last, end_ns=row.end_ns, reason=last.reason or row.reason)
        else:
            rows.append(row)
        is_changed = changed

    for row in sorted(known, key=lambda row: row.start_ns):
        row_end = _AFTER_ALL if row.end_ns is None else row.end_ns
        begin, until = max(row.start_ns, start_ns), min(row_end, end_ns)
        if row.state != CoverageState.DELETED or begin >= until:
            add(row, changed=False)
            continue
        if row.start_ns < begin:
            add(replace(row, end_ns=begin), changed=False)
        before = row.reason.partition(",")[0]
        if before in (CoverageState.CAPTURED, CoverageState.BACKFILLED):
            add(replace(row, start_ns=begin, end_ns=until, state=before, reason=""), changed=True)
        if until < row_end:
            add(replace(row, start_ns=until), changed=True)
    return rows


def rows_lost_by_rebuild(
    known: Iterable[CoverageRecord], rebuilt: Iterable[CoverageRecord]
) -> list[CoverageRecord]:
    """The rows that a rebuild from the files would lose: those up to the last that was deleted.

    And what follows it, as far as no file tells of that: what said that the rest of a stretch was
    captured may have been deleted with its beginning.

    Parameters
    ----------
    known : iterable of CoverageRecord
        What the index has.
    rebuilt : iterable of CoverageRecord
        What the files tell.

    Examples
    --------
    >>> known = deleted([CoverageRecord(265598, "last", 10, 90, "captured")], 60)
    >>> rebuilt = [CoverageRecord(265598, "last", 80, 90, "captured")]
    >>> [(row.start_ns, row.end_ns, row.state) for row in rows_lost_by_rebuild(known, rebuilt)]
    [(10, 60, 'deleted'), (60, 80, 'captured')]
    """
    known, rebuilt = list(known), list(rebuilt)
    borders: dict[tuple[int, str], int] = {}
    for row in known:
        if row.state == CoverageState.DELETED and row.end_ns is not None:
            stream = row.contract_id, row.tick_type
            borders[stream] = max(row.end_ns, borders.get(stream, row.end_ns))
    rows: list[CoverageRecord] = []
    for row in known:
        stream = row.contract_id, row.tick_type
        if row.start_ns > borders.get(stream, _BEFORE_ALL):
            continue
        coverage_metadata = [
            each.start_ns
            for each in rebuilt
            if (each.contract_id, each.tick_type) == stream
            and (each.end_ns is None or each.end_ns > row.start_ns)
        ]
        if row.state == CoverageState.DELETED:
            rows.append(row)
        elif not coverage_metadata or min(coverage_metadata) > row.start_ns:
            ends = [*coverage_metadata, *([] if row.end_ns is None else [row.end_ns])]
            rows.append(replace(row, end_ns=min(ends, default=None)))
    return rows
