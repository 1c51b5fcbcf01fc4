"""The index of a store with 10,000 files, and opening a store."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import ibticks as ibt
from benchmarks.report import Figure, Row
from benchmarks.ticks import CONTRACT, FIRST_HOUR_NS, TICK_TYPE
from benchmarks.timing import compare, simple
from ibticks.config import HOUR_NS
from ibticks.storage import FileKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.scene import Scene
    from ibticks.index import FileRecord
    from ibticks.selection import Selection
    from ibticks.store import Store

__all__ = ["contracts", "index", "opening"]

_CONTRACTS: Final = 10
_HOURS: Final = 1_000
_UPSERTS: Final = 1_000
_BLOCKS: Final = 12
"""Blocks of a file: some 100,000 ticks."""

_DAY: Final = 24

_MANY: Final = 1_000
"""Contracts of a store of many streams; each has two tick types."""

_OPEN: Final = """
import sys, time
import ibticks
begun = time.perf_counter()
store = ibticks.open(sys.argv[1])
print(time.perf_counter() - begun)
store.close()
"""


def index(scene: Scene) -> Iterator[Row]:
    """Writing to it and asking it."""
    records = _records(scene)
    with ibt.open(scene.folder / "many") as store:
        store.index.replace_files(records)
        store.add_contract(CONTRACT, "IBM")
        known = records[:_UPSERTS]
        first = FIRST_HOUR_NS + (_HOURS // 2) * HOUR_NS
        took = compare(
            [
                simple("singly", lambda: _put_singly(store, known)),
                simple("together", lambda: store.index.put_files(known)),
                simple("day", lambda: _asked(store, first, first + _DAY * HOUR_NS)),
                simple("hour", lambda: _asked(store, first, first + HOUR_NS)),
                simple("select", lambda: _selected(store, TICK_TYPE, first)),
                simple("select, all types", lambda: _selected(store, None, first)),
            ],
            scene.repeat,
        )
    files = f"index of {len(records):,} files"
    upsert = Figure.seconds(took["singly"], _UPSERTS)
    yield Row(f"{files}: an upsert, a file at a time", upsert)
    together = Figure.seconds(took["together"], _UPSERTS)
    yield Row(f"{files}: an upsert, {_UPSERTS:,} at once", together)
    yield Row(f"{files}: the {_DAY} files of a day", Figure.seconds(took["day"]))
    yield Row(f"{files}: the file of an hour", Figure.seconds(took["hour"]))
    yield Row("select by symbol, tick type given", Figure.seconds(took["select"]))
    yield Row("select by symbol, all tick types", Figure.seconds(took["select, all types"]))


def contracts(scene: Scene) -> Iterator[Row]:
    """Asking about many contracts at once."""
    model = replace(scene.record(), blocks=())
    ids = range(CONTRACT, CONTRACT + _MANY)
    records = [_moved(model, contract, 0) for contract in ids]
    quotes = [
        replace(record, tick_type="bid_ask", path=FileKey(contract, "bid_ask", FIRST_HOUR_NS).path)
        for contract, record in zip(ids, records, strict=True)
    ]
    with ibt.open(scene.folder / "contracts") as store:
        store.index.replace_files([*records, *quotes])
        took = compare(
            [
                simple("select", lambda: store.select(list(ids))),
                simple("gaps", lambda: store.coverage().gaps()),
            ],
            scene.repeat,
        )
        store.index.replace_files([])
    yield Row(f"select of {_MANY:,} contracts by id", Figure.seconds(took["select"]))
    yield Row(f"gaps of {2 * _MANY:,} streams", Figure.seconds(took["gaps"]))


def opening(scene: Scene) -> Iterator[Row]:
    """Opening a store: for the first time, again, and while another process has it open."""
    root = scene.folder / "opened"
    yield Row("open: a new store, its cluster made", Figure.seconds([_opened(root)]))
    again = [_opened(root) for _ in range(scene.repeat)]
    yield Row("open: again, its server started", Figure.seconds(again))
    with ibt.open(root):
        yield Row("open: its server is running", Figure.seconds(_attach_times(root, scene.repeat)))
    with ibt.open(root) as store:
        store.index.replace_files(_records(scene))
        runs = _attach_times(root, scene.repeat)
    yield Row(f"open: the same, {_CONTRACTS * _HOURS:,} files", Figure.seconds(runs))


def _records(scene: Scene) -> list[FileRecord]:
    """Rows like that of the hour, of many contracts and hours."""
    model = replace(scene.record(), blocks=scene.record().blocks[:_BLOCKS])
    return [
        _moved(model, CONTRACT + contract, hour * HOUR_NS)
        for contract in range(_CONTRACTS)
        for hour in range(_HOURS)
    ]


def _moved(model: FileRecord, contract: int, by: int) -> FileRecord:
    return replace(
        model,
        path=FileKey(contract, TICK_TYPE, FIRST_HOUR_NS + by).path,
        contract_id=contract,
        hour_ns=model.hour_ns + by,
        start_ns=model.start_ns + by,
        end_ns=model.end_ns + by,
        first_tick_ns=None if model.first_tick_ns is None else model.first_tick_ns + by,
        last_tick_ns=None if model.last_tick_ns is None else model.last_tick_ns + by,
        blocks=tuple(
            replace(b, first_ns=b.first_ns + by, min_ns=b.min_ns + by, max_ns=b.max_ns + by)
            for b in model.blocks
        ),
    )


def _put_singly(store: Store, records: list[FileRecord]) -> None:
    for record in records:
        store.index.put_files([record])


def _asked(store: Store, start_ns: int, end_ns: int) -> list[FileRecord]:
    return store.index.files([CONTRACT], [TICK_TYPE], start_ns, end_ns)


def _selected(store: Store, tick_type: str | None, start_ns: int) -> Selection:
    return store.select("IBM", tick_type, start=start_ns, end=start_ns + HOUR_NS)


def _opened(root: Path) -> float:
    begun = time.perf_counter()
    store = ibt.open(root)
    taken = time.perf_counter() - begun
    store.close()
    return taken


def _attach_times(root: Path, repeat: int) -> list[float]:
    command = [sys.executable, "-c", _OPEN, str(root)]
    return [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(repeat)
    ]
