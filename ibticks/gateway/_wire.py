"""The outer shape of the TWS protocol: frames, and fields that end in NUL.

A frame is a length (uint32, big-endian) and a payload of that length; in text mode, which is every
server version up to 200, the payload is fields, each followed by a NUL. Pure functions of bytes.
"""

from __future__ import annotations

from decimal import Decimal
from math import isnan
from typing import TYPE_CHECKING, Final

from ibticks.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MAX_FRAME",
    "FrameReader",
    "escaped",
    "fields_of",
    "frame",
    "message",
    "plain",
]

MAX_FRAME: Final = 1 << 20
"""Bytes of the longest frame a client may send; what any request needs is far below."""

_LENGTH: Final = 4


def frame(payload: bytes) -> bytes:
    r"""A payload with its length before it.

    Examples
    --------
    >>> frame(b"49\x00")
    b'\x00\x00\x00\x0349\x00'
    """
    return len(payload).to_bytes(_LENGTH, "big") + payload


def message(*fields: str | int | float) -> bytes:
    r"""A whole frame of fields; a number is written in plain decimal, a truth as 0 or 1.

    Examples
    --------
    >>> message(9, 1, 7)
    b'\x00\x00\x00\x069\x001\x007\x00'
    """
    text = "\0".join(field if isinstance(field, str) else plain(field) for field in fields)
    return frame(text.encode() + b"\0")


def fields_of(payload: bytes) -> list[str]:
    r"""The fields of a payload.

    Raises
    ------
    FormatError
        If the last field does not end in NUL.

    Examples
    --------
    >>> fields_of(b"97\x0060001\x00\x00")
    ['97', '60001', '']
    """
    if not payload.endswith(b"\0"):
        raise FormatError(f"a payload of {len(payload)} bytes whose last field does not end in NUL")
    return payload[:-1].decode("utf-8", "backslashreplace").split("\0")


def plain(number: float) -> str:
    """A number as IB writes it: shortest text that reads back the same, never an exponent.

    NaN, a value that is not there, is written as 0.

    Examples
    --------
    >>> plain(182.1), plain(300.0), plain(9e-05), plain(True), plain(float("nan"))
    ('182.1', '300', '0.00009', '1', '0')
    """
    if isinstance(number, int) or number.is_integer():
        return str(int(number))
    if isnan(number):
        return "0"
    text = repr(number)
    return format(Decimal(text), "f") if "e" in text else text


def escaped(text: str) -> str:
    r"""Text that clients decode as ``unicode-escape``: pure ASCII, backslashes doubled.

    Examples
    --------
    >>> escaped("Zürich \\ Ω")
    'Z\\xfcrich \\\\ \\u03a9'
    """
    return text.encode("unicode-escape").decode("ascii")


class FrameReader:
    r"""Payloads out of bytes as they arrive, however they are cut.

    Examples
    --------
    >>> reader = FrameReader()
    >>> list(reader.feed(b"\x00\x00\x00\x0349"))
    []
    >>> list(reader.feed(b"\x00"))
    [b'49\x00']
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that are whole once these bytes have come.

        Raises
        ------
        FormatError
            If a frame says it is longer than the limit; ``context["length"]`` is what it says.
        """
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH:
            length = int.from_bytes(buffer[:_LENGTH], "big")
            if length > self._limit:
                raise FormatError(
                    f"a frame of {length} bytes, more than the {self._limit} a request may have: "
                    "the other side does not speak the TWS protocol",
                    length=length,
                )
            end = _LENGTH + length
            if len(buffer) < end:
                return
            payload = bytes(buffer[_LENGTH:end])
            del buffer[:end]
            yield payload
