"""Compiled shape speculation: frames that look like an earlier one are read without parsing.

Consecutive ticks have the same tags, lengths and strings at the same positions. A shape is what one
message taught: the bits that must be equal in another (all bits of tags, lengths and constant
strings; only the top bit of the bytes of a varint; none of a double), and the positions of its
values. A frame that matches a shape is well-formed, and its values are read from those positions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import types

from ibticks._jit import inline, load_u8, load_u64, merge
from ibticks.format._kernel_state import SHAPE_WORDS, SHAPES, ShapeTables, State
from ibticks.format._wire_kernels import (
    read_length,
    read_tag,
    read_varint,
    skip_scalar,
    to_nanoseconds,
)

__all__ = [
    "CONDITIONS_AT",
    "CONDITION_COUNT",
    "CONTRACT",
    "EXCHANGE_AT",
    "EXCHANGE_SIZE",
    "PRESENT",
    "SHAPE_TABLES",
    "STREAM_CODE",
    "TYPE_CODE",
    "VALUE_AT",
    "learn_shape",
    "match_shape",
    "shaped_time",
    "varint_at",
]

_MAX_CONDITIONS = 8
_FIRST_LESSONS = 64  # and after that one for every 16 frames that matched

# Columns of ``places``. The place of a varint is its position * 16 + its bytes.
_SIZE = 0
_SECONDS, _NANOS = 1, 2
CONTRACT: Final = 3  # the contract id itself: a shape has one
PRESENT: Final = 4  # presence bits
VALUE_AT: Final = 8  # + field number: the position of a double, or the place of a varint
EXCHANGE_AT: Final = 30
EXCHANGE_SIZE: Final = 31
CONDITION_COUNT: Final = 32
CONDITIONS_AT: Final = 33  # pairs of position and size
TYPE_CODE: Final = 50
STREAM_CODE: Final = 51

_SHAPE, _LEARNED, _MATCHED = State.SHAPE, State.LEARNED, State.MATCHED


SHAPE_TABLES: Final = types.NamedTuple(
    (types.uint64[:, ::1], types.uint64[:, ::1], types.int64[:, ::1]), ShapeTables
)
"""The type of :class:`ShapeTables` in signatures."""


@merge
def match_shape(buffer, begin, size, shapes, state):
    """Return the number of the shape that a frame matches, or -1.

    Reads up to seven bytes past the end of the frame.
    """
    words, masks, places = shapes
    shape = state[_SHAPE]
    for _ in range(SHAPES):
        if places[shape, _SIZE] == size:
            differing = np.uint64(0)
            for i in range((size + 7) >> 3):
                differing |= (load_u64(buffer, begin + 8 * i) ^ words[shape, i]) & masks[shape, i]
            if differing == np.uint64(0):
                state[_SHAPE] = shape
                return shape
        shape = (shape + 1) & (SHAPES - 1)
    return np.int64(-1)


@inline
def varint_at(buffer, begin, place):
    """Return a varint of a known number of bytes, at most 8; always loads eight bytes."""
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


@merge
def shaped_time(buffer, begin, places):
    """Return the time, in UTC nanoseconds, of a frame that matched the shape of ``places``."""
    seconds = np.int64(0)
    nanos = np.int64(0)
    if places[_SECONDS] >= 0:
        seconds = np.int64(varint_at(buffer, begin, places[_SECONDS]))
    if places[_NANOS] >= 0:
        nanos = np.int64(np.int32(varint_at(buffer, begin, places[_NANOS]) & np.uint64(0xFFFFFFFF)))
    return to_nanoseconds(seconds, nanos)


@inline
def learn_shape(buffer, begin, end, shapes, state, type_code, stream_code):
    """Make the message at ``begin`` a shape, if it can be one and lessons are due."""
    if state[_LEARNED] >= _FIRST_LESSONS + state[_MATCHED] // 16:
        return
    words, masks, places = shapes
    shape = state[_LEARNED] & (SHAPES - 1)
    state[_LEARNED] += 1
    if _describe(buffer, begin, end, words[shape], masks[shape], places[shape]):
        places[shape, TYPE_CODE] = type_code
        places[shape, STREAM_CODE] = stream_code
    else:
        places[shape, _SIZE] = -1


@inline
def _mark(mask, at, size, bits):
    """Set the mask of some bytes."""
    for i in range(at, at + size):
        mask[i >> 3] |= np.uint64(bits) << np.uint64((i & 7) * 8)


@merge
def _describe(buffer, begin, end, word, mask, place):
    """Describe a message as a shape; return False if it cannot be one.

    The message has been decoded and is well-formed, except for ticks that do not count (another
    member of the oneof followed them), which may be anything.
    """
    place[:] = -1
    mask[:] = 0
    size = end - begin
    if size > 8 * SHAPE_WORDS:
        return False
    for i in range(SHAPE_WORDS):
        word[i] = 0
    for i in range(size):
        byte = np.uint64(load_u8(buffer, begin + i))
        word[i >> 3] |= byte << np.uint64((i & 7) * 8)
    place[_SIZE] = size
    place[CONTRACT] = 0
    place[CONDITION_COUNT] = 0
    present = np.int64(0)
    pos = begin
    level_end = end
    outer = 0  # field number of the enclosing message
    ticks = 0
    while True:
        while pos == level_end:
            if outer == 0:
                place[PRESENT] = present
                return ticks == 1  # the tick was neither in several fields nor replaced
            outer = 0
            level_end = end
        field_at = pos
        tag, pos = read_tag(buffer, pos, level_end)
        if pos < 0:
            return False
        number = tag >> 3
        wire = tag & 7
        after = skip_scalar(buffer, pos, level_end, wire)
        if after < 0:
            return False  # a group, or malformed
        _mark(mask, field_at - begin, pos - field_at, 0xFF)
        if wire == 0:
            value, _ = read_varint(buffer, pos, level_end)
            width = after - pos
            at = (pos - begin) * 16 + width
            _mark(mask, pos - begin, width, 0x80)
            if outer == 3 and (number == 1 or number == 2):
                if width > 8:
                    return False
                place[_SECONDS if number == 1 else _NANOS] = at
            elif outer == 4 and number == 1:
                _mark(mask, pos - begin, width, 0xFF)
                place[CONTRACT] = np.int64(value & np.uint64(0xFFFFFFFF))
            elif outer == 4 and 12 <= number <= 17:
                if width > 8:
                    return False
                place[VALUE_AT + number] = at
                present |= 1 << number
        elif wire == 1:
            if outer == 4 and 3 <= number <= 9:
                place[VALUE_AT + number] = pos - begin
                present |= 1 << number
        elif wire == 2:
            size_at = pos
            length, pos = read_length(buffer, pos, level_end)
            _mark(mask, size_at - begin, pos - size_at, 0xFF)
            if outer == 0 and (number == 3 or number == 4):
                ticks += number == 4
                outer = number
                level_end = after
                continue
            if (outer == 0 or outer == 4) and number == 2:
                _mark(mask, pos - begin, length, 0xFF)
            elif outer == 4 and number == 10:
                place[EXCHANGE_AT] = pos - begin
                place[EXCHANGE_SIZE] = length
                present |= 1 << 10
            elif outer == 4 and number == 11:
                conditions = place[CONDITION_COUNT]
                if conditions == _MAX_CONDITIONS:
                    return False
                place[CONDITIONS_AT + 2 * conditions] = pos - begin
                place[CONDITIONS_AT + 2 * conditions + 1] = length
                place[CONDITION_COUNT] = conditions + 1
        pos = after
