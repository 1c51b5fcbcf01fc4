"""Ticks as an Arrow table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ibticks.format import COLUMNS, Kind, StringColumn, TickColumns, check_columns
from ibticks.frames._build import Categories, array_of
from ibticks.frames._chunks import rearranged
from ibticks.frames._metadata import attach
from ibticks.frames._order import Run, runs
from ibticks.frames._schema import arrow_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["to_table"]


def to_table(
    parts: Sequence[TickColumns],
    columns: Sequence[str],
    *,
    metadata: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Make one table of several stretches of ticks, sorted by time.

    Parts that follow each other become chunks of the table around their own memory, so the arrays
    must not be written to afterwards. Parts that overlap in time (several tick types or contracts)
    are merged, stable in the order of the parts.

    Parameters
    ----------
    parts : sequence of TickColumns
        They need ``timestamp`` to be sorted, also if it is not asked for; without it, the rows come
        as the parts are given.
    columns : sequence of str
        The columns of the table, whatever the parts carry: what a part lacks is null there
        (``conditions`` and ``metadata``: empty).
    metadata : mapping, optional
        Goes as JSON into the schema metadata under ``b"ibticks"``, with the time ranges that the
        parts miss under ``"missing"``, and their files under ``"left_out"``; read it with
        :func:`ibticks.frames.metadata_of`.

    Returns
    -------
    pyarrow.Table
        With the schema :func:`ibticks.frames.arrow_schema`, also when there is no tick. Times are
        ``timestamp[ns, UTC]``; an ``exchange_time`` outside 1677 to 2262 is null.

    Raises
    ------
    UnknownColumnError
        Naming the columns that exist.
    InputError
        If ``timestamp``, ``contract_id`` or ``tick_type`` is asked for and a part lacks it.

    Examples
    --------
    >>> import numpy as np
    >>> from ibticks.format import TickColumns, Values
    >>> late = TickColumns(1, {"timestamp": Values(np.array([20]))})
    >>> early = TickColumns(1, {"timestamp": Values(np.array([10]))})
    >>> to_table([late, early], ["timestamp", "price"]).to_pydict()["price"]
    [None, None]
    """
    schema = arrow_schema(columns).with_metadata(
        attach(
            metadata,
            [gap for part in parts for gap in part.missing],
            [path for part in parts for path in part.left_out],
        )
    )
    filled = [part for part in parts if part.rows]
    if not filled:
        return schema.empty_table()
    if all("timestamp" in part.columns for part in filled):
        arranged = runs([part.timestamp for part in filled])
    else:
        arranged = [Run(list(range(len(filled))), None)]
    arrays = [_column(name, filled, arranged) for name in check_columns(schema.names)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _column(name: str, parts: Sequence[TickColumns], arranged: Sequence[Run]) -> pa.ChunkedArray:
    field = COLUMNS[name]
    columns = [part.columns.get(name) for part in parts]
    categories = None
    if field.kind is Kind.STRING:
        categories = Categories(c for c in columns if isinstance(c, StringColumn))
    chunks: list[pa.Array] = []
    for run in arranged:
        arrays = [array_of(field, columns[i], parts[i].rows, categories) for i in run.parts]
        if run.rows is not None:
            arrays = [rearranged(arrays, run.rows)]
        chunks += arrays
    return pa.chunked_array(chunks)
