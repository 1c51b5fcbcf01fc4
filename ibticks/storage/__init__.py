"""Files and folders of a store: layout, writing, sealing, reading, recovery, compression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.storage._appender import StreamAppender
    from ibticks.storage._audit import Findings, verify
    from ibticks.storage._blocks import check_compression, decompress, split
    from ibticks.storage._cached_reader import reread_ticks
    from ibticks.storage._column_cache import Decoded
    from ibticks.storage._compress import compress_file
    from ibticks.storage._headers import check_place, header_of
    from ibticks.storage._hour_file import WRITER, provisional_record
    from ibticks.storage._ingest import Ingest
    from ibticks.storage._last_tick import last_tick_ns
    from ibticks.storage._layout import (
        HALF_HOUR,
        HOUR,
        FileKey,
        Listing,
        Part,
        hour_of,
        list_files,
        list_paths,
        metadata,
        part_of,
    )
    from ibticks.storage._payloads import messages_between, payloads_backwards, time_of
    from ibticks.storage._reader import read_messages, read_ticks
    from ibticks.storage._scan_processes import iter_records
    from ibticks.storage._seal_process import SealerApart
    from ibticks.storage._sealed_body import write_sealed
    from ibticks.storage._sealing import Compressor, Sealer, seal_files
    from ibticks.storage._source import Source
    from ibticks.storage._stacklevel import caller_depth
    from ibticks.storage._stream_lock import StreamLock, is_written, short_lock, sign, signed
    from ibticks.storage._summary import frame_blocks, summarise
    from ibticks.storage._tick_file import TickFile
    from ibticks.storage._writer import StreamWriter

__all__ = [
    "HALF_HOUR",
    "HOUR",
    "WRITER",
    "Compressor",
    "Decoded",
    "FileKey",
    "Findings",
    "Ingest",
    "Listing",
    "Part",
    "Sealer",
    "SealerApart",
    "Source",
    "StreamAppender",
    "StreamLock",
    "StreamWriter",
    "TickFile",
    "caller_depth",
    "check_compression",
    "check_place",
    "compress_file",
    "decompress",
    "frame_blocks",
    "header_of",
    "hour_of",
    "is_written",
    "iter_records",
    "last_tick_ns",
    "list_files",
    "list_paths",
    "messages_between",
    "metadata",
    "part_of",
    "payloads_backwards",
    "provisional_record",
    "read_messages",
    "read_ticks",
    "reread_ticks",
    "seal_files",
    "short_lock",
    "sign",
    "signed",
    "split",
    "summarise",
    "time_of",
    "verify",
    "write_sealed",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
