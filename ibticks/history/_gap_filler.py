"""Background backfill of the gaps of a running capture: one thread and one connection."""

from __future__ import annotations

import logging
import threading
import time
from itertools import groupby
from typing import TYPE_CHECKING, Final

from ibticks._types import StreamKey
from ibticks.config import NANOSECONDS
from ibticks.coverage import CoverageInterval, CoverageState
from ibticks.errors import CaptureError
from ibticks.history._backfill import connect, fill_gaps
from ibticks.history._requests import Pace, Pacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks.capture import CaptureSettings
    from ibticks.index import CoverageRecord
    from ibticks.storage import Sealer
    from ibticks.store import Store

__all__ = ["GapFiller"]

_log = logging.getLogger(__name__)
_POLL_SECONDS: Final = 5.0
_SETTLE_SECONDS: Final = 15.0  # mostly enough for the first live tick after a gap
_MIN_BACKOFF_SECONDS: Final = 30.0
_MAX_BACKOFF_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 30.0
_GAPS: Final = (CoverageState.QUIET, CoverageState.DISCONNECTED, CoverageState.NOT_PERMITTED)


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
        while not self._stopping.wait(backoff_seconds or _POLL_SECONDS):
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
