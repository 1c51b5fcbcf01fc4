"""Filling gaps from IB's history.

What was not captured can be asked of IB afterwards. It is not the same: times are whole seconds,
and history may leave out or correct what was sent live. So backfilled ticks lie in files of their
own (``{HH}-backfill_ticks.pb``), carry the metadata ``source: backfill`` and no sequence number,
and come with a selection only where they are asked for. IB has one kind of past trades: ``last``
and ``all_last`` are filled with the same ones (``SHOWN_AS``).

Each tick is stored once, whatever happens. History is read in whole seconds, and of each second is
stored what the store does not hold of it, captured or backfilled; a note in the stream tells which
range is done. A backfill that was killed begins again at its last note, and finds what it wrote
after that in the store; what it left open is sealed, whether there are gaps left or not. Gaps that
last still are left alone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from ibticks.config import NANOSECONDS, TIME_MAX, TIME_MIN
from ibticks.coverage import end_abandoned_intervals
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
from ibticks.history._plan import plan, whole_seconds
from ibticks.history._result import BackfillResult, Filled, Remaining
from ibticks.storage import seal_files
from ibticks.tws import gateway_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta, tzinfo

    from ibticks.calendar import Market, TimeLike
    from ibticks.coverage import CoverageInterval
    from ibticks.history._fill import StreamFiller
    from ibticks.history._historical_tick import PastTick
    from ibticks.history._history_client import History
    from ibticks.history._pacing import Pacing
    from ibticks.storage import Sealer
    from ibticks.store import Store

__all__ = ["BACKFILL_CLIENT", "BackfillResult", "Remaining", "backfill", "fill_gaps"]

_log = logging.getLogger(__name__)

BACKFILL_CLIENT: Final = 11
"""Client id of the connection that asks for history, so that a capture goes on beside it."""

MOST_TICKS: Final = 1000
"""IB gives no more at a time, but for those that complete a second."""

SETTLE_SECONDS: Final = 5
"""What is younger is left for later: live ticks of it may still be on their way."""

_BEAT: Final = 0.5


def backfill(
    store: Store,
    contracts: int | str | Sequence[int | str] | None = None,
    tick_types: str | Sequence[str] | None = None,
    start: TimeLike | None = None,
    end: TimeLike | None = None,
    *,
    tz: str | tzinfo | None = None,
    to_now: bool = True,
    market: Market | str | None = None,
    session: str = "regular",
    min_duration: str | timedelta | None = None,
    host: str | None = None,
    port: int | None = None,
    client_id: int = BACKFILL_CLIENT,
    pacing: Pacing | None = None,
    page_ticks: int = MOST_TICKS,
    connect_timeout: float = 15.0,
    answer_timeout: float = 60.0,
    dry_run: bool = False,
    on_filled: Callable[[Filled], None] | None = None,
    stopping: threading.Event | None = None,
) -> BackfillResult:
    """Fill the gaps that coverage reports with ticks of IB's history.

    A capture may run meanwhile. Broken off or killed, it can be run again: no tick is stored twice.

    Parameters
    ----------
    store : Store
    contracts : int, str or a sequence of them, optional
        Contract ids or symbols; all that are stored by default.
    tick_types : str or sequence of str, optional
        All that are stored by default.
    start, end : optional
        Anything :func:`ibticks.calendar.to_ns` reads; from ``start`` without ``end``, to now.
        Without both, from the first to the last that is known of each stream. Taken in whole
        seconds, since history knows no more: ticks are stored of those in ``[start, end)`` and no
        others.
    tz : str or tzinfo, optional
        Zone of times that do not say theirs.
    to_now : bool
        Whether ``start`` without ``end`` reaches to now, though a stream may no longer be captured;
        else to the last that is known of it.
    market, session : optional
        Only the time in which this market was open.
    min_duration : str or timedelta, optional
        Only gaps at least that long, such as ``"1m"``.
    host, port : optional
        Of TWS or IB Gateway; by default what ``IBTICKS_GATEWAY`` says, or ``127.0.0.1:4002``.
    client_id : int
        Not that of a capture.
    pacing : Pacing, optional
        How often IB is asked.
    page_ticks : int
        Ticks asked for at a time, a thousand at most.
    connect_timeout, answer_timeout : float
        Seconds.
    dry_run : bool
        Only say what there is to fill; nobody is asked.
    on_filled : callable, optional
        Told of each part once it is stored.
    stopping : threading.Event, optional
        Set it to break off; what was filled until then stays.

    Returns
    -------
    BackfillResult
        Also what remained, and why: refused by IB, too recent, or the connection was lost.

    Raises
    ------
    ConnectionFailedError
        If IB cannot be reached at all.
    IndexUnavailableError
        If PostgreSQL is away: the ledger is not known for sure.
    MissingExtraError
        If ibapi is not installed.
    UnknownContractError, AmbiguousContractError, UnknownTickTypeError, UnknownMarketError
        Naming what there is.
    TimeRangeError
        If start is not before end.
    InputError
        If IB does not give that many ticks at a time.

    Examples
    --------
    ::

        result = ibt.backfill(store, "AAPL", start="2025-01-10T14:30Z", dry_run=True)
        print(result)
    """
    if not 1 <= page_ticks <= MOST_TICKS:
        raise InputError(f"page_ticks={page_ticks!r}: IB gives 1 to {MOST_TICKS} at a time")
    end_abandoned_intervals(store.root, store.index)
    within = whole_seconds(start, end, tz, to_now=to_now)
    days = store.daily_stats(contracts, tick_types)
    streams = sorted({(day.contract_id, day.tick_type) for day in days})
    if not dry_run:
        from ibticks.history._fill import seal_left

        seal_left(store.root, store.index, streams)
    asked = store.index.partial_answers
    gaps = plan(store, streams, within, market, session, min_duration)
    if not dry_run:
        _be_sure(store, asked)
    if dry_run or not gaps:
        return BackfillResult(tuple(gaps), dry_run=dry_run)
    stopping = stopping or threading.Event()
    there = gateway_address()
    with connect(
        host or there[0],
        port or there[1],
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


def connect(host: str, port: int, client_id: int, **how: Any) -> History:
    """A connection for past ticks; see ``History``.

    Raises
    ------
    MissingExtraError
        If ibapi is not installed.
    ConnectionFailedError
        If it cannot be made.
    """
    try:
        from ibticks.history._history_client import History
    except ImportError as error:
        if error.name is None or not error.name.startswith("ibapi"):
            raise
        raise MissingExtraError(
            "a backfill needs the official client: pip install 'ibticks[capture]'"
        ) from error
    return History(host, port, client_id, **how)


def fill_gaps(
    store: Store,
    gaps: Sequence[CoverageInterval],
    history: History,
    *,
    within: tuple[int, int] = (TIME_MIN, TIME_MAX),
    page_ticks: int = MOST_TICKS,
    sealer: Sealer = seal_files,
    on_filled: Callable[[Filled], None] | None = None,
    stopping: threading.Event | None = None,
) -> BackfillResult:
    """Fill some gaps, over a connection that is there.

    Parameters
    ----------
    store : Store
    gaps : sequence of Stretch
        By stream and time; all of them over.
    history : History
    within : tuple of (int, int)
        UTC nanoseconds, whole seconds: no tick outside of it is stored.
    page_ticks, on_filled, stopping
        As for :func:`backfill`.
    sealer : callable
        Recovers and seals files.

    Returns
    -------
    BackfillResult
    """
    work = _Work(store, history, within, stopping or threading.Event(), on_filled)
    work.page_ticks, work.sealer = page_ticks, sealer
    for (contract_id, tick_type), some in groupby(gaps, lambda g: (g.contract_id, g.tick_type)):
        work.stream(contract_id, tick_type, list(some))
    if work.filled:
        store.note_change()
    return BackfillResult(tuple(gaps), tuple(work.filled), tuple(work.remaining), history.requests)


class _Work:
    """Fills stream after stream; of one that cannot be, the others know nothing."""

    page_ticks: int
    sealer: Sealer

    def __init__(
        self,
        store: Store,
        history: History,
        within: tuple[int, int],
        stopping: threading.Event,
        on_filled: Callable[[Filled], None] | None,
    ) -> None:
        self._store = store
        self._history = history
        self._within = within
        self._stopping = stopping
        self._on_filled = on_filled
        self._run = f"backfill-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
        self._exchanges = {each.contract_id: each.exchange for each in store.index.contracts()}
        self._lost = ""  # why nothing more can be asked
        self.filled: list[Filled] = []
        self.remaining: list[Remaining] = []

    def stream(self, contract_id: int, tick_type: str, gaps: list[CoverageInterval]) -> None:
        """Fill the gaps of one stream, as far as that goes."""
        from ibticks.history._fill import StreamFiller

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
                    asked = self._store.index.partial_answers
                    # What a killed one noted, and could not tell the index, is filled.
                    gaps[:] = [
                        replace(gap, start_ns=start_ns, end_ns=end_ns)
                        for gap in gaps
                        for start_ns, end_ns in filler.missing_intervals(gap.start_ns, gap.end_ns)
                    ]
                    _be_sure(self._store, asked)
                    while gaps:
                        self._gap(filler, gaps)
        except ConnectionFailedError as error:
            refusal = self._lost = str(error)
        except (CaptureError, StorageError, FormatError, TickIndexError) as error:
            refusal = str(error)
        if gaps:
            _log.warning("%d %s is not filled: %s", contract_id, tick_type, refusal)
        self.remaining += [Remaining(gap, refusal) for gap in gaps]

    def _gap(self, filler: StreamFiller, gaps: list[CoverageInterval]) -> None:
        """Fill the first gap; it leaves the list, or what is left of it stays."""
        gap = gaps[0]
        asked = self._store.index.partial_answers
        first, last = filler.seconds_of(gap.start_ns, gap.end_ns)
        _be_sure(self._store, asked)
        settled = self._settled(last)
        if gap.end_ns > settled * NANOSECONDS:
            cut = max(settled * NANOSECONDS, gap.start_ns)
            self.remaining.append(Remaining(replace(gap, start_ns=cut), "too recent"))
            gap = gaps[0] = replace(gap, end_ns=cut)
        first = max(first, self._within[0] // NANOSECONDS)
        last = min(last, self._within[1] // NANOSECONDS, settled)
        if gap.start_ns < gap.end_ns:
            for part in filler.fill(gap.start_ns, gap.end_ns, first, last):
                gaps[0] = replace(gap, start_ns=part.end_ns)
                self._take(part)
        del gaps[0]

    def _take(self, part: Filled) -> None:
        before = self.filled[-1] if self.filled else None
        if before is not None and before.followed_by(part):
            self.filled[-1] = replace(before, end_ns=part.end_ns, ticks=before.ticks + part.ticks)
        else:
            self.filled.append(part)
        if self._on_filled is not None:
            self._on_filled(part)

    def _settled(self, last: int) -> int:
        """Up to which second all live ticks have come; one that is near is waited for."""
        while True:
            settled = int(time.time()) - SETTLE_SECONDS
            if last <= settled or last > settled + 2 * SETTLE_SECONDS:
                return settled
            if self._stopping.wait(_BEAT):
                return settled

    def _page(self, contract_id: int, tick_type: str, start: int, most: int) -> list[PastTick]:
        exchange = self._exchanges.get(contract_id)
        if not exchange:
            exchange = self._exchanges[contract_id] = self._history.exchange(contract_id)
        return self._history.page(contract_id, exchange, tick_type, start, most)


def _be_sure(store: Store, partial_answers: int) -> None:
    """See that the index itself has answered since it had given so many partial answers.

    The catalogue may be of old: by it, ticks at the edges of a gap would be left out for ever.
    """
    if store.index.partial_answers != partial_answers:
        raise IndexUnavailableError(
            "PostgreSQL is away, and what is missing is not known for sure: start it, and fill "
            "the gaps then"
        )
