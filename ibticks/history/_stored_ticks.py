"""What a store holds already around a gap, so that nothing of it is stored twice.

A gap is known by our clock, and IB's history by IB's, in whole seconds. So the seconds at its edges
may hold ticks on both sides of it, and a connection may have been dead for a while before that was
noticed. The live ticks next to the gap tell: what is missing lies from IB's second of the last one
before it to IB's second of the first one after it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from ibticks.config import HOUR_NS, NANOSECONDS
from ibticks.coverage import CoverageState, StatusChange
from ibticks.format import from_protobuf
from ibticks.history._historical_tick import PastTick, from_stored
from ibticks.index import FileRecord
from ibticks.storage import FileKey, floor_hour, iter_messages, message_time_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ibticks.index import CoverageRecord, Index
    from ibticks.storage import FileSuffix
    from ibticks.tick_stream_pb2 import StreamMessage

__all__ = ["AROUND", "Held", "notes_of"]

AROUND: Final = 120
"""Seconds by which IB's time of a tick and ours may differ."""

_CHUNK: Final = 300
_LIVE: Final[tuple[FileSuffix, ...]] = ("", "30")
_ALL: Final[tuple[FileSuffix, ...]] = ("", "30", "backfill")


class Held:
    """The ticks of one stream in a store, by IB's second.

    Parameters
    ----------
    root : Path
        The store.
    index : Index
    contract_id : int
    tick_type : str
    """

    def __init__(self, root: Path, index: Index, contract_id: int, tick_type: str) -> None:
        self._root = root
        self._index = index
        self._stream: Final = contract_id, tick_type
        self._chunk: int | None = None
        self._ticks: dict[int, list[PastTick]] = {}

    def at(self, second: int) -> Sequence[PastTick]:
        """Ticks of a second, captured or backfilled; some minutes are read at a time."""
        chunk = second - second % _CHUNK
        if chunk != self._chunk:
            found: defaultdict[int, list[PastTick]] = defaultdict(list)
            start, end = chunk - AROUND, chunk + _CHUNK + AROUND
            for message in self._messages(start * NANOSECONDS, end * NANOSECONDS, _ALL):
                tick = from_stored(message)
                if chunk <= tick.time < chunk + _CHUNK:
                    found[tick.time].append(tick)
            self._chunk, self._ticks = chunk, found
        return self._ticks.get(second, ())

    def seconds_of(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """IB's seconds ``[first, last)`` in which ticks of a gap may lie.

        Parameters
        ----------
        start_ns, end_ns : int
            The gap, half-open, UTC nanoseconds.
        """
        first, last = start_ns // NANOSECONDS, -(-end_ns // NANOSECONDS)
        around = AROUND * NANOSECONDS
        rows = self._index.coverage(
            [self._stream[0]], [self._stream[1]], start_ns - around, end_ns + around
        )
        before = next((row for row in rows if row.end_ns == start_ns and _captured(row)), None)
        if before is not None:
            begin = max(before.start_ns, start_ns - around)
            ticks = self._messages(begin, start_ns, _LIVE)
            newest = max(ticks, key=message_time_ns, default=None)
            found = begin // NANOSECONDS if newest is None else from_stored(newest).time
            first = min(first, found)
        after = next((row for row in rows if row.start_ns == end_ns and _captured(row)), None)
        if after is not None:
            stop = end_ns + around if after.end_ns is None else min(after.end_ns, end_ns + around)
            ticks = self._messages(end_ns, stop, _LIVE)
            oldest = min(ticks, key=message_time_ns, default=None)
            found = -(-stop // NANOSECONDS) if oldest is None else from_stored(oldest).time + 1
            last = max(last, found)
        return first, last

    def _messages(
        self, start_ns: int, end_ns: int, parts: Sequence[FileSuffix]
    ) -> Iterator[StreamMessage]:
        """The ticks that came in ``[start_ns, end_ns)``."""
        records = {
            record.path: record
            for record in self._index.files([self._stream[0]], [self._stream[1]], start_ns, end_ns)
        }
        for hour in range(floor_hour(start_ns), end_ns, HOUR_NS):
            for part in parts:
                key = FileKey(*self._stream, hour, part)
                # The index may not have heard of a file yet.
                record = records.get(key.path) or _bare(key)
                for message in _messages_of(self._root, record, start_ns, end_ns):
                    if message.HasField("tick_data"):
                        yield message


def notes_of(root: Path, key: FileKey, start_ns: int, end_ns: int) -> Iterator[StatusChange]:
    """The notes in a backfilled file, from ``start_ns`` on and before ``end_ns``."""
    for message in _messages_of(root, _bare(key), start_ns, end_ns):
        if message.HasField("info_data"):
            change = StatusChange.parse(message_time_ns(message), from_protobuf(message))
            if change is not None:
                yield change


def _messages_of(
    root: Path, file: FileRecord, start_ns: int, end_ns: int
) -> Iterator[StreamMessage]:
    if (root / file.path).exists():
        yield from iter_messages(root, file, start_ns, end_ns)


def _captured(row: CoverageRecord) -> bool:
    return row.state == CoverageState.CAPTURED


def _bare(key: FileKey) -> FileRecord:
    """What is known of a file from its path."""
    return FileRecord(
        key.path, key.contract_id, key.tick_type, key.hour_ns, key.hour_ns, key.hour_ns, 0, 0, 0
    )
