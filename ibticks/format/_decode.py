"""Frames to columns.

A :class:`Decoder` owns the output arrays and one dictionary per string column, and is fed one
buffer after another (files, blocks of a file); what it hands out at the end is one stretch of
:class:`~ibticks.schema.TickColumns` without any copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.errors import CorruptFileError, InputError
from ibticks.format import _decode_kernels as k
from ibticks.format._decode_kernels import State
from ibticks.format._framing import MAX_FRAME_BYTES
from ibticks.schema import (
    COLUMNS,
    Column,
    FieldType,
    MapColumn,
    StringColumn,
    StringListColumn,
    TickColumns,
    Values,
    check_columns,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "TIME_MAX",
    "TIME_MIN",
    "Decoder",
    "as_bytes",
    "corrupt",
    "decode",
    "doubled",
    "stretch",
]

_FLOATS = ("price", "size", "bid_price", "bid_size", "ask_price", "ask_size", "mid_price")
_FLAGS = ("past_limit", "unreported", "bid_past_low", "ask_past_high")
_DICTIONARY = {"tick_type": 0, "exchange": 1, "stream_id": 2, "conditions": 3, "metadata": 4}
_BIT = {name: field.number for name, field in COLUMNS.items()} | {
    "timestamp": 0,
    "stream_id": 18,
    "metadata": 19,
}
_DTYPES: dict[str, Any] = {
    "contract_id": np.uint32,
    **dict.fromkeys(_FLOATS, np.float64),
    "sequence": np.uint64,
    "exchange_time": np.int64,
    "tick_type": np.int32,
    "exchange": np.int32,
    "stream_id": np.int32,
}


class Decoder:
    """Decodes the ticks of one buffer after another into the same columns.

    Parameters
    ----------
    columns : sequence of str
        Which columns; ``timestamp`` is always read, and handed out only if it is among them.
    start_ns, end_ns : int
        Half-open range of UTC nanoseconds; ticks outside it are passed over.
    rows : int
        How many rows to make room for at first; it grows as needed.

    Examples
    --------
    >>> from ibticks.format._encode import encode
    >>> from ibticks.schema import TickColumns, Values
    >>> import numpy as np
    >>> ticks = TickColumns(
    ...     2,
    ...     {
    ...         "timestamp": Values(np.array([1, 2])),
    ...         "mid_price": Values(np.array([100.5, 100.75])),
    ...     },
    ... )
    >>> decoder = Decoder(["timestamp", "mid_price"])
    >>> _ = decoder.feed(encode(ticks, contract_id=8314, tick_type="mid_point"))
    >>> decoder.finish().numbers("mid_price")
    array([100.5 , 100.75])
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        start_ns: int = TIME_MIN,
        end_ns: int = TIME_MAX,
        rows: int = 1024,
    ) -> None:
        self.columns: Final = check_columns(tuple(columns))
        self._range = (start_ns, end_ns)
        self._wanted = sum(1 << _BIT[name] for name in self.columns if name != "timestamp")
        self._state = np.zeros(k.STATE_SIZE, dtype=np.int64)
        self._state[State.LAST_TIME] = TIME_MIN
        self._state[State.IN_ALL] = -1
        self._state[State.RECENT : State.RECENT + k.DICTIONARIES] = -1
        capacity = max(1, rows)
        self._arrays: dict[str, npt.NDArray[Any]] = {
            name: np.empty(capacity if name in self.columns else 0, dtype=dtype)
            for name, dtype in _DTYPES.items()
        }
        self._arrays["timestamp"] = np.empty(capacity, dtype=np.int64)
        self._arrays["presence"] = np.empty(capacity, dtype=np.uint32)
        self._arrays["flags"] = np.empty(capacity, dtype=np.uint8)
        for name in ("conditions", "metadata"):
            size = capacity + 1 if name in self.columns else 0
            self._arrays[f"{name}_offsets"] = np.zeros(size, dtype=np.int64)
        self._conditions = np.empty(16, dtype=np.int32)
        self._keys = np.empty(16, dtype=np.int32)
        self._items = np.empty(16, dtype=np.int32)
        self._pool = np.empty(1024, dtype=np.uint8)
        self._strings = np.empty((k.DICTIONARIES, 32, 2), dtype=np.int64)
        self._table = np.full((k.DICTIONARIES, 64), -1, dtype=np.int32)
        self._shapes = np.zeros((k.SHAPES, k.SHAPE_WORDS), dtype=np.uint64)
        self._masks = np.zeros((k.SHAPES, k.SHAPE_WORDS), dtype=np.uint64)
        self._places = np.full((k.SHAPES, k.SHAPE_PLACES), -1, dtype=np.int64)

    @property
    def rows(self) -> int:
        """Ticks decoded so far."""
        return int(self._state[State.ROWS])

    @property
    def messages(self) -> int:
        """Frames gone through so far, of any kind and at any time."""
        return int(self._state[State.MESSAGES])

    @property
    def sorted(self) -> bool:
        """Whether no tick so far is earlier than the one before it."""
        return not self._state[State.UNSORTED]

    def feed(
        self, buffer: bytes | npt.NDArray[np.uint8], start: int = 0, stop: int | None = None
    ) -> int:
        """Decode the frames of ``buffer[start:stop]``.

        Returns
        -------
        int
            Where the last whole frame ends: ``stop``, or less where the last frame is torn.

        Raises
        ------
        CorruptFileError
            At a frame that is empty, longer than 16 MiB or not a message; ``context["offset"]``
            is its place in ``buffer``. The rows before it stay decoded.
        InputError
            If ``buffer`` does not have these bytes.
        """
        data, stop = stretch(buffer, start, stop)
        self._state[State.POSITION] = start
        status = self._run(data, stop)
        while status not in (k.DONE, k.TORN):
            if status == k.NEED_ROWS:
                self._grow_rows()
            elif status == k.NEED_STRINGS:
                self._grow_strings()
            elif status == k.NEED_POOL:
                self._pool = doubled(self._pool)
            elif status == k.NEED_LIST:
                self._conditions = doubled(self._conditions)
            elif status == k.NEED_PAIRS:
                self._keys, self._items = doubled(self._keys), doubled(self._items)
            else:
                raise corrupt(status, int(self._state[State.POSITION]))
            status = self._run(data, stop)
        return int(self._state[State.POSITION])

    def _run(self, data: npt.NDArray[np.uint8], stop: int) -> int:
        arrays = self._arrays
        return int(
            k.decode_ticks(
                data,
                stop,
                *self._range,
                self._wanted,
                arrays["timestamp"],
                arrays["contract_id"],
                *(arrays[name].view(np.uint64) for name in _FLOATS),
                arrays["sequence"],
                arrays["exchange_time"],
                arrays["presence"],
                arrays["flags"],
                arrays["tick_type"],
                arrays["exchange"],
                arrays["stream_id"],
                arrays["conditions_offsets"],
                self._conditions,
                arrays["metadata_offsets"],
                self._keys,
                self._items,
                self._pool,
                self._strings,
                self._table,
                self._shapes,
                self._masks,
                self._places,
                self._state,
            )
        )

    def mark(self) -> npt.NDArray[np.int64]:
        """Where the decoder is, for :meth:`rewind`."""
        return self._state.copy()

    def rewind(self, mark: npt.NDArray[np.int64]) -> None:
        """Forget the rows decoded since ``mark`` (a block that turned out to be damaged)."""
        # The dictionaries keep what they learned; only the rows go back.
        learned = self._state[State.POOL], self._state[State.STRINGS :].copy()
        self._state[:] = mark
        self._state[State.POOL] = learned[0]
        self._state[State.STRINGS :] = learned[1]

    def finish(self, missing: Sequence[tuple[int, int]] = ()) -> TickColumns:
        """The columns decoded so far, as views of the decoder's arrays."""
        columns = {name: self._column(name) for name in self.columns}
        return TickColumns(self.rows, columns, tuple(missing))

    def _column(self, name: str) -> Column:
        rows = self.rows
        field = COLUMNS[name]
        match field.type:
            case FieldType.STRING:
                codes = self._arrays[name][:rows]
                return StringColumn(codes, self._dictionary(name))
            case FieldType.STRINGS:
                offsets = self._arrays["conditions_offsets"][: rows + 1]
                codes = self._conditions[: offsets[-1]]
                return StringListColumn(offsets, codes, self._dictionary(name))
            case FieldType.MAP:
                offsets = self._arrays["metadata_offsets"][: rows + 1]
                keys, items = self._keys[: offsets[-1]], self._items[: offsets[-1]]
                return MapColumn(offsets, keys, items, self._dictionary(name))
            case FieldType.BOOL:
                bit = np.uint8(1 << _FLAGS.index(name))
                return Values((self._arrays["flags"][:rows] & bit) != 0, self._valid(name))
            case _:
                valid = self._valid(name) if field.nullable else None
                return Values(self._arrays[name][:rows], valid)

    def _valid(self, name: str) -> npt.NDArray[np.bool_] | None:
        bit = np.uint32(1 << _BIT[name])
        if self._state[State.IN_ALL] & bit:
            return None
        if not self._state[State.IN_ANY] & bit:
            return np.zeros(self.rows, dtype=np.bool_)
        present: npt.NDArray[np.bool_] = (self._arrays["presence"][: self.rows] & bit) != 0
        return present

    def _dictionary(self, name: str) -> tuple[str, ...]:
        which = _DICTIONARY[name]
        count = self._state[State.STRINGS + which]
        return tuple(
            self._pool[start : start + size].tobytes().decode("utf-8")
            for start, size in self._strings[which, :count].tolist()
        )

    def _grow_rows(self) -> None:
        for name, array in self._arrays.items():
            if len(array):
                self._arrays[name] = doubled(array)

    def _grow_strings(self) -> None:
        doubled = np.empty((k.DICTIONARIES, 2 * self._strings.shape[1], 2), dtype=np.int64)
        doubled[:, : self._strings.shape[1]] = self._strings
        self._strings = doubled
        self._table = np.full((k.DICTIONARIES, 2 * self._table.shape[1]), -1, dtype=np.int32)
        k.rehash(self._pool, self._strings, self._table, self._state)


