"""Ticks of IB's history and of a store, in one shape in which they can be compared.

A gap is known by our clock, and IB's history by IB's, in whole seconds. So the seconds at its edges
may have ticks on both sides of it, and a connection may have been dead for a while before that was
noticed. The live ticks next to the gap bound it: what is missing lies from IB's second of the last
one before it to IB's second of the first one after it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ibticks._types import StreamKey
from ibticks.config import HOUR_NS, NANOSECONDS
from ibticks.coverage import CoverageState, StatusChange
from ibticks.format import encode_frame, from_protobuf
from ibticks.index import FileRecord
from ibticks.schema import clean_number, clean_side, clear_absent_fields, list_flags
from ibticks.storage import FileKey, floor_hour, iter_messages, message_time_ns
from ibticks.tick_stream_pb2 import StreamMessage, TickData

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ibticks.index import CoverageRecord, Index
    from ibticks.storage import FileSuffix

__all__ = [
    "BACKFILL_METADATA",
    "EDGE_SECONDS",
    "WHAT_TO_SHOW",
    "HistoricalTick",
    "StoredTicks",
    "encode_tick",
    "parse_tick",
    "read_backfill_changes",
    "stored_tick",
    "subtract_stored",
]

BACKFILL_METADATA: Final = {"source": "backfill"}
"""``metadata`` of every backfilled message."""

WHAT_TO_SHOW: Final = {
    "last": "TRADES",
    "all_last": "TRADES",
    "bid_ask": "BID_ASK",
    "mid_point": "MIDPOINT",
}
"""``whatToShow`` of IB's requests for each tick type. IB has one sort of past trades: ``last`` and
``all_last`` are filled with the same ones, whose flags show which are ``unreported``."""

_VALUES: Final = {
    "last": ("price", "size"),
    "all_last": ("price", "size"),
    "bid_ask": ("bid_price", "bid_size", "ask_price", "ask_size"),
    "mid_point": ("mid_price",),
}


class HistoricalTick(NamedTuple):
    """A tick of IB's history or of a store.

    Attributes
    ----------
    time : int
        IB's time, UTC seconds.
    values : tuple of float or None
        Prices and sizes; None where absent.
    exchange : str
    flags : tuple of bool
    conditions : tuple of str
    """

    time: int
    values: tuple[float | None, ...]
    exchange: str = ""
    flags: tuple[bool, ...] = ()
    conditions: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[int, tuple[float | None, ...], str]:
        """Fields that are equal in live data and in history."""
        return self.time, self.values, self.exchange


def parse_tick(tick_type: str, tick: Any) -> HistoricalTick:
    """Return a tick of an ibapi page."""
    match tick_type:
        case "bid_ask":
            attributes = tick.tickAttribBidAsk
            return HistoricalTick(
                tick.time,
                (
                    *clean_side(tick.priceBid, tick.sizeBid),
                    *clean_side(tick.priceAsk, tick.sizeAsk),
                ),
                flags=(bool(attributes.bidPastLow), bool(attributes.askPastHigh)),
            )
        case "mid_point":
            return HistoricalTick(tick.time, (clean_number(tick.price),))
        case _:
            attributes, conditions = tick.tickAttribLast, tick.specialConditions
            return HistoricalTick(
                tick.time,
                (clean_number(tick.price), clean_number(tick.size)),
                tick.exchange,
                (bool(attributes.pastLimit), bool(attributes.unreported)),
                tuple(conditions.split(" ")) if conditions else (),
            )


def stored_tick(message: StreamMessage) -> HistoricalTick:
    """Return a tick of a store; one without IB's time has the second in which it arrived.

    Unset values of files written by earlier versions are absent, as in history.
    """
    tick = message.tick_data
    clear_absent_fields(tick)
    arrival = message_time_ns(message) // NANOSECONDS
    return HistoricalTick(
        tick.exchange_time if tick.HasField("exchange_time") else arrival,
        tuple(
            getattr(tick, name) if tick.HasField(name) else None for name in _VALUES[tick.tick_type]
        ),
        tick.exchange,
        tuple(getattr(tick, name) for name in list_flags(tick.tick_type)),
        tuple(tick.conditions),
    )


def encode_tick(tick: HistoricalTick, contract_id: int, tick_type: str, stream_id: str) -> bytes:
    """Encode the wire frame of a backfilled tick, with IB's second as its timestamp."""
    values = zip(_VALUES[tick_type], tick.values, strict=True)
    fields: dict[str, Any] = {name: value for name, value in values if value is not None}
    fields |= zip(list_flags(tick_type), tick.flags, strict=True)
    data = TickData(contract_id=contract_id, tick_type=tick_type, exchange_time=tick.time, **fields)
    if WHAT_TO_SHOW[tick_type] == "TRADES":
        data.exchange = tick.exchange
        data.conditions.extend(tick.conditions)
    message = StreamMessage(
        type="tick", stream_id=stream_id, tick_data=data, metadata=BACKFILL_METADATA
    )
    message.timestamp.seconds = tick.time
    return encode_frame(message.SerializeToString(deterministic=True))


