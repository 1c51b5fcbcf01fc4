"""A bounded window over the latest ticks of a stream, kept as one polars frame."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ibticks.config import TIME_MIN
from ibticks.live._batch import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

__all__ = ["TickWindow"]

_MAX_PENDING_BATCHES: Final = 256


class TickWindow:
    """A window over a stream, bounded by number of ticks and by time.

    Batches are kept undecoded until a frame is asked for or many batches wait. A decoded chunk is
    concatenated with earlier chunks that are no larger, so that there are few chunks and a tick is
    copied a few times at most, however often frames are asked for.

    Parameters
    ----------
    columns : sequence of str
        Columns of the frame.
    max_rows : int
    duration_ns : int, optional
        How much earlier than the latest tick the others may be, nanoseconds.
    """

    def __init__(
        self, columns: Sequence[str], max_rows: int, duration_ns: int | None = None
    ) -> None:
        self._columns: Final = tuple(columns)
        self._max_rows: Final = max_rows
        self._duration_ns: Final = duration_ns
        self._pending: list[Batch] = []
        self._pending_rows = 0
        self._chunks: list[pl.DataFrame] = []
        self._frame: pl.DataFrame | None = None
        self._start_ns = self._complete_since_ns = TIME_MIN

    @property
    def complete_since_ns(self) -> int:
        """Time from which on the window has every tick that came, UTC nanoseconds."""
        return self._complete_since_ns

    def append(self, batch: Batch) -> None:
        """Append a batch, undecoded."""
        if not batch.rows:
            return
        self._pending.append(batch)
        self._pending_rows += batch.rows
        self._frame = None
        if len(self._pending) > _MAX_PENDING_BATCHES or self._pending_rows > self._max_rows:
            self._decode_pending()

    def frame(self) -> pl.DataFrame:
        """Return the window, sorted by timestamp."""
        if self._frame is None:
            self._decode_pending()
            self._frame = self._concatenate()
        return self._frame

    def _decode_pending(self) -> None:
        from ibticks.frames import to_polars, to_table

        slices = sorted(
            (one for batch in self._pending for one in batch.slices), key=lambda one: one.stream
        )
        if not slices:
            return
        last = self._pending[-1]
        pending = Batch(
            tuple(slices),
            last.streams,
            last.columns,
            last.start_ns,
            last.historical,
            self._pending_rows,
        )
        self._pending, self._pending_rows = [], 0
        chunk = to_polars(to_table(pending.read(self._columns), [*self._columns, "timestamp"]))
        while self._chunks and self._chunks[-1].height <= 2 * chunk.height:
            chunk = _concatenate([self._chunks.pop(), chunk]).rechunk()
        self._chunks.append(chunk)
        if not _follow_one_another(self._chunks):
            self._chunks = [_concatenate(self._chunks).rechunk()]
        self._trim()

    def _trim(self) -> None:
        """Cut the window to its bounds; a late tick before its start is dropped."""
        chunks = self._chunks
        excess = sum(chunk.height for chunk in chunks) - self._max_rows
        if excess > 0:
            while chunks[0].height <= excess:
                excess -= chunks.pop(0).height
            chunks[0] = chunks[0].slice(excess)
            self._start_ns = max(self._start_ns, _first_ns(chunks[0]))
            # Other ticks of the first timestamp may have been cut off.
            self._complete_since_ns = max(self._complete_since_ns, self._start_ns + 1)
        if self._duration_ns is not None:
            self._start_ns = max(self._start_ns, _last_ns(chunks[-1]) - self._duration_ns)
            self._complete_since_ns = max(self._complete_since_ns, self._start_ns)
        while chunks and _last_ns(chunks[0]) < self._start_ns:
            del chunks[0]
        if chunks and _first_ns(chunks[0]) < self._start_ns:
            times = chunks[0]["timestamp"].to_physical()
            chunks[0] = chunks[0].slice(int(times.search_sorted(self._start_ns)))

    def _concatenate(self) -> pl.DataFrame:
        if not self._chunks:
            from ibticks.frames import to_polars, to_table

            return to_polars(to_table([], self._columns))
        return _concatenate(self._chunks).select(self._columns)


def _concatenate(chunks: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Concatenate sorted chunks, without a copy where they follow one another."""
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole.vstack(chunk)
    if _follow_one_another(chunks):
        return whole.with_columns(whole["timestamp"].set_sorted())
    return whole.sort("timestamp", maintain_order=True)


def _follow_one_another(chunks: Sequence[pl.DataFrame]) -> bool:
    return all(_last_ns(one) <= _first_ns(other) for one, other in pairwise(chunks))


def _first_ns(chunk: pl.DataFrame) -> int:
    return int(chunk["timestamp"].to_physical()[0])


def _last_ns(chunk: pl.DataFrame) -> int:
    return int(chunk["timestamp"].to_physical()[-1])