def decode(
    buffer: bytes | npt.NDArray[np.uint8],
    columns: Sequence[str],
    *,
    start: int = 0,
    stop: int | None = None,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
) -> TickColumns:
    """Decode the ticks of one buffer of frames.

    Parameters are those of :class:`Decoder` and :meth:`Decoder.feed`; a torn last frame is left
    out.
    """
    decoder = Decoder(columns, start_ns=start_ns, end_ns=end_ns)
    decoder.feed(buffer, start, stop)
    return decoder.finish()


def as_bytes(buffer: bytes | memoryview | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The buffer as a one-dimensional uint8 array, without a copy."""
    if isinstance(buffer, np.ndarray):
        return buffer
    return np.frombuffer(buffer, dtype=np.uint8)


def stretch(
    buffer: bytes | memoryview | npt.NDArray[np.uint8], start: int, stop: int | None
) -> tuple[npt.NDArray[np.uint8], int]:
    """The buffer as an array and where to stop in it: kernels trust both.

    Raises
    ------
    InputError
        If the buffer does not have these bytes.
    """
    data = as_bytes(buffer)
    end = len(data) if stop is None else stop
    if not 0 <= start <= end <= len(data):
        raise InputError(f"no bytes {start}:{end} in a buffer of {len(data)}")
    return data, end


def corrupt(status: int, offset: int) -> CorruptFileError:
    """What a kernel's status means, as an error."""
    if status == k.BAD_LENGTH:
        reason = f"a frame is empty or longer than {MAX_FRAME_BYTES >> 20} MiB"
    else:
        reason = "a frame is not a StreamMessage"
    return CorruptFileError(f"{reason}, at byte {offset}", offset=offset)


def doubled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy with room for twice as many rows."""
    grown = np.empty((2 * len(array), *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
