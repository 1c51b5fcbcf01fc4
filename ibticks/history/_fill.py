"""Filling one gap of one stream: pages in, ticks and notes out, each tick once."""

from __future__ import annotations

import logging
import time
from itertools import chain, groupby
from typing import TYPE_CHECKING, Final

from ibticks.config import HALF_HOUR_NS, HOUR_NS, NANOSECONDS
from ibticks.coverage import StreamStatus, backfilled_rows, missing_intervals
from ibticks.errors import CaptureError, StorageError, WriterLockedError
from ibticks.format import encode_frame, encode_message, format_timestamp
from ibticks.history._historical_tick import SOURCE, encode, not_among
from ibticks.history._pages import walk
from ibticks.history._result import Filled
from ibticks.history._stored_ticks import Held, notes_of
from ibticks.storage import FileKey, StreamAppender, floor_hour, seal_files

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from ibticks._types import Interval
    from ibticks.coverage import StatusChange
    from ibticks.history._historical_tick import PastTick
    from ibticks.index import CoverageRecord, Index
    from ibticks.storage import Sealer

__all__ = ["StreamFiller", "seal_left"]

_log = logging.getLogger(__name__)
_NOTE_PAGES: Final = 10  # what a kill costs at most, in pages that are asked for again
_HOUR: Final = HOUR_NS // NANOSECONDS
_HALF_HOUR: Final = HALF_HOUR_NS // NANOSECONDS


def seal_left(
    root: Path,
    index: Index,
    streams: Collection[tuple[int, str]],
    sealer: Sealer = seal_files,
) -> None:
    """Seal what backfills that were killed left open; what is being written is left alone.

    Nobody else would: where all of a gap was filled, no backfill writes to that stream again.

    Parameters
    ----------
    root : Path
        The store.
    index : Index
    streams : collection of (int, str)
        Contract ids and tick types.
    sealer : callable
        Recovers and seals files.
    """
    files = index.files(
        sorted({each for each, _ in streams}), sorted({each for _, each in streams})
    )
    found = {
        (file.contract_id, file.tick_type) for file in files if file.backfilled and not file.sealed
    }
    for contract_id, tick_type in sorted(found.intersection(streams)):
        try:
            StreamAppender(
                root, contract_id, tick_type, index, fsync=None, sealer=sealer, backfill=True
            ).close()
        except WriterLockedError as error:
            _log.info("not sealed, since it goes on: %s", error)
        except StorageError as error:
            _log.warning("what a backfill left open is not sealed: %s", error)


