"""Choice of the streams of a request: captured ones, or streams on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._types import StreamKey
from ibticks.capture import read_status
from ibticks.errors import UnknownContractError
from ibticks.schema import check_contract_id
from ibticks.selection import check_tick_types

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibticks.store import Store

__all__ = ["choose_streams"]


def choose_streams(
    store: Store, contract_id: str | int, tick_types: Sequence[str], *, can_subscribe: bool
) -> tuple[list[StreamKey], bool]:
    """Return the streams of a request, and whether they have to be subscribed on demand.

    Parameters
    ----------
    store : Store
    contract_id : str or int
        Contract id or symbol.
    tick_types : sequence of str
    can_subscribe : bool
        Whether there are streams on demand. The contract need not be in the store then, if its id
        is given.

    Raises
    ------
    UnknownContractError, AmbiguousContractError
        With the candidates.
    UnknownTickTypeError
        Listing the valid values.
    """
    try:
        chosen = store.select(contract_id, tick_types, "1ns")
        ids, names = chosen.contract_ids, chosen.tick_types
    except UnknownContractError:
        is_id = isinstance(contract_id, int) or (contract_id.isascii() and contract_id.isdecimal())
        if not (can_subscribe and is_id):
            raise
        ids, names = (check_contract_id(int(contract_id)),), check_tick_types(tick_types)
    streams = [StreamKey(number, name) for number in ids for name in names]
    return streams, can_subscribe and not _are_captured(store, streams)


def _are_captured(store: Store, streams: Sequence[StreamKey]) -> bool:
    """Return whether a capture of the store runs that has all these streams."""
    status = read_status(store.root)["status"]
    return bool(status["running"]) and all(
        stream.tick_type
        in status["contracts"].get(str(stream.contract_id), {}).get("expected_tick_types", ())
        for stream in streams
    )
