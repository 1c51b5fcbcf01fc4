"""Ticks as frames: one set of columns for Arrow, polars, pandas, xarray and Dask.

Whatever was selected, a frame has the same columns in the same order with the same dtypes, also
when it is empty. ``TickColumns`` come in, frames go out, and frames that users hand in become
``TickColumns`` again.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibticks.frames._to_arrow import to_table
    from ibticks.frames._to_dask import to_dask
    from ibticks.frames._files import check_output, json_lines, write_file
    from ibticks.frames._from_arrow import from_arrow
    from ibticks.frames._scan import TickSource, scan
    from ibticks.frames._metadata import metadata_of
    from ibticks.frames._naming import describe_mapping
    from ibticks.frames._to_pandas import to_pandas
    from ibticks.frames._to_polars import from_query, polars_schema, to_polars
    from ibticks.frames._schema import arrow_schema
    from ibticks.frames._tabular import count_rows, file_columns, read_batches
    from ibticks.frames._to_xarray import from_xarray, to_xarray

__all__ = [
    "TickSource",
    "arrow_schema",
    "check_output",
    "count_rows",
    "describe_mapping",
    "file_columns",
    "from_arrow",
    "from_query",
    "from_xarray",
    "json_lines",
    "metadata_of",
    "polars_schema",
    "read_batches",
    "scan",
    "to_dask",
    "to_pandas",
    "to_polars",
    "to_table",
    "to_xarray",
    "write_file",
]

_HOMES = {
    "TickSource": "lazy",
    "arrow_schema": "schema",
    "check_output": "files",
    "count_rows": "tabular",
    "describe_mapping": "naming",
    "file_columns": "tabular",
    "from_arrow": "intake",
    "from_query": "polars_frames",
    "from_xarray": "xarray_frames",
    "json_lines": "files",
    "metadata_of": "metadata",
    "polars_schema": "polars_frames",
    "read_batches": "tabular",
    "scan": "lazy",
    "to_dask": "dask_frames",
    "to_pandas": "pandas_frames",
    "to_polars": "polars_frames",
    "to_table": "arrow",
    "to_xarray": "xarray_frames",
    "write_file": "files",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
