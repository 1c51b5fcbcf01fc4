"""The compiled decoder: ticks of the frames in a buffer to columns.

Everything that was not requested is skipped by its length, whatever it contains: ticks outside the
time range, other members of the oneof, other columns. The kernel can be resumed: when an output
array is full it returns a status, the caller makes room, and it continues at the frame it reached.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import types

from ibticks._jit import BYTES, inline, kernel, load_u64, merge
from ibticks.format._kernel_state import (
    CONDITIONS,
    DONE,
    EXCHANGE,
    MALFORMED,
    METADATA,
    NEED_LIST,
    NEED_PAIRS,
    NEED_ROWS,
    STREAM_ID,
    TICK_TYPE,
    State,
    TickArrays,
)
from ibticks.format._shape_kernels import (
    CONDITION_COUNT,
    CONDITIONS_AT,
    CONTRACT,
    EXCHANGE_AT,
    EXCHANGE_SIZE,
    PRESENT,
    SHAPE_TABLES,
    STREAM_CODE,
    TYPE_CODE,
    VALUE_AT,
    learn_shape,
    match_shape,
    shaped_time,
    varint_at,
)
from ibticks.format._wire_kernels import (
    MAX_DEPTH,
    STRING_TABLES,
    frame_bounds,
    intern_string,
    read_length,
    read_tag,
    read_varint,
    skip_value,
    walk_message,
)

__all__ = ["decode_ticks"]

_POSITION, _ROWS, _MESSAGES = State.POSITION, State.ROWS, State.MESSAGES
_LIST, _PAIRS, _LAST_TIME = State.LIST, State.PAIRS, State.LAST_TIME
_UNSORTED, _IN_ALL, _IN_ANY, _MATCHED = (
    State.UNSORTED,
    State.IN_ALL,
    State.IN_ANY,
    State.MATCHED,
)

# Bits of ``wanted``.
_CONTRACT_ID = 1 << 1
_TICK_TYPE = 1 << 2
_PRICE = 1 << 3
_SIZE = 1 << 4
_BID_PRICE = 1 << 5
_BID_SIZE = 1 << 6
_ASK_PRICE = 1 << 7
_ASK_SIZE = 1 << 8
_MID_PRICE = 1 << 9
_EXCHANGE = 1 << 10
_CONDITIONS = 1 << 11
_SEQUENCE = 1 << 12
_FLAGS = 0b1111 << 13
_EXCHANGE_TIME = 1 << 17
_STREAM_ID = 1 << 18
_METADATA = 1 << 19


_TICK_ARRAYS: Final = types.NamedTuple(
    (
        types.int64[::1],
        types.uint32[::1],
        *(types.uint64[::1],) * 8,
        types.int64[::1],
        types.uint32[::1],
        types.uint8[::1],
        *(types.int32[::1],) * 3,
        *(types.int64[::1],) * 2,
        *(types.int32[::1],) * 3,
    ),
    TickArrays,
)


@merge
def _read_shaped_tick(buffer, begin, places, row, wanted, rows, strings, state):
    """Write the values of a frame that matched a shape.

    Returns
    -------
    status : int
    present, flags : int
        Bits of the fields that are present, and of the flags that are set.
    contract : int
    conditions_end : int
        Index in ``rows.conditions`` after those of this tick.
    """
    flags = np.int64(0)
    contract = np.uint64(places[CONTRACT])
    present = places[PRESENT]
    conditions_end = state[_LIST]
    if wanted & _EXCHANGE != 0:
        code = np.int64(-1)
        if places[EXCHANGE_AT] >= 0:
            at = begin + places[EXCHANGE_AT]
            code = intern_string(buffer, at, places[EXCHANGE_SIZE], EXCHANGE, strings, state)
            if code < 0:
                return -code, present, flags, contract, conditions_end
        rows.exchange[row] = code
    if wanted & _CONDITIONS != 0:
        if conditions_end + places[CONDITION_COUNT] > rows.conditions.size:
            return NEED_LIST, present, flags, contract, conditions_end
        for i in range(places[CONDITION_COUNT]):
            at = begin + places[CONDITIONS_AT + 2 * i]
            size = places[CONDITIONS_AT + 2 * i + 1]
            code = intern_string(buffer, at, size, CONDITIONS, strings, state)
            if code < 0:
                return -code, present, flags, contract, conditions_end
            rows.conditions[conditions_end] = code
            conditions_end += 1
    if wanted & _PRICE != 0 and places[VALUE_AT + 3] >= 0:
        rows.price[row] = load_u64(buffer, begin + places[VALUE_AT + 3])
    if wanted & _SIZE != 0 and places[VALUE_AT + 4] >= 0:
        rows.size[row] = load_u64(buffer, begin + places[VALUE_AT + 4])
    if wanted & _BID_PRICE != 0 and places[VALUE_AT + 5] >= 0:
        rows.bid_price[row] = load_u64(buffer, begin + places[VALUE_AT + 5])
    if wanted & _BID_SIZE != 0 and places[VALUE_AT + 6] >= 0:
        rows.bid_size[row] = load_u64(buffer, begin + places[VALUE_AT + 6])
    if wanted & _ASK_PRICE != 0 and places[VALUE_AT + 7] >= 0:
        rows.ask_price[row] = load_u64(buffer, begin + places[VALUE_AT + 7])
    if wanted & _ASK_SIZE != 0 and places[VALUE_AT + 8] >= 0:
        rows.ask_size[row] = load_u64(buffer, begin + places[VALUE_AT + 8])
    if wanted & _MID_PRICE != 0 and places[VALUE_AT + 9] >= 0:
        rows.mid_price[row] = load_u64(buffer, begin + places[VALUE_AT + 9])
    if wanted & _SEQUENCE != 0 and places[VALUE_AT + 12] >= 0:
        rows.sequence[row] = varint_at(buffer, begin, places[VALUE_AT + 12])
    if wanted & _EXCHANGE_TIME != 0 and places[VALUE_AT + 17] >= 0:
        rows.exchange_time[row] = np.int64(varint_at(buffer, begin, places[VALUE_AT + 17]))
    if wanted & _FLAGS != 0:
        for number in range(13, 17):
            place = places[VALUE_AT + number]
            if place >= 0 and varint_at(buffer, begin, place) != np.uint64(0):
                flags |= np.int64(1) << (number - 13)
    if wanted & _TICK_TYPE != 0:
        rows.tick_type[row] = places[TYPE_CODE]
    if wanted & _STREAM_ID != 0:
        rows.stream_id[row] = places[STREAM_CODE]
    return DONE, present, flags, contract, conditions_end


@inline
def _parse_tick(buffer, pos, end, fragments, row, wanted, rows, strings, state):
    """Parse the tick of a message and write its values; returns as :func:`_read_shaped_tick`."""
    present = np.int64(0)
    flags = np.int64(0)
    contract = np.uint64(0)
    type_at = pos
    type_size = np.int64(0)
    exchange_at = pos
    exchange_size = np.int64(0)
    conditions_end = state[_LIST]
    while fragments > 0:
        # The fields of a tick that was sent in fragments are merged, as protobuf merges them.
        tag, pos = read_tag(buffer, pos, end)
        if tag != 0x22:
            pos = skip_value(buffer, pos, end, tag, MAX_DEPTH, state)
            continue
        fragments -= 1
        length, at = read_length(buffer, pos, end)
        pos = at + length
        while at < pos:
            tag, at = read_tag(buffer, at, pos)
            if at < 0:
                return MALFORMED, present, flags, contract, conditions_end
            wire = tag & 7
            number = tag >> 3
            if wire == 1 and 3 <= number <= 9:
                if pos - at < 8:
                    return MALFORMED, present, flags, contract, conditions_end
                present |= 1 << number
                bits = load_u64(buffer, at)
                at += 8
                if wanted & (1 << number) == 0:
                    continue
                if number == 5:
                    rows.bid_price[row] = bits
                elif number == 6:
                    rows.bid_size[row] = bits
                elif number == 7:
                    rows.ask_price[row] = bits
                elif number == 8:
                    rows.ask_size[row] = bits
                elif number == 3:
                    rows.price[row] = bits
                elif number == 4:
                    rows.size[row] = bits
                else:
                    rows.mid_price[row] = bits
            elif wire == 0 and (number == 1 or 12 <= number <= 17):
                value, at = read_varint(buffer, at, pos)
                if at < 0:
                    return MALFORMED, present, flags, contract, conditions_end
                if number == 1:
                    contract = value
                elif number == 12:
                    present |= 1 << 12
                    if wanted & _SEQUENCE != 0:
                        rows.sequence[row] = value
                elif number == 17:
                    present |= 1 << 17
                    if wanted & _EXCHANGE_TIME != 0:
                        rows.exchange_time[row] = np.int64(value)
                else:
                    present |= 1 << number
                    bit = np.int64(1) << (number - 13)
                    if value != np.uint64(0):
                        flags |= bit
                    else:
                        flags &= ~bit
            elif wire == 2 and (number == 2 or number == 10 or number == 11):
                length, at = read_length(buffer, at, pos)
                if at < 0:
                    return MALFORMED, present, flags, contract, conditions_end
                if number == 2:
                    type_at = at
                    type_size = length
                elif number == 10:
                    present |= 1 << 10
                    exchange_at = at
                    exchange_size = length
                elif wanted & _CONDITIONS != 0:
                    if conditions_end >= rows.conditions.size:
                        return NEED_LIST, present, flags, contract, conditions_end
                    code = intern_string(buffer, at, length, CONDITIONS, strings, state)
                    if code < 0:
                        return -code, present, flags, contract, conditions_end
                    rows.conditions[conditions_end] = code
                    conditions_end += 1
                at += length
            else:
                at = skip_value(buffer, at, pos, tag, MAX_DEPTH - 1, state)
                if at < 0:
                    return MALFORMED, present, flags, contract, conditions_end
    if wanted & _TICK_TYPE != 0:
        code = intern_string(buffer, type_at, type_size, TICK_TYPE, strings, state)
        if code < 0:
            return -code, present, flags, contract, conditions_end
        rows.tick_type[row] = code
    if wanted & _EXCHANGE != 0:
        code = np.int64(-1)
        if present & (1 << 10):
            code = intern_string(buffer, exchange_at, exchange_size, EXCHANGE, strings, state)
            if code < 0:
                return -code, present, flags, contract, conditions_end
        rows.exchange[row] = code
    return DONE, present, flags, contract, conditions_end


@inline
def _parse_metadata(buffer, pos, end, entries, rows, strings, state):
    """Write the metadata of a message; return the status and the index after its last pair."""
    keys, items = rows.metadata_keys, rows.metadata_items
    first = state[_PAIRS]
    pairs_end = first
    while entries > 0:
        tag, pos = read_tag(buffer, pos, end)
        if tag != 0x42:
            pos = skip_value(buffer, pos, end, tag, MAX_DEPTH, state)
            continue
        entries -= 1
        length, pos = read_length(buffer, pos, end)
        entry_end = pos + length
        key_at = pos
        key_size = np.int64(0)
        item_at = pos
        item_size = np.int64(0)
        is_known = True
        while pos < entry_end:
            tag, pos = read_tag(buffer, pos, entry_end)
            if pos < 0:
                return MALFORMED, pairs_end
            if tag == 0x0A or tag == 0x12:
                length, pos = read_length(buffer, pos, entry_end)
                if pos < 0:
                    return MALFORMED, pairs_end
                if tag == 0x0A:
                    key_at = pos
                    key_size = length
                else:
                    item_at = pos
                    item_size = length
                pos += length
            else:
                # protobuf sets an entry with an unknown field aside as a whole.
                is_known = False
                pos = skip_value(buffer, pos, entry_end, tag, MAX_DEPTH - 1, state)
                if pos < 0:
                    return MALFORMED, pairs_end
        if not is_known:
            continue
        if pairs_end >= keys.size:
            return NEED_PAIRS, pairs_end
        key = intern_string(buffer, key_at, key_size, METADATA, strings, state)
        if key < 0:
            return -key, pairs_end
        item = intern_string(buffer, item_at, item_size, METADATA, strings, state)
        if item < 0:
            return -item, pairs_end
        place = pairs_end
        for i in range(first, pairs_end):
            if keys[i] == key:
                place = i
        keys[place] = key
        items[place] = item
        if place == pairs_end:
            pairs_end += 1
    return DONE, pairs_end


@kernel(
    types.int64(
        BYTES,  # buffer
        types.int64,  # stop
        types.int64,  # first time wanted
        types.int64,  # first time no longer wanted
        types.int64,  # columns wanted, a bit each: TickData's numbers, 18 stream_id, 19 metadata
        _TICK_ARRAYS,
        STRING_TABLES,
        SHAPE_TABLES,
        types.int64[::1],  # state
    )
)
def decode_ticks(buffer, stop, start_time, end_time, wanted, rows, strings, shapes, state):
    """Decode the ticks of ``buffer[state[POSITION]:stop]`` whose time is in the range.

    A row is written field by field and counts only once its message has been read to the end, so
    that returning in the middle of one (no room, malformed) leaves nothing behind.
    """
    pos = state[_POSITION]
    row = state[_ROWS]
    capacity = rows.timestamp.size
    last_time = state[_LAST_TIME]
    in_all = state[_IN_ALL]
    in_any = state[_IN_ANY]
    want_metadata = wanted & _METADATA != 0
    status = DONE
    while pos < stop:
        status, frame_end = frame_bounds(buffer, pos, stop)
        if status != DONE:
            break
        begin = pos + 4
        shape = np.int64(-1)
        if frame_end + 8 <= buffer.size and not want_metadata:
            shape = match_shape(buffer, begin, frame_end - begin, shapes, state)
        is_tick = True
        tick_from = pos
        fragments = 0
        stream_at = pos
        stream_size = np.int64(0)
        entries = 0
        if shape >= 0:
            time = shaped_time(buffer, begin, shapes.places[shape])
        else:
            ok, time, case, tick_from, fragments, stream_at, stream_size, entries = walk_message(
                buffer, begin, frame_end, state
            )
            if not ok:
                status = MALFORMED
                break
            is_tick = case == 4
        if not is_tick or time < start_time or time >= end_time:
            state[_MESSAGES] += 1
            pos = frame_end
            continue
        if row >= capacity:
            status = NEED_ROWS
            break

        pairs_end = state[_PAIRS]
        if shape >= 0:
            status, present, flags, contract, conditions_end = _read_shaped_tick(
                buffer, begin, shapes.places[shape], row, wanted, rows, strings, state
            )
            state[_MATCHED] += status == DONE
        else:
            status, present, flags, contract, conditions_end = _parse_tick(
                buffer, tick_from, frame_end, fragments, row, wanted, rows, strings, state
            )
            if status == DONE and wanted & _STREAM_ID != 0:
                code = intern_string(buffer, stream_at, stream_size, STREAM_ID, strings, state)
                if code < 0:
                    status = -code
                else:
                    rows.stream_id[row] = code
            if status == DONE and want_metadata:
                status, pairs_end = _parse_metadata(
                    buffer, begin, frame_end, entries, rows, strings, state
                )
        if status != DONE:
            break

        rows.timestamp[row] = time
        if time < last_time:
            state[_UNSORTED] = 1
        last_time = time
        if wanted & _CONTRACT_ID != 0:
            rows.contract_id[row] = np.uint32(contract & np.uint64(0xFFFFFFFF))
        rows.presence[row] = np.uint32(present)
        rows.flags[row] = np.uint8(flags)
        in_all &= present
        in_any |= present
        if wanted & _CONDITIONS != 0:
            state[_LIST] = conditions_end
            rows.conditions_offsets[row + 1] = conditions_end
        if want_metadata:
            state[_PAIRS] = pairs_end
            rows.metadata_offsets[row + 1] = pairs_end
        if shape < 0:
            type_code = np.int64(rows.tick_type[row]) if wanted & _TICK_TYPE != 0 else np.int64(-1)
            stream_code = (
                np.int64(rows.stream_id[row]) if wanted & _STREAM_ID != 0 else np.int64(-1)
            )
            learn_shape(buffer, begin, frame_end, shapes, state, type_code, stream_code)
        row += 1
        state[_MESSAGES] += 1
        pos = frame_end
    state[_POSITION] = pos
    state[_ROWS] = row
    state[_LAST_TIME] = last_time
    state[_IN_ALL] = in_all
    state[_IN_ANY] = in_any
    return status
