"""Columns to frames, byte for byte what the protobuf runtime would write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ibticks._machine_code import Packed
from ibticks.errors import InputError
from ibticks.format._framing import BLOCK_BYTES, MAX_FRAME_BYTES
from ibticks.format._kernel_state import DICTIONARIES
from ibticks.format._kernels import encode_ticks
from ibticks.schema import (
    COLUMNS,
    FLAGS,
    MapColumn,
    StringColumn,
    StringListColumn,
    TickColumns,
    Values,
    check_contract_id,
    check_tick_type,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHUNK_BYTES", "encode", "encode_chunks"]

CHUNK_BYTES: Final = 1 << 20
"""Bytes encoded at a time: what is just written is still in the processor's cache."""

_FLOATS = ("price", "size", "bid_price", "bid_size", "ask_price", "ask_size", "mid_price")
_STRINGS = ("tick_type", "exchange", "stream_id", "conditions", "metadata")
_LARGEST: Final = 4 + MAX_FRAME_BYTES  # bytes a frame takes, its length included
_FRAME_BYTES: Final = 1 << 16  # room for the frame that completes a block; grows as needed
_NO_INDEX = np.empty(0, dtype=np.int64)
_NO_CODES = np.empty(0, dtype=np.int32)


class Encoder:
    """The arrays of one :class:`TickColumns`, laid out for the kernel.

    Parameters
    ----------
    columns : TickColumns
        With at least ``timestamp``.
    contract_id, tick_type, stream_id : optional
        For every tick, where ``columns`` has no such column.

    Raises
    ------
    InputError
        If neither says the contract or the tick type, or a tick cannot be written: it is too
        large for a frame, or has text that UTF-8 does not have.
    """

    def __init__(
        self,
        columns: TickColumns,
        *,
        contract_id: int | None = None,
        tick_type: str | None = None,
        stream_id: str | None = None,
    ) -> None:
        self.rows: Final = columns.rows
        arrays = columns.columns
        if "timestamp" not in arrays:
            raise InputError("ticks without a timestamp cannot be encoded", column="timestamp")
        if "contract_id" in arrays:
            contracts = np.ascontiguousarray(columns.numbers("contract_id"), dtype=np.uint32)
        elif contract_id is not None:
            contracts = np.array([check_contract_id(contract_id)], dtype=np.uint32)
        else:
            raise InputError("give contract_id: the columns do not say it", column="contract_id")
        pool = _Pool()
        presence = np.zeros(self.rows, dtype=np.uint32)
        flags = np.zeros(self.rows, dtype=np.uint8)
        if tick_type is not None:
            check_tick_type(tick_type)
        elif "tick_type" not in arrays:
            raise InputError("give tick_type: the columns do not say it", column="tick_type")
        codes = {
            "tick_type": pool.column(
                0, arrays.get("tick_type"), check_tick_type(tick_type or "last")
            ),
            "exchange": pool.column(1, arrays.get("exchange"), ""),
            "stream_id": pool.column(2, arrays.get("stream_id"), stream_id or ""),
        }
        exchange = arrays.get("exchange")
        if isinstance(exchange, StringColumn):
            presence |= (exchange.codes >= 0).astype(np.uint32) << np.uint32(10)
        numbers: dict[str, npt.NDArray[Any]] = {}
        for name in (*_FLOATS, "sequence", "exchange_time", *FLAGS):
            column = arrays.get(name)
            if not isinstance(column, Values):
                numbers[name] = np.empty(0, dtype=_dtype(name))
                continue
            bit = np.uint32(1 << COLUMNS[name].number)
            presence |= bit if column.valid is None else column.valid.astype(np.uint32) * bit
            values = np.ascontiguousarray(column.values, dtype=_dtype(name))
            if name in FLAGS:
                flags |= values.astype(np.uint8) << np.uint8(FLAGS.index(name))
            else:
                numbers[name] = values
        condition_offsets, conditions = _NO_INDEX, _NO_CODES
        listed = arrays.get("conditions")
        if isinstance(listed, StringListColumn):
            condition_offsets, conditions = (
                listed.offsets,
                pool.codes(3, listed.codes, listed.values),
            )
        pair_offsets, keys, items = _NO_INDEX, _NO_CODES, _NO_CODES
        pairs = arrays.get("metadata")
        if isinstance(pairs, MapColumn):
            pair_offsets = pairs.offsets
            keys = pool.codes(4, pairs.keys, pairs.values)
            items = np.ascontiguousarray(pairs.items, dtype=np.int32)
        self._packed: Final = Packed(
            np.ascontiguousarray(columns.timestamp, dtype=np.int64),
            contracts,
            tuple(numbers[name].view(np.uint64) for name in _FLOATS),
            numbers["sequence"],
            numbers["exchange_time"],
            presence,
            flags,
            codes["tick_type"],
            codes["exchange"],
            codes["stream_id"],
            np.ascontiguousarray(condition_offsets, dtype=np.int64),
            conditions,
            np.ascontiguousarray(pair_offsets, dtype=np.int64),
            keys,
            items,
            *pool.arrays(),
        )

    def chunks(
        self, start: int = 0, stop: int | None = None, size: int = CHUNK_BYTES
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Encode rows ``start`` to ``stop``, about ``size`` bytes at a time.

        Yields
        ------
        row : int
            The row after the last one in this chunk.
        frames : numpy.ndarray
            uint8, whole frames; valid until the next one is asked for, which reuses its memory.
        """
        stop = self.rows if stop is None else stop
        out = np.empty(min(size, _LARGEST), dtype=np.uint8)
        written = np.zeros(1, dtype=np.int64)
        row = start
        while row < stop:
            reached = encode_ticks(row, stop, self._packed, out, written)
            if reached == row:
                if len(out) == _LARGEST:
                    raise _too_large(row)
                out = np.empty(min(2 * len(out), _LARGEST), dtype=np.uint8)
                continue
            row = reached
            yield row, out[: written[0]]

    def blocks(
        self, start: int, stop: int, size: int = BLOCK_BYTES
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Encode rows ``start`` to ``stop``, a block at a time, as ``scan_frames`` divides a file.

        A block ends with the frame that makes it ``size`` bytes or more. Threads may encode
        different rows at once.

        Yields
        ------
        row : int
            The row after the last one in this block.
        frames : numpy.ndarray
            uint8, whole frames; valid until the next one is asked for, which reuses its memory.
        """
        room = _FRAME_BYTES
        out = np.empty(size + room, dtype=np.uint8)
        written = np.zeros(1, dtype=np.int64)
        row = start
        while row < stop:
            row = encode_ticks(row, stop, self._packed, out[:size], written)
            end = int(written[0])
            while row < stop and end < size:
                frame = out[end : end + _LARGEST]
                reached = encode_ticks(row, row + 1, self._packed, frame, written)
                if reached == row:
                    if room == _LARGEST:
                        raise _too_large(row)
                    room = min(2 * room, _LARGEST)
                    larger = np.empty(size + room, dtype=np.uint8)
                    larger[:end] = out[:end]
                    out = larger
                    continue
                row, end = reached, end + int(written[0])
            yield row, out[:end]


def _too_large(row: int) -> InputError:
    return InputError(
        f"tick {row} is larger than a frame may be ({MAX_FRAME_BYTES >> 20} MiB)", row=row
    )


def encode_chunks(
    columns: TickColumns,
    *,
    contract_id: int | None = None,
    tick_type: str | None = None,
    stream_id: str | None = None,
) -> Iterator[npt.NDArray[np.uint8]]:
    """Encode ticks, about 1 MiB of whole frames at a time; each array is reused by the next."""
    encoder = Encoder(columns, contract_id=contract_id, tick_type=tick_type, stream_id=stream_id)
    for _, frames in encoder.chunks():
        yield frames


def encode(
    columns: TickColumns,
    *,
    contract_id: int | None = None,
    tick_type: str | None = None,
    stream_id: str | None = None,
) -> bytes:
    """Encode ticks as frames.

    Parameters are those of :class:`Encoder`.

    Examples
    --------
    >>> tick = TickColumns(
    ...     1,
    ...     {
    ...         "timestamp": Values(np.array([1_000_000_001])),
    ...         "mid_price": Values(np.array([0.5])),
    ...     },
    ... )
    >>> encode(tick, contract_id=7, tick_type="mid_point").hex(" ", 4)
    '00000024 0a047469 636b1a04 08011001 22160807 12096d69 645f706f 696e7449 00000000 0000e03f'
    """
    return b"".join(
        frames.tobytes()
        for frames in encode_chunks(
            columns, contract_id=contract_id, tick_type=tick_type, stream_id=stream_id
        )
    )


def _dtype(name: str) -> Any:
    if name in FLAGS:
        return np.bool_
    return {"sequence": np.uint64, "exchange_time": np.int64}.get(name, np.float64)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{text!r} has a lone surrogate, which UTF-8 does not have") from error


class _Pool:
    """The bytes of all dictionaries, and where each string begins."""

    def __init__(self) -> None:
        self._strings: list[tuple[str, ...]] = [()] * DICTIONARIES

    def column(self, which: int, column: Any, default: str) -> npt.NDArray[np.int32]:
        if isinstance(column, StringColumn):
            return self.codes(which, column.codes, column.values)
        self._strings[which] = (default,)
        return np.zeros(1, dtype=np.int32)

    def codes(
        self, which: int, codes: npt.NDArray[np.int32], values: tuple[str, ...]
    ) -> npt.NDArray[np.int32]:
        self._strings[which] = values
        return np.ascontiguousarray(codes, dtype=np.int32)

    def arrays(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        # One more than there are: the last is empty, and is what code -1 (absent) comes to.
        most = 1 + max(len(strings) for strings in self._strings)
        starts = np.zeros((DICTIONARIES, most, 2), dtype=np.int64)
        pool = bytearray()
        for which, strings in enumerate(self._strings):
            for code, string in enumerate(strings):
                raw = _utf8(string)
                starts[which, code] = len(pool), len(raw)
                pool += raw
        return np.frombuffer(bytes(pool), dtype=np.uint8), starts
