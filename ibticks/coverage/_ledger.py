"""Coverage ledger: the rows of a stream, computed from the status messages of captures.

A running capture updates its :class:`Ledger` with every status it writes; :func:`ledger_rows`
computes the same rows from the stored messages.

- From one status to the next the stream is in the state of the first; a repeated state goes on.
  ``stopped`` ends it.
- A run that was killed leaves its last row open. The next run of the stream ends that row at the
  last message the killed run stored, since nothing is known of the time after it.
- Backfilled time replaces gaps, never captured time, nor a row that has not ended.

Every function here is a pure function of its arguments; :mod:`ibticks.coverage._rebuild` reads the
files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ibticks._types import Interval
from ibticks.coverage._row_changes import backfilled_rows, deleted_rows, deleted_rows_before
from ibticks.coverage._states import STATE_OF_STATUS, CoverageState, StreamStatus
from ibticks.errors import InputError
from ibticks.index import CoverageRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


__all__ = ["Ledger", "StatusChange", "apply_changes", "effective_deletions", "ledger_rows"]

_MIN_NS: Final = -(2**63)


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A status message of a capture, a backfill or a deletion.

    Attributes
    ----------
    time_ns : int
        Time of the change, UTC nanoseconds: the timestamp of the message, or the ``at_ns`` of a
        ``backfilled``, ``deleted`` or ``undeleted`` message.
    status : StreamStatus
    run : str
        Id of the run that wrote the message.
    stream_id : str
        Stream id of every message of this run.
    reason : str
    code : int or None
        IB's code.
    interval : Interval or None
        Time of the ticks that were ``backfilled``, ``deleted`` or ``undeleted``.
    ticks : int
        Number of these ticks.
    deleted_at_ns : int or None
        Of ``undeleted``: the time of the deletion it undoes, UTC nanoseconds.
    """

    time_ns: int
    status: StreamStatus
    run: str
    stream_id: str = ""
    reason: str = ""
    code: int | None = None
    interval: Interval | None = None
    ticks: int = 0
    deleted_at_ns: int | None = None

    @property
    def is_of_state(self) -> bool:
        """Return whether the state of the capture changes, not the ticks of an earlier time."""
        return self.interval is None

    @classmethod
    def parse(cls, time_ns: int, message: Mapping[str, Any]) -> StatusChange | None:
        """Return the change of a v2 message, or None if it is no status message.

        Examples
        --------
        >>> message = {
        ...     "type": "info",
        ...     "stream_id": "265598_last_7",
        ...     "data": {"status": "disconnected"},
        ...     "metadata": {"run": "7", "reason": "connection lost", "code": 1100},
        ... }
        >>> change = StatusChange.parse(1, message)
        >>> change.status, change.run, change.code
        (<StreamStatus.DISCONNECTED: 'disconnected'>, '7', 1100)
        """
        metadata = message.get("metadata", {})
        run = metadata.get("run")
        status = message.get("data", {}).get("status")
        if message.get("type") != "info" or not isinstance(run, str) or status not in _STATUSES:
            return None
        interval = deleted_at_ns = None
        ticks = 0
        if status in (StreamStatus.BACKFILLED, StreamStatus.DELETED, StreamStatus.UNDELETED):
            # Its message is stored among the ticks of its interval.
            time_ns = time_ns if (at_ns := _integer(metadata.get("at_ns"))) is None else at_ns
            start, end = (_integer(metadata.get(name)) for name in ("start_ns", "end_ns"))
            if start is None or end is None or start >= end:
                return None
            interval = Interval(start, end)
            ticks = _integer(metadata.get("ticks")) or 0
            if status == StreamStatus.UNDELETED:
                deleted_at_ns = _integer(metadata.get("deleted_at_ns"))
                if deleted_at_ns is None:
                    return None
        return cls(
            time_ns=time_ns,
            status=StreamStatus(status),
            run=run,
            stream_id=message.get("stream_id", ""),
            reason=str(metadata.get("reason", "")),
            code=_integer(metadata.get("code")),
            interval=interval,
            ticks=ticks,
            deleted_at_ns=deleted_at_ns,
        )


