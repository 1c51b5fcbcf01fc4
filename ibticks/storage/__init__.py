"""Hour files on disk: pure file input and output.

Frames, columns and v2 messages come in and become files, one per stream and UTC hour; columns,
messages and index records come out. ``StreamAppender`` and ``StreamWriter`` write a stream under
its ``StreamLock``, ``read_ticks`` and ``read_messages`` read it, ``seal_files``, ``compress_file``
and ``verify_files`` work on whole files. Used by ``store``, ``selection``, ``live``, ``capture``,
``history`` and ``hours``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.storage._audit import Finding, Findings, verify_files
    from ibticks.storage._blocks import check_compression, decompress_block, split_blocks
    from ibticks.storage._column_cache import ColumnCache, read_cached_ticks
    from ibticks.storage._file_header import check_place, read_file_header
    from ibticks.storage._file_reader import FileReader
    from ibticks.storage._hour_file import WRITER, provisional_record
    from ibticks.storage._ingest import Ingest
    from ibticks.storage._layout import (
        FileKey,
        FileListing,
        FileSuffix,
        file_suffix,
        floor_hour,
        list_files,
        list_paths,
        marker_path,
        metadata_folder,
    )
    from ibticks.storage._messages import (
        iter_messages,
        iter_payloads_backwards,
        message_time_ns,
        read_last_tick_ns,
    )
    from ibticks.storage._sealing import (
        Compressor,
        Sealer,
        compress_file,
        seal_files,
        write_sealed_file,
    )
    from ibticks.storage._stream_appender import AppenderOptions, StreamAppender
    from ibticks.storage._stream_lock import StreamLock, hold_lock
    from ibticks.storage._stream_writer import StreamWriter
    from ibticks.storage._tick_reader import read_messages, read_ticks
    from ibticks.storage._tick_totals import TickTotals, count_ticks, iter_totals, merge_totals
    from ibticks.storage._whole_file import TickFile, iter_frames, summarise_file
    from ibticks.storage._worker_processes import SealProcess, iter_records

__all__ = [
    "WRITER",
    "AppenderOptions",
    "ColumnCache",
    "Compressor",
    "FileKey",
    "FileListing",
    "FileReader",
    "FileSuffix",
    "Finding",
    "Findings",
    "Ingest",
    "SealProcess",
    "Sealer",
    "StreamAppender",
    "StreamLock",
    "StreamWriter",
    "TickFile",
    "TickTotals",
    "check_compression",
    "check_place",
    "compress_file",
    "count_ticks",
    "decompress_block",
    "file_suffix",
    "floor_hour",
    "hold_lock",
    "iter_frames",
    "iter_messages",
    "iter_payloads_backwards",
    "iter_records",
    "iter_totals",
    "list_files",
    "list_paths",
    "marker_path",
    "merge_totals",
    "message_time_ns",
    "metadata_folder",
    "provisional_record",
    "read_cached_ticks",
    "read_file_header",
    "read_last_tick_ns",
    "read_messages",
    "read_ticks",
    "seal_files",
    "split_blocks",
    "summarise_file",
    "verify_files",
    "write_sealed_file",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
