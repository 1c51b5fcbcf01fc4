"""Frames as such: a length and that many bytes, and the checksum over them.

Needs no compiler, so that writing a tick needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from crc32c import crc32c

from ibticks.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["BLOCK_BYTES", "MAX_FRAME_BYTES", "checksum", "encode_frame"]

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""No frame's payload is longer."""

BLOCK_BYTES: Final = 1 << 20
"""About how many bytes of frames make a block."""


def encode_frame(payload: bytes) -> bytes:
    """A payload with its length in front.

    Raises
    ------
    InputError
        If it is empty or longer than 16 MiB: no reader would take it, nor anything after it.

    Examples
    --------
    >>> encode_frame(b"abc").hex(" ")
    '00 00 00 03 61 62 63'
    """
    if not 0 < len(payload) <= MAX_FRAME_BYTES:
        raise InputError(
            f"a message of {len(payload):,} bytes: a frame holds 1 to {MAX_FRAME_BYTES:,} "
            f"({MAX_FRAME_BYTES >> 20} MiB)",
            size=len(payload),
        )
    return len(payload).to_bytes(4, "big") + payload


def checksum(data: bytes | memoryview | npt.NDArray[np.uint8], before: int = 0) -> int:
    """CRC-32C (RFC 3720, Castagnoli) of ``data``, going on from that of what came before it.

    Examples
    --------
    >>> hex(checksum(b"123456789"))
    '0xe3069283'
    """
    return int(crc32c(cast("Any", data), before))