_STATUSES: Final = frozenset(str(status) for status in StreamStatus)


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class Ledger:
    """Coverage of one stream while its capture runs.

    Its methods return rows to put into the index at once: rows that begin and rows that end, each
    replacing the row of the same start (:meth:`ibticks.index.Index.put_coverage`). The caller
    writes the status message first, with the time of :meth:`next_time_ns`, and does both under one
    lock, so that messages and rows agree.

    Parameters
    ----------
    contract_id : int
    tick_type : str
    run : str
        Id of the run of the capture.
    row : CoverageRecord, optional
        The row that has not ended, if there is one.

    Attributes
    ----------
    latest_ns : int
        Time of the latest change or tick; the next change comes after it.

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
        self.latest_ns = _MIN_NS if row is None else row.start_ns

    @property
    def state(self) -> CoverageState | None:
        """Current state of the stream; None while it is not captured."""
        return None if self._row is None else CoverageState(self._row.state)

    def next_time_ns(self, time_ns: int) -> int:
        """Return ``time_ns`` or, if the clock stepped back, a time just after the latest one."""
        return max(time_ns, self.latest_ns + 1)

    def touch(self, time_ns: int) -> None:
        """Record the time of a stored tick: changes come after it."""
        self.latest_ns = max(self.latest_ns, time_ns)

    def change(
        self, status: StreamStatus, time_ns: int, reason: str = "", code: int | None = None
    ) -> list[CoverageRecord]:
        """Apply a status; returns the row that ends and the row that begins, if any.

        Raises
        ------
        InputError
            For ``backfilled``, ``deleted`` and ``undeleted``, which change no state.
        """
        if status not in STATE_OF_STATUS:
            raise InputError(
                f"status {status} changes rows of an interval, not the state of a stream: use "
                "backfilled_rows(), deleted_rows() or undeleted_rows()"
            )
        time_ns = self.latest_ns = self.next_time_ns(time_ns)
        state = STATE_OF_STATUS[status]
        if state == self.state:
            return []
        rows = [] if self._row is None else [replace(self._row, end_ns=time_ns)]
        self._row = None
        if state is not None:
            self._row = self._open_row(time_ns, state, _format_reason(reason, code))
            rows.append(self._row)
        return rows

    def mark_deleted(self, before_ns: int) -> list[CoverageRecord]:
        """Return the changed parts of the open row where the ticks before a time are deleted.

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
        ended = replace(self._row, end_ns=before_ns)
        self._row = replace(self._row, start_ns=before_ns)
        return [*deleted_rows_before([ended], before_ns), self._row]

    def take_over(self, run: str, last_ns: int | None) -> list[CoverageRecord]:
        """End the row that an earlier run left open; later changes are those of another run.

        Parameters
        ----------
        run : str
            Id of the other run.
        last_ns : int or None
            Time of the last message that the earlier run stored, if any is left.
        """
        self.run = run
        if self._row is None:
            return []
        # The stream has at least the status message that began the row.
        last_ns = self._row.start_ns if last_ns is None else max(last_ns, self._row.start_ns)
        row = replace(self._row, end_ns=last_ns + 1)
        self._row = None
        self.touch(last_ns)
        return [row]

    def _open_row(self, start_ns: int, state: CoverageState, reason: str) -> CoverageRecord:
        return CoverageRecord(self.contract_id, self.tick_type, start_ns, None, state.value, reason)


def _format_reason(reason: str, code: int | None) -> str:
    return ": ".join(part for part in ("" if code is None else str(code), reason) if part)


