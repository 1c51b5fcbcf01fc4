"""The compiled reader: frames in a buffer to columns, with every bound checked.

It reads the protobuf wire format directly and agrees with the protobuf runtime message by message
(tests hold the two together), except that what nobody asked for is passed over by its length,
whatever is in it: ticks outside the time range, other members of the oneof, columns not wanted.
A kernel never reads outside ``buffer``, never allocates in proportion to what a length field
claims, and can be resumed: when an output array is full it returns, the caller makes room, and it
goes on at the frame it had reached.

The encoding: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import types

from ibticks._jit import BYTES, MUTABLE_BYTES, inline, kernel, load_u8, load_u32, load_u64
from ibticks.format._framing import MAX_FRAME_BYTES

__all__ = [
    "BAD_LENGTH",
    "DICTIONARIES",
    "DONE",
    "MALFORMED",
    "NEED_LIST",
    "NEED_PAIRS",
    "NEED_POOL",
    "NEED_ROWS",
    "NEED_STRINGS",
    "SHAPES",
    "SHAPE_PLACES",
    "SHAPE_WORDS",
    "STATE_SIZE",
    "TORN",
    "State",
    "decode_ticks",
    "find_messages",
    "fingerprint_frames",
    "rehash",
    "scan_blocks",
    "walk_frames",
]

# What a kernel returns: how far it got is in state[State.POSITION].
DONE: Final = 0  # reached the end of the buffer at the end of a frame
TORN: Final = 1  # the last frame is not whole
NEED_ROWS: Final = 2
NEED_STRINGS: Final = 3  # a dictionary is full
NEED_POOL: Final = 4  # the bytes of the dictionaries are full
NEED_LIST: Final = 5  # the flat array of conditions is full
NEED_PAIRS: Final = 6  # the flat arrays of metadata are full
BAD_LENGTH: Final = 7  # a frame that is empty or longer than MAX_FRAME_BYTES
MALFORMED: Final = 8  # a frame that is not a StreamMessage

DICTIONARIES: Final = 5  # tick_type, exchange, stream_id, conditions, metadata


class State:
    """Where each running value of a kernel stands in its ``state`` array (int64)."""

    POSITION: Final = 0
    ROWS: Final = 1
    MESSAGES: Final = 2
    LIST: Final = 3  # conditions written
    PAIRS: Final = 4  # metadata pairs written
    POOL: Final = 5  # bytes of the string pool used
    LAST_TIME: Final = 6
    UNSORTED: Final = 7
    IN_ALL: Final = 8  # presence bits every row had
    IN_ANY: Final = 9  # presence bits some row had
    STRINGS: Final = 10  # entries of each dictionary, DICTIONARIES of them
    RECENT: Final = 15  # the code each dictionary was last asked for
    SHAPE: Final = 20  # the shape the last frame had
    LEARNED: Final = 21  # shapes learned
    FITTED: Final = 22  # frames that fitted one


STATE_SIZE: Final = 23

# Local names: numba freezes module globals into constants, but not attributes of classes.
_POSITION, _ROWS, _MESSAGES = State.POSITION, State.ROWS, State.MESSAGES
_LIST, _PAIRS, _POOL, _LAST_TIME = State.LIST, State.PAIRS, State.POOL, State.LAST_TIME
_UNSORTED, _IN_ALL, _IN_ANY = State.UNSORTED, State.IN_ALL, State.IN_ANY
_STRINGS, _RECENT = State.STRINGS, State.RECENT
_SHAPE, _LEARNED, _FITTED = State.SHAPE, State.LEARNED, State.FITTED
_NANOSECONDS = 1_000_000_000
_PLAIN_SECONDS = 9_223_372_033  # with any nanoseconds an int32 holds, still within an int64
_TIME_MAX, _TIME_MIN = np.iinfo(np.int64).max, np.iinfo(np.int64).min
_MAX_DEPTH = 100  # of messages and groups, as in the protobuf runtime

# Consecutive ticks look alike: the same tags, lengths and strings at the same places. A shape is
# what was learned from one message: which bits of it must be equal in the next one (all bits of
# tags, lengths and constant strings; only the top bit of a varint's bytes; none of a double's) and
# where its values stand. A frame that fits a shape is read without being parsed.
SHAPES: Final = 8
SHAPE_WORDS: Final = 48  # of eight bytes: larger messages are parsed each time
SHAPE_PLACES: Final = 64
_MAX_LISTED = 8
_LEARN_AT_FIRST = 64  # and after that one for every 16 frames that fitted
_S_SIZE = 0
_S_SECONDS, _S_NANOS, _S_CONTRACT, _S_PRESENT = 1, 2, 3, 4  # of varints: place * 16 + bytes
_S_VALUE = 8  # + field number: place of a double, or as above for a varint
_S_EXCHANGE, _S_EXCHANGE_SIZE = 30, 31
_S_LISTED = 32
_S_LIST = 33  # pairs of place and size
_S_TYPE_CODE, _S_STREAM_CODE = 50, 51


@inline
def _varint(buffer, pos, end):
    """Value (uint64) and the position after it; position -1 where there is no varint.

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
    """A varint of at most five bytes and at most ``largest`` (a tag or a length), as int64."""
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
def _tag(buffer, pos, end):
    return _short_varint(buffer, pos, end, 0xFFFFFFFF)