class StreamFiller:
    """Fills gaps of one stream, whose backfill it alone writes; a context manager.

    Parameters
    ----------
    root : Path
        The store.
    index : Index
    contract_id : int
    tick_type : str
    ask : callable
        Given a second and a number: the page of about so many ticks that begins there.
    run : str
        Names this backfill in its messages.
    page_ticks : int
        Ticks to ask for at a time.
    sealer : callable
        Recovers and seals files.

    Raises
    ------
    WriterLockedError
        If the stream is being backfilled already; names by whom.
    """

    def __init__(
        self,
        root: Path,
        index: Index,
        contract_id: int,
        tick_type: str,
        ask: Callable[[int, int], Sequence[PastTick]],
        *,
        run: str,
        page_ticks: int,
        sealer: Sealer,
    ) -> None:
        self._root = root
        self._index = index
        self._stream: Final = contract_id, tick_type
        self._ask = ask
        self._run = run
        self._stream_id = f"{contract_id}_{tick_type}_{run}"
        self._page_ticks = page_ticks
        self._rows: dict[int, CoverageRecord] = {}  # of the ledger around the gaps, by start
        self._from_ns = self._end_ns = 0  # of the gap, what is not noted yet
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
        """Seal the files, and let the next one in."""
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
        """What of a range is not filled: by the index, and by notes it has not heard of.

        Those are of a backfill that was killed right after it wrote them.
        """
        found: list[StatusChange] = []
        for hour in range(floor_hour(start_ns), end_ns, HOUR_NS):
            key = FileKey(*self._stream, hour, "backfill")
            found += notes_of(self._root, key, start_ns, end_ns)
        # Nobody else changes it there: from here on the index is told, and not asked.
        known = self._index.coverage([self._stream[0]], [self._stream[1]], start_ns, end_ns)
        self._rows.update({row.start_ns: row for row in known})
        for note in sorted(found, key=lambda change: change.time_ns):
            if note.filled is not None:
                self._tell(*note.filled)
        return missing_intervals(self._rows.values(), start_ns, end_ns)

    def seconds_of(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """IB's seconds ``[first, last)`` in which ticks of a gap may lie."""
        return Held(self._root, self._index, *self._stream).seconds_of(start_ns, end_ns)

    def fill(self, start_ns: int, end_ns: int, first: int, last: int) -> Iterator[Filled]:
        """Fill a gap, part by part.

        Parameters
        ----------
        start_ns, end_ns : int
            The gap, as :meth:`missing_intervals` returned it, half-open, UTC nanoseconds: the range
            noted as filled.
        first, last : int
            The seconds ``[first, last)`` to be asked for.

        Yields
        ------
        Filled
            As soon as it is noted.

        Raises
        ------
        CaptureError
            After what was filled until then has been noted.
        """
        self._from_ns, self._end_ns, self._ticks = start_ns, end_ns, 0
        held = Held(self._root, self._index, *self._stream)
        done, pages = first, 0
        try:
            for until, page in walk(self._ask, first, last, self._page_ticks):
                stored = chain.from_iterable(map(held.at, sorted({tick.time for tick in page})))
                for hour, ticks in groupby(not_among(page, stored), lambda t: t.time // _HOUR):
                    if hour != self._hour:
                        yield from self._note_ticks(hour * _HOUR)
                    self._append(ticks)
                done, pages = until, pages + 1
                if pages % _NOTE_PAGES == 0:
                    yield from self._note_ticks(done)
        except CaptureError:
            yield from self._note(done)
            raise
        yield from self._note(max(done, -(-end_ns // NANOSECONDS)))

    def _append(self, ticks: Iterator[PastTick]) -> None:
        for _, group in groupby(ticks, lambda tick: tick.time // _HALF_HOUR):
            some = list(group)
            frames = b"".join(encode(tick, *self._stream, self._stream_id) for tick in some)
            self._appender.append_frames(frames, some[0].time * NANOSECONDS)
            self._ticks += len(some)
            self._hour = some[-1].time // _HOUR

    def _note(self, until: int) -> Iterator[Filled]:
        """Tell, in the stream and in the index, that the gap is filled up to some second."""
        yield from self._note_ticks(until)
        yield from self._note_range(min(until * NANOSECONDS, self._end_ns))

    def _note_ticks(self, until: int) -> Iterator[Filled]:
        """Tell of the ticks, if any: in their own file, so that the note goes when they go."""
        if self._ticks:
            end_of_hour = (self._hour + 1) * HOUR_NS
            yield from self._note_range(min(until * NANOSECONDS, self._end_ns, end_of_hour))

    def _note_range(self, end_ns: int) -> Iterator[Filled]:
        done = Filled(*self._stream, self._from_ns, end_ns, self._ticks)
        if done.start_ns >= end_ns:
            if self._ticks and self._from_ns == self._end_ns:
                # All of the gap is noted, in the hour before that of these ticks.
                self._ticks = 0
                yield done
            return
        told = {"start_ns": done.start_ns, "end_ns": end_ns, "ticks": done.ticks}
        payload = encode_message(
            {
                "type": "info",
                "stream_id": self._stream_id,
                "timestamp": format_timestamp(end_ns - 1),
                "data": {"status": str(StreamStatus.BACKFILLED)},
                "metadata": {"run": self._run, "at_ns": time.time_ns(), **SOURCE, **told},
            }
        )
        self._appender.append_frames(encode_frame(payload), end_ns - 1)
        self._tell(done.start_ns, end_ns, done.ticks)
        self._from_ns, self._ticks = end_ns, 0
        yield done

    def _tell(self, start_ns: int, end_ns: int, ticks: int) -> None:
        """Have the index know that a range is filled, unless it does."""
        rows = backfilled_rows(*self._stream, start_ns, end_ns, ticks, self._rows.values())
        if rows:
            self._rows.update({row.start_ns: row for row in rows})
            self._index.put_coverage(rows)
