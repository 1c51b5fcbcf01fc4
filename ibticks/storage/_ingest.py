"""Import ticks that are not stored yet, so that an import can be interrupted and repeated.

Two equal ticks of one file are two ticks, and both are stored; but a tick that the store already
holds is not written a second time. For each hour that an import meets, the ticks already in its
files are counted, and every tick of the import first uses up an equal one of these. Neither the row
number of a tick in its file nor the order of the rows counts, so that files may overlap.

Two ticks are equal if they have the same time, prices and sizes, and agree in every further field
(sequence, exchange, conditions, flags, exchange time, metadata) that both of them carry. The row
number in the file, and the stream id a tick was stored under, do not count.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ibticks.config import HALF_HOUR_NS
from ibticks.errors import CorruptFileError, InputError
from ibticks.filesystem import explained
from ibticks.format import Decoder, Encoder, encode_frame, fingerprint_payloads, read_header
from ibticks.schema import (
    COLUMNS,
    FLAGS,
    MapColumn,
    StringColumn,
    StringListColumn,
    TickColumns,
    Values,
    mask_absent_values,
)
from ibticks.storage._file_header import check_place
from ibticks.storage._layout import FileKey, floor_hour, half_hours
from ibticks.storage._whole_file import iter_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ibticks.schema import Column
    from ibticks.storage._layout import FileSuffix
    from ibticks.storage._stream_writer import StreamWriter

__all__ = ["IDENTITY_COLUMNS", "Ingest", "StoredMessages", "StoredTicks", "TickKeys", "tick_keys"]

_CORE: Final = (
    *("timestamp", "price", "size", "bid_price", "bid_size", "ask_price", "ask_size"),
    "mid_price",
)
# Fields that tell two ticks apart only where both carry them. The flags count as one field.
_DETAILS: Final = (
    ("sequence",),
    ("exchange",),
    ("conditions",),
    FLAGS,
    ("exchange_time",),
    ("metadata",),
)
IDENTITY_COLUMNS: Final = tuple(
    name
    for name in COLUMNS
    if name in {*_CORE, *(detail for names in _DETAILS for detail in names)}
)
"""Columns that are compared."""


@dataclass(frozen=True, slots=True)
class TickKeys:
    """Fingerprints of ticks, to find equal ones.

    Attributes
    ----------
    core : numpy.ndarray
        uint64, shape ``(rows, 2)``: of time, prices and sizes.
    details : numpy.ndarray
        uint64, shape ``(rows, 6)``: of each further field; 0 where the tick does not carry it.
    """

    core: npt.NDArray[np.uint64]
    details: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.core)

    def take(self, rows: npt.NDArray[np.intp]) -> TickKeys:
        """Return the keys of some rows, in their order."""
        return TickKeys(self.core[rows], self.details[rows])


def tick_keys(columns: TickColumns) -> TickKeys:
    """Compute the fingerprints of ticks of one stream.

    Examples
    --------
    >>> tick = {"timestamp": Values(np.array([1])), "mid_price": Values(np.array([0.5]))}
    >>> numbered = tick | {"sequence": Values(np.array([7], dtype=np.uint64))}
    >>> one, other = (tick_keys(TickColumns(1, columns)) for columns in (tick, numbered))
    >>> bool((one.core == other.core).all()), bool((one.details == other.details).all())
    (True, False)
    """
    rows = columns.rows
    core = _fingerprints(
        rows, {n: _unsigned_zeros(c) for n, c in columns.columns.items() if n in _CORE}
    )
    details = np.zeros((rows, len(_DETAILS)), dtype=np.uint64)
    no_time = {"timestamp": Values(np.zeros(rows, dtype=np.int64))}
    for place, names in enumerate(_DETAILS):
        field = {name: columns.columns[name] for name in names if name in columns.columns}
        present = np.zeros(rows, dtype=np.bool_)
        for column in field.values():
            present |= _present(column, rows)
        if present.any():
            details[present, place] = _fingerprints(rows, no_time | field)[present, 0]
    return TickKeys(core, details)


class StoredTicks:
    """The stored ticks of one hour that no incoming tick has been matched with yet.

    Parameters
    ----------
    keys : TickKeys

    Examples
    --------
    >>> columns = {"timestamp": Values(np.array([1, 1])), "price": Values(np.array([5.0, 5.0]))}
    >>> ticks = tick_keys(TickColumns(2, columns))
    >>> stored = StoredTicks(ticks.take(np.array([0])))
    >>> stored.match(ticks).tolist(), len(stored)
    ([True, False], 0)
    """

    def __init__(self, keys: TickKeys) -> None:
        self._keys = keys.take(np.argsort(keys.core[:, 0], kind="stable"))

    def __len__(self) -> int:
        return len(self._keys)

    def match(self, incoming: TickKeys) -> npt.NDArray[np.bool_]:
        """Return for each incoming tick whether it is stored; each stored one is matched once.

        Equal ticks are matched before those of which one carries fewer fields.
        """
        matched = np.zeros(len(incoming), dtype=np.bool_)
        ordered = self._keys.core[:, 0]
        lows = np.searchsorted(ordered, incoming.core[:, 0], "left")
        highs = np.searchsorted(ordered, incoming.core[:, 0], "right")
        rows = np.flatnonzero(lows < highs)
        if not len(rows):
            return matched
        places = _union(lows[rows], highs[rows])
        new, old = incoming.take(rows), self._keys.take(places)
        new_fields, old_fields = _carried(new.details), _carried(old.details)
        used = np.zeros(len(old), dtype=np.bool_)
        pairs = [(a, b) for a in np.unique(new_fields) for b in np.unique(old_fields)]
        for a, b in sorted(pairs, key=_differing_fields):
            ours = np.flatnonzero((new_fields == a) & ~matched[rows])
            theirs = np.flatnonzero((old_fields == b) & ~used)
            both = [bool(int(a & b) >> place & 1) for place in range(len(_DETAILS))]
            known, met = _match_equal(
                _folded(new.take(ours), both), _folded(old.take(theirs), both)
            )
            matched[rows[ours[known]]] = True
            used[theirs[met]] = True
        if used.any():
            left = np.ones(len(self), dtype=np.bool_)
            left[places[used]] = False
            self._keys = self._keys.take(np.flatnonzero(left))
        return matched


class StoredMessages:
    """The messages stored of one hour that no incoming message has been matched with yet."""

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, frames: bytes | memoryview) -> None:
        """Count the messages of whole frames as stored.

        Raises
        ------
        CorruptFileError
            If they are damaged; none of them is counted then.
        """
        self._counts.update(print_.tobytes() for print_ in fingerprint_payloads(frames)[0])

    def match(self, frame: bytes) -> bool:
        """Say whether the message of a frame is stored; each stored one is matched once."""
        (mark,) = (print_.tobytes() for print_ in fingerprint_payloads(frame)[0])
        if mark not in self._counts:
            return False
        self._counts[mark] -= 1
        if not self._counts[mark]:
            del self._counts[mark]
            if not self._counts:
                # A table keeps its size when it is emptied entry by entry.
                self._counts = Counter()
        return True


def _fingerprints(rows: int, columns: dict[str, Column]) -> npt.NDArray[np.uint64]:
    """Return fingerprints of the frames that rows with only these columns would have."""
    # Contract and tick type are the same in a stream.
    encoder = Encoder(TickColumns(rows, columns), contract_id=1, tick_type="last", stream_id="")
    prints = [fingerprint_payloads(frames)[0] for _, frames in encoder.chunks()]
    return np.concatenate([np.empty((0, 2), dtype=np.uint64), *prints])


def _unsigned_zeros(column: Column) -> Column:
    """Return a column in which -0.0 is 0.0, the same price in other bytes."""
    if isinstance(column, Values) and np.issubdtype(column.values.dtype, np.floating):
        values = column.values.copy()
        # Absent values may be any bytes, signalling NaN among them.
        with np.errstate(invalid="ignore"):
            values[values == 0] = 0.0
        return Values(values, column.valid)
    return column


def _present(column: Column, rows: int) -> npt.NDArray[np.bool_]:
    match column:
        case Values(_, valid):
            return np.ones(rows, dtype=np.bool_) if valid is None else valid
        case StringColumn(codes, values):
            empty = values.index("") if "" in values else -1
            present: npt.NDArray[np.bool_] = (codes >= 0) & (codes != empty)
        case StringListColumn(offsets) | MapColumn(offsets):
            present = np.diff(offsets) > 0
    return present


def _union(lows: npt.NDArray[np.intp], highs: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the places in any of the ranges ``[low, high)``, in order."""
    lows, firsts = np.unique(lows, return_index=True)
    lengths = highs[firsts] - lows
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    return np.arange(lengths.sum()) + np.repeat(lows - starts, lengths)


