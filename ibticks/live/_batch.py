"""Batches of ticks, decoded on demand, and a bounded window over the latest ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.format import Decoder, decode_message
from ibticks.live._stream_files import Cursor, cursor_check, format_cursor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import polars as pl
    import pyarrow as pa

    from ibticks._types import StreamKey
    from ibticks.schema import TickColumns
    from ibticks.storage import FileKey

__all__ = ["Batch", "FrameBatch", "FrameSlice", "TickWindow"]

_MAX_PENDING_BATCHES: Final = 256

_TYPICAL_FRAME_BYTES = 64


@dataclass(frozen=True, slots=True, eq=False)
class FrameBatch:
    """Consecutive whole frames of one file, with the places of the ticks in them.

    Attributes
    ----------
    key : FileKey
    raw : numpy.ndarray
        uint8: some bytes before the frames, then the frames.
    base : int
        Offset of ``raw`` in the file's body.
    offsets, sizes, times : numpy.ndarray
        int64, shape ``(ticks,)``: the payloads in ``raw``, and their UTC nanoseconds.
    end : Cursor
        Cursor after the last frame.
    """

    key: FileKey
    raw: npt.NDArray[np.uint8]
    base: int
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    end: Cursor

    @property
    def ticks(self) -> int:
        """Number of ticks."""
        return len(self.times)

    def cursor_after(self, ticks: int) -> Cursor:
        """Return the cursor after this number of ticks."""
        if ticks == self.ticks:
            return self.end
        # Before the next tick: messages between the two, which are no ticks, are read again then.
        at = int(self.offsets[ticks]) - 4
        return Cursor(self.base + at, -1, cursor_check(self.raw[:at]))


@dataclass(frozen=True, slots=True, eq=False)
class FrameSlice:
    """Ticks ``start`` to ``stop`` of a frame batch.

    Attributes
    ----------
    stream : int
        Number of the stream among those that are read together.
    frames : FrameBatch
    start, stop : int
    keys : numpy.ndarray
        int64: merge key of each tick, never less than the one before it.
    """

    stream: int
    frames: FrameBatch
    start: int
    stop: int
    keys: npt.NDArray[np.int64]

    @property
    def ticks(self) -> int:
        """Number of ticks."""
        return self.stop - self.start

    def frame_bytes(self) -> npt.NDArray[np.uint8]:
        """Return the bytes of the frames, with whatever lies between them."""
        offsets, sizes, last = self.frames.offsets, self.frames.sizes, self.stop - 1
        return self.frames.raw[offsets[self.start] - 4 : offsets[last] + sizes[last]]

    def payload(self, tick: int) -> bytes:
        """Return the message of one tick, counted from ``start``."""
        at = self.frames.offsets[self.start + tick]
        return self.frames.raw[at : at + self.frames.sizes[self.start + tick]].tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Ticks of a live stream that were delivered together, decoded on demand.

    Attributes
    ----------
    slices : tuple of FrameSlice
        Ticks by stream, those of each stream in file order.
    streams : tuple of StreamKey
    columns : tuple of str
        Columns of the frames that the batch returns.
    start_ns : int
        Earlier ticks are left out, UTC nanoseconds.
    historical : bool
        Whether the ticks were stored before the stream was opened.
    rows : int
        Number of ticks.
    end_ns : int
        Ticks from this time on are left out, UTC nanoseconds.
    """

    slices: tuple[FrameSlice, ...]
    streams: tuple[StreamKey, ...]
    columns: tuple[str, ...]
    start_ns: int
    historical: bool
    rows: int
    end_ns: int = TIME_MAX

    def __len__(self) -> int:
        return self.rows

    def read(self, columns: Sequence[str] | None = None) -> list[TickColumns]:
        """Decode the ticks into numpy columns, stream by stream, each in file order."""
        names = [*(self.columns if columns is None else columns), "timestamp"]
        decoded = []
        for _, slices in groupby(self.slices, lambda one: one.stream):
            chunks = [one.frame_bytes() for one in slices if one.ticks]
            if chunks:
                rows = sum(map(len, chunks)) // _TYPICAL_FRAME_BYTES + 1
                decoder = Decoder(names, start_ns=self.start_ns, end_ns=self.end_ns, rows=rows)
                for chunk in chunks:
                    decoder.feed(chunk)
                decoded.append(decoder.finish())
        return decoded

    def to_arrow(self) -> pa.Table:
        """Return an Arrow table sorted by timestamp; equal timestamps as in a Selection."""
        from ibticks.frames import to_table

        return to_table(self.read(), self.columns)

    def to_polars(self) -> pl.DataFrame:
        """Return a polars frame sorted by timestamp; equal timestamps as in a Selection."""
        from ibticks.frames import to_polars

        return to_polars(self.to_arrow())

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield the ticks as v2 JSON messages by time, each stream in file order."""
        for number, tick in zip(*(places.tolist() for places in self.tick_order()), strict=True):
            yield decode_message(self.slices[number].payload(tick))

    def positions(self, before: str) -> list[str]:
        """Return the resume token after each tick, in the order of :meth:`messages`.

        Parameters
        ----------
        before : str
            Resume token before the batch.
        """
        tokens = []
        additions: dict[FileKey, str] = {}
        for number, place in zip(*(places.tolist() for places in self.tick_order()), strict=True):
            frames, start = self.slices[number].frames, self.slices[number].start
            additions[frames.key] = format_cursor(
                frames.key, frames.cursor_after(start + place + 1)
            )
            tokens.append(before + "".join(additions.values()))
        return tokens

    def tick_order(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the slice number and the place in it of each tick, by merge key."""
        sizes = [one.ticks for one in self.slices]
        numbers = np.repeat(np.arange(len(sizes)), sizes)
        places = np.concatenate([np.arange(size) for size in sizes] or [np.empty(0, np.int64)])
        if len(self.slices) > 1:
            keys = np.concatenate([one.keys for one in self.slices])
            by_time = np.argsort(keys, kind="stable")
            numbers, places = numbers[by_time], places[by_time]
        return numbers, places

    def times(self) -> npt.NDArray[np.int64]:
        """Return the UTC nanoseconds of the ticks, in the order of :meth:`messages`."""
        numbers, places = self.tick_order()
        starts = np.cumsum([0, *(one.ticks for one in self.slices)])
        times = [one.frames.times[one.start : one.stop] for one in self.slices]
        return np.concatenate(times)[starts[numbers] + places]

    def count_by_slice(self, ticks: int) -> list[int]:
        """Count the ticks of each slice among the first ``ticks`` by time."""
        numbers, _ = self.tick_order()
        counts: list[int] = np.bincount(numbers[:ticks], minlength=len(self.slices)).tolist()
        return counts

    def first(self, ticks: int) -> Batch:
        """Return the first ``ticks`` by time as a batch."""
        counted = zip(self.slices, self.count_by_slice(ticks), strict=True)
        slices = tuple(
            replace(one, stop=one.start + count, keys=one.keys[:count]) for one, count in counted
        )
        return replace(self, slices=slices, rows=ticks)

    def drop_first(self, ticks: int) -> Batch:
        """Return the batch without its first ``ticks`` by time."""
        counted = zip(self.slices, self.count_by_slice(ticks), strict=True)
        slices = tuple(
            replace(one, start=one.start + count, keys=one.keys[count:]) for one, count in counted
        )
        return replace(self, slices=slices, rows=self.rows - ticks)

    def __repr__(self) -> str:
        origin = "historical" if self.historical else "live"
        return f"<Batch of {self.rows} {origin} ticks>"


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
            last.end_ns,
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
