"""The first frame of a file: what the file is, and whether it is complete.

Our own headers fill exactly :data:`HEADER_BYTES`, so that sealing a file rewrites its header in
place with one aligned write. A header of any length is read: other writers pad nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from ibticks.config import COMPRESSIONS, NANOSECONDS
from ibticks.errors import CorruptFileError, InputError
from ibticks.tick_stream_pb2 import FileHeader

__all__ = ["HEADER_BYTES", "HEADER_VERSION", "Header", "read_header"]

HEADER_BYTES: Final = 256
HEADER_VERSION: Final = 1
_LARGEST_HEADER: Final = 1 << 20
_PREFIX: Final = struct.Struct(">I")
_PAYLOAD_BYTES: Final = HEADER_BYTES - _PREFIX.size
_PADDING_TAG: Final = FileHeader.PADDING_FIELD_NUMBER << 3 | 2


@dataclass(frozen=True, slots=True)
class Header:
    """A file's header.

    Attributes
    ----------
    contract_id : int
    tick_type : str
    start_ns, end_ns : int
        Earliest and latest message, UTC nanoseconds; where the file is open, of its first one.
    message_count : int
        Final once sealed.
    compression : str
        One of :data:`~ibticks.config.COMPRESSIONS`.
    sealed : bool
    crc32c : int or None
        Of all bytes after the header frame, once sealed.
    body_bytes : int
        How many those are, once sealed.
    writer : str
        Software and version.
    version : int
        Of the file format.
    frame_bytes : int
        Bytes of the whole frame as it was read: where the body begins.
    """

    contract_id: int
    tick_type: str
    start_ns: int
    end_ns: int
    message_count: int = 0
    compression: str = "none"
    sealed: bool = False
    crc32c: int | None = None
    body_bytes: int = 0
    writer: str = ""
    version: int = HEADER_VERSION
    frame_bytes: int = HEADER_BYTES

    def to_bytes(self) -> bytes:
        """The header frame, length prefix and padding included: 256 bytes.

        Raises
        ------
        InputError
            If tick type and writer are too long for that.

        Examples
        --------
        >>> len(Header(8314, "bid_ask", 0, 0).to_bytes())
        256
        """
        message = FileHeader(
            version=self.version,
            start_time=_timestamp(self.start_ns),
            end_time=_timestamp(self.end_ns),
            contract_id=self.contract_id,
            tick_type=self.tick_type,
            message_count=self.message_count,
            compression=self.compression,
            sealed=self.sealed,
            body_bytes=self.body_bytes,
            writer=self.writer,
        )
        if self.crc32c is not None:
            message.crc32c = self.crc32c
        content = message.SerializeToString()
        # The length of the padding always takes two bytes, which every reader takes: with the
        # shortest form, which the runtime writes, some totals could not be reached.
        padding = _PAYLOAD_BYTES - len(content) - 3
        if padding < 0:
            raise InputError(
                f"a header of {len(content) + 3} bytes does not fit into {_PAYLOAD_BYTES}: shorten "
                f"the writer {self.writer!r} or the tick type {self.tick_type!r}"
            )
        head = bytes([_PADDING_TAG, padding & 0x7F | 0x80, padding >> 7])
        return _PREFIX.pack(_PAYLOAD_BYTES) + content + head + bytes(padding)

    def seal(
        self, *, start_ns: int, end_ns: int, message_count: int, crc32c: int, body_bytes: int
    ) -> Header:
        """The header of the same file once it is complete."""
        return replace(
            self,
            start_ns=start_ns,
            end_ns=end_ns,
            message_count=message_count,
            crc32c=crc32c,
            body_bytes=body_bytes,
            sealed=True,
            frame_bytes=HEADER_BYTES,
        )

    def unseal(self) -> Header:
        """The header of the same file while more is appended to it."""
        return replace(self, sealed=False, crc32c=None, body_bytes=0, message_count=0)


def read_header(start: bytes | bytearray | memoryview, *, path: str = "") -> Header:
    """Read the header at the start of a file.

    Parameters
    ----------
    start : bytes
        The first bytes of the file; 4 KiB hold any header in use.
    path : str
        For the error message.

    Raises
    ------
    CorruptFileError
        If there is no whole header frame, or it is not a FileHeader. Where it is one, of a kind
        that a newer ibticks may read, ``context`` has its ``version`` and ``compression``.
    """
    where = f"{path}: " if path else ""
    if len(start) < _PREFIX.size:
        raise CorruptFileError(
            f"{where}no header: the file has {len(start)} bytes", path=path, offset=0
        )
    (size,) = _PREFIX.unpack(start[: _PREFIX.size])
    end = _PREFIX.size + size
    if size == 0:
        # No bytes are a message, so that a file of zeros (a power cut leaves one) would pass.
        raise CorruptFileError(f"{where}the header frame is empty", path=path, offset=0)
    if size > _LARGEST_HEADER or end > len(start):
        raise CorruptFileError(
            f"{where}the header frame claims {size} bytes, which the file does not have",
            path=path,
            offset=0,
        )
    message = FileHeader()
    try:
        message.ParseFromString(bytes(start[_PREFIX.size : end]))
    except DecodeError as error:
        raise CorruptFileError(
            f"{where}the first frame is not a FileHeader", path=path, offset=0
        ) from error
    details = {"version": message.version, "compression": message.compression}
    if message.version > HEADER_VERSION:
        raise CorruptFileError(
            f"{where}version {message.version} of the file format: this ibticks reads "
            f"{HEADER_VERSION}; a newer one may read it",
            path=path,
            offset=0,
            **details,
        )
    if message.compression not in (*COMPRESSIONS, ""):
        raise CorruptFileError(
            f"{where}unknown compression {message.compression!r}: this ibticks reads "
            f"{', '.join(COMPRESSIONS)}",
            path=path,
            offset=0,
            **details,
        )
    return Header(
        contract_id=message.contract_id,
        tick_type=message.tick_type,
        start_ns=message.start_time.seconds * NANOSECONDS + message.start_time.nanos,
        end_ns=message.end_time.seconds * NANOSECONDS + message.end_time.nanos,
        message_count=message.message_count,
        compression=message.compression or "none",
        sealed=message.sealed,
        crc32c=message.crc32c if message.HasField("crc32c") else None,
        body_bytes=message.body_bytes,
        writer=message.writer,
        version=message.version,
        frame_bytes=end,
    )


def _timestamp(ns: int) -> Timestamp:
    return Timestamp(seconds=ns // NANOSECONDS, nanos=ns % NANOSECONDS)