@inline
def _length(buffer, pos, end):
    """Length of a delimited field and where it begins; -1 where it runs past ``end``."""
    size, pos = _short_varint(buffer, pos, end, 0x7FFFFFFF)
    if pos < 0 or size > end - pos:
        return size, -1
    return size, pos


@inline
def _skip_scalar(buffer, pos, end, wire):
    """Position after a value that is not a group."""
    if wire == 0:
        _, pos = _varint(buffer, pos, end)
        return pos
    if wire == 1:
        return pos + 8 if end - pos >= 8 else -1
    if wire == 2:
        size, pos = _length(buffer, pos, end)
        return pos + size if pos >= 0 else -1
    if wire == 5:
        return pos + 4 if end - pos >= 4 else -1
    return -1


@inline
def _skip(buffer, pos, end, tag, depth_left):
    """Position after the value of an unknown field; -1 where it is malformed.

    Groups nest at most ``depth_left`` deep. As in the protobuf runtime, field number 0 is an
    error in a message but not in a group.
    """
    if tag >> 3 == 0:
        return -1
    if tag & 7 != 3:
        return _skip_scalar(buffer, pos, end, tag & 7)
    open_groups = np.empty(_MAX_DEPTH, np.int64)
    open_groups[0] = tag >> 3
    depth = 1
    while depth > 0:
        tag, pos = _tag(buffer, pos, end)
        if pos < 0:
            return -1
        wire = tag & 7
        if wire == 3:
            if depth >= depth_left:
                return -1
            open_groups[depth] = tag >> 3
            depth += 1
        elif wire == 4:
            depth -= 1
            if open_groups[depth] != tag >> 3:
                return -1
        else:
            pos = _skip_scalar(buffer, pos, end, wire)
            if pos < 0:
                return -1
    return pos


