"""Kernels of the protobuf wire format: varints, fields, and columns of strings."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import types

from ibticks._jit import MUTABLE_BYTES, inline, kernel, load_u8, load_u32, load_u64
from ibticks.format._framing import MAX_FRAME_BYTES
from ibticks.format._kernel_state import (
    BAD_LENGTH,
    DICTIONARIES,
    DONE,
    MALFORMED,
    NEED_POOL,
    NEED_STRINGS,
    TORN,
    State,
    StringTables,
)

__all__ = [
    "MAX_DEPTH",
    "STRING_TABLES",
    "equal_bytes",
    "frame_bounds",
    "intern_string",
    "read_length",
    "read_tag",
    "read_varint",
    "rehash",
    "skip_scalar",
    "skip_value",
    "to_nanoseconds",
    "walk_message",
]

MAX_DEPTH: Final = 100  # of messages and groups, as in the protobuf runtime

# Numba freezes module globals into constants, but not attributes of classes or of modules.
_NANOSECONDS = 1_000_000_000
_PLAIN_SECONDS = 9_223_372_033  # with any nanoseconds an int32 holds, still within an int64
_GROUPS = State.GROUPS
_INT64_MAX, _INT64_MIN = np.iinfo(np.int64).max, np.iinfo(np.int64).min


@inline
def read_varint(buffer, pos, end):
    """Return the value (uint64) and the position after it.

    Of a tenth byte only the lowest bit counts, as in the protobuf runtime.
    """
    value = np.uint64(0)
    shift = np.uint64(0)
    for _ in range(10):
        if pos >= end:
            return value, -1
        byte = load_u8(buffer, pos)
        pos += 1
        value |= np.uint64(byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += np.uint64(7)
    return value, -1


@inline
def _short_varint(buffer, pos, end, largest):
    """Read a varint of at most five bytes and at most ``largest`` (a tag or a length), as int64."""
    value = np.int64(0)
    for i in range(5):
        if pos >= end:
            return value, -1
        byte = np.int64(load_u8(buffer, pos))
        pos += 1
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if value > largest:
                return value, -1
            return value, pos
    return value, -1


@inline
def read_tag(buffer, pos, end):
    """Return the tag and the position after it."""
    return _short_varint(buffer, pos, end, 0xFFFFFFFF)


@inline
def read_length(buffer, pos, end):
    """Return the length of a delimited field and its first position; -1 if it exceeds ``end``."""
    size, pos = _short_varint(buffer, pos, end, 0x7FFFFFFF)
    if pos < 0 or size > end - pos:
        return size, -1
    return size, pos


@inline
def skip_scalar(buffer, pos, end, wire):
    """Return the position after a value that is not a group."""
    if wire == 0:
        _, pos = read_varint(buffer, pos, end)
        return pos
    if wire == 1:
        return pos + 8 if end - pos >= 8 else -1
    if wire == 2:
        size, pos = read_length(buffer, pos, end)
        return pos + size if pos >= 0 else -1
    if wire == 5:
        return pos + 4 if end - pos >= 4 else -1
    return -1


@inline
def skip_value(buffer, pos, end, tag, depth_left, state):
    """Return the position after the value of an unknown field.

    Groups nest at most ``depth_left`` deep. As in the protobuf runtime, field number 0 is an
    error in a message but not in a group.
    """
    if tag >> 3 == 0:
        return -1
    if tag & 7 != 3:
        return skip_scalar(buffer, pos, end, tag & 7)
    state[_GROUPS] = tag >> 3
    depth = 1
    while depth > 0:
        tag, pos = read_tag(buffer, pos, end)
        if pos < 0:
            return -1
        wire = tag & 7
        if wire == 3:
            if depth >= depth_left:
                return -1
            state[_GROUPS + depth] = tag >> 3
            depth += 1
        elif wire == 4:
            depth -= 1
            if state[_GROUPS + depth] != tag >> 3:
                return -1
        else:
            pos = skip_scalar(buffer, pos, end, wire)
            if pos < 0:
                return -1
    return pos


@inline
def to_nanoseconds(seconds, nanos):
    """Return a time in nanoseconds, saturated outside the years an int64 holds (1677 to 2262)."""
    if -_PLAIN_SECONDS <= seconds <= _PLAIN_SECONDS:
        return seconds * _NANOSECONDS + nanos
    if seconds > 2 * _PLAIN_SECONDS:
        return _INT64_MAX
    if seconds < -2 * _PLAIN_SECONDS:
        return _INT64_MIN
    # Half the time always fits an int64, and shows whether the whole does.
    half = seconds * (_NANOSECONDS // 2) + nanos // 2
    if half > _INT64_MAX // 2:
        return _INT64_MAX
    if half < _INT64_MIN // 2:
        return _INT64_MIN
    return 2 * half + nanos % 2


@inline
def _read_timestamp(buffer, pos, end, seconds, nanos, state):
    """Merge a Timestamp message into ``seconds`` and ``nanos``."""
    while pos < end:
        tag, pos = read_tag(buffer, pos, end)
        if pos < 0:
            return pos, seconds, nanos
        if tag == 0x08:
            value, pos = read_varint(buffer, pos, end)
            seconds = np.int64(value)
        elif tag == 0x10:
            value, pos = read_varint(buffer, pos, end)
            nanos = np.int64(np.int32(value & np.uint64(0xFFFFFFFF)))
        else:
            pos = skip_value(buffer, pos, end, tag, MAX_DEPTH - 1, state)
        if pos < 0:
            return pos, seconds, nanos
    return pos, seconds, nanos


@inline
def walk_message(buffer, pos, end, state):
    """Walk the top level of one StreamMessage without entering its tick.

    Returns
    -------
    ok : bool
    time : int
        UTC nanoseconds.
    case : int
        Field number of the member of the oneof that is set; 0 for none.
    tick_from, tick_fragments : int
        Position of the first field of the tick, and number of its fields: protobuf merges them.
    stream_at, stream_size : int
        Position and size of the stream id.
    entries : int
        Number of metadata entries.
    """
    seconds = np.int64(0)
    nanos = np.int64(0)
    case = 0
    tick_from = pos
    tick_fragments = 0
    stream_at = pos
    stream_size = np.int64(0)
    entries = 0
    ok = True
    while pos < end:
        field_at = pos
        tag, pos = read_tag(buffer, pos, end)
        if pos < 0:
            ok = False
            break
        number = tag >> 3
        if tag & 7 == 2 and 0 < number < 9:
            size, pos = read_length(buffer, pos, end)
            if pos < 0:
                ok = False
                break
            if number == 3:
                reached, seconds, nanos = _read_timestamp(
                    buffer, pos, pos + size, seconds, nanos, state
                )
                if reached < 0:
                    ok = False
                    break
            elif number == 4:
                if case != 4:
                    # A member set after another one starts empty.
                    case = 4
                    tick_fragments = 0
                    tick_from = field_at
                tick_fragments += 1
            elif number == 2:
                stream_at = pos
                stream_size = size
            elif number == 8:
                entries += 1
            elif number >= 5:
                case = number
                tick_fragments = 0
            pos += size
        else:
            pos = skip_value(buffer, pos, end, tag, MAX_DEPTH, state)
            if pos < 0:
                ok = False
                break
    time = to_nanoseconds(seconds, nanos)
    return ok, time, case, tick_from, tick_fragments, stream_at, stream_size, entries


@inline
def frame_bounds(buffer, pos, stop):
    """Return a status, and the position at which the payload of the frame at ``pos`` ends."""
    if stop - pos < 4:
        return TORN, pos
    raw = np.int64(load_u32(buffer, pos))
    size = (
        (raw & 0xFF) << 24 | (raw & 0xFF00) << 8 | (raw & 0xFF0000) >> 8 | (raw & 0xFF000000) >> 24
    )
    if size == 0 or size > MAX_FRAME_BYTES:
        return BAD_LENGTH, pos
    if size > stop - pos - 4:
        return TORN, pos
    return DONE, pos + 4 + size


@inline
def equal_bytes(a, a_at, b, b_at, size):
    """Return whether ``size`` bytes of two buffers are equal."""
    while size >= 8:
        if load_u64(a, a_at) != load_u64(b, b_at):
            return False
        a_at += 8
        b_at += 8
        size -= 8
    while size > 0:
        if load_u8(a, a_at) != load_u8(b, b_at):
            return False
        a_at += 1
        b_at += 1
        size -= 1
    return True


_POOL, _STRINGS, _RECENT = State.POOL, State.STRINGS, State.RECENT


STRING_TABLES: Final = types.NamedTuple(
    (MUTABLE_BYTES, types.int64[:, :, ::1], types.int32[:, ::1]), StringTables
)
"""The type of :class:`StringTables` in signatures."""


@inline
def _first_slot(data, at, size, slots):
    """Return the slot at which the search for a string begins: FNV-1a, folded to a power of two."""
    value = np.uint64(0xCBF29CE484222325)
    for i in range(size):
        value = (value ^ np.uint64(load_u8(data, at + i))) * np.uint64(0x100000001B3)
    return np.int64((value ^ (value >> np.uint64(32))) & np.uint64(slots - 1))


@inline
def _is_utf8(buffer, at, end):
    """Apply the rule of :meth:`bytes.decode` (Unicode, table 3-7: no surrogates or overlongs)."""
    while at < end:
        byte = load_u8(buffer, at)
        at += 1
        if byte < 0x80:
            continue
        # The number of bytes that follow, and the range of the first of them.
        lowest, highest = 0x80, 0xBF
        if 0xC2 <= byte <= 0xDF:
            following = 1
        elif 0xE0 <= byte <= 0xEF:
            following = 2
            if byte == 0xE0:
                lowest = 0xA0
            elif byte == 0xED:
                highest = 0x9F
        elif 0xF0 <= byte <= 0xF4:
            following = 3
            if byte == 0xF0:
                lowest = 0x90
            elif byte == 0xF4:
                highest = 0x8F
        else:
            return False
        if following > end - at:
            return False
        for _ in range(following):
            byte = load_u8(buffer, at)
            at += 1
            if not lowest <= byte <= highest:
                return False
            lowest, highest = 0x80, 0xBF
    return True


@inline
def intern_string(buffer, at, size, dictionary, strings, state):
    """Return the code of a string in a dictionary; a negative number is a status, negated."""
    pool, entries, table = strings
    recent = state[_RECENT + dictionary]
    if recent >= 0:
        start = entries[dictionary, recent, 0]
        if entries[dictionary, recent, 1] == size and equal_bytes(buffer, at, pool, start, size):
            return recent
    slots = table.shape[1]
    slot = _first_slot(buffer, at, size, slots)
    while True:
        code = np.int64(table[dictionary, slot])
        if code < 0:
            break
        start = entries[dictionary, code, 0]
        if entries[dictionary, code, 1] == size and equal_bytes(buffer, at, pool, start, size):
            state[_RECENT + dictionary] = code
            return code
        slot = (slot + 1) & (slots - 1)
    code = state[_STRINGS + dictionary]
    if code >= entries.shape[1]:
        return np.int64(-NEED_STRINGS)
    used = state[_POOL]
    if size > pool.size - used:
        return np.int64(-NEED_POOL)
    if not _is_utf8(buffer, at, at + size):
        return np.int64(-MALFORMED)
    for i in range(size):
        pool[used + i] = load_u8(buffer, at + i)
    entries[dictionary, code, 0] = used
    entries[dictionary, code, 1] = size
    table[dictionary, slot] = code
    state[_POOL] = used + size
    state[_STRINGS + dictionary] = code + 1
    state[_RECENT + dictionary] = code
    return code


@kernel(types.int64(STRING_TABLES, types.int64[::1]))
def rehash(strings, state):
    """Fill empty ``slots`` (all -1) with the entries of the dictionaries."""
    pool, entries, table = strings
    slots = table.shape[1]
    for dictionary in range(DICTIONARIES):
        for code in range(state[_STRINGS + dictionary]):
            start, size = entries[dictionary, code, 0], entries[dictionary, code, 1]
            slot = _first_slot(pool, start, size, slots)
            while table[dictionary, slot] >= 0:
                slot = (slot + 1) & (slots - 1)
            table[dictionary, slot] = code
    return DONE
