"""Peak memory of bars over more ticks than memory may hold, each in a process of its own.

From a Parquet file of ten million trades, and of four copies of it, each in another year; and from
a store, over three hours of a million quotes each and over twelve, plain and sealed: some hours lie
between the thread that reads and those that add up, however many there are. Run as a module, this
is that process.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from benchmarks.cases import trades
from benchmarks.memory import peak
from benchmarks.report import Figure, Row, at_most
from benchmarks.ticks import CONTRACT, FIRST_HOUR_NS, TICK_TYPE
from ibticks import analysis
from ibticks.config import HOUR_NS, NANOSECONDS
from ibticks.schema import TickColumns, Values
from ibticks.storage import FileKey, compress_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.scene import Scene

__all__ = ["bounded"]

_MORE: Final = 4
_HOURS: Final = 3
# Streams of their own in the store: what other measurements load is none of these.
_PLAIN, _SEALED = CONTRACT + 100, CONTRACT + 101


def bounded(scene: Scene) -> Iterator[Row]:
    """Bars of some ticks and of four times as many, and of a frame that is in memory already."""
    path = scene.folder / "trades.parquet"
    frame = trades(scene)
    frame.write_parquet(path)
    current = Figure.size(frame.estimated_size())
    what = "peak memory of bars of 1 hour"
    yield from _pair(f"{what}, streamed from Parquet", "the ticks", current, 1, "parquet", path)
    loaded = _taken("loaded", path)
    yield Row(f"{what}, of a loaded frame", loaded, "the frame", current, share=True)
    what = "peak memory of bars of 1 minute"
    current = Figure.size(scene.frame.estimated_size() * _HOURS)
    for contract, kind in ((_PLAIN, "plain"), (_SEALED, "sealed")):
        _store_hours(scene, contract, "zstd" if kind == "sealed" else "none")
        which = f"{what}, {_HOURS} {kind} hours of a store"
        where = scene.store.root, contract
        yield from _pair(which, "the hours loaded", current, _HOURS, "store", *where)


def _pair(
    what: str, peer: str, reference: Figure, number: int, kind: str, path: Path, *more: object
) -> Iterator[Row]:
    once, often = (_taken(kind, path, number * times, *more) for times in (1, _MORE))
    yield Row(what, once, peer, reference, share=True)
    goal = at_most(2)
    yield Row(f"· of {_MORE} times the ticks", often, "of them once", once, share=True, goal=goal)


def _store_hours(scene: Scene, contract: int, compression: str) -> None:
    for number in range(_HOURS * _MORE):
        key = FileKey(contract, TICK_TYPE, FIRST_HOUR_NS + number * HOUR_NS)
        with scene.store.writer(contract, TICK_TYPE, fsync=None) as writer:
            writer.write(_later(scene.hour, number))
        if compression != "none":
            record = compress_file(scene.store.root, key, compression)
            scene.store.index.put_files([record])


def _later(hour: TickColumns, hours: int) -> TickColumns:
    times = Values(hour.timestamp + hours * HOUR_NS)
    seconds = Values(times.values // NANOSECONDS)
    return TickColumns(hour.rows, {**hour.columns, "timestamp": times, "exchange_time": seconds})


def _taken(kind: str, path: Path, *more: object) -> Figure:
    run = [sys.executable, "-m", "benchmarks.bounded", kind, str(path), *map(str, more)]
    return Figure.size(float(subprocess.run(run, check=True, capture_output=True).stdout))


def _prepared(kind: str, path: Path, times: int, contract: int) -> Callable[[], Any]:
    match kind:
        case "loaded":
            frame = pl.read_parquet(path)
            return lambda: analysis.time_bars(frame, "1h")
        case "parquet":
            at = pl.col("timestamp")
            scan = pl.concat(
                pl.scan_parquet(path).with_columns(at.dt.offset_by(f"{year}y"))
                for year in range(times)
            )
            return lambda: analysis.time_bars(scan, "1h").collect(engine="streaming")
        case _:
            import ibticks as ibt

            start = datetime.fromtimestamp(FIRST_HOUR_NS // NANOSECONDS, UTC)
            end = start + timedelta(hours=times)
            selection = ibt.open(path).select(contract, TICK_TYPE, start=start, end=end)
            # Import and open all that is not asked for before ticks are read.
            first = analysis.time_bars(selection.lazy().head(1000), "1m", of="quotes")
            first.collect(engine="streaming")
            bars = analysis.time_bars(selection.lazy(), "1m", of="quotes")
            return lambda: bars.collect(engine="streaming")


if __name__ == "__main__":
    kind, path, *numbers = sys.argv[1:]
    times, contract = (*map(int, numbers), 1, 0)[:2]
    measure = _prepared(kind, Path(path), times, contract)
    before = peak()
    made = measure()
    print(peak() - before)
