"""Bytes only: the header, frames, v2 JSON, and columns from and to the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.format._absent import (
        NO_QUOTE_PRICES,
        UNSET_LIMIT,
        UNSET_NUMBERS,
        VALUES,
        clear_absent_fields,
        is_unset,
        present_number,
        present_side,
    )
    from ibticks.format._absent_rows import is_no_quote_rows, is_unset_rows, with_absent_values
    from ibticks.format._columns import (
        Column,
        MapColumn,
        StringColumn,
        StringsColumn,
        TickColumns,
        Values,
    )
    from ibticks.format._decode import TIME_MAX, TIME_MIN, Decoder
    from ibticks.format._encode import Encoder
    from ibticks.format._fields import (
        COLUMNS,
        FIELDS,
        Field,
        Kind,
        check_columns,
        check_contract_id,
        check_tick_type,
        columns_of,
    )
    from ibticks.format._frames import TORN, find_payloads, fingerprints, scan, walk
    from ibticks.format._framing import BLOCK_BYTES, MAX_FRAME, checksum, frame
    from ibticks.format._header import (
        COMPRESSIONS,
        HEADER_BYTES,
        HEADER_VERSION,
        Header,
        read_header,
    )
    from ibticks.format._jit import compile_lazily, inline
    from ibticks.format._messages import (
        decode_message,
        encode_message,
        format_timestamp,
        from_protobuf,
        to_protobuf,
    )
    from ibticks.format._streams import split_streams
    from ibticks.format._tick_encoder import TickEncoder

__all__ = [
    "BLOCK_BYTES",
    "COLUMNS",
    "COMPRESSIONS",
    "FIELDS",
    "HEADER_BYTES",
    "HEADER_VERSION",
    "MAX_FRAME",
    "NO_QUOTE_PRICES",
    "TIME_MAX",
    "TIME_MIN",
    "TORN",
    "UNSET_LIMIT",
    "UNSET_NUMBERS",
    "VALUES",
    "Column",
    "Decoder",
    "Encoder",
    "Field",
    "Header",
    "Kind",
    "MapColumn",
    "StringColumn",
    "StringsColumn",
    "TickColumns",
    "TickEncoder",
    "Values",
    "check_columns",
    "check_contract_id",
    "check_tick_type",
    "checksum",
    "clear_absent_fields",
    "columns_of",
    "compile_lazily",
    "decode_message",
    "encode_message",
    "find_payloads",
    "fingerprints",
    "format_timestamp",
    "frame",
    "from_protobuf",
    "inline",
    "is_no_quote_rows",
    "is_unset",
    "is_unset_rows",
    "present_number",
    "present_side",
    "read_header",
    "scan",
    "split_streams",
    "to_protobuf",
    "walk",
    "with_absent_values",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
