"""Importing: writing what is not stored yet, so that an import can be interrupted and repeated.

Two equal ticks of one file are two ticks, and both are stored; but a tick that the store already
holds is not written a second time. For each hour that an import meets, the ticks already in its
files are counted (see :mod:`ibticks.storage`), and every tick of the import first uses
up an equal one of these. Neither the row number of a tick in its file nor the order of the rows
counts, so that files may overlap.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from ibticks.errors import CorruptFileError, InputError
from ibticks.filesystem import explained
from ibticks.format import Decoder, Encoder, encode_frame, read_header
from ibticks.schema import mask_absent_values
from ibticks.storage._duplicates import IDENTITY_COLUMNS, StoredMessages, StoredTicks, tick_keys
from ibticks.storage._headers import check_place
from ibticks.storage._layout import HALF_HOUR, FileKey, half_hours, hour_of
from ibticks.storage._summary import frame_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from ibticks.schema import TickColumns
    from ibticks.storage._layout import Part
    from ibticks.storage._writer import StreamWriter

__all__ = ["Ingest"]

_log = logging.getLogger(__name__)


class Ingest:
    """Adds to a stream what it does not hold yet: ticks as columns, or v2 messages.

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
        # Of each hour met: what it held before, less what was already met again.
        self._stored: dict[int, StoredTicks | StoredMessages] = {}
        self.added = 0
        self.known = 0

    def resume(self, writer: StreamWriter) -> None:
        """Go on with another writer of the same stream, after the last one was closed."""
        self._writer = writer

    def add(self, columns: TickColumns, *, stream_id: str = "") -> None:
        """Add ticks; parameters and errors are those of :meth:`StreamWriter.write`."""
        self._writer.check(columns)
        columns = mask_absent_values(_by_half_hours(columns))
        encoder = Encoder(
            columns,
            contract_id=self._writer.contract_id,
            tick_type=self._writer.tick_type,
            stream_id=stream_id,
        )
        for start, stop in half_hours(columns.timestamp):
            time_ns = int(columns.timestamp[start])
            stored = self._stored_ticks(hour_of(time_ns))
            new = np.ones(stop - start, dtype=np.bool_)
            if len(stored):
                new = ~stored.match(tick_keys(columns.take(slice(start, stop))))
            for is_new, first, last in _runs(new):
                if not is_new:
                    self.known += last - first
                    continue
                done = start + first
                for row, frames in encoder.chunks(start + first, start + last):
                    self._writer.append_frames(frames.data, time_ns)
                    self.added += row - done
                    done = row

    def add_messages(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Add v2 messages of any type; errors are those of :meth:`StreamWriter.append`."""
        for message in messages:
            payload, time_ns = self._writer.encode(message)
            framed = encode_frame(payload)
            if self._stored_messages(hour_of(time_ns)).match(framed):
                self.known += 1
            else:
                self._writer.append_frames(framed, time_ns)
                self.added += 1

    def _stored_ticks(self, hour_ns: int) -> StoredTicks:
        if hour_ns not in self._stored:
            decoder = Decoder(IDENTITY_COLUMNS)
            for path, raw in self._frames_of_hour(hour_ns):
                mark = decoder.mark()
                try:
                    decoder.feed(np.frombuffer(raw, dtype=np.uint8))
                except CorruptFileError as error:
                    decoder.rewind(mark)
                    _warn_of_damage(path, error)
            # Files written before may hold as a number what is absent in the ticks to be added.
            ticks = mask_absent_values(decoder.finish())
            self._stored[hour_ns] = StoredTicks(tick_keys(ticks))
        stored = self._stored[hour_ns]
        if not isinstance(stored, StoredTicks):
            raise _mixed()
        return stored

    def _stored_messages(self, hour_ns: int) -> StoredMessages:
        if hour_ns not in self._stored:
            messages = StoredMessages()
            for path, raw in self._frames_of_hour(hour_ns):
                try:
                    messages.add(raw)
                except CorruptFileError as error:
                    _warn_of_damage(path, error)
            self._stored[hour_ns] = messages
        stored = self._stored[hour_ns]
        if not isinstance(stored, StoredMessages):
            raise _mixed()
        return stored

    def _frames_of_hour(self, hour_ns: int) -> Iterator[tuple[Path, bytes | memoryview]]:
        parts: tuple[Part, ...] = ("", "30")
        for part in parts:
            key = FileKey(self._writer.contract_id, self._writer.tick_type, hour_ns, part)
            path = self._root / key.path
            if path.exists():
                with explained(path, "reading"):
                    data = np.fromfile(path, dtype=np.uint8)
                try:
                    header = read_header(data.data)
                    check_place(header, key, path)
                    for raw in frame_blocks(data, header):
                        yield path, raw
                except CorruptFileError as error:
                    _warn_of_damage(path, error)


def _by_half_hours(columns: TickColumns) -> TickColumns:
    """The ticks, those of each half hour together and in their order."""
    halves = columns.timestamp // HALF_HOUR
    if bool((halves[1:] >= halves[:-1]).all()):
        return columns
    return columns.take(np.argsort(halves, kind="stable"))


def _runs(flags: npt.NDArray[np.bool_]) -> Iterator[tuple[bool, int, int]]:
    """Each run of equal flags: the flag, its first place and the place after its last."""
    borders = (np.flatnonzero(flags[1:] != flags[:-1]) + 1).tolist()
    for first, last in zip([0, *borders], [*borders, len(flags)], strict=True):
        yield bool(flags[first]), first, last


def _warn_of_damage(path: Path, error: CorruptFileError) -> None:
    _log.warning("%s: %s; what cannot be read there is imported again", path, error)


def _mixed() -> InputError:
    return InputError("one Ingest takes either ticks or messages: use another one for the others")
