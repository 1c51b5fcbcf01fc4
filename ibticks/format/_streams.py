"""Ticks of several contracts and tick types, taken apart into streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ibticks.format._columns import StringColumn, TickColumns

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["split_streams"]


def split_streams(columns: TickColumns) -> Iterator[tuple[int, str, TickColumns]]:
    """The contract, the tick type and the ticks of each stream, its rows in their order.

    Parameters
    ----------
    columns : TickColumns
        With ``contract_id`` and ``tick_type``.
    """
    kinds = columns.columns["tick_type"]
    if not isinstance(kinds, StringColumn):
        raise TypeError("tick_type is not a string column")
    contracts = columns.numbers("contract_id").astype(np.int64)
    streams = contracts * (len(kinds.values) + 1) + kinds.codes
    order = np.argsort(streams, kind="stable")
    borders = np.flatnonzero(np.diff(streams[order])) + 1
    for rows in np.split(order, borders) if len(order) else []:
        first = int(rows[0])
        kind = kinds.values[kinds.codes[first]]
        part = columns if len(rows) == columns.rows else columns.take(rows)
        yield int(contracts[first]), kind, part
