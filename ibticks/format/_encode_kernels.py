"""The compiled writer: columns to frames, byte for byte what the protobuf runtime would write.

The encoding: https://protobuf.dev/programming-guides/encoding/. Fields go in the order of their
numbers, defaults of fields without presence are left out, varints are minimal.
"""

from __future__ import annotations

import numpy as np
from numba import types

from ibticks._jit import BYTES, MUTABLE_BYTES, inline, kernel, load_u8, store_u8, store_u64

__all__ = ["encode_ticks"]

_NANOSECONDS = 1_000_000_000
_LAST_SINGLE_BYTE_FLAG = 15


@inline
def _varint_size(value):
    size = 1
    while value >= np.uint64(0x80):
        value >>= np.uint64(7)
        size += 1
    return size


@inline
def _put_varint(out, pos, value):
    while value >= np.uint64(0x80):
        store_u8(out, pos, np.uint8((value & np.uint64(0x7F)) | np.uint64(0x80)))
        value >>= np.uint64(7)
        pos += 1
    store_u8(out, pos, np.uint8(value))
    return pos + 1


@inline
def _string_size(starts, which, code):
    """Bytes of a string field with a tag of one byte."""
    size = starts[which, code, 1]
    return 1 + _varint_size(np.uint64(size)) + size


@inline
def _put_string(out, pos, tag, pool, starts, which, code):
    store_u8(out, pos, np.uint8(tag))
    start = starts[which, code, 0]
    size = starts[which, code, 1]
    pos = _put_varint(out, pos + 1, np.uint64(size))
    for i in range(size):
        store_u8(out, pos + i, load_u8(pool, start + i))
    return pos + size


@inline
def _put_double(out, pos, tag, bits):
    store_u8(out, pos, np.uint8(tag))
    store_u64(out, pos + 1, bits)
    return pos + 9


_FLOATS = types.Array(types.uint64, 1, "C", readonly=True)


