"""Ticks that came together: as a frame, as columns, or one message after another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from ibticks.format import Decoder, decode_message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import polars as pl
    import pyarrow as pa

    from ibticks.live._frame_batch import Part
    from ibticks.schema import TickColumns

__all__ = ["Batch"]

_USUAL_FRAME = 64  # bytes


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some ticks of a live stream, not decoded yet.

    Attributes
    ----------
    parts : tuple of Part
        By stream, those of each in the order of its files.
    streams : tuple of (int, str)
        Contract ids and tick types.
    columns : tuple of str
        Of the frames it gives.
    start_ns : int
        No tick is earlier.
    historical : bool
        Whether they were stored already when the stream was opened.
    rows : int
        How many ticks.
    """

    parts: tuple[Part, ...]
    streams: tuple[tuple[int, str], ...]
    columns: tuple[str, ...]
    start_ns: int
    historical: bool
    rows: int

    def __len__(self) -> int:
        return self.rows

    def read(self, columns: Sequence[str] | None = None) -> list[TickColumns]:
        """The ticks as plain numpy columns, stream by stream, each in the order of its files."""
        wanted = [*(self.columns if columns is None else columns), "timestamp"]
        found = []
        for _, parts in groupby(self.parts, lambda part: part.stream):
            frames = [part.frames() for part in parts if part.ticks]
            if frames:
                rows = sum(map(len, frames)) // _USUAL_FRAME + 1
                decoder = Decoder(wanted, start_ns=self.start_ns, rows=rows)
                for each in frames:
                    decoder.feed(each)
                found.append(decoder.finish())
        return found

    def to_arrow(self) -> pa.Table:
        """An Arrow table, sorted by timestamp; equal timestamps as in a Selection."""
        from ibticks.frames import to_table

        return to_table(self.read(), self.columns)

    def to_polars(self) -> pl.DataFrame:
        """A polars frame, sorted by timestamp; equal timestamps as in a Selection."""
        from ibticks.frames import to_polars

        return to_polars(self.to_arrow())

    def order(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For each tick by time, which part has it, and where: each stream in file order."""
        sizes = [part.ticks for part in self.parts]
        which = np.repeat(np.arange(len(sizes)), sizes)
        where = np.concatenate([np.arange(size) for size in sizes] or [np.empty(0, np.int64)])
        if len(self.parts) > 1:
            keys = np.concatenate([part.keys for part in self.parts])
            by_time = np.argsort(keys, kind="stable")
            which, where = which[by_time], where[by_time]
        return which, where

    def messages(self) -> Iterator[dict[str, Any]]:
        """The ticks as v2 JSON messages, by time, each stream in the order of its files."""
        for part, tick in zip(*(each.tolist() for each in self.order()), strict=True):
            yield decode_message(self.parts[part].payload(tick))

    def counts(self, ticks: int) -> list[int]:
        """How many ticks of each part are among the first by time."""
        which, _ = self.order()
        counted: list[int] = np.bincount(which[:ticks], minlength=len(self.parts)).tolist()
        return counted

    def rest(self, ticks: int) -> Batch:
        """What remains after the first ticks by time."""
        begun = zip(self.parts, self.counts(ticks), strict=True)
        parts = tuple(
            replace(part, start=part.start + count, keys=part.keys[count:]) for part, count in begun
        )
        return replace(self, parts=parts, rows=self.rows - ticks)

    def __repr__(self) -> str:
        kind = "historical" if self.historical else "live"
        return f"<Batch of {self.rows} {kind} ticks>"
