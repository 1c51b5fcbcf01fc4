"""The bytes of hour files: headers, frames, messages, and columns from and to frames.

``Decoder`` turns a buffer of frames into ``ibticks.schema.TickColumns`` and ``Encoder`` turns them
back into frames, both compiled; ``TickEncoder`` encodes one tick without a compiler, for capture.
``decode_message`` and ``encode_message`` convert single messages to and from v2 JSON. This room
opens no file: ``storage`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.format._decode import Decoder
    from ibticks.format._encode import Encoder
    from ibticks.format._frames import (
        TORN,
        count_frames,
        find_payloads,
        fingerprint_payloads,
        scan_frames,
    )
    from ibticks.format._framing import BLOCK_BYTES, MAX_FRAME_BYTES, checksum, encode_frame
    from ibticks.format._header import HEADER_BYTES, HEADER_VERSION, Header, read_header
    from ibticks.format._messages import (
        decode_message,
        encode_message,
        format_timestamp,
        from_protobuf,
        from_text,
        to_protobuf,
    )
    from ibticks.format._tick_encoder import TickEncoder

__all__ = [
    "BLOCK_BYTES",
    "HEADER_BYTES",
    "HEADER_VERSION",
    "MAX_FRAME_BYTES",
    "TORN",
    "Decoder",
    "Encoder",
    "Header",
    "TickEncoder",
    "checksum",
    "count_frames",
    "decode_message",
    "encode_frame",
    "encode_message",
    "find_payloads",
    "fingerprint_payloads",
    "format_timestamp",
    "from_protobuf",
    "from_text",
    "read_header",
    "scan_frames",
    "to_protobuf",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
