"""Compiled string dictionaries: each distinct string of a column is stored once, and has a code."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from ibticks._jit import MUTABLE_BYTES, inline, kernel, load_u8
from ibticks.format._wire_kernels import (
    MALFORMED,
    NEED_POOL,
    NEED_STRINGS,
    State,
    equal_bytes,
)

__all__ = [
    "CONDITIONS",
    "DICTIONARIES",
    "EXCHANGE",
    "METADATA",
    "STREAM_ID",
    "STRING_TABLES",
    "TICK_TYPE",
    "StringTables",
    "intern_string",
    "rehash",
]

# Numbers of the dictionaries, one per string column.
TICK_TYPE: Final = 0
EXCHANGE: Final = 1
STREAM_ID: Final = 2
CONDITIONS: Final = 3
METADATA: Final = 4
DICTIONARIES: Final = 5

_POOL, _STRINGS, _RECENT = State.POOL, State.STRINGS, State.RECENT


class StringTables(NamedTuple):
    """Arrays of all dictionaries.

    Attributes
    ----------
    pool : numpy.ndarray
        uint8: the bytes of the strings, one after another.
    entries : numpy.ndarray
        int64, shape ``(DICTIONARIES, capacity, 2)``: position in ``pool`` and size, by code.
    slots : numpy.ndarray
        int32, shape ``(DICTIONARIES, power of two)``: hash table of codes with open addressing; -1
        where empty.
    """

    pool: npt.NDArray[np.uint8]
    entries: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int32]


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


@kernel(types.void(STRING_TABLES, types.int64[::1]))
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
