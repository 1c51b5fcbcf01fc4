"""Filling the gaps of a capture while it goes on: in a thread, over a connection, of its own."""

from __future__ import annotations

import logging
import threading
import time
from itertools import groupby
from typing import TYPE_CHECKING, Final

from ibticks.config import NANOSECONDS
from ibticks.coverage import CoverageInterval, CoverageState
from ibticks.errors import CaptureError
from ibticks.history._backfill import connect, fill_gaps
from ibticks.history._pacing import Pace, Pacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks.capture import CaptureSettings
    from ibticks.index import CoverageRecord
    from ibticks.storage import Sealer
    from ibticks.store import Store

__all__ = ["GapFiller"]

_log = logging.getLogger(__name__)
_LOOK_SECONDS: Final = 5.0
_RIPE_SECONDS: Final = 15.0  # until a gap's first live tick has come, as far as one can tell
_FIRST_REST: Final = 30.0
_LONGEST_REST: Final = 600.0
_STOP_SECONDS: Final = 30.0
_GAPS: Final = (CoverageState.QUIET, CoverageState.DISCONNECTED, CoverageState.NOT_PERMITTED)


class GapFiller:
    """Fills gaps of this run once the stream is captured again, and seals what a killed one left.

    Whatever goes wrong is told, and tried again later; the capture knows nothing of it.

    Parameters
    ----------
    store : Store
    settings : CaptureSettings
        Of the capture; the client id is the next one.
    sealer : callable
        Recovers and seals files.
    on_failure : callable
        Told where, and what exception.

    Attributes
    ----------
    ticks : int
        Those stored so far.
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
        self._streams = {(each.contract_id, kind) for each in tracked for kind in each.tick_types}
        self._sealer = sealer
        self._on_failure = on_failure
        self._pace = Pace(Pacing())
        self._stopping = threading.Event()
        self._began_ns = time.time_ns()
        self._thread = threading.Thread(target=self._run, name="ibticks-backfill", daemon=True)
        self.ticks = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is filled stays, the rest is for another time."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        from ibticks.history._fill import seal_left

        rest, tidy = 0.0, False
        while not self._stopping.wait(rest or _LOOK_SECONDS):
            try:
                if not tidy:
                    seal_left(self._store.root, self._store.index, self._streams, self._sealer)
                    tidy = True
                self._fill()
            except Exception as error:
                if self._stopping.is_set():
                    return
                _log.warning("gaps are not filled yet: %s", error)
                self._on_failure("backfill", error)
                rest = min(2 * rest or _FIRST_REST, _LONGEST_REST)
            else:
                rest = 0.0

    def _fill(self) -> None:
        gaps = list(self._ripe(time.time_ns() - int(_RIPE_SECONDS * NANOSECONDS)))
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
        for left in result.remaining:
            raise CaptureError(
                f"{left.gap.contract_id} {left.gap.tick_type} is not filled: {left.why}"
            )

    def _ripe(self, until_ns: int) -> Iterator[CoverageInterval]:
        """Gaps of this run that were over before ``until_ns``, by stream and time."""
        rows = self._store.index.coverage(
            sorted({contract_id for contract_id, _ in self._streams}),
            sorted({kind for _, kind in self._streams}),
            self._began_ns,
        )
        for stream, some in groupby(rows, lambda row: (row.contract_id, row.tick_type)):
            if stream in self._streams:
                yield from _over(list(some), self._began_ns, until_ns)


def _over(rows: list[CoverageRecord], began_ns: int, until_ns: int) -> Iterator[CoverageInterval]:
    """The gaps of one stream that end with its being captured again."""
    gap: CoverageInterval | None = None
    for row in rows:
        if gap is not None and row.state == CoverageState.CAPTURED and row.start_ns == gap.end_ns:
            yield gap
        follows = gap is not None and gap.end_ns == row.start_ns
        is_over = row.end_ns is not None and row.end_ns <= until_ns
        if row.state not in _GAPS or not is_over or row.start_ns < began_ns:
            gap = None
            continue
        start_ns = gap.start_ns if gap is not None and follows else row.start_ns
        assert row.end_ns is not None
        gap = CoverageInterval(
            row.contract_id,
            row.tick_type,
            start_ns,
            row.end_ns,
            CoverageState(row.state),
            row.reason,
        )
