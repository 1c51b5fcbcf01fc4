"""Decode frames to columns.

A :class:`Decoder` owns the output arrays and one dictionary per string column. It is fed one buffer
after another (files, blocks of a file), and returns all ticks as one
:class:`~ibticks.schema.TickColumns` without a copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ibticks._machine_code import Packed
from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.errors import CorruptFileError, InputError
from ibticks.format import _kernel_state as dictionaries
from ibticks.format import _kernel_state as status_codes
from ibticks.format._framing import MAX_FRAME_BYTES
from ibticks.format._kernel_state import (
    DICTIONARIES,
    SHAPE_PLACES,
    SHAPE_WORDS,
    SHAPES,
    STATE_SIZE,
    ShapeTables,
    State,
    StringTables,
    TickArrays,
)
from ibticks.format._kernels import decode_ticks, rehash
from ibticks.schema import (
    COLUMNS,
    FLAGS,
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
    from collections.abc import Iterable, Sequence

    from ibticks._types import Interval

__all__ = ["Decoder", "as_bytes", "check_bounds", "corrupt_error", "decode", "doubled"]

_DICTIONARY = {
    "tick_type": dictionaries.TICK_TYPE,
    "exchange": dictionaries.EXCHANGE,
    "stream_id": dictionaries.STREAM_ID,
    "conditions": dictionaries.CONDITIONS,
    "metadata": dictionaries.METADATA,
}
_BIT = {name: field.number for name, field in COLUMNS.items()} | {
    "timestamp": 0,
    "stream_id": 18,
    "metadata": 19,
}
_DTYPES: Final[dict[str, Any]] = {
    "timestamp": np.int64,
    "contract_id": np.uint32,
    "exchange_time": np.int64,
    "presence": np.uint32,
    "flags": np.uint8,
    "tick_type": np.int32,
    "exchange": np.int32,
    "stream_id": np.int32,
    "conditions_offsets": np.int64,
    "metadata_offsets": np.int64,
    "conditions": np.int32,
    "metadata_keys": np.int32,
    "metadata_items": np.int32,
}
"""Types of the arrays of :class:`TickArrays`; the others are uint64."""
_FLAT = ("conditions", "metadata_keys", "metadata_items")
_ALWAYS = ("timestamp", "presence", "flags")


class Decoder:
    """Decoder of the ticks of one buffer after another into the same columns.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns. ``timestamp`` is always decoded, and returned only if it is listed.
    start_ns, end_ns : int
        Half-open interval of UTC nanoseconds; ticks outside it are skipped.
    rows : int
        Initial capacity in rows; it grows as needed.

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
        self._interval = (start_ns, end_ns)
        self._wanted = sum(1 << _BIT[name] for name in self.columns if name != "timestamp")
        self._state = np.zeros(STATE_SIZE, dtype=np.int64)
        self._state[State.LAST_TIME] = TIME_MIN
        self._state[State.IN_ALL] = -1
        self._state[State.RECENT : State.RECENT + DICTIONARIES] = -1
        self._arrays = TickArrays(
            *(self._allocate(name, max(1, rows)) for name in TickArrays._fields)
        )
        self._strings = StringTables(
            pool=np.empty(1024, dtype=np.uint8),
            entries=np.empty((DICTIONARIES, 32, 2), dtype=np.int64),
            slots=np.full((DICTIONARIES, 64), -1, dtype=np.int32),
        )
        self._shapes = ShapeTables(
            words=np.zeros((SHAPES, SHAPE_WORDS), dtype=np.uint64),
            masks=np.zeros((SHAPES, SHAPE_WORDS), dtype=np.uint64),
            places=np.full((SHAPES, SHAPE_PLACES), -1, dtype=np.int64),
        )
        self._packed: Packed | None = None  # the arrays above; None after one was replaced

    def _allocate(self, name: str, rows: int) -> npt.NDArray[Any]:
        """Return an output array with room for some rows; an empty one if it is not wanted."""
        dtype = _DTYPES.get(name, np.uint64)
        if name in _FLAT:
            return np.empty(16, dtype=dtype)
        if name.endswith("_offsets"):
            is_wanted = name.removesuffix("_offsets") in self.columns
            return np.zeros(rows + 1 if is_wanted else 0, dtype=dtype)
        return np.empty(rows if name in _ALWAYS or name in self.columns else 0, dtype=dtype)

    @property
    def rows(self) -> int:
        """Ticks decoded so far."""
        return int(self._state[State.ROWS])

    @property
    def messages(self) -> int:
        """Frames read so far: of any message and at any time."""
        return int(self._state[State.MESSAGES])

    @property
    def sorted(self) -> bool:
        """Return whether no tick so far is earlier than the one before it."""
        return not self._state[State.UNSORTED]

    def feed(
        self,
        buffer: bytes | memoryview | npt.NDArray[np.uint8],
        start: int = 0,
        stop: int | None = None,
    ) -> int:
        """Decode the frames of ``buffer[start:stop]``.

        Returns
        -------
        int
            Position after the last whole frame: ``stop``, or less if the last frame is torn.

        Raises
        ------
        CorruptFileError
            A frame is empty, longer than 16 MiB or not a message; ``context["offset"]`` is its
            position in ``buffer``. The rows before it stay decoded.
        InputError
            ``buffer`` does not have these bytes.
        """
        data, stop = check_bounds(buffer, start, stop)
        self._state[State.POSITION] = start
        status = self._run(data, stop)
        while status not in (status_codes.DONE, status_codes.TORN):
            if status == status_codes.NEED_ROWS:
                self._grow(name for name in TickArrays._fields if name not in _FLAT)
            elif status == status_codes.NEED_STRINGS:
                self._grow_dictionaries()
            elif status == status_codes.NEED_POOL:
                self._strings = self._strings._replace(pool=doubled(self._strings.pool))
            elif status == status_codes.NEED_LIST:
                self._grow(("conditions",))
            elif status == status_codes.NEED_PAIRS:
                self._grow(("metadata_keys", "metadata_items"))
            else:
                raise corrupt_error(status, int(self._state[State.POSITION]))
            self._packed = None
            status = self._run(data, stop)
        return int(self._state[State.POSITION])

    def _run(self, data: npt.NDArray[np.uint8], stop: int) -> int:
        if self._packed is None:
            self._packed = Packed(
                *self._interval,
                self._wanted,
                self._arrays,
                self._strings,
                self._shapes,
                self._state,
            )
        return decode_ticks(data, stop, self._packed)

    def mark(self) -> npt.NDArray[np.int64]:
        """Return the state of the decoder, for :meth:`rewind`."""
        return self._state.copy()

    def rewind(self, mark: npt.NDArray[np.int64]) -> None:
        """Discard the rows decoded since ``mark`` (of a block that turned out to be damaged)."""
        # The dictionaries keep what they learned; only the rows go back.
        learned = self._state[State.POOL], self._state[State.STRINGS :].copy()
        self._state[:] = mark
        self._state[State.POOL] = learned[0]
        self._state[State.STRINGS :] = learned[1]

    def finish(self, missing: Sequence[Interval] = ()) -> TickColumns:
        """Return the columns decoded so far, as views of the arrays of the decoder."""
        columns = {name: self._column(name) for name in self.columns}
        return TickColumns(self.rows, columns, tuple(missing))

    def _column(self, name: str) -> Column:
        rows = self.rows
        field = COLUMNS[name]
        match field.type:
            case FieldType.STRING:
                codes = getattr(self._arrays, name)[:rows]
                return StringColumn(codes, self._dictionary(name))
            case FieldType.STRINGS:
                offsets = self._arrays.conditions_offsets[: rows + 1]
                codes = self._arrays.conditions[: offsets[-1]]
                return StringListColumn(offsets, codes, self._dictionary(name))
            case FieldType.MAP:
                offsets = self._arrays.metadata_offsets[: rows + 1]
                keys = self._arrays.metadata_keys[: offsets[-1]]
                items = self._arrays.metadata_items[: offsets[-1]]
                return MapColumn(offsets, keys, items, self._dictionary(name))
            case FieldType.BOOL:
                bit = np.uint8(1 << FLAGS.index(name))
                return Values((self._arrays.flags[:rows] & bit) != 0, self._valid(name))
            case FieldType.FLOAT:
                bits = getattr(self._arrays, name)[:rows]
                return Values(bits.view(np.float64), self._valid(name))
            case _:
                valid = self._valid(name) if field.nullable else None
                return Values(getattr(self._arrays, name)[:rows], valid)

    def _valid(self, name: str) -> npt.NDArray[np.bool_] | None:
        bit = np.uint32(1 << _BIT[name])
        if self._state[State.IN_ALL] & bit:
            return None
        if not self._state[State.IN_ANY] & bit:
            return np.zeros(self.rows, dtype=np.bool_)
        present: npt.NDArray[np.bool_] = (self._arrays.presence[: self.rows] & bit) != 0
        return present

    def _dictionary(self, name: str) -> tuple[str, ...]:
        dictionary = _DICTIONARY[name]
        count = self._state[State.STRINGS + dictionary]
        return tuple(
            self._strings.pool[start : start + size].tobytes().decode("utf-8")
            for start, size in self._strings.entries[dictionary, :count].tolist()
        )

    def _grow(self, names: Iterable[str]) -> None:
        """Double the arrays of these names; those that are not wanted stay empty."""
        arrays = {name: getattr(self._arrays, name) for name in names}
        self._arrays = self._arrays._replace(
            **{name: doubled(array) for name, array in arrays.items() if len(array)}
        )

    def _grow_dictionaries(self) -> None:
        pool, entries, slots = self._strings
        more = np.empty((DICTIONARIES, 2 * entries.shape[1], 2), dtype=np.int64)
        more[:, : entries.shape[1]] = entries
        empty = np.full((DICTIONARIES, 2 * slots.shape[1]), -1, dtype=np.int32)
        self._strings = StringTables(pool, more, empty)
        rehash(self._strings, self._state)


