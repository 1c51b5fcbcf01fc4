"""The columns of ticks: names, types, arrays, and the rule for absent values.

``COLUMNS`` lists every column with its type and its number on the wire. ``TickColumns`` holds ticks
as numpy arrays: ``format`` decodes and encodes them, ``storage`` reads and writes them, ``frames``
converts them to DataFrames. The ``check_`` functions refuse unknown names; the ``clean_`` and
``mask_`` functions remove IB's sentinels for "no value".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.schema._absent import (
        NO_QUOTE_PRICES,
        PRICES_AND_SIZES,
        UNSET_LIMIT,
        UNSET_NUMBERS,
        clean_number,
        clean_side,
        clear_absent_fields,
        is_unset,
        mask_absent_values,
        no_quote_mask,
        unset_mask,
    )
    from ibticks.schema._columns import (
        Column,
        MapColumn,
        StringColumn,
        StringListColumn,
        TickColumns,
        Values,
        split_streams,
    )
    from ibticks.schema._fields import (
        COLUMNS,
        FLAGS,
        Field,
        FieldType,
        check_columns,
        check_contract_id,
        check_tick_type,
        list_columns,
        list_flags,
    )

__all__ = [
    "COLUMNS",
    "FLAGS",
    "NO_QUOTE_PRICES",
    "PRICES_AND_SIZES",
    "UNSET_LIMIT",
    "UNSET_NUMBERS",
    "Column",
    "Field",
    "FieldType",
    "MapColumn",
    "StringColumn",
    "StringListColumn",
    "TickColumns",
    "Values",
    "check_columns",
    "check_contract_id",
    "check_tick_type",
    "clean_number",
    "clean_side",
    "clear_absent_fields",
    "is_unset",
    "list_columns",
    "list_flags",
    "mask_absent_values",
    "no_quote_mask",
    "split_streams",
    "unset_mask",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