def subtract_stored(
    ticks: Iterable[HistoricalTick], stored: Iterable[HistoricalTick]
) -> list[HistoricalTick]:
    """Return the ticks that are not stored, in their order, as a difference of multisets.

    Parameters
    ----------
    ticks, stored : iterable of HistoricalTick
        All ticks of the same seconds.

    Examples
    --------
    >>> one, other = (
    ...     HistoricalTick(5, (180.5, 100.0), "NYSE"),
    ...     HistoricalTick(5, (180.5, 200.0), "NYSE"),
    ... )
    >>> subtract_stored([one, other, one], [one]) == [other, one]
    True
    """
    unmatched = Counter(stored)
    different: list[HistoricalTick] = []
    for tick in ticks:
        if unmatched[tick]:
            unmatched[tick] -= 1
        else:
            different.append(tick)
    # Flags and conditions may differ between history and live data.
    similar = Counter(tick.key for tick in unmatched.elements())
    missing: list[HistoricalTick] = []
    for tick in different:
        if similar[tick.key]:
            similar[tick.key] -= 1
        else:
            missing.append(tick)
    return missing


EDGE_SECONDS: Final = 120
"""Maximum difference between IB's time of a tick and its arrival."""

_CHUNK_SECONDS: Final = 300
_LIVE: Final[tuple[FileSuffix, ...]] = ("", "30")
_ALL: Final[tuple[FileSuffix, ...]] = ("", "30", "backfill")


class StoredTicks:
    """Ticks of one stream of a store, by IB's second.

    Parameters
    ----------
    root : Path
        Folder of the store.
    index : Index
    contract_id : int
    tick_type : str
    """

    def __init__(self, root: Path, index: Index, contract_id: int, tick_type: str) -> None:
        self._root = root
        self._index = index
        self._stream: Final = StreamKey(contract_id, tick_type)
        self._chunk: int | None = None
        self._ticks: dict[int, list[HistoricalTick]] = {}

    def at(self, second: int) -> Sequence[HistoricalTick]:
        """Return the captured and backfilled ticks of a second; reads some minutes at a time."""
        chunk = second - second % _CHUNK_SECONDS
        if chunk != self._chunk:
            by_second: defaultdict[int, list[HistoricalTick]] = defaultdict(list)
            start, end = chunk - EDGE_SECONDS, chunk + _CHUNK_SECONDS + EDGE_SECONDS
            for message in self._messages(start * NANOSECONDS, end * NANOSECONDS, _ALL):
                tick = stored_tick(message)
                if chunk <= tick.time < chunk + _CHUNK_SECONDS:
                    by_second[tick.time].append(tick)
            self._chunk, self._ticks = chunk, by_second
        return self._ticks.get(second, ())

    def seconds_of(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Return IB's seconds ``[first, last)`` in which ticks of a gap may lie.

        Parameters
        ----------
        start_ns, end_ns : int
            The gap, half-open, UTC nanoseconds.
        """
        first, last = start_ns // NANOSECONDS, -(-end_ns // NANOSECONDS)
        edge_ns = EDGE_SECONDS * NANOSECONDS
        rows = self._index.coverage(
            [self._stream[0]], [self._stream[1]], start_ns - edge_ns, end_ns + edge_ns
        )
        before = next((row for row in rows if row.end_ns == start_ns and _is_captured(row)), None)
        if before is not None:
            begin = max(before.start_ns, start_ns - edge_ns)
            ticks = self._messages(begin, start_ns, _LIVE)
            newest = max(ticks, key=message_time_ns, default=None)
            second = begin // NANOSECONDS if newest is None else stored_tick(newest).time
            first = min(first, second)
        after = next((row for row in rows if row.start_ns == end_ns and _is_captured(row)), None)
        if after is not None:
            stop = end_ns + edge_ns if after.end_ns is None else min(after.end_ns, end_ns + edge_ns)
            ticks = self._messages(end_ns, stop, _LIVE)
            oldest = min(ticks, key=message_time_ns, default=None)
            second = -(-stop // NANOSECONDS) if oldest is None else stored_tick(oldest).time + 1
            last = max(last, second)
        return first, last

    def _messages(
        self, start_ns: int, end_ns: int, parts: Sequence[FileSuffix]
    ) -> Iterator[StreamMessage]:
        """Iterate over the ticks that arrived in ``[start_ns, end_ns)``."""
        records = {
            record.path: record
            for record in self._index.files([self._stream[0]], [self._stream[1]], start_ns, end_ns)
        }
        for hour in range(floor_hour(start_ns), end_ns, HOUR_NS):
            for part in parts:
                key = FileKey(*self._stream, hour, part)
                # The index may not have a new file yet.
                record = records.get(key.path) or _record_of_path(key)
                for message in _messages_of(self._root, record, start_ns, end_ns):
                    if message.HasField("tick_data"):
                        yield message


def read_backfill_changes(
    root: Path, key: FileKey, start_ns: int, end_ns: int
) -> Iterator[StatusChange]:
    """Yield the status changes in a backfill file in ``[start_ns, end_ns)``."""
    for message in _messages_of(root, _record_of_path(key), start_ns, end_ns):
        if message.HasField("info_data"):
            change = StatusChange.parse(message_time_ns(message), from_protobuf(message))
            if change is not None:
                yield change


def _messages_of(
    root: Path, file: FileRecord, start_ns: int, end_ns: int
) -> Iterator[StreamMessage]:
    if (root / file.path).exists():
        yield from iter_messages(root, file, start_ns, end_ns)


def _is_captured(row: CoverageRecord) -> bool:
    return row.state == CoverageState.CAPTURED


def _record_of_path(key: FileKey) -> FileRecord:
    """Return the record of a file as far as its path determines it."""
    return FileRecord(
        key.path, key.contract_id, key.tick_type, key.hour_ns, key.hour_ns, key.hour_ns, 0, 0, 0
    )