def _carried(details: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return the fields that each tick carries, as bits."""
    bits = np.int64(1) << np.arange(details.shape[1], dtype=np.int64)
    carried: npt.NDArray[np.int64] = (details != 0).astype(np.int64) @ bits
    return carried


def _differing_fields(pair: tuple[np.int64, np.int64]) -> int:
    return int(pair[0] ^ pair[1]).bit_count()


def _folded(keys: TickKeys, fields: Sequence[bool]) -> npt.NDArray[np.uint64]:
    """Return one key of 128 bits a tick, of its core and of some further fields."""
    folded = keys.core.copy()
    for place, is_compared in enumerate(fields):
        if is_compared:
            # An odd multiplier each: the same value in another field is another key.
            factor = np.uint64(0x9E3779B97F4A7C15 + 2 * place)
            detail = keys.details[:, place] * factor
            folded[:, 0] = (folded[:, 0] ^ detail) * factor
            folded[:, 1] = (folded[:, 1] + detail) * factor
    return folded


def _match_equal(
    new: npt.NDArray[np.uint64], old: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Match equal keys one to one, the first with the first; return masks of the matched."""
    keys = np.concatenate([old, new])
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: the old before the new
    ordered = keys[order]
    begins = np.ones(len(keys), dtype=np.bool_)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    group = np.cumsum(begins) - 1
    is_old = order < len(old)
    groups = int(group[-1]) + 1 if len(group) else 0
    olds = np.bincount(group[is_old], minlength=groups)
    news = np.bincount(group[~is_old], minlength=groups)
    rank = np.arange(len(keys)) - np.flatnonzero(begins)[group]
    rank[~is_old] -= olds[group[~is_old]]
    matched = np.empty(len(keys), dtype=np.bool_)
    matched[order] = rank < np.minimum(olds, news)[group]
    return matched[len(old) :], matched[: len(old)]


_log = logging.getLogger(__name__)


class Ingest:
    """Adds ticks (as columns) or v2 messages to a stream, except those it holds already.

    Parameters
    ----------
    root : Path
        The store.
    writer : StreamWriter
        Writer of the stream, for the whole import.
    on_written : callable, optional
        Called with the number of ticks after each step of :meth:`add`.

    Attributes
    ----------
    added, known : int
        Messages written, and messages that were in the store already.
    """

    def __init__(
        self,
        root: Path,
        writer: StreamWriter,
        *,
        on_written: Callable[[int], None] | None = None,
    ) -> None:
        self._root = root
        self._writer = writer
        self._on_written = on_written
        # By hour: stored ticks or messages, without those already matched.
        self._stored: dict[int, StoredTicks | StoredMessages] = {}
        self.added = 0
        self.known = 0

    def resume(self, writer: StreamWriter) -> None:
        """Go on with another writer of the same stream, after the last one was closed."""
        self._writer = writer

    def add(self, columns: TickColumns, *, stream_id: str = "", seal: bool = False) -> None:
        """Add ticks; parameters and errors are those of :meth:`StreamWriter.write`."""
        self._writer.check(columns)
        columns = _by_half_hours(columns)
        new = np.ones(columns.rows, dtype=np.bool_)
        for start, stop in half_hours(columns.timestamp):
            stored = self._stored_ticks(floor_hour(int(columns.timestamp[start])))
            if len(stored):
                ticks = mask_absent_values(columns.take(slice(start, stop)))
                new[start:stop] = ~stored.match(tick_keys(ticks))
        if not new.all():
            columns = columns.take(np.flatnonzero(new))
        self._writer.write(columns, stream_id=stream_id, seal=seal, on_written=self._advance)
        self.known += len(new) - columns.rows

    def _advance(self, rows: int) -> None:
        self.added += rows
        if self._on_written is not None:
            self._on_written(rows)

    def add_messages(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Add v2 messages of any type; errors are those of :meth:`StreamWriter.append`."""
        for message in messages:
            payload, time_ns = self._writer.appender.encode(message)
            framed = encode_frame(payload)
            if self._stored_messages(floor_hour(time_ns)).match(framed):
                self.known += 1
            else:
                self._writer.appender.append_frames(framed, time_ns)
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
            # Older files may hold a number where the ticks to be added have an absent value.
            ticks = mask_absent_values(decoder.finish())
            self._stored[hour_ns] = StoredTicks(tick_keys(ticks))
        stored = self._stored[hour_ns]
        if not isinstance(stored, StoredTicks):
            raise _mixed_error()
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
            raise _mixed_error()
        return stored

    def _frames_of_hour(self, hour_ns: int) -> Iterator[tuple[Path, bytes | memoryview]]:
        suffixes: tuple[FileSuffix, ...] = ("", "30")
        for suffix in suffixes:
            key = FileKey(self._writer.contract_id, self._writer.tick_type, hour_ns, suffix)
            path = self._root / key.path
            if path.exists():
                with explained(path, "reading"):
                    data = np.fromfile(path, dtype=np.uint8)
                try:
                    header = read_header(data.data)
                    check_place(header, key, path)
                    for raw in iter_frames(data, header):
                        yield path, raw
                except CorruptFileError as error:
                    _warn_of_damage(path, error)


def _by_half_hours(columns: TickColumns) -> TickColumns:
    """Return the ticks, those of each half hour together and in their order."""
    halves = columns.timestamp // HALF_HOUR_NS
    if bool((halves[1:] >= halves[:-1]).all()):
        return columns
    return columns.take(np.argsort(halves, kind="stable"))


def _warn_of_damage(path: Path, error: CorruptFileError) -> None:
    _log.warning("%s: %s; ticks that cannot be read from it are imported again", path, error)


def _mixed_error() -> InputError:
    return InputError("an Ingest takes either ticks or messages, not both: use two")
