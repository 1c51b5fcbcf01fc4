"""Ticks into files: many at once, and one by one."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from benchmarks.peers import PlainWriter, synced
from benchmarks.report import Figure, Row, at_least
from benchmarks.ticks import CONTRACT, STREAM, TICK_TYPE
from benchmarks.timing import Contender, compare
from ibticks.format import HEADER_BYTES, decode_message, find_payloads
from ibticks.storage import list_files
from ibticks.store import delete_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.scene import Scene
    from ibticks.schema import TickColumns
    from ibticks.storage import StreamWriter

__all__ = ["append", "bulk", "hours"]

_CONTRACT: Final = CONTRACT + 100
_APPENDED: Final = 50_000
_LOOPED: Final = 100_000
_HOUR_TICKS: Final = 41_667  # 20 million over 480 hours
_PIPE: Final = subprocess.PIPE

_COUNT_FRAMES: Final = """
import sys
for line in sys.stdin:
    data = open(sys.argv[1], "rb").read()
    end = frames = 0
    while end + 4 <= len(data):
        end += 4 + int.from_bytes(data[end : end + 4], "big")
        frames += end <= len(data)
    print(frames, flush=True)
"""


def bulk(scene: Scene) -> Iterator[Row]:
    """The hour at once."""
    messages = [message for message, _, _ in _messages(scene, _LOOPED)]
    took = compare(
        [
            Contender("write", partial(_writing, scene, _write, [scene.hour])),
            Contender("seal", partial(_sealing, scene)),
            Contender("frame", partial(_frame, scene)),
            Contender("parquet", partial(_parquet, scene, sync=False)),
            Contender("parquet, synced", partial(_parquet, scene, sync=True)),
            Contender("loop", partial(_plain, scene, PlainWriter.append, messages)),
        ],
        scene.repeat,
    )
    rates = {name: Figure.rate(scene.ticks, runs) for name, runs in took.items()}
    rates["loop"] = Figure.rate(len(messages), took["loop"])
    what = "bulk write, StreamWriter.write"
    yield Row(what, rates["write"], goal=at_least(3e6, absolute=True))
    yield Row(what, rates["write"], "polars, write zstd Parquet", rates["parquet"])
    yield Row(what, rates["write"], "plain protobuf loop, v2 JSON in", rates["loop"])
    seal, write = (Figure.seconds(took[name]) for name in ("seal", "write"))
    yield Row("· sealing, indexing, fsync", seal, "writing", write, share=True)
    what = "Store.write: polars in, sealed and on the disk"
    yield Row(what, rates["frame"], "polars, write zstd Parquet, fsync", rates["parquet, synced"])


def hours(scene: Scene) -> Iterator[Row]:
    """The same ticks over many hours: a file each."""
    count = max(1, scene.ticks // _HOUR_TICKS)
    start = pl.col("timestamp").min().dt.truncate("1h")
    stretched = scene.frame.with_columns(
        timestamp=start + (pl.col("timestamp") - start) * count,
        contract_id=pl.lit(_CONTRACT, pl.UInt32),
    )
    by_hour = stretched.group_by(pl.col("timestamp").dt.truncate("1h"), maintain_order=True)
    parts = [part for _, part in by_hour]
    took = compare(
        [
            Contender("write", partial(_frame_of_hours, scene, stretched)),
            Contender("parquet", partial(_parquet_hours, scene, parts, sync=False)),
            Contender("parquet, synced", partial(_parquet_hours, scene, parts, sync=True)),
        ],
        scene.repeat,
    )
    rates = {name: Figure.rate(scene.ticks, runs) for name, runs in took.items()}
    what = f"Store.write: polars in, {len(parts)} hours, sealed and on the disk"
    goal = at_least(3e6, absolute=True)
    peer = "polars, a zstd Parquet file an hour"
    yield Row(what, rates["write"], f"{peer}, fsync", rates["parquet, synced"], goal=goal)
    yield Row(what, rates["write"], peer, rates["parquet"])


def append(scene: Scene) -> Iterator[Row]:
    """One tick at a time, each readable by other processes when the call returns."""
    ticks = list(_messages(scene, _APPENDED))
    messages, payloads = [tick[0] for tick in ticks], [tick[1] for tick in ticks]
    timed = [(payload, time_ns) for _, payload, time_ns in ticks]
    every = 1.0  # seconds between syncs, as in a capture
    plain_payload = PlainWriter.append_payload
    _check_readable(scene, messages[:50])
    took = compare(
        [
            Contender("dicts", partial(_writing, scene, _append, messages, every)),
            Contender("payloads", partial(_writing, scene, _append_payload, timed, every)),
            Contender("plain dicts", partial(_plain, scene, PlainWriter.append, messages)),
            Contender("plain payloads", partial(_plain, scene, plain_payload, payloads)),
        ],
        scene.repeat,
    )
    rates = {name: Figure.rate(len(ticks), runs) for name, runs in took.items()}
    goal = at_least(200e3, absolute=True)
    what = "append, one v2 message a call"
    yield Row(what, rates["dicts"], "plain protobuf loop", rates["plain dicts"], goal=goal)
    what = "append_payload, one encoded message a call"
    yield Row(what, rates["payloads"], "plain protobuf loop", rates["plain payloads"], goal=goal)


def _messages(scene: Scene, most: int) -> Iterator[tuple[dict[str, Any], bytes, int]]:
    """The first ticks of the hour as v2 JSON and as payloads, with their times."""
    data = np.fromfile(scene.path(), dtype=np.uint8)
    payloads = find_payloads(data, HEADER_BYTES, ticks=True, others=False)
    for at, size, time_ns in zip(*(part[:most].tolist() for part in payloads), strict=True):
        message = decode_message(data[at : at + size].data)
        message["data"]["contract_id"] = _CONTRACT
        yield message, data[at : at + size].tobytes(), time_ns


def _write(writer: StreamWriter, chunks: list[TickColumns]) -> None:
    for ticks in chunks:
        writer.write(ticks)


def _append(writer: StreamWriter, messages: list[dict[str, Any]]) -> None:
    for message in messages:
        writer.append(message)


def _append_payload(writer: StreamWriter, payloads: list[tuple[bytes, int]]) -> None:
    for payload, time_ns in payloads:
        writer.append_payload(payload, time_ns)


@contextmanager
def _writing(
    scene: Scene,
    run: Callable[[StreamWriter, list[Any]], None],
    chunks: list[Any],
    fsync: float | None = None,
) -> Iterator[Callable[[], object]]:
    """Write into a new stream, sealed and deleted when the clock has stopped."""
    with scene.store.writer(_CONTRACT, TICK_TYPE, fsync=fsync) as writer:
        yield lambda: run(writer, chunks)
    _clear(scene)


@contextmanager
def _sealing(scene: Scene) -> Iterator[Callable[[], object]]:
    writer = scene.store.writer(_CONTRACT, TICK_TYPE, fsync=None)
    writer.write(scene.hour)
    yield writer.close
    _clear(scene)


@contextmanager
def _frame(scene: Scene) -> Iterator[Callable[[], object]]:
    frame = scene.frame.with_columns(contract_id=pl.lit(_CONTRACT, pl.UInt32))
    yield lambda: scene.store.write(frame, stream_id=STREAM)
    _clear(scene)


@contextmanager
def _frame_of_hours(scene: Scene, frame: pl.DataFrame) -> Iterator[Callable[[], object]]:
    yield lambda: scene.store.write(frame, stream_id=STREAM)
    keys = list(list_files(scene.store.root, _CONTRACT, TICK_TYPE))
    list(delete_files(scene.store.root, scene.store.index, keys))


@contextmanager
def _parquet_hours(
    scene: Scene, frames: list[pl.DataFrame], *, sync: bool
) -> Iterator[Callable[[], object]]:
    paths = [scene.folder / f"hour-{number}.parquet" for number in range(len(frames))]

    def run() -> None:
        for path, frame in zip(paths, frames, strict=True):
            frame.write_parquet(path, compression="zstd")
            if sync:
                synced(path)

    yield run
    for path in paths:
        path.unlink()


@contextmanager
def _parquet(scene: Scene, *, sync: bool) -> Iterator[Callable[[], object]]:
    path, frame = scene.folder / "written.parquet", scene.frame

    def run() -> None:
        frame.write_parquet(path, compression="zstd")
        if sync:
            synced(path)

    yield run
    path.unlink()


@contextmanager
def _plain(
    scene: Scene, append: Callable[[PlainWriter, Any], None], messages: list[Any]
) -> Iterator[Callable[[], object]]:
    path = scene.folder / "written.pb"
    writer = PlainWriter(path)

    def run() -> None:
        for message in messages:
            append(writer, message)

    yield run
    writer.close()
    path.unlink()


def _clear(scene: Scene) -> None:
    list(delete_files(scene.store.root, scene.store.index, [scene.key(_CONTRACT)]))


def _check_readable(scene: Scene, messages: list[dict[str, Any]]) -> None:
    """After every single append another process must find one more whole frame in the file."""
    path: Path = scene.store.root / scene.key(_CONTRACT).path
    command = [sys.executable, "-c", _COUNT_FRAMES, str(path)]
    with (
        scene.store.writer(_CONTRACT, TICK_TYPE) as writer,
        subprocess.Popen(command, stdin=_PIPE, stdout=_PIPE, text=True) as reader,
    ):
        assert reader.stdin is not None
        assert reader.stdout is not None
        for appended, message in enumerate(messages, 1):
            writer.append(message)
            print(file=reader.stdin, flush=True)
            frames = int(reader.stdout.readline())
            if frames != 1 + appended:
                raise AssertionError(f"{frames} frames after {appended} ticks and a header")
        reader.stdin.close()
    _clear(scene)
