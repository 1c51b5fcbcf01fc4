"""A writer of the protobuf wire format that also writes what no protobuf library would.

The encoding guide is https://protobuf.dev/programming-guides/encoding/. Where it allows more than
one encoding of the same message (varints padded with zero groups, fields in any order, a field
twice), a library writes one; a reader must take them all. These functions write whichever is asked
for, valid or not, so that a decoder can be held against the protobuf runtime.

Notes
-----
Limits of the protobuf runtime, observed with google.protobuf 7.36 (upb);
``tests/testing/test_wire_limits.py`` holds it to every line. Whatever it refuses is a
``DecodeError`` for the whole message.

Tags
    One to five bytes, padded or not, of at most 32 bits. Field number 0 is refused, except inside
    an unknown group, where numbers are not looked at. Wire types 6 and 7 are refused everywhere.
Lengths
    One to five bytes, padded or not, at most 2**31 - 1, and ending inside the enclosing message.
Varints
    One to ten bytes. Of the tenth only the lowest bit counts, the others are dropped. A uint32 is
    the low 32 bits, an int32 the same with a sign, a bool whether any of the 64 bits is set.
Fixed values
    Bit for bit, signalling NaNs too; four or eight bytes inside the enclosing message.
Times
    ``Timestamp`` is not checked: any int64 of seconds, any int32 of nanoseconds.
Wrong wire type
    Makes a known field an unknown one: its value, its presence and the oneof stay as they were.
Unknown fields
    Kept aside. Counted bytes are not looked into; groups are walked, and must be well formed and
    closed by their own number within the enclosing message. One hundred messages and groups may be
    open inside the top one; an end-group tag without its group is refused.
Strings
    Every known string must be UTF-8 as :meth:`bytes.decode` has it (no surrogates, no overlong
    forms), also one that a later field replaces. NUL is fine.
Repeated fields
    The last scalar or string counts, also when it is zero or empty. ``optional`` fields are present
    once seen. Messages are merged field by field: lists are appended, maps updated. Another member
    of the oneof drops the one before; a member that returns starts empty.
Maps
    A missing key or value is the empty string, the last of two counts, and so does the last entry
    of a key. An entry with an unknown field in it (or a key or value of the wrong wire type) does
    not enter the map: it becomes an unknown field of the message as a whole.
The whole
    No bytes at all are a message, and ``type`` may be anything beside any payload. A message cut
    off is refused unless the cut falls between two top-level fields.

Examples
--------
A ``StreamMessage`` of type ``tick``, and the same with its length written in three bytes:

>>> text(1, "tick").hex(" ")
'0a 04 74 69 63 6b'
>>> text(1, "tick", length_size=3).hex(" ")
'0a 84 80 00 74 69 63 6b'
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

__all__ = [
    "MAX_DEPTH",
    "MAX_FIELD_NUMBER",
    "MAX_LENGTH_BYTES",
    "MAX_TAG_BYTES",
    "MAX_VARINT_BYTES",
    "UINT64_MASK",
    "WireType",
    "delimited",
    "double",
    "fixed32",
    "fixed64",
    "group",
    "integer",
    "tag",
    "text",
    "varint",
]

UINT64_MASK: Final = 2**64 - 1
MAX_TAG_BYTES: Final = 5
MAX_LENGTH_BYTES: Final = 5
MAX_VARINT_BYTES: Final = 10
MAX_FIELD_NUMBER: Final = 2**29 - 1
MAX_DEPTH: Final = 100
"""Messages and groups open at once, inside the top message."""


class WireType(IntEnum):
    """The lowest three bits of a tag. 6 and 7 mean nothing, and are written here as plain ints."""

    VARINT = 0
    FIXED64 = 1
    DELIMITED = 2
    START_GROUP = 3
    END_GROUP = 4
    FIXED32 = 5


def varint(value: int, size: int = 0) -> bytes:
    """A base-128 varint, low groups first.

    Parameters
    ----------
    value : int
        Not negative; negative integers go to the wire as ``value & UINT64_MASK``.
    size : int, default 0
        Pad with zero groups up to this many bytes. Libraries write the fewest, readers must take up
        to ten.

    Examples
    --------
    >>> varint(300).hex(" ")
    'ac 02'
    >>> varint(300, size=4).hex(" ")
    'ac 82 80 00'
    """
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    groups += [0] * (size - len(groups))
    return bytes([byte | 0x80 for byte in groups[:-1]] + groups[-1:])


def tag(number: int, wire_type: int, size: int = 0) -> bytes:
    """The key before a value: field number and wire type, padded to ``size`` bytes.

    Examples
    --------
    >>> tag(8, WireType.DELIMITED).hex()
    '42'
    """
    return varint(number << 3 | wire_type, size)


def integer(number: int, value: int, *, tag_size: int = 0, value_size: int = 0) -> bytes:
    """A varint field: uint32, uint64, int64 and bool alike; a negative value in two's complement.

    Examples
    --------
    >>> integer(17, -1).hex(" ")
    '88 01 ff ff ff ff ff ff ff ff ff 01'
    """
    return tag(number, WireType.VARINT, tag_size) + varint(value & UINT64_MASK, value_size)


def fixed32(number: int, value: int, *, tag_size: int = 0) -> bytes:
    """A field of four little-endian bytes."""
    return tag(number, WireType.FIXED32, tag_size) + struct.pack("<I", value)


def fixed64(number: int, value: int, *, tag_size: int = 0) -> bytes:
    """A field of eight little-endian bytes."""
    return tag(number, WireType.FIXED64, tag_size) + struct.pack("<Q", value)


def double(number: int, value: float, *, tag_size: int = 0) -> bytes:
    """A double field.

    Examples
    --------
    >>> double(3, 1.0).hex(" ")
    '19 00 00 00 00 00 00 f0 3f'
    """
    return tag(number, WireType.FIXED64, tag_size) + struct.pack("<d", value)


def delimited(number: int, payload: bytes, *, tag_size: int = 0, length_size: int = 0) -> bytes:
    """A field of counted bytes: a string, a message or a map entry."""
    head = tag(number, WireType.DELIMITED, tag_size) + varint(len(payload), length_size)
    return head + payload


def text(number: int, value: str, *, tag_size: int = 0, length_size: int = 0) -> bytes:
    """A string field, UTF-8."""
    return delimited(number, value.encode(), tag_size=tag_size, length_size=length_size)


def group(number: int, body: bytes, *, tag_size: int = 0, end_size: int = 0) -> bytes:
    """A group, the deprecated way to nest: the body between a start tag and an end tag.

    Examples
    --------
    >>> group(20, integer(1, 7)).hex(" ")
    'a3 01 08 07 a4 01'
    """
    start = tag(number, WireType.START_GROUP, tag_size)
    return start + body + tag(number, WireType.END_GROUP, end_size)
