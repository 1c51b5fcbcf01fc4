"""The ticks of a selection, as streams of the contracts its store knows."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from ibticks.errors import InputError
from ibticks.gateway._contracts import GatewayContract
from ibticks.gateway._ticks import TickStream
from ibticks.schema import (
    StringColumn,
    StringListColumn,
    TickColumns,
    Values,
    list_columns,
    split_streams,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

    from ibticks.gateway._replay import StreamKey
    from ibticks.schema import Column
    from ibticks.selection import Selection

__all__ = ["stored_contracts", "stored_streams"]


def stored_streams(selection: Selection) -> list[TickStream]:
    """The streams of a selection, whatever columns it was narrowed to.

    Raises
    ------
    InputError
        If it has no ticks.
    """
    parts: defaultdict[StreamKey, list[TickStream]] = defaultdict(list)
    whole = selection.with_columns(*list_columns(selection.tick_types))
    for columns in whole.read():
        for contract_id, tick_type, part in split_streams(columns):
            if part.rows:
                parts[contract_id, tick_type].append(TickStream(contract_id, tick_type, part))
    if not parts:
        raise InputError(f"there are no ticks in {selection}: nothing to replay")
    return [TickStream(*key, _concatenate([part.columns for part in parts[key]])) for key in parts]


def stored_contracts(selection: Selection, ids: Collection[int]) -> list[GatewayContract]:
    """Return the index records of these contracts; the id names one without a symbol."""
    known = {record.contract_id: record for record in selection.index.contracts()}
    return [
        GatewayContract.from_record(known[contract_id])
        if contract_id in known
        else GatewayContract(contract_id=contract_id, symbol=str(contract_id))
        for contract_id in sorted(ids)
    ]


def _concatenate(parts: list[TickColumns]) -> TickColumns:
    """Concatenate column chunks of one stream."""
    if len(parts) == 1:
        return parts[0]
    combined = {}
    for name in parts[0].columns:
        combined[name] = _join([part.columns[name] for part in parts])
    return TickColumns(sum(part.rows for part in parts), combined)


def _join(columns: Sequence[Column]) -> Column:
    match columns[0]:
        case StringColumn():
            texts = [column for column in columns if isinstance(column, StringColumn)]
            codes, values = _recoded([(text.codes, text.values) for text in texts])
            return StringColumn(codes, values)
        case StringListColumn():
            lists = [column for column in columns if isinstance(column, StringListColumn)]
            codes, values = _recoded([(value.codes, value.values) for value in lists])
            lengths = np.concatenate([np.diff(value.offsets) for value in lists])
            return StringListColumn(np.concatenate(([0], np.cumsum(lengths))), codes, values)
        case _:
            numbers = [column for column in columns if isinstance(column, Values)]
            return Values(np.concatenate([number.values for number in numbers]))


def _recoded(
    parts: Sequence[tuple[npt.NDArray[np.int32], tuple[str, ...]]],
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Codes of several dictionaries as codes of one."""
    places: dict[str, int] = {}
    codes = []
    for part, values in parts:
        table = np.array([places.setdefault(v, len(places)) for v in values], dtype=np.int32)
        codes.append(table[part] if len(values) else part)
    return np.concatenate(codes), tuple(places)
