"""Backfill: gaps of captures filled with ticks of IB's history, once or in the background."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final

from ibticks._types import Interval, StreamKey
from ibticks.config import NANOSECONDS, TIME_MAX, TIME_MIN
from ibticks.coverage import CoverageInterval, CoverageState, end_abandoned_intervals
from ibticks.errors import (
    CaptureError,
    ConnectionFailedError,
    FormatError,
    IndexUnavailableError,
    InputError,
    MissingExtraError,
    StorageError,
    TickIndexError,
)
from ibticks.history._plan import (
    BackfilledInterval,
    BackfillResult,
    Pace,
    Pacing,
    RemainingGap,
    plan_backfill,
    whole_seconds,
)
from ibticks.storage import seal_files
from ibticks.tws import gateway_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta, tzinfo
    from typing import Unpack

    from ibticks._types import SessionTypeLike, TickTypes
    from ibticks.calendar import Market, TimeLike
    from ibticks.capture import CaptureSettings
    from ibticks.history._client import HistoryClient, HistoryOptions
    from ibticks.history._stream_filler import StreamFiller
    from ibticks.history._ticks import HistoricalTick
    from ibticks.index import CoverageRecord
    from ibticks.storage import Sealer
    from ibticks.store import Store

__all__ = [
    "BACKFILL_CLIENT_ID",
    "BackfillResult",
    "GapFiller",
    "RemainingGap",
    "backfill",
    "fill_gaps",
]

_ALL_TIME: Final = Interval(TIME_MIN, TIME_MAX)
_COVERAGE_POLL_SECONDS: Final = 5.0
_SETTLE_SECONDS: Final = 15.0  # mostly enough for the first live tick after a gap
_MIN_BACKOFF_SECONDS: Final = 30.0
_MAX_BACKOFF_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 30.0
_GAPS: Final = (CoverageState.QUIET, CoverageState.DISCONNECTED, CoverageState.NOT_PERMITTED)

_log = logging.getLogger(__name__)

BACKFILL_CLIENT_ID: Final = 11
"""Client id of the connection for history, beside that of a capture."""

MAX_PAGE_TICKS: Final = 1000
"""Maximum number of ticks of a page, except for those that complete its last second."""

SETTLE_SECONDS: Final = 5
"""Later seconds are not filled yet: live ticks may still arrive."""

_POLL_SECONDS: Final = 0.5


def backfill(
    store: Store,
    contracts: int | str | Sequence[int | str] | None = None,
    tick_types: TickTypes | None = None,
    start: TimeLike | None = None,
    end: TimeLike | None = None,
    *,
    tz: str | tzinfo | None = None,
    to_now: bool = True,
    market: Market | str | None = None,
    session: SessionTypeLike = "regular",
    min_duration: str | timedelta | None = None,
    host: str | None = None,
    port: int | None = None,
    client_id: int = BACKFILL_CLIENT_ID,
    pacing: Pacing | None = None,
    page_ticks: int = MAX_PAGE_TICKS,
    connect_timeout: float = 15.0,
    answer_timeout: float = 60.0,
    dry_run: bool = False,
    on_filled: Callable[[BackfilledInterval], None] | None = None,
    stopping: threading.Event | None = None,
) -> BackfillResult:
    """Fill the gaps that coverage reports with ticks of IB's history.

    A capture may run meanwhile. An interrupted backfill can be repeated: no tick is stored twice.

    Parameters
    ----------
    store : Store
    contracts : int, str or a sequence of them, optional
        Contract ids or symbols; all that are stored by default.
    tick_types : str or sequence of str, optional
        All that are stored by default.
    start, end : optional
        Anything :func:`ibticks.calendar.to_ns` reads; from ``start`` without ``end``, to now.
        Without both, from the first to the last known time of each stream. The range is extended to
        whole seconds, the resolution of history.
    tz : str or tzinfo, optional
        Zone of naive times.
    to_now : bool
        Whether ``start`` without ``end`` reaches to now, also for streams that are no longer
        captured; otherwise to the last known time of each stream.
    market, session : optional
        Market and session type; only gaps while the market was open.
    min_duration : str or timedelta, optional
        Only gaps at least that long, such as ``"1m"``.
    host, port : optional
        Address of TWS or IB Gateway; by default that of ``IBTICKS_GATEWAY``, or
        ``127.0.0.1:4002``.
    client_id : int
        A client id that no capture uses.
    pacing : Pacing, optional
        Limits for requests.
    page_ticks : int
        Ticks to request at a time, a thousand at most.
    connect_timeout, answer_timeout : float
        Seconds.
    dry_run : bool
        Whether to plan only, without a connection.
    on_filled : callable, optional
        Called with each interval once it is stored.
    stopping : threading.Event, optional
        Set it to stop; filled intervals stay.

    Returns
    -------
    BackfillResult
        With the gaps that remain and their reasons: refused by IB, too recent, or the connection
        was lost.

    Raises
    ------
    ConnectionFailedError
        If IB cannot be reached at all.
    IndexUnavailableError
        If PostgreSQL is away, since the catalogue may lack rows of the ledger.
    MissingExtraError
        If ibapi is not installed.
    UnknownContractError, AmbiguousContractError, UnknownTickTypeError, UnknownMarketError
        Listing the valid values.
    TimeRangeError
        If start is not before end.
    InputError
        If ``page_ticks`` is out of range.

    Examples
    --------
    ::

        result = ibt.backfill(store, "AAPL", start="2025-01-10T14:30Z", dry_run=True)
        print(result)
    """
    if not 1 <= page_ticks <= MAX_PAGE_TICKS:
        raise InputError(f"page_ticks={page_ticks!r}: IB gives 1 to {MAX_PAGE_TICKS} at a time")
    end_abandoned_intervals(store.root, store.index)
    within = whole_seconds(start, end, tz, to_now=to_now)
    days = store.daily_stats(contracts, tick_types)
    streams = sorted({StreamKey(day.contract_id, day.tick_type) for day in days})
    if not dry_run:
        from ibticks.history._stream_filler import seal_abandoned

        seal_abandoned(store.root, store.index, streams)
    partial_answers = store.index.partial_answers
    gaps = plan_backfill(store, streams, within, market, session, min_duration)
    if not dry_run:
        _check_index(store, partial_answers)
    if dry_run or not gaps:
        return BackfillResult(tuple(gaps), dry_run=dry_run)
    stopping = stopping or threading.Event()
    address = gateway_address()
    with connect(
        host or address[0],
        port or address[1],
        client_id,
        pacing=pacing,
        connect_timeout=connect_timeout,
        answer_timeout=answer_timeout,
        stopping=stopping,
    ) as history:
        return fill_gaps(
            store,
            gaps,
            history,
            within=within,
            page_ticks=page_ticks,
            on_filled=on_filled,
            stopping=stopping,
        )


def connect(
    host: str, port: int, client_id: int, **options: Unpack[HistoryOptions]
) -> HistoryClient:
    """Open a connection for past ticks; see :class:`HistoryClient`.

    Raises
    ------
    MissingExtraError
        If ibapi is not installed.
    ConnectionFailedError
        If it fails.
    """
    try:
        from ibticks.history._client import HistoryClient
    except ImportError as error:
        if error.name is None or not error.name.startswith("ibapi"):
            raise
        raise MissingExtraError(
            "a backfill needs the official client: pip install 'ibticks[capture]'"
        ) from error
    return HistoryClient(host, port, client_id, **options)


def fill_gaps(
    store: Store,
    gaps: Sequence[CoverageInterval],
    history: HistoryClient,
    *,
    within: Interval = _ALL_TIME,
    page_ticks: int = MAX_PAGE_TICKS,
    sealer: Sealer = seal_files,
    on_filled: Callable[[BackfilledInterval], None] | None = None,
    stopping: threading.Event | None = None,
) -> BackfillResult:
    """Fill some gaps over an open connection.

    Parameters
    ----------
    store : Store
    gaps : sequence of Stretch
        By stream and time; all have ended.
    history : History
    within : Interval
        Whole seconds: only ticks within are stored.
    page_ticks
        See :func:`backfill`.
    sealer : callable
        Recovers and seals files.
    on_filled, stopping
        See :func:`backfill`.

    Returns
    -------
    BackfillResult
    """
    job = _BackfillJob(store, history, within, stopping or threading.Event(), on_filled)
    job.page_ticks, job.sealer = page_ticks, sealer
    for (contract_id, tick_type), group in groupby(gaps, lambda gap: gap.stream):
        job.fill_stream(contract_id, tick_type, list(group))
    if job.filled:
        store.note_change()
    return BackfillResult(tuple(gaps), tuple(job.filled), tuple(job.remaining), history.requests)


class _BackfillJob:
    """Fill stream after stream; an error of one stream does not affect the others."""

    page_ticks: int
    sealer: Sealer

    def __init__(
        self,
        store: Store,
        history: HistoryClient,
        within: Interval,
        stopping: threading.Event,
        on_filled: Callable[[BackfilledInterval], None] | None,
    ) -> None:
        self._store = store
        self._history = history
        self._within = within
        self._stopping = stopping
        self._on_filled = on_filled
        self._run = f"backfill-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
        self._exchanges = {
            record.contract_id: record.exchange for record in store.index.contracts()
        }
        self._lost = ""  # error of the lost connection
        self.filled: list[BackfilledInterval] = []
        self.remaining: list[RemainingGap] = []

    def fill_stream(self, contract_id: int, tick_type: str, gaps: list[CoverageInterval]) -> None:
        """Fill the gaps of one stream; gaps that cannot be filled remain."""
        from ibticks.history._stream_filler import StreamFiller

        refusal = self._lost
        try:
            if not refusal:
                with StreamFiller(
                    self._store.root,
                    self._store.index,
                    contract_id,
                    tick_type,
                    partial(self._page, contract_id, tick_type),
                    run=self._run,
                    page_ticks=self.page_ticks,
                    sealer=self.sealer,
                ) as filler:
                    partial_answers = self._store.index.partial_answers
                    # Messages of a killed backfill may cover what the index has as a gap.
                    gaps[:] = [
                        replace(gap, start_ns=start_ns, end_ns=end_ns)
                        for gap in gaps
                        for start_ns, end_ns in filler.missing_intervals(gap.start_ns, gap.end_ns)
                    ]
                    _check_index(self._store, partial_answers)
                    while gaps:
                        self._fill_first(filler, gaps)
        except ConnectionFailedError as error:
            refusal = self._lost = str(error)
        except (CaptureError, StorageError, FormatError, TickIndexError) as error:
            refusal = str(error)
        if gaps:
            _log.warning("%d %s is not filled: %s", contract_id, tick_type, refusal)
        self.remaining += [RemainingGap(gap, refusal) for gap in gaps]

    def _fill_first(self, filler: StreamFiller, gaps: list[CoverageInterval]) -> None:
        """Fill the first gap, and remove it from the list as far as it is filled."""
        gap = gaps[0]
        partial_answers = self._store.index.partial_answers
        first, last = filler.seconds_of(gap.start_ns, gap.end_ns)
        _check_index(self._store, partial_answers)
        settled = self._settled(last)
        if gap.end_ns > settled * NANOSECONDS:
            cut = max(settled * NANOSECONDS, gap.start_ns)
            self.remaining.append(RemainingGap(replace(gap, start_ns=cut), "too recent"))
            gap = gaps[0] = replace(gap, end_ns=cut)
        first = max(first, self._within[0] // NANOSECONDS)
        last = min(last, self._within[1] // NANOSECONDS, settled)
        if gap.start_ns < gap.end_ns:
            for interval in filler.fill(gap.start_ns, gap.end_ns, first, last):
                gaps[0] = replace(gap, start_ns=interval.end_ns)
                self._add(interval)
        del gaps[0]

    def _add(self, interval: BackfilledInterval) -> None:
        last = self.filled[-1] if self.filled else None
        if last is not None and last.is_followed_by(interval):
            ticks = last.ticks + interval.ticks
            self.filled[-1] = replace(last, end_ns=interval.end_ns, ticks=ticks)
        else:
            self.filled.append(interval)
        if self._on_filled is not None:
            self._on_filled(interval)

    def _settled(self, last: int) -> int:
        """Return the second up to which all live ticks have arrived; waits for a near one."""
        while True:
            settled = int(time.time()) - SETTLE_SECONDS
            if last <= settled or last > settled + 2 * SETTLE_SECONDS:
                return settled
            if self._stopping.wait(_POLL_SECONDS):
                return settled

    def _page(
        self, contract_id: int, tick_type: str, start: int, most: int
    ) -> list[HistoricalTick]:
        exchange = self._exchanges.get(contract_id)
        if not exchange:
            exchange = self._exchanges[contract_id] = self._history.exchange(contract_id)
        return self._history.page(contract_id, exchange, tick_type, start, most)


def _check_index(store: Store, partial_answers: int) -> None:
    """Raise an error if the index has given partial answers meanwhile.

    The catalogue may be out of date: ticks at the edges of a gap would then be left out for good.
    """
    if store.index.partial_answers != partial_answers:
        raise IndexUnavailableError(
            "PostgreSQL is away, so the gaps are not certain: start it, then fill the gaps"
        )


class GapFiller:
    """Fill gaps of this run once the stream is captured again, and seal abandoned backfill files.

    Errors are reported and retried with a backoff; they do not affect the capture.

    Parameters
    ----------
    store : Store
    settings : CaptureSettings
        Settings of the capture; the backfill takes the next client id.
    sealer : callable
        Recovers and seals files.
    on_failure : callable
        Called with a place and an exception.

    Attributes
    ----------
    ticks : int
        Number of ticks stored so far.
    """

    def __init__(
        self,
        store: Store,
        settings: CaptureSettings,
        sealer: Sealer,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._store = store
        self._settings = settings
        tracked = [contract for contract in settings.tracked if contract.enabled]
        self._streams = {
            StreamKey(contract.contract_id, tick_type)
            for contract in tracked
            for tick_type in contract.tick_types
        }
        self._sealer = sealer
        self._on_failure = on_failure
        self._pace = Pace(Pacing())
        self._stopping = threading.Event()
        self._began_ns = time.time_ns()
        self._thread = threading.Thread(target=self._run, name="ibticks-backfill", daemon=True)
        self.ticks = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; gaps that are not filled yet remain."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        from ibticks.history._stream_filler import seal_abandoned

        backoff_seconds, is_sealed = 0.0, False
        while not self._stopping.wait(backoff_seconds or _COVERAGE_POLL_SECONDS):
            try:
                if not is_sealed:
                    seal_abandoned(self._store.root, self._store.index, self._streams, self._sealer)
                    is_sealed = True
                self._fill()
            except Exception as error:
                if self._stopping.is_set():
                    return
                _log.warning("gaps are not filled yet: %s", error)
                self._on_failure("backfill", error)
                backoff_seconds = min(
                    2 * backoff_seconds or _MIN_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS
                )
            else:
                backoff_seconds = 0.0

    def _fill(self) -> None:
        gaps = list(self._ended_gaps(time.time_ns() - int(_SETTLE_SECONDS * NANOSECONDS)))
        if not gaps:
            return
        settings = self._settings
        with connect(
            settings.host,
            settings.port,
            settings.client_id + 1,
            pacing=self._pace,
            connect_timeout=settings.connect_timeout,
            stopping=self._stopping,
        ) as history:
            result = fill_gaps(
                self._store, gaps, history, sealer=self._sealer, stopping=self._stopping
            )
        self.ticks += result.ticks
        if result.remaining:
            raise CaptureError(
                "; ".join(
                    f"{remaining.gap.contract_id} {remaining.gap.tick_type} is not filled: "
                    f"{remaining.reason}"
                    for remaining in result.remaining
                )
            )

    def _ended_gaps(self, until_ns: int) -> Iterator[CoverageInterval]:
        """Yield the gaps of this run that ended before ``until_ns``, by stream and time."""
        rows = self._store.index.coverage(
            sorted({contract_id for contract_id, _ in self._streams}),
            sorted({tick_type for _, tick_type in self._streams}),
            self._began_ns,
        )
        for stream, group in groupby(rows, lambda row: (row.contract_id, row.tick_type)):
            if stream in self._streams:
                yield from _recaptured_gaps(list(group), self._began_ns, until_ns)


def _recaptured_gaps(
    rows: list[CoverageRecord], began_ns: int, until_ns: int
) -> Iterator[CoverageInterval]:
    """Yield the gaps of one stream that a captured row follows."""
    gap: CoverageInterval | None = None
    for row in rows:
        if gap is not None and row.state == CoverageState.CAPTURED and row.start_ns == gap.end_ns:
            yield gap
        is_adjacent = gap is not None and gap.end_ns == row.start_ns
        is_over = row.end_ns is not None and row.end_ns <= until_ns
        if row.state not in _GAPS or not is_over or row.start_ns < began_ns:
            gap = None
            continue
        start_ns = gap.start_ns if gap is not None and is_adjacent else row.start_ns
        assert row.end_ns is not None
        gap = CoverageInterval(
            row.contract_id,
            row.tick_type,
            start_ns,
            row.end_ns,
            CoverageState(row.state),
            row.reason,
        )
