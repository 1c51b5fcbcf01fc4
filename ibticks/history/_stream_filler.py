"""Backfill of the gaps of one stream: pages become ticks and ``backfilled`` messages."""

from __future__ import annotations

import logging
import time
from itertools import chain, groupby
from typing import TYPE_CHECKING, Final

from ibticks._types import StreamKey
from ibticks.config import HALF_HOUR_NS, HOUR_NS, NANOSECONDS
from ibticks.coverage import StreamStatus, backfilled_rows, missing_intervals
from ibticks.errors import CaptureError, StorageError, WriterLockedError
from ibticks.format import encode_frame, encode_message, format_timestamp
from ibticks.history._plan import BackfilledInterval, iter_seconds
from ibticks.history._ticks import (
    BACKFILL_METADATA,
    StoredTicks,
    encode_tick,
    read_backfill_changes,
    subtract_stored,
)
from ibticks.storage import FileKey, StreamAppender, floor_hour, seal_files

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from ibticks._types import Interval
    from ibticks.coverage import StatusChange
    from ibticks.history._ticks import HistoricalTick
    from ibticks.index import CoverageRecord, Index
    from ibticks.storage import Sealer

__all__ = ["StreamFiller", "seal_abandoned"]

_log = logging.getLogger(__name__)
_PAGES_PER_NOTE: Final = 10  # a kill costs at most so many pages
_HOUR_SECONDS: Final = HOUR_NS // NANOSECONDS
_HALF_HOUR_SECONDS: Final = HALF_HOUR_NS // NANOSECONDS


def seal_abandoned(
    root: Path,
    index: Index,
    streams: Collection[StreamKey],
    sealer: Sealer = seal_files,
) -> None:
    """Seal the files that killed backfills left open, unless they are being written.

    A stream whose gaps are all filled is opened by no later backfill, so this seals its files.

    Parameters
    ----------
    root : Path
        Folder of the store.
    index : Index
    streams : collection of StreamKey
    sealer : callable
        Recovers and seals files.
    """
    files = index.files(
        sorted({contract_id for contract_id, _ in streams}),
        sorted({tick_type for _, tick_type in streams}),
    )
    unsealed = {
        StreamKey(file.contract_id, file.tick_type)
        for file in files
        if file.backfilled and not file.sealed
    }
    for contract_id, tick_type in sorted(unsealed.intersection(streams)):
        try:
            StreamAppender(
                root, contract_id, tick_type, index, fsync=None, sealer=sealer, backfill=True
            ).close()
        except WriterLockedError as error:
            _log.info("a backfill is running, its files stay open: %s", error)
        except StorageError as error:
            _log.warning("files of a killed backfill are not sealed: %s", error)


