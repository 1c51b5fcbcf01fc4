"""Live streams: from append to a reader in another process, idle readers, buffers for many at once.

Run as a script it is one of the other processes: ``write`` or ``wait``.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.report import Figure, Row, at_most
from benchmarks.ticks import CONTRACT, FIRST_HOUR_NS, TICK_TYPE, busy_hour
from ibticks.config import NANOSECONDS
from ibticks.format import TickEncoder
from ibticks.index import MemoryIndex
from ibticks.live import Live
from ibticks.schema import list_columns
from ibticks.storage import StreamAppender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.scene import Scene
    from ibticks.selection import Selection

__all__ = ["buffers", "delay", "idle"]

_KINDS: Final = ("bid_ask", "mid_point")
_SECONDS: Final = 5
_RATE: Final = 1_000
_IDLE_SECONDS: Final = 10
_ASKING: Final = 50
_BUFFER_ROWS: Final = 60_000


def delay(scene: Scene) -> Iterator[Row]:
    """From before the append in one process to the tick in the event loop of another."""
    for kinds, what in ((_KINDS[:1], "one stream"), (_KINDS, "two streams by time")):
        took = asyncio.run(_delays(scene.folder / f"live-{len(kinds)}", kinds))
        runs = tuple(took.tolist())
        for share, name, goal in ((50, "median", None), (99, "p99", at_most(0.02, absolute=True))):
            figure = Figure(float(np.percentile(took, share)), "s", runs)
            text = f"append to iterator of another process, {_RATE:,} ticks/s, {what}: {name}"
            yield Row(text, figure, goal=goal)


def idle(scene: Scene) -> Iterator[Row]:
    """Measure a reader while nothing comes."""
    root = scene.folder / "live-idle"
    with StreamAppender(root, CONTRACT, "bid_ask", MemoryIndex(), fsync=None) as appender:
        encoder = TickEncoder(CONTRACT, "bid_ask", "")
        now = time.time_ns()
        appender.append_frames(encoder.bid_ask(now, 1, 1, 2, 1, 1, now // NANOSECONDS), now)
        done = _run("wait", root, _IDLE_SECONDS)
    details = float(done.communicate()[0])
    goal = at_most(0.02, absolute=True)
    yield Row(
        "a reader of two streams that waits: processor time a second",
        Figure.seconds([details]),
        goal=goal,
    )


def buffers(scene: Scene) -> Iterator[Row]:
    """The same hour, still open, asked for by many at the same time."""
    contract = CONTRACT + 50
    with scene.store.writer(contract, TICK_TYPE, fsync=None) as writer:
        writer.write(busy_hour(_BUFFER_ROWS))
        now = FIRST_HOUR_NS + 3600 * NANOSECONDS
        ours = _asked(lambda: scene.store.buffer(contract, TICK_TYPE, "1h", now=now), scene.repeat)
        plain = _asked(lambda: scene.store.select(contract, TICK_TYPE, "1h", now=now), scene.repeat)
    what = f"{_ASKING} at once for an hour of {_BUFFER_ROWS:,} ticks, into polars"
    for share, name, goal in ((50, "median", None), (99, "p99", at_most(0.1, absolute=True))):
        figure, peer = (
            Figure(float(np.percentile(value, share)), "s", tuple(value)) for value in (ours, plain)
        )
        yield Row(f"{what}: {name}", figure, "Store.select", peer, goal=goal)


async def _delays(root: Path, kinds: tuple[str, ...]) -> np.ndarray:
    """Seconds each tick took, the first second left out."""
    took: list[int] = []
    writer = _run("write", root, *kinds)
    async with Live(root, [(CONTRACT, kind) for kind in kinds], list_columns(kinds), None) as live:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
        async for message in live:
            if message["type"] == "tick":
                stamp = np.datetime64(message["timestamp"][:-1], "ns").astype(np.int64)
                took.append(time.time_ns() - int(stamp))
                if len(took) == _RATE * _SECONDS:
                    break
    writer.communicate()
    return np.array(took[_RATE:]) / NANOSECONDS


def _asked(ask: Callable[[], Selection], repeat: int) -> list[float]:
    """Seconds each of many took who asked at the same moment."""
    took: list[float] = []
    together = threading.Barrier(_ASKING)

    def run(_: int) -> float:
        together.wait()
        begun = time.perf_counter()
        if ask().to_polars().height != _BUFFER_ROWS:
            raise AssertionError("ticks are missing")
        return time.perf_counter() - begun

    with ThreadPoolExecutor(_ASKING) as pool:
        list(pool.map(run, range(_ASKING)))
        for _ in range(repeat):
            took += pool.map(run, range(_ASKING))
    return took


def _run(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.live", *map(str, arguments)],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _write(root: str, *kinds: str) -> None:
    """Append quotes and mid points in turn, a thousand a second, each as soon as it is stamped."""
    appenders = {
        kind: StreamAppender(Path(root), CONTRACT, kind, MemoryIndex(), fsync=1.0) for kind in kinds
    }
    encoders = {kind: TickEncoder(CONTRACT, kind, f"{CONTRACT}_{kind}") for kind in kinds}
    sys.stdin.readline()
    begun = time.perf_counter()
    for number in range(_RATE * _SECONDS):
        time.sleep(max(0.0, begun + number / _RATE - time.perf_counter()))
        kind = kinds[number % len(kinds)]
        now = time.time_ns()
        second = now // NANOSECONDS
        if kind == "bid_ask":
            frame = encoders[kind].bid_ask(now, 181.25, 100, 181.5, 200, number, second)
        else:
            frame = encoders[kind].mid_point(now, 181.375, number, second)
        appenders[kind].append_frames(frame, now)
    sys.stdin.readline()
    for appender in appenders.values():
        appender.close()


def _wait(root: str, seconds: str) -> None:
    """Wait for ticks that do not come; print the processor time a second of waiting takes."""

    async def main() -> float:
        streams = [(CONTRACT, kind) for kind in _KINDS]
        async with Live(Path(root), streams, list_columns(_KINDS), None) as live:
            reading = asyncio.ensure_future(anext(aiter(live.batches())))
            await asyncio.sleep(1)
            begun = time.process_time()
            await asyncio.sleep(float(seconds))
            used = time.process_time() - begun
            reading.cancel()
        return used / float(seconds)

    print(asyncio.run(main()))


if __name__ == "__main__":
    (_write if sys.argv[1] == "write" else _wait)(*sys.argv[2:])
