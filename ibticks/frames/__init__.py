"""Ticks as frames: one set of columns for Arrow, polars, pandas, xarray and Dask.

Whatever was selected, a frame has the same columns in the same order with the same dtypes, also
when it is empty. ``TickColumns`` come in, frames go out, and frames that users hand in become
``TickColumns`` again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.frames._build import array_of
    from ibticks.frames._coverage_frames import stretches_to_pandas, stretches_to_polars
    from ibticks.frames._export import FileKind, write_tables
    from ibticks.frames._files import check_output, file_kind, json_lines, write_file
    from ibticks.frames._from_arrow import from_arrow
    from ibticks.frames._metadata import KEY, attach, metadata_of
    from ibticks.frames._naming import InstrumentColumn, describe_mapping, plain_name
    from ibticks.frames._read import map_column
    from ibticks.frames._scan import TickSource, scan
    from ibticks.frames._schema import CATEGORY, TIMESTAMP, arrow_schema, arrow_type
    from ibticks.frames._symbols import remember_symbols, symbol_of
    from ibticks.frames._tabular import (
        Instrument,
        TickTable,
        count_rows,
        file_columns,
        open_table,
        read_batches,
    )
    from ibticks.frames._to_arrow import to_table
    from ibticks.frames._to_dask import to_dask
    from ibticks.frames._to_pandas import from_pandas, to_pandas
    from ibticks.frames._to_polars import from_query, polars_schema, to_polars
    from ibticks.frames._to_xarray import from_xarray, to_xarray, variable

__all__ = [
    "CATEGORY",
    "KEY",
    "TIMESTAMP",
    "FileKind",
    "Instrument",
    "InstrumentColumn",
    "TickSource",
    "TickTable",
    "array_of",
    "arrow_schema",
    "arrow_type",
    "attach",
    "check_output",
    "count_rows",
    "describe_mapping",
    "file_columns",
    "file_kind",
    "from_arrow",
    "from_pandas",
    "from_query",
    "from_xarray",
    "json_lines",
    "map_column",
    "metadata_of",
    "open_table",
    "plain_name",
    "polars_schema",
    "read_batches",
    "remember_symbols",
    "scan",
    "stretches_to_pandas",
    "stretches_to_polars",
    "symbol_of",
    "to_dask",
    "to_pandas",
    "to_polars",
    "to_table",
    "to_xarray",
    "variable",
    "write_file",
    "write_tables",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
