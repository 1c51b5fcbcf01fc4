"""Numbers and arrays that the kernels share with the code that calls them; no compiler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "BAD_LENGTH",
    "CONDITIONS",
    "DICTIONARIES",
    "DONE",
    "EXCHANGE",
    "MALFORMED",
    "METADATA",
    "NEED_LIST",
    "NEED_PAIRS",
    "NEED_POOL",
    "NEED_ROWS",
    "NEED_STRINGS",
    "SHAPES",
    "SHAPE_PLACES",
    "SHAPE_WORDS",
    "STATE_SIZE",
    "STREAM_ID",
    "TICK_TYPE",
    "TORN",
    "ShapeTables",
    "State",
    "StringTables",
    "TickArrays",
]

# Numbers of the dictionaries, one per string column.
TICK_TYPE: Final = 0
EXCHANGE: Final = 1
STREAM_ID: Final = 2
CONDITIONS: Final = 3
METADATA: Final = 4
DICTIONARIES: Final = 5

# The status a kernel returns; state[State.POSITION] is the position it reached.
DONE: Final = 0  # reached the end of the buffer at the end of a frame
TORN: Final = 1  # the last frame is not whole
NEED_ROWS: Final = 2
NEED_STRINGS: Final = 3  # a dictionary is full
NEED_POOL: Final = 4  # the bytes of the dictionaries are full
NEED_LIST: Final = 5  # the flat array of conditions is full
NEED_PAIRS: Final = 6  # the flat arrays of metadata are full
BAD_LENGTH: Final = 7  # a frame that is empty or longer than MAX_FRAME_BYTES
MALFORMED: Final = 8  # a frame that is not a StreamMessage


class State:
    """Index of each running value of a kernel in its ``state`` array (int64)."""

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
    RECENT: Final = 15  # the code last returned by each dictionary
    SHAPE: Final = 20  # the shape of the last frame
    LEARNED: Final = 21  # shapes learned
    MATCHED: Final = 22  # frames that matched one
    GROUPS: Final = 23  # numbers of the open groups while one is skipped, MAX_DEPTH of them
    LAST_GROUP: Final = 122


STATE_SIZE: Final = 123

SHAPES: Final = 8
SHAPE_WORDS: Final = 48  # of eight bytes: larger messages are parsed each time
SHAPE_PLACES: Final = 64


class TickArrays(NamedTuple):
    """Output arrays, one element a row; those of columns that are not wanted are empty.

    ``flags`` has a bit for each of the four flags, and ``presence`` one for each field number.
    ``conditions``, ``metadata_keys`` and ``metadata_items`` are flat; the arrays of offsets say
    which elements belong to which row. Doubles are decoded as their bits.
    """

    timestamp: npt.NDArray[np.int64]
    contract_id: npt.NDArray[np.uint32]
    price: npt.NDArray[np.uint64]
    size: npt.NDArray[np.uint64]
    bid_price: npt.NDArray[np.uint64]
    bid_size: npt.NDArray[np.uint64]
    ask_price: npt.NDArray[np.uint64]
    ask_size: npt.NDArray[np.uint64]
    mid_price: npt.NDArray[np.uint64]
    sequence: npt.NDArray[np.uint64]
    exchange_time: npt.NDArray[np.int64]
    presence: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint8]
    tick_type: npt.NDArray[np.int32]
    exchange: npt.NDArray[np.int32]
    stream_id: npt.NDArray[np.int32]
    conditions_offsets: npt.NDArray[np.int64]
    metadata_offsets: npt.NDArray[np.int64]
    conditions: npt.NDArray[np.int32]
    metadata_keys: npt.NDArray[np.int32]
    metadata_items: npt.NDArray[np.int32]


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


class ShapeTables(NamedTuple):
    """Arrays of all shapes.

    Attributes
    ----------
    words : numpy.ndarray
        uint64, shape ``(SHAPES, SHAPE_WORDS)``: bytes of the message, eight in a word.
    masks : numpy.ndarray
        uint64, of the same shape: bits that must be equal.
    places : numpy.ndarray
        int64, shape ``(SHAPES, SHAPE_PLACES)``: positions relative to the message; -1 for none.
    """

    words: npt.NDArray[np.uint64]
    masks: npt.NDArray[np.uint64]
    places: npt.NDArray[np.int64]
