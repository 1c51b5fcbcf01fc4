"""Ticks that come too late."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ibticks.analysis._columns import by, instant
from ibticks.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from ibticks.analysis._incremental._call import Call

__all__ = ["moment", "refuse_late"]


def moment(ns: int) -> str:
    """A time as it is written.

    Examples
    --------
    >>> moment(1_736_519_340_500_000_000)
    '2025-01-10T14:29:00.5Z'
    """
    return str(np.datetime64(ns, "ns")).rstrip("0").rstrip(".") + "Z"


def refuse_late(call: Call, late: pl.DataFrame, why: str) -> NoReturn:
    """Refuse ticks of whose time a measure has spoken already.

    Parameters
    ----------
    call : Call
    late : polars.DataFrame
        One or more.
    why : str
        What was the case when they came.

    Raises
    ------
    InputError
    """
    came = moment(late.select(instant()).item(0, 0))
    contract = f" of contract {late[by(late)[0]][0]}" if by(late) else ""
    raise InputError(
        f"{call.name}: a tick{contract} of {came} came late, when {why}. Nothing of these ticks "
        "was taken; leave it out, and update again. Live streams come in order of time if they "
        "wait for each other longer, as with store.live(..., delay=1)"
    )
