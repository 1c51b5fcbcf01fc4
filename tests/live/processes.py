"""Processes that write and read: run as a script, it forks one for every line it is sent.

A writer says of each tick that it was accepted, a reader of each that it came: a line in a file,
there as soon as it is said, however the process ends.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from ibticks.index import MemoryIndex
from ibticks.live import Live
from ibticks.storage import HOUR, FileKey, StreamWriter, compress_file, list_files

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.forking import Report, serve
from tests.live.simulation import COLUMNS, STREAMS, columns, message
from tests.storage.samples import CONTRACT, H13, SECOND

LAST = 1_000_000
"""The number of the tick after which readers end."""


def time_of(number: int) -> int:
    """Ticks of some ten seconds apart, so that hours go by; every eleventh late by up to hours."""
    return H13 + number * 10 * SECOND - (number % 11 == 0) * (number % 7) * HOUR // 3


def write(root: str, report: str, first: int, count: int, seed: int) -> None:
    """Write at some pace, sealing and compressing on the way, until killed or done."""
    say, choose = Report(report).say, random.Random(seed)
    folder, number = Path(root), first
    writers = {
        kind: StreamWriter(
            folder, CONTRACT, kind, MemoryIndex(), fsync=None, split_bytes=4000, open_files=2
        )
        for _, kind in STREAMS
    }
    while number < first + count:
        kind = choose.choice(["bid_ask", "bid_ask", "last"])
        many = choose.choice([1, 1, 1, 5, 60])
        numbers = range(number, number + many)
        if many == 1:
            writers[kind].append(message(kind, time_of(number), number))
        else:
            writers[kind].write(columns(kind, [time_of(each) for each in numbers], number))
        say(f"{number} {many}")
        number += many
        chance = choose.random()
        if chance < 0.05:
            writers[kind].maintain(time_of(number))
        elif chance < 0.08:
            writers[kind].seal()
            compress_one(folder, kind, choose)
        elif chance < 0.3:
            os.sched_yield()
    for writer in writers.values():
        writer.close()


def compress_one(root: Path, kind: str, choose: random.Random) -> None:
    keys: list[FileKey] = list(list_files(root, CONTRACT, kind))
    compress_file(root, choose.choice(keys), choose.choice(["zstd", "gzip", "snappy", "none"]))


def read(root: str, report: str, start_ns: int | None, way: str) -> None:
    """Read until the last tick has come, in one of the ways there are."""
    say = Report(report).say
    with Live(Path(root), STREAMS, COLUMNS, start_ns) as live:
        say("open")
        READERS[way](live, say)


def read_messages(live: Live, say) -> None:
    for each in live:
        if each["type"] == "tick":
            say(each["data"]["sequence"])
            if each["data"]["sequence"] == LAST:
                return


def read_awaiting(live: Live, say) -> None:
    async def main() -> None:
        async for each in live:
            if each["type"] == "tick":
                say(each["data"]["sequence"])
                if each["data"]["sequence"] == LAST:
                    return

    asyncio.run(main())


def read_batches(live: Live, say) -> None:
    for batch in live.batches("batch", every=0.01):
        numbers = [n for part in batch.read(["sequence"]) for n in part.numbers("sequence")]
        say("\n".join(map(str, numbers)))
        if LAST in numbers:
            return


READERS = {"messages": read_messages, "awaiting": read_awaiting, "batches": read_batches}
TASKS = {"write": write, "read": read}


if __name__ == "__main__":
    serve(TASKS)
