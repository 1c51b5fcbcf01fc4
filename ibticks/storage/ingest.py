"""Importing: writing what is not there yet, so that it can be broken off and begun again.

Two identical ticks are two ticks, and both are kept; but what the store already holds is not
written a second time. For each hour the import meets, the messages already in its files are
counted by a 128-bit fingerprint, and every message of the import first uses up one of these.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ibticks.errors import CorruptFileError
from ibticks.format.encode import Encoder
from ibticks.format.frames import fingerprints
from ibticks.format.framing import frame
from ibticks.format.header import read_header
from ibticks.storage.disk import explained
from ibticks.storage.layout import FileKey, half_hours, hour_of
from ibticks.storage.summary import frame_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ibticks.format.columns import TickColumns
    from ibticks.storage.layout import Part
    from ibticks.storage.writer import StreamWriter

__all__ = ["Ingest"]

_log = logging.getLogger(__name__)


class Ingest:
    """Adds to a stream what it does not hold yet.

    Parameters
    ----------
    root : Path
        The store.
    writer : StreamWriter
        Of the stream, for the whole import.

    Attributes
    ----------
    added, known : int
        Messages written, and messages found in the store already.
    """

    def __init__(self, root: Path, writer: StreamWriter) -> None:
        self._root = root
        self._writer = writer
        # Of each hour met: the messages it held before, less those already met again.
        self._held: dict[int, Counter[bytes]] = {}
        self.added = 0
        self.known = 0

    def add(self, columns: TickColumns, *, stream_id: str = "") -> None:
        """Add ticks; parameters and errors are those of :meth:`StreamWriter.write`."""
        self._writer.check(columns)
        encoder = Encoder(
            columns,
            contract_id=self._writer.contract_id,
            tick_type=self._writer.tick_type,
            stream_id=stream_id,
        )
        for start, stop in half_hours(columns.timestamp):
            done = start
            for row, frames in encoder.chunks(start, stop):
                self._add(frames.data, int(columns.timestamp[start]), row - done)
                done = row

    def add_messages(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Add v2 messages of any type; errors are those of :meth:`StreamWriter.append`."""
        for message in messages:
            payload, time_ns = self._writer.encode(message)
            self._add(memoryview(frame(payload)), time_ns, 1)

    def _add(self, frames: memoryview, time_ns: int, count: int) -> None:
        held = self._held_in(hour_of(time_ns))
        if not held:
            self._writer.append_frames(frames, time_ns)
            self.added += count
            return
        prints, ends = fingerprints(frames)
        begin = 0
        for print_, end in zip(prints, ends.tolist(), strict=True):
            mark = print_.tobytes()
            if mark in held:
                self.known += 1
                held[mark] -= 1
                if not held[mark]:
                    del held[mark]
            else:
                self._writer.append_frames(frames[begin:end], time_ns)
                self.added += 1
            begin = end
        if not held:
            # A table keeps its size when it is emptied entry by entry.
            self._held[hour_of(time_ns)] = Counter()

    def _held_in(self, hour_ns: int) -> Counter[bytes]:
        if hour_ns not in self._held:
            held: Counter[bytes] = Counter()
            parts: tuple[Part, ...] = ("", "30")
            for part in parts:
                key = FileKey(self._writer.contract_id, self._writer.tick_type, hour_ns, part)
                path = self._root / key.path
                try:
                    for raw in self._frames(path):
                        held.update(print_.tobytes() for print_ in fingerprints(raw)[0])
                except CorruptFileError as error:
                    _log.warning("%s: %s; what cannot be read there is imported again", path, error)
            self._held[hour_ns] = held
        return self._held[hour_ns]

    @staticmethod
    def _frames(path: Path) -> Iterator[bytes | memoryview]:
        if path.exists():
            with explained(path, "reading"):
                data = np.fromfile(path, dtype=np.uint8)
            yield from frame_blocks(data, read_header(data.data))
