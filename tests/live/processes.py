"""Writer and reader processes: run as a script, it forks one for every line of its input.

A writer reports each accepted tick, a reader each tick that came, as a line in a file that is there
at once, however the process ends.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path
from typing import Any

from ibticks.config import HOUR_NS
from ibticks.index import MemoryIndex
from ibticks.live import Live
from ibticks.storage import FileKey, StreamWriter, compress_file, list_files

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.forking import Report, serve
from tests.live.simulation import COLUMNS, STREAMS, columns, message
from tests.storage.samples import CONTRACT, H13, SECOND

LAST = 1_000_000
"""Number of the tick after which readers end."""


def time_of(number: int) -> int:
    """Time of a tick: ten seconds after the one before, every eleventh late by up to hours."""
    return H13 + number * 10 * SECOND - (number % 11 == 0) * (number % 7) * HOUR_NS // 3


def write(root: str, report: str, first: int, count: int, seed: int) -> None:
    """Write, seal and compress at random until killed or done."""
    report_line, choose = Report(report).say, random.Random(seed)
    folder, number = Path(root), first
    writers = {
        tick_type: StreamWriter(
            folder, CONTRACT, tick_type, MemoryIndex(), fsync=None, split_bytes=4000, open_files=2
        )
        for _, tick_type in STREAMS
    }
    while number < first + count:
        tick_type = choose.choice(["bid_ask", "bid_ask", "last"])
        count_written = choose.choice([1, 1, 1, 5, 60])
        numbers = range(number, number + count_written)
        if count_written == 1:
            writers[tick_type].append(message(tick_type, time_of(number), number))
        else:
            writers[tick_type].write(columns(tick_type, [time_of(one) for one in numbers], number))
        report_line(f"{number} {count_written}")
        number += count_written
        chance = choose.random()
        if chance < 0.05:
            writers[tick_type].maintain(time_of(number))
        elif chance < 0.08:
            writers[tick_type].seal()
            compress_one(folder, tick_type, choose)
        elif chance < 0.3:
            os.sched_yield()
    for writer in writers.values():
        writer.close()


def compress_one(root: Path, tick_type: str, choose: random.Random) -> None:
    keys: list[FileKey] = list(list_files(root, CONTRACT, tick_type))
    compress_file(root, choose.choice(keys), choose.choice(["zstd", "gzip", "snappy", "none"]))


def read(root: str, report: str, start_ns: int | None, consumer: str) -> None:
    """Read until the last tick has come, with one of the consumers."""
    report_line = Report(report).say
    with Live(Path(root), STREAMS, COLUMNS, start_ns) as live:
        report_line("open")
        READERS[consumer](live, report_line)


def read_messages(live: Live, report_line: Any) -> None:
    for item in live:
        if item["type"] == "tick":
            report_line(item["data"]["sequence"])
            if item["data"]["sequence"] == LAST:
                return


def read_awaiting(live: Live, report_line: Any) -> None:
    async def main() -> None:
        async for item in live:
            if item["type"] == "tick":
                report_line(item["data"]["sequence"])
                if item["data"]["sequence"] == LAST:
                    return

    asyncio.run(main())


def read_batches(live: Live, report_line: Any) -> None:
    for batch in live.batches("batch", every=0.01):
        numbers = [n for chunk in batch.read(["sequence"]) for n in chunk.numbers("sequence")]
        report_line("\n".join(map(str, numbers)))
        if LAST in numbers:
            return


READERS = {"messages": read_messages, "awaiting": read_awaiting, "batches": read_batches}
TASKS: dict[str, Any] = {"write": write, "read": read}


if __name__ == "__main__":
    serve(TASKS)
