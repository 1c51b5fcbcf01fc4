"""From a sealed hour to a polars frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl
import polars.selectors as cs

import ibticks as ibt
from benchmarks.peers import load_ipc, load_plain, load_ptars, parse_ptars, payloads
from benchmarks.report import Figure, Row, at_least, at_most
from benchmarks.scene import FIVE_MINUTES, HOUR
from benchmarks.ticks import TICK_TYPE
from benchmarks.timing import compare, simple
from ibticks.frames import to_polars, to_table
from ibticks.storage import read_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from benchmarks.scene import Scene

__all__ = ["five_minutes", "hour", "repeated", "sealed", "three_columns"]

_THREE: Final = ("timestamp", "bid_price", "ask_price")


def hour(scene: Scene) -> Iterator[Row]:
    """All columns of the hour."""
    contract, path = scene.contract(), scene.path()
    selection = scene.store.select(contract, TICK_TYPE)
    columns, records = selection.columns, selection.files()
    parts = read_ticks(scene.store.root, records, columns)
    messages = payloads(path)
    took = compare(
        [
            simple(
                "ibticks", lambda: scene.store.select(contract, TICK_TYPE).to_polars(), scene.check
            ),
            simple("parquet", lambda: pl.read_parquet(scene.parquet), scene.check),
            simple("index", selection.files),
            simple("decode", lambda: read_ticks(scene.store.root, records, columns)),
            simple("convert", lambda: to_polars(to_table(parts, columns))),
            simple("ptars", lambda: load_ptars(path, columns), scene.check),
            simple("ptars parse", lambda: parse_ptars(messages, columns), scene.check),
            simple("loop", lambda: load_plain(path, columns, *HOUR), scene.check, once=True),
        ],
        scene.repeat,
    )
    seconds = {name: Figure.seconds(runs) for name, runs in took.items()}
    ours = seconds["ibticks"]
    what = "the hour into polars, all columns"
    yield Row(what, ours, "polars, zstd Parquet", seconds["parquet"], goal=at_least(1))
    yield Row(what, ours, "ptars, payloads cut out in Python", seconds["ptars"], goal=at_least(12))
    yield Row(what, ours, "ptars, payloads in a list already", seconds["ptars parse"])
    yield Row(what, ours, "plain protobuf loop", seconds["loop"], goal=at_least(100))
    yield Row("· of which asking the index", seconds["index"], "the whole", ours, share=True)
    yield Row("· of which reading and decoding", seconds["decode"], "the whole", ours, share=True)
    yield Row("· of which making the frame", seconds["convert"], "the whole", ours, share=True)


def three_columns(scene: Scene) -> Iterator[Row]:
    """Three columns of the hour."""
    selection = scene.store.select(scene.contract(), TICK_TYPE, columns=_THREE)
    ours, theirs = _pair(
        scene,
        selection.to_polars,
        lambda: pl.read_parquet(scene.parquet, columns=list(_THREE)),
        scene.check,
    )
    yield Row("three columns of the hour", ours, "polars, zstd Parquet", theirs, goal=at_least(1))


def five_minutes(scene: Scene) -> Iterator[Row]:
    """All columns of five minutes."""
    start, end = FIVE_MINUTES
    contract = scene.contract()
    whole = scene.store.select(contract, TICK_TYPE)
    part = scene.store.select(contract, TICK_TYPE, start=start, end=end)
    wanted = _between(scene.parquet, start, end)

    def same(frame: pl.DataFrame) -> None:
        if not frame["timestamp"].equals(wanted["timestamp"]):
            raise AssertionError("not the same five minutes")

    took = compare(
        [
            simple("hour", whole.to_polars),
            simple("part", part.to_polars, same),
            simple("parquet", lambda: _between(scene.parquet, start, end), same),
        ],
        scene.repeat,
    )
    seconds = {name: Figure.seconds(runs) for name, runs in took.items()}
    what = f"five minutes of it ({wanted.height / scene.ticks:.1%} of the ticks)"
    ours = seconds["part"]
    yield Row(what, ours, "the hour", seconds["hour"], share=True, goal=at_most(1 / 8))
    yield Row(what, ours, "polars, Parquet with a filter", seconds["parquet"])


def repeated(scene: Scene) -> Iterator[Row]:
    """The hour once more: it was decoded before, and Arrow's file is mapped, not read."""
    with ibt.open(scene.store.root) as store:
        contract, (start, end) = scene.contract(), FIVE_MINUTES

        def again() -> pl.DataFrame:
            return store.select(contract, TICK_TYPE).to_polars()

        ours, theirs = _pair(scene, again, lambda: load_ipc(scene.ipc), scene.check)
        peer = "Arrow IPC, memory-mapped"
        yield Row("the hour again", ours, peer, theirs, goal=at_least(1))
        ours, theirs = _pair(scene, lambda: _summed(again()), lambda: _summed(load_ipc(scene.ipc)))
        yield Row("the hour again, every number summed", ours, peer, theirs)
        part = store.select(contract, TICK_TYPE, start=start, end=end)
        ours, theirs = _pair(scene, part.to_polars, again)
        yield Row("five minutes of it again", ours, "the hour again", theirs, share=True)


def sealed(scene: Scene) -> Iterator[Row]:
    """The compressed hour."""
    goals = {"zstd": at_most(1.5), "snappy": None, "gzip": None}
    selections = {
        kind: scene.store.select(scene.contract(kind), TICK_TYPE) for kind in ("none", *goals)
    }
    took = compare(
        [
            simple(kind, selection.to_polars, lambda frame: scene.same_height(frame.height))
            for kind, selection in selections.items()
        ],
        scene.repeat,
    )
    plain = Figure.seconds(took["none"])
    for kind, goal in goals.items():
        ours = Figure.seconds(took[kind])
        yield Row(f"the hour, {kind}-sealed", ours, "the plain hour", plain, share=True, goal=goal)


def _pair(
    scene: Scene,
    ours: Callable[[], pl.DataFrame],
    theirs: Callable[[], pl.DataFrame],
    check: Callable[[pl.DataFrame], None] | None = None,
) -> Sequence[Figure]:
    if check is not None:
        for load in (ours, theirs):
            check(load())
    took = compare([simple("ours", ours), simple("theirs", theirs)], scene.repeat)
    return [Figure.seconds(runs) for runs in took.values()]


def _between(path: Path, start: datetime, end: datetime) -> pl.DataFrame:
    at = pl.col("timestamp")
    return pl.scan_parquet(path).filter((at >= start) & (at < end)).collect()


def _summed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select((cs.numeric() | cs.boolean()).sum(), cs.temporal().max())