@inline
def _nanoseconds(seconds, nanos):
    """Saturates outside the years an int64 holds (1677 to 2262): such a time is in no range."""
    if -_PLAIN_SECONDS <= seconds <= _PLAIN_SECONDS:
        return seconds * _NANOSECONDS + nanos
    if seconds > 2 * _PLAIN_SECONDS:
        return _TIME_MAX
    if seconds < -2 * _PLAIN_SECONDS:
        return _TIME_MIN
    # Half the time fits whatever it is, and tells whether the whole does.
    half = seconds * (_NANOSECONDS // 2) + nanos // 2
    if half > _TIME_MAX // 2:
        return _TIME_MAX
    if half < _TIME_MIN // 2:
        return _TIME_MIN
    return 2 * half + nanos % 2


@inline
def _timestamp(buffer, pos, end, seconds, nanos):
    """Merge a Timestamp message into ``seconds`` and ``nanos``."""
    while pos < end:
        tag, pos = _tag(buffer, pos, end)
        if pos < 0:
            return pos, seconds, nanos
        if tag == 0x08:
            value, pos = _varint(buffer, pos, end)
            seconds = np.int64(value)
        elif tag == 0x10:
            value, pos = _varint(buffer, pos, end)
            nanos = np.int64(np.int32(value & np.uint64(0xFFFFFFFF)))
        else:
            pos = _skip(buffer, pos, end, tag, _MAX_DEPTH - 1)
        if pos < 0:
            return pos, seconds, nanos
    return pos, seconds, nanos


@inline
def _walk(buffer, pos, end):
    """Walk the top level of one StreamMessage without going into its tick.

    Returns ok, time, the field number of the oneof member that is set (0: none), where the fields
    that count for the tick begin and how many parts it has, offset and size of the stream id,
    and how many metadata entries there are.
    """
    seconds = np.int64(0)
    nanos = np.int64(0)
    case = 0
    tick_from = pos
    tick_parts = 0
    stream_at = pos
    stream_size = np.int64(0)
    entries = 0
    ok = True
    while pos < end:
        field_at = pos
        tag, pos = _tag(buffer, pos, end)
        if pos < 0:
            ok = False
            break
        number = tag >> 3
        if tag & 7 == 2 and 0 < number < 9:
            size, pos = _length(buffer, pos, end)
            if pos < 0:
                ok = False
                break
            if number == 3:
                reached, seconds, nanos = _timestamp(buffer, pos, pos + size, seconds, nanos)
                if reached < 0:
                    ok = False
                    break
            elif number == 4:
                if case != 4:
                    # A member set after another one starts afresh.
                    case = 4
                    tick_parts = 0
                    tick_from = field_at
                tick_parts += 1
            elif number == 2:
                stream_at = pos
                stream_size = size
            elif number == 8:
                entries += 1
            elif number >= 5:
                case = number
                tick_parts = 0
            pos += size
        else:
            pos = _skip(buffer, pos, end, tag, _MAX_DEPTH)
            if pos < 0:
                ok = False
                break
    time = _nanoseconds(seconds, nanos)
    return ok, time, case, tick_from, tick_parts, stream_at, stream_size, entries


@inline
def _same(a, at, b, bt, size):
    while size >= 8:
        if load_u64(a, at) != load_u64(b, bt):
            return False
        at += 8
        bt += 8
        size -= 8
    while size > 0:
        if load_u8(a, at) != load_u8(b, bt):
            return False
        at += 1
        bt += 1
        size -= 1
    return True


@inline
def _slot(bytes_, at, size, slots):
    """Where a string begins to be looked for: FNV-1a, folded to a power of two."""
    value = np.uint64(0xCBF29CE484222325)
    for i in range(size):
        value = (value ^ np.uint64(load_u8(bytes_, at + i))) * np.uint64(0x100000001B3)
    return np.int64((value ^ (value >> np.uint64(32))) & np.uint64(slots - 1))


@inline
def _is_utf8(buffer, at, end):
    """As :meth:`bytes.decode` has it (Unicode, table 3-7: no surrogates, no overlong forms)."""
    while at < end:
        byte = load_u8(buffer, at)
        at += 1
        if byte < 0x80:
            continue
        # How many bytes follow, and which the first of them may be.
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
def _intern(buffer, at, size, which, pool, starts, table, state):
    """Code of a string in dictionary ``which``, or the status that stands against it, negative."""
    recent = state[_RECENT + which]
    if recent >= 0:
        start = starts[which, recent, 0]
        if starts[which, recent, 1] == size and _same(buffer, at, pool, start, size):
            return recent
    slots = table.shape[1]
    slot = _slot(buffer, at, size, slots)
    while True:
        code = table[which, slot]
        if code < 0:
            break
        if starts[which, code, 1] == size and _same(buffer, at, pool, starts[which, code, 0], size):
            state[_RECENT + which] = code
            return np.int64(code)
        slot = (slot + 1) & (slots - 1)
    code = state[_STRINGS + which]
    if code >= starts.shape[1]:
        return np.int64(-NEED_STRINGS)
    used = state[_POOL]
    if size > pool.size - used:
        return np.int64(-NEED_POOL)
    if not _is_utf8(buffer, at, at + size):
        return np.int64(-MALFORMED)
    for i in range(size):
        pool[used + i] = load_u8(buffer, at + i)
    starts[which, code, 0] = used
    starts[which, code, 1] = size
    table[which, slot] = code
    state[_POOL] = used + size
    state[_STRINGS + which] = code + 1
    state[_RECENT + which] = code
    return code


@kernel(types.void(MUTABLE_BYTES, types.int64[:, :, ::1], types.int32[:, ::1], types.int64[::1]))
def rehash(pool, starts, table, state):
    """Fill an empty ``table`` (all -1) with the entries of the dictionaries."""
    slots = table.shape[1]
    for which in range(DICTIONARIES):
        for code in range(state[_STRINGS + which]):
            slot = _slot(pool, starts[which, code, 0], starts[which, code, 1], slots)
            while table[which, slot] >= 0:
                slot = (slot + 1) & (slots - 1)
            table[which, slot] = code


@inline
def _mark(mask, at, size, bits):
    for i in range(at, at + size):
        mask[i >> 3] |= np.uint64(bits) << np.uint64((i & 7) * 8)


@inline
def _learn(buffer, begin, end, shape, mask, places):
    """Take the message at ``begin`` as a shape; False if it cannot be.

    It has been read and is well-formed, but for ticks that do not count (another member of the
    oneof came after them), which may be anything.
    """
    places[:] = -1
    mask[:] = 0
    size = end - begin
    if size > 8 * SHAPE_WORDS:
        return False
    for i in range(SHAPE_WORDS):
        shape[i] = 0
    for i in range(size):
        byte = np.uint64(load_u8(buffer, begin + i))
        shape[i >> 3] |= byte << np.uint64((i & 7) * 8)
    places[_S_SIZE] = size
    places[_S_CONTRACT] = 0
    places[_S_LISTED] = 0
    present = np.int64(0)
    pos = begin
    level_end = end
    outer = 0  # the field number of the message we are in
    ticks = 0
    while True:
        while pos == level_end:
            if outer == 0:
                places[_S_PRESENT] = present
                return ticks == 1  # so that no tick came in parts, or was replaced
            outer = 0
            level_end = end
        field_at = pos
        tag, pos = _tag(buffer, pos, level_end)
        if pos < 0:
            return False
        number = tag >> 3
        wire = tag & 7
        after = _skip_scalar(buffer, pos, level_end, wire)
        if after < 0:
            return False  # a group, or malformed
        _mark(mask, field_at - begin, pos - field_at, 0xFF)
        if wire == 0:
            value, _ = _varint(buffer, pos, level_end)
            width = after - pos
            place = (pos - begin) * 16 + width
            _mark(mask, pos - begin, width, 0x80)
            if outer == 3 and (number == 1 or number == 2):
                if width > 8:
                    return False
                places[_S_SECONDS if number == 1 else _S_NANOS] = place
            elif outer == 4 and number == 1:
                _mark(mask, pos - begin, width, 0xFF)
                places[_S_CONTRACT] = np.int64(value & np.uint64(0xFFFFFFFF))
            elif outer == 4 and 12 <= number <= 17:
                if width > 8:
                    return False
                places[_S_VALUE + number] = place
                present |= 1 << number
        elif wire == 1:
            if outer == 4 and 3 <= number <= 9:
                places[_S_VALUE + number] = pos - begin
                present |= 1 << number
        elif wire == 2:
            size_at = pos
            length, pos = _length(buffer, pos, level_end)
            _mark(mask, size_at - begin, pos - size_at, 0xFF)
            if outer == 0 and (number == 3 or number == 4):
                ticks += number == 4
                outer = number
                level_end = after
                continue
            if (outer == 0 or outer == 4) and number == 2:
                _mark(mask, pos - begin, length, 0xFF)
            elif outer == 4 and number == 10:
                places[_S_EXCHANGE] = pos - begin
                places[_S_EXCHANGE_SIZE] = length
                present |= 1 << 10
            elif outer == 4 and number == 11:
                listed = places[_S_LISTED]
                if listed == _MAX_LISTED:
                    return False
                places[_S_LIST + 2 * listed] = pos - begin
                places[_S_LIST + 2 * listed + 1] = length
                places[_S_LISTED] = listed + 1
        pos = after


@inline
def _fits(buffer, begin, size, shape, mask):
    """Whether the frame has the shape; reads up to seven bytes past its end."""
    differs = np.uint64(0)
    for i in range((size + 7) >> 3):
        differs |= (load_u64(buffer, begin + 8 * i) ^ shape[i]) & mask[i]
    return differs == np.uint64(0)


@inline
def _varint_at(buffer, begin, place):
    """The varint of a known number of bytes, at most 8; reads eight bytes whatever it is."""
    value = load_u64(buffer, begin + (place >> 4))
    value &= np.uint64(0x7F7F7F7F7F7F7F7F) >> np.uint64(64 - 8 * (place & 15))
    value = (value & np.uint64(0x007F007F007F007F)) | (
        (value & np.uint64(0x7F007F007F007F00)) >> np.uint64(1)
    )
    value = (value & np.uint64(0x00003FFF00003FFF)) | (
        (value & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2)
    )
    return (value & np.uint64(0x000000000FFFFFFF)) | (
        (value & np.uint64(0x0FFFFFFF00000000)) >> np.uint64(4)
    )


@inline
def _frame(buffer, pos, stop):
    """Status, and where the payload of the frame at ``pos`` ends."""
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


_FLOATS = types.uint64[::1]  # the bits of float64

DECODE_SIGNATURE = types.int64(
    BYTES,  # buffer
    types.int64,  # stop
    types.int64,  # first time wanted
    types.int64,  # first time no longer wanted
    types.int64,  # columns wanted, a bit each: TickData's numbers, 18 stream_id, 19 metadata
    types.int64[::1],  # timestamp
    types.uint32[::1],  # contract_id
    _FLOATS,  # price
    _FLOATS,  # size
    _FLOATS,  # bid_price
    _FLOATS,  # bid_size
    _FLOATS,  # ask_price
    _FLOATS,  # ask_size
    _FLOATS,  # mid_price
    types.uint64[::1],  # sequence
    types.int64[::1],  # exchange_time
    types.uint32[::1],  # presence
    types.uint8[::1],  # flags
    types.int32[::1],  # tick_type
    types.int32[::1],  # exchange
    types.int32[::1],  # stream_id
    types.int64[::1],  # condition_offsets
    types.int32[::1],  # conditions
    types.int64[::1],  # metadata_offsets
    types.int32[::1],  # metadata_keys
    types.int32[::1],  # metadata_items
    MUTABLE_BYTES,  # pool
    types.int64[:, :, ::1],  # starts
    types.int32[:, ::1],  # table
    types.uint64[:, ::1],  # shapes
    types.uint64[:, ::1],  # masks
    types.int64[:, ::1],  # places
    types.int64[::1],  # state
)


@kernel(DECODE_SIGNATURE)
def decode_ticks(
    buffer,
    stop,
    start_time,
    end_time,
    wanted,
    timestamp,
    contract_id,
    price,
    size,
    bid_price,
    bid_size,
    ask_price,
    ask_size,
    mid_price,
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
    table,
    shapes,
    masks,
    places,
    state,
):
    """Decode the ticks of ``buffer[state[POSITION]:stop]`` whose time is in the range.

    A row is written field by field and counts only once its message has been read to the end, so
    that returning in the middle of one (no room, malformed) leaves nothing behind.
    """
    pos = state[_POSITION]
    row = state[_ROWS]
    capacity = timestamp.size
    last_time = state[_LAST_TIME]
    in_all = state[_IN_ALL]
    in_any = state[_IN_ANY]
    want_contract = wanted & (1 << 1) != 0
    want_tick_type = wanted & (1 << 2) != 0
    want_price = wanted & (1 << 3) != 0
    want_size = wanted & (1 << 4) != 0
    want_bid_price = wanted & (1 << 5) != 0
    want_bid_size = wanted & (1 << 6) != 0
    want_ask_price = wanted & (1 << 7) != 0
    want_ask_size = wanted & (1 << 8) != 0
    want_mid_price = wanted & (1 << 9) != 0
    want_exchange = wanted & (1 << 10) != 0
    want_conditions = wanted & (1 << 11) != 0
    want_sequence = wanted & (1 << 12) != 0
    want_flags = wanted & (0b1111 << 13) != 0
    want_exchange_time = wanted & (1 << 17) != 0
    want_stream = wanted & (1 << 18) != 0
    want_metadata = wanted & (1 << 19) != 0
    status = DONE
    while pos < stop:
        status, frame_end = _frame(buffer, pos, stop)
        if status != DONE:
            break
        begin = pos + 4
        if frame_end + 8 <= buffer.size and not want_metadata:
            # Frames fit the shape the last one had, nearly always.
            shape = state[_SHAPE]
            fitting = -1
            for _ in range(SHAPES):
                if places[shape, _S_SIZE] == frame_end - begin and _fits(
                    buffer, begin, frame_end - begin, shapes[shape], masks[shape]
                ):
                    fitting = shape
                    break
                shape = (shape + 1) & (SHAPES - 1)
            if fitting >= 0:
                state[_SHAPE] = shape
                place = places[shape]
                seconds = np.int64(0)
                nanos = np.int64(0)
                if place[_S_SECONDS] >= 0:
                    seconds = np.int64(_varint_at(buffer, begin, place[_S_SECONDS]))
                if place[_S_NANOS] >= 0:
                    nanos = np.int64(
                        np.int32(_varint_at(buffer, begin, place[_S_NANOS]) & np.uint64(0xFFFFFFFF))
                    )
                time = _nanoseconds(seconds, nanos)
                if time < start_time or time >= end_time:
                    state[_MESSAGES] += 1
                    pos = frame_end
                    continue
                if row >= capacity:
                    status = NEED_ROWS
                    break
                code = np.int64(0)
                if want_exchange:
                    exchange[row] = -1
                    if place[_S_EXCHANGE] >= 0:
                        code = _intern(
                            buffer,
                            begin + place[_S_EXCHANGE],
                            place[_S_EXCHANGE_SIZE],
                            1,
                            pool,
                            starts,
                            table,
                            state,
                        )
                        exchange[row] = code
                if want_conditions:
                    listed = state[_LIST]
                    if listed + place[_S_LISTED] > conditions.size:
                        status = NEED_LIST
                        break
                    for i in range(place[_S_LISTED]):
                        if code >= 0:
                            code = _intern(
                                buffer,
                                begin + place[_S_LIST + 2 * i],
                                place[_S_LIST + 2 * i + 1],
                                3,
                                pool,
                                starts,
                                table,
                                state,
                            )
                            conditions[listed + i] = code
                if code < 0:
                    status = -code
                    break
                present = place[_S_PRESENT]
                if want_price and place[_S_VALUE + 3] >= 0:
                    price[row] = load_u64(buffer, begin + place[_S_VALUE + 3])
                if want_size and place[_S_VALUE + 4] >= 0:
                    size[row] = load_u64(buffer, begin + place[_S_VALUE + 4])
                if want_bid_price and place[_S_VALUE + 5] >= 0:
                    bid_price[row] = load_u64(buffer, begin + place[_S_VALUE + 5])
                if want_bid_size and place[_S_VALUE + 6] >= 0:
                    bid_size[row] = load_u64(buffer, begin + place[_S_VALUE + 6])
                if want_ask_price and place[_S_VALUE + 7] >= 0:
                    ask_price[row] = load_u64(buffer, begin + place[_S_VALUE + 7])
                if want_ask_size and place[_S_VALUE + 8] >= 0:
                    ask_size[row] = load_u64(buffer, begin + place[_S_VALUE + 8])
                if want_mid_price and place[_S_VALUE + 9] >= 0:
                    mid_price[row] = load_u64(buffer, begin + place[_S_VALUE + 9])
                if want_sequence and place[_S_VALUE + 12] >= 0:
                    sequence[row] = _varint_at(buffer, begin, place[_S_VALUE + 12])
                if want_exchange_time and place[_S_VALUE + 17] >= 0:
                    exchange_time[row] = np.int64(_varint_at(buffer, begin, place[_S_VALUE + 17]))
                flag = np.int64(0)
                if want_flags:
                    for number in range(13, 17):
                        if place[_S_VALUE + number] >= 0 and _varint_at(
                            buffer, begin, place[_S_VALUE + number]
                        ) != np.uint64(0):
                            flag |= np.int64(1) << (number - 13)
                flags[row] = np.uint8(flag)
                if want_tick_type:
                    tick_type[row] = place[_S_TYPE_CODE]
                if want_stream:
                    stream_id[row] = place[_S_STREAM_CODE]
                if want_conditions:
                    state[_LIST] = listed + place[_S_LISTED]
                    condition_offsets[row + 1] = state[_LIST]
                if want_contract:
                    contract_id[row] = np.uint32(place[_S_CONTRACT])
                timestamp[row] = time
                if time < last_time:
                    state[_UNSORTED] = 1
                last_time = time
                presence[row] = np.uint32(present)
                in_all &= present
                in_any |= present
                row += 1
                state[_MESSAGES] += 1
                state[_FITTED] += 1
                pos = frame_end
                continue

        ok, time, case, part, parts, stream_at, stream_size, entries = _walk(
            buffer, begin, frame_end
        )
        if not ok:
            status = MALFORMED
            break
        if case != 4 or time < start_time or time >= end_time:
            state[_MESSAGES] += 1
            pos = frame_end
            continue
        if row >= capacity:
            status = NEED_ROWS
            break

        present = np.int64(0)
        flag = np.int64(0)
        contract = np.uint64(0)
        type_at = pos
        type_size = np.int64(0)
        exchange_at = pos
        exchange_size = np.int64(0)
        listed = state[_LIST]
        code = np.int64(0)
        while parts > 0:
            # The parts of a tick that came in several pieces are merged, as protobuf merges them.
            tag, part = _tag(buffer, part, frame_end)
            if tag != 0x22:
                part = _skip(buffer, part, frame_end, tag, _MAX_DEPTH)
                continue
            parts -= 1
            length, at = _length(buffer, part, frame_end)
            part = at + length
            while at < part:
                tag, at = _tag(buffer, at, part)
                if at < 0:
                    break
                wire = tag & 7
                number = tag >> 3
                if wire == 1 and 3 <= number <= 9:
                    if part - at < 8:
                        at = -1
                        break
                    bits = load_u64(buffer, at)
                    at += 8
                    present |= 1 << number
                    if number == 5:
                        if want_bid_price:
                            bid_price[row] = bits
                    elif number == 6:
                        if want_bid_size:
                            bid_size[row] = bits
                    elif number == 7:
                        if want_ask_price:
                            ask_price[row] = bits
                    elif number == 8:
                        if want_ask_size:
                            ask_size[row] = bits
                    elif number == 3:
                        if want_price:
                            price[row] = bits
                    elif number == 4:
                        if want_size:
                            size[row] = bits
                    elif want_mid_price:
                        mid_price[row] = bits
                elif wire == 0 and (number == 1 or 12 <= number <= 17):
                    value, at = _varint(buffer, at, part)
                    if at < 0:
                        break
                    if number == 1:
                        contract = value
                    elif number == 12:
                        present |= 1 << 12
                        if want_sequence:
                            sequence[row] = value
                    elif number == 17:
                        present |= 1 << 17
                        if want_exchange_time:
                            exchange_time[row] = np.int64(value)
                    else:
                        present |= 1 << number
                        bit = np.int64(1) << (number - 13)
                        if value != np.uint64(0):
                            flag |= bit
                        else:
                            flag &= ~bit
                elif wire == 2 and (number == 2 or number == 10 or number == 11):
                    length, at = _length(buffer, at, part)
                    if at < 0:
                        break
                    if number == 2:
                        type_at = at
                        type_size = length
                    elif number == 10:
                        present |= 1 << 10
                        exchange_at = at
                        exchange_size = length
                    elif want_conditions:
                        if listed >= conditions.size:
                            status = NEED_LIST
                            break
                        code = _intern(buffer, at, length, 3, pool, starts, table, state)
                        if code < 0:
                            break
                        conditions[listed] = code
                        listed += 1
                    at += length
                else:
                    at = _skip(buffer, at, part, tag, _MAX_DEPTH - 1)
                    if at < 0:
                        break
            if at < 0:
                status = MALFORMED
                break
            if status != DONE or code < 0:
                break

        if status == DONE and code >= 0 and want_tick_type:
            code = _intern(buffer, type_at, type_size, 0, pool, starts, table, state)
            tick_type[row] = code
        if status == DONE and code >= 0 and want_exchange:
            if present & (1 << 10):
                code = _intern(buffer, exchange_at, exchange_size, 1, pool, starts, table, state)
                exchange[row] = code
            else:
                exchange[row] = -1
        if status == DONE and code >= 0 and want_stream:
            code = _intern(buffer, stream_at, stream_size, 2, pool, starts, table, state)
            stream_id[row] = code
        paired = state[_PAIRS]
        if want_metadata:
            at = pos + 4
            while status == DONE and code >= 0 and entries > 0:
                tag, at = _tag(buffer, at, frame_end)
                if tag != 0x42:
                    at = _skip(buffer, at, frame_end, tag, _MAX_DEPTH)
                    continue
                entries -= 1
                length, at = _length(buffer, at, frame_end)
                entry_end = at + length
                key_at = at
                key_size = np.int64(0)
                item_at = at
                item_size = np.int64(0)
                whole = True
                while at < entry_end:
                    tag, at = _tag(buffer, at, entry_end)
                    if at < 0:
                        break
                    if tag == 0x0A or tag == 0x12:
                        length, at = _length(buffer, at, entry_end)
                        if at < 0:
                            break
                        if tag == 0x0A:
                            key_at = at
                            key_size = length
                        else:
                            item_at = at
                            item_size = length
                        at += length
                    else:
                        # protobuf sets an entry with an unknown field aside as a whole.
                        whole = False
                        at = _skip(buffer, at, entry_end, tag, _MAX_DEPTH - 1)
                        if at < 0:
                            break
                if at < 0:
                    status = MALFORMED
                    break
                if not whole:
                    continue
                if paired >= metadata_keys.size:
                    status = NEED_PAIRS
                    break
                key = _intern(buffer, key_at, key_size, 4, pool, starts, table, state)
                if key < 0:
                    code = key
                    break
                code = _intern(buffer, item_at, item_size, 4, pool, starts, table, state)
                if code < 0:
                    break
                place = paired
                for i in range(state[_PAIRS], paired):
                    if metadata_keys[i] == key:
                        place = i
                metadata_keys[place] = key
                metadata_items[place] = code
                if place == paired:
                    paired += 1
        if status == DONE and code < 0:
            status = -code
        if status != DONE:
            break

        timestamp[row] = time
        if time < last_time:
            state[_UNSORTED] = 1
        last_time = time
        if want_contract:
            contract_id[row] = np.uint32(contract & np.uint64(0xFFFFFFFF))
        presence[row] = np.uint32(present)
        flags[row] = np.uint8(flag)
        in_all &= present
        in_any |= present
        if want_conditions:
            state[_LIST] = listed
            condition_offsets[row + 1] = listed
        if want_metadata:
            state[_PAIRS] = paired
            metadata_offsets[row + 1] = paired
        if state[_LEARNED] < _LEARN_AT_FIRST + state[_FITTED] // 16:
            shape = state[_LEARNED] & (SHAPES - 1)
            state[_LEARNED] += 1
            if _learn(buffer, begin, frame_end, shapes[shape], masks[shape], places[shape]):
                if want_tick_type:
                    places[shape, _S_TYPE_CODE] = tick_type[row]
                if want_stream:
                    places[shape, _S_STREAM_CODE] = stream_id[row]
            else:
                places[shape, _S_SIZE] = -1
        row += 1
        state[_MESSAGES] += 1
        pos = frame_end
    state[_POSITION] = pos
    state[_ROWS] = row
    state[_LAST_TIME] = last_time
    state[_IN_ALL] = in_all
    state[_IN_ANY] = in_any
    return status


@kernel(
    types.int64(
        BYTES,
        types.int64,
        types.int64,
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
    )
)
def scan_blocks(
    buffer,
    stop,
    target,
    offsets,
    messages,
    ticks,
    first,
    earliest,
    latest,
    state,
):
    """Walk the frames from ``state[POSITION]`` and describe them in blocks of ``target`` bytes.

    Block ``i`` begins at ``offsets[i]``; ``state[ROWS]`` is how many there are.
    """
    pos = state[_POSITION]
    block = -1
    status = DONE
    while pos < stop:
        status, frame_end = _frame(buffer, pos, stop)
        if status != DONE:
            break
        ok, time, case, _, _, _, _, _ = _walk(buffer, pos + 4, frame_end)
        if not ok:
            status = MALFORMED
            break
        if block < 0 or pos - offsets[block] >= target:
            block += 1
            if block >= offsets.size:
                status = NEED_ROWS
                block -= 1
                break
            offsets[block] = pos
            messages[block] = 0
            ticks[block] = 0
            first[block] = time
            earliest[block] = time
            latest[block] = time
        messages[block] += 1
        if case == 4:
            ticks[block] += 1
        earliest[block] = min(earliest[block], time)
        latest[block] = max(latest[block], time)
        pos = frame_end
    state[_POSITION] = pos
    state[_ROWS] = block + 1
    return status


@kernel(types.int64(BYTES, types.int64, types.int64[::1]))
def walk_frames(buffer, stop, state):
    """Go from frame to frame without looking into them; counts them in ``state[MESSAGES]``."""
    pos = state[_POSITION]
    status = DONE
    while pos < stop:
        status, frame_end = _frame(buffer, pos, stop)
        if status != DONE:
            break
        state[_MESSAGES] += 1
        pos = frame_end
    state[_POSITION] = pos
    return status


@kernel(
    types.int64(
        BYTES,
        types.int64,
        types.int64,
        types.int64,
        types.boolean,
        types.boolean,
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
    )
)
def find_messages(
    buffer,
    stop,
    start_time,
    end_time,
    want_ticks,
    want_others,
    offsets,
    sizes,
    times,
    state,
):
    """Offset, size and time of the payloads in the time range, ticks or the others or both."""
    pos = state[_POSITION]
    row = state[_ROWS]
    status = DONE
    while pos < stop:
        status, frame_end = _frame(buffer, pos, stop)
        if status != DONE:
            break
        ok, time, case, _, _, _, _, _ = _walk(buffer, pos + 4, frame_end)
        if not ok:
            status = MALFORMED
            break
        wanted = want_ticks if case == 4 else want_others
        if wanted and start_time <= time < end_time:
            if row >= offsets.size:
                status = NEED_ROWS
                break
            offsets[row] = pos + 4
            sizes[row] = frame_end - pos - 4
            times[row] = time
            row += 1
        pos = frame_end
    state[_POSITION] = pos
    state[_ROWS] = row
    return status


@inline
def _mix(value):
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel(types.int64(BYTES, types.int64, types.uint64[:, ::1], types.int64[::1], types.int64[::1]))
def fingerprint_frames(buffer, stop, prints, ends, state):
    """Two 64-bit fingerprints of each payload, and where each frame ends."""
    pos = state[_POSITION]
    row = state[_ROWS]
    status = DONE
    while pos < stop:
        status, frame_end = _frame(buffer, pos, stop)
        if status != DONE:
            break
        if row >= ends.size:
            status = NEED_ROWS
            break
        at = pos + 4
        one = np.uint64(frame_end - at)
        two = ~one
        while at < frame_end:
            size = min(np.int64(8), frame_end - at)
            word = np.uint64(0)
            for i in range(size):
                word |= np.uint64(load_u8(buffer, at + i)) << np.uint64(8 * i)
            one = _mix(one ^ word)
            two = _mix(two + word)
            at += size
        prints[row, 0] = one
        prints[row, 1] = two
        ends[row] = frame_end
        row += 1
        pos = frame_end
    state[_POSITION] = pos
    state[_ROWS] = row
    return status