@kernel(
    types.int64(
        types.int64,  # first row
        types.int64,  # row after the last
        types.Array(types.int64, 1, "C", readonly=True),  # timestamp
        types.Array(types.uint32, 1, "C", readonly=True),  # contract_id
        types.UniTuple(_FLOATS, 7),  # price size bid_price bid_size ask_price ask_size mid_price
        types.Array(types.uint64, 1, "C", readonly=True),  # sequence
        types.Array(types.int64, 1, "C", readonly=True),  # exchange_time
        types.Array(types.uint32, 1, "C", readonly=True),  # presence
        types.Array(types.uint8, 1, "C", readonly=True),  # flags
        types.Array(types.int32, 1, "C", readonly=True),  # tick_type
        types.Array(types.int32, 1, "C", readonly=True),  # exchange
        types.Array(types.int32, 1, "C", readonly=True),  # stream_id
        types.Array(types.int64, 1, "C", readonly=True),  # condition_offsets
        types.Array(types.int32, 1, "C", readonly=True),  # conditions
        types.Array(types.int64, 1, "C", readonly=True),  # metadata_offsets
        types.Array(types.int32, 1, "C", readonly=True),  # metadata_keys
        types.Array(types.int32, 1, "C", readonly=True),  # metadata_items
        BYTES,  # pool
        types.Array(types.int64, 3, "C", readonly=True),  # starts
        MUTABLE_BYTES,  # out
        types.int64[::1],  # written: bytes put into out
    )
)
def encode_ticks(
    row,
    stop,
    timestamp,
    contract_id,
    floats,
    sequence,
    exchange_time,
    presence,
    flags,
    tick_type,
    exchange,
    stream_id,
    condition_offsets,
    conditions,
    metadata_offsets,
    metadata_keys,
    metadata_items,
    pool,
    starts,
    out,
    written,
):
    """Encode rows into ``out`` until it is full or they are done; returns the next row.

    ``contract_id``, ``tick_type`` and ``stream_id`` hold one value for every row or one in all.
    """
    price, size, bid_price, bid_size, ask_price, ask_size, mid_price = floats
    pos = 0
    each_contract = 1 if contract_id.size > 1 else 0
    each_type = 1 if tick_type.size > 1 else 0
    each_stream = 1 if stream_id.size > 1 else 0
    while row < stop:
        present = np.int64(presence[row])
        contract = np.uint64(contract_id[row * each_contract])
        type_code = tick_type[row * each_type]
        stream_code = stream_id[row * each_stream]
        flag = np.int64(flags[row])

        seconds = timestamp[row] // _NANOSECONDS
        nanos = timestamp[row] - seconds * _NANOSECONDS
        time_size = 0
        if seconds != 0:
            time_size += 1 + _varint_size(np.uint64(seconds))
        if nanos != 0:
            time_size += 1 + _varint_size(np.uint64(nanos))

        tick_size = np.int64(0)
        if contract != np.uint64(0):
            tick_size += 1 + _varint_size(contract)
        if starts[0, type_code, 1] > 0:
            tick_size += _string_size(starts, 0, type_code)
        for number in range(3, 10):
            if present & (1 << number):
                tick_size += 9
        if present & (1 << 10):
            tick_size += _string_size(starts, 1, exchange[row])
        first_condition = condition_offsets[row] if condition_offsets.size > 0 else np.int64(0)
        last_condition = condition_offsets[row + 1] if condition_offsets.size > 0 else np.int64(0)
        for i in range(first_condition, last_condition):
            tick_size += _string_size(starts, 3, conditions[i])
        if present & (1 << 12):
            tick_size += 1 + _varint_size(sequence[row])
        for number in range(13, 17):
            if present & (1 << number):
                tick_size += 2 if number <= _LAST_SINGLE_BYTE_FLAG else 3
        if present & (1 << 17):
            tick_size += 2 + _varint_size(np.uint64(exchange_time[row]))

        total = np.int64(6)
        if starts[2, stream_code, 1] > 0:
            total += _string_size(starts, 2, stream_code)
        total += 2 + time_size
        total += 1 + _varint_size(np.uint64(tick_size)) + tick_size
        first_pair = metadata_offsets[row] if metadata_offsets.size > 0 else np.int64(0)
        last_pair = metadata_offsets[row + 1] if metadata_offsets.size > 0 else np.int64(0)
        for i in range(first_pair, last_pair):
            pair = _string_size(starts, 4, metadata_keys[i]) + _string_size(
                starts, 4, metadata_items[i]
            )
            total += 1 + _varint_size(np.uint64(pair)) + pair
        if total + 4 > out.size - pos:
            break

        store_u8(out, pos, np.uint8(total >> 24))
        store_u8(out, pos + 1, np.uint8(total >> 16 & 0xFF))
        store_u8(out, pos + 2, np.uint8(total >> 8 & 0xFF))
        store_u8(out, pos + 3, np.uint8(total & 0xFF))
        pos += 4
        for byte in (0x0A, 0x04, 0x74, 0x69, 0x63, 0x6B):  # type: "tick"
            store_u8(out, pos, np.uint8(byte))
            pos += 1
        if starts[2, stream_code, 1] > 0:
            pos = _put_string(out, pos, 0x12, pool, starts, 2, stream_code)
        store_u8(out, pos, np.uint8(0x1A))
        store_u8(out, pos + 1, np.uint8(time_size))
        pos += 2
        if seconds != 0:
            store_u8(out, pos, np.uint8(0x08))
            pos = _put_varint(out, pos + 1, np.uint64(seconds))
        if nanos != 0:
            store_u8(out, pos, np.uint8(0x10))
            pos = _put_varint(out, pos + 1, np.uint64(nanos))
        store_u8(out, pos, np.uint8(0x22))
        pos = _put_varint(out, pos + 1, np.uint64(tick_size))

        if contract != np.uint64(0):
            store_u8(out, pos, np.uint8(0x08))
            pos = _put_varint(out, pos + 1, contract)
        if starts[0, type_code, 1] > 0:
            pos = _put_string(out, pos, 0x12, pool, starts, 0, type_code)
        if present & (1 << 3):
            pos = _put_double(out, pos, 0x19, price[row])
        if present & (1 << 4):
            pos = _put_double(out, pos, 0x21, size[row])
        if present & (1 << 5):
            pos = _put_double(out, pos, 0x29, bid_price[row])
        if present & (1 << 6):
            pos = _put_double(out, pos, 0x31, bid_size[row])
        if present & (1 << 7):
            pos = _put_double(out, pos, 0x39, ask_price[row])
        if present & (1 << 8):
            pos = _put_double(out, pos, 0x41, ask_size[row])
        if present & (1 << 9):
            pos = _put_double(out, pos, 0x49, mid_price[row])
        if present & (1 << 10):
            pos = _put_string(out, pos, 0x52, pool, starts, 1, exchange[row])
        for i in range(first_condition, last_condition):
            pos = _put_string(out, pos, 0x5A, pool, starts, 3, conditions[i])
        if present & (1 << 12):
            store_u8(out, pos, np.uint8(0x60))
            pos = _put_varint(out, pos + 1, sequence[row])
        for number in range(13, 17):
            if present & (1 << number):
                pos = _put_varint(out, pos, np.uint64(number << 3))
                store_u8(out, pos, np.uint8(flag >> (number - 13) & 1))
                pos += 1
        if present & (1 << 17):
            pos = _put_varint(out, pos, np.uint64(17 << 3))
            pos = _put_varint(out, pos, np.uint64(exchange_time[row]))
        for i in range(first_pair, last_pair):
            pair = _string_size(starts, 4, metadata_keys[i]) + _string_size(
                starts, 4, metadata_items[i]
            )
            store_u8(out, pos, np.uint8(0x42))
            pos = _put_varint(out, pos + 1, np.uint64(pair))
            pos = _put_string(out, pos, 0x0A, pool, starts, 4, metadata_keys[i])
            pos = _put_string(out, pos, 0x12, pool, starts, 4, metadata_items[i])
        row += 1
    written[0] = pos
    return row