def decode(
    buffer: bytes | memoryview | npt.NDArray[np.uint8],
    columns: Sequence[str],
    *,
    start: int = 0,
    stop: int | None = None,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
) -> TickColumns:
    """Decode the ticks of one buffer of frames.

    Parameters are those of :class:`Decoder` and :meth:`Decoder.feed`; a torn last frame is skipped.
    """
    decoder = Decoder(columns, start_ns=start_ns, end_ns=end_ns)
    decoder.feed(buffer, start, stop)
    return decoder.finish()


def as_bytes(buffer: bytes | memoryview | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the buffer as a one-dimensional uint8 array, without a copy."""
    if isinstance(buffer, np.ndarray):
        return buffer
    return np.frombuffer(buffer, dtype=np.uint8)


def check_bounds(
    buffer: bytes | memoryview | npt.NDArray[np.uint8], start: int, stop: int | None
) -> tuple[npt.NDArray[np.uint8], int]:
    """Return the buffer as an array, and the position to stop at; kernels trust both.

    Raises
    ------
    InputError
        The buffer does not have these bytes.
    """
    data = as_bytes(buffer)
    end = len(data) if stop is None else stop
    if not 0 <= start <= end <= len(data):
        raise InputError(f"no bytes {start}:{end} in a buffer of {len(data)}")
    return data, end


def corrupt_error(status: int, offset: int) -> CorruptFileError:
    """Return the error for the status of a kernel."""
    if status == status_codes.BAD_LENGTH:
        reason = f"a frame is empty or longer than {MAX_FRAME_BYTES >> 20} MiB"
    else:
        reason = "a frame is not a StreamMessage"
    return CorruptFileError(f"{reason}, at byte {offset}", offset=offset)


def doubled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a copy with room for twice as many rows."""
    grown = np.empty((2 * len(array), *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
