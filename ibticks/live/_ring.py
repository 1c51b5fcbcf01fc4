"""The last ticks of a stream, bounded, as one frame that is not made anew for each look."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ibticks.config import TIME_MIN
from ibticks.live._batch import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

__all__ = ["Ring"]

_MOST_BATCHES: Final = 256


class Ring:
    """A window over a stream, by number of ticks and by time.

    What comes is kept as it is, and decoded when somebody looks or when many batches wait. What is
    decoded is joined with what is no larger, so that there are few pieces, and a tick is copied a
    few times in its life, however often somebody looks.

    Parameters
    ----------
    columns : sequence of str
        Of the frame.
    rows : int
        Most ticks.
    span_ns : int, optional
        How much earlier than the latest tick the others may be, nanoseconds.
    """

    def __init__(self, columns: Sequence[str], rows: int, span_ns: int | None = None) -> None:
        self._columns: Final = tuple(columns)
        self._most: Final = rows
        self._span: Final = span_ns
        self._new: list[Batch] = []
        self._new_rows = 0
        self._pieces: list[pl.DataFrame] = []
        self._whole: pl.DataFrame | None = None
        self._floor = self._since = TIME_MIN

    @property
    def since_ns(self) -> int:
        """Everything that came with a time from this one on is in the window, UTC nanoseconds."""
        return self._since

    def append(self, batch: Batch) -> None:
        """Take what came."""
        if not batch.rows:
            return
        self._new.append(batch)
        self._new_rows += batch.rows
        self._whole = None
        if len(self._new) > _MOST_BATCHES or self._new_rows > self._most:
            self._settle()

    def frame(self) -> pl.DataFrame:
        """The window, sorted by timestamp."""
        if self._whole is None:
            self._settle()
            self._whole = self._put_together()
        return self._whole

    def _settle(self) -> None:
        """Decode what is new, and leave out what the window is past."""
        from ibticks.frames import to_polars, to_table

        parts = sorted(
            (part for batch in self._new for part in batch.parts), key=lambda part: part.stream
        )
        if not parts:
            return
        last = self._new[-1]
        joined = Batch(
            tuple(parts), last.streams, last.columns, last.start_ns, last.historical, self._new_rows
        )
        self._new, self._new_rows = [], 0
        piece = to_polars(to_table(joined.read(self._columns), [*self._columns, "timestamp"]))
        while self._pieces and self._pieces[-1].height <= 2 * piece.height:
            piece = _joined([self._pieces.pop(), piece]).rechunk()
        self._pieces.append(piece)
        if not all(_last(a) <= _first(b) for a, b in pairwise(self._pieces)):
            self._pieces = [_joined(self._pieces).rechunk()]
        self._leave_out()

    def _leave_out(self) -> None:
        """Keep to the bounds: what is earlier than the window does not come back as a late tick."""
        pieces = self._pieces
        over = sum(piece.height for piece in pieces) - self._most
        if over > 0:
            while pieces[0].height <= over:
                over -= pieces.pop(0).height
            pieces[0] = pieces[0].slice(over)
            self._floor = max(self._floor, _first(pieces[0]))
            self._since = max(self._since, self._floor + 1)  # others of that time are gone
        if self._span is not None:
            self._floor = max(self._floor, _last(pieces[-1]) - self._span)
            self._since = max(self._since, self._floor)
        while pieces and _last(pieces[0]) < self._floor:
            del pieces[0]
        if pieces and _first(pieces[0]) < self._floor:
            times = pieces[0]["timestamp"].to_physical()
            pieces[0] = pieces[0].slice(int(times.search_sorted(self._floor)))

    def _put_together(self) -> pl.DataFrame:
        if not self._pieces:
            from ibticks.frames import to_polars, to_table

            return to_polars(to_table([], self._columns))
        return _joined(self._pieces).select(self._columns)


def _joined(pieces: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Sorted pieces as one frame; without a copy where they follow each other."""
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole.vstack(piece)
    if all(_last(a) <= _first(b) for a, b in pairwise(pieces)):
        return whole.with_columns(whole["timestamp"].set_sorted())
    return whole.sort("timestamp", maintain_order=True)


def _first(piece: pl.DataFrame) -> int:
    return int(piece["timestamp"].to_physical()[0])


def _last(piece: pl.DataFrame) -> int:
    return int(piece["timestamp"].to_physical()[-1])