class StreamFiller:
    """Fill gaps of one stream under the lock of its backfill; a context manager.

    Parameters
    ----------
    root : Path
        Folder of the store.
    index : Index
    contract_id : int
    tick_type : str
    ask : callable
        Takes a second and a number of ticks; returns the page that begins with the second.
    run : str
        Id of this backfill in its messages.
    page_ticks : int
        Ticks to request at a time.
    sealer : callable
        Recovers and seals files.

    Raises
    ------
    WriterLockedError
        If another process backfills the stream; names it.
    """

    def __init__(
        self,
        root: Path,
        index: Index,
        contract_id: int,
        tick_type: str,
        ask: Callable[[int, int], Sequence[HistoricalTick]],
        *,
        run: str,
        page_ticks: int,
        sealer: Sealer,
    ) -> None:
        self._root = root
        self._index = index
        self._stream: Final = StreamKey(contract_id, tick_type)
        self._ask = ask
        self._run = run
        self._stream_id = f"{contract_id}_{tick_type}_{run}"
        self._page_ticks = page_ticks
        self._rows: dict[int, CoverageRecord] = {}  # ledger rows around the gaps, by start
        self._from_ns = self._end_ns = 0  # part of the gap without a message yet
        self._ticks = 0
        self._hour = 0  # of the last tick
        self._appender = StreamAppender(
            root,
            contract_id,
            tick_type,
            index,
            fsync=None,
            sealer=sealer,
            backfill=True,
        )

    def close(self) -> None:
        """Seal the files and release the lock."""
        self._appender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def missing_intervals(self, start_ns: int, end_ns: int) -> list[Interval]:
        """Return the parts of an interval that are not filled.

        Messages of a backfill that was killed before it put their rows are put into the index.
        """
        changes: list[StatusChange] = []
        for hour in range(floor_hour(start_ns), end_ns, HOUR_NS):
            key = FileKey(*self._stream, hour, "backfill")
            changes += read_backfill_changes(self._root, key, start_ns, end_ns)
        # Under the lock, the rows of the gaps are changed here only.
        known = self._index.coverage([self._stream[0]], [self._stream[1]], start_ns, end_ns)
        self._rows.update({row.start_ns: row for row in known})
        for change in sorted(changes, key=lambda change: change.time_ns):
            if change.interval is not None and change.status == StreamStatus.BACKFILLED:
                self._put_rows(*change.interval, change.ticks)
        return missing_intervals(self._rows.values(), start_ns, end_ns)

    def seconds_of(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Return IB's seconds ``[first, last)`` in which ticks of a gap may lie."""
        return StoredTicks(self._root, self._index, *self._stream).seconds_of(start_ns, end_ns)

    def fill(
        self, start_ns: int, end_ns: int, first: int, last: int
    ) -> Iterator[BackfilledInterval]:
        """Fill a gap, interval by interval.

        Parameters
        ----------
        start_ns, end_ns : int
            The gap, as :meth:`missing_intervals` returned it, half-open, UTC nanoseconds: the range
            noted as filled.
        first, last : int
            The seconds ``[first, last)`` to request.

        Yields
        ------
        Filled
            Once its message and row are written.

        Raises
        ------
        CaptureError
            After the filled part was noted.
        """
        self._from_ns, self._end_ns, self._ticks = start_ns, end_ns, 0
        stored_ticks = StoredTicks(self._root, self._index, *self._stream)
        done, pages = first, 0
        try:
            for until, page in iter_seconds(self._ask, first, last, self._page_ticks):
                stored = chain.from_iterable(
                    map(stored_ticks.at, sorted({tick.time for tick in page}))
                )
                for hour, ticks in groupby(
                    subtract_stored(page, stored), lambda t: t.time // _HOUR_SECONDS
                ):
                    if hour != self._hour:
                        yield from self._note_ticks(hour * _HOUR_SECONDS)
                    self._append(ticks)
                done, pages = until, pages + 1
                if pages % _PAGES_PER_NOTE == 0:
                    yield from self._note_ticks(done)
        except CaptureError:
            yield from self._note(done)
            raise
        yield from self._note(max(done, -(-end_ns // NANOSECONDS)))

    def _append(self, ticks: Iterator[HistoricalTick]) -> None:
        for _, group in groupby(ticks, lambda tick: tick.time // _HALF_HOUR_SECONDS):
            batch = list(group)
            frames = b"".join(encode_tick(tick, *self._stream, self._stream_id) for tick in batch)
            self._appender.append_frames(frames, batch[0].time * NANOSECONDS)
            self._ticks += len(batch)
            self._hour = batch[-1].time // _HOUR_SECONDS

    def _note(self, until: int) -> Iterator[BackfilledInterval]:
        """Write to the stream and to the index that the gap is filled up to a second."""
        yield from self._note_ticks(until)
        yield from self._note_range(min(until * NANOSECONDS, self._end_ns))

    def _note_ticks(self, until: int) -> Iterator[BackfilledInterval]:
        """Note the interval of the new ticks in their hour file, to be deleted with them."""
        if self._ticks:
            end_of_hour = (self._hour + 1) * HOUR_NS
            yield from self._note_range(min(until * NANOSECONDS, self._end_ns, end_of_hour))

    def _note_range(self, end_ns: int) -> Iterator[BackfilledInterval]:
        done = BackfilledInterval(*self._stream, self._from_ns, end_ns, self._ticks)
        if done.start_ns >= end_ns:
            if self._ticks and self._from_ns == self._end_ns:
                # The whole gap was noted in the hour before that of these ticks.
                self._ticks = 0
                yield done
            return
        interval = {"start_ns": done.start_ns, "end_ns": end_ns, "ticks": done.ticks}
        payload = encode_message(
            {
                "type": "info",
                "stream_id": self._stream_id,
                "timestamp": format_timestamp(end_ns - 1),
                "data": {"status": str(StreamStatus.BACKFILLED)},
                "metadata": {
                    "run": self._run,
                    "at_ns": time.time_ns(),
                    **BACKFILL_METADATA,
                    **interval,
                },
            }
        )
        self._appender.append_frames(encode_frame(payload), end_ns - 1)
        self._put_rows(done.start_ns, end_ns, done.ticks)
        self._from_ns, self._ticks = end_ns, 0
        yield done

    def _put_rows(self, start_ns: int, end_ns: int, ticks: int) -> None:
        """Put the rows of a filled interval into the index, unless it has them."""
        rows = backfilled_rows(*self._stream, start_ns, end_ns, ticks, self._rows.values())
        if rows:
            self._rows.update({row.start_ns: row for row in rows})
            self._index.put_coverage(rows)