def ledger_rows(
    contract_id: int,
    tick_type: str,
    changes: Iterable[StatusChange],
    last_ns: Callable[[StatusChange], int | None],
    *,
    running: bool = False,
) -> list[CoverageRecord]:
    """Compute the rows of a stream from its status messages, by start.

    Parameters
    ----------
    contract_id : int
    tick_type : str
    changes : iterable of StatusChange
        In any order, with possible duplicates.
    last_ns : callable
        Takes the last change of a run that was killed, and returns the time of the last message of
        that run in the stream.
    running : bool
        Whether the last run still runs.

    Returns
    -------
    list of CoverageRecord
        The last one has no end while its run goes on.

    Examples
    --------
    >>> changes = [
    ...     StatusChange(1_000, StreamStatus.SUBSCRIBED, run="7"),
    ...     StatusChange(9_000, StreamStatus.SUBSCRIBED, run="8"),
    ... ]
    >>> rows = ledger_rows(265598, "last", changes, lambda change: 4_000, running=True)
    >>> [(row.start_ns, row.end_ns, row.state) for row in rows]
    [(1000, 4001, 'captured'), (9000, None, 'captured')]
    """
    ordered = sorted(dict.fromkeys(changes), key=lambda change: change.time_ns)
    ledger = Ledger(contract_id, tick_type, "")
    of_state = [change for change in ordered if change.is_of_state]
    rows = apply_changes(ledger, of_state, last_ns, running=running)
    # A deletion has a message in each hour file; all of them are applied at the time of the first.
    deletions: dict[tuple[int, str], list[Interval]] = {}
    for change in effective_deletions(ordered):
        if change.interval is not None:
            deletions.setdefault((change.time_ns, change.run), []).append(change.interval)
    for change in ordered:
        if deleted := deletions.pop((change.time_ns, change.run), None):
            changed = deleted_rows(contract_id, tick_type, deleted, rows.values())
            rows.update({row.start_ns: row for row in changed})
        if change.interval is not None and change.status == StreamStatus.BACKFILLED:
            known = _rows_at(rows, change.time_ns)
            changed = backfilled_rows(contract_id, tick_type, *change.interval, change.ticks, known)
            rows.update({row.start_ns: row for row in changed})
    return [rows[start] for start in sorted(rows)]


def effective_deletions(changes: Iterable[StatusChange]) -> list[StatusChange]:
    """Return the deletions among some changes that were not undone.

    Examples
    --------
    >>> first = StatusChange(50, StreamStatus.DELETED, "a", interval=Interval(10, 20), ticks=3)
    >>> second = StatusChange(60, StreamStatus.DELETED, "b", interval=Interval(10, 30), ticks=2)
    >>> undone = replace(first, time_ns=70, status=StreamStatus.UNDELETED, deleted_at_ns=50)
    >>> [change.run for change in effective_deletions([first, second, undone])]
    ['b']
    """
    changes = list(changes)
    undone = {
        (change.run, change.deleted_at_ns, change.interval, change.ticks)
        for change in changes
        if change.status == StreamStatus.UNDELETED
    }
    return [
        change
        for change in changes
        if change.status == StreamStatus.DELETED
        and (change.run, change.time_ns, change.interval, change.ticks) not in undone
    ]


def apply_changes(
    ledger: Ledger,
    changes: Iterable[StatusChange],
    last_ns: Callable[[StatusChange], int | None],
    *,
    before: StatusChange | None = None,
    running: bool = False,
) -> dict[int, CoverageRecord]:
    """Apply status changes to a ledger, and return the rows that change by their start.

    Parameters
    ----------
    ledger : Ledger
    changes : iterable of StatusChange
        Changes of state, in order.
    last_ns
        See :func:`ledger_rows`.
    before : StatusChange, optional
        The change before these.
    running
        See :func:`ledger_rows`.
    """
    rows: dict[int, CoverageRecord] = {}

    def take_over(run: str) -> None:
        if ledger.state is not None:
            ended = ledger.take_over(run, None if before is None else last_ns(before))
            rows.update({row.start_ns: row for row in ended})

    for change in changes:
        if before is not None and change.run != before.run:
            take_over(change.run)
        changed = ledger.change(change.status, change.time_ns, change.reason, change.code)
        rows.update({row.start_ns: row for row in changed})
        before = change
    if not running:
        take_over("")
    return rows


def _rows_at(rows: Mapping[int, CoverageRecord], at_ns: int) -> list[CoverageRecord]:
    """Return the rows as they were at some time: the row of that time had no end yet."""
    return [
        replace(row, end_ns=None)
        if row.end_ns is not None and row.start_ns <= at_ns < row.end_ns
        else row
        for row in rows.values()
    ]
