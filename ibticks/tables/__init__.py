"""Tables that other programs wrote, read as ticks: Parquet and delimited text of any layout.

A path and a tick type come in; :func:`open_table` matches the columns of the file with those of a
tick, by names and by values, and yields ``TickColumns``, some rows at a time. Imports and the
sample streams of the gateway use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.tables._mapping import InstrumentColumn, describe_mapping
    from ibticks.tables._names import plain_name
    from ibticks.tables._open import count_rows, file_columns, open_table, read_batches
    from ibticks.tables._tick_table import TickTable
    from ibticks.tables._values import Instrument

__all__ = [
    "Instrument",
    "InstrumentColumn",
    "TickTable",
    "count_rows",
    "describe_mapping",
    "file_columns",
    "open_table",
    "plain_name",
    "read_batches",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
