"""Ticks as frames: one set of columns for Arrow, polars, pandas, xarray and Dask.

Decoded ``TickColumns`` go in, frames come out; frames that users pass in become ``TickColumns``
again. Whatever was selected, a frame has the same columns in the same order with the same types,
also when it is empty. Selections, live views, ``.ticks`` and the readers of files use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.frames._arrays import combine_chunks
    from ibticks.frames._batches import batch_stream, slice_batches
    from ibticks.frames._export import (
        BufferCompression,
        FileFormat,
        encode_tables,
        parse_file_format,
        write_tables,
    )
    from ibticks.frames._from_arrow import frame_to_arrow, from_arrow
    from ibticks.frames._records import coverage_frame, from_query, totals_frame
    from ibticks.frames._scan import parse_bounds, scan
    from ibticks.frames._scan_parquet import concat_scans, scan_companions
    from ibticks.frames._schema import (
        METADATA_KEY,
        arrow_type,
        attach_metadata,
        metadata_of,
        remember_symbols,
        symbol_of,
    )
    from ibticks.frames._times import read_times
    from ibticks.frames._to_arrow import map_array, to_table
    from ibticks.frames._to_dask import to_dask
    from ibticks.frames._to_pandas import to_pandas
    from ibticks.frames._to_polars import json_lines, to_polars
    from ibticks.frames._to_xarray import to_xarray, variable

__all__ = [
    "METADATA_KEY",
    "BufferCompression",
    "FileFormat",
    "arrow_type",
    "attach_metadata",
    "batch_stream",
    "combine_chunks",
    "concat_scans",
    "coverage_frame",
    "encode_tables",
    "frame_to_arrow",
    "from_arrow",
    "from_query",
    "json_lines",
    "map_array",
    "metadata_of",
    "parse_bounds",
    "parse_file_format",
    "read_times",
    "remember_symbols",
    "scan",
    "scan_companions",
    "slice_batches",
    "symbol_of",
    "to_dask",
    "to_pandas",
    "to_polars",
    "to_table",
    "to_xarray",
    "totals_frame",
    "variable",
    "write_tables",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
