"""Checks of a capture: stored ticks against sent ones, statuses, errors and coverage."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ibticks.coverage import rebuild_coverage
from ibticks.frames import to_polars, to_table
from ibticks.index import MemoryIndex
from ibticks.schema import list_columns
from ibticks.storage._audit import read_all_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ibticks as ibt
    from ibticks.gateway import Gateway

TIMEOUT_SECONDS = 40.0
QUICK: dict[str, Any] = {
    "reconnect_delay": 0.05,
    "connect_timeout": 10.0,
    "same_contract_seconds": 0,
}
"""Settings of a capture that waits for nothing."""

SERVER_VERSIONS = (178, 200, 208, 213, 226)
"""Text, the newest text, ticks as Protocol Buffers, all messages so, and the newest."""

IBM, BTC = 8314, 990101
ONE = "8314:IBM:bid_ask"
FOUR = "8314:IBM:bid_ask;last;all_last;mid_point"
TICKING = "1:ONE:bid_ask;last,2:TWO:bid_ask"
"""Streams of the replay ``steady``."""
STREAMS = [(1, "bid_ask"), (1, "last"), (2, "bid_ask")]
_OURS = ("timestamp", "sequence")


def until(holds: Callable[..., object], what: str = "", seconds: float = TIMEOUT_SECONDS) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"after {seconds} s still not: {what or 'as expected'}"
        time.sleep(0.01)


def stored(store: ibt.Store, contract_id: int, tick_type: str) -> pl.DataFrame:
    """Return the stored ticks of a stream; they are in order and numbered from 1 without a gap."""
    frame = store.select(contract_id, tick_type).to_polars()
    assert frame["sequence"].to_list() == list(range(1, len(frame) + 1))
    assert frame["timestamp"].is_sorted()
    return frame


def check_stored(
    store: ibt.Store,
    gateway: Gateway,
    contract_id: int,
    tick_type: str,
    client_id: int | None = None,
) -> int:
    """Compare stored ticks of a stream with sent ones; return the number of ticks.

    All fields but those that are ours: when a tick arrived, and its number.
    """
    stream = gateway.replay.streams[contract_id, tick_type]
    columns = [name for name in list_columns([tick_type]) if name not in _OURS]
    rows = stream.columns.take(gateway.rows_sent(contract_id, tick_type, client_id))
    sent = to_polars(to_table([rows], columns))
    got = stored(store, contract_id, tick_type).drop(_OURS)
    assert got.columns == sent.columns
    assert len(got) == len(sent)
    for name in got.columns:
        ours, theirs = got[name], sent[name]
        if ours.dtype == pl.Categorical:
            ours, theirs = ours.cast(pl.String), theirs.cast(pl.String)
        if not ours.equals(theirs, null_equal=True):
            row = int(np.flatnonzero((ours != theirs).fill_null(value=True).to_numpy())[0])
            raise AssertionError(f"{name}, row {row}: {ours[row]!r} instead of {theirs[row]!r}")
    return len(got)


def statuses(store: ibt.Store, contract_id: int, tick_type: str) -> list[tuple[str, int | None]]:
    """Return the statuses of a stream in order, with the codes of IB."""
    return [
        (message["data"]["status"], message["metadata"].get("code"))
        for message in store.select(contract_id, tick_type).messages()
        if message["type"] == "info"
    ]


def errors(store: ibt.Store, contract_id: int, tick_type: str) -> list[tuple[str, bool]]:
    """The errors a stream has, in order: IB's code, and whether it may get over it."""
    return [
        (message["data"]["code"], message["data"]["recoverable"])
        for message in store.select(contract_id, tick_type).messages()
        if message["type"] == "error"
    ]


def covered(store: ibt.Store, contract_id: int, tick_type: str) -> list[str]:
    """The states of a stream's ledger, in order; from one interval to the next there is no gap."""
    rows = store.index.coverage([contract_id], [tick_type])
    for one, other in pairwise(rows):
        assert one.end_ns is not None
        assert one.end_ns <= other.start_ns
    return [row.state for row in rows]


def check_index(root: Path, index: Any) -> None:
    """Assert that the index equals one rebuilt from the files."""
    rebuilt = MemoryIndex(files=read_all_records(root))
    assert index.files() == rebuilt.files()
    assert index.daily_stats() == rebuilt.daily_stats()
    assert index.coverage() == rebuild_coverage(root, rebuilt.files())
